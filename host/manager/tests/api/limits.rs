//! Limits of an app under the platform's ceiling.

use picloud_core::{LimitField, Scope};
use serde_json::{Value, json};

use crate::support::Server;

const PATH: &str = "/api/v1/apps/demo/limits";

#[tokio::test]
async fn what_is_named_is_replaced_and_the_rest_stays() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let before = server.get(PATH).await.json();
    let first = server.call("PUT", PATH).json(&json!({ "fuel": 50_000_000 })).send().await;
    assert_eq!(first.status, 200);
    let second = server.call("PUT", PATH).json(&json!({ "wall_ms": 500 })).send().await.json();
    let mut expected = before;
    expected["fuel"] = json!(50_000_000);
    expected["wall_ms"] = json!(500);
    assert_eq!(second, expected);
    assert_eq!(server.get(PATH).await.json(), expected);
    assert_eq!(server.get("/api/v1/apps/demo").await.json()["limits"], expected);
    assert_eq!(*server.node.changed.lock().unwrap(), [app.id; 3]);
    assert_eq!(server.call("PUT", PATH).json(&json!({})).send().await.json(), expected);
}

#[tokio::test]
async fn a_limit_above_the_ceiling_names_both() {
    let server = Server::start().await;
    server.app("demo").await;
    let answer =
        server.call("PUT", PATH).json(&json!({ "wall_ms": 500, "memory_bytes": 999_999_999 })).send().await;
    assert_eq!(answer.status, 422);
    let problem = answer.problem("above_ceiling");
    assert_eq!(problem["field"], "memory_bytes");
    assert_eq!(problem["value"], 999_999_999);
    assert_eq!(problem["ceiling"], 67_108_864);
    assert_eq!(server.get(PATH).await.json()["wall_ms"], 10_000, "nothing of it is taken");
}

#[tokio::test]
async fn only_whole_numbers_within_range_are_limits() {
    let server = Server::start().await;
    server.app("demo").await;
    let cases = [
        ("-1", "invalid"),
        ("0", "invalid"),
        ("1", "invalid"),
        ("9223372036854775807", "above_ceiling"),
        ("9223372036854775808", "above_ceiling"),
        ("18446744073709551616", "invalid"),
        ("1e9", "invalid"),
        ("0.5", "invalid"),
        ("\"500\"", "invalid"),
        ("null", "invalid"),
        ("true", "invalid"),
        ("[]", "invalid"),
    ];
    for (value, code) in cases {
        let answer = server.call("PUT", PATH).raw_json(&format!(r#"{{"fuel":{value}}}"#)).send().await;
        let problem = answer.problem(code);
        assert_eq!(answer.status, 422, "{value}");
        assert_eq!(problem["field"], "fuel", "{value}: {problem}");
    }
    let answer = server.call("PUT", PATH).raw_json(r#"{"fuel":60000000,"fuel":70000000}"#).send().await;
    answer.problem("invalid");
    let answer = server.call("PUT", PATH).json(&json!({ "fule": 1 })).send().await;
    assert!(answer.problem("invalid")["detail"].as_str().unwrap().contains("there is no field fule"));
}

#[tokio::test]
async fn a_change_can_be_bound_to_what_was_seen() {
    let server = Server::start().await;
    server.app("demo").await;
    let seen = server.get(PATH).await.header("etag").to_owned();
    let put = |fuel: u64, tag: &str| {
        server.call("PUT", PATH).json(&json!({ "fuel": fuel })).header("if-match", tag)
    };
    let first = put(60_000_000, &seen).send().await;
    assert_eq!(first.status, 200);
    assert_ne!(first.header("etag"), seen);
    let late = put(70_000_000, &seen).send().await;
    late.problem("precondition_failed");
    assert_eq!(late.status, 412);
    assert_eq!(put(70_000_000, first.header("etag")).send().await.status, 200);
    put(1_000_000, "unquoted").send().await.problem("bad_request");
}

#[tokio::test]
async fn every_limit_keeps_its_range() {
    let server = Server::start().await;
    server.app("demo").await;
    for field in LimitField::ALL {
        let name = field.as_str();
        let put = async |value: &str| {
            server.call("PUT", PATH).raw_json(&format!("{{\"{name}\":{value}}}")).send().await
        };
        assert_eq!(put(&field.least().to_string()).await.json()[name], field.least());
        for value in ["-1", "18446744073709551616", "1.5", "\"1\""] {
            assert_eq!(put(value).await.problem("invalid")["field"], name, "{value}");
        }
        let above = put("9223372036854775808").await.problem("above_ceiling");
        assert_eq!((&above["field"], &above["ceiling"]), (&json!(name), &json!(field.default_ceiling())));
        if field.least() > 0 {
            assert_eq!(put("0").await.problem("invalid")["least"], field.least(), "{name}");
        }
        let twice = server.call("PUT", PATH).raw_json(&format!("{{\"{name}\":1,\"{name}\":1}}")).send().await;
        twice.problem("invalid");
    }
}

#[tokio::test]
async fn a_budget_can_be_taken_away() {
    let server = Server::start().await;
    server.app("demo").await;
    assert_eq!(server.get(PATH).await.json()["fuel_per_day"], Value::Null);
    let put = async |body: Value| server.call("PUT", PATH).json(&body).send().await;
    assert_eq!(put(json!({ "fuel_per_day": 1_000_000 })).await.json()["fuel_per_day"], 1_000_000);
    assert_eq!(put(json!({ "fuel_per_hour": 500_000 })).await.json()["fuel_per_day"], 1_000_000);
    assert_eq!(put(json!({ "fuel_per_day": null })).await.json()["fuel_per_day"], Value::Null);
    put(json!({ "wall_ms": null })).await.problem("invalid");
}

const OF_SCRIPT: &str = "/api/v1/apps/demo/scripts/a/limits";

#[tokio::test]
async fn a_script_has_limits_at_or_under_the_apps() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    server.script("demo", "a", "1").await;
    let before = server.get(OF_SCRIPT).await;
    let unset = json!({ "fuel": 500_000_000, "memory_bytes": 16 << 20, "wall_ms": 10_000, "own": {} });
    assert_eq!(before.json(), unset);
    let put = |body: Value| server.call("PUT", OF_SCRIPT).json(&body);
    let set = put(json!({ "fuel": 60_000, "wall_ms": 500 })).send().await;
    let own = json!({ "fuel": 60_000, "wall_ms": 500 });
    let expected = json!({ "fuel": 60_000, "memory_bytes": 16 << 20, "wall_ms": 500, "own": own });
    assert_eq!(set.json(), expected);
    assert_eq!(server.get("/api/v1/apps/demo/scripts/a").await.json()["limits"], expected);
    assert_eq!(server.get("/api/v1/apps/demo/scripts").await.items("limits"), [expected]);
    assert_eq!(server.node.changed.lock().unwrap().last(), Some(&app.id));

    let above = put(json!({ "fuel": 60_000, "wall_ms": 10_001 })).send().await.problem("above_ceiling");
    assert_eq!((&above["field"], &above["ceiling"]), (&json!("wall_ms"), &json!(10_000)));
    assert!(above["detail"].as_str().unwrap().contains("above the app's limit of 10000"), "{above}");
    // Where the app's is lowered later, the lesser is in force, and the script's own is kept.
    server.call("PUT", PATH).json(&json!({ "wall_ms": 100 })).send().await;
    let cut = server.get(OF_SCRIPT).await.json();
    assert_eq!((&cut["wall_ms"], &cut["own"]["wall_ms"]), (&json!(100), &json!(500)));
    put(json!({ "fuel": 70_000 }))
        .header("if-match", before.header("etag"))
        .send()
        .await
        .problem("precondition_failed");
    let given_back = put(json!({ "fuel": null })).send().await.json();
    assert_eq!((&given_back["fuel"], &given_back["own"]), (&json!(500_000_000), &json!({ "wall_ms": 500 })));

    for bad in [
        r#"{"fuel":-1}"#,
        r#"{"fuel":0}"#,
        r#"{"fuel":1,"fuel":1}"#,
        r#"{"concurrency":1}"#,
        r#"{"fuel":"1"}"#,
    ] {
        assert_eq!(
            server.call("PUT", OF_SCRIPT).raw_json(bad).send().await.problem("invalid")["status"],
            422
        );
    }
    put(json!({ "fuel": 9_223_372_036_854_775_808_u64 })).send().await.problem("above_ceiling");
    let missing = "/api/v1/apps/demo/scripts/b/limits";
    server.get(missing).await.problem("script_not_found");
    server.call("PUT", missing).json(&json!({ "fuel": 60_000 })).send().await.problem("script_not_found");
    let writer = server.token(&[Scope::ScriptWrite, Scope::ScriptRead], Some(&app)).await;
    put(json!({ "fuel": 60_000 })).token(&writer).send().await.problem("forbidden");
}

#[tokio::test]
async fn a_bundle_sets_limits_of_its_scripts_or_nothing() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let put = |bundle: &str| server.call("PUT", "/api/v1/apps/demo/bundle").raw_json(bundle);
    let set = r#"{"scripts":{"a":"1"},"limits":{"wall_ms":600},"script_limits":{"a":{"wall_ms":500}}}"#;
    let answer = put(set).send().await.json();
    assert_eq!(answer["scripts"][0]["limits"]["wall_ms"], 500);
    let above = r#"{"scripts":{"a":"2"},"limits":{"wall_ms":400},"script_limits":{"a":{"wall_ms":500}}}"#;
    let refused = put(above).send().await.problem("above_ceiling");
    assert!(
        refused["detail"].as_str().unwrap().starts_with("the limits of the script a: wall_ms is 500"),
        "{refused}"
    );
    assert_eq!(
        server.get("/api/v1/apps/demo/scripts/a").await.json()["version"],
        1,
        "nothing of it is taken"
    );
    assert_eq!(server.get(PATH).await.json()["wall_ms"], 600);
    let unknown = r#"{"scripts":{"a":"2"},"script_limits":{"b":{"wall_ms":500}}}"#;
    put(unknown).send().await.problem("script_not_found");
    let twice = r#"{"scripts":{"a":"2"},"script_limits":{"a":{"wall_ms":500},"a":{"wall_ms":300}}}"#;
    let refused = put(twice).send().await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("duplicate script `a`"), "{refused}");
    let writer = server.token(&[Scope::ScriptWrite], Some(&app)).await;
    put(set).token(&writer).send().await.problem("forbidden");
    // A script that stays can be given limits as well; what is not named stays.
    put(r#"{"scripts":{"b":"1"},"script_limits":{"a":{"fuel":60000}}}"#).send().await.json();
    assert_eq!(server.get(OF_SCRIPT).await.json()["own"], json!({ "fuel": 60_000, "wall_ms": 500 }));
}
