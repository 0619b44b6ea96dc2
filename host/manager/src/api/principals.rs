//! Principals: users and services, and the passwords of users.

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{Capability, ErrorCode, InstanceRole, PrincipalId, PrincipalName};
use picloud_store::{NewPrincipal, Principal, PrincipalChange, PrincipalKind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    api::sessions::count_attempt,
    audit::{AuditNote, ClientAddress},
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames, QueryOf},
    page::{Page, PageQuery, start},
    password::Password,
    principal_ref::PrincipalRef,
    store_error::from_store,
};

/// A principal to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrincipalRequest {
    /// 1 to 64 of `a-z 0-9 _ . @ -`; no two have the same.
    #[schema(value_type = String, example = "ada")]
    name: PrincipalName,
    /// `user` for a person, who can be given a password; `service` for a program, which has tokens only.
    #[schema(value_type = String, example = "user")]
    kind: PrincipalKind,
    /// `member` or `owner`. An owner may do everything in every app.
    #[schema(value_type = Option<String>, example = "member")]
    #[serde(default = "member")]
    role: InstanceRole,
}

/// What is changed of a principal; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrincipalPatch {
    /// Another name.
    #[schema(value_type = Option<String>)]
    name: Option<PrincipalName>,
    /// `member` or `owner`.
    #[schema(value_type = Option<String>)]
    role: Option<InstanceRole>,
    /// Whether it may do nothing at all.
    disabled: Option<bool>,
}

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordRequest {
    /// At least 12 characters, at most 1,024 bytes.
    #[schema(value_type = String)]
    password: Password,
    /// The one that holds now, to change one's own. Left out by those who may manage principals.
    #[schema(value_type = Option<String>)]
    current_password: Option<Password>,
}

/// A principal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrincipalView {
    /// Its id, which never changes.
    #[schema(value_type = uuid::Uuid)]
    id: PrincipalId,
    /// Its name.
    #[schema(value_type = String)]
    name: PrincipalName,
    /// `user` or `service`.
    #[schema(value_type = String)]
    kind: PrincipalKind,
    /// Its role in the installation: `member` or `owner`.
    #[schema(value_type = String)]
    role: InstanceRole,
    /// Since when it may do nothing at all; null if it is not disabled.
    #[serde(with = "time::serde::rfc3339::option")]
    disabled_at: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Principal> for PrincipalView {
    fn from(principal: Principal) -> Self {
        Self {
            id: principal.id,
            name: principal.name,
            kind: principal.kind,
            role: principal.role,
            disabled_at: principal.disabled_at,
            created_at: principal.created_at,
        }
    }
}

const fn member() -> InstanceRole {
    InstanceRole::Member
}

/// The principals, by name.
#[utoipa::path(get, path = "/api/v1/principals", tag = "principals", params(PageQuery),
    responses((status = 200, description = "A page of principals", body = Page<PrincipalView>)))]
pub(crate) async fn list_principals(
    State(context): State<Context>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<PrincipalView>>, ApiError> {
    let after: Option<PrincipalName> = start(query.cursor.as_ref())?;
    let found = context.store.principals(after.as_ref(), query.limit.size()).await.map_err(from_store)?;
    Ok(Json(Page::of(found, |principal| principal.name.clone(), PrincipalView::from)))
}

/// Makes a user or a service. It can do nothing before it has a password or a token. An owner is made only with a
/// session or a token that has every scope.
#[utoipa::path(post, path = "/api/v1/principals", tag = "principals", request_body = PrincipalRequest,
    responses((status = 201, description = "The principal", body = PrincipalView)))]
pub(crate) async fn create_principal(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(request): JsonBody<PrincipalRequest>,
) -> Result<Response, ApiError> {
    check_role(&caller, Some(request.role))?;
    let new = NewPrincipal { name: request.name, kind: request.kind, role: request.role };
    let principal = context.store.create_principal(&new).await.map_err(from_store)?;
    let note = AuditNote {
        target: Some(principal.name.to_string()),
        detail: Some(format!("{} {}", principal.kind.as_str(), principal.role)),
        ..AuditNote::default()
    };
    let location = format!("/api/v1/principals/{}", principal.id);
    let view = PrincipalView::from(principal);
    Ok((StatusCode::CREATED, Extension(note), [(header::LOCATION, location)], Json(view)).into_response())
}

/// A principal.
#[utoipa::path(get, path = "/api/v1/principals/{principal}", tag = "principals",
    responses((status = 200, description = "The principal", body = PrincipalView)))]
pub(crate) async fn get_principal(
    State(context): State<Context>,
    PathNames(principal): PathNames<PrincipalRef>,
) -> Result<Json<PrincipalView>, ApiError> {
    Ok(Json(principal.find(&context).await?.into()))
}

/// Renames a principal, changes its role, disables or enables it. Disabling ends its sessions, and its tokens are refused
/// until it is enabled again. The last owner who is not disabled can be neither disabled nor made a member.
#[utoipa::path(patch, path = "/api/v1/principals/{principal}", tag = "principals", request_body = PrincipalPatch,
    responses((status = 200, description = "The principal as it is now", body = PrincipalView)))]
pub(crate) async fn change_principal(
    State(context): State<Context>,
    caller: Caller,
    PathNames(principal): PathNames<PrincipalRef>,
    JsonBody(patch): JsonBody<PrincipalPatch>,
) -> Result<(Extension<AuditNote>, Json<PrincipalView>), ApiError> {
    check_role(&caller, patch.role)?;
    let PrincipalPatch { name, role, disabled } = patch;
    let before = principal.find(&context).await?;
    let changes = [
        name.as_ref().map(|name| format!("name {name}")),
        role.map(|role| format!("role {role}")),
        disabled.map(|disabled| if disabled { "disabled".to_owned() } else { "enabled".to_owned() }),
    ];
    let detail = changes.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let change = PrincipalChange { name, role, disabled };
    let principal = context.store.change_principal(before.id, &change).await.map_err(from_store)?;
    let note =
        AuditNote { target: Some(before.name.to_string()), detail: Some(detail), ..AuditNote::default() };
    Ok((Extension(note), Json(principal.into())))
}

/// Removes a principal with its tokens, sessions and memberships. What it has made stays. The last owner who is not
/// disabled cannot be removed.
#[utoipa::path(delete, path = "/api/v1/principals/{principal}", tag = "principals",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_principal(
    State(context): State<Context>,
    PathNames(principal): PathNames<PrincipalRef>,
) -> Result<(StatusCode, Extension<AuditNote>), ApiError> {
    let principal = principal.find(&context).await?;
    context.store.delete_principal(principal.id).await.map_err(from_store)?;
    let note = AuditNote {
        target: Some(principal.name.to_string()),
        detail: Some(format!("id {}", principal.id)),
        ..AuditNote::default()
    };
    Ok((StatusCode::NO_CONTENT, Extension(note)))
}

/// Sets the password of a user and ends all its sessions; its tokens stay.
///
/// A user sets its own with the current one. Who may manage principals sets any, with a session or a token that has every
/// scope. To others it looks as if the principal did not exist.
#[utoipa::path(put, path = "/api/v1/principals/{principal}/password", tag = "principals",
    request_body = PasswordRequest, responses((status = 204, description = "It is set")))]
pub(crate) async fn set_password(
    State(context): State<Context>,
    caller: Caller,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    PathNames(principal): PathNames<PrincipalRef>,
    JsonBody(request): JsonBody<PasswordRequest>,
) -> Result<(StatusCode, Extension<AuditNote>), ApiError> {
    let is_own = principal.is(&caller.principal);
    if !is_own && caller.may(Capability::InstanceManagePrincipals).is_err() {
        return Err(principal.not_found());
    }
    let target = if is_own { caller.principal.clone() } else { principal.find(&context).await? };
    request.password.check()?;
    match request.current_password.filter(|_| is_own) {
        Some(current) => {
            count_attempt(&context, &target.name, address)?;
            let record = context.store.sign_in_record(&target.name).await.map_err(from_store)?;
            let hash = record.map(|record| record.password_hash);
            if !context.passwords.verify(current, hash).await? {
                let detail = "current_password is not the password";
                return Err(ApiError::new(ErrorCode::Forbidden, detail).field("current_password"));
            }
            context.sign_ins.give_back(&target.name, address);
        }
        None if is_own && caller.may(Capability::InstanceManagePrincipals).is_err() => {
            let detail =
                "send current_password as well; where there is none yet, an owner sets the first one";
            return Err(ApiError::new(ErrorCode::Forbidden, detail).field("current_password"));
        }
        None => caller.may_with_every_scope(Capability::InstanceManagePrincipals)?,
    }
    if target.kind == PrincipalKind::Service {
        let detail = "a service has no password; make a token for it";
        return Err(ApiError::new(ErrorCode::Invalid, detail));
    }
    let hash = context.passwords.hash(request.password).await?;
    context.store.set_password_hash(target.id, &hash).await.map_err(from_store)?;
    let note = AuditNote { target: Some(target.name.to_string()), ..AuditNote::default() };
    Ok((StatusCode::NO_CONTENT, Extension(note)))
}

/// An owner may be given a password, and then has every scope.
fn check_role(caller: &Caller, role: Option<InstanceRole>) -> Result<(), ApiError> {
    match role {
        Some(InstanceRole::Owner) => caller.may_with_every_scope(Capability::InstanceManagePrincipals),
        Some(InstanceRole::Member) | None => Ok(()),
    }
}
