//! One partition a day, made ahead and dropped whole.

use sqlx::{PgConnection, Postgres, Transaction};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{Store, StoreError};

/// How many days ahead there are partitions, so that none has to be made while batches are stored.
const DAYS_AHEAD: i32 = 2;

impl Store {
    /// Makes the partitions of today and the days ahead, where they are missing. To be called at start and
    /// once a day.
    pub async fn ensure_history_days(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin_partitioning().await?;
        let made = sqlx::query!(
            "SELECT history_make_day(current_date + ahead) FROM generate_series(0, $1::integer) AS ahead",
            DAYS_AHEAD,
        );
        made.fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Drops the history that is older than `days`, and answers how many days of it went.
    pub async fn drop_old_history(&self, days: u16) -> Result<u32, StoreError> {
        let mut transaction = self.begin_partitioning().await?;
        let dropped = sqlx::query_scalar!(
            r#"SELECT history_drop_days(current_date - $1::integer) AS "dropped!""#,
            i32::from(days),
        );
        let dropped = dropped.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(dropped.unsigned_abs())
    }

    /// Partitions are made and dropped under a lock of the whole table: better to try again later than to hold
    /// up every reader behind one that takes long.
    async fn begin_partitioning(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("SET LOCAL lock_timeout = '5s'").execute(&mut *transaction).await?;
        Ok(transaction)
    }
}

/// Makes the partitions of these days where they are missing, and makes those who store batches take turns
/// until the transaction ends.
pub(super) async fn ensure_days(connection: &mut PgConnection, days: &[Date]) -> Result<(), StoreError> {
    let made = sqlx::query!("SELECT history_make_day(day) FROM unnest($1::date[]) AS day", days);
    made.fetch_all(connection).await?;
    Ok(())
}

/// The day whose partition holds `id`.
pub(super) fn day_of(id: Uuid) -> Result<Date, StoreError> {
    let wrong = || StoreError::Invalid(format!("{id} is not the id of an execution: it has no time in it"));
    if id.get_version_num() != 7 {
        return Err(wrong());
    }
    let (seconds, _) = id.get_timestamp().ok_or_else(wrong)?.to_unix();
    let at = OffsetDateTime::from_unix_timestamp(seconds.cast_signed()).map_err(|_| wrong())?;
    Ok(at.date())
}
