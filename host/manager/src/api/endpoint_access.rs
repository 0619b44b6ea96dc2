//! What holds for all endpoints of an app: which pages may read answers, which addresses may call, and how often.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use picloud_core::{AccessPatch, AccessSettings, RateLimit};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::JsonBody,
    precondition::{ETag, Precondition},
    store_error::from_store,
};

/// So many requests in so many seconds: all of them may come at once, and then one in each part of the time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rate {
    /// 1 to 1,000,000.
    requests: u32,
    /// 1 to 86,400.
    seconds: u32,
}

impl From<RateLimit> for Rate {
    fn from(rate: RateLimit) -> Self {
        Self { requests: rate.requests(), seconds: rate.seconds() }
    }
}

/// What holds for all endpoints of an app.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct EndpointAccess {
    /// Which pages of other origins may read answers. `null` leaves that to the scripts.
    #[schema(required = true)]
    cors: Option<CrossOrigin>,
    /// Addresses and networks that may call; all may if there are none.
    #[schema(max_items = 256, example = json!(["192.0.2.0/24", "2001:db8::/32"]))]
    allow_ips: Vec<String>,
    /// Addresses and networks that may not call, also if they are allowed.
    #[schema(max_items = 256)]
    deny_ips: Vec<String>,
    /// How many requests all clients together may make.
    #[schema(required = true)]
    rate_limit: Option<Rate>,
    /// How many requests each client may make; a route can have another.
    #[schema(required = true)]
    client_rate_limit: Option<Rate>,
    /// Whether the error text of scripts is shown to everybody.
    development: bool,
}

/// A change of what holds for all endpoints: what is named is replaced, `null` takes it away, the rest stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct EndpointAccessChange {
    /// Which pages of other origins may read answers.
    cors: Option<CrossOrigin>,
    /// Addresses and networks that may call; `[]` for all.
    #[schema(max_items = 256)]
    allow_ips: Option<Vec<String>>,
    /// Addresses and networks that may not call.
    #[schema(max_items = 256)]
    deny_ips: Option<Vec<String>>,
    /// How many requests all clients together may make.
    rate_limit: Option<Rate>,
    /// How many requests each client may make.
    client_rate_limit: Option<Rate>,
    /// Whether the error text of scripts is shown to everybody.
    development: Option<bool>,
}

/// Cross-origin sharing (CORS).
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct CrossOrigin {
    /// Origins, or `*` alone for all.
    #[schema(min_items = 1, max_items = 100, example = json!(["https://shop.example"]))]
    origins: Vec<String>,
    /// Methods that pages may use; all of them if left out.
    methods: Option<Vec<String>>,
    /// Headers that pages may send, or `*` alone for all; none if left out.
    #[schema(max_items = 50)]
    headers: Option<Vec<String>>,
    /// Headers of answers that pages may read, or `*` alone for all; none if left out.
    #[schema(max_items = 50)]
    exposed_headers: Option<Vec<String>>,
    /// Whether pages may send cookies; never together with a `*`.
    credentials: Option<bool>,
    /// How long a browser may remember a permission: 0 to 86,400, 600 if left out.
    max_age_seconds: Option<u32>,
}

/// Who may call an app's endpoints.
#[utoipa::path(get, path = "/api/v1/apps/{app}/access", tag = "apps",
    responses((status = 200, description = "The settings, with an `etag`", body = EndpointAccess)))]
pub(crate) async fn get_access(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Response, ApiError> {
    let settings = context.store.access_settings(app.id).await.map_err(from_store)?;
    answer(settings)
}

/// Replaces the settings that the body names.
#[utoipa::path(put, path = "/api/v1/apps/{app}/access", tag = "apps",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    request_body = EndpointAccessChange,
    responses((status = 200, description = "The settings as they are now", body = EndpointAccess)))]
pub(crate) async fn set_access(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    headers: HeaderMap,
    JsonBody(change): JsonBody<AccessPatch>,
) -> Result<Response, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let turn = context.limits_turn.lock().await;
    if !precondition.is_empty() {
        let present = context.store.access_settings(app.id).await.map_err(from_store)?;
        precondition.check(Some(&ETag::of_json(&present)?))?;
    }
    let settings = context.store.patch_access(app.id, &change).await.map_err(from_store)?;
    drop(turn);
    context.app_changed(app.id).await;
    answer(settings)
}

fn answer(settings: AccessSettings) -> Result<Response, ApiError> {
    Ok(([ETag::of_json(&settings)?.header()], Json(settings)).into_response())
}
