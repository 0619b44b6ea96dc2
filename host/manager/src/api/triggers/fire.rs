//! Setting a trigger off by hand.

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use picloud_core::{
    Emission, Emitted, ErrorCode, EventId, Lineage, MessageOptions, OutboxKind, TriggerSource,
};
use picloud_store::{Enqueued, KeepAnswer, KeyHold, NewEvent, OutboxLimit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::views::TriggerRef;
use crate::{
    access::TargetApp,
    api::queues::emit,
    context::Context,
    error::ApiError,
    extract::{JSON_BYTES, PathNames, read_json},
    idempotency::{json_answer, respond},
    store_error::from_store,
};

/// What a trigger is set off with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFire {
    /// What the event says, field by field; what is left out is made up. Of a queue there is only `body`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    event: Map<String, Value>,
}

/// What was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fired {
    /// The event.
    #[schema(value_type = uuid::Uuid)]
    event_id: EventId,
    /// What it says, beside what every event has.
    #[schema(value_type = Object)]
    event: Value,
}

/// Sets a trigger off by hand: its script gets an event as if what it waits for had happened, by the same way and with the
/// same rights. What the event says is made up, but for what is given.
#[utoipa::path(post, path = "/api/v1/apps/{app}/triggers/{trigger}/fire", tag = "triggers", request_body = NewFire,
    responses((status = 202, description = "The event is on disk", body = Fired)))]
pub(crate) async fn fire_trigger(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, named)): PathNames<(String, TriggerRef)>,
    hold: Option<Extension<KeyHold>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let most = app.limits.event_bytes;
    let fire: NewFire = read_json(&parts.headers, body, most + JSON_BYTES).await?;
    let trigger = named.find(&context, &app).await?;
    let name = &trigger.spec.name;
    if !trigger.spec.enabled {
        let detail = format!("the trigger {name} is disabled; enable it to fire it");
        return Err(ApiError::new(ErrorCode::TriggerDisabled, detail));
    }
    let source = &trigger.spec.source;
    let mut event = source.sample(OffsetDateTime::now_utc());
    for (field, value) in fire.event {
        let is_known = event.get(&field).is_some();
        if matches!(source, TriggerSource::Queue { .. }) && field != "body" || !is_known {
            let detail = match source {
                TriggerSource::Queue { queue, .. } => format!(
                    "event has {field:?}; a message has `body` here: to give it more, send it to the queue {queue}"
                ),
                _ => format!("event has {field:?}; allowed are {}", fields(&event)),
            };
            return Err(ApiError::new(ErrorCode::Invalid, detail).field("event"));
        }
        event[field] = value;
    }
    let payload = event.to_string();
    if payload.len() as u64 > most {
        let detail =
            format!("the event has {} bytes as JSON; the limit event_bytes is {most}", payload.len());
        return Err(ApiError::new(ErrorCode::TooLarge, detail).field("event").with("limit", most));
    }
    let event_id = EventId::generate();
    let fired = Fired { event_id, event };
    let answer = |_: &Enqueued| json_answer(StatusCode::ACCEPTED, &fired);
    let hold = hold.as_deref();
    if let TriggerSource::Queue { queue, .. } = source {
        let body = fired.event["body"].to_string().into();
        let what = Emitted::Message { queue: queue.clone(), body, options: MessageOptions::default() };
        return emit(&context, &app, &[Emission { id: event_id, what }], hold, &answer).await;
    }
    let new = NewEvent {
        id: event_id,
        trigger: Some(trigger.id),
        lineage: Lineage::root(event_id),
        ..NewEvent::new(OutboxKind::Trigger(source.kind()), payload)
    };
    let limit = OutboxLimit::of(&app.limits);
    let keep = hold.map(|hold| KeepAnswer { hold, answer: &answer });
    let enqueued =
        context.store.enqueue_under(app.id, &[new], limit, keep.as_ref()).await.map_err(from_store)?;
    Ok(respond(answer(&enqueued), hold))
}

fn fields(event: &Value) -> String {
    let names = event.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    names.collect::<Vec<_>>().join(", ")
}
