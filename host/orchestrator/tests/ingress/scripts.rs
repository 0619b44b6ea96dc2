//! Scripts, as functions.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use picloud_core::{
    Answer, AppId, BoxFuture, BuildError, BuiltScript, CollectionName, Completion, EgressCall,
    EgressRedirects, Emission, Emitted, ErrorCode, Event, EventId, Execute, Fault, FilePath, FileWrite,
    HostCalls, HostError, HttpRequest, HttpResponse, Invocation, KvId, KvKey, KvSession, KvWrite, Libraries,
    LogLevel, LogLine, Logs, MessageOptions, Method, QueueName, ScriptName, SecretMask, SecretName,
    SecretValue, Usage, VariableName,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

/// Every script there is.
pub(crate) const NAMES: [&str; 15] = [
    "echo",
    "respond",
    "hello",
    "fail",
    "hold",
    "count",
    "store",
    "two",
    "api/nested",
    "secret",
    "variable",
    "upload",
    "append",
    "call",
    "work",
];

/// Runs scripts by their names.
pub(crate) struct Scripts {
    /// How many runs of `hold` have begun.
    pub(crate) holding: AtomicUsize,
    /// Lets runs of `hold` go on, one for each permit.
    pub(crate) release: Semaphore,
    /// Attempts of `count` and `two`.
    pub(crate) attempts: AtomicUsize,
    /// While there are any, an attempt of `count` waits after its read until this many have read.
    pub(crate) readers: AtomicUsize,
    all_read: Notify,
    /// The events that `work` was given, in the order in which it began with them.
    pub(crate) given: Mutex<Vec<Given>>,
}

/// An event that `work` was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) app: AppId,
    pub(crate) event: Value,
    pub(crate) at: Instant,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            holding: AtomicUsize::new(0),
            release: Semaphore::new(0),
            attempts: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
            all_read: Notify::new(),
            given: Mutex::default(),
        }
    }
}

impl Execute for Scripts {
    fn build<'a>(
        &'a self,
        _: &'a ScriptName,
        _: &'a str,
        _: Arc<dyn Libraries>,
    ) -> BoxFuture<'a, Result<BuiltScript, BuildError>> {
        unreachable!("nothing is uploaded here")
    }

    fn execute(&self, invocation: Invocation, host: Arc<dyn HostCalls>) -> BoxFuture<'_, Completion> {
        Box::pin(async move {
            let mut session = KvSession::default();
            let run = self.run(&invocation, &mut session, &*host);
            let deadline = tokio::time::Instant::from_std(invocation.deadline);
            let timed_out = Fault::new(ErrorCode::DeadlineExceeded, "too late");
            let outcome = tokio::time::timeout_at(deadline, run).await.unwrap_or(Err(timed_out));
            let (reads, effects) = session.finish();
            let logs = match invocation.script.as_str() {
                "fail" => vec![LogLine {
                    level: LogLevel::Info,
                    message: "about to fail".into(),
                    at: Duration::ZERO,
                }],
                _ => Vec::new(),
            };
            Completion {
                outcome,
                effects,
                reads,
                logs: Logs { lines: logs, truncated: false },
                usage: Usage { fuel: 1000, duration: Duration::from_micros(10), ..Usage::default() },
                mask: SecretMask::default(),
            }
        })
    }
}

impl Scripts {
    async fn run(
        &self,
        invocation: &Invocation,
        session: &mut KvSession,
        host: &dyn HostCalls,
    ) -> Result<Answer, Fault> {
        let request = match &invocation.event {
            Event::Http(request) => request,
            Event::Trigger { event, .. } if invocation.script.as_str() == "work" => {
                return self.work(invocation.app, event, session, host).await;
            }
            Event::Invoke(event) | Event::Trigger { event, .. } => return Ok(Answer::Value(event.clone())),
        };
        match invocation.script.as_str() {
            "echo" | "api/nested" => Ok(echo(request)),
            "respond" => Ok(respond(&request.body)),
            "hold" => {
                invocation.spent.add(700);
                self.holding.fetch_add(1, SeqCst);
                self.release.acquire().await.unwrap().forget();
                if request.body == *"fail" {
                    return Err(Fault::new(ErrorCode::ScriptError, "held"));
                }
                Ok(text("held"))
            }
            "count" => self.count(session, host).await,
            "store" => {
                let value = String::from_utf8(request.body.to_vec()).unwrap();
                session.write(id(&request.query), KvWrite::Set { value: value.into(), ttl: None });
                Ok(text("stored"))
            }
            "upload" => {
                let path = FilePath::new(request.query.as_str()).unwrap();
                let write = FileWrite::set(&path, request.body.clone(), None);
                session.files.write(path, write);
                session.write(id("uploaded"), KvWrite::Set { value: "1".into(), ttl: None });
                Ok(text("uploaded"))
            }
            "append" => append(session, host, request.query.as_str()).await,
            "two" => {
                self.attempts.fetch_add(1, SeqCst);
                get(session, host, "a").await?;
                get(session, host, "b").await?;
                Ok(text("read"))
            }
            "secret" => {
                let name = SecretName::new(request.query.as_str()).unwrap();
                let value = host.secret(&invocation.script, &name).await.map_err(fault)?;
                Ok(text(value.expose()))
            }
            "variable" => {
                let name = VariableName::new(request.query.as_str()).unwrap();
                let value = host.variable(&name).await.map_err(fault)?;
                Ok(text(value.as_deref().unwrap_or("none")))
            }
            // Calls what the body names, with a mask of what comes after `&` in it.
            "call" => {
                let body = String::from_utf8(request.body.to_vec()).unwrap();
                let (url, secret) = body.split_once('&').unwrap_or((&body, "nothing to mask"));
                let name = SecretName::new("masked").unwrap();
                let secret = SecretValue::new(secret.as_bytes().to_vec()).unwrap();
                let call = EgressCall {
                    method: Method::Get,
                    url: url.to_owned(),
                    headers: Vec::new(),
                    body: Vec::new().into(),
                    redirects: EgressRedirects::Follow(5),
                    response_bytes: 1000,
                    deadline: invocation.deadline + Duration::from_secs(10),
                    mask: SecretMask::new([(&name, &secret)]),
                };
                let answer = host.http(call, &invocation.egress).await.map_err(fault)?;
                Ok(text(&format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))))
            }
            "fail" => Err(Fault::new(ErrorCode::ScriptError, "the secret is 42")),
            _ => Ok(text("hello")),
        }
    }

    /// Does what the body of an event says in `do`, and counts in an entry of the event's own how often it was done.
    async fn work(
        &self,
        app: AppId,
        event: &str,
        session: &mut KvSession,
        host: &dyn HostCalls,
    ) -> Result<Answer, Fault> {
        let event: Value = serde_json::from_str(event).unwrap();
        self.given.lock().unwrap().push(Given { app, event: event.clone(), at: Instant::now() });
        let body = &event["body"];
        match body["do"].as_str().unwrap_or_default() {
            "nothing" => return Ok(Answer::Value("null".into())),
            "fail" => {
                let message = format!("no user {}", body["user"]);
                return Err(Fault::new(ErrorCode::ScriptError, message));
            }
            "fail once" if event["attempt"] == 1 => return Err(Fault::new(ErrorCode::ScriptError, "once")),
            "no handler" => return Err(Fault::new(ErrorCode::NoHandler, "no function on_message")),
            "again" => {
                let queue = QueueName::new(event["queue"].as_str().unwrap()).unwrap();
                let (body, options) = (body.to_string().into(), MessageOptions::default());
                let what = Emitted::Message { queue, body, options };
                session.emit(Emission { id: EventId::generate(), what });
            }
            "hold" => {
                self.holding.fetch_add(1, SeqCst);
                self.release.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        let key = event["id"].as_str().unwrap();
        let count = get(session, host, key).await?.map_or(0, |count| count.parse::<u64>().unwrap()) + 1;
        session.write(id(key), KvWrite::Set { value: count.to_string().into(), ttl: None });
        Ok(Answer::Value("null".into()))
    }

    /// How many events `work` was given.
    pub(crate) fn runs(&self) -> usize {
        self.given.lock().unwrap().len()
    }

    /// The events that `work` was given.
    pub(crate) fn given(&self) -> Vec<Given> {
        self.given.lock().unwrap().clone()
    }

    /// Reads a number and writes the next one.
    async fn count(&self, session: &mut KvSession, host: &dyn HostCalls) -> Result<Answer, Fault> {
        self.attempts.fetch_add(1, SeqCst);
        let number = get(session, host, "n").await?;
        let all_read = self.all_read.notified();
        match self.readers.load(SeqCst) {
            0 => {}
            1 => {
                self.readers.store(0, SeqCst);
                self.all_read.notify_waiters();
            }
            _ => {
                self.readers.fetch_sub(1, SeqCst);
                all_read.await;
            }
        }
        let next = number.map_or(0, |number| number.parse::<u64>().unwrap()) + 1;
        session.write(id("n"), KvWrite::Set { value: next.to_string().into(), ttl: None });
        Ok(text(&next.to_string()))
    }
}

async fn get(session: &mut KvSession, host: &dyn HostCalls, key: &str) -> Result<Option<Arc<str>>, Fault> {
    let entry = host.kv_get(&id(key)).await.map_err(fault)?;
    session.fetched(id(key), entry);
    Ok(session.lookup(&id(key)).unwrap())
}

/// Reads a file and writes it with one letter more.
async fn append(session: &mut KvSession, host: &dyn HostCalls, path: &str) -> Result<Answer, Fault> {
    let path = FilePath::new(path).unwrap();
    let file = host.file(&path).await.map_err(fault)?;
    session.files.fetched(path.clone(), file.clone());
    let mut content = match &file {
        Some(file) => host.file_content(file).await.map_err(fault)?.to_vec(),
        None => Vec::new(),
    };
    content.push(b'x');
    let length = content.len();
    session.files.write(path.clone(), FileWrite::set(&path, content.into(), None));
    Ok(text(&length.to_string()))
}

fn fault(error: HostError) -> Fault {
    Fault::new(error.code, error.message)
}

/// A key of the collection that the scripts use.
pub(crate) fn id(key: &str) -> KvId {
    KvId { collection: CollectionName::new("c").unwrap(), key: KvKey::new(key).unwrap() }
}

fn text(body: &str) -> Answer {
    let headers = vec![("content-type".into(), "text/plain; charset=utf-8".into())];
    Answer::Http(HttpResponse { status: 200, headers, body: body.to_owned().into() })
}

/// The request as the script saw it.
fn echo(request: &HttpRequest) -> Answer {
    let seen = json!({
        "id": request.id.to_string(),
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "params": request.params,
        "headers": request.headers,
        "body": String::from_utf8_lossy(&request.body[..request.body.len().min(1000)]),
        "bytes": request.body.len(),
        "ip": request.ip.to_string(),
    });
    let headers = vec![("content-type".into(), "application/json".into())];
    Answer::Http(HttpResponse { status: 200, headers, body: seen.to_string().into() })
}

/// The response that the request's body describes: `{"status", "headers": [[name, value]], "size" or "body"}`.
fn respond(wanted: &[u8]) -> Answer {
    let wanted: Value = serde_json::from_slice(wanted).unwrap();
    let headers = wanted["headers"].as_array().cloned().unwrap_or_default();
    let size = wanted["size"].as_u64().map(|size| "x".repeat(size as usize));
    Answer::Http(HttpResponse {
        status: wanted["status"].as_i64().unwrap_or(200),
        headers: headers
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect(),
        body: size.unwrap_or_else(|| wanted["body"].as_str().unwrap_or_default().to_owned()).into(),
    })
}
