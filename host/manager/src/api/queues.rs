//! Queues, topics, and what waits in the outbox.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use picloud_core::{
    App, DedupeKey, Emission, Emitted, ErrorCode, EventId, GroupKey, MessageOptions, QueueName, TopicName,
    TriggerName, TriggerSource,
};
use picloud_store::{
    Enqueued, KeepAnswer, KeptAnswer, KeyHold, OutboxLimit, Queue, QueueChange, QueueConcurrency,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{OneOfBuilder, Ref, RefOr, Schema},
};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{JSON_BYTES, JsonBody, Object, PathNames, QueryOf, check_json, read_json},
    idempotency::{json_answer, respond},
    page::{Page, PageQuery, start},
    store_error::from_store,
};

/// The most messages that are sent at once.
const MAX_BATCH: usize = 100;

/// The most bytes of a request with several messages.
const BATCH_BYTES: u64 = 8 << 20;

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

/// What is sent to a queue: one message, or `messages` with several.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Posted")]
pub(crate) enum NewMessages {
    /// One.
    One(NewMessage),
    /// 1 to 100 of them, all or none.
    Many(Vec<NewMessage>),
}

/// Several messages, which are sent all or none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of one of two forms")]
pub(crate) struct Batch {
    /// The messages.
    #[schema(min_items = 1, max_items = 100)]
    messages: Vec<NewMessage>,
}

impl PartialSchema for NewMessages {
    fn schema() -> RefOr<Schema> {
        let forms = OneOfBuilder::new()
            .item(Ref::from_schema_name(NewMessage::name()))
            .item(Ref::from_schema_name(Batch::name()));
        forms.description(Some("One message, or 1 to 100 of them, all or none.")).into()
    }
}

impl ToSchema for NewMessages {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, schema) in [(NewMessage::name(), NewMessage::schema()), (Batch::name(), Batch::schema())] {
            schemas.push((name.into(), schema));
        }
    }
}

/// Both forms together, so that an error names the field that is wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    messages: Option<Vec<Object<NewMessage>>>,
    #[serde(default, deserialize_with = "given")]
    body: Option<Box<RawValue>>,
    delay_ms: Option<u64>,
    priority: Option<i16>,
    dedupe_key: Option<DedupeKey>,
    group: Option<GroupKey>,
}

impl TryFrom<Posted> for NewMessages {
    type Error = &'static str;

    fn try_from(posted: Posted) -> Result<Self, Self::Error> {
        let Posted { messages, body, delay_ms, priority, dedupe_key, group } = posted;
        let is_single = body.is_some()
            || delay_ms.is_some()
            || priority.is_some()
            || dedupe_key.is_some()
            || group.is_some();
        match (messages, body) {
            (Some(_), _) if is_single => Err("messages: give the fields of a message, or messages, not both"),
            (Some(messages), _) => {
                Ok(Self::Many(messages.into_iter().map(|Object(message)| message).collect()))
            }
            (None, Some(body)) => {
                let (delay_ms, priority) = (delay_ms.unwrap_or_default(), priority.unwrap_or_default());
                Ok(Self::One(NewMessage { body, delay_ms, priority, dedupe_key, group }))
            }
            (None, None) => Err("body: the field is missing; null is a body too"),
        }
    }
}

/// Several messages that were sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SentMessages {
    /// In the order in which they were given.
    messages: Vec<SentMessage>,
}

/// What was sent: as one message was given, or several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Sent {
    /// One.
    One(SentMessage),
    /// Several.
    Many(SentMessages),
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

/// What is to be set of a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueChanges {
    /// Whether its messages wait.
    paused: Option<bool>,
    /// How many messages are handled at once in the whole installation, 1 to 10,000; null: as many as the app may run.
    #[serde(default, deserialize_with = "concurrency")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    concurrency: QueueConcurrency,
}

fn concurrency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueConcurrency, D::Error> {
    let given = Option::deserialize(deserializer)?;
    Ok(given.map_or(QueueConcurrency::Unlimited, QueueConcurrency::Limited))
}

/// What is given, be it null.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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

/// Sends messages to a queue. They wait until a trigger of the queue handles them.
#[utoipa::path(post, path = "/api/v1/apps/{app}/queues/{queue}/messages", tag = "queues", request_body = NewMessages,
    responses((status = 202, description = "They are on disk", body = Sent)))]
pub(crate) async fn send_message(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
    hold: Option<Extension<KeyHold>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (messages, is_batch) = match read(request, app.limits.event_bytes.max(BATCH_BYTES)).await? {
        NewMessages::One(message) => (vec![message], false),
        NewMessages::Many(messages) => (messages, true),
    };
    if !(1..=MAX_BATCH).contains(&messages.len()) {
        let detail = format!("there are {} messages; allowed is 1 to {MAX_BATCH}", messages.len());
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("messages"));
    }
    let emission = |(at, message): (usize, NewMessage)| {
        let what = message.emitted(&app, &queue);
        let what =
            what.map_err(
                |error| if is_batch { error.preceded_by(&format!("messages[{at}]: ")) } else { error },
            )?;
        Ok(Emission { id: EventId::generate(), what })
    };
    let emissions = messages.into_iter().enumerate().map(emission).collect::<Result<Vec<_>, ApiError>>()?;
    let answer = |enqueued: &Enqueued| {
        let sent = |emission: &Emission| {
            let mut dropped = enqueued.duplicates.iter().filter(|(dropped, _)| *dropped == emission.id);
            let first = dropped.next().map(|(_, first)| *first);
            SentMessage { id: first.unwrap_or(emission.id), duplicate: first.is_some() }
        };
        let mut messages: Vec<SentMessage> = emissions.iter().map(sent).collect();
        let sent = match messages.pop() {
            Some(only) if !is_batch => Sent::One(only),
            last => {
                messages.extend(last);
                Sent::Many(SentMessages { messages })
            }
        };
        json_answer(StatusCode::ACCEPTED, &sent)
    };
    emit(&context, &app, &emissions, hold.as_deref(), &answer).await
}

/// Publishes on a topic, for every trigger whose pattern matches.
#[utoipa::path(post, path = "/api/v1/apps/{app}/topics/{topic}/publish", tag = "queues", request_body = NewPublication,
    responses((status = 202, description = "It is on disk for all of them", body = Published)))]
pub(crate) async fn publish(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, topic)): PathNames<(String, TopicName)>,
    hold: Option<Extension<KeyHold>>,
    request: Request,
) -> Result<Response, ApiError> {
    let NewPublication { body } = read(request, app.limits.event_bytes).await?;
    let what = Emitted::Publication { topic, body: checked(&app, &body)? };
    let emission = Emission { id: EventId::generate(), what };
    let answer = |enqueued: &Enqueued| {
        json_answer(StatusCode::ACCEPTED, &Published { events: enqueued.events.clone() })
    };
    emit(&context, &app, &[emission], hold.as_deref(), &answer).await
}

async fn read<T: serde::de::DeserializeOwned>(request: Request, most: u64) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    read_json(&parts.headers, body, most + JSON_BYTES).await
}

impl NewMessage {
    fn emitted(self, app: &App, queue: &QueueName) -> Result<Emitted, ApiError> {
        let Self { body, delay_ms, priority, dedupe_key, group } = self;
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
        let options = MessageOptions { delay, priority, dedupe_key, group };
        Ok(Emitted::Message { queue: queue.clone(), body: checked(app, &body)?, options })
    }
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

/// Makes events, and answers what became of them.
pub(super) async fn emit(
    context: &Context,
    app: &App,
    emissions: &[Emission],
    hold: Option<&KeyHold>,
    answer: &(dyn Fn(&Enqueued) -> KeptAnswer + Send + Sync),
) -> Result<Response, ApiError> {
    let limit = OutboxLimit::of(&app.limits);
    let keep = hold.map(|hold| KeepAnswer { hold, answer });
    let enqueued = context.store.emit(app.id, emissions, limit, keep.as_ref()).await.map_err(from_store)?;
    Ok(respond(answer(&enqueued), hold))
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

/// A queue.
#[utoipa::path(get, path = "/api/v1/apps/{app}/queues/{queue}", tag = "queues",
    responses((status = 200, description = "The queue", body = QueueView)))]
pub(crate) async fn get_queue(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
) -> Result<Json<QueueView>, ApiError> {
    let found = context.store.queue(app.id, &queue).await.map_err(from_store)?;
    let Some(found) = found else {
        let detail =
            format!("the app \"{}\" has no queue \"{queue}\"; one is there as soon as it is used", app.name);
        return Err(ApiError::new(ErrorCode::NotFound, detail));
    };
    Ok(Json(found.into()))
}

/// Sets a queue up; what is left out stays. It is made if it is new, and forgotten if nothing is left of it.
#[utoipa::path(patch, path = "/api/v1/apps/{app}/queues/{queue}", tag = "queues", request_body = QueueChanges,
    responses((status = 200, description = "The queue as it is now", body = QueueView)))]
pub(crate) async fn change_queue(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
    JsonBody(changes): JsonBody<QueueChanges>,
) -> Result<Json<QueueView>, ApiError> {
    if let QueueConcurrency::Limited(count) = changes.concurrency
        && !TriggerSource::CONCURRENCY.contains(&count)
    {
        let (least, most) = (TriggerSource::CONCURRENCY.start(), TriggerSource::CONCURRENCY.end());
        let detail = format!("concurrency is {count}; allowed is {least} to {most}, or null");
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("concurrency"));
    }
    let change = QueueChange { paused: changes.paused, concurrency: changes.concurrency };
    set_up(&context, &app, &queue, change).await?;
    let found = context.store.queue(app.id, &queue).await.map_err(from_store)?;
    Ok(Json(found.unwrap_or_else(|| Queue::unused(queue)).into()))
}

/// Pauses a queue: its messages wait until it is resumed. Those that are handled now are not stopped.
#[utoipa::path(post, path = "/api/v1/apps/{app}/queues/{queue}/pause", tag = "queues",
    responses((status = 204, description = "It is paused")))]
pub(crate) async fn pause_queue(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
) -> Result<StatusCode, ApiError> {
    set_up(&context, &app, &queue, QueueChange { paused: Some(true), ..QueueChange::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a paused queue go on.
#[utoipa::path(post, path = "/api/v1/apps/{app}/queues/{queue}/resume", tag = "queues",
    responses((status = 204, description = "It goes on")))]
pub(crate) async fn resume_queue(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, queue)): PathNames<(String, QueueName)>,
) -> Result<StatusCode, ApiError> {
    set_up(&context, &app, &queue, QueueChange { paused: Some(false), ..QueueChange::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_up(
    context: &Context,
    app: &App,
    queue: &QueueName,
    change: QueueChange,
) -> Result<(), ApiError> {
    if context.store.change_queue(app.id, queue, change).await.map_err(from_store)? {
        context.app_changed(app.id).await;
    }
    Ok(())
}
