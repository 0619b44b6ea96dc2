//! Keeps PostgreSQL running for as long as the server does.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    PostgresError,
    cluster::{self, Cluster},
    log::Log,
    owner::Owner,
    process::{Recipe, Server},
    programs,
    settings::Settings,
    socket,
};
use crate::config::DataDir;

/// The pause before a restart, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A server that ran this long was healthy: the next pause is the first again.
const HEALTHY: Duration = Duration::from_mins(1);

/// What can be chosen.
#[derive(Clone, Debug)]
pub(crate) struct PostgresOptions {
    /// Where PostgreSQL's programs are, if that was said.
    pub(crate) programs: Option<PathBuf>,
    /// Most connections that PiCloud opens.
    pub(crate) connections: u64,
}

/// PiCloud's own PostgreSQL, running. It is restarted if it dies, and stopped by [`EmbeddedPostgres::stop`];
/// if PiCloud itself is killed it lives on until the next start stops it.
#[derive(Debug)]
pub(crate) struct EmbeddedPostgres {
    socket_folder: PathBuf,
    version: u32,
    current: StopRequest,
    stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// Asks the PostgreSQL that runs now to shut down, without waiting: for a parent that is about to end.
#[derive(Clone, Debug)]
pub(crate) struct StopRequest(Arc<AtomicI32>);

impl StopRequest {
    /// Asks.
    pub(crate) fn send(&self) {
        if let Some(pid) = Pid::from_raw(self.0.load(Ordering::Relaxed)) {
            // If it is gone already, that is what was wanted.
            let _ = kill_process(pid, Signal::INT);
        }
    }

    fn follow(&self, server: Option<&Server>) {
        let pid = server.and_then(Server::pid).map_or(0, |pid| pid.as_raw_nonzero().get());
        self.0.store(pid, Ordering::Relaxed);
    }
}

impl EmbeddedPostgres {
    /// Starts it over the data folder, whose lock the caller holds, and waits until it lets us in.
    pub(crate) async fn start(data_dir: &DataDir, options: &PostgresOptions) -> Result<Self, PostgresError> {
        let recipe = prepare(data_dir.path(), options).await?;
        let socket_folder = recipe.socket_folder.clone();
        let version = recipe.programs.major();
        let server = Server::start(&recipe).await?;
        let stop = CancellationToken::new();
        let current = StopRequest(Arc::default());
        current.follow(Some(&server));
        let task = tokio::spawn(supervise(recipe, server, current.clone(), stop.clone()));
        Ok(Self { socket_folder, version, current, stop, task })
    }

    /// The folder of its socket.
    pub(crate) fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    /// Its major version.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// What asks it to stop without waiting for it.
    pub(crate) fn stop_request(&self) -> StopRequest {
        self.current.clone()
    }

    /// Stops it after everything that uses it has stopped. Returns when the process is gone.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "PostgreSQL's supervisor failed");
        }
    }
}

async fn prepare(data_dir: &Path, options: &PostgresOptions) -> Result<Recipe, PostgresError> {
    let wanted = cluster::data_version(data_dir)?.and_then(|version| version.parse().ok());
    let programs = programs::find(options.programs.as_deref(), wanted)?;
    let owner = Owner::of(&cluster::folder(data_dir))?;
    let cluster = Cluster::open(data_dir, &owner, &programs).await?;
    let socket_folder = socket::make_folder(data_dir, &owner)?;
    let settings = Settings::write(data_dir, &socket_folder, options.connections)?;
    let log = Log::new(&data_dir.join("postgres.log"));
    Ok(Recipe { programs, owner, cluster, settings, socket_folder, log })
}

async fn supervise(recipe: Recipe, first: Server, current: StopRequest, stop: CancellationToken) {
    let mut server = Some(first);
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        if let Some(mut running) = server.take() {
            tokio::select! {
                () = stop.cancelled() => {
                    running.stop().await;
                    // Its number may be another process's from now on.
                    return current.follow(None);
                }
                how = running.ended() => {
                    current.follow(None);
                    tracing::error!(%how, log = %recipe.log.tail(), "PostgreSQL ended; starting it again");
                }
            }
        }
        pause = if started.elapsed() > HEALTHY { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
        // A start is never cut short: it either gives a server to stop, or has stopped its own.
        match Server::start(&recipe).await {
            Ok(restarted) => {
                tracing::info!("PostgreSQL runs again");
                current.follow(Some(&restarted));
                server = Some(restarted);
            }
            Err(error) => tracing::error!(%error, "PostgreSQL does not start"),
        }
    }
}
