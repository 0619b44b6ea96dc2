//! Waking those who handle events, once what they are to handle is committed.
//!
//! Within the process that is a set of lanes and a signal. For other processes there is one notification at once, and
//! what follows within a few milliseconds goes as one: a notification within each insert's transaction would serialize
//! their commits.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use picloud_core::WorkerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::LaneId;
use crate::{Store, StoreError};

pub(crate) const CHANNEL: &str = "picloud_outbox";

/// What follows a notification within this time goes with the next one.
const COALESCED: Duration = Duration::from_millis(25);

/// Beyond so many lanes, all are looked at.
const MAX_LANES: usize = 256;

/// Lanes that have got events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// The lanes.
    pub lanes: BTreeSet<LaneId>,
    /// Whether there are more, or something may have been missed: look at all.
    pub everything: bool,
}

impl Woken {
    /// Every lane may have got something.
    pub fn everything() -> Self {
        Self { lanes: BTreeSet::new(), everything: true }
    }

    fn add(&mut self, lanes: impl IntoIterator<Item = LaneId>) {
        if !self.everything {
            self.lanes.extend(lanes);
            if self.lanes.len() > MAX_LANES {
                *self = Self::everything();
            }
        }
    }

    fn is_empty(&self) -> bool {
        !self.everything && self.lanes.is_empty()
    }

    fn text(&self, worker: WorkerId) -> String {
        let mut text = worker.to_string();
        if self.everything {
            text.push_str(" *");
        }
        for lane in &self.lanes {
            text.push(' ');
            text.push_str(&lane.0.to_string());
        }
        text
    }

    /// Reads a notification; `None` where it is of `own`.
    pub(crate) fn parse(text: &str, own: WorkerId) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next().and_then(|word| word.parse().ok()) == Some(own) {
            return None;
        }
        let lanes: Option<BTreeSet<LaneId>> = words.map(|word| word.parse().ok().map(LaneId)).collect();
        Some(lanes.map_or_else(Self::everything, |lanes| Self { lanes, everything: false }))
    }
}

/// What is to be told to this process, and to others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wakes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    here: Mutex<Woken>,
    here_signal: Notify,
    elsewhere: Mutex<Woken>,
    elsewhere_signal: Notify,
}

impl Wakes {
    /// Tells everyone of what was committed.
    pub(crate) fn wake(&self, lanes: &BTreeSet<LaneId>) {
        if lanes.is_empty() {
            return;
        }
        lock(&self.0.here).add(lanes.iter().copied());
        self.0.here_signal.notify_one();
        lock(&self.0.elsewhere).add(lanes.iter().copied());
        self.0.elsewhere_signal.notify_one();
    }
}

impl Store {
    /// Tells whoever handles events in this process that these lanes have got some.
    pub fn wake_here(&self, woken: Woken) {
        let mut here = lock(&self.wakes.0.here);
        if woken.everything {
            *here = Woken::everything();
        } else {
            here.add(woken.lanes);
        }
        drop(here);
        self.wakes.0.here_signal.notify_one();
    }

    /// Waits until [`Self::take_woken`] has something. One caller a process.
    pub async fn woken(&self) {
        self.wakes.0.here_signal.notified().await;
    }

    /// The lanes that have got events since the last call.
    pub fn take_woken(&self) -> Woken {
        std::mem::take(&mut lock(&self.wakes.0.here))
    }

    /// Tells other processes of what this one commits, until `stop`. What cannot be told is found by their scans.
    pub async fn tell_others(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wakes.0.elsewhere_signal.notified() => {}
            }
            let woken = std::mem::take(&mut *lock(&self.wakes.0.elsewhere));
            if woken.is_empty() {
                continue;
            }
            if let Err(error) = self.notify_others(&woken).await {
                tracing::debug!(%error, "other nodes could not be told of new events");
            }
            tokio::time::sleep(COALESCED).await;
        }
    }

    async fn notify_others(&self, woken: &Woken) -> Result<(), StoreError> {
        let text = woken.text(self.worker);
        sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, text).execute(&self.claims).await?;
        Ok(())
    }
}

fn lock(woken: &Mutex<Woken>) -> MutexGuard<'_, Woken> {
    woken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(ids: impl IntoIterator<Item = i64>) -> BTreeSet<LaneId> {
        ids.into_iter().map(LaneId).collect()
    }

    #[test]
    fn a_notification_names_its_sender_and_lanes() {
        let (own, other) = (WorkerId::generate(), WorkerId::generate());
        let woken = Woken { lanes: lanes([3, 5]), everything: false };
        assert_eq!(Woken::parse(&woken.text(other), own), Some(woken.clone()));
        assert_eq!(Woken::parse(&woken.text(own), own), None);
        assert_eq!(Woken::parse(&Woken::everything().text(other), own), Some(Woken::everything()));
        assert_eq!(Woken::parse("whatever else", own), Some(Woken::everything()));
    }

    #[test]
    fn too_many_lanes_are_everything() {
        let wakes = Wakes::default();
        wakes.wake(&lanes([1]));
        wakes.wake(&lanes([2]));
        assert_eq!(lock(&wakes.0.here).lanes, lanes([1, 2]));
        wakes.wake(&lanes(0..1_000));
        assert_eq!(*lock(&wakes.0.here), Woken::everything());
        // A notification has room for 8,000 bytes.
        let most = Woken { lanes: lanes((0..).take(MAX_LANES).map(|n| i64::MAX - n)), everything: false };
        assert!(most.text(WorkerId::generate()).len() < 8_000);
    }
}
