//! `req`: the request as a script sees it. Each property is made when it is first read and kept, so that a
//! script pays only for what it uses. Kept arrays and maps are shared: what a script changes in them stays.

use std::{cell::OnceCell, fmt, rc::Rc};

use rhai::{Dynamic, Engine, ImmutableString, Map};

use crate::{
    Event, HttpRequest, json,
    names::closest,
    raise::{Outcome, bad_request, invalid},
};

mod form;
mod pairs;

pub(crate) use pairs::{build_query, decode_component, encode_component, first_values, parse_query};

/// The request, cheap to clone.
#[derive(Clone)]
pub(crate) struct Request(Rc<Data>);

struct Data {
    http: HttpRequest,
    kept: [OnceCell<Dynamic>; PROPERTIES.len()],
}

/// A property's name and how it is made.
type Property = (&'static str, fn(&HttpRequest) -> Outcome<Dynamic>);

/// Every property. docs/SCRIPTING.md has the same list.
pub(crate) const PROPERTIES: [Property; 16] = [
    ("method", |http| Ok(text(&http.method))),
    ("path", |http| Ok(text(&http.path))),
    ("params", |http| Ok(map(http.params.iter().map(|(name, value)| (name.as_str(), value.as_str()))))),
    ("query", |http| Ok(map(first_values(&parse_query(&http.query))))),
    ("query_all", |http| Ok(all_values(&parse_query(&http.query)))),
    ("query_string", |http| Ok(text(&http.query))),
    ("headers", |http| Ok(headers(http))),
    ("cookies", |http| Ok(cookies(http))),
    ("body", body),
    ("json", parsed_json),
    ("form", |http| Ok(form::parse(http)?.first_values())),
    ("form_all", |http| Ok(form::parse(http)?.all_values())),
    ("bytes", |http| Ok(Dynamic::from_blob(http.body.clone()).into_shared())),
    ("ip", |http| Ok(text(&http.ip))),
    ("id", |http| Ok(text(&http.id))),
    ("content_type", |http| Ok(header(http, "content-type").map_or(Dynamic::UNIT, text))),
];

impl Request {
    /// The request of an event; a direct call and the event of a trigger look like a POST of their JSON.
    pub(crate) fn new(event: Event) -> Self {
        let http = match event {
            Event::Http(http) => http,
            Event::Invoke(json) | Event::Trigger { event: json, .. } => HttpRequest {
                method: "POST".into(),
                path: "/".into(),
                headers: "content-type: application/json\n".into(),
                body: json.into_bytes(),
                ..HttpRequest::default()
            },
        };
        Self(Rc::new(Data { http, kept: Default::default() }))
    }

    fn property(&self, index: usize) -> Outcome<Dynamic> {
        let kept = &self.0.kept[index];
        if let Some(value) = kept.get() {
            return Ok(value.clone());
        }
        let value = PROPERTIES[index].1(&self.0.http)?;
        Ok(kept.get_or_init(|| value).clone())
    }

    fn named(&self, name: &str) -> Outcome<Dynamic> {
        if let Some(index) = PROPERTIES.iter().position(|(property, _)| *property == name) {
            return self.property(index);
        }
        let names = PROPERTIES.iter().map(|(property, _)| *property);
        Err(invalid(match closest(name, names.clone()) {
            Some(meant) => format!("a request has no `{name}`; is `{meant}` meant?"),
            None => format!("a request has no `{name}`; it has {}", names.collect::<Vec<_>>().join(", ")),
        }))
    }

    /// What a request is as JSON.
    pub(crate) fn to_map(&self) -> Dynamic {
        let mut map = Map::new();
        for name in ["method", "path", "params", "query", "headers", "ip", "id"] {
            // None of these can fail.
            map.insert(name.into(), self.named(name).map(Dynamic::flatten).unwrap_or_default());
        }
        let body = body(&self.0.http).unwrap_or_else(|_| Dynamic::from_blob(self.0.http.body.clone()));
        map.insert("body".into(), body);
        Dynamic::from_map(map)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.http.method, self.0.http.path)
    }
}

/// Registers the type and its properties.
pub(crate) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Request>("Request");
    for (index, (name, _)) in PROPERTIES.iter().enumerate() {
        engine.register_get(name, move |request: &mut Request| request.property(index));
    }
    // Rhai asks the indexer for a property that it does not know, too.
    engine.register_indexer_get(|request: &mut Request, name: &str| request.named(name));
    engine.register_fn("to_string", |request: &mut Request| request.to_string());
    engine.register_fn("to_debug", |request: &mut Request| format!("Request({request})"));
}

fn text(text: impl AsRef<str>) -> Dynamic {
    ImmutableString::from(text.as_ref()).into()
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Dynamic {
    let map: Map = pairs.into_iter().map(|(name, value)| (name.into(), text(value))).collect();
    Dynamic::from_map(map).into_shared()
}

fn all_values(pairs: &[(String, String)]) -> Dynamic {
    Dynamic::from_map(pairs::all_values(pairs, |value| text(value))).into_shared()
}

fn header_lines(http: &HttpRequest) -> impl Iterator<Item = (&str, &str)> {
    http.headers.lines().filter_map(|line| line.split_once(": ").or_else(|| line.split_once(':')))
}

fn header<'a>(http: &'a HttpRequest, name: &str) -> Option<&'a str> {
    header_lines(http).find(|(header, _)| *header == name).map(|(_, value)| value)
}

/// A header that came more than once is joined, as the Fetch standard does.
fn headers(http: &HttpRequest) -> Dynamic {
    let mut map = Map::new();
    for (name, value) in header_lines(http) {
        match map.get_mut(name) {
            Some(before) => {
                let separator = if name == "cookie" { "; " } else { ", " };
                *before = text(format!("{before}{separator}{value}"));
            }
            None => {
                map.insert(name.into(), text(value));
            }
        }
    }
    Dynamic::from_map(map).into_shared()
}

/// The first cookie of a name wins: browsers send the one of the most specific path first.
fn cookies(http: &HttpRequest) -> Dynamic {
    let mut map = Map::new();
    let values = header_lines(http).filter(|(name, _)| *name == "cookie").map(|(_, value)| value);
    for (name, value) in values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.split_once('='))
    {
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        map.entry(name.trim().into()).or_insert_with(|| text(unquoted));
    }
    Dynamic::from_map(map).into_shared()
}

fn body(http: &HttpRequest) -> Outcome<Dynamic> {
    match str::from_utf8(&http.body) {
        Ok(body) => Ok(text(body)),
        Err(_) => Err(bad_request("the request's body is not text in UTF-8; req.bytes has it as a blob")),
    }
}

/// The body as a value; `()` where it is empty, or not JSON and not said to be JSON.
fn parsed_json(http: &HttpRequest) -> Outcome<Dynamic> {
    if http.body.is_empty() {
        return Ok(Dynamic::UNIT);
    }
    match json::parse_slice(&http.body) {
        Ok(value) if value.is_map() || value.is_array() => Ok(value.into_shared()),
        Ok(value) => Ok(value),
        Err(problem) if is_json(http) => {
            Err(bad_request(format!("the request's body is not JSON: {problem}")))
        }
        Err(_) => Ok(Dynamic::UNIT),
    }
}

fn is_json(http: &HttpRequest) -> bool {
    let media_type = header(http, "content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}
