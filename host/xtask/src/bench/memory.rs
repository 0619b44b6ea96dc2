//! Memory: idle, under load, and with many scripts.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    Bench, load,
    peers::{Contender, Running},
    picloud::{self, Control},
    processes,
    report::{Section, Table, percentile},
};
use crate::http::Connection;

const MIB: f64 = 1024.0 * 1024.0;

/// Anonymous and shared memory in bytes.
#[derive(Clone, Copy)]
struct Footprint {
    own: u64,
    database: u64,
}

impl Footprint {
    fn of(server: &Running) -> Result<Self> {
        let tree = processes::tree(server.pid())?;
        Ok(Self { own: processes::memory(&tree.own)?, database: processes::memory(&tree.database)? })
    }
}

/// Measures every contender idle and under load, then PiCloud and workerd with many scripts.
pub(super) fn measure(bench: &Bench) -> Result<Section> {
    picloud::clear()?;
    let mut table = Table::new(["server", "idle", "under load (most)", "its PostgreSQL, idle"]);
    let mut under_load = Vec::new();
    let mut ratios = Vec::new();
    for contender in Contender::ALL {
        let server = contender.start(bench, 1)?;
        let idle = settled(&server)?;
        let most = most_under_load(bench, &server)?;
        println!("{:<8} idle {:.1} MiB, under load {:.1} MiB", contender.name(), mib(idle.own), mib(most));
        let database = if idle.database == 0 { "-".into() } else { format!("{:.1} MiB", mib(idle.database)) };
        table.row([
            contender.name().to_owned(),
            format!("{:.1} MiB", mib(idle.own)),
            format!("{:.1} MiB", mib(most)),
            database,
        ]);
        under_load.push((contender, most));
        if contender == Contender::PiCloud {
            ratios.push(format!("Memory idle, without PostgreSQL: {:.1} MiB.", mib(idle.own)));
        }
    }
    let own = under_load[0].1 as f64;
    ratios.extend(
        under_load[1..].iter().map(|(peer, bytes)| {
            format!("Memory under load: {:.2} of {}'s.", own / *bytes as f64, peer.name())
        }),
    );

    let (many, many_ratio) = many_scripts(bench)?;
    ratios.push(many_ratio);
    Ok(Section {
        title: "Memory",
        text: format!(
            "Anonymous pages (`Pss_Anon`) and what memory files hold, mapped or not; no page cache, which the kernel \
             can take back. Under load: the most of four looks during a run of wrk. Many scripts: {} different \
             scripts, each called once, then all in turn three times over one connection, so that hardly any slot \
             holds the right image. workerd has a router before its workers, since it serves one worker a socket; \
             Deno serves one program a process and is left out.",
            bench.effort.scripts
        ),
        tables: vec![table, many],
        ratios,
    })
}

/// The footprint once everything that belongs to the start is done.
fn settled(server: &Running) -> Result<Footprint> {
    thread::sleep(Duration::from_secs(3));
    Footprint::of(server)
}

fn most_under_load(bench: &Bench, server: &Running) -> Result<u64> {
    let duration = bench.effort.load;
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run(bench, server, duration));
        let mut most = 0;
        for _ in 0..4 {
            thread::sleep(duration / 5);
            most = most.max(Footprint::of(server)?.own);
        }
        load.join().map_err(|_| anyhow::anyhow!("the load generator's thread panicked"))??;
        Ok(most)
    })
}

/// A server with many scripts.
struct Many {
    /// Memory with one script, in bytes.
    before: u64,
    /// Memory with all of them, each called once.
    after: u64,
    /// How long each call took in the rounds after that, in microseconds.
    micros: Vec<f64>,
}

/// Memory and latency with many scripts, and the line for the top of the document.
fn many_scripts(bench: &Bench) -> Result<(Table, String)> {
    let count = bench.effort.scripts;
    let mut table = Table::new([
        "server with many scripts",
        "with one script",
        "with all, each called once",
        "for each",
        "p50 of all in turn",
        "p99",
    ]);
    let mut ratio = String::new();
    for contender in [Contender::PiCloud, Contender::Workerd] {
        let many = with_many(bench, contender).with_context(|| contender.name())?;
        let each = many.after.saturating_sub(many.before) as f64 / count as f64 / 1024.0;
        let (p50, p99) = (percentile(&many.micros, 50), percentile(&many.micros, 99));
        println!("{:<8} {count} scripts: {each:.1} KiB each, p50 {p50:.0} us", contender.name());
        table.row([
            contender.name().to_owned(),
            format!("{:.1} MiB", mib(many.before)),
            format!("{:.1} MiB", mib(many.after)),
            format!("{each:.1} KiB"),
            format!("{p50:.0} us"),
            format!("{p99:.0} us"),
        ]);
        if contender == Contender::PiCloud {
            ratio = format!(
                "{count} deployed scripts, each called once: {each:.1} KiB of memory each; all in turn over HTTP: \
                 p50 {p50:.0} us."
            );
        }
    }
    Ok((table, ratio))
}

fn with_many(bench: &Bench, contender: Contender) -> Result<Many> {
    let count = bench.effort.scripts;
    let names: Vec<String> = picloud::script_names(count).collect();
    let server = contender.start(bench, 1)?;
    let before = settled(&server)?.own;
    if contender == Contender::PiCloud {
        let mut control = Control::connect()?;
        for (number, name) in names.iter().enumerate().skip(1) {
            control.upload(name, &picloud::script_source(number))?;
        }
    }
    // A new start, since what uploads left behind is no part of what the scripts hold.
    drop(server);
    let server = contender.start(bench, count)?;
    settled(&server)?;
    let mut connection = Connection::open(contender.address())?;
    for name in &names {
        picloud::call(&mut connection, name)?;
    }
    let after = Footprint::of(&server)?.own;
    let mut micros = Vec::new();
    for name in names.iter().cycle().take(3 * count) {
        let began = Instant::now();
        picloud::call(&mut connection, name)?;
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Many { before, after, micros })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
