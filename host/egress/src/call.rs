//! One call of a script: its hops, each checked, sent and recorded.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, HOST, HeaderValue, LOCATION},
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use picloud_core::{
    AppId, EgressAnswer, EgressCall, EgressEntry, EgressLog, EgressRecord, EgressRedirects, EgressRules,
    HostError, Method, SecretMask,
};

use crate::{
    AddressPolicy, ExtraRoots, Resolve, RootsError, Target,
    connect::{Connector, HEAD_BYTES, HEADERS},
    decide,
    failure::Failure,
    headers,
    pool::{Connection, Key, Pool},
    tls,
};

/// How calls are made.
pub struct EgressConfig {
    /// Which addresses scripts may reach.
    pub addresses: AddressPolicy,
    /// Authorities that are trusted beside Mozilla's.
    pub roots: ExtraRoots,
    /// Finds the addresses of names.
    pub resolver: Arc<dyn Resolve>,
}

/// Makes the calls of all apps of a node.
pub struct Egress {
    connector: Connector,
    pool: Arc<Pool>,
}

/// A request that is about to be sent.
struct Hop {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// What a request came to.
enum Outcome {
    Answer(EgressAnswer),
    Redirect { status: StatusCode, location: String },
}

impl Egress {
    /// Makes calls as the configuration has it.
    pub fn new(config: EgressConfig) -> Result<Self, RootsError> {
        let tls = tls::client_config(config.roots)?;
        Ok(Self { connector: Connector::new(config.addresses, config.resolver, tls), pool: Arc::default() })
    }

    /// Makes a call for an app with these rules, and records every request of it. It is over at the call's deadline.
    pub async fn call(
        &self,
        app: AppId,
        rules: &EgressRules,
        call: EgressCall,
        log: &EgressLog,
    ) -> Result<EgressAnswer, HostError> {
        Ok(self.follow(app, rules, call, log).await?)
    }

    async fn follow(
        &self,
        app: AppId,
        rules: &EgressRules,
        call: EgressCall,
        log: &EgressLog,
    ) -> Result<EgressAnswer, Failure> {
        let EgressCall { method, url, headers, body, redirects, response_bytes, deadline, mask } = call;
        let mut target = decide(&url, method, rules);
        let mut hop = match headers::checked(&headers) {
            Ok(headers) => Hop { method, headers, body },
            Err(failure) => {
                begin(log, &mask, method, Target::read(&url).ok().as_ref(), 0).finish(Some(failure.code()));
                return Err(failure);
            }
        };
        let mut followed = 0;
        loop {
            let checked = match target {
                Ok(checked) => checked,
                Err(refusal) => {
                    let failure = Failure::from(refusal);
                    let known = Target::read(&url).ok().filter(|_| followed == 0);
                    begin(log, &mask, hop.method, known.as_ref(), 0).finish(Some(failure.code()));
                    return Err(failure);
                }
            };
            let mut entry = begin(log, &mask, hop.method, Some(&checked), hop.body.len());
            let limits = Limits { response_bytes, deadline, redirects };
            let exchange = self.exchange(app, &checked, &hop, limits, &mut entry);
            let outcome = match tokio::time::timeout_at(deadline.into(), exchange).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::Timeout(checked.authority())),
            };
            entry.finish(outcome.as_ref().err().map(Failure::code));
            let (status, location) = match outcome? {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::Redirect { status, location } => (status, location),
            };
            if let EgressRedirects::Follow(most) = redirects
                && followed == most
            {
                let problem = format!("leads on after {most} redirects");
                return Err(Failure::failed(checked.authority(), problem));
            }
            followed += 1;
            hop.redirected(status);
            let next = checked.join(&location)?;
            if !next.is_same_origin(&checked) {
                headers::for_another_origin(&mut hop.headers);
            }
            target = match decide(next.as_str(), hop.method, rules) {
                Ok(target) => Ok(target),
                Err(refusal) => {
                    let failure = Failure::from(refusal);
                    begin(log, &mask, hop.method, Some(&next), 0).finish(Some(failure.code()));
                    return Err(failure);
                }
            };
        }
    }

    /// Sends one request and reads its answer.
    async fn exchange(
        &self,
        app: AppId,
        target: &Target,
        hop: &Hop,
        limits: Limits,
        entry: &mut EgressEntry,
    ) -> Result<Outcome, Failure> {
        let (response, mut connection) = self.send(app, target, hop, limits.deadline).await?;
        let status = response.status();
        entry.answered(status.as_u16());
        if status.is_informational() {
            return Err(Failure::failed(target.authority(), format!("answered {}", status.as_u16())));
        }
        if limits.redirects != EgressRedirects::Answer
            && is_redirect(status)
            && let Some(location) = response.headers().get(LOCATION)
        {
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            return Ok(Outcome::Redirect { status, location });
        }
        let headers = headers::to_script(response.headers());
        // The buffer that it was read into can be larger than what was asked for.
        if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > HEAD_BYTES {
            return Err(head_too_large(target));
        }
        let body = read(target, response.into_body(), limits.response_bytes, entry).await?;
        // It waits until the connection can be used again, which is at once or never.
        if connection.sender.ready().await.is_ok() {
            self.pool.put(Key::of(app, target), connection);
        }
        let url = target.as_str().to_owned();
        Ok(Outcome::Answer(EgressAnswer { status: status.as_u16(), headers, body, url }))
    }

    /// Sends a request over a waiting connection, or a new one where there is none or it was closed in between.
    async fn send(
        &self,
        app: AppId,
        target: &Target,
        hop: &Hop,
        deadline: Instant,
    ) -> Result<(Response<Incoming>, Connection), Failure> {
        if let Some(mut connection) = self.pool.take(&Key::of(app, target)) {
            let sent = connection.sender.try_send_request(hop.request(target)?).await;
            match sent {
                Ok(response) => return Ok((response, connection)),
                Err(mut failed) => {
                    let was_not_sent = failed.take_message().is_some();
                    let can_be_repeated = hop.method.is_safe() && failed.error().is_incomplete_message();
                    if !was_not_sent && !can_be_repeated {
                        return Err(no_answer(target, failed.error()));
                    }
                }
            }
        }
        let mut connection = self.connector.connect(app, target, deadline).await?;
        let sent = connection.sender.send_request(hop.request(target)?).await;
        let response = sent.map_err(|error| no_answer(target, &error))?;
        Ok((response, connection))
    }
}

/// What holds for each request of a call.
#[derive(Clone, Copy)]
struct Limits {
    response_bytes: u64,
    deadline: Instant,
    redirects: EgressRedirects,
}

impl Hop {
    fn request(&self, target: &Target) -> Result<Request<Full<Bytes>>, Failure> {
        let unsendable = || Failure::Invalid("the URL has a character that no request can have".to_owned());
        let host = HeaderValue::from_str(&target.authority()).map_err(|_| unsendable())?;
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(target.path_and_query())
            .body(Full::new(self.body.clone()))
            .map_err(|_| unsendable())?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HOST, host);
        if self.body.is_empty() && self.method.has_body() {
            // Some servers wait for a body, or refuse, where it is left out.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }

    /// The request after a redirect, as the Fetch standard has it.
    fn redirected(&mut self, status: StatusCode) {
        let becomes_get = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::Post,
            StatusCode::SEE_OTHER => !matches!(self.method, Method::Get | Method::Head),
            _ => false,
        };
        if becomes_get {
            self.method = Method::Get;
            self.body = Bytes::new();
            headers::without_body(&mut self.headers);
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Reads a body, and no byte more than may come.
async fn read(
    target: &Target,
    mut body: Incoming,
    most: u64,
    entry: &mut EgressEntry,
) -> Result<Bytes, Failure> {
    let too_large = || Failure::TooLarge {
        place: target.authority(),
        what: format!("a body of more than {most} bytes, which is this app's limit egress_bytes"),
    };
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| no_answer(target, &error))?;
        let Ok(data) = frame.into_data() else { continue };
        entry.received(data.len());
        if (whole.len() + data.len()) as u64 > most {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn head_too_large(target: &Target) -> Failure {
    let what = format!("a head of more than {} KiB or {HEADERS} headers", HEAD_BYTES >> 10);
    Failure::TooLarge { place: target.authority(), what }
}

fn no_answer(target: &Target, error: &hyper::Error) -> Failure {
    let place = target.authority();
    if error.is_parse_too_large() {
        return head_too_large(target);
    }
    let problem = if error.is_parse() {
        "did not answer as HTTP/1.1 has it"
    } else {
        "closed the connection before its answer was whole"
    };
    Failure::failed(place, problem)
}

/// Begins the record of a request.
fn begin(
    log: &EgressLog,
    mask: &SecretMask,
    method: Method,
    target: Option<&Target>,
    bytes_sent: usize,
) -> EgressEntry {
    let mut record = EgressRecord { method: method.as_str().to_owned(), ..EgressRecord::empty() };
    record.bytes_sent = bytes_sent as u64;
    if let Some(target) = target {
        record.scheme = Some(target.scheme());
        record.host = mask.text(&target.host().to_string()).into_owned();
        record.port = target.port();
        let mut path = mask.text(target.path()).into_owned();
        path.truncate(path.floor_char_boundary(EgressRecord::PATH_BYTES));
        record.path = path;
    }
    log.begin(record)
}
