//! E-mail: events of mails that come in, and the quota of those that go out.

use std::collections::BTreeSet;

use picloud_core::{AppId, Emission, Emitted, TriggerId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    NewEvent, OutboxLimit,
    insert::{again, insert},
};
use crate::{Store, StoreError, text::bigint};

/// The most e-mails of an app in a day (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailQuota(pub u64);

/// Events of one app, to be put into the outbox together with those of others.
#[derive(Clone, Debug)]
pub struct AppEvents {
    /// The app.
    pub app: AppId,
    /// Its events.
    pub events: Vec<NewEvent>,
    /// The most events of the app that may wait.
    pub limit: OutboxLimit,
}

impl Store {
    /// The trigger that takes mail for an address, if it is enabled. `local` is the part before the `@`, in lower case.
    pub async fn email_trigger(&self, local: &str) -> Result<Option<TriggerId>, StoreError> {
        let found = sqlx::query_scalar!(
            "SELECT t.id FROM email_trigger_details e JOIN triggers t ON t.id = e.trigger_id
            WHERE e.address = $1 AND t.enabled",
            local,
        );
        Ok(found.fetch_optional(&self.pool).await?.map(TriggerId::from_uuid))
    }

    /// The apps of those of the triggers that take mail and are enabled, by app.
    pub async fn email_triggers(
        &self,
        triggers: &[TriggerId],
    ) -> Result<Vec<(AppId, TriggerId)>, StoreError> {
        let triggers: Vec<Uuid> = triggers.iter().map(|trigger| trigger.as_uuid()).collect();
        let found = sqlx::query!(
            "SELECT app_id, id FROM triggers WHERE id = ANY ($1) AND kind = 'email' AND enabled ORDER BY app_id, id",
            &triggers,
        );
        let found = found.fetch_all(&self.pool).await?.into_iter();
        Ok(found.map(|row| (AppId::from_uuid(row.app_id), TriggerId::from_uuid(row.id))).collect())
    }

    /// Puts events of several apps into the outbox, all or none, and wakes those who handle them.
    ///
    /// [`StoreError::OutboxFull`] if one of the apps has no room; [`StoreError::NotFound`] if one is gone.
    pub async fn enqueue_for_apps(&self, batches: &[AppEvents]) -> Result<(), StoreError> {
        // In one order, so that no two wait for each other.
        let mut batches: Vec<&AppEvents> = batches.iter().collect();
        batches.sort_by_key(|batch| batch.app);
        again(|| self.try_enqueue_for_apps(&batches)).await
    }

    async fn try_enqueue_for_apps(&self, batches: &[&AppEvents]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let mut lanes = BTreeSet::new();
        for batch in batches {
            let inserted = insert(self, &mut transaction, batch.app, &batch.events, batch.limit).await?;
            lanes.extend(inserted.lanes);
        }
        transaction.commit().await?;
        self.wakes.wake(&lanes);
        Ok(())
    }
}

/// Counts the e-mails among what an invocation makes, in its transaction. [`StoreError::MailQuota`] beyond the quota.
pub(super) async fn count(
    connection: &mut PgConnection,
    app: AppId,
    emissions: &[Emission],
    quota: MailQuota,
) -> Result<(), StoreError> {
    let mails = emissions.iter().filter(|emission| matches!(emission.what, Emitted::Mail(_))).count() as u64;
    if mails == 0 {
        return Ok(());
    }
    let MailQuota(most) = quota;
    let counted = sqlx::query!(
        "INSERT INTO mails_sent AS sent (app_id, day, mails)
        SELECT $1, (statement_timestamp() AT TIME ZONE 'UTC')::date, $2 WHERE $2::bigint <= $3::bigint
        ON CONFLICT (app_id, day) DO UPDATE SET mails = sent.mails + excluded.mails
            WHERE sent.mails + excluded.mails <= $3",
        app.as_uuid(),
        bigint(mails),
        bigint(most),
    );
    let counted = counted.execute(connection).await.map_err(|error| StoreError::foreign(error, "app"))?;
    if counted.rows_affected() == 0 {
        return Err(StoreError::MailQuota { limit: most });
    }
    Ok(())
}
