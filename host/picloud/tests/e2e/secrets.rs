//! Secrets and variables, from the command line to a script; and a canary that is looked for wherever anything is kept.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{App, Response, Server, fill, get, home, run_plain, shared_app};

/// Longer than a line of base64, with what each form escapes in another way.
const CANARY: &str = "c4n4ry QX7-tok3n\"/\\ü+&%'<>~ 0123456789-abcdefghij";

/// Something that is kept in clear: what finds this would find the canary as well.
const CONTROL: &str = "control-of-the-search-5531";

fn put_secret(server: &Server, app: &str, name: &str, value: &str) {
    server.cli_with(&["secret", "set", name, "--stdin", "--app", app], value).ok();
}

fn deploy(server: &Server, app: &str, script: &str, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.rhai");
    fs::write(&file, source).unwrap();
    server.cli(&["deploy", file.to_str().unwrap(), "--name", script, "--app", app]).ok();
}

fn set(app: &App, name: &str, value: &str) {
    put_secret(app.server, &app.name, name, value);
}

#[test]
fn a_secret_reaches_the_scripts_that_declare_it() {
    let app = shared_app("secrets");
    app.deploy("pay", "1").ok();
    let said = app.deploy("pay", "secret::get(\"stripe\")");
    assert!(said.stderr.contains("note: pay v2 newly reads the secret \"stripe\""), "{}", said.stderr);
    assert!(said.stderr.contains("the secret \"stripe\" is not set yet"), "{}", said.stderr);
    assert_eq!(app.get("/pay").code(), "secret_not_found");

    let told = app.server.cli_with(&["secret", "set", "stripe", "--stdin", "--app", &app.name], "sk_1\n");
    assert!(told.stderr.contains("set stripe; read by pay"), "{}", told.stderr);
    assert_eq!(app.get("/pay").text(), "sk_1");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "sk_2\n").unwrap();
    app.cli(&["secret", "set", "stripe", "--file", file.path().to_str().unwrap()]).ok();
    assert_eq!(app.get("/pay").text(), "sk_2\n", "a file is taken as it is");

    app.deploy("sneaky", "secret::get(\"str\" + \"ipe\" + req.query_string)").ok();
    assert_eq!(app.get("/sneaky").code(), "secret_not_declared");
    let shown = app.cli(&["invoke", "sneaky"]).failed(1);
    assert!(shown.contains("const SECRETS = [\"stripe\"]"), "{shown}");
    app.deploy(
        "sneaky",
        "const SECRETS = [\"stripe\"];\nfn on_request(req) { secret::get(\"str\" + req.query.rest) }",
    )
    .ok();
    assert_eq!(app.get("/sneaky?rest=ipe").text(), "sk_2\n");

    app.deploy("lib", "fn key() { secret::get(\"stripe\") }").ok();
    app.deploy("user", "import \"lib\" as lib; lib::key()").ok();
    assert_eq!(app.get("/user").text(), "sk_2\n");
    app.deploy("caller", "app::invoke(\"pay\")").ok();
    assert_eq!(app.get("/caller").text(), "sk_2\n");

    let list = app.cli(&["secret", "list"]).ok();
    assert!(list.contains("pay, sneaky, user") && !list.contains("sk_2"), "{list}");
    app.cli(&["secret", "rm", "stripe"]).ok();
    assert_eq!(app.get("/pay").code(), "secret_not_found");
    app.cli(&["secret", "rm", "stripe"]).failed(4);
}

#[test]
fn a_strict_app_is_asked_before_a_script_uses_more() {
    let app = shared_app("strict");
    app.deploy("pay", "secret::get(\"stripe\")").ok();
    let said = app.cli(&["grant", "strict"]).ok();
    assert!(said.contains("secrets") && said.contains("stripe"), "{said}");
    let refused = app.deploy("pay", "secret::get(\"stripe\") + kv::get(\"users\", req.query.id)").failed(5);
    assert!(refused.contains("not_granted") && refused.contains("kv \"users\""), "{refused}");
    app.cli(&["grant", "add", "kv", "users"]).ok();
    app.deploy("pay", "secret::get(\"stripe\") + kv::get(\"users\", req.query.id)").ok();
    let left = app.cli(&["grant", "remove", "kv", "users"]);
    assert!(left.stderr.contains("pay uses the kv collection \"users\""), "{}", left.stderr);
    app.deploy("other", "kv::get(req.query.c, \"k\")").failed(5);
    app.cli(&["grant", "add", "kv", "--any"]).ok();
    app.deploy("other", "kv::get(req.query.c, \"k\")").ok();
    app.cli(&["grant", "open"]).ok();
    app.deploy("third", "env::get(\"A\")").ok();
}

#[test]
fn the_command_line_takes_no_value_as_an_argument() {
    let app = shared_app("secret-arguments");
    let refused = app.cli(&["secret", "set", "key", "value"]).failed(2);
    assert!(refused.contains("unexpected argument"), "{refused}");
    let refused = app.cli(&["secret", "set", "key"]).failed(2);
    assert!(refused.contains("--stdin") && refused.contains("--file"), "{refused}");
    let empty = app.server.cli_with(&["secret", "set", "key", "--stdin", "--app", &app.name], "\n").failed(2);
    assert!(empty.contains("1 byte"), "{empty}");
    let long = "x".repeat((64 << 10) + 1);
    app.server.cli_with(&["secret", "set", "key", "--stdin", "--app", &app.name], &long).failed(2);
    set(&app, "key", &"x".repeat(64 << 10));
}

#[test]
fn variables_come_from_the_command_line_and_the_manifest() {
    let app = shared_app("variables");
    app.deploy("show", "[env::get(\"REGION\"), env::get(\"OTHER\", \"none\")]").ok();
    assert_eq!(app.get("/show").text(), "[null,\"none\"]");
    app.cli(&["env", "set", "REGION", "eu"]).ok();
    assert_eq!(app.get("/show").text(), "[\"eu\",\"none\"]");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("picloud.toml"), format!("name = '{}'\n[env]\nREGION = 'us'\n", app.name))
        .unwrap();
    fs::write(folder.path().join("show.rhai"), "env::get(\"REGION\") + env::get(\"OTHER\", \"\")").unwrap();
    app.cli(&["env", "set", "OTHER", "!"]).ok();
    let said = app.server.cli(&["deploy", folder.path().to_str().unwrap()]);
    assert!(said.stderr.is_empty(), "it uses what it used before: {}", said.stderr);
    assert_eq!(app.get("/show").text(), "us!");
    assert!(app.cli(&["env", "list"]).ok().contains("REGION"));
    app.cli(&["env", "rm", "OTHER"]).ok();
    assert_eq!(app.get("/show").text(), "us");
}

#[test]
fn a_key_is_rotated_under_a_running_server() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    deploy(&server, "app", "read", "secret::get(\"one\") + secret::get(\"two\")");
    put_secret(&server, "app", "one", "1");
    put_secret(&server, "app", "two", "2");
    let read = |server: &Server| get(server.app, "app.localhost", "/read").text();
    assert_eq!(read(&server), "12");
    let keys = || -> Vec<String> {
        let text = fs::read_to_string(data_dir.join("secret-keys")).unwrap();
        text.lines().filter(|line| line.starts_with('k')).map(|line| line[..17].to_owned()).collect()
    };
    let first = keys();
    let said = server.cli(&["secret", "rotate-key"]);
    assert!(said.stderr.contains("2 secrets are encrypted with the new key"), "{}", said.stderr);
    let second = keys();
    assert_eq!((first.len(), second.len(), &second[0]), (1, 2, &first[0]));
    // A change makes the server read again: it finds a key that it has not seen yet.
    put_secret(&server, "app", "one", "new");
    assert_eq!(read(&server), "new2");
    let said = server.cli(&["secret", "rotate-key"]);
    assert!(said.stderr.contains("removed 1 keys"), "{}", said.stderr);
    assert_eq!(keys()[0], second[1]);
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));

    let server = Server::start(&data_dir, &[]);
    assert_eq!(read(&server), "new2");
    server.signal("TERM");
    server.wait();
    run_plain(&["secret", "rotate-key"], &[("PICLOUD_DATA_DIR", data_dir.to_str().unwrap())]).ok();
    let server = Server::start(&data_dir, &[]);
    assert_eq!(read(&server), "new2");
}

#[test]
fn a_server_does_not_start_without_the_keys_of_its_secrets() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    server.cli(&["app", "create", "app"]).ok();
    put_secret(&server, "app", "one", "1");
    server.signal("TERM");
    server.wait();
    let (file, elsewhere) = (data_dir.join("secret-keys"), home.path().join("keys"));
    let text = fs::read_to_string(&file).unwrap();
    let key = &text.lines().last().unwrap()[..17];

    let start = |extra: (&str, &str)| {
        let folder = ("PICLOUD_DATA_DIR", data_dir.to_str().unwrap());
        let free = [("PICLOUD_ADMIN_ADDR", "127.0.0.1:0"), ("PICLOUD_APP_ADDR", "127.0.0.1:0")];
        run_plain(&["serve"], &[folder, free[0], free[1], extra])
    };
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let refused = start(("RUST_LOG", "error")).failed(6);
    assert!(refused.contains("can be read by others") && refused.contains("chmod 600"), "{refused}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::rename(&file, &elsewhere).unwrap();
    let refused = start(("RUST_LOG", "error")).failed(6);
    assert!(refused.contains(key) && refused.contains("put the file back"), "{refused}");
    assert!(!file.exists(), "no new key where one is missing");

    let moved = elsewhere.to_str().unwrap().to_owned();
    let server = Server::start(&data_dir, &[("PICLOUD_SECRET_KEYS_FILE", &moved)]);
    deploy(&server, "app", "read", "secret::get(\"one\")");
    assert_eq!(get(server.app, "app.localhost", "/read").text(), "1");
    server.signal("TERM");
    server.wait();

    // Another file's keys: the server starts, and says what it cannot read.
    fs::write(&file, format!("k0000000000000001 {}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(&data_dir, &[]);
    assert_eq!(get(server.app, "app.localhost", "/read").code(), "secret_unreadable");
    let shown = server.cli(&["invoke", "read", "--app", "app"]).failed(1);
    assert!(shown.contains(key) && !shown.contains("secret-keys"), "{shown}");
    server.signal("TERM");
    assert!(server.wait().1.contains(key));
}

/// The canary in every form, as the script of the same forms gives them.
fn forms(answer: &Response) -> Vec<String> {
    let mut forms: Vec<String> =
        answer.json().as_array().unwrap().iter().map(|form| form.as_str().unwrap().to_owned()).collect();
    let hex = CANARY.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    forms.extend([hex.to_uppercase(), hex, "QX7-tok3n".to_owned(), "QX7".to_owned()]);
    assert_eq!(forms[0], CANARY);
    forms
}

const FORMS: &str = r#"
    let k = secret::get("canary");
    let json = json::stringify(k);
    let padded = base64::encode(k);
    [k, padded, padded.split("=")[0], base64::encode_url(k), url::encode(k), json.sub_string(1, json.len() - 2),
        base64::encode("user:" + k)]"#;

/// Scripts that try to leave the canary somewhere. What each answers is the platform's words, or nothing of it.
const LEAKS: &[(&str, &str, &str)] = &[
    (
        "logs",
        "for form in app::invoke(\"forms\") { log::info(form); print(form); log::error(#{ a: [form] }); } 1",
        "",
    ),
    ("throws", "throw secret::get(\"canary\")", "script_error"),
    ("throws-map", "throw #{ code: \"x\", inner: [secret::get(\"canary\")] }", "script_error"),
    (
        "throws-forms",
        "let forms = app::invoke(\"forms\"); let mine = secret::get(\"canary\"); throw forms",
        "script_error",
    ),
    ("throws-cut", "let t = \"\"; t.pad(4088, \"x\"); throw t + secret::get(\"canary\")", "script_error"),
    ("names-key", "kv::get(secret::get(\"canary\"), \"k\")", "invalid"),
    ("names-script", "app::invoke(secret::get(\"canary\"))", "invalid"),
    ("parses", "json::parse(secret::get(\"canary\"))", "script_error"),
    (
        "header-name",
        "let h = #{}; h[secret::get(\"canary\")] = \"v\"; response(200, \"x\", h)",
        "bad_response",
    ),
    (
        "header-type",
        "#{ headers: #{ \"content-type\": secret::get(\"canary\") + \", text/html\" }, body: \"x\" }",
        "bad_response",
    ),
    ("calls", "app::invoke(\"throws\")", "script_error"),
    ("spins", "log::warn(secret::get(\"canary\")); loop {}", "out_of_fuel"),
    (
        "recurses",
        "fn f(x) { f(x) } print(secret::get(\"canary\")); f(secret::get(\"canary\"))",
        "stack_overflow",
    ),
    ("grows", "let x = secret::get(\"canary\"); print(x); loop { x += x; }", "out_of_memory"),
];

fn finds(needles: &[String], haystack: &str) -> Option<String> {
    needles.iter().find(|needle| haystack.contains(needle.as_str())).cloned()
}

/// A text dump of the server's database, made as the documentation says: by the user that the server runs as.
fn dump(data_dir: &Path) -> String {
    let output = Command::new(picloud_postgres::find_binaries().unwrap().program("pg_dump"))
        .args(["--username", "picloud", "--dbname", "picloud", "--host"])
        .arg(data_dir.join("run"))
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether any file of a folder has one of the texts, whatever else is in the file.
fn is_in_a_file(texts: &[String], folder: &Path) -> bool {
    let patterns = tempfile::NamedTempFile::new().unwrap();
    fs::write(patterns.path(), texts.join("\n")).unwrap();
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["--recursive", "--text", "--fixed-strings", "--quiet", "--file"]);
    let status = grep.arg(patterns.path()).arg(folder).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 1)), "{status}");
    status.success()
}

#[test]
fn a_canary_is_nowhere_but_where_a_script_sends_it() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[("RUST_LOG", "debug")]);
    server.cli(&["app", "create", "app"]).ok();
    put_secret(&server, "app", "canary", CANARY);
    server.cli(&["env", "set", "CONTROL", CONTROL, "--app", "app"]).ok();
    server.cli(&["app", "limits", "app", "--set", "fuel=50000000"]).ok();
    deploy(&server, "app", "forms", FORMS);
    let needles = forms(&get(server.app, "app.localhost", "/forms"));

    let mut seen = Vec::new();
    for (script, source, code) in LEAKS {
        deploy(&server, "app", script, source);
        let answer = get(server.app, "app.localhost", &format!("/{script}"));
        match *code {
            "" => assert_eq!(answer.status, 200, "{script}: {answer:?}"),
            code => assert_eq!(answer.code(), code, "{script}: {answer:?}"),
        }
        seen.push(answer.text());
        // Whoever calls it directly gets what is no response as a value, which is what the script chose.
        if *code != "bad_response" {
            let invoked = server.cli(&["invoke", script, "--app", "app"]);
            seen.extend([invoked.stdout, invoked.stderr]);
            let path = format!("POST /api/v1/apps/app/scripts/{script}/invoke");
            seen.push(server.api(&path, r#"{"event":null}"#).text());
        }
    }
    // What a script answers is its own choice, and the one thing that is not masked.
    assert!(finds(&needles, &get(server.app, "app.localhost", "/forms").text()).is_some());

    let runs = |code: &str| if code == "bad_response" { 1 } else { 3 };
    let failures: usize = LEAKS.iter().filter(|leak| !leak.2.is_empty()).map(|leak| runs(leak.2)).sum();
    let started = Instant::now();
    let history = loop {
        let history = server.api("GET /api/v1/apps/app/executions?outcome=failed&limit=200", "");
        if history.json()["items"].as_array().unwrap().len() >= failures {
            break history;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{history:?}");
    };
    let mut masked = 0;
    for item in history.json()["items"].as_array().unwrap() {
        let detail = server
            .api(&format!("GET /api/v1/apps/app/executions/{}", item["id"].as_str().unwrap()), "")
            .text();
        masked += usize::from(detail.contains("[secret canary]"));
        seen.push(detail);
    }
    assert!(masked > failures / 2, "only {masked} of {failures} failures show the mask");
    for path in [
        "executions",
        "logs",
        "logs?limit=200",
        "secrets",
        "env",
        "scripts",
        "scripts/forms",
        "scripts/forms/versions",
        "kv",
        "usage",
        "limits",
    ] {
        seen.push(server.api(&format!("GET /api/v1/apps/app/{path}"), "").text());
    }
    seen.push(server.api("GET /metrics", "").text());
    for command in [["logs"], ["executions"]] {
        let output = server.cli(&[&command[..], &["--app", "app"]].concat());
        seen.extend([output.stdout, output.stderr]);
    }
    let dump = dump(&data_dir);
    assert!(dump.contains(CONTROL) && dump.contains("COPY public.secrets"), "the dump is of everything");
    assert!(dump.contains("[secret canary]"));
    seen.push(dump);

    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    seen.push(log);
    for text in &seen {
        if let Some(needle) = finds(&needles, text) {
            let at = text.find(&needle).unwrap();
            let around =
                &text[text.floor_char_boundary(at.saturating_sub(300))..text.ceil_char_boundary(at + 300)];
            panic!("{needle} is in {around}");
        }
    }
    // Everything on disk: images, the database's own files, its write-ahead log, logs, the client's folder.
    assert!(is_in_a_file(&[CONTROL.to_owned()], &data_dir), "the search finds what is there");
    assert!(!is_in_a_file(&needles[..needles.len() - 1], &data_dir), "the canary is in a file");
}
