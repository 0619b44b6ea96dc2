//! Lanes: what events of an app wait in.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use picloud_core::{AppId, QueueName};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{LaneId, queues};
use crate::{
    Store, StoreError,
    text::{parse, unsigned},
};

/// The most lanes of an app's queues: each queue has one, and one more for each priority that it uses. Of what is in no
/// queue there is always one: schedules and what tells of failures are never refused.
const MAX_LANES: i64 = 2_000;

/// How many empty lanes are removed at once.
const BATCH: i64 = 500;

/// What is remembered at most.
const CACHED: usize = 20_000;

/// What a lane is for.
pub(crate) type LaneKey = (String, i16);

/// Lanes that were seen, and are there for every transaction. They never change, and go with their app only.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaneCache(Arc<Mutex<HashMap<(AppId, LaneKey), LaneId>>>);

/// A lane as whoever handles events sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its id.
    pub id: LaneId,
    /// Its app.
    pub app: AppId,
    /// The queue; `None` for events that are in no queue.
    pub queue: Option<QueueName>,
    /// Those with more go first.
    pub priority: i16,
    /// Whether its events may be handled: the queue is not paused and has a consumer.
    pub is_open: bool,
    /// How many of the queue's messages may be handled at once in the whole installation.
    pub concurrency: Option<u32>,
}

/// A lane in which something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueLane {
    /// The lane.
    pub lane: LaneId,
    /// How long until its first event is due; nothing if it is.
    pub due_in: Duration,
}

impl LaneCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<(AppId, LaneKey), LaneId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an app's lanes: one of them was not there any more.
    pub(crate) fn forget(&self, app: AppId) {
        self.lock().retain(|(known, _), _| *known != app);
    }

    /// The lanes of these keys, made where they are missing.
    pub(crate) async fn find(
        &self,
        connection: &mut PgConnection,
        app: AppId,
        keys: &BTreeSet<LaneKey>,
    ) -> Result<HashMap<LaneKey, LaneId>, StoreError> {
        let mut found = HashMap::with_capacity(keys.len());
        let mut missing = Vec::new();
        {
            let cache = self.lock();
            for key in keys {
                match cache.get(&(app, key.clone())) {
                    Some(lane) => _ = found.insert(key.clone(), *lane),
                    None => missing.push(key.clone()),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let mut cacheable = Vec::new();
        for Seen { key, lane, is_own } in make(connection, app, &missing).await? {
            if !is_own {
                cacheable.push(((app, key.clone()), lane));
            }
            found.insert(key, lane);
        }
        let mut cache = self.lock();
        if cache.len() + cacheable.len() > CACHED {
            cache.clear();
        }
        cache.extend(cacheable);
        drop(cache);
        Ok(found)
    }
}

/// A lane as a transaction sees it.
struct Seen {
    key: LaneKey,
    lane: LaneId,
    /// Whether this very transaction has made it: others do not see it yet, and perhaps never will.
    is_own: bool,
}

async fn make(connection: &mut PgConnection, app: AppId, keys: &[LaneKey]) -> Result<Vec<Seen>, StoreError> {
    let queues: Vec<&str> = keys.iter().map(|(queue, _)| queue.as_str()).collect();
    let priorities: Vec<i16> = keys.iter().map(|(_, priority)| *priority).collect();
    // Looked for first: an insert that finds its row takes a number of the sequence each time.
    let mut lanes = read(connection, app, &queues, &priorities).await?;
    if lanes.len() < keys.len() {
        if queues.iter().any(|queue| !queue.is_empty()) {
            check_count(connection, app, keys.len().saturating_sub(lanes.len())).await?;
        }
        let made = sqlx::query!(
            "INSERT INTO outbox_lanes (app_id, queue, priority)
            SELECT $1, queue, priority FROM unnest($2::text[], $3::smallint[]) AS new (queue, priority)
            ORDER BY queue, priority ON CONFLICT DO NOTHING",
            app.as_uuid(),
            &queues as _,
            &priorities,
        );
        made.execute(&mut *connection).await.map_err(|error| StoreError::foreign(error, "app"))?;
        let named = sqlx::query!(
            // A row that is there is locked, so that nobody forgets the queue meanwhile.
            "INSERT INTO queues (app_id, name)
            SELECT $1, queue FROM unnest($2::text[]) AS new (queue) WHERE queue <> '' GROUP BY queue
            ORDER BY queue ON CONFLICT (app_id, name) DO UPDATE SET name = excluded.name",
            app.as_uuid(),
            &queues as _,
        );
        named.execute(&mut *connection).await?;
        lanes = read(connection, app, &queues, &priorities).await?;
    }
    Ok(lanes)
}

/// Refuses `more` lanes that are beyond what an app may have, once those in which nothing waits are gone.
async fn check_count(connection: &mut PgConnection, app: AppId, more: usize) -> Result<(), StoreError> {
    let has_room = async |connection: &mut PgConnection| {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM outbox_lanes WHERE app_id = $1 AND queue <> ''"#,
            app.as_uuid()
        );
        Ok::<_, StoreError>(unsigned(count.fetch_one(connection).await?) + more as u64 <= unsigned(MAX_LANES))
    };
    if has_room(connection).await? {
        return Ok(());
    }
    while remove_empty(connection, Some(app), 0).await? > 0 {
        if has_room(connection).await? {
            return Ok(());
        }
    }
    let message = format!(
        "messages wait in {MAX_LANES} of the app's queues and priorities of queues, which is the most; use fewer, or send it \
         once some are empty"
    );
    Err(StoreError::Invalid(message))
}

/// Removes some of the lanes of queues in which nothing waits, and the queues that are nothing else then, of one app or of all that have more than `kept` lanes.
async fn remove_empty(
    connection: &mut PgConnection,
    app: Option<AppId>,
    kept: i64,
) -> Result<u64, StoreError> {
    // Who puts something into a lane has a lock on it until it is committed: what is not locked by others is empty for good
    // if it is empty after that.
    let locked = sqlx::query_scalar!(
        "SELECT l.id FROM outbox_lanes l
        WHERE l.queue <> '' AND ($1::uuid IS NULL OR l.app_id = $1)
            AND ($2::bigint = 0 OR l.app_id IN (SELECT app_id FROM outbox_lanes GROUP BY app_id HAVING count(*) > $2::bigint))
            AND NOT EXISTS (SELECT FROM outbox WHERE lane_id = l.id AND claimed_by IS NULL AND NOT is_suspect)
        ORDER BY l.id LIMIT $3 FOR UPDATE SKIP LOCKED",
        app.map(AppId::as_uuid),
        kept,
        BATCH,
    );
    let locked = locked.fetch_all(&mut *connection).await?;
    let removed = sqlx::query!(
        "DELETE FROM outbox_lanes l WHERE id = ANY ($1)
            AND NOT EXISTS (SELECT FROM outbox WHERE lane_id = l.id AND claimed_by IS NULL AND NOT is_suspect)
            AND NOT EXISTS (SELECT FROM outbox WHERE lane_id = l.id AND claimed_by IS NOT NULL)
            AND NOT EXISTS (SELECT FROM outbox WHERE lane_id = l.id AND claimed_by IS NULL AND is_suspect)
            RETURNING app_id, queue",
        &locked,
    );
    let removed = removed.fetch_all(&mut *connection).await?;
    let queues: BTreeSet<(Uuid, &str)> = removed.iter().map(|lane| (lane.app_id, &*lane.queue)).collect();
    queues::forget_unused(connection, queues).await?;
    Ok(removed.len() as u64)
}

async fn read(
    connection: &mut PgConnection,
    app: AppId,
    queues: &[&str],
    priorities: &[i16],
) -> Result<Vec<Seen>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT l.id, l.queue, l.priority,
            l.xmin IS NOT DISTINCT FROM pg_current_xact_id_if_assigned()::xid AS "is_own!"
        FROM outbox_lanes l
        JOIN unnest($2::text[], $3::smallint[]) AS k (queue, priority)
            ON l.app_id = $1 AND l.queue = k.queue AND l.priority = k.priority"#,
        app.as_uuid(),
        queues as _,
        priorities,
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    let seen =
        rows.map(|row| Seen { key: (row.queue, row.priority), lane: LaneId(row.id), is_own: row.is_own });
    Ok(seen.collect())
}

impl Store {
    /// Removes lanes of queues in which nothing waits, of apps that have more than a hundred; some at once. Answers how many.
    pub async fn remove_empty_lanes(&self) -> Result<u64, StoreError> {
        const KEPT: i64 = 100;
        let mut transaction = self.pool.begin().await?;
        let removed = remove_empty(&mut transaction, None, KEPT).await?;
        transaction.commit().await?;
        Ok(removed)
    }

    /// What is known of these lanes. Those that are gone are left out.
    pub async fn lanes(&self, lanes: &[LaneId]) -> Result<Vec<Lane>, StoreError> {
        let ids: Vec<i64> = lanes.iter().map(|lane| lane.0).collect();
        let rows = sqlx::query!(
            r#"SELECT l.id AS "id!", l.app_id AS "app_id!", l.queue AS "queue!", l.priority AS "priority!",
                q.concurrency AS "concurrency?",
                (l.queue = '' OR (q.paused_at IS NULL AND EXISTS (
                    SELECT FROM queue_trigger_details d JOIN triggers t ON t.id = d.trigger_id
                    WHERE d.app_id = l.app_id AND d.queue = l.queue AND t.enabled
                ))) AS "is_open!"
            FROM outbox_lanes l LEFT JOIN queues q ON q.app_id = l.app_id AND q.name = l.queue
            WHERE l.id = ANY ($1)"#,
            &ids,
        );
        let rows = rows.fetch_all(&self.claims).await?.into_iter();
        rows.map(|row| {
            Ok(Lane {
                id: LaneId(row.id),
                app: AppId::from_uuid(row.app_id),
                queue: if row.queue.is_empty() { None } else { Some(parse(&row.queue)?) },
                priority: row.priority,
                is_open: row.is_open,
                concurrency: row.concurrency.map(|most| u32::try_from(most).unwrap_or(1)),
            })
        })
        .collect()
    }

    /// Every lane in which something waits. Costs one look into the index for each of them.
    pub async fn due_lanes(&self) -> Result<Vec<DueLane>, StoreError> {
        let rows = sqlx::query!(
            r#"WITH RECURSIVE lanes AS (
                (SELECT lane_id, run_at FROM outbox WHERE claimed_by IS NULL AND NOT is_suspect
                ORDER BY lane_id, run_at LIMIT 1)
                UNION ALL
                SELECT next.lane_id, next.run_at FROM lanes CROSS JOIN LATERAL (
                    SELECT lane_id, run_at FROM outbox
                    WHERE claimed_by IS NULL AND NOT is_suspect AND lane_id > lanes.lane_id
                    ORDER BY lane_id, run_at LIMIT 1
                ) next
            )
            SELECT lane_id AS "lane!",
                greatest(0, (extract(epoch FROM run_at - statement_timestamp()) * 1000000))::bigint AS "due_in!"
            FROM lanes WHERE run_at < 'infinity'"#
        );
        let rows = rows.fetch_all(&self.claims).await?.into_iter();
        Ok(rows
            .map(|row| DueLane {
                lane: LaneId(row.lane),
                due_in: Duration::from_micros(unsigned(row.due_in)),
            })
            .collect())
    }

    /// When the first event of each of these lanes is due. Those in which nothing waits are left out.
    pub async fn next_due(&self, lanes: &[LaneId]) -> Result<Vec<DueLane>, StoreError> {
        let ids: Vec<i64> = lanes.iter().map(|lane| lane.0).collect();
        let rows = sqlx::query!(
            r#"SELECT l.id AS "lane!",
                greatest(0, (extract(epoch FROM o.run_at - statement_timestamp()) * 1000000))::bigint AS "due_in!"
            FROM unnest($1::bigint[]) AS l (id) CROSS JOIN LATERAL (
                SELECT run_at FROM outbox
                WHERE lane_id = l.id AND claimed_by IS NULL AND NOT is_suspect ORDER BY run_at LIMIT 1
            ) o WHERE o.run_at < 'infinity'"#,
            &ids,
        );
        let rows = rows.fetch_all(&self.claims).await?.into_iter();
        Ok(rows
            .map(|row| DueLane {
                lane: LaneId(row.lane),
                due_in: Duration::from_micros(unsigned(row.due_in)),
            })
            .collect())
    }
}
