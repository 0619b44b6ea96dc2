//! Running other programs, and looking at processes by id.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Runs a command whose output goes to the terminal; anything but success is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", line(command)))?;
    check(command, status)
}

/// Runs a command and gives its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {}", line(command)))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    check(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("{} printed what is not UTF-8", line(command)))
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The cargo that runs this task, without what it told this process about the package `xtask`: some build
/// scripts watch those variables and would run again for nothing.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|own| text.starts_with(own))
        {
            command.env_remove(&name);
        }
    }
    command.current_dir(root);
    command
}

/// Builds the platform's program. In the profile `dev` as the tests have it built, whose features are others: it would be
/// built a second time, with much of what it depends on.
pub(crate) fn build_program(root: &Path, profile: &str) -> Result<()> {
    let mut build = cargo(root);
    match profile {
        "dev" => build.args(["test", "--locked", "--workspace", "--no-run", "--test", "e2e"]),
        _ => build.args(["build", "--locked", "--workspace", "--bin", "picloud", "--profile", profile]),
    };
    run(&mut build)
}

/// The path of a program in `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill_process(pid_of(pid)?, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("sending a signal to process {pid}")),
    }
}

/// Whether a process of this id runs. One that has ended counts as gone, also where its parent (the first
/// process of a container, say) never asks for its status.
fn is_alive(pid: u32) -> bool {
    let exists = pid_of(pid).is_ok_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    exists && !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Waits until a process that is not a child of this one is gone; `false` after `limit`.
pub(crate) fn wait_until_gone(pid: u32, limit: Duration) -> bool {
    let started = Instant::now();
    while is_alive(pid) {
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn pid_of(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is not a process id"))
}
