//! One app as the ingress sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU32},
};

use picloud_core::{
    AppId, AppName, CallbackUrl, Callee, DomainName, HostCalls, ImageKey, Limits, Method, MethodSet,
    RateLimit, RouteMatch, RouteMode, RoutePattern, RouteTable, RouteTarget, STATIC_FOLDER, SandboxCeiling,
    ScriptName, SecretName, StaticFiles, TriggerSource,
};
use picloud_store::{AppDirectory, DirectoryRoute, DirectoryTrigger, KvTriggers};

use tokio_util::sync::CancellationToken;

use crate::{
    budget::FuelLedger,
    gate::{AppGate, Buckets, RouteGate},
    history::Sampler,
    host::{AppHost, Sources},
    quota::KvUsage,
    rate::{Bucket, Quota},
};

/// An app with all that leads to its scripts. It never changes; a changed app gets a new entry.
pub(crate) struct AppEntry {
    pub(crate) id: AppId,
    pub(crate) name: AppName,
    pub(crate) domains: Vec<DomainName>,
    pub(crate) limits: Limits,
    pub(crate) scripts: Arc<Scripts>,
    /// What the app's invocations may ask of the platform.
    pub(crate) host: Arc<dyn HostCalls>,
    pub(crate) state: Arc<AppState>,
    /// What holds for all its endpoints, if anything does.
    pub(crate) gate: Option<Box<AppGate>>,
    /// Whether it has triggers for changes of entries.
    pub(crate) kv_triggers: KvTriggers,
    /// The requests that it may take.
    pub(crate) rate: Quota,
    routes: RouteTable<Target>,
    /// What answers GET where no route does: the static files, if the app has any.
    static_files: Option<Target>,
}

/// The active scripts of an app, by name.
pub(crate) type Scripts = BTreeMap<ScriptName, Arc<ScriptEntry>>;

/// A script's active version.
#[derive(Debug)]
pub(crate) struct ScriptEntry {
    pub(crate) name: ScriptName,
    pub(crate) version: i32,
    pub(crate) image: ImageKey,
    /// The secrets that it may read.
    pub(crate) secrets: BTreeSet<SecretName>,
    /// The limits in force for invocations that begin with it.
    pub(crate) limits: Limits,
}

/// What is known of an app beyond its present form.
#[derive(Debug, Default)]
pub(crate) struct AppState {
    pub(crate) kv: KvUsage,
    pub(crate) sampler: Sampler,
    pub(crate) buckets: Buckets,
    /// The fuel it has used.
    pub(crate) fuel: FuelLedger,
    /// The invocations that run now.
    pub(crate) running: AtomicU32,
    /// The requests of the present second.
    pub(crate) requests: Bucket,
    /// The app was deleted: what runs ends.
    pub(crate) gone: CancellationToken,
}

/// What a route leads to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) answers: Answers,
    /// What the route asks of a request, if anything.
    pub(crate) gate: Option<Arc<RouteGate>>,
    /// How its runs go, where that is not while the client waits.
    pub(crate) kept: Option<Arc<KeptRuns>>,
}

/// How the runs of a durable or asynchronous route go.
#[derive(Debug)]
pub(crate) struct KeptRuns {
    pub(crate) mode: RouteMode,
    pub(crate) callback_url: Option<CallbackUrl>,
}

/// What answers.
#[derive(Clone, Debug)]
pub(crate) enum Answers {
    /// A script.
    Script {
        script: Arc<ScriptEntry>,
        /// Whether HEAD is routed for its own sake; else it runs as GET.
        sees_head: bool,
    },
    /// A folder of files.
    Files(Arc<StaticFiles>),
}

fn kept(route: &DirectoryRoute) -> Option<Arc<KeptRuns>> {
    let kept = || KeptRuns { mode: route.mode, callback_url: route.callback_url.clone() };
    (route.mode != RouteMode::Sync).then(|| Arc::new(kept()))
}

impl ScriptEntry {
    /// The script as `app::invoke` calls it.
    pub(crate) fn callee(&self) -> Callee {
        Callee { name: self.name.clone(), image: self.image }
    }
}

impl AppEntry {
    /// Makes an entry of what the store has. `state` is that of the entry before it.
    pub(crate) fn new(
        app: AppDirectory,
        ceiling: &SandboxCeiling,
        sources: &Sources,
        state: Option<Arc<AppState>>,
    ) -> Self {
        let limits = ceiling.clamp(&app.limits);
        let scripts: Scripts = app
            .scripts
            .into_iter()
            .map(|script| {
                let entry = ScriptEntry {
                    name: script.name.clone(),
                    version: script.number,
                    image: script.image,
                    secrets: script.secrets,
                    limits: limits.for_script(&script.limits),
                };
                (script.name, Arc::new(entry))
            })
            .collect();
        let scripts = Arc::new(scripts);
        // What is known of an app is newer than what was loaded with it, and goes on.
        let state = state.unwrap_or_else(|| {
            Arc::new(AppState { fuel: FuelLedger::restored(&app.fuel), ..AppState::default() })
        });
        state.buckets.keep(|id| app.routes.iter().any(|route| route.id == id));
        let is_of_kv = |trigger: &DirectoryTrigger| matches!(trigger.spec.source, TriggerSource::Kv { .. });
        let has_kv_triggers = app.triggers.iter().any(is_of_kv);
        let gate_of = |route| RouteGate::of(app.id, &app.access, route, &state);
        let mut routes = RouteTable::default();
        let mut unrouted = Arc::clone(&scripts);
        for route in &app.routes {
            let answers = match &route.target {
                RouteTarget::Script(name) => {
                    let Some(script) = scripts.get(name) else { continue };
                    Arc::make_mut(&mut unrouted).remove(name);
                    let sees_head = route.methods.contains(Method::Head);
                    Answers::Script { script: Arc::clone(script), sees_head }
                }
                RouteTarget::Files(files) => Answers::Files(Arc::new(files.clone())),
            };
            routes.insert(
                &route.pattern,
                route.methods,
                Target { answers, gate: gate_of(Some(route)), kept: kept(route) },
            );
        }
        // A script without routes answers at its name. HEAD is left to GET: a script that was not asked about
        // methods does not expect it.
        let any: MethodSet = Method::ALL.into_iter().filter(|method| *method != Method::Head).collect();
        let gate = gate_of(None);
        for (name, script) in &*unrouted {
            let answers = Answers::Script { script: Arc::clone(script), sees_head: false };
            let target = Target { answers, gate: gate.clone(), kept: None };
            routes.insert(&RoutePattern::literal(name.as_str()), any, target);
        }
        // A route that serves them says where, and who may have them.
        let is_served = app.routes.iter().any(|route| {
            matches!(&route.target, RouteTarget::Files(files) if files.folder.as_str().starts_with(STATIC_FOLDER))
        });
        let folder = STATIC_FOLDER.parse().ok().filter(|_| app.has_files && !is_served);
        let static_files = folder.map(|folder| Target {
            answers: Answers::Files(Arc::new(StaticFiles::new(folder))),
            gate,
            kept: None,
        });
        Self {
            id: app.id,
            name: app.name,
            domains: app.domains,
            rate: Quota::new(RateLimit::per_second(limits.requests_per_second)),
            limits,
            host: Arc::new(AppHost::new(app.id, sources.clone(), Arc::clone(&scripts), app.egress)),
            scripts,
            state,
            kv_triggers: if has_kv_triggers { KvTriggers::LookFor } else { KvTriggers::None },
            gate: AppGate::of(app.access),
            routes,
            static_files,
        }
    }

    /// What a method and a decoded path lead to.
    pub(crate) fn find(&self, method: Method, segments: &[&str]) -> RouteMatch<'_, Target> {
        match (self.routes.find(method, segments), &self.static_files) {
            (RouteMatch::NotFound, Some(target)) if matches!(method, Method::Get | Method::Head) => {
                let rest = ("path".to_owned(), segments.join("/"));
                RouteMatch::Found { target, params: vec![rest] }
            }
            (found, _) => found,
        }
    }
}
