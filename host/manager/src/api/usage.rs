//! What apps used: of one app by script and hour or day, and of all apps, with who is near a limit.

mod near;

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use picloud_core::{AppId, AppName, ErrorCode, ScriptName};
use picloud_store::{AppsSeen, UsageCounts, UsagePeriod, UsageRange, UsageRow};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::QueryOf,
    page::{Cursor, Page, PageLimit, PageQuery, start},
    store_error::from_store,
};
use near::NearView;

/// The longest range by hour: a month. By day it is as long as counters can be kept.
const MOST_BY_HOUR: Duration = Duration::days(31);
const MOST_BY_DAY: Duration = Duration::days(3_660);

/// What usage is added up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Period {
    /// Hours.
    #[default]
    Hour,
    /// Days, in UTC.
    Day,
}

/// Which hours to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// From when on (RFC 3339); a day before `to` if it is left out. The hour or day that it is in counts as a whole.
    #[param(value_type = Option<String>)]
    #[serde(default, with = "time::serde::rfc3339::option")]
    from: Option<OffsetDateTime>,
    /// Until when (RFC 3339); now if it is left out. The hour or day that it is in counts as a whole.
    #[param(value_type = Option<String>)]
    #[serde(default, with = "time::serde::rfc3339::option")]
    to: Option<OffsetDateTime>,
    /// What is added up: `hour`, over at most 31 days, or `day`, in UTC.
    #[serde(default)]
    #[param(value_type = Option<Period>, default = "hour")]
    by: Period,
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// What some invocations used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountsView {
    /// How many there were.
    invocations: u64,
    /// Those that failed, by error code.
    errors: BTreeMap<&'static str, u64>,
    /// Units of fuel.
    fuel_used: u64,
    /// The time they took in all, in milliseconds.
    duration_ms: f64,
    /// The time that half of them took at most, in milliseconds, at most an eighth too long. Null where it is not known.
    p50_ms: Option<f64>,
    /// That 90 of 100 took at most.
    p90_ms: Option<f64>,
    /// That 99 of 100 took at most.
    p99_ms: Option<f64>,
}

/// What one script used in one hour or day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageView {
    /// When that begins.
    #[serde(with = "time::serde::rfc3339")]
    start: OffsetDateTime,
    /// The script.
    #[schema(value_type = String)]
    script: ScriptName,
    /// What it used.
    #[serde(flatten)]
    counts: CountsView,
}

/// What an app used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageAnswer {
    /// From when on.
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    /// Before when.
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
    /// What is added up.
    by: Period,
    /// By hour or day and script, oldest first.
    items: Vec<UsageView>,
    /// All of the range, also what is on other pages.
    totals: CountsView,
    /// Where the next page starts; null on the last page.
    next_cursor: Option<Cursor>,
}

/// What an app used lately.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppUsageView {
    /// The app.
    #[schema(value_type = String)]
    app: AppName,
    /// Its invocations in the present day (UTC).
    invocations_of_day: u64,
    /// Those of them that failed.
    failures_of_day: u64,
    /// Fuel in the present hour.
    fuel_of_hour: u64,
    /// Fuel in the present day.
    fuel_of_day: u64,
    /// Bytes of its kv keys and values.
    kv_bytes: u64,
    /// The most of its invocations that ran at once on one node, in the present day.
    peak_concurrency: u64,
    /// The limits of which it has used 80 of 100 or more.
    near: Vec<NearView>,
}

/// Where a page starts: the period and the script of the last item of the page before.
struct After(OffsetDateTime, ScriptName);

impl std::str::FromStr for After {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (start, script) = text.split_once(' ').ok_or(())?;
        let start = OffsetDateTime::from_unix_timestamp(start.parse().map_err(|_| ())?).map_err(|_| ())?;
        Ok(Self(start, script.parse().map_err(|_| ())?))
    }
}

impl UsageQuery {
    fn range(&self, now: OffsetDateTime) -> Result<UsageRange, ApiError> {
        let to = self.to.unwrap_or(now);
        let from = self.from.or_else(|| to.checked_sub(Duration::DAY)).unwrap_or(to);
        let (by, most) = match self.by {
            Period::Hour => (UsagePeriod::Hour, MOST_BY_HOUR),
            Period::Day => (UsagePeriod::Day, MOST_BY_DAY),
        };
        let shown = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        if from > to {
            let detail = format!("from is {}, after to, {}", shown(from), shown(to));
            return Err(ApiError::new(ErrorCode::Invalid, detail).field("from"));
        }
        if to - from > most {
            let detail = format!(
                "the range has more than {} days; allowed are as many by hour and {} by day",
                most.whole_days(),
                MOST_BY_DAY.whole_days()
            );
            return Err(ApiError::new(ErrorCode::Invalid, detail).field("from"));
        }
        Ok(UsageRange { from, to, by }.whole())
    }
}

impl From<UsageCounts> for CountsView {
    fn from(counts: UsageCounts) -> Self {
        let percentile =
            |percent| counts.latencies.percentile(percent).map(|time| time.as_secs_f64() * 1000.0);
        Self {
            p50_ms: percentile(50),
            p90_ms: percentile(90),
            p99_ms: percentile(99),
            invocations: counts.invocations,
            errors: counts.errors,
            fuel_used: counts.fuel,
            duration_ms: counts.duration.as_secs_f64() * 1000.0,
        }
    }
}

/// Exact counts of an app's invocations by hour or day and script, oldest first, and the totals.
#[utoipa::path(get, path = "/api/v1/apps/{app}/usage", tag = "history", params(UsageQuery),
    responses((status = 200, description = "A page of counts, and the totals", body = UsageAnswer)))]
pub(crate) async fn read_usage(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<UsageQuery>,
) -> Result<Json<UsageAnswer>, ApiError> {
    let range = query.range(OffsetDateTime::now_utc())?;
    let after: Option<After> = start(query.cursor.as_ref())?;
    let after = after.as_ref().map(|After(start, script)| (*start, script));
    let found = context.store.usage(app.id, range, after, query.limit.size()).await.map_err(from_store)?;
    let totals = context.store.usage_totals(app.id, range).await.map_err(from_store)?;
    let key = |row: &UsageRow| format!("{} {}", row.start.unix_timestamp(), row.script);
    let view = |row: UsageRow| UsageView { start: row.start, script: row.script, counts: row.counts.into() };
    let Page { items, next_cursor } = Page::of(found, key, view);
    let UsageRange { from, to, .. } = range;
    Ok(Json(UsageAnswer { from, to, by: query.by, items, totals: totals.into(), next_cursor }))
}

/// What every app used in the present hour and day, by name, and which limits each is near to.
#[utoipa::path(get, path = "/api/v1/usage", tag = "history", params(PageQuery),
    responses((status = 200, description = "A page of apps", body = Page<AppUsageView>)))]
pub(crate) async fn read_all_usage(
    State(context): State<Context>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<AppUsageView>>, ApiError> {
    let after: Option<AppName> = start(query.cursor.as_ref())?;
    let apps = context.store.apps(AppsSeen::default(), after.as_ref(), query.limit.size());
    let apps = apps.await.map_err(from_store)?;
    let ids: Vec<AppId> = apps.items.iter().map(|app| app.id).collect();
    let usage = context.store.usage_of_apps(&ids, OffsetDateTime::now_utc()).await.map_err(from_store)?;
    let kv = context.store.kv_used_bytes(&ids).await.map_err(from_store)?;
    let kv: BTreeMap<AppId, u64> = kv.into_iter().collect();
    let mut usage = usage.into_iter();
    Ok(Json(Page::of(
        apps,
        |app| app.name.clone(),
        |row| {
            let used = usage.next().unwrap_or_default();
            let kv_bytes = kv.get(&row.id).copied().unwrap_or(0);
            let app = context.in_force(row);
            AppUsageView {
                near: near::of(&app.limits, &used, kv_bytes),
                app: app.name,
                invocations_of_day: used.invocations_of_day,
                failures_of_day: used.failures_of_day,
                fuel_of_hour: used.fuel_of_hour,
                fuel_of_day: used.fuel_of_day,
                kv_bytes,
                peak_concurrency: used.peak_concurrency,
            }
        },
    )))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn query(from: Option<OffsetDateTime>, to: Option<OffsetDateTime>, by: Period) -> UsageQuery {
        UsageQuery { from, to, by, limit: PageLimit::default(), cursor: None }
    }

    #[test]
    fn a_range_is_the_last_day_unless_it_says_otherwise() {
        let now = datetime!(2026-01-02 03:30 UTC);
        let range = |query: UsageQuery| query.range(now).map(|range| (range.from, range.to));
        assert_eq!(
            range(query(None, None, Period::Hour)).unwrap(),
            (datetime!(2026-01-01 03:00 UTC), datetime!(2026-01-02 04:00 UTC))
        );
        let long = Some(now - Duration::days(32));
        assert!(range(query(long, None, Period::Hour)).is_err());
        assert!(range(query(long, None, Period::Day)).is_ok());
        assert!(range(query(Some(now), Some(now - Duration::SECOND), Period::Hour)).is_err());
        assert!(range(query(None, Some(time::PrimitiveDateTime::MIN.assume_utc()), Period::Day)).is_ok());
        assert!(range(query(Some(time::PrimitiveDateTime::MIN.assume_utc()), None, Period::Day)).is_err());
    }

    #[test]
    fn a_cursor_is_a_time_and_a_script() {
        for bad in ["", "1", "x y", "1 ", "99999999999999999 a", "1 ../x"] {
            assert!(bad.parse::<After>().is_err(), "{bad}");
        }
        assert!("3600 api/users".parse::<After>().is_ok());
    }
}
