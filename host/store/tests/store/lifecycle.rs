//! Connecting, migrating, and a server that goes away.

use std::time::Duration;

use picloud_postgres::ThrowawayCluster;
use picloud_store::{
    Change, DatabaseAddress, Store, StoreConfig, StoreError,
    testing::{TestDatabase, address},
};

use crate::fixture::{QUOTA, app_name, domain, id};

#[tokio::test]
async fn two_processes_may_migrate_at_once() {
    let database = TestDatabase::create_empty().await;
    let (first, second) = (database.store().await, database.store().await);
    assert!(!first.migrations_current().await.unwrap());
    let (a, b) = tokio::join!(first.migrate(), second.migrate());
    a.unwrap();
    b.unwrap();
    assert!(second.migrations_current().await.unwrap());
    first.migrate().await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'later', true, '', 0)";
    database.execute(newer).await;
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::Incompatible(_)));
    assert!(error.to_string().contains("migration 9999"), "{error}");
    assert!(!store.migrations_current().await.unwrap());
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let database = TestDatabase::create_empty().await;
    database
        .execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        .await;
    let DatabaseAddress::Socket { directory, port, user, .. } = database.config().address else { panic!() };
    let address = DatabaseAddress::Socket { directory, port, user, database: "ascii".to_owned() };
    let store = Store::connect(StoreConfig::new(address)).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::Incompatible(ref why) if why.contains("SQL_ASCII")), "{error}");
}

#[tokio::test]
async fn a_url_reaches_the_same_database() {
    let database = TestDatabase::create().await;
    let store = Store::connect(StoreConfig::new(DatabaseAddress::Url(database.url()))).await.unwrap();
    assert!(store.migrations_current().await.unwrap());
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let database = TestDatabase::create_empty().await;
    let DatabaseAddress::Socket { directory, port, user, .. } = database.config().address else { panic!() };
    let address = DatabaseAddress::Socket { directory, port, user, database: "nowhere".to_owned() };
    let error = Store::connect(StoreConfig::new(address)).await.unwrap_err();
    assert!(matches!(error, StoreError::Incompatible(ref why) if why.contains("nowhere")), "{error}");
}

#[tokio::test]
async fn too_small_a_pool_is_refused() {
    let database = TestDatabase::create_empty().await;
    let config = StoreConfig { max_connections: 1, ..database.config() };
    assert!(matches!(Store::connect(config).await, Err(StoreError::Invalid(_))));
}

#[tokio::test]
async fn after_closing_nothing_is_served() {
    let store = TestDatabase::create().await.store().await;
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_unavailable() {
    let database = TestDatabase::create().await;
    let config = StoreConfig { statement_timeout: Duration::from_millis(50), ..database.config() };
    let store = Store::connect(config).await.unwrap();
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let other = database.store().await;
    let one = crate::fixture::writes([(id("c", "k"), crate::fixture::set("1"))]);
    let locks = picloud_store::KvLocks::for_rerun(&<_>::default(), &one);
    let _held = other.kv_begin_locked(app, &locks).await.unwrap();
    let waited = store.kv_commit(app, &<_>::default(), &one, QUOTA).await;
    assert!(matches!(waited, Err(StoreError::Unavailable(_))), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_unavailable_and_comes_back() {
    let mut cluster = ThrowawayCluster::start().unwrap();
    let config = StoreConfig {
        acquire_timeout: Duration::from_millis(300),
        ..StoreConfig::new(address(&cluster, "postgres"))
    };
    let store = Store::connect(config.clone()).await.unwrap();
    store.migrate().await.unwrap();
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let mut changes = store.changes().await.unwrap();

    cluster.stop_server().unwrap();
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.app(app).await, Err(StoreError::Unavailable(_))));
    let put = store.kv_put(app, &id("c", "k"), "1".into(), None, None).await;
    assert!(matches!(put, Err(StoreError::Unavailable(_))));
    assert!(matches!(Store::connect(config).await, Err(StoreError::Unavailable(_))));

    cluster.start_server().unwrap();
    store.ping().await.unwrap();
    assert!(store.app(app).await.unwrap().is_some());
    assert_eq!(changes.next().await, Change::Everything);
    store.kv_put(app, &id("c", "k"), "1".into(), None, None).await.unwrap();
    domain(&store, app, "a.org").await;
    assert_eq!(changes.next().await, Change::App(app));
}
