//! Queues, topics, the outbox and dead letters over the API.

use picloud_core::ErrorCode;
use picloud_store::{ClaimedEvent, EventFault, LaneClaim, Settlement, Verdict};
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const APP: &str = "/api/v1/apps/demo";

/// A server with the app `demo`, and in it a queue `jobs` whose messages `main` handles.
async fn server() -> Server {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "main", "1").await;
    let trigger = json!({ "name": "jobs", "kind": "queue", "script": "main", "queue": "jobs" });
    assert_eq!(server.call("POST", &format!("{APP}/triggers")).json(&trigger).send().await.status, 201);
    server
}

async fn send(server: &Server, queue: &str, message: &Value) -> Answer {
    server.call("POST", &format!("{APP}/queues/{queue}/messages")).json(message).send().await
}

async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    server.call("POST", &format!("{APP}{path}")).json(body).send().await
}

/// Claims what is due, as whoever handles events does.
async fn claim(server: &Server) -> Vec<ClaimedEvent> {
    let due = server.store.due_lanes().await.unwrap();
    let claims: Vec<_> =
        due.into_iter().map(|due| LaneClaim { lane: due.lane, most: 9, is_limited: false }).collect();
    server.store.claim(&claims).await.unwrap()
}

/// Sends a message and has it given up; answers the letter's id.
async fn dead_letter(server: &Server) -> String {
    assert_eq!(send(server, "jobs", &json!({ "body": { "n": 1 } })).await.status, 202);
    let event = claim(server).await.remove(0);
    let fault = EventFault::new(ErrorCode::ScriptError, "no user 7");
    let verdict = Verdict::Dead { fault, script: None };
    server.store.settle(&[Settlement { claim: event.claim, app: event.app, verdict }]).await.unwrap();
    let letters = server.get(&format!("{APP}/dead-letters?resolution=unresolved")).await;
    letters.json()["items"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_sent_and_found_where_it_waits() {
    let server = server().await;
    let sent = send(&server, "jobs", &json!({ "body": { "text": "a\u{0}b" }, "dedupe_key": "k" })).await;
    assert_eq!((sent.status.as_u16(), &sent.json()["duplicate"]), (202, &json!(false)), "{sent:?}");
    let id = sent.json()["id"].clone();
    let again = send(&server, "jobs", &json!({ "body": 2, "dedupe_key": "k" })).await.json();
    assert_eq!((&again["id"], &again["duplicate"]), (&id, &json!(true)));
    send(&server, "later", &json!({ "body": null, "delay_ms": 60_000, "priority": -5 })).await;
    let outbox = server.get(&format!("{APP}/outbox?queue=later")).await.json();
    assert_eq!(
        (&outbox["items"][0]["state"], &outbox["items"][0]["kind"]),
        (&json!("scheduled"), &json!("queue"))
    );
    let event = server.get(&format!("{APP}/events/{}", id.as_str().unwrap())).await.json();
    assert_eq!((&event["state"], &event["waiting"]["queue"]), (&json!("pending"), &json!("jobs")));
    let queues = server.get(&format!("{APP}/queues")).await.json();
    assert_eq!(
        (&queues["items"][0]["name"], &queues["items"][0]["consumer"]),
        (&json!("jobs"), &json!("jobs"))
    );
    assert_eq!((&queues["items"][1]["waiting"], &queues["items"][1]["consumer"]), (&json!(1), &Value::Null));
    let claimed = claim(&server).await;
    let payload: Value = serde_json::from_str(&claimed[0].payload).unwrap();
    assert_eq!(payload["body"]["text"], "a\u{0}b");
    let running = server.get(&format!("{APP}/events/{}", id.as_str().unwrap())).await.json();
    assert_eq!(running["state"], "running");
}

#[tokio::test]
async fn wrong_messages_are_refused_with_what_is_allowed() {
    let server = server().await;
    for (message, code) in [
        (json!({}), "bad_request"),
        (json!({ "body": 1, "delay": 5 }), "bad_request"),
        (json!({ "body": 1, "delay_ms": 31_536_000_001_u64 }), "invalid"),
        (json!({ "body": 1, "priority": 101 }), "invalid"),
        (json!({ "body": "x".repeat(256 * 1024) }), "too_large"),
    ] {
        let refused = send(&server, "jobs", &message).await;
        assert!(refused.status.is_client_error(), "{message}");
        if code != "bad_request" {
            refused.problem(code);
        }
    }
    assert_eq!(send(&server, "a%20b", &json!({ "body": 1 })).await.status, 422);
    server.get(&format!("{APP}/events/0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b")).await.problem("not_found");
    let limits =
        server.call("PUT", &format!("{APP}/limits")).json(&json!({ "outbox_events": 0 })).send().await;
    assert_eq!(limits.status, 200);
    send(&server, "jobs", &json!({ "body": 1 })).await.problem("outbox_full");
}

#[tokio::test]
async fn a_publication_comes_to_those_who_listen() {
    let server = server().await;
    let trigger = json!({ "name": "new", "kind": "topic", "script": "main", "topic": "orders/*" });
    post(&server, "/triggers", &trigger).await;
    let heard = post(&server, "/topics/orders%2Fnew/publish", &json!({ "body": 1 })).await;
    assert_eq!((heard.status.as_u16(), heard.json()["events"].as_array().unwrap().len()), (202, 1));
    let unheard = post(&server, "/topics/users/publish", &json!({ "body": 1 })).await;
    assert_eq!(unheard.json()["events"], json!([]));
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed_as_often_as_one_likes() {
    let server = server().await;
    send(&server, "jobs", &json!({ "body": 1 })).await;
    let paused =
        || async { server.get(&format!("{APP}/queues")).await.json()["items"][0]["paused_at"].clone() };
    for (call, is_paused) in [("pause", true), ("pause", true), ("resume", false), ("resume", false)] {
        assert_eq!(post(&server, &format!("/queues/jobs/{call}"), &json!({})).await.status, 204);
        assert_eq!(paused().await.is_string(), is_paused, "{call}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_shown_tried_replayed_once_and_not_ignored_then() {
    let server = server().await;
    let id = dead_letter(&server).await;
    let letter = server.get(&format!("{APP}/dead-letters/{id}")).await.json();
    assert_eq!((&letter["event"]["body"], &letter["queue"]), (&json!({ "n": 1 }), &json!("jobs")));
    assert_eq!(letter["error"], json!({ "code": "script_error", "message": "no user 7" }));
    let kinds = server.get(&format!("{APP}/dead-letters/fingerprints")).await.json();
    assert_eq!(
        (&kinds["items"][0]["fingerprint"], &kinds["items"][0]["count"]),
        (&letter["fingerprint"], &json!(1))
    );

    let tried = post(&server, &format!("/dead-letters/{id}/dry-run"), &json!({ "version": 1 })).await.json();
    assert_eq!((&tried["result"], &tried["error"]), (&json!(["queue", 1]), &Value::Null), "{tried}");
    assert_eq!(
        (&tried["kv"][0]["operation"], &tried["kv"][0]["value"]["body"]),
        (&json!("set"), &json!({ "n": 1 }))
    );
    let edited = json!({ "event": { "queue": "jobs", "body": { "n": 2 } } });
    let tried = post(&server, &format!("/dead-letters/{id}/dry-run"), &edited).await.json();
    assert_eq!(tried["kv"][0]["value"]["body"], json!({ "n": 2 }));
    let whole = json!({ "event": [1] });
    post(&server, &format!("/dead-letters/{id}/replay"), &whole).await.problem("invalid");

    let replayed = post(&server, &format!("/dead-letters/{id}/replay"), &edited).await;
    assert_eq!((replayed.status.as_u16(), &replayed.json()["already"]), (202, &json!(false)));
    let again = post(&server, &format!("/dead-letters/{id}/replay"), &json!({})).await.json();
    assert_eq!((&again["event_id"], &again["already"]), (&replayed.json()["event_id"], &json!(true)));
    let event = claim(&server).await.remove(0);
    assert!(event.payload.contains(r#""n":2"#), "{}", event.payload);
    post(&server, &format!("/dead-letters/{id}/ignore"), &json!({})).await.problem("already_exists");
    server
        .get(&format!("{APP}/dead-letters/{}", picloud_core::DeadLetterId::generate()))
        .await
        .problem("not_found");
}

#[tokio::test]
async fn what_is_ignored_is_not_listed_as_open() {
    let server = server().await;
    let id = dead_letter(&server).await;
    for _ in 0..2 {
        assert_eq!(post(&server, &format!("/dead-letters/{id}/ignore"), &json!({})).await.status, 204);
    }
    assert_eq!(server.get(&format!("{APP}/dead-letters?resolution=unresolved")).await.items("id").len(), 0);
    assert_eq!(server.get(&format!("{APP}/dead-letters?resolution=ignored")).await.items("id"), [id]);
    assert_eq!(server.get(&format!("{APP}/dead-letters?resolution=lost")).await.status, 422);
}
