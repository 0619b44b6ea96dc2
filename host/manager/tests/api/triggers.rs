//! Triggers, alone and in bundles.

use picloud_core::{AppRole, InstanceRole, Scope};
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const TRIGGERS: &str = "/api/v1/apps/demo/triggers";

/// A server with the app `demo` and its scripts: `main`, which handles everything, and `web`, which handles requests.
async fn server() -> Server {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "main", "1").await;
    server.script("demo", "web", "fn on_request(req) { 1 }").await;
    server
}

fn path(name: &str) -> String {
    format!("{TRIGGERS}/{name}")
}

fn nightly() -> Value {
    json!({ "name": "nightly", "kind": "cron", "script": "main", "cron": "0 3 * * *", "timezone": "Europe/Berlin" })
}

async fn post(server: &Server, trigger: &Value) -> Answer {
    server.call("POST", TRIGGERS).json(trigger).send().await
}

async fn put(server: &Server, name: &str, trigger: &Value) -> Answer {
    server.call("PUT", &path(name)).json(trigger).send().await
}

#[tokio::test]
async fn a_trigger_is_made_shown_replaced_disabled_and_removed() {
    let server = server().await;
    let made = post(&server, &nightly()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let view = made.json();
    for (field, expected) in [
        ("name", json!("nightly")),
        ("kind", json!("cron")),
        ("script", json!("main")),
        ("cron", json!("0 3 * * *")),
        ("timezone", json!("Europe/Berlin")),
        ("missed", json!("once")),
        ("max_lateness_ms", json!(3_600_000)),
        ("enabled", json!(true)),
        ("warnings", json!([])),
        ("registered_by", json!(server.owner_id().await.to_string())),
        ("queue", Value::Null),
    ] {
        assert_eq!(view[field], expected, "{field} of {view}");
    }
    let next = view["next_at"].as_str().unwrap();
    assert!(next.contains("T03:00:00+0"), "in the trigger's zone: {next}");
    let id = view["id"].as_str().unwrap();
    for named in ["nightly", id] {
        let shown = server.get(&path(named)).await;
        assert_eq!(shown.json()["id"], view["id"]);
        assert_eq!(shown.header("etag"), made.header("etag"));
    }
    assert_eq!(server.get(TRIGGERS).await.items("name"), ["nightly"]);
    let changes = server.node.changed.lock().unwrap().len();

    let mut other = nightly();
    other["cron"] = json!("@hourly");
    let replaced = put(&server, "nightly", &other).await;
    assert_eq!((replaced.status.as_u16(), replaced.json()["id"].as_str()), (200, Some(id)));
    other["name"] = json!("hourly");
    let refusal = put(&server, "nightly", &other).await.problem("invalid");
    assert_eq!(refusal["field"], "name");
    assert_eq!(put(&server, id, &other).await.json()["name"], "hourly");
    let created = put(&server, "nightly", &nightly()).await;
    assert_eq!(created.status, 201, "{created:?}");

    let off = server.call("PATCH", &path("hourly")).json(&json!({ "enabled": false })).send().await.json();
    assert_eq!((&off["enabled"], &off["next_at"]), (&json!(false), &Value::Null));
    let removed = server.call("DELETE", &path("hourly")).send().await;
    assert_eq!(removed.status, 204, "{removed:?}");
    server.get(&path("hourly")).await.problem("not_found");
    server.get(&path(id)).await.problem("not_found");
    assert_eq!(server.node.changed.lock().unwrap().len(), changes + 5, "the node hears of each change");
}

#[tokio::test]
async fn nobody_overwrites_what_they_have_not_seen() {
    let server = server().await;
    let first = put(&server, "nightly", &nightly()).await.header("etag").to_owned();
    let mut changed = nightly();
    changed["jitter_ms"] = json!(5);
    let change = async |tag: &str| {
        server.call("PUT", &path("nightly")).header("if-match", tag).json(&changed).send().await
    };
    assert_ne!(change(&first).await.header("etag"), first);
    change(&first).await.problem("precondition_failed");
    let only_new = server.call("PUT", &path("nightly")).header("if-none-match", "*").json(&nightly());
    only_new.send().await.problem("precondition_failed");
    let off = json!({ "enabled": false });
    let patch = server.call("PATCH", &path("nightly")).header("if-match", &first).json(&off);
    patch.send().await.problem("precondition_failed");
    let delete = server.call("DELETE", &path("nightly")).header("if-match", &first);
    delete.send().await.problem("precondition_failed");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_field_and_what_is_allowed() {
    let server = server().await;
    let with = |changes: Value| {
        let mut trigger = nightly();
        trigger.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        trigger
    };
    let many: Vec<String> = (0..65).map(|at| format!("t{at}")).collect();
    let cases = [
        (with(json!({ "cron": "0 0 30 2 *" })), "cron", "never fires"),
        (with(json!({ "cron": "* * * * * *" })), "cron", "more often than every 10 seconds"),
        (with(json!({ "cron": "0 25 * * *" })), "cron", "the hour \"25\"; allowed are 0 to 23"),
        (with(json!({ "cron": "a\u{0} * * * *" })), "cron", "the minute"),
        (with(json!({ "cron": "1".repeat(10_000) })), "cron", "the longest allowed is 128"),
        (with(json!({ "timezone": "Europe/Berln" })), "timezone", "is Europe/Berlin meant?"),
        (with(json!({ "missed": "some" })), "missed", "allowed are skip, once, all"),
        (with(json!({ "max_lateness_ms": 1 })), "max_lateness_ms", "allowed is 1000 to"),
        (with(json!({ "max_attempts": 0 })), "max_attempts", "allowed is 1 to 100"),
        (with(json!({ "queue": "jobs" })), "queue", "has no such field"),
        (with(json!({ "kind": "timer" })), "kind", "allowed are kv, cron, queue, topic, email, dead_letter"),
        (with(json!({ "name": "a b" })), "name", "allowed are a-z"),
        (with(json!({ "name": "a\u{0}" })), "name", "allowed are a-z"),
        (with(json!({ "name": uuid::Uuid::nil().to_string() })), "name", "the form of an id"),
        (
            json!({ "name": "k", "kind": "kv", "script": "main", "collection": "a*b" }),
            "collection",
            "users:* is",
        ),
        (json!({ "name": "k", "kind": "kv", "script": "main" }), "collection", "needs this field"),
        (json!({ "name": "t", "kind": "topic", "script": "main", "topic": "a b" }), "topic", "orders/* is"),
        (
            json!({ "name": "m", "kind": "email", "script": "main", "address": "a@b" }),
            "address",
            "allowed are a-z",
        ),
        (
            json!({ "name": "m", "kind": "email", "script": "main", "address": "postmaster" }),
            "address",
            "postmaster",
        ),
        (
            json!({ "name": "d", "kind": "dead_letter", "script": "main", "source_triggers": many }),
            "source_triggers",
            "allowed is 0 to 64",
        ),
        (
            json!({ "name": "d", "kind": "dead_letter", "script": "main", "source_kinds": ["dead_letter"] }),
            "source_kinds",
            "allowed are kv, cron",
        ),
    ];
    for (trigger, field, text) in cases {
        let answer = post(&server, &trigger).await;
        let problem = answer.problem("invalid");
        assert_eq!(problem["field"], field, "{trigger}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{trigger}: {problem}");
    }
    let unknown = post(&server, &with(json!({ "color": 1 }))).await.problem("invalid");
    assert!(unknown["detail"].as_str().unwrap().contains("there is no field color; allowed are name, kind"));
    let twice = r#"{"name":"a","name":"b","kind":"topic","script":"main","topic":"x"}"#;
    server.call("POST", TRIGGERS).raw_json(twice).send().await.problem("invalid");

    let missing = post(&server, &with(json!({ "script": "missing" }))).await.problem("script_not_found");
    assert_eq!(
        (&missing["field"], &missing["detail"]),
        (&json!("script"), &json!("no script \"missing\" in app \"demo\""))
    );
    server.get(&path("a%20b")).await.problem("invalid");
    server.get(&format!("{TRIGGERS}?limit=201")).await.problem("invalid");
    assert!(server.get(TRIGGERS).await.items("name").is_empty());
}

#[tokio::test]
async fn who_has_a_name_or_a_queue_already_is_said() {
    let server = server().await;
    let jobs = |name: &str| json!({ "name": name, "kind": "queue", "script": "main", "queue": "jobs" });
    post(&server, &jobs("first")).await;
    let again = post(&server, &jobs("first")).await.problem("already_exists");
    assert_eq!(again["field"], "name");
    let taken = post(&server, &jobs("second")).await.problem("already_exists");
    assert_eq!((&taken["field"], &taken["trigger"]), (&json!("queue"), &json!("first")));
    let refused =
        server.call("DELETE", "/api/v1/apps/demo/scripts/main").send().await.problem("script_in_use");
    assert_eq!(refused["used_by"], json!(["trigger first"]));
    let other = json!({ "name": "first", "kind": "topic", "script": "main", "topic": "a" });
    let refused = put(&server, "first", &other).await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("of kind queue, which cannot be changed to topic"));
}

#[tokio::test]
async fn of_those_who_make_one_name_at_once_one_does() {
    let server = server().await;
    let calls = (0..6).map(|at| {
        let trigger = json!({ "name": "t", "kind": "topic", "script": "main", "topic": format!("t{at}") });
        server.call("POST", TRIGGERS).json(&trigger).send()
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.problem("already_exists");
    }
}

#[tokio::test]
async fn a_script_without_the_handler_is_told() {
    let server = server().await;
    let mut trigger = nightly();
    trigger["script"] = json!("web");
    let warned = post(&server, &trigger).await.json();
    assert_eq!(
        warned["warnings"],
        json!(["the script web has no function on_cron, so that each event of the trigger nightly fails"])
    );
}

#[tokio::test]
async fn a_script_that_loses_the_handler_of_its_triggers_is_told() {
    let server = server().await;
    post(&server, &nightly()).await;
    let said =
        json!(["the script main has no function on_cron, so that each event of the trigger nightly fails"]);
    let alone = server.script("demo", "main", "fn on_request(req) { 2 }").await.json();
    assert_eq!(alone["warnings"], said);
    let bundle =
        json!({ "scripts": { "main": "fn on_request(req) { 3 }", "other": "fn on_request(req) { 3 }" } });
    let bundled = server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await.json();
    assert_eq!((&bundled["scripts"][0]["warnings"], &bundled["scripts"][1]["warnings"]), (&said, &json!([])));
    assert_eq!(server.script("demo", "main", "4").await.json()["warnings"], json!([]));
}

#[tokio::test]
async fn a_schedule_says_when_it_runs_and_when_it_ran() {
    let server = server().await;
    post(&server, &nightly()).await;
    let schedule = server.get(&format!("{}?count=3", path("nightly/schedule"))).await.json();
    assert_eq!((&schedule["cron"], &schedule["timezone"]), (&json!("0 3 * * *"), &json!("Europe/Berlin")));
    let next = schedule["next"].as_array().unwrap();
    assert_eq!((next.len(), &schedule["past"]), (3, &json!([])));
    assert_eq!(next[0], server.get(&path("nightly")).await.json()["next_at"]);
    assert!(next.iter().all(|time| time.as_str().unwrap().contains("T03:00:00+0")), "{next:?}");

    let event = uuid::Uuid::now_v7();
    let slots = format!(
        "INSERT INTO cron_slots (trigger_id, scheduled_for, event_id)
        SELECT id, timestamptz '2026-01-01 02:00Z', uuid '{event}' FROM triggers
        UNION ALL SELECT id, timestamptz '2026-07-01 01:00Z', NULL FROM triggers"
    );
    server.database.execute(&slots).await;
    let past = server.get(&path("nightly/schedule")).await.json()["past"].clone();
    assert_eq!(past[0]["scheduled_for"], "2026-07-01T03:00:00+02:00");
    assert_eq!(past[0]["event_id"], Value::Null);
    assert_eq!(past[1]["scheduled_for"], "2026-01-01T03:00:00+01:00");
    assert_eq!(past[1]["event_id"], json!(event.to_string()));

    for count in ["0", "101", "x"] {
        let refused = server.get(&format!("{}?count={count}", path("nightly/schedule"))).await;
        assert_eq!(refused.problem("invalid")["field"], "count");
    }
    post(&server, &json!({ "name": "t", "kind": "topic", "script": "main", "topic": "a" })).await;
    let refused = server.get(&path("t/schedule")).await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("only one of kind cron has a schedule"));
}

#[tokio::test]
async fn viewers_see_triggers_and_whoever_puts_one_has_it_run_as_them() {
    let server = server().await;
    let app = server.store.app_by_name(&"demo".parse().unwrap()).await.unwrap().unwrap().id;
    post(&server, &nightly()).await;
    let (viewer, admin) = (
        server.user("viewer", InstanceRole::Member).await.id,
        server.user("ada", InstanceRole::Member).await.id,
    );
    server.store.put_member(app, viewer, AppRole::Viewer).await.unwrap();
    server.store.put_member(app, admin, AppRole::AppAdmin).await.unwrap();
    let sees = server.token_of(viewer, &[Scope::ScriptRead], None).await;
    let changes = server.token_of(admin, &[Scope::AppAdmin], None).await;
    let listed = server.anonymous("GET", TRIGGERS).token(&sees).send().await;
    assert_eq!(listed.items("name"), ["nightly"]);
    let all = server.token_of(viewer, Scope::ALL, None).await;
    server.anonymous("DELETE", &path("nightly")).token(&all).send().await.problem("forbidden");

    let owner = server.owner_id().await.to_string();
    let off = json!({ "enabled": false });
    let patched = server.anonymous("PATCH", &path("nightly")).token(&changes).json(&off).send().await;
    assert_eq!(patched.json()["registered_by"], json!(owner), "to disable it is not to register it");
    let put = server.anonymous("PUT", &path("nightly")).token(&changes).json(&nightly()).send().await;
    assert_eq!(put.json()["registered_by"], json!(admin.to_string()));

    let audit = server.get("/api/v1/audit").await.json();
    let entry = &audit["items"][0];
    assert_eq!((&entry["action"], &entry["target"]), (&json!("put_trigger"), &json!("nightly")));
    let created = audit["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "create_trigger");
    assert_eq!(created.unwrap()["target"], "nightly");
}

#[tokio::test]
async fn no_app_reaches_the_triggers_of_another() {
    let server = server().await;
    server.app("other").await;
    server.script("other", "theirs", "1").await;
    let id = post(&server, &nightly()).await.json()["id"].as_str().unwrap().to_owned();
    let theirs = format!("/api/v1/apps/other/triggers/{id}");
    server.get(&theirs).await.problem("not_found");
    server.get(&format!("{theirs}/schedule")).await.problem("not_found");
    server.call("DELETE", &theirs).send().await.problem("not_found");
    let mut of_theirs = nightly();
    of_theirs["script"] = json!("theirs");
    of_theirs["name"] = json!("second");
    server.call("PUT", &theirs).json(&of_theirs).send().await.problem("not_found");
    post(&server, &of_theirs).await.problem("script_not_found");
    let address = json!({ "name": "m", "kind": "email", "script": "main", "address": "other.support" });
    let refused = post(&server, &address).await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("begin with demo."), "{refused}");
}

#[tokio::test]
async fn a_bundle_has_all_triggers_of_its_app_or_says_nothing_of_them() {
    let server = server().await;
    let deploy =
        async |bundle: Value| server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await;
    let job = json!({ "name": "job", "kind": "queue", "script": "job", "queue": "jobs", "concurrency": 2 });
    let answer = deploy(json!({ "scripts": { "job": "1" }, "triggers": [nightly(), job] })).await.json();
    assert_eq!(answer["triggers"][0]["name"], "job", "{answer}");
    assert_eq!((&answer["triggers"][0]["concurrency"], &answer["removed_triggers"]), (&json!(2), &json!([])));
    let kept = deploy(json!({ "scripts": { "job": "2" } })).await.json();
    assert_eq!((&kept["triggers"], &kept["removed_triggers"]), (&json!([]), &json!([])));
    assert_eq!(server.get(TRIGGERS).await.items("name"), ["job", "nightly"]);

    let mut missing = nightly();
    missing["script"] = json!("gone");
    let refused =
        deploy(json!({ "scripts": { "new": "1" }, "triggers": [missing] })).await.problem("script_not_found");
    assert_eq!(refused["detail"], "no script \"gone\" in app \"demo\"");
    let mut wrong = nightly();
    wrong["cron"] = json!("0 0 30 2 *");
    let refused = deploy(json!({ "scripts": {}, "triggers": [job, wrong] })).await.problem("invalid");
    assert_eq!(refused["field"], "triggers[1]");
    deploy(json!({ "scripts": {}, "triggers": [["a"]] })).await.problem("invalid");
    deploy(json!({ "scripts": {}, "triggers": [nightly(), nightly()] })).await.problem("invalid");
    server.get("/api/v1/apps/demo/scripts/new").await.problem("script_not_found");

    let mut warned = nightly();
    warned["script"] = json!("web");
    let answer = deploy(json!({ "scripts": {}, "triggers": [warned] })).await.json();
    assert_eq!(answer["removed_triggers"], json!(["job"]));
    assert!(
        answer["triggers"][0]["warnings"][0].as_str().unwrap().contains("no function on_cron"),
        "{answer}"
    );

    let token = server.token(&[Scope::ScriptWrite], None).await;
    let narrow = server.call("PUT", "/api/v1/apps/demo/bundle").token(&token);
    narrow.json(&json!({ "scripts": {}, "triggers": [] })).send().await.problem("forbidden");
    assert_eq!(server.get(TRIGGERS).await.items("name"), ["nightly"]);
    let made = server.call("PUT", "/api/v1/apps/fresh/bundle?create_app=true");
    let made = made.json(&json!({ "scripts": { "main": "1" }, "triggers": [nightly()] })).send().await.json();
    assert_eq!((&made["app_created"], &made["triggers"][0]["name"]), (&json!(true), &json!("nightly")));
}
