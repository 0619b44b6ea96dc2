//! Effects, their commits, and the history.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use futures_util::future::join_all;
use picloud_core::{DirectCall, ErrorCode, LimitField, Node as _, RequestId, ScriptName};
use picloud_store::{ExecutionFilter, LogContent, LogEntry, PageSize, UsagePeriod, UsageRange};
use time::OffsetDateTime;

use crate::{
    platform::{Platform, soon, until},
    scripts::id,
};

#[tokio::test]
async fn concurrent_read_modify_writes_all_count() {
    let platform = Platform::start().await;
    // All of them read before any of them commits: but one conflict.
    platform.scripts.readers.store(16, SeqCst);
    let answers = join_all((0..16).map(|_| platform.get("/count"))).await;
    let mut numbers: Vec<u64> = answers.iter().map(|answer| answer.text().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    let entry = platform.store.kv_get(platform.demo, &id("n")).await.unwrap().unwrap();
    assert_eq!(&*entry.value, "16");
    // Once to conflict, and once more under the locks.
    assert_eq!(platform.scripts.attempts.load(SeqCst), 31);
}

#[tokio::test]
async fn an_answer_that_is_refused_has_no_effect() {
    let platform = Platform::start().await;
    platform.limit(LimitField::ResponseBytes, 3).await;
    platform.post("/store?k", "1").await.assert_problem(502, "bad_response");
    assert_eq!(platform.store.kv_get(platform.demo, &id("k")).await.unwrap(), None);
}

#[tokio::test]
async fn data_over_the_quota_is_refused_until_there_is_room() {
    let platform = Platform::start().await;
    platform.limit(LimitField::KvBytes, 100).await;
    let value = format!("\"{}\"", "x".repeat(60));
    assert_eq!(platform.post("/store?a", &value).await.status, 200);
    let full = platform.post("/store?b", &value).await;
    full.assert_problem(429, "kv_quota_exceeded");
    assert_eq!(full.header("retry-after"), Some("1"));
    assert_eq!(platform.store.kv_get(platform.demo, &id("b")).await.unwrap(), None);

    platform.store.kv_delete(platform.demo, &id("a"), None).await.unwrap();
    soon(async { while platform.post("/store?b", &value).await.status != 200 {} }).await;
}

#[tokio::test]
async fn without_a_database_only_what_needs_none_is_served() {
    let platform = Platform::start().await;
    platform.store.close().await;
    assert_eq!(platform.get("/hello").await.text(), "hello");
    for path in ["/count", "/two"] {
        let answer = platform.get(path).await;
        answer.assert_problem(503, "database_unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    platform.post("/store?k", "1").await.assert_problem(503, "database_unavailable");
}

#[tokio::test]
async fn the_history_keeps_failures_and_a_sample_and_counts_everything() {
    let platform = Platform::with(|config| config.history.successes_per_second = 0).await;
    let started = OffsetDateTime::now_utc();
    let failed = platform.get("/fail").await;
    for _ in 0..5 {
        assert_eq!(platform.get("/hello").await.status, 200);
    }
    let demo = platform.demo;
    let metrics = platform.node.metrics();
    assert!(metrics.contains("picloud_invocations_total{outcome=\"ok\"} 5"), "{metrics}");
    assert!(metrics.contains("picloud_requests_total{status=\"5xx\"} 1"), "{metrics}");
    let (store, _) = platform.finish().await;

    let kept = store.executions(demo, &ExecutionFilter::default(), None, PageSize::default()).await.unwrap();
    assert_eq!(kept.items.len(), 1);
    let kept = &kept.items[0];
    assert_eq!(Some(kept.id.to_string().as_str()), failed.header("picloud-request-id"));
    let logs = store.execution_logs(demo, kept.id).await.unwrap();
    let said = |entry: &LogEntry| match &entry.content {
        LogContent::Line { message, .. } => message.clone(),
        LogContent::Failure(fault) => fault.code.to_string(),
    };
    assert_eq!(logs.iter().map(said).collect::<Vec<_>>(), ["about to fail"]);

    let hour = Duration::from_hours(1);
    let range = UsageRange { from: started - hour, to: started + hour, by: UsagePeriod::Hour };
    let usage = store.usage(demo, range, None, PageSize::default()).await.unwrap().items;
    let counted: Vec<_> = usage
        .iter()
        .map(|row| (row.script.as_str(), row.counts.invocations, row.counts.errors.get("script_error")))
        .collect();
    assert_eq!(counted, [("fail", 1, Some(&1)), ("hello", 5, None)]);
    assert_eq!(usage[1].counts.fuel, 5000);
}

#[tokio::test]
async fn the_history_is_stored_while_the_node_runs() {
    let platform = Platform::start().await;
    let id = platform.get("/hello").await.header("picloud-request-id").unwrap().to_owned();
    soon(async {
        while platform.store.execution(platform.demo, id.parse().unwrap()).await.unwrap().is_none() {}
    })
    .await;
}

#[tokio::test]
async fn a_direct_call_goes_the_same_way() {
    let platform = Platform::start().await;
    let call = |script: &str| DirectCall {
        app: platform.demo,
        script: ScriptName::new(script).unwrap(),
        event: r#"{"a":1}"#.into(),
        request_id: RequestId::generate(),
    };
    let result = platform.node.invoke(call("hello")).await;
    assert_eq!(result.outcome.unwrap(), r#"{"a":1}"#);
    assert!(result.execution.is_some());
    assert_eq!(result.usage.fuel, 1000);
    let missing = platform.node.invoke(call("missing")).await;
    assert_eq!(missing.outcome.unwrap_err().code, ErrorCode::ScriptNotFound);
    assert_eq!(missing.execution, None);
    until(|| platform.node.status().running == 0).await;
}
