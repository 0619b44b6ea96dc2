//! One server's management API over HTTP.

use std::{
    io::{BufReader, Read},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::{
    Agent, Body,
    http::{Method, Request, Response, StatusCode},
};

use super::{
    CommonArgs, ConnectionArgs,
    error::{ClientError, Problem},
    login::{Logins, is_this_machine, owner_token},
    suggest::suggestion,
};
use crate::{config::DataDirArgs, terminal};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

/// How long a call may take: an invocation may run for minutes where the ceiling allows it.
const CALL_LIMIT: Duration = Duration::from_mins(20);

/// How long a look at a server's state may take.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// A server and the token for it.
#[derive(Debug)]
pub(super) struct Api {
    agent: Agent,
    url: String,
    token: Option<String>,
    /// The session of a sign-in.
    cookie: Option<String>,
}

/// What goes with a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    /// Nothing.
    None,
    /// A JSON value.
    Json(&'a Value),
    /// JSON text as it is.
    JsonText(&'a str),
    /// Text that is a value itself.
    Text(&'a str),
    /// The content of a file.
    Bytes {
        /// The content.
        content: &'a [u8],
        /// Its media type, where it is not for the server to tell.
        content_type: Option<&'a str>,
    },
}

impl Api {
    /// The server that the arguments name, with the token that is found for it.
    pub(super) fn connect(common: &CommonArgs) -> Result<Self, ClientError> {
        let args = &common.connection;
        let mut api = Self::without_token(args);
        let token = match &args.token {
            Some(token) => Some(token.trim().to_owned()),
            None => find_token(&api.url, &args.data)?,
        };
        if token.is_none() {
            return Err(ClientError::NoToken(api.url, data_folder_hint(&args.data)));
        }
        api.warn_of_plain_http(common, "the token");
        api.token = token;
        Ok(api)
    }

    /// Says that a secret goes over the network in clear. With `--json` standard error has one object or nothing.
    pub(super) fn warn_of_plain_http(&self, common: &CommonArgs, secret: &str) {
        if !common.json && self.url.starts_with("http:") && !is_this_machine(&self.url) {
            terminal::warning(format_args!("{secret} goes to {} unencrypted", self.url));
        }
    }

    /// The server that the arguments name, for calls that need no token.
    pub(super) fn without_token(args: &ConnectionArgs) -> Self {
        let url = args.url();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            .user_agent(concat!("picloud/", env!("CARGO_PKG_VERSION")));
        if is_this_machine(&url) {
            config = config.proxy(None);
        }
        Self { agent: config.build().into(), url, token: None, cookie: None }
    }

    /// The server's address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// `GET` of a JSON document.
    pub(super) fn get(&self, path: &str) -> Result<String, ClientError> {
        self.call(Method::GET, path, Payload::None)
    }

    /// Calls and gives the answer as it came, so that its numbers keep every digit.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
    ) -> Result<String, ClientError> {
        let mut response = self.send(method, path, payload, Some(CALL_LIMIT))?;
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| self.foreign(error.to_string()))?;
        if response.status().is_success() { Ok(text) } else { Err(self.refused(path, &response, &text)) }
    }

    /// `GET` of a content of at most `most` bytes.
    pub(super) fn download(&self, path: &str, most: u64) -> Result<Vec<u8>, ClientError> {
        let mut response = self.send(Method::GET, path, Payload::None, Some(CALL_LIMIT))?;
        if !response.status().is_success() {
            let text =
                response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().unwrap_or_default();
            return Err(self.refused(path, &response, &text));
        }
        let content = response.body_mut().with_config().limit(most.saturating_add(1)).read_to_vec();
        content.map_err(|error| self.foreign(error.to_string()))
    }

    /// `GET` of a JSON document with its `etag`.
    pub(super) fn get_tagged(&self, path: &str) -> Result<(String, String), ClientError> {
        let mut response = self.send(Method::GET, path, Payload::None, Some(CALL_LIMIT))?;
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| self.foreign(error.to_string()))?;
        if !response.status().is_success() {
            return Err(self.refused(path, &response, &text));
        }
        let tag = tag.ok_or_else(|| self.foreign("an answer without an etag".into()))?;
        Ok((text, tag))
    }

    /// `PUT` of what was made of the document with this `etag`: refused where it has been changed since.
    pub(super) fn put_tagged(
        &self,
        path: &str,
        document: &serde_json::Value,
        tag: &str,
    ) -> Result<String, ClientError> {
        let payload = Payload::Json(document);
        let mut response = self.send_if(Method::PUT, path, payload, Some(CALL_LIMIT), Some(tag))?;
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| self.foreign(error.to_string()))?;
        if response.status().is_success() { Ok(text) } else { Err(self.refused(path, &response, &text)) }
    }

    /// Signs in, so that the calls that follow are made in that session.
    pub(super) fn sign_in(&mut self, name: &str, password: &str) -> Result<(), ClientError> {
        let path = "/api/v1/session";
        let who = json!({ "name": name, "password": password });
        let mut response = self.send(Method::POST, path, Payload::Json(&who), Some(CALL_LIMIT))?;
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|error| self.foreign(error.to_string()))?;
        if !response.status().is_success() {
            return Err(self.refused(path, &response, &text));
        }
        let cookie = response.headers().get("set-cookie").and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        self.cookie = Some(cookie.ok_or_else(|| self.foreign("a sign-in without a cookie".into()))?);
        Ok(())
    }

    /// `GET` of an answer whose status is part of what it says.
    pub(super) fn probe(&self, path: &str) -> Result<(StatusCode, String), ClientError> {
        let mut response = self.send(Method::GET, path, Payload::None, Some(PROBE_LIMIT))?;
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        Ok((response.status(), text.map_err(|error| self.foreign(error.to_string()))?))
    }

    /// Understands an answer as `T`.
    pub(super) fn read<T: DeserializeOwned>(&self, json: &str) -> Result<T, ClientError> {
        serde_json::from_str(json).map_err(|error| self.foreign(error.to_string()))
    }

    /// `GET` of an answer that goes on: lines are read as they come.
    pub(super) fn stream(&self, path: &str) -> Result<BufReader<impl Read + use<>>, ClientError> {
        let mut response = self.send(Method::GET, path, Payload::None, None)?;
        if !response.status().is_success() {
            let text =
                response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().unwrap_or_default();
            return Err(self.refused(path, &response, &text));
        }
        Ok(BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, ClientError> {
        self.send_if(method, path, payload, limit, None)
    }

    fn send_if(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        limit: Option<Duration>,
        if_match: Option<&str>,
    ) -> Result<Response<Body>, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        if let Some(cookie) = &self.cookie {
            // A session counts only for a page of the server's own.
            request = request.header("cookie", cookie).header("sec-fetch-site", "same-origin");
        }
        let body = match payload {
            Payload::None => None,
            Payload::Json(value) => Some(value.to_string().into_bytes()),
            Payload::JsonText(text) | Payload::Text(text) => Some(text.as_bytes().to_vec()),
            Payload::Bytes { content, .. } => Some(content.to_vec()),
        };
        let media_type = match payload {
            Payload::Text(_) => Some("text/plain; charset=utf-8"),
            Payload::Bytes { content_type, .. } => content_type,
            Payload::None | Payload::Json(_) | Payload::JsonText(_) => Some("application/json"),
        };
        let sent = match body {
            Some(body) => {
                if let Some(media_type) = media_type {
                    request = request.header("content-type", media_type);
                }
                let request = request.body(body);
                let request = request.map_err(|error| ClientError::Input(error.to_string()))?;
                self.agent.run(self.agent.configure_request(request).timeout_global(limit).build())
            }
            None => {
                let request = request.body(());
                let request = request.map_err(|error| ClientError::Input(error.to_string()))?;
                self.agent.run(self.agent.configure_request(request).timeout_global(limit).build())
            }
        };
        sent.map_err(|error| self.unreachable(&error))
    }

    /// The server's refusal; a proxy in between may answer without a problem document.
    fn refused(&self, path: &str, response: &Response<Body>, text: &str) -> ClientError {
        let status = response.status();
        match serde_json::from_str::<Problem>(text) {
            Ok(mut problem) if !problem.code.is_empty() => {
                problem.status = status.as_u16();
                text.trim().clone_into(&mut problem.document);
                problem.meant = suggestion(self, path, &problem);
                ClientError::Problem(Box::new(problem))
            }
            _ => self.foreign(format!("it answered {status}")),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        let refused =
            matches!(error, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused);
        let hint = if refused && is_this_machine(&self.url) {
            "\nIs the server running? `picloud serve` starts it; --url or PICLOUD_URL names another one"
        } else {
            ""
        };
        ClientError::Unreachable { url: self.url.clone(), problem: error.to_string(), hint }
    }

    pub(super) fn foreign(&self, problem: String) -> ClientError {
        ClientError::Foreign { url: self.url.clone(), problem }
    }
}

fn find_token(url: &str, data: &DataDirArgs) -> Result<Option<String>, ClientError> {
    if let Some(token) = Logins::load()?.token(url) {
        return Ok(Some(token.to_owned()));
    }
    owner_token(url, &data.path())
}

fn data_folder_hint(data: &DataDirArgs) -> String {
    format!(" {} (set PICLOUD_DATA_DIR if the server's is another)", data.path().display())
}

/// One segment of a path, percent-encoded: a name cannot become another path.
pub(super) fn segment(text: &str) -> String {
    encode(text)
}

/// A path with a query of the pairs that have a value.
pub(super) fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
    let query: Vec<_> = given.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
            );
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_another_path() {
        assert_eq!(segment("api/users"), "api%2Fusers");
        assert_eq!(segment("../é?#%"), "..%2F%C3%A9%3F%23%25");
    }

    #[test]
    fn a_query_has_what_is_given() {
        let pairs = [("limit", Some("5".to_owned())), ("cursor", None), ("prefix", Some("a b".to_owned()))];
        assert_eq!(with_query("/x", &pairs), "/x?limit=5&prefix=a%20b");
        assert_eq!(with_query("/x", &[("a", None)]), "/x");
    }
}
