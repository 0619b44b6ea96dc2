//! Whether the node lives, whether it can serve, and what it counts.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{Confinement, NodeStatus};
use picloud_store::Store;
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Context;

/// Counts the answers of this API by the class of their status.
#[derive(Debug, Default)]
pub(crate) struct ApiMetrics {
    classes: [AtomicU64; 5],
}

impl ApiMetrics {
    /// Counts an answer.
    pub(crate) fn count(&self, status: StatusCode) {
        if let Some(class) = self.classes.get(usize::from(status.as_u16() / 100).saturating_sub(1)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&self, text: &mut String) {
        text.push_str("# HELP picloud_api_responses Answers of the management API by class of status.\n");
        text.push_str("# TYPE picloud_api_responses counter\n");
        for (class, count) in (1..).zip(&self.classes) {
            let count = count.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "picloud_api_responses_total{{status=\"{class}xx\"}} {count}");
        }
    }
}

/// Whether the node can serve.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether it can.
    ready: bool,
    /// The database.
    database: DatabaseState,
    /// The node.
    node: NodeState,
    /// Whether the database's notifications arrive: without them changes that other servers make are not seen, as it is
    /// behind a pool of connections in transaction mode. Null while that was not tried out.
    notifications: Option<bool>,
    /// How instances get their memory.
    pool_mode: &'static str,
    /// How a used slot is reset.
    reset: &'static str,
    /// What the operating system keeps the server from: of `no_new_privileges`, `capabilities`, `core_dumps`,
    /// `write_paths` and `system_calls` those that are in force.
    #[schema(value_type = Vec<String>)]
    confinement: Confinement,
    /// Why it cannot serve; empty if it can.
    reasons: Vec<&'static str>,
}

/// The state of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DatabaseState {
    /// It answers, and its schema is the one of this program.
    Ready,
    /// It answers, but has another schema.
    OtherSchema,
    /// It does not answer.
    Unavailable,
}

/// The state of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    /// It takes requests.
    Ready,
    /// It does not yet.
    Starting,
    /// It is shutting down.
    Draining,
}

impl DatabaseState {
    async fn of(store: &Store) -> Self {
        let state = match store.ping().await {
            Ok(()) => store.migrations_current().await,
            Err(error) => Err(error),
        };
        match state {
            Ok(true) => Self::Ready,
            Ok(false) => Self::OtherSchema,
            Err(error) => {
                tracing::warn!(%error, "the database does not answer");
                Self::Unavailable
            }
        }
    }

    const fn problem(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::OtherSchema => {
                Some("the database's schema is not the one of this program; run `picloud migrate`")
            }
            Self::Unavailable => Some("the database does not answer"),
        }
    }
}

impl NodeState {
    const fn of(status: &NodeStatus) -> Self {
        match (status.draining, status.ready) {
            (true, _) => Self::Draining,
            (false, true) => Self::Ready,
            (false, false) => Self::Starting,
        }
    }

    const fn problem(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::Starting => Some("the node takes no requests yet"),
            Self::Draining => Some("the node is shutting down"),
        }
    }
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the node can serve: database, schema, sandbox.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "It can serve", body = Readiness),
    (status = 503, description = "It cannot, with the reasons", body = Readiness)))]
pub(crate) async fn readyz(State(context): State<Context>) -> Response {
    let status = context.node.status();
    let (database, node) = (DatabaseState::of(&context.store).await, NodeState::of(&status));
    let reasons: Vec<&'static str> = [database.problem(), node.problem()].into_iter().flatten().collect();
    let readiness = Readiness {
        ready: reasons.is_empty(),
        database,
        node,
        notifications: context.store.notifications_arrive(),
        pool_mode: status.pool_mode,
        reset: status.reset,
        confinement: context.config.confinement.clone(),
        reasons,
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// Metrics in the `OpenMetrics` text format, which Prometheus reads.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(context): State<Context>) -> Response {
    const END: &str = "# EOF\n";
    let mut text = context.node.metrics();
    if let Some(cut) = text.strip_suffix(END).map(str::len) {
        text.truncate(cut);
    }
    context.metrics.write(&mut text);
    text.push_str(END);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
