//! What stands before an app's endpoints: addresses, rates, tokens, signatures, and which pages may read the answers.
//!
//! All of it is worked out when an app is loaded. Where nothing is set there is nothing, so that a request to a public
//! route of an open app meets a few comparisons with `None`.

mod cors;
mod keeper;
mod replays;
mod signature;
mod token;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use picloud_core::{
    AccessSettings, AppId, ErrorCode, MethodSet, RateLimit, RouteAccess, RouteId, SignatureScheme,
};
use picloud_edge::Problem;
use picloud_store::{DirectoryRoute, RouteKey};

use crate::{
    directory::AppState,
    rate::{Bucket, Clients, Nanos, Quota, Verdict},
};

pub(crate) use cors::{CorsPolicy, is_preflight};
pub(crate) use keeper::{Entered, Keeper};
pub(crate) use replays::Claimed;
pub(crate) use token::can_show_token;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What holds for all endpoints of an app.
pub(crate) struct AppGate {
    settings: AccessSettings,
    pub(crate) cors: Option<CorsPolicy>,
}

/// What a route asks of a request.
#[derive(Debug)]
pub(crate) struct RouteGate {
    pub(crate) access: RouteAccess,
    /// How its callers sign, where it asks for that.
    signature: SignatureScheme,
    /// The methods of the route.
    pub(crate) methods: MethodSet,
    keys: Vec<RouteKey>,
    limits: Vec<Limit>,
    /// The policy of the limits, as the header has it.
    policy: Option<HeaderValue>,
}

#[derive(Debug)]
struct Limit {
    name: &'static str,
    quota: Quota,
    counted: Counted,
}

#[derive(Debug)]
enum Counted {
    /// For all clients together.
    Together(Arc<Bucket>),
    /// For each client, under the id of the app or the route.
    EachFor(u128),
}

/// The headers that tell a client where it stands.
pub(crate) struct RateHeaders {
    policy: HeaderValue,
    state: HeaderValue,
}

impl AppGate {
    /// The gate of an app; `None` where it is open to everybody.
    pub(crate) fn of(settings: AccessSettings) -> Option<Box<Self>> {
        let is_open = settings == AccessSettings::default();
        let cors = settings.cors.as_ref().map(CorsPolicy::new);
        (!is_open).then(|| Box::new(Self { settings, cors }))
    }

    /// Refuses requests from addresses that may not call.
    pub(crate) fn check_address(&self, client: IpAddr) -> Result<(), Problem> {
        if self.settings.admits(client) {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::AddressDenied).with("address", client.to_string()))
    }

    /// Whether the error text of scripts is shown to everybody.
    pub(crate) fn is_in_development(&self) -> bool {
        self.settings.development
    }
}

impl RouteGate {
    /// The gate of a route, or of a script without routes; `None` where it is open and unlimited. The buckets that it
    /// shares with all clients are those that `state` has, so that a change of the app does not fill them.
    pub(crate) fn of(
        app: AppId,
        settings: &AccessSettings,
        route: Option<&DirectoryRoute>,
        state: &AppState,
    ) -> Option<Arc<Self>> {
        let of_route = |rate: fn(&DirectoryRoute) -> Option<RateLimit>| {
            route.and_then(|route| Some((route.id, rate(route)?)))
        };
        let for_each = |id: u128| Counted::EachFor(id);
        // The client's own comes first, so that a client that is over it takes nothing from the others.
        let client = match of_route(|route| route.client_rate_limit) {
            Some((id, rate)) => Some((rate, for_each(id.as_uuid().as_u128()))),
            None => settings.client_rate_limit.map(|rate| (rate, for_each(app.as_uuid().as_u128()))),
        };
        let whole_route = of_route(|route| route.rate_limit)
            .map(|(id, rate)| (rate, Counted::Together(state.buckets.of_route(id))));
        let whole_app =
            settings.rate_limit.map(|rate| (rate, Counted::Together(Arc::clone(&state.buckets.app))));
        let limits: Vec<Limit> = [("client", client), ("route", whole_route), ("app", whole_app)]
            .into_iter()
            .filter_map(|(name, limit)| limit.map(|(rate, counted)| (name, Quota::new(rate), counted)))
            .map(|(name, quota, counted)| Limit { name, quota, counted })
            .collect();
        let access = route.map(|route| route.access).unwrap_or_default();
        if access == RouteAccess::Public && limits.is_empty() {
            return None;
        }
        let policies: Vec<String> = limits
            .iter()
            .map(|limit| {
                let rate = limit.quota.limit;
                format!("\"{}\";q={};w={}", limit.name, rate.requests(), rate.seconds())
            })
            .collect();
        Some(Arc::new(Self {
            access,
            signature: route.map(|route| route.signature.clone()).unwrap_or_default(),
            methods: route.map_or(MethodSet::ANY, |route| route.methods),
            keys: route.map(|route| route.keys.clone()).unwrap_or_default(),
            policy: HeaderValue::try_from(policies.join(", ")).ok().filter(|_| !limits.is_empty()),
            limits,
        }))
    }

    /// Takes one request from every bucket; or says which limit refuses it. What the first limits have given is gone
    /// then, too.
    fn take(
        &self,
        clients: &Clients,
        client: IpAddr,
    ) -> Result<Option<RateHeaders>, (&'static str, Problem)> {
        let Some(policy) = &self.policy else { return Ok(None) };
        let now: Nanos = clients.now();
        let mut state = String::with_capacity(32 * self.limits.len());
        for limit in &self.limits {
            let verdict = match &limit.counted {
                Counted::Together(bucket) => bucket.take(limit.quota, now),
                Counted::EachFor(id) => clients.take(*id, client, limit.quota, now),
            };
            match verdict {
                Verdict::Passed { remaining, reset } => {
                    let separator = if state.is_empty() { "" } else { ", " };
                    let _ = write!(state, "{separator}\"{}\";r={remaining};t={reset}", limit.name);
                }
                Verdict::Refused { retry_after } => {
                    return Err((limit.name, limit.refusal(retry_after, policy)));
                }
            }
        }
        let state = HeaderValue::try_from(state).ok();
        Ok(state.map(|state| RateHeaders { policy: policy.clone(), state }))
    }
}

impl Limit {
    fn refusal(&self, retry_after: u64, policy: &HeaderValue) -> Problem {
        let whose = match self.name {
            "client" => "this client may make",
            "route" => "this route takes",
            _ => "this app takes",
        };
        let state = format!("\"{}\";r=0;t={retry_after}", self.name);
        let problem = Problem::new(ErrorCode::RateLimited)
            .detail(format!("{whose} {} requests", self.quota.limit))
            .retry_after(u32::try_from(retry_after).unwrap_or(u32::MAX))
            .header(RATELIMIT_POLICY, policy.clone());
        match HeaderValue::try_from(state) {
            Ok(state) => problem.header(RATELIMIT, state),
            Err(_) => problem,
        }
    }
}

impl RateHeaders {
    /// Adds them to an answer, beside what a script says of limits of its own.
    pub(crate) fn add_to(self, headers: &mut HeaderMap) {
        headers.append(RATELIMIT_POLICY, self.policy);
        headers.append(RATELIMIT, self.state);
    }
}

/// The buckets of an app and its routes that all clients share.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    app: Arc<Bucket>,
    routes: Mutex<BTreeMap<RouteId, Arc<Bucket>>>,
}

impl Buckets {
    fn of_route(&self, route: RouteId) -> Arc<Bucket> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(route).or_default())
    }

    /// Forgets the buckets of routes that are gone.
    pub(crate) fn keep(&self, is_there: impl Fn(RouteId) -> bool) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|route, _| is_there(*route));
    }
}
