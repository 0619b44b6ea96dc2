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
    let Unknown { list, name } = unknown(path, problem)?;
    let names: Vec<Named> = Items::fetch(api, &list, &[], Some(NAMES)).ok()?.read(api).ok()?;
    // What was named may be there, and only gone for a moment.
    let others = names.into_iter().filter(|named| named.name != name);
    nearest(&name, others, |named| &named.name).map(|named| named.name)
}

/// What a call named and the server does not know.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    /// Where the names are that there are.
    list: String,
    name: String,
}

/// A failed invocation may carry the code of what the script asked for; only 404 is about the call's own path.
fn unknown(path: &str, problem: &Problem) -> Option<Unknown> {
    if problem.status != 404 {
        return None;
    }
    let in_apps = path.strip_prefix("/api/v1/apps/")?;
    let mut parts = in_apps.split(['/', '?']);
    let app = parts.next()?;
    let (list, name) = match problem.code.as_str() {
        "app_not_found" => ("/api/v1/apps".to_owned(), app),
        "script_not_found" => {
            let in_path = parts.next().filter(|part| *part == "scripts").and(parts.next());
            let script = in_path.or_else(|| queried_script(path))?;
            (format!("/api/v1/apps/{app}/scripts"), script)
        }
        _ => return None,
    };
    // A slash is the only character of a name that is encoded.
    Some(Unknown { list, name: name.replace("%2F", "/") })
}

/// The script whose history was asked for.
fn queried_script(path: &str) -> Option<&str> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("script="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Problem {
        let document = serde_json::json!({ "status": status, "code": code });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_name_is_looked_for_only_where_the_path_has_an_unknown_one() {
        let path = "/api/v1/apps/demo/scripts/api%2Fuser/invoke";
        let found = unknown(path, &problem(404, "script_not_found")).unwrap();
        assert_eq!((found.list.as_str(), found.name.as_str()), ("/api/v1/apps/demo/scripts", "api/user"));
        let history = "/api/v1/apps/demo/logs?follow=true&script=api%2Fuser";
        assert_eq!(unknown(history, &problem(404, "script_not_found")), Some(found));
        let found = unknown("/api/v1/apps/dem?x=1", &problem(404, "app_not_found")).unwrap();
        assert_eq!((found.list.as_str(), found.name.as_str()), ("/api/v1/apps", "dem"));
        assert_eq!(unknown(path, &problem(404, "not_found")), None);
    }

    #[test]
    fn an_error_of_the_script_itself_names_nothing_of_the_path() {
        // `app::invoke` of a script that is not there.
        let path = "/api/v1/apps/demo/scripts/main/invoke";
        assert_eq!(unknown(path, &problem(500, "script_not_found")), None);
    }
}
