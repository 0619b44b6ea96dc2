//! Signing in by way of an OpenID Connect issuer.

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use picloud_core::ErrorCode;
use picloud_edge::{SECURE_SIGN_IN_COOKIE, SIGN_IN_COOKIE, authority};
use picloud_store::{IssuedSignIn, SESSION_LIFETIME, SessionGrant};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::sessions::{limited, session_cookie};
use crate::{
    audit::{AuditNote, ClientAddress},
    authenticate::{cookie, is_https},
    context::Context,
    error::ApiError,
    extract::QueryOf,
    oidc::{LIFETIME, Oidc, Refusal, Returned},
    store_error::from_store,
    token::Secret,
};

const START: &str = "/api/v1/session/oidc/start";
const CALLBACK: &str = "/api/v1/session/oidc/callback";

/// The ways of signing in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignInMethods {
    /// Whether users can sign in with name and password; always `true`.
    password: bool,
    /// The issuer that signs users in; null where none is set.
    oidc: Option<OidcMethod>,
}

/// Signing in by way of an issuer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OidcMethod {
    /// The issuer.
    #[schema(example = "https://login.example.org")]
    issuer: String,
    /// Where a browser goes to begin.
    #[schema(example = "/api/v1/session/oidc/start")]
    start: String,
}

/// What the issuer sends the browser back with. It may send more, which is not looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReturnedQuery {
    /// What the sign-in was begun with.
    state: Option<String>,
    /// What the tokens are fetched with.
    code: Option<String>,
    /// Why there is no code.
    error: Option<String>,
    /// The issuer.
    iss: Option<String>,
}

/// The ways of signing in.
#[utoipa::path(get, path = "/api/v1/session/methods", tag = "sign-in",
    responses((status = 200, description = "The ways", body = SignInMethods)))]
pub(crate) async fn sign_in_methods(State(context): State<Context>) -> Json<SignInMethods> {
    let oidc = context.oidc.as_ref();
    let oidc = oidc.map(|oidc| OidcMethod { issuer: oidc.issuer().to_owned(), start: START.to_owned() });
    Json(SignInMethods { password: true, oidc })
}

/// Sends a browser to the issuer's page, with a cookie that binds the sign-in to it.
#[utoipa::path(get, path = "/api/v1/session/oidc/start", tag = "sign-in",
    responses((status = 302, description = "To the issuer")))]
pub(crate) async fn start_oidc(
    State(context): State<Context>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    request: Request,
) -> Result<Response, ApiError> {
    let oidc = configured(&context)?;
    check_opened(request.headers())?;
    context.sign_ins.take_address(address).map_err(limited)?;
    let redirect_uri = redirect_uri(oidc, &request)?;
    let is_secure = is_https(request.headers()) || redirect_uri.starts_with("https://");
    let begun = oidc.begin(redirect_uri).await.map_err(|refusal| refusal.to_error())?;
    let location = HeaderValue::try_from(begun.location)
        .map_err(|error| ApiError::internal("the issuer's address", &error))?;
    let cookie = sign_in_cookie(is_secure, &begun.browser, LIFETIME.as_secs())?;
    Ok((StatusCode::FOUND, [(header::LOCATION, location), (header::SET_COOKIE, cookie)]).into_response())
}

/// Where the issuer sends the browser back to: signs its user in, with the cookie that [`super::sessions::sign_in`] sets,
/// and goes on to `/`.
///
/// A user of the issuer whom nobody knows here is refused, unless a link waits for its address or
/// `PICLOUD_OIDC_CREATE` is set.
#[utoipa::path(get, path = "/api/v1/session/oidc/callback", tag = "sign-in", params(ReturnedQuery),
    responses((status = 303, description = "Signed in; the session's secret is in the cookie")))]
pub(crate) async fn finish_oidc(
    State(context): State<Context>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    QueryOf(query): QueryOf<ReturnedQuery>,
) -> Result<Response, ApiError> {
    let oidc = configured(&context)?;
    check_opened(&headers)?;
    context.sign_ins.take_address(address).map_err(limited)?;
    let ReturnedQuery { state, code, error, iss } = query;
    let browser = browser(&headers);
    let completed = oidc.complete(Returned { state, code, error, iss }, browser).await;
    let identity = match completed {
        Ok(identity) => identity,
        Err(refusal) => {
            let note = AuditNote {
                target: refusal.email().map(str::to_owned),
                detail: Some(cut(&refusal)),
                ..AuditNote::default()
            };
            return Ok((Extension(note), refusal.to_error()).into_response());
        }
    };
    let secret = Secret::generate_session().map_err(|error| ApiError::internal("a session", &error))?;
    let names = oidc.names_for(&identity.email);
    let signed_in =
        context.store.sign_in_issued(&identity, &names, secret.hash()).await.map_err(from_store)?;
    let note = AuditNote { target: Some(identity.email.clone()), ..AuditNote::default() };
    let SessionGrant { session, principal, .. } = match signed_in {
        IssuedSignIn::Granted(grant) => grant,
        IssuedSignIn::Unknown => {
            let detail = "no user here is linked to this account; an owner links one: picloud principal link NAME \
                          --email ADDRESS";
            return Ok(refused(note, detail));
        }
        IssuedSignIn::Disabled(principal) => {
            let note = AuditNote { target: Some(principal.name.to_string()), ..note };
            return Ok(refused(note, "the user is disabled"));
        }
    };
    // That it began, and that it is over.
    context.sign_ins.give_back_address(address);
    context.sign_ins.give_back_address(address);
    let detail = format!("{} by way of {}", identity.email, identity.issuer);
    let note = AuditNote {
        target: Some(principal.name.to_string()),
        detail: Some(detail),
        signed_in: Some((principal.id, principal.name, session)),
        ..note
    };
    let is_secure = is_https(&headers) || oidc.public_url().is_some_and(|url| url.starts_with("https://"));
    let cookies = [
        session_cookie(is_secure, secret.reveal(), SESSION_LIFETIME.as_secs())?,
        sign_in_cookie(is_secure, "", 0)?,
    ];
    let cookies = AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)));
    let head = [(header::LOCATION, "/"), (header::REFERRER_POLICY, "no-referrer")];
    Ok((StatusCode::SEE_OTHER, Extension(note), head, cookies).into_response())
}

fn configured(context: &Context) -> Result<&Oidc, ApiError> {
    context.oidc.as_ref().ok_or_else(|| {
        let detail = "no issuer signs users in here; PICLOUD_OIDC_ISSUER sets one";
        ApiError::new(ErrorCode::NotFound, detail)
    })
}

/// A page of another site could fetch this again and again, as an image or in a frame, and so spend the allowance of the
/// user's address. It cannot open it without the user seeing that.
fn check_opened(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get("sec-fetch-dest").map(HeaderValue::as_bytes) {
        None | Some(b"document") => Ok(()),
        Some(_) => {
            let detail = "this address is for a browser to open, not for a page to fetch";
            Err(ApiError::new(ErrorCode::Forbidden, detail))
        }
    }
}

fn refused(note: AuditNote, detail: &'static str) -> Response {
    let note = AuditNote { detail: Some(detail.to_owned()), ..note };
    (Extension(note), ApiError::new(ErrorCode::Forbidden, detail)).into_response()
}

/// The reason, as long as the audit log takes it.
fn cut(refusal: &Refusal) -> String {
    refusal.to_string().chars().take(250).collect()
}

/// Where the browser comes back to: at the address that is set, else at the one that it has asked, whose host the guard
/// has checked.
fn redirect_uri(oidc: &Oidc, request: &Request) -> Result<String, ApiError> {
    if let Some(base) = oidc.public_url() {
        return Ok(format!("{base}{CALLBACK}"));
    }
    let scheme = if is_https(request.headers()) { "https" } else { "http" };
    let host = authority(request)?;
    let host = host.ok_or_else(|| ApiError::new(ErrorCode::BadRequest, "the request has no Host header"))?;
    Ok(format!("{scheme}://{host}{CALLBACK}"))
}

/// What the browser has kept. Over TLS only the cookie counts that no other host can have set.
fn browser(headers: &HeaderMap) -> Option<&str> {
    let read = |name| cookie(headers, name).ok().flatten();
    let plain = if is_https(headers) { None } else { read(SIGN_IN_COOKIE) };
    read(SECURE_SIGN_IN_COOKIE).or(plain)
}

/// `Lax`: the browser comes back from another site.
fn sign_in_cookie(is_secure: bool, value: &str, max_age: u64) -> Result<HeaderValue, ApiError> {
    let (name, secure) = if is_secure { (SECURE_SIGN_IN_COOKIE, "; Secure") } else { (SIGN_IN_COOKIE, "") };
    let text = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
    text.parse().map_err(|error| ApiError::internal("a cookie", &error))
}
