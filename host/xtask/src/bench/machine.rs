//! On what the figures were measured.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    Profile,
    peers::{DENO_VERSION, WORKERD_VERSION},
    report::{Section, Table},
};
use crate::{process, system};

/// Checks that measuring makes sense here, and describes the machine.
pub(super) fn section(profile: Profile) -> Result<Section> {
    ensure!(cfg!(target_os = "linux"), "the benchmarks read /proc and pin cores: they run on Linux only");
    let cores = std::thread::available_parallelism()?;
    ensure!(cores.get() >= 2, "the benchmarks need two cores: one for the server, one for the load");
    let cpu = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = ["model name", "Model"].iter().find_map(|field| value_of(&cpu, field));
    let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let memory =
        value_of(&memory, "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok());

    let mut table = Table::new(["", ""]);
    let mut row = |what: &str, value: String| table.row([what.to_owned(), value]);
    row("processor", format!("{}, {cores} cores, {}", model.unwrap_or("unknown"), std::env::consts::ARCH));
    row("memory", format!("{:.1} GiB", memory.unwrap_or(f64::NAN) / 1024.0 / 1024.0));
    row("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned());
    row("compiler", process::capture(Command::new("rustc").arg("--version"))?.trim().to_owned());
    row("PostgreSQL", system::ensure_postgresql()?);
    row("workerd", WORKERD_VERSION.to_owned());
    row("Deno", DENO_VERSION.to_owned());
    row(
        "commit",
        process::capture(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]))?.trim().to_owned(),
    );
    row("date", process::capture(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned());
    let server = match profile {
        Profile::Dist => {
            "The server is built with the profile `dist`, with link-time optimisation, as for a package; the peers are \
             the packages of their makers. `cargo xtask up` builds with `release`, without it, which takes half the \
             time: `--profile release` measures that."
        }
        Profile::Release => {
            "The server is built with the profile `release`, as `cargo xtask up` does, without link-time optimisation."
        }
        Profile::Dev => "The server is built without optimisation.",
    };
    Ok(Section {
        title: "Machine",
        text: format!(
            "One run, on one machine. {server} What is measured in process is built with `release` in any case, native \
             Rhai beside it too."
        ),
        tables: vec![table],
        ratios: vec![],
    })
}

fn value_of<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_once(':').map(|(_, value)| value.trim())
}
