//! What an OpenID Connect issuer knows principals by, and the sessions that begin with that.

use picloud_core::{IdentityId, PrincipalId, PrincipalName};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    Principal, SessionGrant, Store, StoreError, TokenHash,
    principals::{PrincipalRow, end_sessions, lock_principals},
    sessions::insert_session,
};

/// The most identities of a principal.
const MAX_IDENTITIES: i64 = 16;

/// Whom an issuer has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedIdentity {
    /// The issuer.
    pub issuer: String,
    /// What the issuer knows its user by; it never gives that to another.
    pub subject: String,
    /// The address that the issuer has verified, in lower case.
    pub email: String,
}

/// A link between a principal and a user of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: IdentityId,
    /// The address: of whom the link waits for, or who signed in with it last.
    pub email: String,
    /// The issuer and its name of the user, once the link was used.
    pub bound: Option<(String, String)>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// How a sign-in by way of an issuer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuedSignIn {
    /// A session has begun.
    Granted(SessionGrant),
    /// No principal is linked, and none was to be made or no name was free.
    Unknown,
    /// The principal is disabled.
    Disabled(Principal),
}

impl Store {
    /// The links of a principal, oldest first.
    pub async fn identities(&self, principal: PrincipalId) -> Result<Vec<Identity>, StoreError> {
        let rows = sqlx::query!(
            "SELECT id, email, issuer, subject, created_at FROM principal_identities
            WHERE principal_id = $1 ORDER BY id",
            principal.as_uuid(),
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let identity = rows.into_iter().map(|row| Identity {
            id: IdentityId::from_uuid(row.id),
            email: row.email,
            bound: row.issuer.zip(row.subject),
            created_at: row.created_at,
        });
        Ok(identity.collect())
    }

    /// Links a user to whoever signs in first with the verified address `email`, in lower case.
    ///
    /// [`StoreError::AlreadyExists`] if such a link waits already, [`StoreError::Invalid`] for a service or one link too
    /// many.
    pub async fn link_identity(&self, principal: PrincipalId, email: &str) -> Result<Identity, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let kind = sqlx::query_scalar!(
            "SELECT kind FROM principals WHERE id = $1 FOR NO KEY UPDATE",
            principal.as_uuid()
        );
        match kind.fetch_optional(&mut *transaction).await?.as_deref() {
            None => return Err(StoreError::NotFound { what: "principal" }),
            Some("service") => {
                let problem = "a service does not sign in; make a token for it";
                return Err(StoreError::Invalid(problem.into()));
            }
            Some(_) => {}
        }
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM principal_identities WHERE principal_id = $1"#,
            principal.as_uuid(),
        );
        if count.fetch_one(&mut *transaction).await? >= MAX_IDENTITIES {
            let problem = format!("the principal has {MAX_IDENTITIES} links, the most allowed; remove one");
            return Err(StoreError::Invalid(problem));
        }
        let id = IdentityId::generate();
        let created_at = sqlx::query_scalar!(
            "INSERT INTO principal_identities (id, principal_id, email) VALUES ($1, $2, $3) RETURNING created_at",
            id.as_uuid(),
            principal.as_uuid(),
            email,
        );
        let created_at = created_at.fetch_one(&mut *transaction).await;
        let created_at = created_at.map_err(|error| StoreError::unique(error, "link of this address"))?;
        transaction.commit().await?;
        Ok(Identity { id, email: email.to_owned(), bound: None, created_at })
    }

    /// Removes a link of a principal and ends the principal's sessions.
    pub async fn unlink_identity(&self, principal: PrincipalId, id: IdentityId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // A sign-in that has the principal's row goes first, and its session ends as well.
        sqlx::query!("SELECT id FROM principals WHERE id = $1 FOR NO KEY UPDATE", principal.as_uuid())
            .fetch_optional(&mut *transaction)
            .await?;
        let deleted = sqlx::query!(
            "DELETE FROM principal_identities WHERE id = $1 AND principal_id = $2",
            id.as_uuid(),
            principal.as_uuid(),
        );
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "link" });
        }
        end_sessions(&mut transaction, principal).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Begins a session of whom an issuer has signed in. A user that nobody knows yet takes the link that waits for
    /// its address; where there is none, a member is made under the first of `names` that is free. With no `names`
    /// nobody is made.
    pub async fn sign_in_issued(
        &self,
        identity: &IssuedIdentity,
        names: &[PrincipalName],
        hash: TokenHash,
    ) -> Result<IssuedSignIn, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let principal = match known(&mut transaction, identity).await? {
            Some(principal) => principal,
            None => {
                // Two first sign-ins of one user go one after the other.
                lock_principals(&mut transaction).await?;
                let found = match known(&mut transaction, identity).await? {
                    Some(principal) => Some(principal),
                    None => bind(&mut transaction, identity).await?,
                };
                match found {
                    Some(principal) => principal,
                    None => match make(&mut transaction, identity, names).await? {
                        Some(principal) => principal,
                        None => return Ok(IssuedSignIn::Unknown),
                    },
                }
            }
        };
        if principal.disabled_at.is_some() {
            return Ok(IssuedSignIn::Disabled(principal));
        }
        let (session, expires_at) = insert_session(&mut transaction, principal.id, hash).await?;
        transaction.commit().await?;
        Ok(IssuedSignIn::Granted(SessionGrant { session, principal, expires_at }))
    }
}

/// The principal that is linked already. Whoever disables it or removes the link waits for the transaction.
async fn known(
    connection: &mut PgConnection,
    identity: &IssuedIdentity,
) -> Result<Option<Principal>, StoreError> {
    let row = sqlx::query_as!(
        PrincipalRow,
        "SELECT p.id, p.name, p.kind, p.role, p.disabled_at, p.created_at
        FROM principal_identities i JOIN principals p ON p.id = i.principal_id
        WHERE i.issuer = $1 AND i.subject = $2 FOR NO KEY UPDATE OF p, i",
        identity.issuer,
        identity.subject,
    );
    let Some(row) = row.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let updated = sqlx::query!(
        "UPDATE principal_identities SET email = $3 WHERE issuer = $1 AND subject = $2 AND email <> $3",
        identity.issuer,
        identity.subject,
        identity.email,
    );
    updated.execute(connection).await?;
    Ok(Some(row.try_into()?))
}

/// The principal whose link waits for the address; from now on the link is the user's.
async fn bind(
    connection: &mut PgConnection,
    identity: &IssuedIdentity,
) -> Result<Option<Principal>, StoreError> {
    let bound = sqlx::query_scalar!(
        "UPDATE principal_identities SET issuer = $1, subject = $2, bound_at = now()
        WHERE issuer IS NULL AND email = $3 RETURNING principal_id",
        identity.issuer,
        identity.subject,
        identity.email,
    );
    let Some(principal) = bound.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let row = sqlx::query_as!(
        PrincipalRow,
        "SELECT id, name, kind, role, disabled_at, created_at FROM principals WHERE id = $1",
        principal,
    );
    row.fetch_optional(connection).await?.map(Principal::try_from).transpose()
}

/// A new member under the first name that is free.
async fn make(
    connection: &mut PgConnection,
    identity: &IssuedIdentity,
    names: &[PrincipalName],
) -> Result<Option<Principal>, StoreError> {
    for name in names {
        let row = sqlx::query_as!(
            PrincipalRow,
            "INSERT INTO principals (id, name, kind, role) VALUES ($1, $2, 'user', 'member')
            ON CONFLICT (name) DO NOTHING RETURNING id, name, kind, role, disabled_at, created_at",
            PrincipalId::generate().as_uuid(),
            name.as_str(),
        );
        let Some(row) = row.fetch_optional(&mut *connection).await? else { continue };
        let linked = sqlx::query!(
            "INSERT INTO principal_identities (id, principal_id, email, issuer, subject, bound_at)
            VALUES ($1, $2, $3, $4, $5, now())",
            IdentityId::generate().as_uuid(),
            row.id,
            identity.email,
            identity.issuer,
            identity.subject,
        );
        linked.execute(connection).await?;
        return Ok(Some(row.try_into()?));
    }
    Ok(None)
}
