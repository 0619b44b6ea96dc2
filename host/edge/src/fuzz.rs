//! Any host and any forwarding header.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderValue, Request, header::HOST};

use crate::{Client, X_FORWARDED_FOR, authority};

/// A request with these hosts, as far as they can be header values.
fn named(hosts: &[u8]) {
    let mut request = Request::new(());
    for host in hosts.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(host) else { return };
        request.headers_mut().append(HOST, value);
    }
    let Ok(Some(authority)) = authority(&request) else { return };
    let (host, all) = (authority.host(), authority.as_str());
    assert_eq!(hosts, all.as_bytes(), "one host is named, as it was written");
    assert!(!host.is_empty() && !host.contains(['@', '/', '?', '#', '\\', ' ', '\t']), "{host:?}");
    let port = &all[host.len()..];
    assert!(port.is_empty() || port.starts_with(':'), "{all:?}");
}

#[test]
fn host() {
    bolero::check!(name = "host").with_iterations(20_000).for_each(named);
}

#[test]
fn host_of_likely_characters() {
    bolero::check!(name = "likely-host").with_max_len(64).with_iterations(20_000).for_each(
        |input: &[u8]| {
            const PARTS: &[u8; 16] = b"aB0.-:[]@%/\n_8~ ";
            let text: Vec<u8> = input.iter().map(|byte| PARTS[usize::from(byte % 16)]).collect();
            named(&text);
        },
    );
}

#[test]
fn client_behind_a_proxy() {
    let (proxy, trusted) = (IpAddr::V4(Ipv4Addr::LOCALHOST), ["127.0.0.0/8".parse().unwrap()]);
    bolero::check!(name = "client").with_iterations(20_000).for_each(|input: &[u8]| {
        let mut request = Request::new(());
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        request.headers_mut().insert(X_FORWARDED_FOR, value);
        let client = Client::of(proxy, request.headers(), &trusted);
        assert_eq!(client.ip, client.ip.to_canonical());
        // Whoever is no proxy is not believed, whatever it says.
        let stranger: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        assert_eq!(Client::of(stranger, request.headers(), &trusted).ip, stranger);
    });
}
