//! Triggers and the events that they handle: kinds, retries, and where an event came from.

mod config;
mod due;
mod emission;
mod pattern;
mod retry;
mod sample;
mod schedule;
mod spec;
mod text;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{EventId, EventKind, ExecutionId};

pub use config::{TriggerConfig, TriggerConfigError};
pub use due::DueSlots;
pub use emission::{Emission, Emitted, MessageOptions, OutgoingMail};
pub use pattern::collection_matches;
pub use retry::{Jitter, RetryPolicy};
pub use schedule::{Schedule, ScheduleError};
pub use spec::{
    CronSource, KvOperation, KvOperations, MissedRuns, RetryOverrides, TriggerError, TriggerSource,
    TriggerSpec,
};
pub use text::EventHead;

/// What a trigger waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// A key-value entry is set or deleted.
    Kv,
    /// A time of a schedule.
    Cron,
    /// A message in a queue.
    Queue,
    /// A publication on a topic.
    Topic,
    /// An e-mail to the trigger's address.
    Email,
    /// An event that was given up.
    DeadLetter,
}

impl TriggerKind {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Kv, Self::Cron, Self::Queue, Self::Topic, Self::Email, Self::DeadLetter];

    /// The kind as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Cron => "cron",
            Self::Queue => "queue",
            Self::Topic => "topic",
            Self::Email => "email",
            Self::DeadLetter => "dead_letter",
        }
    }

    /// The function of a script that handles its events.
    pub const fn handler(self) -> &'static str {
        match self {
            Self::Kv => "on_kv",
            Self::Cron => "on_cron",
            Self::Queue => "on_message",
            Self::Topic => "on_publish",
            Self::Email => "on_email",
            Self::DeadLetter => "on_dead_letter",
        }
    }

    /// The kind of its events.
    pub const fn event_kind(self) -> EventKind {
        match self {
            Self::Kv => EventKind::Kv,
            Self::Cron => EventKind::Cron,
            Self::Queue => EventKind::Queue,
            Self::Topic => EventKind::Topic,
            Self::Email => EventKind::Email,
            Self::DeadLetter => EventKind::DeadLetter,
        }
    }
}

/// A text that is no kind of trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of trigger {0:?}; allowed: kv, cron, queue, topic, email, dead_letter")]
pub struct UnknownTriggerKind(pub String);

impl FromStr for TriggerKind {
    type Err = UnknownTriggerKind;

    fn from_str(text: &str) -> Result<Self, UnknownTriggerKind> {
        let kind = Self::ALL.iter().find(|kind| kind.as_str() == text);
        kind.copied().ok_or_else(|| UnknownTriggerKind(text.to_owned()))
    }
}

/// What a row of the outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxKind {
    /// A request to a durable or asynchronous route.
    Http,
    /// An e-mail of a script, for the relay.
    Mail,
    /// The answer of an asynchronous request, for the URL that wants it.
    Callback,
    /// An event for a trigger.
    #[serde(untagged)]
    Trigger(TriggerKind),
}

impl OutboxKind {
    /// The kind as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trigger(kind) => kind.as_str(),
            Self::Http => "http",
            Self::Mail => "mail",
            Self::Callback => "callback",
        }
    }

    /// The kind that storage names so.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "http" => Some(Self::Http),
            "mail" => Some(Self::Mail),
            "callback" => Some(Self::Callback),
            other => other.parse().ok().map(Self::Trigger),
        }
    }
}

/// Where an event stands in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The first event of the chain, or the run that it came of.
    pub root: EventId,
    /// The event whose handling made this one, or the run that it came of.
    pub parent: Option<EventId>,
    /// How many events of the chain came before it.
    pub depth: u16,
}

impl Lineage {
    /// Of an event that starts a chain.
    pub const fn root(event: EventId) -> Self {
        Self { root: event, parent: None, depth: 0 }
    }

    /// Of an event that a run makes which handles no event, as that of a request whose client waits: it is known by the run's
    /// id, and does not count.
    pub const fn of_run(run: ExecutionId) -> Self {
        let run = EventId::from_uuid(run.as_uuid());
        Self { root: run, parent: Some(run), depth: 0 }
    }

    /// Of an event that the handling of `event`, which has this lineage, makes.
    pub const fn child(self, event: EventId) -> Self {
        Self { root: self.root, parent: Some(event), depth: self.depth.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip() {
        for kind in TriggerKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.as_str()));
            assert_eq!(kind.event_kind().as_str(), kind.as_str());
            assert_eq!(OutboxKind::parse(kind.as_str()), Some(OutboxKind::Trigger(*kind)));
        }
        for kind in [OutboxKind::Http, OutboxKind::Mail, OutboxKind::Callback] {
            assert_eq!(OutboxKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(OutboxKind::parse("timer"), None);
        assert!("timer".parse::<TriggerKind>().unwrap_err().to_string().contains("dead_letter"));
    }

    #[test]
    fn a_chain_keeps_its_root() {
        let (first, second) = (EventId::generate(), EventId::generate());
        let lineage = Lineage::root(first).child(first).child(second);
        assert_eq!(lineage, Lineage { root: first, parent: Some(second), depth: 2 });
    }
}
