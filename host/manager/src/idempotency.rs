//! Requests with an `Idempotency-Key`: the same one is answered once, and later with the same answer.
//!
//! The answer of a request that makes events is kept in their transaction, by its handler. That of any other is kept after
//! the handler has done its work.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use picloud_core::ErrorCode;
use picloud_edge::{IDEMPOTENCY_KEY, PICLOUD_IDEMPOTENT_REPLAY, idempotency_key, key_of_another, under_way};
use picloud_store::{KeptAnswer, KeyHold, KeyOwner, KeyState, RequestKey, Store, StoreError};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    access::{Caller, Gate},
    audit::AuditNote,
    error::ApiError,
    extract::{JSON_BYTES, read_bytes},
    store_error::from_store,
};

/// Operations whose answer is a secret that is shown once: it is not kept.
pub(crate) const SECRET_ANSWERS: [&str; 2] = ["create_key", "create_token"];

/// The most bytes of a body, more than any operation takes.
const MAX_BODY: u64 = (8 << 20) + JSON_BYTES;

/// The most bytes of an answer that is kept, more than any operation gives.
const MAX_ANSWER: usize = 64 << 20;

/// Beyond the longest time that a script may run, a request has this long to be answered before another may take its key.
const ANSWER_TIME: Duration = Duration::from_mins(1);

/// Says that the answer is kept already.
#[derive(Clone, Copy)]
struct AnswerIsKept;

/// Whether a request is one that is to be answered once.
pub(crate) fn is_keyed(parts: &Parts) -> bool {
    parts.method == Method::POST && parts.headers.contains_key(IDEMPOTENCY_KEY)
}

/// Answers an admitted request under its key.
pub(crate) async fn answer(gate: &Gate, parts: Parts, body: Body, next: Next) -> Response {
    match try_answer(gate, parts, body, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn try_answer(gate: &Gate, mut parts: Parts, body: Body, next: Next) -> Result<Response, ApiError> {
    // Who is not known, as who signs in, has no keys.
    let (Some(caller), Some(key)) =
        (parts.extensions.get::<Caller>(), idempotency_key(&parts.headers).map_err(ApiError::from)?)
    else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    if SECRET_ANSWERS.contains(&gate.action) {
        let detail = "idempotency-key: the answer has a secret that is shown once, so that it is not kept";
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("idempotency-key"));
    }
    let mut scope = Sha256::new();
    scope.update(caller.principal.id.as_uuid());
    scope.update(parts.uri.path());
    let body = read_bytes(&parts.headers, body, MAX_BODY).await?;
    let request = digest(&parts, &body);
    let owner = KeyOwner::Principal(caller.principal.id);
    let key = RequestKey { owner, scope: scope.finalize().into(), key, request };
    let longest = Duration::from_millis(gate.context.config.ceiling.limits().wall_ms) + ANSWER_TIME;
    let store = gate.context.store.clone();
    // In a task of its own, so that a client that goes away leaves neither half an answer nor a key that is held.
    let answered = tokio::spawn(async move {
        let hold = match store.take_key(&key, longest).await.map_err(from_store)? {
            KeyState::New(hold) => hold,
            KeyState::Answered(answer) => return Ok(replayed(answer)),
            KeyState::Running => return Err(under_way().into()),
            KeyState::Other => return Err(key_of_another().into()),
        };
        parts.extensions.insert(hold.clone());
        let response = next.run(Request::from_parts(parts, body.into())).await;
        keep_what_comes(&store, &hold, response).await
    });
    answered.await.map_err(|error| ApiError::internal("a request under a key", &error))?
}

/// Keeps the answer of a request, unless its handler has.
async fn keep_what_comes(store: &Store, hold: &KeyHold, response: Response) -> Result<Response, ApiError> {
    if response.extensions().get::<AnswerIsKept>().is_some() {
        return Ok(response);
    }
    if !response.status().is_success() {
        // It has done nothing.
        if let Err(error) = store.release_key(hold).await {
            tracing::warn!(%error, "the key of a refused request could not be released");
        }
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body, MAX_ANSWER).await.map_err(|error| ApiError::internal("an answer", &error))?;
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let answer = KeptAnswer { status: head.status.as_u16(), headers: headers.collect(), body: body.clone() };
    match store.keep_answer(hold, &answer).await {
        // What it did is done; one that took the key over meanwhile has its own answer.
        Ok(()) | Err(StoreError::Conflict) => {}
        Err(error) => tracing::warn!(%error, "an answer could not be kept under its key"),
    }
    Ok(Response::from_parts(head, body.into()))
}

/// What exactly is asked.
fn digest(parts: &Parts, body: &Bytes) -> [u8; 32] {
    let mut content = Sha256::new();
    content.update(parts.uri.query().unwrap_or_default());
    content.update([0]);
    if let Some(value) = parts.headers.get(header::CONTENT_TYPE) {
        content.update(value.as_bytes());
    }
    content.update([0]);
    content.update(body);
    content.finalize().into()
}

fn replayed(answer: KeptAnswer) -> Response {
    let note =
        AuditNote { detail: Some("answered before, under the same key".into()), ..AuditNote::default() };
    let mut response = rebuilt(answer);
    response.headers_mut().insert(PICLOUD_IDEMPOTENT_REPLAY, HeaderValue::from_static("true"));
    response.extensions_mut().insert(note);
    response
}

fn rebuilt(answer: KeptAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// An answer with JSON in the form that is kept.
pub(crate) fn json_answer(status: StatusCode, body: &impl Serialize) -> KeptAnswer {
    // Views are structs of plain values: nothing in them has no JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let json = ("content-type".to_owned(), "application/json".to_owned());
    KeptAnswer { status: status.as_u16(), headers: vec![json], body: body.into() }
}

/// The answer of a handler that has kept it, if its request was under a key.
pub(crate) fn respond(answer: KeptAnswer, hold: Option<&KeyHold>) -> Response {
    let mut response = rebuilt(answer);
    if hold.is_some() {
        response.extensions_mut().insert(AnswerIsKept);
    }
    response
}
