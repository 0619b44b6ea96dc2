//! HTTP requests: from the head to the answer.

mod address;
mod body;
mod cookies;
mod files;
mod headers;
mod kept;
mod path;
mod reply;
mod response;

use std::{net::IpAddr, sync::Arc};

use http::{
    Method as HttpMethod, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, HeaderName, HeaderValue},
    request::Parts,
    uri::Authority,
};
use hyper::body::Incoming;
use ipnet::IpNet;
use picloud_core::{
    Answer, ErrorCode, Event, EventKind, ExecutionId, Fault, HttpRequest, Method, MethodSet, Outcome,
    RequestId, RouteAccess, RouteMatch, Usage,
};
use picloud_edge::{
    BodyTimes, Client, PICLOUD_REQUEST_ID, Problem, authority, request_id_value, status_of_run,
};
use picloud_store::Store;

use crate::{
    Addressing, OrchestratorConfig,
    directory::{Answers, AppEntry, ScriptEntry},
    dispatch::Dispatcher,
    files::Files,
    gate::{Claimed, CorsPolicy, Entered, Keeper, can_show_token, is_preflight},
    history::Run,
    invoker::{Invoker, NotAdmitted},
    metrics::Metrics,
    runner::Job,
};
use address::Addressed;
use body::BodyMemory;
use files::FileRequest;
use kept::{EVENTS, Kept, key_of};
use path::Path;
use reply::{Reply, full};
pub(crate) use response::{Origin, validate};

/// The body type of every answer.
pub(crate) type Answered = Response<Reply>;

/// What it takes to answer requests, and direct calls beside them.
pub(crate) struct Ingress {
    pub(crate) invoker: Arc<Invoker>,
    dispatcher: Arc<Dispatcher>,
    keeper: Keeper,
    files: Files,
    addressing: Addressing,
    trusted_proxies: Vec<IpNet>,
    body_times: BodyTimes,
    body_memory: BodyMemory,
}

impl Ingress {
    pub(crate) fn new(
        config: &OrchestratorConfig,
        invoker: Arc<Invoker>,
        dispatcher: Arc<Dispatcher>,
        keeper: Keeper,
        files: Files,
    ) -> Self {
        Self {
            invoker,
            dispatcher,
            keeper,
            files,
            addressing: config.addressing.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            body_times: config.body,
            body_memory: BodyMemory::new(),
        }
    }

    fn store(&self) -> &Store {
        self.invoker.directory.store()
    }

    /// Answers a request of a client or a proxy at `peer`.
    pub(crate) async fn handle(&self, peer: IpAddr, request: Request<Incoming>) -> Answered {
        let mut abandoned = Abandoned { metrics: &self.invoker.metrics, is_answered: false };
        let id = RequestId::generate();
        let authority = authority(&request);
        let (parts, body) = request.into_parts();
        let answer = match &authority {
            Ok(authority) => {
                let asked = Asked { id, peer, authority: authority.as_ref(), parts: &parts };
                self.answer(&asked, body).await
            }
            Err(problem) => Err(problem.clone()),
        };
        let mut response = answer.unwrap_or_else(|problem| refusal(problem, id, &parts));
        response.headers_mut().insert(PICLOUD_REQUEST_ID, request_id_value(id));
        if parts.method == HttpMethod::HEAD {
            without_body(&mut response);
        }
        abandoned.is_answered = true;
        self.invoker.metrics.answered(response.status());
        response
    }

    async fn answer(&self, asked: &Asked<'_>, body: Incoming) -> Result<Answered, Problem> {
        let parts = asked.parts;
        if parts.method == HttpMethod::OPTIONS && parts.uri.path() == "*" {
            return Ok(options(MethodSet::ANY));
        }
        let method = routable(&parts.method)?;
        let addressed =
            address::resolve(&self.addressing, &self.invoker.directory, asked.authority, &parts.uri)?;
        let answer = self.answer_at(asked, method, &addressed, body).await;
        let Some(cors) = addressed.app.gate.as_ref().and_then(|gate| gate.cors.as_ref()) else {
            return answer;
        };
        // Refusals as well: a page that may read answers may read why there is none.
        let mut response = answer.unwrap_or_else(|problem| refusal(problem, asked.id, parts));
        let is_preflight = is_preflight(&parts.method, &parts.headers);
        cors.apply(&parts.headers, response.headers_mut(), is_preflight);
        Ok(response)
    }

    /// Answers a request to an app.
    async fn answer_at(
        &self,
        asked: &Asked<'_>,
        method: Method,
        addressed: &Addressed<'_>,
        body: Incoming,
    ) -> Result<Answered, Problem> {
        let (parts, app) = (asked.parts, &addressed.app);
        let client = Client::of(asked.peer, &parts.headers, &self.trusted_proxies);
        if let Some(gate) = &app.gate {
            gate.check_address(client.ip).inspect_err(|_| self.keeper.address_denied())?;
        }
        let path = Path::parse(addressed.path)?;
        let segments: Vec<&str> = path.segments.iter().map(|segment| &**segment).collect();
        if method == Method::Options
            && let Some(cors) = app.gate.as_ref().and_then(|gate| gate.cors.as_ref())
            && is_preflight(&parts.method, &parts.headers)
        {
            return preflight(app, cors, &segments, parts);
        }
        if let [first, second, id] = segments[..]
            && [first, second] == EVENTS
            && method == Method::Get
        {
            self.keeper.take_request(app)?;
            return Box::pin(self.event_status(app.id, id)).await;
        }
        let (target, params) = match app.find(method, &segments) {
            RouteMatch::Found { target, params } => (target, params),
            RouteMatch::MethodNotAllowed { allowed } if method == Method::Options => {
                return Ok(options(allowed));
            }
            RouteMatch::MethodNotAllowed { allowed } => {
                return Err(Problem::new(ErrorCode::MethodNotAllowed).allow(&allowed.allow()));
            }
            RouteMatch::NotFound => return Err(Problem::new(ErrorCode::RouteNotFound)),
        };
        let gate = target.gate.as_deref();
        if let Some(gate) = gate.filter(|gate| gate.access != RouteAccess::Public)
            && is_preflight(&parts.method, &parts.headers)
        {
            // A browser sends no credentials with it, and the script must not run without them.
            return Ok(options(gate.methods));
        }
        let entered = if gate.is_none() && !can_show_token(&parts.headers) {
            Entered::default()
        } else {
            // Boxed, since most requests ask nobody.
            Box::pin(self.keeper.enter(app.id, gate, client.ip, &parts.headers)).await?
        };
        self.keeper.take_request(app)?;
        let limit = app.limits.request_body_bytes;
        let body = self.body_memory.read(&parts.headers, body, limit, self.body_times).await?;
        let claimed = self.keeper.check_body(gate, &parts.headers, &body.bytes)?;
        let (script, sees_head) = match &target.answers {
            Answers::Script { script, sees_head } => (script, *sees_head),
            Answers::Files(served) => {
                if let Some(claimed) = claimed {
                    claimed.keep();
                }
                let request = FileRequest {
                    app: app.id,
                    served,
                    rest: params.last().map_or("", |(_, rest)| rest),
                    raw_path: parts.uri.path(),
                    query: parts.uri.query(),
                    headers: &parts.headers,
                    origin: addressed.origin,
                    access: gate.map(|gate| gate.access).unwrap_or_default(),
                };
                let mut answered = files::serve(&self.files, &request).await;
                add_rates(&mut answered, entered);
                return answered;
            }
        };
        let method = if method == Method::Head && !sees_head { Method::Get } else { method };
        let request = || HttpRequest {
            id: asked.id,
            method: method.as_str().to_owned(),
            path: path.text(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            params: params.clone(),
            headers: headers::block(&parts.headers, asked.authority, client.is_proxied),
            body: body.bytes.clone(),
            ip: client.ip,
        };
        let key = key_of(method, &parts.headers)?;
        if key.is_some() || target.kept.is_some() {
            let runs = target.kept.as_deref();
            let kept = Kept {
                app,
                script,
                origin: addressed.origin,
                may_read_logs: entered.may_read_logs,
                mode: runs.map(|runs| runs.mode).unwrap_or_default(),
                callback_url: runs.and_then(|runs| runs.callback_url.as_ref()),
                request: request(),
                base: parts.uri.path().strip_suffix(addressed.path).unwrap_or_default(),
            };
            // Boxed, since most requests are not kept.
            let mut answered = Box::pin(self.answer_kept(kept, key, parts, claimed)).await;
            add_rates(&mut answered, entered);
            return answered;
        }
        let event = || Event::Http(request());
        let admitted = Admitted { id: asked.id, app, script, origin: addressed.origin, entered };
        self.run(admitted, event, claimed).await
    }

    async fn run(
        &self,
        admitted: Admitted<'_>,
        event: impl Fn() -> Event,
        claimed: Option<Claimed<'_>>,
    ) -> Result<Answered, Problem> {
        let Admitted { id, app, script, origin, entered } = admitted;
        let _permit = self.invoker.admit(app).await.map_err(NotAdmitted::problem)?;
        if let Some(claimed) = claimed {
            claimed.keep();
        }
        // A request is one execution, and is found in the history by either id.
        let execution = ExecutionId::from_uuid(id.as_uuid());
        let run = Run { id: execution, request_id: id, app, script, kind: EventKind::Http, origin: None };
        let begun = self.invoker.history.begin(run);
        let spent = Arc::clone(&begun.spent);
        let accept = |answer| match answer {
            Answer::Http(answer) => response::validate(answer, &app.limits, &app.name, origin),
            Answer::Value(_) => Err(Fault::new(ErrorCode::BadResponse, "the answer is not a response")),
        };
        let job = Job {
            app,
            script,
            execution,
            egress: begun.egress(),
            spent: &spent,
            acknowledge: None,
            keep: None,
        };
        let ran = self.invoker.runner.run(job, event, accept).await;
        let (mut answered, outcome) = match ran.outcome {
            Ok(response) => (Ok(full(response)), Outcome::Succeeded),
            Err(fault) => (Err(told(&fault, &ran.usage, app, entered.may_read_logs)), Outcome::Failed(fault)),
        };
        let status = answered.as_ref().map_or_else(Problem::http_status, Response::status);
        if entered.may_read_logs {
            let fuel = HeaderValue::from(ran.usage.fuel);
            answered = with_header(answered, PICLOUD_FUEL_USED, fuel);
        }
        add_rates(&mut answered, entered);
        begun.finish(outcome, Some(status.as_u16()), ran.usage, ran.logs);
        answered
    }
}

/// The fuel that a run used, for those who may read the app's logs.
const PICLOUD_FUEL_USED: HeaderName = HeaderName::from_static("picloud-fuel-used");

/// What is known of a request from its head.
struct Asked<'a> {
    id: RequestId,
    peer: IpAddr,
    authority: Option<&'a Authority>,
    parts: &'a Parts,
}

/// A request that runs as soon as it has a slot.
struct Admitted<'a> {
    id: RequestId,
    app: &'a AppEntry,
    script: &'a ScriptEntry,
    origin: Origin,
    entered: Entered,
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

fn refusal(problem: Problem, id: RequestId, parts: &Parts) -> Answered {
    problem.request_id(id).instance(parts.uri.path()).into_response()
}

/// A failed run as its caller sees it. The public sees its code and general words. What the script said is for those who
/// may read its logs, and for everybody while the app is in development.
fn told(fault: &Fault, usage: &Usage, app: &AppEntry, may_read_logs: bool) -> Problem {
    let problem = Problem::new(fault.code).status(status_of_run(fault.code));
    if !may_read_logs && !app.gate.as_ref().is_some_and(|gate| gate.is_in_development()) {
        return problem;
    }
    let problem = problem.detail(fault.message.clone()).with("fuel_used", usage.fuel);
    let Some(position) = &fault.position else { return problem };
    problem
        .with("script", &position.script)
        .with("line", position.line)
        .with("column", position.column)
        .with("source_line", &position.source_line)
}

/// Tells the client where it stands.
fn add_rates(answered: &mut Result<Answered, Problem>, entered: Entered) {
    if let (Some(rates), Ok(response)) = (entered.rates, answered) {
        rates.add_to(response.headers_mut());
    }
}

fn with_header(
    answer: Result<Answered, Problem>,
    name: HeaderName,
    value: HeaderValue,
) -> Result<Answered, Problem> {
    match answer {
        Ok(mut response) => {
            response.headers_mut().insert(name, value);
            Ok(response)
        }
        Err(problem) => Err(problem.header(name, value)),
    }
}

/// The answer to a preflight where the app says which pages may read its answers: no script runs for it, and no token
/// is asked for. A path that leads nowhere is told as it would be to the request itself.
fn preflight(
    app: &AppEntry,
    cors: &CorsPolicy,
    segments: &[&str],
    parts: &Parts,
) -> Result<Answered, Problem> {
    let method = CorsPolicy::asked_method(&parts.headers).unwrap_or(Method::Options);
    match app.find(method, segments) {
        RouteMatch::NotFound => Err(Problem::new(ErrorCode::RouteNotFound)),
        RouteMatch::Found { .. } | RouteMatch::MethodNotAllowed { .. } => {
            Ok(full(cors.preflight(&parts.headers)))
        }
    }
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
    let mut response = Response::new(Reply::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(methods) = HeaderValue::try_from(allowed.allow()) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// Takes away the body of an answer to HEAD, and says how long it would have been.
fn without_body(response: &mut Answered) {
    let length = response.body().size();
    if length > 0 {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = Reply::default();
    }
}
