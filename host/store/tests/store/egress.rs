//! What scripts may call, and what they called.

use picloud_core::{EgressRecord, EgressRules, EgressScheme, ErrorCode, ExecutionId, ExecutionRecord};
use picloud_store::HistoryBatch;

use crate::{fixture::with_app, history::record};

fn rules(places: &[&str]) -> EgressRules {
    EgressRules { allow: places.iter().map(|place| place.parse().unwrap()).collect() }
}

#[tokio::test]
async fn an_allow_list_is_empty_at_first_and_replaced_whole() {
    let (store, app) = with_app().await;
    assert_eq!(store.egress_rules(app).await.unwrap(), EgressRules::default());
    for places in [&["a.example", "http://192.168.1.20:8080"][..], &["*.b.example"], &[]] {
        store.put_egress_rules(app, &rules(places)).await.unwrap();
        assert_eq!(store.egress_rules(app).await.unwrap(), rules(places));
        let directory = store.directory_of(app).await.unwrap().unwrap();
        assert_eq!(directory.egress, rules(places));
    }
}

#[tokio::test]
async fn what_was_called_is_kept_with_its_execution() {
    let (store, app) = with_app().await;
    let call = |path: &str, error: Option<ErrorCode>| EgressRecord {
        method: "POST".into(),
        scheme: Some(EgressScheme::Https),
        host: "api.example.com".into(),
        port: 443,
        path: path.into(),
        status: error.map_or(Some(200), |_| None),
        error,
        bytes_sent: 3,
        bytes_received: 5,
        duration_ms: 7,
    };
    let calls = vec![call("/one", None), call("/two", Some(ErrorCode::EgressDenied))];
    let (with, without) = (ExecutionId::generate(), ExecutionId::generate());
    let mut batch = HistoryBatch::default();
    batch.keep(ExecutionRecord { egress: calls.clone(), ..record(app, with) });
    batch.keep(record(app, without));
    store.store_history(&batch).await.unwrap();
    assert_eq!(store.execution_egress(app, with).await.unwrap(), calls);
    assert_eq!(store.execution_egress(app, without).await.unwrap(), []);
    let (_, other) = with_app().await;
    assert_eq!(store.execution_egress(other, with).await.unwrap(), [], "of another app");
}
