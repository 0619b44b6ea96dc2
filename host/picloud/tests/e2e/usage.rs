//! Budgets and usage, as their users meet them; and that the numbers agree with what ran, whatever happens to the
//! database and the server.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Server, fill, get, home, shared_app};

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_budget_ends_in_429_with_the_time_until_it_is_there_again() {
    let app = shared_app("budget");
    app.deploy("work", "let x = 0; for i in 0..100 { x += i; } x").ok();
    assert_eq!(app.get("/work").status, 200);
    app.limit(&["fuel_per_hour=50_000"]).ok();
    let answers: Vec<_> = (0..20).map(|_| app.get("/work")).collect();
    let refused = answers.last().unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (429, "fuel_budget_exceeded"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait), "{wait}");
    let stderr = app.cli(&["invoke", "work"]).failed(3);
    assert!(stderr.contains("fuel_budget_exceeded") && stderr.contains("fuel_per_hour"), "{stderr}");
    app.limit(&["fuel_per_hour=none"]).ok();
    assert_eq!(app.get("/work").status, 200);
    let shown = app.server.cli(&["app", "limits", &app.name]).ok();
    assert!(shown.lines().any(|line| line.starts_with("fuel_per_hour") && line.ends_with("none")), "{shown}");
    app.limit(&["fuel=none"]).failed(2);
}

#[test]
fn a_script_can_have_less_than_its_app() {
    let app = shared_app("less");
    app.deploy("spin", "loop {}").ok();
    app.deploy("other", "let x = 0; for i in 0..1000 { x += i; } x").ok();
    let limits =
        |set: &[&str]| app.server.cli(&[&["app", "limits", &app.name, "--script", "spin"], set].concat());
    let shown = limits(&["--set", "fuel=60_000", "--set", "wall_ms=2s"]).ok();
    assert!(shown.lines().any(|line| line.starts_with("fuel") && line.ends_with("the script")), "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("memory_bytes") && line.ends_with("the app")),
        "{shown}"
    );
    assert!(app.cli(&["list"]).ok().contains("fuel=60000 wall_ms=2 s"));
    let run = app.cli(&["invoke", "spin", "--json"]).failed(1);
    let problem = read(&run);
    assert_eq!(problem["code"], "out_of_fuel");
    assert!(problem["fuel_used"].as_u64().unwrap() <= 60_000, "{problem}");
    assert_eq!(app.get("/other").status, 200, "the app's limits hold for it");
    assert!(limits(&["--set", "wall_ms=11s"]).failed(1).contains("above the app's limit of 10000"));
    assert!(limits(&["--set", "log_bytes=1"]).failed(2).contains("those of scripts are"));
    assert!(limits(&["--set", "fuel=none", "--set", "wall_ms=none"]).ok().matches("the app").count() == 3);
}

#[test]
fn a_folder_says_which_limits_its_scripts_have() {
    let app = shared_app("folder");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("spin.rhai", "loop {}");
    write("picloud.toml", &format!("name = '{}'\n[scripts.spin.limits]\nwall_ms = '50ms'\n", app.name));
    app.server.cli(&["deploy", folder.path().to_str().unwrap()]).ok();
    app.limit(&["fuel=20_000_000_000"]).ok();
    assert_eq!(app.get("/spin").code(), "deadline_exceeded");
    write("picloud.toml", &format!("name = '{}'\n[scripts.missing.limits]\nwall_ms = 50\n", app.name));
    let refused = app.server.cli(&["deploy", folder.path().to_str().unwrap()]).failed(2);
    assert!(refused.contains("names the script missing, which has no file"), "{refused}");
}

fn usage(server: &Server) -> Value {
    read(&server.cli(&["usage", "app", "--json"]).ok())
}

/// Waits until everything that ran is counted.
fn counted(server: &Server, invocations: u64) -> Value {
    loop {
        let usage = usage(server);
        if usage["totals"]["invocations"].as_u64().unwrap() >= invocations {
            return usage;
        }
    }
}

fn deploy(server: &Server, script: &str, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.rhai");
    fs::write(&file, source).unwrap();
    server.cli(&["deploy", file.to_str().unwrap(), "--name", script, "--app", "app"]).ok();
}

fn kill_postgresql(data_dir: &Path) {
    let text = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).unwrap();
    let pid = text.lines().next().unwrap().to_owned();
    std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
}

#[test]
fn the_numbers_agree_with_what_ran_through_a_crash_of_the_database_and_a_restart() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    deploy(&server, "fine", "1");
    deploy(&server, "fails", "throw 1");
    let (mut fine, mut failed) = (0, 0);
    for round in 0..300 {
        // Neither needs the database, so that they are answered while it is away.
        if round == 100 {
            kill_postgresql(&data_dir);
        }
        if round % 3 == 0 {
            assert_eq!(get(server.app, "app.localhost", "/fails").status, 500);
            failed += 1;
        } else {
            assert_eq!(get(server.app, "app.localhost", "/fine").status, 200);
            fine += 1;
        }
    }
    server.wait_until_ready();
    let run = read(&server.cli(&["invoke", "fine", "--app", "app", "--json"]).ok());
    fine += 1;
    let before = counted(&server, fine + failed);
    let totals = &before["totals"];
    assert_eq!(totals["invocations"], fine + failed);
    assert_eq!(totals["errors"], json!({ "script_error": failed }));
    let fuel = |script: &str| -> u64 {
        let items = before["items"].as_array().unwrap().iter().filter(|item| item["script"] == script);
        items.map(|item| item["fuel_used"].as_u64().unwrap()).sum()
    };
    // Fuel is the same for the same work, but for the event: a direct call's is another than a request's.
    let direct = run["fuel_used"].as_u64().unwrap();
    assert_eq!((fuel("fine") - direct) % (fine - 1), 0, "{before}");
    assert_eq!(fuel("fails") % failed, 0, "{before}");
    assert!(totals["p50_ms"].as_f64() > Some(0.0) && totals["p99_ms"].as_f64() >= totals["p50_ms"].as_f64());

    server.signal("TERM");
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
    let server = Server::start(&data_dir, &[]);
    assert_eq!(usage(&server)["totals"], *totals);
    let all = server.cli(&["usage"]).ok();
    let row = all.lines().find(|line| line.starts_with("app ")).unwrap();
    assert!(row.contains(&(fine + failed).to_string()), "{all}");
}
