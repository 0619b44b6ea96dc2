//! PiCloud as a queue: a server over the database, a queue whose messages wait, and the trigger that has them handled.

use std::{
    fs::File,
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
    process,
};

/// The script that handles a message: nothing, in an instance of its own.
const NOTHING: &str = "fn on_message() { }";

const TRIGGER: &[u8] = br#"{"name":"jobs","kind":"queue","script":"nothing","queue":"jobs"}"#;

/// A server over a database.
pub(super) struct Server {
    child: Child,
}

impl Server {
    /// Starts one, with an app and a script, and waits until it is ready.
    pub(super) fn start(bench: &Bench, cluster: &ThrowawayCluster, database: &str) -> Result<Self> {
        picloud::clear()?;
        let place = picloud::place(bench);
        place.check_ports()?;
        let log = bench.folder.join("events.log");
        let log = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        let mut command = Command::new(&place.program);
        place.tell(&mut command);
        command.arg("serve").env("DATABASE_URL", cluster.url(database));
        command.env("PICLOUD_SANDBOX_MAX_OUTBOX_EVENTS", "10000000");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = Self { child: command.spawn().context("starting picloud")? };
        place.wait_until_ready(|| {
            std::thread::sleep(Duration::from_millis(10));
            Ok(())
        })?;
        picloud::deploy()?;
        Control::connect()?.upload("nothing", NOTHING)?;
        Ok(server)
    }

    /// Has the messages of the queue handled, from now on.
    pub(super) fn consume(&self) -> Result<()> {
        Control::connect()?.post("/api/v1/apps/bench/triggers", TRIGGER)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
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
            SELECT id, l.id, l.app_id, 'queue', '{{\"queue\":\"jobs\",\"priority\":0,\"group\":null,\"body\":{{\"n\":' || n || '}}}}', now(), id
            FROM outbox_lanes l, LATERAL (
                SELECT n, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7000'
                    || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id FROM generate_series(1, {events}) n
            ) e WHERE l.queue = 'jobs'"
        ),
    )?;
    sql(cluster, database, "VACUUM ANALYZE")?;
    Ok(())
}

/// Handles `events` that wait already, and gives how many it handled in a second: until none is left in the database.
pub(super) fn handle(
    bench: &Bench,
    cluster: &ThrowawayCluster,
    database: &str,
    events: usize,
) -> Result<f64> {
    let server = Server::start(bench, cluster, database)?;
    fill(cluster, database, events)?;
    let began = Instant::now();
    server.consume()?;
    wait_until_empty(cluster, database)?;
    let took = began.elapsed();
    let dead = sql(cluster, database, "SELECT count(*) FROM dead_letters")?;
    ensure!(dead.trim() == "0", "{dead} events were given up");
    Ok(events as f64 / took.as_secs_f64())
}

/// Returns when the outbox is empty; looks every 10 ms, over one connection.
fn wait_until_empty(cluster: &ThrowawayCluster, database: &str) -> Result<()> {
    sql(
        cluster,
        database,
        "DO $$ BEGIN WHILE EXISTS (SELECT FROM outbox) LOOP COMMIT; PERFORM pg_sleep(0.01); COMMIT; END LOOP; END $$",
    )?;
    Ok(())
}

/// Runs SQL as the cluster's owner.
pub(super) fn sql(cluster: &ThrowawayCluster, database: &str, text: &str) -> Result<String> {
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
    .arg(cluster.socket_dir())
    .args(["--command", text]);
    process::capture(&mut psql)
}
