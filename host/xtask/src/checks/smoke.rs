//! The way of a first user: a server from nothing, the sample apps called, a script uploaded, the server stopped.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    http::{self, Request},
    process::{self, cargo},
    server::Place,
};

/// The events of an order are handled within a moment; on a loaded machine it is a longer one.
const EVENTS_LIMIT: Duration = Duration::from_secs(30);

/// Runs `cargo xtask up` on a data folder and ports of its own.
pub(crate) fn check(root: &Path) -> Result<()> {
    process::build_program(root, "dev")?;
    let folder = tempfile::Builder::new().prefix("picloud-smoke-").tempdir()?;
    // PostgreSQL's own user must get through a folder that root made.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
    let (admin, app) = free_ports()?;
    let place = Place {
        program: root.join("target/debug/picloud"),
        data_dir: folder.path().join("data"),
        admin: format!("127.0.0.1:{admin}").parse()?,
        app: format!("127.0.0.1:{app}").parse()?,
    };
    let xtask = |arguments: &[&str]| {
        let mut command = cargo(root);
        // A database of the caller's is not for this server.
        command.env_remove("DATABASE_URL");
        place.tell(&mut command);
        process::run(command.args(["run", "--quiet", "--locked", "--package", "xtask", "--"]).args(arguments))
    };
    xtask(&["up", "--detach", "--debug"])?;
    let outcome = call(&place).and_then(|()| xtask(&["up", "--detach", "--debug"]));
    xtask(&["down"])?;
    outcome?;
    ensure!(place.running()?.is_none(), "the server still runs after `cargo xtask down`");
    let left = processes_of(folder.path());
    ensure!(left.is_empty(), "processes {left:?} of the server still run after `cargo xtask down`");
    Ok(())
}

fn call(place: &Place) -> Result<()> {
    let answer =
        http::send(place.app, &Request::post_json("hello.localhost", "/hello", br#"{"name":"bob"}"#))?;
    ensure!(answer.status == 200, "the sample answers {}: {}", answer.status, answer.text());
    ensure!(answer.text().contains("bob"), "the sample answers {:?}", answer.text());

    let token = fs::read_to_string(place.token_file()).context("reading the owner's token")?;
    let upload = Request {
        method: "PUT",
        host: &place.admin.to_string(),
        path: "/api/v1/apps/hello/scripts/sum",
        token: Some(token.trim()),
        body: Some(("text/plain", b"1 + 1")),
    };
    let answer = http::send(place.admin, &upload)?;
    ensure!(answer.status == 201, "the upload answers {}: {}", answer.status, answer.text());
    let answer = http::send(place.app, &Request::get("hello.localhost", "/sum"))?;
    ensure!(
        answer.status == 200 && answer.text() == "2",
        "the script answers {}: {}",
        answer.status,
        answer.text()
    );
    order(place)?;
    println!("called the samples, uploaded a script and called it");
    Ok(())
}

/// Orders in the sample app, and looks for the last of what follows from it.
fn order(place: &Place) -> Result<()> {
    let order = Request::post_json("events.localhost", "/orders", br#"{"item":"mug","amount":2}"#);
    let answer = http::send(place.app, &order)?;
    ensure!(answer.status == 201, "the order is answered {}: {}", answer.status, answer.text());
    let started = Instant::now();
    loop {
        let journal = http::send(place.app, &Request::get("events.localhost", "/journal"))?;
        if journal.text().contains("sales: 2 of mug sold") {
            return Ok(());
        }
        ensure!(started.elapsed() < EVENTS_LIMIT, "of the order came only:\n{}", journal.text());
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> Result<(u16, u16)> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok((listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()))
}

/// Processes whose command line names `folder`, as PostgreSQL's does. Where there is no /proc, none are seen.
fn processes_of(folder: &Path) -> Vec<u32> {
    let folder = folder.to_string_lossy();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let names_folder = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*folder)
    };
    pids.filter(names_folder).collect()
}
