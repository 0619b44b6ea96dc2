//! Lanes that are made by one transaction and wanted by another.

use picloud_core::GroupKey;
use picloud_store::{NewEvent, StoreError};

use crate::outbox::{Fixture, NO_LIMIT, message};

fn grouped(queue: &str, group: &str) -> NewEvent {
    NewEvent { group: Some(GroupKey::new(group).unwrap()), ..message(queue, "1") }
}

#[tokio::test]
async fn the_first_two_messages_of_a_queue_may_come_at_once() {
    let fixture = Fixture::new().await;
    // The first has made the lane and is not committed.
    let held = fixture.database.hold("LOCK TABLE outbox IN EXCLUSIVE MODE").await;
    let (store, app) = (fixture.store.clone(), fixture.app);
    let first = tokio::spawn(async move { store.enqueue(app, &[grouped("jobs", "g")], NO_LIMIT).await });
    fixture.database.until_blocked().await;
    let store = fixture.store.clone();
    let second = tokio::spawn(async move { store.enqueue(app, &[grouped("jobs", "h")], NO_LIMIT).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while fixture.database.number(waiting).await < 2 && !second.is_finished() {}
    held.release().await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(fixture.count("outbox").await, 2);
}

#[tokio::test]
async fn a_lane_that_was_not_committed_is_made_again() {
    let fixture = Fixture::new().await;
    let first = message("jobs", "1");
    fixture.send(first.clone()).await;
    // The lane of `other` is made, and then there is an event of this id already.
    let twice = NewEvent { id: first.id, ..message("other", "1") };
    let refused = fixture.store.enqueue(fixture.app, &[twice], NO_LIMIT).await;
    assert!(refused.is_err(), "{refused:?}");
    fixture.send(grouped("other", "g")).await;
    assert_eq!(fixture.count("outbox").await, 2);
}

#[tokio::test]
async fn a_message_of_a_group_to_an_app_that_is_gone_says_so() {
    let fixture = Fixture::new().await;
    fixture.send(grouped("jobs", "g")).await;
    fixture.send(grouped("jobs", "g")).await;
    fixture.store.delete_app(fixture.app).await.unwrap();
    let refused = fixture.store.enqueue(fixture.app, &[grouped("jobs", "g")], NO_LIMIT).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "app" })), "{refused:?}");
}
