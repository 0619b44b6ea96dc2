//! What belongs to one invocation: its budgets, its view of kv data, its log.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use picloud_core::{
    EgressLog, ErrorCode, FuelMeter, HostCalls, HostError, KvSession, Libraries, Limits, LogLevel, LogLine,
    Logs, ScriptName, SecretMask, SecretName, SecretValue,
};
use wasmtime::ResourceLimiter;
use wasmtime_wasi::random::WasiRandomCtx;

use crate::{
    executor::Inner,
    fault::{Stop, cut},
};

/// Bytes that a log line costs besides its text, so that empty lines are bounded as well.
pub(crate) const LOG_LINE_BYTES: u64 = 16;

/// The data of one instance's store.
pub(crate) struct State {
    pub(crate) work: Work,
    pub(crate) memory: MemoryLimiter,
    /// Made on first use: most invocations need no randomness.
    pub(crate) random: Option<WasiRandomCtx>,
}

/// What the instance is for, and so what its host calls may do.
pub(crate) enum Work {
    /// Handles an event.
    Run(Run),
    /// Makes an image: only libraries and the capture are available.
    Build(Build),
}

/// An invocation, or one nested in it.
pub(crate) struct Run {
    pub(crate) executor: Arc<Inner>,
    pub(crate) shared: Arc<Shared>,
    /// The script that runs: what it may be given is its own, also where another one calls it.
    pub(crate) script: ScriptName,
    pub(crate) depth: u32,
}

/// What an invocation shares with those nested in it.
pub(crate) struct Shared {
    pub(crate) host: Arc<dyn HostCalls>,
    pub(crate) limits: Limits,
    pub(crate) egress: EgressLog,
    /// Counts the fuel of it all, for whoever gives it up.
    pub(crate) spent: Arc<FuelMeter>,
    pub(crate) started: Instant,
    /// Locked for moments only, never while something is awaited; it is shared so that what a run did is
    /// still there when its time is up in the middle of a nested call.
    progress: Mutex<Progress>,
}

/// What an invocation has done so far.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) kv: KvSession,
    pub(crate) logs: Logs,
    pub(crate) log_bytes: u64,
    pub(crate) host_calls: u64,
    pub(crate) host_call_bytes: u64,
    pub(crate) egress_calls: u64,
    /// Events that it made, those of failed nested calls included.
    pub(crate) events: u64,
    /// Whether something was done outside that cannot be undone.
    pub(crate) called_outside: bool,
    pub(crate) peak_memory: u64,
    pub(crate) fuel_left: u64,
    /// The secrets that were given to it.
    secrets: Vec<(SecretName, Arc<SecretValue>)>,
    /// Masks them, once that was asked for.
    mask: Option<SecretMask>,
}

impl Progress {
    /// Notes a secret that is given to the guest.
    pub(crate) fn remember(&mut self, name: SecretName, value: &Arc<SecretValue>) {
        let is_known = |known: &(SecretName, Arc<SecretValue>)| {
            known.0 == name && (Arc::ptr_eq(&known.1, value) || known.1.expose() == value.expose())
        };
        if !self.secrets.iter().any(is_known) {
            self.secrets.push((name, Arc::clone(value)));
            self.mask = None;
        }
    }

    /// Masks the secrets that were given.
    pub(crate) fn mask(&mut self) -> SecretMask {
        let secrets = self.secrets.iter().map(|(name, value)| (name, &**value));
        self.mask.get_or_insert_with(|| SecretMask::new(secrets)).clone()
    }
}

/// The making of an image.
pub(crate) struct Build {
    pub(crate) libraries: Option<Arc<dyn Libraries>>,
    /// Sources of the libraries that were imported.
    pub(crate) imported: BTreeMap<ScriptName, Arc<str>>,
    pub(crate) captured: Option<Captured>,
    /// A failure of the host that the guest cannot express.
    pub(crate) failure: Option<picloud_core::HostError>,
}

/// The guest's memory from `offset` on.
pub(crate) struct Captured {
    pub(crate) offset: u32,
    pub(crate) memory: Vec<u8>,
}

impl Shared {
    pub(crate) fn new(
        host: Arc<dyn HostCalls>,
        limits: Limits,
        egress: EgressLog,
        spent: Arc<FuelMeter>,
        started: Instant,
    ) -> Self {
        let progress = Progress { fuel_left: limits.fuel, ..Progress::default() };
        Self { host, limits, egress, spent, started, progress: Mutex::new(progress) }
    }

    /// Masks the secrets that were given until now.
    pub(crate) fn mask(&self) -> SecretMask {
        self.progress().mask()
    }

    /// Counts a call to another service. A script can catch that there were too many.
    pub(crate) fn charge_egress(&self) -> Result<(), HostError> {
        let (mut progress, limit) = (self.progress(), self.limits.egress_calls);
        if progress.egress_calls >= limit {
            let message =
                format!("http: an invocation of this app may make {limit} calls (its limit egress_calls)");
            return Err(HostError::new(ErrorCode::EgressBudget, message));
        }
        progress.egress_calls += 1;
        Ok(())
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        // A panic while it was locked failed its own invocation; the data are still whole.
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts a host call and the bytes it carries in.
    pub(crate) fn charge_call(&self, bytes: usize) -> Result<(), Stop> {
        let mut progress = self.progress();
        progress.host_calls += 1;
        if progress.host_calls > self.limits.host_calls {
            let limit = self.limits.host_calls;
            return Err(Stop::HostCallBudget(format!("more than {limit} host calls are not allowed")));
        }
        self.charge(&mut progress, bytes)
    }

    /// Counts bytes that a host call carries out.
    pub(crate) fn charge_bytes(&self, bytes: usize) -> Result<(), Stop> {
        self.charge(&mut self.progress(), bytes)
    }

    fn charge(&self, progress: &mut Progress, bytes: usize) -> Result<(), Stop> {
        progress.host_call_bytes = progress.host_call_bytes.saturating_add(bytes as u64);
        if progress.host_call_bytes > self.limits.host_call_bytes {
            let limit = self.limits.host_call_bytes;
            return Err(Stop::HostCallBudget(format!("host calls may carry {limit} bytes in all")));
        }
        Ok(())
    }

    /// Logs within the budget: what exceeds it is cut, and the cut is marked.
    pub(crate) fn log(&self, level: LogLevel, message: String) {
        let at = self.started.elapsed();
        let mut progress = self.progress();
        let left = self.limits.log_bytes.saturating_sub(progress.log_bytes);
        if left <= LOG_LINE_BYTES {
            progress.logs.truncated = true;
            return;
        }
        let fits = (left - LOG_LINE_BYTES) as usize;
        progress.logs.truncated |= message.len() > fits;
        let message = cut(message, fits);
        progress.log_bytes += LOG_LINE_BYTES + message.len() as u64;
        progress.logs.lines.push(LogLine { level, message, at });
    }
}

impl State {
    pub(crate) fn run(run: Run) -> Self {
        let memory = MemoryLimiter { limit: run.shared.limits.memory_bytes, peak: 0 };
        Self { work: Work::Run(run), memory, random: None }
    }

    pub(crate) fn build(libraries: Option<Arc<dyn Libraries>>) -> Self {
        let build = Build { libraries, imported: BTreeMap::default(), captured: None, failure: None };
        let memory = MemoryLimiter { limit: crate::engine::BUILD_MEMORY_BYTES, peak: 0 };
        Self { work: Work::Build(build), memory, random: None }
    }
}

/// Stops an instance that wants more memory than its limit, as an error of its own.
pub(crate) struct MemoryLimiter {
    limit: u64,
    pub(crate) peak: u64,
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired as u64 > self.limit {
            return Err(Stop::OutOfMemory { limit: self.limit }.into());
        }
        self.peak = self.peak.max(desired as u64);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // The guest's tables are as large as its code needs; the build checks that they never grow.
        Ok(true)
    }
}
