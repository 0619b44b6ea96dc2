//! The header block as a script sees it, and which headers belong to a connection rather than to a message.

use std::fmt::Write as _;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
    uri::Authority,
};

use super::cookies;

/// Whether a header concerns one connection (RFC 9110, 7.6.1). Requests lose them on the way to a script,
/// answers on the way from it: the platform owns the connection and the framing.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION | TE | TRAILER | TRANSFER_ENCODING | UPGRADE | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Whether a header says who the client is, which only a trusted proxy may.
fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

/// The header block: `name: value\n` lines in the order they came.
///
/// A value that is not UTF-8 is read as Latin-1, so that every byte is a character. `host` is there in HTTP/2
/// as well.
pub(super) fn block(headers: &HeaderMap, authority: Option<&Authority>, is_proxied: bool) -> String {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum();
    let mut block = String::with_capacity(size + 64);
    if let Some(authority) = authority
        && !headers.contains_key(HOST)
    {
        line(&mut block, HOST.as_str(), authority.as_str());
    }
    for (name, value) in headers {
        if is_hop_by_hop(name) || *name == EXPECT || (!is_proxied && is_forwarding(name)) {
            continue;
        }
        if *name == AUTHORIZATION && is_platforms_token(value) {
            continue;
        }
        match std::str::from_utf8(value.as_bytes()) {
            Ok(value) if *name == COOKIE => match cookies::without_session(value) {
                Some(rest) if rest.is_empty() => {}
                Some(rest) => line(&mut block, name.as_str(), &rest),
                None => line(&mut block, name.as_str(), value),
            },
            Ok(value) => line(&mut block, name.as_str(), value),
            // A session cookie beside bytes that are not UTF-8 must not slip through either.
            Err(_) if *name == COOKIE => {}
            Err(_) => latin1_line(&mut block, name.as_str(), value),
        }
    }
    block
}

/// Whether this has a token of the management API, sent to an app by mistake: no script may learn it. In whatever
/// scheme or none, since a mistake may be in that as well.
fn is_platforms_token(value: &HeaderValue) -> bool {
    let has_token = |bytes: &[u8]| bytes.windows(4).any(|part| part == b"pcl_");
    // As the password of `curl -u`, it is in base64.
    let is_separator = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'"');
    let decoded = value.as_bytes().split(is_separator).filter_map(|word| LENIENT.decode(word).ok());
    has_token(value.as_bytes()) || decoded.into_iter().any(|word| has_token(&word))
}

/// Base64 with or without its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn line(block: &mut String, name: &str, value: &str) {
    block.push_str(name);
    block.push_str(": ");
    block.push_str(value);
    block.push('\n');
}

fn latin1_line(block: &mut String, name: &str, value: &HeaderValue) {
    let _ = write!(block, "{name}: ");
    block.extend(value.as_bytes().iter().map(|byte| char::from(*byte)));
    block.push('\n');
}

/// Whether a script's answer may not set this header, because the platform does.
pub(super) fn is_platforms(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || is_hop_by_hop(name) || name.as_str().starts_with("picloud-")
}

/// Whether a header of an answer holds for a whole origin or reaches paths of other apps, and so concerns all apps that
/// share the origin.
pub(super) fn is_of_origin(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        // The connection, its certificate, and where it leads.
        "alt-svc" | "expect-ct" | "public-key-pins" | "public-key-pins-report-only" | "strict-transport-security"
        // What the browser keeps for the origin: data, sessions, the state of a login, a process.
        | "activate-storage-access" | "clear-site-data" | "idp-signin-status" | "origin-agent-cluster"
        | "secure-session-registration" | "sec-session-registration" | "set-login" | "shared-storage-write"
        // What it tells with every request or of every failure.
        | "accept-ch" | "accept-ch-lifetime" | "critical-ch" | "nel" | "report-to" | "reporting-endpoints"
        // Which other paths it takes over, loads ahead or shows.
        | "service-worker-allowed" | "speculation-rules" | "supports-loading-mode" | "use-as-dictionary"
    ) || name.starts_with("attribution-reporting-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_script_sees_what_concerns_the_message() {
        let headers = headers(&[
            ("host", b"a.localhost"),
            ("connection", b"keep-alive"),
            ("x-forwarded-for", b"6.6.6.6"),
            ("forwarded", b"for=6.6.6.6"),
            ("x-tag", b"1"),
            ("x-tag", b"2"),
            ("x-latin", b"caf\xe9"),
            ("x-utf8", "café".as_bytes()),
        ]);
        assert_eq!(
            block(&headers, None, false),
            "host: a.localhost\nx-tag: 1\nx-tag: 2\nx-latin: café\nx-utf8: café\n"
        );
        assert!(block(&headers, None, true).contains("x-forwarded-for: 6.6.6.6\n"));
    }

    #[test]
    fn http_2_has_a_host_too() {
        let authority = Authority::from_static("a.localhost");
        assert_eq!(block(&HeaderMap::new(), Some(&authority), false), "host: a.localhost\n");
    }

    #[test]
    fn a_token_of_the_platform_stays_out() {
        for value in [
            b"Bearer pcl_abc".as_slice(),
            b"bearer  pcl_abc",
            b"pcl_abc",
            b"Basic pcl_abc",
            b"Bearer \"pcl_abc\"",
            b"token=pcl_abc",
            b"Basic eDpwY2xfYWJj",
            b"Basic eDpwY2xfYWJjZA",
        ] {
            assert_eq!(block(&headers(&[("authorization", value)]), None, false), "");
        }
        let basic = block(&headers(&[("authorization", b"Basic YWRhOnNlY3JldA==")]), None, false);
        assert_eq!(basic, "authorization: Basic YWRhOnNlY3JldA==\n");
        let own = block(&headers(&[("authorization", b"Bearer abc")]), None, false);
        assert_eq!(own, "authorization: Bearer abc\n");
    }

    #[test]
    fn the_platforms_session_stays_out() {
        let seen = block(&headers(&[("cookie", b"a=1; picloud_session=x")]), None, false);
        assert_eq!(seen, "cookie: a=1\n");
        assert_eq!(block(&headers(&[("cookie", b"__Host-picloud_session=x")]), None, false), "");
        assert_eq!(block(&headers(&[("cookie", b"picloud_session=x; a=\xff")]), None, false), "");
    }
}
