//! Reading triggers.

use std::{collections::BTreeSet, str::FromStr, time::Duration};

use picloud_core::{
    AppId, CronSource, EventId, KvOperation, KvOperations, MissedRuns, OutboxKind, PrincipalId,
    RetryOverrides, Schedule, TriggerId, TriggerKind, TriggerName, TriggerSource, TriggerSpec,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{CronSlot, Trigger};
use crate::{
    Page, PageSize, Store, StoreError,
    text::{bigint, parse, unsigned},
};

/// Which triggers.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    /// Of this app only.
    pub(super) app: Option<Uuid>,
    pub(super) id: Option<TriggerId>,
    pub(super) name: Option<&'a TriggerName>,
    /// Whose names come after this one.
    pub(super) after: Option<&'a TriggerName>,
    pub(super) only_enabled: bool,
    /// So many; all of them if this is `None`.
    pub(super) most: Option<i64>,
}

impl Store {
    /// The triggers whose name comes after `after`, by name.
    pub async fn triggers(
        &self,
        app: AppId,
        after: Option<&TriggerName>,
        size: PageSize,
    ) -> Result<Page<Trigger>, StoreError> {
        let most = Some(size.and_one());
        let wanted = Wanted { app: Some(app.as_uuid()), after, most, ..Wanted::default() };
        let mut connection = self.pool.acquire().await?;
        Page::of(select(&mut connection, wanted).await?, size, |(_, trigger)| Ok(trigger))
    }

    /// A trigger by its id.
    pub async fn trigger(&self, app: AppId, id: TriggerId) -> Result<Option<Trigger>, StoreError> {
        one(&mut *self.pool.acquire().await?, app, id).await
    }

    /// A trigger by its name.
    pub async fn trigger_by_name(
        &self,
        app: AppId,
        name: &TriggerName,
    ) -> Result<Option<Trigger>, StoreError> {
        by_name(&mut *self.pool.acquire().await?, app, name).await
    }

    /// The times of a trigger's schedule that have come, the latest first.
    pub async fn cron_slots(&self, trigger: TriggerId, size: PageSize) -> Result<Vec<CronSlot>, StoreError> {
        let rows = sqlx::query!(
            "SELECT scheduled_for, event_id, created_at FROM cron_slots
            WHERE trigger_id = $1 ORDER BY scheduled_for DESC LIMIT $2",
            trigger.as_uuid(),
            bigint(size.get()),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        Ok(rows
            .map(|row| CronSlot {
                scheduled_for: row.scheduled_for,
                event: row.event_id.map(EventId::from_uuid),
                created_at: row.created_at,
            })
            .collect())
    }
}

/// The triggers that are enabled, of one app or of all, with their apps, by app and name.
pub(crate) async fn enabled_triggers(
    connection: &mut PgConnection,
    app: Option<Uuid>,
) -> Result<Vec<(Uuid, Trigger)>, StoreError> {
    select(connection, Wanted { app, only_enabled: true, ..Wanted::default() }).await
}

pub(super) async fn one(
    connection: &mut PgConnection,
    app: AppId,
    id: TriggerId,
) -> Result<Option<Trigger>, StoreError> {
    let wanted = Wanted { app: Some(app.as_uuid()), id: Some(id), ..Wanted::default() };
    Ok(select(connection, wanted).await?.pop().map(|(_, trigger)| trigger))
}

pub(super) async fn by_name(
    connection: &mut PgConnection,
    app: AppId,
    name: &TriggerName,
) -> Result<Option<Trigger>, StoreError> {
    let wanted = Wanted { app: Some(app.as_uuid()), name: Some(name), ..Wanted::default() };
    Ok(select(connection, wanted).await?.pop().map(|(_, trigger)| trigger))
}

/// Triggers with their apps, by app and name.
pub(super) async fn select(
    connection: &mut PgConnection,
    wanted: Wanted<'_>,
) -> Result<Vec<(Uuid, Trigger)>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT t.id, t.app_id, t.kind, t.name, s.name AS script, t.enabled,
            t.max_attempts, t.retry_base_delay_ms, t.retry_max_delay_ms,
            t.registered_by_principal, t.created_at, t.updated_at,
            k.collection_pattern AS "collection?", k.operations AS "operations?",
            c.schedule AS "schedule?", c.timezone AS "timezone?", c.missed AS "missed?",
            c.max_lateness_ms AS "max_lateness_ms?", c.jitter_ms AS "jitter_ms?", c.next_at AS "next_at?",
            q.queue AS "queue?", u.concurrency AS "concurrency?",
            p.topic_pattern AS "topic?", e.address AS "address?",
            d.source_kinds AS "source_kinds?", d.source_triggers AS "source_triggers?"
        FROM triggers t JOIN scripts s ON s.id = t.script_id
        LEFT JOIN kv_trigger_details k ON k.trigger_id = t.id
        LEFT JOIN cron_trigger_details c ON c.trigger_id = t.id
        LEFT JOIN queue_trigger_details q ON q.trigger_id = t.id
        LEFT JOIN queues u ON u.app_id = q.app_id AND u.name = q.queue
        LEFT JOIN topic_trigger_details p ON p.trigger_id = t.id
        LEFT JOIN email_trigger_details e ON e.trigger_id = t.id
        LEFT JOIN dead_letter_trigger_details d ON d.trigger_id = t.id
        WHERE ($1::uuid IS NULL OR t.app_id = $1) AND ($2::uuid IS NULL OR t.id = $2)
            AND ($3::text IS NULL OR t.name = $3) AND t.name > $4 AND (t.enabled OR NOT $5)
        ORDER BY t.app_id, t.name LIMIT $6"#,
        wanted.app,
        wanted.id.map(TriggerId::as_uuid),
        wanted.name.map(TriggerName::as_str),
        wanted.after.map_or("", TriggerName::as_str),
        wanted.only_enabled,
        wanted.most,
    );
    rows.fetch_all(connection).await?.into_iter().map(Row::read).collect()
}

struct Row {
    id: Uuid,
    app_id: Uuid,
    kind: String,
    name: String,
    script: String,
    enabled: bool,
    max_attempts: Option<i16>,
    retry_base_delay_ms: Option<i64>,
    retry_max_delay_ms: Option<i64>,
    registered_by_principal: Uuid,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    collection: Option<String>,
    operations: Option<Vec<String>>,
    schedule: Option<String>,
    timezone: Option<String>,
    missed: Option<String>,
    max_lateness_ms: Option<i64>,
    jitter_ms: Option<i64>,
    next_at: Option<OffsetDateTime>,
    queue: Option<String>,
    concurrency: Option<i32>,
    topic: Option<String>,
    address: Option<String>,
    source_kinds: Option<Vec<String>>,
    source_triggers: Option<Vec<String>>,
}

impl Row {
    fn read(self) -> Result<(Uuid, Trigger), StoreError> {
        let retry = RetryOverrides {
            max_attempts: self.max_attempts.map(i16::unsigned_abs),
            base_delay_ms: self.retry_base_delay_ms.map(unsigned),
            max_delay_ms: self.retry_max_delay_ms.map(unsigned),
        };
        let spec = TriggerSpec {
            name: parse(&self.name)?,
            script: parse(&self.script)?,
            enabled: self.enabled,
            retry,
            source: self.source()?,
        };
        let trigger = Trigger {
            id: TriggerId::from_uuid(self.id),
            spec,
            registered_by: PrincipalId::from_uuid(self.registered_by_principal),
            next_at: self.next_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        Ok((self.app_id, trigger))
    }

    fn source(&self) -> Result<TriggerSource, StoreError> {
        Ok(match parse::<TriggerKind>(&self.kind)? {
            TriggerKind::Kv => kv_source(
                self.collection.as_deref().ok_or_else(incomplete)?,
                needed_list(self.operations.as_deref())?,
            )?,
            TriggerKind::Cron => TriggerSource::Cron(self.cron()?),
            TriggerKind::Queue => TriggerSource::Queue {
                queue: needed(self.queue.as_deref())?,
                concurrency: self.concurrency.map(i32::unsigned_abs),
            },
            TriggerKind::Topic => TriggerSource::Topic { topic: needed(self.topic.as_deref())? },
            TriggerKind::Email => TriggerSource::Email { address: Some(needed(self.address.as_deref())?) },
            TriggerKind::DeadLetter => dead_letter_source(
                needed_list(self.source_kinds.as_deref())?,
                needed_list(self.source_triggers.as_deref())?,
            )?,
        })
    }

    fn cron(&self) -> Result<CronSource, StoreError> {
        let (Some(schedule), Some(timezone)) = (&self.schedule, &self.timezone) else {
            return Err(incomplete());
        };
        let missed = self.missed.as_deref().ok_or_else(incomplete)?;
        let (lateness, jitter) = (self.max_lateness_ms.unwrap_or(0), self.jitter_ms.unwrap_or(0));
        cron_source(schedule, timezone, missed, lateness, jitter)
    }
}

/// The schedule of a trigger, of its columns.
pub(super) fn cron_source(
    schedule: &str,
    timezone: &str,
    missed: &str,
    max_lateness_ms: i64,
    jitter_ms: i64,
) -> Result<CronSource, StoreError> {
    Ok(CronSource {
        schedule: Schedule::new(schedule, timezone).map_err(StoreError::corrupt)?,
        missed: MissedRuns::parse(missed).ok_or_else(incomplete)?,
        max_lateness: Duration::from_millis(unsigned(max_lateness_ms)),
        jitter: Duration::from_millis(unsigned(jitter_ms)),
    })
}

/// What a trigger for key-value entries waits for, of its columns.
pub(super) fn kv_source(collection: &str, operations: &[String]) -> Result<TriggerSource, StoreError> {
    let all = [KvOperation::Set, KvOperation::Delete];
    let stored = all.into_iter().filter(|operation| operations.iter().any(|name| name == operation.as_str()));
    let operations = KvOperations::new(stored).ok_or_else(incomplete)?;
    Ok(TriggerSource::Kv { collection: parse(collection)?, operations })
}

/// What a trigger for dead letters waits for, of its columns.
pub(super) fn dead_letter_source(kinds: &[String], triggers: &[String]) -> Result<TriggerSource, StoreError> {
    let kind = |name: &String| OutboxKind::parse(name).ok_or_else(incomplete);
    Ok(TriggerSource::DeadLetter {
        source_kinds: kinds.iter().map(kind).collect::<Result<BTreeSet<_>, _>>()?,
        source_triggers: triggers.iter().map(|name| parse(name)).collect::<Result<BTreeSet<_>, _>>()?,
    })
}

fn needed<T: FromStr>(column: Option<&str>) -> Result<T, StoreError>
where
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    parse(column.ok_or_else(incomplete)?)
}

fn needed_list(column: Option<&[String]>) -> Result<&[String], StoreError> {
    column.ok_or_else(incomplete)
}

fn incomplete() -> StoreError {
    StoreError::Database("a stored trigger is not complete".into())
}
