//! A new key in place of the one in use.

use std::{fs::File, path::Path};

use picloud_core::SecretKeyId;

use crate::{Vault, VaultError, file, ring::KeyRing};

/// What to do where there is no key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostFile {
    /// Refuse: it may only be in another place.
    Refuse,
    /// Make a new one. What is encrypted with the lost keys stays unreadable.
    Replace,
}

/// A rotation that has begun: the file has a new key, which everything is to be encrypted with. Only one at a time can
/// go on with one file.
pub struct Rotation {
    vault: Vault,
    new: SecretKeyId,
    /// The key that was in use before. A server may still be about to store what it has just encrypted with it.
    before: Option<SecretKeyId>,
    _turn: File,
}

impl Rotation {
    /// Adds a key to the file. It is on disk when this returns, so that nothing can be encrypted with a key that is
    /// lost in a power failure.
    pub fn begin(path: &Path, in_use: &[SecretKeyId], lost: LostFile) -> Result<Self, VaultError> {
        let turn = file::lock(path)?;
        let mut ring = match file::read(path)? {
            Some((ring, _)) => ring,
            None if in_use.is_empty() || lost == LostFile::Replace => KeyRing::default(),
            None => return Err(VaultError::FileMissing { path: path.to_owned(), keys: in_use.to_vec() }),
        };
        let before = ring.ids().last().cloned();
        let new = ring.add_new()?;
        file::write(path, &ring)?;
        Ok(Self { vault: Vault::open(path, in_use)?, new, before, _turn: turn })
    }

    /// The key that everything is to be encrypted with.
    pub fn new_key(&self) -> &SecretKeyId {
        &self.new
    }

    /// Decrypts with the old keys and encrypts with the new one.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Removes the keys that nothing is encrypted with any more (`in_use` are the others), but keeps the one before;
    /// answers those that it removed.
    pub fn finish(self, in_use: &[SecretKeyId]) -> Result<Vec<SecretKeyId>, VaultError> {
        let path = self.vault.path();
        let (mut ring, _) =
            file::read(path)?.ok_or_else(|| VaultError::FileGone { path: path.to_owned() })?;
        let is_kept =
            |id: &SecretKeyId| *id == self.new || Some(id) == self.before.as_ref() || in_use.contains(id);
        let removed: Vec<SecretKeyId> = ring.ids().filter(|id| !is_kept(id)).cloned().collect();
        if !removed.is_empty() {
            ring.retain(is_kept);
            file::write(path, &ring)?;
        }
        Ok(removed)
    }
}
