//! SQL: the only crate that knows sqlx. It owns the migrations, and has one module an aggregate.
//!
//! Callers see typed ids, names and limits of `picloud-core`, a [`Store`] and a [`StoreError`]. What does not
//! live here: what a failure means to a client, who may do what, and when work is done again.
//!
//! Every change of what the ingress keeps in memory (apps, limits, scripts, routes, triggers, domains, who may call,
//! secrets, variables) notifies the listeners of [`Store::changes`] in its own transaction: the news is out when the change is,
//! and is not when it is not.

mod abandoned;
mod access;
mod answers;
mod apps;
mod audit;
mod callers;
mod changes;
mod config;
mod dead_letters;
mod directory;
mod domains;
mod egress;
mod error;
mod files;
mod grants;
mod history;
mod identities;
mod kv;
mod members;
mod outbox;
mod page;
mod principals;
mod request_keys;
mod retention;
mod routes;
mod scripts;
mod secrets;
mod sessions;
mod signing_keys;
mod store;
mod text;
mod tokens;
mod triggers;
mod usage;
mod variables;

#[cfg(feature = "test-support")]
pub mod testing;

pub use abandoned::AbandonedExecution;
pub use answers::{AnswerOf, AnswerView, EventAnswer, KeptAnswer};
pub use apps::{AppRow, AppsSeen};
pub use audit::{AuditEntry, AuditFilter, NewAuditEntry};
pub use callers::{AppCaller, Lack};
pub use changes::{Change, ChangeListener};
pub use config::{DatabaseAddress, StoreConfig};
pub use dead_letters::{
    DeadLetter, DeadLetterFilter, FingerprintCount, LetterState, MAX_MANY, ManyReplayed, Replay, Replayed,
    Resolution,
};
pub use directory::{AppDirectory, DirectoryRoute, DirectoryScript, DirectoryTrigger, RouteKey};
pub use domains::{Domain, DomainCheck};
pub use error::StoreError;
pub use files::{BundleFile, BundleFiles, FileRow, PutFiles};
pub use grants::GrantsSet;
pub use history::{
    Execution, ExecutionFilter, HandledEvent, HistoryBatch, LogContent, LogEntry, LogPosition, OutcomeFilter,
};
pub use identities::{Identity, IssuedIdentity, IssuedSignIn};
pub use kv::{
    Acknowledge, CommitTerms, KvCollection, KvCommit, KvLocked, KvLocks, KvRow, KvTriggers, LONGEST_TTL,
};
pub use members::Member;
pub use outbox::{
    AppEvents, Claim, ClaimedEvent, DueLane, Enqueued, EventFault, Lane, LaneClaim, LaneId, MailQuota,
    NewEvent, NodeState, OutboxLimit, OutboxRow, OwnClaim, Queue, QueueChange, QueueConcurrency, ReplyTo,
    Rescued, Resolved, Runnable, SILENT, STALE, Settlement, Tree, TreeNode, TriggerState, Verdict, WaitState,
    Woken,
};
pub use page::{Page, PageSize};
pub use principals::{NewOwner, NewPrincipal, Principal, PrincipalChange, PrincipalKind};
pub use request_keys::{KeepAnswer, KeyHold, KeyOwner, KeyState, RequestKey};
pub use routes::{NewRoute, PutRoute, Route, RoutePatch};
pub use scripts::{
    Activation, Bundle, BundleTarget, BundleVersion, LibrarySource, ListedVersion, NewVersion, OtherScripts,
    PutBundle, PutVersion, RollBack, Script, ScriptSource, ScriptVersion, VersionCondition,
};
pub use secrets::{PlacedSecret, SecretRow, StoredSecret};
pub use sessions::{SESSION_IDLE, SESSION_LIFETIME, SessionGrant, SignInRecord};
pub use signing_keys::{SigningKey, SigningKeyInfo};
pub use store::Store;
pub use tokens::{NewToken, Token, TokenGrant, TokenHash, TokenMaker};
pub use triggers::{BundleTriggers, CronRound, CronSlot, MatchingTrigger, PutTrigger, Trigger};
pub use usage::{AppUsage, HourFuel, StoredFuel, UsageCounts, UsagePeriod, UsageRange, UsageRow};
pub use variables::Variable;
