//! Who calls: by a bearer token, or by the session cookie of a browser.
//!
//! A browser sends its cookies also where another site's page makes the request. So a session counts only where the
//! browser says that the page is one of this origin: by `sec-fetch-site`, or for a change by `Origin`, which the host
//! guard has compared. `SameSite=Strict` keeps the cookie back as well.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use picloud_core::{ErrorCode, Scope};
use picloud_edge::{SECURE_SESSION_COOKIE, SESSION_COOKIE};
use picloud_store::Store;

use crate::{
    access::{Caller, Credential},
    error::ApiError,
    store_error::from_store,
    token::Secret,
};

const MISSING: &str = "send a token: authorization: Bearer pcl_...";

/// Finds the caller by its bearer token, or where there is no such header by its session.
pub(crate) async fn authenticate(
    store: &Store,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    if headers.contains_key(header::AUTHORIZATION) {
        return by_token(store, &bearer(headers)?).await;
    }
    let secret = session(headers)?;
    check_same_origin(method, headers)?;
    by_session(store, &secret).await
}

async fn by_token(store: &Store, secret: &Secret) -> Result<Caller, ApiError> {
    let Some(grant) = store.authenticate(secret.hash()).await.map_err(from_store)? else {
        return Err(ApiError::unauthenticated("the token is unknown, expired or revoked"));
    };
    Ok(Caller {
        principal: grant.principal,
        credential: Credential::Token(grant.token),
        scopes: grant.scopes,
        app: grant.app,
        expires_at: grant.expires_at,
        role: None,
    })
}

async fn by_session(store: &Store, secret: &Secret) -> Result<Caller, ApiError> {
    let Some(grant) = store.authenticate_session(secret.hash()).await.map_err(from_store)? else {
        return Err(ApiError::unauthenticated("the session is unknown or has ended; sign in again"));
    };
    Ok(Caller {
        principal: grant.principal,
        credential: Credential::Session(grant.session),
        scopes: Scope::ALL.to_vec(),
        app: None,
        expires_at: Some(grant.expires_at),
        role: None,
    })
}

fn bearer(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| ApiError::unauthenticated(MISSING))?;
    if values.next().is_some() {
        return Err(ApiError::unauthenticated("the request has two authorization headers"));
    }
    let text = value.to_str().map_err(|_| ApiError::unauthenticated(MISSING))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Secret::from_text(token.trim())),
        _ => Err(ApiError::unauthenticated(MISSING)),
    }
}

/// The value of the session cookie. Over TLS only the one counts that a sibling host or plain HTTP cannot have set.
fn session(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let secure = cookie(headers, SECURE_SESSION_COOKIE)?;
    let plain = if is_https(headers) { None } else { cookie(headers, SESSION_COOKIE)? };
    secure.or(plain).map(Secret::from_text).ok_or_else(|| ApiError::unauthenticated(MISSING))
}

/// Whether the client's side of the connection is known to be TLS. Anybody may claim it: it only makes stricter.
pub(crate) fn is_https(headers: &HeaderMap) -> bool {
    let says = |name: &str, prefix: &str| {
        headers
            .get(name)
            .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(prefix.as_bytes()))
    };
    says("x-forwarded-proto", "https") || says("origin", "https://")
}

/// The value of a cookie; an error if there are two of its name.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(given, _)| *given == name).map(|(_, value)| value);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(ApiError::unauthenticated("the request has two cookies of one name")),
    }
}

/// Whether the browser says that one of this origin's own pages makes the request, or its user by hand.
fn check_same_origin(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_own = match site {
        Some(b"same-origin") => true,
        Some(b"none") => is_read,
        Some(_) => false,
        // The host guard refuses a change with another origin than this one.
        None => is_read || headers.contains_key(header::ORIGIN),
    };
    if is_own {
        return Ok(());
    }
    let detail = "a session is for pages of this origin: a change needs an Origin header, or sec-fetch-site: same-origin";
    Err(ApiError::new(ErrorCode::Forbidden, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_one_bearer_token_is_read() {
        let read = |values: &[&str]| {
            let lines: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            bearer(&headers(&lines)).ok().map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(read(&["Bearer pcl_1"]).as_deref(), Some("pcl_1"));
        assert_eq!(read(&["bearer  pcl_1"]).as_deref(), Some("pcl_1"));
        for bad in [&[][..], &["pcl_1"], &["Basic pcl_1"], &["Bearer pcl_1", "Bearer pcl_2"]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_one_session_cookie_is_read_and_over_tls_only_the_one_that_cannot_be_planted() {
        let read = |lines: &[(&'static str, &str)]| {
            session(&headers(lines)).ok().map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(read(&[("cookie", "a=b; picloud_session=1")]).as_deref(), Some("1"));
        let both = ("cookie", "picloud_session=1; __Host-picloud_session=2");
        assert_eq!(read(&[both]).as_deref(), Some("2"));
        let https = ("x-forwarded-proto", "https");
        assert_eq!(read(&[("cookie", "picloud_session=1"), https]), None);
        assert_eq!(read(&[both, https]).as_deref(), Some("2"));
        assert_eq!(read(&[("cookie", "picloud_session=1"), ("cookie", "picloud_session=2")]), None);
        assert_eq!(read(&[("cookie", "xpicloud_session=1")]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_session_is_for_pages_of_this_origin() {
        let is_own = |method: Method, lines: &[(&'static str, &str)]| {
            check_same_origin(&method, &headers(lines)).is_ok()
        };
        assert!(is_own(Method::GET, &[]));
        assert!(is_own(Method::GET, &[("sec-fetch-site", "none")]));
        assert!(is_own(Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(is_own(Method::POST, &[("origin", "http://localhost")]));
        for (method, site) in [
            (Method::GET, "cross-site"),
            (Method::GET, "same-site"),
            (Method::PUT, "same-site"),
            (Method::PUT, "none"),
        ] {
            assert!(!is_own(method, &[("sec-fetch-site", site), ("origin", "http://localhost")]), "{site}");
        }
        assert!(!is_own(Method::DELETE, &[]));
    }

    /// One of a few parts for each byte.
    fn text_of(input: &[u8], parts: &[&str]) -> String {
        input.iter().map(|byte| parts[usize::from(*byte) % parts.len()]).collect()
    }

    #[test]
    fn any_authorization_is_one_bearer_token_or_refused() {
        bolero::check!(name = "authorization").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                let text =
                    text_of(input, &["Bearer", "bearer", " ", "pcl_", "a0", "Basic", "\t", ",", "=", "é"]);
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&text).unwrap());
                let Ok(secret) = bearer(&headers) else { return };
                let scheme = text.split(' ').next().unwrap_or_default();
                assert!(scheme.eq_ignore_ascii_case("bearer") && text.is_ascii(), "{text:?}");
                assert!(
                    text.ends_with(secret.reveal()) || text.trim_end().ends_with(secret.reveal()),
                    "{text:?}"
                );
                headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer pcl_x"));
                assert!(bearer(&headers).is_err(), "two of them");
            },
        );
    }

    #[test]
    fn any_cookies_have_one_session_or_none() {
        bolero::check!(name = "session-cookies").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                let parts =
                    ["picloud_session=", "__Host-picloud_session=", "; ", ";", "a", "=", " ", "x=1", "\""];
                let text = text_of(input, &parts);
                let count = |name: &str| {
                    let names = text.split(';').filter_map(|pair| pair.trim().split_once('='));
                    names.filter(|(given, _)| *given == name).count()
                };
                let (plain, secure) = (count(SESSION_COOKIE), count(SECURE_SESSION_COOKIE));
                let value = HeaderValue::from_str(&text).unwrap();
                let mut headers = HeaderMap::from_iter([(header::COOKIE, value)]);
                assert_eq!(
                    session(&headers).is_ok(),
                    secure == 1 && plain <= 1 || secure == 0 && plain == 1,
                    "{text:?}"
                );
                headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
                assert_eq!(session(&headers).is_ok(), secure == 1, "{text:?}");
            },
        );
    }
}
