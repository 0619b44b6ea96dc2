//! The cache.

use std::{
    collections::HashMap,
    fmt, io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use cap_std::{ambient_authority, fs::Dir};
use picloud_core::{AppId, FileHash};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::{
    compress::Compression,
    content::{Content, Source, blocking},
    disk::{self, Key, Stamp},
    evict::{self, LastUses, room_of},
};

/// Contents that are fetched at once: each is in memory as a whole.
const FETCHES: usize = 4;

/// Contents that are compressed at once: each takes a thread.
const COMPRESSIONS: usize = 1;

/// Contents of files, on this node's disk.
pub struct FileCache {
    root: Arc<Dir>,
    max_bytes: u64,
    state: Mutex<State>,
    fetches: Semaphore,
    compressions: Semaphore,
    /// Held while the folder is looked through.
    sweeping: AsyncMutex<()>,
}

#[derive(Default)]
struct State {
    /// What the files take, as far as this process knows.
    bytes: u64,
    known: HashMap<Key, Known>,
}

struct Known {
    stamp: Stamp,
    used: SystemTime,
}

impl fmt::Debug for FileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCache").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl FileCache {
    /// Opens the cache in `folder`, which is made with mode 0700 if it is missing, to hold about `max_bytes`.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let root = Dir::open_ambient_dir(folder, ambient_authority())?;
        let (bytes, _) = evict::sweep(&root, max_bytes, &LastUses::new())?;
        Ok(Self {
            root: Arc::new(root),
            max_bytes,
            state: Mutex::new(State { bytes, ..State::default() }),
            fetches: Semaphore::new(FETCHES),
            compressions: Semaphore::new(COMPRESSIONS),
            sweeping: AsyncMutex::default(),
        })
    }

    /// A content of an app: the one that is here, or what `fetch` gives. `None` where that is none, or is not what the
    /// hash says.
    pub async fn get<E>(
        &self,
        app: AppId,
        hash: FileHash,
        fetch: impl Future<Output = Result<Option<Bytes>, E>>,
    ) -> Result<Option<Content>, E> {
        let key = Key { app, hash, compression: None };
        if let Some(content) = self.find(key).await {
            return Ok(Some(content));
        }
        // Who waits here finds it afterwards, if it was the same.
        let _permit = self.fetches.acquire().await;
        if let Some(content) = self.find(key).await {
            return Ok(Some(content));
        }
        let Some(bytes) = fetch.await? else { return Ok(None) };
        if FileHash::of(&bytes) != hash {
            tracing::error!(%app, %hash, "a content in the database is not what its hash says");
            return Ok(None);
        }
        self.keep(key, &bytes).await;
        Ok(Some(Content(Source::Memory(bytes))))
    }

    /// The compressed form of a content: the one that is here, or one made of `content`, which is asked for only then.
    /// `None` where it cannot be made.
    pub async fn compressed<E>(
        &self,
        app: AppId,
        hash: FileHash,
        compression: Compression,
        content: impl Future<Output = Result<Option<Content>, E>>,
    ) -> Result<Option<Content>, E> {
        let key = Key { app, hash, compression: Some(compression) };
        if let Some(packed) = self.find(key).await {
            return Ok(Some(packed));
        }
        let _permit = self.compressions.acquire().await;
        if let Some(packed) = self.find(key).await {
            return Ok(Some(packed));
        }
        let Some(content) = content.await? else { return Ok(None) };
        let packed = async {
            let bytes = content.bytes().await?;
            blocking(move || compression.compress(&bytes)).await
        };
        match packed.await {
            Ok(packed) => {
                self.keep(key, &packed).await;
                Ok(Some(Content(Source::Memory(packed))))
            }
            Err(error) => {
                tracing::warn!(%error, %app, %hash, "a file cannot be compressed");
                Ok(None)
            }
        }
    }

    /// A file of the cache, verified. What cannot be read is as good as missing.
    async fn find(&self, key: Key) -> Option<Content> {
        let verified = self.state().known.get(&key).map(|known| known.stamp);
        let root = Arc::clone(&self.root);
        let found = blocking(move || disk::open(&root, &key, verified)).await;
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, app = %key.app, hash = %key.hash, "a cached file cannot be read");
            None
        });
        let mut state = self.state();
        let Some((source, stamp)) = found else {
            state.known.remove(&key);
            return None;
        };
        state.known.insert(key, Known { stamp, used: SystemTime::now() });
        Some(Content(source))
    }

    /// Writes a content, and makes room if it has become too much. It was given already, so that a disk that is full
    /// only makes the next request slower.
    async fn keep(&self, key: Key, content: &Bytes) {
        let room = room_of(content.len() as u64);
        // One that pushes everything else out is not worth it.
        if room > self.max_bytes / 2 {
            return;
        }
        let (root, content) = (Arc::clone(&self.root), content.clone());
        if let Err(error) = blocking(move || disk::write(&root, &key, &content)).await {
            tracing::warn!(%error, "a file cannot be cached");
            return;
        }
        let is_too_much = {
            let mut state = self.state();
            state.bytes = state.bytes.saturating_add(room);
            state.bytes > self.max_bytes
        };
        if is_too_much {
            self.make_room().await;
        }
    }

    async fn make_room(&self) {
        let Ok(_sweeping) = self.sweeping.try_lock() else { return };
        let uses: LastUses = self
            .state()
            .known
            .iter()
            .map(|(key, known)| ((key.app.to_string(), key.name()), known.used))
            .collect();
        let (root, target) = (Arc::clone(&self.root), self.max_bytes / 4 * 3);
        match blocking(move || evict::sweep(&root, target, &uses)).await {
            Ok((bytes, removed)) => {
                let removed: std::collections::HashSet<_> = removed.into_iter().collect();
                let mut state = self.state();
                state.bytes = bytes;
                state.known.retain(|key, _| !removed.contains(&(key.app.to_string(), key.name())));
            }
            Err(error) => tracing::warn!(%error, "the cache of files cannot be looked through"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
