//! The transactional view of key-value data that one invocation has.
//!
//! Reads see the invocation's own writes; every committed entry that was read is remembered with its version,
//! so that the commit can check that nothing changed in between. This is optimistic concurrency control by
//! backward validation (Kung and Robinson, 1981).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{CollectionName, Emission, FilePath, FileReads, FileSavepoint, FileSession, FileWrite, KvKey};

/// The version of an entry. Absent and expired entries have [`KvVersion::ABSENT`]; every write gives a version
/// that no entry of the platform had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvVersion(i64);

impl KvVersion {
    /// The version of what is not there.
    pub const ABSENT: Self = Self(0);

    /// Wraps a version read from storage.
    pub const fn from_i64(version: i64) -> Self {
        Self(version)
    }

    /// The version as storage keeps it.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

/// Names an entry within an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvId {
    /// The collection.
    pub collection: CollectionName,
    /// The key in it.
    pub key: KvKey,
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// The value as JSON text.
    pub value: Arc<str>,
    /// Its version.
    pub version: KvVersion,
}

/// A committed entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvListed {
    /// The key.
    pub key: KvKey,
    /// Value and version.
    pub entry: KvEntry,
}

/// What a list asks for: keys of `collection` that start with `prefix` and come after `after`, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvListQuery {
    /// The collection.
    pub collection: CollectionName,
    /// Only keys that start with this text.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most this many entries.
    pub limit: u32,
}

/// A change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvWrite {
    /// Sets the value, with a time to live from the commit on, if one is given.
    Set {
        /// The value as JSON text.
        value: Arc<str>,
        /// Removed this long after the commit.
        ttl: Option<Duration>,
    },
    /// Removes the entry.
    Delete,
}

/// What an invocation wants to change, committed all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The last write of each key.
    pub kv: BTreeMap<KvId, KvWrite>,
    /// The last write of each file.
    pub files: BTreeMap<FilePath, FileWrite>,
    /// The events that it makes, in order.
    pub events: Vec<Emission>,
}

impl Effects {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.kv.is_empty() && self.files.is_empty() && self.events.is_empty()
    }
}

/// A list that was read from storage, to be validated by asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvListRead {
    /// What was asked.
    pub query: KvListQuery,
    /// Keys and versions of the answer.
    pub found: Vec<(KvKey, KvVersion)>,
}

/// What an invocation read of committed data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvReads {
    /// Version of every entry it read.
    pub entries: BTreeMap<KvId, KvVersion>,
    /// Every list it read.
    pub lists: Vec<KvListRead>,
    /// What it read of files.
    pub files: FileReads,
}

impl KvReads {
    /// Whether a run that writes nothing needs no validation: what it saw was one entry or file at one moment.
    pub fn is_single(&self) -> bool {
        self.lists.len() + self.entries.len() + self.files.count() <= 1
    }
}

/// The view of one invocation: committed entries it has read, under its own writes.
#[derive(Clone, Debug, Default)]
pub struct KvSession {
    seen: BTreeMap<KvId, Option<KvEntry>>,
    lists: Vec<KvListRead>,
    writes: BTreeMap<KvId, KvWrite>,
    events: Vec<Emission>,
    /// Its view of the app's files, which commit with the entries.
    pub files: FileSession,
}

/// The writes of a session at one moment.
#[derive(Clone, Debug)]
pub struct KvSavepoint {
    writes: BTreeMap<KvId, KvWrite>,
    files: FileSavepoint,
    events: usize,
}

impl KvSession {
    /// The value of a key as this invocation sees it: `Some(None)` is known to be absent, `None` is not known
    /// yet and must be fetched and given to [`Self::fetched`].
    pub fn lookup(&self, id: &KvId) -> Option<Option<Arc<str>>> {
        match self.writes.get(id) {
            Some(KvWrite::Set { value, .. }) => Some(Some(Arc::clone(value))),
            Some(KvWrite::Delete) => Some(None),
            None => self.seen.get(id).map(|entry| entry.as_ref().map(|entry| Arc::clone(&entry.value))),
        }
    }

    /// Remembers a committed entry. What was seen first stays: reads repeat.
    pub fn fetched(&mut self, id: KvId, entry: Option<KvEntry>) {
        self.seen.entry(id).or_insert(entry);
    }

    /// Writes a key.
    pub fn write(&mut self, id: KvId, write: KvWrite) {
        self.writes.insert(id, write);
    }

    /// Makes an event, when the invocation commits.
    pub fn emit(&mut self, event: Emission) {
        self.events.push(event);
    }

    /// How many committed entries to fetch so that a list of `query.limit` entries can be answered even if
    /// this invocation has deleted some of them.
    pub fn fetch_limit(&self, query: &KvListQuery) -> u32 {
        let deleted = self.writes_of(query).filter(|(_, write)| matches!(write, KvWrite::Delete)).count();
        query.limit.saturating_add(deleted as u32)
    }

    /// Lays this invocation's writes over the committed `found`, which answers `query` with `limit` raised to
    /// [`Self::fetch_limit`], and remembers what was read.
    pub fn listed(&mut self, query: KvListQuery, found: Vec<KvListed>) -> Vec<(KvKey, Arc<str>)> {
        let fetched = KvListQuery { limit: self.fetch_limit(&query), ..query };
        let complete = found.len() < fetched.limit as usize;
        let last = found.last().map(|listed| listed.key.clone());
        let versions = found.iter().map(|listed| (listed.key.clone(), listed.entry.version)).collect();

        let mut merged: BTreeMap<KvKey, Arc<str>> = BTreeMap::new();
        for listed in found {
            let id = KvId { collection: fetched.collection.clone(), key: listed.key.clone() };
            // What a get has seen before wins, so that a list never contradicts it; the commit validates both.
            match self.seen.get(&id) {
                Some(Some(seen)) => merged.insert(listed.key, Arc::clone(&seen.value)),
                Some(None) => None,
                None => merged.insert(listed.key, listed.entry.value),
            };
        }
        for (id, write) in self.writes_of(&fetched) {
            match write {
                // Beyond the last fetched key there may be committed entries that are not known.
                KvWrite::Set { value, .. }
                    if complete || last.as_ref().is_none_or(|last| id.key <= *last) =>
                {
                    merged.insert(id.key.clone(), Arc::clone(value));
                }
                KvWrite::Set { .. } => {}
                KvWrite::Delete => {
                    merged.remove(&id.key);
                }
            }
        }
        let limit = query_limit(&fetched, self);
        self.lists.push(KvListRead { query: fetched, found: versions });
        merged.into_iter().take(limit).collect()
    }

    /// The writes so far, to return to if a nested invocation fails.
    pub fn savepoint(&self) -> KvSavepoint {
        KvSavepoint { writes: self.writes.clone(), files: self.files.savepoint(), events: self.events.len() }
    }

    /// Takes back every write since `savepoint`. Reads stay: they happened, and are validated.
    pub fn roll_back(&mut self, savepoint: KvSavepoint) {
        self.writes = savepoint.writes;
        self.files.roll_back(savepoint.files);
        self.events.truncate(savepoint.events);
    }

    /// What was read and what is to be written.
    pub fn finish(self) -> (KvReads, Effects) {
        let entries = self
            .seen
            .into_iter()
            .map(|(id, entry)| (id, entry.map_or(KvVersion::ABSENT, |entry| entry.version)))
            .collect();
        let (file_reads, files) = self.files.finish();
        (
            KvReads { entries, lists: self.lists, files: file_reads },
            Effects { kv: self.writes, files, events: self.events },
        )
    }

    fn writes_of<'a>(&'a self, query: &'a KvListQuery) -> impl Iterator<Item = (&'a KvId, &'a KvWrite)> {
        self.writes.iter().filter(move |(id, _)| {
            id.collection == query.collection
                && id.key.as_str().starts_with(&query.prefix)
                && query.after.as_deref().is_none_or(|after| id.key.as_str() > after)
        })
    }
}

/// The limit that the script asked for, from the raised one.
fn query_limit(fetched: &KvListQuery, session: &KvSession) -> usize {
    let deleted = session.writes_of(fetched).filter(|(_, write)| matches!(write, KvWrite::Delete)).count();
    (fetched.limit as usize).saturating_sub(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: &str) -> KvId {
        KvId { collection: CollectionName::new("c").unwrap(), key: KvKey::new(key).unwrap() }
    }

    fn entry(value: &str, version: i64) -> KvEntry {
        KvEntry { value: value.into(), version: KvVersion::from_i64(version) }
    }

    fn set(value: &str) -> KvWrite {
        KvWrite::Set { value: value.into(), ttl: None }
    }

    fn listed(key: &str, value: &str, version: i64) -> KvListed {
        KvListed { key: KvKey::new(key).unwrap(), entry: entry(value, version) }
    }

    fn query(limit: u32) -> KvListQuery {
        KvListQuery {
            collection: CollectionName::new("c").unwrap(),
            prefix: String::new(),
            after: None,
            limit,
        }
    }

    fn keys(list: &[(KvKey, Arc<str>)]) -> Vec<&str> {
        list.iter().map(|(key, _)| key.as_str()).collect()
    }

    #[test]
    fn reads_see_own_writes_and_repeat() {
        let mut session = KvSession::default();
        assert_eq!(session.lookup(&id("a")), None);
        session.fetched(id("a"), Some(entry("1", 7)));
        session.fetched(id("a"), Some(entry("2", 8)));
        assert_eq!(session.lookup(&id("a")), Some(Some("1".into())));
        session.write(id("a"), set("3"));
        assert_eq!(session.lookup(&id("a")), Some(Some("3".into())));
        session.write(id("a"), KvWrite::Delete);
        assert_eq!(session.lookup(&id("a")), Some(None));
        let (reads, effects) = session.finish();
        assert_eq!(reads.entries[&id("a")], KvVersion::from_i64(7));
        assert_eq!(effects.kv[&id("a")], KvWrite::Delete);
    }

    #[test]
    fn an_absent_key_is_a_read_of_version_zero() {
        let mut session = KvSession::default();
        session.fetched(id("a"), None);
        assert_eq!(session.lookup(&id("a")), Some(None));
        assert_eq!(session.finish().0.entries[&id("a")], KvVersion::ABSENT);
    }

    #[test]
    fn rolling_back_keeps_reads_and_earlier_writes() {
        let mut session = KvSession::default();
        session.write(id("a"), set("1"));
        let savepoint = session.savepoint();
        session.write(id("a"), set("2"));
        session.fetched(id("b"), None);
        session.roll_back(savepoint);
        let (reads, effects) = session.finish();
        assert_eq!(effects.kv[&id("a")], set("1"));
        assert_eq!(reads.entries.len(), 1);
    }

    #[test]
    fn a_blind_write_is_not_a_read() {
        let mut session = KvSession::default();
        session.write(id("a"), set("1"));
        assert!(session.finish().0.entries.is_empty());
    }

    #[test]
    fn a_list_is_laid_under_own_writes() {
        let mut session = KvSession::default();
        session.write(id("b"), set("own"));
        session.write(id("c"), KvWrite::Delete);
        assert_eq!(session.fetch_limit(&query(3)), 4);
        let found = vec![listed("a", "1", 1), listed("c", "3", 3), listed("d", "4", 4)];
        let list = session.listed(query(3), found);
        assert_eq!(keys(&list), ["a", "b", "d"]);
        let (reads, _) = session.finish();
        assert_eq!(reads.lists[0].query.limit, 4);
        assert_eq!(reads.lists[0].found.len(), 3);
    }

    #[test]
    fn an_own_write_beyond_a_cut_list_waits_for_the_next_page() {
        let mut session = KvSession::default();
        session.write(id("z"), set("own"));
        let list = session.listed(query(2), vec![listed("a", "1", 1), listed("b", "2", 2)]);
        assert_eq!(keys(&list), ["a", "b"]);
    }
}
