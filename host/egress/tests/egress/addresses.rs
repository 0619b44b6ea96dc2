//! What may be reached: names and literals that lead to this machine and to private networks.

use std::{
    net::UdpSocket,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use picloud_egress::ExtraRoots;

use crate::support::{Caller, LOOPBACK, Server, get, ok, text};

#[tokio::test]
async fn every_spelling_of_a_closed_address_is_refused_before_a_connection() {
    let server = Server::start(|_| ok("reached")).await;
    let port = server.port();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "0",
        "[::]",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "255.255.255.255",
        "224.0.0.1",
    ];
    let places: Vec<String> =
        hosts.iter().map(|host| format!("http://{}:{port}", host.trim_end_matches('.'))).collect();
    let caller = Caller::new(&[], &places.iter().map(String::as_str).collect::<Vec<_>>());
    for host in hosts {
        let refused = caller.get(&format!("http://{host}:{port}/")).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "egress_address_denied", "{host}: {refused}");
    }
    assert_eq!(server.seen.connections(), 0);
    assert!(caller.records().iter().all(|record| record.status.is_none() && record.error.is_some()));
}

#[tokio::test]
async fn what_the_operator_opens_is_reached_and_the_list_is_needed_all_the_same() {
    let server = Server::start(|_| ok("reached")).await;
    let url = format!("http://127.1:{}/", server.port());
    let mut caller = Caller::new(LOOPBACK, &[]);
    assert_eq!(Caller::refused(caller.get(&url).await), "egress_denied");
    caller.allow(&[&format!("http://127.0.0.1:{}", server.port())]);
    assert_eq!(text(&caller.get(&url).await.unwrap()), "reached");
    let elsewhere = Caller::new(&["192.168.1.0/24"], &[&format!("http://127.0.0.1:{}", server.port())]);
    assert_eq!(Caller::refused(elsewhere.get(&url).await), "egress_address_denied");
}

#[tokio::test]
async fn a_port_of_picloud_itself_stays_closed_unless_it_is_named() {
    let server = Server::start(|_| ok("reached")).await;
    let port = server.port();
    let url = format!("http://127.0.0.1:{port}/");
    let place = format!("http://127.0.0.1:{port}");
    let open = Caller::with(LOOPBACK, &[port], &[&place], ExtraRoots::default());
    assert_eq!(Caller::refused(open.get(&url).await), "egress_address_denied");
    let named = format!("127.0.0.1:{port}");
    let open = Caller::with(&[&named], &[port], &[&place], ExtraRoots::default());
    assert!(open.get(&url).await.is_ok());
}

#[tokio::test]
async fn a_name_is_judged_by_its_addresses_each_time() {
    let server = Server::start(|_| ok("reached")).await;
    let place = format!("http://rebind.test:{}", server.port());
    let caller = Caller::new(&[], &[&place]);
    // The first answer is public and reaches nobody; the second leads here.
    caller.names.set(
        "rebind.test",
        &[&["127.0.0.1"], &["::1", "127.0.0.1", "169.254.169.254"], &["::ffff:127.0.0.1"]],
    );
    for _ in 0..4 {
        assert_eq!(Caller::refused(caller.get(&place).await), "egress_address_denied");
    }
    assert_eq!(caller.names.asked.load(Ordering::SeqCst), 4, "each call asks once");
    assert_eq!(server.seen.connections(), 0);
}

/// The name is resolved once for a connection: what was checked is what is connected to.
#[tokio::test]
async fn there_is_no_second_resolution_between_check_and_connection() {
    let server = Server::start(|_| ok("reached")).await;
    let place = format!("http://rebind.test:{}", server.port());
    let caller = Caller::new(&["127.0.0.1"], &[&place]);
    caller.names.set("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"]]);
    assert!(caller.get(&place).await.is_ok());
    assert_eq!(caller.names.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_are_tried() {
    let server = Server::start(|_| ok("reached")).await;
    let place = format!("http://mixed.test:{}", server.port());
    let caller = Caller::new(&["127.0.0.1"], &[&place]);
    caller.names.set("mixed.test", &[&["169.254.169.254", "10.0.0.1", "127.0.0.2", "127.0.0.1"]]);
    let begun = Instant::now();
    assert_eq!(text(&caller.get(&place).await.unwrap()), "reached");
    assert!(begun.elapsed() < Duration::from_secs(5), "a closed address was tried");
}

/// Where this machine has an address beside loopback, it is closed like loopback.
#[tokio::test]
async fn the_own_addresses_of_interfaces_are_closed() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // No packet is sent; the system only says which address it would be sent from.
    if socket.connect("192.0.2.1:9").is_err() {
        return;
    }
    let own = socket.local_addr().unwrap().ip();
    let listener = tokio::net::TcpListener::bind((own, 0)).await.unwrap();
    let place = format!("http://{own}:{}", listener.local_addr().unwrap().port());
    let caller = Caller::new(&[], &[&place]);
    assert_eq!(Caller::refused(caller.get(&place).await), "egress_address_denied");
}

#[tokio::test]
async fn a_name_without_addresses_and_a_closed_port_are_told() {
    let caller = Caller::new(LOOPBACK, &["http://*", "http://127.0.0.1:1"]);
    let missing = caller.get("http://missing.test/").await.unwrap_err();
    assert_eq!(missing.code.as_str(), "egress_failed");
    assert!(missing.message.contains("missing.test is a name that no address was found for"), "{missing}");
    caller.names.set("empty.test", &[&[]]);
    assert_eq!(Caller::refused(caller.get("http://empty.test/").await), "egress_address_denied");
    let closed = caller.get("http://127.0.0.1:1/").await.unwrap_err();
    assert!(closed.message.contains("127.0.0.1:1 cannot be reached: connection refused"), "{closed}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used() {
    // The variables are read by no code here; a server in their place would be asked instead of the one that is called.
    let server = Server::start(|request| ok(request.split(' ').nth(1).unwrap_or_default())).await;
    let caller = Caller::new(LOOPBACK, &[&format!("http://127.0.0.1:{}", server.port())]);
    let answer = caller.call(get(&format!("http://127.0.0.1:{}/path?q", server.port()))).await.unwrap();
    assert_eq!(text(&answer), "/path?q", "origin form, as no proxy would be sent");
}
