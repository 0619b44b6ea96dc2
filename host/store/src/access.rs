//! Settings that hold for all endpoints of an app.

use picloud_core::{AccessPatch, AccessSettings, AppId};
use sqlx::{PgConnection, types::Json};

use crate::{Store, StoreError, apps::lock_app, changes::notify};

impl Store {
    /// The settings of an app; the defaults where it has set none.
    pub async fn access_settings(&self, app: AppId) -> Result<AccessSettings, StoreError> {
        let mut connection = self.pool.acquire().await?;
        load(&mut connection, app).await
    }

    /// Replaces the settings that `patch` names, and answers all of them.
    pub async fn patch_access(&self, app: AppId, patch: &AccessPatch) -> Result<AccessSettings, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let settings = replace_access(&mut transaction, app, patch).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(settings)
    }
}

/// Replaces the settings that `patch` names, under the app's lock.
pub(crate) async fn replace_access(
    connection: &mut PgConnection,
    app: AppId,
    patch: &AccessPatch,
) -> Result<AccessSettings, StoreError> {
    let settings = load(connection, app).await?.patched(patch);
    let replaced = sqlx::query!(
        "INSERT INTO app_access (app_id, settings) VALUES ($1, $2)
        ON CONFLICT (app_id) DO UPDATE SET settings = excluded.settings",
        app.as_uuid(),
        Json(&settings) as _,
    );
    replaced.execute(connection).await?;
    Ok(settings)
}

async fn load(connection: &mut PgConnection, app: AppId) -> Result<AccessSettings, StoreError> {
    let settings = sqlx::query_scalar!(
        r#"SELECT settings AS "settings: Json<AccessSettings>" FROM app_access WHERE app_id = $1"#,
        app.as_uuid(),
    );
    Ok(settings.fetch_optional(connection).await?.map_or_else(AccessSettings::default, |Json(set)| set))
}
