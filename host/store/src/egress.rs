//! What an app's scripts may call over HTTP.

use picloud_core::{AppId, EgressRules};
use sqlx::{PgConnection, types::Json};

use crate::{Store, StoreError, apps::lock_app, changes::notify};

impl Store {
    /// The allow-list of an app; an empty one where it has set none.
    pub async fn egress_rules(&self, app: AppId) -> Result<EgressRules, StoreError> {
        let rules = sqlx::query_scalar!(
            r#"SELECT rules AS "rules: Json<EgressRules>" FROM app_egress WHERE app_id = $1"#,
            app.as_uuid(),
        );
        let rules = rules.fetch_optional(&self.pool).await?;
        Ok(rules.map_or_else(EgressRules::default, |Json(rules)| rules))
    }

    /// Replaces the allow-list of an app.
    pub async fn put_egress_rules(&self, app: AppId, rules: &EgressRules) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        replace_egress(&mut transaction, app, rules).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Replaces the allow-list, under the app's lock.
pub(crate) async fn replace_egress(
    connection: &mut PgConnection,
    app: AppId,
    rules: &EgressRules,
) -> Result<(), StoreError> {
    let replaced = sqlx::query!(
        "INSERT INTO app_egress (app_id, rules) VALUES ($1, $2)
        ON CONFLICT (app_id) DO UPDATE SET rules = excluded.rules",
        app.as_uuid(),
        Json(rules) as _,
    );
    replaced.execute(connection).await?;
    Ok(())
}
