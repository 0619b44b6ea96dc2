//! PiCloud as a contender: its server with default settings, its app and its scripts.

use std::{
    fmt::Write,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Bench, peers::SERVER_CORE, processes};
use crate::{
    http::{self, Connection, Request, Response},
    server::Place,
};

/// The listeners, away from those of a server that someone may run here.
const ADMIN_PORT: u16 = 18_420;
pub(super) const APP_PORT: u16 = 18_421;

/// The app, by its host name. The peers do not look at it.
pub(super) const HOST: &str = "bench.localhost";

const HELLO: &str = "\"hello \" + req.json.name";

/// The server's place. The data folder lies outside of the checkout: PostgreSQL's own user must reach it.
pub(super) fn place(bench: &Bench) -> Place {
    Place {
        program: bench.root.join("target").join(bench.profile.folder()).join("picloud"),
        data_dir: data_dir(),
        admin: ([127, 0, 0, 1], ADMIN_PORT).into(),
        app: ([127, 0, 0, 1], APP_PORT).into(),
    }
}

fn data_dir() -> PathBuf {
    std::env::temp_dir().join("picloud-bench")
}

/// Removes the data folder.
pub(super) fn remove_data() -> Result<()> {
    let folder = data_dir();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// An empty data folder, so that every part of the benchmarks starts alike.
pub(super) fn clear() -> Result<()> {
    remove_data()?;
    let folder = data_dir();
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o711))?;
    Ok(())
}

/// `picloud serve` on the server's core, with default settings and its own PostgreSQL.
pub(super) fn command(bench: &Bench) -> Result<Command> {
    let place = place(bench);
    place.check_ports()?;
    let mut command = processes::on_core(SERVER_CORE, &place.program);
    place.tell(&mut command);
    command.arg("serve").env_remove("DATABASE_URL");
    Ok(command)
}

/// Makes the app with its first script.
pub(super) fn deploy() -> Result<()> {
    let mut control = Control::connect()?;
    control.expect(201, "POST", "/api/v1/apps", ("application/json", br#"{"name":"bench"}"#))?;
    control.upload("hello", HELLO)?;
    Ok(())
}

/// Names of scripts, `hello` first.
pub(super) fn script_names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| if number == 0 { "hello".to_owned() } else { format!("hello{number}") })
}

/// Source of the script of that number: each differs, so that no two share an image.
pub(super) fn script_source(number: usize) -> String {
    format!("// {number}\n{HELLO}")
}

/// A script of at least `bytes` bytes: functions such as people write.
pub(super) fn large_source(bytes: usize, salt: usize) -> String {
    let mut source = format!("// {salt}\n");
    let mut number = 0;
    while source.len() < bytes {
        // Writing to a String does not fail.
        let _ = writeln!(
            source,
            "fn total{number}(items) {{\n    let sum = {number};\n    for item in items {{\n        if item > \
             {number} {{ sum += item * 2; }} else {{ sum -= 1; }}\n    }}\n    sum\n}}"
        );
        number += 1;
    }
    source + HELLO
}

/// A connection to the control listener, as the owner.
pub(super) struct Control {
    connection: Connection,
    token: String,
    host: String,
}

impl Control {
    /// Connects with the token that the server made on its first start.
    pub(super) fn connect() -> Result<Self> {
        let address = ([127, 0, 0, 1], ADMIN_PORT).into();
        let token =
            fs::read_to_string(data_dir().join("owner-token")).context("reading the owner's token")?;
        let connection = Connection::open(address)?;
        Ok(Self { connection, token: token.trim().to_owned(), host: address.to_string() })
    }

    /// Uploads a script.
    pub(super) fn upload(&mut self, name: &str, source: &str) -> Result<Response> {
        let path = format!("/api/v1/apps/bench/scripts/{name}");
        let answer = self.send("PUT", &path, ("text/plain", source.as_bytes()))?;
        ensure!(
            matches!(answer.status, 200 | 201),
            "uploading {name} answers {}: {}",
            answer.status,
            answer.text()
        );
        Ok(answer)
    }

    /// Makes something.
    pub(super) fn post(&mut self, path: &str, json: &[u8]) -> Result<()> {
        self.expect(201, "POST", path, ("application/json", json))
    }

    /// Asks for something, whatever the answer is.
    pub(super) fn ask(&mut self, path: &str, json: &[u8]) -> Result<Response> {
        self.send("POST", path, ("application/json", json))
    }

    fn expect(&mut self, status: u16, method: &str, path: &str, body: (&str, &[u8])) -> Result<()> {
        let answer = self.send(method, path, body)?;
        ensure!(answer.status == status, "{method} {path} answers {}: {}", answer.status, answer.text());
        Ok(())
    }

    fn send(&mut self, method: &str, path: &str, body: (&str, &[u8])) -> Result<Response> {
        let (host, token) = (&self.host, Some(self.token.as_str()));
        self.connection.send(&Request { method, host, path, token, body: Some(body) })
    }
}

/// One call of a script of the app, or of the peer's function of that name.
pub(super) fn call(connection: &mut Connection, name: &str) -> Result<()> {
    let path = format!("/{name}");
    let answer = connection.send(&http::Request::post_json(HOST, &path, super::peers::BODY))?;
    let text = answer.text();
    ensure!(answer.status == 200 && text == super::peers::ANSWER, "{path} answers {}: {text}", answer.status);
    Ok(())
}
