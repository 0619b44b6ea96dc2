//! Which app a request is for.

use std::{borrow::Cow, sync::Arc};

use http::{Uri, uri::Authority};
use picloud_core::ErrorCode;
use picloud_edge::Problem;

use super::response::Origin;
use crate::{
    Addressing, PathForm,
    directory::{AppEntry, Directory},
};

/// An app, and the path within it.
pub(super) struct Addressed<'a> {
    pub(super) app: Arc<AppEntry>,
    /// As it came, starting with a slash.
    pub(super) path: &'a str,
    /// Whom the app shares its origin with.
    pub(super) origin: Origin,
}

/// Finds the app by its host below the app domain, by a domain of its own, or by the path form, in this order.
pub(super) fn resolve<'a>(
    addressing: &Addressing,
    directory: &Directory,
    authority: Option<&Authority>,
    uri: &'a Uri,
) -> Result<Addressed<'a>, Problem> {
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    if let Some(authority) = authority {
        let host = canonical(authority.host());
        let app = match label_below(&host, addressing.domain.as_str()) {
            Some(name) => Some(directory.by_name(name).ok_or_else(not_found)?),
            None => directory.by_domain(&host),
        };
        if let Some(app) = app {
            return Ok(Addressed { app, path, origin: Origin::Own });
        }
    }
    let (name, path) = match addressing.path_form {
        PathForm::On => split_path(path).ok_or_else(not_found)?,
        PathForm::Off => return Err(not_found()),
    };
    let app = directory.by_name(name).ok_or_else(not_found)?;
    Ok(Addressed { app, path, origin: Origin::Shared })
}

/// A host in the form that names are stored in: lower case, without the dot of the root.
fn canonical(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The one label below `domain`, if `host` is that.
fn label_below<'h>(host: &'h str, domain: &str) -> Option<&'h str> {
    let label = host.strip_suffix(domain)?.strip_suffix('.')?;
    (!label.contains('.')).then_some(label)
}

/// `/@NAME/rest` as the name and `/rest`.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/@")?;
    Some(match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    })
}

fn not_found() -> Problem {
    Problem::new(ErrorCode::AppNotFound).detail("no app answers at this address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_case_and_root() {
        assert_eq!(canonical("Demo.LOCALHOST."), "demo.localhost");
        assert_eq!(label_below("demo.localhost", "localhost"), Some("demo"));
        for host in ["localhost", "a.b.localhost", "demolocalhost", "localhost.evil.example"] {
            assert_eq!(label_below(host, "localhost"), None, "{host}");
        }
    }

    #[test]
    fn the_path_form_keeps_the_rest_as_it_is() {
        assert_eq!(split_path("/@demo/a%2Fb//"), Some(("demo", "/a%2Fb//")));
        assert_eq!(split_path("/@demo"), Some(("demo", "/")));
        assert_eq!(split_path("/demo"), None);
        assert_eq!(split_path("//@demo"), None);
    }
}
