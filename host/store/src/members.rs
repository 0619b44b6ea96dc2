//! Members: which principal has which role in which app.

use picloud_core::{AppId, AppRole, PrincipalId, PrincipalName};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Page, PageSize, Store, StoreError, text::parse};

/// A principal with its role in an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub principal: PrincipalId,
    /// Its name.
    pub name: PrincipalName,
    /// What it may do in the app.
    pub role: AppRole,
    /// Since when it is a member.
    pub created_at: OffsetDateTime,
}

impl Store {
    /// The role of a principal in an app, if it is a member.
    pub async fn role_in_app(
        &self,
        app: AppId,
        principal: PrincipalId,
    ) -> Result<Option<AppRole>, StoreError> {
        let role = sqlx::query_scalar!(
            "SELECT role FROM app_members WHERE app_id = $1 AND principal_id = $2",
            app.as_uuid(),
            principal.as_uuid(),
        );
        role.fetch_optional(&self.pool).await?.map(|role| parse(&role)).transpose()
    }

    /// Gives a principal a role in an app, in place of the one it had; whether it was not a member before.
    /// [`StoreError::NotFound`] where there is no such app or principal.
    pub async fn put_member(
        &self,
        app: AppId,
        principal: PrincipalId,
        role: AppRole,
    ) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        upsert_member(&mut connection, app, principal, role).await
    }

    /// Takes a principal out of an app.
    pub async fn remove_member(&self, app: AppId, principal: PrincipalId) -> Result<(), StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM app_members WHERE app_id = $1 AND principal_id = $2",
            app.as_uuid(),
            principal.as_uuid(),
        );
        match removed.execute(&self.pool).await?.rows_affected() {
            0 => Err(StoreError::NotFound { what: "member" }),
            _ => Ok(()),
        }
    }

    /// The members of an app whose name comes after `after`, by name.
    pub async fn members(
        &self,
        app: AppId,
        after: Option<&PrincipalName>,
        size: PageSize,
    ) -> Result<Page<Member>, StoreError> {
        let rows = sqlx::query!(
            "SELECT p.id, p.name, m.role, m.created_at
            FROM app_members m JOIN principals p ON p.id = m.principal_id
            WHERE m.app_id = $1 AND p.name > $2 ORDER BY p.name LIMIT $3",
            app.as_uuid(),
            after.map_or("", PrincipalName::as_str),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, |row| {
            Ok(Member {
                principal: PrincipalId::from_uuid(row.id),
                name: parse(&row.name)?,
                role: parse(&row.role)?,
                created_at: row.created_at,
            })
        })
    }
}

/// Gives a principal a role in an app, also within a transaction; whether it was not a member before.
pub(crate) async fn upsert_member(
    connection: &mut PgConnection,
    app: AppId,
    principal: PrincipalId,
    role: AppRole,
) -> Result<bool, StoreError> {
    let put = sqlx::query_scalar!(
        r#"INSERT INTO app_members (app_id, principal_id, role) VALUES ($1, $2, $3)
        ON CONFLICT (app_id, principal_id) DO UPDATE SET role = excluded.role
        RETURNING xmax = 0 AS "is_new!""#,
        app.as_uuid(),
        principal.as_uuid(),
        role.as_str(),
    );
    put.fetch_one(connection).await.map_err(|error| StoreError::foreign(error, "app or principal"))
}
