//! Schedules: sleeps until the next time of any, and has the events of those that have come made.

use std::{sync::Arc, time::Duration};

use picloud_store::Store;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;

/// The clock of the database is not the one that this sleeps by, and may be put forward: it is looked at so often while
/// there is any schedule.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

const RETRY: Duration = Duration::from_secs(2);

/// Looks after the schedules until `drain`.
pub(crate) async fn run(store: Store, directory: Arc<Directory>, drain: CancellationToken) {
    loop {
        // Before the look, so that no change falls between the two.
        let changed = directory.schedules_changed();
        let next = match store.fire_schedules().await {
            Ok(round) => {
                if round.missed > 0 {
                    tracing::info!(missed = round.missed, "times of schedules were missed");
                }
                round.next_in.map(|next| next.min(LONGEST_SLEEP))
            }
            Err(error) => {
                tracing::warn!(%error, "schedules wait for the database");
                Some(RETRY)
            }
        };
        let sleep = async {
            match next {
                Some(next) => tokio::time::sleep(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.cancelled() => return,
            () = changed => {}
            () = sleep => {}
        }
    }
}
