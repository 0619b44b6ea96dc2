//! The bound on what waits for one app.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use picloud_core::{AppId, Limits};
use sqlx::PgConnection;
use tokio::sync::Notify;

use super::NewEvent;
use crate::{
    Store, StoreError,
    text::{bigint, unsigned},
};

/// A full outbox is counted again no sooner than this, and than this many times what counting took.
const RECOUNT: Duration = Duration::from_millis(250);
const RECOUNT_TIMES: u32 = 20;

/// The most of an app's events that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimit {
    /// How many.
    pub events: u64,
    /// What they and the app's dead letters say, in bytes.
    pub bytes: u64,
}

impl OutboxLimit {
    /// None: for what the platform itself has to say.
    pub const NONE: Self = Self::events(u64::MAX);

    /// So many events, however large.
    pub const fn events(events: u64) -> Self {
        Self { events, bytes: u64::MAX }
    }

    /// That of an app.
    pub const fn of(limits: &Limits) -> Self {
        Self { events: limits.outbox_events, bytes: limits.outbox_bytes }
    }
}

/// What is known of how much of each app waits. It is at least what waits as far as this process has put it there:
/// counting happens only where that comes to the limit, so that a steady flow costs nothing. Events of other processes
/// are seen at the next count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<HashMap<AppId, Known>>,
    /// Apps that were refused something for its bytes, and how many they may have.
    crowded: Mutex<HashMap<AppId, u64>>,
    is_crowded: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    at_most: Waiting,
    counted_at: Instant,
    /// It is not counted again before this.
    fresh: Duration,
}

/// What waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    events: u64,
    bytes: u64,
}

impl Waiting {
    const fn and(self, more: Self) -> Self {
        Self { events: self.events.saturating_add(more.events), bytes: self.bytes.saturating_add(more.bytes) }
    }

    const fn is_within(self, limit: OutboxLimit) -> bool {
        self.events <= limit.events && self.bytes <= limit.bytes
    }
}

impl Backlog {
    /// Refuses `events` that would be beyond `limit`, with [`StoreError::OutboxFull`].
    pub(crate) async fn check(
        &self,
        connection: &mut PgConnection,
        app: AppId,
        events: &[NewEvent],
        limit: OutboxLimit,
    ) -> Result<(), StoreError> {
        let bytes = events.iter().map(|event| event.payload.len() as u64).sum();
        let more = Waiting { events: events.len() as u64, bytes };
        let known = self.lock().get(&app).copied();
        if known.is_none() && limit == OutboxLimit::NONE {
            return Ok(());
        }
        // Nothing is known of an app when the process starts.
        let at_most = match known {
            Some(known) if known.at_most.and(more).is_within(limit) => known.at_most,
            Some(known) if known.counted_at.elapsed() < known.fresh => known.at_most,
            _ => {
                let counted_at = Instant::now();
                let counted = count(connection, app, limit).await?;
                let fresh = RECOUNT.max(counted_at.elapsed() * RECOUNT_TIMES);
                self.lock().insert(app, Known { at_most: counted, counted_at: Instant::now(), fresh });
                counted
            }
        };
        if !at_most.and(more).is_within(limit) {
            if at_most.bytes.saturating_add(more.bytes) > limit.bytes {
                self.0.crowded.lock().unwrap_or_else(PoisonError::into_inner).insert(app, limit.bytes);
                self.0.is_crowded.notify_one();
            }
            return Err(full(at_most, more, limit));
        }
        if let Some(known) = self.lock().get_mut(&app) {
            known.at_most = known.at_most.and(more);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Waits until an app has been refused an event for the bytes of those that it has.
    pub async fn is_crowded(&self) {
        self.backlog.0.is_crowded.notified().await;
    }

    /// Makes room for events of the apps that were refused one for its bytes: of their dead letters, those that are resolved
    /// go, the oldest first, until a quarter of what the app may have is free or none is left. Answers how many went.
    pub async fn make_room(&self) -> Result<u64, StoreError> {
        let crowded =
            std::mem::take(&mut *self.backlog.0.crowded.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = 0;
        for (app, bytes) in crowded {
            let (mut left, before) = (bytes / 4, all);
            loop {
                let (removed, freed) = self.remove_resolved(app, left).await?;
                all += removed;
                left = left.saturating_sub(freed);
                if removed == 0 || left == 0 {
                    break;
                }
            }
            if all > before {
                // It is counted again.
                self.backlog.lock().remove(&app);
            }
        }
        Ok(all)
    }

    /// Removes some of an app's resolved letters, the oldest first, until `bytes` are free. Answers how many went, and what
    /// they took.
    async fn remove_resolved(&self, app: AppId, bytes: u64) -> Result<(u64, u64), StoreError> {
        const BATCH: i64 = 500;
        let removed = sqlx::query!(
            r#"WITH oldest AS (
                SELECT id, pg_column_size(payload) AS size FROM dead_letters
                WHERE app_id = $1 AND resolution IS NOT NULL ORDER BY id LIMIT $2
            ), counted AS (
                SELECT id, size, sum(size) OVER (ORDER BY id) AS up_to FROM oldest
            ), removed AS (
                DELETE FROM dead_letters d USING counted c WHERE d.id = c.id AND c.up_to - c.size < $3
                RETURNING c.size
            )
            SELECT count(*) AS "count!", coalesce(sum(size), 0) AS "bytes!" FROM removed"#,
            app.as_uuid(),
            BATCH,
            bigint(bytes),
        );
        let removed = removed.fetch_one(&self.pool).await?;
        Ok((unsigned(removed.count), unsigned(removed.bytes)))
    }
}

fn full(waiting: Waiting, more: Waiting, limit: OutboxLimit) -> StoreError {
    let OutboxLimit { events, bytes } = limit;
    if waiting.events.saturating_add(more.events) > events {
        let message = format!(
            "{} events of the app wait, and {} more would come; its limit outbox_events is {events}",
            waiting.events, more.events
        );
        return StoreError::OutboxFull { message, limit: events };
    }
    let message = format!(
        "the app's events that wait and its dead letters have {} bytes, and {} more would come; its limit outbox_bytes is {bytes}",
        waiting.bytes, more.bytes
    );
    StoreError::OutboxFull { message, limit: bytes }
}

/// Counts the app's events, as far as the limit, and what they and its dead letters take, compressed as they are on disk.
async fn count(connection: &mut PgConnection, app: AppId, limit: OutboxLimit) -> Result<Waiting, StoreError> {
    let counted = sqlx::query!(
        r#"SELECT (
            SELECT count(*) FROM (
                SELECT FROM outbox_lanes l CROSS JOIN LATERAL (
                    SELECT FROM outbox o WHERE o.lane_id = l.id AND o.claimed_by IS NULL AND NOT o.is_suspect LIMIT $2
                ) o
                WHERE l.app_id = $1 LIMIT $2
            ) waiting
        ) AS "events!", (
            SELECT coalesce(sum(o.size), 0) FROM outbox_lanes l CROSS JOIN LATERAL (
                SELECT pg_column_size(payload) AS size FROM outbox
                WHERE lane_id = l.id AND claimed_by IS NULL AND NOT is_suspect
                UNION ALL
                SELECT pg_column_size(payload) FROM outbox WHERE lane_id = l.id AND claimed_by IS NOT NULL
            ) o WHERE l.app_id = $1
        ) + (
            SELECT coalesce(sum(pg_column_size(payload)), 0) FROM dead_letters WHERE app_id = $1
        ) AS "bytes!""#,
        app.as_uuid(),
        bigint(limit.events.saturating_add(1)),
    );
    let counted = counted.fetch_one(connection).await?;
    Ok(Waiting { events: unsigned(counted.events), bytes: unsigned(counted.bytes) })
}
