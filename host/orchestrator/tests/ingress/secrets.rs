//! Secrets and variables, from the database to the scripts that ask for them.

use picloud_core::{
    AppId, Node as _, SealedSecret, SecretKeyId, SecretName, SecretPlace, SecretValue, VariableName,
};
use picloud_store::StoredSecret;

use crate::platform::Platform;

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

/// Sets a secret as the manager does; `place` may name another app than the row's.
async fn set(platform: &Platform, secret: &str, bound_to: AppId, value: &str) {
    let version = platform.store.next_secret_version().await.unwrap();
    let name = name(secret);
    let place = SecretPlace { app: bound_to, name: &name, version };
    let value = SecretValue::new(value.as_bytes().to_vec()).unwrap();
    let sealed = platform.vault.seal(place, &value).unwrap();
    put(platform, &name, StoredSecret { version, sealed }).await;
}

async fn put(platform: &Platform, name: &SecretName, stored: StoredSecret) {
    platform.store.put_secret(platform.demo, name, &stored).await.unwrap();
    platform.node.app_changed(platform.demo).await;
}

#[tokio::test]
async fn a_script_gets_what_it_declares_and_the_next_request_sees_a_new_value() {
    let platform = Platform::start().await;
    platform.get("/secret?declared").await.assert_problem(500, "secret_not_found");
    for value in ["one", "two"] {
        set(&platform, "declared", platform.demo, value).await;
        for _ in 0..2 {
            assert_eq!(platform.get("/secret?declared").await.text(), value);
        }
    }
    set(&platform, "hidden", platform.demo, "x").await;
    platform.get("/secret?hidden").await.assert_problem(500, "secret_not_declared");
    platform.store.delete_secret(platform.demo, &name("declared")).await.unwrap();
    platform.node.app_changed(platform.demo).await;
    platform.get("/secret?declared").await.assert_problem(500, "secret_not_found");
}

#[tokio::test]
async fn a_row_of_another_place_or_under_a_missing_key_is_not_readable() {
    let platform = Platform::start().await;
    set(&platform, "declared", AppId::generate(), "of another app").await;
    platform.get("/secret?declared").await.assert_problem(500, "secret_unreadable");
    let version = platform.store.next_secret_version().await.unwrap();
    let key = SecretKeyId::from_random([7; 8]);
    let sealed = SealedSecret { key, nonce: [0; 24], ciphertext: vec![0; 20] };
    put(&platform, &name("declared"), StoredSecret { version, sealed }).await;
    platform.get("/secret?declared").await.assert_problem(500, "secret_unreadable");
    // It is tried again, not remembered as missing.
    set(&platform, "declared", platform.demo, "back").await;
    assert_eq!(platform.get("/secret?declared").await.text(), "back");
}

#[tokio::test]
async fn a_variable_is_there_from_the_next_request_on() {
    let platform = Platform::start().await;
    let region = VariableName::new("REGION").unwrap();
    assert_eq!(platform.get("/variable?REGION").await.text(), "none");
    for value in ["eu", "us"] {
        platform.store.put_variable(platform.demo, &region, value.into()).await.unwrap();
        platform.node.app_changed(platform.demo).await;
        assert_eq!(platform.get("/variable?REGION").await.text(), value);
    }
}
