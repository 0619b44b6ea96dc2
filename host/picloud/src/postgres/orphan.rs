//! A PostgreSQL that outlived its PiCloud (kill -9) is stopped before a new one starts.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process, test_kill_process},
};
use tokio::time::{Instant, sleep};

use super::{error::PostgresError, owner::Owner};

/// How long a fast shutdown may take before an immediate one is asked for, and that one after it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a process that is not our child is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Stops the server that the cluster's `postmaster.pid` names, if it lives. Whoever calls this holds the lock
/// of the data folder, so no other PiCloud can be the server's parent.
pub(super) async fn stop(cluster: &Path, owner: &Owner) -> Result<(), PostgresError> {
    let file = cluster.join("postmaster.pid");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(PostgresError::file(file)(error)),
    };
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|pid| is_server(*pid, cluster, owner)) else {
        // The number may belong to another process by now, and PostgreSQL would not start beside that one.
        return fs::remove_file(&file).map_err(PostgresError::file(file));
    };
    tracing::info!(pid = pid.as_raw_nonzero().get(), "stopping the PostgreSQL that an earlier server left");
    for signal in [Signal::INT, Signal::QUIT] {
        match kill_process(pid, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(()),
            Err(_) => break,
        }
        if is_gone(pid).await {
            return Ok(());
        }
    }
    Err(PostgresError::OrphanStays { pid: pid.as_raw_nonzero().get() })
}

async fn is_gone(pid: Pid) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        sleep(GLANCE).await;
    }
    false
}

/// Whether the process is a PostgreSQL of that user over that cluster.
fn is_server(pid: Pid, cluster: &Path, owner: &Owner) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    if !Path::new("/proc/self").exists() {
        // Without /proc (macOS) the pid file is all there is.
        return test_kill_process(pid).is_ok();
    }
    let same_user = fs::metadata(&process).is_ok_and(|metadata| metadata.uid() == owner.uid());
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    let names_cluster =
        arguments.split(|byte| *byte == 0).any(|part| part == cluster.as_os_str().as_encoded_bytes());
    same_user && names_cluster
}
