//! Admission, and a node that stops.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use picloud_core::{ErrorCode, LimitField, Node as _};
use picloud_store::{ExecutionFilter, PageSize};

use crate::platform::{Platform, soon, until};

const HOLD: &str = "GET /hold HTTP/1.1\r\nhost: demo.localhost\r\n\r\n";

#[tokio::test]
async fn an_app_at_its_concurrency_is_429_and_a_full_node_503() {
    let platform = Platform::with(|config| {
        // Half of them are the most that one app gets.
        config.slots = 4;
        config.slot_wait = Duration::from_secs(1);
    })
    .await;
    platform.limit(LimitField::Concurrency, 1).await;
    let mut holder = platform.client().await;
    holder.send(HOLD).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    let busy = platform.get("/hello").await;
    busy.assert_problem(429, "app_busy");
    assert_eq!(busy.header("retry-after"), Some("1"));

    platform.limit(LimitField::Concurrency, 9).await;
    let mut second = platform.client().await;
    second.send(HOLD).await;
    until(|| platform.scripts.holding.load(SeqCst) == 2).await;
    let full = platform.get("/hello").await;
    full.assert_problem(503, "node_busy");
    assert_eq!(full.header("retry-after"), Some("1"));

    // A slot that is given back goes to whoever waits.
    let waiting = platform.get("/hello");
    let release = async {
        until(|| platform.node.status().waiting == 1).await;
        platform.scripts.release.add_permits(2);
    };
    assert_eq!(tokio::join!(waiting, release).0.text(), "hello");
    assert_eq!(soon(holder.answer()).await.unwrap().text(), "held");
    let metrics = platform.node.metrics();
    assert!(metrics.contains("picloud_admission_refusals_total{reason=\"app_busy\"} 1"), "{metrics}");
    assert!(metrics.contains("picloud_admission_waits_total 3"), "{metrics}");
}

#[tokio::test]
async fn what_runs_ends_when_its_app_is_deleted() {
    let platform = Platform::start().await;
    let mut client = platform.client().await;
    client.send(HOLD).await;
    until(|| platform.node.status().running == 1).await;
    platform.store.delete_app(platform.demo).await.unwrap();
    platform.node.app_changed(platform.demo).await;
    soon(client.answer()).await.unwrap().assert_problem(404, "app_not_found");
    until(|| platform.node.status().running == 0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_slot_back() {
    let platform = Platform::with(|config| config.slots = 1).await;
    let mut client = platform.client().await;
    client.send(HOLD).await;
    until(|| platform.node.status().running == 1).await;
    drop(client);
    until(|| platform.node.status().running == 0).await;
    assert_eq!(platform.get("/hello").await.text(), "hello");
    assert!(platform.node.metrics().contains("picloud_abandoned_total 1"));
}

#[tokio::test]
async fn a_run_whose_client_went_away_is_in_the_history() {
    let platform = Platform::start().await;
    let mut client = platform.client().await;
    client.send(HOLD).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    drop(client);
    until(|| platform.node.status().running == 0).await;
    let demo = platform.demo;
    let (store, _) = platform.finish().await;
    let kept = store.executions(demo, &ExecutionFilter::default(), None, PageSize::default()).await.unwrap();
    assert_eq!(kept.items.len(), 1);
    assert_eq!(kept.items[0].outcome.error_code(), Some(ErrorCode::ClientGone));
    assert_eq!(kept.items[0].status, None);
}

#[tokio::test]
async fn a_run_ends_at_its_wall_time() {
    let platform = Platform::start().await;
    platform.limit(LimitField::WallMs, 50).await;
    platform.get("/hold").await.assert_problem(504, "deadline_exceeded");
    assert_eq!(platform.node.status().running, 0);
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let platform = Platform::with(|config| config.serve.max_connections = 2).await;
    let mut first = platform.client().await;
    first.send(HOLD).await;
    let mut second = platform.client().await;
    second.send(HOLD).await;
    until(|| platform.scripts.holding.load(SeqCst) == 2).await;
    let mut third = platform.client().await;
    soon(third.answer()).await.unwrap().assert_problem(503, "node_busy");
    drop(first);
    // The place is free again as soon as the node has noticed.
    soon(async {
        loop {
            let mut client = platform.client().await;
            client.try_send("GET /hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
            if client.answer().await.is_some_and(|answer| answer.status == 200) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight() {
    let mut platform = Platform::start().await;
    let mut idle = platform.client().await;
    idle.send("GET /hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    assert_eq!(soon(idle.answer()).await.unwrap().status, 200);
    let mut busy = platform.client().await;
    busy.send(HOLD).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;

    platform.stop();
    assert!(soon(idle.is_closed()).await);
    assert!(platform.node.status().draining);
    platform.scripts.release.add_permits(1);
    assert_eq!(soon(busy.answer()).await.unwrap().text(), "held");
    assert!(soon(busy.is_closed()).await);
    let (_, served) = platform.finish().await;
    assert_eq!(served.cut, 0);
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut() {
    let platform = Platform::with(|config| config.serve.grace = Duration::from_millis(100)).await;
    let mut busy = platform.client().await;
    busy.send(HOLD).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    let (_, served) = platform.finish().await;
    assert_eq!(served.cut, 1);
    assert!(soon(busy.is_closed()).await);
}
