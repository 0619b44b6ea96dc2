//! A server over a PostgreSQL of its own, a load of messages, and the account of what became of them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use picloud_postgres::{ServerError, ThrowawayCluster};
use serde_json::Value;
use tempfile::TempDir;

use super::{Response, Server, fill, home};

pub(crate) const HOST: &str = "app.localhost";

/// How often a message that always fails is tried.
pub(crate) const ATTEMPTS: u16 = 8;

/// What is claimed by a server that was lost is handled after this time, however it was lost.
const RESCUED: Duration = Duration::from_secs(45);

/// What became of the events that were accepted.
const ACCOUNT: &str = include_str!("../crash/account.sql");

/// A data folder, and a PostgreSQL that outlives the servers.
pub(crate) struct Installation {
    _home: TempDir,
    data_dir: PathBuf,
    pub(crate) database: Database,
}

impl Installation {
    pub(crate) fn new(cluster: Result<ThrowawayCluster, ServerError>) -> Self {
        let home = home();
        let data_dir = home.path().join("data");
        fill(&data_dir);
        // What was compiled is kept; the database is another one.
        std::fs::remove_dir_all(data_dir.join("postgres")).unwrap();
        std::fs::remove_file(data_dir.join("owner-token")).unwrap();
        let database = Database { cluster: cluster.unwrap() };
        Self { _home: home, data_dir, database }
    }

    pub(crate) fn start(&self) -> Server {
        let environment = [
            ("DATABASE_URL", self.database.cluster.url("postgres")),
            ("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", ATTEMPTS.to_string()),
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
    pub(crate) fn lock(&self, table: &str) -> Child {
        let mut child = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let statements = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n");
        child.stdin.as_mut().unwrap().write_all(statements.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "locked");
        child
    }
}

/// Sends numbered messages, each third one in a group, until there is no answer or `tell` wants no more. It is told the id of
/// one that was accepted, or the answer that refuses it.
pub(crate) fn send_messages(
    admin: SocketAddr,
    token: &str,
    first: u64,
    mut tell: impl FnMut(Result<String, Response>) -> bool,
) {
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
        // Of an answer that was cut nobody knows anything.
        let Ok(answer) = serde_json::from_slice::<Value>(&response.body) else { return };
        let id = answer["id"].as_str().filter(|_| response.status == 202).map(str::to_owned);
        if !tell(id.ok_or(response)) {
            return;
        }
    }
}

/// Calls the script that sends messages, until there is no answer or its status is such that there should be no more.
pub(crate) fn call_script(app: SocketAddr, is_good: impl Fn(u16) -> bool) {
    let call = format!("GET /send HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    while ask(app, &call).is_some_and(|answer| is_good(answer.status)) {}
}

/// The answer of a server that may be killed meanwhile.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Option<Response> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Response::parse(&answer)
}
