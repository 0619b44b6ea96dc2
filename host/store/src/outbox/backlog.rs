//! The bound on what waits for one app.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use picloud_core::AppId;
use sqlx::PgConnection;

use crate::{
    StoreError,
    text::{bigint, unsigned},
};

/// A full outbox is counted again no sooner than this.
const RECOUNT: Duration = Duration::from_millis(250);

/// The most events of an app that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimit(pub u64);

/// What is known of how many events of each app wait. It is at least what waits as far as this process has put it there:
/// counting happens only where that comes to the limit, so that a steady flow costs nothing. Events of other processes
/// are seen at the next count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(Arc<Mutex<HashMap<AppId, Known>>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    at_most: u64,
    counted_at: Option<Instant>,
}

impl Backlog {
    /// Refuses `more` events that would be beyond `limit`, with [`StoreError::OutboxFull`].
    pub(crate) async fn check(
        &self,
        connection: &mut PgConnection,
        app: AppId,
        more: usize,
        limit: OutboxLimit,
    ) -> Result<(), StoreError> {
        let (more, OutboxLimit(limit)) = (more as u64, limit);
        let known = self.lock().get(&app).copied();
        // Nothing is known of an app when the process starts.
        let mut at_most = match known {
            Some(known) if known.at_most + more <= limit => known.at_most,
            Some(known) if known.counted_at.is_some_and(|at| at.elapsed() < RECOUNT) => {
                return Err(full(known.at_most, more, limit));
            }
            _ => {
                let counted = count(connection, app, limit).await?;
                self.lock().insert(app, Known { at_most: counted, counted_at: Some(Instant::now()) });
                counted
            }
        };
        at_most += more;
        if at_most > limit {
            return Err(full(at_most - more, more, limit));
        }
        if let Some(known) = self.lock().get_mut(&app) {
            known.at_most += more;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full(waiting: u64, more: u64, limit: u64) -> StoreError {
    let message = format!(
        "{waiting} events of the app wait, and {more} more would come; its limit outbox_events is {limit}"
    );
    StoreError::OutboxFull { message, limit }
}

/// Counts the app's events, as far as `limit`.
async fn count(connection: &mut PgConnection, app: AppId, limit: u64) -> Result<u64, StoreError> {
    let counted = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
            SELECT FROM outbox_lanes l CROSS JOIN LATERAL (
                SELECT FROM outbox o WHERE o.lane_id = l.id AND o.claimed_by IS NULL AND NOT o.is_suspect LIMIT $2
            ) o
            WHERE l.app_id = $1 LIMIT $2
        ) waiting"#,
        app.as_uuid(),
        bigint(limit.saturating_add(1)),
    );
    Ok(unsigned(counted.fetch_one(connection).await?))
}
