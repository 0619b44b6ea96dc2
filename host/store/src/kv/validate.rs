//! Whether what a run has read is still so.

use std::collections::BTreeMap;

use picloud_core::{AppId, Effects, KvId, KvKey, KvReads, KvVersion};
use sqlx::PgConnection;

use super::range::KeyRange;
use crate::{StoreError, text::parse};

/// What the database has now of the entries and lists that a run has touched.
pub(super) struct Current {
    entries: BTreeMap<usize, (KvVersion, i64)>,
    lists: Vec<Vec<(KvKey, KvVersion)>>,
    /// The entries asked for, in order.
    ids: Vec<KvId>,
}

impl Current {
    /// Loads, in one statement and so from one snapshot, everything that `reads` and `effects` name.
    pub(super) async fn load(
        connection: &mut PgConnection,
        app: AppId,
        reads: &KvReads,
        effects: &Effects,
    ) -> Result<Self, StoreError> {
        let mut ids: Vec<KvId> = reads.entries.keys().cloned().collect();
        ids.extend(effects.kv.keys().filter(|id| !reads.entries.contains_key(*id)).cloned());
        let collections: Vec<&str> = ids.iter().map(|id| id.collection.as_str()).collect();
        let keys: Vec<&str> = ids.iter().map(|id| id.key.as_str()).collect();
        let lists = ListColumns::of(reads);
        if ids.is_empty() && reads.lists.is_empty() {
            return Ok(Self { entries: BTreeMap::new(), lists: Vec::new(), ids });
        }
        let rows = sqlx::query!(
            r#"SELECT i.ord AS "at!", NULL::text AS key, e.bytes::bigint AS "bytes!",
                CASE WHEN e.expires_at <= statement_timestamp() THEN 0 ELSE e.version END AS "version!"
            FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS i (collection, key, ord)
            JOIN kv e ON e.app_id = $1 AND e.collection = i.collection AND e.key = i.key
            UNION ALL
            SELECT q.ord, l.key, l.bytes::bigint, l.version
            FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[])
                WITH ORDINALITY AS q (collection, first, last, count, ord)
            CROSS JOIN LATERAL (
                SELECT key, bytes, version FROM kv
                WHERE app_id = $1 AND collection = q.collection AND key >= q.first AND key < q.last
                    AND (expires_at IS NULL OR expires_at > statement_timestamp())
                ORDER BY key LIMIT q.count
            ) l
            ORDER BY 1, 2"#,
            app.as_uuid(),
            &collections as _,
            &keys as _,
            &lists.collections as _,
            &lists.firsts,
            &lists.ends,
            &lists.limits,
        );
        let mut current = Self { entries: BTreeMap::new(), lists: vec![Vec::new(); reads.lists.len()], ids };
        for row in rows.fetch_all(connection).await? {
            // Ordinality counts from 1.
            let at = usize::try_from(row.at - 1).map_err(StoreError::corrupt)?;
            let version = KvVersion::from_i64(row.version);
            match row.key {
                None => _ = current.entries.insert(at, (version, row.bytes)),
                Some(key) => current.lists[at].push((parse(&key)?, version)),
            }
        }
        Ok(current)
    }

    /// Whether every read would have the same answer now.
    pub(super) fn agrees_with(&self, reads: &KvReads) -> bool {
        // The ids begin with those of the entries read, in the same order.
        let entries = reads.entries.values().enumerate().all(|(at, seen)| *seen == self.version(at));
        entries && reads.lists.iter().zip(&self.lists).all(|(read, now)| read.found == *now)
    }

    /// The bytes that the entries which `effects` replaces or removes take now.
    pub(super) fn bytes_replaced(&self, effects: &Effects) -> i64 {
        let replaced = self.ids.iter().enumerate().filter(|(_, id)| effects.kv.contains_key(*id));
        replaced.filter_map(|(at, _)| self.entries.get(&at)).map(|(_, bytes)| bytes).sum()
    }

    fn version(&self, at: usize) -> KvVersion {
        self.entries.get(&at).map_or(KvVersion::ABSENT, |(version, _)| *version)
    }
}

#[derive(Default)]
struct ListColumns<'a> {
    collections: Vec<&'a str>,
    firsts: Vec<String>,
    ends: Vec<String>,
    limits: Vec<i64>,
}

impl<'a> ListColumns<'a> {
    fn of(reads: &'a KvReads) -> Self {
        let mut columns = Self::default();
        for list in &reads.lists {
            // A query that can match nothing is asked with a limit of none, so that the lists keep their places.
            let range = KeyRange::of(&list.query);
            columns.limits.push(if range.is_some() { i64::from(list.query.limit) } else { 0 });
            let (first, end) = range.map_or_else(Default::default, |range| (range.first, range.end));
            columns.collections.push(list.query.collection.as_str());
            columns.firsts.push(first);
            columns.ends.push(end);
        }
        columns
    }
}
