//! Removing a script.

use picloud_core::{AppId, ScriptName};
use sqlx::PgConnection;

use crate::{Store, StoreError, apps::lock_app, changes::notify};

impl Store {
    /// Removes a script with all its versions. [`StoreError::InUse`] while a route leads to it or the active
    /// version of another script imports it.
    ///
    /// Versions that are not active and import it stay to be read, but cannot be made active again:
    /// [`Store::roll_back`] refuses that. They keep no library alive, since that would be for as long as the
    /// script has fewer than 100 newer versions.
    pub async fn delete_script(&self, app: AppId, name: &ScriptName) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let users = users(&mut transaction, app, name).await?;
        if !users.is_empty() {
            return Err(StoreError::InUse { what: "script", by: users });
        }
        let unpinned = sqlx::query!(
            "DELETE FROM script_imports i USING script_versions v, scripts s
            WHERE v.id = i.library_version_id AND s.id = v.script_id AND s.app_id = $1 AND s.name = $2",
            app.as_uuid(),
            name.as_str(),
        );
        unpinned.execute(&mut *transaction).await?;
        let deleted =
            sqlx::query!("DELETE FROM scripts WHERE app_id = $1 AND name = $2", app.as_uuid(), name.as_str());
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "script" });
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// What needs a script: routes, and scripts whose active version imports it, directly or not.
async fn users(
    connection: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
) -> Result<Vec<String>, StoreError> {
    let users = sqlx::query_scalar!(
        r#"SELECT 'route ' || array_to_string(r.methods, ',') || ' ' || r.pattern AS "user!"
        FROM routes r JOIN scripts s ON s.id = r.script_id WHERE s.app_id = $1 AND s.name = $2
        UNION
        SELECT 'script ' || importer.name
        FROM scripts library
        JOIN script_versions v ON v.script_id = library.id
        JOIN script_imports i ON i.library_version_id = v.id
        JOIN scripts importer ON importer.active_version_id = i.version_id
        WHERE library.app_id = $1 AND library.name = $2
        ORDER BY 1 LIMIT 20"#,
        app.as_uuid(),
        name.as_str(),
    );
    Ok(users.fetch_all(connection).await?)
}
