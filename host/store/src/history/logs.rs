//! Reading the log: the lines of scripts, and the failures between them.

use picloud_core::{AppId, ExecutionId, Fault, LogLevel, ScriptName, SourcePosition};
use serde::Deserialize;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{read::fault, write::FAILURE_SEQ};
use crate::{Page, PageSize, Store, StoreError, text::parse};

/// The place of an entry in the log. Entries that are stored later have later places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(i64);

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub position: LogPosition,
    /// The execution that left it.
    pub execution: ExecutionId,
    /// The script.
    pub script: ScriptName,
    /// When it was left.
    pub at: OffsetDateTime,
    /// What it says.
    pub content: LogContent,
}

/// What an entry of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogContent {
    /// A line that the script wrote.
    Line {
        /// Its level.
        level: LogLevel,
        /// Its text.
        message: String,
    },
    /// The invocation failed; this is its last entry.
    Failure(Fault),
}

/// Entries of an app's log. The failure is looked up for each entry that stands for one, and only for those: a
/// join would leave it to the planner to read all executions first.
macro_rules! entries {
    ($condition_and_order:literal, $app:ident, $position:expr, $script:ident, $size:ident) => {
        sqlx::query_as!(
            Row,
            r#"SELECT position, execution_id, seq, script, level, message, logged_at,
                (SELECT jsonb_build_object(
                    'code', e.error_code, 'message', e.error_message, 'position', e.error_position)
                FROM executions e WHERE seq = $5 AND e.id = execution_id) AS "failure: Json<Failure>"
            FROM execution_logs WHERE app_id = $1 AND "#
                + $condition_and_order
                + " LIMIT $4",
            $app.as_uuid(),
            $position,
            $script.map(ScriptName::as_str),
            $size.and_one(),
            FAILURE_SEQ,
        )
    };
}

impl LogPosition {
    /// Wraps a position that came back from a client.
    pub const fn from_i64(position: i64) -> Self {
        Self(position)
    }

    /// The position as cursors hold it.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl Store {
    /// The lines that one execution wrote, in order. Its log budget bounds them.
    pub async fn execution_logs(&self, app: AppId, id: ExecutionId) -> Result<Vec<LogEntry>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT position, execution_id, seq, script, level, message, logged_at,
                NULL::jsonb AS "failure: Json<Failure>"
            FROM execution_logs WHERE execution_id = $2 AND app_id = $1 AND seq < $3 ORDER BY seq"#,
            app.as_uuid(),
            id.as_uuid(),
            FAILURE_SEQ,
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(LogEntry::try_from).collect()
    }

    /// The entries of an app that were stored after `after`, oldest first: to follow a log.
    pub async fn logs_after(
        &self,
        app: AppId,
        script: Option<&ScriptName>,
        after: LogPosition,
        size: PageSize,
    ) -> Result<Page<LogEntry>, StoreError> {
        let rows = entries!(
            "position > $2 AND ($3::text IS NULL OR script = $3) ORDER BY position",
            app,
            after.0,
            script,
            size
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, LogEntry::try_from)
    }

    /// The entries of an app that were stored before `before`, newest first: to look back.
    pub async fn logs_before(
        &self,
        app: AppId,
        script: Option<&ScriptName>,
        before: Option<LogPosition>,
        size: PageSize,
    ) -> Result<Page<LogEntry>, StoreError> {
        let before = before.map_or(i64::MAX, LogPosition::as_i64);
        let rows = entries!(
            "position < $2 AND ($3::text IS NULL OR script = $3) ORDER BY position DESC",
            app,
            before,
            script,
            size
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, LogEntry::try_from)
    }
}

struct Row {
    position: i64,
    execution_id: uuid::Uuid,
    seq: i32,
    script: String,
    level: String,
    message: String,
    logged_at: OffsetDateTime,
    failure: Option<Json<Failure>>,
}

/// What an execution says of its failure.
#[derive(Deserialize)]
struct Failure {
    code: String,
    message: Option<String>,
    position: Option<Json<SourcePosition>>,
}

impl TryFrom<Row> for LogEntry {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let content = match (row.seq, row.failure) {
            (FAILURE_SEQ, Some(Json(failure))) => {
                LogContent::Failure(fault(&failure.code, failure.message, failure.position)?)
            }
            // The two are stored and dropped together.
            (FAILURE_SEQ, None) => {
                let broken = format!("the failure of execution {} has no execution", row.execution_id);
                return Err(StoreError::Database(broken.into()));
            }
            _ => LogContent::Line { level: level(&row.level), message: row.message },
        };
        Ok(Self {
            position: LogPosition(row.position),
            execution: ExecutionId::from_uuid(row.execution_id),
            script: parse(&row.script)?,
            at: row.logged_at,
            content,
        })
    }
}

fn level(text: &str) -> LogLevel {
    match text {
        "debug" => LogLevel::Debug,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        // The column's constraint allows no other value.
        _ => LogLevel::Info,
    }
}
