//! What the control plane asks of the node beside it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    AppId, BoxFuture, Effects, ExecutionId, Fault, LogLine, RequestId, ScriptName, TriggerKind, Usage,
};

/// The node (orchestrator and executor) as the manager sees it: in the same process a function call, apart a
/// message.
pub trait Node: Send + Sync {
    /// Takes up what changed of an app. When it returns, the next request sees the change.
    fn app_changed(&self, app: AppId) -> BoxFuture<'_, ()>;

    /// Runs a script once with a given event, its effects committed, under the app's limits and admission.
    fn invoke(&self, call: DirectCall) -> BoxFuture<'_, DirectResult>;

    /// Runs the handler of an event, and commits nothing of what it does.
    fn rehearse(&self, call: Rehearsal) -> BoxFuture<'_, Rehearsed>;

    /// The state of the node, for `/readyz` and `doctor`.
    fn status(&self) -> NodeStatus;

    /// The node's metrics in the Prometheus text format.
    fn metrics(&self) -> String;
}

/// A script to run once.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// The app.
    pub app: AppId,
    /// The script.
    pub script: ScriptName,
    /// The event as JSON text.
    pub event: String,
    /// The request that asks for it.
    pub request_id: RequestId,
}

/// An event whose handling is to be tried.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The app.
    pub app: AppId,
    /// The script.
    pub script: ScriptName,
    /// Its version; the active one if it is left out.
    pub version: Option<i32>,
    /// The event.
    pub event: RehearsedEvent,
}

/// What an event is whose handling is to be tried.
#[derive(Clone, Debug)]
pub enum RehearsedEvent {
    /// One of a trigger.
    Trigger {
        /// Its kind.
        kind: TriggerKind,
        /// The event as its handler gets it, as JSON text.
        event: String,
    },
    /// A request as the outbox keeps it, as JSON text.
    Request(String),
}

/// What handling an event would do.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The handler's value, or its answer to a request, as JSON text; or why there is none.
    pub outcome: Result<String, Fault>,
    /// What it would change; empty where it failed.
    pub effects: Effects,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What it used.
    pub usage: Usage,
    /// Where it was refused for now: seconds after which it may be tried again.
    pub retry_after: Option<u32>,
}

/// What a direct call left behind.
#[derive(Clone, Debug)]
pub struct DirectResult {
    /// Its id in the history; `None` where it was refused before it began.
    pub execution: Option<ExecutionId>,
    /// The handler's value as JSON text, or why there is none.
    pub outcome: Result<String, Fault>,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What it used.
    pub usage: Usage,
    /// Where it was refused for now: seconds after which it may be tried again.
    pub retry_after: Option<u32>,
}

/// Something that the operating system keeps the server's process from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// No program that it starts can gain privileges.
    NoNewPrivileges,
    /// It has no privilege of root that it does not need.
    Capabilities,
    /// Its memory is never dumped to disk.
    CoreDumps,
    /// It can write to its own folders only.
    WritePaths,
    /// System calls that it does not need are refused.
    SystemCalls,
}

impl Protection {
    /// Every protection.
    pub const ALL: [Self; 5] =
        [Self::NoNewPrivileges, Self::Capabilities, Self::CoreDumps, Self::WritePaths, Self::SystemCalls];

    /// What it is, in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::NoNewPrivileges => "no new privileges",
            Self::Capabilities => "dropped capabilities",
            Self::CoreDumps => "no core dumps",
            Self::WritePaths => "write access to its own folders only",
            Self::SystemCalls => "refused system calls",
        }
    }
}

/// The protections that are in force.
pub type Confinement = BTreeSet<Protection>;

/// The state of a node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it is shutting down.
    pub draining: bool,
    /// How instances get their memory: `pool_guarded`, `pool_compact` or `on_demand`.
    pub pool_mode: &'static str,
    /// How a used slot is reset: `pagemap_scan` or `decommit`.
    pub reset: &'static str,
    /// Invocations that run now.
    pub running: usize,
    /// Invocations that wait for a slot now.
    pub waiting: usize,
}
