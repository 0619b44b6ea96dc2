//! One PostgreSQL process: started, waited for, asked to stop.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use picloud_postgres::Binaries;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Child,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{Cluster, command},
    error::PostgresError,
    log::Log,
    orphan,
    owner::Owner,
    ping::{Answer, ping},
    settings::Settings,
    socket,
};

/// How long a start may take; recovery after a power loss replays at most `max_wal_size`.
const START_LIMIT: Duration = Duration::from_mins(3);

/// How long a fast shutdown may take before an immediate one, which loses nothing but time at the next start.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// Everything a start needs.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) programs: Binaries,
    pub(super) owner: Owner,
    pub(super) cluster: Cluster,
    pub(super) settings: Settings,
    pub(super) socket_folder: PathBuf,
    pub(super) log: Log,
}

/// A running PostgreSQL.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    log: JoinHandle<()>,
}

impl Server {
    /// Starts it, once nothing of an earlier one is in its way, and waits until it lets us in.
    pub(super) async fn start(recipe: &Recipe) -> Result<Self, PostgresError> {
        orphan::clear(recipe.cluster.path(), &recipe.owner, &recipe.socket_folder).await?;
        let mut server = Self::spawn(recipe)?;
        match server.wait_until_ready(&recipe.socket_folder.join(socket::file_name())).await {
            Ok(()) => Ok(server),
            Err(problem) => {
                server.stop().await;
                Err(PostgresError::NotStarted { problem, log: recipe.log.tail() })
            }
        }
    }

    fn spawn(recipe: &Recipe) -> Result<Self, PostgresError> {
        let mut command = command(&recipe.programs, "postgres", &recipe.owner);
        command.arg("-D").arg(recipe.cluster.path());
        command.arg("-c").arg(setting("config_file", &recipe.settings.main_file()));
        // A process group of its own: Ctrl-C in the terminal must not stop the database before the drain.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| PostgresError::Program {
            program: recipe.programs.program("postgres"),
            problem: error.to_string(),
        })?;
        let stderr = child.stderr.take();
        let log = recipe.log.clone();
        let log = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                log.follow(stderr).await;
            }
        });
        Ok(Self { child, log })
    }

    async fn wait_until_ready(&mut self, socket: &Path) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        let mut pause = Duration::from_millis(5);
        loop {
            match ping(socket).await {
                Answer::Ready => return Ok(()),
                Answer::Refused(problem) => return Err(problem),
                Answer::Starting if Instant::now() > deadline => {
                    return Err(format!("it was not ready within {} s", START_LIMIT.as_secs()));
                }
                Answer::Starting => {}
            }
            tokio::select! {
                status = self.child.wait() => return Err(ended(status)),
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(200)),
            }
        }
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> String {
        ended(self.child.wait().await)
    }

    /// Stops it: open connections are closed, everything is written. Returns when the process is gone.
    pub(super) async fn stop(mut self) {
        for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
            self.signal(signal);
            if timeout(STOP_LIMIT, self.child.wait()).await.is_ok() {
                break;
            }
            tracing::warn!(?signal, "PostgreSQL does not stop");
        }
        // Its children hold the pipe for a moment longer; what they say is part of the log.
        let _ = timeout(Duration::from_secs(5), self.log).await;
    }

    /// Its process; `None` once it has been waited for.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid()
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, "cannot signal PostgreSQL");
        }
    }
}

fn setting(name: &str, value: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

fn ended(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended ({status})"),
        Err(error) => format!("it ended ({error})"),
    }
}
