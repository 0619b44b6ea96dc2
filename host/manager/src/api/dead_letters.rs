//! Dead letters: the events of an app that were given up, and what is done about them.

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use picloud_core::{App, DeadLetterId, ErrorCode, EventId, PrincipalId, ScriptName, TriggerName};
use picloud_store::{
    DeadLetter, DeadLetterFilter, FingerprintCount, LetterState, MAX_MANY, ManyReplayed, OutboxLimit, Replay,
    Replayed, StoreError,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::{Caller, TargetApp},
    api::letter_event,
    audit::AuditNote,
    context::Context,
    error::ApiError,
    extract::{JSON_BYTES, JsonBody, PathNames, QueryOf, read_json},
    page::{Cursor, Page, PageLimit, start},
    store_error::from_store,
};

/// An event that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: DeadLetterId,
    /// The event's id.
    #[schema(value_type = uuid::Uuid)]
    event_id: EventId,
    /// The kind of the event.
    kind: String,
    /// The name of its trigger, which may be gone; null if it had none.
    #[schema(value_type = Option<String>)]
    trigger: Option<TriggerName>,
    /// The script that failed, or would have run.
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Its version.
    version: Option<i32>,
    /// The queue that it came from; null for none.
    queue: Option<String>,
    /// Why it was given up.
    error: LetterError,
    /// Equal for errors that differ in numbers, ids and quoted text only.
    fingerprint: String,
    /// How often it was tried.
    attempts: u16,
    /// How many events of its chain came before it.
    depth: u16,
    /// The first event of its chain.
    #[schema(value_type = uuid::Uuid)]
    root_id: EventId,
    /// The event whose handling made it; null if it began the chain.
    #[schema(value_type = Option<uuid::Uuid>)]
    parent_id: Option<EventId>,
    /// When the event was made.
    #[serde(with = "time::serde::rfc3339")]
    event_created_at: OffsetDateTime,
    /// When it was given up.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// `replayed`, `ignored`, `handled_by_script` or `handler_failed`; null while nobody has looked after it.
    resolution: Option<&'static str>,
    /// When that was.
    #[serde(with = "time::serde::rfc3339::option")]
    resolved_at: Option<OffsetDateTime>,
    /// Who replayed or ignored it.
    #[schema(value_type = Option<uuid::Uuid>)]
    resolved_by: Option<PrincipalId>,
    /// The event that replays it.
    #[schema(value_type = Option<uuid::Uuid>)]
    replay_id: Option<EventId>,
}

/// Why an event was given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterError {
    /// The code.
    code: String,
    /// In plain words.
    message: String,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.id,
            event_id: letter.event,
            kind: letter.kind,
            trigger: letter.trigger.map(|(_, name)| name),
            script: letter.script,
            version: letter.version,
            queue: Some(letter.queue).filter(|queue| !queue.is_empty()),
            error: LetterError { code: letter.error_code, message: letter.error },
            fingerprint: letter.fingerprint,
            attempts: letter.attempts,
            depth: letter.lineage.depth,
            root_id: letter.lineage.root,
            parent_id: letter.lineage.parent,
            event_created_at: letter.event_created_at,
            created_at: letter.created_at,
            resolution: letter.resolution.map(|(resolution, _)| resolution.as_str()),
            resolved_at: letter.resolution.map(|(_, at)| at),
            resolved_by: letter.resolved_by,
            replay_id: letter.replay,
        }
    }
}

/// A dead letter with what its event says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeDeadLetter {
    #[serde(flatten)]
    letter: DeadLetterView,
    /// What the event says, without what every event has. Of a kept request, credentials are hidden.
    #[schema(value_type = serde_json::Value)]
    event: Box<RawValue>,
}

/// Unresolved letters of one fingerprint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FingerprintView {
    /// The fingerprint.
    fingerprint: String,
    /// How many there are.
    count: u64,
    /// Why the newest was given up.
    error: LetterError,
    /// When the newest was given up.
    #[serde(with = "time::serde::rfc3339")]
    last_at: OffsetDateTime,
}

impl From<FingerprintCount> for FingerprintView {
    fn from(found: FingerprintCount) -> Self {
        Self {
            fingerprint: found.fingerprint,
            count: found.count,
            error: LetterError { code: found.error_code, message: found.error },
            last_at: found.last_at,
        }
    }
}

/// Which dead letters to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLettersQuery {
    /// `unresolved`, `replayed`, `ignored`, `handled_by_script` or `handler_failed`.
    #[serde(default, deserialize_with = "state")]
    #[param(value_type = Option<String>)]
    resolution: Option<LetterState>,
    /// With this fingerprint only.
    fingerprint: Option<String>,
    /// Of the trigger of this name only.
    #[param(value_type = Option<String>)]
    trigger: Option<TriggerName>,
    /// Of this script only.
    #[param(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LetterState>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "unresolved" {
        return Ok(Some(LetterState::Unresolved));
    }
    let resolution = text.parse().map_err(|error| de::Error::custom(format_args!("resolution: {error}")))?;
    Ok(Some(LetterState::Resolved(resolution)))
}

/// How a dead letter is replayed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReplay {
    /// What the event is to say instead: an object with some of the fields that `event` of the letter has.
    #[schema(value_type = Option<serde_json::Value>)]
    event: Option<Box<RawValue>>,
    /// The version of the script that is to handle it; the active one if it is left out.
    #[schema(minimum = 1)]
    version: Option<i32>,
}

/// Which dead letters are meant: those that are open, with all that is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManyLetters {
    /// With this fingerprint.
    fingerprint: Option<String>,
    /// Of the trigger of this name.
    #[schema(value_type = Option<String>)]
    trigger: Option<TriggerName>,
    /// Of this script.
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// `unresolved` or `handler_failed`, to replay also `ignored` or `handled_by_script`; `unresolved` if it is left out.
    #[serde(default, deserialize_with = "state")]
    #[schema(value_type = Option<String>)]
    resolution: Option<LetterState>,
    /// Where neither fingerprint, trigger nor script is given: that all are meant.
    #[serde(default)]
    all: bool,
    /// The most of one call, 1 to 1,000; 1,000 if it is left out.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl ManyLetters {
    /// What is wanted, of letters in one of these states.
    fn checked(self, allowed: &[LetterState]) -> Result<(DeadLetterFilter, u32), ApiError> {
        let Self { fingerprint, trigger, script, resolution, all, limit } = self;
        let invalid =
            |field: &'static str, detail: String| ApiError::new(ErrorCode::Invalid, detail).field(field);
        let is_narrow = fingerprint.is_some() || trigger.is_some() || script.is_some();
        if all == is_narrow {
            let detail = "give a fingerprint, a trigger or a script, or else \"all\": true";
            return Err(invalid("all", detail.into()));
        }
        if fingerprint.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(invalid("fingerprint", "fingerprint has U+0000, which none has".into()));
        }
        let state = resolution.unwrap_or(LetterState::Unresolved);
        if !allowed.contains(&state) {
            let allowed = allowed.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
            return Err(invalid(
                "resolution",
                format!("resolution is {}; allowed are {allowed}", state.as_str()),
            ));
        }
        let most = limit.unwrap_or(MAX_MANY);
        if !(1..=MAX_MANY).contains(&most) {
            return Err(invalid("limit", format!("limit is {most}; allowed is 1 to {MAX_MANY}")));
        }
        Ok((DeadLetterFilter { state: Some(state), fingerprint, trigger, script }, most))
    }
}

/// What a replay of many made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManyReplayedView {
    /// The letters that are replayed now, the oldest first.
    replayed: Vec<ReplayedLetter>,
    /// How many more there are of those that are meant: call again.
    remaining: u64,
}

/// A letter, and the event that replays it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayedLetter {
    /// The letter.
    #[schema(value_type = uuid::Uuid)]
    id: DeadLetterId,
    /// The event.
    #[schema(value_type = uuid::Uuid)]
    event_id: EventId,
}

/// How many letters are ignored now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManyIgnored {
    /// So many.
    ignored: u64,
    /// How many more there are of those that are meant: call again.
    remaining: u64,
}

/// What a replay made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayAnswer {
    /// The event that replays the letter.
    #[schema(value_type = uuid::Uuid)]
    event_id: EventId,
    /// Whether the letter had been replayed before, as this event: nothing was done.
    already: bool,
}

/// The dead letters of an app, the newest first.
#[utoipa::path(get, path = "/api/v1/apps/{app}/dead-letters", tag = "dead letters", params(DeadLettersQuery),
    responses((status = 200, description = "A page of them", body = Page<DeadLetterView>)))]
pub(crate) async fn list_dead_letters(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<DeadLettersQuery>,
) -> Result<Json<Page<DeadLetterView>>, ApiError> {
    let before = start(query.cursor.as_ref())?;
    // What no fingerprint can be, none is; the database has no U+0000 in its texts.
    if query.fingerprint.as_ref().is_some_and(|text| text.contains('\0')) {
        return Ok(Json(Page::whole(Vec::new())));
    }
    let filter = DeadLetterFilter {
        state: query.resolution,
        fingerprint: query.fingerprint,
        trigger: query.trigger,
        script: query.script,
    };
    let found = context.store.dead_letters(app.id, &filter, before, query.limit.size()).await;
    Ok(Json(Page::of(found.map_err(from_store)?, |letter| letter.id, DeadLetterView::from)))
}

/// The unresolved dead letters of an app by fingerprint, the most frequent first; at most 100.
#[utoipa::path(get, path = "/api/v1/apps/{app}/dead-letters/fingerprints", tag = "dead letters",
    responses((status = 200, description = "All of them", body = Page<FingerprintView>)))]
pub(crate) async fn list_fingerprints(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Json<Page<FingerprintView>>, ApiError> {
    let found = context.store.dead_letter_fingerprints(app.id).await.map_err(from_store)?;
    Ok(Json(Page::whole(found.into_iter().map(FingerprintView::from).collect())))
}

/// A dead letter with what its event says.
#[utoipa::path(get, path = "/api/v1/apps/{app}/dead-letters/{id}", tag = "dead letters",
    responses((status = 200, description = "The letter", body = WholeDeadLetter)))]
pub(crate) async fn get_dead_letter(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, DeadLetterId)>,
) -> Result<Json<WholeDeadLetter>, ApiError> {
    let found = context.store.dead_letter(app.id, id).await.map_err(from_store)?;
    let letter = found.ok_or_else(|| not_found(&app, id))?;
    let event = letter_event::shown(&letter)?;
    Ok(Json(WholeDeadLetter { letter: letter.into(), event }))
}

/// Puts a dead letter into the outbox again, as a new event with all attempts before it. Of two replays, one does.
#[utoipa::path(post, path = "/api/v1/apps/{app}/dead-letters/{id}/replay", tag = "dead letters",
    request_body = NewReplay,
    responses((status = 202, description = "The event that replays it", body = ReplayAnswer)))]
pub(crate) async fn replay_dead_letter(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, DeadLetterId)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let most = app.limits.event_bytes;
    let new: NewReplay = read_json(&parts.headers, body, most + JSON_BYTES).await?;
    let is_edited = new.event.is_some();
    let replay = match (&new.event, new.version) {
        (None, None) => Replay::default(),
        (event, version) => {
            let letter = context.store.dead_letter(app.id, id).await.map_err(from_store)?;
            let letter = letter.ok_or_else(|| not_found(&app, id))?;
            check_version(&context, &app, &letter, version).await?;
            let payload = event.as_ref().map(|event| letter_event::edited(&letter, event)).transpose()?;
            Replay { payload, version }
        }
    };
    let limit = OutboxLimit::of(&app.limits);
    let replayed =
        context.store.replay_dead_letter(app.id, id, &replay, Some(caller.principal.id), limit).await;
    let (event_id, already) = match replayed.map_err(|error| refused(&app, id, error))? {
        Replayed::Event(event) => (event, false),
        Replayed::Already(event) => (event, true),
    };
    let detail = match (already, is_edited) {
        (true, _) => "it was replayed before",
        (false, true) => "replayed with another event",
        (false, false) => "replayed",
    };
    let note = AuditNote { detail: Some(detail.into()), ..AuditNote::default() };
    Ok((StatusCode::ACCEPTED, Extension(note), Json(ReplayAnswer { event_id, already })).into_response())
}

/// Puts many dead letters into the outbox again, the oldest first: those that are wanted, all or none.
#[utoipa::path(post, path = "/api/v1/apps/{app}/dead-letters/replay", tag = "dead letters",
    request_body = ManyLetters,
    responses((status = 202, description = "The events that replay them", body = ManyReplayedView)))]
pub(crate) async fn replay_many(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    JsonBody(wanted): JsonBody<ManyLetters>,
) -> Result<Response, ApiError> {
    let (filter, most) = wanted.checked(&LetterState::REPLAYABLE)?;
    let limit = OutboxLimit::of(&app.limits);
    let replayed = context.store.replay_dead_letters(app.id, &filter, most, caller.principal.id, limit).await;
    let ManyReplayed { events, remaining } = replayed.map_err(from_store)?;
    let replayed: Vec<ReplayedLetter> =
        events.into_iter().map(|(id, event_id)| ReplayedLetter { id, event_id }).collect();
    let note = AuditNote { detail: Some(format!("{} replayed", replayed.len())), ..AuditNote::default() };
    Ok((StatusCode::ACCEPTED, Extension(note), Json(ManyReplayedView { replayed, remaining }))
        .into_response())
}

/// Says of many dead letters that nothing is to be done about them, the oldest first.
#[utoipa::path(post, path = "/api/v1/apps/{app}/dead-letters/ignore", tag = "dead letters",
    request_body = ManyLetters,
    responses((status = 200, description = "How many they were", body = ManyIgnored)))]
pub(crate) async fn ignore_many(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    JsonBody(wanted): JsonBody<ManyLetters>,
) -> Result<Response, ApiError> {
    let (filter, most) = wanted.checked(&LetterState::IGNORABLE)?;
    let ignored = context.store.ignore_dead_letters(app.id, &filter, most, caller.principal.id).await;
    let (ignored, remaining) = ignored.map_err(from_store)?;
    let note = AuditNote { detail: Some(format!("{ignored} ignored")), ..AuditNote::default() };
    Ok((Extension(note), Json(ManyIgnored { ignored, remaining })).into_response())
}

/// Says that nothing is to be done about a dead letter. Again, it changes nothing.
#[utoipa::path(post, path = "/api/v1/apps/{app}/dead-letters/{id}/ignore", tag = "dead letters",
    responses((status = 204, description = "It is ignored")))]
pub(crate) async fn ignore_dead_letter(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, DeadLetterId)>,
) -> Result<StatusCode, ApiError> {
    let ignored = context.store.ignore_dead_letter(app.id, id, Some(caller.principal.id)).await;
    ignored.map_err(|error| refused(&app, id, error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a version that the script which is to handle a letter does not have: the replay would be given up at once.
pub(super) async fn check_version(
    context: &Context,
    app: &App,
    letter: &DeadLetter,
    version: Option<i32>,
) -> Result<(), ApiError> {
    let Some(version) = version else { return Ok(()) };
    let script = match &letter.trigger {
        Some((trigger, _)) => {
            context.store.trigger(app.id, *trigger).await.map_err(from_store)?.map(|found| found.spec.script)
        }
        None => letter.script.clone(),
    };
    // Without a script it is said at the replay what is missing.
    let Some(script) = script else { return Ok(()) };
    if context.store.version_image(app.id, &script, version).await.map_err(from_store)?.is_none() {
        let detail = format!("version is {version}; the script \"{script}\" has no version of this number");
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("version"));
    }
    Ok(())
}

pub(super) fn not_found(app: &App, id: DeadLetterId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("the app \"{}\" has no dead letter {id}", app.name))
}

fn refused(app: &App, id: DeadLetterId, error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound { what: "dead letter" } => not_found(app, id),
        StoreError::Conflict => ApiError::new(
            ErrorCode::AlreadyExists,
            format!("the dead letter {id} was replayed or handled already"),
        ),
        other => from_store(other),
    }
}
