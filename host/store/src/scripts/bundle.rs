//! Uploading many scripts, and the routes to them, at once.

use std::collections::BTreeMap;

use picloud_core::{AppId, ScriptName, ScriptVersionId};

use super::put::{NewVersion, PutVersion, VersionCondition, put};
use crate::{NewRoute, Store, StoreError, apps::lock_app, changes::notify, routes::replace_routes};

/// A version of a bundle.
#[derive(Clone, Debug)]
pub struct BundleVersion {
    /// The version; its `imports` are those libraries that are not of the bundle.
    pub version: NewVersion,
    /// The scripts of the bundle that went into its image, directly or not. They come before it in the bundle.
    pub bundled_imports: Vec<ScriptName>,
}

impl Store {
    /// Uploads all of `bundle`, as [`Store::put_version`] does one, or nothing of it. If `routes` are given
    /// they become all routes of the app.
    ///
    /// [`StoreError::NotFound`] if a route leads to a script that neither the bundle nor the app has.
    pub async fn put_bundle(
        &self,
        app: AppId,
        bundle: &[BundleVersion],
        routes: Option<&[NewRoute]>,
    ) -> Result<Vec<PutVersion>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let mut versions: BTreeMap<&ScriptName, ScriptVersionId> = BTreeMap::new();
        let mut kinds = Vec::with_capacity(bundle.len());
        for BundleVersion { version, bundled_imports } in bundle {
            let mut pinned = version.clone();
            for import in bundled_imports {
                let library = versions.get(import).ok_or_else(|| {
                    StoreError::Invalid(format!("script {} comes before its library {import}", version.name))
                })?;
                pinned.imports.push(*library);
            }
            let put = put(&mut transaction, app, &pinned, VersionCondition::None).await?;
            versions.insert(&version.name, put.version);
            kinds.push((&version.name, put.kind));
        }
        if let Some(routes) = routes {
            replace_routes(&mut transaction, app, routes).await?;
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        let mut answers = Vec::with_capacity(kinds.len());
        for (name, kind) in kinds {
            answers.push(self.put_answer(app, name, kind).await?);
        }
        Ok(answers)
    }
}
