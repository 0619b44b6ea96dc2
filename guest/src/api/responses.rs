//! Functions that make responses. A response is a map, so that a script can change it before it answers.

use rhai::{Dynamic, Map};

use super::Globals;
use crate::{
    answer::{HTML, JSON},
    json,
    raise::{Outcome, invalid},
};

pub(super) fn register(globals: &mut Globals<'_>) {
    globals.add("json(value)", |value: Dynamic| json_response(&value, 200));
    globals.add("json(value, status)", |value: Dynamic, status: i64| json_response(&value, status));
    globals.add("html(text)", |text: &str| Ok(typed(HTML, text.into(), 200)));
    globals.add("html(text, status)", |text: &str, status: i64| Ok(typed(HTML, text.into(), status)));
    globals.add("redirect(url)", |url: &str| redirect(url, 302));
    globals.add("redirect(url, status)", redirect);
    globals.add("response(status)", |status: i64| Ok(response(status, Dynamic::UNIT, Map::new())));
    globals
        .add("response(status, body)", |status: i64, body: Dynamic| Ok(response(status, body, Map::new())));
    globals.add("response(status, body, headers)", |status: i64, body: Dynamic, headers: Map| {
        Ok(response(status, body, headers))
    });
}

fn json_response(value: &Dynamic, status: i64) -> Outcome<Map> {
    let text = json::stringify(value).map_err(|problem| invalid(format!("json: {problem}")))?;
    Ok(typed(JSON, text.into(), status))
}

fn redirect(url: &str, status: i64) -> Outcome<Map> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Err(invalid(format!(
            "redirect: {status} is no redirection; there are 301, 302, 303, 307 and 308"
        )));
    }
    let headers = Map::from([("location".into(), url.into())]);
    Ok(response(status, Dynamic::UNIT, headers))
}

fn typed(content_type: &str, body: Dynamic, status: i64) -> Map {
    response(status, body, Map::from([("content-type".into(), content_type.into())]))
}

fn response(status: i64, body: Dynamic, headers: Map) -> Map {
    Map::from([
        ("status".into(), status.into()),
        ("headers".into(), Dynamic::from_map(headers)),
        ("body".into(), body),
    ])
}
