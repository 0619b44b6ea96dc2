//! Finished invocations on their way to the store, in batches.
//!
//! Every invocation is counted; failures, runs with logs and runs that called over HTTP are kept, and other successes up to a rate of each
//! app. What is not stored yet is bounded, however long the database is away, and what is dropped is counted.
//! While nothing finishes, nothing here wakes up.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use picloud_core::{
    EgressLog, EgressRecord, ErrorCode, EventKind, EventOrigin, ExecutionId, ExecutionRecord, Fault,
    FuelMeter, Hour, Logs, Outcome, RequestId, Usage,
};
use picloud_store::{HistoryBatch, Store, StoreError, StoredFuel};
use time::OffsetDateTime;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    directory::{AppEntry, Directory, ScriptEntry},
    metrics::Metrics,
};

/// A batch is stored when it has this many records, or is this old.
const BATCH_RECORDS: usize = 200;
const BATCH_AGE: Duration = Duration::from_millis(250);

/// The most that waits beside the batch that is being stored.
const MAX_RECORDS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How long the last batch may take at shutdown.
const LAST_FLUSH: Duration = Duration::from_secs(10);

/// Takes finished invocations.
pub(crate) struct History {
    waiting: Mutex<Waiting>,
    wake: Notify,
    successes_per_second: u32,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    batch: HistoryBatch,
    bytes: usize,
}

/// Which invocation it is.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) id: ExecutionId,
    pub(crate) request_id: RequestId,
    pub(crate) app: &'a AppEntry,
    pub(crate) script: &'a ScriptEntry,
    pub(crate) kind: EventKind,
    /// The event of the outbox that it handles.
    pub(crate) origin: Option<&'a EventOrigin>,
}

/// An invocation that has begun. Dropped before it is finished, because its client went away, it is kept as that, with the
/// fuel and the time that it used until then.
pub(crate) struct Begun<'a> {
    history: &'a History,
    run: Run<'a>,
    started_at: OffsetDateTime,
    clock: Instant,
    egress: EgressLog,
    /// Counts its fuel.
    pub(crate) spent: Arc<FuelMeter>,
    /// The invocations of the app that ran when it began, itself included.
    concurrency: u32,
    is_finished: bool,
}

/// A finished invocation.
struct Finished<'a> {
    run: Run<'a>,
    started_at: OffsetDateTime,
    concurrency: u32,
    outcome: Outcome,
    status: Option<u16>,
    usage: Usage,
    logs: Logs,
    egress: Vec<EgressRecord>,
}

impl Begun<'_> {
    /// Where the invocation records what it calls over HTTP.
    pub(crate) fn egress(&self) -> EgressLog {
        self.egress.clone()
    }

    pub(crate) fn finish(mut self, outcome: Outcome, status: Option<u16>, usage: Usage, logs: Logs) {
        self.is_finished = true;
        self.add(outcome, status, usage, logs);
    }

    fn add(&self, outcome: Outcome, status: Option<u16>, usage: Usage, logs: Logs) {
        let Self { run, started_at, concurrency, .. } = *self;
        let egress = self.egress.take();
        self.history.add(Finished { run, started_at, concurrency, outcome, status, usage, logs, egress });
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            let fault = Fault::new(ErrorCode::ClientGone, "the client went away before there was an answer");
            let usage =
                Usage { fuel: self.spent.spent(), duration: self.clock.elapsed(), ..Usage::default() };
            self.add(Outcome::Failed(fault), None, usage, Logs::default());
        }
        self.run.app.state.running.fetch_sub(1, Relaxed);
    }
}

impl Finished<'_> {
    fn record(self) -> ExecutionRecord {
        ExecutionRecord {
            id: self.run.id,
            request_id: self.run.request_id,
            app: self.run.app.id,
            script: self.run.script.name.clone(),
            version: self.run.script.version,
            kind: self.run.kind,
            origin: self.run.origin.cloned(),
            started_at: self.started_at,
            outcome: self.outcome,
            status: self.status,
            usage: self.usage,
            logs: self.logs,
            egress: self.egress,
        }
    }

    /// What its record takes in memory, roughly.
    fn size(&self) -> usize {
        let fault = match &self.outcome {
            Outcome::Succeeded => 0,
            Outcome::Failed(fault) => fault.message.len() + 256,
        };
        let logs: usize = self.logs.lines.iter().map(|line| line.message.len() + 48).sum();
        let of_call = |call: &EgressRecord| mem::size_of::<EgressRecord>() + call.text_bytes();
        let egress: usize = self.egress.iter().map(of_call).sum();
        mem::size_of::<ExecutionRecord>() + 64 + fault + logs + egress
    }
}

/// Which successes of an app are kept: the first so many of each second.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// The second in the upper half, how many were kept in it in the lower.
    window: AtomicU64,
}

impl Sampler {
    fn admits(&self, second: i64, rate: u32) -> bool {
        let second = u64::from(second.cast_unsigned() as u32);
        let window = self.window.load(Relaxed);
        let kept = if window >> 32 == second { window & u64::from(u32::MAX) } else { 0 };
        if kept >= u64::from(rate) {
            return false;
        }
        // Two at once may both be kept; the rate is a sample's, not a promise.
        self.window.store(second << 32 | (kept + 1), Relaxed);
        true
    }
}

impl History {
    pub(crate) fn new(successes_per_second: u32, metrics: Arc<Metrics>) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), successes_per_second, metrics }
    }

    /// An invocation begins.
    pub(crate) fn begin<'a>(&'a self, run: Run<'a>) -> Begun<'a> {
        let (started_at, clock) = (OffsetDateTime::now_utc(), Instant::now());
        let concurrency = run.app.state.running.fetch_add(1, Relaxed) + 1;
        let (egress, spent) = (EgressLog::default(), Arc::default());
        Begun { history: self, run, started_at, clock, egress, spent, concurrency, is_finished: false }
    }

    /// Counts a finished invocation, and keeps it if it is worth keeping.
    fn add(&self, finished: Finished<'_>) {
        let error = finished.outcome.error_code();
        self.metrics.finished(error, &finished.usage);
        let is_notable = error.is_some() || !finished.logs.lines.is_empty() || !finished.egress.is_empty();
        let second = finished.started_at.unix_timestamp();
        let is_sampled =
            is_notable || finished.run.app.state.sampler.admits(second, self.successes_per_second);
        let bytes = finished.size();
        let (app, started_at) = (finished.run.app, finished.started_at);
        app.state.fuel.spend(Hour::of(started_at), finished.usage.fuel);

        let mut waiting = self.lock();
        let was_empty = waiting.batch.is_empty();
        waiting.batch.peak(app.id, started_at, finished.concurrency);
        let has_room = waiting.batch.len() < MAX_RECORDS && waiting.bytes + bytes <= MAX_BYTES;
        if is_sampled && has_room {
            waiting.bytes += bytes;
            waiting.batch.keep(finished.record());
        } else {
            waiting.batch.count(app.id, &finished.run.script.name, started_at, error, &finished.usage);
        }
        let is_full = waiting.batch.len() == BATCH_RECORDS;
        drop(waiting);
        if is_sampled && !has_room {
            self.metrics.history_dropped.inc();
        }
        if was_empty || is_full {
            self.wake.notify_one();
        }
    }

    fn take(&self) -> HistoryBatch {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        let next = waiting.batch.successor();
        mem::replace(&mut waiting.batch, next)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores batches until `stop`, then what is left.
pub(crate) async fn write(
    history: Arc<History>,
    directory: Arc<Directory>,
    store: Store,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            () = history.wake.notified() => {}
        }
        // The first of a batch has come; the next sign is that the batch is full.
        tokio::select! {
            () = stop.cancelled() => {}
            () = history.wake.notified() => {}
            () = sleep(BATCH_AGE) => {}
        }
        let batch = history.take();
        match store_batch(&history, &store, &batch, &stop).await {
            Stored::Done(fuel) => note(&directory, &fuel),
            Stored::Stopped => break,
        }
    }
    let last = history.take();
    if !last.is_empty() {
        match timeout(LAST_FLUSH, store.store_history(&last)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => lose(&history, &last, &error),
            Err(_) => lose(&history, &last, &"the database did not answer in time"),
        }
    }
}

/// What became of a batch.
enum Stored {
    /// It is stored, or can never be. What the database has of its fuel, if that is known.
    Done(Vec<StoredFuel>),
    /// It is lost, since the node stops.
    Stopped,
}

/// Tells the ledgers of apps what is stored. Those of deleted apps are gone.
fn note(directory: &Directory, fuel: &[StoredFuel]) {
    for fuel in fuel {
        if let Some(app) = directory.by_id(fuel.app) {
            app.state.fuel.stored(fuel);
        }
    }
}

/// Stores one batch, however long the database is away.
async fn store_batch(
    history: &History,
    store: &Store,
    batch: &HistoryBatch,
    stop: &CancellationToken,
) -> Stored {
    if batch.is_empty() {
        return Stored::Done(Vec::new());
    }
    let mut retry = FIRST_RETRY;
    loop {
        match store.store_history(batch).await {
            Ok(fuel) => return Stored::Done(fuel),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => {
                if retry == FIRST_RETRY {
                    tracing::warn!(%error, "the execution history waits for the database");
                }
                if stop.is_cancelled() {
                    lose(history, batch, &error);
                    return Stored::Stopped;
                }
            }
            // Trying again would fail again, and hold up everything behind it.
            Err(error) => {
                lose(history, batch, &error);
                return Stored::Done(Vec::new());
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(retry) => {}
        }
        retry = (retry * 2).min(LAST_RETRY);
    }
}

fn lose(history: &History, batch: &HistoryBatch, error: &dyn std::fmt::Display) {
    history.metrics.history_dropped.inc_by(batch.len() as u64);
    tracing::error!(%error, records = batch.len(), "a part of the execution history is lost");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampler_keeps_so_many_a_second() {
        let sampler = Sampler::default();
        let kept = |second| (0..10).filter(|_| sampler.admits(second, 3)).count();
        assert_eq!((kept(7), kept(7), kept(8), kept(10)), (3, 0, 3, 3));
        assert!(!sampler.admits(11, 0));
    }
}
