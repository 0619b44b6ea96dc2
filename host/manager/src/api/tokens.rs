//! Tokens: made, listed and revoked, never wider than what they are made with.

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{AppId, AppName, Capability, ErrorCode, PrincipalId, Scope, TokenId};
use picloud_store::{NewToken, Principal, PrincipalKind, Token, TokenMaker};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::{Caller, Credential},
    audit::AuditNote,
    context::{Context, app_not_found},
    error::ApiError,
    extract::{JsonBody, PathNames, QueryOf},
    page::Page,
    principal_ref::PrincipalRef,
    store_error::from_store,
    token::Secret,
};

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// For people; 1 to 128 bytes.
    #[schema(example = "deploy from CI")]
    name: String,
    /// What it allows: at least one scope, and none that the caller's own token lacks.
    #[schema(value_type = Vec<String>, example = json!(["script:read", "script:write"]))]
    scopes: Vec<Scope>,
    /// The only app it is good for; for all if left out. Who calls with a token of one app names that one.
    #[schema(value_type = Option<String>)]
    app: Option<AppName>,
    /// When it ends, not later than the caller's own token, whose end it has if this is left out.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// Id or name of the service that it is for; the caller itself if left out. Another one needs
    /// `InstanceManagePrincipals`.
    #[schema(value_type = Option<String>)]
    principal: Option<PrincipalRef>,
}

/// Whose tokens are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TokensQuery {
    /// Id or name of a principal; the caller itself if left out. Another one needs `InstanceManagePrincipals`.
    #[param(value_type = Option<String>)]
    principal: Option<PrincipalRef>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: TokenId,
    /// Its name.
    name: String,
    /// Id of the principal that it stands for.
    #[schema(value_type = uuid::Uuid)]
    principal_id: PrincipalId,
    /// The token that it was made with, and ends with; null if it was made in a session or by the platform.
    #[schema(value_type = Option<uuid::Uuid>)]
    made_by: Option<TokenId>,
    /// What it allows.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// The only app that it is good for; null if it is for all.
    #[schema(value_type = Option<String>)]
    app: Option<AppName>,
    /// When it ends; null if it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last used, to the minute; null if it never was.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewTokenView {
    /// The token itself. It is shown this once.
    token: String,
    #[serde(flatten)]
    of: TokenView,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            principal_id: token.principal,
            made_by: token.made_by,
            scopes: token.scopes,
            app: token.app_name,
            expires_at: token.expires_at,
            created_at: token.created_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// The tokens of a principal, oldest first. With a token that has limits, only those are shown that it could make, and
/// itself.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(TokensQuery),
    responses((status = 200, description = "All of them", body = Page<TokenView>)))]
pub(crate) async fn list_tokens(
    State(context): State<Context>,
    caller: Caller,
    QueryOf(query): QueryOf<TokensQuery>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    let other = query.principal.filter(|principal| !principal.is(&caller.principal));
    let of = match other {
        Some(principal) => {
            caller.may(Capability::InstanceManagePrincipals)?;
            principal.find(&context).await?.id
        }
        None => caller.principal.id,
    };
    let mut tokens = context.store.tokens(of).await.map_err(from_store)?;
    if of == caller.principal.id && caller.may(Capability::InstanceManagePrincipals).is_err() {
        tokens.retain(|token| covers(&caller, token));
    }
    Ok(Json(Page::whole(tokens.into_iter().map(TokenView::from).collect())))
}

/// Makes a token, never wider than what it is made with: no scope that the caller lacks, the caller's app if there is
/// one, and no later end. A token that is made with another one ends when that is revoked.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 201, description = "The token, whose secret is shown this once", body = NewTokenView)))]
pub(crate) async fn create_token(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Response, ApiError> {
    let holder = holder(&context, &caller, request.principal.as_ref()).await?;
    let scopes = narrower_scopes(&caller, request.scopes)?;
    let app = narrower_app(&context, &caller, request.app.as_ref()).await?;
    let expires_at = earlier_end(&caller, request.expires_at)?;
    let secret = Secret::generate().map_err(|error| ApiError::internal("a token", &error))?;
    let new = NewToken { name: request.name, hash: secret.hash(), scopes, app, expires_at };
    let maker = match caller.credential {
        Credential::Token(id) => TokenMaker::Token(id),
        Credential::Session(_) => TokenMaker::Session,
    };
    let token = context.store.issue_token(holder.id, &new, maker).await.map_err(from_store)?;
    let note = AuditNote {
        target: Some(token.id.to_string()),
        detail: Some(format!("{} for {}: {}", token.name, holder.name, joined(&token.scopes))),
        ..AuditNote::default()
    };
    let location = format!("/api/v1/tokens/{}", token.id);
    let view = NewTokenView { token: secret.reveal().to_owned(), of: token.into() };
    Ok((StatusCode::CREATED, Extension(note), [(header::LOCATION, location)], Json(view)).into_response())
}

/// Revokes a token and those that were made with it: from the next request on they are unknown.
///
/// A token that has limits revokes those that it could make, and itself; others look as if they did not exist.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn revoke_token(
    State(context): State<Context>,
    caller: Caller,
    PathNames(id): PathNames<TokenId>,
) -> Result<(StatusCode, Extension<AuditNote>), ApiError> {
    let not_found = || ApiError::new(ErrorCode::NotFound, format!("no token {id}"));
    let token = context.store.token(id).await.map_err(from_store)?.ok_or_else(not_found)?;
    let is_own = token.principal == caller.principal.id && covers(&caller, &token);
    if !is_own && caller.may(Capability::InstanceManagePrincipals).is_err() {
        return Err(not_found());
    }
    context.store.revoke_token(id).await.map_err(from_store)?;
    let note = AuditNote { detail: Some(token.name), ..AuditNote::default() };
    Ok((StatusCode::NO_CONTENT, Extension(note)))
}

/// Whether the caller could have made a token of its own with these limits, or it is the very one that it shows.
fn covers(caller: &Caller, token: &Token) -> bool {
    caller.credential == Credential::Token(token.id)
        || (token.scopes.iter().all(|scope| caller.scopes.contains(scope))
            && (caller.app.is_none() || caller.app == token.app))
}

/// Whom a token is for: the caller, or a service.
async fn holder(
    context: &Context,
    caller: &Caller,
    named: Option<&PrincipalRef>,
) -> Result<Principal, ApiError> {
    let Some(named) = named.filter(|named| !named.is(&caller.principal)) else {
        return Ok(caller.principal.clone());
    };
    caller.may(Capability::InstanceManagePrincipals)?;
    let principal = named.find(context).await?;
    match principal.kind {
        PrincipalKind::Service => Ok(principal),
        PrincipalKind::User => {
            let detail = format!(
                "{} is a user, whose tokens only the user makes; allowed is a service",
                principal.name
            );
            Err(ApiError::new(ErrorCode::Invalid, detail).field("principal"))
        }
    }
}

fn narrower_scopes(caller: &Caller, mut scopes: Vec<Scope>) -> Result<Vec<Scope>, ApiError> {
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        let detail = format!("a token needs at least one scope; allowed are {}", joined(&caller.scopes));
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("scopes"));
    }
    match scopes.iter().find(|scope| !caller.scopes.contains(scope)) {
        None => Ok(scopes),
        Some(scope) => {
            let detail = format!("a token cannot give the scope {scope}, which it is made without");
            Err(ApiError::new(ErrorCode::Forbidden, detail).field("scopes").with("scope", scope.as_str()))
        }
    }
}

async fn narrower_app(
    context: &Context,
    caller: &Caller,
    named: Option<&AppName>,
) -> Result<Option<AppId>, ApiError> {
    let Some(name) = named else {
        return match caller.app {
            None => Ok(None),
            Some(_) => {
                let detail =
                    "the caller's token is good for one app only, and so is what it makes: name the app";
                Err(ApiError::new(ErrorCode::Forbidden, detail).field("app"))
            }
        };
    };
    match caller.visible_app(context, name).await? {
        Some(app) => Ok(Some(app)),
        None => Err(app_not_found(name).field("app")),
    }
}

fn earlier_end(caller: &Caller, asked: Option<OffsetDateTime>) -> Result<Option<OffsetDateTime>, ApiError> {
    let latest = match caller.credential {
        Credential::Token(_) => caller.expires_at,
        Credential::Session(_) => None,
    };
    let Some(end) = asked else { return Ok(latest) };
    if end <= OffsetDateTime::now_utc() {
        let detail = "expires_at is over already; allowed is a time to come";
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("expires_at"));
    }
    if latest.is_some_and(|latest| end > latest) {
        let detail = "expires_at is later than the end of the token that it is made with";
        return Err(ApiError::new(ErrorCode::Forbidden, detail).field("expires_at"));
    }
    Ok(Some(end))
}

fn joined(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}
