//! Whether an address may be connected to. Pure.
//!
//! Only addresses of the public internet may, by the registries of special-purpose addresses
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>, .../iana-ipv6-special-registry), and what the
//! operator has opened. IPv6 is read the other way round: what is not known to be public is not.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use picloud_core::Network;

/// Networks of IPv4 that are not of the public internet, as address and prefix length.
const NOT_PUBLIC: [([u8; 4], u32); 18] = [
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // shared by carriers; also metadata of Alibaba's cloud
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // metadata and agents of Azure
    ([169, 254, 0, 0], 16),   // link-local; metadata of most clouds
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments; metadata of Oracle's cloud
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 31, 196, 0], 24),  // AS112
    ([192, 52, 193, 0], 24),  // multicast tunnels
    ([192, 88, 99, 0], 24),   // relays of 6to4
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// Whether an address is of the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let bits = ip.to_bits();
    !NOT_PUBLIC.iter().any(|(network, prefix)| {
        let network = Ipv4Addr::from(*network).to_bits();
        (bits ^ network) >> (32 - prefix) == 0
    })
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let embedded =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    // NAT64 at its well-known prefix: what DNS64 answers in a network without IPv4.
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return embedded(s[6], s[7]);
    }
    // ISATAP has an IPv4 address in what identifies the interface.
    if s[4] & 0xfdff == 0 && s[5] == 0x5efe && !embedded(s[6], s[7]) {
        return false;
    }
    match s[0] {
        // Protocol assignments, with Teredo and benchmarks; documentation.
        0x2001 => s[1] >= 0x0200 && s[1] != 0x0db8,
        0x2002 => embedded(s[1], s[2]),
        0x3fff => s[1] >= 0x1000,
        // Global unicast. Everything else is loopback, link-local, unique local, multicast or unassigned, or has an
        // IPv4 address in it.
        first => first & 0xe000 == 0x2000,
    }
}

/// A network that the operator opens: `192.168.1.0/24`, or one port of it, `192.168.1.0/24:8080`, `[fd00::/8]:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenNetwork {
    network: Network,
    port: Option<u16>,
}

impl FromStr for OpenNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no network; allowed are an address or a network, with a port or without one: 192.168.1.20, \
                 192.168.1.0/24, 192.168.1.0/24:8080, fd00::/8, [fd00::/8]:8080"
            )
        };
        let (network, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (network, port) = rest.split_once(']').ok_or_else(wrong)?;
                (
                    network,
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) },
                )
            }
            None => match text.split_once(':') {
                Some((network, port)) if !port.contains(':') => (network, Some(port)),
                _ => (text, None),
            },
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(wrong()),
        };
        match network.parse() {
            Ok(network) => Ok(Self { network, port }),
            // It says what is wrong with the bits beyond a prefix.
            Err(error) if network.contains('/') => {
                Err(format!("{error}; allowed are networks such as 192.168.1.0/24, and 192.168.1.0/24:8080"))
            }
            Err(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for OpenNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.to_string();
        match self.port {
            None => f.write_str(&network),
            Some(port) if network.contains(':') => write!(f, "[{network}]:{port}"),
            Some(port) => write!(f, "{network}:{port}"),
        }
    }
}

/// Whether an address is one of this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It is.
    Own,
    /// It is another's.
    Foreign,
}

/// What the operator opens, and what stays closed all the same.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// Networks that scripts may reach although they are not of the public internet.
    pub opened: Vec<OpenNetwork>,
    /// Ports on which PiCloud listens: closed on this machine's addresses, but where an opened network names the port.
    pub listeners: Vec<u16>,
}

impl AddressPolicy {
    /// Whether scripts may reach an address.
    pub fn permits(&self, address: SocketAddr, ownership: Ownership) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let is_own = ownership == Ownership::Own || ip.is_loopback() || ip.is_unspecified();
        let mut covering = self
            .opened
            .iter()
            .filter(|open| open.network.contains(ip) && open.port.is_none_or(|open| open == port));
        if is_own && self.listeners.contains(&port) {
            return covering.any(|open| open.port.is_some());
        }
        covering.next().is_some() || (!is_own && is_public(ip))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            // IPv6.
            "::",
            "::1",
            "::2",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            // IPv4 within IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::10.0.0.1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:c0a8:101::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2a00:1:2:3:0:5efe:10.0.0.1",
            "2a00:1:2:3:200:5efe:127.0.0.1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_beside_them_are_public() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2a00::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    fn policy(opened: &[&str], listeners: &[u16]) -> AddressPolicy {
        let opened = opened.iter().map(|text| text.parse().unwrap()).collect();
        AddressPolicy { opened, listeners: listeners.to_vec() }
    }

    fn permits(policy: &AddressPolicy, address: &str) -> bool {
        policy.permits(address.parse().unwrap(), Ownership::Foreign)
    }

    #[test]
    fn the_operator_opens_networks_and_ports() {
        let open = policy(&["192.168.1.0/24", "10.0.0.5:80", "[fd00::/8]:8080"], &[]);
        assert!(permits(&open, "192.168.1.20:80"));
        assert!(permits(&open, "[::ffff:192.168.1.20]:80"));
        assert!(!permits(&open, "192.168.2.20:80"));
        assert!(permits(&open, "10.0.0.5:80"));
        assert!(!permits(&open, "10.0.0.5:81"));
        assert!(permits(&open, "[fd00::1]:8080"));
        assert!(!permits(&open, "[fd00::1]:80"));
        assert!(!permits(&open, "[64:ff9b::c0a8:114]:80"), "another way to it is not opened with it");
        assert!(permits(&open, "1.1.1.1:80"));
    }

    #[test]
    fn own_addresses_are_closed_and_listeners_even_in_an_open_network() {
        let closed = policy(&[], &[8420]);
        let own =
            |policy: &AddressPolicy, address: &str| policy.permits(address.parse().unwrap(), Ownership::Own);
        assert!(!own(&closed, "8.8.8.8:443"), "a public address of the machine itself");
        let open = policy(&["127.0.0.0/8", "192.168.1.0/24", "0.0.0.0/8"], &[8420, 8421]);
        assert!(own(&open, "192.168.1.2:80") && permits(&open, "127.0.0.1:80"));
        for address in ["127.0.0.1:8420", "127.9.9.9:8421", "[::ffff:127.0.0.1]:8420", "0.0.0.0:8420"] {
            assert!(!permits(&open, address), "{address}");
        }
        assert!(!own(&open, "192.168.1.2:8420"));
        assert!(permits(&open, "192.168.1.3:8420"), "of another machine");
        let named = policy(&["127.0.0.1:8421"], &[8420, 8421]);
        assert!(permits(&named, "127.0.0.1:8421") && !permits(&named, "127.0.0.1:8420"));
    }

    #[test]
    fn networks_round_trip_and_wrong_ones_are_refused() {
        for text in ["192.168.1.0/24", "192.168.1.20", "192.168.1.0/24:8080", "fd00::/8", "[fd00::/8]:8080"] {
            assert_eq!(text.parse::<OpenNetwork>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/8:0",
            "10.0.0.0/8:x",
            "[fd00::/8]8080",
            "[fd00::/8",
            ":80",
        ] {
            assert!(bad.parse::<OpenNetwork>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_in_every_form(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b);
            let six_to_four = Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1);
            for ip in [v4.to_ipv6_mapped(), nat64, six_to_four] {
                prop_assert_eq!(is_public(ip.into()), is_public(v4.into()), "{}", ip);
            }
            prop_assert!(!is_public(v4.to_ipv6_compatible().into()));
        }
    }
}
