//! Queues, topics and the outbox over the API.

use picloud_core::ErrorCode;
use picloud_store::{ClaimedEvent, EventFault, LaneClaim, Settlement, Verdict};
use serde_json::{Value, json};

use crate::support::{Answer, Server};

pub(crate) const APP: &str = "/api/v1/apps/demo";

/// A server with the app `demo`, and in it a queue `jobs` whose messages `main` handles.
pub(crate) async fn server() -> Server {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "main", "1").await;
    let trigger = json!({ "name": "jobs", "kind": "queue", "script": "main", "queue": "jobs" });
    assert_eq!(server.call("POST", &format!("{APP}/triggers")).json(&trigger).send().await.status, 201);
    server
}

pub(crate) async fn send(server: &Server, queue: &str, message: &Value) -> Answer {
    server.call("POST", &format!("{APP}/queues/{queue}/messages")).json(message).send().await
}

pub(crate) async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    server.call("POST", &format!("{APP}{path}")).json(body).send().await
}

/// Claims what is due, as whoever handles events does.
pub(crate) async fn claim(server: &Server) -> Vec<ClaimedEvent> {
    let due = server.store.due_lanes().await.unwrap();
    let claims: Vec<_> =
        due.into_iter().map(|due| LaneClaim { lane: due.lane, most: 9, is_limited: false }).collect();
    server.store.claim(&claims).await.unwrap()
}

/// Sends a message and has it given up; answers the letter's id.
pub(crate) async fn dead_letter(server: &Server) -> String {
    assert_eq!(send(server, "jobs", &json!({ "body": { "n": 1 } })).await.status, 202);
    give_up(server).await;
    let letters = server.get(&format!("{APP}/dead-letters?resolution=unresolved")).await;
    letters.json()["items"][0]["id"].as_str().unwrap().to_owned()
}

/// Gives up the event that is due.
pub(crate) async fn give_up(server: &Server) {
    let event = claim(server).await.remove(0);
    let fault = EventFault::new(ErrorCode::ScriptError, "no user 7");
    let verdict = Verdict::Dead { fault, script: None };
    server.store.settle(&[Settlement { claim: event.claim, app: event.app, verdict }]).await.unwrap();
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
async fn several_messages_are_sent_all_or_none() {
    let server = server().await;
    let batch = json!({ "messages": [{ "body": 1, "dedupe_key": "k" }, { "body": 2 }, { "body": 3, "dedupe_key": "k" }] });
    let sent = send(&server, "jobs", &batch).await;
    assert_eq!(sent.status, 202);
    let sent = sent.json()["messages"].clone();
    assert_eq!(
        [&sent[0]["duplicate"], &sent[1]["duplicate"], &sent[2]["duplicate"]],
        [&json!(false), &json!(false), &json!(true)]
    );
    assert_eq!(sent[2]["id"], sent[0]["id"]);
    assert_eq!(claim(&server).await.len(), 2);

    let many = json!({ "messages": vec![json!({ "body": 1 }); 101] });
    let cases = [
        (json!({ "messages": [{ "body": 1 }, { "body": 2, "priority": 500 }] }), "messages[1]"),
        (json!({ "messages": [{ "body": 1 }, { "priority": 5 }] }), "messages[1]"),
        (json!({ "messages": [{ "body": 1 }, [2, 3]] }), "messages[1]"),
        (json!({ "messages": [] }), "1 to 100"),
        (many, "1 to 100"),
        (json!({ "messages": [{ "body": 1 }], "body": 2 }), "not both"),
        (json!({ "priority": 1 }), "body"),
    ];
    for (batch, detail) in cases {
        let problem = send(&server, "jobs", &batch).await.problem("invalid");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    assert_eq!(claim(&server).await.len(), 0);
}

#[tokio::test]
async fn a_queue_is_set_up() {
    let server = server().await;
    server.get(&format!("{APP}/queues/other")).await.problem("not_found");
    let change = |change: Value| {
        let call = server.call("PATCH", &format!("{APP}/queues/other"));
        async move { call.json(&change).send().await }
    };
    let queue = change(json!({ "concurrency": 3 })).await.json();
    assert_eq!((&queue["concurrency"], &queue["paused_at"]), (&json!(3), &Value::Null));
    let queue = change(json!({ "paused": true })).await.json();
    assert_eq!((&queue["concurrency"], queue["paused_at"].is_string()), (&json!(3), true));
    let since = queue["paused_at"].clone();
    let queue = change(json!({ "paused": true, "concurrency": null })).await.json();
    assert_eq!((&queue["concurrency"], &queue["paused_at"]), (&Value::Null, &since));
    assert_eq!(server.get(&format!("{APP}/queues/other")).await.json(), queue);
    for wrong in [json!({ "concurrency": 0 }), json!({ "concurrency": 10_001 }), json!({ "paused": 1 })] {
        change(wrong).await.problem("invalid");
    }
    // Nothing is left of it: it is forgotten.
    let queue = change(json!({ "paused": false })).await.json();
    assert_eq!(
        (&queue["name"], &queue["paused_at"], &queue["waiting"]),
        (&json!("other"), &Value::Null, &json!(0))
    );
    server.get(&format!("{APP}/queues/other")).await.problem("not_found");
}

#[tokio::test]
async fn an_app_sets_up_so_many_queues() {
    let server = server().await;
    let many = "INSERT INTO queues (app_id, name, concurrency) SELECT id, 'q' || n, 1 FROM apps, generate_series(1, 1000) n";
    server.database.execute(many).await;
    let pause = |queue: &str| server.call("POST", &format!("{APP}/queues/{queue}/pause")).send();
    let refused = pause("one-more").await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("at most 1000 queues"), "{refused}");
    // Those that are set up already can be changed, and another one can be used as it is.
    assert_eq!(pause("q7").await.status, 204);
    send(&server, "one-more", &json!({ "body": 1 })).await;
    server
        .call("PATCH", &format!("{APP}/queues/q7"))
        .json(&json!({ "paused": false, "concurrency": null }))
        .send()
        .await;
    assert_eq!(pause("one-more").await.status, 204);
}

#[tokio::test]
async fn what_waits_is_taken_back_and_what_runs_is_not() {
    let server = server().await;
    let cancel = |id: &str| server.call("DELETE", &format!("{APP}/events/{id}")).send();
    let id = send(&server, "jobs", &json!({ "body": 1, "delay_ms": 60_000 })).await.json()["id"].clone();
    let id = id.as_str().unwrap();
    let cancelled = cancel(id).await;
    assert_eq!(cancelled.status, 200);
    let letter = cancelled.json()["dead_letter_id"].as_str().unwrap().to_owned();
    let letter = server.get(&format!("{APP}/dead-letters/{letter}")).await.json();
    assert_eq!(
        (&letter["event_id"], &letter["error"]["code"], &letter["resolution"], &letter["attempts"]),
        (&json!(id), &json!("event_cancelled"), &json!("ignored"), &json!(0))
    );
    cancel(id).await.problem("not_found");
    let id = send(&server, "jobs", &json!({ "body": 2 })).await.json()["id"].clone();
    assert_eq!(claim(&server).await.len(), 1);
    cancel(id.as_str().unwrap()).await.problem("event_running");
}

#[tokio::test]
async fn a_trigger_is_fired_with_what_is_made_up_and_what_is_given() {
    let server = server().await;
    let fire = |trigger: &str, body: Value| {
        let path = format!("/triggers/{trigger}/fire");
        let server = &server;
        async move { post(server, &path, &body).await }
    };
    let trigger = json!({ "name": "users", "kind": "kv", "script": "main", "collection": "users:*" });
    post(&server, "/triggers", &trigger).await;
    let fired = fire("users", json!({ "event": { "key": "ann", "value": { "age": 41 } } })).await;
    assert_eq!(fired.status, 202);
    let event = claim(&server).await.remove(0);
    assert_eq!(json!(event.claim.event), fired.json()["event_id"]);
    let payload: Value = serde_json::from_str(&event.payload).unwrap();
    assert_eq!(payload, fired.json()["event"]);
    assert_eq!(
        payload,
        json!({ "collection": "users:test", "key": "ann", "operation": "set", "value": { "age": 41 }, "old_value": null })
    );
    let fired = fire("jobs", json!({ "event": { "body": [7] } })).await;
    let event = claim(&server).await.remove(0);
    assert_eq!(json!(event.claim.event), fired.json()["event_id"]);
    assert!(event.payload.contains("[7]") && event.trigger.is_none(), "{event:?}");

    fire("users", json!({ "event": { "keys": 1 } })).await.problem("invalid");
    fire("jobs", json!({ "event": { "group": "a" } })).await.problem("invalid");
    fire("jobs", json!({ "event": { "body": "x".repeat(256 * 1024) } })).await.problem("too_large");
    fire("none", json!({})).await.problem("not_found");
    let off = server.call("PATCH", &format!("{APP}/triggers/users")).json(&json!({ "enabled": false }));
    assert_eq!(off.send().await.status, 200);
    fire("users", json!({})).await.problem("trigger_disabled");
}

#[tokio::test]
async fn the_tree_of_an_event_has_what_it_came_of_and_what_came_of_it() {
    let server = server().await;
    let letter = dead_letter(&server).await;
    let event = server.get(&format!("{APP}/dead-letters/{letter}")).await.json()["event_id"].clone();
    let replay = post(&server, &format!("/dead-letters/{letter}/replay"), &json!({})).await.json();
    for id in [&event, &replay["event_id"]] {
        let tree = server.get(&format!("{APP}/events/{}/tree", id.as_str().unwrap())).await.json();
        assert_eq!((&tree["root_id"], &tree["truncated"]), (&event, &json!(false)));
        let [first, second] = tree["events"].as_array().unwrap().as_slice() else { panic!("{tree}") };
        assert_eq!(
            [
                &first["id"],
                &first["state"],
                &first["dead_letter_id"],
                &first["resolution"],
                &first["trigger"]
            ],
            [&event, &json!("dead"), &json!(letter), &json!("replayed"), &json!("jobs")]
        );
        assert_eq!(
            [&second["id"], &second["parent_id"], &second["state"], &second["queue"], &second["script"]],
            [&replay["event_id"], &event, &json!("pending"), &json!("jobs"), &json!("main")]
        );
    }
    let unknown = "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b";
    server.get(&format!("{APP}/events/{unknown}/tree")).await.problem("not_found");
    server.get(&format!("{APP}/executions/{unknown}/tree")).await.problem("not_found");
}
