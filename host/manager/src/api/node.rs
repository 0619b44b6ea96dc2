//! The node, the caller, and this API itself.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use picloud_core::{AppId, NodeStatus, PrincipalId, Scope, SessionId, TokenId};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::{Caller, Credential},
    context::Context,
    openapi::openapi_json,
};

/// Who the token or session of a request stands for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WhoAmI {
    /// Id of the principal.
    #[schema(value_type = uuid::Uuid)]
    id: PrincipalId,
    /// Its name.
    name: String,
    /// `user` or `service`.
    kind: &'static str,
    /// Its role in the installation: `owner` or `member`.
    role: &'static str,
    /// Id of the token; null for a session.
    #[schema(value_type = Option<uuid::Uuid>)]
    token_id: Option<TokenId>,
    /// Id of the session; null for a token.
    #[schema(value_type = Option<uuid::Uuid>)]
    session_id: Option<SessionId>,
    /// When the token or session ends; null if it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// What it allows.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// The only app that the token is good for; null if it is for all.
    #[schema(value_type = Option<uuid::Uuid>)]
    app_id: Option<AppId>,
}

/// The state of the node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    /// The program's version.
    version: &'static str,
    /// Whether it takes requests.
    ready: bool,
    /// Whether it is shutting down.
    draining: bool,
    /// How instances get their memory: `pool_guarded`, `pool_compact` or `on_demand`.
    pool_mode: &'static str,
    /// How a used slot is reset: `pagemap_scan` or `decommit`.
    reset: &'static str,
    /// Invocations that run now.
    running: usize,
    /// Invocations that wait for a slot now.
    waiting: usize,
}

impl From<NodeStatus> for Status {
    fn from(node: NodeStatus) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ready: node.ready,
            draining: node.draining,
            pool_mode: node.pool_mode,
            reset: node.reset,
            running: node.running,
            waiting: node.waiting,
        }
    }
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "node",
    responses((status = 200, description = "The OpenAPI 3.1 document", body = Object)))]
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi_json()).into_response()
}

/// Who the token or session stands for, and what it allows.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "node",
    responses((status = 200, description = "The caller", body = WhoAmI)))]
pub(crate) async fn whoami(caller: Caller) -> Json<WhoAmI> {
    Json(WhoAmI {
        id: caller.principal.id,
        name: caller.principal.name.to_string(),
        kind: caller.principal.kind.as_str(),
        role: caller.principal.role.as_str(),
        token_id: match caller.credential {
            Credential::Token(id) => Some(id),
            Credential::Session(_) => None,
        },
        session_id: match caller.credential {
            Credential::Session(id) => Some(id),
            Credential::Token(_) => None,
        },
        expires_at: caller.expires_at,
        scopes: caller.scopes,
        app_id: caller.app,
    })
}

/// The state of the node.
#[utoipa::path(get, path = "/api/v1/status", tag = "node",
    responses((status = 200, description = "The state of the node", body = Status)))]
pub(crate) async fn status(State(context): State<Context>) -> Json<Status> {
    Json(context.node.status().into())
}
