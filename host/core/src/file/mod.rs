//! Files of an app: what a path may be, and the transactional view that one invocation has of them.
//!
//! A file is a name in the database with a content-addressed content. What is read is remembered with its version, as
//! key-value entries are, so that a commit can check that nothing changed in between.

mod content_type;
mod path;
mod session;

pub use content_type::content_type_of;
pub use session::{FileNow, FileReads, FileSavepoint, FileSession};

pub(crate) use content_type::check_type;
pub(crate) use path::{check_folder, check_path};

use bytes::Bytes;
use time::OffsetDateTime;

use crate::{ContentType, FileHash, FilePath, Limits};

/// The largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 << 20;

/// The largest file that a script writes, in bytes.
pub const MAX_SCRIPT_FILE_BYTES: u64 = 1 << 20;

/// The folder whose files a deployment brings, and which is served where no route leads to it.
pub const STATIC_FOLDER: &str = "static/";

/// The version of a file. What is absent has [`FileVersion::ABSENT`]; every write gives a version that no file of the
/// platform had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileVersion(i64);

impl FileVersion {
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

/// Counts the commits that changed any file of an app; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileGeneration(pub i64);

/// What is known of a committed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Names its content.
    pub hash: FileHash,
    /// Length of its content, in bytes.
    pub size: u64,
    /// Its media type.
    pub content_type: ContentType,
    /// Its version.
    pub version: FileVersion,
    /// When it was last written.
    pub modified: OffsetDateTime,
}

/// A committed file of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileListed {
    /// Its path.
    pub path: FilePath,
    /// What is known of it.
    pub file: StoredFile,
}

/// What a list asks for: files whose path starts with `prefix` and comes after `after`, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileListQuery {
    /// Only paths that start with this text.
    pub prefix: String,
    /// Only paths after this one.
    pub after: Option<String>,
    /// At most this many files.
    pub limit: u32,
}

/// A list, and when it was so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList {
    /// The files, by path.
    pub files: Vec<FileListed>,
    /// The generation that all of them are of.
    pub generation: FileGeneration,
}

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileWrite {
    /// Gives it a content, whether it is there or not.
    Set {
        /// The content.
        content: Bytes,
        /// Its hash.
        hash: FileHash,
        /// Its media type.
        content_type: ContentType,
        /// When it was written.
        modified: OffsetDateTime,
    },
    /// Removes it.
    Delete,
}

impl FileWrite {
    /// Gives a file a content now, of the given type or of the one that its path tells.
    pub fn set(path: &FilePath, content: Bytes, content_type: Option<ContentType>) -> Self {
        let hash = FileHash::of(&content);
        let content_type = content_type.unwrap_or_else(|| content_type_of(path.as_str()));
        Self::Set { content, hash, content_type, modified: OffsetDateTime::now_utc() }
    }
}

/// How much an app's files may be, checked in the transaction that writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileQuota {
    /// Their contents in all, in bytes.
    pub bytes: u64,
    /// Their number.
    pub files: u64,
}

impl FileQuota {
    /// The quota that limits set.
    pub const fn of(limits: &Limits) -> Self {
        Self { bytes: limits.file_bytes, files: limits.files }
    }
}
