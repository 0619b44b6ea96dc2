//! What the ingress keeps in memory of each app: enough to find the script for a request without a query.

use std::collections::BTreeSet;

use picloud_core::{
    AccessSettings, AppId, AppName, CallbackUrl, DomainName, EgressRules, Hour, ImageKey, LimitsPatch,
    MethodSet, PrincipalId, RateLimit, RouteAccess, RouteId, RouteMode, RoutePattern, RouteTarget,
    ScriptName, ScriptVersionId, SecretName, SignatureScheme, TriggerId, TriggerSpec, Uses,
};
use sqlx::{Postgres, Transaction, types::Json};
use time::OffsetDateTime;

use crate::{
    HourFuel, SigningKey, Store, StoreError, Trigger,
    apps::limits,
    routes::{methods, rate, target},
    signing_keys::opened,
    text::{digest, parse, unsigned},
    triggers::enabled_triggers,
};

/// An app with all that leads to its scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppDirectory {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: AppName,
    /// The limits it sets; `SandboxCeiling::clamp` makes those in force of them.
    pub limits: LimitsPatch,
    /// Who may call its endpoints.
    pub access: AccessSettings,
    /// What its scripts may call over HTTP.
    pub egress: EgressRules,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Its own hosts.
    pub domains: Vec<DomainName>,
    /// Its routes, oldest first.
    pub routes: Vec<DirectoryRoute>,
    /// Whether it has any files.
    pub has_files: bool,
    /// Its scripts, by name.
    pub scripts: Vec<DirectoryScript>,
    /// Its triggers that are enabled, by name.
    pub triggers: Vec<DirectoryTrigger>,
    /// The fuel it used in the hours of the present day.
    pub fuel: Vec<HourFuel>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRoute {
    /// Its id.
    pub id: RouteId,
    /// The methods.
    pub methods: MethodSet,
    /// The paths.
    pub pattern: RoutePattern,
    /// What answers; a script is one of [`AppDirectory::scripts`].
    pub target: RouteTarget,
    /// How its invocations run.
    pub mode: RouteMode,
    /// Where the answers of its asynchronous requests are sent.
    pub callback_url: Option<CallbackUrl>,
    /// What it asks of its callers.
    pub access: RouteAccess,
    /// How its callers sign, where it asks for that.
    pub signature: SignatureScheme,
    /// How many requests all clients together may make.
    pub rate_limit: Option<RateLimit>,
    /// How many requests each client may make, in place of what the app sets.
    pub client_rate_limit: Option<RateLimit>,
    /// What its callers may sign with, the newest first.
    pub keys: Vec<RouteKey>,
}

/// A key of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKey {
    /// The key.
    pub key: SigningKey,
    /// When it ends. Whether it has is for the reader to check.
    pub expires_at: Option<OffsetDateTime>,
}

/// A script and its active version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryScript {
    /// Its name.
    pub name: ScriptName,
    /// The active version.
    pub version: ScriptVersionId,
    /// Its number.
    pub number: i32,
    /// The image it runs in.
    pub image: ImageKey,
    /// The secrets that it may read: those that the active version declares.
    pub secrets: BTreeSet<SecretName>,
    /// The limits it sets for itself.
    pub limits: LimitsPatch,
}

/// A trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryTrigger {
    /// Its id.
    pub id: TriggerId,
    /// What it waits for, and its script, which is one of [`AppDirectory::scripts`].
    pub spec: TriggerSpec,
    /// Who registered it: it runs as this principal.
    pub registered_by: PrincipalId,
}

impl Store {
    /// Every app, by name.
    pub async fn directory(&self) -> Result<Vec<AppDirectory>, StoreError> {
        self.load_directory(None).await
    }

    /// One app, if it exists.
    pub async fn directory_of(&self, app: AppId) -> Result<Option<AppDirectory>, StoreError> {
        Ok(self.load_directory(Some(app)).await?.pop())
    }

    async fn load_directory(&self, only: Option<AppId>) -> Result<Vec<AppDirectory>, StoreError> {
        // One snapshot for all the queries: a route never leads to a script that is not there.
        let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut transaction = self.pool.begin_with(snapshot).await?;
        let only = only.map(AppId::as_uuid);
        let mut apps = load_apps(&mut transaction, only).await?;
        // By id, as the queries order their rows, so that each is found without a search.
        apps.sort_unstable_by_key(|app| app.id);
        load_domains(&mut transaction, only, &mut apps).await?;
        load_scripts(&mut transaction, only, &mut apps).await?;
        load_routes(&mut transaction, only, &mut apps).await?;
        load_keys(&mut transaction, only, &mut apps).await?;
        load_triggers(&mut transaction, only, &mut apps).await?;
        load_fuel(&mut transaction, only, &mut apps).await?;
        transaction.commit().await?;
        apps.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(apps)
    }
}

fn find(apps: &mut [AppDirectory], id: uuid::Uuid) -> Option<&mut AppDirectory> {
    let at = apps.binary_search_by_key(&AppId::from_uuid(id), |app| app.id).ok()?;
    apps.get_mut(at)
}

async fn load_apps(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
) -> Result<Vec<AppDirectory>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id, name, created_at,
            EXISTS (SELECT FROM file_usage u WHERE u.app_id = a.id AND u.files > 0) AS "has_files!",
            (SELECT x.settings FROM app_access x WHERE x.app_id = a.id) AS "access?: Json<AccessSettings>",
            (SELECT e.rules FROM app_egress e WHERE e.app_id = a.id) AS "egress?: Json<EgressRules>",
            ARRAY(SELECT l.name FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_names!",
            ARRAY(SELECT l.value FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_values!"
        FROM apps a WHERE $1::uuid IS NULL OR id = $1"#,
        only,
    );
    let rows = rows.fetch_all(&mut **transaction).await?.into_iter();
    rows.map(|row| {
        Ok(AppDirectory {
            id: AppId::from_uuid(row.id),
            name: parse(&row.name)?,
            limits: limits(row.limit_names.into_iter().zip(row.limit_values)),
            access: row.access.map_or_else(AccessSettings::default, |Json(settings)| settings),
            egress: row.egress.map_or_else(EgressRules::default, |Json(rules)| rules),
            created_at: row.created_at,
            domains: Vec::new(),
            routes: Vec::new(),
            has_files: row.has_files,
            scripts: Vec::new(),
            triggers: Vec::new(),
            fuel: Vec::new(),
        })
    })
    .collect()
}

async fn load_domains(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
    apps: &mut [AppDirectory],
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "SELECT app_id, name FROM domains
         WHERE verified_at IS NOT NULL AND ($1::uuid IS NULL OR app_id = $1) ORDER BY name",
        only,
    );
    for row in rows.fetch_all(&mut **transaction).await? {
        if let Some(app) = find(apps, row.app_id) {
            app.domains.push(parse(&row.name)?);
        }
    }
    Ok(())
}

async fn load_scripts(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
    apps: &mut [AppDirectory],
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.app_id, s.name, v.id, v.number, v.image_key,
            CASE WHEN v.uses ? 'secrets' THEN v.uses END AS "uses: Json<Uses>",
            ARRAY(SELECT l.name FROM script_limits l WHERE l.script_id = s.id ORDER BY l.name) AS "limit_names!",
            ARRAY(SELECT l.value FROM script_limits l WHERE l.script_id = s.id ORDER BY l.name) AS "limit_values!"
        FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
        WHERE $1::uuid IS NULL OR s.app_id = $1 ORDER BY s.name"#,
        only,
    );
    for row in rows.fetch_all(&mut **transaction).await? {
        if let Some(app) = find(apps, row.app_id) {
            app.scripts.push(DirectoryScript {
                name: parse(&row.name)?,
                version: ScriptVersionId::from_uuid(row.id),
                number: row.number,
                image: ImageKey::from_bytes(digest(row.image_key)?),
                secrets: row.uses.map(|uses| uses.secrets()).unwrap_or_default(),
                limits: limits(row.limit_names.into_iter().zip(row.limit_values)),
            });
        }
    }
    Ok(())
}

async fn load_routes(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
    apps: &mut [AppDirectory],
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"SELECT r.app_id, r.id, r.methods, r.pattern, s.name AS "script?",
            r.files, r.files_max_age, r.files_fallback, r.access, r.signature, r.mode,
            r.callback_url, r.rate_limit, r.client_rate_limit
        FROM routes r LEFT JOIN scripts s ON s.id = r.script_id
        WHERE $1::uuid IS NULL OR r.app_id = $1 ORDER BY r.id"#,
        only,
    );
    for row in rows.fetch_all(&mut **transaction).await? {
        if let Some(app) = find(apps, row.app_id) {
            app.routes.push(DirectoryRoute {
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
                keys: Vec::new(),
            });
        }
    }
    Ok(())
}

async fn load_keys(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
    apps: &mut [AppDirectory],
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "SELECT r.app_id, k.route_id, k.key, k.expires_at
        FROM route_signing_keys k JOIN routes r ON r.id = k.route_id
        WHERE r.access = 'hmac' AND ($1::uuid IS NULL OR r.app_id = $1)
            AND (k.expires_at IS NULL OR k.expires_at > now())
        ORDER BY k.id DESC",
        only,
    );
    for row in rows.fetch_all(&mut **transaction).await? {
        let Some(app) = find(apps, row.app_id) else { continue };
        // Routes are by id, too.
        let id = RouteId::from_uuid(row.route_id);
        if let Ok(at) = app.routes.binary_search_by_key(&id, |route| route.id) {
            app.routes[at].keys.push(RouteKey { key: opened(row.key)?, expires_at: row.expires_at });
        }
    }
    Ok(())
}

async fn load_triggers(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
    apps: &mut [AppDirectory],
) -> Result<(), StoreError> {
    for (app, trigger) in enabled_triggers(&mut *transaction, only).await? {
        if let Some(app) = find(apps, app) {
            let Trigger { id, spec, registered_by, .. } = trigger;
            app.triggers.push(DirectoryTrigger { id, spec, registered_by });
        }
    }
    Ok(())
}

async fn load_fuel(
    transaction: &mut Transaction<'_, Postgres>,
    only: Option<uuid::Uuid>,
    apps: &mut [AppDirectory],
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        "SELECT app_id, hour, fuel FROM usage_apps
        WHERE hour >= $2 AND ($1::uuid IS NULL OR app_id = $1) ORDER BY app_id, hour",
        only,
        Hour::of(OffsetDateTime::now_utc()).first_of_day().start(),
    );
    for row in rows.fetch_all(&mut **transaction).await? {
        if let Some(app) = find(apps, row.app_id) {
            app.fuel.push(HourFuel { hour: Hour::of(row.hour), fuel: unsigned(row.fuel) });
        }
    }
    Ok(())
}
