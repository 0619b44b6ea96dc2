//! Principals: who can do something.

use picloud_core::{InstanceRole, PrincipalId, PrincipalName};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{NewToken, Page, PageSize, Store, StoreError, text::parse, tokens::insert_token};

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program.
    Service,
}

/// Someone who can do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its id.
    pub id: PrincipalId,
    /// Its name.
    pub name: PrincipalName,
    /// What it is.
    pub kind: PrincipalKind,
    /// What it may do in the whole installation.
    pub role: InstanceRole,
    /// Since when it may do nothing at all.
    pub disabled_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// A principal to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPrincipal {
    /// Its name, which no other has.
    pub name: PrincipalName,
    /// What it is.
    pub kind: PrincipalKind,
    /// What it may do in the whole installation.
    pub role: InstanceRole,
}

/// What is to be changed of a principal; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrincipalChange {
    /// Another name.
    pub name: Option<PrincipalName>,
    /// Another role.
    pub role: Option<InstanceRole>,
    /// Whether it may do nothing at all.
    pub disabled: Option<bool>,
}

/// The first owner and its token.
#[derive(Clone, Debug)]
pub struct NewOwner {
    /// Its name.
    pub name: PrincipalName,
    /// Its token.
    pub token: NewToken,
}

impl PrincipalKind {
    /// The kind as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

impl Store {
    /// Makes the first owner with its token, or nothing if there is an owner already. Of several processes
    /// that do so at once, one makes it.
    pub async fn create_first_owner(&self, owner: &NewOwner) -> Result<Option<Principal>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_principals(&mut transaction).await?;
        let inserted = sqlx::query_as!(
            PrincipalRow,
            "INSERT INTO principals (id, name, kind, role)
            SELECT $1, $2, 'user', 'owner' WHERE NOT EXISTS (SELECT FROM principals WHERE role = 'owner')
            RETURNING id, name, kind, role, disabled_at, created_at",
            PrincipalId::generate().as_uuid(),
            owner.name.as_str(),
        );
        let row = inserted.fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(|error| StoreError::unique(error, "principal"))? else {
            return Ok(None);
        };
        let principal = Principal::try_from(row)?;
        insert_token(&mut transaction, principal.id, &owner.token, None).await?;
        transaction.commit().await?;
        Ok(Some(principal))
    }

    /// The owner that was made first; one that is not disabled, if there is such a one.
    pub async fn first_owner(&self) -> Result<Option<Principal>, StoreError> {
        let row = sqlx::query_as!(
            PrincipalRow,
            "SELECT id, name, kind, role, disabled_at, created_at FROM principals
            WHERE role = 'owner' ORDER BY disabled_at IS NOT NULL, created_at, id LIMIT 1",
        );
        row.fetch_optional(&self.pool).await?.map(Principal::try_from).transpose()
    }

    /// A principal by its id.
    pub async fn principal(&self, id: PrincipalId) -> Result<Option<Principal>, StoreError> {
        let row = sqlx::query_as!(
            PrincipalRow,
            "SELECT id, name, kind, role, disabled_at, created_at FROM principals WHERE id = $1",
            id.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(Principal::try_from).transpose()
    }

    /// A principal by its name.
    pub async fn principal_by_name(&self, name: &PrincipalName) -> Result<Option<Principal>, StoreError> {
        let row = sqlx::query_as!(
            PrincipalRow,
            "SELECT id, name, kind, role, disabled_at, created_at FROM principals WHERE name = $1",
            name.as_str(),
        );
        row.fetch_optional(&self.pool).await?.map(Principal::try_from).transpose()
    }

    /// The principals whose name comes after `after`, by name.
    pub async fn principals(
        &self,
        after: Option<&PrincipalName>,
        size: PageSize,
    ) -> Result<Page<Principal>, StoreError> {
        let rows = sqlx::query_as!(
            PrincipalRow,
            "SELECT id, name, kind, role, disabled_at, created_at FROM principals
            WHERE name > $1 ORDER BY name LIMIT $2",
            after.map_or("", PrincipalName::as_str),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, Principal::try_from)
    }

    /// Makes a principal; [`StoreError::AlreadyExists`] if the name is taken.
    pub async fn create_principal(&self, new: &NewPrincipal) -> Result<Principal, StoreError> {
        let row = sqlx::query_as!(
            PrincipalRow,
            "INSERT INTO principals (id, name, kind, role) VALUES ($1, $2, $3, $4)
            RETURNING id, name, kind, role, disabled_at, created_at",
            PrincipalId::generate().as_uuid(),
            new.name.as_str(),
            new.kind.as_str(),
            new.role.as_str(),
        );
        let row = row.fetch_one(&self.pool).await;
        row.map_err(|error| StoreError::unique(error, "principal"))?.try_into()
    }

    /// Changes a principal. Where it is disabled its sessions end; its tokens are refused until it is enabled again.
    ///
    /// [`StoreError::LastOwner`] if no owner who is not disabled would be left.
    pub async fn change_principal(
        &self,
        id: PrincipalId,
        change: &PrincipalChange,
    ) -> Result<Principal, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_principals(&mut transaction).await?;
        let row = sqlx::query_as!(
            PrincipalRow,
            "UPDATE principals SET name = coalesce($2, name), role = coalesce($3, role),
                disabled_at = CASE WHEN $4 THEN coalesce(disabled_at, now()) WHEN NOT $4 THEN NULL ELSE disabled_at END
            WHERE id = $1 RETURNING id, name, kind, role, disabled_at, created_at",
            id.as_uuid(),
            change.name.as_ref().map(PrincipalName::as_str),
            change.role.map(InstanceRole::as_str),
            change.disabled,
        );
        let row = row.fetch_optional(&mut *transaction).await;
        let row = row.map_err(|error| StoreError::unique(error, "principal"))?;
        let principal = Principal::try_from(row.ok_or(StoreError::NotFound { what: "principal" })?)?;
        if change.role.is_some() || change.disabled.is_some() {
            check_owner_left(&mut transaction).await?;
        }
        if principal.disabled_at.is_some() {
            end_sessions(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(principal)
    }

    /// Removes a principal with its tokens, sessions and memberships. What it has made stays.
    ///
    /// [`StoreError::LastOwner`] if no owner who is not disabled would be left.
    pub async fn delete_principal(&self, id: PrincipalId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_principals(&mut transaction).await?;
        let deleted = sqlx::query!("DELETE FROM principals WHERE id = $1", id.as_uuid());
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "principal" });
        }
        check_owner_left(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Serialises those who change principals, until the transaction ends; readers are not held up.
pub(crate) async fn lock_principals(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("LOCK TABLE principals IN SHARE ROW EXCLUSIVE MODE").execute(connection).await?;
    Ok(())
}

/// Under the lock of [`lock_principals`].
async fn check_owner_left(connection: &mut PgConnection) -> Result<(), StoreError> {
    let left = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM principals WHERE role = 'owner' AND disabled_at IS NULL) AS "left!""#,
    );
    if left.fetch_one(connection).await? { Ok(()) } else { Err(StoreError::LastOwner) }
}

/// Ends every session of a principal.
pub(crate) async fn end_sessions(connection: &mut PgConnection, id: PrincipalId) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM sessions WHERE principal_id = $1", id.as_uuid()).execute(connection).await?;
    Ok(())
}

pub(crate) struct PrincipalRow {
    pub(crate) id: uuid::Uuid,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) role: String,
    pub(crate) disabled_at: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
}

impl TryFrom<PrincipalRow> for Principal {
    type Error = StoreError;

    fn try_from(row: PrincipalRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: PrincipalId::from_uuid(row.id),
            name: parse(&row.name)?,
            // The column's constraint allows no third value.
            kind: if row.kind == "service" { PrincipalKind::Service } else { PrincipalKind::User },
            role: parse(&row.role)?,
            disabled_at: row.disabled_at,
            created_at: row.created_at,
        })
    }
}
