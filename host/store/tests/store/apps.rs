//! Apps, limits, and what goes with an app.

use picloud_core::{AppId, ExecutionId, LimitsPatch, MethodSet};
use picloud_store::{AppsSeen, HistoryBatch, NewRoute, StoreError, testing, testing::TestDatabase};

use crate::{
    fixture::{app_name, commit, domain, id, script_name, set, size, upload, with_app, writes},
    history::record,
};

#[tokio::test]
async fn apps_are_found_by_name_and_id() {
    let (store, app) = with_app().await;
    let row = store.app(app).await.unwrap().unwrap();
    assert_eq!(row.name.as_str(), "demo");
    assert_eq!(store.app_by_name(&app_name("demo")).await.unwrap(), Some(row));
    assert_eq!(store.app_by_name(&app_name("other")).await.unwrap(), None);
    let again = store.create_app(&app_name("demo")).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists { what: "app" })));
}

#[tokio::test]
async fn apps_are_listed_in_pages_by_name() {
    let store = testing::store().await;
    for name in ["b", "a-1", "a", "c"] {
        store.create_app(&app_name(name)).await.unwrap();
    }
    let first = store.apps(AppsSeen::default(), None, size(3)).await.unwrap();
    let names: Vec<_> = first.items.iter().map(|app| app.name.as_str()).collect();
    assert_eq!((names.as_slice(), first.more), (["a", "a-1", "b"].as_slice(), true));
    let rest = store.apps(AppsSeen::default(), Some(&first.items[2].name), size(3)).await.unwrap();
    assert_eq!((rest.items.len(), rest.items[0].name.as_str(), rest.more), (1, "c", false));
}

#[tokio::test]
async fn a_patch_of_limits_replaces_what_it_names() {
    let (store, app) = with_app().await;
    let most = i64::MAX.unsigned_abs();
    let first = LimitsPatch { fuel: Some(1_000_000), kv_bytes: Some(most), ..LimitsPatch::default() };
    assert_eq!(store.patch_limits(app, &first).await.unwrap(), first);
    let second = LimitsPatch { fuel: Some(2_000_000), ..LimitsPatch::default() };
    let both = first.merged(&second);
    assert_eq!(store.patch_limits(app, &second).await.unwrap(), both);
    assert_eq!(store.app(app).await.unwrap().unwrap().limits, both);
    assert_eq!(store.directory_of(app).await.unwrap().unwrap().limits, both);
    let nobody = store.patch_limits(AppId::generate(), &second).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "app" })));
}

#[tokio::test]
async fn everything_goes_with_its_app() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    upload(&store, app, "lib", "fn f() {}", &[]).await;
    upload(&store, app, "main", "import \"lib\" as l; l::f()", &["lib"]).await;
    let route = NewRoute::new(MethodSet::ANY, "/a/:b".parse().unwrap(), script_name("main"));
    store.put_route(app, &route).await.unwrap();
    domain(&store, app, "a.org").await;
    let limits = LimitsPatch { fuel: Some(1), ..LimitsPatch::default() };
    store.patch_limits(app, &limits).await.unwrap();
    commit(&store, app, &writes([(id("c", "k"), set("1"))])).await;
    let mut batch = HistoryBatch::default();
    batch.keep(record(app, ExecutionId::generate()));
    store.store_history(&batch).await.unwrap();

    store.delete_app(app).await.unwrap();

    let tables = [
        "apps",
        "app_limits",
        "scripts",
        "script_versions",
        "script_imports",
        "script_activations",
        "routes",
        "domains",
        "kv",
        "executions",
        "execution_logs",
        "script_limits",
        "usage_apps",
        "usage_hourly",
    ];
    for table in tables {
        assert_eq!(database.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert!(matches!(store.delete_app(app).await, Err(StoreError::NotFound { what: "app" })));
}

#[tokio::test]
async fn the_directory_has_all_that_leads_to_a_script() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("a-first")).await.unwrap().id;
    upload(&store, app, "hello", "1", &[]).await;
    let put = upload(&store, app, "hello", "2", &[]).await;
    let route = NewRoute::new(MethodSet::ANY, "/x".parse().unwrap(), script_name("hello"));
    store.put_route(app, &route).await.unwrap();
    domain(&store, app, "a.org").await;

    let all = store.directory().await.unwrap();
    assert_eq!(all.iter().map(|app| app.id).collect::<Vec<_>>(), [other, app]);
    let one = store.directory_of(app).await.unwrap().unwrap();
    assert_eq!(all[1], one);
    assert_eq!(one.scripts[0].number, 2);
    assert_eq!(one.scripts[0].image, put.script().active.image);
    assert_eq!(one.scripts[0].version, put.script().active.id);
    assert_eq!((one.routes[0].pattern.to_string().as_str(), &one.routes[0].target), ("/x", &route.target));
    assert_eq!(one.domains[0].as_str(), "a.org");
    assert_eq!(store.directory_of(AppId::generate()).await.unwrap(), None);
}
