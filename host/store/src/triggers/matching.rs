//! Which triggers an event is for. Asked within the transaction that the event comes of, so that a trigger that is
//! there when it commits is not passed over.

use picloud_core::{
    AppId, CollectionName, KvOperation, OutboxKind, TopicName, TriggerId, TriggerName, TriggerSource,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::read::{dead_letter_source, kv_source};
use crate::{Store, StoreError, text::parse};

/// A trigger that an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchingTrigger {
    /// Its id.
    pub id: TriggerId,
    /// Its name.
    pub name: TriggerName,
}

/// A trigger that is enabled, and what it waits for.
pub(crate) struct WaitingTrigger {
    pub(crate) trigger: MatchingTrigger,
    pub(crate) source: TriggerSource,
}

impl Store {
    /// The triggers that a change of an entry in `collection` is for, by name.
    pub async fn triggers_for_kv(
        &self,
        app: AppId,
        collection: &CollectionName,
        operation: KvOperation,
    ) -> Result<Vec<MatchingTrigger>, StoreError> {
        list_matching_kv(&mut *self.pool.acquire().await?, app, collection, operation).await
    }

    /// The triggers that a publication on `topic` is for, by name.
    pub async fn triggers_for_topic(
        &self,
        app: AppId,
        topic: &TopicName,
    ) -> Result<Vec<MatchingTrigger>, StoreError> {
        list_matching_topic(&mut *self.pool.acquire().await?, app, topic).await
    }

    /// The triggers that the dead letter of an event is for, by name. `trigger` is the one that was to handle the event.
    pub async fn triggers_for_dead_letter(
        &self,
        app: AppId,
        kind: OutboxKind,
        trigger: Option<&TriggerName>,
    ) -> Result<Vec<MatchingTrigger>, StoreError> {
        list_matching_dead_letter(&mut *self.pool.acquire().await?, app, kind, trigger).await
    }
}

/// See [`Store::triggers_for_kv`]. Whoever has many changes asks [`kv_triggers`] once instead.
pub(crate) async fn list_matching_kv(
    connection: &mut PgConnection,
    app: AppId,
    collection: &CollectionName,
    operation: KvOperation,
) -> Result<Vec<MatchingTrigger>, StoreError> {
    let waiting = kv_triggers(connection, app).await?;
    Ok(matching(waiting, |source| source.is_for_kv(collection, operation)))
}

/// The triggers for key-value entries that are enabled, by name.
pub(crate) async fn kv_triggers(
    connection: &mut PgConnection,
    app: AppId,
) -> Result<Vec<WaitingTrigger>, StoreError> {
    let rows = sqlx::query!(
        "SELECT t.id, t.name, k.collection_pattern, k.operations
        FROM triggers t JOIN kv_trigger_details k ON k.trigger_id = t.id
        WHERE t.app_id = $1 AND t.kind = 'kv' AND t.enabled ORDER BY t.name",
        app.as_uuid(),
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    rows.map(|row| waiting(row.id, &row.name, kv_source(&row.collection_pattern, &row.operations)?)).collect()
}

/// See [`Store::triggers_for_topic`].
pub(crate) async fn list_matching_topic(
    connection: &mut PgConnection,
    app: AppId,
    topic: &TopicName,
) -> Result<Vec<MatchingTrigger>, StoreError> {
    let rows = sqlx::query!(
        "SELECT t.id, t.name, p.topic_pattern
        FROM triggers t JOIN topic_trigger_details p ON p.trigger_id = t.id
        WHERE t.app_id = $1 AND t.kind = 'topic' AND t.enabled ORDER BY t.name",
        app.as_uuid(),
    );
    let mut found = Vec::new();
    for row in rows.fetch_all(connection).await? {
        let source = TriggerSource::Topic { topic: parse(&row.topic_pattern)? };
        found.push(waiting(row.id, &row.name, source)?);
    }
    Ok(matching(found, |source| source.is_for_topic(topic)))
}

/// See [`Store::triggers_for_dead_letter`].
pub(crate) async fn list_matching_dead_letter(
    connection: &mut PgConnection,
    app: AppId,
    kind: OutboxKind,
    trigger: Option<&TriggerName>,
) -> Result<Vec<MatchingTrigger>, StoreError> {
    let rows = sqlx::query!(
        "SELECT t.id, t.name, d.source_kinds, d.source_triggers
        FROM triggers t JOIN dead_letter_trigger_details d ON d.trigger_id = t.id
        WHERE t.app_id = $1 AND t.kind = 'dead_letter' AND t.enabled ORDER BY t.name",
        app.as_uuid(),
    );
    let mut found = Vec::new();
    for row in rows.fetch_all(connection).await? {
        let source = dead_letter_source(&row.source_kinds, &row.source_triggers)?;
        found.push(waiting(row.id, &row.name, source)?);
    }
    Ok(matching(found, |source| source.is_for_dead_letter(kind, trigger)))
}

fn waiting(id: Uuid, name: &str, source: TriggerSource) -> Result<WaitingTrigger, StoreError> {
    let trigger = MatchingTrigger { id: TriggerId::from_uuid(id), name: parse(name)? };
    Ok(WaitingTrigger { trigger, source })
}

fn matching(waiting: Vec<WaitingTrigger>, is_for: impl Fn(&TriggerSource) -> bool) -> Vec<MatchingTrigger> {
    waiting.into_iter().filter(|waiting| is_for(&waiting.source)).map(|waiting| waiting.trigger).collect()
}
