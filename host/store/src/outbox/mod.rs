//! The outbox: events that are to be handled, from the transaction that makes them to the one that ends them.
//!
//! Events wait in lanes. A claim reads the beginning of some lanes by an index, so that it costs the same however many
//! events wait; which lanes have something is known to the processes that handle events, and read from the index again
//! now and then. Whoever has claimed an event says so with each thing it does to it: process and attempt must still be
//! those of the claim, or else nothing is done.

mod backlog;
mod cancel;
mod claim;
mod emit;
mod groups;
mod insert;
mod lanes;
mod mail;
mod queues;
mod read;
mod resolve;
mod settle;
mod tree;
mod wakes;
mod workers;

use std::time::Duration;

use picloud_core::{
    AppId, DeadLetterId, DedupeKey, EventId, GroupKey, InboxId, Lineage, OutboxKind, QueueName, ScriptName,
    TriggerId, WorkerId,
};
use time::OffsetDateTime;

pub(crate) use backlog::Backlog;
pub use backlog::OutboxLimit;
pub use claim::LaneClaim;
pub(crate) use emit::{Cause, Emitting, KvEvents, emit};
pub use insert::Enqueued;
pub(crate) use insert::{Inserted, insert};
pub(crate) use lanes::LaneCache;
pub use lanes::{DueLane, Lane};
pub use mail::{AppEvents, MailQuota};
pub(crate) use queues::check_queue_count;
pub use queues::{Queue, QueueChange, QueueConcurrency};
pub use read::{OutboxRow, WaitState};
pub use resolve::{Resolved, Runnable, TriggerState};
pub use settle::{EventFault, Settlement, Verdict};
pub(crate) use settle::{Removed, acknowledge};
pub use tree::{NodeState, Tree, TreeNode};
pub use wakes::Woken;
pub(crate) use wakes::{CHANNEL, Wakes};
pub use workers::{OwnClaim, Rescued, SILENT, STALE};
pub(crate) use workers::{membership_class, membership_key};

/// Identifies a lane (table `outbox_lanes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub(crate) i64);

impl LaneId {
    pub(crate) const fn from_i64(id: i64) -> Self {
        Self(id)
    }
}

/// An event that is to be handled.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// What it is.
    pub kind: OutboxKind,
    /// The trigger that is to handle it, where that is known already.
    pub trigger: Option<TriggerId>,
    /// The script that is to handle it, where no trigger says so.
    pub script: Option<ScriptName>,
    /// The script's version, where it is not the active one.
    pub version: Option<i32>,
    /// The queue that it waits in.
    pub queue: Option<QueueName>,
    /// Those with more go first; -100 to 100. Messages of a group have none.
    pub priority: i16,
    /// A JSON object as text.
    pub payload: String,
    /// How long it waits at least.
    pub delay: Duration,
    /// A second message of the queue with this key within a day is dropped.
    pub dedupe_key: Option<DedupeKey>,
    /// Messages of one group are handled one after the other.
    pub group: Option<GroupKey>,
    /// Where it stands in its chain.
    pub lineage: Lineage,
    /// The caller that waits for its answer.
    pub reply: Option<ReplyTo>,
    /// The dead letter that it tells of.
    pub dead_letter: Option<DeadLetterId>,
}

impl NewEvent {
    /// An event of this kind that starts a chain, to be handled at once.
    pub fn new(kind: OutboxKind, payload: String) -> Self {
        let id = EventId::generate();
        Self {
            id,
            kind,
            trigger: None,
            script: None,
            version: None,
            queue: None,
            priority: 0,
            payload,
            delay: Duration::ZERO,
            dedupe_key: None,
            group: None,
            lineage: Lineage::root(id),
            reply: None,
            dead_letter: None,
        }
    }
}

/// Where the answer to an event is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The inbox.
    pub inbox: InboxId,
    /// The process that has it. It has claimed the event from the beginning, and no other handles it.
    pub node: WorkerId,
}

/// The right of a process to handle an event, for as long as nobody has taken it from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The event.
    pub event: EventId,
    /// The process.
    pub worker: WorkerId,
    /// Which attempt it is, from 1.
    pub attempt: u16,
}

/// An event that was claimed.
#[derive(Clone, Debug)]
pub struct ClaimedEvent {
    /// The right to handle it.
    pub claim: Claim,
    /// Its app.
    pub app: AppId,
    /// The lane that it was in.
    pub lane: LaneId,
    /// What it is.
    pub kind: OutboxKind,
    /// The trigger that is to handle it; `None` for messages of a queue, and where `script` says what handles it.
    pub trigger: Option<TriggerId>,
    /// The script that is to handle it.
    pub script: Option<ScriptName>,
    /// The script's version, where it is not the active one.
    pub version: Option<i32>,
    /// A JSON object as text.
    pub payload: String,
    /// Its group.
    pub group: Option<GroupKey>,
    /// Where it stands in its chain.
    pub lineage: Lineage,
    /// The caller that waits for its answer.
    pub reply_to: Option<InboxId>,
    /// The dead letter that it tells of.
    pub dead_letter: Option<DeadLetterId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Whether the process that handled it before was lost.
    pub is_suspect: bool,
}
