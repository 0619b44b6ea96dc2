//! Settling events in batches: whatever has come while the last batch was written goes with the next.

use std::{sync::Arc, time::Duration};

use picloud_core::EventId;
use picloud_store::{Settlement, Store, StoreError, Woken};
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use super::work::Work;
use crate::invoker::Invoker;

/// The most events of a batch.
const BATCH: usize = 512;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Settles what comes until every sender is gone.
pub(super) async fn settle(
    store: Store,
    mut settlements: UnboundedReceiver<Settlement>,
    work: Arc<Work>,
    invoker: Arc<Invoker>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while settlements.recv_many(&mut batch, BATCH).await > 0 {
        store_batch(&store, &batch).await;
        for settlement in batch.drain(..) {
            invoker.metrics.settled(&settlement.verdict);
            free(&store, &work, settlement.claim.event);
        }
    }
}

/// An event is settled: what it took a place of may have another.
pub(super) fn free(store: &Store, work: &Work, event: EventId) {
    if let Some(lane) = work.settled(event) {
        store.wake_here(Woken { lanes: [lane].into(), everything: false });
    }
}

/// Stores a batch, however long the database is away.
async fn store_batch(store: &Store, batch: &[Settlement]) {
    let mut retry = FIRST_RETRY;
    loop {
        match store.settle(batch).await {
            Ok(()) => return,
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => {
                if retry == FIRST_RETRY {
                    tracing::warn!(%error, events = batch.len(), "handled events wait for the database");
                }
            }
            Err(error) if batch.len() > 1 => {
                tracing::error!(%error, "a batch of events cannot be settled; trying one by one");
                for settlement in batch {
                    Box::pin(store_batch(store, std::slice::from_ref(settlement))).await;
                }
                return;
            }
            Err(error) => {
                // It stays claimed, and is taken over when this process is gone.
                tracing::error!(%error, event = %batch[0].claim.event, "an event cannot be settled");
                return;
            }
        }
        sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}
