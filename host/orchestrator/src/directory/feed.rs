//! Keeps the directory up with what other processes change.

use std::{sync::Arc, time::Duration};

use picloud_store::{Change, ChangeListener, StoreError};
use tokio_util::sync::CancellationToken;

use super::Directory;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Follows `changes` until `stop`. Whatever could not be loaded is loaded again, all of it, until that works.
pub(crate) async fn follow(directory: Arc<Directory>, mut changes: ChangeListener, stop: CancellationToken) {
    let mut retry: Option<Duration> = None;
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.next() => change,
            () = directory.stale.notified() => Change::Everything,
            () = pause(retry) => Change::Everything,
        };
        let loaded = match change {
            // What is behind is made up for as a whole, and not put off by every change that comes meanwhile.
            Change::App(_) if retry.is_some() => continue,
            Change::App(app) => directory.reload(app).await,
            Change::Events(woken) => {
                directory.store().wake_here(woken);
                continue;
            }
            Change::Everything => directory.reload_all().await,
        };
        retry = match loaded {
            Ok(()) => None,
            Err(error) => Some(next_retry(&error, retry)),
        };
    }
}

fn next_retry(error: &StoreError, before: Option<Duration>) -> Duration {
    if before.is_none() {
        tracing::warn!(%error, "the routing table may be out of date until the database answers");
    }
    before.map_or(FIRST_RETRY, |before| (before * 2).min(LAST_RETRY))
}

async fn pause(retry: Option<Duration>) {
    match retry {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
