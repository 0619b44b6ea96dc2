//! A trigger as it is set up.

mod flat;

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{OutboxKind, RetryPolicy, Schedule, ScheduleError, TriggerKind};
use crate::{
    CollectionName, CollectionPattern, MailboxName, QueueName, ScriptName, TopicName, TopicPattern,
    TriggerId, TriggerName,
};
use flat::FlatTrigger;

/// A trigger: which script runs when something happens.
///
/// As JSON it is one flat object, `{"name": "nightly", "kind": "cron", "script": "report", "cron": "0 3 * * *"}`, in
/// which fields of another kind are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatTrigger", into = "FlatTrigger")]
pub struct TriggerSpec {
    /// Its name, which no other trigger of the app has.
    pub name: TriggerName,
    /// The script that handles its events.
    pub script: ScriptName,
    /// Whether anything happens.
    pub enabled: bool,
    /// How its failed events are tried again, where that is not as for all triggers.
    pub retry: RetryOverrides,
    /// What it waits for.
    pub source: TriggerSource,
}

/// What a trigger waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerSource {
    /// Changes of key-value entries.
    Kv {
        /// In which collections.
        collection: CollectionPattern,
        /// Which changes.
        operations: KvOperations,
    },
    /// Times.
    Cron(CronSource),
    /// Messages of a queue.
    Queue {
        /// The queue. It has one trigger.
        queue: QueueName,
        /// How many messages are handled at once, [`TriggerSource::CONCURRENCY`]; what the queue has stays where this is
        /// `None`.
        concurrency: Option<u32>,
    },
    /// Publications.
    Topic {
        /// On which topics.
        topic: TopicPattern,
    },
    /// E-mails.
    Email {
        /// The address before the `@`; where it is `None` one is made of the app's and the trigger's name.
        address: Option<MailboxName>,
    },
    /// Events that were given up.
    DeadLetter {
        /// Of which kinds; of all where this is empty.
        source_kinds: BTreeSet<OutboxKind>,
        /// Of which triggers; of all where this is empty.
        source_triggers: BTreeSet<TriggerName>,
    },
}

/// Times that a trigger waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronSource {
    /// When.
    pub schedule: Schedule,
    /// What is done about runs that nobody was there for.
    pub missed: MissedRuns,
    /// A run that is later than this is missed; [`Self::LATENESS`].
    pub max_lateness: Duration,
    /// Runs are spread over so much time after their slot; [`Self::MAX_JITTER`].
    pub jitter: Duration,
}

/// What is done about runs that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedRuns {
    /// Nothing.
    Skip,
    /// One run for all of them.
    #[default]
    Once,
    /// Each is made up for.
    All,
}

/// A change of a key-value entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvOperation {
    /// It is set, whether or not it was there.
    Set,
    /// It is deleted.
    Delete,
}

/// Some changes; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<KvOperation>", into = "Vec<KvOperation>")]
pub struct KvOperations(BTreeSet<KvOperation>);

/// How the failed events of one trigger are tried again; what is `None` is as for all triggers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOverrides {
    /// Attempts, the first included; 1 to 100.
    pub max_attempts: Option<u16>,
    /// The wait after the first failure, in milliseconds.
    pub base_delay_ms: Option<u64>,
    /// The longest wait, in milliseconds.
    pub max_delay_ms: Option<u64>,
}

/// Why a trigger was refused. The text begins with the field that is wrong and says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// A field that a trigger of this kind does not have.
    #[error("{field}: a trigger of kind {kind} has no such field; beside name, script, enabled and those of retries it has {}", .allowed.join(", "))]
    Foreign {
        /// The field.
        field: &'static str,
        /// The kind.
        kind: &'static str,
        /// Those that it has.
        allowed: &'static [&'static str],
    },
    /// A field that a trigger of this kind needs.
    #[error("{field}: a trigger of kind {kind} needs this field")]
    Missing {
        /// The field.
        field: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// A number outside of its range.
    #[error("{field}: it is {value}; allowed is {least} to {most}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A list that is empty or too long.
    #[error("{field}: it has {count} items; allowed is {least} to {most}")]
    Length {
        /// The field.
        field: &'static str,
        /// How many it has.
        count: usize,
        /// The fewest.
        least: usize,
        /// The most.
        most: usize,
    },
    /// Waits that begin longer than the longest.
    #[error("retry_base_delay_ms: it is {base}; allowed is at most retry_max_delay_ms, {most}")]
    Delays {
        /// The first wait.
        base: u64,
        /// The longest.
        most: u64,
    },
    /// A kind of event whose dead letters no trigger handles.
    #[error("source_kinds: {given:?} is no kind of event that can be handled here; allowed are {allowed}",
        given = .0, allowed = TriggerSource::dead_letter_kinds())]
    SourceKind(String),
    /// The schedule.
    #[error("{field}: {error}", field = .0.field(), error = .0)]
    Schedule(#[from] ScheduleError),
}

impl TriggerSource {
    /// How many messages of a queue may be handled at once.
    pub const CONCURRENCY: std::ops::RangeInclusive<u32> = 1..=10_000;
    /// The most kinds and the most triggers whose dead letters a trigger handles.
    pub const MAX_SOURCE_KINDS: usize = 16;
    /// See [`Self::MAX_SOURCE_KINDS`].
    pub const MAX_SOURCE_TRIGGERS: usize = 64;

    /// Its kind.
    pub const fn kind(&self) -> TriggerKind {
        match self {
            Self::Kv { .. } => TriggerKind::Kv,
            Self::Cron(_) => TriggerKind::Cron,
            Self::Queue { .. } => TriggerKind::Queue,
            Self::Topic { .. } => TriggerKind::Topic,
            Self::Email { .. } => TriggerKind::Email,
            Self::DeadLetter { .. } => TriggerKind::DeadLetter,
        }
    }

    /// Whether it is for a change of a key-value entry.
    pub fn is_for_kv(&self, collection: &CollectionName, operation: KvOperation) -> bool {
        match self {
            Self::Kv { collection: pattern, operations } => {
                pattern.matches(collection) && operations.contains(operation)
            }
            _ => false,
        }
    }

    /// Whether it is for a publication on `topic`.
    pub fn is_for_topic(&self, topic: &TopicName) -> bool {
        matches!(self, Self::Topic { topic: pattern } if pattern.matches(topic))
    }

    /// Whether it is for the dead letter of an event of `kind` that `trigger` was to handle.
    pub fn is_for_dead_letter(&self, kind: OutboxKind, trigger: Option<&TriggerName>) -> bool {
        match self {
            Self::DeadLetter { source_kinds, source_triggers } => {
                // A dead letter of a dead letter's handler would go in circles.
                kind != OutboxKind::Trigger(TriggerKind::DeadLetter)
                    && (source_kinds.is_empty() || source_kinds.contains(&kind))
                    && (source_triggers.is_empty()
                        || trigger.is_some_and(|name| source_triggers.contains(name)))
            }
            _ => false,
        }
    }

    /// The kinds of event whose dead letters a trigger may handle: all but dead letters, which would go in circles.
    fn dead_letter_kinds() -> String {
        let others = [OutboxKind::Http, OutboxKind::Mail, OutboxKind::Callback];
        let triggers = TriggerKind::ALL.iter().filter(|kind| **kind != TriggerKind::DeadLetter);
        let kinds = triggers.map(|kind| kind.as_str()).chain(others.iter().map(|kind| kind.as_str()));
        kinds.collect::<Vec<_>>().join(", ")
    }
}

impl CronSource {
    /// What [`Self::max_lateness`] may be, and is where nothing is said: 1 s to 7 days, an hour.
    pub const LATENESS: (Duration, Duration, Duration) =
        (Duration::from_secs(1), Duration::from_hours(7 * 24), Duration::from_hours(1));
    /// The most that [`Self::jitter`] may be.
    pub const MAX_JITTER: Duration = Duration::from_hours(1);

    /// When the run of a slot starts: at its time, or within [`Self::jitter`] of it, by an amount that is the same
    /// whoever works it out.
    pub fn starts_at(&self, trigger: TriggerId, slot: OffsetDateTime) -> OffsetDateTime {
        slot + self.spread(trigger, slot)
    }

    fn spread(&self, trigger: TriggerId, slot: OffsetDateTime) -> Duration {
        let mut hash = Sha256::new();
        hash.update(trigger.as_uuid().as_bytes());
        hash.update(slot.unix_timestamp().to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let number = u64::from_le_bytes(std::array::from_fn(|at| digest[at]));
        Duration::from_millis(number % (milliseconds(self.jitter) + 1))
    }
}

impl MissedRuns {
    /// The name in storage and at the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }

    /// What storage names so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Skip, Self::Once, Self::All].into_iter().find(|missed| missed.as_str() == text)
    }
}

impl KvOperation {
    /// The name in storage and at the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Delete => "delete",
        }
    }
}

impl KvOperations {
    /// These; `None` where there are none.
    pub fn new(operations: impl IntoIterator<Item = KvOperation>) -> Option<Self> {
        let operations: BTreeSet<_> = operations.into_iter().collect();
        (!operations.is_empty()).then_some(Self(operations))
    }

    /// Whether this is one of them.
    pub fn contains(&self, operation: KvOperation) -> bool {
        self.0.contains(&operation)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = KvOperation> {
        self.0.iter().copied()
    }
}

impl Default for KvOperations {
    fn default() -> Self {
        Self(BTreeSet::from([KvOperation::Set, KvOperation::Delete]))
    }
}

impl TryFrom<Vec<KvOperation>> for KvOperations {
    type Error = &'static str;

    fn try_from(operations: Vec<KvOperation>) -> Result<Self, Self::Error> {
        Self::new(operations).ok_or("at least one is needed; allowed are set and delete")
    }
}

impl From<KvOperations> for Vec<KvOperation> {
    fn from(operations: KvOperations) -> Self {
        operations.iter().collect()
    }
}

impl RetryOverrides {
    /// The most attempts.
    pub const MAX_ATTEMPTS: u16 = 100;
    /// The longest wait that may be set: 7 days, in milliseconds.
    pub const MAX_DELAY_MS: u64 = 7 * 24 * 3_600_000;

    /// The policy of a trigger with these, where `default` is for all. The first wait is never longer than the longest.
    pub fn apply(&self, default: RetryPolicy) -> RetryPolicy {
        let max_delay = self.max_delay_ms.map_or(default.max_delay, Duration::from_millis);
        let base_delay = self.base_delay_ms.map_or(default.base_delay, Duration::from_millis);
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            base_delay: base_delay.min(max_delay),
            max_delay,
            jitter: default.jitter,
        }
    }
}

impl TriggerSpec {
    /// What it waits for.
    pub const fn kind(&self) -> TriggerKind {
        self.source.kind()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests;
