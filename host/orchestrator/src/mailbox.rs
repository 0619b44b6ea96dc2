//! Mail that comes in: whose it is, and the events that it becomes.

use picloud_core::{AppId, Limits, OutboxKind, TriggerId, TriggerKind};
use picloud_store::{AppEvents, NewEvent, OutboxLimit, StoreError};

use crate::Orchestrator;

/// How often a mail is tried whose apps are being deleted meanwhile.
const TRIES: u32 = 3;

impl Orchestrator {
    /// The trigger that takes mail for an address, if it is enabled. `local` is the part before the `@`, in lower case.
    pub async fn email_trigger(&self, local: &str) -> Result<Option<TriggerId>, StoreError> {
        self.store.email_trigger(local).await
    }

    /// Commits one event of a mail for each of the triggers, all or none. Those that are gone or disabled by now are passed
    /// over.
    ///
    /// `payload` makes what the event says, a JSON object as text: it gets the trigger and the most bytes that the app
    /// takes. [`StoreError::OutboxFull`] if one of the apps has no room.
    pub async fn take_mail(
        &self,
        triggers: &[TriggerId],
        payload: impl Fn(TriggerId, usize) -> String + Send,
    ) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            let mut batches: Vec<AppEvents> = Vec::new();
            for (app, trigger) in self.store.email_triggers(triggers).await? {
                let limits = self.limits(app);
                let most = usize::try_from(limits.event_bytes).unwrap_or(usize::MAX);
                let event = NewEvent::new(OutboxKind::Trigger(TriggerKind::Email), payload(trigger, most));
                let event = NewEvent { trigger: Some(trigger), ..event };
                match batches.last_mut().filter(|batch| batch.app == app) {
                    Some(batch) => batch.events.push(event),
                    None => {
                        batches.push(AppEvents { app, events: vec![event], limit: OutboxLimit::of(&limits) });
                    }
                }
            }
            match self.store.enqueue_for_apps(&batches).await {
                // An app went in between: its triggers are gone with it.
                Err(StoreError::NotFound { .. }) if tries < TRIES => tries += 1,
                ended => return ended,
            }
        }
    }

    /// Those of an app that is so new that this node does not know it yet are the defaults.
    fn limits(&self, app: AppId) -> Limits {
        self.invoker.directory.by_id(app).map_or_else(Limits::default, |app| app.limits)
    }
}
