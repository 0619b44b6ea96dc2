//! Files: commits with entries, validation of what was read, quotas, contents that go with their last file.

use std::collections::BTreeMap;

use picloud_core::{
    AppId, Effects, FileHash, FileListQuery, FilePath, FileQuota, FileSession, FileVersion, FileWrite,
    KvReads, KvSession, Method, MethodSet, RouteTarget, STATIC_FOLDER, StaticFiles,
};
use picloud_store::{
    Bundle, BundleFile, BundleFiles, BundleTarget, KvCommit, KvLocks, NewRoute, OtherScripts, PutFiles,
    PutRoute, Store, StoreError,
};

use crate::fixture::{QUOTA, app_name, id, set, size, with_app, writes};

fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

fn content(name: &str, text: &str) -> (FilePath, FileWrite) {
    (path(name), FileWrite::set(&path(name), text.to_owned().into(), None))
}

fn files(writes: impl IntoIterator<Item = (FilePath, FileWrite)>) -> Effects {
    Effects { files: writes.into_iter().collect(), ..Effects::default() }
}

async fn put(store: &Store, app: AppId, name: &str, text: &str) {
    let done = store.kv_commit(app, &KvReads::default(), &files([content(name, text)]), QUOTA).await;
    assert!(matches!(done.unwrap(), KvCommit::Committed { .. }));
}

async fn delete(store: &Store, app: AppId, name: &str) {
    let effects = files([(path(name), FileWrite::Delete)]);
    assert!(matches!(
        store.kv_commit(app, &KvReads::default(), &effects, QUOTA).await.unwrap(),
        KvCommit::Committed { .. }
    ));
}

/// The text of a file, read as an invocation does.
async fn text(store: &Store, app: AppId, name: &str) -> Option<String> {
    let file = store.file(app, &path(name)).await.unwrap()?;
    let content = store.blob(app, &file.hash).await.unwrap().expect("a row has its content");
    assert_eq!((FileHash::of(&content), content.len() as u64), (file.hash, file.size));
    Some(String::from_utf8(content.to_vec()).unwrap())
}

async fn read(store: &Store, app: AppId, session: &mut FileSession, name: &str) {
    let file = store.file(app, &path(name)).await.unwrap();
    session.fetched(path(name), file);
}

fn query(prefix: &str) -> FileListQuery {
    FileListQuery { prefix: prefix.to_owned(), after: None, limit: 100 }
}

#[tokio::test]
async fn files_and_entries_commit_together_or_not_at_all() {
    let (store, app) = with_app().await;
    put(&store, app, "a.txt", "1").await;
    let mut session = KvSession::default();
    let seen = store.kv_get(app, &id("c", "k")).await.unwrap();
    session.fetched(id("c", "k"), seen);
    let (path_of, write) = content("a.txt", "2");
    session.files.write(path_of, write);
    session.write(id("c", "n"), set("1"));
    let (reads, effects) = session.finish();
    // Somebody writes the entry that was read: neither the file nor the entry is changed.
    let other = writes([(id("c", "k"), set("9"))]);
    let _ = store.kv_commit(app, &KvReads::default(), &other, QUOTA).await.unwrap();
    assert_eq!(store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap(), KvCommit::Conflict);
    assert_eq!(text(&store, app, "a.txt").await.as_deref(), Some("1"));
    assert!(store.kv_get(app, &id("c", "n")).await.unwrap().is_none());
    let blind = store.kv_commit(app, &KvReads::default(), &effects, QUOTA).await.unwrap();
    assert!(matches!(blind, KvCommit::Committed { .. }));
    assert_eq!(text(&store, app, "a.txt").await.as_deref(), Some("2"));
    assert!(store.kv_get(app, &id("c", "n")).await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_read_of_files_is_validated() {
    let (store, app) = with_app().await;
    put(&store, app, "a", "1").await;
    let entry = || writes([(id("c", "k"), set("1"))]);
    // A file that changed, one that came, one that was replaced by the same content.
    for (name, change) in [("a", "2"), ("new", "1"), ("a", "2")] {
        let mut session = KvSession::default();
        read(&store, app, &mut session.files, name).await;
        let reads = session.finish().0;
        put(&store, app, name, change).await;
        assert_eq!(
            store.kv_commit(app, &reads, &entry(), QUOTA).await.unwrap(),
            KvCommit::Conflict,
            "{name}"
        );
    }
    // One that was left alone, while others changed.
    let mut session = KvSession::default();
    read(&store, app, &mut session.files, "a").await;
    read(&store, app, &mut session.files, "absent").await;
    let reads = session.finish().0;
    put(&store, app, "b", "1").await;
    assert!(matches!(
        store.kv_commit(app, &reads, &entry(), QUOTA).await.unwrap(),
        KvCommit::Committed { .. }
    ));
    // A list, after a removal and after nothing.
    let listed = || async {
        let mut session = KvSession::default();
        let found = store.file_list(app, &query("")).await.unwrap();
        session.files.listed(&query(""), found);
        session.finish().0
    };
    let reads = listed().await;
    assert!(matches!(
        store.kv_commit(app, &reads, &entry(), QUOTA).await.unwrap(),
        KvCommit::Committed { .. }
    ));
    delete(&store, app, "b").await;
    assert_eq!(store.kv_commit(app, &reads, &entry(), QUOTA).await.unwrap(), KvCommit::Conflict);
}

#[tokio::test]
async fn a_run_that_is_done_again_has_the_files_to_itself() {
    let (store, app) = with_app().await;
    put(&store, app, "n", "0").await;
    let mut session = KvSession::default();
    read(&store, app, &mut session.files, "n").await;
    let reads = session.finish().0;
    let effects = files([content("n", "1")]);
    let locked = store.kv_begin_locked(app, &KvLocks::for_rerun(&reads, &effects)).await.unwrap();
    let other = files([content("n", "x")]);
    let nothing = KvReads::default();
    let mut waiting = Box::pin(store.kv_commit(app, &nothing, &other, QUOTA));
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), waiting.as_mut()).await;
    assert!(early.is_err(), "it waits for the run that holds the files");
    assert!(matches!(locked.commit(&reads, &effects, QUOTA).await.unwrap(), KvCommit::Committed { .. }));
    assert!(matches!(waiting.await.unwrap(), KvCommit::Committed { .. }));
    assert_eq!(text(&store, app, "n").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_content_goes_with_the_last_file_that_has_it() {
    let (store, app) = with_app().await;
    put(&store, app, "a", "same").await;
    put(&store, app, "b", "same").await;
    let hash = FileHash::of(b"same");
    delete(&store, app, "a").await;
    assert!(store.blob(app, &hash).await.unwrap().is_some());
    // Renamed within one commit: the content stays.
    let effects = files([(path("b"), FileWrite::Delete), content("c", "same")]);
    let _ = store.kv_commit(app, &<_>::default(), &effects, QUOTA).await.unwrap();
    assert_eq!(text(&store, app, "c").await.as_deref(), Some("same"));
    put(&store, app, "c", "other").await;
    assert!(store.blob(app, &hash).await.unwrap().is_none());
    assert_eq!(store.file_usage(app).await.unwrap(), (1, 5));
    delete(&store, app, "c").await;
    delete(&store, app, "never there").await;
    assert_eq!(store.file_usage(app).await.unwrap(), (0, 0));
    store.delete_app(app).await.unwrap();
    assert!(store.file(app, &path("c")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_hash_of_another_app_gives_nothing() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    put(&store, app, "secret", "of demo").await;
    let hash = FileHash::of(b"of demo");
    assert!(store.blob(other, &hash).await.unwrap().is_none());
    assert!(store.file(other, &path("secret")).await.unwrap().is_none());
    let file = BundleFile { hash, content: None, content_type: picloud_core::content_type_of("x.txt") };
    let bundle_files = BundleFiles { files: BTreeMap::from([(path("static/x.txt"), file)]), quota: QUOTA };
    let bundle = Bundle { files: Some(&bundle_files), ..Bundle::default() };
    let refused = store.put_bundle(BundleTarget::App(other), bundle).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(problem)) if problem.contains("send its content")));
    // In the app that has it, it is a copy.
    let put = store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
    assert_eq!(put.files.written, [path("static/x.txt")]);
    assert_eq!(text(&store, app, "static/x.txt").await.as_deref(), Some("of demo"));
}

#[tokio::test]
async fn twenty_writers_at_once_never_exceed_a_quota() {
    let (store, app) = with_app().await;
    let quota = FileQuota { bytes: 50, files: 1_000 };
    let all = (0..20).map(|number| {
        let store = store.clone();
        async move {
            let effects = files([content(&format!("f{number}"), "0123456789")]);
            store.kv_commit(app, &<_>::default(), &effects, quota).await
        }
    });
    let results = futures_util::future::join_all(all).await;
    let fitted = results.iter().filter(|result| result.is_ok()).count();
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(StoreError::FileQuota { limit: "file_bytes", most: 50, .. })))
        .count();
    assert_eq!((fitted, refused), (5, 15));
    assert_eq!(store.file_usage(app).await.unwrap(), (5, 50));
    assert_eq!(store.files(app, "", None, size(200)).await.unwrap().items.len(), 5);

    let few = FileQuota { bytes: 1_000, files: 5 };
    let one_more = store.kv_commit(app, &<_>::default(), &files([content("more", "")]), few).await;
    assert!(matches!(one_more, Err(StoreError::FileQuota { limit: "files", most: 5, .. })));
    // What is over a quota that was lowered may shrink and be removed.
    let none = FileQuota { bytes: 0, files: 0 };
    let present = store.files(app, "", None, size(1)).await.unwrap().items.remove(0).path;
    let smaller = files([content(present.as_str(), "x")]);
    assert!(store.kv_commit(app, &<_>::default(), &smaller, none).await.is_ok());
    let gone = files([(present, FileWrite::Delete)]);
    assert!(store.kv_commit(app, &<_>::default(), &gone, none).await.is_ok());
}

#[tokio::test]
async fn lists_are_in_byte_order_and_paged() {
    let (store, app) = with_app().await;
    for name in ["b", "a/2", "a/1", "é", "A", "a"] {
        put(&store, app, name, name).await;
    }
    let names = |page: Vec<picloud_store::FileRow>| {
        page.into_iter().map(|row| row.path.to_string()).collect::<Vec<_>>()
    };
    let page = store.files(app, "", None, size(200)).await.unwrap();
    assert_eq!(names(page.items), ["A", "a", "a/1", "a/2", "b", "é"]);
    let page = store.files(app, "a", Some(&path("a")), size(1)).await.unwrap();
    assert!(page.more);
    assert_eq!(names(page.items), ["a/1"]);
    let list = store.file_list(app, &query("a/")).await.unwrap();
    assert_eq!(names(list.files), ["a/1", "a/2"]);
    let empty = store.file_list(app, &query("none")).await.unwrap();
    assert!(empty.files.is_empty() && empty.generation == list.generation && list.generation.0 == 6);
    assert!(store.file_list(app, &query("\0")).await.unwrap().files.is_empty());
    let first = store.first_file(app, &[path("none"), path("b"), path("a")]).await.unwrap().unwrap();
    assert_eq!(first.path, path("b"));
    assert_ne!(first.file.version, FileVersion::ABSENT);
}

#[tokio::test]
async fn a_bundle_writes_what_differs_and_prunes_only_static_files() {
    let (store, app) = with_app().await;
    put(&store, app, "data/kept.txt", "x").await;
    let file = |text: &str, name: &str| BundleFile {
        hash: FileHash::of(text.as_bytes()),
        content: Some(text.to_owned().into()),
        content_type: picloud_core::content_type_of(name),
    };
    let deploy = |all: &[(&str, &str)], others: OtherScripts| {
        let files = all.iter().map(|(name, text)| (path(name), file(text, name))).collect();
        let store = store.clone();
        async move {
            let bundle_files = BundleFiles { files, quota: QUOTA };
            let bundle = Bundle { files: Some(&bundle_files), others, ..Bundle::default() };
            store.put_bundle(BundleTarget::App(app), bundle).await.unwrap().files
        }
    };
    let first = deploy(&[("static/a.css", "1"), ("static/b.css", "2")], OtherScripts::Keep).await;
    assert_eq!(first.written.len(), 2);
    let before = store.file(app, &path("static/a.css")).await.unwrap().unwrap();
    let second = deploy(&[("static/a.css", "1"), ("static/c.css", "3")], OtherScripts::Keep).await;
    let expected =
        PutFiles { written: vec![path("static/c.css")], unchanged: 1, others: vec![path("static/b.css")] };
    assert_eq!(second, expected);
    assert_eq!(store.file(app, &path("static/a.css")).await.unwrap().unwrap(), before, "it was left alone");
    let third = deploy(&[("static/a.css", "1")], OtherScripts::Delete).await;
    assert_eq!(third.others.len(), 2);
    let left = store.files(app, "", None, size(9)).await.unwrap().items;
    let left: Vec<_> = left.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(left, ["data/kept.txt", "static/a.css"]);
}

#[tokio::test]
async fn a_route_leads_to_a_folder_of_files() {
    let (store, app) = with_app().await;
    let get = MethodSet::default().with(Method::Get);
    let served = StaticFiles {
        folder: STATIC_FOLDER.parse().unwrap(),
        max_age: Some(std::time::Duration::from_mins(1)),
        fallback: Some(path("static/index.html")),
    };
    let route = NewRoute::new(get, "/*path".parse().unwrap(), RouteTarget::Files(served.clone()));
    let PutRoute::Created(made) = store.put_route(app, &route).await.unwrap() else { panic!() };
    assert_eq!(made.target, RouteTarget::Files(served.clone()));
    let loaded = store.directory_of(app).await.unwrap().unwrap();
    assert_eq!(loaded.routes[0].target, RouteTarget::Files(served));
    assert!(!loaded.has_files);
    put(&store, app, "static/index.html", "x").await;
    assert!(store.directory_of(app).await.unwrap().unwrap().has_files);
    let wrong = NewRoute { pattern: "/x".parse().unwrap(), ..route };
    assert!(matches!(store.put_route(app, &wrong).await, Err(StoreError::Invalid(_))));
}
