//! Cookies ignore ports, so that the control listener's session, and the cookie of a sign-in, come to the app
//! listener of the same host as well: they are kept from scripts, in both directions.

use picloud_core::AppName;
use picloud_edge::{SECURE_SESSION_COOKIE, SECURE_SIGN_IN_COOKIE, SESSION_COOKIE, SIGN_IN_COOKIE};

/// The names of the control plane's cookies.
const SESSION_NAMES: [&str; 4] =
    [SECURE_SESSION_COOKIE, SESSION_COOKIE, SECURE_SIGN_IN_COOKIE, SIGN_IN_COOKIE];

/// The cookies without the platform's session; `None` if it is not among them.
pub(super) fn without_session(cookies: &str) -> Option<String> {
    if !cookies.contains(SESSION_COOKIE) && !cookies.contains(SIGN_IN_COOKIE) {
        return None;
    }
    let kept = cookies.split(';').map(str::trim).filter(|cookie| !is_session(name_of(cookie)));
    Some(kept.collect::<Vec<_>>().join("; "))
}

/// What a script's `set-cookie` becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SetCookie {
    /// It stays as it is.
    Unchanged,
    /// It is for less than the script said: for the host that sets it and not for its siblings, which are other apps,
    /// and where apps share a host for the app's own path.
    Changed(String),
    /// It sets the platform's session.
    Refused,
}

/// Checks a script's `set-cookie`; `app` is given where it shares its host with others.
pub(super) fn check_set_cookie(value: &str, app: Option<&AppName>) -> SetCookie {
    let mut parts = value.split(';');
    let pair = parts.next().unwrap_or_default();
    if is_session(sent_name(pair.trim())) {
        return SetCookie::Refused;
    }
    let own_path = app.map(|app| format!("/@{app}"));
    let is_kept = |part: &&str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim() {
            name if name.eq_ignore_ascii_case("domain") => false,
            name if name.eq_ignore_ascii_case("path") => own_path.as_ref().is_none_or(|own| {
                value
                    .trim()
                    .strip_prefix(own.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
            _ => true,
        }
    };
    let mut changed = pair.to_owned();
    for part in parts.filter(is_kept) {
        changed.push(';');
        changed.push_str(part);
    }
    let has_path = changed.split(';').skip(1).any(|part| name_of(part).eq_ignore_ascii_case("path"));
    if let Some(own) = own_path
        && !has_path
    {
        changed.push_str("; Path=");
        changed.push_str(&own);
    }
    if changed == value { SetCookie::Unchanged } else { SetCookie::Changed(changed) }
}

/// The name under which a browser sends a cookie back: one without a name is sent as its value alone, which then
/// reads as name and value (RFC 6265bis, 5.7).
fn sent_name(pair: &str) -> &str {
    match pair.split_once('=') {
        Some((name, value)) if name.trim().is_empty() => name_of(value),
        _ => name_of(pair),
    }
}

fn name_of(cookie: &str) -> &str {
    cookie.split('=').next().unwrap_or_default().trim()
}

/// Browsers compare the prefix without case.
fn is_session(name: &str) -> bool {
    SESSION_NAMES.iter().any(|session| name.eq_ignore_ascii_case(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_taken_out_of_requests() {
        assert_eq!(without_session("a=1; b=2"), None);
        assert_eq!(without_session("a=1; picloud_session=x; b=2").as_deref(), Some("a=1; b=2"));
        assert_eq!(without_session("__Host-picloud_session=x").as_deref(), Some(""));
        assert_eq!(without_session("a=1; picloud_sign_in=x").as_deref(), Some("a=1"));
        assert_eq!(without_session("__Host-picloud_sign_in=x").as_deref(), Some(""));
        assert_eq!(without_session("a=picloud_session").as_deref(), Some("a=picloud_session"));
        assert_eq!(without_session(" picloud_session = x;a=1").as_deref(), Some("a=1"));
    }

    #[test]
    fn a_cookie_under_the_path_form_is_for_its_app() {
        let app = AppName::new("demo").unwrap();
        for value in ["a=1; Path=/@demo", "a=1; path=/@demo/admin; Secure"] {
            assert_eq!(check_set_cookie(value, Some(&app)), SetCookie::Unchanged, "{value}");
        }
        for value in
            ["a=1", "a=1; Path=/", "a=1; PATH=/@other", "a=1; path=/@demolition; Domain=x", "a=1; Path"]
        {
            let expected = SetCookie::Changed("a=1; Path=/@demo".into());
            assert_eq!(check_set_cookie(value, Some(&app)), expected, "{value}");
        }
    }

    #[test]
    fn a_script_sets_cookies_for_its_own_host_only() {
        assert_eq!(check_set_cookie("a=1; Path=/", None), SetCookie::Unchanged);
        assert_eq!(check_set_cookie("domain=1; Path=/", None), SetCookie::Unchanged);
        let cases = [
            ("a=1; Domain=example.com; Path=/", "a=1; Path=/"),
            ("a=1;DOMAIN=.example.com", "a=1"),
            ("a=1; domain ; secure", "a=1; secure"),
        ];
        for (value, expected) in cases {
            assert_eq!(check_set_cookie(value, None), SetCookie::Changed(expected.to_owned()), "{value}");
        }
        for value in [
            "=picloud_session=x",
            " = __Host-picloud_session=x",
            "picloud_session=x",
            " __Host-picloud_session =x",
            "PICLOUD_SESSION=x; Path=/",
            "picloud_sign_in=x",
            "__Host-picloud_sign_in=x",
        ] {
            assert_eq!(check_set_cookie(value, None), SetCookie::Refused, "{value}");
        }
    }

    /// Cookies by name as other programs read them.
    fn sent(cookies: &str) -> Vec<String> {
        cookies
            .split(';')
            .map(|pair| pair.split('=').next().unwrap_or_default().trim().to_lowercase())
            .collect()
    }

    #[test]
    fn any_cookies_lose_the_session_and_nothing_else() {
        bolero::check!(name = "cookies").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                const PARTS: [&str; 12] = [
                    "picloud_session",
                    "__Host-",
                    "=",
                    ";",
                    " ",
                    "a",
                    "\"",
                    ",",
                    "PICLOUD_SESSION",
                    "\t",
                    "x=1",
                    "==",
                ];
                let cookies: String = input.iter().map(|byte| PARTS[usize::from(byte % 12)]).collect();
                let kept = without_session(&cookies).unwrap_or_else(|| cookies.clone());
                let is_ours =
                    |name: &String| SESSION_NAMES.iter().any(|ours| ours.eq_ignore_ascii_case(name));
                let before = sent(&cookies);
                // A name in another case is another cookie to this platform, which never reads it.
                let exact = |cookies: &str| {
                    cookies.split(';').any(|pair| {
                        SESSION_NAMES.contains(&pair.split('=').next().unwrap_or_default().trim())
                    })
                };
                assert!(!exact(&kept), "{cookies:?} -> {kept:?}");
                let others = |names: &[String]| {
                    names.iter().filter(|name| !is_ours(name)).cloned().collect::<Vec<_>>()
                };
                if exact(&cookies) && !kept.is_empty() {
                    assert_eq!(others(&sent(&kept)), others(&before), "{cookies:?} -> {kept:?}");
                }
            },
        );
    }

    #[test]
    fn any_set_cookie_stays_with_its_host_and_app() {
        let app = AppName::new("demo").unwrap();
        bolero::check!(name = "set-cookie").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                const PARTS: [&str; 14] = [
                    "picloud_session",
                    "=",
                    ";",
                    " ",
                    "a",
                    "Domain",
                    "domain",
                    "path",
                    "Path",
                    "/@demo",
                    "/@other",
                    "/",
                    ".x",
                    "__Host-",
                ];
                let value: String = input.iter().map(|byte| PARTS[usize::from(byte % 14)]).collect();
                for app in [None, Some(&app)] {
                    let set = match check_set_cookie(&value, app) {
                        SetCookie::Refused => continue,
                        SetCookie::Unchanged => value.clone(),
                        SetCookie::Changed(set) => set,
                    };
                    let mut parts = set.split(';').map(|part| part.split_once('=').unwrap_or((part, "")));
                    let (name, content) = parts.next().unwrap();
                    assert!(!is_session(name.trim()), "{value:?}");
                    assert!(!name.trim().is_empty() || !is_session(name_of(content)), "{value:?}");
                    let attributes: Vec<_> = parts
                        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
                        .collect();
                    assert!(attributes.iter().all(|(name, _)| name != "domain"), "{value:?} -> {set:?}");
                    if app.is_some() {
                        let mut paths = attributes.iter().filter(|(name, _)| name == "path").peekable();
                        assert!(paths.peek().is_some(), "{value:?} -> {set:?}");
                        assert!(
                            paths.all(|(_, path)| path == "/@demo" || path.starts_with("/@demo/")),
                            "{set:?}"
                        );
                    }
                }
            },
        );
    }
}
