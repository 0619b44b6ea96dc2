//! The files of apps: rows from the database, contents from the node's cache.

use std::sync::Arc;

use picloud_core::{AppId, FileHash, FileListed, FilePath};
use picloud_files::{Compression, Content, FileCache};
use picloud_store::{Store, StoreError};

/// Where files come from.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) store: Store,
    pub(crate) cache: Arc<FileCache>,
}

impl Files {
    /// The first of these files that there is.
    pub(crate) async fn first(
        &self,
        app: AppId,
        paths: &[FilePath],
    ) -> Result<Option<FileListed>, StoreError> {
        self.store.first_file(app, paths).await
    }

    /// The content of an app's file; `None` if no file has it any more.
    pub(crate) async fn content(&self, app: AppId, hash: FileHash) -> Result<Option<Content>, StoreError> {
        self.cache.get(app, hash, self.store.blob(app, &hash)).await
    }

    /// The same, compressed.
    pub(crate) async fn compressed(
        &self,
        app: AppId,
        hash: FileHash,
        compression: Compression,
    ) -> Result<Option<Content>, StoreError> {
        self.cache.compressed(app, hash, compression, self.content(app, hash)).await
    }
}
