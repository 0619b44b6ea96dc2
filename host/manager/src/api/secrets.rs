//! Secrets of an app: set, listed and removed, never read.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use picloud_core::{App, ErrorCode, ScriptName, SecretName, SecretPlace, SecretValue, SecretValueError};
use picloud_store::{SecretRow, StoreError, StoredSecret};
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

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretView {
    /// Its name.
    #[schema(value_type = String)]
    name: SecretName,
    /// When it was first set.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last set.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// The scripts whose active version declares it, by name.
    #[schema(value_type = Vec<String>)]
    used_by: Vec<ScriptName>,
}

impl From<SecretRow> for SecretView {
    fn from(row: SecretRow) -> Self {
        let SecretRow { name, created_at, updated_at, used_by } = row;
        Self { name, created_at, updated_at, used_by }
    }
}

fn not_found(app: &App, name: &SecretName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("no secret \"{name}\" in app \"{}\"", app.name))
}

/// The secrets of an app, by name, and which scripts declare them. No call gives a value.
#[utoipa::path(get, path = "/api/v1/apps/{app}/secrets", tag = "secrets",
    responses((status = 200, description = "All of them", body = Page<SecretView>)))]
pub(crate) async fn list_secrets(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Json<Page<SecretView>>, ApiError> {
    let rows = context.store.secrets(app.id).await.map_err(from_store)?;
    Ok(Json(Page::whole(rows.into_iter().map(SecretView::from).collect())))
}

/// Sets a secret. The body is the value itself: 1 byte to 64 KiB of UTF-8 text.
#[utoipa::path(put, path = "/api/v1/apps/{app}/secrets/{secret}", tag = "secrets",
    request_body(content = String, content_type = "text/plain", description = "The value"),
    responses(
        (status = 200, description = "It has a new value", body = SecretView),
        (status = 201, description = "A new secret", body = SecretView)))]
pub(crate) async fn put_secret(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, SecretName)>,
    request: Request,
) -> Result<(StatusCode, Json<SecretView>), ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = read_raw(&parts.headers, body, SecretValue::MAX_BYTES as u64).await?;
    let value = SecretValue::new(bytes.into()).map_err(refusal)?;
    let version = context.store.next_secret_version().await.map_err(from_store)?;
    let place = SecretPlace { app: app.id, name: &name, version };
    let sealed = context
        .vault
        .seal(place, &value)
        .map_err(|error| ApiError::internal("the encryption of a secret", &error))?;
    drop(value);
    let put = context.store.put_secret(app.id, &name, &StoredSecret { version, sealed }).await;
    let is_new = put.map_err(from_store)?;
    context.app_changed(app.id).await;
    let rows = context.store.secrets(app.id).await.map_err(from_store)?;
    let row = rows.into_iter().find(|row| row.name == name).ok_or_else(|| not_found(&app, &name))?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(row.into())))
}

fn refusal(error: SecretValueError) -> ApiError {
    let code = match error {
        SecretValueError::Empty | SecretValueError::NotText(_) => ErrorCode::Invalid,
        SecretValueError::TooLarge(_) => ErrorCode::BodyTooLarge,
    };
    ApiError::new(code, error.to_string())
}

/// Removes a secret. Scripts that read it fail with `secret_not_found` from the next request on.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/secrets/{secret}", tag = "secrets",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_secret(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, SecretName)>,
) -> Result<StatusCode, ApiError> {
    match context.store.delete_secret(app.id, &name).await {
        Ok(()) => {}
        Err(StoreError::NotFound { .. }) => return Err(not_found(&app, &name)),
        Err(error) => return Err(from_store(error)),
    }
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}
