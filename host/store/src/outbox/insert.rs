//! Putting events into the outbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use picloud_core::{AppId, EventId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{LaneId, NewEvent, OutboxLimit, groups, lanes::LaneKey};
use crate::{
    Store, StoreError,
    request_keys::{KeepAnswer, keep_under},
    text::bigint,
};

/// How often an insert is begun again whose lanes went with an app that was made again.
const TRIES: u32 = 3;

/// What became of events that were to be put into the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// Those that are there now.
    pub events: Vec<EventId>,
    /// Those that were dropped, because a message with the same key was sent within a day; with that message.
    pub duplicates: Vec<(EventId, EventId)>,
}

/// The same, with the lanes to wake once it is committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inserted {
    pub(crate) enqueued: Enqueued,
    pub(crate) lanes: BTreeSet<LaneId>,
}

impl Store {
    /// Puts events of an app into the outbox, all or none, and wakes those who handle them.
    ///
    /// [`StoreError::OutboxFull`] beyond `limit`; [`StoreError::NotFound`] if the app is gone.
    pub async fn enqueue(
        &self,
        app: AppId,
        events: &[NewEvent],
        limit: OutboxLimit,
    ) -> Result<Enqueued, StoreError> {
        self.enqueue_under(app, events, limit, None).await
    }

    /// The same for a request under a key, whose answer is kept in the same transaction. [`StoreError::Conflict`] if the key
    /// was taken over.
    pub async fn enqueue_under(
        &self,
        app: AppId,
        events: &[NewEvent],
        limit: OutboxLimit,
        keep: Option<&KeepAnswer<'_>>,
    ) -> Result<Enqueued, StoreError> {
        let inserted = again(|| self.try_enqueue(app, events, limit, keep)).await?;
        self.wakes.wake(&inserted.lanes);
        Ok(inserted.enqueued)
    }

    async fn try_enqueue(
        &self,
        app: AppId,
        events: &[NewEvent],
        limit: OutboxLimit,
        keep: Option<&KeepAnswer<'_>>,
    ) -> Result<Inserted, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let inserted = insert(self, &mut transaction, app, events, limit).await?;
        answered(&mut transaction, keep, &inserted.enqueued).await?;
        transaction.commit().await?;
        Ok(inserted)
    }
}

/// Keeps the answer of a request that has made events, in their transaction.
pub(super) async fn answered(
    connection: &mut PgConnection,
    keep: Option<&KeepAnswer<'_>>,
    enqueued: &Enqueued,
) -> Result<(), StoreError> {
    match keep {
        Some(keep) => keep_under(connection, keep.hold, &(keep.answer)(enqueued)).await,
        None => Ok(()),
    }
}

/// Does again what came upon a lane that went with its app.
pub(super) async fn again<T, F>(work: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 1;
    loop {
        match work().await {
            Err(StoreError::Conflict) if tries < TRIES => tries += 1,
            ended => return ended,
        }
    }
}

/// Puts events into the outbox, in the transaction of what they come of. [`StoreError::Conflict`] where a lane went
/// meanwhile: begin again.
pub(crate) async fn insert(
    store: &Store,
    connection: &mut PgConnection,
    app: AppId,
    events: &[NewEvent],
    limit: OutboxLimit,
) -> Result<Inserted, StoreError> {
    if events.is_empty() {
        return Ok(Inserted::default());
    }
    store.backlog.check(connection, app, events, limit).await?;
    let duplicates = drop_duplicates(connection, app, events).await?;
    let kept: Vec<&NewEvent> = events.iter().filter(|event| !duplicates.contains_key(&event.id)).collect();
    let keys = kept.iter().map(|event| lane_key(event)).collect();
    let lanes = store.lanes.find(connection, app, &keys).await?;
    let mut columns = Columns::with_capacity(kept.len());
    let places = groups::places(connection, &kept, |event| lanes[&lane_key(event)]).await;
    // Among others, a lane is gone.
    let places = places.inspect_err(|_| store.lanes.forget(app))?;
    for (event, place) in kept.iter().zip(places) {
        columns.push(event, lanes[&lane_key(event)], place);
    }
    if columns.write(connection, app).await? < kept.len() as u64 {
        store.lanes.forget(app);
        return Err(StoreError::Conflict);
    }
    let woken = kept.iter().filter(|event| event.reply.is_none()).map(|event| lanes[&lane_key(event)]);
    Ok(Inserted {
        lanes: woken.collect(),
        enqueued: Enqueued {
            events: kept.iter().map(|event| event.id).collect(),
            duplicates: duplicates.into_iter().collect(),
        },
    })
}

/// The order within a group is that of the queue, whatever priorities say.
fn lane_key(event: &NewEvent) -> LaneKey {
    let priority = if event.group.is_some() { 0 } else { event.priority };
    (event.queue.as_ref().map_or_else(String::new, |queue| queue.as_str().to_owned()), priority)
}

/// Takes the keys of messages that have one. Answers those whose key is taken, with the message that has it.
async fn drop_duplicates(
    connection: &mut PgConnection,
    app: AppId,
    events: &[NewEvent],
) -> Result<BTreeMap<EventId, EventId>, StoreError> {
    let mut duplicates = BTreeMap::new();
    let mut wanted: BTreeMap<(&str, &str), EventId> = BTreeMap::new();
    for event in events {
        let (Some(key), Some(queue)) = (&event.dedupe_key, &event.queue) else { continue };
        let first = *wanted.entry((queue.as_str(), key.as_str())).or_insert(event.id);
        if first != event.id {
            duplicates.insert(event.id, first);
        }
    }
    if wanted.is_empty() {
        return Ok(duplicates);
    }
    let queues: Vec<&str> = wanted.keys().map(|(queue, _)| *queue).collect();
    let keys: Vec<&str> = wanted.keys().map(|(_, key)| *key).collect();
    let ids: Vec<Uuid> = wanted.values().map(|id| id.as_uuid()).collect();
    // In the order of the keys, so that no two wait for each other.
    let taken = sqlx::query!(
        "INSERT INTO queue_dedupe_keys AS k (app_id, queue, key, event_id, expires_at)
        SELECT $1, queue, key, event_id, statement_timestamp() + interval '24 hours'
        FROM unnest($2::text[], $3::text[], $4::uuid[]) WITH ORDINALITY AS new (queue, key, event_id, at) ORDER BY at
        ON CONFLICT (app_id, queue, key) DO UPDATE
            SET event_id = excluded.event_id, expires_at = excluded.expires_at
            WHERE k.expires_at <= statement_timestamp()",
        app.as_uuid(),
        &queues as _,
        &keys as _,
        &ids,
    );
    let taken = taken.execute(&mut *connection).await.map_err(|error| StoreError::foreign(error, "app"))?;
    if taken.rows_affected() == wanted.len() as u64 {
        return Ok(duplicates);
    }
    let rows = sqlx::query!(
        "SELECT k.queue, k.key, k.event_id FROM queue_dedupe_keys k
        JOIN unnest($2::text[], $3::text[]) AS w (queue, key) ON k.app_id = $1 AND k.queue = w.queue AND k.key = w.key",
        app.as_uuid(),
        &queues as _,
        &keys as _,
    );
    for row in rows.fetch_all(connection).await? {
        let holder = EventId::from_uuid(row.event_id);
        if let Some(id) = wanted.get(&(row.queue.as_str(), row.key.as_str())).filter(|id| **id != holder) {
            let replaced: Vec<EventId> =
                duplicates.iter().filter(|(_, first)| *first == id).map(|(second, _)| *second).collect();
            duplicates.insert(*id, holder);
            duplicates.extend(replaced.into_iter().map(|second| (second, holder)));
        }
    }
    Ok(duplicates)
}

/// The events, as the arrays that the statement takes.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    lanes: Vec<i64>,
    kinds: Vec<&'static str>,
    triggers: Vec<Option<Uuid>>,
    scripts: Vec<Option<String>>,
    versions: Vec<Option<i32>>,
    payloads: Vec<String>,
    delays: Vec<i64>,
    inboxes: Vec<Option<Uuid>>,
    workers: Vec<Option<Uuid>>,
    roots: Vec<Uuid>,
    parents: Vec<Option<Uuid>>,
    depths: Vec<i16>,
    groups: Vec<Option<String>>,
    places: Vec<Option<i64>>,
    waits: Vec<bool>,
    letters: Vec<Option<Uuid>>,
}

impl Columns {
    fn with_capacity(count: usize) -> Self {
        Self { ids: Vec::with_capacity(count), payloads: Vec::with_capacity(count), ..Self::default() }
    }

    fn push(&mut self, event: &NewEvent, lane: LaneId, place: groups::Place) {
        self.ids.push(event.id.as_uuid());
        self.lanes.push(lane.0);
        self.kinds.push(event.kind.as_str());
        self.triggers.push(event.trigger.map(picloud_core::TriggerId::as_uuid));
        self.scripts.push(event.script.as_ref().map(|script| script.as_str().to_owned()));
        self.versions.push(event.version);
        self.payloads.push(event.payload.clone());
        self.delays.push(bigint(event.delay.min(Duration::from_hours(366 * 24)).as_micros()));
        self.inboxes.push(event.reply.map(|reply| reply.inbox.as_uuid()));
        self.workers.push(event.reply.map(|reply| reply.node.as_uuid()));
        self.roots.push(event.lineage.root.as_uuid());
        self.parents.push(event.lineage.parent.map(EventId::as_uuid));
        self.depths.push(i16::try_from(event.lineage.depth).unwrap_or(i16::MAX));
        self.groups.push(event.group.as_ref().map(|group| group.as_str().to_owned()));
        self.places.push(place.number);
        self.waits.push(place.waits);
        self.letters.push(event.dead_letter.map(picloud_core::DeadLetterId::as_uuid));
    }

    /// Answers how many were written: those whose lane is gone are not.
    async fn write(&self, connection: &mut PgConnection, app: AppId) -> Result<u64, StoreError> {
        let lanes: Vec<i64> = self.lanes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let written = sqlx::query!(
            "WITH lanes AS MATERIALIZED (
                SELECT id FROM outbox_lanes WHERE id = ANY ($1) AND app_id = $2 ORDER BY id FOR KEY SHARE
            )
            INSERT INTO outbox (id, lane_id, app_id, kind, trigger_id, script, version, payload, run_at, attempts,
                claimed_by, claimed_at, reply_to, root_id, parent_id, depth, group_key, group_seq, not_before,
                dead_letter_id)
            SELECT e.id, e.lane, $2, e.kind, e.trigger_id, e.script, e.version, e.payload,
                CASE WHEN e.waits THEN 'infinity'
                    ELSE statement_timestamp() + e.delay * interval '1 microsecond' END,
                CASE WHEN e.worker IS NULL THEN 0 ELSE 1 END,
                e.worker, CASE WHEN e.worker IS NOT NULL THEN statement_timestamp() END,
                e.inbox, e.root, e.parent, e.depth, e.grouped, e.place,
                CASE WHEN e.waits AND e.delay > 0 THEN statement_timestamp() + e.delay * interval '1 microsecond' END,
                e.letter
            FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::uuid[], $7::text[], $8::integer[], $9::text[],
                $10::bigint[], $11::uuid[], $12::uuid[], $13::uuid[], $14::uuid[], $15::smallint[], $16::text[],
                $17::bigint[], $18::boolean[], $19::uuid[])
                AS e (id, lane, kind, trigger_id, script, version, payload, delay, inbox, worker, root, parent, depth,
                    grouped, place, waits, letter)
            JOIN lanes ON lanes.id = e.lane",
            &lanes,
            app.as_uuid(),
            &self.ids,
            &self.lanes,
            &self.kinds as _,
            &self.triggers as _,
            &self.scripts as _,
            &self.versions as _,
            &self.payloads,
            &self.delays,
            &self.inboxes as _,
            &self.workers as _,
            &self.roots,
            &self.parents as _,
            &self.depths,
            &self.groups as _,
            &self.places as _,
            &self.waits,
            &self.letters as _,
        );
        Ok(written.execute(connection).await?.rows_affected())
    }
}
