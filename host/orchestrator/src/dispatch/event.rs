//! What becomes of an event whose run failed, or that may not run.

use std::time::Duration;

use picloud_core::{ErrorCode, Fault, RetryPolicy};
use picloud_store::{EventFault, Runnable, TriggerState, Verdict};
use uuid::Uuid;

/// How a trigger's events are tried again.
pub(super) fn policy(trigger: Option<&Runnable>, default: RetryPolicy) -> RetryPolicy {
    let Some(trigger) = trigger else { return default };
    let milliseconds = |own: Option<u64>, default| own.map_or(default, Duration::from_millis);
    let base_delay = milliseconds(trigger.retry_base_delay_ms, default.base_delay);
    RetryPolicy {
        max_attempts: trigger.max_attempts.unwrap_or(default.max_attempts),
        base_delay,
        max_delay: milliseconds(trigger.retry_max_delay_ms, default.max_delay).max(base_delay),
        jitter: default.jitter,
    }
}

/// What becomes of an event whose run failed. What would fail again in the same way is given up at once.
pub(super) fn after_failure(
    fault: &Fault,
    attempt: u16,
    policy: &RetryPolicy,
    script: (picloud_core::ScriptName, i32),
) -> Verdict {
    let why = EventFault::new(fault.code, with_place(fault));
    let is_hopeless = matches!(
        fault.code,
        ErrorCode::NoHandler
            | ErrorCode::CompileError
            | ErrorCode::ScriptNotFound
            | ErrorCode::AppNotFound
            | ErrorCode::BadRequest
    );
    if is_hopeless || policy.is_exhausted(attempt) {
        return Verdict::Dead { fault: why, script: Some(script) };
    }
    Verdict::Retry { delay: policy.delay(attempt, random()), fault: why }
}

/// Why a trigger's events may not be handled, if they may not.
pub(super) fn refusal(state: TriggerState) -> Option<EventFault> {
    let (code, message) = match state {
        TriggerState::Ready => return None,
        TriggerState::Disabled => (ErrorCode::TriggerDisabled, "the trigger is disabled".to_owned()),
        TriggerState::PrincipalGone(id) => {
            (ErrorCode::PrincipalGone, format!("the principal {id}, which registered the trigger, is gone"))
        }
        TriggerState::PrincipalDisabled(id) => (
            ErrorCode::PrincipalGone,
            format!("the principal {id}, which registered the trigger, is disabled"),
        ),
        TriggerState::PrincipalPowerless(id) => (
            ErrorCode::PrincipalPowerless,
            format!(
                "the principal {id}, which registered the trigger, may not manage triggers of the app any more"
            ),
        ),
    };
    Some(EventFault::new(code, message))
}

fn with_place(fault: &Fault) -> String {
    match &fault.position {
        Some(at) => format!("{} ({}:{}:{})", fault.message, at.script, at.line, at.column),
        None => fault.message.clone(),
    }
}

/// From 0 to 1.
pub(super) fn random() -> f64 {
    let bits = Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
