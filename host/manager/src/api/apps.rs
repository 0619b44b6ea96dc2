//! Apps.

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{App, AppId, AppName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::{Caller, TargetApp},
    api::limits::LimitsView,
    audit::AuditNote,
    context::Context,
    error::ApiError,
    extract::{JsonBody, QueryOf},
    page::{Page, PageQuery, start},
    store_error::from_store,
};

/// An app to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApp {
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`.
    #[schema(value_type = String, example = "demo")]
    name: AppName,
}

/// An app.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppView {
    /// Its id, which never changes.
    #[schema(value_type = uuid::Uuid)]
    id: AppId,
    /// Its name.
    #[schema(value_type = String)]
    name: AppName,
    /// Where its scripts answer.
    url: String,
    /// The limits in force.
    limits: LimitsView,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// An app, and what there is to look after.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppDetail {
    #[serde(flatten)]
    app: AppView,
    /// Dead letters that nobody has looked after.
    unresolved_dead_letters: u64,
}

impl AppView {
    fn of(context: &Context, app: App) -> Self {
        let url = context.config.apps.url(&app.name, "/");
        Self { id: app.id, name: app.name, url, limits: LimitsView(app.limits), created_at: app.created_at }
    }
}

/// The apps that the caller may see, by name.
#[utoipa::path(get, path = "/api/v1/apps", tag = "apps", params(PageQuery),
    responses((status = 200, description = "A page of apps", body = Page<AppView>)))]
pub(crate) async fn list_apps(
    State(context): State<Context>,
    caller: Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<AppView>>, ApiError> {
    let after: Option<AppName> = start(query.cursor.as_ref())?;
    let found = context.store.apps(caller.apps_seen(), after.as_ref(), query.limit.size()).await;
    let found = found.map_err(from_store)?;
    let view = |row| AppView::of(&context, context.in_force(row));
    Ok(Json(Page::of(found, |row| row.name.clone(), view)))
}

/// Makes an app. Whoever makes it is its admin; an owner may do everything in every app.
#[utoipa::path(post, path = "/api/v1/apps", tag = "apps", request_body = NewApp,
    responses((status = 201, description = "The app", body = AppView)))]
pub(crate) async fn create_app(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(new): JsonBody<NewApp>,
) -> Result<Response, ApiError> {
    let row = context.store.create_app_of(&new.name, caller.first_member()).await.map_err(from_store)?;
    context.app_changed(row.id).await;
    let app = AppView::of(&context, context.in_force(row));
    let location = format!("/api/v1/apps/{}", app.name);
    let note = AuditNote { app: Some((app.id, app.name.clone())), ..AuditNote::default() };
    Ok((StatusCode::CREATED, Extension(note), [(header::LOCATION, location)], Json(app)).into_response())
}

/// An app.
#[utoipa::path(get, path = "/api/v1/apps/{app}", tag = "apps",
    responses((status = 200, description = "The app", body = AppDetail)))]
pub(crate) async fn get_app(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Json<AppDetail>, ApiError> {
    let unresolved_dead_letters = context.store.unresolved_dead_letters(app.id).await.map_err(from_store)?;
    Ok(Json(AppDetail { app: AppView::of(&context, app), unresolved_dead_letters }))
}

/// Removes an app with all that belongs to it: scripts, routes, data, history.
#[utoipa::path(delete, path = "/api/v1/apps/{app}", tag = "apps",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_app(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<StatusCode, ApiError> {
    context.store.delete_app(app.id).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}
