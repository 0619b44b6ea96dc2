//! A server that nobody uses: what it asks its database, as the database logs it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    thread,
    time::{Duration, Instant},
};

use picloud_postgres::ThrowawayCluster;

use crate::support::{
    events::{ATTEMPTS, HOST, Installation},
    get,
};

/// Longer than the time between two looks for what was missed, which is 30 s.
const LONGEST: Duration = Duration::from_secs(40);

/// The look for lanes in which something waits.
const SCAN: &str = "WITH RECURSIVE lanes";

/// The statements of the server, as they come.
struct Log(BufReader<File>);

impl Log {
    fn of(installation: &Installation) -> Self {
        let database = &installation.database;
        for setting in ["log_line_prefix = '%a|'", "log_statement = 'all'"] {
            database.ask(&format!("ALTER SYSTEM SET {setting}"));
        }
        let log = File::open(database.cluster.socket_dir().join("log")).unwrap();
        database.ask("SELECT pg_reload_conf()");
        Self(BufReader::new(log))
    }

    /// The statements up to the next scan.
    #[track_caller]
    fn until_scan(&mut self) -> Vec<String> {
        let (mut statements, mut line, began) = (Vec::new(), String::new(), Instant::now());
        loop {
            assert!(began.elapsed() < LONGEST, "no scan after {statements:?}");
            if self.0.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                thread::yield_now();
                continue;
            }
            let logged = std::mem::take(&mut line);
            let Some((_, statement)) =
                logged.strip_prefix("picloud|LOG:  ").and_then(|log| log.split_once(": "))
            else {
                continue;
            };
            let statement = statement.trim().to_owned();
            let is_scan = statement.starts_with(SCAN);
            statements.push(statement);
            if is_scan {
                return statements;
            }
        }
    }
}

#[test]
fn an_idle_server_looks_for_what_it_missed_and_writes_nothing() {
    let installation = Installation::new(ThrowawayCluster::start());
    let server = installation.start_first();
    assert_eq!(get(server.app, HOST, "/send").text(), "sent");
    let database = &installation.database;
    database.wait("SELECT count(*) FROM outbox", LONGEST, |left| left == 0);
    // The one message that always fails is the last to end; then its runs are in the history.
    let failures = "SELECT count(*) FROM executions WHERE event_id IS NOT NULL AND error_code IS NOT NULL";
    database.wait(failures, LONGEST, |failures| failures == i64::from(ATTEMPTS));
    let mut log = Log::of(&installation);
    // Whatever writes needs a number for its transaction.
    let next_transaction = || database.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())");
    let before = next_transaction();
    let statements = log.until_scan();
    assert_eq!(next_transaction(), before);
    let allowed = [
        // Who has claimed something and is lost; what lost processes had; in which lanes something waits.
        "SELECT o.claimed_by",
        "SELECT EXISTS (SELECT FROM outbox WHERE claimed_by IS NULL AND is_suspect)",
        SCAN,
        // Whether the connection that listens is alive.
        "SELECT 1",
    ];
    let is_known = |statement: &&str| allowed.iter().any(|allowed| statement.starts_with(allowed));
    let unknown: Vec<&str> = statements.iter().map(String::as_str).filter(|it| !is_known(it)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(statements.len() <= allowed.len(), "{statements:?}");
}
