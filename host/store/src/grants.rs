//! What the scripts of an app may use.

use picloud_core::{AppId, Grants, ScriptName, Uses};
use sqlx::{PgConnection, types::Json};

use crate::{Store, StoreError, apps::lock_app, text::parse};

/// What an app grants, and which of its scripts use more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantsSet {
    /// What it grants.
    pub grants: Grants,
    /// The scripts whose active version uses more, by name, and what that is. They run as they are.
    pub beyond: Vec<(ScriptName, Uses)>,
}

impl Store {
    /// What an app grants.
    pub async fn grants(&self, app: AppId) -> Result<GrantsSet, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let grants = load(&mut transaction, app).await?;
        let beyond = beyond(&active_uses(&mut transaction, app).await?, &grants);
        Ok(GrantsSet { grants, beyond })
    }

    /// Replaces what an app grants. Where `uses` is `None`, what its active versions use is granted as well.
    pub async fn set_grants(
        &self,
        app: AppId,
        strict: bool,
        uses: Option<&Uses>,
    ) -> Result<GrantsSet, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let active = active_uses(&mut transaction, app).await?;
        let uses = match uses {
            Some(uses) => uses.clone(),
            None => {
                let mut all = load(&mut transaction, app).await?.uses;
                for (_, uses) in &active {
                    all.extend(uses);
                }
                all
            }
        };
        let grants = Grants { strict, uses };
        let replaced = sqlx::query!(
            "INSERT INTO app_grants (app_id, strict, uses) VALUES ($1, $2, $3)
            ON CONFLICT (app_id) DO UPDATE SET strict = excluded.strict, uses = excluded.uses",
            app.as_uuid(),
            strict,
            Json(&grants.uses) as _,
        );
        replaced.execute(&mut *transaction).await?;
        transaction.commit().await?;
        let beyond = beyond(&active, &grants);
        Ok(GrantsSet { grants, beyond })
    }
}

/// Refuses a version that uses more than a strict app grants, under the app's lock. What was uploaded before uses were
/// noted may use anything.
pub(crate) async fn check_granted(
    connection: &mut PgConnection,
    app: AppId,
    script: &ScriptName,
    uses: Option<&Uses>,
) -> Result<(), StoreError> {
    let grants = load(connection, app).await?;
    if !grants.strict {
        return Ok(());
    }
    let beyond = uses.map(|uses| uses.beyond(&grants.uses));
    match beyond {
        Some(beyond) if beyond.is_empty() => Ok(()),
        beyond => {
            Err(StoreError::NotGranted { script: script.to_string(), uses: beyond.unwrap_or_default() })
        }
    }
}

fn beyond(active: &[(ScriptName, Uses)], grants: &Grants) -> Vec<(ScriptName, Uses)> {
    let beyond = active.iter().map(|(name, uses)| (name.clone(), uses.beyond(&grants.uses)));
    beyond.filter(|(_, uses)| grants.strict && !uses.is_empty()).collect()
}

async fn load(connection: &mut PgConnection, app: AppId) -> Result<Grants, StoreError> {
    let row = sqlx::query!(
        r#"SELECT strict, uses AS "uses: Json<Uses>" FROM app_grants WHERE app_id = $1"#,
        app.as_uuid(),
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map_or_else(Grants::default, |row| Grants { strict: row.strict, uses: row.uses.0 }))
}

async fn active_uses(
    connection: &mut PgConnection,
    app: AppId,
) -> Result<Vec<(ScriptName, Uses)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.name, v.uses AS "uses: Json<Uses>"
        FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
        WHERE s.app_id = $1 ORDER BY s.name"#,
        app.as_uuid(),
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    let known = rows.filter_map(|row| Some((row.name, row.uses?.0)));
    known.map(|(name, uses)| Ok((parse(&name)?, uses))).collect()
}
