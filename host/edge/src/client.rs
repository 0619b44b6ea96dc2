//! The client's address, which only a trusted proxy may name.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// Names the clients that a request has come through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub ip: IpAddr,
    /// Whether the peer is a trusted proxy, so that what it says of the client is passed on.
    pub is_proxied: bool,
}

impl Client {
    /// The client behind `peer`: the rightmost address in `x-forwarded-for` that is not a trusted proxy's, if
    /// `peer` is one. What stands further left was written by the client itself.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
        if !is_trusted(&peer) {
            return Self { ip: peer, is_proxied: false };
        }
        let mut ip = peer;
        let lines = headers.get_all(X_FORWARDED_FOR);
        'all: for line in lines.iter().rev() {
            for entry in line.to_str().unwrap_or_default().rsplit(',') {
                let Some(hop) = address(entry.trim()) else { break 'all };
                ip = hop;
                if !is_trusted(&hop) {
                    break 'all;
                }
            }
        }
        Self { ip, is_proxied: true }
    }
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse().ok().or_else(|| {
        let with_port = text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
        with_port.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
    });
    ip.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let headers = forwarded.iter().map(|line| (X_FORWARDED_FOR, line.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        );
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        Client::of(peer.parse().unwrap(), &headers, &trusted).ip.to_string()
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        assert_eq!(client("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &["1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1"], &[]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &["1.1.1.1"], &["10.0.0.0/8"]), "1.1.1.1");
    }

    #[test]
    fn the_rightmost_untrusted_address_counts() {
        let trusted = ["10.0.0.0/8", "::1/128"];
        assert_eq!(client("::1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], &trusted), "1.1.1.1");
        assert_eq!(client("::1", &["6.6.6.6", "1.1.1.1"], &trusted), "1.1.1.1");
        assert_eq!(client("::1", &["10.0.0.3"], &trusted), "10.0.0.3");
        assert_eq!(client("::1", &["6.6.6.6, junk"], &trusted), "::1");
        assert_eq!(client("::1", &["[2001:db8::1]:99"], &trusted), "2001:db8::1");
        assert_eq!(client("::1", &[], &trusted), "::1");
    }
}
