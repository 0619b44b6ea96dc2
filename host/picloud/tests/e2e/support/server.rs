//! Servers of the tests: one that most share, and ones of their own for what stops them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Response,
    cli::{Output, program, run},
    http,
};

/// Runs a command, if there is one, until its own standard input ends, which it does when the tests do, however
/// they end. Then the folder goes as well.
const KEEPER: &str = r#"
folder=$1; shift
server=
if [ $# -gt 0 ]; then "$@" </dev/null & server=$!; fi
exec >/dev/null 2>&1
read -r _
if [ -n "$server" ]; then kill -TERM "$server"; wait "$server"; fi
rm -rf "$folder"
"#;

/// A running server.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<std::thread::JoinHandle<String>>,
    data_dir: PathBuf,
    pub(crate) admin: SocketAddr,
    pub(crate) app: SocketAddr,
}

/// The server that tests share which only need apps of their own.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let home = home().keep();
        let data_dir = home.join("data");
        fill(&data_dir);
        let serve = serve_command(&data_dir, &[]);
        let mut command = keeper(&home);
        command.arg(serve.get_program()).args(serve.get_args()).env_clear();
        command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Server::spawn(command, data_dir)
    })
}

/// An app on the shared server that no other test has.
pub(crate) struct App {
    pub(crate) server: &'static Server,
    pub(crate) name: String,
}

/// A new app on the shared server.
pub(crate) fn shared_app(name: &str) -> App {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let server = shared();
    server.cli(&["app", "create", &name]).ok();
    App { server, name }
}

impl App {
    /// Deploys a source under a name.
    pub(crate) fn deploy(&self, script: &str, source: &str) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script.rhai");
        fs::write(&file, source).unwrap();
        self.server.cli(&["deploy", file.to_str().unwrap(), "--name", script, "--app", &self.name])
    }

    /// Sets limits.
    pub(crate) fn limit(&self, settings: &[&str]) -> Output {
        let mut arguments = vec!["app", "limits", &self.name];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        self.server.cli(&arguments)
    }

    /// The host that addresses the app.
    pub(crate) fn host(&self) -> String {
        format!("{}.localhost", self.name)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        http::get(self.server.app, &self.host(), path)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        http::post_json(self.server.app, &self.host(), path, body)
    }

    /// A request as its head (request line and header lines) and its body.
    #[track_caller]
    pub(crate) fn request(&self, head: &str, body: &[u8]) -> Response {
        http::request(self.server.app, &self.host(), head, body)
    }

    /// Runs a client command about this app.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.server.cli(&[arguments, &["--app", &self.name]].concat())
    }
}

impl Server {
    /// A server over a data folder with further settings, once it is ready.
    pub(crate) fn start(data_dir: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn(serve_command(data_dir, environment), data_dir.to_owned())
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// A server whose standard error nobody reads any more.
    pub(crate) fn start_unheard(data_dir: &Path) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = serve_command(data_dir, &[]);
        command.stderr(writer);
        Self::spawn(command, data_dir.to_owned())
    }

    fn spawn(mut command: Command, data_dir: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = String::new();
                stderr.read_to_string(&mut text).unwrap();
                text
            })
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut find = |field: &str| {
            loop {
                let mut line = String::new();
                if stdout.read_line(&mut line).unwrap() == 0 {
                    return None;
                }
                if let Some(rest) = line.trim().strip_prefix(field) {
                    return Some(rest.trim().trim_start_matches("http://").parse::<SocketAddr>().unwrap());
                }
            }
        };
        let (admin, app) = (find("control"), find("apps"));
        let (Some(admin), Some(app)) = (admin, app) else {
            panic!("the server ended: {:?}", stderr.map(|stderr| stderr.join().unwrap()));
        };
        Self { child, stdout, stderr, data_dir, admin, app }
    }

    /// Where it takes mail.
    pub(crate) fn mail(&mut self) -> SocketAddr {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if let Some(address) = line.trim().strip_prefix("mail ") {
                return address.trim().parse().unwrap();
            }
            line.clear();
        }
        panic!("the server takes no mail");
    }

    /// Its data folder.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until every event of an app is done or given up, with all that came of it: what an event sends is in the
    /// outbox from the moment when it is out of it itself.
    #[track_caller]
    pub(crate) fn wait_until_handled(&self, app: &str) {
        let started = Instant::now();
        while self.api(&format!("GET /api/v1/apps/{app}/outbox"), "").json()["items"] != serde_json::json!([])
        {
            assert!(started.elapsed() < Duration::from_mins(1), "events of {app} still wait");
        }
    }

    /// Follows an app's log: lines from now on, each with what the API says of it.
    pub(crate) fn follow_log(&self, app: &str) -> impl Iterator<Item = String> {
        let mut stream = http::connect(self.admin);
        let request = format!(
            "GET /api/v1/apps/{app}/logs?follow=true HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
            self.admin,
            self.token()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        let status = lines.next().unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        lines.find(String::is_empty).unwrap();
        lines
    }

    /// Waits until an invocation runs, as the node says.
    #[track_caller]
    pub(crate) fn wait_until_running(&self) {
        let started = Instant::now();
        while self.api("GET /api/v1/status", "").json()["running"] == 0 {
            assert!(started.elapsed() < Duration::from_secs(30), "nothing runs");
        }
    }

    /// Waits until the server and its database answer.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        let started = Instant::now();
        while self.api("GET /readyz", "").status != 200 {
            assert!(started.elapsed() < Duration::from_mins(1), "it is not ready again");
        }
    }

    /// Whether the server's process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal to the server's process.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end: exit code (none if a signal ended it) and standard error.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let stderr = self.stderr.take().map(|stderr| stderr.join().unwrap()).unwrap_or_default();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (status.code(), stderr)
    }

    /// Runs a client command against this server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with(arguments, "")
    }

    /// Runs a client command in a folder.
    pub(crate) fn cli_in(&self, folder: &Path, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.current_dir(folder);
        run(command, "")
    }

    /// Runs a client command with some standard input.
    pub(crate) fn cli_with(&self, arguments: &[&str], input: &str) -> Output {
        run(self.command(arguments), input)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .env("PICLOUD_URL", format!("http://{}", self.admin))
            .env("PICLOUD_DATA_DIR", &self.data_dir)
            .env("XDG_CONFIG_HOME", self.data_dir.join("client"));
        command
    }

    /// The owner's token.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.data_dir.join("owner-token")).unwrap().trim().to_owned()
    }

    /// Asks the control listener, with the owner's token.
    #[track_caller]
    pub(crate) fn api(&self, head: &str, body: &str) -> Response {
        let authorization = format!("{head}\nauthorization: Bearer {}", self.token());
        let head =
            if body.is_empty() { authorization } else { authorization + "\ncontent-type: application/json" };
        http::request(self.admin, &self.admin.to_string(), &head, body.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever waited for the end has nothing to stop.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            self.child.wait().unwrap();
        }
    }
}

/// A folder that PostgreSQL's user can pass through.
pub(crate) fn home() -> TempDir {
    let home = tempfile::Builder::new().prefix("pcl-e2e").tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    home
}

/// Makes a data folder as a first start leaves it: a copy of one that was made once, since a database takes
/// seconds to make, and the guest's code takes longer to compile.
pub(crate) fn fill(data_dir: &Path) {
    static PATTERN: OnceLock<PathBuf> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        let home = home().keep();
        let pattern = home.join("data");
        let (code, stderr) = {
            let server = Server::start(&pattern, &[]);
            server.signal("TERM");
            server.wait()
        };
        assert_eq!(code, Some(0), "{stderr}");
        // Nobody waits for the keeper: it outlives the tests by a moment.
        std::mem::forget(keeper(&home).stdout(Stdio::null()).spawn().unwrap());
        pattern
    });
    let copied = Command::new("cp").arg("-a").arg(pattern).arg(data_dir).status().unwrap();
    assert!(copied.success());
}

fn keeper(folder: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", KEEPER, "keeper"]).arg(folder).stdin(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn serve_command(data_dir: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = program();
    command
        .arg("serve")
        .env("PICLOUD_DATA_DIR", data_dir)
        .env("PICLOUD_ADMIN_ADDR", "127.0.0.1:0")
        .env("PICLOUD_APP_ADDR", "127.0.0.1:0")
        .envs(environment.iter().copied())
        .stderr(Stdio::piped());
    command
}
