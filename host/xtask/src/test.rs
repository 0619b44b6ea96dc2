//! `cargo xtask test`: every check of the project, one after the other, and a summary.

use std::{
    io::{BufRead, BufReader, IsTerminal},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    checks,
    console::seconds,
    guest,
    process::{self, cargo},
    sqlx, system,
};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct TestArguments {
    /// Also what is too slow for every run: many more cases of each property test
    #[arg(long)]
    all: bool,
    /// Only this step, whatever it needs included; may be given more than once
    #[arg(long, value_enum, value_name = "STEP")]
    only: Vec<Step>,
}

/// The steps, in their order: what fails fast comes first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting
    Fmt,
    /// Stubs, dead links, missing documentation
    Text,
    /// Which crate may depend on what, and licences
    Dependencies,
    /// The Rhai interpreter for WebAssembly
    Guest,
    /// Offline data of the SQL that is checked at compile time
    Sqlx,
    /// Clippy, without any warning
    Lint,
    /// Unit and integration tests
    Test,
    /// API documentation, without any warning
    Doc,
    /// Settings of the program against the documentation
    Settings,
    /// A server from nothing: up, a call, down
    Smoke,
}

impl Step {
    const ALL: &[Self] = &[
        Self::Fmt,
        Self::Text,
        Self::Dependencies,
        Self::Guest,
        Self::Sqlx,
        Self::Lint,
        Self::Test,
        Self::Doc,
        Self::Settings,
        Self::Smoke,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Fmt => "formatting",
            Self::Text => "texts",
            Self::Dependencies => "dependencies",
            Self::Guest => "guest",
            Self::Sqlx => "SQL",
            Self::Lint => "clippy",
            Self::Test => "tests",
            Self::Doc => "API documentation",
            Self::Settings => "settings",
            Self::Smoke => "smoke test",
        }
    }

    fn run(self, root: &Path, all: bool, count: &mut Count) -> Result<()> {
        match self {
            Self::Fmt => process::run(cargo(root).args(["fmt", "--all", "--check"])),
            Self::Text => checks::text::check(root),
            Self::Dependencies => checks::dependencies::check(root),
            Self::Guest => guest::build(root).map(drop),
            Self::Sqlx => sqlx::prepare(root, true),
            Self::Lint => {
                let lint = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
                process::run(cargo(root).args(lint))
            }
            Self::Test => test_workspace(root, all, count),
            Self::Doc => {
                let doc = ["doc", "--locked", "--workspace", "--no-deps"];
                process::run(cargo(root).args(doc).env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Settings => checks::settings::check(root),
            Self::Smoke => checks::smoke::check(root),
        }
    }
}

/// Tests that passed and failed, as the test programs count them; a failed step of another kind counts as one.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

/// Runs the steps. All of them run, also after one has failed.
pub(crate) fn run(root: &Path, arguments: &TestArguments) -> Result<()> {
    let started = Instant::now();
    println!("== machine");
    println!("{}", system::ensure_postgresql()?);
    let mut count = Count::default();
    let mut results = Vec::new();
    for step in Step::ALL {
        if !arguments.only.is_empty() && !arguments.only.contains(step) {
            continue;
        }
        println!("\n== {}", step.title());
        let began = Instant::now();
        let failed_before = count.failed;
        let outcome = step.run(root, arguments.all, &mut count);
        if let Err(error) = &outcome {
            eprintln!("error: {error:#}");
            // A failed test has been counted already.
            count.failed += usize::from(count.failed == failed_before);
        } else if *step != Step::Test {
            count.passed += 1;
        }
        results.push((step.title(), outcome.is_ok(), began.elapsed()));
    }
    print_summary(&results, started.elapsed());
    println!("\n{} passed, {} failed", count.passed, count.failed);
    ensure!(results.iter().all(|(_, passed, _)| *passed), "the checks failed");
    Ok(())
}

fn print_summary(results: &[(&str, bool, Duration)], total: Duration) {
    println!("\n== summary");
    for (title, passed, took) in results {
        println!("{:<20} {:<7} {:>12}", title, if *passed { "ok" } else { "FAILED" }, seconds(*took));
    }
    println!("{:<20} {:<7} {:>12}", "total", "", seconds(total));
}

/// Runs `cargo test`, whose output is shown as it comes and whose result lines are added up.
fn test_workspace(root: &Path, all: bool, count: &mut Count) -> Result<()> {
    guest::build(root)?;
    let mut command = cargo(root);
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]).stdout(Stdio::piped());
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    if all {
        command.env("PROPTEST_CASES", "4096");
    }
    let status = show_and_count(&mut command, count)?;
    ensure!(status, "tests failed");
    ensure!(count.passed > 0, "no test ran");
    Ok(())
}

fn show_and_count(command: &mut Command, count: &mut Count) -> Result<bool> {
    let mut child = command.spawn().context("starting cargo test")?;
    let stdout = child.stdout.take().context("cargo test has an output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading the output of cargo test")?;
        println!("{line}");
        if let Some((passed, failed)) = test_result(&line) {
            count.passed += passed;
            count.failed += failed;
        }
    }
    let status = child.wait()?;
    if status.code().is_none() {
        bail!("cargo test was ended by a signal");
    }
    Ok(status.success())
}

/// The numbers of `test result: ok. 12 passed; 0 failed; ...`.
fn test_result(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = counts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line =
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(test_result(line), Some((12, 0)));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_result(line), Some((1, 2)));
        assert_eq!(test_result("test names::x ... ok"), None);
    }

    #[test]
    fn every_step_is_in_the_list() {
        assert_eq!(Step::value_variants().len(), Step::ALL.len());
    }
}
