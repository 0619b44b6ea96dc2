//! What is remembered of events for a time goes when that is over, and nothing else.

use picloud_store::testing::TestDatabase;

use crate::fixture::app_name;

#[tokio::test]
async fn what_has_expired_goes_in_batches_and_the_rest_stays() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    database
        .execute(&format!(
            "INSERT INTO queue_dedupe_keys
            SELECT '{app}', 'jobs', n::text, gen_random_uuid(), now() + (n - 3) * interval '1 hour' - interval '1 s'
            FROM generate_series(1, 5) n;
            INSERT INTO idempotency_keys (app_id, scope, key, request, expires_at)
            SELECT '{app}', decode(repeat('00', 32), 'hex'), n::text, decode(repeat('00', 32), 'hex'),
                now() + (n - 3) * interval '1 hour' - interval '1 s'
            FROM generate_series(1, 5) n;
            INSERT INTO event_results (event_id, app_id, expires_at)
            SELECT gen_random_uuid(), '{app}', now() + (n - 3) * interval '1 hour' - interval '1 s'
            FROM generate_series(1, 5) n"
        ))
        .await;
    for round in [2, 1, 0] {
        assert_eq!(store.remove_expired_dedupe_keys(2).await.unwrap(), round);
        assert_eq!(store.remove_expired_idempotency_keys(2).await.unwrap(), round);
        assert_eq!(store.remove_expired_results(2).await.unwrap(), round);
    }
    for table in ["queue_dedupe_keys", "idempotency_keys", "event_results"] {
        assert_eq!(database.number(&format!("SELECT count(*) FROM {table}")).await, 2, "{table}");
        let kept = format!("SELECT count(*) FROM {table} WHERE expires_at > now()");
        assert_eq!(database.number(&kept).await, 2, "{table}");
    }
}

#[tokio::test]
async fn the_next_entry_to_expire_is_known() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let entry = |key: &str, expires: &str| {
        format!(
            "INSERT INTO kv (app_id, collection, key, value, version, expires_at)
            VALUES ('{app}', 'c', '{key}', '1', 1, {expires})"
        )
    };
    database.execute(&entry("always", "NULL")).await;
    assert_eq!(store.kv_next_expiry().await.unwrap(), None);
    database.execute(&entry("later", "now() + interval '1 hour'")).await;
    let next = store.kv_next_expiry().await.unwrap().unwrap().as_secs();
    assert!((3500..=3600).contains(&next), "{next}");
    database.execute(&entry("gone", "now() - interval '1 hour'")).await;
    assert!(store.kv_next_expiry().await.unwrap().unwrap().is_zero());
    assert_eq!(store.kv_remove_expired(10).await.unwrap(), 1);
    assert!(!store.kv_next_expiry().await.unwrap().unwrap().is_zero());
}
