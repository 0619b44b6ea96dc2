//! Uploading many scripts, with the routes to them, the triggers that run them and the settings of their app, at once.

use std::{collections::BTreeMap, sync::Arc};

use picloud_core::{
    AccessPatch, AppId, AppName, EgressRules, LimitsPatch, PrincipalId, ScriptLimitsPatch, ScriptName,
    ScriptVersionId, TriggerName, VariableName,
};
use sqlx::PgConnection;

use super::{
    delete::remove,
    limits,
    put::{NewVersion, PutVersion, VersionCondition, put},
};
use crate::{
    BundleTriggers, KvLocks, NewRoute, Route, Store, StoreError, Trigger,
    access::replace_access,
    apps::{insert_app, lock_app, replace_limits},
    changes::notify,
    egress::replace_egress,
    files::{BundleFiles, PutFiles, put_files},
    routes::replace_routes,
    text::parse,
    triggers::{PutTriggers, replace_triggers},
    variables::replace_variables,
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
    /// All triggers of the app; those it has stay if this is `None`.
    pub triggers: Option<BundleTriggers<'a>>,
    /// Limits to be replaced. That they are at or under the ceiling is checked by the caller.
    pub limits: LimitsPatch,
    /// Limits of scripts, of the bundle or of the app, to be changed. That they are at or under the app's is checked by the
    /// caller.
    pub script_limits: Option<&'a BTreeMap<ScriptName, ScriptLimitsPatch>>,
    /// Settings of who may call, to be replaced.
    pub access: Option<&'a AccessPatch>,
    /// What scripts may call over HTTP; what is allowed now stays if this is `None`.
    pub egress: Option<&'a EgressRules>,
    /// Variables to be set; the others stay.
    pub variables: Option<&'a BTreeMap<VariableName, Arc<str>>>,
    /// The first member of an app that is made with the bundle.
    pub admin: Option<PrincipalId>,
    /// Its files below `static/`; they stay as they are if this is `None`.
    pub files: Option<&'a BundleFiles>,
    /// What becomes of the app's other scripts, and of the other files below `static/`.
    pub others: OtherScripts,
}

/// What becomes of the scripts of an app that are not of the bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherScripts {
    /// They stay as they are.
    #[default]
    Keep,
    /// They are deleted.
    Delete,
}

/// What a bundle did.
#[derive(Clone, Debug)]
pub struct PutBundle {
    /// Its scripts, in their order.
    pub scripts: Vec<PutVersion>,
    /// Scripts of the app that are not of the bundle, by name, and what became of them.
    pub others: Vec<ScriptName>,
    /// Routes that are gone, since the bundle's are all routes of the app.
    pub removed_routes: Vec<Route>,
    /// The triggers of the bundle, by name; empty where it says nothing of them.
    pub triggers: Vec<Trigger>,
    /// Triggers that are gone, since the bundle's are all triggers of the app.
    pub removed_triggers: Vec<TriggerName>,
    /// What became of the files; empty where the bundle says nothing of them.
    pub files: PutFiles,
}

impl Store {
    /// Deploys all of `bundle`, its scripts as [`Store::put_version`] does one, or nothing of it.
    ///
    /// [`StoreError::NotFound`] if a route, a trigger or a limit is for a script that neither the bundle nor the app has;
    /// [`StoreError::AlreadyExists`] if the app is to be made and is there; [`StoreError::InUse`] if a script that is
    /// to be deleted is needed by a route, a trigger or a script that stays.
    pub async fn put_bundle(
        &self,
        target: BundleTarget<'_>,
        bundle: Bundle<'_>,
    ) -> Result<PutBundle, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let app = match target {
            BundleTarget::App(app) => {
                // Before the row of the app, as whoever commits a run's files takes them.
                if bundle.files.is_some() {
                    KvLocks::for_files().take(&mut transaction, app).await?;
                }
                lock_app(&mut transaction, app).await?;
                app
            }
            BundleTarget::NewApp(app, name) => {
                insert_app(&mut transaction, app, name, bundle.admin).await?;
                app
            }
        };
        replace_limits(&mut transaction, app, &bundle.limits).await?;
        if let Some(access) = bundle.access {
            replace_access(&mut transaction, app, access).await?;
        }
        if let Some(egress) = bundle.egress {
            replace_egress(&mut transaction, app, egress).await?;
        }
        if let Some(variables) = bundle.variables {
            replace_variables(&mut transaction, app, variables).await?;
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
        for (script, patch) in bundle.script_limits.into_iter().flatten() {
            limits::replace(&mut transaction, app, script, patch).await?;
        }
        let removed_routes = match bundle.routes {
            Some(routes) => replace_routes(&mut transaction, app, routes).await?,
            None => Vec::new(),
        };
        // Before scripts are deleted, which a trigger that goes may have run.
        let PutTriggers { triggers, removed: removed_triggers } = match bundle.triggers {
            Some(triggers) => replace_triggers(&mut transaction, app, triggers).await?,
            None => PutTriggers::default(),
        };
        let others = others(&mut transaction, app, bundle.scripts).await?;
        if bundle.others == OtherScripts::Delete {
            remove(&mut transaction, app, &others).await?;
        }
        let files = match bundle.files {
            Some(files) => put_files(&mut transaction, app, files, bundle.others).await?,
            None => PutFiles::default(),
        };
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        let mut scripts = Vec::with_capacity(kinds.len());
        for (name, kind) in kinds {
            scripts.push(self.put_answer(app, name, kind).await?);
        }
        let others = others.iter().map(|name| parse(name)).collect::<Result<_, _>>()?;
        Ok(PutBundle { scripts, others, removed_routes, triggers, removed_triggers, files })
    }
}

/// The scripts of an app that are not of the bundle, by name.
async fn others(
    connection: &mut PgConnection,
    app: AppId,
    bundle: &[BundleVersion],
) -> Result<Vec<String>, StoreError> {
    let names: Vec<String> = bundle.iter().map(|script| script.version.name.to_string()).collect();
    let others = sqlx::query_scalar!(
        "SELECT name FROM scripts WHERE app_id = $1 AND name <> ALL ($2) ORDER BY name",
        app.as_uuid(),
        &names,
    );
    Ok(others.fetch_all(connection).await?)
}
