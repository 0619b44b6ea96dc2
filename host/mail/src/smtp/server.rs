use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{MailSink, SmtpConfig, peers::Peers, reply::Reply, session::Session};

/// How long to wait before accepting again where the system refuses, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all sessions share.
pub(crate) struct Shared<K> {
    pub(super) config: SmtpConfig,
    pub(crate) sink: K,
    /// Memory that is left for mails, in KiB.
    pub(super) memory: Semaphore,
    pub(super) stop: CancellationToken,
}

impl<K> Shared<K> {
    pub(crate) fn new(config: SmtpConfig, sink: K) -> Self {
        let kibibytes = (config.max_buffered_bytes / 1024).clamp(1, Semaphore::MAX_PERMITS);
        Self { config, sink, memory: Semaphore::new(kibibytes), stop: CancellationToken::new() }
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Connections that were cut because they outlasted the grace period.
    pub cut: usize,
}

/// Takes mail for `sink` until `shutdown` resolves; then stops accepting, tells those who wait `421`, lets mails that
/// are being received end within the grace period, and cuts the rest.
pub async fn serve(
    listener: TcpListener,
    config: SmtpConfig,
    sink: impl MailSink,
    shutdown: impl Future<Output = ()>,
) -> Served {
    let shared = Arc::new(Shared::new(config, sink));
    let peers = Arc::new(Peers::default());
    let mut sessions = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (socket, peer) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = sessions.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener) => accepted,
        };
        let is_full = sessions.len() >= shared.config.max_connections;
        let place = if is_full { None } else { peers.connect(peer.ip(), &shared.config) };
        let Some(place) = place else {
            // A peer that cannot take it is not waited for.
            let _ = socket.try_write(Reply::TOO_MANY_CONNECTIONS.line().as_bytes());
            continue;
        };
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            Session::new(shared, socket, peer.ip().to_canonical()).run(|| place.may_send()).await;
        });
    }
    drop(listener);
    shared.stop.cancel();
    finish(sessions, shared.config.grace).await
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

async fn finish(mut sessions: JoinSet<()>, grace: Duration) -> Served {
    let drain = async {
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
    };
    if timeout(grace, drain).await.is_ok() {
        return Served { cut: 0 };
    }
    let cut = sessions.len();
    sessions.shutdown().await;
    Served { cut }
}

/// A session that panics takes down its own connection only.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "the task of an SMTP connection panicked");
    }
}
