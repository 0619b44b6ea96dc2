//! Looking at dead letters.

use picloud_core::{AppId, DeadLetterId, EventId, Lineage, PrincipalId, ScriptName, TriggerId, TriggerName};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Resolution;
use crate::{
    Page, PageSize, Store, StoreError,
    text::{parse, unsigned},
};

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// The event's id.
    pub event: EventId,
    /// The kind of the event, as `OutboxKind` names it.
    pub kind: String,
    /// The trigger, if it had one; it may be gone.
    pub trigger: Option<(TriggerId, TriggerName)>,
    /// The script that failed, or would have run.
    pub script: Option<ScriptName>,
    /// Its version.
    pub version: Option<i32>,
    /// The queue that it came from; empty for none.
    pub queue: String,
    /// The event's payload as JSON text; empty in a list.
    pub payload: String,
    /// Why it was given up.
    pub error_code: String,
    /// In plain words.
    pub error: String,
    /// Equal for errors that differ in details only.
    pub fingerprint: String,
    /// How often it was tried.
    pub attempts: u16,
    /// Where it stood in its chain.
    pub lineage: Lineage,
    /// When the event was made.
    pub event_created_at: OffsetDateTime,
    /// When it was given up.
    pub created_at: OffsetDateTime,
    /// What became of it; `None` while nobody has looked after it.
    pub resolution: Option<(Resolution, OffsetDateTime)>,
    /// Who replayed or ignored it.
    pub resolved_by: Option<PrincipalId>,
    /// The event that replays it.
    pub replay: Option<EventId>,
}

/// Which letters are wanted.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// In this state only.
    pub state: Option<LetterState>,
    /// With this fingerprint only.
    pub fingerprint: Option<String>,
    /// Of the trigger of this name only.
    pub trigger: Option<TriggerName>,
    /// Of this script only.
    pub script: Option<ScriptName>,
}

/// Whether somebody has looked after a letter, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// Nobody has.
    Unresolved,
    /// It was resolved so.
    Resolved(Resolution),
}

impl LetterState {
    /// Of letters that can be replayed.
    pub const REPLAYABLE: [Self; 4] = [
        Self::Unresolved,
        Self::Resolved(Resolution::HandlerFailed),
        Self::Resolved(Resolution::Ignored),
        Self::Resolved(Resolution::HandledByScript),
    ];

    /// Of letters that can be ignored.
    pub const IGNORABLE: [Self; 2] = [Self::Unresolved, Self::Resolved(Resolution::HandlerFailed)];

    /// As clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Resolved(resolution) => resolution.as_str(),
        }
    }
}

/// Unresolved letters of one fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FingerprintCount {
    /// The fingerprint.
    pub fingerprint: String,
    /// How many there are.
    pub count: u64,
    /// The code of the newest.
    pub error_code: String,
    /// The message of the newest.
    pub error: String,
    /// When the newest was given up.
    pub last_at: OffsetDateTime,
}

struct Row {
    id: Uuid,
    event_id: Uuid,
    kind: String,
    trigger_id: Option<Uuid>,
    trigger_name: Option<String>,
    script: Option<String>,
    version: Option<i32>,
    queue: String,
    payload: String,
    error_code: String,
    error: String,
    fingerprint: String,
    attempts: i16,
    root_id: Uuid,
    parent_id: Option<Uuid>,
    depth: i16,
    event_created_at: OffsetDateTime,
    created_at: OffsetDateTime,
    resolution: Option<String>,
    resolved_at: Option<OffsetDateTime>,
    resolved_by: Option<Uuid>,
    replay_id: Option<Uuid>,
}

impl TryFrom<Row> for DeadLetter {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let trigger = row.trigger_id.zip(row.trigger_name);
        let resolution = row.resolution.as_deref().map(parse).transpose()?;
        Ok(Self {
            id: DeadLetterId::from_uuid(row.id),
            event: EventId::from_uuid(row.event_id),
            kind: row.kind,
            trigger: match trigger {
                Some((id, name)) => Some((TriggerId::from_uuid(id), parse(&name)?)),
                None => None,
            },
            script: row.script.as_deref().map(parse).transpose()?,
            version: row.version,
            queue: row.queue,
            payload: row.payload,
            error_code: row.error_code,
            error: row.error,
            fingerprint: row.fingerprint,
            attempts: row.attempts.cast_unsigned(),
            lineage: Lineage {
                root: EventId::from_uuid(row.root_id),
                parent: row.parent_id.map(EventId::from_uuid),
                depth: row.depth.cast_unsigned(),
            },
            event_created_at: row.event_created_at,
            created_at: row.created_at,
            resolution: resolution.zip(row.resolved_at),
            resolved_by: row.resolved_by.map(PrincipalId::from_uuid),
            replay: row.replay_id.map(EventId::from_uuid),
        })
    }
}

impl Store {
    /// A dead letter of an app.
    pub async fn dead_letter(&self, app: AppId, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT id, event_id, kind, trigger_id, trigger_name, script, version, queue, payload, error_code, error,
                fingerprint, attempts, root_id, parent_id, depth, event_created_at, created_at, resolution, resolved_at,
                resolved_by, replay_id
            FROM dead_letters WHERE app_id = $1 AND id = $2",
            app.as_uuid(),
            id.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(DeadLetter::try_from).transpose()
    }

    /// Dead letters of an app that are older than `before`, the newest first.
    pub async fn dead_letters(
        &self,
        app: AppId,
        filter: &DeadLetterFilter,
        before: Option<DeadLetterId>,
        size: PageSize,
    ) -> Result<Page<DeadLetter>, StoreError> {
        let resolution = match filter.state {
            Some(LetterState::Resolved(resolution)) => Some(resolution.as_str()),
            _ => None,
        };
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT id, event_id, kind, trigger_id, trigger_name, script, version, queue, '' AS "payload!", error_code,
                error, fingerprint, attempts, root_id, parent_id, depth, event_created_at, created_at, resolution, resolved_at,
                resolved_by, replay_id
            FROM dead_letters
            WHERE app_id = $1 AND ($2::uuid IS NULL OR id < $2)
                AND (NOT $3 OR resolution IS NULL) AND ($4::text IS NULL OR resolution = $4)
                AND ($5::text IS NULL OR fingerprint = $5) AND ($6::text IS NULL OR trigger_name = $6)
                AND ($7::text IS NULL OR script = $7)
            ORDER BY id DESC LIMIT $8"#,
            app.as_uuid(),
            before.map(DeadLetterId::as_uuid),
            filter.state == Some(LetterState::Unresolved),
            resolution,
            filter.fingerprint,
            filter.trigger.as_ref().map(TriggerName::as_str),
            filter.script.as_ref().map(ScriptName::as_str),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, DeadLetter::try_from)
    }

    /// How many letters of an app nobody has looked after.
    pub async fn unresolved_dead_letters(&self, app: AppId) -> Result<u64, StoreError> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM dead_letters WHERE app_id = $1 AND resolution IS NULL"#,
            app.as_uuid(),
        );
        Ok(unsigned(count.fetch_one(&self.pool).await?))
    }

    /// The unresolved letters of an app by fingerprint, the most frequent first; at most 100 kinds.
    pub async fn dead_letter_fingerprints(&self, app: AppId) -> Result<Vec<FingerprintCount>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT fingerprint, count(*) AS "count!", (array_agg(error_code ORDER BY id DESC))[1] AS "error_code!",
                (array_agg(left(error, 1000) ORDER BY id DESC))[1] AS "error!", max(created_at) AS "last_at!"
            FROM dead_letters WHERE app_id = $1 AND resolution IS NULL
            GROUP BY fingerprint ORDER BY 2 DESC, 1 LIMIT 100"#,
            app.as_uuid(),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        Ok(rows
            .map(|row| FingerprintCount {
                fingerprint: row.fingerprint,
                count: unsigned(row.count),
                error_code: row.error_code,
                error: row.error,
                last_at: row.last_at,
            })
            .collect())
    }
}
