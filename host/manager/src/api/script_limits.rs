//! The limits of a script, at or under those of its app.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use picloud_core::{LimitField, Limits, LimitsPatch, ScriptLimitsPatch, ScriptName};
use serde::{Serialize, Serializer, ser::SerializeMap};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use super::{limits::number, scripts};
use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames},
    precondition::{ETag, Precondition},
};

/// The limits in force for a script, and under `own` those that it sets for itself.
#[derive(Debug)]
pub(crate) struct ScriptLimitsView {
    in_force: Limits,
    own: LimitsPatch,
}

/// What a client changes of them: a number sets a limit, null gives it back to the app.
pub(crate) struct ScriptLimitsChange;

impl ScriptLimitsView {
    pub(crate) fn of(app: &Limits, own: &LimitsPatch) -> Self {
        Self { in_force: app.for_script(own), own: *own }
    }

    fn tag(&self) -> ETag {
        let values: Vec<[u8; 8]> = LimitField::OF_SCRIPTS
            .iter()
            .flat_map(|field| [self.in_force.get(*field), self.own.get(*field).unwrap_or(u64::MAX)])
            .map(u64::to_le_bytes)
            .collect();
        ETag::of(&values.iter().map(<[u8; 8]>::as_slice).collect::<Vec<_>>())
    }
}

impl Serialize for ScriptLimitsView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in LimitField::OF_SCRIPTS {
            map.serialize_entry(field.as_str(), &self.in_force.get(*field))?;
        }
        map.serialize_entry("own", &self.own)?;
        map.end()
    }
}

fn numbers(description: &str) -> ObjectBuilder {
    let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(description));
    let object = object.additional_properties(Some(AdditionalProperties::FreeForm(false)));
    LimitField::OF_SCRIPTS
        .iter()
        .fold(object, |object, field| object.property(field.as_str(), number(*field)))
}

impl PartialSchema for ScriptLimitsView {
    fn schema() -> RefOr<Schema> {
        let own = numbers("Those that the script sets for itself.").build();
        let view = numbers("The limits in force for a script: the lesser of its app's and its own.");
        let view = LimitField::OF_SCRIPTS.iter().fold(view, |view, field| view.required(field.as_str()));
        RefOr::T(view.property("own", own).required("own").build().into())
    }
}

impl ToSchema for ScriptLimitsView {
    fn name() -> std::borrow::Cow<'static, str> {
        "ScriptLimits".into()
    }
}

impl PartialSchema for ScriptLimitsChange {
    fn schema() -> RefOr<Schema> {
        let text = "A change of a script's limits: a number sets a limit, null gives it back to the app, the rest stays.";
        let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(text));
        let object = object.additional_properties(Some(AdditionalProperties::FreeForm(false)));
        let object = LimitField::OF_SCRIPTS.iter().fold(object, |object, field| {
            let types = SchemaType::from_iter([Type::Integer, Type::Null]);
            object.property(field.as_str(), ObjectBuilder::new().schema_type(types))
        });
        RefOr::T(object.build().into())
    }
}

impl ToSchema for ScriptLimitsChange {}

/// The limits in force for a script.
#[utoipa::path(get, path = "/api/v1/apps/{app}/scripts/{name}/limits", tag = "scripts",
    responses((status = 200, description = "The limits, with an `etag`", body = ScriptLimitsView)))]
pub(crate) async fn get_script_limits(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
) -> Result<Response, ApiError> {
    let script = scripts::find(&context, &app, &name).await?;
    Ok(answer(ScriptLimitsView::of(&app.limits, &script.limits)))
}

/// Changes the limits that the body names; none may be above the app's.
#[utoipa::path(put, path = "/api/v1/apps/{app}/scripts/{name}/limits", tag = "scripts",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    request_body = ScriptLimitsChange,
    responses((status = 200, description = "The limits in force now", body = ScriptLimitsView)))]
pub(crate) async fn set_script_limits(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, name)): PathNames<(String, ScriptName)>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<ScriptLimitsPatch>,
) -> Result<Response, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    let limits = context.app(&app.name).await?.limits;
    limits.check_script(&change)?;
    let present = scripts::find(&context, &app, &name).await?;
    precondition.check(Some(&ScriptLimitsView::of(&limits, &present.limits).tag()))?;
    let own = context.store.patch_script_limits(app.id, &name, &change).await;
    let own = own.map_err(|error| scripts::of_script(&app, &name, error))?;
    drop(turn);
    context.app_changed(app.id).await;
    Ok(answer(ScriptLimitsView::of(&limits, &own)))
}

fn answer(view: ScriptLimitsView) -> Response {
    ([view.tag().header()], Json(view)).into_response()
}
