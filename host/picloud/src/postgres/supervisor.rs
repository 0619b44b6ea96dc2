//! Keeps PostgreSQL running for as long as the server does.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    NAME, PostgresError, Programs,
    cluster::{self, Cluster},
    log::Log,
    orphan,
    owner::Owner,
    process::{Recipe, Server},
    settings::Settings,
    socket,
};
use crate::config::DataDir;

/// The pause before a restart, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A server that ran this long was healthy: the next pause is the first again.
const HEALTHY: Duration = Duration::from_secs(60);

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
    url: String,
    version: u32,
    stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl EmbeddedPostgres {
    /// Starts it over the data folder, whose lock the caller holds, and waits until it lets us in.
    pub(crate) async fn start(data_dir: &DataDir, options: &PostgresOptions) -> Result<Self, PostgresError> {
        let recipe = prepare(data_dir.path(), options).await?;
        let url = url(&recipe.socket);
        let version = recipe.programs.version();
        let server = Server::start(&recipe).await?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(supervise(recipe, server, stop.clone()));
        Ok(Self { url, version, stop, task })
    }

    /// The address to connect to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its major version.
    pub(crate) fn version(&self) -> u32 {
        self.version
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
    let programs = Programs::find(options.programs.as_deref(), wanted)?;
    let owner = Owner::of(&cluster::folder(data_dir))?;
    let cluster = Cluster::open(data_dir, &owner, &programs).await?;
    orphan::stop(cluster.path(), &owner).await?;
    let socket_folder = socket::make_folder(data_dir, &owner)?;
    let settings = Settings::write(data_dir, &socket_folder, options.connections)?;
    let log = Log::new(&data_dir.join("postgres.log"));
    let socket = socket_folder.join(socket::file_name());
    Ok(Recipe { programs, owner, cluster, settings, socket, log })
}

async fn supervise(recipe: Recipe, first: Server, stop: CancellationToken) {
    let mut server = Some(first);
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        if let Some(mut running) = server.take() {
            tokio::select! {
                () = stop.cancelled() => return running.stop().await,
                how = running.ended() => {
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
                server = Some(restarted);
            }
            Err(error) => tracing::error!(%error, "PostgreSQL does not start"),
        }
    }
}

/// `postgres://` with the socket's folder as the host, in percent encoding.
fn url(socket: &Path) -> String {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let mut host = String::new();
    for byte in folder.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            host.push(char::from(*byte));
        } else {
            host.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("postgres://{NAME}@{host}/{NAME}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_carries_the_socket_folder() {
        let url = url(Path::new("/var/lib/pi cloud/run/.s.PGSQL.5432"));
        assert_eq!(url, "postgres://picloud@%2Fvar%2Flib%2Fpi%20cloud%2Frun/picloud");
    }
}
