//! A hint where the server does not know a name that looks like one it has.

use serde::Deserialize;

use super::{api::Api, error::Problem, pages::Items};
use crate::likeness::nearest;

/// As many names as are looked at.
const NAMES: usize = 1000;

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// The name that may be meant by a call whose path has an unknown app or script.
///
/// What goes wrong on the way is not told: the hint is an extra, and the error that it belongs to is shown anyway.
pub(super) fn suggestion(api: &Api, path: &str, problem: &Problem) -> Option<String> {
    let in_apps = path.strip_prefix("/api/v1/apps/")?;
    let mut parts = in_apps.split(['/', '?']);
    let app = parts.next()?;
    let (list, name) = match problem.code.as_str() {
        "app_not_found" => ("/api/v1/apps".to_owned(), app),
        "script_not_found" => {
            let script = parts.next().filter(|part| *part == "scripts").and(parts.next())?;
            (format!("/api/v1/apps/{app}/scripts"), script)
        }
        _ => return None,
    };
    let names: Vec<Named> = Items::fetch(api, &list, &[], Some(NAMES)).ok()?.read(api).ok()?;
    // A slash is the only character of a name that is encoded.
    nearest(&name.replace("%2F", "/"), names, |named| &named.name).map(|named| named.name)
}
