//! Hosts that belong to an app. Any app may claim one; it is served for the app that has proved it.

use picloud_core::{AppId, DomainChallenge, DomainId, DomainName, ProofMethod};
use sqlx::PgExecutor;
use time::OffsetDateTime;

use crate::{Store, StoreError, apps::lock_app, changes::notify, text::parse};

/// A host that an app claims or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// The host name.
    pub name: DomainName,
    /// What a proof has to say.
    pub challenge: DomainChallenge,
    /// When and how it was proved; it is served only then.
    pub verified: Option<(OffsetDateTime, ProofMethod)>,
    /// When it was added.
    pub created_at: OffsetDateTime,
}

/// Whether a proof may be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainCheck {
    /// It may, now.
    Due(Domain),
    /// The last time is less than [`Store::DOMAIN_CHECK_SECONDS`] ago.
    TooSoon,
}

/// The most domains of an app.
const MAX_DOMAINS: usize = 100;

impl Store {
    /// The least time between two looks for the proof of a domain.
    pub const DOMAIN_CHECK_SECONDS: u32 = 5;

    /// Notes that an app claims a host; [`StoreError::AlreadyExists`] if it does already, or another app has proved
    /// it.
    pub async fn create_domain(
        &self,
        app: AppId,
        name: &DomainName,
        challenge: &DomainChallenge,
    ) -> Result<Domain, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        if all(&mut *transaction, app).await?.len() >= MAX_DOMAINS {
            return Err(StoreError::Invalid(format!("an app has at most {MAX_DOMAINS} domains")));
        }
        let proved = sqlx::query_scalar!(
            "SELECT id FROM domains WHERE name = $1 AND verified_at IS NOT NULL",
            name.as_str()
        );
        if proved.fetch_optional(&mut *transaction).await?.is_some() {
            return Err(StoreError::AlreadyExists { what: "domain" });
        }
        let id = DomainId::generate();
        let inserted = sqlx::query_scalar!(
            "INSERT INTO domains (id, app_id, name, challenge) VALUES ($1, $2, $3, $4) RETURNING created_at",
            id.as_uuid(),
            app.as_uuid(),
            name.as_str(),
            challenge.as_str(),
        );
        let created_at = inserted.fetch_one(&mut *transaction).await;
        let created_at = created_at.map_err(|error| StoreError::unique(error, "domain"))?;
        transaction.commit().await?;
        Ok(Domain { id, name: name.clone(), challenge: challenge.clone(), verified: None, created_at })
    }

    /// The hosts of an app, by name.
    pub async fn domains(&self, app: AppId) -> Result<Vec<Domain>, StoreError> {
        all(&self.pool, app).await
    }

    /// Whether the proof of a host may be looked for; if so, it is noted that it is.
    pub async fn begin_domain_check(&self, app: AppId, id: DomainId) -> Result<DomainCheck, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let domains = all(&mut *transaction, app).await?;
        let domain = domains.into_iter().find(|domain| domain.id == id);
        let domain = domain.ok_or(StoreError::NotFound { what: "domain" })?;
        let noted = sqlx::query!(
            "UPDATE domains SET checked_at = now()
             WHERE id = $1 AND (checked_at IS NULL OR checked_at <= now() - make_interval(secs => $2))",
            id.as_uuid(),
            f64::from(Self::DOMAIN_CHECK_SECONDS),
        );
        let noted = noted.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        Ok(if noted == 0 { DomainCheck::TooSoon } else { DomainCheck::Due(domain) })
    }

    /// Serves a host for an app from now on; [`StoreError::AlreadyExists`] if it is served for another one. A host
    /// that is served already stays as it was proved first.
    pub async fn verify_domain(
        &self,
        app: AppId,
        id: DomainId,
        method: ProofMethod,
    ) -> Result<Domain, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let verified = sqlx::query!(
            "UPDATE domains SET verified_at = now(), verified_by = $3
             WHERE app_id = $1 AND id = $2 AND verified_at IS NULL",
            app.as_uuid(),
            id.as_uuid(),
            method.as_str(),
        );
        let verified = verified.execute(&mut *transaction).await;
        verified.map_err(|error| StoreError::unique(error, "domain"))?;
        let domains = all(&mut *transaction, app).await?;
        let domain = domains.into_iter().find(|domain| domain.id == id);
        let domain = domain.ok_or(StoreError::NotFound { what: "domain" })?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(domain)
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
        "SELECT id, name, challenge, verified_at, verified_by, created_at FROM domains
         WHERE app_id = $1 ORDER BY name",
        app.as_uuid(),
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    rows.map(|row| {
        let method = row.verified_by.as_deref().map(parse).transpose()?;
        Ok(Domain {
            id: DomainId::from_uuid(row.id),
            name: parse(&row.name)?,
            challenge: parse(&row.challenge)?,
            verified: row.verified_at.zip(method),
            created_at: row.created_at,
        })
    })
    .collect()
}
