//! Events: what waits in the outbox, what became of one, and what came of it.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use picloud_core::{App, DeadLetterId, ErrorCode, EventId, ExecutionId, QueueName, ScriptName, TriggerName};
use picloud_store::{NodeState, OutboxRow, StoreError, Tree, TreeNode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::{Caller, TargetApp},
    audit::AuditNote,
    context::Context,
    error::ApiError,
    extract::{PathNames, QueryOf},
    page::{Cursor, Page, PageLimit, start},
    store_error::from_store,
};

/// Longer than the history waits for a batch to fill.
const HISTORY_BATCH: Duration = Duration::from_millis(400);

/// An event that waits or is handled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutboxView {
    /// The event.
    #[schema(value_type = uuid::Uuid)]
    id: EventId,
    /// Its kind.
    kind: String,
    /// `pending`, `scheduled` for a later time, `blocked` by the one before it in its group, or `running`.
    state: &'static str,
    /// Its queue.
    #[schema(value_type = Option<String>)]
    queue: Option<QueueName>,
    /// The trigger that is to handle it, where that is known already.
    #[schema(value_type = Option<String>)]
    trigger: Option<TriggerName>,
    /// The script that is to handle it, where no trigger says so.
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// When it is due; null while it is blocked.
    #[serde(with = "time::serde::rfc3339::option")]
    run_at: Option<OffsetDateTime>,
    /// How often it was tried.
    attempts: u16,
    /// Why the last attempt failed.
    error: Option<LastError>,
    /// The first event of its chain.
    #[schema(value_type = uuid::Uuid)]
    root_id: EventId,
    /// The event whose handling made it.
    #[schema(value_type = Option<uuid::Uuid>)]
    parent_id: Option<EventId>,
    /// How many events of its chain came before it.
    depth: u16,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastError {
    /// The code.
    code: String,
    /// In plain words.
    message: String,
}

impl From<OutboxRow> for OutboxView {
    fn from(row: OutboxRow) -> Self {
        Self {
            id: row.event,
            kind: row.kind,
            state: row.state.as_str(),
            queue: row.queue,
            trigger: row.trigger,
            script: row.script,
            run_at: row.run_at,
            attempts: row.attempts,
            error: row.error.map(|(code, message)| LastError { code, message }),
            root_id: row.root,
            parent_id: row.parent,
            depth: row.depth,
            created_at: row.created_at,
        }
    }
}

/// What is known of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// The event.
    #[schema(value_type = uuid::Uuid)]
    id: EventId,
    /// `pending`, `scheduled`, `blocked`, `running`, `done` or `dead`.
    state: &'static str,
    /// While it waits or is handled: what is known of it.
    waiting: Option<OutboxView>,
    /// Its dead letter.
    #[schema(value_type = Option<uuid::Uuid>)]
    dead_letter_id: Option<DeadLetterId>,
    /// The last run of it that the history has kept.
    #[schema(value_type = Option<uuid::Uuid>)]
    execution_id: Option<ExecutionId>,
}

/// Which events to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OutboxQuery {
    /// Of this queue only.
    #[param(value_type = Option<String>)]
    queue: Option<QueueName>,
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// What came of an event, and what it came of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeView {
    /// The first event of the chain, or the run of the request that began it.
    #[schema(value_type = uuid::Uuid)]
    root_id: EventId,
    /// Each before those that came of it.
    events: Vec<TreeEvent>,
    /// Whether there are more than 1,000, and some are left out.
    truncated: bool,
}

/// An event of a tree.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeEvent {
    /// The event; of a request that was none, its run.
    #[schema(value_type = uuid::Uuid)]
    id: EventId,
    /// What it came of; null for the first one.
    #[schema(value_type = Option<uuid::Uuid>)]
    parent_id: Option<EventId>,
    /// Its kind. Null where nothing is kept of it but what came of it.
    kind: Option<String>,
    /// `pending`, `scheduled`, `blocked`, `running`, `done`, `dead`, or `failed` for a request that was answered with an
    /// error.
    state: &'static str,
    /// The trigger that handles it.
    #[schema(value_type = Option<String>)]
    trigger: Option<TriggerName>,
    /// The script that handles it.
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Its queue.
    #[schema(value_type = Option<String>)]
    queue: Option<QueueName>,
    /// How often it was tried, as far as that is known.
    attempts: u16,
    /// Why the last attempt failed.
    error: Option<LastError>,
    /// The last run of it that the history has.
    #[schema(value_type = Option<uuid::Uuid>)]
    execution_id: Option<ExecutionId>,
    /// Its dead letter.
    #[schema(value_type = Option<uuid::Uuid>)]
    dead_letter_id: Option<DeadLetterId>,
    /// What became of the letter.
    resolution: Option<&'static str>,
    /// When it was made, or its run began.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl From<TreeNode> for TreeEvent {
    fn from(node: TreeNode) -> Self {
        let (dead_letter_id, resolution) = match node.state {
            NodeState::Dead(letter, resolution) => (Some(letter), resolution),
            _ => (None, None),
        };
        Self {
            id: node.id,
            parent_id: node.parent,
            kind: node.kind,
            state: node.state.as_str(),
            trigger: node.trigger,
            script: node.script,
            queue: node.queue,
            attempts: node.attempts,
            error: node.error.map(|(code, message)| LastError { code, message }),
            execution_id: node.execution,
            dead_letter_id,
            resolution: resolution.map(picloud_store::Resolution::as_str),
            at: node.at,
        }
    }
}

impl From<Tree> for TreeView {
    fn from(tree: Tree) -> Self {
        let events = tree.nodes.into_iter().map(TreeEvent::from).collect();
        Self { root_id: tree.root, events, truncated: tree.is_cut }
    }
}

/// An event that was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelledEvent {
    /// Its dead letter, by which it can still be replayed; null for an event that told of a dead letter itself.
    #[schema(value_type = Option<uuid::Uuid>)]
    dead_letter_id: Option<DeadLetterId>,
}

/// What waits of an app and what is handled now, the newest first.
#[utoipa::path(get, path = "/api/v1/apps/{app}/outbox", tag = "queues", params(OutboxQuery),
    responses((status = 200, description = "A page of it", body = Page<OutboxView>)))]
pub(crate) async fn list_outbox(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<OutboxQuery>,
) -> Result<Json<Page<OutboxView>>, ApiError> {
    let before: Option<EventId> = start(query.cursor.as_ref())?;
    let found = context.store.outbox(app.id, query.queue.as_ref(), before, query.limit.size()).await;
    Ok(Json(Page::of(found.map_err(from_store)?, |row| row.event, OutboxView::from)))
}

/// Where an event is. One that was handled is known while the history or a kept answer has it.
#[utoipa::path(get, path = "/api/v1/apps/{app}/events/{id}", tag = "queues",
    responses((status = 200, description = "What is known of it", body = EventView)))]
pub(crate) async fn get_event(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, EventId)>,
) -> Result<Json<EventView>, ApiError> {
    let found = look_again(|| known(&context, &app, id)).await?;
    found.map(Json).ok_or_else(|| not_found(&app, id))
}

async fn known(context: &Context, app: &App, id: EventId) -> Result<Option<EventView>, ApiError> {
    let waiting = context.store.outbox_event(app.id, id).await.map_err(from_store)?;
    let (dead_letter_id, execution_id) = context.store.event_traces(app.id, id).await.map_err(from_store)?;
    let state = match (&waiting, dead_letter_id, execution_id) {
        (Some(row), _, _) => row.state.as_str(),
        (None, Some(_), _) => "dead",
        (None, None, Some(_)) => "done",
        (None, None, None) => match context.store.event_answer(app.id, id).await.map_err(from_store)? {
            Some(_) => "done",
            None => return Ok(None),
        },
    };
    let waiting = waiting.map(OutboxView::from);
    Ok(Some(EventView { id, state, waiting, dead_letter_id, execution_id }))
}

/// Looks for something, and once more if it is not there: the history is written in batches, so that what was handled a
/// moment ago is nowhere yet.
async fn look_again<T, F>(look: impl Fn() -> F) -> Result<Option<T>, ApiError>
where
    F: Future<Output = Result<Option<T>, ApiError>>,
{
    if let Some(found) = look().await? {
        return Ok(Some(found));
    }
    tokio::time::sleep(HISTORY_BATCH).await;
    look().await
}

/// The causal tree of an event: what it came of, and all that came of that, as far as it is known.
#[utoipa::path(get, path = "/api/v1/apps/{app}/events/{id}/tree", tag = "queues",
    responses((status = 200, description = "The tree", body = TreeView)))]
pub(crate) async fn event_tree(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, EventId)>,
) -> Result<Json<TreeView>, ApiError> {
    tree(&context, &app, id).await?.ok_or_else(|| not_found(&app, id))
}

/// The causal tree that an id leads to.
pub(super) async fn tree(
    context: &Context,
    app: &App,
    id: EventId,
) -> Result<Option<Json<TreeView>>, ApiError> {
    let root = look_again(|| async { context.store.root_of(app.id, id).await.map_err(from_store) }).await?;
    let Some(root) = root else { return Ok(None) };
    let tree = context.store.tree(app.id, root).await.map_err(from_store)?;
    Ok(Some(Json(tree.into())))
}

/// Takes back an event that waits. It becomes a dead letter that is ignored, and can be replayed.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/events/{id}", tag = "queues",
    responses((status = 200, description = "It is taken back", body = CancelledEvent)))]
pub(crate) async fn cancel_event(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, EventId)>,
) -> Result<Response, ApiError> {
    let cancelled = context.store.cancel_event(app.id, id, caller.principal.id).await;
    let dead_letter_id = cancelled.map_err(|error| match error {
        StoreError::NotFound { what: "event" } => {
            let detail = format!("no event {id} of the app \"{}\" waits", app.name);
            ApiError::new(ErrorCode::NotFound, detail)
        }
        StoreError::Conflict => {
            ApiError::new(ErrorCode::EventRunning, format!("the event {id} is being handled"))
        }
        other => from_store(other),
    })?;
    let note = AuditNote { detail: Some("cancelled".into()), ..AuditNote::default() };
    Ok((Extension(note), Json(CancelledEvent { dead_letter_id })).into_response())
}

fn not_found(app: &App, id: EventId) -> ApiError {
    let detail = format!("the app \"{}\" has no event {id}, or it was handled and is not kept", app.name);
    ApiError::new(ErrorCode::NotFound, detail)
}
