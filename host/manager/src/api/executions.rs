//! The history of an app's invocations.

use axum::{Json, extract::State};
use picloud_core::{
    App, EgressRecord, ErrorCode, EventId, EventKind, ExecutionId, Fault, Outcome, RequestId, ScriptName,
    TriggerName,
};
use picloud_store::{Execution, ExecutionFilter, HandledEvent, OutcomeFilter, PageSize};
use serde::{Deserialize, Deserializer, Serialize, de};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    api::{
        events::{TreeView, tree},
        logs::LogView,
        scripts::not_found,
    },
    context::Context,
    error::ApiError,
    extract::{PathNames, QueryOf},
    page::{Cursor, Page, PageLimit, start},
    store_error::from_store,
};

/// One finished invocation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: ExecutionId,
    /// The request it answered.
    #[schema(value_type = uuid::Uuid)]
    request_id: RequestId,
    /// The script.
    #[schema(value_type = String)]
    script: ScriptName,
    /// The version that ran.
    version: i32,
    /// What started it: `http`, `invoke`, or the kind of the event.
    #[schema(value_type = String)]
    kind: EventKind,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    /// `ok`, or the code of the failure.
    outcome: &'static str,
    /// Why it failed; null if it did not.
    error: Option<ExecutionError>,
    /// The status the client got, where there was one.
    status: Option<u16>,
    /// Units of fuel it used, nested calls included.
    fuel_used: u64,
    /// How long it took, in milliseconds.
    duration_ms: f64,
    /// Number of host calls.
    host_calls: u64,
    /// The most linear memory it had, in bytes.
    memory_bytes: u64,
    /// Whether log lines were left out because the budget was used up.
    logs_truncated: bool,
    /// The event that it handled; null for a request or a call.
    event: Option<ExecutionEvent>,
}

/// The event of an invocation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionEvent {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: EventId,
    /// The first event of its chain, or the run of the request that began it.
    #[schema(value_type = uuid::Uuid)]
    root_id: EventId,
    /// What it came of; null if it began the chain.
    #[schema(value_type = Option<uuid::Uuid>)]
    parent_id: Option<EventId>,
    /// The trigger; null for a request that is kept.
    #[schema(value_type = Option<String>)]
    trigger: Option<TriggerName>,
    /// Which attempt it was, from 1.
    attempt: u16,
}

impl From<HandledEvent> for ExecutionEvent {
    fn from(event: HandledEvent) -> Self {
        let HandledEvent { id, root, parent, trigger, attempt } = event;
        Self { id, root_id: root, parent_id: parent, trigger, attempt }
    }
}

/// Why an invocation failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionError {
    /// The code.
    #[schema(value_type = String)]
    code: ErrorCode,
    /// For people.
    message: String,
    /// The script, or the imported library, that it happened in.
    script: Option<String>,
    /// Line in it, from 1.
    line: Option<u32>,
    /// Column in it, from 1; 0 where only the line is known.
    column: Option<u32>,
    /// The text of that line.
    source_line: Option<String>,
}

/// One finished invocation with its logs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionDetail {
    /// The invocation.
    #[serde(flatten)]
    execution: ExecutionView,
    /// What it logged, in order.
    logs: Vec<LogView>,
    /// What it called over HTTP, in the order in which the calls ended. A redirect that was followed is a call of its
    /// own.
    #[schema(value_type = Vec<EgressView>)]
    egress: Vec<EgressRecord>,
}

/// A request to another service. Neither its query nor headers or bodies are kept.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct EgressView {
    /// The method.
    method: String,
    /// `https` or `http`; null where the URL could not be read, which leaves `host` and `path` empty.
    #[schema(required = true)]
    scheme: Option<String>,
    /// The host, secrets masked.
    host: String,
    /// The port.
    port: u16,
    /// The path, secrets masked, cut at 256 bytes.
    path: String,
    /// The status of the answer, where there was one.
    #[schema(required = true)]
    status: Option<u16>,
    /// The code of the error, where there is no answer that could be used.
    #[schema(required = true)]
    error: Option<String>,
    /// Bytes of the body that was to be sent.
    bytes_sent: u64,
    /// Bytes of the body that came.
    bytes_received: u64,
    /// How long it took, in milliseconds.
    duration_ms: u64,
}

impl From<Fault> for ExecutionError {
    fn from(fault: Fault) -> Self {
        let (script, line, column, source_line) = fault.position.map_or((None, None, None, None), |at| {
            (Some(at.script), Some(at.line), Some(at.column), Some(at.source_line))
        });
        Self { code: fault.code, message: fault.message, script, line, column, source_line }
    }
}

impl From<Execution> for ExecutionView {
    fn from(execution: Execution) -> Self {
        let outcome = execution.outcome.error_code().map_or("ok", ErrorCode::as_str);
        let error = match execution.outcome {
            Outcome::Succeeded => None,
            Outcome::Failed(fault) => Some(fault.into()),
        };
        Self {
            id: execution.id,
            request_id: execution.request_id,
            script: execution.script,
            version: execution.version,
            kind: execution.kind,
            started_at: execution.started_at,
            outcome,
            error,
            status: execution.status,
            fuel_used: execution.usage.fuel,
            duration_ms: execution.usage.duration.as_secs_f64() * 1000.0,
            host_calls: execution.usage.host_calls,
            memory_bytes: execution.usage.memory_bytes,
            logs_truncated: execution.logs_truncated,
            event: execution.event.map(ExecutionEvent::from),
        }
    }
}

/// Which executions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExecutionsQuery {
    /// Only those of this script.
    #[param(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// `ok`, `failed`, or an error code.
    #[param(value_type = Option<String>)]
    #[serde(default, deserialize_with = "outcome")]
    outcome: OutcomeFilter,
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

fn outcome<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OutcomeFilter, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "ok" => Ok(OutcomeFilter::Succeeded),
        "failed" => Ok(OutcomeFilter::Failed),
        code => code.parse().map(OutcomeFilter::Code).map_err(|unknown: String| {
            de::Error::custom(format!("outcome: {unknown}; allowed are ok, failed and error codes"))
        }),
    }
}

/// The executions of an app, newest first.
#[utoipa::path(get, path = "/api/v1/apps/{app}/executions", tag = "history", params(ExecutionsQuery),
    responses((status = 200, description = "A page of executions", body = Page<ExecutionView>)))]
pub(crate) async fn list_executions(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<ExecutionsQuery>,
) -> Result<Json<Page<ExecutionView>>, ApiError> {
    let before: Option<ExecutionId> = start(query.cursor.as_ref())?;
    let filter = ExecutionFilter { script: query.script, outcome: query.outcome };
    let found = context.store.executions(app.id, &filter, before, query.limit.size()).await;
    let found = found.map_err(from_store)?;
    if found.items.is_empty() && before.is_none() {
        check_script(&context, &app, filter.script.as_ref()).await?;
    }
    Ok(Json(Page::of(found, |execution| execution.id, ExecutionView::from)))
}

/// Refuses a script that the app neither has nor has a history of, for where a list has nothing of it: who misspelt
/// a name would take that for an answer. A script that was deleted keeps its history, and is known as long as that
/// lasts.
pub(crate) async fn check_script(
    context: &Context,
    app: &App,
    script: Option<&ScriptName>,
) -> Result<(), ApiError> {
    let Some(name) = script else { return Ok(()) };
    if context.store.script(app.id, name).await.map_err(from_store)?.is_some() {
        return Ok(());
    }
    let filter = ExecutionFilter { script: Some(name.clone()), outcome: OutcomeFilter::Any };
    let history = context.store.executions(app.id, &filter, None, PageSize::ONE).await.map_err(from_store)?;
    if history.items.is_empty() { Err(not_found(app, name)) } else { Ok(()) }
}

/// An execution with its logs.
#[utoipa::path(get, path = "/api/v1/apps/{app}/executions/{id}", tag = "history",
    responses((status = 200, description = "The execution", body = ExecutionDetail)))]
pub(crate) async fn get_execution(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, ExecutionId)>,
) -> Result<Json<ExecutionDetail>, ApiError> {
    let found = context.store.execution(app.id, id).await.map_err(from_store)?;
    let execution = found.ok_or_else(|| no_execution(&app, id))?;
    let logs = context.store.execution_logs(app.id, id).await.map_err(from_store)?;
    let logs = logs.into_iter().map(LogView::from).collect();
    let egress = context.store.execution_egress(app.id, id).await.map_err(from_store)?;
    Ok(Json(ExecutionDetail { execution: execution.into(), logs, egress }))
}

/// The causal tree of an execution: what its event came of, and all that came of that, as far as it is known.
#[utoipa::path(get, path = "/api/v1/apps/{app}/executions/{id}/tree", tag = "history",
    responses((status = 200, description = "The tree", body = TreeView)))]
pub(crate) async fn execution_tree(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, ExecutionId)>,
) -> Result<Json<TreeView>, ApiError> {
    let found = tree(&context, &app, EventId::from_uuid(id.as_uuid())).await?;
    found.ok_or_else(|| no_execution(&app, id))
}

fn no_execution(app: &App, id: ExecutionId) -> ApiError {
    let detail = format!(
        "no execution {id} in app \"{}\"; it may have been too long ago, or not stored yet",
        app.name
    );
    ApiError::new(ErrorCode::NotFound, detail)
}
