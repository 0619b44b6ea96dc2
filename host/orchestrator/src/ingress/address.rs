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
        // No app can take over the platform's own names: a domain counts only outside of them.
        let app = match place_of(&host, addressing.domain.as_str()) {
            Place::App(name) => Some(directory.by_name(name).ok_or_else(not_found)?),
            Place::Platform => None,
            Place::Elsewhere => directory.by_domain(&host),
        };
        if let Some(app) = app {
            return Ok(Addressed { app, path, origin: Origin::Own });
        }
    }
    let (name, path) = match addressing.path_form {
        PathForm::On => split_path(path).ok_or_else(|| not_addressed(path))?,
        PathForm::Off => return Err(not_addressed(path)),
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

/// What a host is to the app domain.
#[derive(Debug, PartialEq, Eq)]
enum Place<'h> {
    /// One label below it: an app's name.
    App(&'h str),
    /// The app domain itself, or deeper below it.
    Platform,
    Elsewhere,
}

fn place_of<'h>(host: &'h str, domain: &str) -> Place<'h> {
    match host.strip_suffix(domain) {
        Some("") => Place::Platform,
        Some(rest) => match rest.strip_suffix('.') {
            Some(label) if label.contains('.') => Place::Platform,
            Some(label) => Place::App(label),
            None => Place::Elsewhere,
        },
        None => Place::Elsewhere,
    }
}

/// `/@NAME/rest` as the name and `/rest`.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/@")?;
    Some(match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    })
}

/// No app is named. A client of the management API has mistaken one listener for the other.
fn not_addressed(path: &str) -> Problem {
    if !path.starts_with("/api/v1/") {
        return not_found();
    }
    Problem::new(ErrorCode::AppNotFound).detail(
        "no app answers at this address, which is that of the apps; the management API is on the control listener \
         (PICLOUD_ADMIN_ADDR)",
    )
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
        assert_eq!(place_of("demo.localhost", "localhost"), Place::App("demo"));
        for host in ["localhost", "a.b.localhost"] {
            assert_eq!(place_of(host, "localhost"), Place::Platform, "{host}");
        }
        for host in ["demolocalhost", "localhost.evil.example", "127.0.0.1"] {
            assert_eq!(place_of(host, "localhost"), Place::Elsewhere, "{host}");
        }
    }

    #[test]
    fn the_path_form_keeps_the_rest_as_it_is() {
        assert_eq!(split_path("/@demo/a%2Fb//"), Some(("demo", "/a%2Fb//")));
        assert_eq!(split_path("/@demo"), Some(("demo", "/")));
        assert_eq!(split_path("/demo"), None);
        assert_eq!(split_path("//@demo"), None);
    }

    #[test]
    fn any_host_leads_to_one_label_at_most() {
        bolero::check!(name = "app-of-host").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                const PARTS: [&str; 8] = ["apps", ".", "example", "a", "A", ".apps.example", "-", ""];
                let text: String = input.iter().map(|byte| PARTS[usize::from(byte % 8)]).collect();
                let host = canonical(&text);
                assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()));
                let is_below = host.split('.').rev().take(2).eq(["example", "apps"]);
                match place_of(&host, "apps.example") {
                    Place::App(label) => {
                        assert!(is_below && !label.contains('.'), "{text:?}");
                        assert_eq!(host, format!("{label}.apps.example"));
                    }
                    Place::Platform => assert!(is_below, "{text:?}"),
                    Place::Elsewhere => assert!(!is_below, "{text:?}"),
                }
            },
        );
    }
}
