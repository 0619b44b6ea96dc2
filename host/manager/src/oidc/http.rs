//! Calls of the issuer: few at once, 10 seconds at most, 1 MiB at most, no redirects, over TLS.

use std::{sync::Arc, time::Duration};

use axum::http::header;
use tokio::sync::Semaphore;
use ureq::{Agent, RequestBuilder, typestate::WithoutBody};

use super::{
    issuer::{IssuerError, Part},
    settings::IssuerUrl,
};

/// The longest that a call takes, its answer included.
const MOST_TIME: Duration = Duration::from_secs(10);

/// The longest answer.
const MOST_BYTES: u64 = 1 << 20;

/// Calls at once.
const AT_ONCE: usize = 8;

const JSON: &str = "application/json";

/// A client that trusts what it calls as little as it can.
pub(super) struct Http {
    agent: Agent,
    turns: Arc<Semaphore>,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Http {
    /// For an issuer; without TLS only where that is on this machine.
    pub(super) fn new(issuer: &IssuerUrl) -> Self {
        let config = Agent::config_builder()
            .https_only(!issuer.is_plain())
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(MOST_TIME))
            .user_agent("picloud");
        // What is on this machine is not reached by way of another one.
        let config = if issuer.is_plain() { config.proxy(None) } else { config };
        Self { agent: config.build().new_agent(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Reads `url`, perhaps with a token.
    pub(super) async fn get(
        &self,
        part: Part,
        url: &str,
        token: Option<&str>,
    ) -> Result<Answer, IssuerError> {
        let mut request: RequestBuilder<WithoutBody> = self.agent.get(url).header(header::ACCEPT, JSON);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.call(part, move || request.call()).await
    }

    /// Sends a form to `url`, perhaps with basic authentication.
    pub(super) async fn post(
        &self,
        part: Part,
        url: &str,
        form: String,
        authorization: Option<String>,
    ) -> Result<Answer, IssuerError> {
        let mut request = self.agent.post(url).header(header::ACCEPT, JSON);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.call(part, move || request.send(form)).await
    }

    async fn call(
        &self,
        part: Part,
        call: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Result<Answer, IssuerError> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| IssuerError::Busy)?;
        // The call goes on if its client goes away, and so keeps its turn.
        let called = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut response = call()?;
            let status = response.status().as_u16();
            let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec()?;
            Ok::<_, ureq::Error>(Answer { status, body })
        });
        let answer =
            called.await.map_err(|error| IssuerError::Unreachable { part, cause: error.to_string() })?;
        answer.map_err(|error| IssuerError::Unreachable { part, cause: error.to_string() })
    }
}
