//! Routes: which script or which files answer for which paths and methods of an app.

use std::{collections::BTreeSet, fmt, time::Duration};

use picloud_core::{
    AppId, CallbackUrl, Change, FilePath, MethodSet, RateLimit, RouteAccess, RouteId, RouteMode,
    RoutePattern, RouteTarget, ScriptName, SignatureScheme, StaticFiles,
};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::{
    Store, StoreError,
    apps::lock_app,
    changes::notify,
    signing_keys::{SigningKeyInfo, keys_of},
    text::{bigint, parse, unsigned},
};

/// The most routes of an app: they are compared one by one.
const MAX_ROUTES: usize = 1_000;

/// A route to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRoute {
    /// The methods; at least one.
    pub methods: MethodSet,
    /// The paths.
    pub pattern: RoutePattern,
    /// What answers.
    pub target: RouteTarget,
    /// What it asks of its callers. Left out, it stays what that of the route in its place was, also where that had
    /// other methods beside; else it is public. A route is never opened by not saying so.
    pub access: Option<RouteAccess>,
    /// How its callers sign, of a route with [`RouteAccess::Hmac`] only. Left out, it stays as `access` does.
    pub signature: Option<SignatureScheme>,
    /// How its invocations run. Left out, it stays what that of the route in its place was; else it is [`RouteMode::Sync`].
    pub mode: Option<RouteMode>,
    /// Where answers are sent, of a route with [`RouteMode::Async`] only.
    pub callback_url: Change<CallbackUrl>,
    /// How many requests all clients together may make.
    pub rate_limit: Change<RateLimit>,
    /// How many requests each client may make, in place of what the app sets.
    pub client_rate_limit: Change<RateLimit>,
}

/// A change of a route: what is named is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePatch {
    /// See [`NewRoute::target`].
    pub target: Option<RouteTarget>,
    /// See [`NewRoute::access`].
    pub access: Option<RouteAccess>,
    /// See [`NewRoute::signature`].
    pub signature: Option<SignatureScheme>,
    /// See [`NewRoute::mode`].
    pub mode: Option<RouteMode>,
    /// See [`NewRoute::callback_url`].
    pub callback_url: Change<CallbackUrl>,
    /// See [`NewRoute::rate_limit`].
    pub rate_limit: Change<RateLimit>,
    /// See [`NewRoute::client_rate_limit`].
    pub client_rate_limit: Change<RateLimit>,
}

/// A route of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// The methods.
    pub methods: MethodSet,
    /// The paths.
    pub pattern: RoutePattern,
    /// What answers.
    pub target: RouteTarget,
    /// How its invocations run.
    pub mode: RouteMode,
    /// Where the answers of its asynchronous requests are sent.
    pub callback_url: Option<CallbackUrl>,
    /// What it asks of its callers.
    pub access: RouteAccess,
    /// How its callers sign; it counts with [`RouteAccess::Hmac`] only.
    pub signature: SignatureScheme,
    /// How many requests all clients together may make.
    pub rate_limit: Option<RateLimit>,
    /// How many requests each client may make, in place of what the app sets.
    pub client_rate_limit: Option<RateLimit>,
    /// The keys that are good for a signature now, the newest first.
    pub signing_keys: Vec<SigningKeyInfo>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// What putting a route did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutRoute {
    /// It is new.
    Created(Route),
    /// A route of these paths and methods was there; it now has this pattern and target, and what the new one says of who may call.
    Replaced(Route),
}

impl NewRoute {
    /// A route that says nothing of who may call it.
    pub fn new(methods: MethodSet, pattern: RoutePattern, target: impl Into<RouteTarget>) -> Self {
        let (rate_limit, client_rate_limit, target) = (Change::Keep, Change::Keep, target.into());
        Self {
            methods,
            pattern,
            target,
            access: None,
            signature: None,
            mode: None,
            callback_url: Change::Keep,
            rate_limit,
            client_rate_limit,
        }
    }
}

/// `GET,PUT /users/:id`, and `any /users/:id` where it has all methods.
impl fmt::Display for NewRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = if self.methods == MethodSet::ANY {
            "any".to_owned()
        } else {
            method_names(self.methods).join(",")
        };
        write!(f, "{methods} {}", self.pattern)
    }
}

impl Store {
    /// The routes of an app, oldest first.
    pub async fn routes(&self, app: AppId) -> Result<Vec<Route>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut routes = all(&mut *connection, app).await?;
        attach_keys(&mut connection, app, &mut routes).await?;
        Ok(routes)
    }

    /// A route by its id.
    pub async fn route(&self, app: AppId, id: RouteId) -> Result<Option<Route>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT r.id, r.methods, r.pattern, s.name AS "script?", r.files, r.files_max_age, r.files_fallback,
                r.access, r.signature, r.mode, r.callback_url, r.rate_limit, r.client_rate_limit, r.created_at
            FROM routes r LEFT JOIN scripts s ON s.id = r.script_id WHERE r.app_id = $1 AND r.id = $2"#,
            app.as_uuid(),
            id.as_uuid(),
        );
        let mut connection = self.pool.acquire().await?;
        let Some(row) = row.fetch_optional(&mut *connection).await? else { return Ok(None) };
        let mut route = [Route::try_from(row)?];
        attach_keys(&mut connection, app, &mut route).await?;
        let [route] = route;
        Ok(Some(route))
    }

    /// Makes a route, or replaces the one with the same paths and methods: putting it twice is as good as
    /// once. [`StoreError::RouteOverlaps`] if another route of the same paths shares some of the methods.
    pub async fn put_route(&self, app: AppId, route: &NewRoute) -> Result<PutRoute, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let mut put = put(&mut transaction, app, route).await?;
        if matches!(put, PutRoute::Created(_)) {
            check_count(all(&mut *transaction, app).await?.len())?;
        }
        let (PutRoute::Created(route) | PutRoute::Replaced(route)) = &mut put;
        attach_keys(&mut transaction, app, std::slice::from_mut(route)).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(put)
    }

    /// Changes what `patch` names of a route.
    pub async fn patch_route(
        &self,
        app: AppId,
        id: RouteId,
        patch: &RoutePatch,
    ) -> Result<Route, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let present = all(&mut *transaction, app).await?.into_iter().find(|route| route.id == id);
        let present = present.ok_or(StoreError::NotFound { what: "route" })?;
        let changed = NewRoute {
            methods: present.methods,
            pattern: present.pattern,
            target: patch.target.clone().unwrap_or(present.target),
            access: patch.access,
            signature: patch.signature.clone(),
            mode: patch.mode,
            callback_url: patch.callback_url.clone(),
            rate_limit: patch.rate_limit,
            client_rate_limit: patch.client_rate_limit,
        };
        let target = TargetColumns::of(&mut transaction, app, &changed).await?;
        let mut route = update(&mut transaction, id.as_uuid(), &target, &changed).await?;
        attach_keys(&mut transaction, app, std::slice::from_mut(&mut route)).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(route)
    }

    /// Removes a route.
    pub async fn delete_route(&self, app: AppId, id: RouteId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        remove(&mut *transaction, app, id).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Makes a route, or replaces the one with the same paths and methods, under the app's lock.
async fn put(connection: &mut PgConnection, app: AppId, route: &NewRoute) -> Result<PutRoute, StoreError> {
    if route.methods == MethodSet::default() {
        return Err(StoreError::Invalid("a route needs at least one method".into()));
    }
    let target = TargetColumns::of(connection, app, route).await?;
    match same_paths(connection, app, route).await? {
        SamePaths::Free => Ok(PutRoute::Created(insert(connection, app, &target, route).await?)),
        SamePaths::Same(id) => Ok(PutRoute::Replaced(update(connection, id, &target, route).await?)),
        SamePaths::Overlap(id) => {
            let found = all(connection, app).await?.into_iter().find(|route| route.id == id);
            let Some(Route { methods, pattern, target, .. }) = found else {
                return Err(StoreError::Conflict);
            };
            Err(StoreError::RouteOverlaps { route: Box::new(NewRoute::new(methods, pattern, target)) })
        }
    }
}

/// Makes `routes` all routes of an app, under its lock, and answers those that are gone. A route that has the methods
/// and the pattern of one that is there keeps its id.
pub(crate) async fn replace_routes(
    connection: &mut PgConnection,
    app: AppId,
    routes: &[NewRoute],
) -> Result<Vec<Route>, StoreError> {
    check_count(routes.len())?;
    let mut present = all(&mut *connection, app).await?;
    let is_wanted = |present: &Route| {
        routes.iter().any(|route| route.methods == present.methods && route.pattern == present.pattern)
    };
    // What goes must go first: it may share methods with what comes.
    present.retain(|route| !is_wanted(route));
    for gone in &present {
        remove(&mut *connection, app, gone.id).await?;
    }
    let replaced_by = |route: &NewRoute| {
        let is_in_its_place = |gone: &&Route| {
            gone.pattern.has_shape_of(&route.pattern)
                && gone.methods.iter().any(|method| route.methods.contains(method))
        };
        let replaced = present.iter().filter(is_in_its_place);
        replaced.max_by_key(|gone| gone.access != RouteAccess::Public)
    };
    let mut put_ids = BTreeSet::new();
    for route in routes {
        let mut route = route.clone();
        if let Some(replaced) = replaced_by(&route) {
            route.access = route.access.or(Some(replaced.access));
            route.mode = route.mode.or(Some(replaced.mode));
            if (route.access, replaced.access) == (Some(RouteAccess::Hmac), RouteAccess::Hmac) {
                route.signature = route.signature.or_else(|| Some(replaced.signature.clone()));
            }
        }
        let (PutRoute::Created(put) | PutRoute::Replaced(put)) = put(connection, app, &route).await?;
        if !put_ids.insert(put.id) {
            return Err(StoreError::RouteTwice { route: Box::new(route) });
        }
    }
    Ok(present)
}

fn check_count(routes: usize) -> Result<(), StoreError> {
    if routes > MAX_ROUTES {
        return Err(StoreError::Invalid(format!("an app has at most {MAX_ROUTES} routes")));
    }
    Ok(())
}

async fn all(connection: impl PgExecutor<'_>, app: AppId) -> Result<Vec<Route>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT r.id, r.methods, r.pattern, s.name AS "script?", r.files, r.files_max_age, r.files_fallback,
                r.access, r.signature, r.mode, r.callback_url, r.rate_limit, r.client_rate_limit, r.created_at
            FROM routes r LEFT JOIN scripts s ON s.id = r.script_id WHERE r.app_id = $1 ORDER BY r.id"#,
        app.as_uuid(),
    );
    rows.fetch_all(connection).await?.into_iter().map(Route::try_from).collect()
}

/// Says of each route which keys it has.
async fn attach_keys(
    connection: &mut PgConnection,
    app: AppId,
    routes: &mut [Route],
) -> Result<(), StoreError> {
    if routes.iter().all(|route| route.access != RouteAccess::Hmac) {
        return Ok(());
    }
    let mut keys = keys_of(connection, app).await?;
    for route in routes.iter_mut().filter(|route| route.access == RouteAccess::Hmac) {
        route.signing_keys = keys.remove(&route.id).unwrap_or_default();
    }
    Ok(())
}

async fn remove(connection: impl PgExecutor<'_>, app: AppId, id: RouteId) -> Result<(), StoreError> {
    let deleted =
        sqlx::query!("DELETE FROM routes WHERE app_id = $1 AND id = $2", app.as_uuid(), id.as_uuid());
    match deleted.execute(connection).await?.rows_affected() {
        0 => Err(StoreError::NotFound { what: "route" }),
        _ => Ok(()),
    }
}

/// What an app's routes have at the paths of a new one.
enum SamePaths {
    /// Nothing of its methods.
    Free,
    /// A route with exactly its methods.
    Same(uuid::Uuid),
    /// A route with some of its methods.
    Overlap(RouteId),
}

async fn same_paths(
    connection: &mut PgConnection,
    app: AppId,
    route: &NewRoute,
) -> Result<SamePaths, StoreError> {
    let rows = sqlx::query!(
        r"SELECT id, methods FROM routes
        WHERE app_id = $1 AND methods && $3 AND shape = regexp_replace($2, '/([:*])[^/]+', '/\1', 'g')",
        app.as_uuid(),
        route.pattern.to_string(),
        &method_names(route.methods),
    );
    let rows = rows.fetch_all(connection).await?;
    Ok(match rows.as_slice() {
        [] => SamePaths::Free,
        [only] if methods(&only.methods)? == route.methods => SamePaths::Same(only.id),
        [first, ..] => SamePaths::Overlap(RouteId::from_uuid(first.id)),
    })
}

/// The script of an app, which cannot be deleted until the transaction ends.
pub(crate) async fn script_id(
    connection: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
) -> Result<uuid::Uuid, StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT id FROM scripts WHERE app_id = $1 AND name = $2 FOR KEY SHARE",
        app.as_uuid(),
        name.as_str(),
    );
    found.fetch_optional(connection).await?.ok_or(StoreError::NotFound { what: "script" })
}

/// What a route leads to, as its columns have it.
struct TargetColumns<'a> {
    script_id: Option<uuid::Uuid>,
    script: Option<&'a str>,
    files: Option<&'a StaticFiles>,
}

impl<'a> TargetColumns<'a> {
    async fn of(connection: &mut PgConnection, app: AppId, route: &'a NewRoute) -> Result<Self, StoreError> {
        match &route.target {
            RouteTarget::Script(script) => {
                let script_id = Some(script_id(connection, app, script).await?);
                Ok(Self { script_id, script: Some(script.as_str()), files: None })
            }
            RouteTarget::Files(files) => {
                StaticFiles::check(&route.pattern, route.methods)
                    .map_err(|error| StoreError::Invalid(error.to_string()))?;
                Ok(Self { script_id: None, script: None, files: Some(files) })
            }
        }
    }

    fn folder(&self) -> Option<&str> {
        self.files.map(|files| files.folder.as_str())
    }

    fn max_age(&self) -> Option<i64> {
        let max_age = self.files.and_then(|files| files.max_age)?;
        Some(bigint(max_age.min(StaticFiles::LONGEST_AGE).as_secs()))
    }

    fn fallback(&self) -> Option<&str> {
        self.files.and_then(|files| files.fallback.as_ref()).map(FilePath::as_str)
    }
}

async fn insert(
    connection: &mut PgConnection,
    app: AppId,
    target: &TargetColumns<'_>,
    route: &NewRoute,
) -> Result<Route, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"INSERT INTO routes (id, app_id, script_id, methods, pattern, access, rate_limit, client_rate_limit,
            files, files_max_age, files_fallback, signature, mode, callback_url)
        VALUES ($1, $2, $3, $4, $5, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        RETURNING id, methods, pattern, $6::text AS script, files, files_max_age, files_fallback,
            access, signature, mode, callback_url, rate_limit, client_rate_limit, created_at"#,
        RouteId::generate().as_uuid(),
        app.as_uuid(),
        target.script_id,
        &method_names(route.methods),
        route.pattern.to_string(),
        target.script,
        route.access.unwrap_or_default().as_str(),
        route.rate_limit.apply(None).map(|rate| rate.to_string()),
        route.client_rate_limit.apply(None).map(|rate| rate.to_string()),
        target.folder(),
        target.max_age(),
        target.fallback(),
        route.signature.clone().unwrap_or_default().to_string(),
        route.mode.unwrap_or_default().as_str(),
        route.callback_url.clone().apply(None).map(String::from),
    );
    checked(row.fetch_one(connection).await?, route)
}

/// A route that was written, where what was said of signatures makes sense: one that asks for none is not protected by
/// what is said of them.
fn checked(row: Row, written: &NewRoute) -> Result<Route, StoreError> {
    let route = Route::try_from(row)?;
    if written.signature.is_some() && route.access != RouteAccess::Hmac {
        let problem =
            format!("the access of the route is {}; only a route with hmac has a signature", route.access);
        return Err(StoreError::Invalid(problem));
    }
    if route.callback_url.is_some() && route.mode != RouteMode::Async {
        let problem =
            format!("the mode of the route is {}; only one with async has a callback_url", route.mode);
        return Err(StoreError::Invalid(problem));
    }
    if route.mode != RouteMode::Sync && matches!(route.target, RouteTarget::Files(_)) {
        return Err(StoreError::Invalid("a route to files is sync; only scripts run in another mode".into()));
    }
    Ok(route)
}

async fn update(
    connection: &mut PgConnection,
    id: uuid::Uuid,
    target: &TargetColumns<'_>,
    route: &NewRoute,
) -> Result<Route, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"UPDATE routes SET script_id = $2, pattern = $3,
            access = coalesce($5, access),
            rate_limit = CASE WHEN $6 THEN rate_limit ELSE $7 END,
            client_rate_limit = CASE WHEN $8 THEN client_rate_limit ELSE $9 END,
            files = $10, files_max_age = $11, files_fallback = $12, signature = coalesce($13, signature),
            mode = coalesce($14, mode), callback_url = CASE WHEN $15 THEN callback_url ELSE $16 END
        WHERE id = $1
        RETURNING id, methods, pattern, $4::text AS script, files, files_max_age, files_fallback,
            access, signature, mode, callback_url, rate_limit, client_rate_limit, created_at"#,
        id,
        target.script_id,
        route.pattern.to_string(),
        target.script,
        route.access.map(RouteAccess::as_str),
        route.rate_limit.is_keep(),
        route.rate_limit.apply(None).map(|rate| rate.to_string()),
        route.client_rate_limit.is_keep(),
        route.client_rate_limit.apply(None).map(|rate| rate.to_string()),
        target.folder(),
        target.max_age(),
        target.fallback(),
        route.signature.as_ref().map(SignatureScheme::to_string),
        route.mode.map(RouteMode::as_str),
        route.callback_url.is_keep(),
        route.callback_url.clone().apply(None).map(String::from),
    );
    checked(row.fetch_one(connection).await?, route)
}

/// What a route leads to, of its columns.
pub(crate) fn target(
    script: Option<&str>,
    folder: Option<&str>,
    max_age: Option<i64>,
    fallback: Option<&str>,
) -> Result<RouteTarget, StoreError> {
    match (script, folder) {
        (Some(script), _) => Ok(RouteTarget::Script(parse(script)?)),
        (None, Some(folder)) => Ok(RouteTarget::Files(StaticFiles {
            folder: parse(folder)?,
            max_age: max_age.map(|seconds| Duration::from_secs(unsigned(seconds))),
            fallback: fallback.map(parse).transpose()?,
        })),
        (None, None) => Err(StoreError::Database("a stored route leads nowhere".into())),
    }
}

pub(crate) fn methods(names: &[String]) -> Result<MethodSet, StoreError> {
    names.iter().map(|name| parse::<picloud_core::Method>(name)).collect()
}

/// A rate limit that was stored.
pub(crate) fn rate(text: Option<&str>) -> Result<Option<RateLimit>, StoreError> {
    text.map(parse).transpose()
}

fn method_names(methods: MethodSet) -> Vec<String> {
    methods.iter().map(|method| method.as_str().to_owned()).collect()
}

struct Row {
    id: uuid::Uuid,
    methods: Vec<String>,
    pattern: String,
    script: Option<String>,
    files: Option<String>,
    files_max_age: Option<i64>,
    files_fallback: Option<String>,
    access: String,
    signature: String,
    mode: String,
    callback_url: Option<String>,
    rate_limit: Option<String>,
    client_rate_limit: Option<String>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Route {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: RouteId::from_uuid(row.id),
            methods: methods(&row.methods)?,
            pattern: parse(&row.pattern)?,
            target: target(
                row.script.as_deref(),
                row.files.as_deref(),
                row.files_max_age,
                row.files_fallback.as_deref(),
            )?,
            mode: parse(&row.mode)?,
            callback_url: row.callback_url.as_deref().map(parse).transpose()?,
            access: parse(&row.access)?,
            signature: parse(&row.signature)?,
            rate_limit: rate(row.rate_limit.as_deref())?,
            client_rate_limit: rate(row.client_rate_limit.as_deref())?,
            signing_keys: Vec::new(),
            created_at: row.created_at,
        })
    }
}
