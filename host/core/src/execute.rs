//! The `Execute` port: the seam between the sandbox and the rest of the system.
//!
//! The executor runs scripts and knows neither database nor network. Whatever an invocation needs from outside
//! it asks for through [`HostCalls`], and whatever it wants to change comes back as [`Effects`] for the caller
//! to commit.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Answer, AppId, Effects, EgressAnswer, EgressCall, EgressLog, ErrorCode, Event, ExecutionId, Fault,
    FileList, FileListQuery, FilePath, ImageKey, KvEntry, KvId, KvListQuery, KvListed, KvReads, Limits,
    ScriptName, SecretMask, SecretName, SecretValue, SourcePosition, StoredFile, Uses, VariableName,
};

/// A boxed future that may be moved between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Builds and runs scripts in the sandbox.
pub trait Execute: Send + Sync {
    /// Compiles a script inside the sandbox and makes its image. This is the only validation of an upload.
    fn build<'a>(
        &'a self,
        name: &'a ScriptName,
        source: &'a str,
        libraries: Arc<dyn Libraries>,
    ) -> BoxFuture<'a, Result<BuiltScript, BuildError>>;

    /// Runs one invocation in a fresh instance. It never fails as a call: every way to go wrong is a
    /// [`Fault`] in the completion, which is also what the history keeps.
    fn execute(&self, invocation: Invocation, host: Arc<dyn HostCalls>) -> BoxFuture<'_, Completion>;
}

/// Resolves `import "name"` while an image is built.
pub trait Libraries: Send + Sync {
    /// The source of the app's script `name`, or `None` if it has no such script.
    fn library<'a>(&'a self, name: &'a ScriptName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>>;
}

/// What an invocation may ask of the platform. Implementations know the app; a script never names one.
pub trait HostCalls: Send + Sync {
    /// The sources of an image that is not in this node's cache.
    fn sources(&self, image: ImageKey) -> BoxFuture<'_, Result<ScriptSources, HostError>>;

    /// The script of this app that `app::invoke` names; `None` if there is none.
    fn callee<'a>(&'a self, name: &'a ScriptName) -> BoxFuture<'a, Result<Option<Callee>, HostError>>;

    /// The committed entry of a key; `None` if it is absent or expired.
    fn kv_get<'a>(&'a self, id: &'a KvId) -> BoxFuture<'a, Result<Option<KvEntry>, HostError>>;

    /// Committed entries of a collection, in key order.
    fn kv_list<'a>(&'a self, query: &'a KvListQuery) -> BoxFuture<'a, Result<Vec<KvListed>, HostError>>;

    /// What is committed of a file; `None` if there is none of this path.
    fn file<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Option<StoredFile>, HostError>>;

    /// The content of a committed file. [`ErrorCode::Conflict`] if the file was replaced or removed since.
    fn file_content<'a>(&'a self, file: &'a StoredFile) -> BoxFuture<'a, Result<Bytes, HostError>>;

    /// Committed files, in byte order of their paths.
    fn file_list<'a>(&'a self, query: &'a FileListQuery) -> BoxFuture<'a, Result<FileList, HostError>>;

    /// A secret of the app, for `script`, the one that runs. [`ErrorCode::SecretNotDeclared`] where the version that
    /// runs does not declare it, [`ErrorCode::SecretNotFound`] where the app has none of this name.
    fn secret<'a>(
        &'a self,
        script: &'a ScriptName,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Arc<SecretValue>, HostError>>;

    /// A plain variable of the app; `None` if there is none of this name.
    fn variable<'a>(&'a self, name: &'a VariableName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>>;

    /// Whether there is anything that sends e-mails.
    fn can_mail(&self) -> bool;

    /// Calls another service over HTTP, and records in `log` what was called. [`ErrorCode::EgressDenied`] and
    /// [`ErrorCode::EgressAddressDenied`] where that is not allowed, [`ErrorCode::Invalid`] where the call is not of
    /// the allowed form, [`ErrorCode::EgressTimeout`], [`ErrorCode::EgressFailed`] and
    /// [`ErrorCode::ResponseTooLarge`] where no answer comes that can be given to the script.
    fn http<'a>(
        &'a self,
        call: EgressCall,
        log: &'a EgressLog,
    ) -> BoxFuture<'a, Result<EgressAnswer, HostError>>;
}

/// A host call that could not be answered. Scripts see the code and the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// Its kind.
    pub code: ErrorCode,
    /// For the script's author; no internals.
    pub message: String,
}

impl HostError {
    /// An error of `code`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Everything an image is built from.
#[derive(Clone, Debug)]
pub struct ScriptSources {
    /// The script's name.
    pub name: ScriptName,
    /// Its source.
    pub source: Arc<str>,
    /// Every library it imports, directly or not, at the pinned version.
    pub libraries: BTreeMap<ScriptName, Arc<str>>,
}

/// A script that compiled.
#[derive(Clone, Debug)]
pub struct BuiltScript {
    /// Identifies the image.
    pub image: ImageKey,
    /// Every library that went in, directly or not, sorted.
    pub imports: Vec<ScriptName>,
    /// What handles events: `on_request` and its like, or `body` where the script's body does; empty where nothing
    /// does, as in a library.
    pub handlers: Vec<String>,
    /// What its author probably did not mean, in plain words.
    pub warnings: Vec<String>,
    /// What it and its libraries use, as far as the source tells.
    pub uses: Uses,
}

/// Why a script could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The script is wrong: its author must change it.
    #[error("{message}")]
    Script {
        /// What is wrong.
        message: String,
        /// Where, if it is known.
        position: Option<SourcePosition>,
    },
    /// The platform could not build it now.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What `app::invoke` calls.
#[derive(Clone, Debug)]
pub struct Callee {
    /// The script's name.
    pub name: ScriptName,
    /// Its image.
    pub image: ImageKey,
}

/// One invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its id in the history.
    pub id: ExecutionId,
    /// The app it belongs to: which instances may share warm slots, and who waits for whom.
    pub app: AppId,
    /// The script's name, for messages.
    pub script: ScriptName,
    /// The image to run.
    pub image: ImageKey,
    /// What happened.
    pub event: Event,
    /// The limits in force.
    pub limits: Limits,
    /// Where its calls to other services are recorded.
    pub egress: EgressLog,
    /// When it must be over: the wall-clock limit, shared by re-runs and nested calls.
    pub deadline: Instant,
    /// Counts the fuel that it uses, and still does when it is given up in the middle.
    pub spent: Arc<FuelMeter>,
}

/// Counts fuel, of one invocation and all its re-runs. A completion says the same, but whoever stops waiting for one,
/// because its client went away, never sees it.
#[derive(Debug, Default)]
pub struct FuelMeter(AtomicU64);

impl FuelMeter {
    /// Adds fuel that was used.
    pub fn add(&self, fuel: u64) {
        self.0.fetch_add(fuel, Relaxed);
    }

    /// The fuel that was used so far.
    pub fn spent(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What an invocation leaves behind.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The answer, or why there is none.
    pub outcome: Result<Answer, Fault>,
    /// What it wants to change; empty where it failed.
    pub effects: Effects,
    /// What it read, to be validated when the effects are committed.
    pub reads: KvReads,
    /// What it logged, secrets masked.
    pub logs: Logs,
    /// What it used.
    pub usage: Usage,
    /// Masks the secrets that it was given. Outcome and logs are masked already; what is said of an answer later is
    /// not.
    pub mask: SecretMask,
}

impl Completion {
    /// Of an invocation that was ended from outside, or did not begin.
    pub fn failed(fault: Fault, usage: Usage) -> Self {
        Self {
            outcome: Err(fault),
            effects: Effects::default(),
            reads: KvReads::default(),
            logs: Logs::default(),
            usage,
            mask: SecretMask::default(),
        }
    }
}

/// What an invocation logged, within its budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// The lines, in order.
    pub lines: Vec<LogLine>,
    /// Whether lines were left out because the budget was used up.
    pub truncated: bool,
}

/// One line of a script's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: LogLevel,
    /// Its text.
    pub message: String,
    /// When it was written, since the invocation began.
    pub at: Duration,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the author while developing.
    Debug,
    /// The level of `print`.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// The level as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What an invocation used, nested calls included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Units of fuel.
    pub fuel: u64,
    /// From the start of the instance to its end.
    pub duration: Duration,
    /// Number of host calls.
    pub host_calls: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
    /// Whether it did something outside that cannot be undone, so that it must not be re-run.
    pub called_outside: bool,
}
