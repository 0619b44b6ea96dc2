//! The same data as the management API sees it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use picloud_core::{AppId, CollectionName, Effects, KvId, KvKey, KvListQuery, KvReads, KvVersion, KvWrite};
use time::OffsetDateTime;

use super::{KvCommit, NO_FILES, range::KeyRange};
use crate::{
    Page, PageSize, Store, StoreError,
    text::{parse, unsigned},
};

/// A collection of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvCollection {
    /// Its name.
    pub name: CollectionName,
    /// How many entries it has.
    pub entries: u64,
    /// What their keys and values take.
    pub bytes: u64,
}

/// An entry with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRow {
    /// The key.
    pub key: KvKey,
    /// The value as JSON text.
    pub value: Arc<str>,
    /// Its version.
    pub version: KvVersion,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last written.
    pub updated_at: OffsetDateTime,
}

impl Store {
    /// The collections whose name comes after `after`, by name.
    pub async fn kv_collections(
        &self,
        app: AppId,
        after: Option<&CollectionName>,
        size: PageSize,
    ) -> Result<Page<KvCollection>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT collection, count(*) AS "entries!", sum(bytes)::bigint AS "bytes!" FROM kv
            WHERE app_id = $1 AND collection > $2
                AND (expires_at IS NULL OR expires_at > statement_timestamp())
            GROUP BY collection ORDER BY collection LIMIT $3"#,
            app.as_uuid(),
            after.map_or("", CollectionName::as_str),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, |row| {
            let (entries, bytes) = (unsigned(row.entries), unsigned(row.bytes));
            Ok(KvCollection { name: parse(&row.collection)?, entries, bytes })
        })
    }

    /// The entries of a collection whose keys start with `prefix` and come after `after`, in byte order.
    pub async fn kv_rows(
        &self,
        app: AppId,
        collection: &CollectionName,
        prefix: &str,
        after: Option<&str>,
        size: PageSize,
    ) -> Result<Page<KvRow>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let query = KvListQuery { collection: collection.clone(), prefix, after, limit: 0 };
        let Some(range) = KeyRange::of(&query) else { return Ok(Page { items: Vec::new(), more: false }) };
        let rows = sqlx::query_as!(
            Row,
            "SELECT key, value, version, expires_at, updated_at FROM kv
            WHERE app_id = $1 AND collection = $2 AND key >= $3 AND key < $4
                AND (expires_at IS NULL OR expires_at > statement_timestamp())
            ORDER BY key LIMIT $5",
            app.as_uuid(),
            collection.as_str(),
            range.first,
            range.end,
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, KvRow::try_from)
    }

    /// An entry with all that is known of it.
    pub async fn kv_row(&self, app: AppId, id: &KvId) -> Result<Option<KvRow>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT key, value, version, expires_at, updated_at FROM kv
            WHERE app_id = $1 AND collection = $2 AND key = $3
                AND (expires_at IS NULL OR expires_at > statement_timestamp())",
            app.as_uuid(),
            id.collection.as_str(),
            id.key.as_str(),
        );
        row.fetch_optional(&self.pool).await?.map(KvRow::try_from).transpose()
    }

    /// Writes or removes one entry, whatever it was before; or only if its version is `expected`, where
    /// [`KvVersion::ABSENT`] is that of an entry that does not exist. Answers by how many bytes the app's
    /// entries have grown.
    pub async fn kv_write(
        &self,
        app: AppId,
        id: &KvId,
        write: KvWrite,
        expected: Option<KvVersion>,
    ) -> Result<i64, StoreError> {
        let entries = expected.map(|version| (id.clone(), version)).into_iter().collect();
        let reads = KvReads { entries, ..KvReads::default() };
        let effects = Effects { kv: BTreeMap::from([(id.clone(), write)]), ..Effects::default() };
        match self.kv_commit(app, &reads, &effects, NO_FILES).await? {
            KvCommit::Committed { bytes_delta } => Ok(bytes_delta),
            KvCommit::Conflict | KvCommit::Superseded => Err(StoreError::Conflict),
        }
    }

    /// Sets one entry; see [`Store::kv_write`].
    pub async fn kv_put(
        &self,
        app: AppId,
        id: &KvId,
        value: Arc<str>,
        ttl: Option<Duration>,
        expected: Option<KvVersion>,
    ) -> Result<i64, StoreError> {
        self.kv_write(app, id, KvWrite::Set { value, ttl }, expected).await
    }

    /// Removes one entry; see [`Store::kv_write`]. To remove what does not exist is no error.
    pub async fn kv_delete(
        &self,
        app: AppId,
        id: &KvId,
        expected: Option<KvVersion>,
    ) -> Result<i64, StoreError> {
        self.kv_write(app, id, KvWrite::Delete, expected).await
    }
}

struct Row {
    key: String,
    value: String,
    version: i64,
    expires_at: Option<OffsetDateTime>,
    updated_at: OffsetDateTime,
}

impl TryFrom<Row> for KvRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            key: parse(&row.key)?,
            value: row.value.into(),
            version: KvVersion::from_i64(row.version),
            expires_at: row.expires_at,
            updated_at: row.updated_at,
        })
    }
}
