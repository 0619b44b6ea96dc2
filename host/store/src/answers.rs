//! Answers that are kept: of asynchronous requests, and of requests that were made under a key. Each is written in the
//! transaction of what the run has done.

use bytes::Bytes;
use picloud_core::{AppId, CallbackUrl, ErrorCode, EventId, OutboxKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    outbox::{NewEvent, OutboxLimit, insert},
    text::{digest, parse},
};

/// The most keys of an app that are remembered at once.
const MAX_KEYS: i64 = 10_000;

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The status.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What an answer is kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerOf {
    /// An asynchronous request, and where its answer is sent.
    Event(EventId, Option<CallbackUrl>),
    /// A request under a key.
    Key(KeyHold),
}

/// What is known of an asynchronous request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventAnswer {
    /// It waits, or runs.
    Pending,
    /// It was answered.
    Answered(KeptAnswer),
    /// It was given up.
    Failed(ErrorCode),
}

/// A request's key, and what it is a key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// SHA-256 of who asks, and for what.
    pub scope: [u8; 32],
    /// What the client chose.
    pub key: String,
    /// SHA-256 of what is asked.
    pub request: [u8; 32],
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

/// The answer as receivers of callbacks and readers of the status get it.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerView {
    /// The status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body, where it is text.
    pub body: Option<String>,
    /// The body in base64, where it is not.
    pub body_base64: Option<String>,
}

impl From<&KeptAnswer> for AnswerView {
    fn from(answer: &KeptAnswer) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = std::str::from_utf8(&answer.body).ok().map(str::to_owned);
        let body_base64 = text.is_none().then(|| STANDARD.encode(&answer.body));
        Self { status: answer.status, headers: answer.headers.clone(), body: text, body_base64 }
    }
}

/// Keeps an answer, in the transaction of what the run has done. [`StoreError::Conflict`] if the key was taken over.
pub(crate) async fn keep(
    store: &Store,
    connection: &mut PgConnection,
    app: AppId,
    of: &AnswerOf,
    answer: &KeptAnswer,
) -> Result<crate::outbox::Inserted, StoreError> {
    let headers = Json(&answer.headers);
    match of {
        AnswerOf::Event(event, callback) => {
            let kept = sqlx::query!(
                "INSERT INTO event_results (event_id, app_id, status, headers, body, expires_at)
                VALUES ($1, $2, $3, $4, $5, statement_timestamp() + interval '24 hours')",
                event.as_uuid(),
                app.as_uuid(),
                answer.status.cast_signed(),
                headers as _,
                &answer.body[..],
            );
            kept.execute(&mut *connection).await?;
            let Some(url) = callback else { return Ok(crate::outbox::Inserted::default()) };
            let body = json!({ "id": event, "state": "done", "answer": AnswerView::from(answer) });
            insert(store, connection, app, &[callback_event(*event, url, &body)], OutboxLimit(u64::MAX)).await
        }
        AnswerOf::Key(hold) => {
            let kept = sqlx::query!(
                "UPDATE idempotency_keys SET status = $5, headers = $6, body = $7
                WHERE app_id = $1 AND scope = $2 AND key = $3 AND held_by = $4 AND status IS NULL",
                app.as_uuid(),
                &hold.scope[..],
                hold.key,
                hold.holder,
                answer.status.cast_signed(),
                headers as _,
                &answer.body[..],
            );
            if kept.execute(connection).await?.rows_affected() == 0 {
                return Err(StoreError::Conflict);
            }
            Ok(crate::outbox::Inserted::default())
        }
    }
}

/// The event that sends what became of a request to the URL that wants it.
pub(crate) fn callback_event(event: EventId, url: &CallbackUrl, body: &serde_json::Value) -> NewEvent {
    let payload = json!({ "url": url, "event_id": event, "body": body }).to_string();
    NewEvent::new(OutboxKind::Callback, payload)
}

impl Store {
    /// What is known of an asynchronous request of an app; `None` if there is none of this id, or it was long ago.
    pub async fn event_answer(&self, app: AppId, event: EventId) -> Result<Option<EventAnswer>, StoreError> {
        // One statement, for a request leaves the outbox and gets its result in one transaction: two could miss both.
        let known = sqlx::query!(
            r#"SELECT r.status AS "status?", r.headers AS "headers: Json<Vec<(String, String)>>", r.body AS "body?",
                r.error_code AS "error_code?", EXISTS (
                    SELECT FROM outbox WHERE id = $2 AND app_id = $1 AND kind = 'http' AND reply_to IS NULL
                ) AS "waits!"
            FROM (SELECT) o LEFT JOIN event_results r
                ON r.app_id = $1 AND r.event_id = $2 AND r.expires_at > statement_timestamp()"#,
            app.as_uuid(),
            event.as_uuid(),
        );
        let row = known.fetch_one(&self.pool).await?;
        if let Some(code) = row.error_code {
            return Ok(Some(EventAnswer::Failed(parse(&code)?)));
        }
        let Some(status) = row.status else { return Ok(row.waits.then_some(EventAnswer::Pending)) };
        let headers = row.headers.map(|Json(headers)| headers).unwrap_or_default();
        let (status, body) = (status.cast_unsigned(), row.body.unwrap_or_default().into());
        Ok(Some(EventAnswer::Answered(KeptAnswer { status, headers, body })))
    }

    /// Takes a key for a request, or says what is known of it. A request that was begun `longest` ago and has no answer is
    /// taken to have died with its process: since an answer is kept with what was done, nothing was done.
    pub async fn take_key(
        &self,
        app: AppId,
        key: &RequestKey,
        longest: std::time::Duration,
    ) -> Result<KeyState, StoreError> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM (SELECT FROM idempotency_keys WHERE app_id = $1 LIMIT $2) k"#,
            app.as_uuid(),
            MAX_KEYS,
        );
        if count.fetch_one(&self.pool).await? >= MAX_KEYS {
            let message =
                format!("the app remembers {MAX_KEYS} keys of requests, which is the most in 24 hours");
            return Err(StoreError::KeysFull { message, limit: MAX_KEYS.unsigned_abs() });
        }
        let hold = KeyHold { scope: key.scope, key: key.key.clone(), holder: Uuid::new_v4() };
        let taken = sqlx::query!(
            "INSERT INTO idempotency_keys AS k (app_id, scope, key, request, held_by, expires_at)
            VALUES ($1, $2, $3, $4, $5, statement_timestamp() + interval '24 hours')
            ON CONFLICT (app_id, scope, key) DO UPDATE SET request = excluded.request, status = NULL, headers = NULL,
                body = NULL, held_by = excluded.held_by, created_at = statement_timestamp(),
                expires_at = excluded.expires_at
            WHERE k.expires_at <= statement_timestamp() OR (k.status IS NULL AND k.request = excluded.request
                AND k.created_at < statement_timestamp() - $6 * interval '1 millisecond')",
            app.as_uuid(),
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
        let row = sqlx::query!(
            r#"SELECT request, status, headers AS "headers: Json<Vec<(String, String)>>", body FROM idempotency_keys
            WHERE app_id = $1 AND scope = $2 AND key = $3"#,
            app.as_uuid(),
            &key.scope[..],
            key.key,
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(KeyState::Running) };
        if digest(row.request)? != key.request {
            return Ok(KeyState::Other);
        }
        let Some(status) = row.status else { return Ok(KeyState::Running) };
        let headers = row.headers.map(|Json(headers)| headers).unwrap_or_default();
        let (status, body) = (status.cast_unsigned(), row.body.unwrap_or_default().into());
        Ok(KeyState::Answered(KeptAnswer { status, headers, body }))
    }

    /// Keeps the answer of a request under a key that had no other effect.
    pub async fn keep_answer(
        &self,
        app: AppId,
        hold: &KeyHold,
        answer: &KeptAnswer,
    ) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        keep(self, &mut connection, app, &AnswerOf::Key(hold.clone()), answer).await?;
        Ok(())
    }

    /// Gives a key back whose request failed, so that it can be made again.
    pub async fn release_key(&self, app: AppId, hold: &KeyHold) -> Result<(), StoreError> {
        let released = sqlx::query!(
            "DELETE FROM idempotency_keys
            WHERE app_id = $1 AND scope = $2 AND key = $3 AND held_by = $4 AND status IS NULL",
            app.as_uuid(),
            &hold.scope[..],
            hold.key,
            hold.holder,
        );
        released.execute(&self.pool).await?;
        Ok(())
    }
}
