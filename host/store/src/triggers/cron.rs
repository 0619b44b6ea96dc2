//! Times of schedules that have come: each makes one event, whoever looks.

use std::time::Duration;

use picloud_core::{AppId, EventId, OutboxKind, TriggerId, TriggerKind};
use serde::Serialize;
use sqlx::{Acquire as _, PgConnection};
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

use super::read::cron_source;
use crate::{
    Store, StoreError,
    outbox::{NewEvent, OutboxLimit, insert},
    text::bigint,
};

/// The most triggers that are looked after at once.
const BATCH: i64 = 100;

/// A schedule that cannot be read is looked at again after this.
const UNREADABLE: Duration = Duration::from_hours(1);

/// What looking after the schedules did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CronRound {
    /// Events that were made.
    pub events: usize,
    /// Times that were missed.
    pub missed: usize,
    /// How long until the next time; `None` where there is none.
    pub next_in: Option<Duration>,
}

/// When schedules are looked at again of which one has failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The most runs of a schedule that wait: one whose script is never run would fill the outbox.
const MAX_WAITING: i64 = 100;

#[derive(Serialize)]
struct Payload<'a> {
    #[serde(with = "time::serde::rfc3339")]
    scheduled_for: OffsetDateTime,
    schedule: &'a str,
    timezone: &'a str,
}

struct Due {
    trigger_id: Uuid,
    app_id: Uuid,
    schedule: String,
    timezone: String,
    missed: String,
    max_lateness_ms: i64,
    jitter_ms: i64,
    next_at: OffsetDateTime,
    now: OffsetDateTime,
}

impl Store {
    /// Makes the events of the times that have come, and notes the next times, in one transaction. Any process may do so at
    /// any time.
    pub async fn fire_schedules(&self) -> Result<CronRound, StoreError> {
        let mut round = CronRound::default();
        let mut transaction = self.pool.begin().await?;
        let due = sqlx::query_as!(
            Due,
            r#"SELECT c.trigger_id, t.app_id, c.schedule, c.timezone, c.missed, c.max_lateness_ms, c.jitter_ms,
                c.next_at AS "next_at!", statement_timestamp() AS "now!"
            FROM cron_trigger_details c JOIN triggers t ON t.id = c.trigger_id
            WHERE c.next_at <= statement_timestamp() AND t.enabled
            ORDER BY c.next_at LIMIT $1 FOR UPDATE OF c SKIP LOCKED"#,
            BATCH,
        );
        let due = due.fetch_all(&mut *transaction).await?;
        let is_full = bigint(due.len()) == BATCH;
        let mut lanes = std::collections::BTreeSet::new();
        let mut has_failed = false;
        for due in due {
            // What is wrong with one does not stop those of others.
            let mut single = transaction.begin().await?;
            match self.fire(&mut single, &due, &mut round).await {
                Ok(inserted) => {
                    single.commit().await?;
                    lanes.extend(inserted);
                }
                Err(error) => {
                    single.rollback().await?;
                    tracing::error!(%error, trigger = %due.trigger_id, app = %due.app_id, "a schedule failed");
                    has_failed = true;
                }
            }
        }
        transaction.commit().await?;
        self.wakes.wake(&lanes);
        let next = if is_full { Some(Duration::ZERO) } else { self.next_schedule().await? };
        round.next_in = if has_failed { next.map(|next| next.max(AGAIN)) } else { next };
        Ok(round)
    }

    async fn fire(
        &self,
        connection: &mut PgConnection,
        due: &Due,
        round: &mut CronRound,
    ) -> Result<Vec<crate::LaneId>, StoreError> {
        let (trigger, app) = (TriggerId::from_uuid(due.trigger_id), AppId::from_uuid(due.app_id));
        let read = cron_source(&due.schedule, &due.timezone, &due.missed, due.max_lateness_ms, due.jitter_ms);
        let source = match read {
            Ok(source) => source,
            Err(error) => {
                // Such as a zone that the database of zones has lost. The schedules of others go on.
                tracing::error!(%error, %trigger, %app, "a schedule cannot be read; looking at it again in an hour");
                advance(connection, trigger, Some(due.now + UNREADABLE)).await?;
                return Ok(Vec::new());
            }
        };
        let mut slots = source.due(due.next_at, due.now);
        if are_waiting(connection, trigger).await? {
            tracing::debug!(%trigger, %app, "{MAX_WAITING} runs of a schedule wait already; further ones are missed");
            slots.missed.append(&mut slots.run);
        }
        let mut events = Vec::with_capacity(slots.run.len());
        for slot in &slots.run {
            let payload = Payload {
                scheduled_for: slot.to_offset(UtcOffset::UTC),
                schedule: &due.schedule,
                timezone: &due.timezone,
            };
            let payload = serde_json::to_string(&payload).map_err(StoreError::corrupt)?;
            let delay = source.starts_at(trigger, *slot) - due.now;
            events.push(NewEvent {
                trigger: Some(trigger),
                delay: delay.try_into().unwrap_or(Duration::ZERO),
                ..NewEvent::new(OutboxKind::Trigger(TriggerKind::Cron), payload)
            });
        }
        let times: Vec<OffsetDateTime> = slots.run.iter().chain(&slots.missed).copied().collect();
        let ids: Vec<Option<Uuid>> = events
            .iter()
            .map(|event| Some(event.id.as_uuid()))
            .chain(slots.missed.iter().map(|_| None))
            .collect();
        let new = sqlx::query_scalar!(
            "INSERT INTO cron_slots (trigger_id, scheduled_for, event_id)
            SELECT $1, slot, event FROM unnest($2::timestamptz[], $3::uuid[]) AS s (slot, event)
            ON CONFLICT (trigger_id, scheduled_for) DO NOTHING RETURNING event_id",
            due.trigger_id,
            &times,
            &ids as _,
        );
        let new: Vec<Option<EventId>> =
            new.fetch_all(&mut *connection).await?.into_iter().map(|id| id.map(EventId::from_uuid)).collect();
        events.retain(|event| new.contains(&Some(event.id)));
        round.events += events.len();
        round.missed += new.iter().filter(|id| id.is_none()).count();
        // Schedules are bounded by themselves: they are not counted against the app's limit.
        let inserted = insert(self, connection, app, &events, OutboxLimit::NONE).await?;
        advance(connection, trigger, slots.next).await?;
        Ok(inserted.lanes.into_iter().collect())
    }

    /// How long until the next time of any schedule; `None` where there is none.
    async fn next_schedule(&self) -> Result<Option<Duration>, StoreError> {
        let next = sqlx::query_scalar!(
            r#"SELECT (extract(epoch FROM min(c.next_at) - statement_timestamp()) * 1000000)::bigint
            FROM cron_trigger_details c JOIN triggers t ON t.id = c.trigger_id WHERE t.enabled"#
        );
        let next = next.fetch_one(&self.claims).await?;
        Ok(next.map(|microseconds| Duration::from_micros(microseconds.try_into().unwrap_or(0))))
    }
}

/// Whether as many of its latest runs as may wait still do.
async fn are_waiting(connection: &mut PgConnection, trigger: TriggerId) -> Result<bool, StoreError> {
    let waiting = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
            SELECT event_id FROM cron_slots WHERE trigger_id = $1 AND event_id IS NOT NULL
            ORDER BY scheduled_for DESC LIMIT $2
        ) s JOIN outbox o ON o.id = s.event_id"#,
        trigger.as_uuid(),
        MAX_WAITING,
    );
    Ok(waiting.fetch_one(connection).await? >= MAX_WAITING)
}

/// Notes the next time of a schedule.
async fn advance(
    connection: &mut PgConnection,
    trigger: TriggerId,
    next: Option<OffsetDateTime>,
) -> Result<(), StoreError> {
    let advanced = sqlx::query!(
        "UPDATE cron_trigger_details SET next_at = $2 WHERE trigger_id = $1",
        trigger.as_uuid(),
        next,
    );
    advanced.execute(connection).await?;
    Ok(())
}
