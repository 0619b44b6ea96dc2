//! What is left of a PostgreSQL that was killed, or that outlived its PiCloud (kill -9): before a new one starts,
//! its processes are stopped and its lock files removed.

use std::{fs, io, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::{
    error::PostgresError,
    owner::Owner,
    processes::{self, Processes},
    socket,
};

/// How long the processes may take to end after one signal before they get the next.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often processes that are not our children are looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Stops every server process that lives over the cluster, and removes the lock files of the dead. Whoever calls
/// this holds the lock of the data folder, so no other PiCloud can be the server's parent.
///
/// The files have to go because PostgreSQL believes them as long as there is a process with the number in them,
/// be it a zombie or a stranger of the same user.
pub(super) async fn clear(cluster: &Path, owner: &Owner, socket_folder: &Path) -> Result<(), PostgresError> {
    let processes = Processes::of(cluster, owner)?;
    let file = cluster.join("postmaster.pid");
    if let Some(pid) = named_in(&file)? {
        let postmaster = || Some(pid).filter(|pid| processes.is_postmaster(*pid)).into_iter().collect();
        // A fast shutdown, which writes everything; else an immediate one.
        stop(postmaster, [Signal::INT, Signal::QUIT]).await?;
    }
    // Without a postmaster they have nothing to finish: the next start recovers from the write-ahead log.
    stop(|| processes.living(), [Signal::QUIT, Signal::KILL]).await?;
    remove(&file)?;
    socket::files(socket_folder).iter().try_for_each(|file| remove(file))
}

/// The process that a lock file names in its first line, if there is one.
fn named_in(file: &Path) -> Result<Option<Pid>, PostgresError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().next().and_then(processes::pid)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PostgresError::file(file)(error)),
    }
}

/// Gives the processes that `living` finds one signal after the other, until it finds none.
async fn stop(living: impl Fn() -> Vec<Pid>, signals: [Signal; 2]) -> Result<(), PostgresError> {
    for signal in signals {
        for pid in living() {
            let number = pid.as_raw_nonzero().get();
            tracing::info!(pid = number, ?signal, "stopping the PostgreSQL that an earlier server left");
            // One that is gone by now is what was wanted, and one that stays is reported below.
            let _ = kill_process(pid, signal);
        }
        let deadline = Instant::now() + PATIENCE;
        while !living().is_empty() && Instant::now() < deadline {
            sleep(GLANCE).await;
        }
    }
    match living().first() {
        Some(pid) => Err(PostgresError::OrphanStays { pid: pid.as_raw_nonzero().get() }),
        None => Ok(()),
    }
}

fn remove(file: &Path) -> Result<(), PostgresError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PostgresError::file(file)(error)),
        _ => Ok(()),
    }
}
