//! Why PiCloud's own PostgreSQL is not there. Each text says what to do.

use std::{io, path::PathBuf};

use picloud_postgres::ServerError;

/// Why PostgreSQL could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    /// Its programs or its user are not there.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A program of PostgreSQL does not run.
    #[error("{} does not run: {problem}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// The installed PostgreSQL is older than what PiCloud works with.
    #[error("PostgreSQL {found} in {} is too old; PiCloud needs {least} or later", folder.display())]
    TooOld {
        /// Its major version.
        found: u32,
        /// The least that is supported.
        least: u32,
        /// Where it is.
        folder: PathBuf,
    },
    /// The data are of another major version.
    #[error(
        "the data in {} are of PostgreSQL {data}, but the installed programs in {} are of PostgreSQL {installed}.\n\
         PostgreSQL cannot read the data of another major version. Install PostgreSQL {data} beside it, or set \
         PICLOUD_POSTGRES_BIN to its folder; or dump the data with version {data} and load them with version \
         {installed} (pg_upgrade does it in place)",
        cluster.display(), programs.display()
    )]
    OtherVersion {
        /// The cluster's folder.
        cluster: PathBuf,
        /// The version of its data.
        data: String,
        /// Where the programs are.
        programs: PathBuf,
        /// Their version.
        installed: u32,
    },
    /// A folder that PostgreSQL needs cannot be reached by its user.
    #[error(
        "PostgreSQL runs as the user {user}, who cannot enter {}.\n\
         Choose a data folder that everyone may pass through, such as /var/lib/picloud, with PICLOUD_DATA_DIR \
         (or run: chmod o+x {})",
        folder.display(), folder.display()
    )]
    Unreachable {
        /// The user.
        user: String,
        /// The folder on the way that is closed.
        folder: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb could not make the database in {}:\n{output}", cluster.display())]
    Initdb {
        /// Where.
        cluster: PathBuf,
        /// What it said.
        output: String,
    },
    /// It ended or did not answer in time.
    #[error("PostgreSQL did not start: {problem}\n{log}")]
    NotStarted {
        /// What happened.
        problem: String,
        /// The end of its log.
        log: String,
    },
    /// A server of a killed PiCloud does not stop.
    #[error(
        "a PostgreSQL server that an earlier PiCloud left behind (process {pid}) does not stop; end it with: kill -QUIT {pid}"
    )]
    OrphanStays {
        /// Its process.
        pid: i32,
    },
    /// The folder for the socket cannot be used.
    #[error("the folder {} for PostgreSQL's socket cannot be used: {problem}", folder.display())]
    Socket {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PostgresError {
    /// For `map_err` of file operations on `path`.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
