//! The domain of PiCloud.
//!
//! Typed ids and names, apps and scripts, limits and their ceiling, route matching, who may call, what may be called,
//! events and answers, the transactional view of key-value data and files that an invocation has, secrets and their masks,
//! error codes, and the
//! [`Execute`] port that separates the sandbox from everything else.
//!
//! What does not live here: I/O, async runtimes, SQL, WebAssembly, HTTP statuses of the platform's own errors.

mod access;
mod app;
mod capability;
mod domain;
mod egress;
mod error;
mod event;
mod execute;
mod file;
mod history;
mod ids;
mod kv;
mod limits;
mod mail;
mod mask;
mod names;
mod node;
mod route;
mod scope;
mod script;
mod secret;
mod trigger;
mod usage;
mod uses;
pub mod wording;

pub use access::{
    AccessError, AccessPatch, AccessSettings, Change, Cors, Names, Network, Networks, RateLimit, RouteAccess,
    SignatureHeader, SignatureScheme,
};
pub use app::App;
pub use capability::{
    AppRole, Capability, InstanceRole, LeastRole, UnknownAppRole, UnknownInstanceRole, role_satisfies,
};
pub use domain::{DomainChallenge, ProofMethod};
pub use egress::{
    EgressAnswer, EgressCall, EgressEntry, EgressError, EgressHost, EgressLog, EgressRecord, EgressRedirects,
    EgressRule, EgressRules, EgressScheme,
};
pub use error::{ErrorCode, Fault, SourcePosition};
pub use event::{Answer, Event, EventKind, HttpRequest, HttpResponse};
pub use execute::{
    BoxFuture, BuildError, BuiltScript, Callee, Completion, Execute, FuelMeter, HostCalls, HostError,
    Invocation, Libraries, LogLevel, LogLine, Logs, ScriptSources, Usage,
};
pub use file::{
    FileGeneration, FileList, FileListQuery, FileListed, FileNow, FileQuota, FileReads, FileSavepoint,
    FileSession, FileVersion, FileWrite, MAX_FILE_BYTES, MAX_SCRIPT_FILE_BYTES, STATIC_FOLDER, StoredFile,
    content_type_of,
};
pub use history::{EventOrigin, ExecutionRecord, Outcome};
pub use ids::{
    AppId, AuditId, DeadLetterId, DomainId, EventId, ExecutionId, IdError, IdentityId, InboxId, PrincipalId,
    RequestId, RouteId, ScriptId, ScriptVersionId, SessionId, SigningKeyId, TokenId, TriggerId, WorkerId,
};
pub use kv::{
    Effects, KvEntry, KvId, KvListQuery, KvListRead, KvListed, KvReads, KvSavepoint, KvSession, KvVersion,
    KvWrite,
};
pub use limits::{
    CeilingError, LimitError, LimitField, Limits, LimitsPatch, SandboxCeiling, ScriptLimitsPatch, UNLIMITED,
};
pub use mail::{MailAddress, MailAddressError, MailError, Mailbox, Mailer, MailerError};
pub use mask::SecretMask;
pub use names::{
    AppName, CallbackUrl, CollectionName, CollectionPattern, ContentType, DedupeKey, DomainName, FileFolder,
    FilePath, GroupKey, KvKey, MailboxName, NameError, PrincipalName, QueueName, ScriptName, SecretName,
    TopicName, TopicPattern, TriggerName, VariableName,
};
pub use node::{
    Confinement, DirectCall, DirectResult, Node, NodeStatus, Protection, Rehearsal, Rehearsed, RehearsedEvent,
};
pub use route::{
    Method, MethodSet, Params, PatternError, RouteMatch, RouteMode, RoutePattern, RouteTable, RouteTarget,
    StaticFiles, UnknownRouteMode,
};
pub use scope::{Scope, UnknownScope};
pub use script::{BODY_HANDLER, FileHash, ImageKey, SourceHash, answers_requests};
pub use secret::{SealedSecret, SecretKeyId, SecretPlace, SecretValue, SecretValueError, SecretVersion};
pub use trigger::{
    CronSource, DueSlots, Emission, Emitted, EventHead, Jitter, KvOperation, KvOperations, Lineage,
    MessageOptions, MissedRuns, OutboxKind, OutgoingMail, RetryOverrides, RetryPolicy, Schedule,
    ScheduleError, TriggerConfig, TriggerConfigError, TriggerError, TriggerKind, TriggerSource, TriggerSpec,
    UnknownTriggerKind, collection_matches,
};
pub use usage::{Hour, Latencies};
pub use uses::{Grants, UseKind, Used, Uses};
