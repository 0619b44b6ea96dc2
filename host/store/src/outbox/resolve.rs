//! What is to handle events that were claimed: asked for each batch, so that a trigger that was changed, disabled or
//! deleted, and a principal that may not any more, count from the next event on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use picloud_core::{
    AppId, AppRole, Capability, InstanceRole, PrincipalId, ScriptName, TriggerId, TriggerKind, TriggerName,
    role_satisfies,
};
use uuid::Uuid;

use super::{ClaimedEvent, LaneId};
use crate::{Store, StoreError, text::parse};

/// A trigger as whoever handles its events sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Its id.
    pub id: TriggerId,
    /// Its name.
    pub name: TriggerName,
    /// What it waits for.
    pub kind: TriggerKind,
    /// The script that handles its events.
    pub script: ScriptName,
    /// Whether its events may be handled.
    pub state: TriggerState,
    /// Attempts, where it sets its own.
    pub max_attempts: Option<u16>,
    /// The first wait, where it sets its own, in milliseconds.
    pub retry_base_delay_ms: Option<u64>,
    /// The longest wait, where it sets its own, in milliseconds.
    pub retry_max_delay_ms: Option<u64>,
}

/// Whether events of a trigger may be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerState {
    /// They may.
    Ready,
    /// The trigger is disabled.
    Disabled,
    /// The principal that registered it is gone.
    PrincipalGone(PrincipalId),
    /// The principal that registered it is disabled.
    PrincipalDisabled(PrincipalId),
    /// The principal that registered it may not manage triggers of the app any more.
    PrincipalPowerless(PrincipalId),
}

/// The triggers that are to handle some events.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    triggers: BTreeMap<TriggerId, Arc<Runnable>>,
    consumers: BTreeMap<LaneId, TriggerId>,
}

impl Resolved {
    /// What is to handle an event; `None` if no trigger is there.
    pub fn of(&self, event: &ClaimedEvent) -> Option<&Arc<Runnable>> {
        let id = event.trigger.or_else(|| self.consumers.get(&event.lane).copied())?;
        self.triggers.get(&id)
    }
}

impl Store {
    /// The triggers that are to handle these events.
    pub async fn resolve(&self, events: &[ClaimedEvent]) -> Result<Resolved, StoreError> {
        let triggers: BTreeSet<Uuid> =
            events.iter().filter_map(|event| event.trigger).map(TriggerId::as_uuid).collect();
        let is_message = |event: &&ClaimedEvent| event.trigger.is_none() && event.script.is_none();
        let lanes: BTreeSet<i64> = events.iter().filter(is_message).map(|event| event.lane.0).collect();
        if triggers.is_empty() && lanes.is_empty() {
            return Ok(Resolved::default());
        }
        let rows = sqlx::query!(
            r#"SELECT t.id, t.app_id, t.kind, t.name, t.enabled, t.max_attempts, t.retry_base_delay_ms,
                t.retry_max_delay_ms, t.registered_by_principal, s.name AS script, wanted.lane,
                p.id AS "principal?", p.role AS "instance_role?", p.disabled_at IS NOT NULL AS "is_disabled!",
                m.role AS "app_role?"
            FROM (
                SELECT id, NULL::bigint AS lane FROM unnest($1::uuid[]) AS t (id)
                UNION ALL
                SELECT d.trigger_id, l.id FROM outbox_lanes l
                JOIN queue_trigger_details d ON d.app_id = l.app_id AND d.queue = l.queue WHERE l.id = ANY ($2)
            ) wanted
            JOIN triggers t ON t.id = wanted.id
            JOIN scripts s ON s.id = t.script_id
            LEFT JOIN principals p ON p.id = t.registered_by_principal
            LEFT JOIN app_members m ON m.app_id = t.app_id AND m.principal_id = p.id"#,
            &triggers.into_iter().collect::<Vec<_>>(),
            &lanes.into_iter().collect::<Vec<_>>(),
        );
        let mut resolved = Resolved::default();
        for row in rows.fetch_all(&self.claims).await? {
            let (id, principal) =
                (TriggerId::from_uuid(row.id), PrincipalId::from_uuid(row.registered_by_principal));
            let role: Option<InstanceRole> = row.instance_role.as_deref().map(parse).transpose()?;
            let app_role: Option<AppRole> = row.app_role.as_deref().map(parse).transpose()?;
            let capability = Capability::AppManageTriggers(AppId::from_uuid(row.app_id));
            let state = match role {
                _ if !row.enabled => TriggerState::Disabled,
                None => TriggerState::PrincipalGone(principal),
                Some(_) if row.is_disabled => TriggerState::PrincipalDisabled(principal),
                Some(role) if role_satisfies(role, app_role, capability) => TriggerState::Ready,
                Some(_) => TriggerState::PrincipalPowerless(principal),
            };
            let runnable = Runnable {
                id,
                name: parse(&row.name)?,
                kind: parse(&row.kind)?,
                script: parse(&row.script)?,
                state,
                max_attempts: row.max_attempts.map(i16::cast_unsigned),
                retry_base_delay_ms: row.retry_base_delay_ms.map(i64::cast_unsigned),
                retry_max_delay_ms: row.retry_max_delay_ms.map(i64::cast_unsigned),
            };
            if let Some(lane) = row.lane {
                resolved.consumers.insert(LaneId(lane), id);
            }
            resolved.triggers.insert(id, Arc::new(runnable));
        }
        Ok(resolved)
    }
}
