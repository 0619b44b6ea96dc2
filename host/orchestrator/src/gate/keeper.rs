//! Asks of each request what its route asks, in this order: rates, then the token; and when the body is there, the
//! signature. All of it comes before a slot is taken.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use picloud_core::{AppId, Capability, ErrorCode, RouteAccess};
use picloud_edge::Problem;
use picloud_store::{Lack, Store};
use time::OffsetDateTime;

use super::{
    RateHeaders, RouteGate,
    replays::{Claimed, Replays},
    signature,
    token::{Callers, Shown},
};
use crate::{
    directory::AppEntry,
    metrics::Metrics,
    rate::{Clients, Verdict},
};

/// Keeps the gates of a node.
pub(crate) struct Keeper {
    clients: Clients,
    callers: Callers,
    replays: Replays,
    metrics: Arc<Metrics>,
}

/// A request that may go on.
#[derive(Default)]
pub(crate) struct Entered {
    /// Where it stands with the limits, if there are any.
    pub(crate) rates: Option<RateHeaders>,
    /// Whether its caller may read the app's logs, and so what a script says of its failure.
    pub(crate) may_read_logs: bool,
}

impl Keeper {
    pub(crate) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { clients: Clients::new(), callers: Callers::new(store), replays: Replays::default(), metrics }
    }

    /// Everything that can be asked without the body.
    pub(crate) async fn enter(
        &self,
        app: AppId,
        gate: Option<&RouteGate>,
        client: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Entered, Problem> {
        let rates = match gate.map(|gate| gate.take(&self.clients, client)) {
            None => None,
            Some(Ok(rates)) => rates,
            Some(Err((limit, problem))) => {
                self.metrics.turned_away(limit);
                return Err(problem);
            }
        };
        let may_read_logs = match gate.map_or(RouteAccess::Public, |gate| gate.access) {
            RouteAccess::Token => self.ask_for_token(app, headers).await?,
            RouteAccess::Public | RouteAccess::Hmac => self.may_read_logs(app, headers).await,
        };
        Ok(Entered { rates, may_read_logs })
    }

    /// Takes one of the requests that an app may take in a second. It comes after what the route asks, so that clients who
    /// are refused there take nothing from the others.
    pub(crate) fn take_request(&self, app: &AppEntry) -> Result<(), Problem> {
        match app.state.requests.take(app.rate, self.clients.now()) {
            Verdict::Passed { .. } => Ok(()),
            Verdict::Refused { retry_after } => {
                self.metrics.turned_away("requests_per_second");
                let detail = format!("this app takes {} requests", app.rate.limit);
                let retry_after = u32::try_from(retry_after).unwrap_or(u32::MAX);
                Err(Problem::new(ErrorCode::RateLimited).detail(detail).retry_after(retry_after))
            }
        }
    }

    /// Lets holders of a token in that may invoke scripts of the app; whether they may read its logs as well.
    async fn ask_for_token(&self, app: AppId, headers: &HeaderMap) -> Result<bool, Problem> {
        let hash = match Shown::in_headers(headers) {
            Shown::Token(hash) => hash,
            Shown::None => {
                let text = "this route needs a token: authorization: Bearer pcl_...";
                return Err(self.unauthenticated("token", text, "Bearer realm=\"picloud\""));
            }
            Shown::Twice => {
                let challenge = "Bearer realm=\"picloud\", error=\"invalid_request\"";
                let text = "the request has two authorization headers";
                return Err(self.unauthenticated("token", text, challenge));
            }
        };
        let Some(caller) = self.callers.at(app, hash).await? else {
            let challenge = "Bearer realm=\"picloud\", error=\"invalid_token\"";
            let text = "the token is unknown, expired or revoked";
            return Err(self.unauthenticated("token", text, challenge));
        };
        caller.may(Capability::AppInvoke(app)).map_err(|lack| self.forbidden(app, lack))?;
        Ok(caller.may(Capability::AppReadLogs(app)).is_ok())
    }

    /// Whether a request to a route that asks for no token shows one that may read the app's logs. What it shows may as
    /// well be meant for the script, and a database that does not answer is no reason to refuse it.
    async fn may_read_logs(&self, app: AppId, headers: &HeaderMap) -> bool {
        let Shown::Token(hash) = Shown::in_headers(headers) else { return false };
        let caller = self.callers.at(app, hash).await.ok().flatten();
        caller.is_some_and(|caller| caller.may(Capability::AppReadLogs(app)).is_ok())
    }

    /// What a route asks of the body: its signature.
    pub(crate) fn check_body(
        &self,
        gate: Option<&RouteGate>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<Claimed<'_>>, Problem> {
        let Some(gate) = gate.filter(|gate| gate.access == RouteAccess::Hmac) else { return Ok(None) };
        let (scheme, now) = (&gate.signature, OffsetDateTime::now_utc());
        let checked = signature::check(scheme, headers, body, &gate.keys, now, &self.replays);
        checked.map(Some).map_err(|error| {
            self.unauthenticated("signature", error.detail(scheme), "PiCloud-Signature realm=\"picloud\"")
        })
    }

    /// Counts a request from an address that may not call.
    pub(crate) fn address_denied(&self) {
        self.metrics.turned_away("address");
    }

    fn unauthenticated(
        &self,
        reason: &'static str,
        detail: impl Into<std::borrow::Cow<'static, str>>,
        challenge: &'static str,
    ) -> Problem {
        self.metrics.turned_away(reason);
        Problem::new(ErrorCode::Unauthenticated)
            .detail(detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    fn forbidden(&self, app: AppId, lack: Lack) -> Problem {
        self.metrics.turned_away("forbidden");
        let scope = Capability::AppInvoke(app).scope();
        let detail = match lack {
            Lack::Scope(scope) => format!("the token lacks the scope {scope}"),
            Lack::App => "the token is good for another app only".to_owned(),
            Lack::Role => "the token's holder has no role in the app that may invoke its scripts".to_owned(),
        };
        let challenge = format!("Bearer realm=\"picloud\", error=\"insufficient_scope\", scope=\"{scope}\"");
        let problem = Problem::new(ErrorCode::Forbidden).detail(detail);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => problem.header(WWW_AUTHENTICATE, challenge),
            Err(_) => problem,
        }
    }
}
