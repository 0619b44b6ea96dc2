//! `application/problem+json` (RFC 9457).

use std::{borrow::Cow, io::Write as _};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use picloud_core::{ErrorCode, RequestId};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{status_of, title_of};

/// Tells an error of the platform from a script's own.
pub const PICLOUD_ERROR: HeaderName = HeaderName::from_static("picloud-error");

/// Names the request, on every answer.
pub const PICLOUD_REQUEST_ID: HeaderName = HeaderName::from_static("picloud-request-id");

/// Seconds after which a client that was refused for load should come again, where nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The longest text in a problem, in bytes. What is longer repeats what somebody gave.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// A request id as a header value.
pub fn request_id_value(id: RequestId) -> HeaderValue {
    let mut text = [0; 36];
    let text = id.as_uuid().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

/// An error answer.
///
/// In JSON it has `type` (`urn:picloud:error:CODE`), `title`, `status`, `detail`, `instance`, `code`,
/// `request_id`, and whatever [`Self::with`] adds. Everything in it is shown to the client.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: ErrorCode,
    status: StatusCode,
    detail: Cow<'static, str>,
    request_id: Option<RequestId>,
    instance: Option<String>,
    members: Vec<(&'static str, Value)>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem with the status of its code and a detail that repeats the title. Refusals for load ask the
    /// client to come again after a second.
    pub fn new(code: ErrorCode) -> Self {
        Self(Box::new(Parts {
            code,
            status: status_of(code),
            detail: Cow::Borrowed(title_of(code)),
            request_id: None,
            instance: None,
            members: Vec::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// What happened this time, for people. Cut at 8 KiB: it may repeat what a client gave, which can be as long as a
    /// body.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        self.0.detail = if detail.len() > MAX_TEXT_BYTES { cut(&detail).into() } else { detail };
        self
    }

    /// Another status than the code's own ([`status_of_run`](crate::status_of_run)).
    pub fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// The request that failed.
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.0.request_id = Some(id);
        self
    }

    /// What the request was for: its path.
    pub fn instance(mut self, path: impl Into<String>) -> Self {
        self.0.instance = Some(path.into());
        self
    }

    /// Adds a member (`script`, `line`, `field`, ...). A value that is not JSON is left out, a text is cut as
    /// [`detail`](Self::detail) is.
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        if let Ok(mut value) = serde_json::to_value(value) {
            if let serde_json::Value::String(text) = &mut value
                && text.len() > MAX_TEXT_BYTES
            {
                *text = cut(text);
            }
            self.0.members.push((name, value));
        }
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The methods that are allowed, as the value of `Allow`.
    pub fn allow(self, methods: &str) -> Self {
        match HeaderValue::from_str(methods) {
            Ok(value) => self.header(ALLOW, value),
            Err(_) => self,
        }
    }

    /// When the client should come again.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Closes the connection after this answer, because what follows on it cannot be trusted or is not read.
    pub fn close(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Its code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The status it is answered with.
    pub fn http_status(&self) -> StatusCode {
        self.0.status
    }

    /// The detail it is answered with.
    pub fn text(&self) -> &str {
        &self.0.detail
    }

    /// The problem as an answer with any body type that bytes can become.
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let body = Bytes::from(serde_json::to_vec(&self).unwrap_or_default());
        let mut response = Response::new(B::from(body));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        *headers = self.0.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PICLOUD_ERROR, HeaderValue::from_static(self.0.code.as_str()));
        if let Some(id) = self.0.request_id {
            headers.insert(PICLOUD_REQUEST_ID, request_id_value(id));
        }
        if matches!(self.0.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.entry(RETRY_AFTER).or_insert(HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }

    /// The problem as the bytes of an HTTP/1.1 answer that ends the connection, for where there is no request
    /// to answer yet.
    pub(crate) fn into_http1(self) -> Bytes {
        let response: Response<Bytes> = self.request_id(RequestId::generate()).close().into_response();
        let (mut parts, body) = response.into_parts();
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let reason = parts.status.canonical_reason().unwrap_or_default();
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
        for (name, value) in &parts.headers {
            let _ = write!(text, "{name}: ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&body);
        Bytes::from(text)
    }
}

fn cut(text: &str) -> String {
    format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT_BYTES)])
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:picloud:error:{}", self.0.code))?;
        map.serialize_entry("title", title_of(self.0.code))?;
        map.serialize_entry("status", &self.0.status.as_u16())?;
        map.serialize_entry("detail", &self.0.detail)?;
        if let Some(instance) = &self.0.instance {
            map.serialize_entry("instance", instance)?;
        }
        map.serialize_entry("code", &self.0.code)?;
        if let Some(id) = &self.0.request_id {
            map.serialize_entry("request_id", id)?;
        }
        for (name, value) in &self.0.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_problem_repeats_is_cut() {
        let long = "é".repeat(1_000_000);
        let problem =
            Problem::new(ErrorCode::Invalid).detail(long.clone()).with("field", &long).with("line", 3);
        let response: Response<Bytes> = problem.into_response();
        assert!(response.body().len() < 3 * MAX_TEXT_BYTES, "{}", response.body().len());
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        assert!(json["detail"].as_str().unwrap().ends_with("é…"));
        assert_eq!(json["line"], 3);
    }

    #[test]
    fn a_problem_says_what_happened_in_headers_and_body() {
        let id = RequestId::generate();
        let problem = Problem::new(ErrorCode::NodeBusy).request_id(id).instance("/a").with("line", 3);
        let response: Response<Bytes> = problem.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[PICLOUD_ERROR], "node_busy");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[PICLOUD_REQUEST_ID], id.to_string().as_str());
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:picloud:error:node_busy",
                "title": "The node is busy",
                "status": 503,
                "detail": "The node is busy",
                "instance": "/a",
                "code": "node_busy",
                "request_id": id.to_string(),
                "line": 3,
            })
        );
    }

    #[test]
    fn a_raw_problem_is_a_whole_answer() {
        let text = Problem::new(ErrorCode::HeadersTooLarge).into_http1();
        let text = std::str::from_utf8(&text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert!(head.contains("picloud-error: headers_too_large"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}
