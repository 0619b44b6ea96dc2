//! The audit log as it is read.

use axum::{Json, extract::State};
use picloud_core::{AppId, AppName, AuditId, PrincipalId, RequestId, SessionId, TokenId};
use picloud_store::{AuditEntry, AuditFilter};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    context::Context,
    error::ApiError,
    extract::QueryOf,
    page::{Cursor, Page, PageLimit, start},
    principal_ref::PrincipalRef,
    store_error::from_store,
};

/// Which entries are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// About the app of this name, also one that is gone.
    #[param(value_type = Option<String>)]
    app: Option<AppName>,
    /// Of this principal: its id, or the name that it had.
    #[param(value_type = Option<String>)]
    principal: Option<PrincipalRef>,
    /// Of this operation, by its `operationId`, such as `put_script`.
    action: Option<String>,
    /// Not before this time (RFC 3339).
    #[param(value_type = Option<String>)]
    #[serde(default, with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
    /// Before this time (RFC 3339).
    #[param(value_type = Option<String>)]
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    /// Entries of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: AuditId,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Id of the request.
    #[schema(value_type = uuid::Uuid)]
    request_id: RequestId,
    /// Id of the principal; null where nobody knows who it was, as for a failed sign-in.
    #[schema(value_type = Option<uuid::Uuid>)]
    principal_id: Option<PrincipalId>,
    /// The name that it had.
    principal: Option<String>,
    /// Id of the token.
    #[schema(value_type = Option<uuid::Uuid>)]
    token_id: Option<TokenId>,
    /// Id of the session.
    #[schema(value_type = Option<uuid::Uuid>)]
    session_id: Option<SessionId>,
    /// The address that it came from.
    address: Option<String>,
    /// The operation, by its `operationId`.
    action: String,
    /// The capability that it needs.
    capability: Option<String>,
    /// Id of the app.
    #[schema(value_type = Option<uuid::Uuid>)]
    app_id: Option<AppId>,
    /// The name that the app had.
    app: Option<String>,
    /// What in the app or the installation: a script, a key, a principal, a token.
    target: Option<String>,
    /// What was done to it.
    detail: Option<String>,
    /// `ok`, or the code of the error.
    outcome: String,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            request_id: entry.request,
            principal_id: entry.principal,
            principal: entry.principal_name,
            token_id: entry.token,
            session_id: entry.session,
            address: entry.address,
            action: entry.action,
            capability: entry.capability,
            app_id: entry.app,
            app: entry.app_name,
            target: entry.target,
            detail: entry.detail,
            outcome: entry.outcome,
        }
    }
}

/// Who did what, newest first: every call that changes something, also where it was refused, and every sign-in.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "A page of entries", body = Page<AuditView>)))]
pub(crate) async fn read_audit(
    State(context): State<Context>,
    QueryOf(query): QueryOf<AuditQuery>,
) -> Result<Json<Page<AuditView>>, ApiError> {
    let before: Option<AuditId> = start(query.cursor.as_ref())?;
    let (principal, principal_name) = match query.principal {
        Some(PrincipalRef::Id(id)) => (Some(id), None),
        Some(PrincipalRef::Name(name)) => (None, Some(name)),
        None => (None, None),
    };
    let filter = AuditFilter {
        app: query.app,
        principal,
        principal_name,
        action: query.action.map(|action| action.replace('\0', "\u{2400}")),
        since: query.since,
        until: query.until,
    };
    let found = context.store.audit(&filter, before, query.limit.size()).await.map_err(from_store)?;
    Ok(Json(Page::of(found, |entry| entry.id, AuditView::from)))
}
