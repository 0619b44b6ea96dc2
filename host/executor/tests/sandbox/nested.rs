//! `app::invoke`: scripts that call each other.

use picloud_core::{Event, Limits};

use crate::support::{TestApp, code, post};

#[test]
fn a_script_calls_another_and_gets_its_value() {
    let app = TestApp::new(&[
        ("caller", r#"app::invoke("callee", #{ n: 20 }).twice + 2"#),
        ("callee", "#{ twice: event.n * 2 }"),
    ]);
    assert_eq!(app.value("caller", "null"), "42");
}

#[test]
fn nested_calls_share_one_view_of_data() {
    let app = TestApp::new(&[
        ("caller", r#"kv::set("c", "k", 1); app::invoke("callee", ()); kv::get("c", "k")"#),
        ("callee", r#"kv::set("c", "k", kv::get("c", "k") + 1)"#),
    ]);
    assert_eq!(app.value("caller", "null"), "2");
}

#[test]
fn a_failed_call_can_be_caught_and_leaves_no_write() {
    let app = TestApp::new(&[
        (
            "caller",
            r#"kv::set("c", "k", 1);
               let code = "none";
               try { app::invoke("callee", ()); } catch (e) { code = e.code; }
               code + kv::get("c", "k")"#,
        ),
        ("callee", r#"kv::set("c", "k", 2); throw "no""#),
    ]);
    assert_eq!(app.value("caller", "null"), r#""script_error1""#);
}

#[test]
fn depth_is_bounded() {
    let app = TestApp::new(&[(
        "deep",
        r#"try { return app::invoke("deep", event + 1); } catch (e) { return [event, e.code]; }"#,
    )]);
    assert_eq!(app.value("deep", "0"), r#"[4,"invoke_depth_exceeded"]"#);
}

#[test]
fn fuel_is_shared() {
    let app =
        TestApp::new(&[("caller", r#"try { app::invoke("spin", ()) } catch { 1 }"#), ("spin", "loop {}")]);
    let little = Limits { fuel: 5_000_000, ..Limits::default() };
    let completion = app.run("caller", Event::Invoke("null".into()), little);
    assert_eq!(code(&completion), "out_of_fuel");
    assert_eq!(completion.usage.fuel, 5_000_000);
}

#[test]
fn a_missing_script_is_an_error_of_the_call() {
    let app =
        TestApp::new(&[("caller", r#"try { app::invoke("nobody", ()); } catch (e) { return e.code; }"#)]);
    assert_eq!(app.value("caller", "null"), r#""script_not_found""#);
}

#[test]
fn every_slot_can_hold_a_chain_of_calls() {
    let app = TestApp::new(&[
        ("a", r#"app::invoke("b", ()) + 1"#),
        ("b", r#"app::invoke("c", ()) + 1"#),
        ("c", r#"app::invoke("d", ()) + 1"#),
        ("d", r#"app::invoke("e", ()) + 1"#),
        ("e", "0"),
    ]);
    let runs = async {
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let app = app.clone();
                tokio::spawn(async move { app.start("a", post("{}"), Limits::default()).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(crate::support::body(&task.await.unwrap()), "4");
        }
    };
    crate::support::runtime().block_on(runs);
}
