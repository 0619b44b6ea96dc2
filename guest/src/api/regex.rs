//! `regex::`: regular expressions that take linear time (the `regex-lite` crate).

use std::{cell::RefCell, rc::Rc};

use regex_lite::{Captures, Regex, RegexBuilder};
use rhai::{Array, Dynamic, ImmutableString, Map};

use super::Part;
use crate::raise::{Outcome, invalid};

/// Compiled patterns that are kept for the invocation: a pattern in a loop is compiled once.
const KEPT: usize = 16;
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// The patterns that were used last, latest last.
type Cache = RefCell<Vec<(ImmutableString, Rc<Regex>)>>;

pub(super) fn module() -> Part {
    let mut part = Part::new("regex");
    let cache: Rc<Cache> = Rc::default();
    let shared = cache.clone();
    part.add("is_match(pattern, text)", move |pattern: ImmutableString, text: &str| {
        Ok(compiled(&shared, pattern)?.is_match(text))
    });
    let shared = cache.clone();
    part.add("find(pattern, text)", move |pattern: ImmutableString, text: &str| {
        let regex = compiled(&shared, pattern)?;
        Ok(regex.captures(text).map_or(Dynamic::UNIT, |found| describe(&regex, &found)))
    });
    let shared = cache.clone();
    part.add("find_all(pattern, text)", move |pattern: ImmutableString, text: &str| {
        let regex = compiled(&shared, pattern)?;
        Ok(regex.captures_iter(text).map(|found| describe(&regex, &found)).collect::<Array>())
    });
    let shared = cache.clone();
    part.add("replace(pattern, text, with)", move |pattern: ImmutableString, text: &str, with: &str| {
        Ok(compiled(&shared, pattern)?.replace_all(text, with).into_owned())
    });
    part.add("split(pattern, text)", move |pattern: ImmutableString, text: &str| {
        let parts = compiled(&cache, pattern)?;
        Ok(parts.split(text).map(|part| ImmutableString::from(part).into()).collect::<Array>())
    });
    part.add("escape(text)", |text: &str| Ok(regex_lite::escape(text)));
    part
}

fn compiled(cache: &Cache, pattern: ImmutableString) -> Outcome<Rc<Regex>> {
    let mut kept = cache.borrow_mut();
    if let Some(at) = kept.iter().position(|(known, _)| *known == pattern) {
        return Ok(kept[at].1.clone());
    }
    let regex = RegexBuilder::new(&pattern)
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|error| invalid(format!("regex: the pattern is wrong: {error}")))?;
    let regex = Rc::new(regex);
    if kept.len() == KEPT {
        kept.remove(0);
    }
    kept.push((pattern, regex.clone()));
    Ok(regex)
}

/// `#{text, groups, named}`; a group that took no part is `()`.
fn describe(regex: &Regex, found: &Captures<'_>) -> Dynamic {
    let group = |found: Option<regex_lite::Match<'_>>| {
        found.map_or(Dynamic::UNIT, |group| ImmutableString::from(group.as_str()).into())
    };
    let mut map = Map::new();
    map.insert("text".into(), group(found.get(0)));
    map.insert("groups".into(), Dynamic::from_array(found.iter().skip(1).map(group).collect()));
    let named: Map =
        regex.capture_names().flatten().map(|name| (name.into(), group(found.name(name)))).collect();
    map.insert("named".into(), Dynamic::from_map(named));
    Dynamic::from_map(map)
}
