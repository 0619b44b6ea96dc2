//! What this process has claimed: events that wait for a run, run, or are being settled.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use picloud_core::{AppId, EventId};
use picloud_store::{Claim, ClaimedEvent, LaneId, Runnable};
use tokio::sync::Notify;

/// The most events that one process has claimed.
const MAX_CLAIMED: usize = 1_024;

/// So much work is claimed ahead of what runs: longer than a claim takes, and short enough that nothing waits long here
/// that another process could do.
const AHEAD: Duration = Duration::from_millis(50);
const MAX_AHEAD: usize = 384;

/// What is claimed ahead says so many bytes at most.
const AHEAD_BYTES: usize = 8 << 20;

/// No run is taken to be shorter.
const SHORTEST: Duration = Duration::from_micros(10);

/// An event and what is to handle it.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) event: ClaimedEvent,
    pub(super) trigger: Option<Arc<Runnable>>,
}

/// What was claimed and is not settled.
#[derive(Debug, Default)]
pub(super) struct Work {
    inner: Mutex<Inner>,
    freed: Notify,
    idle: Notify,
    busy: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    apps: HashMap<AppId, AppWork>,
    claimed: HashMap<EventId, Held>,
    is_closed: bool,
}

/// A claimed event.
#[derive(Clone, Copy, Debug)]
struct Held {
    claim: Claim,
    app: AppId,
    /// The lane that it takes a place of, where the places are limited.
    limited: Option<LaneId>,
}

#[derive(Debug, Default)]
struct AppWork {
    waiting: VecDeque<Task>,
    /// Loops that take from what waits.
    runners: usize,
    concurrency: usize,
    /// How long a run takes, and what its event says in bytes, smoothed.
    pace: Option<(Duration, usize)>,
}

impl AppWork {
    /// How many events may wait here beside those that run.
    fn ahead(&self) -> usize {
        let Some((took, bytes)) = self.pace else { return 0 };
        let runs = AHEAD.as_nanos() / took.max(SHORTEST).as_nanos();
        let in_time = usize::try_from(runs).unwrap_or(MAX_AHEAD).saturating_mul(self.concurrency);
        in_time.min(MAX_AHEAD).min(AHEAD_BYTES / bytes.max(1))
    }

    fn room(&self) -> usize {
        let ahead = self.ahead();
        if self.waiting.len() > ahead / 2 {
            return 0;
        }
        (self.concurrency + ahead).saturating_sub(self.runners + self.waiting.len())
    }
}

impl Work {
    /// How many more events of an app, of which `concurrency` run at once, may be claimed.
    pub(super) fn room(&self, app: AppId, concurrency: usize) -> usize {
        let mut inner = self.lock();
        let left = MAX_CLAIMED.saturating_sub(inner.claimed.len());
        if inner.is_closed {
            return 0;
        }
        let work = inner.apps.entry(app).or_default();
        work.concurrency = concurrency;
        work.room().min(left)
    }

    /// Takes up what was claimed, of one app. Answers how many runners are to be started.
    pub(super) fn add(&self, app: AppId, tasks: Vec<Task>) -> usize {
        let mut inner = self.lock();
        let work = inner.apps.entry(app).or_default();
        work.waiting.extend(tasks);
        let wanted = work.waiting.len().min(work.concurrency.max(1).saturating_sub(work.runners));
        work.runners += wanted;
        wanted
    }

    /// Notes an event that was claimed, and the lane that it takes a limited place of.
    pub(super) fn hold(&self, event: &ClaimedEvent, limited: Option<LaneId>) {
        self.hold_claim(event.claim, event.app, limited);
    }

    /// Notes a claim.
    pub(super) fn hold_claim(&self, claim: Claim, app: AppId, limited: Option<LaneId>) {
        let mut inner = self.lock();
        let was_idle = inner.claimed.is_empty();
        inner.claimed.insert(claim.event, Held { claim, app, limited });
        drop(inner);
        if was_idle {
            self.busy.notify_one();
        }
    }

    /// The next event of an app for a runner, which ends where there is none.
    pub(super) fn next(&self, app: AppId) -> Option<Task> {
        let mut inner = self.lock();
        let work = inner.apps.get_mut(&app)?;
        let Some(task) = work.waiting.pop_front() else {
            work.runners -= 1;
            drop(inner);
            self.freed.notify_one();
            return None;
        };
        let has_room = work.room() > 0;
        drop(inner);
        if has_room {
            self.freed.notify_one();
        }
        Some(task)
    }

    /// Notes how long a run of an app took, and how many bytes its event said.
    pub(super) fn ran(&self, app: AppId, took: Duration, bytes: usize) {
        if let Some(work) = self.lock().apps.get_mut(&app) {
            work.pace = Some(work.pace.map_or((took, bytes), |(usual, usual_bytes)| {
                ((usual * 9 + took) / 10, (usual_bytes * 9 + bytes) / 10)
            }));
        }
    }

    /// An event was settled, or was committed with what its run did. Answers the lane of which it had a limited place.
    pub(super) fn settled(&self, event: EventId) -> Option<LaneId> {
        let mut inner = self.lock();
        let held = inner.claimed.remove(&event);
        if let Some(held) = held
            && inner.apps.len() > MAX_CLAIMED
            && inner.apps.get(&held.app).is_some_and(|work| work.runners == 0 && work.waiting.is_empty())
        {
            inner.apps.remove(&held.app);
        }
        let is_idle = inner.claimed.is_empty();
        drop(inner);
        if is_idle {
            self.idle.notify_waiters();
        }
        self.freed.notify_one();
        held?.limited
    }

    /// How many events are claimed.
    pub(super) fn claimed(&self) -> usize {
        self.lock().claimed.len()
    }

    /// Takes no more, and gives back what has not begun.
    pub(super) fn close(&self) -> Vec<Task> {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.apps.values_mut().flat_map(|work| std::mem::take(&mut work.waiting)).collect()
    }

    /// Whether it is known that this event is claimed.
    pub(super) fn holds(&self, event: EventId) -> bool {
        self.lock().claimed.contains_key(&event)
    }

    /// Everything that is claimed still.
    pub(super) fn all(&self) -> Vec<(Claim, AppId)> {
        self.lock().claimed.values().map(|held| (held.claim, held.app)).collect()
    }

    /// Waits until there may be room again.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Waits until something is claimed where nothing was.
    pub(super) async fn busy(&self) {
        self.busy.notified().await;
    }

    /// Waits until nothing is claimed.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.claimed() == 0 {
                return;
            }
            idle.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_ahead_is_bounded_in_time_and_bytes() {
        let room = |took, bytes| {
            let (work, app) = (Work::default(), AppId::generate());
            assert_eq!(work.room(app, 16), 16, "nothing is known of its runs");
            work.ran(app, took, bytes);
            work.room(app, 16)
        };
        let quick = Duration::from_micros(50);
        assert_eq!(room(quick, 100), 16 + MAX_AHEAD);
        assert_eq!(room(quick, 1 << 20), 16 + 8);
        assert_eq!(room(quick, 9 << 20), 16);
        assert_eq!(room(Duration::from_secs(1), 100), 16);
    }
}
