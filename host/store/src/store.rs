//! The handle on the database, and its life: connect, migrate, ping, close.

use std::sync::Arc;

use picloud_core::WorkerId;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, Migrator},
    postgres::PgPoolOptions,
};
use tokio::sync::Semaphore;

use crate::{
    StoreConfig, StoreError,
    answers::KeptBytes,
    changes::Hearing,
    kv::Buckets,
    outbox::{Backlog, LaneCache, Wakes},
};

/// Connections for claims: one claims, another looks after what was claimed.
const CLAIM_CONNECTIONS: u32 = 2;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// A handle on the database. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) config: Arc<StoreConfig>,
    /// Taken before a connection, so that waiting for one hot key does not use up the pool.
    pub(crate) buckets: Buckets,
    /// Bounds how many connections are kept by runs that hold locks and need a second connection to read.
    pub(crate) locked_runs: Arc<Semaphore>,
    /// For claims and looking after them. A claim need not survive a crash of the database: then it was never made, and the
    /// event is claimed again.
    pub(crate) claims: PgPool,
    /// This process, as the outbox knows it: made anew at each start.
    pub(crate) worker: WorkerId,
    pub(crate) lanes: LaneCache,
    pub(crate) backlog: Backlog,
    pub(crate) kept_bytes: KeptBytes,
    pub(crate) wakes: Wakes,
    pub(crate) hearing: Hearing,
}

impl Store {
    /// Connects, and fails where the database does not answer within the acquire timeout.
    pub async fn connect(config: StoreConfig) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout)
            .connect_with(config.connect_options()?)
            .await?;
        let claims = PgPoolOptions::new()
            .max_connections(CLAIM_CONNECTIONS)
            .acquire_timeout(config.acquire_timeout)
            .connect_lazy_with(config.claim_options()?);
        let locked_runs = Arc::new(Semaphore::new((config.max_connections / 2).max(1) as usize));
        Ok(Self {
            pool,
            config: Arc::new(config),
            buckets: Buckets::default(),
            locked_runs,
            claims,
            worker: WorkerId::generate(),
            lanes: LaneCache::default(),
            backlog: Backlog::default(),
            kept_bytes: KeptBytes::default(),
            wakes: Wakes::default(),
            hearing: Hearing::default(),
        })
    }

    /// This process, as the outbox knows it.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Brings the schema up to date. Two processes may do so at once; the second waits for the first.
    ///
    /// A database that a newer program has migrated is [`StoreError::Incompatible`].
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // A migration may take longer than a statement is allowed to in service.
        let mut connection = PgConnection::connect_with(&self.config.bare_options()?).await?;
        check_encoding(&mut connection).await?;
        MIGRATOR.run(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Whether the schema is exactly the one of this program.
    pub async fn migrations_current(&self) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        // The table is the migrator's own and is missing before its first run, so the macros cannot check this.
        let exists = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL");
        if !exists.fetch_one(&mut *connection).await? {
            return Ok(false);
        }
        let applied = connection.list_applied_migrations("_sqlx_migrations").await?;
        let same = |(applied, known): (&sqlx::migrate::AppliedMigration, &sqlx::migrate::Migration)| {
            applied.version == known.version && applied.checksum == known.checksum
        };
        Ok(applied.len() == MIGRATOR.iter().count() && applied.iter().zip(MIGRATOR.iter()).all(same))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("SELECT 1").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Connections in use now, of [`StoreConfig::max_connections`].
    pub fn connections_in_use(&self) -> u32 {
        self.pool.size().saturating_sub(self.pool.num_idle() as u32)
    }

    /// Waits for the calls under way and closes every connection. Later calls are
    /// [`StoreError::Unavailable`].
    pub async fn close(&self) {
        self.pool.close().await;
        self.claims.close().await;
    }
}

/// Text of scripts is UTF-8, byte for byte; a database of another encoding would change or refuse it.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(connection).await?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Incompatible(format!(
        "its encoding is {encoding}; create it with `CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0`"
    )))
}
