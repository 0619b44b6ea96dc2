//! `cargo xtask up` and `down`: from a checkout to a server with an app on it.

use std::{
    path::Path,
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    console::{Steps, seconds},
    guest, process,
    server::{self, Output, Place},
    system,
};

/// The apps that every first start shows: what a script is, and what triggers are.
const SAMPLES: [&str; 2] = ["hello", "events"];

/// A start that takes longer than this has built something.
const A_WHILE: Duration = Duration::from_mins(1);

/// How to start.
#[derive(clap::Args)]
pub(crate) struct UpArguments {
    /// Leave the server running and return; `cargo xtask down` stops it
    #[arg(long)]
    detach: bool,
    /// Build without optimisation: faster to build, slower to serve
    #[arg(long)]
    debug: bool,
}

/// Brings a server up with the sample apps.
pub(crate) fn up(root: &Path, arguments: &UpArguments) -> Result<()> {
    let (profile, folder) = if arguments.debug { ("dev", "debug") } else { ("release", "release") };
    let program = root.join("target").join(folder).join("picloud");
    let place = Place::from_env(root, program)?;
    // From here on Ctrl-C is an event like any other: whatever was started is stopped in order.
    let happenings = Happenings::watch()?;

    let mut steps = Steps::new(5);
    steps.step("PostgreSQL", || match std::env::var_os("DATABASE_URL") {
        Some(_) => Ok("DATABASE_URL is set: that server is used".into()),
        None => system::ensure_postgresql(),
    })?;
    steps.step("Interpreter for WebAssembly (the first build takes about two minutes)", || {
        Ok(if guest::build(root)?.fresh { "up to date" } else { "built" }.into())
    })?;
    steps.step("Program (the first build takes about ten minutes on two cores)", || {
        process::build_program(root, profile)?;
        Ok(place.program.display().to_string())
    })?;
    let mut server = None;
    steps.step("Server", || {
        if let Some(pid) = place.running()? {
            place.wait_until_ready(|| happenings.pause())?;
            return Ok(format!("already running as process {pid}{}", age_note(pid)));
        }
        place.check_ports()?;
        let child = place.start(if arguments.detach { Output::Log } else { Output::Terminal })?;
        let pid = child.id();
        happenings.watch_child(child);
        server = Some(pid);
        let ready = place.wait_until_ready(|| happenings.pause());
        ready.or_else(|error| give_up(&place, pid, arguments, error))?;
        Ok(format!("ready, process {pid}"))
    })?;
    let deployed = steps.step("Sample apps", || deploy_samples(root, &place));
    if let (Err(_), Some(pid)) = (&deployed, server) {
        server::stop(pid)?;
    }
    deployed?;

    print_summary(&place, &steps);
    match server {
        None => Ok(()),
        Some(_) if arguments.detach => {
            println!("The server runs in the background, log in {}.", place.log_file().display());
            println!("Stop it with: cargo xtask down");
            Ok(())
        }
        Some(pid) => {
            println!("Ctrl-C stops the server.\n");
            happenings.until_stopped(pid)
        }
    }
}

/// Stops the server that runs at the place the environment names.
pub(crate) fn down(root: &Path) -> Result<()> {
    let place = Place::from_env(root, root.join("target/release/picloud"))?;
    let Some(pid) = place.running()? else {
        println!("no server runs on {}", place.data_dir.display());
        return Ok(());
    };
    println!("stopping process {pid}");
    server::stop(pid)?;
    println!("stopped");
    Ok(())
}

/// A server that runs from a program file that was built anew since keeps running the old code.
fn age_note(pid: u32) -> &'static str {
    let path = std::fs::read_link(format!("/proc/{pid}/exe"));
    let is_old = path.is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"));
    if is_old { ", from an older build; restart it with: cargo xtask down && cargo xtask up" } else { "" }
}

/// The server did not become ready: it is stopped, and its log is shown where the terminal has not seen it.
fn give_up(place: &Place, pid: u32, arguments: &UpArguments, error: anyhow::Error) -> Result<()> {
    server::stop(pid)?;
    if arguments.detach
        && let Ok(log) = std::fs::read_to_string(place.log_file())
    {
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    Err(error)
}

fn deploy_samples(root: &Path, place: &Place) -> Result<String> {
    let folder = root.join("docs/examples");
    for sample in SAMPLES {
        process::capture(place.command().arg("deploy").arg(folder.join(sample)))?;
    }
    Ok(format!("{}, from {}", SAMPLES.join(" and "), folder.display()))
}

fn print_summary(place: &Place, steps: &Steps) {
    let admin = server::reachable(place.admin);
    let app = server::reachable(place.app);
    let token = place.token_file();
    let token = token.display();
    // The time in which cargo built this program cannot be known here.
    let note = if steps.elapsed() > A_WHILE { ", besides the time to build this command" } else { "" };
    println!("\nPiCloud is up after {}{note}.\n", seconds(steps.elapsed()));
    println!("  apps         http://{app}/@hello/hello");
    println!("  control      http://{admin}/api/v1 (with the token)");
    println!("  owner token  {token}\n");
    println!("Call a sample:");
    println!(
        "  curl -d '{{\"name\":\"bob\"}}' -H 'content-type: application/json' http://{app}/@hello/hello\n"
    );
    println!(
        "Order in the other, and see a moment later what has followed from it; or open http://{app}/@events/"
    );
    println!(
        "  curl -d '{{\"item\":\"mug\",\"amount\":2}}' -H 'content-type: application/json' http://{app}/@events/orders"
    );
    println!("  curl http://{app}/@events/journal\n");
    println!("Upload a script of your own, then call it:");
    println!(
        "  curl -X PUT --data-binary '\"1 + 1 is \" + (1 + 1)' -H 'content-type: text/plain' \\\n       \
         -H \"authorization: Bearer $(cat {token})\" http://{admin}/api/v1/apps/hello/scripts/sum"
    );
    println!("  curl http://{app}/@hello/sum\n");
}

/// What can happen while a server runs.
enum Happening {
    /// Somebody asked this program to stop.
    Stop,
    /// The server ended.
    Ended(std::io::Result<ExitStatus>),
}

/// The events of signals and of the child, in one line.
struct Happenings {
    sender: std::sync::mpsc::Sender<Happening>,
    receiver: Receiver<Happening>,
}

impl Happenings {
    fn watch() -> Result<Self> {
        let (sender, receiver) = channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("watching for Ctrl-C")?;
        let stops = sender.clone();
        thread::spawn(move || {
            for _ in signals.forever() {
                if stops.send(Happening::Stop).is_err() {
                    return;
                }
            }
        });
        Ok(Self { sender, receiver })
    }

    fn watch_child(&self, mut child: Child) {
        let sender = self.sender.clone();
        // Nobody listens any more where the server is left running: then there is nobody to tell.
        thread::spawn(move || sender.send(Happening::Ended(child.wait())).ok());
    }

    /// Waits a moment; an event ends the start.
    fn pause(&self) -> Result<()> {
        match self.receiver.recv_timeout(Duration::from_millis(100)) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Happening::Ended(status)) => bail!("the server ended while it started ({})", status?),
            Ok(Happening::Stop) | Err(RecvTimeoutError::Disconnected) => {
                bail!("stopped before the server was ready")
            }
        }
    }

    /// Waits for the server's end. The first Ctrl-C asks it to drain, the second to hurry.
    fn until_stopped(&self, pid: u32) -> Result<()> {
        let mut asked = false;
        loop {
            match self.receiver.recv().context("watching the server")? {
                Happening::Stop => {
                    println!(
                        "{}",
                        if asked { "stopping at once" } else { "stopping (Ctrl-C again: at once)" }
                    );
                    asked = true;
                    process::signal(pid, Signal::TERM)?;
                }
                Happening::Ended(status) => {
                    let status = status?;
                    if asked || status.success() {
                        return Ok(());
                    }
                    bail!("the server ended by itself ({status})");
                }
            }
        }
    }
}
