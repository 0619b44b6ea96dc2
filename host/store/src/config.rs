//! Where the database is, and how much of it one process may use.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

/// Where the database is.
#[derive(Clone)]
pub enum DatabaseAddress {
    /// A URL, as in `DATABASE_URL`: `postgres://user:password@host/database` or
    /// `postgres:///database?host=/socket/folder&user=name`.
    Url(String),
    /// A Unix socket, with the operating system's user as the credentials.
    Socket {
        /// The folder that the socket is in.
        directory: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
        /// The database.
        database: String,
        /// The role.
        user: String,
    },
}

impl fmt::Debug for DatabaseAddress {
    /// A URL may hold a password, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(..)"),
            Self::Socket { directory, port, database, user } => f
                .debug_struct("Socket")
                .field("directory", directory)
                .field("port", port)
                .field("database", database)
                .field("user", user)
                .finish(),
        }
    }
}

/// How to use the database.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where it is.
    pub address: DatabaseAddress,
    /// The most connections at once, beside the one that listens for changes. At least 2.
    pub max_connections: u32,
    /// How long a call waits for a connection before it is [`StoreError::Unavailable`].
    pub acquire_timeout: Duration,
    /// How long one statement may take, waiting for locks included.
    pub statement_timeout: Duration,
}

impl StoreConfig {
    /// The least value of `max_connections`: one for a run that holds its keys' locks, one for its reads.
    pub const MIN_CONNECTIONS: u32 = 2;

    /// The defaults for a single-board computer: 10 connections, 3 s, 30 s.
    pub fn new(address: DatabaseAddress) -> Self {
        Self {
            address,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(30),
        }
    }

    /// Options of the connections, with settings that hold for the whole session.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        let timeout = format!("{}ms", self.statement_timeout.as_millis());
        Ok(self.bare_options()?.options([
            ("statement_timeout", timeout.as_str()),
            // Plans here take microseconds; compiling one would take milliseconds.
            ("jit", "off"),
        ]))
    }

    /// Options of the connections that claim events: they do not wait for the disk, and read by index whatever the
    /// statistics of a table say that is empty at one moment and full at the next.
    pub(crate) fn claim_options(&self) -> Result<PgConnectOptions, StoreError> {
        Ok(self.connect_options()?.options([
            ("synchronous_commit", "off"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]))
    }

    /// Options of a connection without a statement timeout, for migrations.
    pub(crate) fn bare_options(&self) -> Result<PgConnectOptions, StoreError> {
        if self.max_connections < Self::MIN_CONNECTIONS {
            let least = Self::MIN_CONNECTIONS;
            let problem =
                format!("max_connections is {}; the least allowed is {least}", self.max_connections);
            return Err(StoreError::Invalid(problem));
        }
        let options = match &self.address {
            DatabaseAddress::Url(url) => PgConnectOptions::from_str(url)?,
            DatabaseAddress::Socket { directory, port, database, user } => {
                let options = PgConnectOptions::new_without_pgpass().socket(directory);
                options.port(*port).database(database).username(user)
            }
        };
        Ok(options.application_name("picloud").options([("timezone", "UTC")]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let config = StoreConfig::new(DatabaseAddress::Url("postgres://u:hunter2@h/d".into()));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_wrong_url_is_refused() {
        let config = StoreConfig::new(DatabaseAddress::Url("not a url".into()));
        assert!(matches!(config.connect_options(), Err(StoreError::Invalid(_))));
    }

    #[test]
    fn a_socket_address_names_all_of_it() {
        let address = DatabaseAddress::Socket {
            directory: "/run/x".into(),
            port: 5433,
            database: "d".into(),
            user: "u".into(),
        };
        let options = StoreConfig::new(address).connect_options().unwrap();
        assert_eq!(options.get_socket().unwrap().to_str(), Some("/run/x"));
        assert_eq!((options.get_port(), options.get_username()), (5433, "u"));
        assert_eq!(options.get_database(), Some("d"));
    }
}
