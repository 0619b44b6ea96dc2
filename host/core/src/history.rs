//! One line of the execution history.

use time::OffsetDateTime;

use crate::{
    AppId, EgressRecord, ErrorCode, EventKind, ExecutionId, Fault, Logs, RequestId, ScriptName, Usage,
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
