//! Files of an app, and the routes and bundles that have them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use picloud_core::{FileHash, Scope};
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const FILES: &str = "/api/v1/apps/demo/files";

async fn put(server: &Server, path: &str, content_type: &str, content: &str) -> Answer {
    server.call("PUT", &format!("{FILES}/{path}")).body(content_type, content.to_owned()).send().await
}

async fn limit(server: &Server, limits: &Value) {
    assert_eq!(server.call("PUT", "/api/v1/apps/demo/limits").json(limits).send().await.status, 200);
}

#[tokio::test]
async fn a_file_is_put_shown_and_removed() {
    let server = Server::start().await;
    server.app("demo").await;
    let made = put(&server, "static/a.html", "text/html", "<script>1</script>").await;
    assert_eq!(made.status, 201, "{made:?}");
    let shown = made.json();
    assert_eq!((&shown["path"], &shown["size"]), (&json!("static/a.html"), &json!(18)));
    assert_eq!(shown["sha256"], FileHash::of(b"<script>1</script>").to_string());
    // The path may have its slash encoded, and a client that says nothing of the type has it told by the name.
    let path = format!("{FILES}/static%2Fa.html");
    let again = server.call("PUT", &path).body("application/x-www-form-urlencoded", "x").send().await;
    assert_eq!((again.status.as_u16(), &again.json()["type"]), (200, &json!("text/html; charset=utf-8")));
    assert_ne!(made.header("etag"), again.header("etag"));

    let got = server.get(&path).await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (200, "x"));
    assert_eq!(got.header("etag"), again.header("etag"));
    // This is the origin of the control plane: a page of an app has no rights in it.
    assert_eq!(got.header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(got.header("content-disposition"), "attachment");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    let known = server.call("GET", &path).header("if-none-match", got.header("etag")).send().await;
    assert_eq!((known.status.as_u16(), known.text.len()), (304, 0));

    assert_eq!(server.call("DELETE", &path).send().await.status, 204);
    server.get(&path).await.problem("file_not_found");
    server.call("DELETE", &path).send().await.problem("file_not_found");
}

#[tokio::test]
async fn nobody_overwrites_what_they_have_not_seen() {
    let server = Server::start().await;
    server.app("demo").await;
    let first = put(&server, "a.txt", "text/plain", "1").await;
    let conditional = |name: &'static str, value: &str| {
        server.call("PUT", &format!("{FILES}/a.txt")).body("text/plain", "2").header(name, value)
    };
    conditional("if-none-match", "*").send().await.problem("precondition_failed");
    let second = conditional("if-match", first.header("etag")).send().await;
    assert_eq!(second.status, 200);
    conditional("if-match", first.header("etag")).send().await.problem("precondition_failed");
    let stale = server.call("DELETE", &format!("{FILES}/a.txt")).header("if-match", first.header("etag"));
    stale.send().await.problem("precondition_failed");
    let fresh = server.call("DELETE", &format!("{FILES}/a.txt")).header("if-match", second.header("etag"));
    assert_eq!(fresh.send().await.status, 204);
}

#[tokio::test]
async fn lists_are_paged_in_byte_order() {
    let server = Server::start().await;
    server.app("demo").await;
    for name in ["b", "a%25", "a_", "a/1", "a/2"] {
        assert_eq!(put(&server, name, "text/plain", "x").await.status, 201);
    }
    let names = |answer: &Answer| answer.items("path");
    assert_eq!(names(&server.get(FILES).await), ["a%", "a/1", "a/2", "a_", "b"]);
    assert_eq!(names(&server.get(&format!("{FILES}?prefix=a%25")).await), ["a%"], "taken literally");
    let page = server.get(&format!("{FILES}?prefix=a&limit=2")).await;
    assert_eq!(names(&page), ["a%", "a/1"]);
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    let rest = server.get(&format!("{FILES}?prefix=a&limit=2&cursor={cursor}")).await;
    assert_eq!((names(&rest), &rest.json()["next_cursor"]), (vec![json!("a/2"), json!("a_")], &Value::Null));
    for wrong in ["limit=0", "limit=201", "prefix=%00", "cursor=x", "order=size"] {
        server.get(&format!("{FILES}?{wrong}")).await.problem("invalid");
    }
}

#[tokio::test]
async fn wrong_paths_and_types_are_refused() {
    let server = Server::start().await;
    server.app("demo").await;
    for wrong in [
        "..",
        "../x",
        "a/../b",
        "%2e%2e",
        "%2e%2e%2fx",
        "a%2f%2e%2e%2fb",
        "..%5cx",
        "a%00b",
        "a//b",
        "/etc/passwd",
        "a/",
        "%2fetc",
        "a%0d%0ab",
        "e%cc%81",
        "%e2%80%ae",
        "./a",
        "a/.",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer =
                server.call(method, &format!("{FILES}/{wrong}")).body("text/plain", "x").send().await;
            let problem = answer.problem("invalid");
            assert!(
                problem["detail"].as_str().unwrap().contains("allowed are segments"),
                "{wrong}: {answer:?}"
            );
        }
    }
    // Decoded once: this is a name with a percent sign.
    assert_eq!(put(&server, "%252e%252e%252fx", "text/plain", "x").await.json()["path"], "%2e%2e%2fx");
    let long = "a".repeat(256);
    put(&server, &long, "text/plain", "x").await.problem("invalid");
    for wrong in ["text", "text/html, text/plain", "/x"] {
        let problem = put(&server, "a", wrong, "x").await.problem("invalid");
        assert_eq!(problem["field"], "content-type", "{wrong}");
    }
}

#[tokio::test]
async fn quotas_and_the_largest_file() {
    let server = Server::start().await;
    server.app("demo").await;
    limit(&server, &json!({ "files": 2, "file_bytes": 100 })).await;
    assert_eq!(put(&server, "a", "text/plain", &"x".repeat(60)).await.status, 201);
    let problem = put(&server, "b", "text/plain", &"x".repeat(60)).await.problem("file_quota_exceeded");
    assert_eq!((&problem["field"], &problem["limit"]), (&json!("file_bytes"), &json!(100)));
    assert_eq!(
        put(&server, "a", "text/plain", &"x".repeat(100)).await.status,
        200,
        "it replaces the old one"
    );
    assert_eq!(put(&server, "b", "text/plain", "").await.status, 201);
    assert_eq!(put(&server, "c", "text/plain", "").await.problem("file_quota_exceeded")["field"], "files");
    limit(&server, &json!({ "file_bytes": 1 << 30 })).await;
    let large = vec![b'x'; (8 << 20) + 1];
    let call = |content: &[u8]| server.call("PUT", &format!("{FILES}/a")).body("a/b", content.to_vec());
    call(&large).send().await.problem("body_too_large");
    assert_eq!(call(&large[1..]).send().await.status, 200);
}

#[tokio::test]
async fn a_route_leads_to_a_script_or_to_files() {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "hello", "1").await;
    let routes = "/api/v1/apps/demo/routes";
    let post = |route: Value| server.call("POST", routes).json(&route).send();
    let made = post(
        json!({ "path": "/app/*path", "files": "static", "max_age": 60, "fallback": "static/index.html" }),
    );
    let made = made.await.json();
    assert_eq!((&made["files"], &made["script"]), (&json!("static/"), &Value::Null));
    assert_eq!((&made["max_age"], &made["fallback"]), (&json!(60), &json!("static/index.html")));
    assert_eq!(made["methods"], json!(["GET"]));
    assert_eq!(server.get(routes).await.json()["items"][0], made);
    for (route, field) in [
        (json!({ "path": "/a/*p" }), "script"),
        (json!({ "path": "/a/*p", "script": "hello", "files": "x" }), "files"),
        (json!({ "path": "/a/*p", "script": "hello", "max_age": 1 }), "max_age"),
        (json!({ "path": "/a/*p", "files": "x", "max_age": 31_536_001 }), "max_age"),
        (json!({ "path": "/a/*p", "files": "../x" }), "files"),
        (json!({ "path": "/a/*p", "files": "x", "fallback": "/etc/passwd" }), "fallback"),
        (json!({ "path": "/a/*p", "files": "x", "methods": ["POST"] }), ""),
        (json!({ "path": "/a", "files": "x" }), ""),
    ] {
        let problem = post(route.clone()).await.problem("invalid");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{route}: {problem}");
    }
    let patch = format!("{routes}/{}", made["id"].as_str().unwrap());
    let changed = server.call("PATCH", &patch).json(&json!({ "script": "hello" })).send().await.json();
    assert_eq!((&changed["script"], &changed["files"]), (&json!("hello"), &Value::Null));
}

#[tokio::test]
async fn static_files_come_with_their_bundle_or_not_at_all() {
    let server = Server::start().await;
    server.app("demo").await;
    let deploy = |query: &'static str, bundle: Value| {
        server.call("PUT", &format!("/api/v1/apps/demo/bundle{query}")).json(&bundle).send()
    };
    let file = |text: &str| json!({ "content": STANDARD.encode(text) });
    let bundle = json!({
        "scripts": { "a": "1" },
        "routes": [{ "path": "/s/*path", "files": "static/" }, { "path": "/a", "script": "a" }],
        "files": { "static/a.css": file("1"), "static/b.css": file("2") },
    });
    let mut broken = bundle.clone();
    broken["scripts"]["b"] = json!("!no");
    deploy("", broken).await.problem("compile_error");
    assert_eq!(server.get(FILES).await.items("path"), Vec::<Value>::new());
    let first = deploy("", bundle).await.json();
    assert_eq!(first["files"]["written"], json!(["static/a.css", "static/b.css"]));

    // By its hash, what the app has need not be sent again, also under another name.
    let known = json!({ "sha256": FileHash::of(b"1").to_string() });
    let second = json!({ "scripts": {}, "files": { "static/a.css": known, "static/c.css": known } });
    let second = deploy("", second).await.json();
    assert_eq!(
        second["files"],
        json!({
            "written": ["static/c.css"], "unchanged": 1, "others": ["static/b.css"], "deleted": []
        })
    );
    put(&server, "data.txt", "text/plain", "kept").await;
    let third = json!({ "scripts": { "a": "1" }, "files": { "static/c.css": known } });
    let third = deploy("?prune=true", third).await.json();
    assert_eq!(third["files"]["deleted"], json!(["static/a.css", "static/b.css"]));
    assert_eq!(server.get(FILES).await.items("path"), ["data.txt", "static/c.css"]);
    let without = deploy("?prune=true", json!({ "scripts": { "a": "1" } })).await.json();
    assert_eq!(without["files"]["deleted"], json!([]), "a bundle that says nothing of files leaves them");

    // The hash of a content that another app has gives nothing.
    server.app("other").await;
    let theft = json!({ "scripts": {}, "files": { "static/x": known } });
    let refused =
        server.call("PUT", "/api/v1/apps/other/bundle").json(&theft).send().await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("send its content"), "{refused}");

    for (wrong, code) in [
        (json!({ "data.txt": file("1") }), "invalid"),
        (json!({ "static/../x": file("1") }), "invalid"),
        (json!({ "static/x": {} }), "invalid"),
        (json!({ "static/x": { "content": "%" } }), "invalid"),
        (json!({ "static/x": { "sha256": "abc" } }), "invalid"),
        (json!({ "static/x": { "content": "MQ==", "sha256": FileHash::of(b"2").to_string() } }), "invalid"),
        (json!({ "static/x": { "content": "MQ==", "type": "text/html\r\nx: y" } }), "invalid"),
        (json!({ "static/x": { "content": STANDARD.encode(vec![0; (8 << 20) + 1]) } }), "too_large"),
    ] {
        deploy("", json!({ "scripts": {}, "files": wrong })).await.problem(code);
    }
    let twice = r#"{"scripts":{},"files":{"static/x":{"content":""},"static/x":{"content":""}}}"#;
    let twice =
        server.call("PUT", "/api/v1/apps/demo/bundle").raw_json(twice).send().await.problem("invalid");
    assert!(twice["detail"].as_str().unwrap().contains("duplicate file `static/x`"), "{twice}");
    let over = json!({ "scripts": {}, "limits": { "files": 2 }, "files": { "static/y": file("1") } });
    deploy("", over).await.problem("file_quota_exceeded");
}

#[tokio::test]
async fn files_need_the_scopes_of_data() {
    let server = Server::start().await;
    let demo = server.app("demo").await;
    put(&server, "a", "text/plain", "x").await;
    let reader = server.token(&[Scope::DataRead], Some(&demo)).await;
    let scripts = server.token(&[Scope::ScriptRead, Scope::ScriptWrite], Some(&demo)).await;
    let path = format!("{FILES}/a");
    assert_eq!(server.call("GET", &path).token(&reader).send().await.status, 200);
    server.call("DELETE", &path).token(&reader).send().await.problem("forbidden");
    server.call("GET", &path).token(&scripts).send().await.problem("forbidden");
}
