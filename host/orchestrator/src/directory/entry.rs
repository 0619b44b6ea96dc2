//! One app as the ingress sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU32},
};

use picloud_core::{
    AppId, AppName, Callee, DomainName, HostCalls, ImageKey, Limits, Method, MethodSet, RateLimit,
    RouteMatch, RoutePattern, RouteTable, SandboxCeiling, ScriptName, SecretName,
};
use picloud_store::AppDirectory;

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
    /// The requests that it may take.
    pub(crate) rate: Quota,
    routes: RouteTable<Target>,
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
}

/// What a route leads to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) script: Arc<ScriptEntry>,
    /// Whether HEAD is routed for its own sake; else it runs as GET.
    pub(crate) sees_head: bool,
    /// What the route asks of a request, if anything.
    pub(crate) gate: Option<Arc<RouteGate>>,
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
        let gate_of = |route| RouteGate::of(app.id, &app.access, route, &state);
        let mut routes = RouteTable::default();
        let mut unrouted = Arc::clone(&scripts);
        for route in &app.routes {
            let Some(script) = scripts.get(&route.script) else { continue };
            Arc::make_mut(&mut unrouted).remove(&route.script);
            let sees_head = route.methods.contains(Method::Head);
            let target = Target { script: Arc::clone(script), sees_head, gate: gate_of(Some(route)) };
            routes.insert(&route.pattern, route.methods, target);
        }
        // A script without routes answers at its name. HEAD is left to GET: a script that was not asked about
        // methods does not expect it.
        let any: MethodSet = Method::ALL.into_iter().filter(|method| *method != Method::Head).collect();
        let gate = gate_of(None);
        for (name, script) in &*unrouted {
            let target = Target { script: Arc::clone(script), sees_head: false, gate: gate.clone() };
            routes.insert(&RoutePattern::literal(name.as_str()), any, target);
        }
        Self {
            id: app.id,
            name: app.name,
            domains: app.domains,
            rate: Quota::new(RateLimit::per_second(limits.requests_per_second)),
            limits,
            host: Arc::new(AppHost::new(app.id, sources.clone(), Arc::clone(&scripts))),
            scripts,
            state,
            gate: AppGate::of(app.access),
            routes,
        }
    }

    /// What a method and a decoded path lead to.
    pub(crate) fn find(&self, method: Method, segments: &[&str]) -> RouteMatch<'_, Target> {
        self.routes.find(method, segments)
    }
}
