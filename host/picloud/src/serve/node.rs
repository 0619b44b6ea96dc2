//! One node with everything in it: manager, orchestrator and executor in this process.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
};

use picloud_core::{Confinement, Execute, Mailer};
use picloud_executor::Executor;
use picloud_files::FileCache;
use picloud_manager::{
    AppAddress, Manager, ManagerConfig, OWNER_TOKEN_FILE, OidcConfig, OwnerToken, ensure_owner,
};
use picloud_orchestrator::{
    Addressing, HistoryConfig, Orchestrator, OrchestratorConfig, PathForm, SandboxMode,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    database::{Database, HeldDataDir},
    egress,
    mail::MailListener,
    secrets,
    signals::StopSignals,
};
use crate::{
    config::{ServeArgs, reachable},
    exit::{Exit, Failure},
    postgres::StopRequest,
    terminal::{self, GOOD},
};

/// The domain that is there without any set-up: browsers and resolvers take it for this machine.
const LOCAL_DOMAIN: &str = "localhost";

/// Both listeners, bound before anything else is started, so that a port in use is noticed at once.
struct Listeners {
    admin: TcpListener,
    admin_addr: SocketAddr,
    app: TcpListener,
    app_addr: SocketAddr,
    mail: Option<MailListener>,
}

/// Runs the node until a signal stops it.
pub(super) async fn run(
    args: ServeArgs,
    oidc: Option<OidcConfig>,
    confinement: Confinement,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let postgres = Arc::new(OnceLock::<StopRequest>::new());
    let last_words = {
        let postgres = Arc::clone(&postgres);
        move || {
            if let Some(request) = postgres.get() {
                request.send();
            }
        }
    };
    tokio::spawn(StopSignals::catch()?.watch(stop.clone(), last_words));

    let data = HeldDataDir::take(&args.database)?;
    let listeners = Listeners::bind(&args).await?;
    let database = Database::open(&args.database, &data).await?;
    if let Some(request) = database.stop_request() {
        postgres.get_or_init(|| request);
    }
    let config = ManagerConfig { oidc, ..manager_config(&args, &listeners, confinement) };
    let outcome = serve(&args, data.folder.path(), &database, listeners, config, stop).await;
    database.close().await;
    outcome
}

async fn serve(
    args: &ServeArgs,
    data_dir: &Path,
    database: &Database,
    mut listeners: Listeners,
    manager_config: ManagerConfig,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let owner = ensure_owner(&database.store, data_dir).await.map_err(cannot_start)?;
    let mut ports = vec![listeners.admin_addr.port(), listeners.app_addr.port()];
    ports.extend(listeners.mail.as_ref().map(|mail| mail.address().port()));
    let egress = egress::open(&args.egress, ports)?;
    let vault = secrets::open(&args.secret_keys, data_dir, &database.store).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    let executor = match Executor::start(args.sandbox.executor(data_dir).map_err(cannot_start)?).await {
        // Ctrl-C in a terminal reaches the compiling child as well, so that a stop may look like a failure.
        _ if stop.is_cancelled() => return Ok(()),
        executor => executor.map_err(cannot_start)?,
    };
    let sandbox = SandboxMode { pool_mode: executor.pool_mode().as_str(), reset: executor.reset().as_str() };
    let executor: Arc<dyn Execute> = Arc::new(executor);
    let mut config = orchestrator_config(args, sandbox);
    config.mailer = args.mail.relay(&args.app_domain)?.map(|relay| Arc::new(relay) as Arc<dyn Mailer>);
    let cache = data_dir.join("cache").join("files");
    let cache = FileCache::open(&cache, args.file_cache_bytes).map_err(|error| {
        cannot_start(format_args!("cannot open the cache of files {}: {error}", cache.display()))
    })?;
    let (store, vault_of_node) = (database.store.clone(), Arc::clone(&vault));
    let (for_orchestrator, cache) = (Arc::clone(&executor), Arc::new(cache));
    let orchestrator = Orchestrator::start(config, store, for_orchestrator, vault_of_node, cache, egress);
    let orchestrator = orchestrator.await.map_err(cannot_start)?;
    let manager = Manager::new(manager_config, database.store.clone(), executor, orchestrator.clone(), vault);

    let places = Places::of(args, &listeners, data_dir);
    let manager_stop = CancellationToken::new();
    let managing = tokio::spawn(manager.serve(listeners.admin, cancelled(&manager_stop)));
    let ingress = {
        let (orchestrator, stopped) = (Arc::clone(&orchestrator), cancelled(&stop));
        tokio::spawn(async move { orchestrator.serve(listeners.app, stopped).await })
    };
    let mailing = listeners.mail.take().map(|mail| mail.serve(Arc::clone(&orchestrator), stop.clone()));
    places.announce(&owner);

    // The control listener stays until the last call is over, so that the drain can be watched.
    let drained = ingress.await;
    if let Some(mailing) = mailing
        && let Err(error) = mailing.await
    {
        tracing::error!(%error, "the mail listener failed");
    }
    orchestrator.shutdown().await;
    manager_stop.cancel();
    let managed = managing.await;
    for (listener, ended) in [("app", drained), ("control", managed)] {
        let served = ended.map_err(|error| {
            Failure::new(Exit::Failed, format_args!("the {listener} listener failed: {error}"))
        })?;
        if served.cut > 0 {
            tracing::warn!(listener, connections = served.cut, "cut connections that outlasted the drain");
        }
    }
    tracing::info!("drained");
    Ok(())
}

impl Listeners {
    async fn bind(args: &ServeArgs) -> Result<Self, Failure> {
        let (admin, admin_addr) = bind("PICLOUD_ADMIN_ADDR", args.admin_addr).await?;
        let (app, app_addr) = bind("PICLOUD_APP_ADDR", args.app_addr).await?;
        let mail = MailListener::bind(args).await?;
        Ok(Self { admin, admin_addr, app, app_addr, mail })
    }
}

pub(super) async fn bind(variable: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, bound))
    };
    bound.await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another program listens there",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 are root's",
            _ => "",
        };
        let problem = format!("cannot listen on {address}: {error}{hint}. {variable} sets another address");
        Failure::new(Exit::CannotStart, problem)
    })
}

fn orchestrator_config(args: &ServeArgs, sandbox: SandboxMode) -> OrchestratorConfig {
    // All apps share an origin in the path form, so it is for machines without a domain.
    let path_form = if args.app_domain.as_str() == LOCAL_DOMAIN { PathForm::On } else { PathForm::Off };
    let addressing = Addressing { domain: args.app_domain.clone(), path_form };
    let mut config = OrchestratorConfig::new(addressing, sandbox);
    config.serve.grace = args.drain();
    config.trusted_proxies = args.trusted_proxies.as_deref().map(<[_]>::to_vec).unwrap_or_default();
    config.slots = args.sandbox.concurrency as usize;
    config.ceiling = args.sandbox.ceiling();
    config.triggers = args.triggers.0;
    config.history = HistoryConfig {
        successes_per_second: args.history_success_per_second as u32,
        days: args.history_days as u16,
        usage_days: args.usage_retention_days as u16,
        audit_days: args.audit_retention_days as u16,
    };
    config
}

fn manager_config(args: &ServeArgs, listeners: &Listeners, confinement: Confinement) -> ManagerConfig {
    let hosts = args.admin_hosts.as_deref().unwrap_or_default();
    ManagerConfig {
        bind: listeners.admin_addr,
        hosts: hosts.iter().map(ToString::to_string).collect(),
        ceiling: args.sandbox.ceiling(),
        apps: app_address(args, listeners),
        trusted_proxies: args.trusted_proxies.as_deref().map(<[_]>::to_vec).unwrap_or_default(),
        name_server: args.name_server,
        oidc: None,
        confinement,
    }
}

/// Where apps are reached: by path on this machine; under a domain, through the proxy that has its certificate.
fn app_address(args: &ServeArgs, listeners: &Listeners) -> AppAddress {
    let domain = args.app_domain.as_str();
    if domain == LOCAL_DOMAIN {
        AppAddress::Path { base: format!("http://{}", reachable(listeners.app_addr)) }
    } else {
        AppAddress::Host { scheme: "https", domain: domain.to_owned(), port: None }
    }
}

/// Where things are, for the person who started the server.
struct Places {
    control: SocketAddr,
    apps: SocketAddr,
    form: String,
    token: String,
    data: String,
    mail: Option<SocketAddr>,
}

impl Places {
    fn of(args: &ServeArgs, listeners: &Listeners, data_dir: &Path) -> Self {
        let apps = reachable(listeners.app_addr);
        let form = match args.app_domain.as_str() {
            LOCAL_DOMAIN => format!("an app at /@APP/ there, or at http://APP.localhost:{}/", apps.port()),
            domain => format!("an app at APP.{domain}, through your proxy"),
        };
        Self {
            control: reachable(listeners.admin_addr),
            apps,
            form,
            token: data_dir.join(OWNER_TOKEN_FILE).display().to_string(),
            data: data_dir.display().to_string(),
            mail: listeners.mail.as_ref().map(MailListener::address),
        }
    }

    fn announce(&self, owner: &OwnerToken) {
        match owner {
            OwnerToken::Created(_) | OwnerToken::Valid(_) => tracing::info!("{owner}"),
            OwnerToken::Stale(_) | OwnerToken::Missing(_) => tracing::warn!("{owner}"),
        }
        let ready = GOOD.paint(format_args!("PiCloud {} is ready", env!("CARGO_PKG_VERSION")));
        let Self { control, apps, form, token, data, mail } = self;
        let mail = mail.map_or_else(String::new, |mail| format!("\n  mail     {mail}"));
        let text = format!(
            "{ready}\n  control  http://{control}\n  apps     http://{apps}\n           {form}\n  token    {token}\n  data     {data}{mail}"
        );
        // A server whose standard output is closed serves all the same.
        let _ = terminal::line(text);
    }
}

fn cancelled(token: &CancellationToken) -> impl Future<Output = ()> + Send + use<> {
    token.clone().cancelled_owned()
}

fn cannot_start(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::CannotStart, error)
}
