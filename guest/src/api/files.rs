//! `files::`: the app's files.

use std::rc::Rc;

use rhai::{Array, Blob, Dynamic, Map};

use super::{Context, Part, bytes_of, from_host, wrong_type};
use crate::{
    FileInfo,
    raise::{Outcome, invalid},
};

const MAX_LIST: i64 = 1_000;

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("files");
    add_reads(&mut part, context);
    add_lists(&mut part, context);
    add_writes(&mut part, context);
    part
}

fn add_reads(part: &mut Part, context: &Rc<Context>) {
    let shared = context.clone();
    part.add("read(path)", move |path: &str| read_text(&shared, path));
    let shared = context.clone();
    part.add("read_bytes(path)", move |path: &str| -> Outcome<Blob> {
        from_host(shared.host("files::read_bytes")?.file_read(path))
    });
    let shared = context.clone();
    part.add("exists(path)", move |path: &str| {
        Ok(from_host(shared.host("files::exists")?.file_stat(path))?.is_some())
    });
    let shared = context.clone();
    part.add("info(path)", move |path: &str| {
        let info = from_host(shared.host("files::info")?.file_stat(path))?;
        Ok(info.map_or(Dynamic::UNIT, |info| Dynamic::from_map(to_map(info))))
    });
    let shared = context.clone();
    part.add("response(path)", move |path: &str| response(&shared, path));
}

fn add_lists(part: &mut Part, context: &Rc<Context>) {
    let shared = context.clone();
    part.add("list()", move || list(&shared, &ListOptions::of("")));
    let shared = context.clone();
    part.add("list(prefix)", move |prefix: &str| list(&shared, &ListOptions::of(prefix)));
    let shared = context.clone();
    part.add("list(options)", move |options: Map| list(&shared, &ListOptions::from_map(options)?));
}

fn add_writes(part: &mut Part, context: &Rc<Context>) {
    let shared = context.clone();
    part.add("write(path, content)", move |path: &str, content: Dynamic| {
        write(&shared, path, &content, None)
    });
    let shared = context.clone();
    part.add(
        "write(path, content, content_type)",
        move |path: &str, content: Dynamic, content_type: &str| {
            write(&shared, path, &content, Some(content_type))
        },
    );
    let shared = context.clone();
    part.add("delete(path)", move |path: &str| from_host(shared.host("files::delete")?.file_delete(path)));
}

struct ListOptions {
    prefix: String,
    after: Option<String>,
    limit: i64,
}

impl ListOptions {
    fn of(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), after: None, limit: MAX_LIST }
    }

    fn from_map(mut map: Map) -> Outcome<Self> {
        let mut text = |name: &str| match map.remove(name) {
            None => Ok(None),
            Some(value) if value.is_unit() => Ok(None),
            Some(value) if value.is_string() => Ok(Some(value.to_string())),
            Some(value) => Err(wrong_type(&format!("files::list: {name}"), "a string", &value)),
        };
        let (prefix, after) = (text("prefix")?.unwrap_or_default(), text("after")?);
        let limit = match map.remove("limit") {
            None => MAX_LIST,
            Some(limit) => {
                limit.as_int().map_err(|_| wrong_type("files::list: limit", "an integer", &limit))?
            }
        };
        if let Some(unknown) = map.keys().next() {
            return Err(invalid(format!(
                "files::list has no option `{unknown}`; it has prefix, after and limit"
            )));
        }
        Ok(Self { prefix, after, limit })
    }
}

fn read_text(context: &Context, path: &str) -> Outcome<String> {
    let bytes = from_host(context.host("files::read")?.file_read(path))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        invalid(format!(
            "files::read: \"{path}\" is not UTF-8 text (byte {at}); files::read_bytes gives it as a blob"
        ))
    })
}

/// The file as an answer of its type.
fn response(context: &Context, path: &str) -> Outcome<Map> {
    let host = context.host("files::response")?;
    let info = from_host(host.file_stat(path))?;
    let body = from_host(host.file_read(path))?;
    let mut headers = Map::new();
    if let Some(info) = info {
        headers.insert("content-type".into(), info.content_type.into());
    }
    headers.insert("x-content-type-options".into(), "nosniff".into());
    Ok(Map::from([
        ("status".into(), 200_i64.into()),
        ("headers".into(), Dynamic::from_map(headers)),
        ("body".into(), Dynamic::from_blob(body)),
    ]))
}

fn write(context: &Context, path: &str, content: &Dynamic, content_type: Option<&str>) -> Outcome<()> {
    let host = context.host("files::write")?;
    let content = bytes_of(content, "files::write: content")?;
    from_host(host.file_write(path, &content, content_type))
}

fn list(context: &Context, options: &ListOptions) -> Outcome<Array> {
    let host = context.host("files::list")?;
    let limit = match u32::try_from(options.limit) {
        Ok(limit) if (1..=MAX_LIST).contains(&options.limit) => limit,
        _ => {
            return Err(invalid(format!(
                "files::list: limit is {}; allowed are 1 to {MAX_LIST}",
                options.limit
            )));
        }
    };
    let files = from_host(host.file_list(&options.prefix, options.after.as_deref(), limit))?;
    Ok(files.into_iter().map(|info| Dynamic::from_map(to_map(info))).collect())
}

fn to_map(info: FileInfo) -> Map {
    Map::from([
        ("path".into(), info.path.into()),
        ("size".into(), i64::try_from(info.size).unwrap_or(i64::MAX).into()),
        ("type".into(), info.content_type.into()),
        ("modified".into(), info.modified_ms.into()),
    ])
}
