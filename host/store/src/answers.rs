//! Answers that are kept: of asynchronous requests, and of requests that were made under a key. Each is written in the
//! transaction of what the run has done.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use picloud_core::{AppId, CallbackUrl, ErrorCode, EventId, OutboxKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, types::Json};

use crate::{
    Store, StoreError,
    outbox::{NewEvent, OutboxLimit, insert},
    request_keys::{KeyHold, keep_under},
    text::parse,
};

/// The most bytes of an app's answers to asynchronous requests that are kept, give or take [`LOOK_AFTER`].
const MAX_KEPT_BYTES: i64 = 256 << 20;

/// After so many bytes of answers of an app it is looked whether there are more than may be.
const LOOK_AFTER: usize = 16 << 20;

/// The most apps whose bytes are counted.
const MAX_APPS: usize = 10_000;

/// How many bytes of answers this process has kept for each app since it last looked.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptBytes(Arc<Mutex<HashMap<AppId, usize>>>);

impl KeptBytes {
    /// Counts an answer. Answers whether it is time to look.
    fn add(&self, app: AppId, bytes: usize) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_APPS && !counts.contains_key(&app) {
            counts.clear();
        }
        let count = counts.entry(app).or_default();
        *count += bytes;
        let is_time = *count >= LOOK_AFTER;
        if is_time {
            counts.remove(&app);
        }
        is_time
    }
}

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
            if store.kept_bytes.add(app, answer.body.len()) {
                forget_oldest(connection, app).await?;
            }
            let Some(url) = callback else { return Ok(crate::outbox::Inserted::default()) };
            let body = json!({ "id": event, "state": "done", "answer": AnswerView::from(answer) });
            insert(store, connection, app, &[callback_event(*event, url, &body)], OutboxLimit::NONE).await
        }
        AnswerOf::Key(hold) => {
            keep_under(connection, hold, answer).await?;
            Ok(crate::outbox::Inserted::default())
        }
    }
}

/// Removes the oldest answers of an app beyond what is kept.
async fn forget_oldest(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    let forgotten = sqlx::query!(
        "DELETE FROM event_results WHERE event_id IN (
            SELECT event_id FROM (
                SELECT event_id, sum(octet_length(body)) OVER (ORDER BY event_id DESC) AS bytes
                FROM event_results WHERE app_id = $1
            ) newest WHERE bytes > $2
        )",
        app.as_uuid(),
        MAX_KEPT_BYTES,
    );
    forgotten.execute(connection).await?;
    Ok(())
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
}
