//! Limits set for an app bite, each with its own code; the platform's ceiling bounds them.

use crate::support::shared_app;

#[test]
fn fuel() {
    let app = shared_app("fuel");
    app.deploy("spin", "loop {}").ok();
    app.limit(&["fuel=1_000_000"]).ok();
    let answer = app.get("/spin");
    assert_eq!((answer.status, answer.code().as_str()), (502, "out_of_fuel"));
    app.deploy("ok", "1").ok();
    assert_eq!(app.get("/ok").status, 200);
}

#[test]
fn memory() {
    let app = shared_app("memory");
    app.deploy("grow", "let a = []; loop { a.push(blob(100_000)); }").ok();
    app.limit(&["memory_bytes=8388608"]).ok();
    let answer = app.get("/grow");
    assert_eq!((answer.status, answer.code().as_str()), (502, "out_of_memory"));
}

#[test]
fn wall_time() {
    let app = shared_app("time");
    app.deploy("spin", "loop {}").ok();
    app.limit(&["wall_ms=100", "fuel=20_000_000_000"]).ok();
    let answer = app.get("/spin");
    assert_eq!((answer.status, answer.code().as_str()), (504, "deadline_exceeded"));
}

#[test]
fn host_calls() {
    let app = shared_app("calls");
    app.deploy("many", "for i in 0..100 { kv::get(\"c\", `k${i}`); }").ok();
    app.limit(&["host_calls=10"]).ok();
    assert_eq!(app.get("/many").code(), "host_call_budget");
}

#[test]
fn bodies() {
    let app = shared_app("bodies");
    app.deploy("echo", "req.body").ok();
    app.deploy("big", "let s = \"x\"; while s.len < 10_000 { s += s; } s").ok();
    app.limit(&["request_body_bytes=1000", "response_bytes=1000"]).ok();
    assert_eq!(app.post("/echo", &"x".repeat(1000)).status, 200);
    let answer = app.post("/echo", &"x".repeat(1001));
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert_eq!(app.get("/big").code(), "bad_response");
}

#[test]
fn the_ceiling() {
    let app = shared_app("ceiling");
    let stderr = app.limit(&["fuel=20_000_000_001"]).failed(1);
    assert!(stderr.contains("above_ceiling") && stderr.contains("20000000000"), "{stderr}");
    let stderr = app.limit(&["memory_bytes=1"]).failed(1);
    assert!(stderr.contains("least allowed"), "{stderr}");
    assert!(app.limit(&["fule=1"]).failed(2).contains("allowed are fuel"));
}
