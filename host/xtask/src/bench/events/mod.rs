//! Events per second from a backlog, beside job queues that keep their jobs in PostgreSQL as well.
//!
//! Who is measured is a [`Contender`]; each gets a database of its own in one cluster that syncs to disk, with the backlog
//! in it before the clock starts, and is done when the database says so.

pub(super) mod own;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use picloud_postgres::ThrowawayCluster;
use serde::Deserialize;

use own::Condition;

use super::{
    Bench, peers,
    report::{Section, Table, median, percentile},
};
use crate::process;

/// The versions that the figures in docs/ are of; pg is the driver of both.
const PACKAGES: &[(&str, &str)] = &[("graphile-worker", "0.18.0"), ("pg-boss", "10.4.2"), ("pg", "8.23.1")];

/// Rounds in which the contenders take turns.
const ROUNDS: usize = 3;

/// A queue that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    PiCloud,
    GraphileBatched,
    GraphileDefault,
    PgBoss,
}

/// What a contender says of a round.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Outcome {
    jobs: usize,
    seconds: f64,
}

impl Contender {
    const ALL: [Self; 4] = [Self::PiCloud, Self::GraphileBatched, Self::GraphileDefault, Self::PgBoss];

    /// Its name and its mode, for people.
    const fn name(self) -> &'static str {
        match self {
            Self::PiCloud => "PiCloud, each event in a fresh sandbox (default settings)",
            Self::GraphileBatched => "graphile-worker, batched (local queue of 500, 24 at once)",
            Self::GraphileDefault => "graphile-worker, one by one (10 at once)",
            Self::PgBoss => "pg-boss, batches of 500 (4 at once)",
        }
    }

    /// How many of the events it is given: one by one, all of them would take minutes.
    const fn share(self, events: usize) -> usize {
        match self {
            Self::GraphileDefault => events / 10,
            Self::PiCloud | Self::GraphileBatched | Self::PgBoss => events,
        }
    }

    /// Its program, and the mode that it is told.
    const fn script(self) -> Option<(&'static str, &'static str, &'static str)> {
        const GRAPHILE: &str = include_str!("graphile-worker.mjs");
        match self {
            Self::PiCloud => None,
            Self::GraphileBatched => Some(("graphile-worker.mjs", GRAPHILE, "batched")),
            Self::GraphileDefault => Some(("graphile-worker.mjs", GRAPHILE, "default")),
            Self::PgBoss => Some(("pg-boss.mjs", include_str!("pg-boss.mjs"), "batched")),
        }
    }

    /// Handles `events` that wait in the database already, and gives how many it handled in a second.
    fn handle(self, bench: &Bench, cluster: &ThrowawayCluster, database: &str, events: usize) -> Result<f64> {
        let Some((file, source, mode)) = self.script() else {
            return own::handle(bench, cluster, database, events, Condition::Plain);
        };
        self.run(bench, cluster, database, events, (file, source, mode))
    }

    /// Puts `events` into an empty database, one by one or a hundred at once, and gives how many in a second.
    fn enqueue(
        self,
        bench: &Bench,
        cluster: &ThrowawayCluster,
        database: &str,
        events: usize,
        size: usize,
    ) -> Result<f64> {
        match self.script() {
            None => own::enqueue(bench, cluster, database, events, size),
            Some((file, source, _)) => {
                let mode = if size == 1 { "enqueue" } else { "enqueue-batch" };
                self.run(bench, cluster, database, events, (file, source, mode))
            }
        }
    }

    /// Runs a peer's program.
    fn run(
        self,
        bench: &Bench,
        cluster: &ThrowawayCluster,
        database: &str,
        events: usize,
        (file, source, mode): (&str, &str, &str),
    ) -> Result<f64> {
        let script = folder(bench).join(file);
        fs::write(&script, source).with_context(|| format!("writing {}", script.display()))?;
        let mut node = Command::new("node");
        node.arg(&script)
            .args([mode, &events.to_string()])
            .env("PGHOST", cluster.socket_dir())
            .env("PGUSER", ThrowawayCluster::USER)
            .env("PGDATABASE", database);
        let output = process::capture(&mut node)?;
        let line = output.lines().find_map(|line| line.strip_prefix("RESULT ")).context("no figures")?;
        let outcome: Outcome = serde_json::from_str(line).context("reading the figures")?;
        let name = self.name();
        ensure!(outcome.jobs == events, "{name} handled {} of {events} events", outcome.jobs);
        Ok(outcome.jobs as f64 / outcome.seconds)
    }
}

/// All rounds, and what they say.
pub(super) fn measure(bench: &Bench) -> Result<Section> {
    peers::install_packages(&folder(bench), PACKAGES)?;
    let cluster = ThrowawayCluster::start_durable()?;
    let events = bench.effort.events;
    let rounds = bench.effort.rounds.min(ROUNDS);
    let mut figures = Contender::ALL.map(|contender| (contender, Vec::new()));
    for round in 0..rounds {
        for (number, (contender, rates)) in figures.iter_mut().enumerate() {
            let database = format!("events_{round}_{number}");
            create_database(&cluster, &database)?;
            let rate = contender.handle(bench, &cluster, &database, contender.share(events))?;
            println!("round {}: {}: {rate:.0} events/s", round + 1, contender.name());
            rates.push(rate);
        }
    }
    let mut table = Table::new(["queue", "events/s", "lowest", "highest"]);
    for (contender, rates) in &figures {
        let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = rates.iter().copied().fold(0.0, f64::max);
        let cell = |rate: f64| format!("{rate:.0}");
        table.row([contender.name().to_owned(), cell(median(rates)), cell(lowest), cell(highest)]);
    }
    let enqueued = enqueue_rates(bench, &cluster)?;
    let conditions = conditions(bench, &cluster)?;
    let versions: Vec<String> = PACKAGES.iter().map(|(name, version)| format!("{name} {version}")).collect();
    Ok(Section {
        title: "Events per second",
        text: format!(
            "{events} events that do nothing, a tenth of them for who takes them one by one, wait in a database; the clock runs from the start of the worker until the \
             database has none left. One PostgreSQL with `fsync` and `synchronous_commit` on, a database for each run, \
             {rounds} rounds in which they take turns, both cores for everything; medians. {}.",
            versions.join(", ")
        ),
        tables: vec![table, enqueued, conditions],
        ratios: ratios(&figures),
    })
}

/// How fast events are put into the database: PiCloud's come over HTTP with a token, the peers' from a library in process.
fn enqueue_rates(bench: &Bench, cluster: &ThrowawayCluster) -> Result<Table> {
    let mut table = Table::new(["put into the queue", "one by one, events/s", "a hundred at once, events/s"]);
    let contenders = [
        (Contender::PiCloud, "PiCloud, over the HTTP API"),
        (Contender::GraphileBatched, "graphile-worker, by its library"),
        (Contender::PgBoss, "pg-boss, by its library"),
    ];
    let rounds = bench.effort.rounds.min(ROUNDS);
    let mut rates = contenders.map(|_| [Vec::new(), Vec::new()]);
    for round in 0..rounds {
        for ((number, (contender, name)), rates) in contenders.into_iter().enumerate().zip(&mut rates) {
            for (rates, size) in rates.iter_mut().zip([1, 100]) {
                let database = format!("enqueue_{round}_{number}_{size}");
                create_database(cluster, &database)?;
                let events = if size == 1 { bench.effort.events / 4 } else { bench.effort.events };
                let rate = contender.enqueue(bench, cluster, &database, events, size)?;
                println!("round {}: {name}, {size} at once: {rate:.0} events/s", round + 1);
                rates.push(rate);
            }
        }
    }
    for ((_, name), [single, batched]) in contenders.into_iter().zip(&rates) {
        let cell = |rates: &[f64]| format!("{:.0}", median(rates));
        table.row([name.to_owned(), cell(single), cell(batched)]);
    }
    Ok(table)
}

/// PiCloud alone, where the database has more to bear, and the wait of a message on an idle server.
fn conditions(bench: &Bench, cluster: &ThrowawayCluster) -> Result<Table> {
    let events = bench.effort.events;
    let named = [
        ("an empty table besides", Condition::Plain),
        ("ten times as many waiting behind them", Condition::Backlog(10)),
        ("as many locked rows before them", Condition::Locked),
        ("another transaction with a snapshot of before", Condition::OldSnapshot),
    ];
    let mut table = Table::new(["PiCloud", "figure", "beside the first"]);
    let mut first = None;
    for (number, (name, condition)) in named.into_iter().enumerate() {
        let mut rates = Vec::new();
        for round in 0..bench.effort.rounds.min(ROUNDS) {
            let database = format!("condition_{number}_{round}");
            create_database(cluster, &database)?;
            rates.push(own::handle(bench, cluster, &database, events, condition)?);
        }
        let rate = median(&rates);
        println!("{name}: {rate:.0} events/s");
        let base = *first.get_or_insert(rate);
        table.row([format!("events/s, {name}"), format!("{rate:.0}"), format!("{:.2}", rate / base)]);
    }
    create_database(cluster, "latency")?;
    let waits = own::latencies(bench, cluster, "latency", bench.effort.events / 100)?;
    for percent in [50, 99] {
        let wait = percentile(&waits, percent);
        println!("from sending to the start of the run: p{percent} {wait:.1} ms");
        table.row([
            format!("from sending to the start of the run, idle, p{percent}"),
            format!("{wait:.1} ms"),
            String::new(),
        ]);
    }
    Ok(table)
}

/// PiCloud's rate beside each of the others.
fn ratios(figures: &[(Contender, Vec<f64>)]) -> Vec<String> {
    let of =
        |wanted| figures.iter().find(|(contender, _)| *contender == wanted).map(|(_, rates)| median(rates));
    let Some(own) = of(Contender::PiCloud) else { return Vec::new() };
    let others = figures.iter().filter(|(contender, _)| *contender != Contender::PiCloud);
    others
        .map(|(contender, rates)| format!("PiCloud beside {}: {:.2}.", contender.name(), own / median(rates)))
        .collect()
}

fn folder(bench: &Bench) -> PathBuf {
    bench.folder.join("event-peers")
}

pub(super) fn create_database(cluster: &ThrowawayCluster, name: &str) -> Result<()> {
    let mut create = Command::new(cluster.binaries().program("createdb"));
    create.args(["--username", ThrowawayCluster::USER, "--host"]).arg(cluster.socket_dir()).arg(name);
    process::run(&mut create)
}
