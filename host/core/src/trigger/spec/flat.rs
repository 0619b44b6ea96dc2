//! The one flat object that a trigger is for clients.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    CronSource, KvOperations, MissedRuns, RetryOverrides, TriggerError, TriggerSource, TriggerSpec,
    milliseconds,
};
use crate::{
    CollectionPattern, MailboxName, OutboxKind, QueueName, Schedule, ScriptName, TopicPattern, TriggerKind,
    TriggerName,
};

/// Every field that any kind has.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlatTrigger {
    name: TriggerName,
    kind: TriggerKind,
    script: ScriptName,
    #[serde(default = "enabled")]
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_base_delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_max_delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<CollectionPattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<KvOperations>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<MissedRuns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lateness_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<QueueName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<TopicPattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<MailboxName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_kinds: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_triggers: Option<Vec<TriggerName>>,
}

const fn enabled() -> bool {
    true
}

impl TryFrom<FlatTrigger> for TriggerSpec {
    type Error = TriggerError;

    fn try_from(flat: FlatTrigger) -> Result<Self, TriggerError> {
        flat.check_fields()?;
        let retry = flat.retry()?;
        let source = flat.source()?;
        Ok(Self { name: flat.name, script: flat.script, enabled: flat.enabled, retry, source })
    }
}

impl FlatTrigger {
    /// A trigger that has the fields of all kinds only.
    fn bare(spec: &TriggerSpec) -> Self {
        let TriggerSpec { name, script, enabled, retry, source } = spec;
        Self {
            name: name.clone(),
            kind: source.kind(),
            script: script.clone(),
            enabled: *enabled,
            max_attempts: retry.max_attempts,
            retry_base_delay_ms: retry.base_delay_ms,
            retry_max_delay_ms: retry.max_delay_ms,
            collection: None,
            operations: None,
            cron: None,
            timezone: None,
            missed: None,
            max_lateness_ms: None,
            jitter_ms: None,
            queue: None,
            concurrency: None,
            topic: None,
            address: None,
            source_kinds: None,
            source_triggers: None,
        }
    }

    /// Refuses fields of other kinds.
    fn check_fields(&self) -> Result<(), TriggerError> {
        let given = [
            ("collection", self.collection.is_some()),
            ("operations", self.operations.is_some()),
            ("cron", self.cron.is_some()),
            ("timezone", self.timezone.is_some()),
            ("missed", self.missed.is_some()),
            ("max_lateness_ms", self.max_lateness_ms.is_some()),
            ("jitter_ms", self.jitter_ms.is_some()),
            ("queue", self.queue.is_some()),
            ("concurrency", self.concurrency.is_some()),
            ("topic", self.topic.is_some()),
            ("address", self.address.is_some()),
            ("source_kinds", self.source_kinds.is_some()),
            ("source_triggers", self.source_triggers.is_some()),
        ];
        let (kind, allowed) = (self.kind.as_str(), fields_of(self.kind));
        match given.into_iter().find(|(field, is_given)| *is_given && !allowed.contains(field)) {
            Some((field, _)) => Err(TriggerError::Foreign { field, kind, allowed }),
            None => Ok(()),
        }
    }

    fn retry(&self) -> Result<RetryOverrides, TriggerError> {
        let most = RetryOverrides::MAX_DELAY_MS;
        let attempts = self.max_attempts.map(u64::from);
        check_range("max_attempts", attempts, 1, u64::from(RetryOverrides::MAX_ATTEMPTS))?;
        check_range("retry_base_delay_ms", self.retry_base_delay_ms, 0, most)?;
        check_range("retry_max_delay_ms", self.retry_max_delay_ms, 0, most)?;
        if let (Some(base), Some(most)) = (self.retry_base_delay_ms, self.retry_max_delay_ms)
            && base > most
        {
            return Err(TriggerError::Delays { base, most });
        }
        Ok(RetryOverrides {
            max_attempts: self.max_attempts,
            base_delay_ms: self.retry_base_delay_ms,
            max_delay_ms: self.retry_max_delay_ms,
        })
    }

    fn source(&self) -> Result<TriggerSource, TriggerError> {
        let missing = |field| TriggerError::Missing { field, kind: self.kind.as_str() };
        Ok(match self.kind {
            TriggerKind::Kv => TriggerSource::Kv {
                collection: self.collection.clone().ok_or(missing("collection"))?,
                operations: self.operations.clone().unwrap_or_default(),
            },
            TriggerKind::Cron => TriggerSource::Cron(self.cron()?),
            TriggerKind::Queue => {
                let (least, most) = TriggerSource::CONCURRENCY.into_inner();
                check_range("concurrency", self.concurrency.map(u64::from), least.into(), most.into())?;
                let queue = self.queue.clone().ok_or(missing("queue"))?;
                TriggerSource::Queue { queue, concurrency: self.concurrency }
            }
            TriggerKind::Topic => TriggerSource::Topic { topic: self.topic.clone().ok_or(missing("topic"))? },
            TriggerKind::Email => TriggerSource::Email { address: self.address.clone() },
            TriggerKind::DeadLetter => TriggerSource::DeadLetter {
                source_kinds: self.source_kinds()?,
                source_triggers: self.source_triggers()?,
            },
        })
    }

    fn cron(&self) -> Result<CronSource, TriggerError> {
        let missing = TriggerError::Missing { field: "cron", kind: TriggerKind::Cron.as_str() };
        let cron = self.cron.as_deref().ok_or(missing)?;
        let schedule = Schedule::new(cron, self.timezone.as_deref().unwrap_or(Schedule::DEFAULT_TIMEZONE))?;
        let (least, most, default) = CronSource::LATENESS;
        check_range("max_lateness_ms", self.max_lateness_ms, milliseconds(least), milliseconds(most))?;
        check_range("jitter_ms", self.jitter_ms, 0, milliseconds(CronSource::MAX_JITTER))?;
        Ok(CronSource {
            schedule,
            missed: self.missed.unwrap_or_default(),
            max_lateness: self.max_lateness_ms.map_or(default, Duration::from_millis),
            jitter: self.jitter_ms.map_or(Duration::ZERO, Duration::from_millis),
        })
    }

    fn source_kinds(&self) -> Result<BTreeSet<OutboxKind>, TriggerError> {
        let kinds = self.source_kinds.as_deref().unwrap_or_default();
        check_length("source_kinds", kinds.len(), TriggerSource::MAX_SOURCE_KINDS)?;
        let read = |name: &String| match OutboxKind::parse(name) {
            Some(kind) if kind != OutboxKind::Trigger(TriggerKind::DeadLetter) => Ok(kind),
            _ => Err(TriggerError::SourceKind(name[..name.floor_char_boundary(64)].to_owned())),
        };
        kinds.iter().map(read).collect()
    }

    fn source_triggers(&self) -> Result<BTreeSet<TriggerName>, TriggerError> {
        let triggers = self.source_triggers.as_deref().unwrap_or_default();
        check_length("source_triggers", triggers.len(), TriggerSource::MAX_SOURCE_TRIGGERS)?;
        Ok(triggers.iter().cloned().collect())
    }
}

const fn fields_of(kind: TriggerKind) -> &'static [&'static str] {
    match kind {
        TriggerKind::Kv => &["collection", "operations"],
        TriggerKind::Cron => &["cron", "timezone", "missed", "max_lateness_ms", "jitter_ms"],
        TriggerKind::Queue => &["queue", "concurrency"],
        TriggerKind::Topic => &["topic"],
        TriggerKind::Email => &["address"],
        TriggerKind::DeadLetter => &["source_kinds", "source_triggers"],
    }
}

fn check_range(field: &'static str, value: Option<u64>, least: u64, most: u64) -> Result<(), TriggerError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(TriggerError::Range { field, value, least, most })
        }
        _ => Ok(()),
    }
}

fn check_length(field: &'static str, count: usize, most: usize) -> Result<(), TriggerError> {
    if count > most {
        return Err(TriggerError::Length { field, count, least: 0, most });
    }
    Ok(())
}

/// Every field that the kind has is written, also where it is as if nothing were said; but for those that are `None`.
impl From<TriggerSpec> for FlatTrigger {
    fn from(spec: TriggerSpec) -> Self {
        let bare = Self::bare(&spec);
        match spec.source {
            TriggerSource::Kv { collection, operations } => {
                Self { collection: Some(collection), operations: Some(operations), ..bare }
            }
            TriggerSource::Cron(CronSource { schedule, missed, max_lateness, jitter }) => Self {
                cron: Some(schedule.as_str().to_owned()),
                timezone: Some(schedule.timezone().to_owned()),
                missed: Some(missed),
                max_lateness_ms: Some(milliseconds(max_lateness)),
                jitter_ms: Some(milliseconds(jitter)),
                ..bare
            },
            TriggerSource::Queue { queue, concurrency } => Self { queue: Some(queue), concurrency, ..bare },
            TriggerSource::Topic { topic } => Self { topic: Some(topic), ..bare },
            TriggerSource::Email { address } => Self { address, ..bare },
            TriggerSource::DeadLetter { source_kinds, source_triggers } => Self {
                source_kinds: Some(source_kinds.iter().map(|kind| kind.as_str().to_owned()).collect()),
                source_triggers: Some(source_triggers.into_iter().collect()),
                ..bare
            },
        }
    }
}
