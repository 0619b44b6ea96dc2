//! What every way to a run shares: the apps, admission, the runner, the history, the metrics.

use std::sync::Arc;

use picloud_edge::Problem;
use time::OffsetDateTime;

use crate::{
    admission::{Admission, Permit, Refusal},
    budget::OverBudget,
    directory::{AppEntry, Directory},
    history::History,
    metrics::Metrics,
    runner::Runner,
};

/// Takes invocations from admission to the history.
pub(crate) struct Invoker {
    pub(crate) directory: Arc<Directory>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) runner: Runner,
    pub(crate) history: Arc<History>,
    pub(crate) metrics: Arc<Metrics>,
    /// Invocations that run at once on this node.
    pub(crate) slots: usize,
}

/// Why an invocation does not run.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    /// It got no slot.
    Refused(Refusal),
    /// The app has no fuel left.
    OverBudget(OverBudget),
}

impl NotAdmitted {
    /// The refusal as a client sees it.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Refused(refusal) => Problem::new(refusal.code()),
            Self::OverBudget(over) => over.problem(),
        }
    }
}

impl Invoker {
    /// How many events of an app are handled at once here. A slot is left to requests.
    pub(crate) fn concurrency(&self, app: &AppEntry) -> usize {
        let own = usize::try_from(app.limits.concurrency).unwrap_or(usize::MAX);
        own.min(self.slots.saturating_sub(1).max(1))
    }

    /// Waits for a slot, for an app that has fuel left.
    pub(crate) async fn admit(&self, app: &AppEntry) -> Result<Permit, NotAdmitted> {
        self.check_budget(app)?;
        let permit = self.admission.acquire(app.id, app.limits.concurrency).await;
        let permit = permit.map_err(|refusal| {
            self.metrics.refused(refusal.code());
            NotAdmitted::Refused(refusal)
        })?;
        // While it waited, others may have used up what was left.
        self.check_budget(app)?;
        Ok(permit)
    }

    fn check_budget(&self, app: &AppEntry) -> Result<(), NotAdmitted> {
        app.state.fuel.check(&app.limits, OffsetDateTime::now_utc()).map_err(|over| {
            self.metrics.refused(OverBudget::CODE);
            NotAdmitted::OverBudget(over)
        })
    }
}
