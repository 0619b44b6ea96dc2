//! Entries of the key-value data: values, order, time to live, bytes.

use std::time::Duration;

use picloud_core::{AppId, CollectionName, KvVersion, KvWrite};
use picloud_store::{StoreError, testing::TestDatabase};

use crate::fixture::{app_name, commit, id, list_of, set, size, with_app, writes};

#[tokio::test]
async fn any_json_text_comes_back_to_the_byte() {
    let (store, app) = with_app().await;
    let big = format!("\"{}\"", "é".repeat(4 * 1024 * 1024 / 2));
    let values = ["null", "\"\\u0000\"", "{\"b\":1,  \"a\":1}", "1e400", "\"\u{10ffff}\u{1}\"", &big];
    for value in values {
        store.kv_put(app, &id("c", "k"), value.into(), None, None).await.unwrap();
        assert_eq!(&*store.kv_get(app, &id("c", "k")).await.unwrap().unwrap().value, value);
    }
}

#[tokio::test]
async fn keys_are_ordered_by_their_bytes() {
    let (store, app) = with_app().await;
    let mut keys = ["a", "B", "é", "e\u{301}", "ä", "Z", "a b", "a\u{1}", "\u{ffff}", "\u{10000}", "10", "9"];
    commit(&store, app, &writes(keys.map(|key| (id("c", key), set("1"))))).await;
    keys.sort_unstable();
    let found = store.kv_list(app, &list_of("c", "", None, 100)).await.unwrap();
    assert_eq!(found.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), keys);
    // NFC and NFD are two keys.
    assert_ne!(id("c", "é").key, id("c", "e\u{301}").key);
    let found = store.kv_list(app, &list_of("c", "a", Some("a"), 100)).await.unwrap();
    assert_eq!(found.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["a\u{1}", "a b"]);
    assert!(store.kv_list(app, &list_of("c", "\0", None, 100)).await.unwrap().is_empty());
    assert_eq!(store.kv_list(app, &list_of("c", "", Some("Z\0"), 1)).await.unwrap()[0].key.as_str(), "a");
}

#[tokio::test]
async fn every_write_has_a_version_of_its_own() {
    let (store, app) = with_app().await;
    let key = id("c", "k");
    let mut versions = Vec::new();
    for _ in 0..3 {
        store.kv_put(app, &key, "1".into(), None, None).await.unwrap();
        versions.push(store.kv_get(app, &key).await.unwrap().unwrap().version);
        store.kv_delete(app, &key, None).await.unwrap();
        assert_eq!(store.kv_get(app, &key).await.unwrap(), None);
    }
    versions.dedup();
    assert_eq!(versions.len(), 3);
    assert!(versions.is_sorted() && versions[0] > KvVersion::ABSENT);
}

#[tokio::test]
async fn an_expired_entry_is_absent_everywhere() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let with_ttl = |seconds| KvWrite::Set { value: "1".into(), ttl: Some(Duration::from_secs(seconds)) };
    let all = writes([
        (id("c", "gone"), with_ttl(0)),
        (id("c", "here"), with_ttl(3600)),
        (id("c", "always"), with_ttl(u64::MAX)),
    ]);
    commit(&store, app, &all).await;
    assert_eq!(store.kv_get(app, &id("c", "gone")).await.unwrap(), None);
    assert_eq!(store.kv_row(app, &id("c", "gone")).await.unwrap(), None);
    let here = store.kv_row(app, &id("c", "here")).await.unwrap().unwrap();
    assert!(here.expires_at.unwrap() > here.updated_at + Duration::from_secs(3599));
    assert_eq!(store.kv_list(app, &list_of("c", "", None, 9)).await.unwrap().len(), 2);
    let collection = CollectionName::new("c").unwrap();
    assert_eq!(store.kv_rows(app, &collection, "", None, size(9)).await.unwrap().items.len(), 2);
    assert_eq!(store.kv_collections(app, None, size(9)).await.unwrap().items[0].entries, 2);

    // Its version is that of an absent one, and it can be written as such.
    store.kv_put(app, &id("c", "gone"), "2".into(), None, Some(KvVersion::ABSENT)).await.unwrap();
    assert_eq!(&*store.kv_get(app, &id("c", "gone")).await.unwrap().unwrap().value, "2");

    database.execute("UPDATE kv SET expires_at = now() - interval '1 second' WHERE key = 'here'").await;
    assert_eq!(store.kv_remove_expired(10).await.unwrap(), 1);
    assert_eq!(store.kv_remove_expired(10).await.unwrap(), 0);
    assert_eq!(database.number("SELECT count(*) FROM kv").await, 2);
}

#[tokio::test]
async fn expired_entries_are_removed_a_few_at_a_time() {
    let (store, app) = with_app().await;
    let gone = KvWrite::Set { value: "1".into(), ttl: Some(Duration::ZERO) };
    let all = writes((0..25).map(|number| (id("c", &number.to_string()), gone.clone())));
    commit(&store, app, &all).await;
    let removed = [store.kv_remove_expired(10).await, store.kv_remove_expired(10).await];
    assert_eq!(removed.map(Result::unwrap), [10, 10]);
    assert_eq!(store.kv_remove_expired(10).await.unwrap(), 5);
}

#[tokio::test]
async fn bytes_are_counted_as_they_change() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let first = writes([(id("c", "é"), set("\"é\"")), (id("d", "k"), set("1"))]);
    assert_eq!(commit(&store, app, &first).await, 2 + 4 + 2);
    let second = writes([(id("c", "é"), set("1")), (id("d", "k"), KvWrite::Delete)]);
    assert_eq!(commit(&store, app, &second).await, -3 - 2);
    assert_eq!(store.kv_used_bytes(&[app, other]).await.unwrap(), [(app, 3)]);
    assert_eq!(store.kv_delete(app, &id("d", "nothing"), None).await.unwrap(), 0);
}

#[tokio::test]
async fn collections_and_entries_are_listed_in_pages() {
    let (store, app) = with_app().await;
    let all = writes([
        (id("a", "1"), set("1")),
        (id("b", "x1"), set("1")),
        (id("b", "x2"), set("22")),
        (id("b", "y"), set("1")),
        (id("c", "1"), set("1")),
    ]);
    commit(&store, app, &all).await;
    let page = store.kv_collections(app, None, size(2)).await.unwrap();
    let (b, more) = (&page.items[1], page.more);
    assert_eq!((b.name.as_str(), b.entries, b.bytes, more), ("b", 3, 9, true));
    let page = store.kv_collections(app, Some(&b.name), size(2)).await.unwrap();
    assert_eq!((page.items[0].name.as_str(), page.more), ("c", false));
    let rows = store.kv_rows(app, &b.name, "x", None, size(1)).await.unwrap();
    assert_eq!((rows.items[0].key.as_str(), rows.more), ("x1", true));
    let rows = store.kv_rows(app, &b.name, "x", Some("x1"), size(1)).await.unwrap();
    assert_eq!((rows.items[0].key.as_str(), &*rows.items[0].value, rows.more), ("x2", "22", false));
}

#[tokio::test]
async fn an_expected_version_is_checked() {
    let (store, app) = with_app().await;
    let key = id("c", "k");
    store.kv_put(app, &key, "1".into(), None, Some(KvVersion::ABSENT)).await.unwrap();
    let refused = store.kv_put(app, &key, "2".into(), None, Some(KvVersion::ABSENT)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    let version = store.kv_row(app, &key).await.unwrap().unwrap().version;
    let refused = store.kv_delete(app, &key, Some(KvVersion::from_i64(version.as_i64() + 1))).await;
    assert!(matches!(refused, Err(StoreError::Conflict)));
    store.kv_delete(app, &key, Some(version)).await.unwrap();
    assert_eq!(store.kv_get(app, &key).await.unwrap(), None);
}

#[tokio::test]
async fn apps_see_only_their_own_entries_and_need_to_exist() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    store.kv_put(app, &id("c", "k"), "1".into(), None, None).await.unwrap();
    assert_eq!(store.kv_get(other, &id("c", "k")).await.unwrap(), None);
    store.kv_delete(other, &id("c", "k"), None).await.unwrap();
    assert!(store.kv_get(app, &id("c", "k")).await.unwrap().is_some());
    let nobody = store.kv_put(AppId::generate(), &id("c", "k"), "1".into(), None, None).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "app" })));
}
