//! Deploying many scripts at once, with the routes to them, triggers, static files, and the settings of their app.

mod files;
mod unique;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
};
use picloud_core::{
    AccessPatch, App, AppId, AppName, Capability, EgressRules, ErrorCode, FilePath, LimitsPatch,
    ScriptLimitsPatch, ScriptName, TriggerName, TriggerSpec, VariableName,
};
use picloud_store::{
    AppRow, BundleFile, BundleTarget, BundleTriggers, BundleVersion, NewRoute, NewVersion, OtherScripts,
    PutBundle, PutVersion, StoreError,
};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use files::FilesAnswer;
use unique::UniqueNames;

use crate::{
    access::{Caller, TargetApp},
    api::{
        egress::Egress,
        endpoint_access::EndpointAccessChange,
        limits::LimitsChange,
        routes::{RouteRequest, RouteView, check_files_route},
        script_limits::ScriptLimitsChange,
        scripts::{Available, ScriptUrls, ScriptView, UsedView, UsesView, newly, not_found},
        triggers::{PutTriggerAnswer, TriggerFields, unhandled},
    },
    context::{Context, app_not_found},
    deploy::{self, BuildRefusal, Built, CompileError, Import},
    error::ApiError,
    extract::{Object, PathNames, QueryOf, read_json},
    store_error::from_store,
};

/// The most that a bundle has, in bytes of JSON; more where a source of the largest size would not fit.
const BUNDLE_BYTES: u64 = 8 * 1024 * 1024;
/// What its files may take beside that, as the base64 of their contents.
const FILES_BYTES: u64 = 16 * 1024 * 1024;
/// The most scripts of a bundle.
const BUNDLE_SCRIPTS: usize = 500;
/// The most errors that an answer names; after as many nothing more is compiled.
const BUNDLE_ERRORS: usize = 20;
/// The most variables of a bundle: as many as an app has.
const BUNDLE_VARIABLES: usize = 64;

/// What to deploy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    /// Sources by the names of the scripts. Scripts of the app that are not named stay as they are.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    #[serde(deserialize_with = "scripts")]
    scripts: Arc<BTreeMap<ScriptName, Arc<str>>>,
    /// All routes of the app; those it has now and are not named are removed. They stay if this is left out.
    #[schema(value_type = Option<Vec<RouteRequest>>)]
    routes: Option<Vec<Object<RouteRequest>>>,
    /// All triggers of the app, which needs the scope `app:admin` as well; those it has now and are not named are removed.
    /// All of them run as who deploys. They stay if this is left out.
    #[schema(value_type = Option<Vec<TriggerFields>>, max_items = 200)]
    triggers: Option<Vec<Object<TriggerSpec>>>,
    /// Limits to replace, which needs the scope `app:admin` as well. `source_bytes` holds for this very bundle.
    #[schema(value_type = Option<LimitsChange>)]
    limits: Option<Object<LimitsPatch>>,
    /// Limits of single scripts, of the bundle or of the app, to change, which needs the scope `app:admin` as well.
    #[schema(value_type = Option<std::collections::HashMap<String, ScriptLimitsChange>>)]
    #[serde(default, deserialize_with = "script_limits")]
    script_limits: Option<BTreeMap<ScriptName, ScriptLimitsPatch>>,
    /// Settings of who may call, to replace, which needs the scope `app:admin` as well.
    #[schema(value_type = Option<EndpointAccessChange>)]
    access: Option<Object<AccessPatch>>,
    /// What scripts may call over HTTP, which needs the scope `app:admin` as well. It replaces the whole list.
    #[schema(value_type = Option<Egress>)]
    egress: Option<Object<EgressRules>>,
    /// Variables to set, which needs the scope `app:admin` as well. Those that are not named stay.
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    #[serde(default, deserialize_with = "variables")]
    env: Option<BTreeMap<VariableName, Arc<str>>>,
    /// Files below `static/` by their paths. Those of the app that are not named stay, unless `prune` deletes them. None
    /// is touched if this is left out.
    #[schema(value_type = Option<std::collections::HashMap<String, files::BundledFile>>)]
    #[serde(default, deserialize_with = "files::read")]
    files: Option<files::Given>,
}

/// What to do where there is no such app.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BundleQuery {
    /// Whether to make the app if it is missing, which needs the scope `instance:admin` as well. If the bundle is
    /// refused, no app is made.
    #[serde(default)]
    create_app: bool,
    /// Whether to delete the scripts of the app that are not in the bundle, and where it has `files`, the files below
    /// `static/` that are not.
    #[serde(default)]
    prune: bool,
}

/// What a deployment did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundleAnswer {
    /// Whether the app was made for it.
    app_created: bool,
    /// The scripts of the bundle, by name.
    scripts: Vec<BundledScript>,
    /// Scripts of the app that are not in the bundle and stayed as they were.
    #[schema(value_type = Vec<String>)]
    other_scripts: Vec<ScriptName>,
    /// Scripts that were deleted, since they are not in the bundle.
    #[schema(value_type = Vec<String>)]
    deleted_scripts: Vec<ScriptName>,
    /// Routes that are gone, since they are not among those of the bundle.
    removed_routes: Vec<RouteView>,
    /// The triggers of the bundle, by name.
    triggers: Vec<PutTriggerAnswer>,
    /// Triggers that are gone, since they are not among those of the bundle.
    #[schema(value_type = Vec<String>)]
    removed_triggers: Vec<TriggerName>,
    /// What became of the files.
    files: FilesAnswer,
}

/// A script of a bundle.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundledScript {
    /// The script as it is now.
    #[serde(flatten)]
    script: ScriptView,
    /// What it uses that the version before did not; null where that is not known.
    #[schema(value_type = Option<std::collections::HashMap<String, UsedView>>)]
    newly_uses: Option<UsesView>,
    /// What its author probably did not mean, in plain words.
    warnings: Vec<String>,
    /// Whether it is new.
    created: bool,
    /// Whether source, libraries and handlers were those of the active version already, so that nothing was done.
    unchanged: bool,
    /// Scripts that import it and keep the version they were built with until they are deployed again.
    #[schema(value_type = Vec<String>)]
    imported_by: Vec<ScriptName>,
}

fn scripts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<BTreeMap<ScriptName, Arc<str>>>, D::Error> {
    let scripts = UniqueNames { what: "script", values: "sources", most: BUNDLE_SCRIPTS };
    scripts.read(deserializer).map(shared).map(Arc::new)
}

fn script_limits<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<ScriptName, ScriptLimitsPatch>>, D::Error> {
    let limits = UniqueNames { what: "script", values: "limits", most: BUNDLE_SCRIPTS };
    limits.read(deserializer).map(Some)
}

fn variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<VariableName, Arc<str>>>, D::Error> {
    let variables = UniqueNames { what: "variable", values: "texts", most: BUNDLE_VARIABLES };
    variables.read(deserializer).map(shared).map(Some)
}

fn shared<N: Ord>(texts: BTreeMap<N, String>) -> BTreeMap<N, Arc<str>> {
    texts.into_iter().map(|(name, text)| (name, text.into())).collect()
}

/// Deploys many scripts at once, with routes, triggers, static files, limits and variables: all of it, or nothing where a part of it is refused.
///
/// An `import` finds a script of the bundle first, and then one of the app.
#[utoipa::path(put, path = "/api/v1/apps/{app}/bundle", tag = "scripts", params(BundleQuery), request_body = Bundle,
    responses((status = 200, description = "The scripts as they are now", body = BundleAnswer)))]
pub(crate) async fn deploy_bundle(
    State(context): State<Context>,
    caller: Caller,
    PathNames(name): PathNames<AppName>,
    found: Option<TargetApp>,
    QueryOf(query): QueryOf<BundleQuery>,
    request: Request,
) -> Result<Json<BundleAnswer>, ApiError> {
    let destination = match found {
        Some(TargetApp(app)) => Destination::Present(app),
        None if query.create_app => Destination::New(new_app(&context, &caller, name)?),
        None => return Err(app_not_found(&name)),
    };
    let (parts, body) = request.into_parts();
    let most_bytes = most_bytes(&context, &caller, destination.app());
    let bundle: Bundle = read_json(&parts.headers, body, most_bytes).await?;
    let limits = bundle.limits.map(|Object(limits)| limits);
    if let Some(limits) = &limits {
        caller.may(Capability::AppManageSettings(destination.app().id))?;
        context.config.ceiling.check(limits)?;
    }
    if bundle.access.is_some()
        || bundle.egress.is_some()
        || bundle.env.is_some()
        || bundle.script_limits.is_some()
    {
        caller.may(Capability::AppManageSettings(destination.app().id))?;
    }
    if bundle.triggers.is_some() {
        caller.may(Capability::AppManageTriggers(destination.app().id))?;
    }
    if bundle.files.as_ref().is_some_and(|files| query.prune || !files.is_empty()) {
        caller.may(Capability::AppWriteData(destination.app().id))?;
    }
    let routes = bundle.routes.map(|routes| {
        routes.into_iter().map(|Object(route)| NewRoute::try_from(route)).collect::<Result<Vec<_>, _>>()
    });
    let routes = routes.transpose()?;
    for route in routes.iter().flatten() {
        check_files_route(&caller, destination.app().id, route)?;
    }
    let contents = Contents {
        scripts: bundle.scripts,
        routes,
        triggers: bundle.triggers.map(|triggers| triggers.into_iter().map(|Object(spec)| spec).collect()),
        limits,
        script_limits: bundle.script_limits,
        others: if query.prune { OtherScripts::Delete } else { OtherScripts::Keep },
        access: bundle.access.map(|Object(access)| access),
        egress: bundle.egress.map(|Object(egress)| egress),
        variables: bundle.env,
        files: bundle.files.map(files::checked).transpose()?,
    };
    let deployed = match deploy_to(&context, &caller, &destination, &contents).await {
        // The bundle is for that app then, with its limits and the libraries that it may have by now.
        Err(Refusal::MadeMeanwhile) => {
            let app = context.app(&destination.app().name).await?;
            deploy_to(&context, &caller, &Destination::Present(app), &contents).await
        }
        deployed => deployed,
    };
    Ok(Json(deployed?))
}

/// The app that a bundle is for.
enum Destination {
    /// One that is there.
    Present(App),
    /// One that is made with the bundle.
    New(App),
}

impl Destination {
    fn app(&self) -> &App {
        match self {
            Self::Present(app) | Self::New(app) => app,
        }
    }

    fn target(&self) -> BundleTarget<'_> {
        match self {
            Self::Present(app) => BundleTarget::App(app.id),
            Self::New(app) => BundleTarget::NewApp(app.id, &app.name),
        }
    }
}

/// A bundle, read and checked as far as that needs no app.
struct Contents {
    scripts: Arc<BTreeMap<ScriptName, Arc<str>>>,
    routes: Option<Vec<NewRoute>>,
    triggers: Option<Vec<TriggerSpec>>,
    limits: Option<LimitsPatch>,
    script_limits: Option<BTreeMap<ScriptName, ScriptLimitsPatch>>,
    others: OtherScripts,
    access: Option<AccessPatch>,
    egress: Option<EgressRules>,
    variables: Option<BTreeMap<VariableName, Arc<str>>>,
    files: Option<BTreeMap<FilePath, BundleFile>>,
}

/// Why nothing of a bundle was deployed.
enum Refusal {
    /// The app was to be made, and somebody else made it in the meantime.
    MadeMeanwhile,
    /// Anything else.
    Error(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::MadeMeanwhile => from_store(StoreError::AlreadyExists { what: "app" }),
            Refusal::Error(error) => error,
        }
    }
}

/// The most bytes of a bundle. Only who may change the app's limits can bring sources up to the ceiling, and only
/// for them is that much read.
fn most_bytes(context: &Context, caller: &Caller, app: &App) -> u64 {
    let may_change_limits = caller.may(Capability::AppManageSettings(app.id)).is_ok();
    let limits = if may_change_limits { context.config.ceiling.limits() } else { &app.limits };
    BUNDLE_BYTES.max(limits.source_bytes.saturating_mul(2)).saturating_add(FILES_BYTES)
}

/// Builds the scripts and stores everything at once.
async fn deploy_to(
    context: &Context,
    caller: &Caller,
    destination: &Destination,
    contents: &Contents,
) -> Result<BundleAnswer, Refusal> {
    let app = destination.app();
    let limits = contents.limits.unwrap_or_default();
    check_sizes(&contents.scripts, limits.source_bytes.unwrap_or(app.limits.source_bytes))?;
    let Compiled { versions, mut warnings } = build(context, caller, app.id, &contents.scripts).await?;
    let files = contents.files.as_ref().map(|given| files::for_store(context, app, &limits, given));
    let bundle = picloud_store::Bundle {
        scripts: &versions,
        routes: contents.routes.as_deref(),
        triggers: contents
            .triggers
            .as_deref()
            .map(|specs| BundleTriggers { specs, registered_by: caller.principal.id }),
        limits,
        script_limits: contents.script_limits.as_ref(),
        others: contents.others,
        admin: caller.first_member(),
        access: contents.access.as_ref(),
        egress: contents.egress.as_ref(),
        variables: contents.variables.as_ref(),
        files: files.as_ref(),
    };
    let has_settings = contents.limits.is_some()
        || contents.script_limits.is_some()
        || contents.access.is_some()
        || contents.egress.is_some();
    let turn = if has_settings { Some(context.limits_turn.lock().await) } else { None };
    if let Some(script_limits) = &contents.script_limits {
        check_script_limits(context, destination, &limits, script_limits).await?;
    }
    let put = context.store.put_bundle(destination.target(), bundle).await;
    drop(turn);
    let put = match put {
        Ok(put) => put,
        Err(StoreError::AlreadyExists { what: "app" }) => return Err(Refusal::MadeMeanwhile),
        Err(error) => return Err(explained(context, app, &bundle, error).await.into()),
    };
    context.app_changed(app.id).await;
    let app_created = matches!(destination, Destination::New(_));
    let PutBundle { scripts, others, removed_routes, triggers, removed_triggers, files } = put;
    let (other_scripts, deleted_scripts) = match contents.others {
        OtherScripts::Keep => (others, Vec::new()),
        OtherScripts::Delete => (Vec::new(), others),
    };
    if contents.triggers.is_none() {
        // Those of the bundle have warnings of their own.
        let uploaded: Vec<_> = scripts.iter().map(PutVersion::script).collect();
        for (script, said) in unhandled(context, app, &uploaded).await? {
            warnings.entry(script).or_default().extend(said);
        }
    }
    Ok(BundleAnswer {
        app_created,
        scripts: bundled(context, app, scripts, warnings).await?,
        other_scripts,
        deleted_scripts,
        removed_routes: removed_routes
            .into_iter()
            .map(|route| RouteView::of(context, &app.name, route))
            .collect(),
        triggers: PutTriggerAnswer::of_all(context, app, triggers).await?,
        removed_triggers,
        files: FilesAnswer::of(files, contents.others == OtherScripts::Delete),
    })
}

/// Names the script that a route or a trigger leads to and nobody has, and says that a script in use was to be deleted.
async fn explained(
    context: &Context,
    app: &App,
    deployed: &picloud_store::Bundle<'_>,
    error: StoreError,
) -> ApiError {
    if matches!(error, StoreError::InUse { .. }) {
        return from_store(error).preceded_by("a script that is not in the bundle cannot be deleted: ");
    }
    if !matches!(error, StoreError::NotFound { what: "script" }) {
        return from_store(error);
    }
    let is_deployed = |name: &ScriptName| deployed.scripts.iter().any(|script| script.version.name == *name);
    let routed = deployed.routes.unwrap_or_default().iter().filter_map(|route| route.target.script());
    let limited = deployed.script_limits.into_iter().flat_map(BTreeMap::keys);
    let triggered =
        deployed.triggers.into_iter().flat_map(|triggers| triggers.specs).map(|spec| &spec.script);
    for script in routed.chain(limited).chain(triggered).filter(|script| !is_deployed(script)) {
        match context.store.script(app.id, script).await {
            Ok(Some(_)) => {}
            Ok(None) => return not_found(app, script),
            Err(error) => return from_store(error),
        }
    }
    from_store(error)
}

/// An app that is stored with its bundle, if the caller may make one. Made before it, it would have to be removed
/// again after a refusal, when somebody may have begun to use it; and whoever is cut off in between would leave it.
fn new_app(context: &Context, caller: &Caller, name: AppName) -> Result<App, ApiError> {
    caller
        .may(Capability::InstanceCreateApps)
        .map_err(|refusal| refusal.preceded_by(&format!("no app \"{name}\", and it cannot be made: ")))?;
    let limits = LimitsPatch::default();
    Ok(context.in_force(AppRow {
        id: AppId::generate(),
        name,
        limits,
        created_at: OffsetDateTime::now_utc(),
    }))
}

fn check_sizes(scripts: &BTreeMap<ScriptName, Arc<str>>, most: u64) -> Result<(), ApiError> {
    for (name, source) in scripts {
        if source.len() as u64 > most {
            let detail =
                format!("script {name} has {} bytes; this app's limit source_bytes is {most}", source.len());
            return Err(ApiError::new(ErrorCode::TooLarge, detail)
                .field(format!("scripts.{name}"))
                .with("limit", most));
        }
    }
    Ok(())
}

/// Checks the limits of scripts against those that the app has with the bundle.
async fn check_script_limits(
    context: &Context,
    destination: &Destination,
    limits: &LimitsPatch,
    script_limits: &BTreeMap<ScriptName, ScriptLimitsPatch>,
) -> Result<(), ApiError> {
    let set = match destination {
        Destination::Present(app) => {
            context.store.app(app.id).await.map_err(from_store)?.map(|row| row.limits)
        }
        Destination::New(_) => None,
    };
    let in_force = context.config.ceiling.clamp(&set.unwrap_or_default().merged(limits));
    for (script, patch) in script_limits {
        in_force.check_script(patch).map_err(|error| {
            ApiError::from(error).preceded_by(&format!("the limits of the script {script}: "))
        })?;
    }
    Ok(())
}

/// The scripts of a bundle, ready to be stored.
struct Compiled {
    versions: Vec<BundleVersion>,
    /// By script; those without any are left out.
    warnings: BTreeMap<ScriptName, Vec<String>>,
}

/// Compiles every script; libraries come before those that import them. All errors are named at once, and an error in
/// a library once only.
async fn build(
    context: &Context,
    caller: &Caller,
    app: AppId,
    scripts: &Arc<BTreeMap<ScriptName, Arc<str>>>,
) -> Result<Compiled, ApiError> {
    let mut versions = Vec::with_capacity(scripts.len());
    let mut warnings = BTreeMap::new();
    let mut errors: Vec<CompileError> = Vec::new();
    for (name, source) in scripts.iter() {
        let mut built = match deploy::build(context, app, name, source, scripts).await {
            Ok(built) => built,
            Err(BuildRefusal::Script(error)) => {
                if !errors.contains(&error) {
                    errors.push(error);
                }
                if errors.len() == BUNDLE_ERRORS {
                    break;
                }
                continue;
            }
            Err(BuildRefusal::Other(error)) => return Err(error),
        };
        if !built.script.warnings.is_empty() {
            warnings.insert(name.clone(), std::mem::take(&mut built.script.warnings));
        }
        versions.push(version(name, source, built, caller));
    }
    if let Some(first) = errors.first() {
        return Err(ApiError::from(first.clone()).with("errors", errors));
    }
    // A script's imports are all of its libraries, directly or not: a library has fewer than who imports it.
    versions.sort_by_key(|version| version.bundled_imports.len());
    Ok(Compiled { versions, warnings })
}

fn version(name: &ScriptName, source: &Arc<str>, built: Built, caller: &Caller) -> BundleVersion {
    let version = NewVersion {
        name: name.clone(),
        source: Arc::clone(source),
        image: built.script.image,
        handlers: built.script.handlers,
        uses: built.script.uses,
        imports: built.imports.iter().filter_map(Import::stored).collect(),
        created_by: Some(caller.principal.id),
    };
    BundleVersion {
        version,
        bundled_imports: built.imports.into_iter().filter_map(Import::bundled).collect(),
    }
}

/// The scripts of a bundle as they are now, by name.
async fn bundled(
    context: &Context,
    app: &App,
    put: Vec<PutVersion>,
    mut warnings: BTreeMap<ScriptName, Vec<String>>,
) -> Result<Vec<BundledScript>, ApiError> {
    let urls = ScriptUrls::load(context, app).await?;
    let names: Vec<ScriptName> = put.iter().map(|put| put.script().name.clone()).collect();
    let available = Available::load(context, app).await?;
    let mut importers = context.store.outdated_importers(app.id, &names).await.map_err(from_store)?;
    let mut scripts: Vec<_> = put
        .iter()
        .map(|put| BundledScript {
            script: ScriptView::of(put.script(), &urls),
            newly_uses: newly(put),
            warnings: {
                let mut warnings = warnings.remove(&put.script().name).unwrap_or_default();
                warnings.extend(available.warnings(put));
                warnings
            },
            created: matches!(put, PutVersion::Created(_)),
            unchanged: matches!(put, PutVersion::Unchanged(_)),
            imported_by: importers.remove(&put.script().name).unwrap_or_default(),
        })
        .collect();
    scripts.sort_by(|a, b| a.script.name().cmp(b.script.name()));
    Ok(scripts)
}
