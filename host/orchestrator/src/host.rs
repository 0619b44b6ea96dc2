//! What an app's invocations may ask of the platform: sources, other scripts, committed kv entries, files, secrets,
//! variables, other services over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use picloud_core::{
    AppId, BoxFuture, Callee, EgressAnswer, EgressCall, EgressLog, EgressRules, ErrorCode, FileList,
    FileListQuery, FilePath, HostCalls, HostError, ImageKey, KvEntry, KvId, KvListQuery, KvListed,
    ScriptName, ScriptSources, SecretName, SecretPlace, SecretValue, StoredFile, VariableName,
};
use picloud_egress::Egress;
use picloud_files::FileCache;
use picloud_store::{Store, StoreError};
use picloud_vault::{Vault, VaultError};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    directory::{ScriptEntry, Scripts},
    files::Files,
    values::{Room, Values},
};

/// The platform as one app's scripts see it. The app is fixed here; no call names one.
pub(crate) struct AppHost {
    app: AppId,
    store: Store,
    scripts: Arc<Scripts>,
    vault: Arc<Vault>,
    egress: Arc<Egress>,
    egress_turns: EgressTurns,
    egress_rules: EgressRules,
    can_mail: bool,
    secrets: Values<SecretName, SecretValue>,
    variables: Values<VariableName, str>,
    files: Files,
}

/// What the hosts of all apps share.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) egress: Arc<Egress>,
    /// Places for calls to other services, of all apps and of each.
    pub(crate) egress_places: Arc<Semaphore>,
    pub(crate) egress_places_of_app: usize,
    pub(crate) room: Arc<Room>,
    pub(crate) cache: Arc<FileCache>,
    /// Whether there is anything that sends e-mails.
    pub(crate) can_mail: bool,
}

/// How many calls may wait for other services at once. An invocation that waits holds its place on the node: without
/// a bound, services that are slow would keep the apps that call nobody from running.
struct EgressTurns {
    of_all: Arc<Semaphore>,
    of_app: Semaphore,
}

impl EgressTurns {
    fn take(&self) -> Result<[SemaphorePermit<'_>; 2], HostError> {
        let busy = |whose: &str| {
            let message = format!(
                "http: {whose} waits for as many answers of other services as it may; try again later"
            );
            HostError::new(ErrorCode::NodeBusy, message)
        };
        let of_app = self.of_app.try_acquire().map_err(|_| busy("this app"))?;
        Ok([of_app, self.of_all.try_acquire().map_err(|_| busy("the node"))?])
    }
}

impl AppHost {
    pub(crate) fn new(
        app: AppId,
        sources: Sources,
        scripts: Arc<Scripts>,
        egress_rules: EgressRules,
    ) -> Self {
        let Sources { store, vault, egress, egress_places, egress_places_of_app, room, cache, can_mail } =
            sources;
        let egress_turns =
            EgressTurns { of_all: egress_places, of_app: Semaphore::new(egress_places_of_app) };
        let files = Files { store: store.clone(), cache };
        let (secrets, variables) = (Values::new(Arc::clone(&room)), Values::new(room));
        Self {
            app,
            store,
            scripts,
            vault,
            egress,
            egress_turns,
            egress_rules,
            can_mail,
            secrets,
            variables,
            files,
        }
    }

    async fn find_secret(&self, name: &SecretName) -> Result<Option<Arc<SecretValue>>, HostError> {
        let stored = self.store.secret(self.app, name).await.map_err(|error| host_error(&error))?;
        let Some(stored) = stored else { return Ok(None) };
        let place = SecretPlace { app: self.app, name, version: stored.version };
        match self.vault.unseal(place, &stored.sealed) {
            Ok(value) => Ok(Some(Arc::new(value))),
            Err(error) => Err(unreadable(name, &error)),
        }
    }

    async fn find_variable(&self, name: &VariableName) -> Result<Option<Arc<str>>, HostError> {
        let found = self.store.variable(self.app, name).await.map_err(|error| host_error(&error))?;
        Ok(found.map(|variable| variable.value))
    }
}

impl HostCalls for AppHost {
    fn sources(&self, image: ImageKey) -> BoxFuture<'_, Result<ScriptSources, HostError>> {
        Box::pin(async move {
            let sources = self.store.image_sources(self.app, image).await;
            sources.map_err(|error| host_error(&error))?.ok_or_else(|| {
                // The version was deleted between routing and now.
                HostError::new(
                    ErrorCode::ScriptNotFound,
                    "this version of the script does not exist any more",
                )
            })
        })
    }

    fn callee<'a>(&'a self, name: &'a ScriptName) -> BoxFuture<'a, Result<Option<Callee>, HostError>> {
        let callee = self.scripts.get(name).map(|script| ScriptEntry::callee(script));
        Box::pin(std::future::ready(Ok(callee)))
    }

    fn kv_get<'a>(&'a self, id: &'a KvId) -> BoxFuture<'a, Result<Option<KvEntry>, HostError>> {
        Box::pin(async move { self.store.kv_get(self.app, id).await.map_err(|error| host_error(&error)) })
    }

    fn kv_list<'a>(&'a self, query: &'a KvListQuery) -> BoxFuture<'a, Result<Vec<KvListed>, HostError>> {
        Box::pin(async move { self.store.kv_list(self.app, query).await.map_err(|error| host_error(&error)) })
    }

    fn file<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Option<StoredFile>, HostError>> {
        Box::pin(async move { self.store.file(self.app, path).await.map_err(|error| host_error(&error)) })
    }

    fn file_content<'a>(&'a self, file: &'a StoredFile) -> BoxFuture<'a, Result<Bytes, HostError>> {
        Box::pin(async move {
            let found = self.files.content(self.app, file.hash).await.map_err(|error| host_error(&error))?;
            let replaced = || HostError::new(ErrorCode::Conflict, "the file was changed while it was read");
            found.ok_or_else(replaced)?.bytes().await.map_err(|error| {
                tracing::error!(%error, app = %self.app, hash = %file.hash, "a file cannot be read");
                HostError::new(ErrorCode::Internal, "the platform failed; its log says how")
            })
        })
    }

    fn file_list<'a>(&'a self, query: &'a FileListQuery) -> BoxFuture<'a, Result<FileList, HostError>> {
        Box::pin(
            async move { self.store.file_list(self.app, query).await.map_err(|error| host_error(&error)) },
        )
    }

    fn secret<'a>(
        &'a self,
        script: &'a ScriptName,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Arc<SecretValue>, HostError>> {
        Box::pin(async move {
            if !self.scripts.get(script).is_some_and(|script| script.secrets.contains(name)) {
                return Err(not_declared(script, name));
            }
            let size = |value: &SecretValue| value.expose().len();
            let found = self.secrets.get(name, size, self.find_secret(name)).await?;
            found.ok_or_else(|| {
                let message =
                    format!("the secret \"{name}\" is not set; `picloud secret set {name}` sets it");
                HostError::new(ErrorCode::SecretNotFound, message)
            })
        })
    }

    fn variable<'a>(&'a self, name: &'a VariableName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(self.variables.get(name, str::len, self.find_variable(name)))
    }

    fn can_mail(&self) -> bool {
        self.can_mail
    }

    fn http<'a>(
        &'a self,
        call: EgressCall,
        log: &'a EgressLog,
    ) -> BoxFuture<'a, Result<EgressAnswer, HostError>> {
        Box::pin(async move {
            let _places = self.egress_turns.take()?;
            self.egress.call(self.app, &self.egress_rules, call, log).await
        })
    }
}

/// A script is given only what its source names, so that its uploader and whoever reads it can see what that is.
fn not_declared(script: &ScriptName, name: &SecretName) -> HostError {
    let message = format!(
        "the script \"{script}\" does not declare the secret \"{name}\": write the name as text in the call, \
         secret::get(\"{name}\"), or declare it at the top level, const SECRETS = [\"{name}\"], and upload it again"
    );
    HostError::new(ErrorCode::SecretNotDeclared, message)
}

/// A secret that is there and cannot be decrypted. Where the key file is, is for the platform's log.
fn unreadable(name: &SecretName, error: &VaultError) -> HostError {
    tracing::error!(%error, secret = %name, "a secret cannot be decrypted");
    let why = match error {
        VaultError::UnknownKey { key, .. } => format!(
            "it is encrypted with the key {key}, which this node does not have; its operator has to put the key back"
        ),
        _ => "the platform's log says why".to_owned(),
    };
    let message = format!("the secret \"{name}\" cannot be decrypted: {why}, or set it anew");
    HostError::new(ErrorCode::SecretUnreadable, message)
}

/// A failure of the store as a script may see it. What is for the platform's own log goes there.
fn host_error(error: &StoreError) -> HostError {
    let (code, message) = describe(error);
    HostError::new(code, message)
}

/// The code of a failure of the store, and what may be said about it.
pub(crate) fn describe(error: &StoreError) -> (ErrorCode, String) {
    match error {
        StoreError::Unavailable(_) => {
            tracing::debug!(%error, "the database does not answer");
            (ErrorCode::DatabaseUnavailable, "the database does not answer".into())
        }
        StoreError::NotFound { what: "app" } => (ErrorCode::AppNotFound, error.to_string()),
        StoreError::NotFound { .. } => (ErrorCode::NotFound, error.to_string()),
        StoreError::AlreadyExists { .. }
        | StoreError::RouteOverlaps { .. }
        | StoreError::RouteTwice { .. }
        | StoreError::QueueTaken { .. }
        | StoreError::AddressTaken { .. } => (ErrorCode::AlreadyExists, error.to_string()),
        StoreError::LastOwner => (ErrorCode::LastOwner, error.to_string()),
        StoreError::InUse { .. } => (ErrorCode::ScriptInUse, error.to_string()),
        StoreError::LibraryGone { .. } => (ErrorCode::CompileError, error.to_string()),
        StoreError::NotGranted { .. } => (ErrorCode::NotGranted, error.to_string()),
        StoreError::FileQuota { .. } => (ErrorCode::FileQuota, error.to_string()),
        StoreError::OutboxFull { .. } => (ErrorCode::OutboxFull, error.to_string()),
        StoreError::KeysFull { .. } => (ErrorCode::KeysFull, error.to_string()),
        StoreError::MailQuota { .. } => (ErrorCode::MailQuota, error.to_string()),
        StoreError::Conflict => (ErrorCode::Conflict, error.to_string()),
        StoreError::TooLarge(_) => (ErrorCode::TooLarge, error.to_string()),
        StoreError::Invalid(_) => (ErrorCode::Invalid, error.to_string()),
        StoreError::Incompatible(_) | StoreError::Database(_) => {
            tracing::error!(%error, "the database failed");
            (ErrorCode::Internal, "the platform failed; its log says how".into())
        }
    }
}
