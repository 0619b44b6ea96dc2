//! Admission: before an instance is made, a request takes one of the node's slots.
//!
//! Refusing is for a full queue, not for a burst: up to 256 requests of each app wait, for at most ten seconds.
//! Slots go round-robin by app, and an app gets another one only while more are free than it holds, so that an app that
//! holds none finds one however long the runs of others are. Nested calls
//! (`app::invoke`) take no slot of their own: they would wait for the very slots that their callers hold.

mod lanes;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use picloud_core::{AppId, ErrorCode};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, oneshot};

use lanes::{Lanes, Shortage, Waiter};

/// The node's slots.
pub(crate) struct Admission {
    max_wait: Duration,
    lanes: Mutex<Lanes<oneshot::Sender<Permit>>>,
    waiting: AtomicUsize,
    waited: Counter,
    is_closed: AtomicBool,
    idle: Notify,
}

/// A slot, until it is dropped.
pub(crate) struct Permit {
    /// `None` once the slot is not this permit's to give back any more.
    admission: Option<Arc<Admission>>,
    app: AppId,
}

/// Why a request got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The app is at its own concurrency limit.
    AppBusy,
    /// The node is full.
    NodeBusy,
    /// The node is shutting down.
    Draining,
}

impl Refusal {
    /// The code that clients see.
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::AppBusy => ErrorCode::AppBusy,
            Self::NodeBusy => ErrorCode::NodeBusy,
            Self::Draining => ErrorCode::Draining,
        }
    }
}

impl From<Shortage> for Refusal {
    fn from(shortage: Shortage) -> Self {
        match shortage {
            Shortage::App => Self::AppBusy,
            Shortage::Node => Self::NodeBusy,
        }
    }
}

impl Waiter for oneshot::Sender<Permit> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

impl Admission {
    /// Slots for so many; `waited` counts the requests that got none at once.
    pub(crate) fn new(slots: usize, max_wait: Duration, waited: Counter) -> Arc<Self> {
        Arc::new(Self {
            max_wait,
            lanes: Mutex::new(Lanes::new(slots)),
            waiting: AtomicUsize::new(0),
            waited,
            is_closed: AtomicBool::new(false),
            idle: Notify::new(),
        })
    }

    /// Takes a slot for the app, of which `concurrency` may run at once. Waits only where it must; may be
    /// cancelled at any moment without losing a slot.
    pub(crate) async fn acquire(self: &Arc<Self>, app: AppId, concurrency: u64) -> Result<Permit, Refusal> {
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        let turn = {
            let mut lanes = self.lock();
            if self.is_closed.load(Relaxed) {
                return Err(Refusal::Draining);
            }
            match lanes.try_take(app, concurrency) {
                Ok(()) => return Ok(Permit { admission: Some(Arc::clone(self)), app }),
                Err(shortage) => {
                    let (waiter, turn) = oneshot::channel();
                    lanes.wait(app, waiter).map_err(|_| Refusal::from(shortage))?;
                    turn
                }
            }
        };
        self.waited.inc();
        let _waiting = Counted::new(&self.waiting);
        match tokio::time::timeout(self.max_wait, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Refusal::Draining),
            Err(_) => Err(self.lock().shortage(app).into()),
        }
    }

    /// Requests that hold a slot.
    pub(crate) fn running(&self) -> usize {
        self.lock().running()
    }

    /// Requests that wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Refuses everyone who waits or comes from now on.
    pub(crate) fn close(&self) {
        let mut lanes = self.lock();
        self.is_closed.store(true, Relaxed);
        lanes.dismiss();
    }

    /// Waits until no slot is held.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<oneshot::Sender<Permit>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(admission) = self.admission.take() else { return };
        let mut given_back = Some(self.app);
        loop {
            let mut lanes = admission.lock();
            if let Some(app) = given_back.take() {
                lanes.give_back(app);
            }
            let next = lanes.grant();
            let is_idle = lanes.running() == 0;
            drop(lanes);
            if is_idle {
                admission.idle.notify_waiters();
            }
            let Some((app, waiter)) = next else { return };
            let permit = Self { admission: Some(Arc::clone(&admission)), app };
            if let Err(mut permit) = waiter.send(permit) {
                // The waiter gave up at this very moment. Its slot is given back by this loop, not by dropping
                // the permit: a whole queue of such waiters would be as many nested drops.
                permit.admission = None;
                given_back = Some(app);
            }
        }
    }
}

/// Counts up, and down when dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use futures_util::{FutureExt as _, task::noop_waker_ref};

    use super::{lanes::MAX_WAITERS, *};

    const WAIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn refusals_name_what_is_used_up() {
        let admission = Admission::new(2, WAIT, Counter::default());
        let (a, b) = (AppId::generate(), AppId::generate());
        let held = admission.acquire(a, 1).await;
        assert_eq!(admission.acquire(a, 1).await.err(), Some(Refusal::AppBusy));
        let _other = admission.acquire(b, 9).await;
        assert_eq!(admission.acquire(b, 9).await.err(), Some(Refusal::NodeBusy));
        drop(held);
        assert!(admission.acquire(a, 9).await.is_ok());
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_without_waiting() {
        let admission = Admission::new(1, WAIT, Counter::default());
        let app = AppId::generate();
        let held = admission.acquire(app, 1).await;
        let mut waiters: Vec<_> = (0..MAX_WAITERS).map(|_| Box::pin(admission.acquire(app, 1))).collect();
        let mut cx = Context::from_waker(noop_waker_ref());
        for waiter in &mut waiters {
            assert!(waiter.poll_unpin(&mut cx).is_pending());
        }
        assert_eq!(admission.waiting(), MAX_WAITERS);
        assert_eq!(admission.acquire(app, 1).now_or_never().map(Result::err), Some(Some(Refusal::AppBusy)));
        // All of them give up: the next one finds the slot free.
        drop(waiters);
        drop(held);
        assert!(admission.acquire(app, 1).now_or_never().is_some_and(|permit| permit.is_ok()));
    }

    #[tokio::test]
    async fn a_slot_handed_to_a_waiter_that_gives_up_goes_on_to_the_next() {
        let admission = Admission::new(1, WAIT, Counter::default());
        let app = AppId::generate();
        let held = admission.acquire(app, 1).await;
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut first = Box::pin(admission.acquire(app, 1));
        let mut second = Box::pin(admission.acquire(app, 1));
        assert!(first.poll_unpin(&mut cx).is_pending() && second.poll_unpin(&mut cx).is_pending());
        drop(held);
        // The slot is on its way to the first, which does not take it.
        assert!(second.poll_unpin(&mut cx).is_pending());
        drop(first);
        assert!(matches!(second.poll_unpin(&mut cx), Poll::Ready(Ok(_))));
    }

    #[tokio::test]
    async fn closing_refuses_those_who_wait_and_idle_waits_for_those_who_run() {
        let admission = Admission::new(1, WAIT, Counter::default());
        let app = AppId::generate();
        let held = admission.acquire(app, 1).await;
        let waiter = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.acquire(app, 1).await.err() }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        admission.close();
        assert_eq!(waiter.await.unwrap(), Some(Refusal::Draining));
        assert_eq!(admission.acquire(app, 1).await.err(), Some(Refusal::Draining));
        let mut idle = Box::pin(admission.idle());
        assert!((&mut idle).now_or_never().is_none());
        drop(held);
        idle.await;
    }

    /// Many tasks on several threads come, wait, are cancelled and go in whatever order the machine gives.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_slot_is_lost_whoever_is_cancelled() {
        let admission = Admission::new(3, WAIT, Counter::default());
        let apps: Vec<AppId> = (0..3).map(|_| AppId::generate()).collect();
        let tasks: Vec<_> = (0..600_usize)
            .map(|n| {
                let (admission, app) = (Arc::clone(&admission), apps[n % 3]);
                tokio::spawn(async move {
                    for _ in 0..n % 5 {
                        tokio::task::yield_now().await;
                    }
                    let permit = admission.acquire(app, 2).await;
                    for _ in 0..n % 7 {
                        tokio::task::yield_now().await;
                    }
                    drop(permit);
                })
            })
            .collect();
        for task in tasks.iter().step_by(4) {
            task.abort();
        }
        for task in tasks {
            assert!(task.await.err().is_none_or(|error| error.is_cancelled()));
        }
        admission.idle().await;
        assert_eq!((admission.running(), admission.waiting()), (0, 0));
        for app in apps {
            assert!(admission.acquire(app, 1).now_or_never().is_some_and(|permit| permit.is_ok()));
        }
    }
}
