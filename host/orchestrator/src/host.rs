//! What an app's invocations may ask of the platform: sources, other scripts, committed kv entries.

use std::sync::Arc;

use picloud_core::{
    AppId, BoxFuture, Callee, ErrorCode, HostCalls, HostError, ImageKey, KvEntry, KvId, KvListQuery,
    KvListed, ScriptName, ScriptSources,
};
use picloud_store::{Store, StoreError};

use crate::directory::{ScriptEntry, Scripts};

/// The platform as one app's scripts see it. The app is fixed here; no call names one.
pub(crate) struct AppHost {
    app: AppId,
    store: Store,
    scripts: Arc<Scripts>,
}

impl AppHost {
    pub(crate) fn new(app: AppId, store: Store, scripts: Arc<Scripts>) -> Self {
        Self { app, store, scripts }
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
        | StoreError::RouteTwice { .. } => (ErrorCode::AlreadyExists, error.to_string()),
        StoreError::LastOwner => (ErrorCode::LastOwner, error.to_string()),
        StoreError::InUse { .. } => (ErrorCode::ScriptInUse, error.to_string()),
        StoreError::LibraryGone { .. } => (ErrorCode::CompileError, error.to_string()),
        StoreError::Conflict => (ErrorCode::Conflict, error.to_string()),
        StoreError::Invalid(_) => (ErrorCode::Invalid, error.to_string()),
        StoreError::Incompatible(_) | StoreError::Database(_) => {
            tracing::error!(%error, "the database failed");
            (ErrorCode::Internal, "the platform failed; its log says how".into())
        }
    }
}
