//! What an app used, by hour.

use axum::{Json, extract::State};
use picloud_core::{ErrorCode, ScriptName};
use picloud_store::UsageHour;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::QueryOf,
    page::{Cursor, Page, start},
    store_error::from_store,
};

/// What one page covers, so that an app with many scripts has pages of a bounded size.
const PAGE: Duration = Duration::DAY;

/// What one script did in one hour with one outcome.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageView {
    /// The start of the hour.
    #[serde(with = "time::serde::rfc3339")]
    hour: OffsetDateTime,
    /// The script.
    #[schema(value_type = String)]
    script: ScriptName,
    /// `ok`, or the code of the failure.
    outcome: &'static str,
    /// How many invocations.
    count: u64,
    /// The fuel they used.
    fuel_used: u64,
    /// The time they took, in milliseconds.
    duration_ms: f64,
}

impl From<UsageHour> for UsageView {
    fn from(usage: UsageHour) -> Self {
        Self {
            hour: usage.hour,
            script: usage.script,
            outcome: usage.error.map_or("ok", ErrorCode::as_str),
            count: usage.count,
            fuel_used: usage.fuel,
            duration_ms: usage.duration.as_secs_f64() * 1000.0,
        }
    }
}

/// Which hours to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// How many hours back, the present one included: 1 to 744.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 744, default = 24)]
    hours: Hours,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// A number of hours, up to a month.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
struct Hours(u16);

impl Default for Hours {
    fn default() -> Self {
        Self(24)
    }
}

impl TryFrom<u16> for Hours {
    type Error = String;

    fn try_from(hours: u16) -> Result<Self, String> {
        if (1..=744).contains(&hours) {
            Ok(Self(hours))
        } else {
            Err(format!("hours is {hours}; allowed is 1 to 744"))
        }
    }
}

/// Exact counts of an app's invocations by hour, script and outcome, oldest first. A page covers a day.
#[utoipa::path(get, path = "/api/v1/apps/{app}/usage", tag = "history", params(UsageQuery),
    responses((status = 200, description = "A page of counts", body = Page<UsageView>)))]
pub(crate) async fn read_usage(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<UsageQuery>,
) -> Result<Json<Page<UsageView>>, ApiError> {
    let now = OffsetDateTime::now_utc();
    let oldest = start_of_hour(now) - Duration::hours(i64::from(query.hours.0) - 1);
    let asked: Option<i64> = start(query.cursor.as_ref())?;
    let from = asked.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()).unwrap_or(oldest);
    let from = from.max(oldest);
    let to = from.checked_add(PAGE).unwrap_or(now);
    let hours = context.store.usage(app.id, from, to).await.map_err(from_store)?;
    let next_cursor = (to <= now).then(|| Cursor::after(&to.unix_timestamp()));
    Ok(Json(Page { items: hours.into_iter().map(UsageView::from).collect(), next_cursor }))
}

fn start_of_hour(time: OffsetDateTime) -> OffsetDateTime {
    let into_hour = time.unix_timestamp().rem_euclid(3600);
    OffsetDateTime::from_unix_timestamp(time.unix_timestamp() - into_hour).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_hour_starts_at_its_start() {
        assert_eq!(start_of_hour(datetime!(2026-01-02 03:59:59.9 UTC)), datetime!(2026-01-02 03:00 UTC));
    }
}
