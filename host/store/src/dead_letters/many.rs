//! Replaying and ignoring many dead letters at once.

use picloud_core::{AppId, DeadLetterId, EventId, PrincipalId, ScriptName, TriggerName};
use uuid::Uuid;

use super::{
    DeadLetterFilter, LetterState,
    resolve::{Buried, Replay},
};
use crate::{
    Store, StoreError,
    outbox::{OutboxLimit, insert},
    text::{bigint, unsigned},
};

/// The most letters of one call.
pub const MAX_MANY: u32 = 1_000;

/// The most bytes of their events. A single one may have more.
const MAX_BYTES: i64 = 16 << 20;

/// What became of many letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManyReplayed {
    /// The letters, and the events that replay them, the oldest first.
    pub events: Vec<(DeadLetterId, EventId)>,
    /// How many more there were of the wanted ones, counted when this began.
    pub remaining: u64,
}

impl Store {
    /// Puts those of an app's dead letters into the outbox again that `filter` wants and that were not replayed:
    /// the oldest `most` of them, at most [`MAX_MANY`], fewer if their events are large; all or none.
    /// [`StoreError::OutboxFull`] beyond `limit`.
    pub async fn replay_dead_letters(
        &self,
        app: AppId,
        filter: &DeadLetterFilter,
        most: u32,
        by: PrincipalId,
        limit: OutboxLimit,
    ) -> Result<ManyReplayed, StoreError> {
        let (wanted, total) = self.open_letters(app, filter, most).await?;
        let mut transaction = self.pool.begin().await?;
        // Somebody else may have looked after some of them meanwhile.
        let mut buried = Buried::lock(&mut transaction, app, &wanted).await?;
        buried.retain(|letter| !letter.is_replayed());
        let letters: Vec<Uuid> = buried.iter().map(|buried| buried.id).collect();
        let events = buried.into_iter().map(|buried| buried.replayed(&Replay::default()));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let inserted = insert(self, &mut transaction, app, &events, limit).await?;
        let replays: Vec<Uuid> = events.iter().map(|event| event.id.as_uuid()).collect();
        let resolved = sqlx::query!(
            "UPDATE dead_letters d SET resolution = 'replayed', resolved_at = statement_timestamp(), resolved_by = $3,
                replay_id = r.event
            FROM unnest($1::uuid[], $2::uuid[]) AS r (letter, event) WHERE d.id = r.letter",
            &letters,
            &replays,
            by.as_uuid(),
        );
        resolved.execute(&mut *transaction).await?;
        transaction.commit().await?;
        self.wakes.wake(&inserted.lanes);
        let events = letters.into_iter().map(DeadLetterId::from_uuid);
        let events: Vec<_> = events.zip(replays.into_iter().map(EventId::from_uuid)).collect();
        Ok(ManyReplayed { remaining: total.saturating_sub(wanted.len() as u64), events })
    }

    /// Says that nothing is to be done about those of an app's dead letters that `filter` wants and that were not replayed
    /// or handled: the oldest `most` of them, at most [`MAX_MANY`]. Answers how many they were, and how many more there
    /// are.
    pub async fn ignore_dead_letters(
        &self,
        app: AppId,
        filter: &DeadLetterFilter,
        most: u32,
        by: PrincipalId,
    ) -> Result<(u64, u64), StoreError> {
        let (wanted, total) = self.open_letters(app, filter, most).await?;
        let ignored = sqlx::query!(
            "UPDATE dead_letters SET resolution = 'ignored', resolved_at = statement_timestamp(), resolved_by = $3
            WHERE app_id = $1 AND id = ANY ($2) AND (resolution IS NULL OR resolution = 'handler_failed')",
            app.as_uuid(),
            &wanted,
            by.as_uuid(),
        );
        let ignored = ignored.execute(&self.pool).await?.rows_affected();
        Ok((ignored, total.saturating_sub(wanted.len() as u64)))
    }

    /// The oldest letters that a filter wants, and how many it wants in all.
    async fn open_letters(
        &self,
        app: AppId,
        filter: &DeadLetterFilter,
        most: u32,
    ) -> Result<(Vec<Uuid>, u64), StoreError> {
        let resolution = match filter.state {
            None | Some(LetterState::Unresolved) => None,
            Some(LetterState::Resolved(resolution)) => Some(resolution.as_str()),
        };
        let rows = sqlx::query!(
            r#"SELECT id AS "id!", total AS "total!" FROM (
                SELECT id, row_number() OVER by_age AS number, count(*) OVER () AS total,
                    sum(octet_length(payload)) OVER by_age AS bytes
                FROM dead_letters
                WHERE app_id = $1 AND resolution IS NOT DISTINCT FROM $2
                    AND ($3::text IS NULL OR fingerprint = $3) AND ($4::text IS NULL OR trigger_name = $4)
                    AND ($5::text IS NULL OR script = $5)
                WINDOW by_age AS (ORDER BY id)
            ) letters WHERE number <= $6 AND (bytes <= $7 OR number = 1) ORDER BY number"#,
            app.as_uuid(),
            resolution,
            filter.fingerprint,
            filter.trigger.as_ref().map(TriggerName::as_str),
            filter.script.as_ref().map(ScriptName::as_str),
            bigint(most.min(MAX_MANY)),
            MAX_BYTES,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let total = rows.first().map_or(0, |row| unsigned(row.total));
        Ok((rows.into_iter().map(|row| row.id).collect(), total))
    }
}
