//! What can go wrong with keys and ciphertexts. No text has a key or a value in it.

use std::{io, path::PathBuf};

use picloud_core::SecretKeyId;

/// Why secrets cannot be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or written.
    #[error("the file of secret keys {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the key file.
    #[error(
        "the file of secret keys {} can be read by others (mode {mode:o}); `chmod 600` it, and `picloud secret \
         rotate-key` if others may have seen it", .path.display()
    )]
    FileIsOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line of the key file is no key.
    #[error("the file of secret keys {}, line {line}: {problem}", .path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no key file, but there are secrets.
    #[error(
        "the file of secret keys {} is missing, and the database has secrets that are encrypted with {}; put the \
         file back, or name it with PICLOUD_SECRET_KEYS_FILE", .path.display(), listed(.keys)
    )]
    FileMissing {
        /// Where it is looked for.
        path: PathBuf,
        /// The keys that are needed.
        keys: Vec<SecretKeyId>,
    },
    /// The key file was removed while it was in use.
    #[error("the file of secret keys {} is gone; put it back", .path.display())]
    FileGone {
        /// The file.
        path: PathBuf,
    },
    /// The key file lacks the key.
    #[error(
        "it is encrypted with the key {key}, which {} does not have; put the key back, or set the secret anew",
        .path.display()
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: SecretKeyId,
    },
    /// The ciphertext is not what was encrypted for this place.
    #[error("its ciphertext was changed or moved in the database; set the secret anew")]
    Tampered,
    /// The cipher refuses a value, which it only does for lengths that no secret has.
    #[error("the value cannot be encrypted")]
    Refused,
    /// The operating system gives no random bits.
    #[error("the operating system gives no random bits: {0}")]
    Random(#[from] getrandom::Error),
}

/// Keys for people.
pub(crate) fn listed(keys: &[SecretKeyId]) -> String {
    let names: Vec<&str> = keys.iter().map(SecretKeyId::as_str).collect();
    match names.as_slice() {
        [one] => format!("the key {one}"),
        many => format!("the keys {}", many.join(", ")),
    }
}
