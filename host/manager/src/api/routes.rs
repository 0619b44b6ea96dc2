//! Routes: which script or which files answer for which paths and methods.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use picloud_core::{
    AppId, AppName, CallbackUrl, Capability, Change, ErrorCode, FileFolder, FilePath, Method, MethodSet,
    RateLimit, RouteAccess, RouteId, RouteMode, RoutePattern, RouteTarget, ScriptName, SignatureScheme,
    StaticFiles,
};
use picloud_store::{NewRoute, PutRoute, Route, RoutePatch, StoreError};
use serde::{Deserialize, Deserializer, Serialize, de};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::{Caller, TargetApp},
    api::{endpoint_access::Rate, scripts::not_found, signing_keys::SigningKeyView},
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames},
    page::Page,
    store_error::from_store,
};

/// A route to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteRequest {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, `OPTIONS`. If it is left out, all of them; `GET` for files, which
    /// answer that and `HEAD` only.
    #[schema(value_type = Option<Vec<String>>, example = json!(["GET", "POST"]))]
    #[serde(default, deserialize_with = "methods")]
    methods: Option<MethodSet>,
    /// Literals, `:name` for one segment, and `*name` at the end for whatever follows.
    #[schema(value_type = String, example = "/users/:id")]
    #[serde(deserialize_with = "pattern")]
    path: RoutePattern,
    /// The script that answers; this or `files`.
    #[schema(value_type = Option<String>, example = "users")]
    script: Option<ScriptName>,
    /// The folder of files that answers; the path must end with `*name`, which is looked for in it.
    #[schema(value_type = Option<String>, example = "static/")]
    #[serde(default, deserialize_with = "folder")]
    files: Option<FileFolder>,
    /// Of a route to files: seconds, up to a year, that browsers may keep what is no page without asking again. They ask
    /// each time if it is left out.
    #[schema(maximum = 31_536_000)]
    max_age: Option<u64>,
    /// Of a route to files: the file that is answered where there is none, for pages that route by themselves.
    #[schema(value_type = Option<String>, example = "static/index.html")]
    fallback: Option<FilePath>,
    /// How its invocations run: `sync` while the client waits; `durable` to the end, whether the client waits or not;
    /// `async` later, with an answer that can be asked for. Left out, it stays what the replaced route had, else it is `sync`.
    #[schema(value_type = Option<String>, example = "async")]
    mode: Option<RouteMode>,
    /// Of a route with `async`: where each answer is sent by POST. The app must be allowed to call it. `null` takes it away.
    #[schema(value_type = Option<String>, example = "https://example.org/done")]
    #[serde(default)]
    callback_url: Change<CallbackUrl>,
    /// Who may call it: `public` for anyone, `token` for holders of a token that may invoke scripts of the app, `hmac` for
    /// those who sign with a key of the route. Left out, it stays what the replaced route had, else it is `public`.
    #[schema(value_type = Option<String>, example = "token")]
    access: Option<RouteAccess>,
    /// How the callers of a route with `hmac` sign: `picloud`, `github`, `stripe`, `slack`, `generic`, or
    /// `generic:HEADER`. Left out, it stays what the replaced route had, else it is `picloud`.
    #[schema(value_type = Option<String>, example = "github")]
    signature: Option<SignatureScheme>,
    /// How many requests all clients together may make. Left out, it stays; `null` takes it away.
    #[schema(value_type = Option<Rate>)]
    #[serde(default)]
    rate_limit: Change<RateLimit>,
    /// How many requests each client may make, in place of what the app sets. Left out, it stays; `null` takes it away.
    #[schema(value_type = Option<Rate>)]
    #[serde(default)]
    client_rate_limit: Change<RateLimit>,
}

/// A change of a route: what is named is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteChange {
    /// The script that answers, also where it was files.
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Who may call it: `public`, `token` or `hmac`.
    #[schema(value_type = Option<String>, example = "token")]
    access: Option<RouteAccess>,
    /// How the callers of a route with `hmac` sign: `picloud`, `github`, `stripe`, `slack`, `generic`, or
    /// `generic:HEADER`.
    #[schema(value_type = Option<String>, example = "github")]
    signature: Option<SignatureScheme>,
    /// How its invocations run: `sync`, `durable` or `async`.
    #[schema(value_type = Option<String>, example = "async")]
    mode: Option<RouteMode>,
    /// Of a route with `async`: where each answer is sent; `null` takes it away.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    callback_url: Change<CallbackUrl>,
    /// How many requests all clients together may make; `null` takes it away.
    #[schema(value_type = Option<Rate>)]
    #[serde(default)]
    rate_limit: Change<RateLimit>,
    /// How many requests each client may make, in place of what the app sets; `null` takes it away.
    #[schema(value_type = Option<Rate>)]
    #[serde(default)]
    client_rate_limit: Change<RateLimit>,
}

/// A route of an app.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RouteView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: RouteId,
    /// The methods that it answers; GET answers HEAD as well.
    methods: Vec<&'static str>,
    /// The paths.
    path: String,
    /// The script that answers; null where files do.
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// The folder of files that answers; null where a script does.
    #[schema(value_type = Option<String>)]
    files: Option<FileFolder>,
    /// Seconds that browsers may keep files that are no pages.
    max_age: Option<u64>,
    /// The file that is answered where there is none.
    #[schema(value_type = Option<String>)]
    fallback: Option<FilePath>,
    /// How its invocations run: `sync`, `durable` or `async`.
    mode: &'static str,
    /// Where each answer of an asynchronous request is sent.
    #[schema(value_type = Option<String>)]
    callback_url: Option<CallbackUrl>,
    /// Who may call it: `public`, `token` or `hmac`.
    access: &'static str,
    /// How the callers of a route with `hmac` sign; null for others.
    signature: Option<String>,
    /// How many requests all clients together may make.
    rate_limit: Option<Rate>,
    /// How many requests each client may make, in place of what the app sets.
    client_rate_limit: Option<Rate>,
    /// The keys that are good for a signature now, the newest first; of a route with `hmac` only. Without any, no request
    /// gets in.
    signing_keys: Vec<SigningKeyView>,
    /// Where it answers; parameters stand for themselves.
    url: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl RouteView {
    pub(crate) fn of(context: &Context, app: &AppName, route: Route) -> Self {
        let path = route.pattern.to_string();
        let (script, served) = match route.target {
            RouteTarget::Script(script) => (Some(script), None),
            RouteTarget::Files(files) => (None, Some(files)),
        };
        let max_age = served.as_ref().and_then(|served| served.max_age).map(|age| age.as_secs());
        let (files, fallback) = served.map(|served| (served.folder, served.fallback)).unzip();
        Self {
            id: route.id,
            methods: route.methods.iter().map(Method::as_str).collect(),
            url: context.config.apps.url(app, &path),
            path,
            script,
            files,
            max_age,
            fallback: fallback.flatten(),
            mode: route.mode.as_str(),
            callback_url: route.callback_url,
            access: route.access.as_str(),
            signature: (route.access == RouteAccess::Hmac).then(|| route.signature.to_string()),
            rate_limit: route.rate_limit.map(Rate::from),
            client_rate_limit: route.client_rate_limit.map(Rate::from),
            signing_keys: route.signing_keys.into_iter().map(SigningKeyView::from).collect(),
            created_at: route.created_at,
        }
    }
}

impl TryFrom<RouteRequest> for NewRoute {
    type Error = ApiError;

    fn try_from(request: RouteRequest) -> Result<Self, ApiError> {
        let target = request.target()?;
        let RouteRequest {
            methods,
            path,
            mode,
            callback_url,
            access,
            signature,
            rate_limit,
            client_rate_limit,
            ..
        } = request;
        let methods = methods.unwrap_or(match target {
            RouteTarget::Script(_) => MethodSet::ANY,
            RouteTarget::Files(_) => MethodSet::default().with(Method::Get),
        });
        Ok(Self {
            methods,
            pattern: path,
            target,
            access,
            signature,
            mode,
            callback_url,
            rate_limit,
            client_rate_limit,
        })
    }
}

impl RouteRequest {
    /// What it leads to, if that is one thing.
    fn target(&self) -> Result<RouteTarget, ApiError> {
        let refused = |field: &'static str, problem: String| {
            Err(ApiError::new(ErrorCode::Invalid, problem).field(field))
        };
        let path = &self.path;
        match (&self.script, &self.files) {
            (Some(_), Some(_)) => {
                refused("files", format!("the route {path} has a script and files; it leads to one"))
            }
            (None, None) => {
                refused("script", format!("the route {path} needs a script, or a folder of files"))
            }
            (Some(_), None) if self.max_age.is_some() || self.fallback.is_some() => {
                let field = if self.max_age.is_some() { "max_age" } else { "fallback" };
                refused(field, format!("the route {path} leads to a script; {field} is for files"))
            }
            (Some(script), None) => Ok(RouteTarget::Script(script.clone())),
            (None, Some(folder)) => {
                let max_age = self.max_age.map(Duration::from_secs);
                let longest = StaticFiles::LONGEST_AGE;
                if max_age.is_some_and(|age| age > longest) {
                    let problem =
                        format!("max_age is more than the {} seconds that are allowed", longest.as_secs());
                    return refused("max_age", problem);
                }
                let (folder, fallback) = (folder.clone(), self.fallback.clone());
                Ok(RouteTarget::Files(StaticFiles { folder, max_age, fallback }))
            }
        }
    }
}

/// A folder with or without its slash.
fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FileFolder>, D::Error> {
    let mut text = String::deserialize(deserializer)?;
    if !text.ends_with('/') {
        text.push('/');
    }
    FileFolder::new(text).map(Some).map_err(de::Error::custom)
}

fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MethodSet>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(de::Error::custom(
            "a route needs at least one method; leave methods out for all of them",
        ));
    }
    names
        .iter()
        .map(|name| name.parse::<Method>().map_err(de::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoutePattern, D::Error> {
    RoutePattern::for_new_route(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// The routes of an app, oldest first.
#[utoipa::path(get, path = "/api/v1/apps/{app}/routes", tag = "routes",
    responses((status = 200, description = "All of them", body = Page<RouteView>)))]
pub(crate) async fn list_routes(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Json<Page<RouteView>>, ApiError> {
    let routes = context.store.routes(app.id).await.map_err(from_store)?;
    Ok(Json(Page::whole(routes.into_iter().map(|route| RouteView::of(&context, &app.name, route)).collect())))
}

/// Makes a route, or replaces the one with the same paths and methods.
#[utoipa::path(post, path = "/api/v1/apps/{app}/routes", tag = "routes", request_body = RouteRequest,
    responses(
        (status = 201, description = "A new route", body = RouteView),
        (status = 200, description = "A route of these paths and methods was there and was replaced", body = RouteView)))]
pub(crate) async fn create_route(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    JsonBody(new): JsonBody<RouteRequest>,
) -> Result<(StatusCode, Json<RouteView>), ApiError> {
    let new = NewRoute::try_from(new)?;
    check_files_route(&caller, app.id, &new)?;
    let put =
        context.store.put_route(app.id, &new).await.map_err(|error| match (error, new.target.script()) {
            (StoreError::NotFound { what: "script" }, Some(script)) => not_found(&app, script),
            (other, _) => from_store(other),
        })?;
    context.app_changed(app.id).await;
    let (status, route) = match put {
        PutRoute::Created(route) => (StatusCode::CREATED, route),
        PutRoute::Replaced(route) => (StatusCode::OK, route),
    };
    Ok((status, Json(RouteView::of(&context, &app.name, route))))
}

/// A route that serves files publishes data: whoever makes it has to be allowed to read them.
pub(crate) fn check_files_route(caller: &Caller, app: AppId, route: &NewRoute) -> Result<(), ApiError> {
    match &route.target {
        RouteTarget::Files(_) => caller.may(Capability::AppReadData(app)),
        RouteTarget::Script(_) => Ok(()),
    }
}

/// Changes which script answers, who may call, and how often.
#[utoipa::path(patch, path = "/api/v1/apps/{app}/routes/{id}", tag = "routes", request_body = RouteChange,
    responses((status = 200, description = "The route as it is now", body = RouteView)))]
pub(crate) async fn change_route(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, RouteId)>,
    JsonBody(change): JsonBody<RouteChange>,
) -> Result<Json<RouteView>, ApiError> {
    let RouteChange { script, access, signature, mode, callback_url, rate_limit, client_rate_limit } = change;
    let target = script.clone().map(RouteTarget::Script);
    let patch = RoutePatch { target, access, signature, mode, callback_url, rate_limit, client_rate_limit };
    let changed = context.store.patch_route(app.id, id, &patch).await;
    let route = changed.map_err(|error| match (error, &script) {
        (StoreError::NotFound { what: "script" }, Some(script)) => not_found(&app, script),
        (other, _) => from_store(other),
    })?;
    context.app_changed(app.id).await;
    Ok(Json(RouteView::of(&context, &app.name, route)))
}

/// Removes a route.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/routes/{id}", tag = "routes",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_route(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, RouteId)>,
) -> Result<StatusCode, ApiError> {
    context.store.delete_route(app.id, id).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}
