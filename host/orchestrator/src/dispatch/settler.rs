//! Settling events in batches: whatever has come while the last batch was written goes with the next.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use picloud_core::{AppId, EventId};
use picloud_store::{Settlement, Store, StoreError, Verdict, Woken};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::sleep,
};

use super::work::Work;
use crate::invoker::Invoker;

/// The most events of a batch.
const BATCH: usize = 512;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The most that events of one batch say which become dead letters, in bytes: they are moved from one table to the other.
const BURIED_BYTES: usize = 4 << 20;

/// Takes what is to be settled.
pub(super) struct Settler {
    quick: UnboundedSender<Settlement>,
    dead: UnboundedSender<Dead>,
}

/// An event that is given up, and how many bytes it says.
struct Dead(Settlement, usize);

impl Settler {
    /// A settler, and what settles until it is gone. What is given up has a way of its own, so that nobody else
    /// waits for what it takes to move it.
    pub(super) fn new(
        store: Store,
        work: Arc<Work>,
        invoker: Arc<Invoker>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let ((quick, settlements), (dead, given_up)) = (unbounded_channel(), unbounded_channel());
        let ways = Ways { store, work, invoker };
        let settling = async move {
            tokio::join!(ways.settle(settlements), ways.bury(given_up));
        };
        (Self { quick, dead }, settling)
    }

    /// Takes the settlement of an event that says so many bytes. Answers whether somebody settles still.
    pub(super) fn send(&self, settlement: Settlement, bytes: usize) -> bool {
        match settlement.verdict {
            Verdict::Dead { .. } => self.dead.send(Dead(settlement, bytes)).is_ok(),
            _ => self.quick.send(settlement).is_ok(),
        }
    }
}

struct Ways {
    store: Store,
    work: Arc<Work>,
    invoker: Arc<Invoker>,
}

impl Ways {
    async fn settle(&self, mut settlements: UnboundedReceiver<Settlement>) {
        let mut batch = Vec::with_capacity(BATCH);
        while settlements.recv_many(&mut batch, BATCH).await > 0 {
            self.store(&mut batch).await;
        }
    }

    /// Gives events up, those of one app after those of the other.
    async fn bury(&self, mut given_up: UnboundedReceiver<Dead>) {
        let (mut turns, mut coming) = (VecDeque::new(), Vec::new());
        let mut waiting: HashMap<AppId, VecDeque<Dead>> = HashMap::new();
        loop {
            if turns.is_empty() && given_up.recv_many(&mut coming, BATCH).await == 0 {
                return;
            }
            while let Ok(dead) = given_up.try_recv() {
                coming.push(dead);
            }
            for dead in coming.drain(..) {
                let app = dead.0.app;
                let of_app = waiting.entry(app).or_default();
                if of_app.is_empty() {
                    turns.push_back(app);
                }
                of_app.push_back(dead);
            }
            let Some(app) = turns.pop_front() else { continue };
            let Some(of_app) = waiting.get_mut(&app) else { continue };
            let mut batch = take_batch(of_app);
            if of_app.is_empty() {
                waiting.remove(&app);
            } else {
                turns.push_back(app);
            }
            self.store(&mut batch).await;
        }
    }

    async fn store(&self, batch: &mut Vec<Settlement>) {
        store_batch(&self.store, batch).await;
        for settlement in batch.drain(..) {
            self.invoker.metrics.settled(&settlement.verdict);
            free(&self.store, &self.work, settlement.claim.event);
        }
    }
}

/// Takes events of a batch: one at least, and further ones up to the bound in number and bytes.
fn take_batch(waiting: &mut VecDeque<Dead>) -> Vec<Settlement> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH
        && let Some(Dead(settlement, size)) =
            waiting.pop_front_if(|dead| batch.is_empty() || bytes + dead.1 <= BURIED_BYTES)
    {
        bytes += size;
        batch.push(settlement);
    }
    batch
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
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict))
                if batch.len() == 1 || !error.is_timeout() =>
            {
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

#[cfg(test)]
mod tests {
    use picloud_core::{ErrorCode, WorkerId};
    use picloud_store::{Claim, EventFault};

    use super::*;

    fn dead(bytes: usize) -> Dead {
        let fault = EventFault::new(ErrorCode::ScriptError, "x");
        let claim = Claim { event: EventId::generate(), worker: WorkerId::generate(), attempt: 1 };
        let verdict = Verdict::Dead { fault, script: None };
        Dead(Settlement { claim, app: AppId::generate(), verdict }, bytes)
    }

    #[test]
    fn a_batch_of_what_is_given_up_is_bounded_in_number_and_bytes() {
        let take = |sizes: &[usize]| {
            let mut waiting: VecDeque<Dead> = sizes.iter().map(|bytes| dead(*bytes)).collect();
            (take_batch(&mut waiting).len(), waiting.len())
        };
        assert_eq!(take(&[]), (0, 0));
        assert_eq!(take(&[9 << 20, 1]), (1, 1), "one that is larger goes alone");
        assert_eq!(take(&[2 << 20, 2 << 20, 1]), (2, 1));
        assert_eq!(take(&[1; BATCH + 1]), (BATCH, 1));
    }
}
