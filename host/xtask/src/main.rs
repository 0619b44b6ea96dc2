//! Automation of the workspace: `cargo xtask up`, `test`, `guest`, `bench`, `sqlx`.
//!
//! Every task sets up what it needs by itself and says what it does. Nothing here is part of the product: the
//! program that people run is `picloud`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks to its terminal"
)]

mod bench;
mod checks;
mod console;
mod guest;
mod http;
mod process;
mod server;
mod sqlx;
mod system;
mod test;
mod up;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Automation of the `PiCloud` workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build, start PiCloud and deploy the sample apps
    Up(up::UpArguments),
    /// Stop the server that `up --detach` left running
    Down,
    /// Run every check of the project
    Test(test::TestArguments),
    /// Build the Rhai interpreter for WebAssembly, unless it is up to date
    Guest,
    /// Renew the descriptions of the SQL in host/store/.sqlx, which builds without a database use
    Sqlx(SqlxArguments),
    /// Measure, and write docs/BENCHMARKS.md
    Bench(bench::BenchArguments),
}

#[derive(clap::Args)]
struct SqlxArguments {
    /// Change nothing, and fail where the descriptions are not up to date
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = workspace_root()?;
    match task {
        Task::Up(arguments) => up::up(&root, &arguments),
        Task::Down => up::down(&root),
        Task::Test(arguments) => test::run(&root, &arguments),
        Task::Guest => {
            let artifacts = guest::build(&root)?;
            let state = if artifacts.fresh { "up to date" } else { "built" };
            println!("{state}: {}, {}", artifacts.code.display(), artifacts.base.display());
            Ok(())
        }
        Task::Sqlx(arguments) => sqlx::prepare(&root, arguments.check),
        Task::Bench(arguments) => bench::run(&root, &arguments),
    }
}

/// The checkout that this program was built from.
fn workspace_root() -> Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("xtask lies two folders deep")?;
    Ok(root.to_owned())
}
