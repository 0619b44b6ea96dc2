//! Scripts, versions, pinned libraries.

use picloud_core::{
    BODY_HANDLER, ImageKey, LimitsPatch, Method, ScriptLimitsPatch, ScriptVersionId, SecretName, SourceHash,
    UseKind, Uses,
};
use picloud_store::{
    NewRoute, NewVersion, PutVersion, RollBack, StoreError, VersionCondition, testing::TestDatabase,
};

use crate::fixture::{app_name, script_name, size, upload, version, with_app};

#[tokio::test]
async fn an_upload_makes_a_version_only_if_something_changed() {
    let (store, app) = with_app().await;
    let PutVersion::Created(first) = upload(&store, app, "hello", "1", &[]).await else { panic!() };
    assert_eq!((first.active.number, first.active.size), (1, 1));
    assert_eq!(first.active.source_hash, SourceHash::of("1"));
    assert_eq!(first.active.handlers, ["on_request"]);
    let PutVersion::Unchanged(same) = upload(&store, app, "hello", "1", &[]).await else { panic!() };
    assert_eq!(same, first);
    let PutVersion::Updated { script: second, .. } = upload(&store, app, "hello", "2", &[]).await else {
        panic!()
    };
    assert_eq!((second.id, second.active.number), (first.id, 2));
    assert_eq!(store.script(app, &script_name("hello")).await.unwrap(), Some(second));
}

#[tokio::test]
async fn the_same_source_with_another_library_is_another_version() {
    let (store, app) = with_app().await;
    upload(&store, app, "lib", "fn f() { 1 }", &[]).await;
    upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    let old = store.script(app, &script_name("main")).await.unwrap().unwrap().active.image;
    upload(&store, app, "lib", "fn f() { 2 }", &[]).await;
    let put = upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    assert!(matches!(put, PutVersion::Updated { .. }));

    // The first image is still built from the first library.
    let sources = store.image_sources(app, old).await.unwrap().unwrap();
    assert_eq!(sources.name.as_str(), "main");
    assert_eq!(&*sources.libraries[&script_name("lib")], "fn f() { 1 }");
    assert_eq!(ImageKey::of(&sources), old);
    let new = store.image_sources(app, put.script().active.image).await.unwrap().unwrap();
    assert_eq!(&*new.libraries[&script_name("lib")], "fn f() { 2 }");

    let source = store.script_source(app, &script_name("main"), Some(1)).await.unwrap().unwrap();
    assert_eq!(source.imports[&script_name("lib")], 1);
    let versions = store.versions(app, &script_name("main"), None, size(9)).await.unwrap().items;
    assert_eq!(versions.iter().map(|v| v.imports[&script_name("lib")]).collect::<Vec<_>>(), [2, 1]);
    let names = [script_name("lib"), script_name("main")];
    assert!(store.outdated_importers(app, &names).await.unwrap().is_empty());
    upload(&store, app, "lib", "fn f() { 3 }", &[]).await;
    let outdated = store.outdated_importers(app, &names).await.unwrap();
    assert_eq!(outdated.into_iter().collect::<Vec<_>>(), [(script_name("lib"), vec![script_name("main")])]);
}

#[tokio::test]
async fn who_imports_a_source_that_a_library_has_again_is_not_outdated() {
    let (store, app) = with_app().await;
    let names = [script_name("lib")];
    upload(&store, app, "lib", "fn f() { 1 }", &[]).await;
    upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    upload(&store, app, "lib", "fn f() { 2 }", &[]).await;
    assert_eq!(store.outdated_importers(app, &names).await.unwrap().len(), 1);
    upload(&store, app, "lib", "fn f() { 1 }", &[]).await;
    assert!(store.outdated_importers(app, &names).await.unwrap().is_empty());
    let again = upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    assert!(matches!(again, PutVersion::Unchanged(_)), "to deploy it would change nothing: {again:?}");
}

#[tokio::test]
async fn the_same_source_with_other_handlers_is_another_version() {
    let (store, app) = with_app().await;
    let old = NewVersion { handlers: Vec::new(), ..version(&store, app, "hello", "1", &[]).await };
    store.put_version(app, &old, VersionCondition::None).await.unwrap();
    let new = NewVersion { handlers: vec![BODY_HANDLER.to_owned()], ..old };
    let put = store.put_version(app, &new, VersionCondition::None).await.unwrap();
    assert!(matches!(put, PutVersion::Updated { .. }), "{put:?}");
    assert_eq!((put.script().active.number, put.script().active.handlers.len()), (2, 1));
}

#[tokio::test]
async fn what_a_version_uses_is_kept_and_compared_with_the_one_before() {
    let (store, app) = with_app().await;
    let using = |secret: Option<&str>| {
        let mut uses = Uses::default();
        if let Some(name) = secret {
            uses.add(UseKind::Secrets, name.into());
        }
        uses
    };
    let old = version(&store, app, "hello", "1", &[]).await;
    store.put_version(app, &old, VersionCondition::None).await.unwrap();
    let new = NewVersion { uses: using(Some("stripe")), ..old };
    let put = store.put_version(app, &new, VersionCondition::None).await.unwrap();
    let PutVersion::Updated { script, used_before } = put else { panic!("{put:?}") };
    assert_eq!((script.active.uses, used_before), (Some(using(Some("stripe"))), Some(using(None))));
    let again = store.put_version(app, &new, VersionCondition::None).await.unwrap();
    assert!(matches!(again, PutVersion::Unchanged(_)), "{again:?}");

    let name = script_name("hello");
    let versions = store.versions(app, &name, None, size(9)).await.unwrap().items;
    let uses: Vec<_> = versions.into_iter().map(|listed| listed.version.uses.unwrap()).collect();
    assert_eq!(uses, [using(Some("stripe")), using(None)]);
    let source = store.script_source(app, &name, None).await.unwrap().unwrap();
    assert_eq!(source.version.uses, Some(using(Some("stripe"))));
    let directory = store.directory_of(app).await.unwrap().unwrap();
    let declared: Vec<_> = directory.scripts[0].secrets.iter().map(SecretName::as_str).collect();
    assert_eq!(declared, ["stripe"]);
}

#[tokio::test]
async fn a_version_from_before_uses_were_noted_is_uploaded_anew() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    upload(&store, app, "hello", "1", &[]).await;
    database.execute("UPDATE script_versions SET uses = NULL").await;
    let PutVersion::Updated { script, used_before } = upload(&store, app, "hello", "1", &[]).await else {
        panic!("it is known by now what it uses")
    };
    assert_eq!((script.active.number, script.active.uses, used_before), (2, Some(Uses::default()), None));
}

#[tokio::test]
async fn an_image_belongs_to_its_app() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let image = upload(&store, app, "hello", "1", &[]).await.script().active.image;
    assert!(store.image_sources(app, image).await.unwrap().is_some());
    assert!(store.image_sources(other, image).await.unwrap().is_none());
    // Nor can a version pin a library of another app.
    let library = store.library(app, &script_name("hello")).await.unwrap().unwrap().version;
    let thief = NewVersion { imports: vec![library], ..version(&store, other, "thief", "1", &[]).await };
    let refused = store.put_version(other, &thief, VersionCondition::None).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    assert_eq!(store.script(other, &script_name("thief")).await.unwrap(), None);
}

#[tokio::test]
async fn rolling_back_makes_an_old_version_active_and_is_remembered() {
    let (store, app) = with_app().await;
    let name = script_name("hello");
    for source in ["1", "2", "3"] {
        upload(&store, app, "hello", source, &[]).await;
    }
    let RollBack::Activated(back) = store.roll_back(app, &name, 1, None).await.unwrap() else { panic!() };
    assert_eq!(back.active.number, 1);
    assert_eq!(store.roll_back(app, &name, 1, None).await.unwrap(), RollBack::Unchanged(back));
    assert_eq!(&*store.script_source(app, &name, None).await.unwrap().unwrap().source, "1");
    // The next version continues the numbers, and the same source again is a new version.
    let PutVersion::Updated { script: next, .. } = upload(&store, app, "hello", "3", &[]).await else {
        panic!()
    };
    assert_eq!(next.active.number, 4);
    let activations = store.activations(app, &name, size(10)).await.unwrap();
    assert_eq!(activations.iter().map(|a| a.number).collect::<Vec<_>>(), [4, 1, 3, 2, 1]);
    let missing = store.roll_back(app, &name, 9, None).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "version" })));
    let missing = store.roll_back(app, &script_name("other"), 1, None).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "script" })));
}

#[tokio::test]
async fn scripts_and_versions_are_listed_in_pages() {
    let (store, app) = with_app().await;
    for name in ["b", "a/x", "a", "Z"] {
        upload(&store, app, name, "1", &[]).await;
    }
    let page = store.scripts(app, None, size(3)).await.unwrap();
    assert_eq!(page.items.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["Z", "a", "a/x"]);
    assert!(page.more);
    let page = store.scripts(app, Some(&page.items[2].name), size(3)).await.unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
    for source in ["2", "3"] {
        upload(&store, app, "b", source, &[]).await;
    }
    let page = store.versions(app, &script_name("b"), None, size(2)).await.unwrap();
    assert_eq!(page.items.iter().map(|v| v.version.number).collect::<Vec<_>>(), [3, 2]);
    let page = store.versions(app, &script_name("b"), Some(2), size(2)).await.unwrap();
    assert_eq!((page.items[0].version.number, page.more), (1, false));
}

#[tokio::test]
async fn a_condition_that_does_not_hold_changes_nothing() {
    let (store, app) = with_app().await;
    let new = version(&store, app, "hello", "1", &[]).await;
    let refused = store.put_version(app, &new, VersionCondition::Active(1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    store.put_version(app, &new, VersionCondition::Absent).await.unwrap();
    let newer = version(&store, app, "hello", "2", &[]).await;
    let refused = store.put_version(app, &newer, VersionCondition::Absent).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    store.put_version(app, &newer, VersionCondition::Active(1)).await.unwrap();
    let refused = store.put_version(app, &new, VersionCondition::Active(1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn of_uploads_at_the_same_moment_each_gets_a_number() {
    let (store, app) = with_app().await;
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { upload(&store, app, "hello", &number.to_string(), &[]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let page = store.versions(app, &script_name("hello"), None, size(200)).await.unwrap();
    assert_eq!(
        page.items.iter().map(|v| v.version.number).collect::<Vec<_>>(),
        (1..=20).rev().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_script_in_use_is_not_deleted() {
    let (store, app) = with_app().await;
    upload(&store, app, "lib", "fn f() {}", &[]).await;
    upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    let get = [Method::Get].into_iter().collect();
    let route = NewRoute::new(get, "/a".parse().unwrap(), script_name("main"));
    store.put_route(app, &route).await.unwrap();

    let error = store.delete_script(app, &script_name("lib")).await.unwrap_err();
    assert_eq!(error.to_string(), "the script is in use by script main");
    let error = store.delete_script(app, &script_name("main")).await.unwrap_err();
    assert_eq!(error.to_string(), "the script is in use by route GET /a");

    let route = store.routes(app).await.unwrap()[0].id;
    store.delete_route(app, route).await.unwrap();
    store.delete_script(app, &script_name("main")).await.unwrap();
    store.delete_script(app, &script_name("lib")).await.unwrap();
    let again = store.delete_script(app, &script_name("lib")).await;
    assert!(matches!(again, Err(StoreError::NotFound { what: "script" })));
}

#[tokio::test]
async fn a_library_of_old_versions_only_can_be_deleted_and_they_are_not_rolled_back_to() {
    let (store, app) = with_app().await;
    let (lib, main) = (script_name("lib"), script_name("main"));
    upload(&store, app, "lib", "fn f() {}", &[]).await;
    upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    upload(&store, app, "main", "2", &[]).await;
    let image = store.script_source(app, &main, Some(1)).await.unwrap().unwrap().version.image;
    assert!(store.image_sources(app, image).await.unwrap().is_some());
    // As long as the library is there, so is the way back.
    store.roll_back(app, &main, 1, None).await.unwrap();
    assert!(matches!(store.delete_script(app, &lib).await, Err(StoreError::InUse { .. })));
    store.roll_back(app, &main, 2, None).await.unwrap();

    store.delete_script(app, &lib).await.unwrap();
    let refused = store.roll_back(app, &main, 1, None).await;
    assert!(matches!(refused, Err(StoreError::LibraryGone { number: 1, .. })), "{refused:?}");
    assert_eq!(store.script(app, &main).await.unwrap().unwrap().active.number, 2);
    assert!(store.script_source(app, &main, Some(1)).await.unwrap().is_some());
    assert!(store.image_sources(app, image).await.unwrap().is_none(), "what is left makes another image");

    // A library of the same name is another one.
    upload(&store, app, "lib", "fn f() {}", &[]).await;
    assert!(matches!(store.roll_back(app, &main, 1, None).await, Err(StoreError::LibraryGone { .. })));
    // A version that was built with it has the same image, and the sources of that are there again.
    let again = upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    assert_eq!(again.script().active.image, image);
    assert!(store.image_sources(app, image).await.unwrap().is_some());
}

#[tokio::test]
async fn old_versions_are_pruned_unless_they_are_in_use() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    upload(&store, app, "lib", "0", &[]).await;
    upload(&store, app, "main", "import \"lib\" as l;", &["lib"]).await;
    for number in 1..=105 {
        upload(&store, app, "lib", &number.to_string(), &[]).await;
    }
    // Version 1 is pinned by `main`; versions 2 to 6 are gone.
    let oldest = store.versions(app, &script_name("lib"), Some(10), size(200)).await.unwrap();
    assert_eq!(oldest.items.iter().map(|v| v.version.number).collect::<Vec<_>>(), [9, 8, 7, 1]);
    assert_eq!(database.number("SELECT count(*) FROM script_activations").await, 102);
}

#[tokio::test]
async fn a_source_with_nul_is_refused_and_any_other_text_comes_back() {
    let (store, app) = with_app().await;
    let bad = version(&store, app, "hello", "\"\0\"", &[]).await;
    let refused = store.put_version(app, &bad, VersionCondition::None).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))));
    let odd = "\u{feff}\r\n\t\"\u{10ffff}\u{1}é\" // \u{202e}";
    upload(&store, app, "odd", odd, &[]).await;
    let source = store.script_source(app, &script_name("odd"), None).await.unwrap().unwrap();
    assert_eq!(&*source.source, odd);
    assert_eq!(store.script_source(app, &script_name("odd"), Some(2)).await.unwrap(), None);
    let unknown = NewVersion {
        imports: vec![ScriptVersionId::generate()],
        ..version(&store, app, "x", "1", &[]).await
    };
    let refused = store.put_version(app, &unknown, VersionCondition::None).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
}

#[tokio::test]
async fn limits_of_a_script_outlive_its_versions_and_go_with_it() {
    let (store, app) = with_app().await;
    upload(&store, app, "a", "1", &[]).await;
    let patch = |json: &str| serde_json::from_str::<ScriptLimitsPatch>(json).unwrap();
    let (a, missing) = (script_name("a"), script_name("missing"));
    let set = store.patch_script_limits(app, &a, &patch(r#"{"fuel":60000,"wall_ms":500}"#)).await.unwrap();
    assert_eq!(set, LimitsPatch { fuel: Some(60_000), wall_ms: Some(500), ..LimitsPatch::default() });
    let given_back = store.patch_script_limits(app, &a, &patch(r#"{"fuel":null}"#)).await.unwrap();
    let left = LimitsPatch { wall_ms: Some(500), ..LimitsPatch::default() };
    assert_eq!(given_back, left);
    upload(&store, app, "a", "2", &[]).await;
    assert_eq!(store.script(app, &a).await.unwrap().unwrap().limits, left);
    assert_eq!(store.directory_of(app).await.unwrap().unwrap().scripts[0].limits, left);
    let nobody = store.patch_script_limits(app, &missing, &patch("{}")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "script" })));
    store.delete_script(app, &a).await.unwrap();
    upload(&store, app, "a", "3", &[]).await;
    assert_eq!(store.script(app, &a).await.unwrap().unwrap().limits, LimitsPatch::default());
}
