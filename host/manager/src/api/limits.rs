//! The limits of an app.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use picloud_core::{LimitField, Limits, LimitsPatch, UNLIMITED};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::JsonBody,
    precondition::{ETag, Precondition},
    store_error::from_store,
};

/// Limits as clients see them: one flat object of whole numbers, null where there is none.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct LimitsView(pub(crate) Limits);

/// What a client changes of limits: what it names is replaced.
pub(crate) struct LimitsChange;

/// A limit in the document.
pub(super) fn number(field: LimitField) -> ObjectBuilder {
    let range = |value: u64| if value == UNLIMITED { "none".to_owned() } else { value.to_string() };
    let object = ObjectBuilder::new().minimum(Some(field.least() as f64)).description(Some(format!(
        "Least {}, default {}, ceiling {} unless {} sets another.",
        field.least(),
        range(field.default()),
        range(field.default_ceiling()),
        field.env()
    )));
    if field.is_optional() {
        object.schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
    } else {
        object.schema_type(Type::Integer).default(Some(field.default().into()))
    }
}

fn schema(description: &str, are_required: bool) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(description));
    let object = LimitField::ALL.iter().fold(object, |object, field| {
        let object = object.property(field.as_str(), number(*field));
        if are_required { object.required(field.as_str()) } else { object }
    });
    RefOr::T(object.additional_properties(Some(AdditionalProperties::FreeForm(false))).build().into())
}

impl PartialSchema for LimitsView {
    fn schema() -> RefOr<Schema> {
        schema("The limits in force for an app.", true)
    }
}

impl ToSchema for LimitsView {
    fn name() -> std::borrow::Cow<'static, str> {
        "Limits".into()
    }
}

impl PartialSchema for LimitsChange {
    fn schema() -> RefOr<Schema> {
        schema("A change of limits: what is named is replaced, the rest stays.", false)
    }
}

impl ToSchema for LimitsChange {}

/// The limits in force.
#[utoipa::path(get, path = "/api/v1/apps/{app}/limits", tag = "apps",
    responses((status = 200, description = "The limits, with an `etag`", body = LimitsView)))]
pub(crate) async fn get_limits(TargetApp(app): TargetApp) -> Response {
    ([tag(&app.limits).header()], Json(LimitsView(app.limits))).into_response()
}

/// Replaces the limits that the body names; none may be above the platform's ceiling.
#[utoipa::path(put, path = "/api/v1/apps/{app}/limits", tag = "apps",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    request_body = LimitsChange,
    responses((status = 200, description = "The limits in force now", body = LimitsView)))]
pub(crate) async fn set_limits(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    headers: HeaderMap,
    JsonBody(change): JsonBody<LimitsPatch>,
) -> Result<Response, ApiError> {
    let ceiling = &context.config.ceiling;
    ceiling.check(&change)?;
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    let present = context.app(&app.name).await?;
    precondition.check(Some(&tag(&present.limits)))?;
    let stored = context.store.patch_limits(app.id, &change).await.map_err(from_store)?;
    drop(turn);
    context.app_changed(app.id).await;
    let limits = ceiling.clamp(&stored);
    Ok(([tag(&limits).header()], Json(LimitsView(limits))).into_response())
}

fn tag(limits: &Limits) -> ETag {
    let values: Vec<[u8; 8]> = LimitField::ALL.iter().map(|field| limits.get(*field).to_le_bytes()).collect();
    ETag::of(&values.iter().map(<[u8; 8]>::as_slice).collect::<Vec<_>>())
}
