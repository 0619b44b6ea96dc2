//! Starting, stopping, being killed.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    thread,
};

use crate::support::{Response, Server, connect, fill, get, home, run_plain};

const HOST: &str = "app.localhost";

fn deploy(server: &Server, script: &str, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.rhai");
    fs::write(&file, source).unwrap();
    server.cli(&["deploy", file.to_str().unwrap(), "--name", script, "--app", "app"]).ok();
}

/// The process of the PostgreSQL over a data folder.
fn postmaster(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Whether the process runs. One that has ended stays listed until its parent, here the system's first process, has
/// taken note.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
    !matches!(state, None | Some('Z' | 'X'))
}

#[test]
fn a_killed_server_loses_nothing_and_the_next_start_recovers() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    deploy(&server, "count", "kv::incr(\"c\", \"n\")");
    assert_eq!(get(server.app, HOST, "/count").text(), "1");
    let orphan = postmaster(&data_dir).unwrap();
    server.signal("KILL");
    server.wait();
    assert!(lives(&orphan), "PostgreSQL has a process group of its own");

    let server = Server::start(&data_dir, &[]);
    assert!(!lives(&orphan));
    assert_eq!(get(server.app, HOST, "/count").text(), "2");
}

#[test]
fn sigterm_lets_a_running_call_finish_and_stops_postgresql() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    deploy(
        &server,
        "slow",
        "let x = 0; for i in 0..1_000_000 { x += i; } kv::set(\"c\", \"k\", 1); \"done\"",
    );
    server.cli(&["app", "limits", "app", "--set", "fuel=20_000_000_000"]).ok();
    let database = postmaster(&data_dir).unwrap();

    let address = server.app;
    let mut call = connect(address);
    write!(call, "GET /slow HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").unwrap();
    server.wait_until_running();
    server.signal("TERM");
    let mut answer = Vec::new();
    call.read_to_end(&mut answer).unwrap();
    assert_eq!(Response::parse(&answer).unwrap().text(), "done");
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!lives(&database), "PostgreSQL has stopped");

    let server = Server::start(&data_dir, &[]);
    assert_eq!(server.cli(&["kv", "get", "c", "k", "--app", "app"]).ok(), "1\n");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let mut server = Server::start(&data_dir, &[]);
    deploy(&server, "slow", "loop {}");
    server.cli(&["app", "limits", "app", "--set", "fuel=20_000_000_000"]).ok();
    let mut call = connect(server.app);
    write!(call, "GET /slow HTTP/1.1\r\nhost: {HOST}\r\n\r\n").unwrap();
    server.wait_until_running();
    // Signals within a moment of the first are taken for the same wish; a later one is not.
    while !server.has_ended() {
        server.signal("INT");
    }
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(130), "{stderr}");
}

/// Writing to a closed standard error once ended the task that waits for signals: the server could only be
/// killed.
#[test]
fn a_server_that_nobody_hears_stops_all_the_same() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start_unheard(&data_dir);
    let database = postmaster(&data_dir).unwrap();
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));
    assert!(!lives(&database));
}

#[test]
fn a_second_server_on_the_data_folder_is_refused() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    let environment = [("PICLOUD_DATA_DIR", data_dir.to_str().unwrap())];
    let stderr = run_plain(&["serve"], &environment).failed(6);
    assert!(stderr.contains("in use by another PiCloud server"), "{stderr}");
    assert!(stderr.contains(&format!("process {}", server.pid())), "{stderr}");
    let stderr = run_plain(&["migrate"], &environment).failed(6);
    assert!(stderr.contains("in use by another PiCloud server"), "{stderr}");
    // A new token needs the database, and the running server's is at hand.
    let old = server.token();
    run_plain(&["token", "reset"], &environment).ok();
    assert_ne!(server.token(), old);
    assert_eq!(server.cli(&["whoami", "--token", &old]).code, 5);
    server.cli(&["whoami"]).ok();
}

#[test]
fn data_of_another_major_version_are_refused() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    fs::write(data_dir.join("postgres/PG_VERSION"), "12\n").unwrap();
    let environment = [
        ("PICLOUD_DATA_DIR", data_dir.to_str().unwrap()),
        ("PICLOUD_ADMIN_ADDR", "127.0.0.1:0"),
        ("PICLOUD_APP_ADDR", "127.0.0.1:0"),
    ];
    let stderr = run_plain(&["serve"], &environment).failed(6);
    assert!(stderr.contains("PostgreSQL 12") && stderr.contains("PICLOUD_POSTGRES_BIN"), "{stderr}");
}

#[test]
fn a_database_that_dies_is_started_again_under_the_server() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    deploy(&server, "count", "kv::incr(\"c\", \"n\")");
    assert_eq!(get(server.app, HOST, "/count").text(), "1");
    let first = postmaster(&data_dir).unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", &first]).status().unwrap().success());
    // Meanwhile calls that need data are refused as such; at last one counts on.
    loop {
        let answer = get(server.app, HOST, "/count");
        if answer.status == 200 {
            assert_eq!(answer.text(), "2");
            break;
        }
        assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"), "{answer:?}");
    }
}

#[test]
fn migrate_prepares_a_database_and_ends() {
    let home = home();
    let data_dir = home.path().join("data");
    let environment = [("PICLOUD_DATA_DIR", data_dir.to_str().unwrap())];
    for _ in 0..2 {
        let output = run_plain(&["migrate"], &environment);
        assert!(output.stderr.contains("up to date"), "{}", output.stderr);
        output.ok();
    }
    assert!(postmaster(&data_dir).is_none());
}

#[test]
fn readers_that_leave_are_no_failure() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut command = std::process::Command::new("/bin/sh");
                command.args(["-c", "\"$0\" app list --json | true"]).arg(env!("CARGO_BIN_EXE_picloud"));
                command.env("PICLOUD_URL", format!("http://{}", server.admin));
                command.env("PICLOUD_TOKEN", server.token());
                let output = command.output().unwrap();
                assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"), "{output:?}");
            });
        }
    });
}
