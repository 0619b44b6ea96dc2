//! What becomes of dead letters: replayed, ignored, or removed when they are old.

use std::str::FromStr;

use picloud_core::{AppId, DeadLetterId, EventId, Lineage, OutboxKind, PrincipalId, ScriptName, TriggerId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    outbox::{NewEvent, OutboxLimit, insert},
    text::parse,
};

/// What can become of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was put into the outbox again.
    Replayed,
    /// Somebody decided that nothing is to be done.
    Ignored,
    /// A trigger's script has handled it.
    HandledByScript,
    /// A trigger's script was to handle it and failed.
    HandlerFailed,
}

impl Resolution {
    /// Every one.
    pub const ALL: &[Self] = &[Self::Replayed, Self::Ignored, Self::HandledByScript, Self::HandlerFailed];

    /// As storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Ignored => "ignored",
            Self::HandledByScript => "handled_by_script",
            Self::HandlerFailed => "handler_failed",
        }
    }
}

/// A text that is no resolution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown resolution {0:?}; allowed: unresolved, replayed, ignored, handled_by_script, handler_failed"
)]
pub struct UnknownResolution(pub String);

impl FromStr for Resolution {
    type Err = UnknownResolution;

    fn from_str(text: &str) -> Result<Self, UnknownResolution> {
        let found = Self::ALL.iter().find(|resolution| resolution.as_str() == text);
        found.copied().ok_or_else(|| UnknownResolution(text.to_owned()))
    }
}

/// How a letter is replayed.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Another payload than the letter's: a JSON object as text.
    pub payload: Option<String>,
    /// The version of the script that is to handle it; the active one else.
    pub version: Option<i32>,
}

/// What a replay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It made this event.
    Event(EventId),
    /// The letter was replayed already, as this event.
    Already(EventId),
}

/// What a dead letter has of its event.
pub(super) struct Buried {
    pub(super) id: Uuid,
    event_id: Uuid,
    kind: String,
    trigger_id: Option<Uuid>,
    script: Option<String>,
    queue: String,
    priority: i16,
    group_key: Option<String>,
    payload: String,
    root_id: Uuid,
    depth: i16,
    resolution: Option<String>,
    replay_id: Option<Uuid>,
}

impl Buried {
    /// Those of these letters that are there, by id, locked until the transaction ends.
    pub(super) async fn lock(
        connection: &mut PgConnection,
        app: AppId,
        letters: &[Uuid],
    ) -> Result<Vec<Self>, StoreError> {
        let found = sqlx::query_as!(
            Self,
            "SELECT id, event_id, kind, trigger_id, script, queue, priority, group_key, payload, root_id, depth,
                resolution, replay_id
            FROM dead_letters WHERE app_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE",
            app.as_uuid(),
            letters,
        );
        Ok(found.fetch_all(connection).await?)
    }

    pub(super) fn is_replayed(&self) -> bool {
        self.resolution.as_deref() == Some(Resolution::Replayed.as_str())
    }

    /// The event that replays it: a new one, with all attempts before it.
    pub(super) fn replayed(self, replay: &Replay) -> Result<NewEvent, StoreError> {
        let unknown = || StoreError::Database(format!("unknown kind of event {:?}", self.kind).into());
        let kind = OutboxKind::parse(&self.kind).ok_or_else(unknown)?;
        let is_message = !self.queue.is_empty();
        let script: Option<ScriptName> = self.script.as_deref().map(parse).transpose()?;
        Ok(NewEvent {
            trigger: if is_message { None } else { self.trigger_id.map(TriggerId::from_uuid) },
            // What a trigger handles is handled by it as it is now.
            script: script.filter(|_| self.trigger_id.is_none() && !is_message),
            version: replay.version,
            queue: if is_message { Some(parse(&self.queue)?) } else { None },
            priority: self.priority,
            group: self.group_key.as_deref().map(parse).transpose()?,
            lineage: Lineage {
                root: EventId::from_uuid(self.root_id),
                parent: Some(EventId::from_uuid(self.event_id)),
                depth: self.depth.cast_unsigned(),
            },
            ..NewEvent::new(kind, replay.payload.clone().unwrap_or(self.payload))
        })
    }
}

impl Store {
    /// Puts a dead letter into the outbox again, as a new event with all attempts before it. Of two at once, one does.
    ///
    /// [`StoreError::NotFound`] if there is no such letter; [`StoreError::OutboxFull`] beyond `limit`.
    pub async fn replay_dead_letter(
        &self,
        app: AppId,
        id: DeadLetterId,
        replay: &Replay,
        by: Option<PrincipalId>,
        limit: OutboxLimit,
    ) -> Result<Replayed, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let Some(buried) = Buried::lock(&mut transaction, app, &[id.as_uuid()]).await?.pop() else {
            return Err(StoreError::NotFound { what: "dead letter" });
        };
        if let (Some("replayed"), Some(event)) = (buried.resolution.as_deref(), buried.replay_id) {
            return Ok(Replayed::Already(EventId::from_uuid(event)));
        }
        let event = buried.replayed(replay)?;
        let new = event.id;
        let inserted = insert(self, &mut transaction, app, &[event], limit).await?;
        resolve(&mut transaction, app, id, Resolution::Replayed, by, Some(new)).await?;
        transaction.commit().await?;
        self.wakes.wake(&inserted.lanes);
        Ok(Replayed::Event(new))
    }

    /// Says that nothing is to be done about a letter. [`StoreError::NotFound`] if there is none of this id,
    /// [`StoreError::Conflict`] if it was replayed or handled.
    pub async fn ignore_dead_letter(
        &self,
        app: AppId,
        id: DeadLetterId,
        by: Option<PrincipalId>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query_scalar!(
            "SELECT resolution FROM dead_letters WHERE app_id = $1 AND id = $2 FOR UPDATE",
            app.as_uuid(),
            id.as_uuid(),
        );
        match row.fetch_optional(&mut *transaction).await? {
            None => return Err(StoreError::NotFound { what: "dead letter" }),
            Some(Some(resolution)) if resolution == "ignored" => return Ok(()),
            Some(Some(resolution)) if resolution != "handler_failed" => return Err(StoreError::Conflict),
            Some(_) => {}
        }
        resolve(&mut transaction, app, id, Resolution::Ignored, by, None).await?;
        transaction.commit().await?;
        Ok(())
    }
}

pub(crate) async fn resolve(
    connection: &mut PgConnection,
    app: AppId,
    id: DeadLetterId,
    resolution: Resolution,
    by: Option<PrincipalId>,
    replay: Option<EventId>,
) -> Result<(), StoreError> {
    let resolved = sqlx::query!(
        "UPDATE dead_letters SET resolution = $3, resolved_at = statement_timestamp(), resolved_by = $4, replay_id = $5
        WHERE app_id = $1 AND id = $2",
        app.as_uuid(),
        id.as_uuid(),
        resolution.as_str(),
        by.map(PrincipalId::as_uuid),
        replay.map(EventId::as_uuid),
    );
    resolved.execute(connection).await?;
    Ok(())
}
