//! Removing what is remembered of events only for a time, in small batches.

use crate::{Store, StoreError};

impl Store {
    /// Removes at most `limit` keys of messages that may be sent again, and answers how many.
    pub async fn remove_expired_dedupe_keys(&self, limit: u32) -> Result<u64, StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM queue_dedupe_keys WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM queue_dedupe_keys WHERE expires_at <= statement_timestamp()
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
            ))",
            i64::from(limit),
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }

    /// Removes at most `limit` keys of requests that have expired, with their answers, and answers how many.
    pub async fn remove_expired_idempotency_keys(&self, limit: u32) -> Result<u64, StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM idempotency_keys WHERE expires_at <= statement_timestamp()
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
            ))",
            i64::from(limit),
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }

    /// Removes at most `limit` answers of asynchronous requests that have expired, and answers how many.
    pub async fn remove_expired_results(&self, limit: u32) -> Result<u64, StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM event_results WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM event_results WHERE expires_at <= statement_timestamp()
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
            ))",
            i64::from(limit),
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }
}
