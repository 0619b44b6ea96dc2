//! One invocation from the `Execute` port to its commit.
//!
//! The first attempt is optimistic. If something it read was changed before it could commit, it is done again
//! under the locks of what it touched, so that nobody comes in between; at most three times, within the one
//! deadline, and never after it has done something outside that cannot be undone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use picloud_core::{
    Answer, Completion, Effects, EgressLog, ErrorCode, Event, Execute, ExecutionId, Fault, FileQuota,
    FuelMeter, Invocation, KvReads, Limits, Logs, Usage,
};
use picloud_store::{
    Acknowledge, AnswerOf, CommitTerms, KeptAnswer, KvCommit, KvLocked, KvLocks, MailQuota, OutboxLimit,
    Store, StoreError,
};

use crate::{
    directory::{AppEntry, ScriptEntry},
    host::describe,
};

/// How often a run is done again after a conflict.
const MAX_RERUNS: u32 = 3;

/// Runs scripts and commits what they want to change.
pub(crate) struct Runner {
    executor: Arc<dyn Execute>,
    store: Store,
}

/// What to run.
pub(crate) struct Job<'a> {
    pub(crate) app: &'a AppEntry,
    pub(crate) script: &'a ScriptEntry,
    pub(crate) execution: ExecutionId,
    /// Where all attempts record what they call over HTTP.
    pub(crate) egress: EgressLog,
    /// Counts what all attempts use.
    pub(crate) spent: &'a Arc<FuelMeter>,
    /// The event of the outbox that it handles: it leaves the outbox with what the run commits.
    pub(crate) acknowledge: Option<Acknowledge>,
    /// The answer that is kept with what the run commits.
    pub(crate) keep: Option<Keep<'a>>,
}

/// An answer to be kept.
pub(crate) struct Keep<'a> {
    pub(crate) of: AnswerOf,
    /// Filled by whoever accepts the answer.
    pub(crate) answer: &'a Mutex<Option<KeptAnswer>>,
}

impl Keep<'_> {
    fn take(&self) -> Option<(AnswerOf, KeptAnswer)> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((self.of.clone(), answer))
    }
}

/// How a run ended.
pub(crate) struct Ran<T> {
    /// What was accepted of the answer, its effects committed; or why nothing was.
    pub(crate) outcome: Result<T, Fault>,
    /// What the last attempt logged.
    pub(crate) logs: Logs,
    /// What all attempts used.
    pub(crate) usage: Usage,
    /// What became of the event that it handled.
    pub(crate) fate: Fate,
}

/// What became of the event of the outbox that a run has handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing yet: there was nothing to commit, or no event.
    Open,
    /// It left the outbox with the commit.
    Committed,
    /// Another process had taken it, so that nothing was committed.
    Superseded,
}

/// Why an attempt's effects are not committed.
enum Refused {
    Conflict,
    Superseded,
    Fault(Fault),
}

impl From<Fault> for Refused {
    /// The database reports a deadlock or a failed serialization as a conflict too.
    fn from(fault: Fault) -> Self {
        if fault.code == ErrorCode::Conflict { Self::Conflict } else { Self::Fault(fault) }
    }
}

impl Runner {
    pub(crate) fn new(executor: Arc<dyn Execute>, store: Store) -> Self {
        Self { executor, store }
    }

    /// Runs a job. `event` makes the event of each attempt; `accept` checks an answer before its effects are
    /// committed, so that what cannot be answered has no effect.
    pub(crate) async fn run<T>(
        &self,
        job: Job<'_>,
        event: impl Fn() -> Event,
        accept: impl Fn(Answer) -> Result<T, Fault>,
    ) -> Ran<T> {
        let deadline = Instant::now() + Duration::from_millis(job.script.limits.wall_ms);
        let mut usage = Usage::default();
        let mut locks = None;
        let mut reruns = 0;
        loop {
            // What most runs never need is boxed: with room for every statement to the database, the future of a request
            // would have 12 KB in place of 3.
            let locked = match &locks {
                None => Ok(None),
                Some(locks) => Box::pin(self.lock(&job, locks, deadline)).await.map(Some),
            };
            let locked = match locked {
                Ok(locked) => locked,
                Err(fault) => {
                    return Ran { outcome: Err(fault), logs: Logs::default(), usage, fate: Fate::Open };
                }
            };
            let completion = self.attempt(&job, event(), deadline).await;
            add(&mut usage, &completion.usage);
            let Completion { outcome, effects, reads, logs, mask, .. } = completion;
            // What is wrong with an answer is said with parts of it.
            let outcome = outcome.and_then(&accept).map_err(|mut fault| {
                mask.fault(&mut fault);
                fault
            });
            if was_overtaken(&outcome) && reruns < MAX_RERUNS && !usage.called_outside {
                // It was told of a file that was gone before its content was read. With the files to itself, none goes.
                locks.get_or_insert_with(KvLocks::default).merge(&KvLocks::for_files());
                reruns += 1;
                continue;
            }
            let effects = if outcome.is_ok() { effects } else { Effects::default() };
            let answer = job.keep.as_ref().and_then(Keep::take).filter(|_| outcome.is_ok());
            if answer.is_none() && !needs_commit(&outcome, &reads, &effects) {
                return Ran { outcome, logs, usage, fate: Fate::Open };
            }
            // A failed run is only checked; its event stays.
            let acknowledge = job.acknowledge.filter(|_| outcome.is_ok());
            match Box::pin(self.commit(&job, locked, &reads, &effects, (acknowledge, answer), deadline)).await
            {
                Ok(()) => {
                    let fate = if acknowledge.is_some() { Fate::Committed } else { Fate::Open };
                    return Ran { outcome, logs, usage, fate };
                }
                Err(Refused::Superseded) => {
                    let fault = Fault::new(ErrorCode::WorkerLost, "the event was taken over by another node");
                    return Ran { outcome: Err(fault), logs, usage, fate: Fate::Superseded };
                }
                Err(Refused::Conflict) if reruns < MAX_RERUNS && !usage.called_outside => {
                    locks.get_or_insert_with(KvLocks::default).merge(&KvLocks::for_rerun(&reads, &effects));
                    reruns += 1;
                }
                Err(Refused::Conflict) => {
                    return Ran { outcome: Err(conflict()), logs, usage, fate: Fate::Open };
                }
                Err(Refused::Fault(fault)) => {
                    return Ran { outcome: Err(fault), logs, usage, fate: Fate::Open };
                }
            }
        }
    }

    /// Runs a job once and commits nothing. Calls to other services are refused, since they could not be taken back.
    pub(crate) async fn rehearse(&self, job: Job<'_>, event: Event) -> Completion {
        let deadline = Instant::now() + Duration::from_millis(job.script.limits.wall_ms);
        let limits = Limits { egress_calls: 0, ..job.script.limits };
        self.attempt_within(&job, event, limits, deadline).await
    }

    async fn attempt(&self, job: &Job<'_>, event: Event, deadline: Instant) -> Completion {
        self.attempt_within(job, event, job.script.limits, deadline).await
    }

    async fn attempt_within(
        &self,
        job: &Job<'_>,
        event: Event,
        limits: Limits,
        deadline: Instant,
    ) -> Completion {
        let invocation = Invocation {
            id: job.execution,
            app: job.app.id,
            script: job.script.name.clone(),
            image: job.script.image,
            event,
            limits,
            egress: job.egress.clone(),
            deadline,
            spent: Arc::clone(job.spent),
        };
        let (began, spent) = (Instant::now(), job.spent.spent());
        tokio::select! {
            completion = self.executor.execute(invocation, Arc::clone(&job.app.host)) => completion,
            () = job.app.state.gone.cancelled() => {
                let fuel = job.spent.spent().saturating_sub(spent);
                let usage = Usage { fuel, duration: began.elapsed(), ..Usage::default() };
                Completion::failed(Fault::new(ErrorCode::AppNotFound, "the app was deleted meanwhile"), usage)
            }
        }
    }

    async fn lock(&self, job: &Job<'_>, locks: &KvLocks, deadline: Instant) -> Result<KvLocked, Fault> {
        within(deadline, self.store.kv_begin_locked(job.app.id, locks)).await
    }

    async fn commit(
        &self,
        job: &Job<'_>,
        locked: Option<KvLocked>,
        reads: &KvReads,
        effects: &Effects,
        (acknowledge, answer): (Option<Acknowledge>, Option<(AnswerOf, KeptAnswer)>),
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (app, limit) = (job.app.id, job.app.limits.kv_bytes);
        let kv = &job.app.state.kv;
        let room = within(deadline, kv.check(&self.store, app, effects, limit)).await?;
        if let Err(over) = room {
            let message = format!(
                "the app has {} bytes of kv data and the run writes {}; the limit is {limit}",
                over.used, over.wanted
            );
            return Err(Refused::Fault(Fault::new(ErrorCode::KvQuota, message)));
        }
        let terms = CommitTerms {
            files: FileQuota::of(&job.app.limits),
            outbox: OutboxLimit::of(&job.app.limits),
            kv_triggers: job.app.kv_triggers,
            mails: MailQuota(job.app.limits.mails_per_day),
            execution: Some(job.execution),
            acknowledge,
            answer,
        };
        let commit = async {
            match locked {
                Some(locked) => locked.commit(reads, effects, terms).await,
                None => self.store.kv_commit(app, reads, effects, terms).await,
            }
        };
        match within(deadline, commit).await? {
            KvCommit::Committed { bytes_delta } => {
                kv.add(bytes_delta);
                Ok(())
            }
            KvCommit::Conflict => Err(Refused::Conflict),
            KvCommit::Superseded => Err(Refused::Superseded),
        }
    }
}

/// Whether there is anything to write, or to check. A script that failed by itself is checked as well: what it
/// stumbled over may have been two moments of the data seen as one.
fn needs_commit<T>(outcome: &Result<T, Fault>, reads: &KvReads, effects: &Effects) -> bool {
    match outcome {
        Ok(_) => !effects.is_empty() || !reads.is_single(),
        Err(fault) => fault.code == ErrorCode::ScriptError && !reads.is_single(),
    }
}

/// Whether a run ended because something was changed while it read.
fn was_overtaken<T>(outcome: &Result<T, Fault>) -> bool {
    outcome.as_ref().is_err_and(|fault| fault.code == ErrorCode::Conflict)
}

/// Waits for the store, but not beyond the deadline.
async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Fault> {
    match tokio::time::timeout_at(deadline.into(), work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(StoreError::Conflict)) => Err(conflict()),
        Ok(Err(error)) => {
            let (code, message) = describe(&error);
            Err(Fault::new(code, message))
        }
        Err(_) => {
            Err(Fault::new(ErrorCode::DeadlineExceeded, "the wall-clock limit was reached while committing"))
        }
    }
}

fn conflict() -> Fault {
    Fault::new(ErrorCode::Conflict, "other invocations kept changing what this one had read")
}

fn add(total: &mut Usage, attempt: &Usage) {
    total.fuel = total.fuel.saturating_add(attempt.fuel);
    total.duration = total.duration.saturating_add(attempt.duration);
    total.host_calls = total.host_calls.saturating_add(attempt.host_calls);
    total.memory_bytes = total.memory_bytes.max(attempt.memory_bytes);
    total.called_outside |= attempt.called_outside;
}
