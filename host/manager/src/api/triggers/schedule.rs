//! When a schedule runs next, and when it ran.

use axum::{Json, extract::State};
use picloud_core::{ErrorCode, EventId, Schedule, TriggerSource};
use picloud_store::{CronSlot, PageSize};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::views::TriggerRef;
use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{PathNames, QueryOf},
    store_error::from_store,
};

/// The most times of an answer.
const MAX_COUNT: u32 = 100;

/// How many times are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ScheduleQuery {
    /// As many of each, 1 to 100.
    #[serde(default = "ten")]
    #[param(minimum = 1, maximum = 100, default = 10)]
    count: u32,
}

const fn ten() -> u32 {
    10
}

/// The times of a schedule. All are as the clocks of its time zone show them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleView {
    /// The expression.
    cron: String,
    /// The time zone.
    timezone: &'static str,
    /// The times to come if the trigger is enabled, the next one first. A run starts within `jitter_ms` of its time.
    #[schema(value_type = Vec<String>)]
    next: Vec<Rfc3339>,
    /// The times that have come, the latest first, as long as they are kept.
    past: Vec<PastSlot>,
}

/// A time that has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PastSlot {
    /// The time.
    #[serde(with = "time::serde::rfc3339")]
    scheduled_for: OffsetDateTime,
    /// The event that was made for it; null where it was missed.
    #[schema(value_type = Option<uuid::Uuid>)]
    event_id: Option<EventId>,
    /// When that was.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Rfc3339(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

impl PastSlot {
    fn of(schedule: &Schedule, slot: CronSlot) -> Self {
        Self {
            scheduled_for: schedule.in_zone(slot.scheduled_for),
            event_id: slot.event,
            created_at: slot.created_at,
        }
    }
}

/// When a trigger of a schedule runs next, and when it ran.
#[utoipa::path(get, path = "/api/v1/apps/{app}/triggers/{trigger}/schedule", tag = "triggers", params(ScheduleQuery),
    responses((status = 200, description = "The times", body = ScheduleView)))]
pub(crate) async fn read_schedule(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, named)): PathNames<(String, TriggerRef)>,
    QueryOf(query): QueryOf<ScheduleQuery>,
) -> Result<Json<ScheduleView>, ApiError> {
    if !(1..=MAX_COUNT).contains(&query.count) {
        let detail = format!("count is {}; allowed is 1 to {MAX_COUNT}", query.count);
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("count"));
    }
    let trigger = named.find(&context, &app).await?;
    let TriggerSource::Cron(cron) = &trigger.spec.source else {
        let detail = format!(
            "the trigger {} is of kind {}; only one of kind cron has a schedule",
            trigger.spec.name,
            trigger.spec.kind().as_str()
        );
        return Err(ApiError::new(ErrorCode::Invalid, detail));
    };
    let size = PageSize::new(query.count).map_err(from_store)?;
    let past = context.store.cron_slots(trigger.id, size).await.map_err(from_store)?;
    // One that is due and not enqueued yet is to come.
    let due = trigger.next_at.map(|time| cron.schedule.in_zone(time));
    let after = due.unwrap_or_else(OffsetDateTime::now_utc);
    let following = cron.schedule.next(after, size.get());
    let next = due.into_iter().chain(following).take(size.get()).map(Rfc3339).collect();
    Ok(Json(ScheduleView {
        cron: cron.schedule.as_str().to_owned(),
        timezone: cron.schedule.timezone(),
        next,
        past: past.into_iter().map(|slot| PastSlot::of(&cron.schedule, slot)).collect(),
    }))
}
