//! Apps and their limits.

use picloud_core::{AppId, AppName, AppRole, LimitField, LimitsPatch, PrincipalId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    Page, PageSize, Store, StoreError,
    changes::notify,
    members::upsert_member,
    text::{bigint, parse, unsigned},
};

/// An app as it is stored: with the limits it sets, not with those in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRow {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: AppName,
    /// The limits it sets; `SandboxCeiling::clamp` makes those in force of them.
    pub limits: LimitsPatch,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Which apps a list has; without any condition, all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppsSeen {
    /// Only those that this principal is a member of.
    pub member: Option<PrincipalId>,
    /// Only this one.
    pub only: Option<AppId>,
}

impl Store {
    /// Makes an app without members; [`StoreError::AlreadyExists`] if the name is taken.
    pub async fn create_app(&self, name: &AppName) -> Result<AppRow, StoreError> {
        self.create_app_of(name, None).await
    }

    /// Makes an app with `admin` as its first member, if one is named.
    pub async fn create_app_of(
        &self,
        name: &AppName,
        admin: Option<PrincipalId>,
    ) -> Result<AppRow, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let id = AppId::generate();
        let created_at = insert_app(&mut transaction, id, name, admin).await?;
        notify(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(AppRow { id, name: name.clone(), limits: LimitsPatch::default(), created_at })
    }

    /// An app by its id.
    pub async fn app(&self, id: AppId) -> Result<Option<AppRow>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT id, name, created_at,
                ARRAY(SELECT l.name FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_names!",
                ARRAY(SELECT l.value FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_values!"
            FROM apps a WHERE id = $1"#,
            id.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(AppRow::try_from).transpose()
    }

    /// An app by its name.
    pub async fn app_by_name(&self, name: &AppName) -> Result<Option<AppRow>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT id, name, created_at,
                ARRAY(SELECT l.name FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_names!",
                ARRAY(SELECT l.value FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_values!"
            FROM apps a WHERE name = $1"#,
            name.as_str(),
        );
        row.fetch_optional(&self.pool).await?.map(AppRow::try_from).transpose()
    }

    /// The apps that `seen_by` lets through and whose name comes after `after`, by name.
    pub async fn apps(
        &self,
        seen_by: AppsSeen,
        after: Option<&AppName>,
        size: PageSize,
    ) -> Result<Page<AppRow>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT id, name, created_at,
                ARRAY(SELECT l.name FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_names!",
                ARRAY(SELECT l.value FROM app_limits l WHERE l.app_id = a.id ORDER BY l.name) AS "limit_values!"
            FROM apps a
            WHERE name > $1
                AND ($3::uuid IS NULL OR a.id IN (SELECT m.app_id FROM app_members m WHERE m.principal_id = $3))
                AND ($4::uuid IS NULL OR a.id = $4)
            ORDER BY name LIMIT $2"#,
            after.map_or("", AppName::as_str),
            size.and_one(),
            seen_by.member.map(PrincipalId::as_uuid),
            seen_by.only.map(AppId::as_uuid),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, AppRow::try_from)
    }

    /// Removes an app with all that belongs to it.
    pub async fn delete_app(&self, id: AppId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Everything that refers to the app goes in cascade; an app with much history takes its time.
        sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
        let deleted = sqlx::query!("DELETE FROM apps WHERE id = $1", id.as_uuid());
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "app" });
        }
        notify(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Replaces the limits that `patch` names, and answers all that the app sets. Whether they are at or under
    /// the ceiling is checked by the caller.
    pub async fn patch_limits(&self, id: AppId, patch: &LimitsPatch) -> Result<LimitsPatch, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, id).await?;
        replace_limits(&mut transaction, id, patch).await?;
        let rows = sqlx::query!("SELECT name, value FROM app_limits WHERE app_id = $1", id.as_uuid());
        let rows = rows.fetch_all(&mut *transaction).await?;
        notify(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(limits(rows.into_iter().map(|row| (row.name, row.value))))
    }
}

/// Makes an app with its first member, within a transaction.
pub(crate) async fn insert_app(
    connection: &mut PgConnection,
    id: AppId,
    name: &AppName,
    admin: Option<PrincipalId>,
) -> Result<OffsetDateTime, StoreError> {
    let inserted = sqlx::query_scalar!(
        "INSERT INTO apps (id, name) VALUES ($1, $2) RETURNING created_at",
        id.as_uuid(),
        name.as_str(),
    );
    let created_at = inserted.fetch_one(&mut *connection).await;
    let created_at = created_at.map_err(|error| StoreError::unique(error, "app"))?;
    if let Some(admin) = admin {
        upsert_member(connection, id, admin, AppRole::AppAdmin).await?;
    }
    Ok(created_at)
}

/// Replaces the limits that `patch` names, under the app's lock.
pub(crate) async fn replace_limits(
    connection: &mut PgConnection,
    id: AppId,
    patch: &LimitsPatch,
) -> Result<(), StoreError> {
    let patched = || LimitField::ALL.iter().filter_map(|field| Some((*field, patch.get(*field)?)));
    let names: Vec<String> = patched().map(|(field, _)| field.as_str().to_owned()).collect();
    let values: Vec<i64> = patched().map(|(_, value)| bigint(value)).collect();
    let replaced = sqlx::query!(
        "INSERT INTO app_limits (app_id, name, value)
        SELECT $1, name, value FROM unnest($2::text[], $3::bigint[]) AS patch (name, value)
        ON CONFLICT (app_id, name) DO UPDATE SET value = excluded.value",
        id.as_uuid(),
        &names,
        &values,
    );
    replaced.execute(connection).await?;
    Ok(())
}

/// Keeps others from changing what hangs on the app (routes that must not overlap, the app itself) until the
/// transaction ends.
pub(crate) async fn lock_app(connection: &mut PgConnection, id: AppId) -> Result<(), StoreError> {
    let locked = sqlx::query_scalar!("SELECT id FROM apps WHERE id = $1 FOR NO KEY UPDATE", id.as_uuid());
    match locked.fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::NotFound { what: "app" }),
    }
}

/// Limits as they are stored. A name that this program does not know belongs to a newer one and is left alone.
pub(crate) fn limits(rows: impl IntoIterator<Item = (String, i64)>) -> LimitsPatch {
    let mut patch = LimitsPatch::default();
    for (name, value) in rows {
        if let Some(field) = LimitField::ALL.iter().find(|field| field.as_str() == name) {
            patch.set(*field, unsigned(value));
        }
    }
    patch
}

struct Row {
    id: uuid::Uuid,
    name: String,
    created_at: OffsetDateTime,
    limit_names: Vec<String>,
    limit_values: Vec<i64>,
}

impl TryFrom<Row> for AppRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: AppId::from_uuid(row.id),
            name: parse(&row.name)?,
            limits: limits(row.limit_names.into_iter().zip(row.limit_values)),
            created_at: row.created_at,
        })
    }
}
