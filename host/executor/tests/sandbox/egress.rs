//! Budgets of calls to other services, and the time while one waits.

use std::time::Duration;

use picloud_core::{ErrorCode, Event, Limits};

use crate::support::{TestApp, code};

fn run(source: &str, limits: Limits) -> picloud_core::Completion {
    TestApp::new(&[("main", source)]).run("main", Event::Invoke("null".into()), limits)
}

#[track_caller]
fn value(completion: &picloud_core::Completion) -> &str {
    match &completion.outcome {
        Ok(picloud_core::Answer::Value(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_counted_and_one_more_can_be_caught() {
    let source = r#"
        let made = 0;
        try { for i in 0..10 { http::get("https://json.test/"); made += 1; } }
        catch (e) { return [made, e.code]; }
        made"#;
    let limits = Limits { egress_calls: 3, ..Limits::default() };
    assert_eq!(value(&run(source, limits)), r#"[3,"egress_budget"]"#);
    assert_eq!(value(&run(source, Limits::default())), "10");
    let none = run("http::get(\"https://json.test/\")", Limits { egress_calls: 0, ..Limits::default() });
    assert_eq!(code(&none), "egress_budget");
}

#[test]
fn calls_that_are_refused_count_as_host_calls_and_end() {
    let source = r#"loop { try { http::get("https://denied.test/"); } catch (e) { } }"#;
    let ended = run(source, Limits { host_calls: 100, ..Limits::default() });
    assert_eq!(code(&ended), "host_call_budget");
    assert_eq!(ended.usage.host_calls, 101);
}

#[test]
fn bodies_are_held_to_their_limits() {
    let source = |bytes: usize| format!("http::post(\"https://echo.test/\", blob({bytes}, 65)).status");
    let limits = Limits { egress_bytes: 1000, ..Limits::default() };
    assert_eq!(value(&run(&source(1000), limits)), "200");
    assert_eq!(code(&run(&source(1001), limits)), "too_large");
    let all = Limits { host_call_bytes: 5000, ..Limits::default() };
    assert_eq!(code(&run(&source(4000), all)), "host_call_budget", "what comes back counts as well");
}

#[test]
fn a_service_that_never_answers_ends_with_the_invocations_time() {
    let ended = run("http::get(\"https://silent.test/\")", Limits { wall_ms: 200, ..Limits::default() });
    assert_eq!(code(&ended), "deadline_exceeded");
    assert!(ended.usage.duration < Duration::from_secs(2), "{:?}", ended.usage.duration);
}

#[test]
fn what_only_reads_can_be_run_again_and_nothing_else() {
    let called_outside = |source: &str| run(source, Limits::default()).usage.called_outside;
    assert!(!called_outside("1"));
    assert!(!called_outside("http::get(\"https://json.test/\"); http::head(\"https://json.test/\").status"));
    for source in [
        "http::post(\"https://json.test/\", 1)",
        "http::post(\"https://json.test/\", ()).status",
        "http::delete(\"https://json.test/\").status",
        "try { http::put(\"https://denied.test/\", \"\") } catch (e) { e.code }",
    ] {
        // A body that is none is refused before anything is called.
        assert_eq!(called_outside(source), !source.contains(", 1)"), "{source}");
    }
}

#[test]
fn options_out_of_bounds_are_refused_by_the_host() {
    for options in ["timeout_ms: 0", "timeout_ms: 60_001", "redirects: 6", "redirects: 99_999_999_999"] {
        let ended = run(&format!("http::get(\"https://json.test/\", #{{ {options} }})"), Limits::default());
        assert_eq!(code(&ended), "invalid", "{options}");
    }
    let method = run("http::request(#{ url: \"https://json.test/\", method: \"TRACE\" })", Limits::default());
    assert_eq!(method.outcome.unwrap_err().code, ErrorCode::Invalid);
}

/// A called script makes calls at its caller's expense.
#[test]
fn nested_calls_share_the_budget() {
    let app = TestApp::new(&[
        ("callee", "http::get(\"https://json.test/\").status"),
        (
            "main",
            "app::invoke(\"callee\"); app::invoke(\"callee\"); http::get(\"https://json.test/\").status",
        ),
    ]);
    let limits = Limits { egress_calls: 2, ..Limits::default() };
    assert_eq!(code(&app.run("main", Event::Invoke("null".into()), limits)), "egress_budget");
    let limits = Limits { egress_calls: 3, ..Limits::default() };
    assert_eq!(value(&app.run("main", Event::Invoke("null".into()), limits)), "201");
}
