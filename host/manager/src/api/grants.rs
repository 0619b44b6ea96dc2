//! What the scripts of an app may use, where it wants to be asked before they use more.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use picloud_core::Uses;
use picloud_store::GrantsSet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scripts::{UsedView, UsesView, uses_view};
use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::JsonBody,
    precondition::{ETag, Precondition},
    store_error::from_store,
};

/// What an app grants.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GrantsView {
    /// Whether a version that uses more is refused.
    strict: bool,
    /// What its scripts may use, by kind. It counts only while the app is strict.
    #[schema(value_type = BTreeMap<String, UsedView>)]
    uses: UsesView,
    /// The scripts whose active version uses more than that, with what it is; they run as they are.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, UsedView>>)]
    beyond: BTreeMap<String, UsesView>,
}

/// What an app is to grant, in place of what it granted before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGrants {
    /// Whether a version that uses more is refused.
    strict: bool,
    /// What its scripts may use. Left out: what was granted before, and what the active versions use.
    #[schema(value_type = Option<BTreeMap<String, UsedView>>)]
    uses: Option<Uses>,
}

/// What an app grants to its scripts.
#[utoipa::path(get, path = "/api/v1/apps/{app}/grants", tag = "apps",
    responses((status = 200, description = "What it grants, with an `etag`", body = GrantsView)))]
pub(crate) async fn get_grants(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Response, ApiError> {
    let grants = context.store.grants(app.id).await.map_err(from_store)?;
    answer(grants)
}

/// Replaces what an app grants to its scripts.
#[utoipa::path(put, path = "/api/v1/apps/{app}/grants", tag = "apps",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    request_body = NewGrants,
    responses((status = 200, description = "What it grants now", body = GrantsView)))]
pub(crate) async fn set_grants(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    headers: HeaderMap,
    JsonBody(new): JsonBody<NewGrants>,
) -> Result<Response, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    if !precondition.is_empty() {
        let present = context.store.grants(app.id).await.map_err(from_store)?;
        precondition.check(Some(&tag(&present)?))?;
    }
    let grants = context.store.set_grants(app.id, new.strict, new.uses.as_ref()).await.map_err(from_store)?;
    drop(turn);
    answer(grants)
}

fn answer(set: GrantsSet) -> Result<Response, ApiError> {
    let tag = tag(&set)?;
    let GrantsSet { grants, beyond } = set;
    let beyond = beyond.iter().map(|(script, uses)| (script.to_string(), uses_view(uses)));
    let view = GrantsView { strict: grants.strict, uses: uses_view(&grants.uses), beyond: beyond.collect() };
    Ok(([tag.header()], Json(view)).into_response())
}

fn tag(set: &GrantsSet) -> Result<ETag, ApiError> {
    ETag::of_json(&(set.grants.strict, &set.grants.uses))
}
