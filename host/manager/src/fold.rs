//! Names with slashes in paths.
//!
//! A script may be called `api/users`, a kv key `a/b/c`, a file `static/a.css`. Clients may percent-encode such a slash (`api%2Fusers`)
//! or not; before routing, the slashes that belong to a name are encoded, so that every route sees one segment
//! per name.

/// What may follow a script's name. A script whose own last folder has one of these names is addressed with
/// its slashes encoded.
const SCRIPT_ACTIONS: [&str; 4] = ["versions", "rollback", "invoke", "limits"];

/// Whether each `%` of a path begins an encoded byte. Decoders take a `%` that does not for itself, so that `%` and
/// `%25` would name the same key.
pub(crate) fn is_well_encoded(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// The path with the slashes of names encoded, if it has any.
pub(crate) fn fold_names(path: &str) -> Option<String> {
    let in_app = path.strip_prefix("/api/v1/apps/")?;
    let (app, in_app) = in_app.split_once('/')?;
    if let Some(rest) = in_app.strip_prefix("scripts/") {
        let (name, action) = match rest.rsplit_once('/') {
            Some((name, action)) if SCRIPT_ACTIONS.contains(&action) => (name, Some(action)),
            _ => (rest, None),
        };
        let action = action.map(|action| format!("/{action}")).unwrap_or_default();
        return name
            .contains('/')
            .then(|| format!("/api/v1/apps/{app}/scripts/{}{action}", name.replace('/', "%2F")));
    }
    if let Some(path) = in_app.strip_prefix("files/") {
        return path.contains('/').then(|| format!("/api/v1/apps/{app}/files/{}", path.replace('/', "%2F")));
    }
    let (collection, key) = in_app.strip_prefix("kv/")?.split_once('/')?;
    key.contains('/').then(|| format!("/api/v1/apps/{app}/kv/{collection}/{}", key.replace('/', "%2F")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_begins_an_encoded_byte() {
        for good in ["/", "/%25", "/a%2Fb%c3%A9"] {
            assert!(is_well_encoded(good), "{good}");
        }
        for bad in ["/%", "/%2", "/%zz", "/%25%", "/%%25", "/a%+1", "/%\u{e9}\u{e9}"] {
            assert!(!is_well_encoded(bad), "{bad}");
        }
    }

    #[test]
    fn slashes_of_names_are_encoded_and_others_stay() {
        let cases = [
            ("/api/v1/apps/a/scripts/api/users", Some("/api/v1/apps/a/scripts/api%2Fusers")),
            (
                "/api/v1/apps/a/scripts/api/users/versions",
                Some("/api/v1/apps/a/scripts/api%2Fusers/versions"),
            ),
            ("/api/v1/apps/a/scripts/x%2Fversions", None),
            ("/api/v1/apps/a/files", None),
            ("/api/v1/apps/a/files/a%2Fb", None),
            ("/api/v1/apps/a/files/static/a.css", Some("/api/v1/apps/a/files/static%2Fa.css")),
            ("/api/v1/apps/a/files/../b", Some("/api/v1/apps/a/files/..%2Fb")),
            ("/api/v1/apps/a/scripts/x/invoke", None),
            ("/api/v1/apps/a/scripts/x/y/limits", Some("/api/v1/apps/a/scripts/x%2Fy/limits")),
            ("/api/v1/apps/a/scripts/invoke", None),
            ("/api/v1/apps/a/scripts", None),
            ("/api/v1/apps/a/kv/c/k", None),
            ("/api/v1/apps/a/kv/c/a/b/", Some("/api/v1/apps/a/kv/c/a%2Fb%2F")),
            ("/api/v1/apps/a/kv/c//a", Some("/api/v1/apps/a/kv/c/%2Fa")),
            ("/api/v1/apps/a", None),
            ("/metrics", None),
        ];
        for (path, folded) in cases {
            assert_eq!(fold_names(path).as_deref(), folded, "{path}");
        }
    }
}
