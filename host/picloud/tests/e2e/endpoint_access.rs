//! Who may call an endpoint, from the command line to the answer.

use std::fs;

use crate::support::{hmac, home, shared_app};

#[test]
fn a_route_asks_for_a_token_and_keeps_it_from_the_script() {
    let app = shared_app("guarded");
    app.deploy("secret", "fn on_request(req) { `${req.headers}` }").ok();
    app.cli(&["route", "add", "/secret", "secret", "--access", "token"]).ok();
    let refused = app.get("/secret");
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"));
    let token = app.server.token();
    let head = format!("GET /secret\nauthorization: Bearer {token}");
    let answer = app.request(&head, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.text().contains(&token[4..]), "the script has seen the token");
    assert!(answer.header("picloud-fuel-used").unwrap().parse::<u64>().unwrap() > 1000);
    let listed = app.cli(&["route", "list"]).ok();
    assert!(listed.contains("token"), "{listed}");
    // Added again without a word about it, it stays closed.
    app.cli(&["route", "add", "/secret", "secret"]).ok();
    assert_eq!(app.get("/secret").status, 401);
}

#[test]
fn a_signed_request_is_signed_as_the_documentation_says() {
    let app = shared_app("signed");
    app.deploy("hook", "fn on_request(req) { req.json.order }").ok();
    let added = app.cli(&["route", "add", "/hook", "hook", "--access", "hmac"]);
    assert!(added.stderr.contains("picloud route key /hook"), "{}", added.stderr);
    let key = app.cli(&["route", "key", "/hook", "--keep", "0"]).ok();
    let script = r#"TIME=$(date +%s)
        HEX=$(printf '%s.%s' "$TIME" "$BODY" | openssl dgst -sha256 -hmac "$KEY" | awk '{print $NF}')
        printf 't=%s,v1=%s' "$TIME" "$HEX""#;
    let body = "{\"order\": 7}";
    let mut shell = std::process::Command::new("sh");
    let signed = shell.args(["-c", script]).env("BODY", body).env("KEY", key.trim()).output().unwrap();
    let signature = String::from_utf8(signed.stdout).unwrap();
    let send = |body: &str| {
        let head = format!("POST /hook\ncontent-type: application/json\npicloud-signature: {signature}");
        app.request(&head, body.as_bytes())
    };
    assert_eq!(send("{\"order\": 8}").status, 401);
    let answer = send(body);
    assert_eq!((answer.status, answer.text().as_str()), (200, "7"));
    assert_eq!(send(body).status, 401, "used before");
}

#[test]
fn a_webhook_of_another_service_is_checked_with_its_own_key() {
    let app = shared_app("webhook");
    app.deploy("hook", "fn on_request(req) { req.json.action }").ok();
    let added = app.cli(&["route", "add", "/hook", "hook", "--access", "hmac", "--signature", "github"]);
    assert!(added.stderr.contains("picloud route key /hook --stdin"), "{}", added.stderr);
    let secret = "It's a Secret to Everybody";
    let taken = app
        .server
        .cli_with(&["route", "key", "/hook", "--stdin", "--app", &app.name], &format!("{secret}\n"));
    assert!(taken.stderr.contains("has a new key"), "{}", taken.stderr);
    assert_eq!(taken.ok(), "");
    let body = r#"{"action":"opened"}"#;
    let digest = hmac(secret, body);
    let send = |body: &str| {
        let head =
            format!("POST /hook\ncontent-type: application/json\nx-hub-signature-256: sha256={digest}");
        app.request(&head, body.as_bytes())
    };
    assert_eq!(send(r#"{"action":"closed"}"#).status, 401);
    let answer = send(body);
    assert_eq!((answer.status, answer.text().as_str()), (200, "opened"));
    let listed = app.cli(&["route", "list"]).ok();
    assert!(listed.contains("hmac of github"), "{listed}");
}

#[test]
fn a_folder_says_who_may_call() {
    let app = shared_app("access-folder");
    let folder = home();
    let manifest = |access: &str| {
        let routes = "[[routes]]\npath = '/a'\nscript = 'a'\nrate_limit = '2/h'\n";
        fs::write(folder.path().join("picloud.toml"), format!("name = '{}'\n{routes}{access}", app.name))
            .unwrap();
        app.cli(&["deploy", folder.path().to_str().unwrap()])
    };
    fs::write(folder.path().join("a.rhai"), "throw \"the secret is 42\"").unwrap();
    manifest("[access]\ndevelopment = true\n[access.cors]\norigins = ['https://shop.example']\n").ok();
    let head = "GET /a\norigin: https://shop.example";
    let failed = app.request(head, b"");
    assert_eq!((failed.status, failed.json()["line"].as_u64()), (500, Some(1)), "{failed:?}");
    assert!(failed.text().contains("the secret is 42"));
    assert_eq!(failed.header("access-control-allow-origin"), Some("https://shop.example"));
    let shown = app.server.cli(&["app", "show", &app.name]);
    assert!(shown.stderr.contains("development mode"), "{}", shown.stderr);

    app.cli(&["access", "set", "--development", "false", "--cors-origin", "none"]).ok();
    let shown = app.cli(&["access", "show"]).ok();
    assert!(
        shown.contains("left to the scripts") && !app.get("/a").text().contains("the secret is"),
        "{shown}"
    );
    let limited = app.get("/a");
    assert_eq!((limited.status, limited.code().as_str()), (429, "rate_limited"));
    assert!(limited.header("retry-after").is_some() && limited.header("ratelimit").is_some());
    app.cli(&["access", "set", "--deny-ip", "127.0.0.0/8"]).ok();
    assert_eq!(app.get("/a").code(), "address_denied");
    let wrong = manifest("[access]\ndeny_ips = ['127.0.0.1/8']\n").failed(2);
    assert!(wrong.contains("write 127.0.0.0/8 for the network"), "{wrong}");
    app.cli(&["access", "set"]).failed(2);
}
