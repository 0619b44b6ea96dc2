//! Bundles: scripts, routes, limits and their app at once.

use picloud_core::{AppId, LimitsPatch, Method};
use picloud_store::{
    Bundle, BundleTarget, BundleVersion, NewRoute, NewVersion, OtherScripts, PutVersion, StoreError,
    VersionCondition, testing,
};

use crate::fixture::{app_name, script_name, size, upload, version, with_app};

#[tokio::test]
async fn a_bundle_is_uploaded_whole_or_not_at_all() {
    let (store, app) = with_app().await;
    let library = BundleVersion {
        version: version(&store, app, "lib", "fn f() { 1 }", &[]).await,
        bundled_imports: Vec::new(),
    };
    let main = BundleVersion {
        version: version(&store, app, "main", "import \"lib\" as l;", &[]).await,
        bundled_imports: vec![script_name("lib")],
    };
    let route = |script: &str| {
        NewRoute::new([Method::Get].into_iter().collect(), "/a".parse().unwrap(), script_name(script))
    };
    let whole = [library.clone(), main.clone()];
    let put = |scripts: &[BundleVersion], routes: Option<&[NewRoute]>| {
        let (store, scripts, routes) = (store.clone(), scripts.to_vec(), routes.map(<[_]>::to_vec));
        async move {
            let bundle = Bundle { scripts: &scripts, routes: routes.as_deref(), ..Bundle::default() };
            store.put_bundle(BundleTarget::App(app), bundle).await
        }
    };

    let refused = put(&whole, Some(&[route("missing")])).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "script" })), "{refused:?}");
    let refused = put(&[main, library], None).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert!(store.scripts(app, None, size(9)).await.unwrap().items.is_empty());

    let numbered =
        |number: usize| NewRoute { pattern: format!("/{number}").parse().unwrap(), ..route("main") };
    let many: Vec<_> = (0..=1_000).map(numbered).collect();
    let refused = put(&whole, Some(&many)).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("at most 1000")),
        "{refused:?}"
    );

    let deployed = put(&whole, Some(&many[..1_000])).await.unwrap();
    assert!(deployed.scripts.iter().all(|put| matches!(put, PutVersion::Created(_))));
    let refused = store.put_route(app, &numbered(1_000)).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    store.put_route(app, &numbered(0)).await.unwrap();
    assert_eq!(store.routes(app).await.unwrap().len(), 1_000);

    let deployed = put(&whole, Some(&[route("main")])).await.unwrap();
    assert!(deployed.scripts.iter().all(|put| matches!(put, PutVersion::Unchanged(_))));
    let source = store.script_source(app, &script_name("main"), None).await.unwrap().unwrap();
    assert_eq!(source.imports[&script_name("lib")], 1);
    assert_eq!(store.routes(app).await.unwrap().len(), 1);
    let again = put(&whole, Some(&[])).await.unwrap();
    assert!(again.scripts.iter().all(|put| matches!(put, PutVersion::Unchanged(_))), "{again:?}");
    assert!(store.routes(app).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_app_has_a_thousand_scripts_at_most() {
    let (store, app) = with_app().await;
    let one = version(&store, app, "s", "1", &[]).await;
    let numbered = |number: usize| BundleVersion {
        version: NewVersion { name: script_name(&format!("s{number}")), ..one.clone() },
        bundled_imports: Vec::new(),
    };
    let scripts: Vec<_> = (0..=1_000).map(numbered).collect();
    let put = async |scripts: &[BundleVersion]| {
        store.put_bundle(BundleTarget::App(app), Bundle { scripts, ..Bundle::default() }).await
    };
    let refused = put(&scripts).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("at most 1000")),
        "{refused:?}"
    );
    assert!(store.scripts(app, None, size(1)).await.unwrap().items.is_empty());
    put(&scripts[..1_000]).await.unwrap();
    let refused = store.put_version(app, &one, VersionCondition::None).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    // Those that are there still get versions.
    upload(&store, app, "s7", "2", &[]).await;
}

#[tokio::test]
async fn an_app_and_limits_come_with_their_bundle_or_not_at_all() {
    let store = testing::store().await;
    let (id, name) = (AppId::generate(), app_name("demo"));
    let hello =
        BundleVersion { version: version(&store, id, "hello", "1", &[]).await, bundled_imports: Vec::new() };
    let limits = LimitsPatch { wall_ms: Some(2_000), ..LimitsPatch::default() };
    let route = |script: &str| {
        NewRoute::new([Method::Get].into_iter().collect(), "/a".parse().unwrap(), script_name(script))
    };
    let scripts = [hello];
    let target = BundleTarget::NewApp(id, &name);
    let missing = [route("missing")];
    let refused = store
        .put_bundle(target, Bundle { scripts: &scripts, routes: Some(&missing), limits, ..Bundle::default() })
        .await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "script" })), "{refused:?}");
    assert_eq!(store.app_by_name(&name).await.unwrap(), None);

    let routes = [route("hello")];
    let bundle = Bundle { scripts: &scripts, routes: Some(&routes), limits, ..Bundle::default() };
    store.put_bundle(target, bundle).await.unwrap();
    assert_eq!(store.app_by_name(&name).await.unwrap().unwrap().limits, limits);
    let again = store.put_bundle(BundleTarget::NewApp(AppId::generate(), &name), bundle).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists { what: "app" })), "{again:?}");

    let other = LimitsPatch { wall_ms: Some(3_000), ..LimitsPatch::default() };
    let bundle = Bundle { scripts: &scripts, routes: Some(&missing), limits: other, ..Bundle::default() };
    store.put_bundle(BundleTarget::App(id), bundle).await.unwrap_err();
    assert_eq!(store.app(id).await.unwrap().unwrap().limits, limits);
}

#[tokio::test]
async fn what_is_not_of_the_bundle_is_told_and_deleted_where_that_is_asked() {
    let (store, app) = with_app().await;
    for name in ["keep", "old-lib"] {
        upload(&store, app, name, "1", &[]).await;
    }
    upload(&store, app, "old", "import \"old-lib\" as l;", &["old-lib"]).await;
    let route = |path: &str, script: &str| {
        NewRoute::new([Method::Get].into_iter().collect(), path.parse().unwrap(), script_name(script))
    };
    store.put_route(app, &route("/by-hand", "old")).await.unwrap();
    let keep =
        BundleVersion { version: version(&store, app, "keep", "1", &[]).await, bundled_imports: Vec::new() };
    let put = async |scripts: &[BundleVersion], routes: Option<&[NewRoute]>, others: OtherScripts| {
        let bundle = Bundle { scripts, routes, others, ..Bundle::default() };
        store.put_bundle(BundleTarget::App(app), bundle).await
    };
    let names =
        |names: &[picloud_core::ScriptName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let scripts = [keep];

    let kept = put(&scripts, None, OtherScripts::Keep).await.unwrap();
    assert_eq!((names(&kept.others), kept.removed_routes.len()), (vec!["old".into(), "old-lib".into()], 0));
    let used = put(&scripts, None, OtherScripts::Delete).await;
    assert!(matches!(&used, Err(StoreError::InUse { by, .. }) if by == &["route GET /by-hand"]), "{used:?}");
    let importer = BundleVersion {
        version: version(&store, app, "main", "import \"old-lib\" as l;", &["old-lib"]).await,
        bundled_imports: Vec::new(),
    };
    let used = put(&[importer], Some(&[]), OtherScripts::Delete).await;
    assert!(matches!(&used, Err(StoreError::InUse { by, .. }) if by == &["script main"]), "{used:?}");

    let pruned = put(&scripts, Some(&[route("/k", "keep")]), OtherScripts::Delete).await.unwrap();
    assert_eq!(names(&pruned.others), ["old", "old-lib"]);
    assert_eq!(pruned.removed_routes[0].pattern.to_string(), "/by-hand");
    let left = store.scripts(app, None, size(9)).await.unwrap().items;
    assert_eq!(left.iter().map(|script| script.name.as_str()).collect::<Vec<_>>(), ["keep"]);
}
