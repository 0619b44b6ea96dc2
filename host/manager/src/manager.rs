//! The control plane as a server: what happens to a request before and after its handler.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery},
    response::IntoResponse as _,
};
use hyper::{body::Incoming, service::service_fn};
use picloud_core::{ErrorCode, Execute, Node, RequestId};
use picloud_edge::{Client, PICLOUD_REQUEST_ID, ServeConfig, Served, request_id_value};
use picloud_store::Store;
use picloud_vault::Vault;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::{
    audit::ClientAddress,
    authenticate::authenticate,
    config::ManagerConfig,
    context::Context,
    endpoints,
    error::ApiError,
    fold::{fold_names, is_well_encoded},
    guard::HostGuard,
};

/// A body that is larger than this may still be on its way when a request is refused.
const UNREAD_BYTES: u64 = 64 * 1024;

/// The control plane. A clone is a pointer.
#[derive(Clone)]
pub struct Manager {
    context: Context,
    guard: Arc<HostGuard>,
    router: Router,
    open_calls: Arc<[(&'static str, &'static str)]>,
}

impl Manager {
    /// Caps and timers of the control listener: few clients, but uploads and streams.
    pub fn serve_config() -> ServeConfig {
        ServeConfig { max_connections: 512, ..ServeConfig::default() }
    }

    /// Makes it from its settings and what it works with.
    pub fn new(
        config: ManagerConfig,
        store: Store,
        executor: Arc<dyn Execute>,
        node: Arc<dyn Node>,
        vault: Arc<Vault>,
    ) -> Self {
        let guard = Arc::new(HostGuard::new(config.bind, &config.hosts));
        let context = Context::new(config, store, executor, node, vault);
        let router = endpoints::router(context.clone());
        Self { context, guard, router, open_calls: endpoints::open_calls().into() }
    }

    /// Serves `listener` until `shutdown` resolves; then ends streams, and lets what is in flight finish.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Served {
        let streams = self.context.shutdown.clone();
        let shutdown = async move {
            shutdown.await;
            streams.cancel();
        };
        let new_service = |peer: SocketAddr| {
            let manager = self.clone();
            service_fn(move |request: Request<Incoming>| {
                let manager = manager.clone();
                async move { Ok::<_, Infallible>(manager.respond(peer.ip(), request.map(Body::new)).await) }
            })
        };
        let served = picloud_edge::serve(listener, Self::serve_config(), new_service, shutdown).await;
        self.context.audits.close();
        self.context.audits.wait().await;
        served
    }

    /// Answers one request that came from the address `peer`. Every answer has `picloud-request-id`; every error is `application/problem+json`.
    pub async fn respond(&self, peer: IpAddr, mut request: Request<Body>) -> Response<Body> {
        let id = RequestId::generate();
        request.extensions_mut().insert(id);
        let client = Client::of(peer, request.headers(), &self.context.config.trusted_proxies);
        request.extensions_mut().insert(ClientAddress(client.ip));
        let path = request.uri().path().to_owned();
        let may_be_unread = may_be_unread(request.body());
        let mut response = match self.admit(&mut request).await {
            Ok(()) => self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
            Err(error) => error.into_response(),
        };
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            let problem = error.into_problem().request_id(id).instance(path);
            let problem = if may_be_unread { problem.close() } else { problem };
            let allow = response.headers_mut().remove(header::ALLOW);
            response = problem.into_response();
            response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
        }
        self.context.metrics.count(response.status());
        let headers = response.headers_mut();
        headers.insert(PICLOUD_REQUEST_ID, request_id_value(id));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }

    /// What must hold before any handler is looked for. Whatever is not listed as open needs a token, also
    /// what does not exist.
    async fn admit(&self, request: &mut Request<Body>) -> Result<(), ApiError> {
        self.guard.check(request)?;
        if !self.is_open(request) {
            let caller = authenticate(&self.context.store, request.method(), request.headers()).await?;
            request.extensions_mut().insert(caller);
        }
        if !is_well_encoded(request.uri().path()) {
            let detail =
                "the path has a % without two hexadecimal digits behind it; write %25 for a % itself";
            return Err(ApiError::new(ErrorCode::BadRequest, detail));
        }
        if let Some(folded) = fold_names(request.uri().path()) {
            *request.uri_mut() = with_path(request.uri(), &folded)
                .map_err(|_| ApiError::new(ErrorCode::BadRequest, "the path is malformed"))?;
        }
        Ok(())
    }

    /// Whether a call needs nobody's token. Another method of such a path is answered 405 to those who have one.
    fn is_open(&self, request: &Request<Body>) -> bool {
        let method = match request.method().as_str() {
            "HEAD" => "GET",
            other => other,
        };
        self.open_calls.contains(&(method, request.uri().path()))
    }
}

/// Whether a refusal may be answered while the body is still on its way.
fn may_be_unread(body: &Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact().is_none_or(|bytes| bytes > UNREAD_BYTES)
}

fn with_path(uri: &Uri, path: &str) -> Result<Uri, axum::http::Error> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target)?);
    Ok(Uri::from_parts(parts)?)
}
