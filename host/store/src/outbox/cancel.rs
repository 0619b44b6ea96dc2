//! Taking back an event that waits.

use std::collections::BTreeSet;

use picloud_core::{AppId, DeadLetterId, ErrorCode, EventId, PrincipalId, WorkerId};

use super::{Claim, EventFault, OutboxLimit, insert::insert, settle::advance};
use crate::{
    Store, StoreError,
    dead_letters::{self, Fallen, Resolution},
};

impl Store {
    /// Gives up an event that waits, by decision of `by`. It becomes a dead letter that is ignored, so that it can still
    /// be looked at and replayed; no trigger is told of that. One that told of a dead letter makes none: its letter says
    /// that the handler failed.
    ///
    /// [`StoreError::NotFound`] if no such event is in the outbox; [`StoreError::Conflict`] if it is handled right now.
    pub async fn cancel_event(
        &self,
        app: AppId,
        event: EventId,
        by: PrincipalId,
    ) -> Result<Option<DeadLetterId>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let found = sqlx::query!(
            "SELECT lane_id, group_key FROM outbox WHERE id = $1 AND app_id = $2",
            event.as_uuid(),
            app.as_uuid(),
        );
        let Some(place) = found.fetch_optional(&mut *transaction).await? else {
            return Err(StoreError::NotFound { what: "event" });
        };
        // Under this lock the next message of a group is let go: that must not be one which is removed at the same time.
        let locked = sqlx::query!(
            "SELECT lane_id FROM queue_groups WHERE lane_id = $1 AND group_key = $2 FOR UPDATE",
            place.lane_id,
            place.group_key,
        );
        locked.fetch_optional(&mut *transaction).await?;
        // For as long as this transaction takes, it is claimed by nobody else. A row that somebody has a lock on is about to
        // be handled or ended, and whoever ends it wants the group's lock.
        let nobody = WorkerId::generate();
        let claimed = sqlx::query!(
            r#"UPDATE outbox SET claimed_by = $3, claimed_at = statement_timestamp() WHERE id = (
                SELECT id FROM outbox WHERE id = $1 AND app_id = $2 AND claimed_by IS NULL FOR UPDATE SKIP LOCKED
            ) RETURNING attempts, isfinite(run_at) AS "is_blocking!""#,
            event.as_uuid(),
            app.as_uuid(),
            nobody.as_uuid(),
        );
        let Some(row) = claimed.fetch_optional(&mut *transaction).await? else {
            return Err(StoreError::Conflict);
        };
        let fallen = Fallen {
            claim: Claim { event, worker: nobody, attempt: row.attempts.cast_unsigned() },
            fault: EventFault::new(ErrorCode::EventCancelled, "the event was cancelled while it waited"),
            script: None,
        };
        let (letters, removed) = dead_letters::bury(&mut transaction, nobody, &[fallen]).await?;
        let mut lanes = BTreeSet::new();
        // The others of its group wait for the first of them only.
        if row.is_blocking {
            advance(&mut transaction, &removed, &mut lanes).await?;
        }
        // Whoever takes a message back may send it again.
        let freed = sqlx::query!(
            "DELETE FROM queue_dedupe_keys k USING outbox_lanes l
            WHERE l.id = $1 AND k.app_id = l.app_id AND k.queue = l.queue AND k.event_id = $2",
            place.lane_id,
            event.as_uuid(),
        );
        freed.execute(&mut *transaction).await?;
        let callbacks: Vec<_> = letters.iter().filter_map(dead_letters::Letter::callback).collect();
        lanes.extend(insert(self, &mut transaction, app, &callbacks, OutboxLimit::NONE).await?.lanes);
        let letter = letters.first().map(dead_letters::Letter::id);
        if let Some(letter) = letter {
            dead_letters::resolve(&mut transaction, app, letter, Resolution::Ignored, Some(by), None).await?;
        }
        transaction.commit().await?;
        self.wakes.wake(&lanes);
        Ok(letter)
    }
}
