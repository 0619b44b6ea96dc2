//! The dispatcher: claims events of the outbox that are due, runs what is to handle them, and settles them.
//!
//! One loop claims, in batches and by turns of the apps, as much as can soon be run. Each app has as many runners as it
//! may have runs at once; each takes a place like any request. What had effects is settled by the commit of these; all
//! else goes through one batch after the other. While nothing is due, the loop sleeps until a wake-up, a time that is
//! known, or a scan that finds what was missed.

pub(crate) mod cron;
mod event;
mod http;
mod mail;
mod schedule;
mod script;
mod settler;
mod work;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use picloud_core::{AppId, ErrorCode, EventId, Mailer, OutboxKind, TriggerConfig};
use picloud_store::{
    ClaimedEvent, EventFault, LaneClaim, LaneId, Resolved, Runnable, Settlement, Store, StoreError, Verdict,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::invoker::Invoker;
pub(crate) use http::{Durable, Ended, StoredRequest, keep};
use schedule::Schedule;
use settler::Settler;
use work::{Task, Work};

/// What was missed is looked for so often, and not more often while nothing is due.
const SCAN: Duration = Duration::from_secs(30);

/// The same while another process has claimed something, or may have been lost with it.
const SCAN_OTHERS: Duration = Duration::from_secs(5);

/// A process that has claimed something says so often that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// A queue whose concurrency is used up by other processes is looked at again after this.
const LIMITED: Duration = Duration::from_secs(2);

/// An event that found no place waits for so long.
const BUSY: Duration = Duration::from_millis(500);

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Handles the events of the outbox.
pub(crate) struct Dispatcher {
    store: Store,
    invoker: Arc<Invoker>,
    config: TriggerConfig,
    mailer: Option<Arc<dyn Mailer>>,
    work: Arc<Work>,
    settle: Mutex<Option<Settler>>,
    last_beat: Mutex<Option<Instant>>,
    has_suspects: AtomicBool,
    runs_suspect: AtomicBool,
    /// A statement may have claimed something without its answer having come.
    may_have_strays: AtomicBool,
}

impl Dispatcher {
    /// A dispatcher, and what settles its events until the dispatcher is stopped and all are settled.
    pub(crate) fn new(
        store: Store,
        invoker: Arc<Invoker>,
        config: TriggerConfig,
        mailer: Option<Arc<dyn Mailer>>,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let work = Arc::new(Work::default());
        let (settle, settling) = Settler::new(store.clone(), Arc::clone(&work), Arc::clone(&invoker));
        let dispatcher = Self {
            store,
            invoker,
            config,
            mailer,
            work,
            settle: Mutex::new(Some(settle)),
            last_beat: Mutex::default(),
            has_suspects: AtomicBool::new(false),
            runs_suspect: AtomicBool::new(false),
            may_have_strays: AtomicBool::new(false),
        };
        (Arc::new(dispatcher), settling)
    }

    /// Claims and starts what is due, until `drain`.
    pub(crate) async fn run(self: Arc<Self>, drain: CancellationToken) {
        let mut schedule = Schedule::default();
        let mut next_scan = Instant::now();
        let mut retry = FIRST_RETRY;
        while !drain.is_cancelled() {
            match self.round(&mut schedule, &mut next_scan).await {
                Ok(true) => retry = FIRST_RETRY,
                Ok(false) => {
                    retry = FIRST_RETRY;
                    self.wait(&schedule, next_scan, &drain).await;
                }
                Err(error) => {
                    if retry == FIRST_RETRY {
                        tracing::warn!(%error, "events wait for the database");
                    }
                    // What is known may be wrong by now.
                    self.may_have_strays.store(true, Relaxed);
                    next_scan = Instant::now();
                    tokio::select! {
                        () = drain.cancelled() => {}
                        () = tokio::time::sleep(retry) => {}
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
        for task in self.work.close() {
            self.settle(&task.event, Verdict::GiveBack { delay: Duration::ZERO });
        }
    }

    /// Waits until everything that runs is settled; what outlasts `grace` is given back, so that its effects cannot be
    /// committed any more.
    pub(crate) async fn finish(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.work.idle()).await.is_err() {
            let left = self.work.all();
            tracing::warn!(events = left.len(), "events outlast the grace period and are given back");
            for (claim, app) in left {
                let verdict = Verdict::GiveBack { delay: Duration::ZERO };
                self.send(Settlement { claim, app, verdict }, 0);
            }
            if tokio::time::timeout(grace, self.work.idle()).await.is_err() {
                tracing::error!("events could not be given back; they are rescued when the node is gone");
            }
        }
        // The settler ends when there is no sender any more.
        *self.settle.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.last_beat.lock().unwrap_or_else(PoisonError::into_inner).is_some()
            && let Err(error) = self.store.leave().await
        {
            tracing::debug!(%error, "the node could not sign off");
        }
    }

    /// Says that this process lives, while it has claimed something.
    pub(crate) async fn beat_while_working(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BEAT) => {}
            }
            if self.work.claimed() == 0 {
                // Nothing is written while nothing is claimed; the next claim begins with a beat.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.work.busy() => {}
                }
                continue;
            }
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "the node could not say that it lives");
            }
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        self.store.beat().await?;
        *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// Says that this process lives, before it claims something.
    async fn beat_if_due(&self) -> Result<(), StoreError> {
        let last = *self.last_beat.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= BEAT) {
            self.beat().await?;
        }
        Ok(())
    }

    /// Looks at what is new, and claims once. Answers whether there may be more.
    async fn round(
        self: &Arc<Self>,
        schedule: &mut Schedule,
        next_scan: &mut Instant,
    ) -> Result<bool, StoreError> {
        let woken = self.store.take_woken();
        let changed = self.invoker.directory.take_changed();
        if woken.everything || changed.everything || *next_scan <= Instant::now() {
            schedule.clear();
            *next_scan = Instant::now() + self.scan(schedule).await?;
        }
        if !changed.apps.is_empty() {
            // They may have waited for a queue that was paused, or for its consumer.
            self.has_suspects.store(self.store.has_suspects().await?, Relaxed);
        }
        for app in changed.apps {
            schedule.app_changed(app);
        }
        for lane in woken.lanes {
            schedule.wake(lane);
        }
        schedule.tick(Instant::now());
        let unknown = schedule.take_unknown();
        if !unknown.is_empty() {
            schedule.learn(self.store.lanes(&unknown).await?);
        }
        let room = |app| {
            let app = self.invoker.directory.by_id(app);
            app.map_or(0, |app| self.work.room(app.id, self.invoker.concurrency(&app)))
        };
        let claims = schedule.pick(room);
        let has_begun_suspect = self.start_suspect(schedule).await?;
        if claims.is_empty() {
            return Ok(has_begun_suspect);
        }
        self.beat_if_due().await?;
        let events = self.store.claim(&claims).await?;
        let drained = drained(&claims, &events);
        for (lane, _) in &drained {
            schedule.rest(*lane);
        }
        self.start(events, schedule).await?;
        self.look_again(schedule, &drained).await?;
        Ok(true)
    }

    /// Claims an event of a process that was lost, one at a time, and starts it. Answers whether there was one.
    async fn start_suspect(self: &Arc<Self>, schedule: &mut Schedule) -> Result<bool, StoreError> {
        if !self.has_suspects.load(Relaxed) || self.runs_suspect.load(Relaxed) {
            return Ok(false);
        }
        self.beat_if_due().await?;
        let suspect = self.store.claim_suspect(schedule.had_suspects()).await?;
        let is_some = suspect.is_some();
        schedule.has_had_suspect(suspect.as_ref().map(|suspect| suspect.app));
        self.has_suspects.store(is_some, Relaxed);
        self.runs_suspect.store(is_some, Relaxed);
        self.start(suspect.into_iter().collect(), schedule).await?;
        Ok(is_some)
    }

    /// Asks when lanes of which a claim has got all that was due have something again; and of how many it got any.
    async fn look_again(
        &self,
        schedule: &mut Schedule,
        drained: &[(LaneId, usize)],
    ) -> Result<(), StoreError> {
        if drained.is_empty() {
            return Ok(());
        }
        let lanes: Vec<LaneId> = drained.iter().map(|(lane, _)| *lane).collect();
        let now = Instant::now();
        for due in self.store.next_due(&lanes).await? {
            let got_some = drained.iter().any(|(lane, claimed)| *lane == due.lane && *claimed > 0);
            match due.due_in {
                Duration::ZERO if schedule.is_limited(due.lane) => schedule.hold(due.lane, now + LIMITED),
                Duration::ZERO if got_some => schedule.wake(due.lane),
                // Something holds them, such as another process that claims.
                Duration::ZERO => schedule.wake_at(due.lane, now + BUSY),
                later => schedule.wake_at(due.lane, now + later),
            }
        }
        Ok(())
    }

    /// Reads all lanes in which something waits, and takes over from lost processes. Answers when to look again.
    async fn scan(&self, schedule: &mut Schedule) -> Result<Duration, StoreError> {
        let rescued = self.store.rescue(self.config.retry.max_attempts).await?;
        if rescued.events + rescued.dead > 0 {
            tracing::warn!(
                events = rescued.events,
                dead = rescued.dead,
                "took over events of a node that was lost"
            );
        }
        if self.may_have_strays.load(Relaxed) {
            self.give_back_strays().await?;
            self.may_have_strays.store(false, Relaxed);
        }
        self.has_suspects.store(self.store.has_suspects().await?, Relaxed);
        let now = Instant::now();
        for due in self.store.due_lanes().await? {
            if due.due_in.is_zero() {
                schedule.wake(due.lane);
            } else {
                schedule.wake_at(due.lane, now + due.due_in);
            }
        }
        Ok(if rescued.others_work { SCAN_OTHERS } else { SCAN })
    }

    /// Gives back what this process has claimed without knowing it: the connection was cut before the answer came. Nobody
    /// else would, since this process lives. Claims are made by the loop that calls this, and not meanwhile.
    async fn give_back_strays(&self) -> Result<(), StoreError> {
        let claims = self.store.own_claims().await?;
        let strays = claims.into_iter().filter(|own| !self.work.holds(own.claim.event));
        let settlements: Vec<Settlement> = strays
            .map(|own| {
                let verdict = if own.is_awaited {
                    let message = "whether it was accepted could not be told to its caller";
                    let fault = EventFault::new(ErrorCode::WorkerLost, message);
                    Verdict::Dead { fault, script: None }
                } else {
                    Verdict::GiveBack { delay: Duration::ZERO }
                };
                Settlement { claim: own.claim, app: own.app, verdict }
            })
            .collect();
        // Few at once: what they say may be large, and what is cancelled for its time would be each time.
        for few in settlements.chunks(8) {
            self.store.settle(few).await?;
        }
        Ok(())
    }

    async fn wait(&self, schedule: &Schedule, next_scan: Instant, drain: &CancellationToken) {
        let until = schedule.next_time().map_or(next_scan, |time| time.min(next_scan));
        tokio::select! {
            () = drain.cancelled() => {}
            () = self.store.woken() => {}
            () = self.work.freed() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Starts what was claimed.
    async fn start(
        self: &Arc<Self>,
        events: Vec<ClaimedEvent>,
        schedule: &Schedule,
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let lanes = events.iter().map(|event| event.lane);
        let limited: BTreeSet<LaneId> = lanes.filter(|lane| schedule.is_limited(*lane)).collect();
        let resolved = match self.store.resolve(&events).await {
            Ok(resolved) => resolved,
            Err(error) => {
                // They are claimed; without this they would wait until this process ends.
                for event in &events {
                    self.work.hold(event, None);
                    self.settle(event, Verdict::GiveBack { delay: BUSY });
                }
                return Err(error);
            }
        };
        let mut by_app: Vec<(AppId, Vec<Task>)> = Vec::new();
        for event in events {
            let app = event.app;
            self.work.hold(&event, limited.contains(&event.lane).then_some(event.lane));
            match self.check(&event, &resolved) {
                Err(fault) => self.settle(&event, Verdict::Dead { fault, script: None }),
                Ok(trigger) => {
                    let task = Task { event, trigger };
                    match by_app.iter_mut().find(|(of, _)| *of == app) {
                        Some((_, tasks)) => tasks.push(task),
                        None => by_app.push((app, vec![task])),
                    }
                }
            }
        }
        for (app, tasks) in by_app {
            for _ in 0..self.work.add(app, tasks) {
                let dispatcher = Arc::clone(self);
                tokio::spawn(async move {
                    while let Some(task) = dispatcher.work.next(app) {
                        dispatcher.handle(task).await;
                    }
                });
            }
        }
        Ok(())
    }

    /// Whether an event may be handled, and by which trigger.
    fn check(&self, event: &ClaimedEvent, resolved: &Resolved) -> Result<Option<Arc<Runnable>>, EventFault> {
        if event.lineage.depth > self.config.max_depth {
            let message = format!(
                "the event is the {}th of its chain; at most {} may come of the first (PICLOUD_MAX_TRIGGER_DEPTH)",
                event.lineage.depth, self.config.max_depth
            );
            return Err(EventFault::new(ErrorCode::TriggerDepth, message));
        }
        if !matches!(event.kind, OutboxKind::Trigger(_)) || event.script.is_some() {
            return Ok(None);
        }
        let Some(trigger) = resolved.of(event) else {
            return Err(EventFault::new(ErrorCode::TriggerNotFound, "the trigger of the event is gone"));
        };
        event::refusal(trigger.state).map_or_else(|| Ok(Some(Arc::clone(trigger))), Err)
    }

    async fn handle(self: &Arc<Self>, task: Task) {
        let began = Instant::now();
        let event = &task.event;
        let handled = match event.kind {
            OutboxKind::Trigger(kind) => Box::pin(self.run_script(&task, kind)).await,
            OutboxKind::Http => Box::pin(self.run_async(&task)).await,
            OutboxKind::Callback => Handled::Verdict(Box::pin(self.call_back(event)).await),
            OutboxKind::Mail => Handled::Verdict(self.send_mail(event).await),
        };
        self.work.ran(event.app, began.elapsed(), event.payload.len());
        if event.is_suspect {
            self.runs_suspect.store(false, Relaxed);
        }
        match handled {
            Handled::Verdict(verdict) => self.settle(event, verdict),
            Handled::Settled => self.ended(event.claim.event),
        }
    }

    /// An event has left the outbox without the settler.
    fn ended(&self, event: EventId) {
        self.invoker.metrics.event_done();
        settler::free(&self.store, &self.work, event);
    }

    fn settle(&self, event: &ClaimedEvent, verdict: Verdict) {
        if event.is_suspect {
            self.runs_suspect.store(false, Relaxed);
        }
        self.send(Settlement { claim: event.claim, app: event.app, verdict }, event.payload.len());
    }

    /// Has an event settled that says so many bytes.
    fn send(&self, settlement: Settlement, bytes: usize) {
        let event = settlement.claim.event;
        let settler = self.settle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = settler.as_ref().is_some_and(|settler| settler.send(settlement, bytes));
        drop(settler);
        if !is_taken {
            // The node has stopped; the event is rescued.
            let _ = self.work.settled(event);
        }
    }
}

/// What a run has led to.
enum Handled {
    /// The event is to be settled so.
    Verdict(Verdict),
    /// It left the outbox with its effects, or was taken by another process.
    Settled,
}

/// The lanes of which a claim has got less than it asked for, and how much it got.
fn drained(claims: &[LaneClaim], events: &[ClaimedEvent]) -> Vec<(LaneId, usize)> {
    let claimed = |claim: &LaneClaim| events.iter().filter(|event| event.lane == claim.lane).count();
    let drained = claims.iter().map(|claim| (claim.lane, claimed(claim), claim.most as usize));
    drained.filter(|(_, claimed, most)| claimed < most).map(|(lane, claimed, _)| (lane, claimed)).collect()
}
