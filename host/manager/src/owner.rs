//! The first owner, its token, and the file that the command line finds it in.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use picloud_core::{NameError, PrincipalName, Scope};
use picloud_store::{NewOwner, NewToken, Store, StoreError};

use crate::token::Secret;

/// The name of the token file in the data folder.
pub const OWNER_TOKEN_FILE: &str = "owner-token";

const OWNER_NAME: &str = "owner";
const TOKEN_NAME: &str = "owner-token";

/// The state of the owner's token file after a start. Its `Display` form says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerToken {
    /// The first owner was made just now, and its token is in the file.
    Created(PathBuf),
    /// The file's token is valid.
    Valid(PathBuf),
    /// The file has a token that the database does not know, or not any more.
    Stale(PathBuf),
    /// There is an owner, but no file: it was removed, or the owner was made on another machine.
    Missing(PathBuf),
}

impl fmt::Display for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(path) => write!(f, "made the first owner; its token is in {}", path.display()),
            Self::Valid(path) => write!(f, "the owner's token is in {}", path.display()),
            Self::Stale(path) => write!(
                f,
                "the token in {} is not valid in this database; `picloud token reset` makes a new one",
                path.display()
            ),
            Self::Missing(path) => write!(
                f,
                "there is an owner, but no token in {}; `picloud token reset` makes a new one",
                path.display()
            ),
        }
    }
}

/// Why there is no owner, or no token for it.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The token file cannot be read or written.
    #[error("the token file {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the token file.
    #[error(
        "the token file {} can be read by others (mode {mode:o}); `chmod 600` it, and `picloud token reset` if \
         others may have seen it", .path.display()
    )]
    FileIsOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no owner to make a token for.
    #[error("this database has no owner yet; `picloud serve` makes one on its first start")]
    NoOwner,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random bits.
    #[error("the operating system gives no random bits: {0}")]
    Random(#[from] getrandom::Error),
    /// Never with the name this program uses.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Makes the first owner and its token if this database has none, with the token in `data_dir/owner-token`.
///
/// The file is written before the database: if the machine stops in between, the next start finds a token that
/// nobody has and makes the owner with it.
pub async fn ensure_owner(store: &Store, data_dir: &Path) -> Result<OwnerToken, OwnerError> {
    let path = data_dir.join(OWNER_TOKEN_FILE);
    let found = read(&path)?;
    if let Some(secret) = &found
        && store.authenticate(secret.hash()).await?.is_some()
    {
        return Ok(OwnerToken::Valid(path));
    }
    if store.first_owner().await?.is_some() {
        return Ok(if found.is_some() { OwnerToken::Stale(path) } else { OwnerToken::Missing(path) });
    }
    let secret = match found {
        Some(secret) if secret.is_well_formed() => secret,
        _ => {
            let secret = Secret::generate()?;
            write(&path, &secret)?;
            secret
        }
    };
    let owner = NewOwner { name: PrincipalName::new(OWNER_NAME)?, token: all_scopes(&secret) };
    match store.create_first_owner(&owner).await? {
        Some(_) => Ok(OwnerToken::Created(path)),
        // Another process was faster.
        None => Ok(OwnerToken::Stale(path)),
    }
}

/// Makes a new token for the owner, writes it to `data_dir/owner-token`, and revokes the ones made here before.
pub async fn reset_owner_token(store: &Store, data_dir: &Path) -> Result<OwnerToken, OwnerError> {
    let path = data_dir.join(OWNER_TOKEN_FILE);
    let owner = store.first_owner().await?.ok_or(OwnerError::NoOwner)?;
    let older = store.tokens(owner.id).await?;
    let secret = Secret::generate()?;
    store.create_token(owner.id, &all_scopes(&secret)).await?;
    write(&path, &secret)?;
    for token in older.iter().filter(|token| token.name == TOKEN_NAME) {
        match store.revoke_token(token.id).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(OwnerToken::Valid(path))
}

fn all_scopes(secret: &Secret) -> NewToken {
    NewToken {
        name: TOKEN_NAME.to_owned(),
        hash: secret.hash(),
        scopes: Scope::ALL.to_vec(),
        app: None,
        expires_at: None,
    }
}

/// Reads a token file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Secret>, OwnerError> {
    let failed = |source| OwnerError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OwnerError::FileIsOpen { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    // A token is shorter; a file that is longer is something else.
    file.take(1024).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(Secret::from_text(text.trim())))
}

/// Writes a token file so that, whenever the machine stops, the old or the new one is there whole, and nobody
/// but its owner can ever read it.
fn write(path: &Path, secret: &Secret) -> Result<(), OwnerError> {
    replace(path, secret).map_err(|source| OwnerError::File { path: path.to_owned(), source })
}

fn replace(path: &Path, secret: &Secret) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".{OWNER_TOKEN_FILE}.{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&temporary, secret).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a left-over is removed by the next attempt.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, secret: &Secret) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask can only have taken bits away; it must not take the owner's own.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(secret.reveal().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
