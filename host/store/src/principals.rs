//! Principals: who can do something.

use picloud_core::{InstanceRole, PrincipalId, PrincipalName};
use time::OffsetDateTime;

use crate::{NewToken, Store, StoreError, text::parse, tokens::insert_token};

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        // Serialises those who do the same; readers are not held up.
        sqlx::query!("LOCK TABLE principals IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await?;
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
        insert_token(&mut transaction, principal.id, &owner.token).await?;
        transaction.commit().await?;
        Ok(Some(principal))
    }

    /// The owner that was made first, if there is one.
    pub async fn first_owner(&self) -> Result<Option<Principal>, StoreError> {
        let row = sqlx::query_as!(
            PrincipalRow,
            "SELECT id, name, kind, role, disabled_at, created_at FROM principals
            WHERE role = 'owner' ORDER BY created_at, id LIMIT 1",
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
