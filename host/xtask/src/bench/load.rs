//! Requests per second and latency on one core, the contenders taking turns.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    Bench,
    peers::{Contender, OTHER_CORE, Running},
    picloud,
    report::{Section, Table, median},
};
use crate::process;

const CONNECTIONS: usize = 64;

/// What wrk says of its run, by the script below.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Load {
    requests: f64,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
}

const WRK_SCRIPT: &str = r#"wrk.method = "POST"
wrk.body = '{"name":"bob"}'
wrk.headers["content-type"] = "application/json"
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.3f,"p50_us":%d,"p99_us":%d,"errors":%d}\n',
    summary.requests, summary.duration / 1000000, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// Loads a server for a while. A run with any error is none.
pub(super) fn run(bench: &Bench, server: &Running, duration: Duration) -> Result<Load> {
    let script = bench.folder.join("post.lua");
    fs::write(&script, WRK_SCRIPT)?;
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", &OTHER_CORE.to_string(), "wrk", "-t1", &format!("-c{CONNECTIONS}")])
        .arg(format!("-d{}s", duration.as_secs()))
        .args(["-H", &format!("Host: {}", picloud::HOST), "-s"])
        .arg(&script)
        .arg(format!("http://{}/hello", server.contender.address()));
    let output = process::capture(&mut wrk)?;
    let line = output.lines().find(|line| line.starts_with('{')).context("wrk printed no figures")?;
    let load: Load = serde_json::from_str(line).context("reading wrk's figures")?;
    let name = server.contender.name();
    ensure!(load.errors == 0, "{name} answered {} of {} requests with errors", load.errors, load.requests);
    Ok(load)
}

/// All rounds, and what they say.
pub(super) fn measure(bench: &Bench) -> Result<Section> {
    picloud::clear()?;
    let mut servers = Vec::new();
    for contender in Contender::ALL {
        servers.push(contender.start(bench, 1)?);
    }
    for server in &servers {
        run(bench, server, Duration::from_secs(2)).context("warming up")?;
    }
    let mut loads: Vec<Vec<Load>> = vec![Vec::new(); servers.len()];
    for round in 1..=bench.effort.rounds {
        for (server, loads) in servers.iter().zip(&mut loads) {
            // What the last one still has to write is written by then.
            thread::sleep(Duration::from_secs(2));
            let load = run(bench, server, bench.effort.load)?;
            let rate = load.requests / load.seconds;
            println!(
                "round {round} {:<8} {rate:>8.0} requests/s, p99 {:.1} ms",
                server.contender.name(),
                load.p99_us / 1e3
            );
            loads.push(load);
        }
    }
    Ok(section(bench, &servers, &loads))
}

fn section(bench: &Bench, servers: &[Running], loads: &[Vec<Load>]) -> Section {
    let mut table = Table::new(["server", "requests/s", "p50", "p99", "slowest and fastest round"]);
    let mut figures = Vec::new();
    for (server, loads) in servers.iter().zip(loads) {
        let of = |value: fn(&Load) -> f64| loads.iter().map(value).collect::<Vec<f64>>();
        let rates = of(|load| load.requests / load.seconds);
        let (rate, p50, p99) =
            (median(&rates), median(&of(|load| load.p50_us)), median(&of(|load| load.p99_us)));
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        table.row([
            server.contender.name().to_owned(),
            format!("{rate:.0}"),
            format!("{:.2} ms", p50 / 1e3),
            format!("{:.2} ms", p99 / 1e3),
            format!("{least:.0} to {most:.0}"),
        ]);
        figures.push((server.contender, rate, p99));
    }
    let own = figures[0];
    let ratios = figures[1..].iter().map(|(peer, rate, p99)| {
        let name = peer.name();
        format!(
            "HTTP on one core, a fresh instance for each request: {:.2} times {name}'s requests per second, with \
             {:.2} of its p99 ({name} reuses one isolate for all requests).",
            own.1 / rate,
            own.2 / p99
        )
    });
    Section {
        title: "HTTP",
        text: format!(
            "POST of `{{\"name\":\"bob\"}}`, answered `hello bob`. Each server on core 0, the load generator (wrk, \
             {CONNECTIONS} connections, {} s a run) on core 1. PiCloud has default settings: routing, admission and \
             history on; its PostgreSQL runs on core 1, beside the load generator. {} rounds, the servers taking \
             turns in each; medians. No run had an error.",
            bench.effort.load.as_secs(),
            bench.effort.rounds
        ),
        ratios: ratios.collect(),
        tables: vec![table],
    }
}
