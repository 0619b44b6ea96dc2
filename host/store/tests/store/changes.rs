//! News of changes.

use picloud_core::{LimitsPatch, MethodSet};
use picloud_store::{Change, NewRoute, StoreError, testing::TestDatabase};

use crate::fixture::{app_name, domain, script_name, upload};

#[tokio::test]
async fn every_change_of_an_app_is_heard_of() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let mut changes = store.changes().await.unwrap();
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let news = Change::App(app);
    assert_eq!(changes.next().await, news);
    upload(&store, app, "hello", "1", &[]).await;
    assert_eq!(changes.next().await, news);
    upload(&store, app, "hello", "2", &[]).await;
    assert_eq!(changes.next().await, news);
    store.roll_back(app, &script_name("hello"), 1, None).await.unwrap();
    assert_eq!(changes.next().await, news);
    let limits = LimitsPatch { fuel: Some(1), ..LimitsPatch::default() };
    store.patch_limits(app, &limits).await.unwrap();
    assert_eq!(changes.next().await, news);
    // A claim alone changes nothing that is served.
    let domain = domain(&store, app, "a.org").await;
    assert_eq!(changes.next().await, news);
    store.delete_domain(app, domain.id).await.unwrap();
    assert_eq!(changes.next().await, news);
    let route = NewRoute::new(MethodSet::ANY, "/".parse().unwrap(), script_name("hello"));
    store.put_route(app, &route).await.unwrap();
    assert_eq!(changes.next().await, news);
    let route = store.routes(app).await.unwrap()[0].id;
    store.delete_route(app, route).await.unwrap();
    assert_eq!(changes.next().await, news);
    store.delete_script(app, &script_name("hello")).await.unwrap();
    assert_eq!(changes.next().await, news);
    store.delete_app(app).await.unwrap();
    assert_eq!(changes.next().await, news);
}

#[tokio::test]
async fn a_change_that_fails_is_not_news() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let mut changes = store.changes().await.unwrap();
    let refused = store.delete_script(app, &script_name("missing")).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    upload(&store, app, "hello", "1", &[]).await;
    upload(&store, app, "hello", "1", &[]).await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    // Of the upload that changed nothing there is no news either.
    assert_eq!((changes.next().await, changes.next().await), (Change::App(app), Change::App(other)));
}

#[tokio::test]
async fn after_a_lost_connection_everything_may_have_changed() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let mut changes = store.changes().await.unwrap();
    database
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%advisory_lock%'",
        )
        .await;
    assert_eq!(changes.next().await, Change::Everything);
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    assert_eq!(changes.next().await, Change::App(app));
}

#[tokio::test]
async fn news_in_an_unknown_form_means_everything() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let mut changes = store.changes().await.unwrap();
    database.execute("SELECT pg_notify('picloud_apps', 'from a newer version')").await;
    assert_eq!(changes.next().await, Change::Everything);
}
