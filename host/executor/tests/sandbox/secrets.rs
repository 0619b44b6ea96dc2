//! Secrets: what a build says of them, and that nothing a run leaves behind shows them.

use std::{collections::BTreeSet, sync::Arc};

use picloud_core::{Completion, Event, Limits, SecretValue, UseKind, Used};

use crate::support::{TestApp, code};

const VALUE: &str = "canary \"7f3a\"/ü";

fn app(scripts: &[(&str, &str)]) -> Arc<TestApp> {
    let app = TestApp::new(scripts);
    let value = Arc::new(SecretValue::new(VALUE.as_bytes().to_vec()).unwrap());
    app.secrets.lock().unwrap().insert("key".into(), value);
    app
}

fn run(source: &str) -> Completion {
    let app = app(&[("s", source)]);
    let completion = app.run("s", Event::Invoke("null".into()), Limits::default());
    for shown in [format!("{:?}", completion.logs), format!("{:?}", completion.outcome.as_ref().err())] {
        assert!(!shown.contains("canary") && !shown.contains("7f3a"), "{source}: {shown}");
    }
    completion
}

fn lines(completion: &Completion) -> Vec<&str> {
    completion.logs.lines.iter().map(|line| &*line.message).collect()
}

#[test]
fn a_build_tells_what_a_script_and_its_libraries_use() {
    let app = TestApp::new(&[
        ("lib", "fn key() { secret::get(\"of-the-library\") }"),
        ("main", "import \"lib\" as lib; kv::get(\"c\", \"k\"); secret::get(\"own\"); lib::key()"),
    ]);
    let uses = app.deploy("main").unwrap().uses;
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let used = |found: &[&str]| Used { names: names(found), any: false };
    assert_eq!(uses.of(UseKind::Secrets), Some(&used(&["of-the-library", "own"])));
    assert_eq!(uses.of(UseKind::Kv), Some(&used(&["c"])));
    assert_eq!(uses.of(UseKind::Env), None);
    let names: Vec<String> = (0..101).map(|number| format!("\"s{number}\"")).collect();
    let many = format!("const SECRETS = [{}]; 1", names.join(","));
    app.scripts.lock().unwrap().insert(crate::support::script_name("many"), many.into());
    assert!(app.deploy("many").unwrap_err().to_string().contains("may declare 100 secrets"));
}

#[test]
fn what_is_logged_is_masked_in_every_form_that_the_api_makes() {
    for form in [
        "log::info(k)",
        "print(`got ${k}!`)",
        "debug(k)",
        "log::warn(#{ key: k })",
        "log::warn([k])",
        "log::info(json::stringify(k))",
        "log::info(base64::encode(k))",
        "log::info(base64::encode_url(k))",
        "log::info(base64::encode(`user:${k}`))",
        "log::info(url::encode(k))",
        "log::info(url::build_query(#{ k: k }))",
        "log::info(\"x\", #{ deep: #{ key: k } })",
    ] {
        let completion = run(&format!("let k = secret::get(\"key\"); {form}; 1"));
        assert!(completion.outcome.is_ok(), "{form}: {:?}", completion.outcome);
        assert!(lines(&completion)[0].contains("[secret key]"), "{form}: {:?}", lines(&completion));
    }
    let completion = run("let k = secret::get(\"key\"); for c in k.chars() { print(c); } 1");
    assert_eq!(lines(&completion)[..2], ["[secret key]", ""], "lines are searched as one text");
}

#[test]
fn a_failure_does_not_show_what_it_was_made_of() {
    for (form, expected) in [
        ("throw k", "script_error"),
        ("throw #{ code: 7, key: k }", "script_error"),
        ("throw [k, k]", "script_error"),
        ("kv::get(k, \"x\")", "invalid"),
        ("app::invoke(k)", "invalid"),
        ("env::get(k)", "invalid"),
        ("secret::get(k)", "invalid"),
        ("json::parse(k)", "script_error"),
        ("parse_int(k)", "script_error"),
        ("let x = #{}; x[k].y", "script_error"),
        ("time::parse(k)", "script_error"),
        ("throw `${k.len()} ${k}`", "script_error"),
        ("throw json::stringify(#{ body: json::stringify([k]) })", "script_error"),
        ("log::info(k); loop {}", "out_of_fuel"),
    ] {
        let completion = run(&format!("let k = secret::get(\"key\"); {form}"));
        assert_eq!(code(&completion), expected, "{form}: {:?}", completion.outcome);
    }
}

#[test]
fn a_secret_of_a_called_script_is_masked_for_its_caller() {
    let app = app(&[
        ("caller", "let got = app::invoke(\"callee\"); log::info(got); throw got"),
        ("callee", "secret::get(\"key\")"),
    ]);
    let completion = app.run("caller", Event::Invoke("null".into()), Limits::default());
    assert_eq!(lines(&completion), ["[secret key]"]);
    assert_eq!(completion.outcome.unwrap_err().message, "[secret key]");
}

#[test]
fn a_called_script_is_asked_for_by_its_own_name() {
    let app = app(&[
        ("caller", "try { app::invoke(\"callee\"); } catch (e) { return e.message; }"),
        ("callee", "secret::get(\"hidden\")"),
    ]);
    assert!(app.value("caller", "null").contains("not declared by callee"));
}

#[test]
fn a_text_that_is_cut_shows_no_part_of_a_secret() {
    let run_cut = run("let k = secret::get(\"key\"); let t = \"\"; t.pad(4090, \"x\"); throw t + k");
    let message = run_cut.outcome.unwrap_err().message;
    assert!(message.starts_with("xxxx") && message.ends_with("x[secret key]"), "{message}");
    let limits = Limits { log_bytes: 40, ..Limits::default() };
    let app = app(&[("s", "print(\"xxxxxxxxxxxxxxxxx\" + secret::get(\"key\")); 1")]);
    let completion = app.run("s", Event::Invoke("null".into()), limits);
    assert!(completion.logs.truncated);
    assert!(!format!("{:?}", completion.logs).contains("canary"), "{:?}", completion.logs);
}

#[test]
fn a_secret_counts_as_a_host_call_and_its_bytes() {
    let app = app(&[("s", "secret::get(\"key\"); secret::get(\"key\"); 1")]);
    let run = |limits| app.run("s", Event::Invoke("null".into()), limits);
    assert_eq!(run(Limits::default()).usage.host_calls, 2);
    assert_eq!(code(&run(Limits { host_calls: 1, ..Limits::default() })), "host_call_budget");
    assert_eq!(code(&run(Limits { host_call_bytes: 20, ..Limits::default() })), "host_call_budget");
}
