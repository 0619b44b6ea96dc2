//! Messages, publications and dead letters by the command line.

use serde_json::{Value, json};

use crate::support::{App, shared, shared_app};

/// A row of a table, as its columns.
#[track_caller]
fn row(table: &str, first: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.starts_with(first)).unwrap_or_else(|| panic!("{table}"));
    row.split("  ").map(str::trim).filter(|column| !column.is_empty()).map(str::to_owned).collect()
}

#[track_caller]
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a command prints once the history has what it is to show.
#[track_caller]
fn stored(app: &App, command: &[&str], is_there: impl Fn(&str) -> bool) -> String {
    let began = std::time::Instant::now();
    loop {
        let text = app.cli(command).stdout;
        if is_there(&text) {
            return text;
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "{command:?} still prints {text}");
    }
}

/// An app whose queue `jobs` has a message with the order 7 that was given up, and the id of its dead letter.
fn app_with_a_dead_letter(name: &str) -> (App, String) {
    let app = shared_app(name);
    app.deploy("work", "fn on_message(msg) { throw `no order ${msg.body.order}`; }").ok();
    app.cli(&["trigger", "add", "work", "--script", "work", "--queue", "jobs", "--max-attempts", "1"]).ok();
    app.cli(&["queue", "send", "jobs", r#"{"order": 7}"#]).ok();
    app.server.wait_until_handled(&app.name);
    let letters = parsed(&app.cli(&["dlq", "list", "--json"]).ok());
    let id = letters["items"][0]["id"].as_str().unwrap().to_owned();
    (app, id)
}

#[test]
fn a_message_waits_for_a_trigger_and_while_its_queue_is_paused() {
    let app = shared_app("queues");
    let list = || app.cli(&["queue", "list"]).ok();
    let none = app.cli(&["queue", "list"]);
    assert!(none.stderr.contains("no queues; `picloud queue send QUEUE BODY`"), "{}", none.stderr);
    let id = app.cli(&["queue", "send", "jobs", r#"{"order": 7}"#]).ok();
    assert_eq!(id.trim().len(), "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b".len(), "{id}");
    assert_eq!(row(&list(), "jobs")[1..], ["1", "0", "-", "none: its messages wait"]);

    let paused = app.cli(&["queue", "pause", "jobs"]);
    assert!(paused.stderr.contains("paused jobs"), "{}", paused.stderr);
    assert_eq!(app.cli(&["queue", "pause", "jobs"]).code, 0, "it may be repeated");
    app.deploy("work", r#"fn on_message(msg) { kv::set("done", msg.id, msg.body); }"#).ok();
    app.cli(&["trigger", "add", "worker", "--script", "work", "--queue", "jobs", "--concurrency", "4"]).ok();
    let queue = row(&list(), "jobs");
    assert!(queue[1] == "1" && queue[4].starts_with("worker, paused since 20"), "{queue:?}");
    let queue = &parsed(&app.cli(&["queue", "list", "--json"]).ok())["items"][0];
    assert_eq!((&queue["name"], &queue["consumer"]), (&json!("jobs"), &json!("worker")));
    assert_eq!((&queue["waiting"], &queue["concurrency"]), (&json!(1), &json!(4)));
    assert!(queue["paused_at"].is_string(), "{queue}");

    let resumed = app.cli(&["queue", "resume", "jobs"]);
    assert!(resumed.stderr.contains("resumed jobs"), "{}", resumed.stderr);
    app.server.wait_until_handled(&app.name);
    assert_eq!(row(&list(), "jobs")[1..], ["0", "0", "4", "worker"]);
    assert_eq!(app.cli(&["kv", "get", "done", id.trim()]).ok(), "{\"order\":7}\n");
}

#[test]
fn messages_are_handled_by_their_priority_once_and_not_too_early() {
    let app = shared_app("message-options");
    let send = |body: &str, options: &[&str]| app.cli(&[&["queue", "send", "jobs", body], options].concat());
    app.cli(&["queue", "pause", "jobs"]).ok();
    send("\"late\"", &["--priority", "-5"]).ok();
    send("\"usual\"", &[]).ok();
    send("\"first\"", &["--priority", "100"]).ok();
    let key = ["--dedupe-key", "order-7"];
    let once = parsed(&send("\"keyed\"", &[&key[..], &["--json"]].concat()).ok());
    assert_eq!(once["duplicate"], false);
    let again = send("\"again\"", &key).ok();
    assert_eq!(again, format!("{} (sent before, with the same key)\n", once["id"].as_str().unwrap()));
    assert_eq!(parsed(&send("1", &[&key[..], &["--json"]].concat()).ok())["duplicate"], true);
    app.deploy(
        "work",
        r#"fn on_message(msg) { kv::set("list", "all", kv::get("list", "all", "") + msg.body + " "); }"#,
    )
    .ok();
    app.cli(&["trigger", "add", "work", "--script", "work", "--queue", "jobs", "--concurrency", "1"]).ok();
    app.cli(&["queue", "resume", "jobs"]).ok();
    app.server.wait_until_handled(&app.name);
    assert_eq!(app.cli(&["kv", "get", "list", "all"]).ok(), "first usual keyed late \n");

    send("\"later\"", &["--delay-ms", "3600000"]).ok();
    let waiting = app.server.api(&format!("GET /api/v1/apps/{}/outbox", app.name), "").json();
    assert_eq!(waiting["items"][0]["state"], "scheduled", "{waiting}");
}

#[test]
fn what_is_wrong_about_a_message_says_what_is_allowed() {
    let app = shared_app("wrong-messages");
    let long = "x".repeat(129);
    for (arguments, code, text) in [
        (&["queue", "send", "jobs", "{n: 1}"][..], 2, "the argument is not JSON: key must be a string"),
        (&["queue", "send", "jo bs", "1"], 2, "allowed are a-z, A-Z, 0-9, _, . and -"),
        (&["queue", "send", "jobs"], 2, "<JSON>"),
        (&["queue", "send", "jobs", "1", "--priority", "101"], 1, "allowed is -100 to 100"),
        (&["queue", "send", "jobs", "1", "--delay-ms", "31536000001"], 1, "31536000000 (a year)"),
        (&["queue", "send", "jobs", "1", "--dedupe-key", ""], 1, "must not be empty"),
        (&["queue", "send", "jobs", "1", "--group", &long], 1, "the longest allowed is 128"),
        (&["queue", "pause", "a/b"], 2, "allowed are a-z, A-Z, 0-9, _, . and -"),
        (&["publish", "orders/*", "1"], 2, "topic contains '*'; allowed are a-z, A-Z, 0-9, _, ., :, / and -"),
        (&["publish", "orders/new", "new"], 2, "is not JSON"),
        (&["dlq", "show", "7"], 2, "ids look like 0198f1c2-"),
        (&["trigger", "show", "a b"], 2, "allowed are a-z, A-Z, 0-9, _, . and -"),
        (&["trigger", "next", "nightly", "--count", "101"], 2, "1..=100"),
    ] {
        let refused = app.cli(arguments).failed(code);
        assert!(refused.contains(text), "{arguments:?}: {refused}");
    }
    let none = app.cli(&["queue", "list", "--json"]).ok();
    assert_eq!(parsed(&none), json!({ "items": [] }), "nothing of it was sent");
    let refused = app.cli(&["queue", "send", "jobs", "1", "--priority", "101", "--json"]).failed(1);
    assert_eq!(parsed(&refused)["code"], "invalid");

    for command in [
        &["queue", "list"][..],
        &["queue", "send", "jobs", "1"],
        &["queue", "pause", "jobs"],
        &["publish", "a", "1"],
        &["dlq", "list"],
        &["trigger", "list"],
    ] {
        let missing = shared().cli(&[command, &["--app", "not-there"]].concat()).failed(4);
        assert!(missing.contains("no app \"not-there\""), "{command:?}: {missing}");
    }
    let refused = app.cli(&["queue", "list", "--token", "pcl_wrong"]).failed(5);
    assert!(refused.contains("unauthenticated"), "{refused}");
}

#[test]
fn a_publication_reaches_each_trigger_that_listens() {
    let app = shared_app("topics");
    let alone = app.cli(&["publish", "orders/new", r#"{"order": 7}"#]);
    assert!(alone.stderr.contains("no trigger listens to orders/new"), "{}", alone.stderr);
    assert_eq!(alone.ok(), "");
    let none = app.cli(&["publish", "orders/new", "7", "--json"]).ok();
    assert_eq!(parsed(&none), json!({ "events": [] }));

    app.deploy("note", r#"fn on_publish(event) { kv::set("heard", event.trigger, event.body); }"#).ok();
    for (name, topic) in [("all", "*"), ("orders", "orders/*"), ("exact", "orders/new"), ("other", "mails/*")]
    {
        app.cli(&["trigger", "add", name, "--script", "note", "--topic", topic]).ok();
    }
    app.cli(&["trigger", "disable", "all"]).ok();
    let published = app.cli(&["publish", "orders/new", r#"{"order": 7}"#]);
    assert!(published.stderr.contains("published for 2 of the app's triggers"), "{}", published.stderr);
    app.server.wait_until_handled(&app.name);
    let heard = parsed(&app.cli(&["kv", "ls", "heard", "--json"]).ok());
    let keys: Vec<_> = heard["items"].as_array().unwrap().iter().map(|entry| entry["key"].clone()).collect();
    assert_eq!(keys, ["exact", "orders"]);
    let published = parsed(&app.cli(&["publish", "orders/new", "8", "--json"]).ok());
    assert_eq!(published["events"].as_array().map(Vec::len), Some(2), "{published}");
}

#[test]
fn a_dead_letter_is_listed_shown_and_tried_out() {
    let (app, id) = app_with_a_dead_letter("letters");
    let list = app.cli(&["dlq", "list"]).ok();
    let letter = row(&list, &id);
    assert_eq!((&letter[2..6], letter.len()), (&["queue", "work", "1", "open"].map(String::from)[..], 8));
    assert!(letter[7].starts_with("script_error: no order 7 (work:1:"), "{list}");
    app.cli(&["queue", "send", "jobs", r#"{"order": 8}"#]).ok();
    app.server.wait_until_handled(&app.name);
    let of_error = app.cli(&["dlq", "list", "--fingerprint", &letter[6]]).ok();
    assert!(of_error.contains("no order 7") && of_error.contains("no order 8"), "{of_error}");
    for (filter, count) in [
        (["--trigger", "work"], 2),
        (["--trigger", "play"], 0),
        (["--script", "work"], 2),
        (["--script", "play"], 0),
        (["--fingerprint", "0000000000000000"], 0),
    ] {
        let found = parsed(&app.cli(&[&["dlq", "list", "--json"], &filter[..]].concat()).ok());
        assert_eq!(found["items"].as_array().map(Vec::len), Some(count), "{filter:?}: {found}");
    }
    let shown = parsed(&app.cli(&["dlq", "show", &id, "--json"]).ok());
    assert_eq!((&shown["event"]["queue"], &shown["event"]["body"]), (&json!("jobs"), &json!({ "order": 7 })));
    assert_eq!((&shown["attempts"], &shown["error"]["code"]), (&json!(1), &json!("script_error")));

    app.deploy("work", r#"fn on_message(msg) { kv::set("done", `${msg.body.order}`, msg.attempt); }"#).ok();
    let tried = parsed(&app.cli(&["dlq", "dry-run", &id, "--json"]).ok());
    assert_eq!((&tried["error"], &tried["kv"][0]["key"]), (&Value::Null, &json!("7")));
    assert!(app.cli(&["dlq", "dry-run", &id]).ok().starts_with("would set done/7 1\n"));
    let before = app.cli(&["dlq", "dry-run", &id, "--version", "1"]).failed(1);
    assert!(before.contains("script_error: no order 7"), "{before}");
    let other = r#"{"queue": "jobs", "body": {"order": 9}}"#;
    let other = parsed(&app.cli(&["dlq", "dry-run", &id, "--event", other, "--json"]).ok());
    assert_eq!(other["kv"][0]["key"], "9");
    assert!(app.cli(&["kv", "ls", "done"]).ok().is_empty(), "nothing of it was done");

    let open = parsed(&app.cli(&["dlq", "list", "--resolution", "unresolved", "--json"]).ok());
    assert_eq!(open["items"].as_array().map(Vec::len), Some(2), "{open}");
    let wrong = app.cli(&["dlq", "list", "--resolution", "gone"]).failed(1);
    assert!(wrong.contains("handled_by_script"), "{wrong}");
    let none = app.cli(&["dlq", "ignore", "--trigger", "other"]).stderr;
    assert!(none.contains("ignored 0 dead letters; ") && none.contains("--resolution"), "{none}");

    let elsewhere = shared_app("no-letters");
    assert!(elsewhere.cli(&["dlq", "list"]).stderr.contains("no dead letters"));
    for command in ["show", "replay", "dry-run", "ignore"] {
        let missing = elsewhere.cli(&["dlq", command, &id]).failed(4);
        assert!(missing.contains("no") && missing.contains("dead letter"), "{missing}");
    }
}

#[test]
fn a_dead_letter_is_replayed_once_or_ignored() {
    let (app, id) = app_with_a_dead_letter("replays");
    for (arguments, code, text) in [
        (["--version", "0"], 1, "has no version of this number"),
        (["--version", "99"], 1, "version is 99; the script \"work\" has no version"),
        (["--event", "[7]"], 1, "event must be a JSON object"),
        (["--event", "{"], 2, "is not JSON"),
    ] {
        let refused = app.cli(&[&["dlq", "replay", &id], &arguments[..]].concat()).failed(code);
        assert!(refused.contains(text), "{arguments:?}: {refused}");
    }
    app.deploy("work", r#"fn on_message(msg) { kv::set("done", `${msg.body.order}`, msg.attempt); }"#).ok();
    let other = r#"{"queue": "jobs", "body": {"order": 9}}"#;
    let replayed = app.cli(&["dlq", "replay", &id, "--event", other]).ok();
    let event = replayed.trim().strip_prefix(&format!("{id} is replayed as the event ")).expect(&replayed);
    app.server.wait_until_handled(&app.name);
    assert_eq!(app.cli(&["kv", "get", "done", "9"]).ok(), "1\n", "it has all attempts before it");
    app.cli(&["kv", "get", "done", "7"]).failed(4);
    let again = app.cli(&["dlq", "replay", &id]).ok();
    assert_eq!(again, format!("{id} was replayed before, as the event {event}\n"));
    let again = parsed(&app.cli(&["dlq", "replay", &id, "--json"]).ok());
    assert_eq!(again, json!({ "event_id": event, "already": true }));
    assert!(app.cli(&["dlq", "ignore", &id]).failed(1).contains("was replayed or handled already"));
    assert!(app.cli(&["dlq", "list"]).stderr.contains("no dead letters"));
    assert_eq!(row(&app.cli(&["dlq", "list", "--all"]).ok(), &id)[5], "replayed");

    let (app, id) = app_with_a_dead_letter("ignored");
    let ignored = app.cli(&["dlq", "ignore", &id]);
    assert!(ignored.stderr.contains(&format!("ignored {id}")), "{}", ignored.stderr);
    assert!(app.cli(&["dlq", "list"]).ok().is_empty());
    assert_eq!(row(&app.cli(&["dlq", "list", "--all"]).ok(), &id)[5], "ignored");
}

#[test]
fn many_dead_letters_are_counted_replayed_and_ignored() {
    let (app, _) = app_with_a_dead_letter("many");
    app.cli(&["queue", "send", "jobs", r#"{"order": 8}"#]).ok();
    app.server.wait_until_handled(&app.name);
    let counted = app.cli(&["dlq", "fingerprints"]).ok();
    assert_eq!(counted.lines().count(), 2, "{counted}");
    let line: Vec<&str> = counted.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[1], "2", "{counted}");

    let edited = ["dlq", "replay", "--all", "--version", "1"];
    assert!(app.cli(&edited).failed(2).contains("are for one dead letter"));
    assert!(app.cli(&["dlq", "replay"]).failed(2).contains("required"));
    assert!(
        app.cli(&["dlq", "ignore", "--all", "--trigger", "work"]).failed(2).contains("cannot be used with")
    );

    app.deploy("work", r#"fn on_message(msg) { kv::set("done", `${msg.body.order}`, msg.attempt); }"#).ok();
    let replayed = app.cli(&["dlq", "replay", "--fingerprint", line[0]]);
    assert!(replayed.stderr.contains("replayed 2 dead letters"), "{}", replayed.stderr);
    app.server.wait_until_handled(&app.name);
    assert_eq!(app.cli(&["kv", "get", "done", "8"]).ok(), "1\n");
    let none = app.cli(&["dlq", "ignore", "--all"]);
    assert!(none.stderr.contains("ignored 0 dead letters"), "{}", none.stderr);
    assert_eq!(parsed(&app.cli(&["dlq", "ignore", "--all", "--json"]).ok()), json!({ "ignored": 0 }));
}

#[test]
fn events_are_fired_listed_followed_and_taken_back() {
    let app = shared_app("chains");
    let work =
        r#"fn on_message(msg) { kv::set("seen", msg.id, msg.body); topic::publish("done", msg.body); }"#;
    app.deploy("work", work).ok();
    app.deploy("tell", r#"fn on_publish(event) { throw "nobody listens"; }"#).ok();
    app.deploy("order", r#"queue::send("jobs", 9); "sent""#).ok();
    app.cli(&["trigger", "add", "worker", "--script", "work", "--queue", "jobs"]).ok();
    app.cli(&["trigger", "add", "teller", "--script", "tell", "--topic", "done", "--max-attempts", "1"]).ok();

    let fired = app.cli(&["trigger", "fire", "worker", "--event", r#"{"body": 7}"#]).ok();
    let event = fired.trim().strip_prefix("fired worker as the event ").expect(&fired).to_owned();
    app.server.wait_until_handled(&app.name);
    assert_eq!(app.cli(&["kv", "get", "seen", &event]).ok(), "7\n");
    let tree = stored(&app, &["event", "tree", &event], |tree| tree.contains("worker"));
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("queue > worker > work  done") && lines[0].ends_with(&event), "{tree}");
    assert!(lines[1].starts_with("`-- topic > teller > tell  dead: script_error: nobody listens"), "{tree}");
    assert_eq!(lines.len(), 2, "{tree}");

    // What a request makes begins with the request.
    assert_eq!(app.get("/order").text(), "sent");
    app.server.wait_until_handled(&app.name);
    let runs = parsed(&stored(&app, &["executions", "--json"], |runs| runs.contains("\"order\"")));
    let of_order = |run: &&Value| run["script"] == "order";
    let run = runs["items"].as_array().unwrap().iter().find(of_order).unwrap();
    let tree = ["executions", run["id"].as_str().unwrap(), "--tree"];
    let tree = stored(&app, &tree, |tree| tree.contains("worker"));
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("http > order  done"), "{tree}");
    assert!(lines[1].starts_with("`-- queue > worker"), "{tree}");
    assert!(lines[2].starts_with("    `-- topic > teller"), "{tree}");

    app.cli(&["queue", "set", "jobs", "--concurrency", "3"]).ok();
    let queues = parsed(&app.cli(&["queue", "list", "--json"]).ok());
    assert_eq!(queues["items"][0]["concurrency"], 3);
    app.cli(&["queue", "set", "jobs", "--unlimited"]).ok();
    assert!(app.cli(&["queue", "set", "jobs", "--concurrency", "0"]).failed(1).contains("1 to 10000"));
    app.cli(&["queue", "pause", "jobs"]).ok();
    let sent = app.cli(&["queue", "send", "jobs", "8"]).ok();
    let listed = app.cli(&["event", "list", "--queue", "jobs"]).ok();
    assert!(listed.contains(sent.trim()) && listed.contains("pending"), "{listed}");
    let shown = app.cli(&["event", "show", sent.trim()]).ok();
    assert!(shown.starts_with("state        pending\n"), "{shown}");
    let cancelled = app.cli(&["event", "cancel", sent.trim()]);
    assert!(cancelled.stderr.contains("cancelled"), "{}", cancelled.stderr);
    assert!(app.cli(&["event", "list"]).ok().is_empty());
    app.cli(&["event", "cancel", sent.trim()]).failed(4);
    assert!(app.cli(&["event", "show", sent.trim()]).ok().starts_with("state        dead\n"));
}
