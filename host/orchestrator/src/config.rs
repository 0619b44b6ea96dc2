//! How a node's orchestrator is set up.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use picloud_core::{DomainName, Mailer, NameError, SandboxCeiling, TriggerConfig};
use picloud_edge::{BodyTimes, ServeConfig};

/// What the operator chooses.
#[derive(Clone, Debug)]
pub struct OrchestratorConfig {
    /// Caps and timers of the app listener.
    pub serve: ServeConfig,
    /// How long a request's body may take.
    pub body: BodyTimes,
    /// How apps are addressed.
    pub addressing: Addressing,
    /// Networks whose word on `x-forwarded-for` is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Invocations that run at once on this node.
    pub slots: usize,
    /// How long a request waits for a slot. What bounds the queue is its length; the time only has to be longer than
    /// a full queue of commits to one key takes on a slow disk (256 at 20 ms each).
    pub slot_wait: Duration,
    /// The ceiling over every app's limits.
    pub ceiling: SandboxCeiling,
    /// What holds for triggers.
    pub triggers: TriggerConfig,
    /// What sends the e-mails of scripts; without it they cannot send any.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// What is kept of finished invocations.
    pub history: HistoryConfig,
    /// How the sandbox runs, for the node's status.
    pub sandbox: SandboxMode,
}

/// How apps are addressed.
#[derive(Clone, Debug)]
pub struct Addressing {
    /// An app answers at `NAME.domain`.
    pub domain: DomainName,
    /// Whether an app answers at `/@NAME/...` of every other host as well. All apps share an origin there, so
    /// it is for machines without a domain.
    pub path_form: PathForm,
}

/// Whether apps can be addressed by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// `/@NAME/...` addresses an app.
    On,
    /// It does not.
    Off,
}

impl Addressing {
    /// What `PICLOUD_APP_DOMAIN` means: unset, `localhost` and the path form; set, that domain alone.
    pub fn new(app_domain: Option<&str>) -> Result<Self, NameError> {
        Ok(match app_domain {
            None => Self { domain: DomainName::new("localhost")?, path_form: PathForm::On },
            Some(domain) => Self { domain: DomainName::new(domain)?, path_form: PathForm::Off },
        })
    }
}

/// What is kept of finished invocations. Failures and runs with logs are always kept; counters are exact.
#[derive(Clone, Copy, Debug)]
pub struct HistoryConfig {
    /// Successes without logs that are kept of each app, a second.
    pub successes_per_second: u32,
    /// Days after which the history is dropped.
    pub days: u16,
    /// Days after which the hourly counters are dropped.
    pub usage_days: u16,
    /// Days after which entries of the audit log are dropped.
    pub audit_days: u16,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { successes_per_second: 10, days: 14, usage_days: 90, audit_days: 365 }
    }
}

/// How the sandbox runs, as the executor has found out at start.
#[derive(Clone, Copy, Debug)]
pub struct SandboxMode {
    /// `pool_guarded`, `pool_compact` or `on_demand`.
    pub pool_mode: &'static str,
    /// `pagemap_scan` or `decommit`.
    pub reset: &'static str,
}

impl OrchestratorConfig {
    /// The defaults, with apps addressed as `addressing` says.
    pub fn new(addressing: Addressing, sandbox: SandboxMode) -> Self {
        Self {
            serve: ServeConfig::default(),
            body: BodyTimes::default(),
            addressing,
            trusted_proxies: Vec::new(),
            slots: 32,
            slot_wait: Duration::from_secs(10),
            ceiling: SandboxCeiling::default(),
            triggers: TriggerConfig::default(),
            mailer: None,
            history: HistoryConfig::default(),
            sandbox,
        }
    }
}
