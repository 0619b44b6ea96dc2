//! Uploading many scripts, with the routes to them and the settings of their app, at once.

use std::collections::BTreeMap;

use picloud_core::{AccessPatch, AppId, AppName, LimitsPatch, ScriptName, ScriptVersionId};

use super::put::{NewVersion, PutVersion, VersionCondition, put};
use crate::{
    NewRoute, Store, StoreError,
    access::replace_access,
    apps::{insert_app, lock_app, replace_limits},
    changes::notify,
    routes::replace_routes,
};

/// A version of a bundle.
#[derive(Clone, Debug)]
pub struct BundleVersion {
    /// The version; its `imports` are those libraries that are not of the bundle.
    pub version: NewVersion,
    /// The scripts of the bundle that went into its image, directly or not. They come before it in the bundle.
    pub bundled_imports: Vec<ScriptName>,
}

/// The app that a bundle is for.
#[derive(Clone, Copy, Debug)]
pub enum BundleTarget<'a> {
    /// One that is there.
    App(AppId),
    /// One that is made with the bundle, and not without it.
    NewApp(AppId, &'a AppName),
}

/// What is deployed at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bundle<'a> {
    /// The scripts.
    pub scripts: &'a [BundleVersion],
    /// All routes of the app; those it has stay if this is `None`.
    pub routes: Option<&'a [NewRoute]>,
    /// Limits to be replaced. That they are at or under the ceiling is checked by the caller.
    pub limits: LimitsPatch,
    /// Settings of who may call, to be replaced.
    pub access: Option<&'a AccessPatch>,
}

impl Store {
    /// Deploys all of `bundle`, its scripts as [`Store::put_version`] does one, or nothing of it.
    ///
    /// [`StoreError::NotFound`] if a route leads to a script that neither the bundle nor the app has;
    /// [`StoreError::AlreadyExists`] if the app is to be made and is there.
    pub async fn put_bundle(
        &self,
        target: BundleTarget<'_>,
        bundle: Bundle<'_>,
    ) -> Result<Vec<PutVersion>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let app = match target {
            BundleTarget::App(app) => {
                lock_app(&mut transaction, app).await?;
                app
            }
            BundleTarget::NewApp(app, name) => {
                insert_app(&mut transaction, app, name).await?;
                app
            }
        };
        replace_limits(&mut transaction, app, &bundle.limits).await?;
        if let Some(access) = bundle.access {
            replace_access(&mut transaction, app, access).await?;
        }
        let mut versions: BTreeMap<&ScriptName, ScriptVersionId> = BTreeMap::new();
        let mut kinds = Vec::with_capacity(bundle.scripts.len());
        for BundleVersion { version, bundled_imports } in bundle.scripts {
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
        if let Some(routes) = bundle.routes {
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
