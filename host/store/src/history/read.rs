//! Reading the executions.

use picloud_core::{
    AppId, EgressRecord, ErrorCode, EventId, EventKind, ExecutionId, Fault, Outcome, RequestId, ScriptName,
    SourcePosition, TriggerName, Usage,
};
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::{
    Page, PageSize, Store, StoreError,
    text::{parse, unsigned},
    usage::OK,
};

/// One finished invocation, without its logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Its id. Ids sort by time.
    pub id: ExecutionId,
    /// The request it answered.
    pub request_id: RequestId,
    /// The script.
    pub script: ScriptName,
    /// The version that ran.
    pub version: i32,
    /// What started it.
    pub kind: EventKind,
    /// When it started.
    pub started_at: OffsetDateTime,
    /// How it ended.
    pub outcome: Outcome,
    /// The status the client got, where there was one.
    pub status: Option<u16>,
    /// What it used.
    pub usage: Usage,
    /// Whether log lines were left out because the budget was used up.
    pub logs_truncated: bool,
    /// The event of the outbox that it handled, if one.
    pub event: Option<HandledEvent>,
}

/// The event of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandledEvent {
    /// Its id.
    pub id: EventId,
    /// The first event of its chain, or the run that it came of.
    pub root: EventId,
    /// What it came of.
    pub parent: Option<EventId>,
    /// The trigger that it ran for, if one.
    pub trigger: Option<TriggerName>,
    /// Which attempt it was, from 1.
    pub attempt: u16,
}

/// Which executions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionFilter {
    /// Only those of this script.
    pub script: Option<ScriptName>,
    /// Only those that ended so.
    pub outcome: OutcomeFilter,
}

/// How the wanted executions ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutcomeFilter {
    /// In any way.
    #[default]
    Any,
    /// Well.
    Succeeded,
    /// With any error.
    Failed,
    /// With this error.
    Code(ErrorCode),
}

impl OutcomeFilter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Succeeded => OK,
            Self::Failed => "failed",
            Self::Code(code) => code.as_str(),
        }
    }
}

/// A page of executions under a further condition. Each condition is a statement of its own, so that each has
/// the plan that uses its index, also once PostgreSQL plans without looking at the parameters.
macro_rules! executions {
    ($self:ident, $app:ident, $filter:ident, $before:ident, $size:ident, $condition:literal $(, $more:expr)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT id, script, version, request_id, kind, started_at, error_code, error_message,
                error_position AS "error_position: Json<SourcePosition>", status, fuel, duration_us, host_calls,
                memory_bytes, logs_truncated, event_id, root_id, parent_id, trigger, attempt
            FROM executions
            WHERE app_id = $1 AND id < $2
                AND CASE $3::text WHEN 'any' THEN true WHEN 'failed' THEN error_code IS NOT NULL
                    ELSE coalesce(error_code, 'ok') = $3 END
                AND "#
                + $condition
                + " ORDER BY id DESC LIMIT $4",
            $app.as_uuid(),
            $before,
            $filter.outcome.as_str(),
            $size.and_one(),
            $($more,)?
        )
        .fetch_all(&$self.pool)
        .await?
    };
}

impl Store {
    /// The executions of an app that began before `before`, newest first.
    pub async fn executions(
        &self,
        app: AppId,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        size: PageSize,
    ) -> Result<Page<Execution>, StoreError> {
        let before = before.map_or(uuid::Uuid::max(), ExecutionId::as_uuid);
        let rows = match (&filter.script, filter.outcome) {
            (Some(script), _) => {
                executions!(self, app, filter, before, size, "script = $5", script.as_str())
            }
            (None, OutcomeFilter::Any | OutcomeFilter::Succeeded) => {
                executions!(self, app, filter, before, size, "true")
            }
            (None, OutcomeFilter::Failed | OutcomeFilter::Code(_)) => {
                executions!(self, app, filter, before, size, "error_code IS NOT NULL")
            }
        };
        Page::of(rows, size, Execution::try_from)
    }

    /// One execution.
    pub async fn execution(&self, app: AppId, id: ExecutionId) -> Result<Option<Execution>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT id, script, version, request_id, kind, started_at, error_code, error_message,
                error_position AS "error_position: Json<SourcePosition>", status, fuel, duration_us, host_calls,
                memory_bytes, logs_truncated, event_id, root_id, parent_id, trigger, attempt
            FROM executions WHERE id = $2 AND app_id = $1"#,
            app.as_uuid(),
            id.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(Execution::try_from).transpose()
    }

    /// What an execution called over HTTP, in the order in which it ended.
    pub async fn execution_egress(
        &self,
        app: AppId,
        id: ExecutionId,
    ) -> Result<Vec<EgressRecord>, StoreError> {
        let egress = sqlx::query_scalar!(
            r#"SELECT egress AS "egress!: Json<Vec<EgressRecord>>" FROM executions
            WHERE id = $2 AND app_id = $1 AND egress IS NOT NULL"#,
            app.as_uuid(),
            id.as_uuid(),
        );
        let egress = egress.fetch_optional(&self.pool).await?;
        Ok(egress.map(|Json(egress)| egress).unwrap_or_default())
    }
}

struct Row {
    id: uuid::Uuid,
    script: String,
    version: i32,
    request_id: uuid::Uuid,
    kind: String,
    started_at: OffsetDateTime,
    error_code: Option<String>,
    error_message: Option<String>,
    error_position: Option<Json<SourcePosition>>,
    status: Option<i16>,
    fuel: i64,
    duration_us: i64,
    host_calls: i64,
    memory_bytes: i64,
    logs_truncated: bool,
    event_id: Option<uuid::Uuid>,
    root_id: Option<uuid::Uuid>,
    parent_id: Option<uuid::Uuid>,
    trigger: Option<String>,
    attempt: Option<i16>,
}

impl TryFrom<Row> for Execution {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let outcome = match row.error_code {
            None => Outcome::Succeeded,
            Some(code) => Outcome::Failed(fault(&code, row.error_message, row.error_position)?),
        };
        let event = match row.event_id {
            None => None,
            Some(id) => Some(HandledEvent {
                id: EventId::from_uuid(id),
                root: EventId::from_uuid(row.root_id.unwrap_or(id)),
                parent: row.parent_id.map(EventId::from_uuid),
                trigger: row.trigger.as_deref().map(parse).transpose()?,
                attempt: row.attempt.map_or(1, i16::cast_unsigned),
            }),
        };
        Ok(Self {
            id: ExecutionId::from_uuid(row.id),
            request_id: RequestId::from_uuid(row.request_id),
            script: parse(&row.script)?,
            version: row.version,
            kind: event_kind(&row.kind)?,
            started_at: row.started_at,
            outcome,
            status: row.status.map(i16::cast_unsigned),
            usage: Usage {
                fuel: unsigned(row.fuel),
                duration: std::time::Duration::from_micros(unsigned(row.duration_us)),
                host_calls: unsigned(row.host_calls),
                memory_bytes: unsigned(row.memory_bytes),
                // Only matters while a run may be done again.
                called_outside: false,
            },
            logs_truncated: row.logs_truncated,
            event,
        })
    }
}

/// A failure as the table has it.
pub(super) fn fault(
    code: &str,
    message: Option<String>,
    position: Option<Json<SourcePosition>>,
) -> Result<Fault, StoreError> {
    Ok(Fault {
        code: parse(code)?,
        message: message.unwrap_or_default(),
        position: position.map(|Json(position)| position),
    })
}

fn event_kind(text: &str) -> Result<EventKind, StoreError> {
    let known = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| StoreError::Database(format!("unknown kind of event {text:?}").into()))
}
