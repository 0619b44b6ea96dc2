//! The rest of the command line.

use crate::support::{run_plain, shared, shared_app};

#[test]
fn apps_are_made_listed_and_deleted() {
    let server = shared();
    server.cli(&["app", "create", "passing"]).ok();
    assert!(server.cli(&["app", "create", "passing"]).failed(1).contains("already_exists"));
    assert!(server.cli(&["app", "list"]).ok().contains("passing"));
    let list: serde_json::Value = serde_json::from_str(&server.cli(&["app", "list", "--json"]).ok()).unwrap();
    assert!(list["items"].as_array().unwrap().iter().any(|app| app["name"] == "passing"));
    assert!(
        server
            .cli(&["app", "delete", "passing", "--confirm", "other"])
            .failed(2)
            .contains("nothing was deleted")
    );
    server.cli(&["app", "delete", "passing", "--confirm", "passing"]).ok();
    let gone = server.cli(&["app", "show", "passing"]).failed(4);
    assert!(gone.contains("no app \"passing\"") && gone.contains("app_not_found"), "{gone}");
    server.cli(&["app", "create", "passable"]).ok();
    let near = server.cli(&["list", "--app", "pasable"]).failed(4);
    assert!(near.contains("no app \"pasable\"; did you mean \"passable\"?"), "{near}");
}

#[test]
fn the_address_of_the_apps_is_not_that_of_the_management_api() {
    let server = shared();
    let url = format!("http://{}", server.app);
    for command in [["app", "list"], ["list", "--app=demo"]] {
        let said = server.cli(&[&command[..], &["--url", &url, "--token", "pcl_x"]].concat()).failed(4);
        assert!(said.contains("the management API is on the control listener"), "{said}");
    }
}

#[test]
fn a_key_that_is_none_is_refused_with_what_is_allowed() {
    let app = shared_app("no-key");
    for command in [&["kv", "get", "c", ""][..], &["kv", "set", "c", "", "1"], &["kv", "rm", "c", ""]] {
        let said = app.cli(command).failed(2);
        assert!(said.contains("key must not be empty; allowed are 1 to 512 bytes"), "{said}");
    }
}

#[test]
fn invoke_prints_the_result_and_its_logs() {
    let app = shared_app("invoke");
    app.deploy("sum", "print(\"adding\"); event.a + event.b").ok();
    let output = app.cli(&["invoke", "sum", r#"{"a": 1, "b": 2}"#]);
    assert!(output.stderr.contains("adding") && output.stderr.contains("fuel"), "{}", output.stderr);
    assert_eq!(output.ok(), "3\n");
    let with_input = app.server.cli_with(&["invoke", "sum", "-", "--app", &app.name], r#"{"a": 3, "b": 4}"#);
    assert_eq!(with_input.ok(), "7\n");
    let json: serde_json::Value =
        serde_json::from_str(&app.cli(&["invoke", "sum", r#"{"a": 1, "b": 2}"#, "--json"]).ok()).unwrap();
    assert_eq!(json["result"], 3);
    assert!(app.cli(&["invoke", "sum", "{"]).failed(2).contains("not JSON"));
    assert!(app.cli(&["invoke", "none"]).failed(4).contains("script_not_found"));

    app.deploy("fails", "let x = 1;\nthrow \"no\";").ok();
    let stderr = app.cli(&["invoke", "fails"]).failed(1);
    assert!(stderr.contains("script_error") && stderr.contains("fails.rhai:2:1"), "{stderr}");
}

#[test]
fn data_are_read_and_written() {
    let app = shared_app("kv-cli");
    app.cli(&["kv", "set", "users", "bob/1", r#"{"age":12345678901234567890123}"#]).ok();
    assert_eq!(app.cli(&["kv", "get", "users", "bob/1"]).ok(), "{\"age\":12345678901234567890123}\n");
    app.cli(&["kv", "set", "users", "é", "\"text\""]).ok();
    assert_eq!(app.cli(&["kv", "get", "users", "é"]).ok(), "text\n");
    let keys = app.cli(&["kv", "ls", "users", "--prefix", "b"]).ok();
    assert!(keys.contains("bob/1") && !keys.contains('é'), "{keys}");
    assert!(app.cli(&["kv", "ls"]).ok().contains("users"));
    app.cli(&["kv", "rm", "users", "é"]).ok();
    assert!(app.cli(&["kv", "get", "users", "é"]).failed(4).contains("not_found"));
}

#[test]
fn routes_and_domains_are_added_listed_and_removed() {
    let app = shared_app("routes-cli");
    app.deploy("users", "req.params.id").ok();
    let said = app.cli(&["route", "add", "/u/:id", "users", "--method", "get"]).ok();
    assert!(said.starts_with("GET /u/:id leads to users: http://"), "{said}");
    assert_eq!(app.get("/u/7").text(), "7");
    app.cli(&["route", "add", "/u/:id", "users", "--method", "PUT", "--method", "POST"]).ok();
    let list = app.cli(&["route", "list"]).ok();
    assert!(list.contains("POST,PUT  /u/:id  users"), "{list}");
    assert!(app.cli(&["route", "remove", "/u/:id"]).failed(2).contains("2 routes"));
    app.cli(&["route", "remove", "/u/:id", "--method", "PUT"]).ok();
    app.cli(&["route", "remove", "/u/:id"]).ok();
    assert_eq!(app.get("/u/7").code(), "route_not_found");
    let missing = app.cli(&["route", "remove", "/u/:id"]).failed(4);
    assert!(missing.contains(&format!("no route /u/:id in app \"{}\"", app.name)), "{missing}");
    assert!(app.cli(&["route", "add", "u", "users"]).failed(2).contains("must start with /"));
    app.cli(&["route", "add", "/u", "none"]).failed(4);

    let host = format!("{}.example.org", app.name);
    let said = app.cli(&["domain", "add", &host]).ok();
    assert!(said.contains(&format!("_picloud.{host} TXT \"picloud-verification=")), "{said}");
    assert!(said.contains(&format!("picloud domain verify {host} --app {}", app.name)), "{said}");
    assert!(app.cli(&["domain", "list"]).ok().contains("not yet"));
    assert_eq!(crate::support::get(app.server.app, &host, "/users").code(), "app_not_found");
    app.cli(&["domain", "verify", &host, "--trust"]).ok();
    assert!(app.cli(&["domain", "list"]).ok().contains(&host));
    assert_eq!(crate::support::get(app.server.app, &host, "/users").status, 204);
    app.cli(&["domain", "remove", &host]).ok();
    assert!(app.cli(&["domain", "remove", &host]).failed(4).contains("no domain"));
    assert!(app.cli(&["domain", "add", "127.0.0.1"]).failed(2).contains("IP address"));
}

#[test]
fn the_history_and_the_logs_tell_of_failures() {
    let app = shared_app("history");
    app.deploy("fails", "log::warn(\"trouble ahead\"); throw \"no\"").ok();
    assert_eq!(app.get("/fails").code(), "script_error");
    // The history is written in batches: the command is repeated until the batch is out.
    let listed = (0..200)
        .map(|_| app.cli(&["executions", "--failed"]).ok())
        .find(|text| text.contains("script_error"));
    let listed = listed.expect("the failure is in the history");
    let row = listed.lines().nth(1).unwrap();
    assert!(row.ends_with("  no"), "the message is in the list: {row}");
    let id = row.split_whitespace().rev().nth(1).unwrap().to_owned();
    let shown = app.cli(&["executions", &id]).ok();
    assert!(shown.contains("trouble ahead") && shown.contains("status 500"), "{shown}");
    assert!(shown.contains("memory      ") && shown.contains(" MiB"), "{shown}");
    assert!(shown.contains("--> fails.rhai:1:29"), "{shown}");
    let caret = shown.lines().find(|line| line.ends_with('^')).expect(&shown);
    let source = shown.lines().find(|line| line.starts_with("1 | ")).unwrap();
    assert_eq!(caret.find('^'), source.find("throw"), "{shown}");
    for list in [["logs", "--script", "fail"], ["executions", "--script", "fail"]] {
        let unknown = app.cli(&list).failed(4);
        assert!(unknown.contains("no script \"fail\"") && unknown.contains("\"fails\""), "{unknown}");
    }
    let logs = app.cli(&["logs"]).ok();
    assert!(logs.contains("warn  trouble ahead"), "{logs}");
    assert!(logs.contains("error script_error: no (fails.rhai:1:29)"), "{logs}");
    let json: serde_json::Value = serde_json::from_str(&app.cli(&["logs", "--json"]).ok()).unwrap();
    assert_eq!(json["items"][0]["error"]["code"], "script_error");
}

#[test]
fn what_a_script_says_does_not_drive_the_terminal() {
    let app = shared_app("terminal");
    app.deploy("evil", r#"log::warn("\u001b[2J\u202elog"); throw "\u001b[2J\u2066error""#).ok();
    let shown = app.cli(&["invoke", "evil", "1"]).failed(1);
    assert!(shown.contains(r"\u{1b}[2J\u{202e}log") && shown.contains(r"\u{1b}[2J\u{2066}error"), "{shown}");
    app.deploy("value", r#""\u001b[2J\u202e""#).ok();
    assert_eq!(app.cli(&["invoke", "value", "1"]).ok(), "\u{1b}[2J\u{202e}\n", "a program gets it as it is");
}

#[test]
fn a_server_that_is_not_there_is_said_plainly() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let environment = [("PICLOUD_URL", url.as_str()), ("PICLOUD_TOKEN", "pcl_x")];
    let stderr = run_plain(&["app", "list"], &environment).failed(3);
    assert!(stderr.contains(&url) && stderr.contains("picloud serve"), "{stderr}");
    let stderr = run_plain(&["app", "list"], &[("PICLOUD_URL", "ftp://x")]).failed(2);
    assert!(stderr.contains("PICLOUD_URL is \"ftp://x\""), "{stderr}");
}

#[test]
fn a_wrong_token_is_refused_and_a_saved_one_is_used() {
    let server = shared();
    assert!(server.cli(&["app", "list", "--token", "pcl_wrong"]).failed(5).contains("unauthenticated"));
    assert!(server.cli(&["whoami"]).ok().contains("owner"));
    assert!(server.cli_with(&["login"], "pcl_wrong\n").failed(5).contains("unauthenticated"));
    assert!(server.cli_with(&["login"], &server.token()).ok().contains("signed in"));
    assert!(server.cli(&["whoami"]).ok().contains("owner"));
    assert!(server.cli(&["logout"]).ok().contains("signed out"));
}

#[test]
fn status_and_doctor_know_the_server() {
    let server = shared();
    assert!(server.cli(&["status"]).ok().contains("ready"));
    let report: serde_json::Value = serde_json::from_str(&server.cli(&["doctor", "--json"]).ok()).unwrap();
    assert_eq!(report["server"]["ready"], true);
    assert_eq!(report["guest"]["embedded"], true);
    assert_eq!(report["problems"].as_array().unwrap().len(), 0, "{report}");
    assert!(report["sandbox"]["pool_mode"].is_string());
    assert!(server.cli(&["doctor"]).ok().contains("A server can run here."));
}

#[test]
fn with_json_an_error_is_one_object_too() {
    let app = shared_app("json-errors");
    let error = |arguments: &[&str], code: i32| -> serde_json::Value {
        serde_json::from_str(&app.server.cli(arguments).failed(code)).unwrap()
    };
    let missing = error(&["app", "show", "no-such-app", "--json"], 4);
    assert_eq!((&missing["code"], &missing["status"]), (&"app_not_found".into(), &404.into()));
    assert!(missing["request_id"].is_string() && missing["detail"].is_string(), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.rhai");
    std::fs::write(&file, "let = 1").unwrap();
    let broken = error(&["deploy", file.to_str().unwrap(), "--app", &app.name, "--json"], 1);
    assert_eq!((&broken["code"], &broken["line"]), (&"compile_error".into(), &1.into()));
    app.deploy("fails", "print(\"before\"); throw 1").ok();
    let failed = error(&["invoke", "fails", "--app", &app.name, "--json"], 1);
    assert_eq!(failed["logs"][0]["message"], "before");

    assert_eq!(error(&["deploy", "/nowhere.rhai", "--app", "x", "--json"], 1)["code"], "file");
    let wrong = error(&["deploy", "--json"], 2);
    assert_eq!(wrong["code"], "usage");
    assert!(wrong["detail"].as_str().unwrap().contains("<PATH>"), "{wrong}");
    let environment = [("PICLOUD_URL", "http://127.0.0.1:1"), ("PICLOUD_TOKEN", "pcl_x")];
    let away = run_plain(&["app", "list", "--json"], &environment).failed(3);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&away).unwrap()["code"], "unreachable");
    // Not an address of this machine alone, so that people are warned that the token is sent unencrypted.
    let environment = [("PICLOUD_URL", "http://0.0.0.0:1"), ("PICLOUD_TOKEN", "pcl_x")];
    assert!(run_plain(&["app", "list"], &environment).failed(3).contains("unencrypted"));
    let open = run_plain(&["app", "list", "--json"], &environment).failed(3);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&open).unwrap()["code"], "unreachable");
}

#[test]
fn output_is_plain_where_no_terminal_is() {
    let server = shared();
    let output = server.cli(&["app", "show", "no-such-app"]);
    assert!(!output.stderr.contains('\x1b') && !output.stdout.contains('\x1b'), "{}", output.stderr);
}
