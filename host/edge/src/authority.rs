//! Whom a request is for.

use http::{Request, header::HOST, uri::Authority};
use picloud_core::ErrorCode;

use crate::Problem;

/// The host, and the port if one is given, that a request names: `Host`, or `:authority` in HTTP/2. `None`
/// where HTTP/1.0 names none.
///
/// Two `Host` headers, one that is not a host, user information, or a `Host` that differs from the authority
/// of the target are refused: intermediaries disagree about which of the two counts.
pub fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, Problem> {
    let wrong = |detail: &'static str| Problem::new(ErrorCode::BadRequest).detail(detail).close();
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match hosts.next() {
        None => None,
        Some(_) if hosts.next().is_some() => return Err(wrong("the request has more than one Host header")),
        Some(host) => {
            let host = Authority::try_from(host.as_bytes()).ok().filter(is_complete);
            Some(host.ok_or_else(|| wrong("the Host header is not a host name with an optional port"))?)
        }
    };
    let target = request.uri().authority();
    if let (Some(host), Some(target)) = (&host, target)
        && host != target
    {
        return Err(wrong("Host differs from the authority that the request is addressed to"));
    }
    let named = host.or_else(|| target.cloned());
    if named.is_none() && request.version() >= http::Version::HTTP_11 {
        return Err(wrong("the request has no Host header"));
    }
    if named.as_ref().is_some_and(|named| named.as_str().contains('@')) {
        return Err(wrong("the host must not have user information"));
    }
    Ok(named)
}

/// Whether there is a host, and behind it nothing but a port. A colon alone is none (RFC 3986, 3.2.3).
fn is_complete(authority: &Authority) -> bool {
    let host = authority.host();
    let user = authority.as_str().rfind('@').map_or(0, |at| at + 1);
    let after = &authority.as_str()[user + host.len()..];
    let port = after.strip_prefix(':').unwrap_or(after);
    let is_port = port.is_empty() || port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    !host.is_empty() && is_port && (after.is_empty() || after.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: &str, hosts: &[&str]) -> Result<Option<String>, String> {
        let request = hosts.iter().fold(Request::get(uri), |request, host| request.header(HOST, *host));
        authority(&request.body(()).unwrap())
            .map(|named| named.map(|named| named.to_string()))
            .map_err(|problem| problem.text().to_owned())
    }

    #[test]
    fn one_host_is_named() {
        assert_eq!(named("/", &["a.localhost:8421"]), Ok(Some("a.localhost:8421".into())));
        assert_eq!(named("http://a.localhost/x", &["A.localhost"]), Ok(Some("A.localhost".into())));
        assert_eq!(named("http://a.localhost/x", &[]), Ok(Some("a.localhost".into())));
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        assert!(named("/", &[]).is_err());
        assert!(named("/", &["a", "a"]).is_err());
        assert!(named("/", &["a b"]).is_err());
        assert!(named("/", &["user@a"]).is_err());
        for bad in ["", ":", ":80", "a:b", "a:65536", "a:+1", "a:80:80", "[::1]a"] {
            assert!(named("/", &[bad]).is_err(), "{bad:?}");
        }
        assert_eq!(named("/", &["[::1]:80"]), Ok(Some("[::1]:80".into())));
        assert!(named("http://a/", &["b"]).is_err());
        assert!(named("http://a/", &["a:80"]).is_err());
    }
}
