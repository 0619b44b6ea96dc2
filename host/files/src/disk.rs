//! Files of the cache: opening, verifying, writing. Everything here blocks.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    time::SystemTime,
};

use bytes::Bytes;
use cap_std::fs::{Dir, MetadataExt, OpenOptions};
use picloud_core::{AppId, FileHash};
use sha2::{Digest, Sha256};

use crate::{compress::Compression, content::Source};

/// Bytes of the digest before a compressed content.
const DIGEST_BYTES: u64 = 32;

/// What a file is a form of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) app: AppId,
    pub(crate) hash: FileHash,
    /// As it is, where there is none.
    pub(crate) compression: Option<Compression>,
}

impl Key {
    /// Its name in the app's folder.
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.hash, self.compression.map_or("", Compression::extension))
    }
}

/// Tells a file that was verified from any other, and from itself after any change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &cap_std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Opens a file if it is there and what it should be. `verified` is its stamp when it was last verified. One that is not
/// what it should be is removed.
pub(crate) fn open(root: &Dir, key: &Key, verified: Option<Stamp>) -> io::Result<Option<(Source, Stamp)>> {
    let folder = match folder(root, key.app) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let name = key.name();
    match folder.symlink_metadata(&name) {
        // Neither a link nor a pipe is one of the cache's.
        Ok(metadata) if !metadata.is_file() => {
            remove(&folder, &name);
            return Ok(None);
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = match folder.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    let mut file = file.into_std();
    if verified != Some(stamp) && !is_intact(&mut file, key)? {
        tracing::warn!(app = %key.app, file = %name, "a cached file was changed or torn; it is fetched again");
        remove(&folder, &name);
        return Ok(None);
    }
    let start = if key.compression.is_some() { DIGEST_BYTES } else { 0 };
    let size = metadata.len().saturating_sub(start);
    Ok(Some((Source::Disk { file, start, size }, stamp)))
}

/// Writes a content under another name and renames it.
pub(crate) fn write(root: &Dir, key: &Key, content: &Bytes) -> io::Result<()> {
    let app = key.app.to_string();
    match root.create_dir(&app) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = folder(root, key.app)?;
    let temporary = temporary_name()?;
    let written = write_to(&folder, &temporary, key, content)
        .and_then(|()| folder.rename(&temporary, &folder, key.name()));
    if written.is_err() {
        remove(&folder, &temporary);
    }
    written
}

fn write_to(folder: &Dir, name: &str, key: &Key, content: &Bytes) -> io::Result<()> {
    let mut file = folder.open_with(name, OpenOptions::new().write(true).create_new(true))?;
    if key.compression.is_some() {
        let digest: [u8; 32] = Sha256::digest(content).into();
        file.write_all(&digest)?;
    }
    file.write_all(content)
}

/// The folder of an app, which is no link.
fn folder(root: &Dir, app: AppId) -> io::Result<Dir> {
    let name = app.to_string();
    if !root.symlink_metadata(&name)?.is_dir() {
        let _ = root.remove_file(&name);
        return Err(io::ErrorKind::NotFound.into());
    }
    root.open_dir(&name)
}

/// Whether a file's content has the hash that it is named by, or the digest that it begins with.
fn is_intact(file: &mut File, key: &Key) -> io::Result<bool> {
    file.rewind()?;
    let mut expected = *key.hash.as_bytes();
    if key.compression.is_some() {
        match file.read_exact(&mut expected) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(<[u8; 32]>::from(hash.finalize()) == expected)
}

/// A name that nothing else has, and that eviction knows as one.
fn temporary_name() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{random:016x}{TEMPORARY}"))
}

/// The end of temporary names.
pub(crate) const TEMPORARY: &str = ".tmp";

/// What cannot be removed is tried again with the next eviction.
pub(crate) fn remove(folder: &Dir, name: &str) {
    if let Err(error) = folder.remove_file(name)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, name, "a cached file cannot be removed");
    }
}

/// When a file was written, for what was not used since this process began.
pub(crate) fn modified(metadata: &cap_std::fs::Metadata) -> SystemTime {
    metadata.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std)
}
