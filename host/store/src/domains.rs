//! Hosts that belong to an app.

use picloud_core::{AppId, DomainId, DomainName};
use sqlx::PgExecutor;
use time::OffsetDateTime;

use crate::{Store, StoreError, apps::lock_app, changes::notify, text::parse};

/// A host that an app answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// The host name.
    pub name: DomainName,
    /// When it was added.
    pub created_at: OffsetDateTime,
}

/// The most domains of an app.
const MAX_DOMAINS: usize = 100;

impl Store {
    /// Gives a host to an app; [`StoreError::AlreadyExists`] if any app of the platform has it.
    pub async fn create_domain(&self, app: AppId, name: &DomainName) -> Result<Domain, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        if all(&mut *transaction, app).await?.len() >= MAX_DOMAINS {
            return Err(StoreError::Invalid(format!("an app has at most {MAX_DOMAINS} domains")));
        }
        let id = DomainId::generate();
        let inserted = sqlx::query_scalar!(
            "INSERT INTO domains (id, app_id, name) VALUES ($1, $2, $3) RETURNING created_at",
            id.as_uuid(),
            app.as_uuid(),
            name.as_str(),
        );
        let created_at = inserted.fetch_one(&mut *transaction).await;
        let created_at = created_at.map_err(|error| StoreError::unique(error, "domain"))?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(Domain { id, name: name.clone(), created_at })
    }

    /// The hosts of an app, by name.
    pub async fn domains(&self, app: AppId) -> Result<Vec<Domain>, StoreError> {
        all(&self.pool, app).await
    }

    /// Takes a host from an app.
    pub async fn delete_domain(&self, app: AppId, id: DomainId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let deleted =
            sqlx::query!("DELETE FROM domains WHERE app_id = $1 AND id = $2", app.as_uuid(), id.as_uuid());
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "domain" });
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

async fn all(connection: impl PgExecutor<'_>, app: AppId) -> Result<Vec<Domain>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, name, created_at FROM domains WHERE app_id = $1 ORDER BY name",
        app.as_uuid(),
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    rows.map(|row| {
        let id = DomainId::from_uuid(row.id);
        Ok(Domain { id, name: parse(&row.name)?, created_at: row.created_at })
    })
    .collect()
}
