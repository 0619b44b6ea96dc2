//! Dead letters over the API.

use picloud_core::OutboxKind;
use picloud_store::{NewEvent, OutboxLimit};
use serde_json::{Value, json};

use crate::events::{APP, claim, dead_letter, give_up, post, server};

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

#[tokio::test]
async fn many_are_replayed_and_ignored_at_once() {
    let server = server().await;
    let mut letters = Vec::new();
    for _ in 0..4 {
        letters.push(dead_letter(&server).await);
    }
    assert_eq!(server.get(APP).await.json()["unresolved_dead_letters"], 4);
    let first = &server.get(&format!("{APP}/dead-letters")).await.json()["items"][3];
    let print = &first["fingerprint"];

    let none = post(&server, "/dead-letters/replay", &json!({ "trigger": "other" })).await.json();
    assert_eq!(none, json!({ "replayed": [], "remaining": 0 }));
    let replayed =
        post(&server, "/dead-letters/replay", &json!({ "fingerprint": print, "script": "main", "limit": 2 }))
            .await;
    assert_eq!((replayed.status.as_u16(), &replayed.json()["remaining"]), (202, &json!(2)));
    let replayed = replayed.json()["replayed"].clone();
    let claimed: Vec<Value> = claim(&server).await.iter().map(|event| json!(event.claim.event)).collect();
    assert_eq!(json!(claimed), json!([replayed[0]["event_id"], replayed[1]["event_id"]]));
    let ids = server.get(&format!("{APP}/dead-letters?resolution=replayed")).await.items("id");
    assert_eq!(json!(ids), json!([replayed[1]["id"], replayed[0]["id"]]), "the oldest go first");

    let ignored = post(&server, "/dead-letters/ignore", &json!({ "all": true, "limit": 1 })).await.json();
    assert_eq!(ignored, json!({ "ignored": 1, "remaining": 1 }));
    let ignored = post(&server, "/dead-letters/ignore", &json!({ "trigger": "jobs" })).await.json();
    assert_eq!(ignored, json!({ "ignored": 1, "remaining": 0 }));
    assert_eq!(server.get(APP).await.json()["unresolved_dead_letters"], 0);
    let back = json!({ "all": true, "resolution": "ignored" });
    let back = post(&server, "/dead-letters/replay", &back).await.json();
    assert_eq!(back["replayed"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn who_names_no_letters_means_none() {
    let server = server().await;
    let letter = dead_letter(&server).await;
    for (wrong, field) in [
        (json!({}), "all"),
        (json!({ "all": true, "trigger": "jobs" }), "all"),
        (json!({ "all": true, "limit": 0 }), "limit"),
        (json!({ "all": true, "limit": 1001 }), "limit"),
        (json!({ "all": true, "resolution": "replayed" }), "resolution"),
        (json!({ "fingerprint": "a\u{0}" }), "fingerprint"),
    ] {
        for call in ["replay", "ignore"] {
            let problem = post(&server, &format!("/dead-letters/{call}"), &wrong).await.problem("invalid");
            assert_eq!(problem["field"], field, "{wrong}");
        }
    }
    assert_eq!(server.get(&format!("{APP}/dead-letters?resolution=unresolved")).await.items("id"), [letter]);
    let full = json!({ "outbox_events": 0 });
    assert_eq!(server.call("PUT", &format!("{APP}/limits")).json(&full).send().await.status, 200);
    post(&server, "/dead-letters/replay", &json!({ "all": true })).await.problem("outbox_full");
    assert_eq!(server.get(APP).await.json()["unresolved_dead_letters"], 1);
}

#[tokio::test]
async fn an_edited_replay_has_the_fields_of_the_event() {
    let server = server().await;
    let id = dead_letter(&server).await;
    for (event, detail) in [
        (json!({ "foo": 1 }), "event has no field \"foo\"; it has body, group, priority, queue"),
        (json!({ "queue": 5 }), "queue is a number; allowed is a text"),
        (json!({ "priority": "x" }), "priority is a text; allowed is a number"),
        (json!([1]), "must be a JSON object"),
    ] {
        for call in ["replay", "dry-run"] {
            let body = json!({ "event": event });
            let problem =
                post(&server, &format!("/dead-letters/{id}/{call}"), &body).await.problem("invalid");
            assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        }
    }
}

#[tokio::test]
async fn only_what_the_edit_names_is_replaced() {
    let server = server().await;
    let id = dead_letter(&server).await;
    let refused = post(&server, &format!("/dead-letters/{id}/replay"), &json!({ "version": 99 })).await;
    assert_eq!(refused.problem("invalid")["field"], "version");
    let twice = server.call("POST", &format!("{APP}/dead-letters/{id}/replay"));
    twice.raw_json(r#"{"event": {"body": 1, "body": 2}}"#).send().await.problem("invalid");
    let edit = json!({ "event": { "body": [9.5, null] } });
    assert_eq!(post(&server, &format!("/dead-letters/{id}/replay"), &edit).await.status, 202);
    let event = claim(&server).await.remove(0);
    let payload: Value = serde_json::from_str(&event.payload).unwrap();
    assert_eq!(payload, json!({ "body": [9.5, null], "group": null, "priority": 0, "queue": "jobs" }));
}

#[tokio::test]
async fn credentials_of_a_kept_request_are_shown_to_nobody_and_replayed() {
    let server = server().await;
    let app = server.get(APP).await.json()["id"].as_str().unwrap().parse().unwrap();
    let payload = json!({ "method": "POST", "headers": "cookie: s=1\nauthorization: Bearer abc\nx: 1\n", "body": "aGk=" });
    let event = NewEvent {
        script: Some("main".parse().unwrap()),
        ..NewEvent::new(OutboxKind::Http, payload.to_string())
    };
    server.store.enqueue(app, &[event], OutboxLimit::events(9)).await.unwrap();
    give_up(&server).await;
    let letters = server.get(&format!("{APP}/dead-letters")).await;
    let id = letters.items("id")[0].as_str().unwrap().to_owned();
    let shown = server.get(&format!("{APP}/dead-letters/{id}")).await.json();
    assert_eq!(shown["event"]["headers"], "cookie: (hidden)\nauthorization: (hidden)\nx: 1\n");
    let tried = post(&server, &format!("/dead-letters/{id}/dry-run"), &json!({})).await.json();
    assert_eq!((&tried["result"], &tried["kv"][0]["key"]), (&json!(["http", 0]), &json!("main")), "{tried}");
    let text = json!({ "event": { "body": "hi there" } });
    post(&server, &format!("/dead-letters/{id}/replay"), &text).await.problem("invalid");
    let edit = json!({ "event": { "body": "aG8=" } });
    assert_eq!(post(&server, &format!("/dead-letters/{id}/replay"), &edit).await.status, 202);
    let event = claim(&server).await.remove(0);
    assert!(event.payload.contains("Bearer abc") && event.payload.contains("aG8="), "{}", event.payload);
}
