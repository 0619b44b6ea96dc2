//! Plain variables of apps.

use std::{collections::BTreeMap, sync::Arc};

use picloud_core::{AppId, VariableName};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Store, StoreError, apps::lock_app, changes::notify, text::parse};

/// The most variables of an app, and the longest value of one in bytes.
const MAX_VARIABLES: i64 = 64;
const MAX_BYTES: usize = 4 << 10;

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: VariableName,
    /// Its value.
    pub value: Arc<str>,
    /// When it was last set.
    pub updated_at: OffsetDateTime,
}

impl Store {
    /// The variables of an app, by name.
    pub async fn variables(&self, app: AppId) -> Result<Vec<Variable>, StoreError> {
        let rows = sqlx::query!(
            "SELECT name, value, updated_at FROM variables WHERE app_id = $1 ORDER BY name",
            app.as_uuid(),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            Ok(Variable { name: parse(&row.name)?, value: row.value.into(), updated_at: row.updated_at })
        })
        .collect()
    }

    /// A variable, if it is set.
    pub async fn variable(&self, app: AppId, name: &VariableName) -> Result<Option<Variable>, StoreError> {
        let row = sqlx::query!(
            "SELECT value, updated_at FROM variables WHERE app_id = $1 AND name = $2",
            app.as_uuid(),
            name.as_str(),
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| Variable {
            name: name.clone(),
            value: row.value.into(),
            updated_at: row.updated_at,
        }))
    }

    /// Sets a variable; answers whether it is new.
    pub async fn put_variable(
        &self,
        app: AppId,
        name: &VariableName,
        value: Arc<str>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let variables = BTreeMap::from([(name.clone(), value)]);
        let created = replace_variables(&mut transaction, app, &variables).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(created > 0)
    }

    /// Removes a variable.
    pub async fn delete_variable(&self, app: AppId, name: &VariableName) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let deleted = sqlx::query!(
            "DELETE FROM variables WHERE app_id = $1 AND name = $2",
            app.as_uuid(),
            name.as_str(),
        );
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "variable" });
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Sets variables under the app's lock; answers how many of them are new.
pub(crate) async fn replace_variables(
    connection: &mut PgConnection,
    app: AppId,
    variables: &BTreeMap<VariableName, Arc<str>>,
) -> Result<usize, StoreError> {
    for (name, value) in variables {
        check(name, value)?;
    }
    let names: Vec<String> = variables.keys().map(ToString::to_string).collect();
    let values: Vec<String> = variables.values().map(|value| value.as_ref().to_owned()).collect();
    let put = sqlx::query_scalar!(
        r#"INSERT INTO variables (app_id, name, value)
        SELECT $1, name, value FROM unnest($2::text[], $3::text[]) AS given (name, value)
        ON CONFLICT (app_id, name) DO UPDATE SET value = excluded.value, updated_at = now()
        RETURNING xmax = 0 AS "is_new!""#,
        app.as_uuid(),
        &names,
        &values,
    );
    let created = put.fetch_all(&mut *connection).await?.into_iter().filter(|is_new| *is_new).count();
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM variables WHERE app_id = $1"#,
        app.as_uuid(),
    );
    if count.fetch_one(connection).await? > MAX_VARIABLES {
        return Err(StoreError::Invalid(format!("an app has at most {MAX_VARIABLES} variables")));
    }
    Ok(created)
}

fn check(name: &VariableName, value: &str) -> Result<(), StoreError> {
    if value.len() > MAX_BYTES {
        let problem =
            format!("the variable {name} has {} bytes; at most {MAX_BYTES} are allowed", value.len());
        return Err(StoreError::Invalid(problem));
    }
    if value.contains('\0') {
        return Err(StoreError::Invalid(format!(
            "the variable {name} contains U+0000, which cannot be stored"
        )));
    }
    Ok(())
}
