//! Nothing of one invocation is seen by another.

use picloud_core::{Answer, Event, Limits};

use crate::support::{TestApp, body, code, post};

#[test]
fn state_does_not_outlive_an_invocation() {
    let app = TestApp::new(&[("count", "let n = 0; n += 1; n")]);
    for _ in 0..50 {
        assert_eq!(body(&app.run("count", post("{}"), Limits::default())), "1");
    }
}

#[test]
fn a_script_cannot_change_the_api_of_another() {
    let app = TestApp::new(&[
        ("evil", r#"fn len(x) { 42 } fn stringify(x) { 1 } "abc".len()"#),
        ("good", r#""abc".len()"#),
    ]);
    for _ in 0..10 {
        app.run("evil", post("{}"), Limits::default());
        assert_eq!(body(&app.run("good", post("{}"), Limits::default())), "3");
    }
}

#[test]
fn grown_memory_is_gone_for_the_next_tenant() {
    let app = TestApp::new(&[
        ("grow", "let a = []; loop { a.push(blob(100_000, 7)); }"),
        ("small", "let a = []; for i in 0..1_000 { a.push(i); } a.len()"),
    ]);
    for _ in 0..20 {
        assert_eq!(code(&app.run("grow", post("{}"), Limits::default())), "out_of_memory");
        let next = app.run("small", post("{}"), Limits::default());
        assert_eq!(body(&next), "1000");
        assert!(next.usage.memory_bytes < 8 << 20, "{}", next.usage.memory_bytes);
    }
}

#[test]
fn random_numbers_are_not_frozen_into_an_image() {
    let app = TestApp::new(&[("uuid", "random::uuid()")]);
    let first = app.value("uuid", "null");
    assert!((0..20).all(|_| app.value("uuid", "null") != first));
}

#[test]
fn host_calls_are_refused_while_an_image_is_built() {
    // Top-level statements run per event, not when the script is compiled: this compiles without a call.
    let app = TestApp::new(&[("top", r#"const N = kv::get("c", "n"); fn on_request(req) { "ok" }"#)]);
    assert_eq!(body(&app.run("top", post("{}"), Limits::default())), "ok");
}

#[test]
fn a_failed_run_leaves_no_effect() {
    let app = TestApp::new(&[("bad", r#"kv::set("c", "k", 1); throw "no""#)]);
    let completion = app.run("bad", post("{}"), Limits::default());
    assert_eq!(code(&completion), "script_error");
    assert!(completion.effects.is_empty());
}

#[test]
fn kv_values_round_trip_exactly() {
    let cases = [
        r#""a\u0000b""#,
        r#""e\u0301 é \ud83d\ude00""#,
        "9223372036854775807",
        "-9223372036854775808",
        "1.0",
        "0.1",
        "[1,[2,{\"a\":null}]]",
        "{\"\":1,\"z\":true}",
    ];
    let app = TestApp::new(&[("put", r#"kv::set("c", "k", event)"#), ("get", r#"kv::get("c", "k")"#)]);
    for case in cases {
        app.value("put", case);
        let back: serde_json::Value = serde_json::from_str(&app.value("get", "null")).unwrap();
        assert_eq!(back, serde_json::from_str::<serde_json::Value>(case).unwrap(), "{case}");
    }
}

#[test]
fn an_invocation_sees_its_own_writes_and_commits_them_once() {
    let app = TestApp::new(&[(
        "work",
        r#"kv::set("c", "a", 1); kv::incr("c", "a", 4); kv::delete("c", "b"); kv::list("c").len()"#,
    )]);
    let completion = app.run("work", Event::Invoke("null".into()), Limits::default());
    assert_eq!(completion.outcome, Ok(Answer::Value("1".into())));
    assert_eq!(completion.effects.kv.len(), 2);
    assert_eq!(completion.reads.lists.len(), 1);
}
