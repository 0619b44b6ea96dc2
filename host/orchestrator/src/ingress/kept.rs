//! Requests that are more than a run while the client waits: those of durable and asynchronous routes, and those with an
//! `Idempotency-Key`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::LOCATION, request::Parts};
use http_body_util::Full;
use picloud_core::{AppId, CallbackUrl, ErrorCode, EventId, Fault, HttpRequest, Method, RouteMode};
use picloud_edge::{PICLOUD_IDEMPOTENT_REPLAY, Problem, idempotency_key, key_of_another, under_way};
use picloud_store::{
    AnswerView, Enqueued, EventAnswer, KeepAnswer, KeptAnswer, KeyHold, KeyOwner, KeyState, RequestKey,
    Store, StoreError,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Answered, Ingress, full, told};
use crate::{
    directory::{AppEntry, ScriptEntry},
    dispatch::{Durable, Ended, StoredRequest, keep},
    gate::Claimed,
    host::describe,
    ingress::Origin,
    invoker::NotAdmitted,
};

/// The path, below that of an app, under which the answer of an asynchronous request can be asked for.
pub(super) const EVENTS: [&str; 2] = [".picloud", "events"];

/// Beyond its wall time, a request has this long to be committed before another may take its key.
const COMMIT_TIME: Duration = Duration::from_mins(1);

/// A request that is kept.
pub(super) struct Kept<'a> {
    pub(super) app: &'a Arc<AppEntry>,
    pub(super) script: &'a Arc<ScriptEntry>,
    pub(super) origin: Origin,
    /// Whether the caller may be told what the script says of its failure.
    pub(super) may_read_logs: bool,
    pub(super) mode: RouteMode,
    pub(super) callback_url: Option<&'a CallbackUrl>,
    pub(super) request: HttpRequest,
    /// The path of the app itself, as the client has it: empty, or `/@NAME`.
    pub(super) base: &'a str,
}

/// The key of a request, if it has one that counts: reading twice changes nothing anyway.
pub(super) fn key_of(method: Method, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    if matches!(method, Method::Get | Method::Head | Method::Options) {
        return Ok(None);
    }
    idempotency_key(headers)
}

/// Who asks for what, and what exactly.
fn request_key(app: AppId, key: String, request: &HttpRequest, headers: &HeaderMap) -> RequestKey {
    let mut scope = Sha256::new();
    scope.update(app.as_uuid());
    for name in [http::header::AUTHORIZATION, http::header::COOKIE] {
        for value in headers.get_all(&name) {
            scope.update(value.as_bytes());
            scope.update([0]);
        }
        scope.update([1]);
    }
    scope.update(&request.method);
    scope.update([0]);
    scope.update(&request.path);
    let mut content = Sha256::new();
    content.update(&request.query);
    content.update([0]);
    if let Some(value) = headers.get(http::header::CONTENT_TYPE) {
        content.update(value.as_bytes());
    }
    content.update([0]);
    content.update(&request.body);
    RequestKey {
        owner: KeyOwner::App(app),
        scope: scope.finalize().into(),
        key,
        request: content.finalize().into(),
    }
}

impl Ingress {
    /// Answers a request that is kept.
    pub(super) async fn answer_kept(
        &self,
        kept: Kept<'_>,
        key: Option<String>,
        parts: &Parts,
        claimed: Option<Claimed<'_>>,
    ) -> Result<Answered, Problem> {
        let app = kept.app.id;
        let held = match key {
            None => None,
            Some(key) => {
                let key = request_key(app, key, &kept.request, &parts.headers);
                let longest = Duration::from_millis(kept.script.limits.wall_ms) + COMMIT_TIME;
                match take_key(self.store(), key, longest).await? {
                    Taken::New(held) => Some(held),
                    Taken::Answered(answer) => return Ok(replayed(&answer)),
                    Taken::Running => return Err(under_way()),
                    Taken::Other => return Err(key_of_another()),
                }
            }
        };
        match kept.mode {
            RouteMode::Async => self.answer_later(kept, held, claimed).await,
            RouteMode::Durable | RouteMode::Sync => self.answer_durably(kept, held, claimed).await,
        }
    }

    /// Stores the request, and says where its answer can be asked for.
    async fn answer_later(
        &self,
        kept: Kept<'_>,
        held: Option<Held>,
        claimed: Option<Claimed<'_>>,
    ) -> Result<Answered, Problem> {
        let Kept { app, script, origin, callback_url, request, base, .. } = kept;
        let request = StoredRequest::new(request, origin, callback_url.cloned());
        let id = EventId::generate();
        let response = accepted(base, id);
        let kept_answer = keep(&response);
        let (app, script, dispatcher) = (Arc::clone(app), Arc::clone(script), Arc::clone(&self.dispatcher));
        to_its_end(async move {
            let answer = |_: &Enqueued| kept_answer.clone();
            let under = held.as_ref().map(|held| KeepAnswer { hold: &held.hold, answer: &answer });
            dispatcher.accept_async(&app, &script, id, &request, under.as_ref()).await?;
            held.into_iter().for_each(Held::keep);
            Ok(())
        })
        .await?;
        if let Some(claimed) = claimed {
            claimed.keep();
        }
        Ok(full(response))
    }

    /// Stores the request, runs it to its end, and answers what came of it if the client is still there.
    async fn answer_durably(
        &self,
        kept: Kept<'_>,
        held: Option<Held>,
        claimed: Option<Claimed<'_>>,
    ) -> Result<Answered, Problem> {
        let Kept { app, script, origin, may_read_logs, request, .. } = kept;
        let permit = self.invoker.admit(app).await.map_err(NotAdmitted::problem)?;
        let durable = Durable {
            app: Arc::clone(app),
            script: Arc::clone(script),
            request: StoredRequest::new(request, origin, None),
            permit,
            key: held.as_ref().map(|held| held.hold.clone()),
        };
        let dispatcher = Arc::clone(&self.dispatcher);
        let accepted = to_its_end(async move {
            let ended = dispatcher.accept_durable(durable).await?;
            // From here on the run decides over the key.
            held.into_iter().for_each(Held::keep);
            Ok(ended)
        });
        let ended = accepted.await?;
        if let Some(claimed) = claimed {
            claimed.keep();
        }
        let Ok(Ended { outcome, usage }) = ended.await else {
            return Err(Problem::new(ErrorCode::Internal));
        };
        match outcome {
            Ok(response) => Ok(full(response)),
            Err(fault) => Err(told(&fault, &usage, app, may_read_logs)),
        }
    }

    /// What is known of an asynchronous request.
    pub(super) async fn event_status(&self, app: AppId, id: &str) -> Result<Answered, Problem> {
        let id: EventId = id.parse().map_err(|_| Problem::new(ErrorCode::NotFound))?;
        let answer = self.store().event_answer(app, id).await.map_err(|error| refused(&error))?;
        let body = match answer.ok_or_else(|| Problem::new(ErrorCode::NotFound))? {
            EventAnswer::Pending => json!({ "id": id, "state": "pending" }),
            EventAnswer::Answered(answer) => {
                json!({ "id": id, "state": "done", "answer": AnswerView::from(&answer) })
            }
            EventAnswer::Failed(code) => json!({ "id": id, "state": "dead", "error": { "code": code } }),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(full(response))
    }
}

/// The answer to a request that was accepted as an event of the app at `base`.
fn accepted(base: &str, event: EventId) -> Response<Full<Bytes>> {
    let location = format!("{base}/{}/{event}", EVENTS.join("/"));
    let body = json!({ "id": event, "state": "pending", "status_url": location }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::ACCEPTED;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// What a key is to a request.
enum Taken {
    New(Held),
    Answered(KeptAnswer),
    Running,
    Other,
}

/// Takes a key for a request that takes no longer than `longest`.
async fn take_key(store: &Store, key: RequestKey, longest: Duration) -> Result<Taken, Problem> {
    let store = store.clone();
    let taken = to_its_end(async move {
        Ok(match store.take_key(&key, longest).await? {
            KeyState::New(hold) => Taken::New(Held { store, hold, is_kept: false }),
            KeyState::Answered(answer) => Taken::Answered(answer),
            KeyState::Running => Taken::Running,
            KeyState::Other => Taken::Other,
        })
    });
    taken.await
}

/// Does what may not stop half-way, also where the client hangs up meanwhile: then what comes of it is dropped.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(|error| refused(&error)),
        Err(_) => Err(Problem::new(ErrorCode::Internal)),
    }
}

/// A key that is held until its request is accepted; given back where it is not.
struct Held {
    store: Store,
    hold: KeyHold,
    is_kept: bool,
}

impl Held {
    /// Leaves the key to its request.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (store, hold) = (self.store.clone(), self.hold.clone());
        tokio::spawn(async move {
            if let Err(error) = store.release_key(&hold).await {
                tracing::warn!(%error, "the key of a refused request could not be released");
            }
        });
    }
}

fn replayed(answer: &KeptAnswer) -> Answered {
    let mut response = Response::new(Full::new(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(PICLOUD_IDEMPOTENT_REPLAY, HeaderValue::from_static("true"));
    full(response)
}

fn refused(error: &StoreError) -> Problem {
    let (code, message) = describe(error);
    let problem = Problem::new(code);
    match code {
        ErrorCode::OutboxFull | ErrorCode::KeysFull => problem.detail(message).retry_after(5),
        ErrorCode::Internal | ErrorCode::DatabaseUnavailable => problem,
        _ => problem.detail(Fault::new(code, message).message),
    }
}
