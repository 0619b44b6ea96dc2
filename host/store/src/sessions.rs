//! Signing in: passwords as they are stored, and the sessions of those who signed in.

use std::time::Duration;

use picloud_core::{PrincipalId, PrincipalName, SessionId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    Principal, Store, StoreError, TokenHash,
    principals::{PrincipalRow, end_sessions},
};

/// A session ends when it was not used for this long.
pub const SESSION_IDLE: Duration = Duration::from_hours(12);

/// A session ends this long after the sign-in, however much it is used.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The most sessions of a principal; another sign-in ends the oldest.
const MAX_SESSIONS: i64 = 32;

/// What a sign-in under a name is checked against.
#[derive(Clone)]
pub struct SignInRecord {
    /// Whose name it is.
    pub principal: PrincipalId,
    /// The hash of the password, in PHC form.
    pub password_hash: String,
}

/// Who a valid session stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    /// The session.
    pub session: SessionId,
    /// Whom it stands for; never a disabled one.
    pub principal: Principal,
    /// When it ends at the latest.
    pub expires_at: OffsetDateTime,
}

impl Store {
    /// What a sign-in under this name is checked against; `None` where nobody can sign in under it: there is no such
    /// principal, it has no password, or it is disabled.
    pub async fn sign_in_record(&self, name: &PrincipalName) -> Result<Option<SignInRecord>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT id, password_hash AS "password_hash!" FROM principals
            WHERE name = $1 AND password_hash IS NOT NULL AND disabled_at IS NULL"#,
            name.as_str(),
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| SignInRecord {
            principal: PrincipalId::from_uuid(row.id),
            password_hash: row.password_hash,
        }))
    }

    /// Sets the hash of a user's password and ends its sessions. [`StoreError::Invalid`] for a service.
    pub async fn set_password_hash(&self, id: PrincipalId, hash: &str) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let kind =
            sqlx::query_scalar!("SELECT kind FROM principals WHERE id = $1 FOR NO KEY UPDATE", id.as_uuid());
        match kind.fetch_optional(&mut *transaction).await?.as_deref() {
            None => return Err(StoreError::NotFound { what: "principal" }),
            Some("service") => {
                let problem = "a service has no password; make a token for it";
                return Err(StoreError::Invalid(problem.into()));
            }
            Some(_) => {}
        }
        sqlx::query!("UPDATE principals SET password_hash = $2 WHERE id = $1", id.as_uuid(), hash)
            .execute(&mut *transaction)
            .await?;
        end_sessions(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Begins a session of somebody whose password was checked against `record`. `None` if that does not hold any
    /// more: the password was changed, or the principal disabled or deleted in the meantime.
    pub async fn create_session(
        &self,
        record: &SignInRecord,
        hash: TokenHash,
    ) -> Result<Option<SessionGrant>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Whoever changes the password or disables waits for this, and then ends the session as well.
        let row = sqlx::query_as!(
            PrincipalRow,
            "SELECT id, name, kind, role, disabled_at, created_at FROM principals
            WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL FOR NO KEY UPDATE",
            record.principal.as_uuid(),
            record.password_hash,
        );
        let Some(row) = row.fetch_optional(&mut *transaction).await? else { return Ok(None) };
        let (session, expires_at) = insert_session(&mut transaction, record.principal, hash).await?;
        transaction.commit().await?;
        Ok(Some(SessionGrant { session, principal: row.try_into()?, expires_at }))
    }

    /// Whom a session stands for; `None` if no session has this hash, or it has ended, or its principal is disabled.
    /// Notes that it was used, at most once a minute.
    pub async fn authenticate_session(&self, hash: TokenHash) -> Result<Option<SessionGrant>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT s.id AS session_id, s.expires_at,
                (s.last_used_at < now() - interval '1 minute') AS "stale!",
                p.id, p.name, p.kind, p.role, p.disabled_at, p.created_at
            FROM sessions s JOIN principals p ON p.id = s.principal_id
            WHERE s.hash = $1 AND s.expires_at > now() AND s.last_used_at > now() - make_interval(secs => $2)
                AND p.disabled_at IS NULL"#,
            hash.bytes(),
            SESSION_IDLE.as_secs_f64(),
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        if row.stale {
            sqlx::query!("UPDATE sessions SET last_used_at = now() WHERE id = $1", row.session_id)
                .execute(&self.pool)
                .await?;
        }
        let principal = PrincipalRow {
            id: row.id,
            name: row.name,
            kind: row.kind,
            role: row.role,
            disabled_at: row.disabled_at,
            created_at: row.created_at,
        };
        Ok(Some(SessionGrant {
            session: SessionId::from_uuid(row.session_id),
            principal: principal.try_into()?,
            expires_at: row.expires_at,
        }))
    }

    /// Ends a session: from the next request on it is unknown. One that has ended already is no error.
    pub async fn end_session(&self, id: SessionId) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM sessions WHERE id = $1", id.as_uuid()).execute(&self.pool).await?;
        Ok(())
    }

    /// Removes at most `most` sessions that have ended by themselves, and answers how many.
    pub async fn remove_ended_sessions(&self, most: u32) -> Result<u64, StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions
                WHERE expires_at < now() OR last_used_at < now() - make_interval(secs => $2) LIMIT $1)",
            i64::from(most),
            SESSION_IDLE.as_secs_f64(),
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }
}

/// Begins a session of a principal whose row the transaction has locked; answers its id and its end. Of too many the
/// oldest end.
pub(crate) async fn insert_session(
    connection: &mut PgConnection,
    principal: PrincipalId,
    hash: TokenHash,
) -> Result<(SessionId, OffsetDateTime), StoreError> {
    let id = SessionId::generate();
    let expires_at = sqlx::query_scalar!(
        "INSERT INTO sessions (id, principal_id, hash, expires_at)
            VALUES ($1, $2, $3, now() + make_interval(secs => $4)) RETURNING expires_at",
        id.as_uuid(),
        principal.as_uuid(),
        hash.bytes(),
        SESSION_LIFETIME.as_secs_f64(),
    );
    let expires_at = expires_at.fetch_one(&mut *connection).await?;
    let removed = sqlx::query!(
        "DELETE FROM sessions WHERE id IN (
                SELECT id FROM sessions WHERE principal_id = $1 ORDER BY id DESC OFFSET $2)",
        principal.as_uuid(),
        MAX_SESSIONS,
    );
    removed.execute(connection).await?;
    Ok((id, expires_at))
}
