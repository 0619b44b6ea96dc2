//! A node's life: start, serve, drain, stop.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{Request, body::Incoming, service::service_fn};
use picloud_core::Execute;
use picloud_edge::{ServeConfig, Served};
use picloud_egress::Egress;
use picloud_files::FileCache;
use picloud_store::{Store, StoreError};
use picloud_vault::Vault;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    OrchestratorConfig, SandboxMode,
    admission::Admission,
    directory::{self, Directory},
    dispatch::{Dispatcher, cron},
    files::Files,
    gate::Keeper,
    history::{self, History},
    host::Sources,
    ingress::Ingress,
    invoker::Invoker,
    maintenance,
    metrics::Metrics,
    runner::Runner,
};

/// How long the background tasks may take to stop; longer than the last batch of the history may.
const STOP_TIME: Duration = Duration::from_secs(15);

/// How long settling what has run may take.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// The orchestrator of a node. Stops its background tasks when dropped; [`Self::shutdown`] also waits for them.
pub struct Orchestrator {
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) store: Store,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) sandbox: SandboxMode,
    pub(crate) is_draining: AtomicBool,
    serve: ServeConfig,
    tasks: Mutex<JoinSet<()>>,
    /// Ends the taking of new events.
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Orchestrator {
    /// Loads every app, and starts what goes on in the background: following changes, storing the history,
    /// housekeeping. The store must be migrated.
    pub async fn start(
        config: OrchestratorConfig,
        store: Store,
        executor: Arc<dyn Execute>,
        vault: Arc<Vault>,
        cache: Arc<FileCache>,
        egress: Arc<Egress>,
    ) -> Result<Arc<Self>, StoreError> {
        let metrics = Arc::new(Metrics::new());
        let history = Arc::new(History::new(config.history.successes_per_second, Arc::clone(&metrics)));
        let sources = Sources {
            store: store.clone(),
            vault,
            egress,
            // A quarter of the node is left to those who call nobody, and no app has more than half of it.
            egress_places: Arc::new(Semaphore::new((config.slots * 3 / 4).max(1))),
            egress_places_of_app: (config.slots / 2).max(1),
            room: Arc::default(),
            cache: Arc::clone(&cache),
            can_mail: config.mailer.is_some(),
        };
        let files = Files { store: store.clone(), cache };
        let directory = Arc::new(Directory::new(sources, config.ceiling));
        // Listening begins before loading, so that no change falls between the two.
        let changes = store.changes().await?;
        directory.reload_all().await?;
        // Making a day's partitions locks out whoever deletes an app; better now than beside the first requests.
        store.ensure_history_days().await?;

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(directory::follow(Arc::clone(&directory), changes, stop.clone()));
        tasks.spawn(history::write(
            Arc::clone(&history),
            Arc::clone(&directory),
            store.clone(),
            stop.clone(),
        ));
        tasks.spawn(maintenance::maintain(store.clone(), config.history, config.triggers, stop.clone()));

        let keeper = Keeper::new(store.clone(), Arc::clone(&metrics));
        let runner = Runner::new(executor, store.clone());
        let invoker = Arc::new(Invoker {
            directory,
            admission: Admission::new(config.slots, config.slot_wait, metrics.waited.clone()),
            runner,
            history,
            metrics,
            slots: config.slots,
        });
        let drain = stop.child_token();
        let mailer = config.mailer.clone();
        let (dispatcher, settler) =
            Dispatcher::new(store.clone(), Arc::clone(&invoker), config.triggers, mailer);
        tasks.spawn(settler);
        tasks.spawn(Arc::clone(&dispatcher).run(drain.clone()));
        tasks.spawn(Arc::clone(&dispatcher).beat_while_working(stop.clone()));
        let directory = Arc::clone(&invoker.directory);
        tasks.spawn(cron::run(store.clone(), directory, drain.clone()));
        let told = (store.clone(), stop.clone());
        tasks.spawn(async move { told.0.tell_others(told.1).await });
        let ingress =
            Arc::new(Ingress::new(&config, Arc::clone(&invoker), Arc::clone(&dispatcher), keeper, files));
        Ok(Arc::new(Self {
            ingress,
            invoker,
            store,
            dispatcher,
            sandbox: config.sandbox,
            is_draining: AtomicBool::new(false),
            serve: config.serve,
            tasks: Mutex::new(tasks),
            drain,
            stop,
        }))
    }

    /// Serves the app listener until `shutdown` resolves and what was in flight is answered.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Served {
        let new_service = |peer: std::net::SocketAddr| {
            let (ingress, peer) = (Arc::clone(&self.ingress), peer.ip());
            service_fn(move |request: Request<Incoming>| {
                let ingress = Arc::clone(&ingress);
                // Boxed, since hyper copies a request's future several times, and this one is of kilobytes.
                Box::pin(async move { Ok::<_, Infallible>(ingress.handle(peer, request).await) })
            })
        };
        let shutdown = async {
            shutdown.await;
            self.is_draining.store(true, Relaxed);
            self.drain.cancel();
        };
        picloud_edge::serve(listener, self.serve, new_service, shutdown).await
    }

    /// Refuses new invocations, waits for those that run, stores what is left of the history, and stops. To be
    /// called when [`Self::serve`] has returned; the store is closed after it.
    pub async fn shutdown(&self) {
        self.is_draining.store(true, Relaxed);
        self.drain.cancel();
        self.invoker.admission.close();
        if timeout(self.serve.grace, self.invoker.admission.idle()).await.is_err() {
            let running = self.invoker.admission.running();
            tracing::warn!(running, "invocations outlast the grace period");
        }
        self.dispatcher.finish(SETTLE_TIME).await;
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let join = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a background task failed");
                }
            }
        };
        if timeout(STOP_TIME, join).await.is_err() {
            tracing::error!("background tasks did not stop in time");
        }
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
