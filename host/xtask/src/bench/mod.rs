//! `cargo xtask bench`: PiCloud beside native Rhai, workerd, Deno and queues on this machine, and what it
//! bears; writes docs/BENCHMARKS.md.
//!
//! Servers that are compared get the same core, the same requests from the same load generator, and take turns
//! round by round, so that what the machine does besides meets all of them.

mod crash;
mod events;
mod in_process;
mod load;
mod machine;
mod memory;
mod peers;
mod picloud;
mod processes;
mod report;
mod startup;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{guest, process, system};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct BenchArguments {
    /// One short round of everything: shows that it works, not how fast it is; writes no document
    #[arg(long)]
    quick: bool,
    /// Only this part; may be given more than once; writes no document
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// How the server is built
    #[arg(long, value_enum, default_value_t = Profile::Dist)]
    profile: Profile,
    /// How often the server is killed in the part `crash`
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<u32>,
    /// What the moments of the kills come from, to see the same ones again
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// How the server is built.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// As a package has it, with link-time optimisation, as the peers' packages are built too
    Dist,
    /// As `cargo xtask up` builds it
    Release,
    /// Without optimisation: for trying out the benchmarks themselves
    Dev,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    /// The folder in `target` that cargo builds it into.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dist | Self::Release => self.name(),
            Self::Dev => "debug",
        }
    }
}

/// The parts of the document.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One invocation in process, beside native Rhai
    InProcess,
    /// Requests per second and latency, beside workerd and Deno
    Http,
    /// Memory idle, under load and with many scripts
    Memory,
    /// Start to first answer, upload of a script
    Start,
    /// CPU without traffic
    Idle,
    /// Events per second, beside graphile-worker and pg-boss
    Events,
    /// `kill -9` of the server at random moments, and what became of every event
    Crash,
}

/// How long and how often.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    load: Duration,
    scripts: usize,
    idle: Duration,
    starts: usize,
    events: usize,
    kills: u32,
}

impl Effort {
    const FULL: Self = Self {
        rounds: 5,
        load: Duration::from_secs(8),
        scripts: 1000,
        idle: Duration::from_mins(1),
        starts: 5,
        events: 20_000,
        kills: 200,
    };
    const QUICK: Self = Self {
        rounds: 1,
        load: Duration::from_secs(2),
        scripts: 50,
        idle: Duration::from_secs(5),
        starts: 1,
        events: 1_000,
        kills: 5,
    };
}

/// Where the benchmark keeps its files, and what it runs.
struct Bench {
    root: PathBuf,
    folder: PathBuf,
    effort: Effort,
    profile: Profile,
}

/// Measures what was asked for.
pub(crate) fn run(root: &Path, arguments: &BenchArguments) -> Result<()> {
    let bench = Bench {
        root: root.to_owned(),
        folder: root.join("target/bench"),
        effort: if arguments.quick { Effort::QUICK } else { Effort::FULL },
        profile: arguments.profile,
    };
    fs::create_dir_all(&bench.folder).with_context(|| format!("making {}", bench.folder.display()))?;
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);

    let servers = [Part::Http, Part::Memory, Part::Start, Part::Idle];
    let others = [Part::InProcess, Part::Events, Part::Crash];
    if others.into_iter().any(wanted) || servers.into_iter().any(wanted) {
        heading("building");
        guest::build(root)?;
        process::build_program(root, bench.profile.name())?;
    }
    system::ensure_postgresql()?;
    let mut sections = vec![machine::section(bench.profile)?];
    if wanted(Part::InProcess) {
        heading("one invocation in process");
        sections.push(in_process::measure(&bench)?);
    }
    if servers.into_iter().any(wanted) {
        system::ensure_program("wrk", &system::WRK)?;
        peers::install(&bench)?;
    }
    if wanted(Part::Http) {
        heading("requests per second");
        sections.push(load::measure(&bench)?);
    }
    if wanted(Part::Memory) {
        heading("memory");
        sections.push(memory::measure(&bench)?);
    }
    if wanted(Part::Start) {
        heading("start and upload");
        sections.push(startup::measure(&bench)?);
    }
    if wanted(Part::Idle) {
        heading("idle CPU");
        sections.push(startup::measure_idle(&bench)?);
    }
    if wanted(Part::Events) {
        heading("events per second");
        sections.push(events::measure(&bench)?);
    }
    if wanted(Part::Crash) {
        heading("kill -9");
        let rounds = arguments.rounds.unwrap_or(bench.effort.kills);
        sections.push(crash::measure(&bench, rounds, arguments.seed)?);
    }

    picloud::remove_data()?;

    let document = report::document(&sections);
    println!("\n{document}");
    if arguments.quick || !arguments.only.is_empty() {
        println!("Not a full run: docs/BENCHMARKS.md stays as it is.");
        return Ok(());
    }
    let path = root.join("docs/BENCHMARKS.md");
    fs::write(&path, document).with_context(|| format!("writing {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

fn heading(title: &str) {
    println!("\n== {title}");
}
