//! Signing in and out.

use std::{net::IpAddr, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use picloud_core::{ErrorCode, InstanceRole, PrincipalId, PrincipalName, SessionId};
use picloud_edge::{Problem, SECURE_SESSION_COOKIE, SESSION_COOKIE};
use picloud_store::{SESSION_LIFETIME, SessionGrant};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::{Caller, Credential},
    audit::{AuditNote, ClientAddress},
    authenticate::is_https,
    context::Context,
    error::ApiError,
    extract::JsonBody,
    password::Password,
    store_error::from_store,
    token::Secret,
};

/// Who signs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// Name of a user.
    #[schema(value_type = String, example = "ada")]
    name: PrincipalName,
    /// Its password.
    #[schema(value_type = String)]
    password: Password,
}

/// A session that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Id of the session.
    #[schema(value_type = uuid::Uuid)]
    id: SessionId,
    /// Id of the principal.
    #[schema(value_type = uuid::Uuid)]
    principal_id: PrincipalId,
    /// Its name.
    #[schema(value_type = String)]
    name: PrincipalName,
    /// Its role in the installation: `owner` or `member`.
    #[schema(value_type = String)]
    role: InstanceRole,
    /// When the session ends at the latest.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// Counts an attempt to guess a password; `sign_in_limited` where there were too many.
pub(super) fn count_attempt(
    context: &Context,
    name: &PrincipalName,
    address: IpAddr,
) -> Result<(), ApiError> {
    context.sign_ins.take(name, address).map_err(limited)
}

/// `sign_in_limited`, until there may be another attempt.
pub(super) fn limited(wait: Duration) -> ApiError {
    let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
    let detail =
        format!("too many sign-ins failed under this name or from this address; try again in {seconds} s");
    Problem::new(ErrorCode::SignInLimited).detail(detail).retry_after(seconds).into()
}

/// Signs a user in with its password. The answer sets a cookie that stands for the session: `__Host-picloud_session`
/// over TLS, `picloud_session` over plain HTTP.
///
/// An unknown name and a wrong password are answered alike.
#[utoipa::path(post, path = "/api/v1/session", tag = "sign-in", request_body = SignIn,
    responses((status = 200, description = "The session; its secret is in the cookie", body = SessionView)))]
pub(crate) async fn sign_in(
    State(context): State<Context>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    JsonBody(SignIn { name, password }): JsonBody<SignIn>,
) -> Result<Response, ApiError> {
    count_attempt(&context, &name, address)?;
    let record = context.store.sign_in_record(&name).await.map_err(from_store)?;
    let hash = record.as_ref().map(|record| record.password_hash.clone());
    let is_right = context.passwords.verify(password, hash).await.inspect_err(|_| {
        // Nothing was learned of the password.
        context.sign_ins.give_back(&name, address);
    })?;
    let secret = Secret::generate_session().map_err(|error| ApiError::internal("a session", &error))?;
    let grant = match record.filter(|_| is_right) {
        Some(record) => context.store.create_session(&record, secret.hash()).await.map_err(from_store)?,
        None => None,
    };
    let note = AuditNote { target: Some(name.to_string()), ..AuditNote::default() };
    let Some(SessionGrant { session, principal, expires_at }) = grant else {
        let error = ApiError::unauthenticated("the name or the password is wrong");
        return Ok((Extension(note), error).into_response());
    };
    context.sign_ins.succeeded(&name, address);
    let note = AuditNote { signed_in: Some((principal.id, principal.name.clone(), session)), ..note };
    let view = SessionView {
        id: session,
        principal_id: principal.id,
        name: principal.name,
        role: principal.role,
        expires_at,
    };
    let cookie = session_cookie(is_https(&headers), secret.reveal(), SESSION_LIFETIME.as_secs())?;
    Ok((Extension(note), [(header::SET_COOKIE, cookie)], Json(view)).into_response())
}

/// Ends the session of this request. A token is revoked by its id.
#[utoipa::path(delete, path = "/api/v1/session", tag = "sign-in",
    responses((status = 204, description = "It has ended")))]
pub(crate) async fn sign_out(State(context): State<Context>, caller: Caller) -> Result<Response, ApiError> {
    let Credential::Session(session) = caller.credential else {
        let detail = "the request has a token and no session; a token is revoked by DELETE /api/v1/tokens/ID";
        return Err(ApiError::new(ErrorCode::BadRequest, detail));
    };
    context.store.end_session(session).await.map_err(from_store)?;
    let cookies = [session_cookie(true, "", 0)?, session_cookie(false, "", 0)?];
    let cookies = AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok((StatusCode::NO_CONTENT, cookies).into_response())
}

/// The cookie of a session; without a value it is removed.
pub(super) fn session_cookie(is_https: bool, value: &str, max_age: u64) -> Result<HeaderValue, ApiError> {
    let (name, secure) = if is_https { (SECURE_SESSION_COOKIE, "; Secure") } else { (SESSION_COOKIE, "") };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}");
    text.parse().map_err(|error| ApiError::internal("a cookie", &error))
}
