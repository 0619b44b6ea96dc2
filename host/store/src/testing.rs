//! Fresh databases on a real PostgreSQL, for the tests of this crate and of those above it.
//!
//! One throw-away cluster a test process, one database a test, copied from a template that is migrated once.
//! The cluster goes with the process, however that ends.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use picloud_postgres::ThrowawayCluster;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::{Mutex, OnceCell};

use crate::{DatabaseAddress, Store, StoreConfig};

const TEMPLATE: &str = "picloud_template";

/// A database of its own for one test. It stays until the process ends.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    config: StoreConfig,
}

impl TestDatabase {
    /// A migrated, empty database.
    pub async fn create() -> Self {
        migrate_template().await;
        Self::copy_of(TEMPLATE).await
    }

    /// A database without any table.
    pub async fn create_empty() -> Self {
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // PostgreSQL copies a template for one at a time.
        static TURN: Mutex<()> = Mutex::const_new(());
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let _turn = TURN.lock().await;
        administrate("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self { config: config(&name) }
    }

    /// How to connect to it: over the Unix socket.
    pub fn config(&self) -> StoreConfig {
        self.config.clone()
    }

    /// Its URL, as `DATABASE_URL` would have it.
    pub fn url(&self) -> String {
        match &self.config.address {
            DatabaseAddress::Url(url) => url.clone(),
            DatabaseAddress::Socket { database, .. } => cluster().url(database),
        }
    }

    /// A new store on it.
    pub async fn store(&self) -> Store {
        Store::connect(self.config()).await.expect("the test database answers")
    }

    /// Runs a statement as an administrator would.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect(sql);
    }

    /// Begins a transaction with a statement, and keeps what it has locked until [`Held::release`].
    pub async fn hold(&self, sql: &str) -> Held {
        let mut connection = self.connection().await;
        let sql = format!("BEGIN; {sql}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the lock is free");
        Held(connection)
    }

    /// Waits until a statement on it waits for what another has locked.
    pub async fn until_blocked(&self) {
        let blocked = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let wait = async { while self.number(blocked).await == 0 {} };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("a statement waits for a lock");
    }

    /// Cuts all connections to it, whatever they are doing.
    pub async fn terminate_connections(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }

    /// The first column of a query's only row, as a number.
    pub async fn number(&self, sql: &str) -> i64 {
        let mut connection = self.connection().await;
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect(sql)
    }

    async fn connection(&self) -> PgConnection {
        let options = self.config.bare_options().expect("a valid address");
        PgConnection::connect_with(&options).await.expect("the test database answers")
    }
}

/// An open transaction of a test, which holds locks.
#[derive(Debug)]
pub struct Held(PgConnection);

impl Held {
    /// Ends the transaction and keeps what it did.
    pub async fn commit(mut self) {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await.expect("the transaction ends");
    }

    /// Ends the transaction and undoes what it did.
    pub async fn release(self) {
        self.0.close().await.expect("the connection ends");
    }
}

/// A migrated store on a database of its own.
pub async fn store() -> Store {
    TestDatabase::create().await.store().await
}

/// The address of a database of any throw-away cluster.
pub fn address(cluster: &ThrowawayCluster, database: &str) -> DatabaseAddress {
    DatabaseAddress::Socket {
        directory: cluster.socket_dir().to_owned(),
        port: 5432,
        database: database.to_owned(),
        user: ThrowawayCluster::USER.to_owned(),
    }
}

fn cluster() -> &'static ThrowawayCluster {
    static CLUSTER: OnceLock<ThrowawayCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| ThrowawayCluster::start().expect("a PostgreSQL to test with"))
}

fn config(database: &str) -> StoreConfig {
    StoreConfig::new(address(cluster(), database))
}

async fn migrate_template() {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    let migrate = || async {
        administrate("postgres", &format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0")).await;
        let store = Store::connect(config(TEMPLATE)).await.expect("the template answers");
        store.migrate().await.expect("the migrations apply");
        // A database with connections cannot be copied.
        store.close().await;
    };
    MIGRATED.get_or_init(migrate).await;
}

async fn administrate(database: &str, sql: &str) {
    let options = config(database).bare_options().expect("a valid address");
    let mut connection = PgConnection::connect_with(&options).await.expect("the cluster answers");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect(sql);
    connection.close().await.expect("the connection ends");
}
