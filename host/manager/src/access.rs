//! Who may call what: the caller of a request, and what an endpoint asks of it.
//!
//! `core`'s table of capabilities says which scope and which role something needs. Here a request is brought
//! together with it, before its handler runs.

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts, RawPathParams, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use picloud_core::{
    App, AppId, AppName, AppRole, Capability, ErrorCode, InstanceRole, LeastRole, PrincipalId, Scope,
    SessionId, TokenId, role_satisfies,
};
use picloud_store::{AppsSeen, Principal};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    audit,
    context::{Context, app_not_found},
    error::ApiError,
    idempotency,
    store_error::from_store,
};

/// What an endpoint asks of its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Nothing: anyone who reaches the listener may call it.
    Open,
    /// A valid token, whatever its scopes.
    Authenticated,
    /// A valid token with this scope; the handler answers with what its caller may see.
    Scoped(Scope),
    /// A capability of the installation.
    Instance(Capability),
    /// A capability of the app that the path names.
    App(fn(AppId) -> Capability),
    /// The same, but where the app is missing the handler may make it.
    AppOrNew(fn(AppId) -> Capability),
}

impl Access {
    /// The scope it asks for.
    pub(crate) fn scope(self) -> Option<Scope> {
        match self {
            Self::Open | Self::Authenticated => None,
            Self::Scoped(scope) => Some(scope),
            Self::Instance(capability) => Some(capability.scope()),
            // The scope is the same for every app.
            Self::App(of) | Self::AppOrNew(of) => Some(of(AppId::generate()).scope()),
        }
    }

    /// The capability that it asks for, without its app.
    pub(crate) fn capability(self) -> Option<Capability> {
        match self {
            Self::Open | Self::Authenticated | Self::Scoped(_) => None,
            Self::Instance(capability) => Some(capability),
            Self::App(of) | Self::AppOrNew(of) => Some(of(AppId::generate())),
        }
    }

    /// What the OpenAPI document says of it: `of`, and where there are any `capability`, `scope` and `role`.
    pub(crate) fn described(self) -> Value {
        let of = match self {
            Self::Open => "anyone",
            Self::Authenticated => "caller",
            Self::Scoped(_) => "scope",
            Self::Instance(_) => "instance",
            Self::App(_) => "app",
            Self::AppOrNew(_) => "app_or_new",
        };
        let mut described = json!({ "of": of });
        if let Some(scope) = self.scope() {
            described["scope"] = scope.as_str().into();
        }
        if let Some(capability) = self.capability() {
            described["capability"] = capability.name().into();
            described["role"] = match capability.least_role() {
                LeastRole::App(role) => role.as_str().into(),
                LeastRole::Instance(role) => role.as_str().into(),
            };
        }
        described
    }

    /// Whether its path names an app.
    #[cfg(test)]
    pub(crate) const fn is_of_app(self) -> bool {
        matches!(self, Self::App(_) | Self::AppOrNew(_))
    }
}

/// By what a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token, in a header.
    Token(TokenId),
    /// A session, in a cookie.
    Session(SessionId),
}

/// The authenticated caller of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) principal: Principal,
    /// What it showed.
    pub(crate) credential: Credential,
    /// What that allows; a session allows everything.
    pub(crate) scopes: Vec<Scope>,
    /// The only app that the token is good for, if it is not for all.
    pub(crate) app: Option<AppId>,
    /// When the token or session ends, if it does.
    pub(crate) expires_at: Option<OffsetDateTime>,
    /// Its role in the app that the path names, if it is a member of that.
    pub(crate) role: Option<(AppId, AppRole)>,
}

impl Caller {
    /// Whether it may do this: its token and its role both have to allow it.
    pub(crate) fn may(&self, capability: Capability) -> Result<(), ApiError> {
        self.has_scope(capability.scope())?;
        match (self.app, capability.app()) {
            (Some(_), None) => {
                return Err(ApiError::new(ErrorCode::Forbidden, "the token is good for one app only"));
            }
            (Some(only), Some(app)) if only != app => {
                return Err(ApiError::new(ErrorCode::Forbidden, "the token is good for another app only"));
            }
            _ => {}
        }
        let role = self.role.filter(|(app, _)| capability.app() == Some(*app)).map(|(_, role)| role);
        if role_satisfies(self.principal.role, role, capability) {
            return Ok(());
        }
        let (least, place) = match capability.least_role() {
            LeastRole::App(least) => (least.as_str(), "in the app"),
            LeastRole::Instance(least) => (least.as_str(), "in the installation"),
        };
        let is = match capability.app() {
            Some(_) => role.map_or("no member of it", AppRole::as_str),
            None => self.principal.role.as_str(),
        };
        let detail = format!("this needs the role {least} {place}; {} is {is}", self.principal.name);
        Err(ApiError::new(ErrorCode::Forbidden, detail).with("role", least))
    }

    /// Whether it may do this, with a token that has no limits. For what would give somebody more than the token
    /// itself allows: a password gives every scope.
    pub(crate) fn may_with_every_scope(&self, capability: Capability) -> Result<(), ApiError> {
        self.may(capability)?;
        match Scope::ALL.iter().find(|scope| !self.scopes.contains(scope)) {
            None => Ok(()),
            Some(missing) => {
                let detail =
                    format!("this needs a session or a token with every scope; {missing} is missing");
                Err(ApiError::new(ErrorCode::Forbidden, detail).with("scope", missing.as_str()))
            }
        }
    }

    fn has_scope(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let detail = format!("the token lacks the scope {scope}");
        Err(ApiError::new(ErrorCode::Forbidden, detail).with("scope", scope.as_str()))
    }

    /// Whether it may know that an app exists.
    fn sees_apps_of_others(&self) -> bool {
        self.principal.role == InstanceRole::Owner
    }

    /// The app of a name, if it may know of that.
    pub(crate) async fn visible_app(
        &self,
        context: &Context,
        name: &AppName,
    ) -> Result<Option<AppId>, ApiError> {
        Ok(find(context, &mut self.clone(), name).await?.map(|app| app.id))
    }

    /// Whether it may still do this in an app that it could name before: its role there is looked up again.
    pub(crate) async fn still_may(
        mut self,
        context: &Context,
        name: &AppName,
        capability: Capability,
    ) -> Result<bool, ApiError> {
        let app = find(context, &mut self, name).await?;
        Ok(app.is_some_and(|app| capability.app() == Some(app.id)) && self.may(capability).is_ok())
    }

    /// Who becomes the first member of an app that it makes: itself, but an owner needs no membership.
    pub(crate) fn first_member(&self) -> Option<PrincipalId> {
        (self.principal.role != InstanceRole::Owner).then_some(self.principal.id)
    }

    /// The apps that a list shows it.
    pub(crate) fn apps_seen(&self) -> AppsSeen {
        let member = (!self.sees_apps_of_others()).then_some(self.principal.id);
        AppsSeen { member, only: self.app }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        caller(parts).cloned()
    }
}

fn caller(parts: &Parts) -> Result<&Caller, ApiError> {
    parts.extensions.get().ok_or_else(|| ApiError::unauthenticated("this call needs a token"))
}

/// The app that a path names, with the limits in force; only where the caller may do there what the endpoint is for.
/// `None` where there is no such app, for what may make it.
#[derive(Clone, Debug)]
pub(crate) struct TargetApp(pub(crate) App);

impl<S: Sync> FromRequestParts<S> for TargetApp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let found = parts.extensions.get().cloned();
        found.ok_or_else(|| ApiError::internal("the target app", &"the endpoint is not one of an app"))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for TargetApp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ApiError> {
        Ok(parts.extensions.get().cloned())
    }
}

/// An endpoint, to the layer before its handler.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) context: Context,
    pub(crate) access: Access,
    /// The name of the operation.
    pub(crate) action: &'static str,
}

/// Lets a request through to its handler only if the caller has what the endpoint asks. What changes something gets an
/// entry in the audit log, also where it is refused.
pub(crate) async fn require(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let admitted = admit(&gate.context, gate.access, &mut parts).await;
    let entry = audit::begin(&gate, &mut parts).await;
    let response = match admitted {
        Ok(()) if idempotency::is_keyed(&parts) => idempotency::answer(&gate, parts, body, next).await,
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    };
    match entry {
        Some(entry) => entry.finish(response).await,
        None => response,
    }
}

async fn admit(context: &Context, access: Access, parts: &mut Parts) -> Result<(), ApiError> {
    if matches!(access, Access::Open) {
        return Ok(());
    }
    let mut caller = caller(parts)?.clone();
    if let Some(scope) = access.scope() {
        caller.has_scope(scope)?;
    }
    match access {
        Access::Open | Access::Authenticated | Access::Scoped(_) => {}
        Access::Instance(capability) => caller.may(capability)?,
        Access::App(of) => {
            let name = named_app(parts, context).await?;
            let app = find(context, &mut caller, &name).await?.ok_or_else(|| app_not_found(&name))?;
            caller.may(of(app.id))?;
            parts.extensions.insert(TargetApp(app));
        }
        Access::AppOrNew(of) => {
            let name = named_app(parts, context).await?;
            if let Some(app) = find(context, &mut caller, &name).await? {
                caller.may(of(app.id))?;
                parts.extensions.insert(TargetApp(app));
            }
        }
    }
    parts.extensions.insert(caller);
    Ok(())
}

async fn named_app(parts: &mut Parts, context: &Context) -> Result<AppName, ApiError> {
    let params = RawPathParams::from_request_parts(parts, context)
        .await
        .map_err(|error| ApiError::new(ErrorCode::BadRequest, error.body_text()))?;
    let name = params.iter().find(|(key, _)| *key == "app").map_or("", |(_, value)| value);
    AppName::new(name).map_err(|error| ApiError::from(error).field("app"))
}

/// The app of a name, and the caller's role in it. An app that the caller has no part in, or that its token is
/// not good for, is as one that does not exist, so that names of apps cannot be tried out.
async fn find(context: &Context, caller: &mut Caller, name: &AppName) -> Result<Option<App>, ApiError> {
    let Some(app) = context.find_app(name).await? else { return Ok(None) };
    if caller.app.is_some_and(|only| only != app.id) {
        return Ok(None);
    }
    if caller.sees_apps_of_others() {
        return Ok(Some(app));
    }
    let role = context.store.role_in_app(app.id, caller.principal.id).await.map_err(from_store)?;
    caller.role = role.map(|role| (app.id, role));
    Ok(role.map(|_| app))
}

#[cfg(test)]
mod tests {
    use picloud_core::{PrincipalId, PrincipalName};
    use picloud_store::PrincipalKind;

    use super::*;

    fn caller(role: InstanceRole, scopes: &[Scope]) -> Caller {
        let principal = Principal {
            id: PrincipalId::generate(),
            name: PrincipalName::new("ada").unwrap(),
            kind: PrincipalKind::User,
            role,
            disabled_at: None,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        let credential = Credential::Token(TokenId::generate());
        Caller { principal, credential, scopes: scopes.to_vec(), app: None, expires_at: None, role: None }
    }

    fn refusal(caller: &Caller, capability: Capability) -> Option<String> {
        caller.may(capability).err().map(|error| {
            assert_eq!(error.code(), ErrorCode::Forbidden);
            error.detail().to_owned()
        })
    }

    #[test]
    fn a_scope_allows_nothing_but_what_asks_for_it() {
        let app = AppId::generate();
        for held in Scope::ALL {
            let owner = caller(InstanceRole::Owner, &[*held]);
            for capability in Capability::OF_APPS.iter().map(|of| of(app)) {
                assert_eq!(owner.may(capability).is_ok(), capability.scope() == *held, "{capability:?}");
            }
        }
    }

    #[test]
    fn a_token_of_one_app_reaches_nothing_of_the_instance_or_of_another_app() {
        let (app, other) = (AppId::generate(), AppId::generate());
        let limited = Caller { app: Some(app), ..caller(InstanceRole::Owner, Scope::ALL) };
        assert_eq!(refusal(&limited, Capability::AppReadData(app)), None);
        let refused = refusal(&limited, Capability::AppReadData(other));
        assert_eq!(refused.as_deref(), Some("the token is good for another app only"));
        let refused = refusal(&limited, Capability::InstanceCreateApps);
        assert_eq!(refused.as_deref(), Some("the token is good for one app only"));
    }

    #[test]
    fn a_token_with_every_scope_does_no_more_than_its_holders_role() {
        let (app, other) = (AppId::generate(), AppId::generate());
        let editor =
            Caller { role: Some((app, AppRole::Editor)), ..caller(InstanceRole::Member, Scope::ALL) };
        assert_eq!(refusal(&editor, Capability::AppWriteScripts(app)), None);
        let refused = refusal(&editor, Capability::AppManageMembers(app));
        assert_eq!(refused.as_deref(), Some("this needs the role app_admin in the app; ada is editor"));
        let refused = refusal(&editor, Capability::AppReadScripts(other));
        assert_eq!(refused.as_deref(), Some("this needs the role viewer in the app; ada is no member of it"));
        let refused = refusal(&editor, Capability::InstanceCreateApps);
        assert_eq!(refused.as_deref(), Some("this needs the role owner in the installation; ada is member"));
    }
}
