//! A script's answer, validated before anything of it is committed or sent.
//!
//! Refused as `bad_response` is what cannot be sent as it is: a status that is none, header names and values
//! that HTTP does not allow, too many or too large headers, more than one content type, a body over the limit,
//! the platform's session cookie. Dropped is what the platform decides itself: hop-by-hop headers,
//! `content-length`, `picloud-*`, and `Domain` in `set-cookie`; scripts that pass on another server's answer have
//! them and mean no harm. Where apps share an origin, so is what would concern the others: headers for the whole
//! origin, and cookies outside of the app's path.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE},
};
use http_body_util::Full;
use picloud_core::{AppName, ErrorCode, Fault, HttpResponse, Limits};

use super::{
    cookies::{SetCookie, check_set_cookie},
    headers::{is_of_origin, is_platforms},
};

/// The most bytes of all headers of an answer.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What keeps a page of one app from the others where all share an origin.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox allow-scripts allow-forms");

/// Whom an app shares its origin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// With nobody: it has a host of its own.
    Own,
    /// With every app that is addressed by path.
    Shared,
}

/// Checks an answer and makes it a response.
pub(crate) fn validate(
    answer: HttpResponse,
    limits: &Limits,
    app: &AppName,
    origin: Origin,
) -> Result<Response<Full<Bytes>>, Fault> {
    let status = status(answer.status)?;
    if answer.body.len() as u64 > limits.response_bytes {
        let (size, limit) = (answer.body.len(), limits.response_bytes);
        return Err(bad(format!("the body has {size} bytes; the limit is {limit}")));
    }
    let neighbours = (origin == Origin::Shared).then_some(app);
    let mut headers = headers(answer.headers, limits, neighbours)?;
    let is_bodiless =
        matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if is_bodiless { Bytes::new() } else { answer.body };
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    guard_page(&mut headers, origin);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Keeps a page away from the other apps of its origin.
pub(super) fn guard_page(headers: &mut HeaderMap, origin: Origin) {
    if origin == Origin::Shared && is_page(headers) {
        // A further policy beside the script's own: browsers obey both.
        headers.append(CONTENT_SECURITY_POLICY, SANDBOX);
    }
}

fn status(status: i64) -> Result<StatusCode, Fault> {
    let allowed = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    let allowed = allowed.and_then(|status| StatusCode::from_u16(status).ok());
    allowed.ok_or_else(|| bad(format!("the status is {status}; allowed is 200 to 599")))
}

/// `app` is given where the app has neighbours on its origin.
fn headers(given: Vec<(String, String)>, limits: &Limits, app: Option<&AppName>) -> Result<HeaderMap, Fault> {
    let is_type = |name: &str| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str());
    let types = check_types(given.iter().filter(|(name, _)| is_type(name)).map(|(_, value)| value.as_str()))?;
    // The type does not count: where a script gives none, the interpreter adds one.
    let (count, limit) = (given.len() - types, limits.response_headers);
    if count as u64 > limit {
        return Err(bad(format!("the answer has {count} headers; the limit is {limit}")));
    }
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        return Err(bad(format!("the headers have {bytes} bytes; the limit is {MAX_HEADER_BYTES}")));
    }
    // Room for those that the platform adds.
    let mut headers = HeaderMap::with_capacity(given.len() + 3);
    for (name, value) in given {
        let Ok(key) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(bad(format!("{name:?} cannot be the name of a header")));
        };
        if is_platforms(&key) || (app.is_some() && is_of_origin(&key)) {
            continue;
        }
        let value = if key == SET_COOKIE {
            match check_set_cookie(&value, app) {
                SetCookie::Unchanged => value,
                SetCookie::Changed(changed) => changed,
                SetCookie::Refused => return Err(bad("set-cookie names the platform's own session".into())),
            }
        } else {
            value
        };
        let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) else {
            return Err(bad(format!("the value of the header {name:?} contains a control character")));
        };
        headers.append(key, value);
    }
    Ok(headers)
}

/// Refuses more than one content type, as several headers or as a list in one: browsers take the last of them,
/// others the first, so that what was checked would not be what is shown. Gives how many there are.
fn check_types<'a>(mut types: impl Iterator<Item = &'a str>) -> Result<usize, Fault> {
    let Some(one) = types.next() else { return Ok(0) };
    let more = types.count();
    if more > 0 {
        return Err(bad(format!("the answer has {} content-type headers; allowed is one", more + 1)));
    }
    if has_list(one) {
        return Err(bad(format!("the content-type {one:?} lists several types; an answer has one")));
    }
    Ok(1)
}

/// Whether a header's value has a comma outside of quotes, or after a quote that is never closed.
fn has_list(value: &str) -> bool {
    let (mut is_quoted, mut quoted_comma) = (false, false);
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => (is_quoted, quoted_comma) = (!is_quoted, false),
            b'\\' if is_quoted => {
                bytes.next();
            }
            b',' if is_quoted => quoted_comma = true,
            b',' => return true,
            _ => {}
        }
    }
    is_quoted && quoted_comma
}

/// Whether a browser could show the answer as a document that runs scripts. XML can, SVG among it, and the parts of a
/// multipart answer have types of their own; a type that is none may be guessed.
fn is_page(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Ok(text) = value.to_str() else { return true };
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_document = matches!(media_type.as_str(), "text/html" | "text/xsl")
        || media_type.ends_with("xml")
        || media_type.starts_with("multipart/");
    is_document || is_guessed(&media_type)
}

/// Whether a browser looks at the body instead of this type
/// (<https://mimesniff.spec.whatwg.org/#mime-type-sniffing-algorithm>).
fn is_guessed(media_type: &str) -> bool {
    let is_token = |text: &str| {
        let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(is_tchar)
    };
    let is_type = media_type.split_once('/').is_some_and(|(kind, name)| is_token(kind) && is_token(name));
    !is_type || matches!(media_type, "unknown/unknown" | "application/unknown" | "*/*")
}

fn bad(message: String) -> Fault {
    Fault::new(ErrorCode::BadResponse, message)
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn answer(status: i64, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn app() -> AppName {
        AppName::new("demo").unwrap()
    }

    fn check(answer: HttpResponse) -> Result<Response<Full<Bytes>>, String> {
        validate(answer, &Limits::default(), &app(), Origin::Own).map_err(|fault| {
            assert_eq!(fault.code, ErrorCode::BadResponse);
            fault.message
        })
    }

    #[test]
    fn a_status_is_200_to_599() {
        for status in [200, 204, 404, 599] {
            assert_eq!(i64::from(check(answer(status, &[], "")).unwrap().status().as_u16()), status);
        }
        for status in [i64::MIN, -1, 0, 99, 100, 101, 199, 600, 1000, 65_736, i64::MAX] {
            assert!(check(answer(status, &[], "")).unwrap_err().contains("200 to 599"), "{status}");
        }
    }

    #[test]
    fn headers_that_http_does_not_allow_are_refused() {
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("é", "x"),
            ("a\0", "x"),
            ("a:", "x"),
            ("a", "x\r\ny: z"),
            ("a", "\0"),
            ("a", "\n"),
        ] {
            assert!(check(answer(200, &[(name, value)], "")).is_err(), "{name:?}: {value:?}");
        }
        let many: Vec<_> = (0..101).map(|_| ("a", "b")).collect();
        assert!(check(answer(200, &many, "")).unwrap_err().contains("limit is 100"));
        assert!(check(answer(200, &[("a", &"x".repeat(70_000))], "")).is_err());
        assert!(check(answer(200, &[("set-cookie", "picloud_session=x")], "")).is_err());
    }

    #[test]
    fn the_type_that_is_added_does_not_use_up_a_header() {
        let mut given: Vec<_> = (0..100).map(|_| ("a", "b")).collect();
        given.push(("Content-Type", "text/plain"));
        assert_eq!(check(answer(200, &given, "x")).unwrap().headers().len(), 101);
        given.push(("a", "b"));
        assert!(check(answer(200, &given, "x")).unwrap_err().contains("101 headers; the limit is 100"));
    }

    #[test]
    fn an_answer_has_one_content_type() {
        let types = |values: &[&str]| {
            let given: Vec<_> = values.iter().map(|value| ("Content-Type", *value)).collect();
            check(answer(200, &given, "x"))
        };
        let two = types(&["text/plain", "text/html"]).unwrap_err();
        assert_eq!(two, "the answer has 2 content-type headers; allowed is one");
        for list in [
            "text/plain, text/html",
            "text/plain;a=\"b\",text/html",
            "text/plain;a=\"\\\"\",text/html",
            "text/plain;a=\", text/html",
        ] {
            assert!(types(&[list]).unwrap_err().contains("lists several types"), "{list}");
        }
        for one in ["text/plain; charset=utf-8", "multipart/mixed; boundary=\"a,\\\",b\""] {
            assert!(types(&[one]).is_ok(), "{one}");
        }
    }

    #[test]
    fn what_the_platform_decides_is_dropped() {
        let given = [
            ("Content-Length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "x"),
            ("picloud-error", "x"),
            ("set-cookie", "a=1; Domain=example.com"),
            ("X-Own", "ü"),
        ];
        let response = check(answer(200, &given, "")).unwrap();
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["set-cookie", "x-own"]);
        assert_eq!(response.headers()[SET_COOKIE], "a=1");
        assert_eq!(response.headers()["x-own"].as_bytes(), "ü".as_bytes());
    }

    #[test]
    fn under_the_path_form_an_answer_concerns_its_own_app_only() {
        let given =
            answer(200, &[("clear-site-data", "*"), ("Alt-Svc", "x"), ("set-cookie", "a=1; Path=/@x")], "");
        let response = validate(given, &Limits::default(), &app(), Origin::Shared).unwrap();
        assert_eq!(response.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["set-cookie"]);
        assert_eq!(response.headers()[SET_COOKIE], "a=1; Path=/@demo");
    }

    #[test]
    fn under_the_path_form_no_header_holds_for_the_origin() {
        let of_origin = [
            "accept-ch",
            "activate-storage-access",
            "alt-svc",
            "attribution-reporting-register-source",
            "clear-site-data",
            "critical-ch",
            "expect-ct",
            "idp-signin-status",
            "nel",
            "origin-agent-cluster",
            "public-key-pins",
            "report-to",
            "reporting-endpoints",
            "secure-session-registration",
            "service-worker-allowed",
            "set-login",
            "shared-storage-write",
            "speculation-rules",
            "strict-transport-security",
            "supports-loading-mode",
            "use-as-dictionary",
        ];
        let given: Vec<_> = of_origin.iter().map(|name| (*name, "x")).collect();
        let kept = |origin| {
            validate(answer(200, &given, ""), &Limits::default(), &app(), origin).unwrap().headers().len()
        };
        assert_eq!((kept(Origin::Shared), kept(Origin::Own)), (0, of_origin.len()));
    }

    #[test]
    fn bodies_have_a_limit_a_type_and_a_time() {
        assert!(check(answer(200, &[], &"x".repeat(1024 * 1024 + 1))).unwrap_err().contains("limit is"));
        let response = check(answer(200, &[], "x")).unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/octet-stream");
        for status in [204, 205, 304] {
            let response = check(answer(status, &[], "x")).unwrap();
            assert!(response.body().is_end_stream(), "{status}");
        }
    }

    #[test]
    fn pages_under_the_path_form_are_sandboxed() {
        let policies = |content_type: &str| {
            let own = ("content-security-policy", "default-src 'self'");
            let given = answer(200, &[("content-type", content_type), own], "x");
            let response = validate(given, &Limits::default(), &app(), Origin::Shared).unwrap();
            response.headers().get_all(CONTENT_SECURITY_POLICY).iter().count()
        };
        for page in [
            "text/html",
            "TEXT/HTML; charset=utf-8",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xsl",
            "multipart/x-mixed-replace; boundary=x",
            "html",
            "",
            "*/*",
            "unknown/unknown",
            "text/pl ain",
        ] {
            assert_eq!(policies(page), 2, "{page}");
        }
        for other in ["application/json", "text/plain; charset=utf-8", "image/png"] {
            assert_eq!(policies(other), 1, "{other}");
        }
    }
}
