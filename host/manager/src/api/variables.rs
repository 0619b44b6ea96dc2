//! Plain variables of an app.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use picloud_core::{App, ErrorCode, VariableName};
use picloud_store::{StoreError, Variable};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{PathNames, read_raw},
    page::Page,
    store_error::from_store,
};

/// The longest value, in bytes.
const MAX_BYTES: u64 = 4 << 10;

/// A variable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VariableView {
    /// Its name.
    #[schema(value_type = String)]
    name: VariableName,
    /// Its value.
    #[schema(value_type = String)]
    value: Arc<str>,
    /// When it was last set.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Variable> for VariableView {
    fn from(variable: Variable) -> Self {
        let Variable { name, value, updated_at } = variable;
        Self { name, value, updated_at }
    }
}

fn not_found(app: &App, name: &VariableName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("no variable \"{name}\" in app \"{}\"", app.name))
}

async fn find(context: &Context, app: &App, name: &VariableName) -> Result<VariableView, ApiError> {
    let found = context.store.variable(app.id, name).await.map_err(from_store)?;
    found.map(VariableView::from).ok_or_else(|| not_found(app, name))
}

/// The variables of an app, by name.
#[utoipa::path(get, path = "/api/v1/apps/{app}/env", tag = "env",
    responses((status = 200, description = "All of them", body = Page<VariableView>)))]
pub(crate) async fn list_variables(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Json<Page<VariableView>>, ApiError> {
    let variables = context.store.variables(app.id).await.map_err(from_store)?;
    Ok(Json(Page::whole(variables.into_iter().map(VariableView::from).collect())))
}

/// A variable.
#[utoipa::path(get, path = "/api/v1/apps/{app}/env/{variable}", tag = "env",
    responses((status = 200, description = "The variable", body = VariableView)))]
pub(crate) async fn get_variable(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, VariableName)>,
) -> Result<Json<VariableView>, ApiError> {
    find(&context, &app, &name).await.map(Json)
}

/// Sets a variable. The body is the value itself: up to 4 KiB of UTF-8 text.
#[utoipa::path(put, path = "/api/v1/apps/{app}/env/{variable}", tag = "env",
    request_body(content = String, content_type = "text/plain", description = "The value"),
    responses(
        (status = 200, description = "It has a new value", body = VariableView),
        (status = 201, description = "A new variable", body = VariableView)))]
pub(crate) async fn put_variable(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, VariableName)>,
    request: Request,
) -> Result<(StatusCode, Json<VariableView>), ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = read_raw(&parts.headers, body, MAX_BYTES).await?;
    let value = std::str::from_utf8(&bytes).map_err(|error| {
        let at = error.valid_up_to();
        ApiError::new(ErrorCode::Invalid, format!("the value is not UTF-8: byte {at} starts no character"))
    })?;
    let is_new = context.store.put_variable(app.id, &name, value.into()).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    let variable = find(&context, &app, &name).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(variable)))
}

/// Removes a variable.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/env/{variable}", tag = "env",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_variable(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, VariableName)>,
) -> Result<StatusCode, ApiError> {
    match context.store.delete_variable(app.id, &name).await {
        Ok(()) => {}
        Err(StoreError::NotFound { .. }) => return Err(not_found(&app, &name)),
        Err(error) => return Err(from_store(error)),
    }
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}
