//! Executions, logs and usage.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use picloud_core::{
    App, EgressRecord, ErrorCode, EventKind, ExecutionId, ExecutionRecord, Fault, LogLevel, LogLine, Logs,
    Outcome, RequestId, Scope, ScriptName, SourcePosition, Usage,
};
use picloud_store::HistoryBatch;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::Server;

async fn run(server: &Server, app: &App, script: &str, outcome: Outcome, lines: &[&str]) -> ExecutionId {
    let line = |message: &&str| LogLine {
        level: LogLevel::Warn,
        message: (*message).into(),
        at: Duration::from_millis(1),
    };
    let id = ExecutionId::generate();
    let mut batch = HistoryBatch::default();
    batch.keep(ExecutionRecord {
        id,
        request_id: RequestId::generate(),
        app: app.id,
        script: ScriptName::new(script).unwrap(),
        version: 1,
        kind: EventKind::Http,
        origin: None,
        started_at: OffsetDateTime::now_utc(),
        status: Some(if outcome == Outcome::Succeeded { 200 } else { 500 }),
        outcome,
        usage: Usage { fuel: 100, duration: Duration::from_micros(500), ..Usage::default() },
        logs: Logs { lines: lines.iter().map(line).collect(), truncated: false },
        egress: Vec::new(),
    });
    server.store.store_history(&batch).await.unwrap();
    id
}

/// An execution that has called other services.
pub(crate) async fn called(server: &Server, app: &App, egress: Vec<EgressRecord>) -> ExecutionId {
    let id = ExecutionId::generate();
    let mut batch = HistoryBatch::default();
    batch.keep(ExecutionRecord {
        id,
        request_id: RequestId::generate(),
        app: app.id,
        script: ScriptName::new("s").unwrap(),
        version: 1,
        kind: EventKind::Http,
        origin: None,
        started_at: OffsetDateTime::now_utc(),
        status: Some(200),
        outcome: Outcome::Succeeded,
        usage: Usage::default(),
        logs: Logs::default(),
        egress,
    });
    server.store.store_history(&batch).await.unwrap();
    id
}

fn failure() -> Outcome {
    let position = SourcePosition { script: "b".into(), line: 2, column: 3, source_line: "throw 1".into() };
    Outcome::Failed(Fault { code: ErrorCode::ScriptError, message: "1".into(), position: Some(position) })
}

#[tokio::test]
async fn executions_are_listed_newest_first_and_filtered() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let first = run(&server, &app, "a", Outcome::Succeeded, &["one", "two"]).await;
    let second = run(&server, &app, "b", failure(), &[]).await;
    let third = run(&server, &app, "a", Outcome::Succeeded, &[]).await;
    let list =
        async |query: &str| server.get(&format!("/api/v1/apps/demo/executions{query}")).await.items("id");
    let ids = |ids: &[ExecutionId]| ids.iter().map(|id| json!(id)).collect::<Vec<Value>>();
    assert_eq!(list("").await, ids(&[third, second, first]));
    assert_eq!(list("?script=a").await, ids(&[third, first]));
    assert_eq!(list("?outcome=failed").await, ids(&[second]));
    assert_eq!(list("?outcome=ok&limit=1").await, ids(&[third]));
    assert_eq!(list("?outcome=script_error").await, ids(&[second]));
    assert_eq!(list("?outcome=out_of_fuel").await, ids(&[]));
    for bad in ["outcome=bad", "outcome=", "script=..", "from=1"] {
        server.get(&format!("/api/v1/apps/demo/executions?{bad}")).await.problem("invalid");
    }
    let detail = server.get(&format!("/api/v1/apps/demo/executions/{first}")).await.json();
    assert_eq!((&detail["outcome"], &detail["error"]), (&json!("ok"), &Value::Null));
    assert_eq!(detail["logs"][1]["message"], "two");
    assert_eq!(detail["duration_ms"], 0.5);
    let failed = server.get(&format!("/api/v1/apps/demo/executions/{second}")).await.json();
    assert_eq!(failed["outcome"], "script_error");
    assert_eq!((&failed["error"]["line"], &failed["error"]["source_line"]), (&json!(2), &json!("throw 1")));

    server.app("other").await;
    server.get(&format!("/api/v1/apps/other/executions/{first}")).await.problem("not_found");
    assert!(server.get("/api/v1/apps/other/executions").await.items("id").is_empty());
    server.get("/api/v1/apps/demo/executions/x").await.problem("invalid");
}

#[tokio::test]
async fn the_history_of_a_script_that_never_was_is_not_found() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    server.script("demo", "quiet", "1").await;
    run(&server, &app, "deleted", Outcome::Succeeded, &[]).await;
    for list in ["executions?", "logs?", "logs?follow=true&"] {
        let path = format!("/api/v1/apps/demo/{list}script=");
        let unknown = server.get(&format!("{path}nope")).await.problem("script_not_found");
        assert_eq!(unknown["detail"], "no script \"nope\" in app \"demo\"", "{list}");
        for known in ["quiet", "deleted"] {
            let answer = server.call("GET", &format!("{path}{known}")).stream().await;
            assert_eq!(answer.status(), 200, "{list} {known}");
        }
    }
    // A list that was begun goes on, whatever becomes of the script.
    assert_eq!(server.get("/api/v1/apps/demo/logs?script=nope&after=7").await.status, 200);
}

#[tokio::test]
async fn logs_are_read_back_and_on() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    run(&server, &app, "a", Outcome::Succeeded, &["1", "2", "3"]).await;
    run(&server, &app, "b", Outcome::Succeeded, &["4"]).await;
    let logs = async |query: &str| server.get(&format!("/api/v1/apps/demo/logs{query}")).await;
    assert_eq!(logs("").await.items("message"), ["4", "3", "2", "1"]);
    assert_eq!(logs("?script=b").await.items("message"), ["4"]);
    let page = logs("?limit=3").await.json();
    let older = logs(&format!("?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(older.items("message"), ["1"]);
    let position = older.items("position")[0].as_i64().unwrap();
    let on = logs(&format!("?after={position}&limit=2")).await;
    assert_eq!(on.items("message"), ["2", "3"]);
    let rest = logs(&format!("?cursor={}", on.json()["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest.items("message"), ["4"]);
    assert_eq!(rest.json()["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_failure_is_an_entry_of_the_log() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let failed = run(&server, &app, "b", failure(), &["about to"]).await;
    let logs = server.get("/api/v1/apps/demo/logs").await;
    assert_eq!(logs.items("message"), ["1", "about to"]);
    assert_eq!(logs.items("level"), ["error", "warn"]);
    let error = json!({
        "code": "script_error", "message": "1", "script": "b", "line": 2, "column": 3, "source_line": "throw 1",
    });
    assert_eq!(logs.items("error"), [error, Value::Null]);
    let detail = server.get(&format!("/api/v1/apps/demo/executions/{failed}")).await.json();
    assert_eq!(detail["logs"].as_array().unwrap().len(), 1, "the error is told once");
    let mut body = server.call("GET", "/api/v1/apps/demo/logs?follow=true").stream().await.into_body();
    assert_eq!(events(&mut body, 2).await[1].1, "1");
    run(&server, &app, "b", failure(), &[]).await;
    assert_eq!(events(&mut body, 1).await[0].1, "1");
}

/// Reads a stream until it has `count` events, as (id, message).
async fn events(body: &mut Incoming, count: usize) -> Vec<(i64, String)> {
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    let field = |event: &str, name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{event}"))
            .trim()
            .to_owned()
    };
    let read = |event: &str| {
        assert_eq!(field(event, "event:"), "log");
        let line: Value = serde_json::from_str(&field(event, "data:")).unwrap();
        (field(event, "id:").parse().unwrap(), line["message"].as_str().unwrap().to_owned())
    };
    text.split_terminator("\n\n").map(read).collect()
}

#[tokio::test]
async fn a_log_can_be_followed_and_taken_up_again() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    run(&server, &app, "a", Outcome::Succeeded, &["1", "2"]).await;
    let call = || server.call("GET", "/api/v1/apps/demo/logs?follow=true&limit=1");
    let response = call().stream().await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = events(&mut body, 1).await;
    assert_eq!(first[0].1, "2");
    run(&server, &app, "a", Outcome::Succeeded, &["3", "4\nand more"]).await;
    let messages = |events: &[(i64, String)]| events.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
    assert_eq!(messages(&events(&mut body, 2).await), ["3", "4\nand more"]);
    drop(body);
    let mut again = call().header("last-event-id", &first[0].0.to_string()).stream().await.into_body();
    assert_eq!(messages(&events(&mut again, 2).await), ["3", "4\nand more"]);
    call().header("last-event-id", "x").send().await.problem("bad_request");
}

#[tokio::test]
async fn a_shutdown_ends_streams() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    run(&server, &app, "a", Outcome::Succeeded, &["1"]).await;
    let mut body = server.call("GET", "/api/v1/apps/demo/logs?follow=true").stream().await.into_body();
    events(&mut body, 1).await;
    drop(server);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn usage_is_added_up_by_hour_or_day_and_script() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    for _ in 0..3 {
        run(&server, &app, "a", Outcome::Succeeded, &[]).await;
    }
    run(&server, &app, "b", failure(), &[]).await;
    run(&server, &app, "b", Outcome::Succeeded, &[]).await;
    let usage = async |query: &str| server.get(&format!("/api/v1/apps/demo/usage{query}")).await;
    let answer = usage("").await;
    assert_eq!(answer.items("script"), ["a", "b"]);
    assert_eq!(answer.items("invocations"), [3, 2]);
    assert_eq!(answer.items("errors"), [json!({}), json!({ "script_error": 1 })]);
    assert_eq!(answer.items("fuel_used"), [300, 200]);
    let totals = &answer.json()["totals"];
    assert_eq!((&totals["invocations"], &totals["fuel_used"]), (&json!(5), &json!(500)));
    assert_eq!((&totals["errors"], &totals["duration_ms"]), (&json!({ "script_error": 1 }), &json!(2.5)));
    let median = totals["p50_ms"].as_f64().unwrap();
    assert!((0.5..=0.5625).contains(&median), "{median}");

    let days = usage("?by=day").await;
    assert_eq!((days.items("invocations"), &days.json()["by"]), (vec![json!(3), json!(2)], &json!("day")));
    let first = usage("?limit=1").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = usage(&format!("?limit=1&cursor={cursor}")).await;
    assert_eq!(second.items("script"), ["b"]);
    assert_eq!(second.json()["totals"], *totals, "the totals are those of the range, not of the page");

    let before = usage("?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").await.json();
    assert_eq!((&before["items"], &before["totals"]["p99_ms"]), (&json!([]), &Value::Null));
    for bad in [
        "from=x",
        "by=week",
        "hours=24",
        "cursor=x",
        "limit=0",
        "from=2020-01-01T00:00:00Z&to=2020-03-01T00:00:00Z",
        "from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z",
        "from=-9999-01-01T00:00:00Z",
    ] {
        usage(&format!("?{bad}")).await.problem("invalid");
    }
}

#[tokio::test]
async fn owners_see_what_every_app_uses_and_which_are_near_a_limit() {
    let server = Server::start().await;
    let (busy, full) = (server.app("busy").await, server.app("full").await);
    server.app("quiet").await;
    run(&server, &busy, "a", failure(), &[]).await;
    let limits = |app: &str| server.call("PUT", &format!("/api/v1/apps/{app}/limits"));
    let mut batch = HistoryBatch::default();
    let usage = Usage { fuel: 84_900, duration: Duration::from_micros(500), ..Usage::default() };
    let script = ScriptName::new("a").unwrap();
    batch.count(busy.id, &script, OffsetDateTime::now_utc(), None, &usage);
    batch.peak(busy.id, OffsetDateTime::now_utc(), 16);
    server.store.store_history(&batch).await.unwrap();
    limits("busy").json(&json!({ "fuel_per_hour": 100_000, "fuel_per_day": 1_000_000 })).send().await;
    let entry =
        server.call("PUT", "/api/v1/apps/full/kv/c/k").json(&json!({ "value": "x".repeat(96) })).send().await;
    assert_eq!(entry.status, 200);
    limits("full").json(&json!({ "kv_bytes": 100 })).send().await;

    let answer = server.get("/api/v1/usage").await;
    assert_eq!(answer.items("app"), ["busy", "full", "quiet"]);
    assert_eq!(answer.items("fuel_of_hour"), [85_000, 0, 0]);
    assert_eq!(answer.items("invocations_of_day"), [2, 0, 0]);
    assert_eq!(answer.items("failures_of_day"), [1, 0, 0]);
    let near = answer.items("near");
    assert_eq!(
        near[0],
        json!([
            { "limit": "concurrency", "used": 16, "most": 16, "percent": 100 },
            { "limit": "fuel_per_hour", "used": 85_000, "most": 100_000, "percent": 85 },
        ])
    );
    assert_eq!((&near[1][0]["limit"], &near[2]), (&json!("kv_bytes"), &json!([])));
    assert_eq!(near[1][0]["used"].as_u64().unwrap(), full_bytes(&server, &full).await);
    let page = server.get("/api/v1/usage?limit=2").await.json();
    let rest = server.get(&format!("/api/v1/usage?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest.items("app"), ["quiet"]);
}

async fn full_bytes(server: &Server, app: &App) -> u64 {
    server.store.kv_used_bytes(&[app.id]).await.unwrap()[0].1
}

#[tokio::test]
async fn who_may_not_read_a_log_any_more_does_not_follow_it_any_more() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let member = server.user("vic", picloud_core::InstanceRole::Member).await;
    server.store.put_member(app.id, member.id, picloud_core::AppRole::Viewer).await.unwrap();
    let token = server.token_of(member.id, &[Scope::LogRead], None).await;
    let call = server.anonymous("GET", "/api/v1/apps/demo/logs?follow=true").token(&token);
    let mut body = call.stream().await.into_body();
    server.call("DELETE", "/api/v1/apps/demo/members/vic").send().await;
    let ended =
        tokio::time::timeout(Duration::from_secs(20), async { while body.frame().await.is_some() {} });
    ended.await.expect("the stream ends");
}
