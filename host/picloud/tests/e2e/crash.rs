//! A server that is killed at a step of its work with events, and the one that is started after it.
//!
//! The step is held by a lock that another connection has on a table, so that nothing is left to chance.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use picloud_postgres::ThrowawayCluster;

use crate::support::{Server, fill, get, home};

const HOST: &str = "app.localhost";

/// What is claimed by a server that was lost is handled after this time, however it was lost.
const RESCUED: Duration = Duration::from_secs(45);

/// Sends messages and notes which, in one transaction.
const SEND: &str = r#"for n in 0..40 { let id = queue::send("jobs", n); kv::set("sent", id, n); } "sent""#;

/// Notes each message, and how many they are. Some always fail.
const WORK: &str = r#"
fn on_message(msg) {
    if msg.body % 10 == 9 { throw "no"; }
    kv::incr("seen", msg.id);
    kv::incr("all", "seen");
}"#;

/// A PostgreSQL that outlives the servers.
struct Database {
    cluster: ThrowawayCluster,
}

impl Database {
    fn command(&self) -> Command {
        let mut command = Command::new(self.cluster.binaries().program("psql"));
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]).arg(self.cluster.url("postgres"));
        command
    }

    #[track_caller]
    fn number(&self, sql: &str) -> i64 {
        let output = self.command().args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// Waits until a query finds what it is to find.
    #[track_caller]
    fn wait(&self, sql: &str, limit: Duration, is_so: impl Fn(i64) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let number = self.number(sql);
            if is_so(number) {
                return began.elapsed();
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
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    // What was compiled is kept; the database is another one.
    std::fs::remove_dir_all(data_dir.join("postgres")).unwrap();
    std::fs::remove_file(data_dir.join("owner-token")).unwrap();
    let database = Database { cluster: ThrowawayCluster::start().unwrap() };
    let url = database.cluster.url("postgres");
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", "8"),
        ("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", "1"),
    ];
    let start = || Server::start(&data_dir, &environment);
    let send = |server: &Server| assert_eq!(get(server.app, HOST, "/send").text(), "sent");

    let server = start();
    for (script, source) in [("send", SEND), ("work", WORK)] {
        let file = home.path().join(format!("{script}.rhai"));
        std::fs::write(&file, source).unwrap();
        server.cli(&["deploy", file.to_str().unwrap(), "--name", script, "--app", "app"]).ok();
    }
    server.cli(&["trigger", "add", "jobs", "--script", "work", "--queue", "jobs", "--app", "app"]).ok();

    let mut server = Some(server);
    // Where it is killed: it inserts or claims; has claimed and asks for the trigger; commits what a run did together with
    // the event's end; moves events to the dead letters.
    for table in ["outbox", "triggers", "kv", "dead_letters"] {
        let killed = server.take().unwrap();
        send(&killed);
        let mut lock = database.lock(table);
        let address = killed.app;
        // Its caller never hears of it, and whether it was accepted is what the database says.
        let caller = thread::spawn(move || {
            let stream = std::net::TcpStream::connect(address).unwrap();
            let request = format!("GET /send HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
            (&stream).write_all(request.as_bytes()).unwrap();
            let _ = BufReader::new(&stream).read_line(&mut String::new());
        });
        let waiting =
            format!("SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
        database.wait(&waiting, Duration::from_secs(30), |waiting| waiting > 0);
        killed.signal("KILL");
        killed.wait();
        caller.join().unwrap();
        lock.kill().unwrap();
        lock.wait().unwrap();
        server = Some(start());
    }
    let server = server.unwrap();
    send(&server);
    let rescued = database.wait("SELECT count(*) FROM outbox", RESCUED, |left| left == 0);
    assert!(rescued < RESCUED, "{rescued:?}");

    let sent = database.number("SELECT count(*) FROM kv WHERE collection = 'sent'");
    assert!(sent >= 200, "{sent}");
    // Each is either done once or a dead letter, and not both.
    let wrong = "SELECT count(*) FROM kv sent
        LEFT JOIN kv seen ON seen.collection = 'seen' AND seen.key = sent.key
        LEFT JOIN dead_letters d ON d.event_id::text = sent.key
        WHERE sent.collection = 'sent' AND (seen.value IS NOT DISTINCT FROM '1') = (d.id IS NOT NULL)";
    assert_eq!(database.number(wrong), 0);
    let done = database.number("SELECT count(*) FROM kv WHERE collection = 'seen'");
    let dead = database.number("SELECT count(*) FROM dead_letters");
    assert_eq!(done + dead, sent);
    assert_eq!(database.number("SELECT value::bigint FROM kv WHERE collection = 'all'"), done);
    // Only what always fails was given up.
    assert_eq!(dead, sent / 10);
}
