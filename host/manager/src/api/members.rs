//! Members: who has which role in an app.

use axum::{Extension, Json, extract::State, http::StatusCode};
use picloud_core::{AppRole, ErrorCode, PrincipalId, PrincipalName};
use picloud_store::{Member, StoreError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    audit::AuditNote,
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames, QueryOf},
    page::{Page, PageQuery, start},
    principal_ref::PrincipalRef,
    store_error::from_store,
};

/// A role in an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRequest {
    /// `viewer`, `editor` or `app_admin`.
    #[schema(value_type = String, example = "editor")]
    role: AppRole,
}

/// A member of an app.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberView {
    /// Id of the principal.
    #[schema(value_type = uuid::Uuid)]
    principal_id: PrincipalId,
    /// Its name.
    #[schema(value_type = String)]
    name: PrincipalName,
    /// `viewer`, `editor` or `app_admin`.
    #[schema(value_type = String)]
    role: AppRole,
}

/// A member of an app in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedMember {
    #[serde(flatten)]
    member: MemberView,
    /// Since when it is a member.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Member> for ListedMember {
    fn from(member: Member) -> Self {
        let created_at = member.created_at;
        let member = MemberView { principal_id: member.principal, name: member.name, role: member.role };
        Self { member, created_at }
    }
}

/// The members of an app, by name. Owners of the installation may do everything in it and are not among them, unless
/// they were made members.
#[utoipa::path(get, path = "/api/v1/apps/{app}/members", tag = "members", params(PageQuery),
    responses((status = 200, description = "A page of members", body = Page<ListedMember>)))]
pub(crate) async fn list_members(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<ListedMember>>, ApiError> {
    let after: Option<PrincipalName> = start(query.cursor.as_ref())?;
    let found =
        context.store.members(app.id, after.as_ref(), query.limit.size()).await.map_err(from_store)?;
    Ok(Json(Page::of(found, |member| member.name.clone(), ListedMember::from)))
}

/// Gives a principal a role in an app, in place of the one it had.
#[utoipa::path(put, path = "/api/v1/apps/{app}/members/{principal}", tag = "members", request_body = MemberRequest,
    responses(
        (status = 201, description = "A new member", body = MemberView),
        (status = 200, description = "It was a member, and has this role now", body = MemberView)))]
pub(crate) async fn set_member(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, principal)): PathNames<(String, PrincipalRef)>,
    JsonBody(request): JsonBody<MemberRequest>,
) -> Result<(StatusCode, Extension<AuditNote>, Json<MemberView>), ApiError> {
    let principal = principal.find(&context).await?;
    let is_new = context.store.put_member(app.id, principal.id, request.role).await.map_err(from_store)?;
    let note = AuditNote {
        target: Some(principal.name.to_string()),
        detail: Some(request.role.to_string()),
        ..AuditNote::default()
    };
    let view = MemberView { principal_id: principal.id, name: principal.name, role: request.role };
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Extension(note), Json(view)))
}

/// Takes a principal out of an app.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/members/{principal}", tag = "members",
    responses((status = 204, description = "It is no member any more")))]
pub(crate) async fn remove_member(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, principal)): PathNames<(String, PrincipalRef)>,
) -> Result<(StatusCode, Extension<AuditNote>), ApiError> {
    let principal = principal.find(&context).await?;
    let removed = context.store.remove_member(app.id, principal.id).await;
    removed.map_err(|error| match error {
        StoreError::NotFound { .. } => {
            let detail = format!("{} is no member of {}", principal.name, app.name);
            ApiError::new(ErrorCode::NotFound, detail)
        }
        other => from_store(other),
    })?;
    let note = AuditNote { target: Some(principal.name.to_string()), ..AuditNote::default() };
    Ok((StatusCode::NO_CONTENT, Extension(note)))
}
