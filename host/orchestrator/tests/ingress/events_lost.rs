//! Events when processes and connections are lost: none is lost with them, and none has its effect twice.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use picloud_core::Node as _;
use picloud_store::{Settlement, Verdict};
use serde_json::json;

use crate::{
    events::{ATTEMPTS, assert_done_once, at_once, message, with_consumer},
    platform::{soon, until},
};

#[tokio::test]
async fn who_has_lost_its_claim_leaves_no_effect() {
    let platform = with_consumer().await;
    let sent = platform.send([message(&json!({ "do": "hold" }))]).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    // It looks as if the node had been paused for longer than it may be silent.
    let other = platform.database.store().await;
    soon(async {
        loop {
            platform
                .database
                .execute("UPDATE outbox_workers SET heartbeat_at = now() - interval '16 s'")
                .await;
            if other.rescue(ATTEMPTS).await.unwrap().events == 1 {
                return;
            }
        }
    })
    .await;
    let taken = other.claim_suspect(&[]).await.unwrap().unwrap();
    assert_eq!((taken.claim.event, taken.claim.attempt), (sent[0], 2));
    platform.scripts.release.add_permits(1);
    until(|| platform.node.status().running == 0).await;
    // Whatever else the node wants of the event is settled before this one.
    let after = platform.send([message(&json!({}))]).await;
    platform.until_rows("outbox", 1).await;
    assert_done_once(&platform.database, &after).await;
    let held = format!("outbox WHERE claimed_by = '{}' AND attempts = 2", other.worker());
    assert_eq!(platform.rows(&held).await, 1);
    let verdict = Verdict::GiveBack { delay: Duration::ZERO };
    other.settle(&[Settlement { claim: taken.claim, app: platform.demo, verdict }]).await.unwrap();
}

#[tokio::test]
async fn two_nodes_handle_each_event_once() {
    let platform = with_consumer().await;
    let (other, _) = platform.other_process(at_once).await;
    let mut sent = Vec::new();
    for _ in 0..10 {
        sent.extend(platform.send((0..50).map(|_| message(&json!({})))).await);
    }
    platform.until_rows("outbox", 0).await;
    assert_done_once(&platform.database, &sent).await;
    assert_eq!(platform.scripts.runs(), 500);
    soon(other.shutdown()).await;
}

#[tokio::test]
async fn events_outlive_the_connections_to_the_database() {
    let platform = with_consumer().await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.extend(platform.send((0..60).map(|_| message(&json!({})))).await);
        let begun = platform.scripts.runs();
        until(|| platform.scripts.runs() > begun).await;
        platform.database.terminate_connections().await;
    }
    platform.until_rows("outbox", 0).await;
    assert_eq!(platform.rows("dead_letters").await, 0);
    assert_done_once(&platform.database, &sent).await;
}

/// The statement was committed, and the connection was cut before the answer came.
#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back() {
    let platform = with_consumer().await;
    let mut sent = platform.send([message(&json!({ "do": "hold" }))]).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    let lock = platform.database.hold("LOCK TABLE triggers IN ACCESS EXCLUSIVE MODE").await;
    sent.extend(platform.send([message(&json!({}))]).await);
    platform.database.until_blocked().await;
    let worker = platform.store.worker();
    // What resolves the claimed event is cut; the first one runs on.
    platform
        .database
        .execute(&format!(
            "INSERT INTO outbox (id, lane_id, app_id, kind, payload, run_at, attempts, claimed_by, claimed_at, root_id)
            SELECT '0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b', lane_id, app_id, kind, payload, run_at, 1, '{worker}', now(),
                root_id FROM outbox WHERE id = '{}'",
            sent[1]
        ))
        .await;
    sent.push("0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b".parse().unwrap());
    platform.database.terminate_connections().await;
    drop(lock);
    platform.until_rows("outbox", 1).await;
    platform.scripts.release.add_permits(1);
    platform.until_rows("outbox", 0).await;
    assert_done_once(&platform.database, &sent).await;
    assert_eq!(platform.scripts.runs(), 3, "what runs was not given back");
}

#[tokio::test]
async fn an_event_that_nobody_was_told_of_is_found_by_the_next_look() {
    let platform = with_consumer().await;
    let sent = platform.send([message(&json!({}))]).await;
    platform.until_rows("outbox", 0).await;
    platform
        .database
        .execute(
            "INSERT INTO outbox (id, lane_id, app_id, kind, payload, run_at, root_id)
            SELECT '0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b', l.id, l.app_id, 'queue', '{\"body\":{}}', now(),
                '0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b' FROM outbox_lanes l WHERE l.queue = 'jobs'",
        )
        .await;
    // A node that starts looks at once, as any does every 30 seconds.
    let (other, _) = platform.other_process(at_once).await;
    platform.until_rows("outbox", 0).await;
    let missed = "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b".parse().unwrap();
    assert_done_once(&platform.database, &[sent[0], missed]).await;
    soon(other.shutdown()).await;
}
