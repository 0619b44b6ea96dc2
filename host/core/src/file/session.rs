//! The view of files that one invocation has: committed files that it has read, under its own writes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{FileGeneration, FileList, FileListQuery, FileVersion, FileWrite, StoredFile};
use crate::{ContentType, FilePath};

/// What an invocation read of committed files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReads {
    /// Version of every file that it read or asked for.
    pub entries: BTreeMap<FilePath, FileVersion>,
    /// The generation of the first list that it read.
    pub listed: Option<FileGeneration>,
    /// Whether lists of several generations were read, so that they do not belong together.
    pub lists_differ: bool,
}

impl FileReads {
    /// Whether there is nothing to validate.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many reads there are to validate.
    pub fn count(&self) -> usize {
        // Lists of one generation are of one moment, and lists that differ are never of one.
        self.entries.len() + usize::from(self.listed.is_some()) + usize::from(self.lists_differ)
    }
}

/// A file as an invocation sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileNow {
    /// It is committed, and this invocation has not written it.
    Stored(StoredFile),
    /// This invocation wrote it.
    Written(FileWrite),
}

impl FileNow {
    /// Length of its content, in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Stored(file) => file.size,
            Self::Written(FileWrite::Set { content, .. }) => content.len() as u64,
            Self::Written(FileWrite::Delete) => 0,
        }
    }

    /// Its media type and when it was last written, in milliseconds since the Unix epoch; `None` where it was deleted.
    pub fn properties(&self) -> Option<(&ContentType, i64)> {
        let (content_type, modified) = match self {
            Self::Stored(file) => (&file.content_type, file.modified),
            Self::Written(FileWrite::Set { content_type, modified, .. }) => (content_type, *modified),
            Self::Written(FileWrite::Delete) => return None,
        };
        let milliseconds = modified.unix_timestamp_nanos() / 1_000_000;
        Some((content_type, i64::try_from(milliseconds).unwrap_or(i64::MAX)))
    }

    /// The content, where this invocation wrote it.
    pub fn content(&self) -> Option<Bytes> {
        match self {
            Self::Written(FileWrite::Set { content, .. }) => Some(content.clone()),
            Self::Written(FileWrite::Delete) | Self::Stored(_) => None,
        }
    }
}

/// The view of one invocation.
#[derive(Clone, Debug, Default)]
pub struct FileSession {
    seen: BTreeMap<FilePath, Option<StoredFile>>,
    listed: Option<FileGeneration>,
    lists_differ: bool,
    writes: BTreeMap<FilePath, FileWrite>,
}

/// The writes of a session at one moment.
#[derive(Clone, Debug)]
pub struct FileSavepoint(BTreeMap<FilePath, FileWrite>);

impl FileSession {
    /// A file as this invocation sees it: `Some(None)` is known to be absent, `None` is not known yet and must be
    /// fetched and given to [`Self::fetched`].
    pub fn lookup(&self, path: &FilePath) -> Option<Option<FileNow>> {
        match self.writes.get(path) {
            Some(FileWrite::Delete) => Some(None),
            Some(write) => Some(Some(FileNow::Written(write.clone()))),
            None => self.seen.get(path).map(|file| file.clone().map(FileNow::Stored)),
        }
    }

    /// Remembers a committed file. What was seen first stays: reads repeat.
    pub fn fetched(&mut self, path: FilePath, file: Option<StoredFile>) {
        self.seen.entry(path).or_insert(file);
    }

    /// Writes a file.
    pub fn write(&mut self, path: FilePath, write: FileWrite) {
        self.writes.insert(path, write);
    }

    /// How many committed files to fetch so that a list of `query.limit` files can be answered even if this invocation
    /// has deleted some of them.
    pub fn fetch_limit(&self, query: &FileListQuery) -> u32 {
        query.limit.saturating_add(self.deleted(query) as u32)
    }

    /// Lays this invocation's writes over the committed `found`, which answers `query` with `limit` raised to
    /// [`Self::fetch_limit`], and remembers what was read.
    pub fn listed(&mut self, query: &FileListQuery, found: FileList) -> Vec<(FilePath, FileNow)> {
        let is_complete = found.files.len() < self.fetch_limit(query) as usize;
        let last = found.files.last().map(|listed| listed.path.clone());
        match self.listed {
            None => self.listed = Some(found.generation),
            Some(first) => self.lists_differ |= first != found.generation,
        }
        let mut merged: BTreeMap<FilePath, FileNow> = BTreeMap::new();
        for listed in found.files {
            // What was seen before wins, so that a list never contradicts it; the commit validates both.
            let file = match self.seen.get(&listed.path) {
                Some(Some(seen)) => seen.clone(),
                Some(None) => continue,
                None => listed.file,
            };
            merged.insert(listed.path, FileNow::Stored(file));
        }
        for (path, write) in self.writes_of(query) {
            match write {
                FileWrite::Delete => {
                    merged.remove(path);
                }
                // Beyond the last fetched path there may be committed files that are not known.
                FileWrite::Set { .. } if is_complete || last.as_ref().is_none_or(|last| path <= last) => {
                    merged.insert(path.clone(), FileNow::Written(write.clone()));
                }
                FileWrite::Set { .. } => {}
            }
        }
        merged.into_iter().take(query.limit as usize).collect()
    }

    /// The writes so far, to return to if a nested invocation fails.
    pub fn savepoint(&self) -> FileSavepoint {
        FileSavepoint(self.writes.clone())
    }

    /// Takes back every write since `savepoint`. Reads stay: they happened, and are validated.
    pub fn roll_back(&mut self, savepoint: FileSavepoint) {
        self.writes = savepoint.0;
    }

    /// What was read and what is to be written.
    pub fn finish(self) -> (FileReads, BTreeMap<FilePath, FileWrite>) {
        let version = |file: Option<StoredFile>| file.map_or(FileVersion::ABSENT, |file| file.version);
        let entries = self.seen.into_iter().map(|(path, file)| (path, version(file))).collect();
        (FileReads { entries, listed: self.listed, lists_differ: self.lists_differ }, self.writes)
    }

    fn deleted(&self, query: &FileListQuery) -> usize {
        self.writes_of(query).filter(|(_, write)| matches!(write, FileWrite::Delete)).count()
    }

    fn writes_of<'a>(
        &'a self,
        query: &'a FileListQuery,
    ) -> impl Iterator<Item = (&'a FilePath, &'a FileWrite)> {
        self.writes.iter().filter(move |(path, _)| {
            path.as_str().starts_with(&query.prefix)
                && query.after.as_deref().is_none_or(|after| path.as_str() > after)
        })
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{FileHash, FileListed, content_type_of};

    fn path(text: &str) -> FilePath {
        FilePath::new(text).unwrap()
    }

    fn stored(content: &str, version: i64) -> StoredFile {
        StoredFile {
            hash: FileHash::of(content.as_bytes()),
            size: content.len() as u64,
            content_type: content_type_of("a"),
            version: FileVersion::from_i64(version),
            modified: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn set(text: &str, content: &'static str) -> FileWrite {
        FileWrite::set(&path(text), content.into(), None)
    }

    fn query(limit: u32) -> FileListQuery {
        FileListQuery { prefix: String::new(), after: None, limit }
    }

    fn list(files: &[&str], generation: i64) -> FileList {
        let listed = |name: &&str| FileListed { path: path(name), file: stored(name, 1) };
        FileList { files: files.iter().map(listed).collect(), generation: FileGeneration(generation) }
    }

    #[test]
    fn reads_see_own_writes_and_repeat() {
        let mut session = FileSession::default();
        assert_eq!(session.lookup(&path("a")), None);
        session.fetched(path("a"), Some(stored("1", 7)));
        session.fetched(path("a"), Some(stored("2", 8)));
        assert_eq!(session.lookup(&path("a")), Some(Some(FileNow::Stored(stored("1", 7)))));
        session.write(path("a"), set("a", "own"));
        assert_eq!(session.lookup(&path("a")).flatten().and_then(|now| now.content()), Some("own".into()));
        session.write(path("a"), FileWrite::Delete);
        assert_eq!(session.lookup(&path("a")), Some(None));
        let (reads, writes) = session.finish();
        assert_eq!(reads.entries[&path("a")], FileVersion::from_i64(7));
        assert_eq!(writes[&path("a")], FileWrite::Delete);
    }

    #[test]
    fn a_list_is_laid_under_own_writes() {
        let mut session = FileSession::default();
        session.write(path("b"), set("b", "own"));
        session.write(path("c"), FileWrite::Delete);
        assert_eq!(session.fetch_limit(&query(3)), 4);
        let names =
            |list: Vec<(FilePath, FileNow)>| list.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(names(session.listed(&query(3), list(&["a", "c", "d"], 1))), ["a", "b", "d"].map(path));
        session.write(path("z"), set("z", "own"));
        let page = session.listed(&query(1), list(&["a", "c"], 1));
        assert_eq!(names(page), [path("a")], "an own file beyond a cut list waits for the next page");
        assert_eq!(session.clone().finish().0.count(), 1, "lists of one generation are one read");
        session.listed(&query(1), list(&["a"], 2));
        assert!(session.finish().0.lists_differ);
    }

    #[test]
    fn rolling_back_keeps_reads_and_earlier_writes() {
        let mut session = FileSession::default();
        session.write(path("a"), set("a", "1"));
        let savepoint = session.savepoint();
        session.write(path("a"), FileWrite::Delete);
        session.fetched(path("b"), None);
        session.roll_back(savepoint);
        let (reads, writes) = session.finish();
        assert!(matches!(writes[&path("a")], FileWrite::Set { .. }));
        assert_eq!(reads.entries[&path("b")], FileVersion::ABSENT);
    }
}
