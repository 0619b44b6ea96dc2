//! Budgets of fuel, limits of scripts, requests a second, and that the counters agree with what ran.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use picloud_core::{DirectCall, ErrorCode, LimitField, Node as _, RequestId, ScriptLimitsPatch, ScriptName};
use picloud_store::{Store, UsageCounts, UsagePeriod, UsageRange};
use time::OffsetDateTime;

use crate::platform::{Platform, request, soon, until};

/// What each of the test's scripts uses.
const RUN: u64 = 1_000;

fn call(platform: &Platform) -> DirectCall {
    DirectCall {
        app: platform.demo,
        script: ScriptName::new("hello").unwrap(),
        event: "1".to_owned(),
        request_id: RequestId::generate(),
    }
}

async fn totals(store: &Store, app: picloud_core::AppId) -> UsageCounts {
    let now = OffsetDateTime::now_utc();
    let day = Duration::from_hours(24);
    let range = UsageRange { from: now - day, to: now + day, by: UsagePeriod::Hour };
    store.usage_totals(app, range).await.unwrap()
}

#[tokio::test]
async fn an_app_over_its_budget_is_429_until_the_hour_is_over() {
    let platform = Platform::start().await;
    platform.limit(LimitField::FuelPerHour, 3 * RUN).await;
    for _ in 0..2 {
        assert_eq!(platform.get("/hello").await.status, 200);
    }
    platform.get("/fail").await.assert_problem(500, "script_error");
    let refused = platform.get("/hello").await;
    refused.assert_problem(429, "fuel_budget_exceeded");
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    let left = 3_600 - OffsetDateTime::now_utc().unix_timestamp() % 3_600;
    assert!((left..=left + 20).contains(&i64::from(wait)) || left < 5, "{wait} {left}");
    let told = refused.json()["detail"].to_string();
    assert!(!told.contains("3000"), "how much an app has is not the public's to know: {told}");

    let direct = platform.node.invoke(call(&platform)).await;
    let fault = direct.outcome.unwrap_err();
    assert_eq!((fault.code, direct.execution), (ErrorCode::FuelBudget, None));
    assert!(fault.message.contains("has used 3000 units of fuel; its limit fuel_per_hour is 3000"));
    assert!(direct.retry_after.is_some_and(|wait| (1..=3_600).contains(&wait)));

    // More budget, and it goes on; the day counts what the hour counted.
    platform.limit(LimitField::FuelPerHour, 100 * RUN).await;
    assert!(platform.node.invoke(call(&platform)).await.outcome.is_ok());
    platform.limit(LimitField::FuelPerDay, 4 * RUN).await;
    platform.get("/hello").await.assert_problem(429, "fuel_budget_exceeded");
    assert_eq!((platform.node.status().running, platform.node.status().waiting), (0, 0));
    let metrics = platform.node.metrics();
    assert!(
        metrics.contains("picloud_admission_refusals_total{reason=\"fuel_budget_exceeded\"} 3"),
        "{metrics}"
    );

    let demo = platform.demo;
    let (store, _) = platform.finish().await;
    let totals = totals(&store, demo).await;
    assert_eq!((totals.invocations, totals.fuel), (4, 4 * RUN), "refusals use nothing");
    assert_eq!(totals.errors.get("script_error"), Some(&1));
}

#[tokio::test]
async fn many_at_once_go_over_a_budget_by_what_runs_at_that_moment_and_no_more() {
    let platform = Platform::start().await;
    platform.limit(LimitField::Concurrency, 4).await;
    platform.limit(LimitField::FuelPerHour, 50 * RUN).await;
    let answers = futures_util::future::join_all((0..200).map(|_| platform.get("/hello"))).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count() as u64;
    assert!((50..50 + 4).contains(&passed), "{passed}");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        refused.assert_problem(429, "fuel_budget_exceeded");
        assert!(refused.header("retry-after").is_some());
    }
    let demo = platform.demo;
    let (store, _) = platform.finish().await;
    let totals = totals(&store, demo).await;
    assert_eq!((totals.invocations, totals.fuel), (passed, passed * RUN));
    let used = store.usage_of_apps(&[demo], OffsetDateTime::now_utc()).await.unwrap()[0];
    assert!((1..=4).contains(&used.peak_concurrency), "{used:?}");
}

#[tokio::test]
async fn a_node_that_starts_knows_what_was_used() {
    let platform = Platform::start().await;
    platform.limit(LimitField::FuelPerDay, 5 * RUN).await;
    for _ in 0..5 {
        assert_eq!(platform.get("/hello").await.status, 200);
    }
    let (demo, call) = (platform.demo, call(&platform));
    platform.node.shutdown().await;
    let before = totals(&platform.store, demo).await;
    assert_eq!((before.invocations, before.fuel), (5, 5 * RUN));

    let again = platform.other_node().await;
    let refused = again.invoke(call).await.outcome.unwrap_err();
    assert_eq!(refused.code, ErrorCode::FuelBudget);
    again.shutdown().await;
    assert_eq!(totals(&platform.store, demo).await, before);
}

/// What one node uses the other hears of when it stores its own.
#[tokio::test]
async fn nodes_learn_of_each_others_use() {
    let platform = Platform::start().await;
    platform.limit(LimitField::FuelPerDay, 5 * RUN).await;
    let other = platform.other_node().await;
    for _ in 0..5 {
        assert!(other.invoke(call(&platform)).await.outcome.is_ok());
    }
    other.shutdown().await;
    let mut passed = 0;
    while platform.node.invoke(call(&platform)).await.outcome.is_ok() {
        passed += 1;
        soon(async { while totals(&platform.store, platform.demo).await.invocations < 5 + passed {} }).await;
    }
    assert!(passed < 5, "its own counters alone would let five pass");
    let demo = platform.demo;
    let (store, _) = platform.finish().await;
    assert_eq!(totals(&store, demo).await.invocations, 5 + passed);
}

#[tokio::test]
async fn who_goes_away_pays_for_what_was_used() {
    let platform = Platform::start().await;
    for _ in 0..3 {
        let mut client = platform.client().await;
        let before = platform.scripts.holding.load(SeqCst);
        client.send(request("GET", "/hold", &[])).await;
        until(|| platform.scripts.holding.load(SeqCst) > before).await;
        drop(client);
        until(|| platform.node.status().running == 0).await;
    }
    // The script had used 700 each time when it was given up.
    platform.limit(LimitField::FuelPerHour, 2_100).await;
    platform.get("/hello").await.assert_problem(429, "fuel_budget_exceeded");
    let demo = platform.demo;
    let (store, _) = platform.finish().await;
    let totals = totals(&store, demo).await;
    assert_eq!((totals.fuel, totals.errors.get("client_gone")), (2_100, Some(&3)));
}

#[tokio::test]
async fn an_app_that_is_deleted_takes_its_counters_along() {
    let platform = Platform::start().await;
    assert_eq!(platform.get("/hello").await.status, 200);
    let mut client = platform.client().await;
    client.send(request("GET", "/hold", &[])).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    platform.store.delete_app(platform.demo).await.unwrap();
    platform.node.app_changed(platform.demo).await;
    client.answer().await.unwrap().assert_problem(404, "app_not_found");
    let demo = platform.demo;
    let metrics = Arc::clone(&platform.node);
    let (store, _) = platform.finish().await;
    assert_eq!(totals(&store, demo).await, UsageCounts::default());
    assert!(metrics.metrics().contains("picloud_history_dropped_total 0"), "nothing is lost that has an app");
}

#[tokio::test]
async fn a_script_has_limits_of_its_own() {
    let platform = Platform::start().await;
    let mut patch = ScriptLimitsPatch::default();
    patch.set(LimitField::WallMs, Some(50));
    let hold = ScriptName::new("hold").unwrap();
    platform.store.patch_script_limits(platform.demo, &hold, &patch).await.unwrap();
    platform.node.app_changed(platform.demo).await;
    platform.get("/hold").await.assert_problem(504, "deadline_exceeded");
    assert_eq!(platform.get("/hello").await.status, 200);
}

#[tokio::test]
async fn an_app_takes_so_many_requests_a_second() {
    let platform = Platform::start().await;
    platform.limit(LimitField::RequestsPerSecond, 1).await;
    assert_eq!(platform.get("/hello").await.status, 200);
    let answers = futures_util::future::join_all((0..20).map(|_| platform.get("/hello"))).await;
    let refused = answers.iter().find(|answer| answer.status == 429).expect("20 in a second are too many");
    refused.assert_problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("this app takes 1/s requests"), "{}", refused.text());
    assert!(
        platform.node.metrics().contains("picloud_access_refusals_total{reason=\"requests_per_second\"}")
    );
}

/// Each answer of the database may be cut off, also that to a commit: a batch is tried again, and counts once.
#[tokio::test]
async fn counters_are_exact_however_often_connections_break() {
    let platform = Platform::start().await;
    for _ in 0..20 {
        let answers = futures_util::future::join_all((0..25).map(|_| platform.get("/hello"))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        platform.database.terminate_connections().await;
    }
    let (demo, database) = (platform.demo, platform.database.clone());
    let (store, _) = platform.finish().await;
    drop(store);
    let totals = totals(&database.store().await, demo).await;
    assert_eq!((totals.invocations, totals.fuel, totals.errors.len()), (500, 500 * RUN, 0));
}
