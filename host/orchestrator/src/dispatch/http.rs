//! Requests that are on disk before they run: those of durable routes, for which a caller waits here, and those of
//! asynchronous ones. And the callbacks that tell of the latter.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use picloud_core::{
    Answer, CallbackUrl, EgressCall, EgressLog, EgressRedirects, ErrorCode, Event, EventId, EventKind,
    EventOrigin, ExecutionId, Fault, HttpRequest, InboxId, Lineage, Method, OutboxKind, Outcome, Params,
    RequestId, SecretMask, Usage,
};
use picloud_store::{
    AbandonedExecution, Acknowledge, AnswerOf, Claim, ClaimedEvent, EventFault, KeepAnswer, KeptAnswer,
    KeyHold, NewEvent, OutboxLimit, ReplyTo, Settlement, StoreError, Verdict,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::sync::oneshot;

use super::{BUSY, Dispatcher, Handled, Task, event, script::no_script};
use crate::{
    admission::Permit,
    directory::{AppEntry, ScriptEntry},
    history::Run,
    ingress::{Origin, validate},
    runner::{Fate, Job, Keep},
};

/// How long the receiver of a callback may take.
const CALLBACK_TIME: Duration = Duration::from_secs(10);

/// The most of a receiver's answer that is read.
const CALLBACK_ANSWER_BYTES: u64 = 64 << 10;

/// A request as it is in the outbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredRequest {
    pub(crate) id: RequestId,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) params: Params,
    pub(crate) headers: String,
    #[serde(serialize_with = "to_base64", deserialize_with = "of_base64")]
    pub(crate) body: Bytes,
    pub(crate) ip: IpAddr,
    /// Whether the app shares its origin with others.
    pub(crate) is_shared_origin: bool,
    /// Where the answer is sent.
    pub(crate) callback_url: Option<CallbackUrl>,
}

fn to_base64<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(body))
}

fn of_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Bytes::from).map_err(de::Error::custom)
}

impl StoredRequest {
    /// A request to be stored.
    pub(crate) fn new(request: HttpRequest, origin: Origin, callback_url: Option<CallbackUrl>) -> Self {
        Self {
            id: request.id,
            method: request.method,
            path: request.path,
            query: request.query,
            params: request.params,
            headers: request.headers,
            body: request.body,
            ip: request.ip,
            is_shared_origin: origin == Origin::Shared,
            callback_url,
        }
    }

    /// A request as the outbox has it. [`ErrorCode::Invalid`] if it cannot be read: it could not the next time either.
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        let unreadable =
            |error| Fault::new(ErrorCode::Invalid, format!("the stored request cannot be read: {error}"));
        serde_json::from_str(text).map_err(unreadable)
    }

    pub(crate) fn event(&self) -> Event {
        Event::Http(HttpRequest {
            id: self.id,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            params: self.params.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            ip: self.ip,
        })
    }

    pub(crate) fn origin(&self) -> Origin {
        if self.is_shared_origin { Origin::Shared } else { Origin::Own }
    }

    fn text(&self) -> Result<String, StoreError> {
        serde_json::to_string(self).map_err(|error| StoreError::Database(error.into()))
    }
}

/// How a durable request ended.
pub(crate) struct Ended {
    pub(crate) outcome: Result<Response<Full<Bytes>>, Fault>,
    pub(crate) usage: Usage,
}

/// A durable request that may run.
pub(crate) struct Durable {
    pub(crate) app: Arc<AppEntry>,
    pub(crate) script: Arc<ScriptEntry>,
    pub(crate) request: StoredRequest,
    pub(crate) permit: Permit,
    /// The key that its answer is kept under, and that is free again if it fails.
    pub(crate) key: Option<KeyHold>,
}

impl Dispatcher {
    /// Stores a request for later.
    pub(crate) async fn accept_async(
        &self,
        app: &AppEntry,
        script: &ScriptEntry,
        id: EventId,
        request: &StoredRequest,
        keep: Option<&KeepAnswer<'_>>,
    ) -> Result<(), StoreError> {
        let event = NewEvent {
            id,
            script: Some(script.name.clone()),
            lineage: Lineage::root(id),
            ..NewEvent::new(OutboxKind::Http, request.text()?)
        };
        let limit = OutboxLimit::of(&app.limits);
        self.store.enqueue_under(app.id, &[event], limit, keep).await?;
        Ok(())
    }

    /// Stores a request and begins to run it. It runs to its end also if nobody waits for what is received here. To be
    /// awaited: a request of which nobody knows whether it was stored is nobody's to run.
    pub(crate) async fn accept_durable(
        self: &Arc<Self>,
        durable: Durable,
    ) -> Result<oneshot::Receiver<Ended>, StoreError> {
        self.beat_if_due().await?;
        let (inbox, node) = (InboxId::generate(), self.store.worker());
        let event = NewEvent {
            script: Some(durable.script.name.clone()),
            reply: Some(ReplyTo { inbox, node }),
            ..NewEvent::new(OutboxKind::Http, durable.request.text()?)
        };
        let claim = Claim { event: event.id, worker: node, attempt: 1 };
        let limit = OutboxLimit::of(&durable.app.limits);
        self.work.hold_claim(claim, durable.app.id, None);
        if let Err(error) = self.store.enqueue(durable.app.id, &[event], limit).await {
            let _ = self.work.settled(claim.event);
            self.may_have_strays.store(true, Relaxed);
            return Err(error);
        }
        let (ended, receiver) = oneshot::channel();
        let dispatcher = Arc::clone(self);
        tokio::spawn(async move { dispatcher.run_durable(durable, claim, inbox, ended).await });
        Ok(receiver)
    }

    async fn run_durable(
        &self,
        durable: Durable,
        claim: Claim,
        inbox: InboxId,
        ended: oneshot::Sender<Ended>,
    ) {
        let Durable { app, script, request, permit, key } = durable;
        let origin = EventOrigin {
            event: claim.event,
            lineage: Lineage::root(claim.event),
            trigger: None,
            attempt: claim.attempt,
        };
        let execution = ExecutionId::from_uuid(request.id.as_uuid());
        let of = key.clone().map(AnswerOf::Key);
        let ran = self.run_request(&app, &script, &request, execution, &origin, claim, of).await;
        drop(permit);
        if ran.fate == Fate::Open {
            // The caller hears of it when it has left the outbox: the answer is the end of the event.
            let verdict = Verdict::Done { dead_letter: None, is_grouped: false };
            let settlement = Settlement { claim, app: app.id, verdict };
            if let Err(error) = self.store.settle(std::slice::from_ref(&settlement)).await {
                tracing::warn!(%error, "a durable request could not be settled at once");
                self.send(settlement, 0);
            } else {
                self.ended(claim.event);
            }
        } else {
            self.ended(claim.event);
        }
        if let Some(key) = key.filter(|_| ran.outcome.is_err())
            && let Err(error) = self.store.release_key(&key).await
        {
            tracing::warn!(%error, "the key of a failed request could not be released");
        }
        let outcome = match &ran.outcome {
            Ok(response) => Ok(response.status().as_u16()),
            Err(fault) => Err(fault.code),
        };
        if ended.send(Ended { outcome: ran.outcome, usage: ran.usage }).is_err() {
            let abandoned = AbandonedExecution {
                app: app.id,
                event: claim.event,
                execution: Some(execution),
                inbox,
                script: script.name.clone(),
                outcome,
            };
            if let Err(error) = self.store.record_abandoned(&abandoned).await {
                tracing::warn!(%error, event = %claim.event, "an abandoned execution could not be recorded");
            }
        }
    }

    /// Runs an asynchronous request.
    pub(super) async fn run_async(&self, task: &Task) -> Handled {
        let claimed = &task.event;
        let Some(app) = self.invoker.directory.by_id(claimed.app) else {
            return Handled::Verdict(Verdict::GiveBack { delay: BUSY });
        };
        let script = match claimed.script.as_ref().and_then(|name| app.scripts.get(name)) {
            Some(script) => Arc::clone(script),
            None => return Handled::Verdict(no_script(claimed.script.as_ref())),
        };
        let script = match self.wanted_version(&app, &script, claimed.version).await {
            Ok(script) => script,
            Err(verdict) => return Handled::Verdict(verdict),
        };
        let request = match StoredRequest::read(&claimed.payload) {
            Ok(request) => request,
            Err(fault) => return Handled::Verdict(unreadable(fault)),
        };
        let permit = match self.admit(&app).await {
            Ok(permit) => permit,
            Err(verdict) => return Handled::Verdict(verdict),
        };
        let origin = EventOrigin {
            event: claimed.claim.event,
            lineage: claimed.lineage,
            trigger: None,
            attempt: claimed.claim.attempt,
        };
        let of = AnswerOf::Event(claimed.claim.event, request.callback_url.clone());
        let execution = ExecutionId::generate();
        let ran =
            self.run_request(&app, &script, &request, execution, &origin, claimed.claim, Some(of)).await;
        drop(permit);
        match (ran.outcome, ran.fate) {
            (_, Fate::Committed | Fate::Superseded) => Handled::Settled,
            (Ok(_), Fate::Open) => Handled::Verdict(Verdict::Done { dead_letter: None, is_grouped: false }),
            (Err(fault), Fate::Open) => {
                let script = (script.name.clone(), script.version);
                let attempt = claimed.claim.attempt;
                Handled::Verdict(event::after_failure(&fault, attempt, &self.config.retry, script))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is another thing, and there are two callers")]
    async fn run_request(
        &self,
        app: &AppEntry,
        script: &Arc<ScriptEntry>,
        request: &StoredRequest,
        execution: ExecutionId,
        origin: &EventOrigin,
        claim: Claim,
        of: Option<AnswerOf>,
    ) -> crate::runner::Ran<Response<Full<Bytes>>> {
        let run = Run {
            id: execution,
            request_id: request.id,
            app,
            script,
            kind: EventKind::Http,
            origin: Some(origin),
        };
        let begun = self.invoker.history.begin(run);
        let kept = Mutex::new(None);
        let accept = |answer| match answer {
            Answer::Http(answer) => {
                let response = validate(answer, &app.limits, &app.name, request.origin())?;
                if of.is_some() {
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(keep(&response));
                }
                Ok(response)
            }
            Answer::Value(_) => Err(Fault::new(ErrorCode::BadResponse, "the answer is not a response")),
        };
        let acknowledge = Acknowledge { claim, lineage: origin.lineage, dead_letter: None };
        let job = Job {
            app,
            script,
            execution,
            egress: begun.egress(),
            spent: &begun.spent.clone(),
            acknowledge: Some(acknowledge),
            keep: of.clone().map(|of| Keep { of, answer: &kept }),
        };
        let ran = self.invoker.runner.run(job, || request.event(), accept).await;
        let (status, outcome) = match &ran.outcome {
            Ok(response) => (Some(response.status().as_u16()), Outcome::Succeeded),
            Err(fault) => (None, Outcome::Failed(fault.clone())),
        };
        begun.finish(outcome, status, ran.usage, ran.logs.clone());
        ran
    }

    /// Sends what became of an asynchronous request to the URL that wants it, under the app's allow-list.
    pub(super) async fn call_back(&self, claimed: &ClaimedEvent) -> Verdict {
        #[derive(Deserialize)]
        struct Callback {
            url: CallbackUrl,
            event_id: EventId,
            body: serde_json::Value,
        }
        let done = Verdict::Done { dead_letter: None, is_grouped: false };
        let Some(app) = self.invoker.directory.by_id(claimed.app) else {
            return Verdict::GiveBack { delay: BUSY };
        };
        let callback: Callback = match serde_json::from_str(&claimed.payload) {
            Ok(callback) => callback,
            Err(error) => {
                let message = format!("the stored callback cannot be read: {error}");
                return unreadable(Fault::new(ErrorCode::Invalid, message));
            }
        };
        let header = |name: &str, value: String| (name.to_owned(), value);
        let call = EgressCall {
            method: Method::Post,
            url: callback.url.as_str().to_owned(),
            headers: vec![
                header("content-type", "application/json".to_owned()),
                header("idempotency-key", callback.event_id.to_string()),
            ],
            body: callback.body.to_string().into(),
            redirects: EgressRedirects::Answer,
            response_bytes: CALLBACK_ANSWER_BYTES,
            deadline: Instant::now() + CALLBACK_TIME,
            mask: SecretMask::default(),
        };
        let fault = match app.host.http(call, &EgressLog::default()).await {
            Ok(answer) if (200..300).contains(&answer.status) => return done,
            Ok(answer) => Fault::new(
                ErrorCode::EgressFailed,
                format!("the receiver of the callback answered {}", answer.status),
            ),
            Err(error) => Fault::new(error.code, error.message),
        };
        let policy = self.config.retry;
        let is_hopeless = matches!(
            fault.code,
            ErrorCode::EgressDenied | ErrorCode::EgressAddressDenied | ErrorCode::Invalid
        );
        let why = EventFault::new(fault.code, fault.message);
        if is_hopeless || policy.is_exhausted(claimed.claim.attempt) {
            return Verdict::Dead { fault: why, script: None };
        }
        Verdict::Retry { delay: policy.delay(claimed.claim.attempt, event::random()), fault: why }
    }
}

/// What was stored cannot be read: it would not be the next time either.
fn unreadable(fault: Fault) -> Verdict {
    Verdict::Dead { fault: EventFault::new(fault.code, fault.message), script: None }
}

/// An answer in the form that is kept.
pub(crate) fn keep(response: &Response<Full<Bytes>>) -> KeptAnswer {
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    // All of it is in memory.
    let body = response.body().clone().collect().now_or_never().and_then(Result::ok);
    KeptAnswer {
        status: response.status().as_u16(),
        headers: headers.collect(),
        body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    }
}
