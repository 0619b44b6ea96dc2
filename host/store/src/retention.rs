//! Removing what is kept of events only for a time, in small batches.

use crate::{Store, StoreError};

/// Deletes at most `limit` rows for which a condition holds, those first for which it has held the longest, and answers how
/// many. What somebody has locked is left to the next time.
macro_rules! remove {
    ($self:ident, $table:literal, $condition:literal, $order:literal, $limit:ident $(, $days:expr)?) => {{
        let removed = sqlx::query!(
            "DELETE FROM "
                + $table
                + " WHERE ctid = ANY (ARRAY(SELECT ctid FROM "
                + $table
                + " WHERE "
                + $condition
                + " ORDER BY "
                + $order
                + " LIMIT $1 FOR UPDATE SKIP LOCKED))",
            i64::from($limit),
            $($days,)?
        );
        Ok(removed.execute(&$self.pool).await?.rows_affected())
    }};
}

impl Store {
    /// Removes at most `limit` dead letters that are older than `days`, and answers how many.
    pub async fn remove_old_dead_letters(&self, days: u16, limit: u32) -> Result<u64, StoreError> {
        let days = f64::from(days);
        remove!(self, "dead_letters", "created_at < now() - $2 * interval '1 day'", "created_at", limit, days)
    }

    /// Removes at most `limit` records of abandoned executions that are older than `days`, and answers how many.
    pub async fn remove_old_abandoned(&self, days: u16, limit: u32) -> Result<u64, StoreError> {
        let days = f64::from(days);
        remove!(
            self,
            "abandoned_executions",
            "created_at < now() - $2 * interval '1 day'",
            "created_at",
            limit,
            days
        )
    }

    /// Removes at most `limit` times of schedules that are older than `days`, and answers how many.
    pub async fn remove_old_cron_slots(&self, days: u16, limit: u32) -> Result<u64, StoreError> {
        let days = f64::from(days);
        remove!(self, "cron_slots", "created_at < now() - $2 * interval '1 day'", "created_at", limit, days)
    }

    /// Removes at most `limit` keys of messages that may be sent again, and answers how many.
    pub async fn remove_expired_dedupe_keys(&self, limit: u32) -> Result<u64, StoreError> {
        remove!(self, "queue_dedupe_keys", "expires_at <= statement_timestamp()", "expires_at", limit)
    }

    /// Removes at most `limit` keys of requests that have expired, with their answers, and answers how many.
    pub async fn remove_expired_idempotency_keys(&self, limit: u32) -> Result<u64, StoreError> {
        remove!(self, "idempotency_keys", "expires_at <= statement_timestamp()", "expires_at", limit)
    }

    /// Removes at most `limit` answers of asynchronous requests that have expired, and answers how many.
    pub async fn remove_expired_results(&self, limit: u32) -> Result<u64, StoreError> {
        remove!(self, "event_results", "expires_at <= statement_timestamp()", "expires_at", limit)
    }

    /// Removes at most `limit` counters of mails of days that are over, and answers how many.
    pub async fn remove_old_mail_counters(&self, limit: u32) -> Result<u64, StoreError> {
        remove!(
            self,
            "mails_sent",
            "day < (statement_timestamp() AT TIME ZONE 'UTC')::date - 1",
            "day",
            limit
        )
    }
}
