//! Connections that wait for the next call of the app that made them.
//!
//! Nothing here wakes up while no connection waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use picloud_core::{AppId, EgressHost, EgressScheme};
use tokio::task::JoinHandle;

use crate::Target;

/// How long a connection waits.
const IDLE: Duration = Duration::from_secs(30);

/// The most that wait for one place of an app, and in all.
const MOST_OF_A_PLACE: usize = 4;
const MOST: usize = 256;

/// A connection. Dropped, it is closed at once.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) _driver: Driver,
}

/// The task that moves a connection's bytes.
pub(crate) struct Driver(pub(crate) JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whose connection it is, and where it leads. The app is part of it, so that no app uses another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    app: AppId,
    scheme: EgressScheme,
    host: EgressHost,
    port: u16,
}

impl Key {
    pub(crate) fn of(app: AppId, target: &Target) -> Self {
        Self { app, scheme: target.scheme(), host: target.host().clone(), port: target.port() }
    }
}

/// The waiting connections of a node.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    by_key: HashMap<Key, Vec<Idle>>,
    count: usize,
    /// Whether a task is there that closes what waits too long.
    is_swept: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection that waits since the shortest time, if it is not closed.
    pub(crate) fn take(&self, key: &Key) -> Option<Connection> {
        let mut waiting = self.lock();
        loop {
            let idle = waiting.by_key.get_mut(key)?.pop();
            let Some(idle) = idle else {
                waiting.by_key.remove(key);
                return None;
            };
            waiting.count -= 1;
            if idle.connection.sender.is_ready() && idle.since.elapsed() < IDLE {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn put(self: &Arc<Self>, key: Key, connection: Connection) {
        let mut waiting = self.lock();
        let of_place = waiting.by_key.get(&key).map_or(0, Vec::len);
        if waiting.count >= MOST || of_place >= MOST_OF_A_PLACE || connection.sender.is_closed() {
            return;
        }
        waiting.count += 1;
        waiting.by_key.entry(key).or_default().push(Idle { connection, since: Instant::now() });
        if !waiting.is_swept {
            waiting.is_swept = true;
            tokio::spawn(sweep(Arc::clone(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what has waited too long, until nothing waits.
async fn sweep(pool: Arc<Pool>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let mut waiting = pool.lock();
        let mut count = 0;
        waiting.by_key.retain(|_, idle| {
            idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.connection.sender.is_closed());
            count += idle.len();
            !idle.is_empty()
        });
        waiting.count = count;
        if count == 0 {
            waiting.is_swept = false;
            return;
        }
    }
}
