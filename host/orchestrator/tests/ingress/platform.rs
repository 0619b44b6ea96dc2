//! A node with one app, `demo`, whose scripts are those of [`crate::scripts`].

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use picloud_core::{
    AppId, AppName, ImageKey, LimitField, LimitsPatch, MethodSet, Node as _, RoutePattern, ScriptName,
    ScriptSources,
};
use picloud_edge::Served;
use picloud_orchestrator::{Addressing, Orchestrator, OrchestratorConfig, SandboxMode};
use picloud_store::{NewRoute, NewVersion, Store, VersionCondition, testing::TestDatabase};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    client::{Answer, Client},
    scripts::{NAMES, Scripts},
};

/// Nothing here takes that long; what does, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that serves.
pub(crate) struct Platform {
    pub(crate) store: Store,
    pub(crate) node: Arc<Orchestrator>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) demo: AppId,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Served>,
}

impl Platform {
    /// A node with the defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A node with some of the defaults changed.
    pub(crate) async fn with(change: impl FnOnce(&mut OrchestratorConfig)) -> Self {
        let store = TestDatabase::create().await.store().await;
        let demo = store.create_app(&AppName::new("demo").unwrap()).await.unwrap().id;
        for name in NAMES {
            put_script(&store, demo, name).await;
        }
        let sandbox = SandboxMode { pool_mode: "on_demand", reset: "decommit" };
        let mut config = OrchestratorConfig::new(Addressing::new(None).unwrap(), sandbox);
        change(&mut config);
        let scripts = Arc::new(Scripts::default());
        let node = Orchestrator::start(config, store.clone(), Arc::clone(&scripts) as _).await.unwrap();
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
        Self { store, node, scripts, demo, address, stop: Some(stop), served }
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
        let pattern: RoutePattern = path.parse().unwrap();
        let script = ScriptName::new(script).unwrap();
        self.store.put_route(self.demo, &NewRoute { methods, pattern, script }).await.unwrap();
        self.node.app_changed(self.demo).await;
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
    let version =
        NewVersion { name, source, image, handlers: Vec::new(), imports: Vec::new(), created_by: None };
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
