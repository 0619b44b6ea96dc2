//! Secrets at rest: the key file, and authenticated encryption with its keys.
//!
//! A value is encrypted with XChaCha20-Poly1305 under the newest key of the file and a random nonce, and bound to its
//! place: app, name, version and the key's id. A row that is moved or changed in the database does not decrypt.
//!
//! What does not live here: where ciphertexts are stored, and who may read which secret.

mod cipher;
mod error;
mod file;
mod ring;
mod rotation;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use picloud_core::{SealedSecret, SecretKeyId, SecretPlace, SecretValue};

pub use error::VaultError;
use file::Stamp;
use ring::KeyRing;
pub use rotation::{LostFile, Rotation};

/// The name of the key file in the data folder.
pub const SECRET_KEYS_FILE: &str = "secret-keys";

/// Encrypts and decrypts with the keys of one file. The file is read again when it changes, so that a rotation by
/// another process is followed.
pub struct Vault {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    ring: KeyRing,
    stamp: Stamp,
}

impl Vault {
    /// Opens the key file. Where there is none, one is made with a new key, unless something is encrypted already:
    /// `in_use` are the keys that it is encrypted with.
    pub fn open(path: &Path, in_use: &[SecretKeyId]) -> Result<Self, VaultError> {
        let (ring, stamp) = match file::read(path)? {
            Some(found) => found,
            None if in_use.is_empty() => make(path)?,
            None => return Err(VaultError::FileMissing { path: path.to_owned(), keys: in_use.to_vec() }),
        };
        Ok(Self { path: path.to_owned(), loaded: Mutex::new(Loaded { ring, stamp }) })
    }

    /// Those of `in_use` that the file does not have: what is encrypted with them cannot be read.
    pub fn missing(&self, in_use: &[SecretKeyId]) -> Vec<SecretKeyId> {
        let loaded = self.loaded();
        in_use.iter().filter(|key| loaded.ring.get(key).is_none()).cloned().collect()
    }

    /// The key file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Encrypts a value for a place, with the newest key.
    pub fn seal(&self, place: SecretPlace<'_>, value: &SecretValue) -> Result<SealedSecret, VaultError> {
        let mut loaded = self.loaded();
        self.follow(&mut loaded)?;
        let (id, key) = loaded.ring.newest();
        cipher::seal(id, key, place, value)
    }

    /// Decrypts the value of a place.
    pub fn unseal(&self, place: SecretPlace<'_>, sealed: &SealedSecret) -> Result<SecretValue, VaultError> {
        let mut loaded = self.loaded();
        if loaded.ring.get(&sealed.key).is_none() {
            self.follow(&mut loaded)?;
        }
        let Some(key) = loaded.ring.get(&sealed.key) else {
            return Err(VaultError::UnknownKey { path: self.path.clone(), key: sealed.key.clone() });
        };
        cipher::unseal(key, place, sealed)
    }

    /// Reads the file again if it is another one than before.
    fn follow(&self, loaded: &mut Loaded) -> Result<(), VaultError> {
        if file::stamp(&self.path)? != Some(loaded.stamp) {
            let found = file::read(&self.path)?;
            let (ring, stamp) = found.ok_or_else(|| VaultError::FileGone { path: self.path.clone() })?;
            *loaded = Loaded { ring, stamp };
        }
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes the file, or finds the one that another process was faster to make.
fn make(path: &Path) -> Result<(KeyRing, Stamp), VaultError> {
    let _turn = file::lock(path)?;
    if let Some(found) = file::read(path)? {
        return Ok(found);
    }
    let mut ring = KeyRing::default();
    ring.add_new()?;
    file::write(path, &ring)?;
    tracing::info!(path = %path.display(), "made a key for secrets; keep a copy of the file");
    file::read(path)?.ok_or_else(|| VaultError::FileGone { path: path.to_owned() })
}

#[cfg(test)]
mod tests;
