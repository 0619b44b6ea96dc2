//! Reading requests: path, query and body, each with an error that says what is wrong and what is allowed.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use axum::{
    body::{Body, Bytes},
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        path::ErrorKind,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, header, request::Parts},
};
use picloud_core::{
    ErrorCode,
    wording::{reworded_json, reworded_with_field},
};
use picloud_edge::{BodyTimes, Problem};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::error::ApiError;

/// A JSON body that holds no user data of its own, in bytes.
pub(crate) const JSON_BYTES: u64 = 64 * 1024;

/// How deeply JSON may be nested: what `serde_json` itself allows for parsed values.
const JSON_DEPTH: usize = 127;

/// The names in a path, decoded and checked.
pub(crate) struct PathNames<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathNames<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(PathRejection::FailedToDeserializePathParams(failure)) => Err(match failure.kind() {
                ErrorKind::InvalidUtf8InPathParam { key } => {
                    ApiError::new(ErrorCode::BadRequest, format!("{key} in the path is not UTF-8"))
                }
                ErrorKind::ParseErrorAtKey { key, value, .. } => {
                    ApiError::new(ErrorCode::Invalid, format!("{key} cannot be {value:?}")).field(key)
                }
                ErrorKind::DeserializeError { key, message, .. } => {
                    ApiError::new(ErrorCode::Invalid, message.clone()).field(key)
                }
                other => ApiError::new(ErrorCode::Invalid, other.to_string()),
            }),
            Err(other) => Err(ApiError::internal("path parameters", &other)),
        }
    }
}

/// The query string.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(QueryRejection::FailedToDeserializeQueryString(failure)) => {
                let cause = std::error::Error::source(&failure).map_or_else(String::new, ToString::to_string);
                let (field, text) = reworded_with_field(&cause);
                let refusal = ApiError::new(ErrorCode::Invalid, format!("query string: {text}"));
                Err(match field {
                    Some(field) => refusal.field(field),
                    None => refusal,
                })
            }
            Err(other) => Err(ApiError::internal("query string", &other)),
        }
    }
}

/// A JSON body of at most [`JSON_BYTES`].
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        read_json(&parts.headers, body, JSON_BYTES).await.map(Self)
    }
}

/// Reads a JSON body of at most `most` bytes. Keys that `T` does not know, and keys given twice, are refused.
pub(crate) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    most: u64,
) -> Result<T, ApiError> {
    check_charset(headers)?;
    if media_type(headers).as_deref() != Some("application/json") {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the body must be JSON, with content-type: application/json",
        ));
    }
    parse_json(&read_body(headers, body, most).await?)
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if depth(bytes) > JSON_DEPTH {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("the JSON is nested more than {JSON_DEPTH} levels deep"),
        ));
    }
    // Derived structs can be read from arrays, which nobody means.
    if let Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') = bytes.trim_ascii_start().first() {
        return Err(ApiError::new(ErrorCode::Invalid, "the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        if cause.is_data() {
            let text = reworded_json(&cause);
            if path == "." {
                // What is found out of several fields together begins with the one that is wrong.
                let (field, text) = reworded_with_field(&text);
                let refusal = ApiError::new(ErrorCode::Invalid, text);
                match field {
                    Some(field) => refusal.field(field),
                    None => refusal,
                }
            } else {
                ApiError::new(ErrorCode::Invalid, format!("{path}: {text}")).field(path)
            }
        } else {
            ApiError::new(ErrorCode::BadRequest, format!("the body is not valid JSON: {cause}"))
        }
    })?;
    json.end().map_err(|cause| {
        ApiError::new(ErrorCode::BadRequest, format!("the body is not valid JSON: {cause}"))
    })?;
    Ok(value)
}

/// A value of a JSON object. Derived structs can be read from arrays as well, in the order of their fields, which nobody
/// means: [`read_json`] refuses that of a body, and this of what is in it.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Checks what `RawValue` does not: that numbers are in range, and that escapes stand for characters. A script could
/// not read it otherwise.
pub(crate) fn check_json(value: &RawValue, field: &'static str) -> Result<(), ApiError> {
    match serde_json::from_str::<serde_json::Value>(value.get()) {
        Ok(_) => Ok(()),
        Err(cause) => {
            Err(ApiError::new(ErrorCode::Invalid, format!("{field} is not valid JSON: {cause}")).field(field))
        }
    }
}

/// The members of an object that is part of a body. A name that is given twice is refused.
pub(crate) fn read_object<'a>(
    value: &'a RawValue,
    field: &'static str,
) -> Result<BTreeMap<Cow<'a, str>, &'a RawValue>, ApiError> {
    struct Members<'a>(PhantomData<&'a ()>);

    impl<'de> Visitor<'de> for Members<'de> {
        type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                if members.insert(name.clone(), value).is_some() {
                    return Err(serde::de::Error::custom(format_args!("the field {name} is given twice")));
                }
            }
            Ok(members)
        }
    }

    let mut json = serde_json::Deserializer::from_str(value.get());
    let members = json.deserialize_map(Members(PhantomData));
    members.map_err(|error| {
        ApiError::new(ErrorCode::Invalid, format!("{field} must be a JSON object: {}", reworded_json(&error)))
            .field(field)
    })
}

/// The deepest nesting of arrays and objects. `RawValue` is skipped over rather than parsed, so that the
/// parser's own limit does not hold for it.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Reads a script's source of at most `most` bytes.
pub(crate) async fn read_source(headers: &HeaderMap, body: Body, most: u64) -> Result<String, ApiError> {
    check_charset(headers)?;
    if let Some(given) = media_type(headers)
        && !matches!(
            given.as_str(),
            // curl sends the last one where a body is given without a type.
            "text/plain" | "application/rhai" | "text/rhai" | "application/x-www-form-urlencoded"
        )
    {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!("a script is uploaded as text/plain or application/rhai, not as {given}"),
        ));
    }
    let bytes = read_body(headers, body, most).await?;
    String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ApiError::new(ErrorCode::Invalid, format!("the source is not UTF-8: byte {at} starts no character"))
    })
}

/// Reads a body that is a value itself, of at most `most` bytes and whatever type.
pub(crate) async fn read_raw(headers: &HeaderMap, body: Body, most: u64) -> Result<Bytes, ApiError> {
    check_charset(headers)?;
    read_body(headers, body, most).await
}

/// Reads a body of at most `most` bytes whose type and charset are the client's business.
pub(crate) async fn read_bytes(headers: &HeaderMap, body: Body, most: u64) -> Result<Bytes, ApiError> {
    read_body(headers, body, most).await
}

async fn read_body(headers: &HeaderMap, body: Body, most: u64) -> Result<Bytes, ApiError> {
    let read = picloud_edge::read_body(headers, body, most, BodyTimes::default()).await;
    read.map_err(|error| Problem::from(error).into())
}

/// The media type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = value.to_str().unwrap_or("an unreadable type");
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Refuses a text in another encoding: read as UTF-8, it would become another text.
fn check_charset(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let charset = parameters.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
    match charset.filter(|(name, _)| name.eq_ignore_ascii_case("charset")).map(|(_, value)| value).next() {
        // ASCII is UTF-8 as well.
        Some(given) if !["utf-8", "utf8", "us-ascii"].iter().any(|same| given.eq_ignore_ascii_case(same)) => {
            let detail =
                format!("the charset is {given}; send the text as UTF-8, with charset=utf-8 or none");
            Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use picloud_core::LimitsPatch;

    use super::*;

    fn refusal(json: &str) -> (ErrorCode, String) {
        let error = parse_json::<LimitsPatch>(json.as_bytes()).unwrap_err();
        (error.code(), error.detail().to_owned())
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (r#"{"fuel":-1}"#, ErrorCode::Invalid, "fuel: it is the number -1; allowed is a whole"),
            (r#"{"fuel":1.5}"#, ErrorCode::Invalid, "fuel: it is the number 1.5; allowed is a whole"),
            (r#"{"fuel":"1"}"#, ErrorCode::Invalid, "fuel: it is the text \"1\"; allowed is a whole"),
            (r#"{"role":1}"#, ErrorCode::Invalid, "there is no field role; allowed are fuel, memory_bytes"),
            (r#"{"fuel":1,"fuel":2}"#, ErrorCode::Invalid, "the field fuel is given twice"),
            (r#"{"fuel":18446744073709551616}"#, ErrorCode::Invalid, "fuel: "),
            ("[1]", ErrorCode::Invalid, "the body must be a JSON object"),
            ("1", ErrorCode::Invalid, "the body must be a JSON object"),
            (r#"{"fuel":1"#, ErrorCode::BadRequest, "the body is not valid JSON"),
            (r#"{"fuel":1} x"#, ErrorCode::BadRequest, "the body is not valid JSON: trailing"),
        ];
        for (json, code, detail) in cases {
            let (found, text) = refusal(json);
            assert_eq!(found, code, "{json}: {text}");
            assert!(text.contains(detail), "{json}: {text}");
        }
    }

    #[test]
    fn depth_is_bounded_also_where_nothing_is_parsed() {
        assert_eq!(depth(br#"{"a":["]]]",[{}]]}"#), 4);
        assert_eq!(depth(br#""\"[[[""#), 0);
        let deep = format!("{{\"fuel\":{}", "[".repeat(100_000));
        assert_eq!(refusal(&deep).0, ErrorCode::BadRequest);
    }
}
