//! Which requests this listener answers at all: the defence against DNS rebinding and cross-site requests.
//!
//! A page of another origin can make a browser send requests here, but it cannot choose `Host` and `Origin`.

use std::net::{IpAddr, SocketAddr};

use axum::http::{Method, Request, header, uri::Authority};
use picloud_core::ErrorCode;
use picloud_edge::authority;

use crate::error::ApiError;

/// The host names that the control listener answers for.
#[derive(Clone, Debug)]
pub(crate) struct HostGuard {
    bind: IpAddr,
    names: Vec<String>,
}

impl HostGuard {
    /// Allows localhost, the loopback addresses, the bound address and `names`. Bound to all addresses, any
    /// address is allowed: rebinding needs a name.
    pub(crate) fn new(bind: SocketAddr, names: &[String]) -> Self {
        Self { bind: bind.ip(), names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Checks `Host` (or `:authority`) and, where the request changes something, `Origin`.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let Some(authority) = authority(request)? else {
            return Err(ApiError::new(ErrorCode::BadRequest, "the request has no Host header"));
        };
        if !self.allows(authority.host()) {
            return Err(ApiError::new(
                ErrorCode::Misdirected,
                format!(
                    "this listener does not answer for the host {:?}; PICLOUD_ADMIN_HOSTS names more of them",
                    authority.host()
                ),
            ));
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        if is_read || origins.all(|origin| is_same_origin(origin.as_bytes(), &authority)) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::Forbidden,
            "the request comes from a page of another origin; only pages of this one may change anything",
        ))
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) => {
                address.is_loopback()
                    || self.bind.is_unspecified()
                    || address == self.bind
                    || self.names.contains(&host)
            }
            Err(_) => host == "localhost" || self.names.contains(&host),
        }
    }
}

/// `Origin` has the scheme in front; behind a TLS proxy it is not this listener's own, so that only host and
/// port are compared.
fn is_same_origin(origin: &[u8], authority: &Authority) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(authority.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bind: &str, request: axum::http::request::Builder) -> Option<ErrorCode> {
        let guard = HostGuard::new(bind.parse().unwrap(), &["Cloud.example".to_owned()]);
        guard.check(&request.body(()).unwrap()).err().map(|error| error.code())
    }

    fn get(host: &str) -> axum::http::request::Builder {
        Request::get("/").header("host", host)
    }

    #[test]
    fn only_known_hosts_are_answered() {
        let good =
            ["localhost", "LOCALHOST:8420", "127.0.0.1:1", "[::1]:8420", "192.168.1.5", "cloud.example:443"];
        for host in good {
            assert_eq!(verdict("192.168.1.5:8420", get(host)), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "192.168.1.50"] {
            assert_eq!(verdict("192.168.1.5:8420", get(host)), Some(ErrorCode::Misdirected), "{host}");
        }
        assert_eq!(verdict("0.0.0.0:8420", get("10.0.0.1")), None);
        assert_eq!(verdict("0.0.0.0:8420", get("evil.example")), Some(ErrorCode::Misdirected));
    }

    #[test]
    fn a_request_names_one_host() {
        let bind = "127.0.0.1:8420";
        assert_eq!(verdict(bind, Request::get("/")), Some(ErrorCode::BadRequest));
        let twice = get("localhost").header("host", "localhost");
        assert_eq!(verdict(bind, twice), Some(ErrorCode::BadRequest));
        assert_eq!(verdict(bind, get("a@localhost")), Some(ErrorCode::BadRequest));
        let absolute = Request::get("http://evil.example/").header("host", "localhost");
        assert_eq!(verdict(bind, absolute), Some(ErrorCode::BadRequest));
    }

    #[test]
    fn another_origin_can_read_nothing_and_change_nothing() {
        let post =
            |origin: &str| Request::post("/").header("host", "localhost:8420").header("origin", origin);
        let bind = "127.0.0.1:8420";
        assert_eq!(verdict(bind, post("http://localhost:8420")), None);
        for origin in
            ["null", "http://localhost", "http://localhost:8421", "http://evil.example", "localhost:8420"]
        {
            assert_eq!(verdict(bind, post(origin)), Some(ErrorCode::Forbidden), "{origin}");
        }
    }
}
