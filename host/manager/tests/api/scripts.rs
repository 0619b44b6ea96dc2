//! Scripts, their versions, and bundles.

use picloud_core::{SandboxCeiling, Scope};
use serde_json::{Value, json};

use crate::support::Server;

const SCRIPTS: &str = "/api/v1/apps/demo/scripts";

#[tokio::test]
async fn a_script_is_uploaded_changed_and_rolled_back() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let first = server.script("demo", "hello", "fn on_request(req) { 1 }").await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.header("location"), "/api/v1/apps/demo/scripts/hello");
    let json = first.json();
    assert_eq!(json["name"], "hello");
    assert_eq!(json["version"], 1);
    assert_eq!(json["sha256"], picloud_core::SourceHash::of("fn on_request(req) { 1 }").to_string());
    assert_eq!(json["url"], "http://127.0.0.1:8421/@demo/hello");
    assert_eq!(json["handlers"], json!(["on_request"]));
    assert_eq!(json["unchanged"], false);

    let same = server.script("demo", "hello", "fn on_request(req) { 1 }").await;
    assert_eq!((same.status.as_u16(), &same.json()["unchanged"]), (200, &json!(true)));
    let second = server.script("demo", "hello", "2").await;
    assert_eq!((second.status.as_u16(), &second.json()["version"]), (200, &json!(2)));

    let versions = server.get(&format!("{SCRIPTS}/hello/versions")).await;
    assert_eq!(versions.items("version"), [2, 1]);
    assert_eq!(versions.items("active"), [true, false]);
    let back =
        server.call("POST", &format!("{SCRIPTS}/hello/rollback")).json(&json!({ "version": 1 })).send().await;
    assert_eq!((back.status.as_u16(), &back.json()["version"]), (200, &json!(1)));
    assert_eq!(back.json()["unchanged"], false);
    assert_eq!(server.get(&format!("{SCRIPTS}/hello")).await.json()["source"], "fn on_request(req) { 1 }");
    assert_eq!(server.get(&format!("{SCRIPTS}/hello?version=2")).await.json()["source"], "2");
    server.get(&format!("{SCRIPTS}/hello?version=3")).await.problem("not_found");
    let missing = server.call("POST", &format!("{SCRIPTS}/hello/rollback")).json(&json!({ "version": 9 }));
    let missing = missing.send().await.problem("not_found");
    assert!(missing["detail"].as_str().unwrap().contains("has no version 9; it has 1, 2"), "{missing}");
    let again =
        server.call("POST", &format!("{SCRIPTS}/hello/rollback")).json(&json!({ "version": 1 })).send().await;
    assert_eq!((again.status.as_u16(), &again.json()["unchanged"]), (200, &json!(true)));
    assert!(server.node.changed.lock().unwrap().iter().all(|changed| *changed == app.id));

    assert_eq!(server.call("DELETE", &format!("{SCRIPTS}/hello")).send().await.status, 204);
    let gone = server.get(&format!("{SCRIPTS}/hello")).await.problem("script_not_found");
    assert_eq!(gone["detail"], "no script \"hello\" in app \"demo\"");
    server.get(&format!("{SCRIPTS}/hello/versions")).await.problem("script_not_found");
    server.call("DELETE", &format!("{SCRIPTS}/hello")).send().await.problem("script_not_found");
}

#[tokio::test]
async fn a_script_that_does_not_compile_says_where() {
    let server = Server::start().await;
    server.app("demo").await;
    let answer = server.script("demo", "hello", "let x = 1;\n!Expecting ';'").await;
    assert_eq!(answer.status, 422);
    let problem = answer.problem("compile_error");
    assert_eq!(problem["script"], "hello");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(1)));
    assert_eq!(problem["source_line"], "!Expecting ';'");
    assert_eq!(problem["detail"], "Expecting ';'");
    server.get(&format!("{SCRIPTS}/hello")).await.problem("script_not_found");
}

#[tokio::test]
async fn sources_are_utf8_text_up_to_the_limit() {
    let server = Server::start().await;
    server.app("demo").await;
    let put = |content_type: &str, body: Vec<u8>| {
        server.call("PUT", &format!("{SCRIPTS}/s")).body(content_type, body)
    };
    for good in [
        "text/plain; charset=utf-8",
        "text/plain; charset=US-ASCII",
        "application/rhai",
        "application/x-www-form-urlencoded",
    ] {
        assert!(put(good, b"1".to_vec()).send().await.status.is_success(), "{good}");
    }
    for bad in ["application/json", "multipart/form-data; boundary=x", "image/png"] {
        put(bad, b"1".to_vec()).send().await.problem("unsupported_media_type");
    }
    for bad in [
        "text/plain; charset=latin1",
        "text/plain;charset=\"ISO-8859-1\"",
        "application/rhai; Charset=utf-16",
    ] {
        let refused = put(bad, b"1".to_vec()).send().await.problem("unsupported_media_type");
        assert!(refused["detail"].as_str().unwrap().contains("UTF-8"), "{refused}");
    }
    put("text/plain", vec![b'1', 0xff]).send().await.problem("invalid");
    put("text/plain", b"\"\0\"".to_vec()).send().await.problem("invalid");
    let limits = json!({ "source_bytes": 10 });
    server.call("PUT", "/api/v1/apps/demo/limits").json(&limits).send().await;
    assert_eq!(put("text/plain", vec![b' '; 10]).send().await.status, 200);
    let answer = put("text/plain", vec![b' '; 11]).send().await;
    assert_eq!(answer.problem("body_too_large")["limit"], 10);
    let huge = put("text/plain", vec![b' '; 3_000_000]).send().await;
    huge.problem("body_too_large");
    assert_eq!(huge.status, 413);
}

#[tokio::test]
async fn names_may_have_slashes_and_nothing_that_leaves_the_app() {
    let server = Server::start().await;
    server.app("demo").await;
    assert_eq!(server.script("demo", "api/users", "1").await.json()["name"], "api/users");
    assert_eq!(server.script("demo", "api%2Fusers", "1").await.json()["unchanged"], true);
    assert_eq!(server.get(&format!("{SCRIPTS}/api/users/versions")).await.items("version"), [1]);
    assert_eq!(server.script("demo", "x%2Fversions", "1").await.json()["name"], "x/versions");
    for bad in ["..%2fother", "a%00", "a%20b", "a//b", "%ff", "a.rhai", &"a".repeat(65)] {
        let answer = server.script("demo", bad, "1").await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{bad}: {answer:?}");
    }
    assert_eq!(server.get(SCRIPTS).await.items("name"), ["api/users", "x/versions"]);
}

#[tokio::test]
async fn an_upload_can_be_bound_to_what_was_seen() {
    let server = Server::start().await;
    server.app("demo").await;
    let path = format!("{SCRIPTS}/s");
    let put =
        |source: &str, header: &str, tag: &str| server.call("PUT", &path).text(source).header(header, tag);
    put("1", "if-match", "*").send().await.problem("precondition_failed");
    let first = put("1", "if-none-match", "*").send().await;
    assert_eq!(first.status, 201);
    put("2", "if-none-match", "*").send().await.problem("precondition_failed");
    let tag = first.header("etag").to_owned();
    assert_eq!(server.get(&path).await.header("etag"), tag);
    assert_eq!(put("2", "if-match", &tag).send().await.status, 200);
    let late = put("3", "if-match", &tag).send().await;
    late.problem("precondition_failed");
    assert_eq!(late.status, 412);
    assert_eq!(server.get(&path).await.json()["source"], "2");
}

#[tokio::test]
async fn a_version_keeps_the_libraries_it_was_built_with() {
    let server = Server::start().await;
    server.app("demo").await;
    let missing = server.script("demo", "main", "import lib").await;
    missing.problem("compile_error");
    server.script("demo", "lib", "1").await;
    let main = server.script("demo", "main", "import lib").await.json();
    assert_eq!(main["imports"], json!(["lib"]));
    let lib = server.script("demo", "lib", "2").await.json();
    assert_eq!(lib["imported_by"], json!(["main"]));
    let pinned = |answer: &Value| answer["imports"].clone();
    let before = server.get(&format!("{SCRIPTS}/main")).await.json();
    assert_eq!(pinned(&before), json!([{ "name": "lib", "version": 1 }]));
    assert_eq!(server.script("demo", "main", "import lib").await.json()["version"], 2);
    let versions = server.get(&format!("{SCRIPTS}/main/versions")).await.items("imports");
    assert_eq!(versions, [2, 1].map(|number| json!([{ "name": "lib", "version": number }])));
    let after = server.get(&format!("{SCRIPTS}/main")).await.json();
    assert_eq!(pinned(&after), json!([{ "name": "lib", "version": 2 }]));

    let used = server.call("DELETE", &format!("{SCRIPTS}/lib")).send().await;
    assert_eq!(used.status, 409);
    let problem = used.problem("script_in_use");
    assert_eq!(problem["used_by"], json!(["script main"]));
    assert!(problem["detail"].as_str().unwrap().contains("without the import"), "{problem}");
    server.script("demo", "main", "3").await;
    assert_eq!(server.call("DELETE", &format!("{SCRIPTS}/lib")).send().await.status, 204);
    let back = server.call("POST", &format!("{SCRIPTS}/main/rollback")).json(&json!({ "version": 1 }));
    back.send().await.problem("compile_error");
}

#[tokio::test]
async fn a_bundle_is_deployed_whole_or_not_at_all() {
    let server = Server::start().await;
    server.app("demo").await;
    let put = |bundle: &Value| server.call("PUT", "/api/v1/apps/demo/bundle").json(bundle);
    let broken = json!({ "scripts": { "a": "1", "b": "!no" } });
    assert_eq!(put(&broken).send().await.problem("compile_error")["script"], "b");
    assert!(server.get(SCRIPTS).await.items("name").is_empty());
    let unrouted = json!({ "scripts": { "a": "1" }, "routes": [{ "path": "/x", "script": "none" }] });
    put(&unrouted).send().await.problem("script_not_found");
    assert!(server.get(SCRIPTS).await.items("name").is_empty());

    let bundle = json!({
        "scripts": { "a": "import b", "b": "import c", "c": "3" },
        "routes": [{ "methods": ["GET"], "path": "/a", "script": "a" }],
    });
    let answer = put(&bundle).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let scripts = answer.json()["scripts"].clone();
    assert_eq!(scripts[0]["name"], "a");
    assert_eq!(scripts[0]["url"], "http://127.0.0.1:8421/@demo/a");
    assert_eq!(scripts[0]["created"], true);
    let a = server.get(&format!("{SCRIPTS}/a")).await.json();
    assert_eq!(a["imports"], json!([{ "name": "b", "version": 1 }, { "name": "c", "version": 1 }]));

    let changed =
        put(&json!({ "scripts": { "a": "import b", "b": "import c", "c": "4" } })).send().await.json();
    let versions: Vec<&Value> =
        changed["scripts"].as_array().unwrap().iter().map(|s| &s["version"]).collect();
    assert_eq!(versions, [2, 2, 2], "who imports what has changed is built anew");
    let a = server.get(&format!("{SCRIPTS}/a")).await.json();
    assert_eq!(a["imports"], json!([{ "name": "b", "version": 2 }, { "name": "c", "version": 2 }]));
    let again =
        put(&json!({ "scripts": { "a": "import b", "b": "import c", "c": "4" } })).send().await.json();
    assert!(again["scripts"].as_array().unwrap().iter().all(|script| script["unchanged"] == true));
    assert_eq!(server.get("/api/v1/apps/demo/routes").await.items("path"), ["/a"], "left out, they stay");
    put(&json!({ "scripts": {}, "routes": [] })).send().await;
    assert!(server.get("/api/v1/apps/demo/routes").await.items("path").is_empty());
}

#[tokio::test]
async fn limits_come_with_their_bundle_or_not_at_all() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let put = |bundle: &Value| server.call("PUT", "/api/v1/apps/demo/bundle").json(bundle);
    let limit = async |name: &str| server.get("/api/v1/apps/demo/limits").await.json()[name].clone();
    let broken = json!({ "scripts": { "a": "!no" }, "limits": { "wall_ms": 500 } });
    put(&broken).send().await.problem("compile_error");
    let unrouted = json!({
        "scripts": { "a": "1" }, "limits": { "wall_ms": 500 }, "routes": [{ "path": "/x", "script": "none" }],
    });
    put(&unrouted).send().await.problem("script_not_found");
    assert_eq!(limit("wall_ms").await, 10_000, "nothing of a refused bundle is taken");
    put(&json!({ "scripts": {}, "limits": { "fuel": 1_u64 << 50 } })).send().await.problem("above_ceiling");

    let long = " ".repeat(300 * 1024) + "1";
    put(&json!({ "scripts": { "a": long } })).send().await.problem("too_large");
    let longer = json!({ "scripts": { "a": long }, "limits": { "source_bytes": 512 * 1024 } });
    assert_eq!(put(&longer).send().await.status, 200, "the new limit holds for the bundle itself");
    let shorter = json!({ "scripts": { "a": long }, "limits": { "source_bytes": 1024 } });
    put(&shorter).send().await.problem("too_large");
    assert_eq!(limit("source_bytes").await, 512 * 1024);

    let writer = server.token(&[Scope::ScriptWrite], Some(&app)).await;
    put(&json!({ "scripts": {} })).token(&writer).send().await.json();
    let refused = put(&longer).token(&writer).send().await;
    assert_eq!(refused.problem("forbidden")["scope"], "app:admin");
}

#[tokio::test]
async fn an_app_is_made_with_its_bundle_or_not_at_all() {
    let server = Server::start().await;
    let put = |bundle: &Value| server.call("PUT", "/api/v1/apps/fresh/bundle?create_app=true").json(bundle);
    put(&json!({ "scripts": { "a": "!no" } })).send().await.problem("compile_error");
    server.get("/api/v1/apps/fresh").await.problem("app_not_found");
    let bundle = json!({ "scripts": { "a": "1" }, "limits": { "wall_ms": 500 } });
    server.call("PUT", "/api/v1/apps/fresh/bundle").json(&bundle).send().await.problem("app_not_found");
    let writer = server.token(&[Scope::ScriptWrite, Scope::AppAdmin], None).await;
    let refused = put(&bundle).token(&writer).send().await.problem("forbidden");
    assert_eq!(refused["scope"], "instance:admin");
    assert!(refused["detail"].as_str().unwrap().starts_with("no app \"fresh\""), "{refused}");
    let demo = server.app("demo").await;
    let of_one_app = server.token(Scope::ALL, Some(&demo)).await;
    let refused = put(&bundle).token(&of_one_app).send().await.problem("forbidden");
    let detail = "no app \"fresh\", and it cannot be made: the token is good for one app only";
    assert_eq!(refused["detail"], detail, "a scope is not what it lacks");

    let made = put(&bundle).send().await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(made.json()["app_created"], true);
    assert_eq!(server.get("/api/v1/apps/fresh").await.json()["limits"]["wall_ms"], 500);
    assert_eq!(put(&bundle).token(&writer).send().await.json()["app_created"], false);
}

#[tokio::test]
async fn of_bundles_that_make_the_same_app_one_makes_it_and_all_are_deployed() {
    let server = Server::start().await;
    let put = |number: usize| {
        let bundle = json!({ "scripts": { format!("s{number}"): "1" } });
        server.call("PUT", "/api/v1/apps/fresh/bundle?create_app=true").json(&bundle).send()
    };
    let answers = futures_util::future::join_all((0..16).map(put)).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.json()["app_created"] == true).count(), 1);
    assert_eq!(server.get("/api/v1/apps/fresh/scripts").await.items("name").len(), 16);
}

#[tokio::test]
async fn a_large_bundle_is_read_only_from_who_may_raise_the_limit() {
    let vars = |name: &str| (name == "PICLOUD_SANDBOX_MAX_SOURCE_BYTES").then(|| (16 << 20).to_string());
    let server = Server::start_under(SandboxCeiling::from_vars(vars).unwrap()).await;
    let app = server.app("demo").await;
    let put = |bundle: &Value| server.call("PUT", "/api/v1/apps/demo/bundle").json(bundle);
    let large = json!({ "scripts": { "a": " ".repeat(25 << 20) + "1" } });
    put(&large).send().await.problem("too_large");
    let writer = server.token(&[Scope::ScriptWrite], Some(&app)).await;
    put(&large).token(&writer).send().await.problem("body_too_large");
}

#[tokio::test]
async fn an_address_is_given_only_where_a_request_is_answered() {
    let server = Server::start().await;
    server.app("demo").await;
    let bundle = json!({ "scripts": { "body": "1", "empty": "", "lib": "fn twice(x) { x * 2 }" } });
    let answer = server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await.json();
    let urls: Vec<&Value> =
        answer["scripts"].as_array().unwrap().iter().map(|script| &script["url"]).collect();
    assert_eq!(urls, [&json!("http://127.0.0.1:8421/@demo/body"), &Value::Null, &Value::Null]);
    assert_eq!(answer["scripts"][1]["warnings"], json!(["the script is empty"]));
    assert_eq!(server.get(SCRIPTS).await.items("handlers"), [json!(["body"]), json!([]), json!([])]);
    assert_eq!(server.script("demo", "empty", "").await.json()["warnings"][0], "the script is empty");
}

#[tokio::test]
async fn a_bundle_is_read_strictly() {
    let server = Server::start().await;
    server.app("demo").await;
    let cases = [
        (r#"{"scripts":{"a":"1","a":"2"}}"#, "duplicate script `a`"),
        (r#"{"scripts":{"a/":"1"}}"#, "script name"),
        (r#"{"scripts":{"a":1}}"#, "scripts.a"),
        (r#"{"scripts":{},"timers":[]}"#, "there is no field timers"),
        (r#"{"scripts":{},"routes":[{"path":"x","script":"a"}]}"#, "routes[0].path"),
        (r#"{"scripts":{"a":"\u0000"}}"#, "U+0000"),
        (
            r#"{"scripts":{},"routes":[[["GET"],"/x","a"]]}"#,
            "routes[0]: it is an array; allowed is an object",
        ),
        (r#"{"scripts":{},"limits":[1000000]}"#, "limits: it is an array; allowed is an object"),
        (r#"{"scripts":["a"]}"#, "scripts: it is an array; allowed is an object"),
    ];
    for (body, detail) in cases {
        let answer = server.call("PUT", "/api/v1/apps/demo/bundle").raw_json(body).send().await;
        let problem = answer.problem("invalid");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_bundle_names_all_scripts_that_do_not_compile() {
    let server = Server::start().await;
    server.app("demo").await;
    let put = async |scripts: Value| {
        server.call("PUT", "/api/v1/apps/demo/bundle").json(&json!({ "scripts": scripts })).send().await
    };
    let scripts = json!({
        "a": "1\n!no b", "fine": "1", "lib": "!no lib", "uses": "import lib", "uses-too": "import lib", "z": "import none",
    });
    let answer = put(scripts).await;
    let problem = answer.problem("compile_error");
    assert_eq!(
        (&problem["script"], &problem["detail"], &problem["line"], &problem["source_line"]),
        (&json!("a"), &json!("no b"), &json!(2), &json!("!no b"))
    );
    let errors: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["script"]).collect();
    assert_eq!(errors, ["a", "lib", "z"], "{problem}");
    assert_eq!(
        problem["errors"][1],
        json!({ "script": "lib", "message": "no lib", "line": 1, "column": 1, "source_line": "!no lib" })
    );
    assert!(server.get(SCRIPTS).await.items("name").is_empty());

    let many: serde_json::Map<_, _> = (0..30).map(|n| (format!("s{n}"), json!("!no"))).collect();
    assert_eq!(put(many.into()).await.problem("compile_error")["errors"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn a_bundle_tells_what_is_not_in_it_and_deletes_it_if_asked() {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "old", "1").await;
    let route = json!({ "methods": ["GET"], "path": "/by-hand", "script": "old" });
    server.call("POST", "/api/v1/apps/demo/routes").json(&route).send().await;
    let put = async |query: &str, bundle: Value| {
        server.call("PUT", &format!("/api/v1/apps/demo/bundle{query}")).json(&bundle).send().await
    };

    let kept = put("", json!({ "scripts": { "new": "1" } })).await.json();
    assert_eq!((&kept["other_scripts"], &kept["deleted_scripts"]), (&json!(["old"]), &json!([])));
    assert_eq!(kept["removed_routes"], json!([]));
    let used = put("?prune=true", json!({ "scripts": { "new": "1" } })).await.problem("script_in_use");
    assert!(used["detail"].as_str().unwrap().contains("not in the bundle"), "{used}");
    assert_eq!(used["used_by"], json!(["route GET /by-hand"]));

    let pruned = put("?prune=true", json!({ "scripts": { "new": "1" }, "routes": [] })).await.json();
    assert_eq!((&pruned["other_scripts"], &pruned["deleted_scripts"]), (&json!([]), &json!(["old"])));
    let gone = &pruned["removed_routes"][0];
    assert_eq!((&gone["path"], &gone["script"]), (&json!("/by-hand"), &json!("old")));
    assert_eq!(server.get(SCRIPTS).await.items("name"), ["new"]);
}
