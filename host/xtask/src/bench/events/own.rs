//! PiCloud as a queue: a server over the database, a queue whose messages wait, and the trigger that has them handled.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use picloud_postgres::ThrowawayCluster;
use rustix::process::Signal;

use crate::{
    bench::{
        Bench,
        picloud::{self, Control},
    },
    http::{Connection, Request},
    process,
};

/// The script that handles a message: nothing, in an instance of its own.
const NOTHING: &str = "fn on_message() { }";

const TRIGGER: &[u8] = br#"{"name":"jobs","kind":"queue","script":"nothing","queue":"jobs"}"#;

/// A server over a database.
pub(in crate::bench) struct Server {
    child: Child,
}

impl Server {
    /// Starts one with an empty data folder, with an app and a script, and waits until it is ready.
    pub(super) fn start(bench: &Bench, cluster: &ThrowawayCluster, database: &str) -> Result<Self> {
        picloud::clear()?;
        let settings = [("PICLOUD_SANDBOX_MAX_OUTBOX_EVENTS", "10000000")];
        let server = Self::launch(bench, cluster, database, &settings)?;
        picloud::deploy()?;
        Control::connect()?.upload("nothing", NOTHING)?;
        Ok(server)
    }

    /// Starts one with further settings, and waits until it is ready.
    pub(in crate::bench) fn launch(
        bench: &Bench,
        cluster: &ThrowawayCluster,
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let place = picloud::place(bench);
        place.check_ports()?;
        let log = bench.folder.join("events.log");
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let log = open.with_context(|| format!("writing {}", log.display()))?;
        let mut command = Command::new(&place.program);
        place.tell(&mut command);
        command.arg("serve").env("DATABASE_URL", cluster.url(database)).envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut server = Self { child: command.spawn().context("starting picloud")? };
        place.wait_until_ready(|| {
            std::thread::sleep(Duration::from_millis(10));
            let ended = server.child.try_wait()?;
            ensure!(ended.is_none(), "picloud ended at its start; {} says why", bench.folder.display());
            Ok(())
        })?;
        Ok(server)
    }

    /// Kills it as a crash would. Returns when it is gone; an error if it had ended by itself.
    pub(in crate::bench) fn kill(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "picloud ended by itself");
        process::signal(self.child.id(), Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Has the messages of the queue handled, from now on.
    pub(super) fn consume() -> Result<()> {
        Control::connect()?.post("/api/v1/apps/bench/triggers", TRIGGER)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What was killed has been waited for.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let stopped = process::signal(self.child.id(), Signal::TERM).and_then(|()| Ok(self.child.wait()?));
        if let Err(error) = stopped {
            eprintln!("stopping PiCloud: {error:#}");
        }
    }
}

/// Puts messages into the queue as [`picloud_store`](../../../../store/src/outbox/insert.rs) does, and has the table
/// analysed as the peers' are.
pub(super) fn fill(cluster: &ThrowawayCluster, database: &str, events: usize) -> Result<()> {
    sql(
        cluster,
        database,
        &format!(
            "INSERT INTO outbox_lanes (app_id, queue, priority) SELECT id, 'jobs', 0 FROM apps ON CONFLICT DO NOTHING;
            INSERT INTO queues (app_id, name) SELECT id, 'jobs' FROM apps ON CONFLICT DO NOTHING;
            INSERT INTO outbox (id, lane_id, app_id, kind, payload, run_at, root_id)
            SELECT e.id, l.id, l.app_id, 'queue', '{{\"queue\":\"jobs\",\"priority\":0,\"group\":null,\"body\":{{\"n\":' || n || '}}}}', now(), e.id
            FROM outbox_lanes l, LATERAL (
                SELECT n, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7000'
                    || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id FROM generate_series(1, {events}) n
            ) e WHERE l.queue = 'jobs'"
        ),
    )?;
    sql(cluster, database, "VACUUM ANALYZE")?;
    // The server hears of what was put there without it, as it would of what another server has put there.
    sql(cluster, database, "SELECT pg_notify('picloud_outbox', 'bench *')")?;
    Ok(())
}

/// What else the database has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    Plain,
    /// So many times the events wait behind those that are measured, in the same queue.
    Backlog(usize),
    /// As many events before those that are measured are locked by somebody else.
    Locked,
    /// Another transaction holds a snapshot of before, so that no dead row can be removed.
    OldSnapshot,
}

/// Handles `events` that wait already, and gives how many it handled in a second: until they have left the database.
pub(super) fn handle(
    bench: &Bench,
    cluster: &ThrowawayCluster,
    database: &str,
    events: usize,
    condition: Condition,
) -> Result<f64> {
    let _server = Server::start(bench, cluster, database)?;
    let (filled, left) = match condition {
        Condition::Plain | Condition::OldSnapshot => (events, 0),
        Condition::Backlog(times) => (events * (times + 1), events * times),
        Condition::Locked => (events * 2, events),
    };
    fill(cluster, database, filled)?;
    let holder = match condition {
        Condition::Locked => {
            let locked = format!("SELECT FROM outbox ORDER BY run_at, id LIMIT {events} FOR UPDATE");
            Some(Holder::start(cluster, database, &locked)?)
        }
        Condition::OldSnapshot => Some(Holder::start(cluster, database, "SELECT FROM outbox LIMIT 1")?),
        Condition::Plain | Condition::Backlog(_) => None,
    };
    // The ids of events go up in the order in which they wait.
    let at = |place: usize| {
        sql(cluster, database, &format!("SELECT id FROM outbox ORDER BY id OFFSET {place} LIMIT 1"))
    };
    let first = if condition == Condition::Locked { left } else { 0 };
    let (first, last) = (at(first)?, at(first + events - 1)?);
    let began = Instant::now();
    Server::consume()?;
    wait_until_gone(cluster, database, (first.trim(), last.trim()))?;
    let took = began.elapsed();
    drop(holder);
    let dead = sql(cluster, database, "SELECT count(*) FROM dead_letters")?;
    ensure!(dead.trim() == "0", "{dead} events were given up");
    Ok(events as f64 / took.as_secs_f64())
}

/// Sends `events` messages over the API, `size` at once: one by one over 16 connections, batches over 4. Gives how many
/// were on disk in a second.
pub(super) fn enqueue(
    bench: &Bench,
    cluster: &ThrowawayCluster,
    database: &str,
    events: usize,
    size: usize,
) -> Result<f64> {
    let _server = Server::start(bench, cluster, database)?;
    let connections = if size == 1 { 16 } else { 4 };
    let body = if size == 1 {
        r#"{"body":{"n":1}}"#.to_owned()
    } else {
        format!(r#"{{"messages":[{}]}}"#, vec![r#"{"body":{"n":1}}"#; size].join(","))
    };
    let calls = events / size / connections;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let send = || -> Result<()> {
            let mut control = Control::connect()?;
            for _ in 0..calls {
                let answer = control.ask("/api/v1/apps/bench/queues/jobs/messages", body.as_bytes())?;
                ensure!(answer.status == 202, "a message answers {}: {}", answer.status, answer.text());
            }
            Ok(())
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client does not panic"))
    })?;
    let (sent, took) = (calls * connections * size, began.elapsed());
    let stored = sql(cluster, database, "SELECT count(*) FROM outbox")?;
    ensure!(stored.trim() == sent.to_string(), "{stored} of {sent} messages are in the database");
    Ok(sent as f64 / took.as_secs_f64())
}

/// Returns when none of the events from `first` to `last` are in the outbox; looks every 10 ms, over one connection. It looks
/// for the last one until that is gone, by the primary key, so that looking costs next to nothing: the peers count in their own
/// process and look into the database at the end.
fn wait_until_gone(cluster: &ThrowawayCluster, database: &str, (first, last): (&str, &str)) -> Result<()> {
    let wait = |which: &str| {
        format!(
            "WHILE EXISTS (SELECT FROM outbox WHERE {which}) LOOP COMMIT; PERFORM pg_sleep(0.01); COMMIT; END LOOP;"
        )
    };
    let (last_one, any) =
        (wait(&format!("id = '{last}'")), wait(&format!("id BETWEEN '{first}' AND '{last}'")));
    sql(cluster, database, &format!("DO $$ BEGIN {last_one} {any} END $$"))?;
    Ok(())
}

/// How long a message waits on an idle server from its insert to the start of its run, in milliseconds, sorted.
pub(super) fn latencies(
    bench: &Bench,
    cluster: &ThrowawayCluster,
    database: &str,
    messages: usize,
) -> Result<Vec<f64>> {
    let _server = Server::start(bench, cluster, database)?;
    let mut control = Control::connect()?;
    control.upload("send", "fn on_request() { queue::send(\"jobs\", 1); }")?;
    // A log line has its run kept in the history, whatever is sampled.
    control.upload("nothing", "fn on_message() { print(\"\"); }")?;
    Server::consume()?;
    let mut connection = Connection::open(([127, 0, 0, 1], picloud::APP_PORT).into())?;
    for _ in 0..messages {
        let request = Request {
            method: "POST",
            host: picloud::HOST,
            path: "/send",
            token: None,
            body: Some(("text/plain", b"")),
        };
        let answer = connection.send(&request)?;
        ensure!(answer.status == 200, "/send answers {}: {}", answer.status, answer.text());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Batches of the history are a quarter of a second apart.
    std::thread::sleep(Duration::from_secs(2));
    // The id of an event has the time at which the script sent it, which is before its insert.
    let text = sql(
        cluster,
        database,
        "SELECT extract(epoch FROM started_at) * 1000 - ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint
        FROM executions WHERE kind = 'queue' ORDER BY 1",
    )?;
    let waits: Vec<f64> =
        text.lines().map(str::parse).collect::<Result<_, _>>().context("reading the waits")?;
    ensure!(waits.len() == messages, "{} of {messages} runs are in the history", waits.len());
    Ok(waits)
}

/// A transaction that holds something until this is dropped.
struct Holder(Child);

impl Holder {
    fn start(cluster: &ThrowawayCluster, database: &str, statement: &str) -> Result<Self> {
        let mut psql = psql(cluster, database);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().context("starting psql")?;
        let input = child.stdin.as_mut().context("psql takes no input")?;
        writeln!(input, "BEGIN ISOLATION LEVEL REPEATABLE READ;\n{statement};\n\\echo held")?;
        let output = child.stdout.as_mut().context("psql has no output")?;
        let held = BufReader::new(output).lines().map_while(Result::ok).any(|line| line == "held");
        ensure!(held, "psql ended before it held what it should");
        Ok(Self(child))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its end of input is the end of the transaction.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

pub(in crate::bench) fn psql(cluster: &ThrowawayCluster, database: &str) -> Command {
    let mut psql = Command::new(cluster.binaries().program("psql"));
    psql.args([
        "--quiet",
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        "--username",
    ])
    .args([ThrowawayCluster::USER, "--dbname", database, "--host"])
    .arg(cluster.socket_dir());
    psql
}

/// Runs SQL as the cluster's owner.
pub(in crate::bench) fn sql(cluster: &ThrowawayCluster, database: &str, text: &str) -> Result<String> {
    let mut psql = psql(cluster, database);
    psql.args(["--command", text]);
    process::capture(&mut psql)
}
