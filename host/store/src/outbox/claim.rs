//! Claiming events that are due.

use picloud_core::{AppId, DeadLetterId, EventId, InboxId, Lineage, OutboxKind, TriggerId, WorkerId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Claim, ClaimedEvent, LaneId};
use crate::{Store, StoreError, text::parse};

/// How many events of a lane are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneClaim {
    /// The lane.
    pub lane: LaneId,
    /// At most so many.
    pub most: u32,
    /// Whether the concurrency of its queue is limited.
    pub is_limited: bool,
}

struct Row {
    id: Uuid,
    lane_id: i64,
    app_id: Uuid,
    kind: String,
    trigger_id: Option<Uuid>,
    script: Option<String>,
    version: Option<i32>,
    payload: String,
    attempts: i16,
    root_id: Uuid,
    parent_id: Option<Uuid>,
    depth: i16,
    group_key: Option<String>,
    reply_to: Option<Uuid>,
    dead_letter_id: Option<Uuid>,
    created_at: OffsetDateTime,
    is_suspect: bool,
}

impl Row {
    fn event(self, worker: WorkerId) -> Result<ClaimedEvent, StoreError> {
        let unknown = || StoreError::Database(format!("unknown kind of event {:?}", self.kind).into());
        Ok(ClaimedEvent {
            claim: Claim {
                event: EventId::from_uuid(self.id),
                worker,
                attempt: self.attempts.cast_unsigned(),
            },
            app: AppId::from_uuid(self.app_id),
            lane: LaneId(self.lane_id),
            kind: OutboxKind::parse(&self.kind).ok_or_else(unknown)?,
            trigger: self.trigger_id.map(TriggerId::from_uuid),
            script: self.script.as_deref().map(parse).transpose()?,
            version: self.version,
            payload: self.payload,
            group: self.group_key.as_deref().map(parse).transpose()?,
            lineage: Lineage {
                root: EventId::from_uuid(self.root_id),
                parent: self.parent_id.map(EventId::from_uuid),
                depth: self.depth.cast_unsigned(),
            },
            reply_to: self.reply_to.map(InboxId::from_uuid),
            dead_letter: self.dead_letter_id.map(DeadLetterId::from_uuid),
            created_at: self.created_at,
            is_suspect: self.is_suspect,
        })
    }
}

impl Store {
    /// Claims events that are due for this process, the oldest of each lane first. Counts an attempt for each.
    ///
    /// Of lanes whose queue has a limited concurrency, no more are claimed than the queue allows together with what others
    /// have claimed of it; they are left out while another process claims of the same queue.
    pub async fn claim(&self, lanes: &[LaneClaim]) -> Result<Vec<ClaimedEvent>, StoreError> {
        let worker = self.worker;
        let (limited, free): (Vec<LaneClaim>, Vec<LaneClaim>) =
            lanes.iter().partition(|lane| lane.is_limited);
        let mut rows = Vec::new();
        if !free.is_empty() {
            rows.extend(claim_due(&self.claims, worker, &free).await?);
        }
        for lane in limited {
            rows.extend(self.claim_limited(lane).await?);
        }
        rows.into_iter().map(|row| row.event(worker)).collect()
    }

    async fn claim_limited(&self, lane: LaneClaim) -> Result<Vec<Row>, StoreError> {
        let mut transaction = self.claims.begin().await?;
        // Whoever claims of a queue has its row, so that two cannot both find the last place free.
        let queue = sqlx::query!(
            "SELECT q.app_id, q.name, q.concurrency FROM queues q
            JOIN outbox_lanes l ON l.app_id = q.app_id AND l.queue = q.name
            WHERE l.id = $1 AND q.paused_at IS NULL FOR NO KEY UPDATE OF q SKIP LOCKED",
            lane.lane.0,
        );
        let Some(queue) = queue.fetch_optional(&mut *transaction).await? else { return Ok(Vec::new()) };
        let mut most = lane.most;
        if let Some(concurrency) = queue.concurrency {
            // What a lost process had keeps its place until it is claimed again.
            let taken = sqlx::query_scalar!(
                r#"SELECT (
                    SELECT count(*) FROM outbox o JOIN outbox_lanes l ON l.id = o.lane_id
                    WHERE l.app_id = $1 AND l.queue = $2 AND o.claimed_by IS NOT NULL
                ) + (
                    SELECT count(*) FROM outbox o JOIN outbox_lanes l ON l.id = o.lane_id
                    WHERE l.app_id = $1 AND l.queue = $2 AND o.claimed_by IS NULL AND o.is_suspect
                ) AS "count!""#,
                queue.app_id,
                queue.name,
            );
            let taken = taken.fetch_one(&mut *transaction).await?;
            most = most.min(u32::try_from(i64::from(concurrency) - taken).unwrap_or(0));
        }
        if most == 0 {
            // At once: whoever is dropped gives its lock back some time later, and others leave the queue out meanwhile.
            transaction.rollback().await?;
            return Ok(Vec::new());
        }
        let rows = claim_due(&mut *transaction, self.worker, &[LaneClaim { most, ..lane }]).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Claims one event whose process was lost, if there is one that is due and whose queue, if it has one, is open. Those
    /// of the apps in `last` come after others, in that order.
    pub async fn claim_suspect(&self, last: &[AppId]) -> Result<Option<ClaimedEvent>, StoreError> {
        let last: Vec<Uuid> = last.iter().map(|app| app.as_uuid()).collect();
        let row = sqlx::query_as!(
            Row,
            "UPDATE outbox o SET claimed_by = $1, claimed_at = statement_timestamp(), attempts = o.attempts + 1
            WHERE o.ctid = ANY (ARRAY(
                SELECT s.ctid FROM outbox s JOIN outbox_lanes l ON l.id = s.lane_id
                LEFT JOIN queues q ON q.app_id = l.app_id AND q.name = l.queue
                WHERE s.claimed_by IS NULL AND s.is_suspect AND s.run_at <= statement_timestamp()
                    AND (l.queue = '' OR (q.paused_at IS NULL AND EXISTS (
                        SELECT FROM queue_trigger_details d JOIN triggers t ON t.id = d.trigger_id
                        WHERE d.app_id = l.app_id AND d.queue = l.queue AND t.enabled
                    )))
                ORDER BY array_position($2::uuid[], s.app_id) NULLS FIRST, s.run_at, s.id
                LIMIT 1 FOR UPDATE OF s SKIP LOCKED
            ))
            RETURNING o.id, o.lane_id, o.app_id, o.kind, o.trigger_id, o.script, o.version, o.payload, o.attempts,
                o.root_id, o.parent_id, o.depth, o.group_key, o.reply_to, o.dead_letter_id, o.created_at, o.is_suspect",
            self.worker.as_uuid(),
            &last,
        );
        row.fetch_optional(&self.claims).await?.map(|row| row.event(self.worker)).transpose()
    }
}

async fn claim_due<'a>(
    connection: impl sqlx::PgExecutor<'a>,
    worker: WorkerId,
    lanes: &[LaneClaim],
) -> Result<Vec<Row>, StoreError> {
    let ids: Vec<i64> = lanes.iter().map(|lane| lane.lane.0).collect();
    let most: Vec<i64> = lanes.iter().map(|lane| i64::from(lane.most)).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"WITH claimed AS (
            UPDATE outbox o SET claimed_by = $1, claimed_at = statement_timestamp(), attempts = o.attempts + 1
            WHERE o.ctid = ANY (ARRAY(
                SELECT due.ctid FROM unnest($2::bigint[], $3::bigint[]) AS l (id, most)
                CROSS JOIN LATERAL (
                    SELECT ctid FROM outbox
                    WHERE lane_id = l.id AND claimed_by IS NULL AND NOT is_suspect AND run_at <= statement_timestamp()
                    ORDER BY run_at, id LIMIT l.most FOR UPDATE SKIP LOCKED
                ) due
            ))
            RETURNING o.id, o.lane_id, o.app_id, o.kind, o.trigger_id, o.script, o.version, o.payload, o.attempts,
                o.root_id, o.parent_id, o.depth, o.group_key, o.reply_to, o.dead_letter_id, o.created_at, o.is_suspect,
                o.run_at
        )
        SELECT id AS "id!", lane_id AS "lane_id!", app_id AS "app_id!", kind AS "kind!", trigger_id, script, version,
            payload AS "payload!", attempts AS "attempts!", root_id AS "root_id!", parent_id, depth AS "depth!",
            group_key, reply_to, dead_letter_id, created_at AS "created_at!", is_suspect AS "is_suspect!"
        FROM claimed ORDER BY run_at, id"#,
        worker.as_uuid(),
        &ids,
        &most,
    );
    Ok(rows.fetch_all(connection).await?)
}
