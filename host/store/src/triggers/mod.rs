//! Triggers: which scripts run when something happens. What happens, and when they run, is not here.

mod cron;
mod matching;
mod put;
mod read;

use picloud_core::{EventId, PrincipalId, TriggerId, TriggerName, TriggerSpec};
use time::OffsetDateTime;

pub use cron::CronRound;
pub use matching::MatchingTrigger;
pub(crate) use matching::{kv_triggers, list_matching_dead_letter, list_matching_topic};
pub(crate) use put::{PutTriggers, replace_triggers};
pub(crate) use read::enabled_triggers;

/// The most triggers of an app: all of one kind are compared with each event.
const MAX_TRIGGERS: i64 = 200;

/// The most triggers of an app for dead letters: each makes an event of each letter.
const MAX_DEAD_LETTER_TRIGGERS: i64 = 10;

/// A trigger of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its id.
    pub id: TriggerId,
    /// What it waits for, and what it does then. A trigger for e-mail has its address here.
    pub spec: TriggerSpec,
    /// Who registered it: it runs as this principal, which may be gone by now.
    pub registered_by: PrincipalId,
    /// When it is for a schedule: the next time that is to be enqueued; `None` where it is disabled.
    pub next_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// What putting a trigger did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutTrigger {
    /// It is new.
    Created(Trigger),
    /// A trigger of this name was there and is as this one now.
    Replaced(Trigger),
}

/// A time of a schedule that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronSlot {
    /// The time.
    pub scheduled_for: OffsetDateTime,
    /// The event that was made for it; `None` where it was missed.
    pub event: Option<EventId>,
    /// When that was.
    pub created_at: OffsetDateTime,
}

/// All triggers of an app.
#[derive(Clone, Copy, Debug)]
pub struct BundleTriggers<'a> {
    /// What they are.
    pub specs: &'a [TriggerSpec],
    /// Who registers them, also those that are there already.
    pub registered_by: PrincipalId,
}

impl PutTrigger {
    /// The trigger as it is now.
    pub const fn trigger(&self) -> &Trigger {
        match self {
            Self::Created(trigger) | Self::Replaced(trigger) => trigger,
        }
    }
}

impl Trigger {
    /// Its name.
    pub const fn name(&self) -> &TriggerName {
        &self.spec.name
    }
}
