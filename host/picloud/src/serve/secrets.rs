//! The keys that secrets are encrypted with: opened at start, and rotated.

use std::{path::Path, sync::Arc};

use clap::Args;
use picloud_store::{PlacedSecret, Store};
use picloud_vault::{LostFile, Rotation, Vault, VaultError};

use super::{database::Borrowed, logging, runtime};
use crate::{
    config::{DatabaseArgs, LogArgs, SecretKeysArgs},
    exit::{Exit, Failure},
    terminal,
};

/// Secrets that are encrypted anew between two questions to the database.
const BATCH: u32 = 100;

/// `picloud secret rotate-key`.
#[derive(Debug, Args)]
#[command(after_help = "\
Adds a key to the file of secret keys and encrypts every secret anew with it. The server may run meanwhile; it follows. \
Interrupted, it can be run again. Keys that nothing needs any more are removed, but the one before is kept until the \
next time. Keep a copy of the new file.

Examples:
  picloud secret rotate-key
  picloud secret rotate-key --file-is-lost")]
pub(crate) struct RotateKeyArgs {
    /// Make a new file where the file of secret keys is lost; what was encrypted with it stays unreadable
    #[arg(long)]
    file_is_lost: bool,
    #[command(flatten)]
    keys: SecretKeysArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Opens the key file of a server that starts.
pub(super) async fn open(
    keys: &SecretKeysArgs,
    data_dir: &Path,
    store: &Store,
) -> Result<Arc<Vault>, Failure> {
    let in_use = store.secret_keys_in_use().await.map_err(cannot_start)?;
    let vault = Vault::open(&keys.path(data_dir), &in_use).map_err(cannot_start)?;
    for key in vault.missing(&in_use) {
        tracing::error!(
            %key, file = %vault.path().display(),
            "secrets are encrypted with a key that the file of secret keys does not have: they cannot be read"
        );
    }
    Ok(Arc::new(vault))
}

/// What a rotation did.
struct Rotated {
    secrets: usize,
    /// Secrets that no key of the file decrypts.
    unreadable: usize,
    removed: usize,
}

/// Rotates the key.
pub(crate) fn rotate_key(args: &RotateKeyArgs) -> Result<(), Failure> {
    logging::start(&args.log)?;
    let path = args.keys.path(&args.database.data.path());
    let lost = if args.file_is_lost { LostFile::Replace } else { LostFile::Refuse };
    runtime(1)?.block_on(async {
        let database = Borrowed::open(&args.database).await?;
        let outcome = rotate(database.store(), &path, lost).await;
        database.close().await;
        let Rotated { secrets, unreadable, removed } = outcome?;
        let file = path.display();
        terminal::note(format_args!(
            "{secrets} secrets are encrypted with the new key; keep a copy of {file}"
        ));
        if removed > 0 {
            terminal::note(format_args!("removed {removed} keys that nothing was encrypted with"));
        }
        if unreadable > 0 {
            let problem =
                format!("{unreadable} secrets cannot be read with the keys of {file}; set them anew");
            return Err(Failure::new(Exit::Failed, problem));
        }
        Ok(())
    })
}

async fn rotate(store: &Store, path: &Path, lost: LostFile) -> Result<Rotated, Failure> {
    let in_use = store.secret_keys_in_use().await.map_err(failed)?;
    let rotation = Rotation::begin(path, &in_use, lost).map_err(failed)?;
    let mut rotated = Rotated { secrets: 0, unreadable: 0, removed: 0 };
    let mut last: Option<PlacedSecret> = None;
    loop {
        let batch = store.secrets_under_other_keys(rotation.new_key(), last.as_ref(), BATCH);
        let batch = batch.await.map_err(failed)?;
        let Some(end) = batch.last().cloned() else { break };
        for secret in &batch {
            match encrypt_anew(store, &rotation, secret).await? {
                Anew::Done => rotated.secrets += 1,
                Anew::Unreadable => rotated.unreadable += 1,
                Anew::Changed => {}
            }
        }
        last = Some(end);
    }
    let in_use = store.secret_keys_in_use().await.map_err(failed)?;
    rotated.removed = rotation.finish(&in_use).map_err(failed)?.len();
    Ok(rotated)
}

enum Anew {
    Done,
    /// It was set or removed in the meantime.
    Changed,
    Unreadable,
}

async fn encrypt_anew(store: &Store, rotation: &Rotation, secret: &PlacedSecret) -> Result<Anew, Failure> {
    let vault = rotation.vault();
    let value = match vault.unseal(secret.place(), &secret.stored.sealed) {
        Ok(value) => value,
        Err(error @ (VaultError::UnknownKey { .. } | VaultError::Tampered)) => {
            tracing::error!(app = %secret.app, secret = %secret.name, %error, "a secret cannot be read");
            return Ok(Anew::Unreadable);
        }
        Err(error) => return Err(failed(error)),
    };
    let sealed = vault.seal(secret.place(), &value).map_err(failed)?;
    let was_there = store.reseal_secret(secret, &sealed).await.map_err(failed)?;
    Ok(if was_there { Anew::Done } else { Anew::Changed })
}

fn cannot_start(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::CannotStart, error)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}
