//! The accept loop: a listener, a service for each connection, and a shutdown.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use picloud_core::ErrorCode;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Problem,
    exchange::{Exchange, Tracked},
    stream::{GuardedStream, StreamTimes},
};

/// How long to wait before accepting again where the system refuses, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least that hyper allows as the most bytes of a head.
const LEAST_HEAD_BYTES: usize = 8 * 1024;

/// The most that HTTP/2 keeps of answers that a client does not take, in bytes for each stream.
const HTTP2_SEND_BYTES: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Caps and timers of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeConfig {
    /// Connections at once; more are answered 503 and closed.
    pub max_connections: usize,
    /// The most bytes of a request's head; at least 8 KiB.
    pub max_head_bytes: usize,
    /// HTTP/2 streams of one connection at once.
    pub max_streams: u32,
    /// For a whole head, from its first byte.
    pub head_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Without the client taking any byte of an answer.
    pub write_timeout: Duration,
    /// For what is in flight at shutdown.
    pub grace: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_head_bytes: 64 * 1024,
            max_streams: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Connections that were cut because they outlasted the grace period.
    pub cut: usize,
}

/// Serves HTTP/1.1 and HTTP/2 without TLS until `shutdown` resolves; then stops accepting, lets what is in
/// flight finish within the grace period, and cuts the rest.
///
/// `new_service` makes the service of a connection from its peer's address. A connection's service is not
/// called for requests that are malformed, ambiguous about their length, or of methods that nobody routes.
pub async fn serve<S, B>(
    listener: TcpListener,
    config: ServeConfig,
    new_service: impl Fn(SocketAddr) -> S,
    shutdown: impl Future<Output = ()>,
) -> Served
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + From<Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let builder = Arc::new(builder(&config));
    let times =
        StreamTimes { head: config.head_timeout, idle: config.idle_timeout, write: config.write_timeout };
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (socket, peer) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener) => accepted,
        };
        if connections.len() >= config.max_connections {
            refuse(&socket);
            continue;
        }
        let service = new_service(peer);
        connections.spawn(connection(socket, service, Arc::clone(&builder), times, graceful.watcher()));
    }
    drop(listener);
    finish(connections, graceful, config.grace).await
}

fn builder(config: &ServeConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The stream has its own timer for heads.
        .header_read_timeout(None)
        .max_buf_size(config.max_head_bytes.max(LEAST_HEAD_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .keep_alive_interval(None);
    builder
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Says in one write that there are too many connections. A peer that cannot take it is not waited for.
fn refuse(socket: &TcpStream) {
    let problem = Problem::new(ErrorCode::NodeBusy).detail("the node has too many connections");
    let _ = socket.try_write(&problem.into_http1());
}

async fn connection<S, B>(
    socket: TcpStream,
    service: S,
    builder: Arc<auto::Builder<TokioExecutor>>,
    times: StreamTimes,
    watcher: Watcher,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + From<Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let exchange = Arc::new(Exchange::default());
    let stream = GuardedStream::new(socket, Arc::clone(&exchange), times);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut serving = exchange.begin();
        let outcome = match exchange.refusal(&request) {
            Some(problem) => Err(problem),
            None => Ok(service.call(request)),
        };
        async move {
            let response = match outcome {
                Ok(answer) => answer.await?,
                Err(problem) => problem.into_response(),
            };
            serving.answer(&response);
            Ok::<_, S::Error>(response.map(|body| Tracked::new(body, serving)))
        }
    });
    if let Err(error) = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await {
        // Malformed requests and peers that go away are the network's daily life.
        tracing::debug!(error, "a connection ended early");
    }
}

async fn finish(mut connections: JoinSet<()>, graceful: GracefulShutdown, grace: Duration) -> Served {
    let drain = async {
        graceful.shutdown().await;
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(grace, drain).await.is_ok() {
        return Served { cut: 0 };
    }
    let cut = connections.len();
    connections.shutdown().await;
    Served { cut }
}

/// A service that panics takes down its own connection only.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
