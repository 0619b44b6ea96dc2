//! Parsers of single settings. Each error says what is allowed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Deref,
};

use ipnet::IpNet;
use picloud_core::DomainName;

use super::{DomainNameOrIp, HostNames, Networks, OpenNetworks};
use crate::units;

/// A list as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<T>(Vec<T>);

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// `IP:PORT`; port 0 takes a free one.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "allowed is IP:PORT, such as 127.0.0.1:8420, 0.0.0.0:8420 or [::1]:8420".to_owned();
    text.trim().replacen("localhost:", "127.0.0.1:", 1).parse().map_err(|_| wrong())
}

/// The address at which this machine reaches a listener: an unspecified one is reached by loopback.
pub(crate) fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// A host name in any case.
pub(super) fn domain(text: &str) -> Result<DomainName, String> {
    DomainName::new(text.trim().to_ascii_lowercase())
        .map_err(|error| format!("{error}; allowed is a host name, such as example.org"))
}

/// Host names and addresses, separated by commas.
pub(super) fn host_names(text: &str) -> Result<HostNames, String> {
    list(text, |part| match part.trim_matches(['[', ']']).parse() {
        Ok(ip) => Ok(DomainNameOrIp::Ip(ip)),
        Err(_) => domain(part).map(DomainNameOrIp::Domain),
    })
}

/// Addresses and networks, separated by commas.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    list(text, |part| {
        let address = part.parse::<IpAddr>().map(IpNet::from).ok();
        address.or_else(|| part.parse().ok()).ok_or_else(|| {
            format!(
                "{part:?} is neither an address nor a network; allowed are 127.0.0.1, 10.0.0.0/8, fd00::/8"
            )
        })
    })
}

/// Networks to open for scripts, separated by commas.
pub(super) fn open_networks(text: &str) -> Result<OpenNetworks, String> {
    list(text, str::parse)
}

/// A `postgres://` address.
pub(super) fn database_url(text: &str) -> Result<String, String> {
    let known = text.starts_with("postgres://") || text.starts_with("postgresql://");
    known.then(|| text.to_owned()).ok_or_else(|| {
        "allowed is postgres://USER:PASSWORD@HOST/DATABASE, or nothing for PiCloud's own PostgreSQL"
            .to_owned()
    })
}

/// A whole number within bounds.
pub(super) fn whole(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("allowed is a whole number from {least} to {most}"))
    }
}

/// A size within bounds: a number of bytes, or of KiB, MiB or GiB.
pub(super) fn bytes(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| {
        units::parse_bytes(text).filter(|size| (least..=most).contains(size)).ok_or_else(|| {
            format!("allowed is a number of bytes from {least} to {most}, also with KiB, MiB or GiB: 64MiB")
        })
    }
}

fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<List<T>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(item).collect::<Result<_, _>>().map(List)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_ip_and_port() {
        assert_eq!(parse_address("localhost:80"), parse_address("127.0.0.1:80"));
        assert!(parse_address("[::1]:8420").is_ok());
        for bad in ["8420", ":8420", "127.0.0.1", "example.org:80", "127.0.0.1:65536", "127.0.0.1:-1"] {
            assert!(parse_address(bad).is_err_and(|error| error.contains("IP:PORT")), "{bad}");
        }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        assert_eq!(whole(1, 10)(" 10 "), Ok(10));
        for bad in ["0", "11", "-1", "1.5", "x", "", "18446744073709551616"] {
            assert_eq!(whole(1, 10)(bad), Err("allowed is a whole number from 1 to 10".to_owned()), "{bad}");
        }
    }

    #[test]
    fn sizes_take_units() {
        let parse = bytes(1 << 20, 1 << 40);
        assert_eq!(parse("64MiB"), Ok(64 << 20));
        assert_eq!(parse("2 GiB"), Ok(2 << 30));
        assert_eq!(parse("1048576"), Ok(1 << 20));
        for bad in ["1", "64MB", "MiB", "-1MiB", "18446744073709551615GiB", "64MiB6"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_addresses_with_a_prefix() {
        let found = networks("127.0.0.1, 10.0.0.0/8,fd00::/8").unwrap();
        assert_eq!(found.iter().map(IpNet::prefix_len).collect::<Vec<_>>(), [32, 8, 8]);
        for bad in ["10.0.0.0/33", "fd00::/129", "10.0.0/8", "localhost", "10.0.0.0/", "10.0.0.0/x"] {
            assert!(networks(bad).is_err_and(|error| error.contains("allowed")), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let hosts = host_names("PI.example.org,[::1],192.168.1.2").unwrap();
        let shown: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["pi.example.org", "::1", "192.168.1.2"]);
        assert!(host_names("a_b").is_err());
    }
}
