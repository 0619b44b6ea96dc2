//! Images on disk: a bounded cache of compiled image modules, least recently used dropped first.
//!
//! A file's name is the image's key and the digest of its content, so that a torn or changed file is found out
//! before it is used. The cache is this node's own: nothing in it ever comes from the network, the database or
//! an upload.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use picloud_core::ImageKey;
use wasmtime::{Engine, Module};

use crate::{
    code::{hex, write_atomically},
    trusted::{self, ArtifactDigest},
};

const EXTENSION: &str = "image";

/// The cache in one folder.
pub(crate) struct DiskCache {
    folder: PathBuf,
    max_bytes: u64,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    files: HashMap<ImageKey, Entry>,
    bytes: u64,
    clock: u64,
}

struct Entry {
    digest: ArtifactDigest,
    bytes: u64,
    used: u64,
}

impl DiskCache {
    /// Reads what is in `folder`; leftovers of interrupted writes are removed.
    pub(crate) fn open(folder: PathBuf, max_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut found: Vec<(SystemTime, ImageKey, ArtifactDigest, u64)> = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let Some((key, digest)) = parse_name(&path) else {
                fs::remove_file(&path)?;
                continue;
            };
            let metadata = fs::metadata(&path)?;
            found.push((metadata.modified()?, key, digest, metadata.len()));
        }
        found.sort_by_key(|(modified, ..)| *modified);
        let cache = Self { folder, max_bytes, index: Mutex::default() };
        for (_, key, digest, bytes) in found {
            cache.remember(key, digest, bytes);
        }
        Ok(cache)
    }

    /// The module of an image, mapped; with its size on disk. Blocks while the file is read and checked.
    pub(crate) fn load(&self, engine: &Engine, key: ImageKey) -> Option<(Module, u64)> {
        let (digest, bytes) = {
            let mut index = self.index();
            index.clock += 1;
            let now = index.clock;
            let entry = index.files.get_mut(&key)?;
            entry.used = now;
            (entry.digest, entry.bytes)
        };
        let path = self.path(key, &digest);
        match trusted::map_module(engine, &path, &digest) {
            Ok(module) => Some((module, bytes)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an image is built again");
                self.forget(key);
                None
            }
        }
    }

    /// Writes a compiled image and maps it. Blocks for as long as the disk takes.
    pub(crate) fn store(
        &self,
        engine: &Engine,
        key: ImageKey,
        compiled: &[u8],
    ) -> Result<(Module, u64), trusted::ArtifactError> {
        let digest = trusted::digest(compiled);
        let path = self.path(key, &digest);
        let file = write_atomically(&path, compiled)?;
        let module = trusted::map_written(engine, file)?;
        let bytes = compiled.len() as u64;
        for (key, digest) in self.remember(key, digest, bytes) {
            self.remove_file(key, &digest);
        }
        Ok((module, bytes))
    }

    /// Notes a file, and gives those that must go so that the bound holds.
    fn remember(&self, key: ImageKey, digest: ArtifactDigest, bytes: u64) -> Vec<(ImageKey, ArtifactDigest)> {
        let mut index = self.index();
        index.clock += 1;
        let used = index.clock;
        let mut gone = Vec::new();
        if let Some(old) = index.files.insert(key, Entry { digest, bytes, used }) {
            index.bytes -= old.bytes;
            if old.digest != digest {
                gone.push((key, old.digest));
            }
        }
        index.bytes += bytes;
        while index.bytes > self.max_bytes && index.files.len() > 1 {
            let Some(oldest) = index.files.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key)
            else {
                break;
            };
            if let Some(entry) = index.files.remove(&oldest) {
                index.bytes -= entry.bytes;
                gone.push((oldest, entry.digest));
            }
        }
        gone
    }

    fn forget(&self, key: ImageKey) {
        let removed = {
            let mut index = self.index();
            let removed = index.files.remove(&key);
            index.bytes -= removed.as_ref().map_or(0, |entry| entry.bytes);
            removed
        };
        if let Some(entry) = removed {
            self.remove_file(key, &entry.digest);
        }
    }

    /// A mapping of a removed file stays valid; the space is given back when the last one is gone.
    fn remove_file(&self, key: ImageKey, digest: &ArtifactDigest) {
        let path = self.path(key, digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "an image cannot be removed");
            }
            _ => {}
        }
    }

    fn path(&self, key: ImageKey, digest: &ArtifactDigest) -> PathBuf {
        self.folder.join(format!("{key}-{}.{EXTENSION}", hex(digest)))
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse_name(path: &Path) -> Option<(ImageKey, ArtifactDigest)> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let (key, digest) = path.file_stem()?.to_str()?.split_once('-')?;
    let digest: ImageKey = digest.parse().ok()?;
    Some((key.parse().ok()?, *digest.as_bytes()))
}
