//! The audit log, as the database keeps it.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use picloud_core::RequestId;
use picloud_store::{AuditFilter, NewAuditEntry, PageSize, Store, testing::TestDatabase};

async fn append(store: &Store, target: &str) {
    let entry = NewAuditEntry {
        request: RequestId::generate(),
        principal: None,
        token: None,
        session: None,
        address: None,
        action: "sign_in",
        capability: None,
        app: None,
        target: Some(target.to_owned()),
        detail: None,
        outcome: "ok",
    };
    store.append_audit(&entry).await.unwrap();
}

async fn targets(store: &Store) -> Vec<String> {
    let page = store.audit(&AuditFilter::default(), None, PageSize::MAX).await.unwrap();
    page.items.into_iter().filter_map(|entry| entry.target).collect()
}

#[tokio::test]
async fn entries_can_be_neither_changed_nor_removed() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    append(&store, "kept").await;
    for sql in [
        "UPDATE audit_log SET outcome = 'ok'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "BEGIN; SET LOCAL picloud.audit_retention_days = '0'; DELETE FROM audit_log; COMMIT",
        "BEGIN; SET LOCAL picloud.audit_retention_days = '-5'; DELETE FROM audit_log; COMMIT",
        "BEGIN; SET LOCAL picloud.audit_retention_days = '1'; DELETE FROM audit_log; COMMIT",
    ] {
        let refused = AssertUnwindSafe(database.execute(sql)).catch_unwind().await;
        assert!(refused.is_err(), "{sql}");
    }
    assert_eq!(targets(&store).await, ["kept"]);
}

#[tokio::test]
async fn retention_removes_what_is_old_enough_a_batch_at_a_time() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    for target in ["old", "older", "young"] {
        append(&store, target).await;
    }
    database
        .execute(
            "ALTER TABLE audit_log DISABLE TRIGGER append_only;
            UPDATE audit_log SET at = now() - interval '31 days' WHERE target LIKE 'old%';
            ALTER TABLE audit_log ENABLE TRIGGER append_only",
        )
        .await;
    assert_eq!(store.remove_old_audit(365, 10).await.unwrap(), 0);
    assert_eq!(store.remove_old_audit(30, 1).await.unwrap(), 1);
    assert_eq!(store.remove_old_audit(30, 10).await.unwrap(), 1);
    assert_eq!(store.remove_old_audit(0, 10).await.unwrap(), 0, "a day is kept in any case");
    assert_eq!(targets(&store).await, ["young"]);
}

#[tokio::test]
async fn what_an_entry_says_is_cut_and_printable() {
    let store = TestDatabase::create().await.store().await;
    append(&store, &format!("\0{}", "x".repeat(5000))).await;
    let targets = targets(&store).await;
    assert_eq!((targets[0].len(), targets[0].starts_with('\u{2400}')), (1024, true));
}
