//! Queues, topics, and what waits in the outbox.

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use picloud_core::{
    App, DeadLetterId, DedupeKey, Emission, Emitted, ErrorCode, EventId, ExecutionId, GroupKey,
    MessageOptions, QueueName, ScriptName, TopicName, TriggerName,
};
use picloud_store::{Enqueued, OutboxLimit, OutboxRow, Queue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{JSON_BYTES, PathNames, QueryOf, check_json, read_json},
    page::{Cursor, Page, PageLimit, PageQuery, start},
    store_error::from_store,
};

/// A message for a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMessage {
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    body: Box<RawValue>,
    /// Not before so long after it was sent; at most a year.
    #[serde(default)]
    #[schema(maximum = 31_536_000_000_u64)]
    delay_ms: u64,
    /// Those with more are handled first; -100 to 100. Messages of a group have none.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    priority: i16,
    /// A second message with this key within 24 hours is dropped.
    #[schema(value_type = Option<String>)]
    dedupe_key: Option<DedupeKey>,
    /// Messages of one group are handled in the order in which they were sent, one at a time.
    #[schema(value_type = Option<String>)]
    group: Option<GroupKey>,
}

/// A message that was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SentMessage {
    /// The event; that of the first message where this one was dropped.
    #[schema(value_type = uuid::Uuid)]
    id: EventId,
    /// Whether it was dropped, because a message with the same key was sent within a day.
    duplicate: bool,
}

/// What is published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPublication {
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    body: Box<RawValue>,
}

/// Who gets a publication.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Published {
    /// One event for each trigger whose pattern matches.
    #[schema(value_type = Vec<uuid::Uuid>)]
    events: Vec<EventId>,
}

/// A queue of an app.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueView {
    /// Its name.
    #[schema(value_type = String)]
    name: QueueName,
    /// The trigger that handles its messages; null: they wait.
    #[schema(value_type = Option<String>)]
    consumer: Option<TriggerName>,
    /// How many messages are handled at once in the whole installation; null: as many as the app may run.
    concurrency: Option<u32>,
    /// Since when it is paused.
    #[serde(with = "time::serde::rfc3339::option")]
    paused_at: Option<OffsetDateTime>,
    /// Messages that wait, delayed ones included; counted as far as 10,000.
    waiting: u64,
    /// Messages that are handled now.
    running: u64,
}

impl From<Queue> for QueueView {
    fn from(queue: Queue) -> Self {
        let Queue { name, consumer, concurrency, paused_at, waiting, running } = queue;
        Self { name, consumer, concurrency, paused_at, waiting, running }
    }
}

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

/// Sends a message to a queue. It waits until a trigger of the queue handles it.
#[utoipa::path(post, path = "/api/v1/apps/{app}/queues/{queue}/messages", tag = "queues", request_body = NewMessage,
    responses((status = 202, description = "It is on disk", body = SentMessage)))]
pub(crate) async fn send_message(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
    request: Request,
) -> Result<(StatusCode, Json<SentMessage>), ApiError> {
    let NewMessage { body, delay_ms, priority, dedupe_key, group } = read(&app, request).await?;
    let delay = Duration::from_millis(delay_ms);
    if delay > MessageOptions::MAX_DELAY {
        let most = MessageOptions::MAX_DELAY.as_millis();
        let detail = format!("delay_ms is {delay_ms}; the most allowed is {most} (a year)");
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("delay_ms"));
    }
    if !(MessageOptions::MIN_PRIORITY..=MessageOptions::MAX_PRIORITY).contains(&priority) {
        let detail = format!("priority is {priority}; allowed is -100 to 100");
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("priority"));
    }
    let body = checked(&app, &body)?;
    let options = MessageOptions { delay, priority, dedupe_key, group };
    let id = EventId::generate();
    let Enqueued { duplicates, .. } =
        emit(&context, &app, id, Emitted::Message { queue, body, options }).await?;
    let first = duplicates.first().map(|(_, first)| *first);
    Ok((StatusCode::ACCEPTED, Json(SentMessage { id: first.unwrap_or(id), duplicate: first.is_some() })))
}

/// Publishes on a topic, for every trigger whose pattern matches.
#[utoipa::path(post, path = "/api/v1/apps/{app}/topics/{topic}/publish", tag = "queues", request_body = NewPublication,
    responses((status = 202, description = "It is on disk for all of them", body = Published)))]
pub(crate) async fn publish(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, topic)): PathNames<(String, TopicName)>,
    request: Request,
) -> Result<(StatusCode, Json<Published>), ApiError> {
    let NewPublication { body } = read(&app, request).await?;
    let body = checked(&app, &body)?;
    let Enqueued { events, .. } =
        emit(&context, &app, EventId::generate(), Emitted::Publication { topic, body }).await?;
    Ok((StatusCode::ACCEPTED, Json(Published { events })))
}

async fn read<T: serde::de::DeserializeOwned>(app: &App, request: Request) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    read_json(&parts.headers, body, app.limits.event_bytes + JSON_BYTES).await
}

/// A body of an event, within the app's limit.
fn checked(app: &App, body: &RawValue) -> Result<std::sync::Arc<str>, ApiError> {
    check_json(body, "body")?;
    let (bytes, limit) = (body.get().len() as u64, app.limits.event_bytes);
    if bytes > limit {
        let detail = format!("the body has {bytes} bytes as JSON; the limit event_bytes is {limit}");
        return Err(ApiError::new(ErrorCode::TooLarge, detail).field("body").with("limit", limit));
    }
    Ok(body.get().into())
}

async fn emit(context: &Context, app: &App, id: EventId, what: Emitted) -> Result<Enqueued, ApiError> {
    let limit = OutboxLimit(app.limits.outbox_events);
    context.store.emit(app.id, &[Emission { id, what }], limit).await.map_err(from_store)
}

/// The queues of an app, by name.
#[utoipa::path(get, path = "/api/v1/apps/{app}/queues", tag = "queues", params(PageQuery),
    responses((status = 200, description = "A page of them", body = Page<QueueView>)))]
pub(crate) async fn list_queues(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<QueueView>>, ApiError> {
    let after: Option<QueueName> = start(query.cursor.as_ref())?;
    let found = context.store.queues(app.id, after.as_ref(), query.limit.size()).await;
    Ok(Json(Page::of(found.map_err(from_store)?, |queue| queue.name.clone(), QueueView::from)))
}

/// Pauses a queue: its messages wait until it is resumed. Those that are handled now are not stopped.
#[utoipa::path(post, path = "/api/v1/apps/{app}/queues/{queue}/pause", tag = "queues",
    responses((status = 204, description = "It is paused")))]
pub(crate) async fn pause_queue(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
) -> Result<StatusCode, ApiError> {
    set_paused(&context, &app, &queue, true).await
}

/// Lets a paused queue go on.
#[utoipa::path(post, path = "/api/v1/apps/{app}/queues/{queue}/resume", tag = "queues",
    responses((status = 204, description = "It goes on")))]
pub(crate) async fn resume_queue(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
) -> Result<StatusCode, ApiError> {
    set_paused(&context, &app, &queue, false).await
}

async fn set_paused(
    context: &Context,
    app: &App,
    queue: &QueueName,
    is_paused: bool,
) -> Result<StatusCode, ApiError> {
    if context.store.pause_queue(app.id, queue, is_paused).await.map_err(from_store)? {
        context.app_changed(app.id).await;
    }
    Ok(StatusCode::NO_CONTENT)
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
    let waiting = context.store.outbox_event(app.id, id).await.map_err(from_store)?;
    let (dead_letter_id, execution_id) = context.store.event_traces(app.id, id).await.map_err(from_store)?;
    let state = match (&waiting, dead_letter_id, execution_id) {
        (Some(row), _, _) => row.state.as_str(),
        (None, Some(_), _) => "dead",
        (None, None, Some(_)) => "done",
        (None, None, None) => match context.store.event_answer(app.id, id).await.map_err(from_store)? {
            Some(_) => "done",
            None => {
                let detail =
                    format!("the app \"{}\" has no event {id}, or it was handled and is not kept", app.name);
                return Err(ApiError::new(ErrorCode::NotFound, detail));
            }
        },
    };
    let waiting = waiting.map(OutboxView::from);
    Ok(Json(EventView { id, state, waiting, dead_letter_id, execution_id }))
}
