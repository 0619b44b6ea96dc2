//! What a commit makes of an invocation's effects: messages, publications for those who listen, e-mails, and events for
//! the triggers that wait for changes of key-value data.

use std::{collections::BTreeMap, sync::Arc};

use picloud_core::{
    AppId, Effects, Emission, Emitted, EventId, ExecutionId, KvId, KvOperation, KvWrite, Lineage, OutboxKind,
    TriggerId, TriggerKind, TriggerSource,
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::{
    MailQuota, NewEvent, OutboxLimit,
    insert::{Inserted, again, answered, insert},
    mail,
};
use crate::{KeepAnswer, Store, StoreError, triggers};

/// The most bytes of the events that one run or one call makes.
const MAX_BYTES: usize = 32 << 20;

/// What events are made under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitting {
    /// The most events of the app that may wait.
    pub(crate) limit: OutboxLimit,
    /// The most e-mails of the app in a day.
    pub(crate) mails: MailQuota,
    /// What they come of.
    pub(crate) cause: Cause,
}

/// What events come of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// Nothing of the platform.
    None,
    /// The handling of an event.
    Event(EventId, Lineage),
    /// A run that handles no event.
    Run(ExecutionId),
}

impl Emitting {
    fn lineage(&self, id: EventId) -> Lineage {
        match self.cause {
            Cause::None => Lineage::root(id),
            Cause::Event(parent, lineage) => lineage.child(parent),
            Cause::Run(run) => Lineage::of_run(run),
        }
    }
}

/// Values of entries before they are written.
type Before = BTreeMap<KvId, Option<Arc<str>>>;

/// The changes of key-value data that triggers wait for, with the values of before.
#[derive(Default)]
pub(crate) struct KvEvents<'a>(Vec<(TriggerId, &'a KvId, &'a KvWrite, Option<Arc<str>>)>);

impl<'a> KvEvents<'a> {
    /// To be asked before the entries are written, under their locks.
    pub(crate) async fn find(
        connection: &mut PgConnection,
        app: AppId,
        effects: &'a Effects,
    ) -> Result<Self, StoreError> {
        if effects.kv.is_empty() {
            return Ok(Self::default());
        }
        let waiting = triggers::kv_triggers(connection, app).await?;
        let mut found = Vec::new();
        for (id, write) in &effects.kv {
            let is_for = |source: &TriggerSource| source.is_for_kv(&id.collection, operation(write));
            let waiting = waiting.iter().filter(|waiting| is_for(&waiting.source));
            found.extend(waiting.map(|waiting| (waiting.trigger.id, id, write)));
        }
        if found.is_empty() {
            return Ok(Self::default());
        }
        let before = values(connection, app, found.iter().map(|(_, id, _)| *id)).await?;
        let event = |(trigger, id, write): (TriggerId, &'a KvId, &'a KvWrite)| {
            let before = before.get(id).cloned().flatten();
            // Removing what is not there changes nothing.
            let is_change = !matches!(write, KvWrite::Delete) || before.is_some();
            is_change.then_some((trigger, id, write, before))
        };
        Ok(Self(found.into_iter().filter_map(event).collect()))
    }

    fn into_events(self, emitting: &Emitting) -> Result<Vec<NewEvent>, StoreError> {
        let event = |(trigger, id, write, before): (TriggerId, &KvId, &KvWrite, Option<Arc<str>>)| {
            let value = match write {
                KvWrite::Set { value, .. } => Some(raw(value)?),
                KvWrite::Delete => None,
            };
            let payload = KvPayload {
                collection: id.collection.as_str(),
                key: id.key.as_str(),
                operation: operation(write).as_str(),
                value,
                old_value: before.as_deref().map(raw).transpose()?,
            };
            Ok(of_trigger(TriggerKind::Kv, trigger, text(&payload)?, EventId::generate(), emitting))
        };
        self.0.into_iter().map(event).collect()
    }
}

#[derive(Serialize)]
struct KvPayload<'a> {
    collection: &'a str,
    key: &'a str,
    operation: &'a str,
    value: Option<&'a RawValue>,
    old_value: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct MessagePayload<'a> {
    queue: &'a str,
    priority: i16,
    group: Option<&'a str>,
    body: &'a RawValue,
}

#[derive(Serialize)]
struct TopicPayload<'a> {
    topic: &'a str,
    body: &'a RawValue,
}

/// Puts what an invocation makes into the outbox, in the transaction of its other effects.
pub(crate) async fn emit(
    store: &Store,
    connection: &mut PgConnection,
    app: AppId,
    emissions: &[Emission],
    kv: KvEvents<'_>,
    emitting: &Emitting,
) -> Result<Inserted, StoreError> {
    mail::count(connection, app, emissions, emitting.mails).await?;
    let mut events = kv.into_events(emitting)?;
    let mut bytes: usize = events.iter().map(|event| event.payload.len()).sum();
    for emission in emissions {
        check_bytes(bytes)?;
        let before = events.len();
        match &emission.what {
            Emitted::Publication { topic, body } => {
                let payload = text(&TopicPayload { topic: topic.as_str(), body: raw(body)? })?;
                let listeners = triggers::list_matching_topic(connection, app, topic).await?;
                check_bytes(bytes.saturating_add(payload.len().saturating_mul(listeners.len())))?;
                for (at, listener) in listeners.into_iter().enumerate() {
                    // The script knows the publication by one id; the first delivery has it.
                    let id = if at == 0 { emission.id } else { EventId::generate() };
                    events.push(of_trigger(TriggerKind::Topic, listener.id, payload.clone(), id, emitting));
                }
            }
            Emitted::Message { queue, body, options } => {
                let payload = MessagePayload {
                    queue: queue.as_str(),
                    priority: options.priority,
                    group: options.group.as_ref().map(AsRef::as_ref),
                    body: raw(body)?,
                };
                let kind = OutboxKind::Trigger(TriggerKind::Queue);
                events.push(NewEvent {
                    id: emission.id,
                    lineage: emitting.lineage(emission.id),
                    queue: Some(queue.clone()),
                    priority: options.priority,
                    delay: options.delay,
                    dedupe_key: options.dedupe_key.clone(),
                    group: options.group.clone(),
                    ..NewEvent::new(kind, text(&payload)?)
                });
            }
            Emitted::Mail(mail) => events.push(NewEvent {
                id: emission.id,
                lineage: emitting.lineage(emission.id),
                ..NewEvent::new(OutboxKind::Mail, text(mail)?)
            }),
        }
        bytes += events[before..].iter().map(|event| event.payload.len()).sum::<usize>();
    }
    check_bytes(bytes)?;
    insert(store, connection, app, &events, emitting.limit).await
}

/// Refuses more than may be made at once: each listener to a topic gets the whole of it.
fn check_bytes(bytes: usize) -> Result<(), StoreError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "the events that are made at once have more than {} MiB, with one for each trigger that listens",
        MAX_BYTES >> 20
    );
    Err(StoreError::TooLarge(message))
}

impl Store {
    /// Makes events outside of any invocation: messages, publications, e-mails. [`StoreError::OutboxFull`] beyond
    /// `limit`. Publications without a listener make nothing. The answer of a request under a key is kept with them;
    /// [`StoreError::Conflict`] if the key was taken over.
    pub async fn emit(
        &self,
        app: AppId,
        emissions: &[Emission],
        limit: OutboxLimit,
        keep: Option<&KeepAnswer<'_>>,
    ) -> Result<super::Enqueued, StoreError> {
        let emitting = Emitting { limit, mails: MailQuota(u64::MAX), cause: Cause::None };
        let inserted = again(|| self.try_emit(app, emissions, &emitting, keep)).await?;
        self.wakes.wake(&inserted.lanes);
        Ok(inserted.enqueued)
    }

    async fn try_emit(
        &self,
        app: AppId,
        emissions: &[Emission],
        emitting: &Emitting,
        keep: Option<&KeepAnswer<'_>>,
    ) -> Result<Inserted, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let inserted = emit(self, &mut transaction, app, emissions, KvEvents::default(), emitting).await?;
        answered(&mut transaction, keep, &inserted.enqueued).await?;
        transaction.commit().await?;
        Ok(inserted)
    }
}

fn of_trigger(
    kind: TriggerKind,
    trigger: TriggerId,
    payload: String,
    id: EventId,
    emitting: &Emitting,
) -> NewEvent {
    let event = NewEvent::new(OutboxKind::Trigger(kind), payload);
    NewEvent { id, lineage: emitting.lineage(id), trigger: Some(trigger), ..event }
}

const fn operation(write: &KvWrite) -> KvOperation {
    match write {
        KvWrite::Set { .. } => KvOperation::Set,
        KvWrite::Delete => KvOperation::Delete,
    }
}

fn raw(text: &str) -> Result<&RawValue, StoreError> {
    serde_json::from_str(text).map_err(StoreError::corrupt)
}

fn text(payload: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(payload).map_err(StoreError::corrupt)
}

async fn values(
    connection: &mut PgConnection,
    app: AppId,
    ids: impl Iterator<Item = &KvId>,
) -> Result<Before, StoreError> {
    let ids: Vec<&KvId> = ids.collect();
    let collections: Vec<&str> = ids.iter().map(|id| id.collection.as_str()).collect();
    let keys: Vec<&str> = ids.iter().map(|id| id.key.as_str()).collect();
    let rows = sqlx::query!(
        r#"SELECT i.at AS "at!", e.value FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS i (collection, key, at)
        JOIN kv e ON e.app_id = $1 AND e.collection = i.collection AND e.key = i.key
            AND (e.expires_at IS NULL OR e.expires_at > statement_timestamp())"#,
        app.as_uuid(),
        &collections as _,
        &keys as _,
    );
    let mut before = Before::new();
    for row in rows.fetch_all(connection).await? {
        // Ordinality counts from 1.
        let at = usize::try_from(row.at - 1).map_err(StoreError::corrupt)?;
        before.insert(ids[at].clone(), Some(row.value.into()));
    }
    Ok(before)
}
