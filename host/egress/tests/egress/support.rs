//! A server that answers as a test says, a resolver, and a caller.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use picloud_core::{
    AppId, BoxFuture, EgressAnswer, EgressCall, EgressLog, EgressRecord, EgressRedirects, EgressRules,
    HostError, Method, SecretMask,
};
use picloud_egress::{AddressPolicy, Egress, EgressConfig, ExtraRoots, Resolve};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

/// A server in clear. What it was sent is kept.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// What a server does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Writes these bytes and goes on with the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes the connection.
    Last(Vec<u8>),
    /// Writes these bytes, and then this part again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Writes these bytes, and then nothing.
    Silent(Vec<u8>),
}

pub(crate) fn ok(body: &str) -> Reply {
    status("200 OK", "", body)
}

pub(crate) fn status(line: &str, headers: &str, body: &str) -> Reply {
    let text = format!("HTTP/1.1 {line}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    Reply::Bytes(text.into_bytes())
}

pub(crate) fn redirect(code: u16, location: &str) -> Reply {
    status(&format!("{code} Moved"), &format!("location: {location}\r\n"), "")
}

impl Server {
    /// Answers each request by its head.
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Seen> = Arc::default();
        let (reply, kept) = (Arc::new(reply), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&reply), Arc::clone(&kept)));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Answers the requests of one connection.
pub(crate) async fn answer<S, F>(mut stream: S, reply: Arc<F>, seen: Arc<Seen>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&str) -> Reply,
{
    seen.connections.fetch_add(1, Ordering::SeqCst);
    while let Some(request) = request(&mut stream).await {
        seen.requests.lock().unwrap().push(request.clone());
        let written = match reply(&request) {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await,
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Endless(start, part) => {
                let mut written = stream.write_all(&start).await;
                while written.is_ok() {
                    written = stream.write_all(&part).await;
                }
                return;
            }
            Reply::Silent(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// A request with its body; `None` where the connection has ended.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length =
                length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
            _ => return None,
        }
    }
}

/// Names of the tests, and how often each was asked for.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    pub(crate) asked: AtomicUsize,
}

impl Names {
    /// What a name resolves to: each time the next of the answers, and then always the last.
    pub(crate) fn set(&self, name: &str, answers: &[&[&str]]) {
        let answers =
            answers.iter().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.known.lock().unwrap().insert(name.to_owned(), answers);
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut known = self.known.lock().unwrap();
        let found = known
            .get_mut(name)
            .map(|answers| if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() });
        Box::pin(std::future::ready(found.ok_or_else(|| io::ErrorKind::NotFound.into())))
    }
}

/// What calls, with a log of it.
pub(crate) struct Caller {
    pub(crate) egress: Arc<Egress>,
    pub(crate) names: Arc<Names>,
    pub(crate) app: AppId,
    pub(crate) rules: EgressRules,
    pub(crate) log: EgressLog,
}

/// The network that the servers of the tests are in.
pub(crate) const LOOPBACK: &[&str] = &["127.0.0.0/8"];

impl Caller {
    /// One that may call these places, where the operator has opened these networks.
    pub(crate) fn new(opened: &[&str], places: &[&str]) -> Self {
        Self::with(opened, &[], places, ExtraRoots::default())
    }

    pub(crate) fn with(opened: &[&str], listeners: &[u16], places: &[&str], roots: ExtraRoots) -> Self {
        let names: Arc<Names> = Arc::default();
        let opened = opened.iter().map(|network| network.parse().unwrap()).collect();
        let addresses = AddressPolicy { opened, listeners: listeners.to_vec() };
        let config = EgressConfig { addresses, roots, resolver: Arc::clone(&names) as _ };
        let mut caller = Self {
            egress: Arc::new(Egress::new(config).unwrap()),
            names,
            app: AppId::generate(),
            rules: EgressRules::default(),
            log: EgressLog::default(),
        };
        caller.allow(places);
        caller
    }

    pub(crate) fn allow(&mut self, places: &[&str]) {
        for place in places {
            self.rules.add(place.parse().unwrap()).unwrap();
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Result<EgressAnswer, HostError> {
        self.call(get(url)).await
    }

    pub(crate) async fn call(&self, call: EgressCall) -> Result<EgressAnswer, HostError> {
        self.egress.call(self.app, &self.rules, call, &self.log).await
    }

    /// The code of a call that must fail.
    #[track_caller]
    pub(crate) fn refused(result: Result<EgressAnswer, HostError>) -> &'static str {
        result.expect_err("it should have failed").code.as_str()
    }

    pub(crate) fn records(&self) -> Vec<EgressRecord> {
        self.log.take()
    }
}

pub(crate) fn get(url: &str) -> EgressCall {
    EgressCall {
        method: Method::Get,
        url: url.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        redirects: EgressRedirects::Follow(5),
        response_bytes: 1 << 20,
        deadline: Instant::now() + Duration::from_secs(10),
        mask: SecretMask::default(),
    }
}

pub(crate) fn text(answer: &EgressAnswer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}
