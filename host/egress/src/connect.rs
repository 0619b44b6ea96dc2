//! From a target to a connection: resolve, check each address, connect to the one that was checked.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use picloud_core::{AppId, EgressHost, EgressScheme};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::{
    AddressPolicy, Ownership, Resolve, Target,
    failure::Failure,
    own::OwnAddresses,
    pool::{Connection, Driver},
};

/// Names that are looked up at once, in all and for one app. A look-up goes on after the call that wanted it has ended.
const LOOKUPS: usize = 32;
const LOOKUPS_OF_AN_APP: usize = 4;

/// The most addresses of a name that are looked at.
const ADDRESSES: usize = 16;

/// The least time for one of several addresses.
const LEAST_TIME: Duration = Duration::from_millis(250);

/// An answer's head may have so many bytes and headers.
pub(crate) const HEAD_BYTES: usize = 64 << 10;
pub(crate) const HEADERS: usize = 100;

/// Makes connections.
pub(crate) struct Connector {
    policy: AddressPolicy,
    own: OwnAddresses,
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
    /// Of the apps that look something up now.
    lookups_of_apps: Mutex<HashMap<AppId, Weak<Semaphore>>>,
}

impl Connector {
    pub(crate) fn new(policy: AddressPolicy, resolver: Arc<dyn Resolve>, tls: Arc<ClientConfig>) -> Self {
        Self {
            policy,
            own: OwnAddresses::default(),
            resolver,
            tls: TlsConnector::from(tls),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            lookups_of_apps: Mutex::default(),
        }
    }

    /// A new connection to a target. What waits here is ended by the caller at `deadline`, which is known here only to
    /// divide the time among several addresses.
    pub(crate) async fn connect(
        &self,
        app: AppId,
        target: &Target,
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let addresses = self.permitted(self.addresses(app, target).await?);
        if addresses.is_empty() {
            return Err(Failure::Address(target.host().to_string()));
        }
        let stream = self.reach(target, &addresses, deadline).await?;
        // Small requests would otherwise wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        match target.scheme() {
            EgressScheme::Http => handshake(target, stream).await,
            EgressScheme::Https => {
                let name = match target.host() {
                    EgressHost::Ip(ip) => ServerName::IpAddress((*ip).into()),
                    host => ServerName::try_from(host.to_string()).map_err(|_| {
                        Failure::failed(target.authority(), "has no name that TLS could check")
                    })?,
                };
                let stream = self.tls.connect(name, stream).await;
                let stream = stream.map_err(|error| {
                    Failure::failed(target.authority(), format!("gave no secure connection: {error}"))
                })?;
                handshake(target, stream).await
            }
        }
    }

    async fn addresses(&self, app: AppId, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
        let port = target.port();
        let name = match target.host() {
            EgressHost::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
            host => host.to_string(),
        };
        let (of_app, of_all) = (self.lookups_of(app), Arc::clone(&self.lookups));
        let resolver = Arc::clone(&self.resolver);
        // A task of its own, so that its place is held until the look-up itself has ended.
        let found = tokio::spawn(async move {
            let _of_app = of_app.acquire_owned().await;
            let _of_all = of_all.acquire_owned().await;
            resolver.resolve(&name).await
        });
        match found.await {
            Ok(Ok(found)) => {
                Ok(found.into_iter().take(ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect())
            }
            Ok(Err(_)) => {
                Err(Failure::failed(target.host().to_string(), "is a name that no address was found for"))
            }
            Err(_) => Err(Failure::failed(target.host().to_string(), "could not be looked up")),
        }
    }

    fn lookups_of(&self, app: AppId) -> Arc<Semaphore> {
        let mut apps = self.lookups_of_apps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = apps.get(&app).and_then(Weak::upgrade) {
            return known;
        }
        apps.retain(|_, semaphore| semaphore.strong_count() > 0);
        let new = Arc::new(Semaphore::new(LOOKUPS_OF_AN_APP));
        apps.insert(app, Arc::downgrade(&new));
        new
    }

    fn permitted(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let is_permitted = |address: &SocketAddr| self.policy.permits(*address, self.own.of(address.ip()));
        addresses.into_iter().filter(is_permitted).collect()
    }

    /// Connects to the first of some checked addresses that answers.
    async fn reach(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, Failure> {
        let mut problem = String::from("did not accept a connection in time");
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (addresses.len() - index) as u32;
            match timeout(share.max(LEAST_TIME), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.check_peer(target, *address, &stream)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => problem = format!("cannot be reached: {}", error.kind()),
                Err(_) => {}
            }
        }
        Err(Failure::failed(target.authority(), problem))
    }

    /// A connection whose two ends have one address leads to this machine, whatever its interfaces are said to have.
    fn check_peer(&self, target: &Target, address: SocketAddr, stream: &TcpStream) -> Result<(), Failure> {
        let near: Option<IpAddr> = stream.local_addr().ok().map(|near| near.ip().to_canonical());
        let leads_here = near.is_none_or(|near| near == address.ip().to_canonical());
        if leads_here && !self.policy.permits(address, Ownership::Own) {
            return Err(Failure::Address(target.host().to_string()));
        }
        Ok(())
    }
}

async fn handshake<S>(target: &Target, stream: S) -> Result<Connection, Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let made =
        http1::Builder::new().max_buf_size(HEAD_BYTES).max_headers(HEADERS).handshake(TokioIo::new(stream));
    let (sender, connection) =
        made.await.map_err(|_| Failure::failed(target.authority(), "gave no connection for HTTP"))?;
    let driver = tokio::spawn(async move {
        // Whoever waits for the answer gets the error as well.
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: Driver(driver) })
}
