//! Triggers: which scripts run when something happens.

mod fire;
mod schedule;
mod views;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use picloud_core::{App, ErrorCode, TriggerSpec};
use picloud_store::{PutTrigger, StoreError, Trigger};

use crate::{
    access::{Caller, TargetApp},
    api::scripts::of_script,
    audit::AuditNote,
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames, QueryOf},
    page::{Page, PageQuery, start},
    precondition::Precondition,
    store_error::from_store,
};

pub(crate) use fire::{__path_fire_trigger, fire_trigger};
pub(crate) use schedule::{__path_read_schedule, read_schedule};
pub(crate) use views::{PutTriggerAnswer, TriggerFields, unhandled};
use views::{TriggerChange, TriggerRef, TriggerView};

/// The triggers of an app, by name.
#[utoipa::path(get, path = "/api/v1/apps/{app}/triggers", tag = "triggers", params(PageQuery),
    responses((status = 200, description = "A page of them", body = Page<TriggerView>)))]
pub(crate) async fn list_triggers(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<TriggerView>>, ApiError> {
    let after = start(page.cursor.as_ref())?;
    let found =
        context.store.triggers(app.id, after.as_ref(), page.limit.size()).await.map_err(from_store)?;
    Ok(Json(Page::of(found, |trigger| trigger.spec.name.clone(), TriggerView::from)))
}

/// A trigger.
#[utoipa::path(get, path = "/api/v1/apps/{app}/triggers/{trigger}", tag = "triggers",
    responses((status = 200, description = "The trigger, with an `etag`", body = TriggerView)))]
pub(crate) async fn get_trigger(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, named)): PathNames<(String, TriggerRef)>,
) -> Result<Response, ApiError> {
    let view = TriggerView::from(named.find(&context, &app).await?);
    Ok(([view.etag()?.header()], Json(view)).into_response())
}

/// Makes a trigger. It runs as who makes it.
#[utoipa::path(post, path = "/api/v1/apps/{app}/triggers", tag = "triggers", request_body = TriggerFields,
    responses((status = 201, description = "The trigger, with an `etag`", body = PutTriggerAnswer)))]
pub(crate) async fn create_trigger(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    JsonBody(spec): JsonBody<TriggerSpec>,
) -> Result<Response, ApiError> {
    let made = context.store.create_trigger(app.id, caller.principal.id, &spec).await;
    let trigger = made.map_err(|error| refused(&app, &spec, error))?;
    context.app_changed(app.id).await;
    let note = AuditNote { target: Some(spec.name.to_string()), ..AuditNote::default() };
    let answer = answer(&context, &app, StatusCode::CREATED, trigger).await?;
    Ok((Extension(note), answer).into_response())
}

/// Makes the trigger of a name, or replaces a trigger. By its id it may be given another name. Its kind cannot change.
///
/// It is registered anew: it runs as who puts it. Else who changes which script a trigger runs would have it run with
/// the rights of whoever registered it before.
#[utoipa::path(put, path = "/api/v1/apps/{app}/triggers/{trigger}", tag = "triggers", request_body = TriggerFields,
    params(
        ("if-match" = Option<String>, Header, description = "The `etag` that the change is based on."),
        ("if-none-match" = Option<String>, Header, description = "`*`: only if there is none.")),
    responses(
        (status = 201, description = "A new trigger, with an `etag`", body = PutTriggerAnswer),
        (status = 200, description = "The trigger as it is now, with an `etag`", body = PutTriggerAnswer)))]
pub(crate) async fn put_trigger(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, named)): PathNames<(String, TriggerRef)>,
    headers: HeaderMap,
    JsonBody(spec): JsonBody<TriggerSpec>,
) -> Result<Response, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    check(&context, &app, &named, &precondition).await?;
    let put = match &named {
        TriggerRef::Id(id) => {
            let replaced = context.store.replace_trigger(app.id, *id, caller.principal.id, &spec).await;
            replaced.map(PutTrigger::Replaced)
        }
        TriggerRef::Name(name) if *name == spec.name => {
            context.store.put_trigger(app.id, caller.principal.id, &spec).await
        }
        TriggerRef::Name(name) => {
            let detail = format!(
                "name: it is {}, and the path names {name}; to give a trigger another name, put it by its id",
                spec.name
            );
            return Err(ApiError::new(ErrorCode::Invalid, detail).field("name"));
        }
    };
    drop(turn);
    let put = put.map_err(|error| match error {
        StoreError::NotFound { what: "trigger" } => named.not_found(&app),
        other => refused(&app, &spec, other),
    })?;
    context.app_changed(app.id).await;
    let (status, trigger) = match put {
        PutTrigger::Created(trigger) => (StatusCode::CREATED, trigger),
        PutTrigger::Replaced(trigger) => (StatusCode::OK, trigger),
    };
    answer(&context, &app, status, trigger).await
}

/// Enables or disables a trigger. It stays registered by who it was.
#[utoipa::path(patch, path = "/api/v1/apps/{app}/triggers/{trigger}", tag = "triggers", request_body = TriggerChange,
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    responses((status = 200, description = "The trigger as it is now, with an `etag`", body = TriggerView)))]
pub(crate) async fn change_trigger(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, named)): PathNames<(String, TriggerRef)>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<TriggerChange>,
) -> Result<Response, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    check(&context, &app, &named, &precondition).await?;
    let trigger = named.find(&context, &app).await?;
    let changed = context.store.set_trigger_enabled(app.id, trigger.id, change.enabled).await;
    drop(turn);
    let view = TriggerView::from(changed.map_err(from_store)?);
    context.app_changed(app.id).await;
    Ok(([view.etag()?.header()], Json(view)).into_response())
}

/// Removes a trigger. Those of its events that wait become dead letters.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/triggers/{trigger}", tag = "triggers",
    params(("if-match" = Option<String>, Header, description = "The `etag` of what is to be removed.")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_trigger(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, named)): PathNames<(String, TriggerRef)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    check(&context, &app, &named, &precondition).await?;
    let trigger = named.find(&context, &app).await?;
    context.store.delete_trigger(app.id, trigger.id).await.map_err(from_store)?;
    drop(turn);
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(
    context: &Context,
    app: &App,
    named: &TriggerRef,
    precondition: &Precondition,
) -> Result<(), ApiError> {
    if precondition.is_empty() {
        return Ok(());
    }
    let present = named.look_up(context, app).await?.map(TriggerView::from);
    let etag = present.as_ref().map(TriggerView::etag).transpose()?;
    precondition.check(etag.as_ref())
}

async fn answer(
    context: &Context,
    app: &App,
    status: StatusCode,
    trigger: Trigger,
) -> Result<Response, ApiError> {
    let mut answers = PutTriggerAnswer::of_all(context, app, vec![trigger]).await?;
    let answer =
        answers.pop().ok_or_else(|| ApiError::internal("an answer", &"there is no trigger in it"))?;
    Ok((status, [answer.etag()?.header()], Json(answer)).into_response())
}

/// Why a trigger was not stored.
fn refused(app: &App, spec: &TriggerSpec, error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound { what: "script" } => of_script(app, &spec.script, error).field("script"),
        StoreError::AlreadyExists { what: "trigger" } => ApiError::new(
            ErrorCode::AlreadyExists,
            format!("the app has a trigger \"{}\" already; put it to replace it", spec.name),
        )
        .field("name"),
        other => from_store(other),
    }
}
