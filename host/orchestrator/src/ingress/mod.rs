//! HTTP requests: from the head to the answer.

mod address;
mod body;
mod cookies;
mod headers;
mod path;
mod response;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{
    Method as HttpMethod, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, HeaderValue},
    request::Parts,
    uri::Authority,
};
use http_body_util::Full;
use hyper::body::Incoming;
use ipnet::IpNet;
use picloud_core::{
    Answer, ErrorCode, Event, EventKind, ExecutionId, Fault, HttpRequest, Method, MethodSet, Outcome,
    RequestId, RouteMatch,
};
use picloud_edge::{
    BodyTimes, Client, PICLOUD_REQUEST_ID, Problem, authority, request_id_value, status_of_run,
};

use crate::{
    Addressing, OrchestratorConfig,
    admission::{Admission, Permit, Refusal},
    directory::{AppEntry, Directory, ScriptEntry},
    history::{History, Run},
    metrics::Metrics,
    runner::{Job, Runner},
};
use body::BodyMemory;
use path::Path;
use response::Origin;

/// The body type of every answer.
pub(crate) type Answered = Response<Full<Bytes>>;

/// What it takes to answer requests, and direct calls beside them.
pub(crate) struct Ingress {
    pub(crate) directory: Arc<Directory>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) runner: Runner,
    pub(crate) history: Arc<History>,
    pub(crate) metrics: Arc<Metrics>,
    addressing: Addressing,
    trusted_proxies: Vec<IpNet>,
    body_times: BodyTimes,
    body_memory: BodyMemory,
}

impl Ingress {
    pub(crate) fn new(
        config: &OrchestratorConfig,
        directory: Arc<Directory>,
        runner: Runner,
        history: Arc<History>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            directory,
            admission: Admission::new(config.slots, config.slot_wait, metrics.waited.clone()),
            runner,
            history,
            metrics,
            addressing: config.addressing.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            body_times: config.body,
            body_memory: BodyMemory::new(),
        }
    }

    /// Answers a request of a client or a proxy at `peer`.
    pub(crate) async fn handle(&self, peer: IpAddr, request: Request<Incoming>) -> Answered {
        let mut abandoned = Abandoned { metrics: &self.metrics, is_answered: false };
        let id = RequestId::generate();
        let authority = authority(&request);
        let (parts, body) = request.into_parts();
        let answer = match authority {
            Ok(authority) => self.answer(id, peer, authority.as_ref(), &parts, body).await,
            Err(problem) => Err(problem),
        };
        let mut response = answer
            .unwrap_or_else(|problem| problem.request_id(id).instance(parts.uri.path()).into_response());
        response.headers_mut().insert(PICLOUD_REQUEST_ID, request_id_value(id));
        if parts.method == HttpMethod::HEAD {
            without_body(&mut response);
        }
        abandoned.is_answered = true;
        self.metrics.answered(response.status());
        response
    }

    async fn answer(
        &self,
        id: RequestId,
        peer: IpAddr,
        authority: Option<&Authority>,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Answered, Problem> {
        if parts.method == HttpMethod::OPTIONS && parts.uri.path() == "*" {
            return Ok(options(MethodSet::ANY));
        }
        let method = routable(&parts.method)?;
        let addressed = address::resolve(&self.addressing, &self.directory, authority, &parts.uri)?;
        let path = Path::parse(addressed.path)?;
        let segments: Vec<&str> = path.segments.iter().map(|segment| &**segment).collect();
        let (target, params) = match addressed.app.find(method, &segments) {
            RouteMatch::Found { target, params } => (target, params),
            RouteMatch::MethodNotAllowed { allowed } if method == Method::Options => {
                return Ok(options(allowed));
            }
            RouteMatch::MethodNotAllowed { allowed } => {
                return Err(Problem::new(ErrorCode::MethodNotAllowed).allow(&allowed.allow()));
            }
            RouteMatch::NotFound => return Err(Problem::new(ErrorCode::RouteNotFound)),
        };
        let limit = addressed.app.limits.request_body_bytes;
        let body = self.body_memory.read(&parts.headers, body, limit, self.body_times).await?;
        let client = Client::of(peer, &parts.headers, &self.trusted_proxies);
        let method = if method == Method::Head && !target.sees_head { Method::Get } else { method };
        let event = || {
            Event::Http(HttpRequest {
                id,
                method: method.as_str().to_owned(),
                path: path.text(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                params: params.clone(),
                headers: headers::block(&parts.headers, authority, client.is_proxied),
                body: body.bytes.clone(),
                ip: client.ip,
            })
        };
        self.run(id, &addressed.app, &target.script, event, addressed.origin).await
    }

    async fn run(
        &self,
        id: RequestId,
        app: &AppEntry,
        script: &ScriptEntry,
        event: impl Fn() -> Event,
        origin: Origin,
    ) -> Result<Answered, Problem> {
        let _permit = self.admit(app).await.map_err(|refusal| Problem::new(refusal.code()))?;
        // A request is one execution, and is found in the history by either id.
        let execution = ExecutionId::from_uuid(id.as_uuid());
        let run = Run { id: execution, request_id: id, app, script, kind: EventKind::Http };
        let begun = self.history.begin(run);
        let accept = |answer| match answer {
            Answer::Http(answer) => response::validate(answer, &app.limits, &app.name, origin),
            Answer::Value(_) => Err(Fault::new(ErrorCode::BadResponse, "the answer is not a response")),
        };
        let ran = self.runner.run(Job { app, script, execution }, event, accept).await;
        let (answered, outcome) = match ran.outcome {
            Ok(response) => (Ok(response), Outcome::Succeeded),
            Err(fault) => (Err(of_run(&fault)), Outcome::Failed(fault)),
        };
        let status = answered.as_ref().map_or_else(Problem::http_status, Response::status);
        begun.finish(outcome, Some(status.as_u16()), ran.usage, ran.logs);
        answered
    }

    /// Waits for a slot.
    pub(crate) async fn admit(&self, app: &AppEntry) -> Result<Permit, Refusal> {
        let permit = self.admission.acquire(app.id, app.limits.concurrency).await;
        if let Err(refusal) = permit {
            self.metrics.refused(refusal);
        }
        permit
    }
}

/// Counts a request whose client went away: its future is dropped before there is an answer.
struct Abandoned<'a> {
    metrics: &'a Metrics,
    is_answered: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.metrics.abandoned.inc();
        }
    }
}

/// A failed run as the public sees it: its code, and general words. What the script said is for those who may
/// read its logs.
fn of_run(fault: &Fault) -> Problem {
    Problem::new(fault.code).status(status_of_run(fault.code))
}

fn routable(method: &HttpMethod) -> Result<Method, Problem> {
    Ok(match *method {
        HttpMethod::GET => Method::Get,
        HttpMethod::HEAD => Method::Head,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::PATCH => Method::Patch,
        HttpMethod::DELETE => Method::Delete,
        HttpMethod::OPTIONS => Method::Options,
        _ => return Err(Problem::new(ErrorCode::MethodNotAllowed).allow(&MethodSet::ANY.allow())),
    })
}

/// The answer to OPTIONS where no script answers it.
fn options(allowed: MethodSet) -> Answered {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(methods) = HeaderValue::try_from(allowed.allow()) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// Takes away the body of an answer to HEAD, and says how long it would have been.
fn without_body(response: &mut Answered) {
    let length = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
    if length > 0 {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = Full::default();
    }
}
