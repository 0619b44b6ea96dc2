//! Limits that scripts set for themselves.

use picloud_core::{AppId, LimitsPatch, ScriptLimitsPatch, ScriptName};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    apps::{limits, lock_app},
    changes::notify,
    text::bigint,
};

impl Store {
    /// Changes the limits of a script that `patch` names, and answers all that it sets. Whether they are at or under the
    /// app's is checked by the caller.
    pub async fn patch_script_limits(
        &self,
        app: AppId,
        script: &ScriptName,
        patch: &ScriptLimitsPatch,
    ) -> Result<LimitsPatch, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let limits = replace(&mut transaction, app, script, patch).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(limits)
    }
}

/// Changes the limits of a script, under the app's lock.
pub(super) async fn replace(
    connection: &mut PgConnection,
    app: AppId,
    script: &ScriptName,
    patch: &ScriptLimitsPatch,
) -> Result<LimitsPatch, StoreError> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM scripts WHERE app_id = $1 AND name = $2",
        app.as_uuid(),
        script.as_str()
    );
    let id = id.fetch_optional(&mut *connection).await?.ok_or(StoreError::NotFound { what: "script" })?;
    let given_back = patch.iter().filter(|(_, value)| value.is_none());
    let given_back: Vec<String> = given_back.map(|(field, _)| field.as_str().to_owned()).collect();
    sqlx::query!("DELETE FROM script_limits WHERE script_id = $1 AND name = ANY ($2)", id, &given_back)
        .execute(&mut *connection)
        .await?;
    let (names, values): (Vec<String>, Vec<i64>) =
        patch.set_values().map(|(field, value)| (field.as_str().to_owned(), bigint(value))).unzip();
    let replaced = sqlx::query!(
        "INSERT INTO script_limits (script_id, name, value)
        SELECT $1, name, value FROM unnest($2::text[], $3::bigint[]) AS patch (name, value)
        ON CONFLICT (script_id, name) DO UPDATE SET value = excluded.value",
        id,
        &names,
        &values,
    );
    replaced.execute(&mut *connection).await?;
    let rows = sqlx::query!("SELECT name, value FROM script_limits WHERE script_id = $1", id);
    let rows = rows.fetch_all(connection).await?;
    Ok(limits(rows.into_iter().map(|row| (row.name, row.value))))
}
