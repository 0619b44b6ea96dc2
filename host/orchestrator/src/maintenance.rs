//! Housekeeping of the database: partitions of the history, expired kv entries, old counters and entries of the audit
//! log, sessions that have ended.

use std::time::Duration;

use picloud_store::{Store, StoreError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::HistoryConfig;

/// How often expired entries are looked for while there are none. They count as absent in any case.
const KV_INTERVAL: Duration = Duration::from_mins(1);

/// How often everything else is looked after.
const HISTORY_INTERVAL: Duration = Duration::from_hours(1);

/// What one statement removes at most, so that none holds its locks for long; and the pause between two.
const BATCH: u32 = 500;
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Looks after the database until `stop`.
pub(crate) async fn maintain(store: Store, config: HistoryConfig, stop: CancellationToken) {
    let mut history_due = Instant::now();
    let rounds = async {
        loop {
            round(&store, config, &mut history_due).await;
            sleep(KV_INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = rounds => {}
    }
}

async fn round(store: &Store, config: HistoryConfig, history_due: &mut Instant) {
    if let Err(error) = remove_expired(store).await {
        report("removing expired kv entries", &error);
    }
    if Instant::now() < *history_due {
        return;
    }
    // A failure is tried again with the next round.
    match tidy_history(store, config).await {
        Ok(()) => *history_due = Instant::now() + HISTORY_INTERVAL,
        Err(error) => report("tidying the execution history", &error),
    }
}

async fn remove_expired(store: &Store) -> Result<(), StoreError> {
    while store.kv_remove_expired(BATCH).await? == u64::from(BATCH) {
        sleep(BATCH_PAUSE).await;
    }
    Ok(())
}

async fn tidy_history(store: &Store, config: HistoryConfig) -> Result<(), StoreError> {
    store.ensure_history_days().await?;
    let days = store.drop_old_history(config.days).await?;
    if days > 0 {
        tracing::info!(days, "dropped old history");
    }
    while store.remove_old_usage(config.usage_days, BATCH).await? == u64::from(BATCH) {
        sleep(BATCH_PAUSE).await;
    }
    while store.remove_old_audit(config.audit_days, BATCH).await? == u64::from(BATCH) {
        sleep(BATCH_PAUSE).await;
    }
    while store.remove_ended_sessions(BATCH).await? == u64::from(BATCH) {
        sleep(BATCH_PAUSE).await;
    }
    Ok(())
}

fn report(doing: &str, error: &StoreError) {
    if let StoreError::Unavailable(_) = error {
        tracing::warn!(%error, doing, "the database is away; trying again later");
    } else {
        tracing::error!(%error, doing, "maintenance failed");
    }
}
