//! A network, or a single address.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::AccessError;

/// A network as `10.0.0.0/8`, or one address. What is mapped from IPv4 into IPv6 is kept as IPv4, since that is what
/// clients are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether an address, in its canonical form, is of this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

impl FromStr for Network {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(ip.to_canonical().into()));
        }
        let Ok(network) = text.parse::<IpNet>() else {
            return Err(AccessError(format!(
                "{text:?} is no network; allowed is an address or one with a prefix, such as 10.0.0.0/8 or 2001:db8::/32"
            )));
        };
        if network.addr() != network.network() {
            return Err(AccessError(format!(
                "{text} has bits beyond its prefix; write {} for the network, or {} for the address",
                network.trunc(),
                network.addr()
            )));
        }
        Ok(Self(unmapped(network)))
    }
}

/// A network within `::ffff:0:0/96` as the IPv4 network that it stands for.
fn unmapped(network: IpNet) -> IpNet {
    let prefix = network.prefix_len().checked_sub(96);
    match (network.addr(), prefix) {
        (IpAddr::V6(ip), Some(prefix)) => ip
            .to_ipv4_mapped()
            .and_then(|ip: Ipv4Addr| Ipv4Net::new(ip, prefix).ok())
            .map_or(network, IpNet::V4),
        _ => network,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl TryFrom<String> for Network {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, AccessError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Result<String, String> {
        text.parse::<Network>().map(|network| network.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn networks_and_addresses_are_kept_in_one_form() {
        for (given, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(kept(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_is_allowed() {
        for bad in
            ["", "10", "10.0.0.0/33", "10.0.0.0/-1", "010.0.0.1", "a.example", "10.0.0.0/8 ", "::g", "*"]
        {
            assert!(kept(bad).unwrap_err().contains("such as 10.0.0.0/8"), "{bad}");
        }
        let wide = kept("10.0.0.1/8").unwrap_err();
        assert!(wide.contains("write 10.0.0.0/8 for the network, or 10.0.0.1 for the address"), "{wide}");
    }
}
