//! `http::`: other services over HTTP. Whether a call is allowed is the host's to say.

use std::rc::Rc;

use rhai::{Array, Dynamic, Map};

use super::{Context, Part, from_host, unknown_option, wrong_type};
use crate::{
    OutgoingRequest,
    answer::{JSON, TEXT},
    fault::plain_type,
    fetched::Fetched,
    json,
    raise::{Outcome, invalid},
    request::build_query,
};

const CONTENT_TYPE: &str = "content-type";
const FORM: &str = "application/x-www-form-urlencoded";

/// What options can have; `http::request` takes `method` and `url` as well.
const OPTIONS: [&str; 7] = ["headers", "query", "body", "json", "form", "timeout_ms", "redirects"];

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("http");
    let without_body = [
        ("http::get", "GET", "get(url)", "get(url, options)"),
        ("http::head", "HEAD", "head(url)", "head(url, options)"),
        ("http::delete", "DELETE", "delete(url)", "delete(url, options)"),
    ];
    for (function, method, plain, with_options) in without_body {
        let shared = context.clone();
        part.add(plain, move |url: &str| send(&shared, function, method, url, Map::new()));
        let shared = context.clone();
        part.add(with_options, move |url: &str, options: Map| send(&shared, function, method, url, options));
    }
    let with_body = [
        ("http::post", "POST", "post(url, body)", "post(url, body, options)"),
        ("http::put", "PUT", "put(url, body)", "put(url, body, options)"),
        ("http::patch", "PATCH", "patch(url, body)", "patch(url, body, options)"),
    ];
    for (function, method, plain, with_options) in with_body {
        let shared = context.clone();
        part.add(plain, move |url: &str, body: Dynamic| {
            send(&shared, function, method, url, body_option(function, body, Map::new())?)
        });
        let shared = context.clone();
        part.add(with_options, move |url: &str, body: Dynamic, options: Map| {
            send(&shared, function, method, url, body_option(function, body, options)?)
        });
    }
    let shared = context.clone();
    part.add("request(options)", move |options: Map| request(&shared, options));
    part
}

/// Puts the body that is an argument of its own among the options.
fn body_option(function: &str, body: Dynamic, mut options: Map) -> Outcome<Map> {
    if let Some(other) = ["body", "json", "form"].into_iter().find(|name| options.contains_key(*name)) {
        return Err(invalid(format!("{function}: the body is given twice, also as the option `{other}`")));
    }
    options.insert("body".into(), body);
    Ok(options)
}

fn request(context: &Context, mut options: Map) -> Outcome<Fetched> {
    const FUNCTION: &str = "http::request";
    let url = match options.remove("url") {
        Some(url) => text(FUNCTION, "url", &url)?,
        None => return Err(invalid(format!("{FUNCTION}: there is no `url`"))),
    };
    let method = match options.remove("method") {
        Some(method) => text(FUNCTION, "method", &method)?.to_ascii_uppercase(),
        None => "GET".to_owned(),
    };
    send(context, FUNCTION, &method, &url, options)
}

fn send(context: &Context, function: &str, method: &str, url: &str, options: Map) -> Outcome<Fetched> {
    let host = context.host(function)?;
    let request = outgoing(function, method, url, options)?;
    from_host(host.http(request)).map(Fetched::new)
}

fn outgoing(function: &str, method: &str, url: &str, options: Map) -> Outcome<OutgoingRequest> {
    let mut request =
        OutgoingRequest { method: method.to_owned(), url: url.to_owned(), ..OutgoingRequest::default() };
    let mut content_type = None;
    let mut body_from: Option<&str> = None;
    for (name, value) in options {
        match name.as_str() {
            "headers" => request.headers = headers(function, value)?,
            "query" => request.url = with_query(request.url, &map(function, "query", value)?),
            "timeout_ms" => request.timeout_ms = Some(whole(function, "timeout_ms", &value)?),
            "redirects" => request.redirects = Some(redirects(function, &value)?),
            name @ ("body" | "json" | "form") => {
                let name = OPTIONS.into_iter().find(|known| *known == name).unwrap_or_default();
                if let Some(other) = body_from.replace(name) {
                    return Err(invalid(format!("{function}: there are both `{other}` and `{name}`")));
                }
                (content_type, request.body) = body(function, name, value)?;
            }
            other => return Err(unknown_option(function, other, &OPTIONS)),
        }
    }
    let is_typed = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
    if let Some(content_type) = content_type.filter(|_| !is_typed) {
        request.headers.push((CONTENT_TYPE.to_owned(), content_type.to_owned()));
    }
    Ok(request)
}

/// The bytes of a body and the content type that goes with it, if one does.
fn body(function: &str, option: &str, value: Dynamic) -> Outcome<(Option<&'static str>, Vec<u8>)> {
    let as_json = |value: &Dynamic| {
        let text = json::stringify(value);
        let text = text.map_err(|problem| invalid(format!("{function}: the body {problem}")))?;
        Ok((Some(JSON), text.into_bytes()))
    };
    match option {
        "json" => as_json(&value),
        "form" => Ok((Some(FORM), build_query(&map(function, "form", value)?).into_bytes())),
        _ if value.is_unit() => Ok((None, Vec::new())),
        _ if value.is_map() || value.is_array() => as_json(&value),
        _ if value.is_string() => Ok((Some(TEXT), value.to_string().into_bytes())),
        _ => match value.try_cast_result::<rhai::Blob>() {
            Ok(bytes) => Ok((None, bytes)),
            Err(value) => Err(wrong_type(
                &format!("{function}: the body"),
                "a string, a blob, a map or an array",
                &value,
            )),
        },
    }
}

/// An array of values gives a header of each.
fn headers(function: &str, value: Dynamic) -> Outcome<Vec<(String, String)>> {
    let mut list = Vec::new();
    for (name, value) in map(function, "headers", value)? {
        let values = match value.try_cast_result::<Array>() {
            Ok(values) => values,
            Err(value) => vec![value],
        };
        for value in values {
            if !(value.is_string() || value.is_int() || value.is_bool()) {
                let found = plain_type(value.type_name());
                return Err(invalid(format!(
                    "{function}: the header `{name}` is no string, integer, bool or array of these but {found}"
                )));
            }
            list.push((name.to_string(), value.to_string()));
        }
    }
    Ok(list)
}

/// A URL with a query, before its fragment and after the query that it has.
fn with_query(url: String, query: &Map) -> String {
    if query.is_empty() {
        return url;
    }
    let (place, fragment) = url.find('#').map_or((url.as_str(), ""), |at| url.split_at(at));
    let separator = match place.find('?') {
        None => "?",
        Some(at) if at + 1 == place.len() || place.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{place}{separator}{}{fragment}", build_query(query))
}

fn map(function: &str, option: &str, value: Dynamic) -> Outcome<Map> {
    let value = value.flatten();
    value
        .try_cast_result::<Map>()
        .map_err(|value| wrong_type(&format!("{function}: the option `{option}`"), "a map", &value))
}

fn text(function: &str, option: &str, value: &Dynamic) -> Outcome<String> {
    match value.as_immutable_string_ref() {
        Ok(text) => Ok(text.to_string()),
        Err(_) => Err(wrong_type(&format!("{function}: `{option}`"), "a string", value)),
    }
}

fn whole(function: &str, option: &str, value: &Dynamic) -> Outcome<u64> {
    let number = value.as_int().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| invalid(format!("{function}: {option} is {value}; allowed is a whole number")))
}

/// How many redirects are followed; `true` and `false` are the host's default and none.
fn redirects(function: &str, value: &Dynamic) -> Outcome<u32> {
    match value.as_bool() {
        Ok(false) => Ok(0),
        Ok(true) => Ok(MOST_REDIRECTS),
        Err(_) => whole(function, "redirects", value).map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
    }
}

/// As many as the host follows.
const MOST_REDIRECTS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_added_where_it_belongs() {
        let query = Map::from([
            ("a".into(), "x y".into()),
            ("b".into(), Dynamic::from(vec![Dynamic::from(1_i64), 2_i64.into()])),
        ]);
        let url = |url: &str| with_query(url.to_owned(), &query);
        assert_eq!(url("https://a.test/x"), "https://a.test/x?a=x%20y&b=1&b=2");
        assert_eq!(url("https://a.test/x?"), "https://a.test/x?a=x%20y&b=1&b=2");
        assert_eq!(url("https://a.test/x?c=3#top"), "https://a.test/x?c=3&a=x%20y&b=1&b=2#top");
        assert_eq!(with_query("https://a.test".into(), &Map::new()), "https://a.test");
    }
}
