//! A server that is killed at a step of its work with events, or at any moment, and the one that is started after it.
//!
//! The step is held by a lock that another connection has on a table, so that nothing is left to chance. Many more random
//! moments than here are tried by `cargo xtask bench --only crash`, with the same scripts and the same account.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use picloud_postgres::ThrowawayCluster;

use tempfile::TempDir;

use crate::support::{Response, Server, fill, get, home};

const HOST: &str = "app.localhost";

/// What is claimed by a server that was lost is handled after this time, however it was lost.
const RESCUED: Duration = Duration::from_secs(45);

/// How often it is killed at random moments, and after how many messages at most.
const ROUNDS: u32 = 5;
const MOST_MESSAGES: u64 = 30;

/// What became of the events that were accepted.
const ACCOUNT: &str = include_str!("crash/account.sql");

/// A data folder, and a PostgreSQL that outlives the servers.
pub(crate) struct Installation {
    _home: TempDir,
    data_dir: PathBuf,
    pub(crate) database: Database,
}

impl Installation {
    pub(crate) fn new() -> Self {
        let home = home();
        let data_dir = home.path().join("data");
        fill(&data_dir);
        // What was compiled is kept; the database is another one.
        std::fs::remove_dir_all(data_dir.join("postgres")).unwrap();
        std::fs::remove_file(data_dir.join("owner-token")).unwrap();
        let database = Database { cluster: ThrowawayCluster::start().unwrap() };
        Self { _home: home, data_dir, database }
    }

    pub(crate) fn start(&self) -> Server {
        let environment = [
            ("DATABASE_URL", self.database.cluster.url("postgres")),
            ("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", "8".to_owned()),
            ("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", "1".to_owned()),
        ];
        Server::start(&self.data_dir, &environment.each_ref().map(|(name, value)| (*name, value.as_str())))
    }

    /// A server with the scripts and the trigger.
    pub(crate) fn start_first(&self) -> Server {
        let server = self.start();
        for script in ["send", "work"] {
            let file = format!("{}/tests/e2e/crash/{script}.rhai", env!("CARGO_MANIFEST_DIR"));
            server.cli(&["deploy", &file, "--name", script, "--app", "app"]).ok();
        }
        server.cli(&["trigger", "add", "jobs", "--script", "work", "--queue", "jobs", "--app", "app"]).ok();
        server
    }

    /// Waits until nothing is left, and checks that each event that was accepted is done once or a dead letter. Answers how
    /// many were accepted.
    #[track_caller]
    pub(crate) fn check(&self, noted: &[String]) -> u64 {
        self.database.wait("SELECT count(*) FROM outbox", RESCUED, |left| left == 0);
        let ids = noted.join(",");
        self.database.ask(&format!(
            "CREATE TABLE noted (id text PRIMARY KEY); INSERT INTO noted SELECT unnest('{{{ids}}}'::text[])"
        ));
        let text = self.database.ask(ACCOUNT);
        let account: Vec<u64> = text.trim().split('|').map(|figure| figure.parse().unwrap()).collect();
        let [accepted, done, dead, worn_out, lost, twice, disordered] = account[..] else { panic!("{text}") };
        assert_eq!((lost, twice, disordered), (0, 0, 0), "lost, done twice, groups out of order; {text}");
        assert_eq!(done + dead, accepted);
        assert_eq!(worn_out, 0);
        accepted
    }
}

/// A PostgreSQL that outlives the servers.
pub(crate) struct Database {
    pub(crate) cluster: ThrowawayCluster,
}

impl Database {
    fn command(&self) -> Command {
        let mut command = Command::new(self.cluster.binaries().program("psql"));
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]).arg(self.cluster.url("postgres"));
        command
    }

    #[track_caller]
    pub(crate) fn ask(&self, sql: &str) -> String {
        let output = self.command().args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.ask(sql).trim().parse().unwrap()
    }

    /// Waits until a query finds what it is to find.
    #[track_caller]
    pub(crate) fn wait(&self, sql: &str, limit: Duration, is_so: impl Fn(i64) -> bool) {
        let began = Instant::now();
        loop {
            let number = self.number(sql);
            if is_so(number) {
                return;
            }
            assert!(began.elapsed() < limit, "{sql} is still {number}");
        }
    }

    /// Locks a table until what this answers is killed.
    fn lock(&self, table: &str) -> Child {
        let mut child = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let statements = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n");
        child.stdin.as_mut().unwrap().write_all(statements.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "locked");
        child
    }
}

#[test]
fn a_server_killed_at_any_step_loses_no_event_and_repeats_no_effect() {
    let installation = Installation::new();
    let database = &installation.database;
    let send = |server: &Server| assert_eq!(get(server.app, HOST, "/send").text(), "sent");

    let mut server = Some(installation.start_first());
    // Where it is killed: it inserts or claims; has claimed and asks for the trigger; commits what a run did together with
    // the event's end; moves events to the dead letters.
    for table in ["outbox", "triggers", "kv", "dead_letters"] {
        let killed = server.take().unwrap();
        send(&killed);
        let mut lock = database.lock(table);
        let address = killed.app;
        // Its caller never hears of it, and whether it was accepted is what the database says.
        let caller =
            thread::spawn(move || ask(address, &format!("GET /send HTTP/1.1\r\nhost: {HOST}\r\n\r\n")));
        let waiting =
            format!("SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
        database.wait(&waiting, Duration::from_secs(30), |waiting| waiting > 0);
        killed.signal("KILL");
        killed.wait();
        caller.join().unwrap();
        lock.kill().unwrap();
        lock.wait().unwrap();
        server = Some(installation.start());
    }
    let server = server.unwrap();
    send(&server);
    // Each call sends ten messages, and half of them send another.
    let accepted = installation.check(&[]);
    assert!(accepted >= 5 * 14, "{accepted}");
    let dead = database.number("SELECT count(*) FROM dead_letters");
    let failing = database.number("SELECT count(*) FROM kv WHERE collection = 'sent' AND value = '9'");
    assert_eq!(dead, failing, "only what always fails was given up");
}

#[test]
fn a_server_killed_at_random_moments_loses_no_event_and_repeats_no_effect() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
    let seed = std::env::var("CRASH_SEED").unwrap_or(now);
    println!("CRASH_SEED={seed}");
    let installation = Installation::new();
    let mut server = installation.start_first();
    let mut noted = Vec::new();
    for round in 0..ROUNDS {
        let mut hasher = DefaultHasher::new();
        (&seed, round).hash(&mut hasher);
        let messages = 1 + hasher.finish() % MOST_MESSAGES;
        let (sender, accepted) = channel();
        let (admin, app, token) = (server.admin, server.app, server.token());
        let clients = [
            thread::spawn(move || send_messages(admin, &token, u64::from(round) << 32, &sender)),
            thread::spawn(move || {
                let call = format!("GET /send HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
                while ask(app, &call).is_some() {}
            }),
        ];
        for _ in 0..messages {
            noted.push(accepted.recv().expect("the server answers"));
        }
        server.signal("KILL");
        server.wait();
        for client in clients {
            client.join().unwrap();
        }
        noted.extend(accepted);
        server = installation.start();
    }
    let accepted = installation.check(&noted);
    assert!(accepted > noted.len() as u64, "scripts have sent some too");
}

/// Sends numbered messages, each third one in a group, until there is no answer. Those that are answered 202 are told of.
fn send_messages(admin: std::net::SocketAddr, token: &str, first: u64, accepted: &Sender<String>) {
    for number in first.. {
        let group = if number % 3 == 0 { r#","group":"g""# } else { "" };
        let (fails, hops) = (number % 20 == 19, u8::from(number % 10 == 0));
        let body = format!(r#"{{"body":{{"number":{number},"fails":{fails},"hops":{hops}}}{group}}}"#);
        let request = format!(
            "POST /api/v1/apps/app/queues/jobs/messages HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let Some(response) = ask(admin, &request) else { return };
        assert_eq!(response.status, 202, "{response:?}");
        // Of an answer that was cut nobody knows anything.
        let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&response.body) else { return };
        accepted.send(answer["id"].as_str().unwrap().to_owned()).unwrap();
    }
}

/// The answer of a server that may be killed meanwhile.
fn ask(address: std::net::SocketAddr, request: &str) -> Option<Response> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Response::parse(&answer)
}
