//! Key-value data of scripts: reads, and the commits that validate what a run has read, files included.

mod access;
mod commit;
mod locks;
mod range;
mod validate;

pub use access::{KvCollection, KvRow};
use commit::NO_FILES;
pub use commit::{Acknowledge, CommitTerms, KvCommit, KvLocked, KvTriggers, LONGEST_TTL};
pub use locks::KvLocks;

pub(crate) use locks::Buckets;
pub(crate) use range::KeyRange;

use std::time::Duration;

use picloud_core::{AppId, KvEntry, KvId, KvListQuery, KvListed, KvVersion};

use crate::{
    Store, StoreError,
    text::{parse, unsigned},
};

impl Store {
    /// The committed entry of a key; `None` if it is absent or expired.
    pub async fn kv_get(&self, app: AppId, id: &KvId) -> Result<Option<KvEntry>, StoreError> {
        let row = sqlx::query!(
            "SELECT value, version FROM kv WHERE app_id = $1 AND collection = $2 AND key = $3
                AND (expires_at IS NULL OR expires_at > statement_timestamp())",
            app.as_uuid(),
            id.collection.as_str(),
            id.key.as_str(),
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| KvEntry { value: row.value.into(), version: KvVersion::from_i64(row.version) }))
    }

    /// The committed entries that `query` asks for, in byte order of their keys.
    pub async fn kv_list(&self, app: AppId, query: &KvListQuery) -> Result<Vec<KvListed>, StoreError> {
        let Some(range) = KeyRange::of(query) else { return Ok(Vec::new()) };
        let rows = sqlx::query!(
            "SELECT key, value, version FROM kv
            WHERE app_id = $1 AND collection = $2 AND key >= $3 AND key < $4
                AND (expires_at IS NULL OR expires_at > statement_timestamp())
            ORDER BY key LIMIT $5",
            app.as_uuid(),
            query.collection.as_str(),
            range.first,
            range.end,
            i64::from(query.limit),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            let entry = KvEntry { value: row.value.into(), version: KvVersion::from_i64(row.version) };
            Ok(KvListed { key: parse(&row.key)?, entry })
        })
        .collect()
    }

    /// The bytes of keys and values of each of `apps` that has any, entries that have expired but are not
    /// removed yet included. Reads every entry: ask once, then add up [`KvCommit::Committed`].
    pub async fn kv_used_bytes(&self, apps: &[AppId]) -> Result<Vec<(AppId, u64)>, StoreError> {
        let apps: Vec<uuid::Uuid> = apps.iter().map(|app| app.as_uuid()).collect();
        let rows = sqlx::query!(
            r#"SELECT app_id, sum(bytes)::bigint AS "bytes!" FROM kv WHERE app_id = ANY ($1) GROUP BY app_id"#,
            &apps,
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        Ok(rows.map(|row| (AppId::from_uuid(row.app_id), unsigned(row.bytes))).collect())
    }

    /// How long until the next entry expires; nothing where one has already. `None` where none ever does.
    pub async fn kv_next_expiry(&self) -> Result<Option<Duration>, StoreError> {
        let seconds = sqlx::query_scalar!(
            "SELECT extract(epoch FROM min(expires_at) - statement_timestamp())::double precision FROM kv
            WHERE expires_at IS NOT NULL"
        );
        let seconds = seconds.fetch_one(&self.pool).await?;
        // Times to live are bounded, so that this is no more than a duration can be.
        Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
    }

    /// Removes at most `limit` expired entries, and answers how many: call it again while that is `limit`.
    pub async fn kv_remove_expired(&self, limit: u32) -> Result<u64, StoreError> {
        // Removing what counts as absent changes nothing that a run can see, so it needs no validation; an
        // entry that is being written right now is left to the next time.
        let removed = sqlx::query!(
            "DELETE FROM kv WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM kv WHERE expires_at <= statement_timestamp()
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
            ))",
            i64::from(limit),
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }
}
