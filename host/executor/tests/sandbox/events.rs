//! Events of triggers, and what invocations send.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use picloud_core::{Answer, Completion, Effects, Emitted, Event, Limits, TriggerKind};

use crate::support::{TestApp, code};

fn trigger(app: &Arc<TestApp>, script: &str, kind: TriggerKind, event: &str) -> Completion {
    app.run(script, Event::Trigger { kind, event: event.to_owned() }, Limits::default())
}

fn value(completion: &Completion) -> &str {
    match &completion.outcome {
        Ok(Answer::Value(value)) => value,
        other => panic!("no value: {other:?}"),
    }
}

fn invoke(source: &str, limits: Limits) -> Completion {
    TestApp::new(&[("main", source)]).run("main", Event::Invoke("null".into()), limits)
}

/// The handler that core names for a kind is the one that the guest calls.
#[test]
fn every_kind_calls_its_handler_and_no_other() {
    let handler = |kind: &TriggerKind| format!("fn {}(event) {{ [\"{kind:?}\", event.n] }}", kind.handler());
    let handlers: Vec<_> = TriggerKind::ALL.iter().map(handler).collect();
    let app = TestApp::new(&[("all", &handlers.join("\n")), ("none", "fn on_request(req) { 1 }")]);
    for kind in TriggerKind::ALL {
        let ran = trigger(&app, "all", *kind, r#"{"n":7}"#);
        assert_eq!(value(&ran), format!("[\"{kind:?}\",7]"));
        let fault = trigger(&app, "none", *kind, "{}").outcome.unwrap_err();
        assert_eq!(fault.code.as_str(), "no_handler");
        assert!(fault.message.contains(&format!("has no {},", kind.handler())), "{}", fault.message);
    }
    assert_eq!(code(&app.run("all", Event::Invoke("null".into()), Limits::default())), "no_handler");
}

#[test]
fn what_is_sent_has_the_id_that_the_script_was_given() {
    let ran = invoke(
        r#"[queue::send("jobs", 1), topic::publish("a", 2), email::send(#{ to: "a@b.example", text: "x" })]"#,
        Limits::default(),
    );
    let ids: Vec<String> = ran.effects.events.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(value(&ran), serde_json::to_string(&ids).unwrap());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
    let kinds = ran.effects.events.iter().map(|event| match &event.what {
        Emitted::Message { .. } => "message",
        Emitted::Publication { .. } => "publication",
        Emitted::Mail(_) => "mail",
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["message", "publication", "mail"]);
}

#[test]
fn a_mail_is_refused_at_the_call_where_nothing_sends_it() {
    let source = r#"let code = ""; try { email::send(#{ to: "a@b.example", text: "x" }); } catch (e) { code = e.code; } code"#;
    let app = TestApp::new(&[("main", source)]);
    app.has_no_relay.store(true, Ordering::Relaxed);
    let ran = app.run("main", Event::Invoke("null".into()), Limits::default());
    assert_eq!(value(&ran), r#""mail_not_configured""#);
    assert_eq!(ran.effects, Effects::default());
}

#[test]
fn a_failed_invocation_sends_nothing() {
    for source in [
        r#"queue::send("jobs", 1); throw "no""#,
        r#"topic::publish("a", 1); loop {}"#,
        r#"email::send(#{ to: "a@b.example", text: "x" }); || 1"#,
    ] {
        let ran = invoke(source, Limits { fuel: 20_000_000, ..Limits::default() });
        assert!(ran.outcome.is_err(), "{source}");
        assert_eq!(ran.effects, Effects::default(), "{source}");
    }
}

#[test]
fn a_failed_nested_call_takes_its_events_back() {
    let app = TestApp::new(&[
        (
            "main",
            r#"queue::send("jobs", "a");
               for name in ["fails", "nests", "succeeds"] { try { app::invoke(name); } catch { } }
               queue::send("jobs", "d");"#,
        ),
        ("fails", r#"queue::send("jobs", "x"); topic::publish("x", 1); throw 1"#),
        ("nests", r#"queue::send("jobs", "y"); app::invoke("succeeds"); throw 1"#),
        (
            "succeeds",
            r#"queue::send("jobs", "b"); try { app::invoke("fails"); } catch { } queue::send("jobs", "c");"#,
        ),
    ]);
    let ran = app.run("main", Event::Invoke("null".into()), Limits::default());
    let bodies = ran.effects.events.iter().map(|event| match &event.what {
        Emitted::Message { body, .. } => body.as_ref(),
        other => panic!("{other:?}"),
    });
    assert_eq!(bodies.collect::<Vec<_>>(), [r#""a""#, r#""b""#, r#""c""#, r#""d""#]);
}

#[test]
fn a_body_is_at_most_as_large_as_the_app_may_have_it() {
    let source = r#"let text = ""; text.pad(98, 'x');
        let codes = [];
        for size in [98, 99] {
            text.pad(size, 'x');
            for send in [
                || queue::send("jobs", text), || topic::publish("a", text),
                || email::send(#{ to: "a@b.example", text: text.sub_string(0, size - 9 ) })
            ] {
                try { send.call(); codes.push("sent"); } catch (e) { codes.push(e.code); }
            }
        }
        codes"#;
    let ran = invoke(source, Limits { event_bytes: 100, ..Limits::default() });
    // The quotes count, and so does the address of a mail.
    assert_eq!(value(&ran), r#"["sent","sent","sent","too_large","too_large","too_large"]"#);
    let fault =
        invoke(r#"queue::send("jobs", "123456789")"#, Limits { event_bytes: 10, ..Limits::default() })
            .outcome
            .unwrap_err();
    assert!(fault.message.contains("11 bytes; this app's limit event_bytes is 10"), "{}", fault.message);
}

#[test]
fn an_invocation_sends_at_most_a_thousand_events() {
    let many = Limits { host_calls: 10_000, host_call_bytes: 32 << 20, ..Limits::default() };
    let enough = r#"for i in 0..500 { queue::send("jobs", i); topic::publish("a", i); }"#;
    let ran = invoke(enough, many);
    assert_eq!((ran.outcome.is_ok(), ran.effects.events.len()), (true, 1_000));
    let ran = invoke(&format!("{enough} try {{ topic::publish(\"a\", 1); }} catch {{ }} 1"), many);
    assert_eq!((code(&ran), ran.effects.events.len()), ("host_call_budget", 0));
}

#[test]
fn a_million_sends_end_in_their_budget() {
    let ran = invoke(r#"loop { try { queue::send("jobs", 1); } catch { } }"#, Limits::default());
    assert_eq!(code(&ran), "host_call_budget");
    let large = r#"let x = ""; x.pad(200_000, 'x'); loop { topic::publish("a", x); }"#;
    assert_eq!(code(&invoke(large, Limits::default())), "host_call_budget");
}

/// An event that nothing reads costs about what a direct call costs.
#[test]
fn an_event_that_is_not_read_is_not_parsed() {
    let app = TestApp::new(&[
        ("ignores", "fn on_message(msg) { 1 }"),
        ("takes-none", "fn on_message() { 1 }"),
        ("body", "1"),
        ("reads", "fn on_message(msg) { msg.id; 1 }"),
    ]);
    let large = format!(r#"{{"id":"e","body":[{}1]}}"#, "[1,2,3],".repeat(5_000));
    let fuel = |script: &str, event: &str| {
        let ran = trigger(&app, script, TriggerKind::Queue, event);
        assert_eq!(value(&ran), "1");
        ran.usage.fuel
    };
    for script in ["ignores", "takes-none", "body"] {
        let (small, large) = (fuel(script, r#"{"id":"e"}"#), fuel(script, &large));
        assert!(large < small + 20_000, "{script}: {small}, {large}");
        assert!(small < 50_000, "{script}: {small}");
    }
    assert!(fuel("reads", &large) > 1_000_000);
}
