//! Processes that handle events: that they live, and what becomes of what they had when they do not.

use std::{collections::BTreeSet, time::Duration};

use picloud_core::{AppId, ErrorCode, EventId, WorkerId};
use uuid::Uuid;

use super::{
    Claim,
    settle::{EventFault, bury},
};
use crate::{Store, StoreError, dead_letters::Fallen};

/// What one statement moves to the dead letters: their events may be large, and a statement that is cancelled for its time
/// would be each time.
const AT_ONCE: usize = 8;

/// A process whose row was not touched for so long is taken for lost, whatever it holds.
pub const STALE: Duration = Duration::from_secs(15);

/// One that does not listen any more is taken for lost after this time, which is a little more than that of a heartbeat.
pub const SILENT: Duration = Duration::from_secs(6);

/// The lock that a process holds on its listening connection: the first of two keys; the second is made of its id.
const MEMBERSHIP: i32 = 0x7063_6c64;

/// What was taken from lost processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Events that are to be tried again.
    pub events: u64,
    /// Events that were given up: a caller had waited for them, or they had no attempt left.
    pub dead: u64,
    /// Whether others have claimed something, so that it is worth looking again soon.
    pub others_work: bool,
}

/// An event that this process has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnClaim {
    /// The claim.
    pub claim: Claim,
    /// The event's app.
    pub app: AppId,
    /// Whether a caller waits for its answer.
    pub is_awaited: bool,
}

/// The second key of a process's lock.
pub(crate) fn membership_key(worker: WorkerId) -> i32 {
    let bytes = worker.as_uuid().into_bytes();
    i32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
}

pub(crate) const fn membership_class() -> i32 {
    MEMBERSHIP
}

impl Store {
    /// Says that this process lives. To be called before it claims, and every few seconds while it has claimed something.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let beaten = sqlx::query!(
            "INSERT INTO outbox_workers (id) VALUES ($1)
            ON CONFLICT (id) DO UPDATE SET heartbeat_at = statement_timestamp()",
            self.worker.as_uuid(),
        );
        beaten.execute(&self.claims).await?;
        Ok(())
    }

    /// Says that this process has ended and has nothing claimed.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let left = sqlx::query!("DELETE FROM outbox_workers WHERE id = $1", self.worker.as_uuid());
        left.execute(&self.claims).await?;
        Ok(())
    }

    /// Takes from lost processes what they had claimed. What a caller had waited for, and what has no attempt left of
    /// those that its trigger allows (`max_attempts` where it does not say), becomes a dead letter with the code `worker_lost`; the rest is tried again, one by one.
    pub async fn rescue(&self, max_attempts: u16) -> Result<Rescued, StoreError> {
        let others = sqlx::query!(
            r#"SELECT o.claimed_by AS "worker!", (
                w.id IS NULL OR w.heartbeat_at < statement_timestamp() - $2 * interval '1 millisecond'
                OR (w.heartbeat_at < statement_timestamp() - $3 * interval '1 millisecond' AND NOT EXISTS (
                    SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2
                        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND l.classid::bigint = $4 AND l.granted
                        AND l.objid::bigint = ('x' || right(o.claimed_by::text, 8))::bit(32)::bigint
                ))
            ) AS "is_lost!"
            FROM (SELECT DISTINCT claimed_by FROM outbox WHERE claimed_by IS NOT NULL AND claimed_by <> $1) o
            LEFT JOIN outbox_workers w ON w.id = o.claimed_by"#,
            self.worker.as_uuid(),
            STALE.as_millis() as f64,
            SILENT.as_millis() as f64,
            i64::from(MEMBERSHIP),
        );
        let others = others.fetch_all(&self.claims).await?;
        let others_work = others.iter().any(|other| !other.is_lost);
        let lost: Vec<Uuid> = others.iter().filter(|other| other.is_lost).map(|other| other.worker).collect();
        if lost.is_empty() {
            return Ok(Rescued { others_work, ..Rescued::default() });
        }
        let mut rescued = Rescued { others_work, ..Rescued::default() };
        for lost in lost {
            let (events, dead) = self.take_over(WorkerId::from_uuid(lost), max_attempts).await?;
            rescued.events += events;
            rescued.dead += dead;
        }
        Ok(rescued)
    }

    async fn take_over(&self, lost: WorkerId, max_attempts: u16) -> Result<(u64, u64), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // The process may have come back to life since it was looked at.
        let is_back = sqlx::query_scalar!(
            r#"SELECT heartbeat_at >= statement_timestamp() - $2 * interval '1 millisecond' AS "is_back!"
            FROM outbox_workers WHERE id = $1 FOR UPDATE"#,
            lost.as_uuid(),
            SILENT.as_millis() as f64,
        );
        if is_back.fetch_optional(&mut *transaction).await? == Some(true) {
            return Ok((0, 0));
        }
        let fault = EventFault::new(ErrorCode::WorkerLost, "the process that handled it was lost");
        let rows = sqlx::query!(
            r#"SELECT o.id, o.attempts, o.reply_to IS NOT NULL AS "is_awaited!", t.max_attempts AS "max_attempts?"
            FROM outbox o
            JOIN outbox_lanes l ON l.id = o.lane_id
            LEFT JOIN queue_trigger_details q ON q.app_id = l.app_id AND q.queue = l.queue
            LEFT JOIN triggers t ON t.id = coalesce(o.trigger_id, q.trigger_id)
            WHERE o.claimed_by = $1 ORDER BY o.id FOR UPDATE OF o SKIP LOCKED"#,
            lost.as_uuid(),
        );
        let (mut fallen, mut kept) = (Vec::new(), Vec::new());
        for row in rows.fetch_all(&mut *transaction).await? {
            let attempt = row.attempts.cast_unsigned();
            let most = row.max_attempts.map_or(max_attempts, i16::cast_unsigned);
            if row.is_awaited || attempt >= most {
                let claim = Claim { event: EventId::from_uuid(row.id), worker: lost, attempt };
                fallen.push(Fallen { claim, fault: fault.clone(), script: None });
            } else {
                kept.push(row.id);
            }
        }
        let mut lanes = BTreeSet::new();
        for few in fallen.chunks(AT_ONCE) {
            lanes.extend(bury(self, &mut transaction, lost, few).await?);
        }
        let freed = sqlx::query!(
            "UPDATE outbox SET claimed_by = NULL, claimed_at = NULL, is_suspect = true, error_code = $2, error = $3
            WHERE id = ANY ($1)",
            &kept,
            fault.code.as_str(),
            fault.message,
        );
        freed.execute(&mut *transaction).await?;
        transaction.commit().await?;
        self.wakes.wake(&lanes);
        Ok((kept.len() as u64, fallen.len() as u64))
    }

    /// What this process has claimed, as the database has it.
    pub async fn own_claims(&self) -> Result<Vec<OwnClaim>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT id, app_id, attempts, reply_to IS NOT NULL AS "is_awaited!" FROM outbox WHERE claimed_by = $1"#,
            self.worker.as_uuid(),
        );
        let rows = rows.fetch_all(&self.claims).await?.into_iter();
        Ok(rows
            .map(|row| OwnClaim {
                claim: Claim {
                    event: EventId::from_uuid(row.id),
                    worker: self.worker,
                    attempt: row.attempts.cast_unsigned(),
                },
                app: AppId::from_uuid(row.app_id),
                is_awaited: row.is_awaited,
            })
            .collect())
    }

    /// Whether events of lost processes wait.
    pub async fn has_suspects(&self) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM outbox WHERE claimed_by IS NULL AND is_suspect) AS "found!""#
        );
        Ok(found.fetch_one(&self.claims).await?)
    }

    /// Removes the rows of processes that have not lived for a day.
    pub async fn remove_old_workers(&self) -> Result<u64, StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM outbox_workers WHERE heartbeat_at < statement_timestamp() - interval '1 day'"
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_a_process_is_the_end_of_its_id() {
        let worker: WorkerId = "0198f1c2-7d3a-7c21-9f7e-3c5dffffff01".parse().unwrap();
        assert_eq!(membership_key(worker), -255);
    }
}
