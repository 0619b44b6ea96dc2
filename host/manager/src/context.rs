//! What every handler works with.

use std::sync::Arc;

use picloud_core::{App, AppId, AppName, ErrorCode, Execute, Node};
use picloud_store::{AppRow, Store};
use picloud_vault::Vault;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::ManagerConfig, domain_proof::DomainProofs, error::ApiError, health::ApiMetrics, oidc::Oidc,
    password::Passwords, sign_in_limiter::SignInLimiter, store_error::from_store, turns::BuildTurns,
};

/// Shared by all requests; a clone is a pointer.
#[derive(Clone)]
pub(crate) struct Context(Arc<Parts>);

/// The parts of a [`Context`].
pub(crate) struct Parts {
    /// The settings.
    pub(crate) config: ManagerConfig,
    /// The database.
    pub(crate) store: Store,
    /// Builds scripts.
    pub(crate) executor: Arc<dyn Execute>,
    /// The node beside this control plane.
    pub(crate) node: Arc<dyn Node>,
    /// Encrypts secrets.
    pub(crate) vault: Arc<Vault>,
    /// Counts answers.
    pub(crate) metrics: ApiMetrics,
    /// Held from reading limits or access settings to replacing them, so that `If-Match` compares with what is replaced. There is
    /// one manager for all nodes.
    pub(crate) limits_turn: Mutex<()>,
    /// Whose script is compiled next.
    pub(crate) builds: BuildTurns,
    /// Checks passwords, a few at once.
    pub(crate) passwords: Passwords,
    /// Who has failed to sign in too often.
    pub(crate) sign_ins: SignInLimiter,
    /// Signs users in by way of an issuer, where one is set.
    pub(crate) oidc: Option<Oidc>,
    /// Looks for the proofs of hosts.
    pub(crate) domain_proofs: DomainProofs,
    /// Entries of the audit log that are being written.
    pub(crate) audits: TaskTracker,
    /// How many clients may follow logs at once.
    pub(crate) followers: Arc<Semaphore>,
    /// Cancelled when the listener shuts down, so that streams end.
    pub(crate) shutdown: CancellationToken,
}

impl std::ops::Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Context {
    /// Clients that follow logs at once; each costs a connection and a look-up per new batch.
    const MAX_FOLLOWERS: usize = 64;

    pub(crate) fn new(
        config: ManagerConfig,
        store: Store,
        executor: Arc<dyn Execute>,
        node: Arc<dyn Node>,
        vault: Arc<Vault>,
    ) -> Self {
        let domain_proofs = DomainProofs::new(config.name_server);
        let oidc = config.oidc.clone().map(Oidc::new);
        Self(Arc::new(Parts {
            config,
            store,
            executor,
            node,
            vault,
            metrics: ApiMetrics::default(),
            limits_turn: Mutex::new(()),
            builds: BuildTurns::default(),
            passwords: Passwords::default(),
            sign_ins: SignInLimiter::default(),
            oidc,
            domain_proofs,
            audits: TaskTracker::new(),
            followers: Arc::new(Semaphore::new(Self::MAX_FOLLOWERS)),
            shutdown: CancellationToken::new(),
        }))
    }

    /// The app of this name, with the limits in force.
    pub(crate) async fn app(&self, name: &AppName) -> Result<App, ApiError> {
        self.find_app(name).await?.ok_or_else(|| app_not_found(name))
    }

    /// The app of this name, with the limits in force, if there is one.
    pub(crate) async fn find_app(&self, name: &AppName) -> Result<Option<App>, ApiError> {
        let row = self.store.app_by_name(name).await.map_err(from_store)?;
        Ok(row.map(|row| self.in_force(row)))
    }

    /// An app with the limits in force: what it sets, cut to the ceiling.
    pub(crate) fn in_force(&self, row: AppRow) -> App {
        let limits = self.config.ceiling.clamp(&row.limits);
        App { id: row.id, name: row.name, limits, created_at: row.created_at }
    }

    /// Makes a change of an app visible: when this returns, the next request on this node sees it. Other
    /// processes hear of it from the database.
    pub(crate) async fn app_changed(&self, app: AppId) {
        self.node.app_changed(app).await;
    }
}

pub(crate) fn app_not_found(name: &AppName) -> ApiError {
    ApiError::new(ErrorCode::AppNotFound, format!("no app \"{name}\""))
}
