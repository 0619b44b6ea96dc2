//! The causal tree of an event: what it came of, and all that came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use picloud_core::{AppId, DeadLetterId, EventId, ExecutionId, QueueName, ScriptName, TriggerName};
use time::OffsetDateTime;
use uuid::Uuid;

use super::WaitState;
use crate::{Store, StoreError, dead_letters::Resolution, text::parse};

/// The most events of a tree.
const MAX_NODES: u16 = 1_000;

/// The most runs of a tree that are looked at; there can be several to an event.
const MAX_RUNS: u16 = 4 * MAX_NODES;

/// Where an event of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// In the outbox.
    Waiting(WaitState),
    /// It was handled.
    Done,
    /// It was given up.
    Dead(DeadLetterId, Option<Resolution>),
    /// Its last run failed, and it is tried no more: that of a request, or of one whose dead letter is gone.
    Failed,
}

impl NodeState {
    /// As clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting(state) => state.as_str(),
            Self::Done => "done",
            Self::Dead(..) => "dead",
            Self::Failed => "failed",
        }
    }
}

/// An event of a tree, or the run of a request that began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeNode {
    /// Its id. That of a request which was no event is the id of its run.
    pub id: EventId,
    /// What it came of; `None` for the root.
    pub parent: Option<EventId>,
    /// Its kind, as `OutboxKind` or `EventKind` names it; `None` where nothing but its children is left of it.
    pub kind: Option<String>,
    /// Where it is.
    pub state: NodeState,
    /// The trigger that handles it.
    pub trigger: Option<TriggerName>,
    /// The script that handles it.
    pub script: Option<ScriptName>,
    /// Its queue.
    pub queue: Option<QueueName>,
    /// How often it was tried, as far as that is known.
    pub attempts: u16,
    /// Code and message of its last failure.
    pub error: Option<(String, String)>,
    /// The last run of it that the history has.
    pub execution: Option<ExecutionId>,
    /// When it was made, or its last run began where that is not known.
    pub at: OffsetDateTime,
}

impl TreeNode {
    /// One of which nothing is left but what came of it.
    const fn gap(id: EventId, parent: Option<EventId>, at: OffsetDateTime) -> Self {
        Self {
            id,
            parent,
            kind: None,
            state: NodeState::Done,
            trigger: None,
            script: None,
            queue: None,
            attempts: 0,
            error: None,
            execution: None,
            at,
        }
    }
}

/// A causal tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its first event.
    pub root: EventId,
    /// What is known of its events: each parent before its children, which are in the order in which they were made.
    pub nodes: Vec<TreeNode>,
    /// Whether there are more than 1,000 events, and some are left out.
    pub is_cut: bool,
}

struct Row {
    /// 0 is the history, 1 the dead letters, 2 the outbox: what is further on says more of where the event is.
    source: i32,
    id: Uuid,
    parent_id: Option<Uuid>,
    kind: String,
    trigger: Option<String>,
    script: Option<String>,
    queue: Option<String>,
    attempts: Option<i16>,
    error_code: Option<String>,
    error: Option<String>,
    at: OffsetDateTime,
    execution: Option<Uuid>,
    letter: Option<Uuid>,
    resolution: Option<String>,
    state: String,
}

impl Row {
    fn state(&self) -> Result<NodeState, StoreError> {
        let resolution = self.resolution.as_deref().map(parse).transpose()?;
        match (self.letter, self.state.as_str()) {
            (Some(letter), _) => Ok(NodeState::Dead(DeadLetterId::from_uuid(letter), resolution)),
            (None, "done") => Ok(NodeState::Done),
            (None, "failed") => Ok(NodeState::Failed),
            (None, "pending") => Ok(NodeState::Waiting(WaitState::Pending)),
            (None, "scheduled") => Ok(NodeState::Waiting(WaitState::Scheduled)),
            (None, "blocked") => Ok(NodeState::Waiting(WaitState::Blocked)),
            (None, "running") => Ok(NodeState::Waiting(WaitState::Running)),
            (None, other) => Err(StoreError::Database(format!("unknown state of an event {other:?}").into())),
        }
    }

    fn found(self) -> Result<Found, StoreError> {
        let node = TreeNode {
            id: EventId::from_uuid(self.id),
            parent: self.parent_id.map(EventId::from_uuid),
            state: self.state()?,
            kind: Some(self.kind),
            trigger: self.trigger.as_deref().map(parse).transpose()?,
            script: self.script.as_deref().map(parse).transpose()?,
            queue: self.queue.filter(|queue| !queue.is_empty()).as_deref().map(parse).transpose()?,
            attempts: self.attempts.map_or(1, i16::cast_unsigned),
            error: self.error_code.zip(self.error),
            execution: self.execution.map(ExecutionId::from_uuid),
            at: self.at,
        };
        Ok(Found { source: self.source, node })
    }
}

/// What one table has of an event.
struct Found {
    source: i32,
    node: TreeNode,
}

impl Found {
    fn rank(&self) -> (i32, Option<ExecutionId>) {
        (self.source, self.node.execution)
    }
}

impl Store {
    /// The first event of the chain that an event is of, or that came of a run of the history, whose id is given in its
    /// place. `None` if nothing is known of it.
    pub async fn root_of(&self, app: AppId, event: EventId) -> Result<Option<EventId>, StoreError> {
        let root = sqlx::query_scalar!(
            r#"SELECT root_id AS "root!" FROM outbox WHERE id = $2 AND app_id = $1
            UNION ALL SELECT root_id FROM dead_letters WHERE event_id = $2 AND app_id = $1
            UNION ALL SELECT root_id FROM executions WHERE event_id = $2 AND app_id = $1 AND root_id IS NOT NULL
            UNION ALL SELECT coalesce(root_id, id) FROM executions WHERE id = $2 AND app_id = $1
            UNION ALL SELECT root_id FROM dead_letters WHERE root_id = $2 AND app_id = $1
            UNION ALL SELECT root_id FROM executions WHERE root_id = $2 AND app_id = $1
            LIMIT 1"#,
            app.as_uuid(),
            event.as_uuid(),
        );
        Ok(root.fetch_optional(&self.pool).await?.map(EventId::from_uuid))
    }

    /// The events of a chain, as far as the outbox, the dead letters and the history have them. A history that keeps
    /// only some of the runs that went well has gaps: what came of such a run is there, with a parent of which nothing
    /// else is known.
    pub async fn tree(&self, app: AppId, root: EventId) -> Result<Tree, StoreError> {
        // One statement, that no event is missed which moves between the tables.
        let rows = sqlx::query_as!(
            Row,
            r#"(
                SELECT 2 AS "source!", o.id AS "id!", o.parent_id, o.kind AS "kind!", t.name AS trigger,
                    coalesce(o.script, s.name) AS script, l.queue AS queue, o.attempts AS attempts, o.error_code, o.error,
                    o.created_at AS "at!", NULL::uuid AS execution, NULL::uuid AS letter, NULL::text AS resolution,
                    CASE WHEN o.claimed_by IS NOT NULL THEN 'running' WHEN NOT isfinite(o.run_at) THEN 'blocked'
                        WHEN o.run_at <= statement_timestamp() THEN 'pending' ELSE 'scheduled' END AS "state!"
                FROM outbox o JOIN outbox_lanes l ON l.id = o.lane_id
                LEFT JOIN queue_trigger_details q ON q.app_id = l.app_id AND q.queue = l.queue
                LEFT JOIN triggers t ON t.id = coalesce(o.trigger_id, q.trigger_id)
                LEFT JOIN scripts s ON s.id = t.script_id
                WHERE l.app_id = $1 AND o.root_id = $2 ORDER BY o.id LIMIT $3
            ) UNION ALL (
                SELECT 1, event_id, parent_id, kind, trigger_name, script, queue, attempts, error_code, left(error, 1000),
                    event_created_at, NULL, id, resolution, 'dead'
                FROM dead_letters WHERE app_id = $1 AND root_id = $2 ORDER BY id LIMIT $3
            ) UNION ALL (
                SELECT 0, coalesce(event_id, id), parent_id, kind, trigger, script, NULL, attempt, error_code,
                    left(error_message, 1000), started_at, id, NULL, NULL,
                    CASE WHEN error_code IS NULL THEN 'done' ELSE 'failed' END
                FROM executions WHERE app_id = $1 AND root_id = $2 AND id >= $5 ORDER BY id LIMIT $4
            ) UNION ALL (
                SELECT 0, id, NULL, kind, trigger, script, NULL, attempt, error_code, left(error_message, 1000), started_at,
                    id, NULL, NULL, CASE WHEN error_code IS NULL THEN 'done' ELSE 'failed' END
                FROM executions WHERE app_id = $1 AND id = $2 AND root_id IS NULL
            )"#,
            app.as_uuid(),
            root.as_uuid(),
            i64::from(MAX_NODES) + 1,
            i64::from(MAX_RUNS),
            earliest(root),
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let of_history = rows.iter().filter(|row| row.source == 0).count();
        let mut found: BTreeMap<EventId, Found> = BTreeMap::new();
        for row in rows {
            let row = row.found()?;
            let id = row.node.id;
            let row = match found.remove(&id) {
                Some(present) => merge(present, row),
                None => row,
            };
            found.insert(id, row);
        }
        let is_cut = found.len() > usize::from(MAX_NODES) || of_history >= usize::from(MAX_RUNS);
        let nodes = found.into_values().map(|found| found.node).take(usize::from(MAX_NODES)).collect();
        Ok(Tree { root, nodes: in_order(root, nodes), is_cut })
    }
}

/// No run of a chain has a smaller id: only some partitions of the history are read. Runs are younger than the first event,
/// but for that of a request that became an event after it had an id, and for clocks of nodes that differ.
fn earliest(root: EventId) -> Uuid {
    const MARGIN: Duration = Duration::from_hours(1);
    let made = root.as_uuid().get_timestamp().map_or(0, |made| {
        let (seconds, nanoseconds) = made.to_unix();
        (Duration::new(seconds, nanoseconds).saturating_sub(MARGIN)).as_millis()
    });
    // The first 48 bits of an id of version 7 are milliseconds since 1970.
    Uuid::from_u128(made << 80)
}

/// Puts together what is known of an event from two rows. What says more of where it is counts; of two runs, the later.
fn merge(a: Found, b: Found) -> Found {
    let (older, mut newer) = if a.rank() <= b.rank() { (a, b) } else { (b, a) };
    let (from, into) = (older.node, &mut newer.node);
    into.at = into.at.min(from.at);
    into.attempts = into.attempts.max(from.attempts);
    into.execution = into.execution.max(from.execution);
    into.trigger = into.trigger.take().or(from.trigger);
    into.script = into.script.take().or(from.script);
    into.queue = into.queue.take().or(from.queue);
    newer
}

/// Each parent before its children, which are in the order of their ids. A parent of which nothing is left but its
/// children gets a node of its own.
fn in_order(root: EventId, mut nodes: Vec<TreeNode>) -> Vec<TreeNode> {
    let known: BTreeSet<EventId> = nodes.iter().map(|node| node.id).collect();
    let mut gaps: BTreeMap<EventId, OffsetDateTime> = BTreeMap::new();
    for node in &nodes {
        let lacks = |id: &EventId| !known.contains(id);
        for parent in node.parent.into_iter().chain((node.id != root).then_some(root)).filter(lacks) {
            let at = gaps.entry(parent).or_insert(node.at);
            *at = node.at.min(*at);
        }
    }
    nodes.extend(gaps.into_iter().map(|(id, at)| TreeNode::gap(id, (id != root).then_some(root), at)));
    nodes.sort_by_key(|node| node.id);
    let mut children: BTreeMap<Option<EventId>, Vec<TreeNode>> = BTreeMap::new();
    for node in nodes {
        let parent = node.parent.filter(|_| node.id != root);
        children.entry(parent).or_default().push(node);
    }
    let mut ordered = Vec::new();
    let mut open = children.remove(&None).unwrap_or_default();
    open.reverse();
    while let Some(node) = open.pop() {
        open.extend(children.remove(&Some(node.id)).unwrap_or_default().into_iter().rev());
        ordered.push(node);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u128, parent: Option<u128>) -> TreeNode {
        let event = |id| EventId::from_uuid(Uuid::from_u128(id));
        let node = TreeNode::gap(event(id), parent.map(event), OffsetDateTime::UNIX_EPOCH);
        TreeNode { kind: Some("queue".into()), ..node }
    }

    fn order(root: u128, nodes: &[(u128, Option<u128>)]) -> Vec<(u128, Option<u128>, bool)> {
        let nodes = nodes.iter().map(|(id, parent)| node(*id, *parent)).collect();
        let told = |node: TreeNode| {
            let parent = node.parent.map(|parent| parent.as_uuid().as_u128());
            (node.id.as_uuid().as_u128(), parent, node.kind.is_some())
        };
        in_order(EventId::from_uuid(Uuid::from_u128(root)), nodes).into_iter().map(told).collect()
    }

    #[test]
    fn parents_come_before_their_children() {
        assert_eq!(
            order(1, &[(1, None), (2, Some(1)), (3, Some(1)), (4, Some(2)), (5, Some(3)), (6, Some(2))]),
            [
                (1, None, true),
                (2, Some(1), true),
                (4, Some(2), true),
                (6, Some(2), true),
                (3, Some(1), true),
                (5, Some(3), true)
            ]
        );
        assert_eq!(order(1, &[]), []);
    }

    #[test]
    fn what_came_of_what_is_not_kept_is_there() {
        assert_eq!(
            order(1, &[(5, Some(3)), (6, Some(3)), (7, Some(1))]),
            [
                (1, None, false),
                (3, Some(1), false),
                (5, Some(3), true),
                (6, Some(3), true),
                (7, Some(1), true)
            ]
        );
    }
}
