//! From the value that a handler gives to the answer.

use rhai::{Array, Dynamic, Map};

use crate::{
    HttpResponse,
    fault::plain_type,
    json,
    raise::{Outcome, invalid},
};

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const CONTENT_TYPE: &str = "content-type";

/// The JSON text of a value, for all but requests.
pub(crate) fn value(value: &Dynamic) -> Outcome<String> {
    json::stringify(value).map_err(|problem| invalid(format!("the answer has no JSON form: {problem}")))
}

/// The response that a value stands for.
pub(crate) fn response(value: Dynamic) -> Outcome<HttpResponse> {
    let value = match value.flatten().try_cast_result::<Map>() {
        Ok(map) if is_response(&map) => return from_map(map),
        Ok(map) => Dynamic::from_map(map),
        Err(value) => value,
    };
    let status = if value.is_unit() { 204 } else { 200 };
    let (content_type, body) = body(value)?;
    let headers = content_type.map(|content_type| (CONTENT_TYPE.into(), content_type.into()));
    Ok(HttpResponse { status, headers: headers.into_iter().collect(), body })
}

/// Whether a map describes a response: it has no other keys than `status`, `headers` and `body`. A map of
/// nothing but a `status` that is no integer, `#{status: "ok"}`, is data.
fn is_response(map: &Map) -> bool {
    let only_known = map.keys().all(|key| matches!(key.as_str(), "status" | "headers" | "body"));
    let only_status = map.len() == 1 && map.get("status").is_some_and(|status| !status.is_int());
    !map.is_empty() && only_known && !only_status
}

fn from_map(mut map: Map) -> Outcome<HttpResponse> {
    let status = match map.remove("status") {
        None => 200,
        Some(status) => status.as_int().map_err(|found| {
            bad_response(format!("the response's status is no integer but {}", plain_type(found)))
        })?,
    };
    let mut headers = match map.remove("headers") {
        None => Vec::new(),
        Some(headers) => header_list(headers)?,
    };
    let (content_type, body) = body(map.remove("body").unwrap_or_default())?;
    if let Some(content_type) = content_type
        && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE))
    {
        headers.push((CONTENT_TYPE.into(), content_type.into()));
    }
    Ok(HttpResponse { status, headers, body })
}

fn header_list(headers: Dynamic) -> Outcome<Vec<(String, String)>> {
    let Some(map) = headers.flatten().try_cast::<Map>() else {
        return Err(bad_response("the response's headers are no map".into()));
    };
    let mut list = Vec::new();
    for (name, value) in map {
        let values = match value.try_cast_result::<Array>() {
            Ok(values) => values,
            Err(value) => vec![value],
        };
        for value in values {
            if !(value.is_string() || value.is_int() || value.is_bool()) {
                let found = plain_type(value.type_name());
                return Err(bad_response(format!(
                    "the header `{name}` is no string, integer, bool or array of these but {found}"
                )));
            }
            list.push((name.to_string(), value.to_string()));
        }
    }
    Ok(list)
}

/// The bytes of a body, and the content type that goes with it; none for an empty one.
fn body(value: Dynamic) -> Outcome<(Option<&'static str>, Vec<u8>)> {
    if value.is_unit() {
        return Ok((None, Vec::new()));
    }
    if value.is_string() || value.is_char() {
        return Ok((Some(TEXT), value.to_string().into_bytes()));
    }
    match value.try_cast_result::<rhai::Blob>() {
        Ok(bytes) => Ok((Some(BYTES), bytes)),
        Err(value) => Ok((Some(JSON), self::value(&value)?.into_bytes())),
    }
}

fn bad_response(message: String) -> crate::raise::Raised {
    crate::raise::refused(crate::HostError { code: "bad_response".into(), message })
}
