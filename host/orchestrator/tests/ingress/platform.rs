//! A node with one app, `demo`, whose scripts are those of [`crate::scripts`].

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use picloud_core::{
    AccessPatch, AppId, AppName, Execute, ImageKey, LimitField, LimitsPatch, MethodSet, Node as _,
    PrincipalName, RouteId, RoutePattern, Scope, ScriptName, ScriptSources, TokenId, UseKind, Uses,
};
use picloud_edge::Served;
use picloud_egress::{AddressPolicy, Egress, EgressConfig, ExtraRoots, SystemResolver};
use picloud_files::FileCache;
use picloud_orchestrator::{Addressing, Orchestrator, OrchestratorConfig, SandboxMode};
use picloud_store::{
    ExecutionFilter, NewOwner, NewRoute, NewToken, NewVersion, PageSize, PutRoute, Store, TokenHash,
    VersionCondition, testing::TestDatabase,
};
use picloud_vault::Vault;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    client::{Answer, Client},
    scripts::{NAMES, Scripts},
};

/// Nothing here takes that long; what does, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that serves.
pub(crate) struct Platform {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) node: Arc<Orchestrator>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) demo: AppId,
    pub(crate) address: SocketAddr,
    pub(crate) vault: Arc<Vault>,
    pub(crate) folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Served>,
}

fn config() -> OrchestratorConfig {
    let sandbox = SandboxMode { pool_mode: "on_demand", reset: "decommit" };
    OrchestratorConfig::new(Addressing::new(None).unwrap(), sandbox)
}

/// A node over a database, with its files below a folder.
async fn node(
    config: OrchestratorConfig,
    store: Store,
    scripts: Arc<Scripts>,
    vault: Arc<Vault>,
    folder: &std::path::Path,
) -> Arc<Orchestrator> {
    let cache = Arc::new(FileCache::open(&folder.join("files"), 64 << 20).unwrap());
    // The servers of the tests are on this machine.
    let addresses = AddressPolicy { opened: vec!["127.0.0.1".parse().unwrap()], listeners: Vec::new() };
    let egress = EgressConfig { addresses, roots: ExtraRoots::default(), resolver: Arc::new(SystemResolver) };
    let egress = Arc::new(Egress::new(egress).unwrap());
    Orchestrator::start(config, store, scripts as Arc<dyn Execute>, vault, cache, egress).await.unwrap()
}

impl Platform {
    /// Another node over the same database, which takes no requests but direct calls.
    pub(crate) async fn other_node(&self) -> Arc<Orchestrator> {
        let folder = tempfile::tempdir().unwrap();
        let (scripts, vault) = (Arc::clone(&self.scripts), Arc::clone(&self.vault));
        node(config(), self.store.clone(), scripts, vault, folder.path()).await
    }

    /// A node of another process over the same database, and its store.
    pub(crate) async fn other_process(
        &self,
        change: impl FnOnce(&mut OrchestratorConfig),
    ) -> (Arc<Orchestrator>, Store) {
        let (folder, store) = (tempfile::tempdir().unwrap(), self.database.store().await);
        let (scripts, vault) = (Arc::clone(&self.scripts), Arc::clone(&self.vault));
        let mut config = config();
        change(&mut config);
        (node(config, store.clone(), scripts, vault, folder.path()).await, store)
    }

    /// How many rows a table has; a condition may follow its name.
    pub(crate) async fn rows(&self, table: &str) -> i64 {
        self.database.number(&format!("SELECT count(*) FROM {table}")).await
    }

    /// Waits until a table has so many rows.
    pub(crate) async fn until_rows(&self, table: &str, count: i64) {
        soon(async {
            while self.rows(table).await != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// A node with the defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A node with some of the defaults changed.
    pub(crate) async fn with(change: impl FnOnce(&mut OrchestratorConfig)) -> Self {
        let database = TestDatabase::create().await;
        let store = database.store().await;
        let demo = store.create_app(&AppName::new("demo").unwrap()).await.unwrap().id;
        for name in NAMES {
            put_script(&store, demo, name).await;
        }
        let mut config = config();
        change(&mut config);
        let scripts = Arc::new(Scripts::default());
        let folder = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::open(&folder.path().join("keys"), &[]).unwrap());
        let node = node(config, store.clone(), Arc::clone(&scripts), Arc::clone(&vault), folder.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn({
            let node = Arc::clone(&node);
            async move {
                let shutdown = async {
                    let _ = stopped.await;
                };
                node.serve(listener, shutdown).await
            }
        });
        Self { database, store, node, scripts, demo, address, vault, folder, stop: Some(stop), served }
    }

    /// Sends bytes over a new connection and reads one answer, which must come.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        soon(async {
            let mut client = self.client().await;
            client.try_send(request).await;
            client.answer().await.expect("an answer")
        })
        .await
    }

    /// A request without a body to the app `demo`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: demo.localhost\r\n\r\n")).await
    }

    /// A request with a body to the app `demo`.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.raw(post(path, body)).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sets one limit of the app.
    pub(crate) async fn limit(&self, field: LimitField, value: u64) {
        let mut patch = LimitsPatch::default();
        patch.set(field, value);
        self.store.patch_limits(self.demo, &patch).await.unwrap();
        self.node.app_changed(self.demo).await;
    }

    /// Routes a path of the app to a script.
    pub(crate) async fn route(&self, methods: MethodSet, path: &str, script: &str) {
        self.guarded_route(methods, path, script, |_| {}).await;
    }

    /// Routes a path of the app to a script, and says who may call it.
    pub(crate) async fn guarded_route(
        &self,
        methods: MethodSet,
        path: &str,
        script: &str,
        guard: impl FnOnce(&mut NewRoute),
    ) -> RouteId {
        let pattern: RoutePattern = path.parse().unwrap();
        let mut route = NewRoute::new(methods, pattern, ScriptName::new(script).unwrap());
        guard(&mut route);
        let put = self.store.put_route(self.demo, &route).await.unwrap();
        self.node.app_changed(self.demo).await;
        match put {
            PutRoute::Created(route) | PutRoute::Replaced(route) => route.id,
        }
    }

    /// Sets who may call the app.
    pub(crate) async fn access(&self, settings: serde_json::Value) {
        let patch: AccessPatch = serde_json::from_value(settings).unwrap();
        self.store.patch_access(self.demo, &patch).await.unwrap();
        self.node.app_changed(self.demo).await;
    }

    /// A token of the owner.
    pub(crate) async fn token(&self, change: impl FnOnce(&mut NewToken)) -> (String, TokenId) {
        let token = |name: &str, secret: &str| NewToken {
            name: name.into(),
            hash: TokenHash::of(secret),
            scopes: Scope::ALL.to_vec(),
            app: None,
            expires_at: None,
        };
        let owner = NewOwner { name: PrincipalName::new("owner").unwrap(), token: token("first", "first") };
        self.store.create_first_owner(&owner).await.unwrap();
        let owner = self.store.first_owner().await.unwrap().unwrap().id;
        let secret = format!("pcl_{}", TokenId::generate().as_uuid().simple());
        let mut new = token("test", &secret);
        change(&mut new);
        (secret, self.store.create_token(owner, &new).await.unwrap().id)
    }

    /// A request without a body to the app `demo`, with more headers.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.raw(request(method, path, headers)).await
    }

    /// How many executions the history has once it is written.
    pub(crate) async fn executions(self) -> usize {
        let demo = self.demo;
        let (store, _) = self.finish().await;
        let size = PageSize::new(200).unwrap();
        store.executions(demo, &ExecutionFilter::default(), None, size).await.unwrap().items.len()
    }

    /// Stops accepting.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops, and waits until everything is served and stored.
    pub(crate) async fn finish(mut self) -> (Store, Served) {
        self.stop();
        let served = soon(self.served).await.unwrap();
        soon(self.node.shutdown()).await;
        (self.store, served)
    }
}

/// A request without a body to the app `demo`.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: demo.localhost\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    request + "\r\n"
}

/// A POST request to the app `demo`.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: demo.localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Stores a script; its image stands for its name.
pub(crate) async fn put_script(store: &Store, app: AppId, name: &str) {
    let name = ScriptName::new(name).unwrap();
    let source: Arc<str> = name.as_str().into();
    let sources =
        ScriptSources { name: name.clone(), source: Arc::clone(&source), libraries: BTreeMap::new() };
    let image = ImageKey::of(&sources);
    let mut uses = Uses::default();
    uses.add(UseKind::Secrets, "declared".into());
    let version =
        NewVersion { name, source, image, handlers: Vec::new(), uses, imports: Vec::new(), created_by: None };
    store.put_version(app, &version, VersionCondition::None).await.unwrap();
}

/// Waits for what must come soon.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this hangs")
}

/// Waits until something is so, without a pause: other tasks go on in between.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
