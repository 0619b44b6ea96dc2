//! The node's metrics. No label is a name that users choose, so that their number stays what it is.

use std::fmt;

use picloud_core::{ErrorCode, Usage};
use picloud_store::Verdict;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

type ByOutcome = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters and histograms of a node.
pub(crate) struct Metrics {
    registry: Registry,
    outcomes: ByOutcome,
    /// The counter of successes, looked up once.
    succeeded: Counter,
    refused: ByOutcome,
    turned_away: ByOutcome,
    requests: ByOutcome,
    answered: [Counter; 6],
    duration: Histogram,
    fuel: Counter,
    pub(crate) waited: Counter,
    events: ByOutcome,
    events_done: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) history_dropped: Counter,
    running: Gauge,
    waiting: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let outcomes = ByOutcome::default();
        let requests = ByOutcome::default();
        let events = ByOutcome::default();
        let classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
        let mut metrics = Self {
            registry: Registry::with_prefix("picloud"),
            succeeded: outcomes.get_or_create_owned(&[("outcome", "ok")]),
            answered: classes.map(|class| requests.get_or_create_owned(&[("status", class)])),
            outcomes,
            requests,
            events_done: events.get_or_create_owned(&[("outcome", "done")]),
            events,
            refused: ByOutcome::default(),
            turned_away: ByOutcome::default(),
            // From 100 us to 26 s.
            duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 19)),
            fuel: Counter::default(),
            waited: Counter::default(),
            abandoned: Counter::default(),
            history_dropped: Counter::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Answers of the app listener, by class of status", self.requests.clone());
        r.register("invocations", "Finished invocations, by outcome", self.outcomes.clone());
        r.register_with_unit(
            "invocation_duration",
            "Time in the sandbox",
            Unit::Seconds,
            self.duration.clone(),
        );
        r.register("fuel", "Fuel used", self.fuel.clone());
        r.register("admission_waits", "Requests that waited for a slot", self.waited.clone());
        r.register(
            "admission_refusals",
            "Requests that got no slot, or whose app has no fuel left, by reason",
            self.refused.clone(),
        );
        r.register(
            "access_refusals",
            "Requests that the app, the route or a rate limit did not let in, by reason",
            self.turned_away.clone(),
        );
        r.register("events", "Events of the outbox that were settled, by outcome", self.events.clone());
        r.register("abandoned", "Requests whose client went away before the answer", self.abandoned.clone());
        r.register("history_dropped", "Records that the history has lost", self.history_dropped.clone());
        r.register("running", "Invocations that run now", self.running.clone());
        r.register("waiting", "Invocations that wait for a slot now", self.waiting.clone());
    }

    /// Counts a finished invocation.
    pub(crate) fn finished(&self, error: Option<ErrorCode>, usage: &Usage) {
        match error {
            None => self.succeeded.inc(),
            Some(code) => self.outcomes.get_or_create(&[("outcome", code.as_str())]).inc(),
        };
        self.fuel.inc_by(usage.fuel);
        self.duration.observe(usage.duration.as_secs_f64());
    }

    /// Counts an answer of the app listener.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        self.answered.get(class).unwrap_or(&self.answered[0]).inc();
    }

    /// Counts an event that was settled by its own.
    pub(crate) fn settled(&self, verdict: &Verdict) {
        let outcome = match verdict {
            Verdict::Done { .. } => return self.event_done(),
            Verdict::Retry { .. } => "retry",
            Verdict::GiveBack { .. } => "given_back",
            Verdict::Dead { .. } => "dead",
        };
        self.events.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts an event that left the outbox with its effects.
    pub(crate) fn event_done(&self) {
        self.events_done.inc();
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refused.get_or_create(&[("reason", code.as_str())]).inc();
    }

    /// Counts a request that was not let in, by what it failed at.
    pub(crate) fn turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&[("reason", reason)]).inc();
    }

    /// All of it in the Prometheus text format.
    pub(crate) fn text(&self, running: usize, waiting: usize) -> Result<String, fmt::Error> {
        self.running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
