//! Who may call what: the caller of a request, and what an endpoint asks of it.

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts, RawPathParams, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use picloud_core::{App, AppId, AppName, ErrorCode, Scope, TokenId};
use picloud_store::{Principal, Store};

use crate::{context::Context, error::ApiError, store_error::from_store, token::Secret};

/// What an endpoint asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: anyone who reaches the listener may call it.
    Open,
    /// A valid token, whatever its scopes.
    Authenticated,
    /// A valid token with this scope, good for every app.
    Instance(Scope),
    /// A valid token with this scope, good for the app that the path names.
    App(Scope),
}

impl Access {
    /// The scope it asks for.
    pub(crate) const fn scope(self) -> Option<Scope> {
        match self {
            Self::Open | Self::Authenticated => None,
            Self::Instance(scope) | Self::App(scope) => Some(scope),
        }
    }
}

/// The authenticated caller of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) principal: Principal,
    /// The token it showed.
    pub(crate) token: TokenId,
    /// What the token allows.
    pub(crate) scopes: Vec<Scope>,
    /// The only app that the token is good for, if it is not for all.
    pub(crate) app: Option<AppId>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::unauthenticated("this call needs a token"))
    }
}

/// Finds the caller by its bearer token.
pub(crate) async fn authenticate(store: &Store, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let secret = bearer(headers)?;
    let Some(grant) = store.authenticate(secret.hash()).await.map_err(from_store)? else {
        return Err(ApiError::unauthenticated("the token is unknown, expired or revoked"));
    };
    Ok(Caller { principal: grant.principal, token: grant.token, scopes: grant.scopes, app: grant.app })
}

/// The app that a path names, with the limits in force; only where the caller's token is good for it.
pub(crate) struct TargetApp(pub(crate) App);

impl FromRequestParts<Context> for TargetApp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, context).await?;
        let params = RawPathParams::from_request_parts(parts, context)
            .await
            .map_err(|error| ApiError::new(ErrorCode::BadRequest, error.body_text()))?;
        let name = params.iter().find(|(key, _)| *key == "app").map_or("", |(_, value)| value);
        let name = AppName::new(name).map_err(|error| ApiError::from(error).field("app"))?;
        let app = context.app(&name).await?;
        match caller.app {
            Some(only) if only != app.id => {
                Err(ApiError::new(ErrorCode::Forbidden, "the token is good for another app only"))
            }
            _ => Ok(Self(app)),
        }
    }
}

/// `None` where there is no such app: for what may make it.
impl OptionalFromRequestParts<Context> for TargetApp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Option<Self>, ApiError> {
        match <Self as FromRequestParts<Context>>::from_request_parts(parts, context).await {
            Ok(app) => Ok(Some(app)),
            Err(error) if error.code() == ErrorCode::AppNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let missing = "send a token: authorization: Bearer pcl_...";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| ApiError::unauthenticated(missing))?;
    if values.next().is_some() {
        return Err(ApiError::unauthenticated("the request has two authorization headers"));
    }
    let text = value.to_str().map_err(|_| ApiError::unauthenticated(missing))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Secret::from_text(token.trim())),
        _ => Err(ApiError::unauthenticated(missing)),
    }
}

/// Lets a request through to its handler only if the caller has what the endpoint asks.
pub(crate) async fn require(State(access): State<Access>, request: Request, next: Next) -> Response {
    match allowed(access, request.extensions().get()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Whether a caller has what `access` asks; also for what only a part of a call needs.
pub(crate) fn allowed(access: Access, caller: Option<&Caller>) -> Result<(), ApiError> {
    if access == Access::Open {
        return Ok(());
    }
    let Some(caller) = caller else {
        return Err(ApiError::unauthenticated("this call needs a token"));
    };
    if let Some(scope) = access.scope()
        && !caller.scopes.contains(&scope)
    {
        return Err(ApiError::new(ErrorCode::Forbidden, format!("the token lacks the scope {scope}"))
            .with("scope", scope.as_str()));
    }
    if matches!(access, Access::Instance(_)) && caller.app.is_some() {
        return Err(ApiError::new(ErrorCode::Forbidden, "the token is good for one app only"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use picloud_core::{PrincipalId, PrincipalName};
    use picloud_store::{InstanceRole, PrincipalKind};

    use super::*;

    fn caller(scopes: &[Scope]) -> Caller {
        let principal = Principal {
            id: PrincipalId::generate(),
            name: PrincipalName::new("owner").unwrap(),
            kind: PrincipalKind::User,
            role: InstanceRole::Owner,
            disabled_at: None,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        Caller { principal, token: TokenId::generate(), scopes: scopes.to_vec(), app: None }
    }

    fn refused(access: Access, caller: Option<&Caller>) -> Option<ErrorCode> {
        allowed(access, caller).err().map(|error| error.code())
    }

    #[test]
    fn only_what_is_open_needs_no_caller() {
        assert_eq!(refused(Access::Open, None), None);
        assert_eq!(refused(Access::Authenticated, None), Some(ErrorCode::Unauthenticated));
        assert_eq!(refused(Access::App(Scope::DataRead), None), Some(ErrorCode::Unauthenticated));
    }

    #[test]
    fn a_scope_allows_nothing_but_itself() {
        for held in Scope::ALL {
            for asked in Scope::ALL {
                let expected = (held != asked).then_some(ErrorCode::Forbidden);
                assert_eq!(refused(Access::App(*asked), Some(&caller(&[*held]))), expected);
            }
        }
        assert_eq!(refused(Access::Authenticated, Some(&caller(&[]))), None);
    }

    #[test]
    fn a_token_of_one_app_reaches_nothing_of_the_instance() {
        let limited = Caller { app: Some(AppId::generate()), ..caller(Scope::ALL) };
        assert_eq!(refused(Access::Instance(Scope::ScriptRead), Some(&limited)), Some(ErrorCode::Forbidden));
        assert_eq!(refused(Access::App(Scope::ScriptRead), Some(&limited)), None);
        assert_eq!(refused(Access::Instance(Scope::ScriptRead), Some(&caller(Scope::ALL))), None);
    }

    #[test]
    fn only_one_bearer_token_is_read() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).ok().map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(read(&["Bearer pcl_1"]).as_deref(), Some("pcl_1"));
        assert_eq!(read(&["bearer  pcl_1"]).as_deref(), Some("pcl_1"));
        for bad in [&[][..], &["pcl_1"], &["Basic pcl_1"], &["Bearer pcl_1", "Bearer pcl_2"]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
