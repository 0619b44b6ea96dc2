//! Triggers by the command line and by folders.

use std::fs;

use crate::support::{shared, shared_app};

#[test]
fn a_trigger_of_each_kind_is_added_listed_stopped_and_removed() {
    let app = shared_app("triggers");
    app.deploy("main", "fn on_cron(event) { 1 }\nfn on_message(msg) { 2 }").ok();
    let added = app.cli(&[
        "trigger",
        "add",
        "nightly",
        "--script",
        "main",
        "--cron",
        "0 3 * * *",
        "--timezone",
        "Europe/Berlin",
    ]);
    assert!(
        added.stderr.contains("it runs next at 20") && added.stderr.contains(" 03:00:00 +0"),
        "{}",
        added.stderr
    );
    assert_eq!(added.ok(), "nightly: 0 3 * * * in Europe/Berlin runs main\n");
    let add = |rest: &[&str]| app.cli(&[&["trigger", "add"], rest, &["--script", "main"]].concat());
    add(&["work", "--queue", "jobs", "--concurrency", "4", "--max-attempts", "9", "--disabled"]).ok();
    let kv = add(&["index", "--kv", "users:*", "--on", "set"]);
    assert!(kv.stderr.contains("warning: the script main has no function on_kv"), "{}", kv.stderr);
    kv.ok();
    add(&["orders", "--topic", "orders/*"]).ok();
    add(&["inbox", "--email"]).ok();
    add(&["alarm", "--dead-letters", "--of-kind", "queue", "--of-trigger", "work"]).ok();

    let list = app.cli(&["trigger", "list"]).ok();
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).expect(&list).to_owned();
    let inbox = format!("mail to {}.inbox@", app.name);
    for (name, parts) in [
        ("nightly", &["0 3 * * * in Europe/Berlin", "enabled", "03:00:00"][..]),
        ("work", &["messages of jobs", "disabled"]),
        ("index", &["set of users:*"]),
        ("orders", &["orders/*"]),
        ("inbox", &[inbox.as_str()]),
        ("alarm", &["dead letters of kind queue of trigger work"]),
    ] {
        assert!(parts.iter().all(|part| line(name).contains(part)), "{}", line(name));
    }
    let next = app.cli(&["trigger", "next", "nightly", "--count", "2"]).ok();
    assert_eq!(next.matches("03:00:00 +0").count(), 2, "{next}");
    let shown = app.cli(&["trigger", "show", "work"]).ok();
    assert!(shown.contains("attempts:       9") && shown.contains("enabled:        no"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&app.cli(&["trigger", "show", "work", "--json"]).ok()).unwrap();
    assert_eq!(json["concurrency"], 4);

    assert!(app.cli(&["trigger", "disable", "nightly"]).stderr.contains("nightly is disabled"));
    assert!(app.cli(&["trigger", "enable", "nightly"]).stderr.contains("it runs next at 20"));
    assert!(app.cli(&["delete", "main"]).failed(1).contains("trigger nightly"));
    for name in ["nightly", "work", "index", "orders", "inbox", "alarm"] {
        app.cli(&["trigger", "rm", name]).ok();
    }
    assert!(app.cli(&["trigger", "rm", "work"]).failed(4).contains("no trigger \"work\""));
    app.cli(&["delete", "main"]).ok();
}

#[test]
fn with_json_a_trigger_is_shown_as_the_api_has_it() {
    let app = shared_app("json-triggers");
    app.deploy("main", "fn on_message(msg) { 1 }").ok();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = app.cli(&[&["trigger"], arguments, &["--json"]].concat());
        assert_eq!(output.stderr, "", "{arguments:?}");
        serde_json::from_str(&output.ok()).unwrap()
    };
    let added = json(&["add", "nightly", "--script", "main", "--cron", "0 3 * * *", "--max-attempts", "2"]);
    assert_eq!((&added["kind"], &added["max_attempts"]), (&"cron".into(), &2.into()), "{added}");
    assert!(added["warnings"][0].as_str().unwrap().contains("no function on_cron"), "{added}");
    assert_eq!(json(&["list"])["items"][0]["id"], added["id"]);
    assert_eq!(json(&["disable", "nightly"])["enabled"], false);
    assert_eq!(json(&["enable", "nightly"])["enabled"], true);
    let schedule = json(&["next", "nightly", "--count", "3"]);
    assert_eq!(schedule["next"].as_array().map(Vec::len), Some(3), "{schedule}");
    assert_eq!(schedule["past"], serde_json::json!([]));
    for command in ["show", "enable", "disable", "rm", "next"] {
        let missing = app.cli(&["trigger", command, "nigthly", "--json"]).failed(4);
        let missing: serde_json::Value = serde_json::from_str(&missing).unwrap();
        assert_eq!(missing["code"], "not_found", "{missing}");
        assert!(missing["detail"].as_str().unwrap().contains("no trigger \"nigthly\""), "{missing}");
    }
    json(&["add", "work", "--script", "main", "--queue", "jobs"]);
    let refused = app.cli(&["trigger", "next", "work"]).failed(1);
    assert!(refused.contains("only one of kind cron has a schedule"), "{refused}");
}

#[test]
fn what_is_wrong_about_a_trigger_is_told_before_it_is_sent() {
    let app = shared_app("wrong-triggers");
    app.deploy("main", "1").ok();
    let add = |rest: &[&str]| app.cli(&[&["trigger", "add", "t", "--script", "main"], rest].concat());
    for (rest, text) in [
        (&["--cron", "0 0 30 2 *"][..], "never fires"),
        (&["--cron", "* * * * * *"], "more often than every 10 seconds"),
        (&["--cron", "@daily", "--timezone", "Europe/Berln"], "is Europe/Berlin meant?"),
        (&["--cron", "@daily", "--queue", "jobs"], "cannot be used with"),
        (&["--topic", "a", "--timezone", "UTC"], "of kind topic has no such field"),
        (&["--kv", "a*b"], "users:* is a pattern"),
        (&["--dead-letters", "--of-kind", "timer"], "allowed are kv, cron"),
        (&[], "required arguments"),
    ] {
        let refused = add(rest).failed(2);
        assert!(refused.contains(text), "{rest:?}: {refused}");
    }
    add(&["--queue", "jobs"]).ok();
    assert!(add(&["--queue", "jobs"]).failed(1).contains("has a trigger \"t\" already"));
    add(&["--queue", "other", "--replace"]).ok();
    let missing = app.cli(&["trigger", "add", "u", "--script", "gone", "--topic", "a"]).failed(4);
    assert!(missing.contains("no script \"gone\""), "{missing}");
}

#[test]
fn a_folder_brings_all_triggers_of_its_app_or_leaves_them() {
    let server = shared();
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    let job = "[[trigger]]\nname = 'job'\nkind = 'queue'\nscript = 'a'\nqueue = 'jobs'\n";
    write("picloud.toml", &format!("name = 'with-triggers'\n{job}"));
    write("a.rhai", "fn on_message(msg) { msg.body }");
    let path = folder.path().to_str().unwrap();
    let said = server.cli(&["deploy", path]).ok();
    assert!(said.contains("trigger   job: messages of jobs runs a"), "{said}");

    write("picloud.toml", "name = 'with-triggers'\n");
    server.cli(&["deploy", path]).ok();
    let list = server.cli(&["trigger", "list", "--app", "with-triggers"]).ok();
    assert!(list.contains("job"), "{list}");

    let nightly = "[[triggers]]\nname = 'nightly'\nkind = 'cron'\nscript = 'a'\ncron = '@daily'\n";
    write("picloud.toml", &format!("name = 'with-triggers'\n{nightly}"));
    let changed = server.cli(&["deploy", path]);
    assert!(
        changed.stderr.contains("the trigger job is gone, since picloud.toml does not have it"),
        "{}",
        changed.stderr
    );
    assert!(changed.stderr.contains("the script a has no function on_cron"), "{}", changed.stderr);
    changed.ok();

    write("picloud.toml", &format!("name = 'with-triggers'\n{}", nightly.replace("'a'", "'b'")));
    let refused = server.cli(&["deploy", path]).failed(2);
    assert!(refused.contains("the trigger nightly names the script b, which has no file"), "{refused}");
}
