//! Whom an issuer's users are here.

use axum::{Extension, Json, extract::State, http::StatusCode};
use picloud_core::{Capability, ErrorCode, IdentityId};
use picloud_store::Identity;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    audit::AuditNote,
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames},
    oidc::normal_email,
    principal_ref::PrincipalRef,
    store_error::from_store,
};

/// A link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkRequest {
    /// The address that the issuer has verified, in any case.
    #[schema(example = "ada@example.org")]
    email: String,
}

/// A link between a principal and a user of the issuer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IdentityView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: IdentityId,
    /// The address that it waits for, or that its user had at the last sign-in.
    email: String,
    /// The issuer; null until somebody has signed in with it.
    issuer: Option<String>,
    /// What the issuer knows its user by, likewise.
    subject: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// The links of a principal. There are at most 16.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IdentityList {
    /// The links, oldest first.
    items: Vec<IdentityView>,
    /// Always null.
    next_cursor: Option<String>,
}

impl From<Identity> for IdentityView {
    fn from(identity: Identity) -> Self {
        let (issuer, subject) = identity.bound.unzip();
        Self { id: identity.id, email: identity.email, issuer, subject, created_at: identity.created_at }
    }
}

/// The links of a principal to users of the issuer.
#[utoipa::path(get, path = "/api/v1/principals/{principal}/identities", tag = "principals",
    responses((status = 200, description = "All of them", body = IdentityList)))]
pub(crate) async fn list_identities(
    State(context): State<Context>,
    PathNames(principal): PathNames<PrincipalRef>,
) -> Result<Json<IdentityList>, ApiError> {
    let principal = principal.find(&context).await?;
    let found = context.store.identities(principal.id).await.map_err(from_store)?;
    Ok(Json(IdentityList { items: found.into_iter().map(IdentityView::from).collect(), next_cursor: None }))
}

/// Links a user to whoever signs in first by way of the issuer with this verified address; from then on the account
/// counts and not the address. Needs a session or a token with every scope.
#[utoipa::path(post, path = "/api/v1/principals/{principal}/identities", tag = "principals",
    request_body = LinkRequest, responses((status = 201, description = "The link", body = IdentityView)))]
pub(crate) async fn link_identity(
    State(context): State<Context>,
    caller: Caller,
    PathNames(principal): PathNames<PrincipalRef>,
    JsonBody(request): JsonBody<LinkRequest>,
) -> Result<(StatusCode, Extension<AuditNote>, Json<IdentityView>), ApiError> {
    // Whoever signs in has every scope.
    caller.may_with_every_scope(Capability::InstanceManagePrincipals)?;
    let email = normal_email(&request.email).ok_or_else(|| {
        let detail =
            "email is no address; allowed is one like ada@example.org, of at most 254 ASCII characters";
        ApiError::new(ErrorCode::Invalid, detail).field("email")
    })?;
    let principal = principal.find(&context).await?;
    let identity = context.store.link_identity(principal.id, &email).await.map_err(from_store)?;
    let note =
        AuditNote { target: Some(principal.name.to_string()), detail: Some(email), ..AuditNote::default() };
    Ok((StatusCode::CREATED, Extension(note), Json(identity.into())))
}

/// Removes a link, and ends the principal's sessions.
#[utoipa::path(delete, path = "/api/v1/principals/{principal}/identities/{id}", tag = "principals",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn unlink_identity(
    State(context): State<Context>,
    PathNames((principal, id)): PathNames<(PrincipalRef, IdentityId)>,
) -> Result<(StatusCode, Extension<AuditNote>), ApiError> {
    let principal = principal.find(&context).await?;
    context.store.unlink_identity(principal.id, id).await.map_err(from_store)?;
    let note = AuditNote {
        target: Some(principal.name.to_string()),
        detail: Some(format!("id {id}")),
        ..AuditNote::default()
    };
    Ok((StatusCode::NO_CONTENT, Extension(note)))
}
