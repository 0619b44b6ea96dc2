//! Events: from whatever starts an invocation to its committed effects.
//!
//! What lives here: the app listener's requests ([`Orchestrator::serve`]), the routing table in memory,
//! who may call, admission, running a script through the `Execute` port and committing what it wants to change, the
//! execution history's batches, and housekeeping of the database.
//!
//! What does not: SQL (`picloud-store`), the sandbox (`picloud-executor`, known only as a `dyn Execute`), HTTP
//! statuses and connections (`picloud-edge`), the management API (`picloud-manager`, which sees this node
//! through the `Node` port).

mod admission;
mod budget;
mod config;
mod directory;
mod dispatch;
mod files;
mod gate;
mod history;
mod host;
mod ingress;
mod invoker;
mod mailbox;
mod maintenance;
mod metrics;
mod node;
mod orchestrator;
mod quota;
mod rate;
mod runner;
mod values;

pub use config::{Addressing, HistoryConfig, OrchestratorConfig, PathForm, SandboxMode};
pub use ipnet::IpNet;
pub use orchestrator::Orchestrator;
