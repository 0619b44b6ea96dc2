//! Housekeeping of the database: partitions of the history, expired kv entries, old counters and entries of the audit
//! log, sessions that have ended, and what is remembered of events for a time.

use std::time::Duration;

use picloud_core::TriggerConfig;
use picloud_store::{Store, StoreError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::HistoryConfig;

/// Between two looks for expired entries, at the least and at the most: the next is made when the next entry expires. They
/// count as absent in any case.
const KV_LEAST: Duration = Duration::from_mins(1);
const KV_MOST: Duration = Duration::from_mins(10);

/// How often everything else is looked after.
const HISTORY_INTERVAL: Duration = Duration::from_hours(1);

/// Days that the times of schedules are remembered.
const CRON_SLOT_DAYS: u16 = 90;

/// What one statement removes at most, so that none holds its locks for long; and the pause between two.
const BATCH: u32 = 500;
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Looks after the database until `stop`.
pub(crate) async fn maintain(
    store: Store,
    config: HistoryConfig,
    triggers: TriggerConfig,
    stop: CancellationToken,
) {
    let mut history_due = Instant::now();
    let rounds = async {
        loop {
            let next = Instant::now() + round(&store, config, triggers, &mut history_due).await;
            while Instant::now() < next {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = store.is_crowded() => make_room(&store).await,
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = rounds => {}
    }
}

/// Makes room for events, no more often than once in a second.
async fn make_room(store: &Store) {
    match store.make_room().await {
        Ok(0) => {}
        Ok(letters) => {
            tracing::info!(letters, "resolved dead letters went before their time: their apps are full");
        }
        Err(error) => report("making room for events", &error),
    }
    sleep(Duration::from_secs(1)).await;
}

/// Answers when to look again.
async fn round(
    store: &Store,
    config: HistoryConfig,
    triggers: TriggerConfig,
    history_due: &mut Instant,
) -> Duration {
    let next_expiry = remove_expired(store).await.unwrap_or_else(|error| {
        report("removing expired kv entries", &error);
        None
    });
    if *history_due <= Instant::now() {
        let tidied = async {
            tidy_history(store, config).await?;
            tidy_events(store, triggers).await
        };
        // A failure is tried again with the next round.
        match tidied.await {
            Ok(()) => *history_due = Instant::now() + HISTORY_INTERVAL,
            Err(error) => report("removing what is old", &error),
        }
    }
    next_expiry.map_or(KV_MOST, |next| next.clamp(KV_LEAST, KV_MOST))
}

/// Answers how long it is until the next entry expires.
async fn remove_expired(store: &Store) -> Result<Option<Duration>, StoreError> {
    let next = store.kv_next_expiry().await?;
    if next != Some(Duration::ZERO) {
        return Ok(next);
    }
    in_batches(|| store.kv_remove_expired(BATCH)).await?;
    store.kv_next_expiry().await
}

/// Removes what is left of events for a time only.
pub(crate) async fn tidy_events(store: &Store, config: TriggerConfig) -> Result<(), StoreError> {
    in_batches(|| store.remove_old_dead_letters(config.dead_letter_retention_days, BATCH)).await?;
    in_batches(|| store.remove_old_abandoned(config.abandoned_executions_retention_days, BATCH)).await?;
    in_batches(|| store.remove_old_cron_slots(CRON_SLOT_DAYS, BATCH)).await?;
    in_batches(|| store.remove_expired_dedupe_keys(BATCH)).await?;
    in_batches(|| store.remove_expired_idempotency_keys(BATCH)).await?;
    in_batches(|| store.remove_expired_results(BATCH)).await?;
    in_batches(|| store.remove_old_mail_counters(BATCH)).await?;
    while store.remove_empty_lanes().await? > 0 {
        sleep(BATCH_PAUSE).await;
    }
    in_batches(|| store.remove_unused_queues(BATCH)).await?;
    store.remove_old_workers().await?;
    Ok(())
}

/// Calls `remove` until there is less to remove than a batch.
async fn in_batches<F>(remove: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    while remove().await? == u64::from(BATCH) {
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
    in_batches(|| store.remove_old_usage(config.usage_days, BATCH)).await?;
    in_batches(|| store.remove_old_audit(config.audit_days, BATCH)).await?;
    in_batches(|| store.remove_ended_sessions(BATCH)).await
}

fn report(doing: &str, error: &StoreError) {
    if let StoreError::Unavailable(_) = error {
        tracing::warn!(%error, doing, "the database is away; trying again later");
    } else {
        tracing::error!(%error, doing, "maintenance failed");
    }
}
