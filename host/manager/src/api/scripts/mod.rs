//! Scripts: upload, read, versions, back to a version.

mod uses;
mod views;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{App, AppId, ErrorCode, ScriptName};
use picloud_store::{
    NewVersion, PageSize, PutVersion, RollBack, Script, ScriptSource, StoreError, VersionCondition,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::{Caller, TargetApp},
    api::triggers::unhandled,
    context::Context,
    deploy::{self, Import},
    error::ApiError,
    extract::{JsonBody, PathNames, QueryOf, read_source},
    page::{Page, PageQuery, start},
    precondition::{ETag, Precondition},
    store_error::from_store,
};

pub(crate) use uses::{Available, UsedView, UsesView, newly, view as uses_view};
use views::{PinnedImport, PutAnswer, RollbackAnswer, ScriptDetail, VersionView};
pub(crate) use views::{ScriptUrls, ScriptView};

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    /// Its number.
    version: i32,
}

/// `?version=` of a script.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SourceQuery {
    /// Number of the version to read; the active one if it is left out.
    version: Option<i32>,
}

fn tag(script: &Script) -> ETag {
    ETag::of(&[script.id.as_uuid().as_bytes(), &script.active.number.to_le_bytes()])
}

pub(crate) fn not_found(app: &App, name: &ScriptName) -> ApiError {
    ApiError::new(ErrorCode::ScriptNotFound, format!("no script \"{name}\" in app \"{}\"", app.name))
}

pub(crate) async fn find(context: &Context, app: &App, name: &ScriptName) -> Result<Script, ApiError> {
    context.store.script(app.id, name).await.map_err(from_store)?.ok_or_else(|| not_found(app, name))
}

/// Names the script where it is what is missing.
pub(crate) fn of_script(app: &App, name: &ScriptName, error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound { what: "script" } => not_found(app, name),
        other => from_store(other),
    }
}

/// Names the version that is missing, and those that there are.
async fn version_not_found(context: &Context, app: &App, name: &ScriptName, number: i32) -> ApiError {
    match context.store.versions(app.id, name, None, PageSize::MAX).await {
        // A script has at least one version: it was deleted in the meantime.
        Ok(found) if found.items.is_empty() => not_found(app, name),
        Ok(found) => {
            let numbers: Vec<i32> = found.items.iter().map(|listed| listed.version.number).collect();
            let there = views::numbers(&numbers, found.more);
            ApiError::new(
                ErrorCode::NotFound,
                format!("script \"{name}\" has no version {number}; it has {there}"),
            )
            .field("version")
        }
        Err(error) => from_store(error),
    }
}

/// The scripts of an app, by name.
#[utoipa::path(get, path = "/api/v1/apps/{app}/scripts", tag = "scripts", params(PageQuery),
    responses((status = 200, description = "A page of scripts", body = Page<ScriptView>)))]
pub(crate) async fn list_scripts(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<ScriptView>>, ApiError> {
    let after: Option<ScriptName> = start(query.cursor.as_ref())?;
    let found =
        context.store.scripts(app.id, after.as_ref(), query.limit.size()).await.map_err(from_store)?;
    let urls = ScriptUrls::load(&context, &app).await?;
    let view = |script: Script| ScriptView::of(&script, &urls);
    Ok(Json(Page::of(found, |script| script.name.clone(), view)))
}

/// A script with its source.
#[utoipa::path(get, path = "/api/v1/apps/{app}/scripts/{name}", tag = "scripts", params(SourceQuery),
    responses((status = 200, description = "The script, with the `etag` of its active version", body = ScriptDetail)))]
pub(crate) async fn get_script(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
    QueryOf(query): QueryOf<SourceQuery>,
) -> Result<Response, ApiError> {
    let script = find(&context, &app, &name).await?;
    let number = query.version.unwrap_or(script.active.number);
    let found = context.store.script_source(app.id, &name, Some(number)).await.map_err(from_store)?;
    let Some(ScriptSource { version, source, imports }) = found else {
        return Err(version_not_found(&context, &app, &name, number).await);
    };
    let etag = tag(&script);
    let shown = Script { active: version, ..script };
    let urls = ScriptUrls::load(&context, &app).await?;
    let imports = PinnedImport::list(imports);
    let detail = ScriptDetail { script: ScriptView::of(&shown, &urls), source, imports };
    Ok(([etag.header()], Json(detail)).into_response())
}

/// Uploads a script: compiles it in the sandbox, stores a version, makes it active.
///
/// The body is the Rhai source, as `text/plain` or `application/rhai`.
#[utoipa::path(put, path = "/api/v1/apps/{app}/scripts/{name}", tag = "scripts",
    params(
        ("if-match" = Option<String>, Header, description = "The `etag` that the change is based on."),
        ("if-none-match" = Option<String>, Header, description = "`*`: only if there is no such script yet.")),
    request_body(content = String, content_type = "text/plain", description = "The source"),
    responses(
        (status = 200, description = "A new version of it", body = PutAnswer),
        (status = 201, description = "A new script", body = PutAnswer)))]
pub(crate) async fn put_script(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let condition = condition(&context, app.id, &name, &Precondition::of(&parts.headers)?).await?;
    let source = read_source(&parts.headers, body, app.limits.source_bytes).await?;
    let built = deploy::build(&context, app.id, &name, &source, &Arc::default()).await?;
    let (imports, mut warnings) = (built.script.imports, built.script.warnings);
    let version = NewVersion {
        name: name.clone(),
        source: source.into(),
        image: built.script.image,
        handlers: built.script.handlers,
        uses: built.script.uses,
        imports: built.imports.iter().filter_map(Import::stored).collect(),
        created_by: Some(caller.principal.id),
    };
    let put = context.store.put_version(app.id, &version, condition).await;
    let put = put.map_err(|error| changed_meanwhile(error, condition))?;
    context.app_changed(app.id).await;
    let (status, unchanged) = match put {
        PutVersion::Created(_) => (StatusCode::CREATED, false),
        PutVersion::Updated { .. } => (StatusCode::OK, false),
        PutVersion::Unchanged(_) => (StatusCode::OK, true),
    };
    let importers = context.store.outdated_importers(app.id, std::slice::from_ref(&name)).await;
    let imported_by = importers.map_err(from_store)?.remove(&name).unwrap_or_default();
    let urls = ScriptUrls::load(&context, &app).await?;
    warnings.extend(Available::load(&context, &app).await?.warnings(&put));
    warnings.extend(unhandled(&context, &app, &[put.script()]).await?.into_values().flatten());
    let newly_uses = newly(&put);
    let headers = [tag(put.script()).header(), location(&app, &name)];
    let script = ScriptView::of(put.script(), &urls);
    let answer = PutAnswer { script, imports, newly_uses, warnings, unchanged, imported_by };
    Ok((status, headers, Json(answer)).into_response())
}

fn location(app: &App, name: &ScriptName) -> (HeaderName, String) {
    (header::LOCATION, format!("/api/v1/apps/{}/scripts/{name}", app.name))
}

/// What a precondition asks of the store: it is checked here against what is there, and again by the store
/// when it writes.
async fn condition(
    context: &Context,
    app: AppId,
    name: &ScriptName,
    precondition: &Precondition,
) -> Result<VersionCondition, ApiError> {
    if precondition.is_empty() {
        return Ok(VersionCondition::None);
    }
    let present = context.store.script(app, name).await.map_err(from_store)?;
    precondition.check(present.as_ref().map(tag).as_ref())?;
    Ok(present.map_or(VersionCondition::Absent, |script| VersionCondition::Active(script.active.number)))
}

fn changed_meanwhile(error: StoreError, condition: VersionCondition) -> ApiError {
    match (error, condition) {
        (StoreError::Conflict, VersionCondition::None) => ApiError::new(
            ErrorCode::AlreadyExists,
            "a library that it imports was removed in the meantime; upload it again",
        ),
        (StoreError::Conflict, _) => {
            ApiError::new(ErrorCode::PreconditionFailed, "the script was changed in the meantime")
        }
        (other, _) => from_store(other),
    }
}

/// Removes a script with all its versions; refused while a route or the active version of another script needs it.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/scripts/{name}", tag = "scripts",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_script(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
) -> Result<StatusCode, ApiError> {
    if let Err(error) = context.store.delete_script(app.id, &name).await {
        return Err(of_script(&app, &name, error));
    }
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The versions of a script, newest first.
#[utoipa::path(get, path = "/api/v1/apps/{app}/scripts/{name}/versions", tag = "scripts", params(PageQuery),
    responses((status = 200, description = "A page of versions", body = Page<VersionView>)))]
pub(crate) async fn list_versions(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<VersionView>>, ApiError> {
    let active = find(&context, &app, &name).await?.active.number;
    let before: Option<i32> = start(query.cursor.as_ref())?;
    let found =
        context.store.versions(app.id, &name, before, query.limit.size()).await.map_err(from_store)?;
    Ok(Json(Page::of(found, |listed| listed.version.number, |listed| VersionView::of(listed, active))))
}

/// Makes an older version active again; refused where a library that it imports was deleted since.
#[utoipa::path(post, path = "/api/v1/apps/{app}/scripts/{name}/rollback", tag = "scripts",
    request_body = Rollback,
    responses((status = 200, description = "The script as it is now", body = RollbackAnswer)))]
pub(crate) async fn rollback_script(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
    JsonBody(to): JsonBody<Rollback>,
) -> Result<Response, ApiError> {
    let by = Some(caller.principal.id);
    let (script, unchanged) = match context.store.roll_back(app.id, &name, to.version, by).await {
        Ok(RollBack::Activated(script)) => (script, false),
        Ok(RollBack::Unchanged(script)) => (script, true),
        Err(StoreError::NotFound { what: "version" }) => {
            return Err(version_not_found(&context, &app, &name, to.version).await);
        }
        Err(error) => return Err(of_script(&app, &name, error)),
    };
    context.app_changed(app.id).await;
    let urls = ScriptUrls::load(&context, &app).await?;
    let answer = RollbackAnswer { script: ScriptView::of(&script, &urls), unchanged };
    Ok(([tag(&script).header()], Json(answer)).into_response())
}
