//! One line of the execution history.

use time::OffsetDateTime;

use crate::{
    AppId, EgressRecord, ErrorCode, EventId, EventKind, ExecutionId, Fault, Lineage, Logs, RequestId,
    ScriptName, TriggerName, Usage,
};

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Succeeded,
    /// It failed.
    Failed(Fault),
}

impl Outcome {
    /// The code of the failure, if it is one.
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Succeeded => None,
            Self::Failed(fault) => Some(fault.code),
        }
    }
}

/// The event of the outbox that an invocation handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOrigin {
    /// The event.
    pub event: EventId,
    /// Where it stands in its chain.
    pub lineage: Lineage,
    /// The trigger that it ran for, if one.
    pub trigger: Option<TriggerName>,
    /// Which attempt it was, from 1.
    pub attempt: u16,
}

/// One finished invocation as the history keeps it.
#[derive(Clone, Debug)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// The request it answered.
    pub request_id: RequestId,
    /// The app.
    pub app: AppId,
    /// The script.
    pub script: ScriptName,
    /// The version that ran.
    pub version: i32,
    /// What started it.
    pub kind: EventKind,
    /// The event of the outbox that it handled, if one.
    pub origin: Option<EventOrigin>,
    /// When it started.
    pub started_at: OffsetDateTime,
    /// How it ended.
    pub outcome: Outcome,
    /// The status the client got, where there was one.
    pub status: Option<u16>,
    /// What it used.
    pub usage: Usage,
    /// What it logged.
    pub logs: Logs,
    /// What it called over HTTP.
    pub egress: Vec<EgressRecord>,
}
