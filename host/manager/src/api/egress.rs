//! What an app's scripts may call over HTTP.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use picloud_core::EgressRules;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::JsonBody,
    precondition::{ETag, Precondition},
    store_error::from_store,
};

/// What an app's scripts may call over HTTP. Nothing else may be called.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct Egress {
    /// What is allowed.
    #[schema(max_items = 100)]
    allow: Vec<EgressAllowed>,
}

/// One line of the allow-list.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct EgressAllowed {
    /// A name; `*.example.com` for every name below it; `*` for every name; or an address. It is kept in lower case and
    /// in punycode.
    #[schema(example = "api.example.com")]
    host: String,
    /// `https`, or `http` for calls in clear; `https` if left out.
    scheme: Option<String>,
    /// 443 for https and 80 for http if left out.
    #[schema(minimum = 1, maximum = 65535)]
    port: Option<u16>,
    /// All if left out.
    #[schema(min_items = 1, example = json!(["GET"]))]
    methods: Option<Vec<String>>,
}

/// The allow-list of calls to other services.
#[utoipa::path(get, path = "/api/v1/apps/{app}/egress", tag = "apps",
    responses((status = 200, description = "The list, with an `etag`", body = Egress)))]
pub(crate) async fn get_egress(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Response, ApiError> {
    let rules = context.store.egress_rules(app.id).await.map_err(from_store)?;
    answer(rules)
}

/// Replaces the allow-list.
#[utoipa::path(put, path = "/api/v1/apps/{app}/egress", tag = "apps",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    request_body = Egress,
    responses((status = 200, description = "The list as it is now", body = Egress)))]
pub(crate) async fn set_egress(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    headers: HeaderMap,
    JsonBody(rules): JsonBody<EgressRules>,
) -> Result<Response, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    if !precondition.is_empty() {
        let present = context.store.egress_rules(app.id).await.map_err(from_store)?;
        precondition.check(Some(&ETag::of_json(&present)?))?;
    }
    context.store.put_egress_rules(app.id, &rules).await.map_err(from_store)?;
    drop(turn);
    context.app_changed(app.id).await;
    answer(rules)
}

fn answer(rules: EgressRules) -> Result<Response, ApiError> {
    Ok(([ETag::of_json(&rules)?.header()], Json(rules)).into_response())
}
