//! Records of runs whose waiting caller had gone.

use picloud_core::{AppId, ErrorCode, EventId, ExecutionId, InboxId, ScriptName};
use uuid::Uuid;

use crate::{Store, StoreError};

/// A run whose answer nobody waited for.
#[derive(Clone, Debug)]
pub struct AbandonedExecution {
    /// The app.
    pub app: AppId,
    /// The event.
    pub event: EventId,
    /// The run in the history.
    pub execution: Option<ExecutionId>,
    /// The inbox in which nobody waited.
    pub inbox: InboxId,
    /// The script.
    pub script: ScriptName,
    /// The answer's status, or why it failed.
    pub outcome: Result<u16, ErrorCode>,
}

impl Store {
    /// Keeps a record of an abandoned run. That of an app that is gone is left out.
    pub async fn record_abandoned(&self, abandoned: &AbandonedExecution) -> Result<(), StoreError> {
        let recorded = sqlx::query!(
            "INSERT INTO abandoned_executions (id, app_id, event_id, execution_id, reply_to, script, status, error_code)
            SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM apps WHERE id = $2",
            Uuid::now_v7(),
            abandoned.app.as_uuid(),
            abandoned.event.as_uuid(),
            abandoned.execution.map(ExecutionId::as_uuid),
            abandoned.inbox.as_uuid(),
            abandoned.script.as_str(),
            abandoned.outcome.as_ref().ok().map(|status| status.cast_signed()),
            abandoned.outcome.as_ref().err().map(|code| code.as_str()),
        );
        recorded.execute(&self.pool).await?;
        Ok(())
    }
}
