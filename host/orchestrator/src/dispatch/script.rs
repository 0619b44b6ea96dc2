//! Running the script that handles an event of a trigger.

use std::{sync::Arc, time::Duration};

use picloud_core::{
    Answer, ErrorCode, Event, EventHead, EventOrigin, ExecutionId, Fault, Outcome, RequestId, ScriptName,
    TriggerKind,
};
use picloud_store::{Acknowledge, EventFault, Verdict};

use super::{BUSY, Dispatcher, Handled, event, work::Task};
use crate::{
    admission::Permit,
    directory::{AppEntry, ScriptEntry},
    history::Run,
    invoker::NotAdmitted,
    runner::{Fate, Job},
};

impl Dispatcher {
    /// Runs the script that handles an event of a trigger.
    pub(super) async fn run_script(&self, task: &Task, kind: TriggerKind) -> Handled {
        let event = &task.event;
        let Some(app) = self.invoker.directory.by_id(event.app) else {
            // It is being deleted, and its events with it.
            return Handled::Verdict(Verdict::GiveBack { delay: BUSY });
        };
        let name = task.trigger.as_ref().map(|trigger| &trigger.script).or(event.script.as_ref());
        let Some(script) = name.and_then(|name| app.scripts.get(name)) else {
            return Handled::Verdict(no_script(name));
        };
        let script = match self.wanted_version(&app, script, event.version).await {
            Ok(script) => script,
            Err(verdict) => return Handled::Verdict(verdict),
        };
        let _permit = match self.admit(&app).await {
            Ok(permit) => permit,
            Err(verdict) => return Handled::Verdict(verdict),
        };
        self.run_admitted(task, kind, &app, &script).await
    }

    async fn run_admitted(
        &self,
        task: &Task,
        kind: TriggerKind,
        app: &AppEntry,
        script: &Arc<ScriptEntry>,
    ) -> Handled {
        let event = &task.event;
        let trigger = task.trigger.as_ref().map(|trigger| &trigger.name);
        let (id, attempt) = (event.claim.event, event.claim.attempt);
        let head = EventHead { id, kind, trigger, attempt, created_at: event.created_at };
        let text = head.with(&event.payload);
        let execution = ExecutionId::generate();
        let origin = EventOrigin {
            event: event.claim.event,
            lineage: event.lineage,
            trigger: trigger.cloned(),
            attempt: event.claim.attempt,
        };
        let run = Run {
            id: execution,
            request_id: RequestId::from_uuid(event.claim.event.as_uuid()),
            app,
            script,
            kind: kind.event_kind(),
            origin: Some(&origin),
        };
        let begun = self.invoker.history.begin(run);
        let limit = app.limits.response_bytes;
        let accept = |answer| match answer {
            Answer::Value(value) if value.len() as u64 > limit => {
                let message = format!("the value has {} bytes; the limit is {limit}", value.len());
                Err(Fault::new(ErrorCode::BadResponse, message))
            }
            Answer::Value(_) => Ok(()),
            Answer::Http(_) => Err(Fault::new(ErrorCode::BadResponse, "the answer is not a value")),
        };
        let acknowledge =
            Acknowledge { claim: event.claim, lineage: event.lineage, dead_letter: event.dead_letter };
        let job = Job {
            app,
            script,
            execution,
            egress: begun.egress(),
            spent: &begun.spent.clone(),
            acknowledge: Some(acknowledge),
            keep: None,
        };
        let make = || Event::Trigger { kind, event: text.clone() };
        let ran = self.invoker.runner.run(job, make, accept).await;
        let outcome =
            ran.outcome.as_ref().map_or_else(|fault| Outcome::Failed(fault.clone()), |()| Outcome::Succeeded);
        begun.finish(outcome, None, ran.usage, ran.logs);
        match (ran.outcome, ran.fate) {
            (_, Fate::Committed | Fate::Superseded) => Handled::Settled,
            (Ok(()), Fate::Open) => Handled::Verdict(Verdict::Done {
                dead_letter: event.dead_letter,
                is_grouped: event.group.is_some(),
            }),
            (Err(fault), Fate::Open) => {
                let policy = event::policy(task.trigger.as_deref(), self.config.retry);
                let script = (script.name.clone(), script.version);
                Handled::Verdict(event::after_failure(&fault, event.claim.attempt, &policy, script))
            }
        }
    }

    /// Waits for a slot. Where there is none, or no fuel is left, the event is given back.
    pub(super) async fn admit(&self, app: &AppEntry) -> Result<Permit, Verdict> {
        self.invoker.admit(app).await.map_err(|refusal| match refusal {
            NotAdmitted::Refused(_) => Verdict::GiveBack { delay: BUSY },
            NotAdmitted::OverBudget(over) => {
                Verdict::GiveBack { delay: Duration::from_secs(u64::from(over.retry_after())) }
            }
        })
    }

    /// The version of a script that is to handle an event: the active one, or one that was chosen.
    pub(crate) async fn wanted_version(
        &self,
        app: &AppEntry,
        script: &Arc<ScriptEntry>,
        version: Option<i32>,
    ) -> Result<Arc<ScriptEntry>, Verdict> {
        match version {
            Some(version) if version != script.version => self.chosen_version(app, script, version).await,
            _ => Ok(Arc::clone(script)),
        }
    }

    async fn chosen_version(
        &self,
        app: &AppEntry,
        script: &ScriptEntry,
        version: i32,
    ) -> Result<Arc<ScriptEntry>, Verdict> {
        match self.store.version_image(app.id, &script.name, version).await {
            Ok(Some((image, secrets))) => Ok(Arc::new(ScriptEntry {
                name: script.name.clone(),
                version,
                image,
                secrets,
                limits: script.limits,
            })),
            Ok(None) => Err(Verdict::Dead {
                fault: EventFault::new(
                    ErrorCode::ScriptNotFound,
                    format!("version {version} of the script {} does not exist any more", script.name),
                ),
                script: Some((script.name.clone(), version)),
            }),
            Err(error) => {
                tracing::warn!(%error, "a version of a script could not be read");
                Err(Verdict::GiveBack { delay: BUSY })
            }
        }
    }
}

/// What becomes of an event whose script is gone.
pub(super) fn no_script(name: Option<&ScriptName>) -> Verdict {
    let message = match name {
        Some(name) => format!("the script {name} does not exist any more"),
        None => "nothing says which script is to handle the event".to_owned(),
    };
    Verdict::Dead { fault: EventFault::new(ErrorCode::ScriptNotFound, message), script: None }
}
