//! The answer of another service as a script sees it: like a request, each property made when it is first read.

use std::{cell::OnceCell, fmt, rc::Rc};

use rhai::{Dynamic, Engine, ImmutableString, Map};

use crate::{
    IncomingAnswer, json,
    names::closest,
    raise::{Outcome, invalid},
};

/// The answer, cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetched(Rc<Data>);

struct Data {
    answer: IncomingAnswer,
    kept: [OnceCell<Dynamic>; PROPERTIES.len()],
}

/// A property's name and how it is made.
type Property = (&'static str, fn(&IncomingAnswer) -> Outcome<Dynamic>);

/// Every property. docs/SCRIPTING.md has the same list.
pub(crate) const PROPERTIES: [Property; 7] = [
    ("status", |answer| Ok(i64::from(answer.status).into())),
    ("ok", |answer| Ok((200..300).contains(&answer.status).into())),
    ("headers", |answer| Ok(headers(answer))),
    ("body", body),
    ("json", parsed_json),
    ("bytes", |answer| Ok(Dynamic::from_blob(answer.body.clone()).into_shared())),
    ("url", |answer| Ok(text(&answer.url))),
];

impl Fetched {
    pub(crate) fn new(answer: IncomingAnswer) -> Self {
        Self(Rc::new(Data { answer, kept: Default::default() }))
    }

    fn property(&self, index: usize) -> Outcome<Dynamic> {
        let kept = &self.0.kept[index];
        if let Some(value) = kept.get() {
            return Ok(value.clone());
        }
        let value = PROPERTIES[index].1(&self.0.answer)?;
        Ok(kept.get_or_init(|| value).clone())
    }

    fn named(&self, name: &str) -> Outcome<Dynamic> {
        if let Some(index) = PROPERTIES.iter().position(|(property, _)| *property == name) {
            return self.property(index);
        }
        let names = PROPERTIES.iter().map(|(property, _)| *property);
        Err(invalid(match closest(name, names.clone()) {
            Some(meant) => format!("an answer has no `{name}`; is `{meant}` meant?"),
            None => format!("an answer has no `{name}`; it has {}", names.collect::<Vec<_>>().join(", ")),
        }))
    }

    /// What an answer is as JSON.
    pub(crate) fn to_map(&self) -> Dynamic {
        let mut map = Map::new();
        for name in ["status", "ok", "url", "headers"] {
            // None of these can fail.
            map.insert(name.into(), self.named(name).map(Dynamic::flatten).unwrap_or_default());
        }
        let bytes = || Dynamic::from_blob(self.0.answer.body.clone());
        map.insert("body".into(), body(&self.0.answer).unwrap_or_else(|_| bytes()));
        Dynamic::from_map(map)
    }
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.answer.status, self.0.answer.url)
    }
}

/// Registers the type and its properties.
pub(crate) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Fetched>("Answer");
    for (index, (name, _)) in PROPERTIES.iter().enumerate() {
        engine.register_get(name, move |answer: &mut Fetched| answer.property(index));
    }
    // Rhai asks the indexer for a property that it does not know, too.
    engine.register_indexer_get(|answer: &mut Fetched, name: &str| answer.named(name));
    engine.register_fn("to_string", |answer: &mut Fetched| answer.to_string());
    engine.register_fn("to_debug", |answer: &mut Fetched| format!("Answer({answer})"));
}

fn text(text: impl AsRef<str>) -> Dynamic {
    ImmutableString::from(text.as_ref()).into()
}

fn header<'a>(answer: &'a IncomingAnswer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

/// A header that came more than once is joined, as the Fetch standard does.
fn headers(answer: &IncomingAnswer) -> Dynamic {
    let mut map = Map::new();
    for (name, value) in &answer.headers {
        match map.get_mut(name.as_str()) {
            Some(before) => *before = text(format!("{before}, {value}")),
            None => {
                map.insert(name.as_str().into(), text(value));
            }
        }
    }
    Dynamic::from_map(map).into_shared()
}

fn body(answer: &IncomingAnswer) -> Outcome<Dynamic> {
    match str::from_utf8(&answer.body) {
        Ok(body) => Ok(text(body)),
        Err(_) => Err(invalid("the answer's body is not text in UTF-8; `bytes` has it as a blob")),
    }
}

/// The body as a value; `()` where it is empty, or not JSON and not said to be JSON.
fn parsed_json(answer: &IncomingAnswer) -> Outcome<Dynamic> {
    if answer.body.is_empty() {
        return Ok(Dynamic::UNIT);
    }
    match json::parse_slice(&answer.body) {
        Ok(value) if value.is_map() || value.is_array() => Ok(value.into_shared()),
        Ok(value) => Ok(value),
        Err(problem) if is_json(answer) => Err(invalid(format!("the answer's body is not JSON: {problem}"))),
        Err(_) => Ok(Dynamic::UNIT),
    }
}

fn is_json(answer: &IncomingAnswer) -> bool {
    let media_type = header(answer, "content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}
