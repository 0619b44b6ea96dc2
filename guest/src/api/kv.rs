//! `kv::`: the app's key-value data.
//!
//! `incr` and `cas` are a read and a write; the host makes them atomic, as it does for the whole invocation.

use std::rc::Rc;

use rhai::{Array, Dynamic, Map};

use super::{Context, Part, from_host, wrong_type};
use crate::{
    json::{self, Blobs},
    raise::{Outcome, invalid},
};

const DEFAULT_LIST: i64 = 100;
const MAX_LIST: i64 = 1_000;
/// A hundred years of 365 days, as the host has it: more is a mistake, such as milliseconds given as seconds.
const MAX_TTL_SECONDS: i64 = 100 * 365 * 24 * 60 * 60;

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("kv");
    add_reads(&mut part, context);
    add_writes(&mut part, context);
    part
}

fn add_reads(part: &mut Part, context: &Rc<Context>) {
    let shared = context.clone();
    part.add("get(collection, key)", move |collection: &str, key: &str| {
        Ok(get(&shared, "kv::get", collection, key)?.unwrap_or_default())
    });
    let shared = context.clone();
    part.add("get(collection, key, default)", move |collection: &str, key: &str, default: Dynamic| {
        Ok(get(&shared, "kv::get", collection, key)?.unwrap_or(default))
    });
    let shared = context.clone();
    part.add("has(collection, key)", move |collection: &str, key: &str| {
        Ok(get(&shared, "kv::has", collection, key)?.is_some())
    });
    let shared = context.clone();
    part.add("list(collection)", move |collection: &str| {
        list(&shared, collection, &ListOptions { prefix: String::new(), after: None, limit: DEFAULT_LIST })
    });
    let shared = context.clone();
    part.add("list(collection, prefix)", move |collection: &str, prefix: &str| {
        list(&shared, collection, &ListOptions { prefix: prefix.into(), after: None, limit: DEFAULT_LIST })
    });
    let shared = context.clone();
    part.add("list(collection, options)", move |collection: &str, options: Map| {
        list(&shared, collection, &ListOptions::from_map(options)?)
    });
}

fn add_writes(part: &mut Part, context: &Rc<Context>) {
    let shared = context.clone();
    part.add("set(collection, key, value)", move |collection: &str, key: &str, value: Dynamic| {
        set(&shared, "kv::set", collection, key, &value, None)
    });
    let shared = context.clone();
    part.add(
        "set_ttl(collection, key, value, seconds)",
        move |collection: &str, key: &str, value: Dynamic, seconds: i64| {
            set(&shared, "kv::set_ttl", collection, key, &value, Some(seconds))
        },
    );
    let shared = context.clone();
    part.add("delete(collection, key)", move |collection: &str, key: &str| {
        from_host(shared.host("kv::delete")?.kv_delete(collection, key))
    });
    let shared = context.clone();
    part.add("incr(collection, key)", move |collection: &str, key: &str| {
        incr(&shared, collection, key, 1, None)
    });
    let shared = context.clone();
    part.add("incr(collection, key, by)", move |collection: &str, key: &str, by: i64| {
        incr(&shared, collection, key, by, None)
    });
    let shared = context.clone();
    part.add(
        "incr(collection, key, by, seconds)",
        move |collection: &str, key: &str, by: i64, seconds: i64| {
            incr(&shared, collection, key, by, Some(seconds))
        },
    );
    let shared = context.clone();
    part.add(
        "cas(collection, key, expected, value)",
        move |collection: &str, key: &str, expected: Dynamic, value: Dynamic| {
            cas(&shared, collection, key, &expected, &value)
        },
    );
}

struct ListOptions {
    prefix: String,
    after: Option<String>,
    limit: i64,
}

impl ListOptions {
    fn from_map(mut map: Map) -> Outcome<Self> {
        let mut text = |name: &str| match map.remove(name) {
            None => Ok(None),
            Some(value) if value.is_unit() => Ok(None),
            Some(value) if value.is_string() => Ok(Some(value.to_string())),
            Some(value) => Err(wrong_type(&format!("kv::list: {name}"), "a string", &value)),
        };
        let (prefix, after) = (text("prefix")?.unwrap_or_default(), text("after")?);
        let limit = match map.remove("limit") {
            None => DEFAULT_LIST,
            Some(limit) => limit.as_int().map_err(|_| wrong_type("kv::list: limit", "an integer", &limit))?,
        };
        if let Some(unknown) = map.keys().next() {
            return Err(invalid(format!(
                "kv::list has no option `{unknown}`; it has prefix, after and limit"
            )));
        }
        Ok(Self { prefix, after, limit })
    }
}

fn get(context: &Context, function: &str, collection: &str, key: &str) -> Outcome<Option<Dynamic>> {
    from_host(context.host(function)?.kv_get(collection, key))?.map(|text| parse(&text)).transpose()
}

fn set(
    context: &Context,
    function: &str,
    collection: &str,
    key: &str,
    value: &Dynamic,
    seconds: Option<i64>,
) -> Outcome<()> {
    let host = context.host(function)?;
    let ttl = seconds.map(|seconds| milliseconds(function, seconds)).transpose()?;
    let text = stringify(function, value)?;
    from_host(host.kv_set(collection, key, &text, ttl))
}

fn incr(context: &Context, collection: &str, key: &str, by: i64, seconds: Option<i64>) -> Outcome<i64> {
    let old = match get(context, "kv::incr", collection, key)? {
        None => 0,
        Some(value) => value.as_int().map_err(|_| wrong_type("kv::incr", "a stored integer", &value))?,
    };
    let Some(new) = old.checked_add(by) else {
        return Err(invalid(format!("kv::incr: {old} and {by} are too large to add")));
    };
    set(context, "kv::incr", collection, key, &new.into(), seconds)?;
    Ok(new)
}

/// Compares as JSON: `1` and `1.0` differ, the order of a map's keys does not matter, `()` is what is absent.
fn cas(context: &Context, collection: &str, key: &str, expected: &Dynamic, value: &Dynamic) -> Outcome<bool> {
    let found = get(context, "kv::cas", collection, key)?.unwrap_or_default();
    if stringify("kv::cas", &found)? != stringify("kv::cas", expected)? {
        return Ok(false);
    }
    set(context, "kv::cas", collection, key, value, None)?;
    Ok(true)
}

fn list(context: &Context, collection: &str, options: &ListOptions) -> Outcome<Array> {
    let host = context.host("kv::list")?;
    let limit = match u32::try_from(options.limit) {
        Ok(limit) if (1..=MAX_LIST).contains(&options.limit) => limit,
        _ => {
            return Err(invalid(format!(
                "kv::list: limit is {}; allowed are 1 to {MAX_LIST}",
                options.limit
            )));
        }
    };
    let entries = from_host(host.kv_list(collection, &options.prefix, options.after.as_deref(), limit))?;
    let to_map = |entry: crate::KvEntry| {
        let mut map = Map::new();
        map.insert("value".into(), parse(&entry.value)?);
        map.insert("key".into(), entry.key.into());
        Ok(Dynamic::from_map(map))
    };
    entries.into_iter().map(to_map).collect()
}

fn milliseconds(function: &str, seconds: i64) -> Outcome<u64> {
    if !(1..=MAX_TTL_SECONDS).contains(&seconds) {
        return Err(invalid(format!("{function}: {seconds} seconds; allowed are 1 to {MAX_TTL_SECONDS}")));
    }
    Ok(seconds.unsigned_abs() * 1_000)
}

fn stringify(function: &str, value: &Dynamic) -> Outcome<String> {
    json::write_with(value, Blobs::Tagged).map_err(|problem| invalid(format!("{function}: {problem}")))
}

fn parse(text: &str) -> Outcome<Dynamic> {
    json::parse_tagged(text).map_err(|problem| invalid(format!("kv: a stored value is no JSON: {problem}")))
}
