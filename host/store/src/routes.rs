//! Routes: which script answers for which paths and methods of an app.

use std::{collections::BTreeSet, fmt};

use picloud_core::{AppId, MethodSet, RouteId, RoutePattern, ScriptName};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::{Store, StoreError, apps::lock_app, changes::notify, text::parse};

/// The most routes of an app: they are compared one by one.
const MAX_ROUTES: usize = 1_000;

/// How a route's invocations run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteMode {
    /// While the client waits, and only then.
    #[default]
    Sync,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteAccess {
    /// Anyone.
    #[default]
    Public,
}

/// A route to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRoute {
    /// The methods; at least one.
    pub methods: MethodSet,
    /// The paths.
    pub pattern: RoutePattern,
    /// The script that answers.
    pub script: ScriptName,
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
    /// The script that answers.
    pub script: ScriptName,
    /// How its invocations run.
    pub mode: RouteMode,
    /// Who may call it.
    pub access: RouteAccess,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// What putting a route did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutRoute {
    /// It is new.
    Created(Route),
    /// A route of these paths and methods was there; it now has this pattern and script.
    Replaced(Route),
}

impl RouteMode {
    /// The mode as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
        }
    }
}

impl RouteAccess {
    /// The access as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
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
        all(&self.pool, app).await
    }

    /// A route by its id.
    pub async fn route(&self, app: AppId, id: RouteId) -> Result<Option<Route>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT r.id, r.methods, r.pattern, s.name AS script, r.created_at
            FROM routes r JOIN scripts s ON s.id = r.script_id WHERE r.app_id = $1 AND r.id = $2",
            app.as_uuid(),
            id.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(Route::try_from).transpose()
    }

    /// Makes a route, or replaces the one with the same paths and methods: putting it twice is as good as
    /// once. [`StoreError::RouteOverlaps`] if another route of the same paths shares some of the methods.
    pub async fn put_route(&self, app: AppId, route: &NewRoute) -> Result<PutRoute, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let put = put(&mut transaction, app, route).await?;
        if matches!(put, PutRoute::Created(_)) {
            check_count(all(&mut *transaction, app).await?.len())?;
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(put)
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
    let script = script_id(connection, app, &route.script).await?;
    match same_paths(connection, app, route).await? {
        SamePaths::Free => Ok(PutRoute::Created(insert(connection, app, script, route).await?)),
        SamePaths::Same(id) => Ok(PutRoute::Replaced(update(connection, id, script, route).await?)),
        SamePaths::Overlap(id) => {
            let found = all(connection, app).await?.into_iter().find(|route| route.id == id);
            let Some(Route { methods, pattern, script, .. }) = found else {
                return Err(StoreError::Conflict);
            };
            Err(StoreError::RouteOverlaps { route: NewRoute { methods, pattern, script } })
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
    let mut put_ids = BTreeSet::new();
    for route in routes {
        let (PutRoute::Created(put) | PutRoute::Replaced(put)) = put(connection, app, route).await?;
        if !put_ids.insert(put.id) {
            return Err(StoreError::RouteTwice { route: route.clone() });
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
        "SELECT r.id, r.methods, r.pattern, s.name AS script, r.created_at
            FROM routes r JOIN scripts s ON s.id = r.script_id WHERE r.app_id = $1 ORDER BY r.id",
        app.as_uuid(),
    );
    rows.fetch_all(connection).await?.into_iter().map(Route::try_from).collect()
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

async fn script_id(
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

async fn insert(
    connection: &mut PgConnection,
    app: AppId,
    script: uuid::Uuid,
    route: &NewRoute,
) -> Result<Route, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"INSERT INTO routes (id, app_id, script_id, methods, pattern) VALUES ($1, $2, $3, $4, $5)
        RETURNING id, methods, pattern, $6 AS "script!", created_at"#,
        RouteId::generate().as_uuid(),
        app.as_uuid(),
        script,
        &method_names(route.methods),
        route.pattern.to_string(),
        route.script.as_str(),
    );
    row.fetch_one(connection).await?.try_into()
}

async fn update(
    connection: &mut PgConnection,
    id: uuid::Uuid,
    script: uuid::Uuid,
    route: &NewRoute,
) -> Result<Route, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"UPDATE routes SET script_id = $2, pattern = $3 WHERE id = $1
        RETURNING id, methods, pattern, $4 AS "script!", created_at"#,
        id,
        script,
        route.pattern.to_string(),
        route.script.as_str(),
    );
    row.fetch_one(connection).await?.try_into()
}

pub(crate) fn methods(names: &[String]) -> Result<MethodSet, StoreError> {
    names.iter().map(|name| parse::<picloud_core::Method>(name)).collect()
}

fn method_names(methods: MethodSet) -> Vec<String> {
    methods.iter().map(|method| method.as_str().to_owned()).collect()
}

struct Row {
    id: uuid::Uuid,
    methods: Vec<String>,
    pattern: String,
    script: String,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Route {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: RouteId::from_uuid(row.id),
            methods: methods(&row.methods)?,
            pattern: parse(&row.pattern)?,
            script: parse(&row.script)?,
            // The columns' constraints allow no other value yet.
            mode: RouteMode::Sync,
            access: RouteAccess::Public,
            created_at: row.created_at,
        })
    }
}
