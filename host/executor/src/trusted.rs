//! The one place where bytes become code: `deserialize` trusts what it is given.
#![expect(unsafe_code, reason = "wasmtime cannot check that an artifact is one of its own")]

use std::{
    fs::File,
    io::{Read, Seek},
    path::Path,
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module, Result, component::Component};

/// SHA-256 of an artifact that this executor wrote.
pub(crate) type ArtifactDigest = [u8; 32];

/// Why an artifact was not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("its content is not what was written")]
    Digest,
    #[error("wasmtime refuses it: {0}")]
    Refused(wasmtime::Error),
}

/// Maps a module that was written by [`crate::images::disk`].
pub(crate) fn map_module(
    engine: &Engine,
    path: &Path,
    digest: &ArtifactDigest,
) -> Result<Module, ArtifactError> {
    let file = open_checked(path, digest)?;
    // SAFETY: the bytes of this very descriptor were just hashed and are those that this executor's own
    // engine serialized. Files in the cache are written under a temporary name, renamed, and never changed
    // in place; the folder belongs to this user alone (mode 0700).
    unsafe { Module::deserialize_open_file(engine, file) }.map_err(ArtifactError::Refused)
}

/// Maps a module through the descriptor that it was just written to, which saves reading and hashing it again.
pub(crate) fn map_written(engine: &Engine, file: File) -> Result<Module, ArtifactError> {
    // SAFETY: this process created the file for this purpose, exclusively and in a folder of its own (mode 0700), and
    // wrote to it what its engine serialized; nobody else ever opens it for writing.
    unsafe { Module::deserialize_open_file(engine, file) }.map_err(ArtifactError::Refused)
}

/// Maps the compiled guest.
pub(crate) fn map_component(
    engine: &Engine,
    path: &Path,
    digest: &ArtifactDigest,
) -> Result<Component, ArtifactError> {
    // Held open over the call, so that the path cannot come to mean another file unnoticed by the digest.
    let mut file = open_checked(path, digest)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // SAFETY: as in `map_module`; these are the bytes that were hashed, read from the same descriptor.
    unsafe { Component::deserialize(engine, &bytes) }.map_err(ArtifactError::Refused)
}

fn open_checked(path: &Path, digest: &ArtifactDigest) -> Result<File, ArtifactError> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    if hash.finalize().as_slice() != digest {
        return Err(ArtifactError::Digest);
    }
    file.rewind()?;
    Ok(file)
}

/// The digest to store beside an artifact.
pub(crate) fn digest(bytes: &[u8]) -> ArtifactDigest {
    Sha256::digest(bytes).into()
}
