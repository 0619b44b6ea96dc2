//! A process whose clock is wrong. All times of the outbox are those of the database; a clock enters the ids of events only.

use std::time::Duration;

use picloud_core::{EventId, GroupKey};
use picloud_store::{NewEvent, Verdict};
use uuid::Uuid;

use crate::outbox::{Fixture, NO_LIMIT, done, fault, ids, message};

const YEAR: u64 = 365 * 24 * 3600 * 1000;

/// An id as a process makes it whose clock says that so many years have passed since 1970.
fn id_of(years: u64) -> EventId {
    let time = u128::from(years * YEAR) << 80;
    EventId::from_uuid(Uuid::from_u128(time | 7 << 76 | 2 << 62 | u128::from(years)))
}

fn of_clock(years: u64, event: NewEvent) -> NewEvent {
    NewEvent { id: id_of(years), ..event }
}

#[tokio::test]
async fn messages_come_in_the_order_of_the_database_whatever_clocks_say() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let grouped = || NewEvent { group: Some(GroupKey::new("g").unwrap()), ..message("jobs", "1") };
    let (ahead, behind) = (id_of(130), id_of(1));
    fixture.send(of_clock(130, message("jobs", "1"))).await;
    fixture.send(of_clock(1, message("jobs", "2"))).await;
    assert_eq!(ids(&fixture.claim(&fixture.store, 9).await), [ahead, behind]);
    fixture.database.execute("DELETE FROM outbox").await;

    fixture.send(of_clock(130, grouped())).await;
    fixture.send(of_clock(1, grouped())).await;
    for expected in [ahead, behind] {
        let claimed = fixture.claim(&fixture.store, 9).await;
        assert_eq!(ids(&claimed), [expected]);
        fixture.settle(&claimed[0], done(&claimed[0])).await;
    }
}

#[tokio::test]
async fn delays_and_retries_are_counted_from_the_time_of_the_database() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let later = Duration::from_hours(1);
    for years in [1, 130] {
        let delayed = NewEvent { delay: later, ..message("jobs", "1") };
        fixture.store.enqueue(fixture.app, &[of_clock(years, delayed)], NO_LIMIT).await.unwrap();
        let due = fixture.store.due_lanes().await.unwrap();
        assert!(due[0].due_in > later / 2 && due[0].due_in <= later, "{due:?}");
        fixture.database.execute("UPDATE outbox SET run_at = now()").await;
        let event = fixture.claim(&fixture.store, 9).await.remove(0);
        fixture.settle(&event, Verdict::Retry { delay: later, fault: fault("x") }).await;
        let due = fixture.store.due_lanes().await.unwrap();
        assert!(due[0].due_in > later / 2 && due[0].due_in <= later, "{due:?}");
        fixture.database.execute("DELETE FROM outbox").await;
    }
}
