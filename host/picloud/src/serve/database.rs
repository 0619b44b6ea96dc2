//! The database of a server: PiCloud's own or an outside one, connected and up to date.

use std::time::Duration;

use picloud_store::{DatabaseAddress, Store, StoreConfig, StoreError};

use crate::{
    config::{DataDir, DataDirError, DataDirLock, DatabaseArgs},
    exit::{Exit, Failure},
    postgres::{self, EmbeddedPostgres, PostgresError, PostgresOptions, StopRequest},
};

/// How long an outside server may take to answer at start.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The data folder, held by this process.
pub(super) struct HeldDataDir {
    pub(super) folder: DataDir,
    _lock: DataDirLock,
}

/// A connected database.
pub(super) struct Database {
    pub(super) store: Store,
    embedded: Option<EmbeddedPostgres>,
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        Self::new(Exit::CannotStart, error)
    }
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        Self::new(Exit::CannotStart, error)
    }
}

impl HeldDataDir {
    /// Opens and takes the data folder.
    pub(super) fn take(args: &DatabaseArgs) -> Result<Self, Failure> {
        let folder = DataDir::open(&args.data.path())?;
        let lock = folder.lock()?;
        Ok(Self { folder, _lock: lock })
    }
}

impl Database {
    /// Starts PostgreSQL where it is ours, connects, and brings the schema up to date.
    pub(super) async fn open(args: &DatabaseArgs, data: &HeldDataDir) -> Result<Self, Failure> {
        let database = Self::connect(args, data).await?;
        match database.store.migrate().await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(Failure::new(
                    Exit::CannotStart,
                    format_args!("the schema cannot be brought up to date: {error}"),
                ))
            }
        }
    }

    async fn connect(args: &DatabaseArgs, data: &HeldDataDir) -> Result<Self, Failure> {
        let Some(url) = &args.database_url else {
            let options = PostgresOptions {
                programs: args.postgres_bin.clone(),
                connections: args.database_connections,
            };
            let embedded = EmbeddedPostgres::start(&data.folder, &options).await?;
            tracing::info!(version = embedded.version(), "PostgreSQL runs");
            return match Store::connect(store_config(args, socket_address(embedded.socket_folder()))).await {
                Ok(store) => Ok(Self { store, embedded: Some(embedded) }),
                Err(error) => {
                    embedded.stop().await;
                    Err(Failure::new(
                        Exit::CannotStart,
                        format_args!("cannot connect to PostgreSQL: {error}"),
                    ))
                }
            };
        };
        let mut config = store_config(args, DatabaseAddress::Url(url.clone()));
        config.acquire_timeout = config.acquire_timeout.max(CONNECT_LIMIT);
        let store = Store::connect(config).await;
        store.map(|store| Self { store, embedded: None }).map_err(|error| outside_failure(&error))
    }

    /// What asks PostgreSQL to stop without waiting for it.
    pub(super) fn stop_request(&self) -> Option<StopRequest> {
        self.embedded.as_ref().map(EmbeddedPostgres::stop_request)
    }

    /// Closes the connections, then stops PostgreSQL where it is ours.
    pub(super) async fn close(self) {
        self.store.close().await;
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
            tracing::info!("PostgreSQL has stopped");
        }
    }
}

/// A connection to the database of a server that may be running: its PostgreSQL is used, or started for this.
pub(super) enum Borrowed {
    /// The server's own PostgreSQL, or an outside one.
    Running(Store),
    /// One that was started for this, with the data folder held.
    Started(Database, HeldDataDir),
}

impl Borrowed {
    /// Connects to the database whether a server uses it now or not.
    pub(super) async fn open(args: &DatabaseArgs) -> Result<Self, Failure> {
        match HeldDataDir::take(args) {
            Ok(data) => Ok(Self::Started(Database::open(args, &data).await?, data)),
            Err(failure) => {
                if let Some(url) = &args.database_url {
                    let store = Store::connect(store_config(args, DatabaseAddress::Url(url.clone()))).await;
                    return store.map(Self::Running).map_err(|error| outside_failure(&error));
                }
                let folder = DataDir::open(&args.data.path())?;
                let Some(socket) = postgres::existing_socket_folder(folder.path()) else {
                    return Err(failure);
                };
                let store = Store::connect(store_config(args, socket_address(&socket))).await;
                let store = store.map_err(|error| {
                    Failure::new(Exit::Unavailable, format_args!("the running server's PostgreSQL: {error}"))
                })?;
                Ok(Self::Running(store))
            }
        }
    }

    /// The database.
    pub(super) fn store(&self) -> &Store {
        match self {
            Self::Running(store) | Self::Started(Database { store, .. }, _) => store,
        }
    }

    /// Leaves the database as it was found.
    pub(super) async fn close(self) {
        match self {
            Self::Running(store) => store.close().await,
            Self::Started(database, _data) => database.close().await,
        }
    }
}

fn socket_address(folder: &std::path::Path) -> DatabaseAddress {
    DatabaseAddress::Socket {
        directory: folder.to_owned(),
        port: postgres::PORT,
        database: postgres::NAME.to_owned(),
        user: postgres::NAME.to_owned(),
    }
}

fn store_config(args: &DatabaseArgs, address: DatabaseAddress) -> StoreConfig {
    StoreConfig { max_connections: args.database_connections as u32, ..StoreConfig::new(address) }
}

fn outside_failure(error: &StoreError) -> Failure {
    match error {
        StoreError::Invalid(_) => {
            Failure::new(Exit::Usage, format_args!("DATABASE_URL cannot be used: {error}"))
        }
        _ => Failure::new(Exit::CannotStart, format_args!("the server of DATABASE_URL: {error}")),
    }
}
