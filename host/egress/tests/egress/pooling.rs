//! Connections are kept for the same app, and for no other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use picloud_core::{AppId, EgressCall, Method};

use crate::support::{Caller, LOOPBACK, Reply, Server, get, ok};

#[tokio::test]
async fn an_app_uses_its_connection_again_and_no_other_app_does() {
    let server = Server::start(|_| ok("x")).await;
    let place = format!("http://127.0.0.1:{}", server.port());
    let mut caller = Caller::new(LOOPBACK, &[&place]);
    for _ in 0..5 {
        caller.get(&place).await.unwrap();
    }
    assert_eq!(server.seen.connections(), 1);
    caller.app = AppId::generate();
    caller.get(&place).await.unwrap();
    assert_eq!(server.seen.connections(), 2);
}

#[tokio::test]
async fn what_the_list_does_not_allow_any_more_is_not_sent_over_a_kept_connection() {
    let server = Server::start(|_| ok("x")).await;
    let place = format!("http://127.0.0.1:{}", server.port());
    let mut caller = Caller::new(LOOPBACK, &[&place]);
    caller.get(&place).await.unwrap();
    caller.rules.allow.clear();
    assert_eq!(Caller::refused(caller.get(&place).await), "egress_denied");
    assert_eq!(server.seen.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_whose_answer_was_not_read_whole_is_not_used_again() {
    let server = Server::start(|_| ok("0123456789")).await;
    let place = format!("http://127.0.0.1:{}", server.port());
    let caller = Caller::new(LOOPBACK, &[&place]);
    for _ in 0..2 {
        let call = EgressCall { response_bytes: 3, ..get(&place) };
        assert_eq!(Caller::refused(caller.call(call).await), "response_too_large");
    }
    assert_eq!(server.seen.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_in_between_is_replaced() {
    let server =
        Server::start(|_| Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx".to_vec())).await;
    let place = format!("http://127.0.0.1:{}", server.port());
    let caller = Caller::new(LOOPBACK, &[&place]);
    for _ in 0..20 {
        caller.get(&place).await.unwrap();
    }
}

/// The server takes the second request of a connection and closes it without a word: whether it has done something
/// is not known, so that only what reads is sent again.
#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = Server::start(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        1 | 3 => Reply::Last(Vec::new()),
        _ => ok("x"),
    })
    .await;
    let place = format!("http://127.0.0.1:{}", server.port());
    let caller = Caller::new(LOOPBACK, &[&place]);
    caller.get(&place).await.unwrap();
    caller.get(&place).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 3, "the GET came twice");
    let post = EgressCall { method: Method::Post, body: "x".into(), ..get(&place) };
    assert_eq!(Caller::refused(caller.call(post).await), "egress_failed");
    assert_eq!(count.load(Ordering::SeqCst), 4, "the POST came once");
}
