//! `json::`: JSON text. Rhai's own functions for it are replaced, since they know no depth limit and write
//! values that are not JSON.

use rhai::Dynamic;

use super::{Globals, Part};
use crate::{
    json,
    raise::{Outcome, invalid},
};

pub(super) fn module() -> Part {
    let mut part = Part::new("json");
    part.add("parse(text)", parse);
    part.add("stringify(value)", |value: Dynamic| stringify(&value));
    part.add("pretty(value)", |value: Dynamic| {
        json::stringify_pretty(&value).map_err(|problem| invalid(format!("json::pretty: {problem}")))
    });
    part
}

pub(super) fn register_globals(globals: &mut Globals<'_>) {
    globals.add("parse_json(text)", parse);
    globals.add("to_json(value)", |value: Dynamic| stringify(&value));
    // Rhai has one for maps, which would be found before the one for any value.
    globals.add("to_json(value)", |value: &mut rhai::Map| stringify(&Dynamic::from_map(value.clone())));
}

fn parse(text: &str) -> Outcome<Dynamic> {
    json::parse(text).map_err(|problem| invalid(format!("this is not JSON: {problem}")))
}

fn stringify(value: &Dynamic) -> Outcome<String> {
    json::stringify(value).map_err(|problem| invalid(format!("json::stringify: {problem}")))
}
