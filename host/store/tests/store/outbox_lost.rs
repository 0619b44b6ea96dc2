//! What becomes of events whose process was lost.

use picloud_core::EventId;
use picloud_store::{ClaimedEvent, Store};

use crate::outbox::{Fixture, done, ids, message};

/// Beyond what any test here uses up.
const MANY_ATTEMPTS: u16 = 9;

/// Messages, and the process that has claimed them and says nothing more.
async fn lost(fixture: &Fixture, bodies: &[&str]) -> (Vec<EventId>, Store, Vec<ClaimedEvent>) {
    let mut sent = Vec::new();
    for body in bodies {
        sent.push(fixture.send(message("jobs", body)).await);
    }
    let lost = fixture.database.store().await;
    let claimed = fixture.claim(&lost, 9).await;
    assert_eq!(ids(&claimed), sent);
    (sent, lost, claimed)
}

#[tokio::test]
async fn an_event_of_a_lost_process_waits_while_its_queue_is_paused_or_has_no_consumer() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let (sent, _, _) = lost(&fixture, &["1"]).await;
    assert_eq!(fixture.store.rescue(MANY_ATTEMPTS).await.unwrap().events, 1);
    for (close, open) in [
        ("UPDATE queues SET paused_at = now()", "UPDATE queues SET paused_at = NULL"),
        ("UPDATE triggers SET enabled = false", "UPDATE triggers SET enabled = true"),
    ] {
        fixture.database.execute(close).await;
        assert!(fixture.store.claim_suspect(&[]).await.unwrap().is_none(), "{close}");
        fixture.database.execute(open).await;
    }
    let event = fixture.store.claim_suspect(&[]).await.unwrap().unwrap();
    assert_eq!((event.claim.event, event.claim.attempt, event.is_suspect), (sent[0], 2, true));
}

#[tokio::test]
async fn an_event_of_a_lost_process_keeps_its_place_of_the_queue() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let (_, _, _) = lost(&fixture, &["1"]).await;
    fixture.database.execute("UPDATE queues SET concurrency = 1").await;
    let behind = fixture.send(message("jobs", "2")).await;
    assert_eq!(fixture.store.rescue(MANY_ATTEMPTS).await.unwrap().events, 1);
    assert!(fixture.claim(&fixture.store, 9).await.is_empty());
    let event = fixture.store.claim_suspect(&[]).await.unwrap().unwrap();
    assert!(fixture.claim(&fixture.store, 9).await.is_empty());
    fixture.settle(&event, done(&event)).await;
    assert_eq!(ids(&fixture.claim(&fixture.store, 9).await), [behind]);
}

#[tokio::test]
async fn attempts_of_lost_processes_count_by_what_the_trigger_allows() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.database.execute("UPDATE triggers SET max_attempts = 1").await;
    let (sent, _, _) = lost(&fixture, &["1"]).await;
    let rescued = fixture.store.rescue(MANY_ATTEMPTS).await.unwrap();
    assert_eq!((rescued.events, rescued.dead), (0, 1));
    let dead = format!("dead_letters WHERE event_id = '{}' AND error_code = 'worker_lost'", sent[0]);
    assert_eq!(fixture.count(&dead).await, 1);

    fixture.database.execute("UPDATE triggers SET max_attempts = 2").await;
    let (_, _, _) = lost(&fixture, &["2"]).await;
    let rescued = fixture.store.rescue(1).await.unwrap();
    assert_eq!((rescued.events, rescued.dead), (1, 0));
}
