//! Durable and asynchronous routes, and requests under an `Idempotency-Key`.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use picloud_core::{
    CallbackUrl, Change, EgressRules, ErrorCode, MethodSet, Node as _, Rehearsal, RehearsedEvent,
    RetryPolicy, RouteMode,
};
use picloud_store::{DeadLetterFilter, PageSize};

use crate::{
    client::Answer,
    platform::{Platform, post, soon, until},
    scripts::id,
};

async fn with(mode: RouteMode, scripts: &[&str]) -> Platform {
    let platform = Platform::with(|config| {
        config.triggers.retry =
            RetryPolicy { max_attempts: 2, base_delay: Duration::ZERO, ..RetryPolicy::default() };
    })
    .await;
    for script in scripts {
        let path = format!("/kept/{script}");
        platform.guarded_route(MethodSet::ANY, &path, script, |route| route.mode = Some(mode)).await;
    }
    platform
}

impl Platform {
    /// Asks for what became of an asynchronous request until that is known.
    async fn outcome(&self, accepted: &Answer) -> serde_json::Value {
        let url = accepted.json()["status_url"].as_str().unwrap().to_owned();
        soon(async {
            loop {
                let status = self.get(&url).await;
                assert_eq!((status.status, status.header("cache-control")), (200, Some("no-store")));
                if status.json()["state"] != "pending" {
                    return status.json();
                }
            }
        })
        .await
    }

    async fn keyed(&self, path: &str, key: &str, body: &str) -> Answer {
        self.raw(keyed(path, key, body)).await
    }
}

fn keyed(path: &str, key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: demo.localhost\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn an_asynchronous_request_is_accepted_and_its_answer_can_be_asked_for() {
    let platform = with(RouteMode::Async, &["echo"]).await;
    let accepted = platform.post("/kept/echo?a=1", "hi").await;
    assert_eq!(accepted.status, 202);
    let id = accepted.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(accepted.header("location"), Some(format!("/.picloud/events/{id}").as_str()));
    let outcome = platform.outcome(&accepted).await;
    assert_eq!((&outcome["id"], &outcome["state"]), (&id.into(), &"done".into()));
    assert_eq!(outcome["answer"]["status"], 200);
    let seen: serde_json::Value = serde_json::from_str(outcome["answer"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&seen["method"], &seen["query"], &seen["body"]),
        (&"POST".into(), &"a=1".into(), &"hi".into())
    );
    assert_eq!(seen["id"].as_str(), accepted.header("picloud-request-id"));
    platform.until_rows("outbox", 0).await;
    platform
        .get("/.picloud/events/0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b")
        .await
        .assert_problem(404, "not_found");
    platform.get("/.picloud/events/x").await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn an_asynchronous_request_that_fails_is_tried_again_and_then_a_dead_letter() {
    let platform = with(RouteMode::Async, &["fail"]).await;
    let accepted = platform.post("/kept/fail", "").await;
    let outcome = platform.outcome(&accepted).await;
    assert_eq!((&outcome["state"], &outcome["error"]["code"]), (&"dead".into(), &"script_error".into()));
    assert!(!outcome.to_string().contains("secret"), "what the script said is for its owner");
    let size = PageSize::new(9).unwrap();
    let letters =
        platform.store.dead_letters(platform.demo, &DeadLetterFilter::default(), None, size).await.unwrap();
    assert_eq!((letters.items.len(), letters.items[0].attempts), (1, 2));
    assert_eq!(letters.items[0].error, "the secret is 42");

    // What another script would have answered can be tried, and nothing of it is done.
    let letter = platform.store.dead_letter(platform.demo, letters.items[0].id).await.unwrap().unwrap();
    let rehearsal = |script: &str, event| {
        let script = picloud_core::ScriptName::new(script).unwrap();
        platform.node.rehearse(Rehearsal { app: platform.demo, script, version: None, event })
    };
    let request = RehearsedEvent::Request(letter.payload);
    let tried = rehearsal("count", request.clone()).await;
    let answer: serde_json::Value = serde_json::from_str(&tried.outcome.unwrap()).unwrap();
    assert_eq!((&answer["status"], &answer["body"], tried.effects.kv.len()), (&200.into(), &"1".into(), 1));
    assert!(platform.store.kv_get(platform.demo, &id("n")).await.unwrap().is_none());
    assert_eq!(rehearsal("fail", request).await.outcome.unwrap_err().message, "the secret is 42");
    let wrong = rehearsal("count", RehearsedEvent::Request("{}".to_owned())).await;
    assert_eq!(wrong.outcome.unwrap_err().code, ErrorCode::Invalid);
}

#[tokio::test]
async fn what_became_of_a_request_is_sent_to_its_callback() {
    let platform = with(RouteMode::Async, &[]).await;
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", receiver.local_addr().unwrap());
    let place = format!("http://{}", receiver.local_addr().unwrap());
    let rules = EgressRules { allow: vec![place.parse().unwrap()] };
    platform.store.put_egress_rules(platform.demo, &rules).await.unwrap();
    for script in ["hello", "fail"] {
        let guard = |route: &mut picloud_store::NewRoute| {
            route.mode = Some(RouteMode::Async);
            route.callback_url = Change::Set(CallbackUrl::new(url.clone()).unwrap());
        };
        platform.guarded_route(MethodSet::ANY, &format!("/{script}-later"), script, guard).await;
        let accepted = platform.post(&format!("/{script}-later"), "").await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let sent = soon(received(&receiver)).await;
        assert_eq!(sent["id"], accepted.json()["id"]);
        let state = if script == "hello" { "done" } else { "dead" };
        assert_eq!(sent["state"], state, "{sent}");
    }
    platform.until_rows("outbox", 0).await;
}

/// Reads a request and answers it.
async fn received(listener: &tokio::net::TcpListener) -> serde_json::Value {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the request ended early");
        request.extend_from_slice(&part[..read]);
        let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        if let Ok(body) = serde_json::from_slice(&request[head + 4..]) {
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            return body;
        }
    }
}

#[tokio::test]
async fn a_durable_request_is_answered_when_it_has_left_the_outbox() {
    let platform = with(RouteMode::Durable, &["count", "fail"]).await;
    for expected in ["1", "2"] {
        assert_eq!(platform.post("/kept/count", "").await.text(), expected);
        assert_eq!(platform.rows("outbox").await, 0);
    }
    platform.post("/kept/fail", "").await.assert_problem(500, "script_error");
    assert_eq!((platform.rows("outbox").await, platform.rows("dead_letters").await), (0, 0));
    assert_eq!(platform.rows("abandoned_executions").await, 0);
}

#[tokio::test]
async fn a_durable_request_runs_to_its_end_also_when_its_caller_goes() {
    let platform = with(RouteMode::Durable, &["hold"]).await;
    let mut client = platform.client().await;
    client.send(post("/kept/hold", "")).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    assert_eq!(platform.rows("outbox").await, 1);
    drop(client);
    // Another request shows that the server has seen the end of the first; then the run may end.
    platform.get("/hello").await;
    platform.scripts.release.add_permits(1);
    platform.until_rows("outbox", 0).await;
    platform.until_rows("abandoned_executions", 1).await;
    let recorded = "SELECT status FROM abandoned_executions WHERE script = 'hold' AND error_code IS NULL";
    assert_eq!(platform.database.number(&recorded.replace("status", "status::bigint")).await, 200);
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_and_runs_once() {
    for mode in RouteMode::ALL {
        let platform = with(*mode, &["count"]).await;
        let first = platform.keyed("/kept/count", "k1", "a").await;
        let again = platform.keyed("/kept/count", "k1", "a").await;
        assert_eq!((again.status, again.text()), (first.status, first.text()), "{mode}");
        assert_eq!(again.header("picloud-idempotent-replay"), Some("true"), "{mode}");
        assert_eq!(first.header("picloud-idempotent-replay"), None, "{mode}");
        platform.keyed("/kept/count", "k1", "b").await.assert_problem(409, "idempotency_conflict");
        platform.until_rows("outbox", 0).await;
        let counted = platform.store.kv_get(platform.demo, &id("n")).await.unwrap().unwrap();
        assert_eq!(&*counted.value, "1", "{mode}");
        // Another key, another caller and another route are other requests.
        let other = platform.keyed("/kept/count", "k2", "a").await;
        assert_eq!(other.header("picloud-idempotent-replay"), None, "{mode}");
    }
}

#[tokio::test]
async fn a_key_is_busy_while_its_request_runs_and_free_after_a_failure() {
    let platform = with(RouteMode::Sync, &["hold", "fail"]).await;
    let first = platform.keyed("/kept/hold", "k", "");
    let second = async {
        until(|| platform.scripts.holding.load(SeqCst) == 1).await;
        let busy = platform.keyed("/kept/hold", "k", "").await;
        busy.assert_problem(409, "idempotency_conflict");
        assert_eq!(busy.header("retry-after"), Some("1"));
        platform.scripts.release.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.text(), "held");
    for _ in 0..2 {
        platform.keyed("/kept/fail", "k", "").await.assert_problem(500, "script_error");
    }
    let wrong = platform.raw("POST /kept/hold HTTP/1.1\r\nhost: demo.localhost\r\nidempotency-key: \r\ncontent-length: 0\r\n\r\n").await;
    wrong.assert_problem(400, "bad_request");
}

#[tokio::test]
async fn who_hangs_up_at_any_moment_has_had_a_request_run_once_or_not_at_all() {
    for mode in RouteMode::ALL {
        let platform = with(*mode, &["count"]).await;
        // It goes while its key is being taken, and while its request is being stored.
        for (number, table) in ["idempotency_keys", "outbox"].into_iter().enumerate() {
            let lock = platform.database.hold(&format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await;
            let mut client = platform.client().await;
            client.send(keyed("/kept/count", table, "")).await;
            platform.database.until_blocked().await;
            drop(client);
            // Another request shows that the server has seen the end of the first.
            platform.get("/hello").await;
            lock.release().await;
            let answer = soon(async {
                loop {
                    let answer = platform.keyed("/kept/count", table, "").await;
                    if answer.status != 409 {
                        return answer;
                    }
                }
            });
            let answer = answer.await;
            assert!(matches!(answer.status, 200 | 202), "{mode} {table}: {answer:?}");
            platform.until_rows("outbox", 0).await;
            let counted = platform.store.kv_get(platform.demo, &id("n")).await.unwrap().unwrap();
            assert_eq!(*counted.value, (number + 1).to_string(), "{mode} {table}");
        }
        platform.finish().await;
    }
}

#[tokio::test]
async fn a_key_is_free_after_a_failure_that_nobody_waited_for() {
    let platform = with(RouteMode::Sync, &["hold"]).await;
    let mut client = platform.client().await;
    client.send(keyed("/kept/hold", "k", "fail")).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    drop(client);
    platform.get("/hello").await;
    platform.scripts.release.add_permits(1);
    platform.until_rows("abandoned_executions", 1).await;
    platform.until_rows("idempotency_keys", 0).await;
}

#[tokio::test]
async fn a_full_outbox_refuses_asynchronous_requests() {
    let platform = with(RouteMode::Async, &["echo"]).await;
    platform.limit(picloud_core::LimitField::OutboxEvents, 0).await;
    let refused = platform.post("/kept/echo", "").await;
    refused.assert_problem(429, "outbox_full");
    assert!(refused.header("retry-after").is_some());
}
