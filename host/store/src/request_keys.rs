//! Requests that are made under a key: the same one is answered once.

use std::{fmt, time::Duration};

use picloud_core::{AppId, PrincipalId};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{KeptAnswer, Store, StoreError, outbox::Enqueued, text::digest};

/// The most keys that are remembered at once for an app, or for a principal.
const MAX_KEYS: i64 = 10_000;

/// The most bytes of the answers that are kept under them.
const MAX_BYTES: i64 = 64 << 20;

/// A request's key, and what it is a key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Whom it is counted for.
    pub owner: KeyOwner,
    /// SHA-256 of who asks, and for what, the owner included.
    pub scope: [u8; 32],
    /// What the client chose.
    pub key: String,
    /// SHA-256 of what is asked.
    pub request: [u8; 32],
}

/// Whom the key of a request is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOwner {
    /// The app whose script is called, whoever calls it.
    App(AppId),
    /// The principal who calls the management API.
    Principal(PrincipalId),
}

/// The right to answer a request under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHold {
    scope: [u8; 32],
    key: String,
    holder: Uuid,
}

/// What is known of a request's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Nothing: the request is to be answered.
    New(KeyHold),
    /// The same request was answered.
    Answered(KeptAnswer),
    /// The same request is being answered.
    Running,
    /// Another request was made under the key.
    Other,
}

impl KeyOwner {
    const fn name(self) -> &'static str {
        match self {
            Self::App(_) => "app",
            Self::Principal(_) => "principal",
        }
    }

    fn columns(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::App(app) => (Some(app.as_uuid()), None),
            Self::Principal(principal) => (None, Some(principal.as_uuid())),
        }
    }
}

/// The answer of a request that does nothing but make events: it is kept in the transaction in which they are made.
pub struct KeepAnswer<'a> {
    /// The right to answer it.
    pub hold: &'a KeyHold,
    /// The answer, by what became of the events.
    pub answer: &'a (dyn Fn(&Enqueued) -> KeptAnswer + Send + Sync),
}

impl fmt::Debug for KeepAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAnswer").field("hold", self.hold).finish_non_exhaustive()
    }
}

/// Keeps an answer, in the transaction of what the request has done. [`StoreError::Conflict`] if the key was taken over.
pub(crate) async fn keep_under(
    connection: &mut PgConnection,
    hold: &KeyHold,
    answer: &KeptAnswer,
) -> Result<(), StoreError> {
    let kept = sqlx::query!(
        "UPDATE idempotency_keys SET status = $4, headers = $5, body = $6
        WHERE scope = $1 AND key = $2 AND held_by = $3 AND status IS NULL",
        &hold.scope[..],
        hold.key,
        hold.holder,
        answer.status.cast_signed(),
        Json(&answer.headers) as _,
        &answer.body[..],
    );
    match kept.execute(connection).await?.rows_affected() {
        0 => Err(StoreError::Conflict),
        _ => Ok(()),
    }
}

impl Store {
    /// Takes a key for a request, or says what is known of it. A request that was begun `longest` ago and has no answer is
    /// taken to have died with its process: where an answer is kept with what was done, nothing was done.
    ///
    /// [`StoreError::KeysFull`] if as many are remembered as may be; [`StoreError::NotFound`] if the app is gone.
    pub async fn take_key(&self, key: &RequestKey, longest: Duration) -> Result<KeyState, StoreError> {
        // What is known is answered however many there are.
        if let Some(known) = self.known(key, longest).await? {
            return Ok(known);
        }
        self.check_room(key.owner).await?;
        let hold = KeyHold { scope: key.scope, key: key.key.clone(), holder: Uuid::new_v4() };
        let (app, principal) = key.owner.columns();
        let taken = sqlx::query!(
            "INSERT INTO idempotency_keys AS k (app_id, principal_id, scope, key, request, held_by, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, statement_timestamp() + interval '24 hours')
            ON CONFLICT (scope, key) DO UPDATE SET request = excluded.request, status = NULL, headers = NULL,
                body = NULL, held_by = excluded.held_by, created_at = statement_timestamp(),
                expires_at = excluded.expires_at
            WHERE k.expires_at <= statement_timestamp() OR (k.status IS NULL AND k.request = excluded.request
                AND k.created_at < statement_timestamp() - $7 * interval '1 millisecond')",
            app,
            principal,
            &key.scope[..],
            key.key,
            &key.request[..],
            hold.holder,
            longest.as_millis() as f64,
        );
        let taken = taken.execute(&self.pool).await.map_err(|error| StoreError::foreign(error, "app"))?;
        if taken.rows_affected() == 1 {
            return Ok(KeyState::New(hold));
        }
        // Somebody was faster.
        Ok(self.known(key, longest).await?.unwrap_or(KeyState::Running))
    }

    /// What is known of a request, unless it may be begun, or begun again.
    async fn known(&self, key: &RequestKey, longest: Duration) -> Result<Option<KeyState>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT request, status, headers AS "headers: Json<Vec<(String, String)>>", body,
                created_at < statement_timestamp() - $3 * interval '1 millisecond' AS "is_old!"
            FROM idempotency_keys WHERE scope = $1 AND key = $2 AND expires_at > statement_timestamp()"#,
            &key.scope[..],
            key.key,
            longest.as_millis() as f64,
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        if digest(row.request)? != key.request {
            return Ok(Some(KeyState::Other));
        }
        let Some(status) = row.status else { return Ok((!row.is_old).then_some(KeyState::Running)) };
        let headers = row.headers.map(|Json(headers)| headers).unwrap_or_default();
        let (status, body) = (status.cast_unsigned(), row.body.unwrap_or_default().into());
        Ok(Some(KeyState::Answered(KeptAnswer { status, headers, body })))
    }

    async fn check_room(&self, owner: KeyOwner) -> Result<(), StoreError> {
        let (app, principal) = owner.columns();
        let found = sqlx::query!(
            r#"SELECT count(*) AS "count!", coalesce(sum(octet_length(body)), 0)::bigint AS "bytes!"
            FROM idempotency_keys WHERE app_id = $1 OR principal_id = $2"#,
            app,
            principal,
        );
        let found = found.fetch_one(&self.pool).await?;
        let (count, bytes) = (found.count, found.bytes);
        if count < MAX_KEYS && bytes < MAX_BYTES {
            return Ok(());
        }
        let (owner, mebibytes) = (owner.name(), MAX_BYTES >> 20);
        let message = format!(
            "the {owner} has {count} keys of requests in 24 hours with {bytes} bytes of answers; the most are {MAX_KEYS} and \
             {mebibytes} MiB"
        );
        Err(StoreError::KeysFull { message, limit: MAX_KEYS.unsigned_abs() })
    }

    /// Keeps the answer of a request under a key, after what it has done. [`StoreError::Conflict`] if the key was taken
    /// over.
    pub async fn keep_answer(&self, hold: &KeyHold, answer: &KeptAnswer) -> Result<(), StoreError> {
        keep_under(&mut *self.pool.acquire().await?, hold, answer).await
    }

    /// Gives a key back whose request has done nothing, so that it can be made again.
    pub async fn release_key(&self, hold: &KeyHold) -> Result<(), StoreError> {
        let released = sqlx::query!(
            "DELETE FROM idempotency_keys WHERE scope = $1 AND key = $2 AND held_by = $3 AND status IS NULL",
            &hold.scope[..],
            hold.key,
            hold.holder,
        );
        released.execute(&self.pool).await?;
        Ok(())
    }
}
