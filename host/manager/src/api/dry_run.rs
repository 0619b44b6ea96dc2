//! Trying out what replaying a dead letter would do.

use axum::{Json, extract::State};
use picloud_core::{
    App, DeadLetterId, Effects, Emitted, ErrorCode, EventHead, FileWrite, KvWrite, OutboxKind, Rehearsal,
    Rehearsed, RehearsedEvent, SourcePosition, TriggerSpec,
};
use picloud_store::DeadLetter;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    api::{
        dead_letters::{check_version, not_found},
        invoke::InvokeLog,
        letter_event,
    },
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames},
    store_error::from_store,
};

/// What to try.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DryRunRequest {
    /// What the event is to say instead: an object with some of the fields that `event` of the letter has.
    #[schema(value_type = Option<serde_json::Value>)]
    event: Option<Box<RawValue>>,
    /// Another version of the script than the active one.
    version: Option<i32>,
}

/// What handling an event would do. Nothing of it has been done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRunAnswer {
    /// The handler's value; of a kept request the answer, with `status`, `headers` and `body` (or `body_base64`, where it is
    /// not text). Null where it failed.
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    /// Why it failed.
    error: Option<DryRunError>,
    /// Entries that it would write or remove.
    kv: Vec<KvChange>,
    /// Files that it would write or remove.
    files: Vec<FileChange>,
    /// What it would send.
    events: Vec<EventMade>,
    /// What it logged.
    logs: Vec<InvokeLog>,
    /// Units of fuel it used.
    fuel_used: u64,
    /// How long it took, in milliseconds.
    duration_ms: f64,
}

/// Why a handler failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRunError {
    /// Its code.
    code: &'static str,
    /// In plain words.
    message: String,
    /// The script that it failed in.
    script: Option<String>,
    /// The line there, from 1.
    line: Option<u32>,
}

/// An entry that would be changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KvChange {
    /// The collection.
    collection: String,
    /// The key.
    key: String,
    /// `set` or `delete`.
    operation: &'static str,
    /// The value; null where it is removed.
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Box<RawValue>>,
}

/// A file that would be changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileChange {
    /// Its path.
    path: String,
    /// `write` or `delete`.
    operation: &'static str,
    /// Its size in bytes; null where it is removed.
    bytes: Option<usize>,
}

/// What would be sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventMade {
    /// `queue`, `topic` or `email`.
    kind: &'static str,
    /// The queue or the topic; null for an e-mail.
    to: Option<String>,
    /// The body, or the e-mail.
    #[schema(value_type = serde_json::Value)]
    body: Box<RawValue>,
}

/// Runs the handler of a dead letter's event, or the script of a kept request, shows what it would do, and does nothing of it. Calls to other services are
/// refused.
#[utoipa::path(post, path = "/api/v1/apps/{app}/dead-letters/{id}/dry-run", tag = "dead letters",
    request_body = DryRunRequest,
    responses((status = 200, description = "What it would do, or why it would fail", body = DryRunAnswer)))]
pub(crate) async fn dry_run(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, DeadLetterId)>,
    JsonBody(request): JsonBody<DryRunRequest>,
) -> Result<Json<DryRunAnswer>, ApiError> {
    let letter = context.store.dead_letter(app.id, id).await.map_err(from_store)?;
    let letter = letter.ok_or_else(|| not_found(&app, id))?;
    let kind = match OutboxKind::parse(&letter.kind) {
        Some(OutboxKind::Trigger(kind)) => Some(kind),
        Some(OutboxKind::Http) => None,
        _ => {
            let detail = format!(
                "the letter is of the kind {}; what a script handles can be tried: events of triggers, and kept requests",
                letter.kind
            );
            return Err(ApiError::new(ErrorCode::Invalid, detail));
        }
    };
    check_version(&context, &app, &letter, request.version).await?;
    let edited = request.event.as_ref().map(|event| letter_event::edited(&letter, event)).transpose()?;
    let payload = edited.as_deref().unwrap_or(&letter.payload);
    let (script, event) = match kind {
        Some(kind) => {
            let TriggerSpec { name, script, .. } = trigger_of(&context, &app, &letter).await?;
            let created_at = letter.event_created_at;
            let head = EventHead { id: letter.event, kind, trigger: Some(&name), attempt: 1, created_at };
            (script, RehearsedEvent::Trigger { kind, event: head.with(payload) })
        }
        None => {
            let script = letter.script.clone().ok_or_else(|| {
                ApiError::new(ErrorCode::ScriptNotFound, "nothing says which script is to handle the request")
            })?;
            (script, RehearsedEvent::Request(payload.to_owned()))
        }
    };
    let version = request.version;
    let rehearsed = context.node.rehearse(Rehearsal { app: app.id, script, version, event }).await;
    answer(rehearsed).map(Json)
}

/// The trigger that a letter's event is of.
async fn trigger_of(context: &Context, app: &App, letter: &DeadLetter) -> Result<TriggerSpec, ApiError> {
    let Some((trigger, name)) = &letter.trigger else {
        return Err(ApiError::new(ErrorCode::TriggerNotFound, "the trigger of the event is gone"));
    };
    let trigger = context.store.trigger(app.id, *trigger).await.map_err(from_store)?;
    trigger.map(|trigger| trigger.spec).ok_or_else(|| {
        ApiError::new(ErrorCode::TriggerNotFound, format!("the trigger {name} does not exist any more"))
    })
}

fn answer(rehearsed: Rehearsed) -> Result<DryRunAnswer, ApiError> {
    let Rehearsed { outcome, effects, logs, usage, retry_after } = rehearsed;
    let (result, error) = match outcome {
        Ok(text) => (Some(raw(text)?), None),
        Err(fault) if retry_after.is_some() => {
            return Err(ApiError::new(fault.code, fault.message).retry_after(retry_after.unwrap_or(1)));
        }
        Err(fault) => {
            let (script, line) = fault.position.map(|at: SourcePosition| (at.script, at.line)).unzip();
            (None, Some(DryRunError { code: fault.code.as_str(), message: fault.message, script, line }))
        }
    };
    let Effects { kv, files, events } = effects;
    let kv = kv.into_iter().map(|(id, write)| {
        let (operation, value) = match write {
            KvWrite::Set { value, .. } => ("set", Some(raw(value.as_ref().to_owned())?)),
            KvWrite::Delete => ("delete", None),
        };
        Ok(KvChange { collection: id.collection.into(), key: id.key.into(), operation, value })
    });
    let files = files.into_iter().map(|(path, write)| {
        let (operation, bytes) = match write {
            FileWrite::Set { content, .. } => ("write", Some(content.len())),
            FileWrite::Delete => ("delete", None),
        };
        FileChange { path: path.into(), operation, bytes }
    });
    let events = events.into_iter().map(|emission| {
        Ok(match emission.what {
            Emitted::Message { queue, body, .. } => {
                EventMade { kind: "queue", to: Some(queue.into()), body: raw(body.as_ref().to_owned())? }
            }
            Emitted::Publication { topic, body } => {
                EventMade { kind: "topic", to: Some(topic.into()), body: raw(body.as_ref().to_owned())? }
            }
            Emitted::Mail(mail) => {
                let mail = serde_json::to_string(&mail)
                    .map_err(|error| ApiError::internal("a mail as JSON", &error))?;
                EventMade { kind: "email", to: None, body: raw(mail)? }
            }
        })
    });
    Ok(DryRunAnswer {
        result,
        error,
        kv: kv.collect::<Result<_, ApiError>>()?,
        files: files.collect(),
        events: events.collect::<Result<_, ApiError>>()?,
        logs: logs.into_iter().map(InvokeLog::from).collect(),
        fuel_used: usage.fuel,
        duration_ms: usage.duration.as_secs_f64() * 1000.0,
    })
}

fn raw(text: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text).map_err(|error| ApiError::internal("a script's value as JSON", &error))
}
