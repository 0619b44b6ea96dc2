//! Headers: those that a script may send, and those that go along to another origin.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT, ACCEPT_LANGUAGE, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
        CONTENT_TYPE, EXPECT, HOST, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
    },
};

use crate::failure::Failure;

/// The most headers that a script may send, and their most bytes.
const MOST: usize = 64;
const BYTES: usize = 32 << 10;

/// What belongs to the connection, and not to the request.
const NOT_THE_SCRIPTS: [HeaderName; 8] =
    [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TE, TRAILER, UPGRADE, EXPECT];
const NOT_THE_SCRIPTS_BY_NAME: [&str; 2] = ["keep-alive", "http2-settings"];

/// What is sent along when a redirect leads to another origin. Anything else may be a credential: services have it in
/// headers of many names.
const FOR_OTHERS: [HeaderName; 7] =
    [ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, CONTENT_LANGUAGE, CONTENT_ENCODING, RANGE, USER_AGENT];

/// What describes a body, and goes with it.
const OF_THE_BODY: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_LANGUAGE, CONTENT_ENCODING];

const OWN_USER_AGENT: HeaderValue = HeaderValue::from_static("PiCloud");
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// The headers that a script sends. Values are never told: one may be a secret.
pub(crate) fn checked(given: &[(String, String)]) -> Result<HeaderMap, Failure> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > MOST || bytes > BYTES {
        return Err(Failure::Invalid(format!(
            "there are {} headers of {bytes} bytes; allowed are {MOST} of {} KiB",
            given.len(),
            BYTES >> 10
        )));
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 3);
    for (name, value) in given {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(Failure::Invalid(format!("{name:?} is no name of a header")));
        };
        if is_not_the_scripts(&known) {
            return Err(Failure::Invalid(format!("the header {known} cannot be set; PiCloud sets it")));
        }
        let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else {
            return Err(Failure::Invalid(format!(
                "the header {known} has a line end or another control character"
            )));
        };
        headers.append(known, value);
    }
    headers.entry(USER_AGENT).or_insert(OWN_USER_AGENT);
    headers.entry(ACCEPT).or_insert(ANYTHING);
    Ok(headers)
}

fn is_not_the_scripts(name: &HeaderName) -> bool {
    NOT_THE_SCRIPTS.contains(name)
        || NOT_THE_SCRIPTS_BY_NAME.contains(&name.as_str())
        || name.as_str().starts_with("proxy-")
}

/// Leaves only what another origin may see.
pub(crate) fn for_another_origin(headers: &mut HeaderMap) {
    let kept: Vec<_> =
        FOR_OTHERS.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
    *headers = kept.into_iter().collect();
}

/// Takes away what described a body that is not sent again.
pub(crate) fn without_body(headers: &mut HeaderMap) {
    for name in OF_THE_BODY {
        headers.remove(name);
    }
}

/// Headers of an answer as a script gets them.
pub(crate) fn to_script(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_the_connections_cannot_be_set() {
        for name in [
            "host",
            "Host",
            "CONNECTION",
            "content-length",
            "Transfer-Encoding",
            "te",
            "trailer",
            "upgrade",
            "expect",
            "keep-alive",
            "proxy-authorization",
            "Proxy-Connection",
            "proxy-anything",
            "http2-settings",
        ] {
            let refused = checked(&given(&[(name, "x")])).unwrap_err();
            assert!(matches!(refused, Failure::Invalid(_)), "{name}");
        }
    }

    #[test]
    fn line_ends_are_refused_and_values_never_told() {
        for (name, value) in [
            ("x", "hunter2\r\ny: z"),
            ("x", "hunter2\n"),
            ("x", "hunter2\0"),
            ("x\r\ny", "hunter2"),
            ("x y", "hunter2"),
            ("", "hunter2"),
            ("x:", "hunter2"),
        ] {
            let Failure::Invalid(message) = checked(&given(&[(name, value)])).unwrap_err() else {
                panic!("{name}")
            };
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(checked(&given(&[("x", "é\t ")])).is_ok());
    }

    #[test]
    fn headers_are_bounded() {
        assert!(checked(&vec![("x".into(), "y".into()); 64]).is_ok());
        assert!(checked(&vec![("x".into(), "y".into()); 65]).is_err());
        assert!(checked(&[("x".into(), "y".repeat(33 << 10))]).is_err());
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let mut headers = checked(&given(&[
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("x-api-key", "x"),
            ("accept", "text/html"),
            ("content-type", "text/plain"),
        ]))
        .unwrap();
        for_another_origin(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-type", "user-agent"]);
        without_body(&mut headers);
        assert!(!headers.contains_key(CONTENT_TYPE));
    }
}
