//! Apps, limits, domains, and what goes with an app.

use picloud_core::{AppId, DomainName, ExecutionId, LimitsPatch, MethodSet};
use picloud_store::{AppsSeen, HistoryBatch, NewRoute, StoreError, testing, testing::TestDatabase};

use crate::{
    fixture::{app_name, commit, id, script_name, set, size, upload, with_app, writes},
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
async fn a_domain_belongs_to_one_app() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let name = DomainName::new("www.example.org").unwrap();
    let domain = store.create_domain(app, &name).await.unwrap();
    let taken = store.create_domain(other, &name).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists { what: "domain" })));
    let nobody = store.create_domain(AppId::generate(), &DomainName::new("a.org").unwrap()).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "app" })));
    assert_eq!(store.domains(app).await.unwrap(), std::slice::from_ref(&domain));
    let foreign = store.delete_domain(other, domain.id).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { what: "domain" })));
    store.delete_domain(app, domain.id).await.unwrap();
    assert!(store.domains(app).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_app_has_at_most_a_hundred_domains() {
    let (store, app) = with_app().await;
    let domain = |number: usize| DomainName::new(format!("d{number}.example")).unwrap();
    for number in 0..100 {
        store.create_domain(app, &domain(number)).await.unwrap();
    }
    let refused = store.create_domain(app, &domain(100)).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("at most 100")),
        "{refused:?}"
    );
    assert_eq!(store.domains(app).await.unwrap().len(), 100);
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
    store.create_domain(app, &DomainName::new("a.org").unwrap()).await.unwrap();
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
    store.create_domain(app, &DomainName::new("a.org").unwrap()).await.unwrap();

    let all = store.directory().await.unwrap();
    assert_eq!(all.iter().map(|app| app.id).collect::<Vec<_>>(), [other, app]);
    let one = store.directory_of(app).await.unwrap().unwrap();
    assert_eq!(all[1], one);
    assert_eq!(one.scripts[0].number, 2);
    assert_eq!(one.scripts[0].image, put.script().active.image);
    assert_eq!(one.scripts[0].version, put.script().active.id);
    assert_eq!((one.routes[0].pattern.to_string().as_str(), &one.routes[0].script), ("/x", &route.script));
    assert_eq!(one.domains[0].as_str(), "a.org");
    assert_eq!(store.directory_of(AppId::generate()).await.unwrap(), None);
}
