//! The sample apps do what they say.

use std::path::Path;

use crate::support::{Response, Server, deliver, fill, get, hmac, home, post_json, request, shared};

fn deploy(server: &Server, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name);
    let deployed = server.cli(&["deploy", folder.to_str().unwrap()]);
    assert!(!deployed.stderr.contains("warning"), "{}", deployed.stderr);
    deployed.ok();
}

#[test]
fn hello() {
    deploy(shared(), "hello");
    let (app, host) = (shared().app, "hello.localhost");
    assert_eq!(post_json(app, host, "/hello", r#"{"name":"bob"}"#).text(), "hello bob");
    assert_eq!(get(app, host, "/hello").text(), "hello world");
    assert_eq!(get(app, host, "/counter").json()["visits"], 1);
    assert_eq!(get(app, host, "/counter").json()["visits"], 2);
    assert_eq!(get(app, host, "/greet/bob?language=de").text(), "hallo bob");
    assert_eq!(get(app, host, "/greet/bob?language=tlh").status, 404);
    let refused = post_json(app, host, "/greet/bob", "{}");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn notes() {
    deploy(shared(), "notes");
    let (app, host) = (shared().app, "notes.localhost");
    let made = post_json(app, host, "/notes", r#"{"text":"milk"}"#);
    assert_eq!((made.status, made.header("location")), (201, Some("/notes/00000001")), "{made:?}");
    assert_eq!(post_json(app, host, "/notes", r#"{"text":7}"#).status, 400);
    assert_eq!(get(app, host, "/notes").json()["notes"][0]["text"], "milk");
    let head = "PUT /notes/00000001\ncontent-type: application/json";
    assert_eq!(request(app, host, head, br#"{"text":"bread"}"#).status, 200);
    assert_eq!(get(app, host, "/notes/00000001").json()["text"], "bread");
    assert_eq!(request(app, host, "DELETE /notes/00000001", b"").status, 204);
    assert_eq!(get(app, host, "/notes/00000001").status, 404);
    assert!(get(app, host, "/").text().contains("<h1>Notes</h1>"));
    assert_eq!(get(app, host, "/notes.js").header("content-type"), Some("text/javascript; charset=utf-8"));
}

/// The shop of the sample app `events`, on a server of its own: the shared one takes no mail.
struct Shop {
    server: Server,
}

impl Shop {
    fn get(&self, path: &str) -> Response {
        get(self.server.app, "events.localhost", path)
    }

    fn post(&self, path: &str, body: &str) -> Response {
        post_json(self.server.app, "events.localhost", path, body)
    }

    fn cli(&self, arguments: &[&str]) -> String {
        self.server.cli(&[arguments, &["--app", "events"]].concat()).ok()
    }

    /// Checks that the journal has these lines in this order, each once, as soon as every event was handled.
    #[track_caller]
    fn has_noted(&self, lines: &[&str]) {
        self.server.wait_until_handled("events");
        let journal = self.get("/journal").text();
        let found = lines.iter().map(|line| {
            let mut places = journal.match_indices(line).map(|(place, _)| place);
            let place = places.next().unwrap_or_else(|| panic!("no {line:?} in\n{journal}"));
            assert_eq!(places.next(), None, "{line:?} is twice in\n{journal}");
            place
        });
        assert!(found.is_sorted(), "not {lines:#?} but\n{journal}");
    }
}

#[test]
fn events() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let mut server = Server::start(&data_dir, &[("PICLOUD_SMTP_ADDR", "127.0.0.1:0")]);
    let mails = server.mail();
    deploy(&server, "events");
    let shop = Shop { server };
    assert!(shop.get("/").text().contains("<h1>A little shop</h1>"));

    // A durable request, then key-value data, a queue and a topic with two listeners.
    let first = "POST /orders\ncontent-type: application/json\nidempotency-key: first";
    for replayed in [None, Some("true")] {
        let body = br#"{"item":"mug","amount":2}"#;
        let taken = request(shop.server.app, "events.localhost", first, body);
        assert_eq!((taken.status, taken.header("location")), (201, Some("/orders/1")), "{taken:?}");
        assert_eq!(taken.header("picloud-idempotent-replay"), replayed);
    }
    shop.has_noted(&[
        "Z http POST /orders: order 1: 2 of mug\n",
        "Z kv order-changes: order 1: nothing -> new\n",
        "Z queue packer: order 1: packed, 8 of mug are left\n",
        "Z kv order-changes: order 1: new -> packed\n",
        "Z topic sales: 2 of mug sold since the last report\n",
    ]);
    shop.has_noted(&["Z topic history: order 1: noted as new\n"]);
    shop.has_noted(&["Z topic history: order 1: noted as packed\n"]);
    let order = shop.get("/orders/1").json();
    assert_eq!(order["order"]["state"], "packed");
    assert!(order["history"]["new"].is_string() && order["history"]["packed"].is_string(), "{order}");
    for wrong in
        [r#"{"item":"mug"}"#, r#"{"item":"","amount":1}"#, r#"{"item":"mug","amount":101}"#, "[7]", ""]
    {
        assert_eq!(shop.post("/orders", wrong).status, 400, "{wrong}");
    }
    assert_eq!(shop.get("/orders/2").status, 404);

    // A message that fails at every attempt, its dead letter, and its replay after an asynchronous request.
    assert_eq!(shop.post("/orders", r#"{"item":"mug","amount":20,"express":true}"#).status, 201);
    shop.has_noted(&[
        "Z dead_letter gave-up: order 2: 8 of mug are left",
        "Z kv order-changes: order 2: new -> failed\n",
    ]);
    let accepted = shop.post("/restock", r#"{"mug":50}"#);
    assert_eq!((accepted.status, accepted.json()["state"].as_str()), (202, Some("pending")));
    shop.has_noted(&["Z http POST /restock: in stock now: {\"mug\":58}\n"]);
    let status = shop.get(accepted.header("location").unwrap()).json();
    assert_eq!(status["answer"]["body"], r#"{"in_stock":{"mug":58}}"#, "{status}");
    let letters: serde_json::Value =
        serde_json::from_str(&shop.cli(&["dlq", "list", "--all", "--json"])).unwrap();
    let letter = &letters["items"][0];
    assert_eq!((&letter["attempts"], &letter["resolution"]), (&3.into(), &"handled_by_script".into()));
    shop.cli(&["dlq", "replay", letter["id"].as_str().unwrap()]);
    shop.has_noted(&["Z kv order-changes: order 2: failed -> packed\n"]);

    // A webhook, a mail, and a schedule.
    assert_eq!(shop.post("/delivered", r#"{"order":"1"}"#).code(), "unauthenticated");
    let key = shop.cli(&["route", "key", "/delivered"]);
    let body = r#"{"order":"1"}"#;
    let head =
        format!("POST /delivered\ncontent-type: application/json\nx-signature: {}", hmac(key.trim(), body));
    assert_eq!(request(shop.server.app, "events.localhost", &head, body.as_bytes()).status, 204);
    shop.has_noted(&[
        "Z http POST /delivered: order 1 was delivered\n",
        "Z kv order-changes: order 1: packed -> delivered\n",
        "Z topic history: order 1: noted as delivered\n",
    ]);
    assert!(deliver(mails, "ann@example.org", "events.inbox@localhost", "Thanks").starts_with("250"));
    shop.has_noted(&["Z email inbox: ann@example.org writes: Thanks\n"]);
    let mut log = shop.server.follow_log("events");
    shop.cli(&["trigger", "fire", "daily-report"]);
    log.find(|line| line.contains("cron daily-report: sold")).expect("the schedule was fired");
    assert!(shop.get("/journal").text().contains("Z cron daily-report: sold {\"mug\":22}\n"));
}
