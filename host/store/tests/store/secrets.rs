//! Ciphertexts of secrets.

use picloud_core::{AppId, SealedSecret, SecretKeyId, SecretName, SecretVersion, UseKind, Uses};
use picloud_store::{
    Change, NewVersion, PlacedSecret, Store, StoreError, StoredSecret, VersionCondition,
    testing::TestDatabase,
};

use crate::fixture::{app_name, version, with_app};

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

fn key(number: u8) -> SecretKeyId {
    SecretKeyId::from_random([number; 8])
}

fn sealed(key_number: u8, text: &str) -> SealedSecret {
    SealedSecret {
        key: key(key_number),
        nonce: [key_number; 24],
        ciphertext: format!("{text:17}").into_bytes(),
    }
}

async fn put(store: &Store, app: AppId, secret: &str, sealed: SealedSecret) -> SecretVersion {
    let version = store.next_secret_version().await.unwrap();
    store.put_secret(app, &name(secret), &StoredSecret { version, sealed }).await.unwrap();
    version
}

#[tokio::test]
async fn a_secret_is_set_read_replaced_and_removed() {
    let (store, app) = with_app().await;
    assert_eq!(store.secret(app, &name("a")).await.unwrap(), None);
    let first = put(&store, app, "a", sealed(1, "one")).await;
    let second = put(&store, app, "a", sealed(1, "two")).await;
    assert!(second > first);
    let stored = store.secret(app, &name("a")).await.unwrap().unwrap();
    assert_eq!(stored, StoredSecret { version: second, sealed: sealed(1, "two") });
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    assert_eq!(store.secret(other, &name("a")).await.unwrap(), None);
    store.delete_secret(app, &name("a")).await.unwrap();
    let again = store.delete_secret(app, &name("a")).await;
    assert!(matches!(again, Err(StoreError::NotFound { what: "secret" })));
    assert!(put(&store, app, "a", sealed(1, "three")).await > second, "a version is never used again");
}

#[tokio::test]
async fn an_older_value_does_not_replace_a_newer_one() {
    let (store, app) = with_app().await;
    let older = store.next_secret_version().await.unwrap();
    let newer = put(&store, app, "a", sealed(1, "newer")).await;
    let late = StoredSecret { version: older, sealed: sealed(1, "older") };
    assert!(!store.put_secret(app, &name("a"), &late).await.unwrap());
    assert_eq!(store.secret(app, &name("a")).await.unwrap().unwrap().version, newer);
}

#[tokio::test]
async fn an_app_has_a_hundred_secrets_at_most() {
    let (store, app) = with_app().await;
    for number in 0..100 {
        put(&store, app, &format!("s{number}"), sealed(1, "x")).await;
    }
    put(&store, app, "s7", sealed(1, "another")).await;
    let version = store.next_secret_version().await.unwrap();
    let one_more = StoredSecret { version, sealed: sealed(1, "x") };
    let refused = store.put_secret(app, &name("s100"), &one_more).await.unwrap_err();
    assert_eq!(refused.to_string(), "an app has at most 100 secrets");
}

#[tokio::test]
async fn a_list_names_the_scripts_that_declare_a_secret() {
    let (store, app) = with_app().await;
    put(&store, app, "b", sealed(1, "x")).await;
    put(&store, app, "a", sealed(1, "x")).await;
    for (script, declared) in [("one", "a"), ("two", "a"), ("three", "c")] {
        let mut uses = Uses::default();
        uses.add(UseKind::Secrets, declared.into());
        let new = NewVersion { uses, ..version(&store, app, script, "1", &[]).await };
        store.put_version(app, &new, VersionCondition::None).await.unwrap();
    }
    let list = store.secrets(app).await.unwrap();
    let shown: Vec<_> = list
        .iter()
        .map(|row| (row.name.as_str(), row.used_by.iter().map(ToString::to_string).collect::<Vec<_>>()))
        .collect();
    assert_eq!(shown, [("a", vec!["one".to_owned(), "two".to_owned()]), ("b", vec![])]);
}

#[tokio::test]
async fn listeners_hear_of_every_change() {
    let (store, app) = with_app().await;
    let mut changes = store.changes().await.unwrap();
    put(&store, app, "a", sealed(1, "x")).await;
    assert_eq!(changes.next().await, Change::App(app));
    store.delete_secret(app, &name("a")).await.unwrap();
    assert_eq!(changes.next().await, Change::App(app));
}

#[tokio::test]
async fn what_is_under_other_keys_is_found_in_parts_and_encrypted_anew() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    for secret in ["a", "b", "c"] {
        put(&store, app, secret, sealed(1, secret)).await;
        put(&store, other, secret, sealed(2, secret)).await;
    }
    assert_eq!(store.secret_keys_in_use().await.unwrap(), [key(1), key(2)]);
    let mut after: Option<PlacedSecret> = None;
    let mut count = 0;
    loop {
        let found = store.secrets_under_other_keys(&key(3), after.as_ref(), 2).await.unwrap();
        let Some(last) = found.last().cloned() else { break };
        for secret in found {
            count += 1;
            assert!(store.reseal_secret(&secret, &sealed(3, "anew")).await.unwrap());
        }
        after = Some(last);
    }
    assert_eq!(count, 6);
    assert_eq!(store.secret_keys_in_use().await.unwrap(), [key(3)]);

    // Set anew or removed in between, it is left alone.
    let version = put(&store, app, "a", sealed(1, "old")).await;
    let stale =
        PlacedSecret { app, name: name("a"), stored: StoredSecret { version, sealed: sealed(1, "old") } };
    put(&store, app, "a", sealed(1, "new")).await;
    assert!(!store.reseal_secret(&stale, &sealed(3, "old")).await.unwrap());
    assert_eq!(store.secret(app, &name("a")).await.unwrap().unwrap().sealed, sealed(1, "new"));
}

#[tokio::test]
async fn secrets_go_with_their_app() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    put(&store, app, "a", sealed(1, "x")).await;
    store.delete_app(app).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM secrets").await, 0);
}
