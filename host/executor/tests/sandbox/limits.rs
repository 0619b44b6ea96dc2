//! Every limit ends in its own code, and the next invocation works.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use picloud_core::{Event, FuelMeter, Limits};

use crate::support::{TestApp, body, code, post};

fn limits() -> Limits {
    Limits { fuel: 20_000_000, wall_ms: 5_000, ..Limits::default() }
}

/// Runs `source` under `limits`, expects `expected`, and then that the next invocation works.
fn fails(source: &str, limits: Limits, expected: &str) {
    let app = TestApp::new(&[("bad", source), ("good", "1 + 1")]);
    let completion = app.run("bad", post("{}"), limits);
    assert_eq!(code(&completion), expected, "{:?}", completion.outcome);
    assert!(completion.effects.is_empty());
    assert_eq!(body(&app.run("good", post("{}"), limits)), "2");
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    fails("loop {}", limits(), "out_of_fuel");
}

#[test]
fn running_out_of_fuel_cannot_be_caught() {
    fails("try { loop {} } catch { } 1", limits(), "out_of_fuel");
}

#[test]
fn doubling_a_string_runs_out_of_memory() {
    fails(r#"let s = "x"; loop { s += s; }"#, Limits::default(), "out_of_memory");
}

#[test]
fn doubling_an_array_runs_out_of_memory() {
    fails("let a = [1]; loop { a.append(a); }", Limits::default(), "out_of_memory");
}

#[test]
fn memory_over_the_limit_cannot_be_caught_and_gone_on_with() {
    let source = "let a = []; loop { try { a.push(blob(100_000, 1)); } catch { } }";
    fails(source, Limits::default(), "out_of_memory");
}

#[test]
fn recursion_overflows_the_stack_as_an_error() {
    fails("fn f(n) { f(n + 1) } f(0)", limits(), "stack_overflow");
}

#[test]
fn a_slow_script_meets_the_deadline() {
    let short = Limits { fuel: 20_000_000_000, wall_ms: 100, ..Limits::default() };
    let began = Instant::now();
    fails("loop {}", short, "deadline_exceeded");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_was_used_before_the_deadline_is_told() {
    let app = TestApp::new(&[
        ("outer", r#"let a = []; a.pad(100_000, 1); app::invoke("loops", ())"#),
        ("loops", "loop {}"),
    ]);
    let short = Limits { fuel: 20_000_000_000, wall_ms: 200, ..Limits::default() };
    let loops = app.run("loops", post("{}"), short);
    assert_eq!(code(&loops), "deadline_exceeded");
    assert!(loops.usage.fuel > 1_000_000, "{:?}", loops.usage);
    // Also in a nested call, which is given up in the middle of its caller.
    let outer = app.run("outer", post("{}"), short);
    assert_eq!(code(&outer), "deadline_exceeded");
    assert!(outer.usage.fuel > 1_000_000, "{:?}", outer.usage);
    assert!(outer.usage.memory_bytes > 1_600_000, "{:?}", outer.usage);
}

#[test]
fn a_slow_host_call_meets_the_deadline() {
    let app = TestApp::new(&[("waits", r#"kv::get("c", "k")"#)]);
    *app.delay.lock().unwrap() = Some(Duration::from_hours(1));
    let short = Limits { wall_ms: 50, ..Limits::default() };
    assert_eq!(code(&app.run("waits", post("{}"), short)), "deadline_exceeded");
}

#[test]
fn a_million_host_calls_are_too_many() {
    fails(r#"for i in 0..1_000_000 { kv::get("c", "k"); }"#, Limits::default(), "host_call_budget");
}

#[test]
fn too_many_host_calls_cannot_be_caught() {
    let source = r#"loop { try { kv::get("c", "k"); } catch { } }"#;
    fails(source, Limits::default(), "host_call_budget");
}

#[test]
fn host_calls_carry_bounded_bytes() {
    let small = Limits { host_call_bytes: 10_000, kv_value_bytes: 100_000, ..Limits::default() };
    fails(r#"let s = ""; s.pad(20_000, 'x'); kv::set("c", "k", s)"#, small, "host_call_budget");
}

#[test]
fn a_value_over_its_limit_can_be_caught() {
    let app = TestApp::new(&[(
        "set",
        r#"let s = ""; s.pad(2_000, 'x'); try { kv::set("c", "k", s); } catch (e) { return e.code; } "stored""#,
    )]);
    let small = Limits { kv_value_bytes: 1_000, ..Limits::default() };
    assert_eq!(body(&app.run("set", post("{}"), small)), "too_large");
}

#[test]
fn a_key_over_its_limit_can_be_caught() {
    let source = r#"try { kv::set("c", "12345", 1); } catch (e) { return e.code; } "stored""#;
    let app = TestApp::new(&[("set", source)]);
    let limits = |kv_key_bytes| Limits { kv_key_bytes, ..Limits::default() };
    assert_eq!(body(&app.run("set", post("{}"), limits(4))), "too_large");
    assert_eq!(body(&app.run("set", post("{}"), limits(5))), "stored");
}

#[test]
fn the_meter_counts_what_a_completion_says_and_what_is_given_up() {
    let app = TestApp::new(&[
        ("adds", "let x = 0; for i in 0..100 { x += i; } x"),
        ("calls", "app::invoke(\"adds\", ()) + app::invoke(\"adds\", ())"),
        ("fails", "app::invoke(\"adds\", ()); throw 1"),
        ("spins", "loop {}"),
        ("nests", "app::invoke(\"spins\", ())"),
    ]);
    for name in ["adds", "calls", "fails", "spins", "nests"] {
        let meter = Arc::new(FuelMeter::default());
        let completion = app.run_metered(name, limits(), &meter);
        assert_eq!(meter.spent(), completion.usage.fuel, "{name}");
        assert!(meter.spent() > 0, "{name}");
    }
    let endless = Limits { fuel: 20_000_000_000, wall_ms: 60_000, ..Limits::default() };
    for name in ["spins", "nests"] {
        let meter = Arc::new(FuelMeter::default());
        app.give_up(name, endless, &meter);
        assert!((1..endless.fuel).contains(&meter.spent()), "{name}: {}", meter.spent());
    }
}

#[test]
fn logs_are_cut_with_a_marker() {
    let app = TestApp::new(&[("prints", "for i in 0..100_000 { print(`line ${i}`); } 1")]);
    let enough = Limits { fuel: 20_000_000_000, ..Limits::default() };
    let completion = app.run("prints", post("{}"), enough);
    assert_eq!(body(&completion), "1");
    assert!(completion.logs.truncated);
    let bytes: usize = completion.logs.lines.iter().map(|line| line.message.len()).sum();
    assert!(bytes as u64 <= enough.log_bytes);
    assert!(completion.logs.lines.len() > 1_000);
}

#[test]
fn logs_of_a_failed_run_are_kept() {
    let app = TestApp::new(&[("bad", r#"print("before"); throw "no""#)]);
    let completion = app.run("bad", post("{}"), Limits::default());
    assert_eq!(code(&completion), "script_error");
    assert_eq!(completion.logs.lines[0].message, "before");
}

#[test]
fn a_failure_says_where() {
    let app = TestApp::new(&[("bad", "let x = 1;\nlet y = x.nothing();\n")]);
    let fault = app.run("bad", post("{}"), Limits::default()).outcome.unwrap_err();
    let at = fault.position.expect("a position");
    assert_eq!((at.script.as_str(), at.line), ("bad", 2));
    assert_eq!(at.source_line, "let y = x.nothing();");
}

#[test]
fn a_script_that_does_not_compile_says_where() {
    let app = TestApp::new(&[]);
    app.scripts.lock().unwrap().insert(crate::support::script_name("bad"), "let x = ;\n".into());
    let picloud_core::BuildError::Script { position, .. } = app.deploy("bad").unwrap_err() else { panic!() };
    let at = position.expect("a position");
    assert_eq!((at.line, at.source_line.as_str()), (1, "let x = ;"));
}

#[test]
fn many_invocations_share_one_thread_of_cpu() {
    let app = TestApp::new(&[("spin", "let x = 0; for i in 0..20_000 { x += i; } x"), ("hello", "1")]);
    let event = || Event::Invoke("null".into());
    let runs = async {
        let tasks: Vec<_> = (0..40)
            .map(|i| {
                let app = app.clone();
                let name = if i % 2 == 0 { "spin" } else { "hello" };
                tokio::spawn(async move { app.start(name, event(), Limits::default()).await })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().outcome.is_ok());
        }
    };
    crate::support::runtime().block_on(runs);
}
