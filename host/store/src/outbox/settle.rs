//! Ending what was claimed: done, to be tried again, given back, or given up.

use std::{collections::BTreeSet, time::Duration};

use picloud_core::{AppId, DeadLetterId, ErrorCode, ScriptName, WorkerId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Claim, LaneId, groups, insert::insert};
use crate::{
    Store, StoreError,
    dead_letters::{self, Fallen},
    text::{bigint, printable},
};

/// What is kept of an error's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// What becomes of a claimed event.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The claim.
    pub claim: Claim,
    /// Its app.
    pub app: AppId,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What can become of it.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It was handled, and had no effect that had to be committed with it.
    Done {
        /// The dead letter that it told of, which is handled now.
        dead_letter: Option<DeadLetterId>,
        /// Whether it has a group.
        is_grouped: bool,
    },
    /// It failed and is tried again.
    Retry {
        /// How long it waits.
        delay: Duration,
        /// Why it failed.
        fault: EventFault,
    },
    /// It was not tried. The attempt does not count.
    GiveBack {
        /// How long it waits.
        delay: Duration,
    },
    /// It is given up.
    Dead {
        /// Why.
        fault: EventFault,
        /// The script that would have handled it, and its version.
        script: Option<(ScriptName, i32)>,
    },
}

/// Why an event failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFault {
    /// The kind of failure.
    pub code: ErrorCode,
    /// In plain words.
    pub message: String,
}

impl EventFault {
    /// A fault of `code`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn text(&self) -> String {
        printable(&self.message, MAX_MESSAGE_BYTES).into_owned()
    }
}

/// Events by id and attempt.
#[derive(Default)]
struct Claims {
    ids: Vec<Uuid>,
    attempts: Vec<i16>,
}

impl Claims {
    fn push(&mut self, claim: &Claim) {
        self.ids.push(claim.event.as_uuid());
        self.attempts.push(claim.attempt.cast_signed());
    }
}

impl Store {
    /// Ends events that this process has claimed, all or none. Of those that were taken from it since, nothing is changed.
    pub async fn settle(&self, settlements: &[Settlement]) -> Result<(), StoreError> {
        let worker = self.worker;
        let (simple, others): (Vec<&Settlement>, Vec<&Settlement>) =
            settlements.iter().partition(|settlement| {
                matches!(settlement.verdict, Verdict::Done { dead_letter: None, is_grouped: false })
            });
        if others.is_empty() {
            return remove(&mut *self.pool.acquire().await?, worker, &simple).await.map(drop);
        }
        let mut transaction = self.pool.begin().await?;
        let mut lanes = BTreeSet::new();
        remove(&mut transaction, worker, &simple).await?;
        self.settle_done(&mut transaction, worker, &others, &mut lanes).await?;
        retry(&mut transaction, worker, &others, &mut lanes).await?;
        give_back(&mut transaction, worker, &others, &mut lanes).await?;
        self.bury(&mut transaction, worker, &others, &mut lanes).await?;
        transaction.commit().await?;
        self.wakes.wake(&lanes);
        Ok(())
    }

    async fn settle_done(
        &self,
        connection: &mut PgConnection,
        worker: WorkerId,
        settlements: &[&Settlement],
        lanes: &mut BTreeSet<LaneId>,
    ) -> Result<(), StoreError> {
        let done: Vec<&Settlement> =
            settlements.iter().copied().filter(|it| matches!(it.verdict, Verdict::Done { .. })).collect();
        let removed = remove(connection, worker, &done).await?;
        let ids: BTreeSet<Uuid> = removed.iter().map(|removed| removed.id).collect();
        let handled: Vec<DeadLetterId> = done
            .iter()
            .filter(|it| ids.contains(&it.claim.event.as_uuid()))
            .filter_map(|it| match it.verdict {
                Verdict::Done { dead_letter, .. } => dead_letter,
                _ => None,
            })
            .collect();
        dead_letters::handled(connection, &handled).await?;
        advance(connection, &removed, lanes).await
    }

    /// Moves events to the dead letters, and tells those triggers that wait for such.
    async fn bury(
        &self,
        connection: &mut PgConnection,
        worker: WorkerId,
        settlements: &[&Settlement],
        lanes: &mut BTreeSet<LaneId>,
    ) -> Result<(), StoreError> {
        let fallen: Vec<Fallen> = settlements
            .iter()
            .filter_map(|it| match &it.verdict {
                Verdict::Dead { fault, script } => {
                    Some(Fallen { claim: it.claim, fault: fault.clone(), script: script.clone() })
                }
                _ => None,
            })
            .collect();
        lanes.extend(bury(self, connection, worker, &fallen).await?);
        Ok(())
    }
}

/// Moves events that `worker` has claimed to the dead letters, within a transaction. Answers the lanes to wake.
pub(super) async fn bury(
    store: &Store,
    connection: &mut PgConnection,
    worker: WorkerId,
    fallen: &[Fallen],
) -> Result<BTreeSet<LaneId>, StoreError> {
    let mut lanes = BTreeSet::new();
    if fallen.is_empty() {
        return Ok(lanes);
    }
    let (letters, removed) = dead_letters::bury(connection, worker, fallen).await?;
    advance(connection, &removed, &mut lanes).await?;
    for letter in &letters {
        // One after the other: each has the whole of its event, for each that is told. There are few, which is bounded by what
        // failed: they are not counted against the app's limit.
        let events = dead_letters::tell(connection, letter).await?;
        let inserted = insert(store, connection, letter.app(), &events, super::OutboxLimit::NONE).await?;
        lanes.extend(inserted.lanes);
    }
    Ok(lanes)
}

/// A row of the outbox that is gone.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    pub(crate) id: Uuid,
    pub(crate) lane: LaneId,
    pub(crate) group: Option<String>,
}

async fn remove(
    connection: &mut PgConnection,
    worker: WorkerId,
    settlements: &[&Settlement],
) -> Result<Vec<Removed>, StoreError> {
    let mut claims = Claims::default();
    for settlement in settlements {
        claims.push(&settlement.claim);
    }
    if claims.ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        "DELETE FROM outbox o USING unnest($1::uuid[], $2::smallint[]) AS c (id, attempts)
        WHERE o.id = c.id AND o.claimed_by = $3 AND o.attempts = c.attempts RETURNING o.id, o.lane_id, o.group_key",
        &claims.ids,
        &claims.attempts,
        worker.as_uuid(),
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    Ok(rows.map(|row| Removed { id: row.id, lane: LaneId(row.lane_id), group: row.group_key }).collect())
}

/// Removes one event together with what its handling commits. `false`: it was taken from its worker, nothing may be
/// committed.
pub(crate) async fn acknowledge(
    connection: &mut PgConnection,
    claim: &Claim,
    dead_letter: Option<DeadLetterId>,
    lanes: &mut BTreeSet<LaneId>,
) -> Result<bool, StoreError> {
    let row = sqlx::query!(
        "DELETE FROM outbox WHERE id = $1 AND claimed_by = $2 AND attempts = $3 RETURNING lane_id, group_key",
        claim.event.as_uuid(),
        claim.worker.as_uuid(),
        claim.attempt.cast_signed(),
    );
    let Some(row) = row.fetch_optional(&mut *connection).await? else { return Ok(false) };
    let removed = Removed { id: claim.event.as_uuid(), lane: LaneId(row.lane_id), group: row.group_key };
    advance(connection, &[removed], lanes).await?;
    if let Some(dead_letter) = dead_letter {
        dead_letters::handled(connection, &[dead_letter]).await?;
    }
    Ok(true)
}

pub(super) async fn advance(
    connection: &mut PgConnection,
    removed: &[Removed],
    lanes: &mut BTreeSet<LaneId>,
) -> Result<(), StoreError> {
    let ended: BTreeSet<(LaneId, String)> =
        removed.iter().filter_map(|removed| Some((removed.lane, removed.group.clone()?))).collect();
    groups::advance(connection, &ended).await?;
    lanes.extend(ended.into_iter().map(|(lane, _)| lane));
    Ok(())
}

async fn retry(
    connection: &mut PgConnection,
    worker: WorkerId,
    settlements: &[&Settlement],
    lanes: &mut BTreeSet<LaneId>,
) -> Result<(), StoreError> {
    let (mut claims, mut delays) = (Claims::default(), Vec::new());
    let (mut codes, mut messages) = (Vec::new(), Vec::new());
    for settlement in settlements {
        if let Verdict::Retry { delay, fault } = &settlement.verdict {
            claims.push(&settlement.claim);
            delays.push(bigint(delay.as_micros()));
            codes.push(fault.code.as_str());
            messages.push(fault.text());
        }
    }
    if claims.ids.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query_scalar!(
        "UPDATE outbox o SET claimed_by = NULL, claimed_at = NULL, is_suspect = false,
            run_at = statement_timestamp() + c.delay * interval '1 microsecond', error_code = c.code, error = c.message
        FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::text[])
            AS c (id, attempts, delay, code, message)
        WHERE o.id = c.id AND o.claimed_by = $6 AND o.attempts = c.attempts RETURNING o.lane_id",
        &claims.ids,
        &claims.attempts,
        &delays,
        &codes as _,
        &messages,
        worker.as_uuid(),
    );
    lanes.extend(rows.fetch_all(connection).await?.into_iter().map(LaneId));
    Ok(())
}

async fn give_back(
    connection: &mut PgConnection,
    worker: WorkerId,
    settlements: &[&Settlement],
    lanes: &mut BTreeSet<LaneId>,
) -> Result<(), StoreError> {
    let (mut claims, mut delays) = (Claims::default(), Vec::new());
    for settlement in settlements {
        if let Verdict::GiveBack { delay } = &settlement.verdict {
            claims.push(&settlement.claim);
            delays.push(bigint(delay.as_micros()));
        }
    }
    if claims.ids.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query_scalar!(
        "UPDATE outbox o SET claimed_by = NULL, claimed_at = NULL, attempts = o.attempts - 1,
            run_at = CASE WHEN c.delay = 0 THEN o.run_at
                ELSE statement_timestamp() + c.delay * interval '1 microsecond' END
        FROM unnest($1::uuid[], $2::smallint[], $3::bigint[]) AS c (id, attempts, delay)
        WHERE o.id = c.id AND o.claimed_by = $4 AND o.attempts = c.attempts RETURNING o.lane_id",
        &claims.ids,
        &claims.attempts,
        &delays,
        worker.as_uuid(),
    );
    lanes.extend(rows.fetch_all(connection).await?.into_iter().map(LaneId));
    Ok(())
}
