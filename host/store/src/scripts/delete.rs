//! Removing a script.

use picloud_core::{AppId, ScriptName};
use sqlx::PgConnection;

use crate::{Store, StoreError, apps::lock_app, changes::notify};

impl Store {
    /// Removes a script with all its versions. [`StoreError::InUse`] while a route leads to it, a trigger runs it or
    /// the active version of another script imports it.
    ///
    /// Versions that are not active and import it stay to be read, but cannot be made active again:
    /// [`Store::roll_back`] refuses that. They keep no library alive, since that would be for as long as the
    /// script has fewer than 100 newer versions.
    pub async fn delete_script(&self, app: AppId, name: &ScriptName) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let deleted = remove(&mut transaction, app, &[name.as_str().to_owned()]).await?;
        if deleted == 0 {
            return Err(StoreError::NotFound { what: "script" });
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Removes scripts under the lock of their app, and answers how many there were. [`StoreError::InUse`] where something
/// else needs one of them; they may need each other.
pub(super) async fn remove(
    connection: &mut PgConnection,
    app: AppId,
    names: &[String],
) -> Result<u64, StoreError> {
    let users = users(connection, app, names).await?;
    if !users.is_empty() {
        return Err(StoreError::InUse { what: "script", by: users });
    }
    let unpinned = sqlx::query!(
        "DELETE FROM script_imports i USING script_versions v, scripts s
        WHERE v.id = i.library_version_id AND s.id = v.script_id AND s.app_id = $1 AND s.name = ANY ($2)",
        app.as_uuid(),
        names,
    );
    unpinned.execute(&mut *connection).await?;
    let deleted =
        sqlx::query!("DELETE FROM scripts WHERE app_id = $1 AND name = ANY ($2)", app.as_uuid(), names);
    Ok(deleted.execute(connection).await?.rows_affected())
}

/// What else needs scripts: routes, triggers, and scripts whose active version imports one, directly or not.
async fn users(
    connection: &mut PgConnection,
    app: AppId,
    names: &[String],
) -> Result<Vec<String>, StoreError> {
    let users = sqlx::query_scalar!(
        r#"SELECT 'route ' || array_to_string(r.methods, ',') || ' ' || r.pattern AS "user!"
        FROM routes r JOIN scripts s ON s.id = r.script_id WHERE s.app_id = $1 AND s.name = ANY ($2)
        UNION
        SELECT 'script ' || importer.name
        FROM scripts library
        JOIN script_versions v ON v.script_id = library.id
        JOIN script_imports i ON i.library_version_id = v.id
        JOIN scripts importer ON importer.active_version_id = i.version_id
        WHERE library.app_id = $1 AND library.name = ANY ($2) AND importer.name <> ALL ($2)
        UNION
        SELECT 'trigger ' || t.name
        FROM triggers t JOIN scripts s ON s.id = t.script_id WHERE s.app_id = $1 AND s.name = ANY ($2)
        ORDER BY 1 LIMIT 20"#,
        app.as_uuid(),
        names,
    );
    Ok(users.fetch_all(connection).await?)
}
