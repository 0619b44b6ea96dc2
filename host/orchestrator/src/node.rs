//! The node as the control plane sees it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use picloud_core::{
    Answer, AppId, BoxFuture, Completion, DirectCall, DirectResult, Effects, EgressLog, ErrorCode, Event,
    EventKind, ExecutionId, Fault, Hour, Node, NodeStatus, Outcome, Rehearsal, Rehearsed, RehearsedEvent,
    Usage,
};
use picloud_store::{AnswerView, Verdict};
use time::OffsetDateTime;

use crate::{
    Orchestrator,
    dispatch::{StoredRequest, keep},
    history::Run,
    ingress::validate,
    invoker::NotAdmitted,
    runner::Job,
};

impl Node for Orchestrator {
    fn app_changed(&self, app: AppId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.invoker.directory.reload(app).await {
                tracing::warn!(%error, %app, "a change could not be loaded yet");
                self.invoker.directory.mark_stale();
            }
        })
    }

    fn invoke(&self, call: DirectCall) -> BoxFuture<'_, DirectResult> {
        Box::pin(self.direct(call))
    }

    fn rehearse(&self, call: Rehearsal) -> BoxFuture<'_, Rehearsed> {
        Box::pin(self.try_out(call))
    }

    fn status(&self) -> NodeStatus {
        let is_draining = self.is_draining.load(Relaxed);
        NodeStatus {
            ready: !is_draining,
            draining: is_draining,
            pool_mode: self.sandbox.pool_mode,
            reset: self.sandbox.reset,
            running: self.invoker.admission.running(),
            waiting: self.invoker.admission.waiting(),
        }
    }

    fn metrics(&self) -> String {
        let (running, waiting) = (self.invoker.admission.running(), self.invoker.admission.waiting());
        self.invoker.metrics.text(running, waiting).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics cannot be written");
            String::new()
        })
    }
}

impl Orchestrator {
    async fn direct(&self, call: DirectCall) -> DirectResult {
        let invoker = &self.invoker;
        let Some(app) = invoker.directory.by_id(call.app) else {
            return refused(ErrorCode::AppNotFound, "no such app");
        };
        let Some(script) = app.scripts.get(&call.script) else {
            return refused(
                ErrorCode::ScriptNotFound,
                &format!("no script \"{}\" in app \"{}\"", call.script, app.name),
            );
        };
        let _permit = match invoker.admit(&app).await {
            Ok(permit) => permit,
            Err(refusal) => return refusal.direct(),
        };
        let execution = ExecutionId::generate();
        let request_id = call.request_id;
        let run = Run { id: execution, request_id, app: &app, script, kind: EventKind::Invoke, origin: None };
        let begun = invoker.history.begin(run);
        let limit = app.limits.response_bytes;
        let accept = |answer| match answer {
            Answer::Value(value) if value.len() as u64 > limit => {
                let message = format!("the value has {} bytes; the limit is {limit}", value.len());
                Err(Fault::new(ErrorCode::BadResponse, message))
            }
            Answer::Value(value) => Ok(value),
            Answer::Http(_) => Err(Fault::new(ErrorCode::BadResponse, "the answer is not a value")),
        };
        let job = Job {
            app: &app,
            script,
            execution,
            egress: begun.egress(),
            spent: &begun.spent.clone(),
            acknowledge: None,
            keep: None,
        };
        let ran = invoker.runner.run(job, || Event::Invoke(call.event.clone()), accept).await;
        let outcome =
            ran.outcome.as_ref().map_or_else(|fault| Outcome::Failed(fault.clone()), |_| Outcome::Succeeded);
        begun.finish(outcome, None, ran.usage, ran.logs.clone());
        DirectResult {
            execution: Some(execution),
            outcome: ran.outcome,
            logs: ran.logs.lines,
            usage: ran.usage,
            retry_after: None,
        }
    }
}

impl Orchestrator {
    async fn try_out(&self, call: Rehearsal) -> Rehearsed {
        let invoker = &self.invoker;
        let Some(app) = invoker.directory.by_id(call.app) else {
            return not_rehearsed(Fault::new(ErrorCode::AppNotFound, "no such app"));
        };
        let Some(script) = app.scripts.get(&call.script) else {
            let message = format!("no script \"{}\" in app \"{}\"", call.script, app.name);
            return not_rehearsed(Fault::new(ErrorCode::ScriptNotFound, message));
        };
        let script = match self.dispatcher.wanted_version(&app, script, call.version).await {
            Ok(script) => script,
            Err(Verdict::Dead { fault, .. }) => return not_rehearsed(Fault::new(fault.code, fault.message)),
            Err(_) => {
                return not_rehearsed(Fault::new(
                    ErrorCode::DatabaseUnavailable,
                    "the database does not answer",
                ));
            }
        };
        let _permit = match invoker.admit(&app).await {
            Ok(permit) => permit,
            Err(refusal) => {
                let DirectResult { outcome, retry_after, .. } = refusal.direct();
                return Rehearsed {
                    outcome,
                    retry_after,
                    ..not_rehearsed(Fault::new(ErrorCode::NodeBusy, ""))
                };
            }
        };
        let (event, request) = match call.event {
            RehearsedEvent::Trigger { kind, event } => (Event::Trigger { kind, event }, None),
            RehearsedEvent::Request(text) => match StoredRequest::read(&text) {
                Ok(request) => (request.event(), Some(request)),
                Err(fault) => return not_rehearsed(fault),
            },
        };
        let spent = Arc::default();
        let job = Job {
            app: &app,
            script: &script,
            execution: ExecutionId::generate(),
            egress: EgressLog::default(),
            spent: &spent,
            acknowledge: None,
            keep: None,
        };
        let Completion { outcome, effects, logs, usage, .. } = invoker.runner.rehearse(job, event).await;
        app.state.fuel.spend(Hour::of(OffsetDateTime::now_utc()), usage.fuel);
        let outcome = outcome.and_then(|answer| match (answer, request) {
            (Answer::Value(value), None) => Ok(value),
            (Answer::Http(answer), Some(request)) => {
                let response = validate(answer, &app.limits, &app.name, request.origin())?;
                serde_json::to_string(&AnswerView::from(&keep(&response)))
                    .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))
            }
            (Answer::Http(_), None) => Err(Fault::new(ErrorCode::BadResponse, "the answer is not a value")),
            (Answer::Value(_), Some(_)) => {
                Err(Fault::new(ErrorCode::BadResponse, "the answer is not a response"))
            }
        });
        let effects = if outcome.is_ok() { effects } else { Effects::default() };
        Rehearsed { outcome, effects, logs: logs.lines, usage, retry_after: None }
    }
}

fn not_rehearsed(fault: Fault) -> Rehearsed {
    Rehearsed {
        outcome: Err(fault),
        effects: Effects::default(),
        logs: Vec::new(),
        usage: Usage::default(),
        retry_after: None,
    }
}

impl NotAdmitted {
    fn direct(self) -> DirectResult {
        match self {
            Self::Refused(refusal) => refused(refusal.code(), picloud_edge::title_of(refusal.code())),
            Self::OverBudget(over) => {
                DirectResult { retry_after: Some(over.retry_after()), ..not_begun(over.fault()) }
            }
        }
    }
}

fn refused(code: ErrorCode, message: &str) -> DirectResult {
    not_begun(Fault::new(code, message))
}

fn not_begun(fault: Fault) -> DirectResult {
    DirectResult {
        execution: None,
        outcome: Err(fault),
        logs: Vec::new(),
        usage: Usage::default(),
        retry_after: None,
    }
}
