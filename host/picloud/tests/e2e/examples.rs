//! The sample apps do what they say.

use std::path::Path;

use crate::support::{get, post_json, request, shared};

fn deploy(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name);
    shared().cli(&["deploy", folder.to_str().unwrap()]).ok();
}

#[test]
fn hello() {
    deploy("hello");
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
    deploy("notes");
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
