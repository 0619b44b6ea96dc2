//! Why a server could not be found or started, in words that say what to do.

use std::{io, path::PathBuf};

/// A PostgreSQL server that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There are no server programs on this machine.
    #[error(
        "PostgreSQL's server programs (initdb, postgres) were not found in PICLOUD_POSTGRES_BIN, PATH or the \
         usual folders; install them with `apt install postgresql` (Debian, Ubuntu), `dnf install \
         postgresql-server` (Fedora) or `brew install postgresql` (macOS)"
    )]
    NotInstalled,
    /// `PICLOUD_POSTGRES_BIN` names a folder without the programs.
    #[error(
        "PICLOUD_POSTGRES_BIN is {0:?}, which has no initdb and postgres; it must be the folder that has them, \
         like /usr/lib/postgresql/15/bin"
    )]
    WrongFolder(PathBuf),
    /// PostgreSQL refuses to run as root, and there is no other user.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody` to run \
         it as"
    )]
    NoUser,
    /// A user without a name.
    #[error(
        "the user with id {0} has no entry in /etc/passwd, which PostgreSQL needs; add one, run PiCloud as \
         another user, or set DATABASE_URL to a server"
    )]
    NamelessUser(u32),
    /// A program could not be run.
    #[error("{program} could not be run: {source}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: PathBuf,
        /// What it said.
        output: String,
    },
    /// A file or folder could not be used.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
