//! A server for one test, and a client for it.

pub(crate) mod issuer;
mod name_server;
mod sandbox;

use std::{net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use picloud_core::{
    App, AppId, AppName, Confinement, InstanceRole, PrincipalId, PrincipalName, SandboxCeiling, Scope,
};
use picloud_manager::{AppAddress, Manager, ManagerConfig, OwnerToken, ensure_owner};
use picloud_store::{
    NewPrincipal, NewToken, Principal, PrincipalKind, Store, TokenHash, testing::TestDatabase,
};
use picloud_vault::{SECRET_KEYS_FILE, Vault};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use name_server::NameServer;
pub(crate) use sandbox::ScriptedNode;

/// A server with an owner, which stops with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) database: TestDatabase,
    pub(crate) node: Arc<ScriptedNode>,
    pub(crate) owner: String,
    pub(crate) manager: Manager,
    pub(crate) vault: Arc<Vault>,
    _data_dir: TempDir,
    _running: DropGuard,
}

/// What a call answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// A call to be sent.
pub(crate) struct Call {
    address: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_under(SandboxCeiling::default()).await
    }

    /// A server with another ceiling than the default one.
    pub(crate) async fn start_under(ceiling: SandboxCeiling) -> Self {
        Self::start_with(|config| config.ceiling = ceiling).await
    }

    /// A server with other settings than the default ones.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ManagerConfig)) -> Self {
        let database = TestDatabase::create().await;
        let store = database.store().await;
        let data_dir = tempfile::tempdir().unwrap();
        let state = ensure_owner(&store, data_dir.path()).await.unwrap();
        let OwnerToken::Created(path) = state else { panic!("{state}") };
        let owner = std::fs::read_to_string(path).unwrap().trim().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = ManagerConfig {
            bind: address,
            hosts: vec!["cloud.example".into()],
            ceiling: SandboxCeiling::default(),
            apps: AppAddress::Path { base: "http://127.0.0.1:8421".into() },
            trusted_proxies: Vec::new(),
            name_server: None,
            oidc: None,
            confinement: Confinement::default(),
        };
        change(&mut config);
        let node = Arc::new(ScriptedNode::default());
        let vault = Arc::new(Vault::open(&data_dir.path().join(SECRET_KEYS_FILE), &[]).unwrap());
        let sandbox = Arc::new(sandbox::ScriptedSandbox);
        let manager = Manager::new(config, store.clone(), sandbox, node.clone(), Arc::clone(&vault));
        let shutdown = CancellationToken::new();
        tokio::spawn(manager.clone().serve(listener, shutdown.clone().cancelled_owned()));
        Self {
            address,
            store,
            database,
            node,
            owner,
            manager,
            vault,
            _data_dir: data_dir,
            _running: shutdown.drop_guard(),
        }
    }

    /// A call with the owner's token.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        self.anonymous(method, path).header("authorization", &format!("Bearer {}", self.owner))
    }

    /// A call without a token.
    pub(crate) fn anonymous(&self, method: &str, path: &str) -> Call {
        Call {
            address: self.address,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: vec![("host".to_owned(), self.address.to_string())],
            body: Bytes::new(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    /// Makes an app and answers what the store has of it.
    pub(crate) async fn app(&self, name: &str) -> App {
        let answer =
            self.call("POST", "/api/v1/apps").json(&serde_json::json!({ "name": name })).send().await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let row = self.store.app_by_name(&AppName::new(name).unwrap()).await.unwrap().unwrap();
        let limits = SandboxCeiling::default().clamp(&row.limits);
        App { id: row.id, name: row.name, limits, created_at: row.created_at }
    }

    /// Uploads a script.
    pub(crate) async fn script(&self, app: &str, name: &str, source: &str) -> Answer {
        self.call("PUT", &format!("/api/v1/apps/{app}/scripts/{name}")).text(source).send().await
    }

    pub(crate) async fn owner_id(&self) -> PrincipalId {
        self.store.first_owner().await.unwrap().unwrap().id
    }

    /// A token of the owner with some scopes, and perhaps for one app only.
    pub(crate) async fn token(&self, scopes: &[Scope], app: Option<&App>) -> String {
        self.token_of(self.owner_id().await, scopes, app.map(|app| app.id)).await
    }

    /// A token of a principal with some scopes, and perhaps for one app only.
    pub(crate) async fn token_of(
        &self,
        principal: PrincipalId,
        scopes: &[Scope],
        app: Option<AppId>,
    ) -> String {
        let secret = format!("pcl_test-{}", uuid::Uuid::new_v4());
        let hash = TokenHash::of(&secret);
        let token = NewToken { name: "test".into(), hash, scopes: scopes.to_vec(), app, expires_at: None };
        self.store.create_token(principal, &token).await.unwrap();
        secret
    }

    /// A user.
    pub(crate) async fn user(&self, name: &str, role: InstanceRole) -> Principal {
        self.principal(name, PrincipalKind::User, role).await
    }

    /// A user or a service.
    pub(crate) async fn principal(&self, name: &str, kind: PrincipalKind, role: InstanceRole) -> Principal {
        let new = NewPrincipal { name: PrincipalName::new(name).unwrap(), kind, role };
        self.store.create_principal(&new).await.unwrap()
    }

    /// Sets a password, signs in with it, and answers the cookie.
    pub(crate) async fn session(&self, name: &str, password: &str) -> String {
        let path = format!("/api/v1/principals/{name}/password");
        let set = self.call("PUT", &path).json(&serde_json::json!({ "password": password })).send().await;
        assert_eq!(set.status, 204, "{set:?}");
        let answer = self.sign_in(name, password).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    /// Tries to sign in.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Answer {
        let who = serde_json::json!({ "name": name, "password": password });
        self.anonymous("POST", "/api/v1/session").json(&who).send().await
    }

    /// A call with a session's cookie, as one of this origin's pages makes it.
    pub(crate) fn by_cookie(&self, method: &str, path: &str, cookie: &str) -> Call {
        self.anonymous(method, path).header("cookie", cookie).header("sec-fetch-site", "same-origin")
    }
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(given, _)| given != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.raw_json(&value.to_string())
    }

    pub(crate) fn raw_json(self, text: &str) -> Self {
        self.body("application/json", text.to_owned())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.body("text/plain", text.to_owned())
    }

    /// Sends it and reads the head of the answer.
    pub(crate) async fn stream(self) -> hyper::Response<Incoming> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        sender.send_request(request.body(Full::new(self.body)).unwrap()).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let (parts, body) = self.stream().await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.into()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is the problem `code`, in the form that every problem has, and answers it.
    pub(crate) fn problem(&self, code: &str) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["code"], code, "{self:?}");
        assert_eq!(json["status"], self.status.as_u16(), "{self:?}");
        assert_eq!(self.header("picloud-error"), code, "{self:?}");
        assert_eq!(json["request_id"], self.header("picloud-request-id"), "{self:?}");
        assert_eq!(json["type"], format!("urn:picloud:error:{code}"), "{self:?}");
        json
    }

    /// The `field` of a list's items.
    pub(crate) fn items(&self, field: &str) -> Vec<Value> {
        let json = self.json();
        let items = json["items"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        items.iter().map(|item| item[field].clone()).collect()
    }
}
