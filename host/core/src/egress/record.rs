//! What was called outside, as the history keeps it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::{EgressScheme, ErrorCode};

/// One request that left, or was refused. It has neither query, headers nor body. Each redirect that is followed is a
/// request of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRecord {
    /// The method.
    pub method: String,
    /// The scheme; `None` where the URL could not be read.
    pub scheme: Option<EgressScheme>,
    /// The host, secrets masked; empty where the URL could not be read.
    pub host: String,
    /// The port; 0 where the URL could not be read.
    pub port: u16,
    /// The path, secrets masked, cut at [`EgressRecord::PATH_BYTES`].
    pub path: String,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// Why there is no answer that could be used.
    pub error: Option<ErrorCode>,
    /// Bytes of the body that was to be sent.
    pub bytes_sent: u64,
    /// Bytes of the body that came.
    pub bytes_received: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl EgressRecord {
    /// What is kept of a path, in bytes.
    pub const PATH_BYTES: usize = 256;
}

/// What one invocation has called, re-runs included. Clones are the same log.
#[derive(Clone, Default)]
pub struct EgressLog(Arc<Mutex<Vec<EgressRecord>>>);

/// A request that is under way. Dropped before it is finished, because the invocation ended, it is kept as that.
#[derive(Debug)]
pub struct EgressEntry {
    log: EgressLog,
    record: EgressRecord,
    started: Instant,
    is_finished: bool,
}

impl fmt::Debug for EgressLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressLog({})", self.lock().len())
    }
}

impl EgressLog {
    /// A request begins. `record` has what is known of it; the rest comes when it is over.
    pub fn begin(&self, record: EgressRecord) -> EgressEntry {
        EgressEntry { log: self.clone(), record, started: Instant::now(), is_finished: false }
    }

    /// Takes what is recorded, in the order in which it ended.
    pub fn take(&self) -> Vec<EgressRecord> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EgressRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EgressEntry {
    /// An answer has begun.
    pub fn answered(&mut self, status: u16) {
        self.record.status = Some(status);
    }

    /// So many bytes of the answer's body have come.
    pub fn received(&mut self, bytes: usize) {
        self.record.bytes_received += bytes as u64;
    }

    /// It is over: all that was wanted has come, or there is an error.
    pub fn finish(mut self, error: Option<ErrorCode>) {
        self.is_finished = true;
        self.record.error = error;
    }
}

impl Drop for EgressEntry {
    fn drop(&mut self) {
        if !self.is_finished {
            self.record.error = Some(ErrorCode::EgressStopped);
        }
        self.record.duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = std::mem::replace(&mut self.record, EgressRecord::empty());
        self.log.lock().push(record);
    }
}

impl EgressRecord {
    /// A record of nothing yet.
    pub const fn empty() -> Self {
        Self {
            method: String::new(),
            scheme: None,
            host: String::new(),
            port: 0,
            path: String::new(),
            status: None,
            error: None,
            bytes_sent: 0,
            bytes_received: 0,
            duration_ms: 0,
        }
    }

    /// What it takes in memory beside its own size, in bytes.
    pub fn text_bytes(&self) -> usize {
        self.method.len() + self.host.len() + self.path.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> EgressRecord {
        EgressRecord { path: path.into(), ..EgressRecord::empty() }
    }

    #[test]
    fn what_is_given_up_is_recorded_as_stopped() {
        let log = EgressLog::default();
        let mut one = log.begin(record("/1"));
        one.answered(200);
        one.received(3);
        one.received(4);
        drop(log.begin(record("/2")));
        one.finish(None);
        log.begin(record("/3")).finish(Some(ErrorCode::EgressDenied));
        let records = log.take();
        let told: Vec<_> =
            records.iter().map(|record| (record.path.as_str(), record.status, record.error)).collect();
        assert_eq!(
            told,
            [
                ("/2", None, Some(ErrorCode::EgressStopped)),
                ("/1", Some(200), None),
                ("/3", None, Some(ErrorCode::EgressDenied)),
            ]
        );
        assert_eq!(records[1].bytes_received, 7);
        assert!(log.take().is_empty());
    }
}
