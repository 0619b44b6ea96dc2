//! `picloud:runtime/http`: the invocation's budgets; whether a call is allowed is decided behind the port.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use picloud_core::{EgressCall, EgressRedirects, ErrorCode, HostError, Method};

use super::{Answer, Failure, answer, running};
use crate::{
    bindings::picloud::runtime::http::{Host, Request, Response},
    state::{Shared, State},
};

/// How long a call may take where the script does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a script can say.
const LONGEST_TIMEOUT_MS: u64 = 60_000;

impl Host for State {
    async fn send(&mut self, request: Request) -> Answer<Response> {
        answer(send(self, request).await)
    }
}

async fn send(state: &mut State, request: Request) -> Result<Response, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    shared.charge_call(request.method.len() + request.url.len() + headers + request.body.len())?;
    let call = call(&shared, request)?;
    shared.charge_egress()?;
    // Also where it fails: a redirect may be refused after what came before it was done.
    shared.progress().called_outside |= !call.method.is_safe();
    let answered = shared.host.http(call, &shared.egress).await?;
    shared.charge_bytes(answered.size())?;
    Ok(Response {
        status: answered.status,
        headers: answered.headers,
        body: answered.body.into(),
        url: answered.url,
    })
}

/// The call, held to the limits of the app and of the invocation.
fn call(shared: &Shared, request: Request) -> Result<EgressCall, HostError> {
    let invalid = |message: String| HostError::new(ErrorCode::Invalid, format!("http: {message}"));
    let limit = shared.limits.egress_bytes;
    if request.body.len() as u64 > limit {
        let message = format!(
            "http: the body has {} bytes; this app's limit egress_bytes is {limit}",
            request.body.len()
        );
        return Err(HostError::new(ErrorCode::TooLarge, message));
    }
    let method: Method = request.method.parse().map_err(|_| {
        invalid(format!(
            "the method is {:?}; allowed are {}",
            request.method,
            Method::ALL.map(Method::as_str).join(", ")
        ))
    })?;
    let redirects = match request.redirects {
        None => EgressRedirects::Follow(EgressRedirects::MOST),
        Some(0) => EgressRedirects::Answer,
        Some(most) => match u8::try_from(most) {
            Ok(most) if most <= EgressRedirects::MOST => EgressRedirects::Follow(most),
            _ => {
                let most_allowed = EgressRedirects::MOST;
                return Err(invalid(format!("redirects is {most}; allowed are 0 to {most_allowed}")));
            }
        },
    };
    let timeout = match request.timeout_ms {
        None => DEFAULT_TIMEOUT,
        Some(given @ 1..=LONGEST_TIMEOUT_MS) => Duration::from_millis(given),
        Some(given) => {
            return Err(invalid(format!("timeout_ms is {given}; allowed are 1 to {LONGEST_TIMEOUT_MS}")));
        }
    };
    Ok(EgressCall {
        method,
        url: request.url,
        headers: request.headers,
        body: request.body.into(),
        redirects,
        response_bytes: limit,
        // The invocation's own deadline ends it as well, and before this one where it comes first.
        deadline: Instant::now() + timeout,
        mask: shared.mask(),
    })
}
