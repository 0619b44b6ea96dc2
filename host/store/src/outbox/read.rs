//! Looking at what waits.

use picloud_core::{AppId, EventId, QueueName, ScriptName, TriggerName};
use time::OffsetDateTime;

use crate::{Page, PageSize, Store, StoreError, text::parse};

/// What a row of the outbox is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitState {
    /// Its turn.
    Pending,
    /// Its time.
    Scheduled,
    /// The one before it in its group.
    Blocked,
    /// Nothing: it is being handled.
    Running,
}

impl WaitState {
    /// As clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Running => "running",
        }
    }
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The event.
    pub event: EventId,
    /// Its kind, as `OutboxKind` names it.
    pub kind: String,
    /// What it waits for.
    pub state: WaitState,
    /// Its queue; `None` for none.
    pub queue: Option<QueueName>,
    /// The trigger that is to handle it, where that is known already.
    pub trigger: Option<TriggerName>,
    /// The script that is to handle it, where no trigger says so.
    pub script: Option<ScriptName>,
    /// When it is due; `None` while it is blocked.
    pub run_at: Option<OffsetDateTime>,
    /// How often it was tried.
    pub attempts: u16,
    /// Why the last attempt failed: code and message.
    pub error: Option<(String, String)>,
    /// The first event of its chain.
    pub root: EventId,
    /// The event whose handling made it.
    pub parent: Option<EventId>,
    /// How many events of its chain came before it.
    pub depth: u16,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

struct Row {
    id: uuid::Uuid,
    kind: String,
    queue: String,
    trigger: Option<String>,
    script: Option<String>,
    run_at: Option<OffsetDateTime>,
    is_due: bool,
    is_running: bool,
    attempts: i16,
    error_code: Option<String>,
    error: Option<String>,
    root_id: uuid::Uuid,
    parent_id: Option<uuid::Uuid>,
    depth: i16,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for OutboxRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let state = match (row.is_running, row.run_at, row.is_due) {
            (true, _, _) => WaitState::Running,
            (false, None, _) => WaitState::Blocked,
            (false, Some(_), true) => WaitState::Pending,
            (false, Some(_), false) => WaitState::Scheduled,
        };
        Ok(Self {
            event: EventId::from_uuid(row.id),
            kind: row.kind,
            state,
            queue: if row.queue.is_empty() { None } else { Some(parse(&row.queue)?) },
            trigger: row.trigger.as_deref().map(parse).transpose()?,
            script: row.script.as_deref().map(parse).transpose()?,
            run_at: row.run_at,
            attempts: row.attempts.cast_unsigned(),
            error: row.error_code.zip(row.error),
            root: EventId::from_uuid(row.root_id),
            parent: row.parent_id.map(EventId::from_uuid),
            depth: row.depth.cast_unsigned(),
            created_at: row.created_at,
        })
    }
}

impl Store {
    /// What waits of an app, the newest first, of one queue or of all.
    pub async fn outbox(
        &self,
        app: AppId,
        queue: Option<&QueueName>,
        before: Option<EventId>,
        size: PageSize,
    ) -> Result<Page<OutboxRow>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT o.id, o.kind, l.queue, t.name AS "trigger?", o.script,
                CASE WHEN isfinite(o.run_at) THEN o.run_at END AS run_at, o.run_at <= statement_timestamp() AS "is_due!",
                o.claimed_by IS NOT NULL AS "is_running!", o.attempts, o.error_code, o.error, o.root_id, o.parent_id,
                o.depth, o.created_at
            FROM outbox_lanes l JOIN outbox o ON o.lane_id = l.id LEFT JOIN triggers t ON t.id = o.trigger_id
            WHERE l.app_id = $1 AND ($2::text IS NULL OR l.queue = $2) AND ($3::uuid IS NULL OR o.id < $3)
            ORDER BY o.id DESC LIMIT $4"#,
            app.as_uuid(),
            queue.map(QueueName::as_str),
            before.map(EventId::as_uuid),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, OutboxRow::try_from)
    }

    /// An event of an app that is in the outbox.
    pub async fn outbox_event(&self, app: AppId, event: EventId) -> Result<Option<OutboxRow>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT o.id, o.kind, l.queue, t.name AS "trigger?", o.script,
                CASE WHEN isfinite(o.run_at) THEN o.run_at END AS run_at, o.run_at <= statement_timestamp() AS "is_due!",
                o.claimed_by IS NOT NULL AS "is_running!", o.attempts, o.error_code, o.error, o.root_id, o.parent_id,
                o.depth, o.created_at
            FROM outbox o JOIN outbox_lanes l ON l.id = o.lane_id LEFT JOIN triggers t ON t.id = o.trigger_id
            WHERE o.id = $2 AND o.app_id = $1"#,
            app.as_uuid(),
            event.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(OutboxRow::try_from).transpose()
    }

    /// The dead letter of an event, and the last run of it that the history has, by their ids.
    pub async fn event_traces(
        &self,
        app: AppId,
        event: EventId,
    ) -> Result<(Option<picloud_core::DeadLetterId>, Option<picloud_core::ExecutionId>), StoreError> {
        let row = sqlx::query!(
            r#"SELECT (SELECT id FROM dead_letters WHERE app_id = $1 AND event_id = $2 LIMIT 1) AS letter,
                (SELECT id FROM executions WHERE app_id = $1 AND event_id = $2 ORDER BY id DESC LIMIT 1) AS execution"#,
            app.as_uuid(),
            event.as_uuid(),
        );
        let row = row.fetch_one(&self.pool).await?;
        let letter = row.letter.map(picloud_core::DeadLetterId::from_uuid);
        Ok((letter, row.execution.map(picloud_core::ExecutionId::from_uuid)))
    }
}
