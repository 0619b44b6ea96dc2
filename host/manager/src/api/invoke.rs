//! Running a script once.

use axum::{
    Extension, Json,
    extract::{Request, State},
};
use picloud_core::{DirectCall, DirectResult, LogLevel, LogLine, RequestId, ScriptName};
use picloud_edge::status_of_run;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{JSON_BYTES, PathNames, check_json, read_json},
};

/// What to run a script with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvokeRequest {
    /// Any JSON value: the script sees it as `event`, and as the body of a POST request.
    #[schema(value_type = serde_json::Value)]
    #[serde(default)]
    event: Event,
}

/// An event as it came, so that numbers reach the script exactly.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Event(Box<RawValue>);

impl Default for Event {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

/// What a run left behind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InvokeAnswer {
    /// The handler's value.
    #[schema(value_type = serde_json::Value)]
    result: Box<RawValue>,
    /// What it logged.
    logs: Vec<InvokeLog>,
    /// Units of fuel it used, nested calls included.
    fuel_used: u64,
    /// How long it took, in milliseconds.
    duration_ms: f64,
    /// Its id in the history.
    #[schema(value_type = Option<uuid::Uuid>)]
    execution_id: Option<picloud_core::ExecutionId>,
}

/// A line of a run's log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InvokeLog {
    /// `debug`, `info`, `warn` or `error`.
    #[schema(value_type = String)]
    level: LogLevel,
    /// Its text.
    message: String,
    /// When it was written, in milliseconds since the run began.
    at_ms: f64,
}

impl From<LogLine> for InvokeLog {
    fn from(line: LogLine) -> Self {
        Self { level: line.level, message: line.message, at_ms: line.at.as_secs_f64() * 1000.0 }
    }
}

/// Runs a script once with the given event. What it changes is committed.
///
/// A script that fails answers as a problem, with its position, its logs and the fuel it used.
#[utoipa::path(post, path = "/api/v1/apps/{app}/scripts/{name}/invoke", tag = "scripts",
    request_body = InvokeRequest,
    responses((status = 200, description = "What it left behind", body = InvokeAnswer)))]
pub(crate) async fn invoke_script(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, script)): PathNames<(String, ScriptName)>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Json<InvokeAnswer>, ApiError> {
    let most = app.limits.request_body_bytes + JSON_BYTES;
    let (parts, body) = request.into_parts();
    let InvokeRequest { event } = read_json(&parts.headers, body, most).await?;
    check_json(&event.0, "event")?;
    let event = event.0.get().to_owned();
    let result = context.node.invoke(DirectCall { app: app.id, script, event, request_id }).await;
    answer(result).map(Json)
}

fn answer(result: DirectResult) -> Result<InvokeAnswer, ApiError> {
    let logs: Vec<InvokeLog> = result.logs.into_iter().map(InvokeLog::from).collect();
    let duration_ms = result.usage.duration.as_secs_f64() * 1000.0;
    let fuel_used = result.usage.fuel;
    let execution_id = result.execution;
    match result.outcome {
        Ok(text) => {
            let result = RawValue::from_string(text)
                .map_err(|error| ApiError::internal("a script's answer as JSON", &error))?;
            Ok(InvokeAnswer { result, logs, fuel_used, duration_ms, execution_id })
        }
        Err(fault) => {
            let mut error = ApiError::new(fault.code, fault.message).at(fault.position.as_ref());
            if let Some(seconds) = result.retry_after {
                error = error.retry_after(seconds);
            }
            // What was refused before it began is the caller's; the rest is what the script did.
            if let Some(id) = execution_id {
                error = error.status(status_of_run(fault.code)).with("execution_id", id);
            }
            Err(error.with("fuel_used", fuel_used).with("duration_ms", duration_ms).with("logs", logs))
        }
    }
}
