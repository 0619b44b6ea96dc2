//! Exact hourly counters of invocations, fuel and time.

use std::collections::BTreeMap;

use picloud_core::{AppId, ErrorCode, ScriptName, Usage};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::{
    Store, StoreError,
    text::{bigint, parse, unsigned},
};

/// The outcome of those that succeeded, beside the error codes.
pub(crate) const OK: &str = "ok";

/// What one script did in one hour with one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageHour {
    /// The script.
    pub script: ScriptName,
    /// The start of the hour.
    pub hour: OffsetDateTime,
    /// The failure, or `None` where it succeeded.
    pub error: Option<ErrorCode>,
    /// How many invocations.
    pub count: u64,
    /// The fuel they used.
    pub fuel: u64,
    /// The time they took.
    pub duration: std::time::Duration,
}

/// Counters that are not stored yet. Its order is the order in which rows are locked, so that two batches
/// never wait for each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<CounterKey, Counter>);

type CounterKey = (AppId, OffsetDateTime, ScriptName, &'static str);

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    count: i64,
    fuel: i64,
    duration_us: i64,
}

impl Counters {
    pub(crate) fn add(
        &mut self,
        app: AppId,
        script: &ScriptName,
        at: OffsetDateTime,
        error: Option<ErrorCode>,
        usage: &Usage,
    ) {
        let into_hour = Duration::seconds(at.unix_timestamp().rem_euclid(3600));
        let hour = at.replace_nanosecond(0).unwrap_or(at) - into_hour;
        let key = (app, hour, script.clone(), error.map_or(OK, ErrorCode::as_str));
        let counter = self.0.entry(key).or_default();
        counter.count += 1;
        counter.fuel = counter.fuel.saturating_add(bigint(usage.fuel));
        counter.duration_us = counter.duration_us.saturating_add(bigint(usage.duration.as_micros()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = AppId> {
        self.0.keys().map(|(app, ..)| *app)
    }

    pub(crate) async fn store(
        &self,
        connection: &mut PgConnection,
        is_kept: impl Fn(AppId) -> bool,
    ) -> Result<(), StoreError> {
        let kept: Vec<(&CounterKey, &Counter)> =
            self.0.iter().filter(|((app, ..), _)| is_kept(*app)).collect();
        let apps: Vec<uuid::Uuid> = kept.iter().map(|((app, ..), _)| app.as_uuid()).collect();
        let hours: Vec<OffsetDateTime> = kept.iter().map(|((_, hour, ..), _)| *hour).collect();
        let scripts: Vec<&str> = kept.iter().map(|((_, _, script, _), _)| script.as_str()).collect();
        let outcomes: Vec<&str> = kept.iter().map(|((.., outcome), _)| *outcome).collect();
        let counts: Vec<i64> = kept.iter().map(|(_, counter)| counter.count).collect();
        let fuels: Vec<i64> = kept.iter().map(|(_, counter)| counter.fuel).collect();
        let durations: Vec<i64> = kept.iter().map(|(_, counter)| counter.duration_us).collect();
        let stored = sqlx::query!(
            "INSERT INTO usage_hourly AS u (app_id, hour, script, outcome, count, fuel, duration_us)
            SELECT * FROM unnest(
                $1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
            ON CONFLICT (app_id, hour, script, outcome) DO UPDATE SET count = u.count + excluded.count,
                fuel = u.fuel + excluded.fuel, duration_us = u.duration_us + excluded.duration_us",
            &apps,
            &hours,
            &scripts as _,
            &outcomes as _,
            &counts,
            &fuels,
            &durations,
        );
        stored.execute(connection).await?;
        Ok(())
    }
}

impl Store {
    /// The counters of an app from `from` on and before `to`, by hour, script and outcome.
    pub async fn usage(
        &self,
        app: AppId,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<UsageHour>, StoreError> {
        let rows = sqlx::query!(
            "SELECT script, hour, outcome, count, fuel, duration_us FROM usage_hourly
            WHERE app_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour, script, outcome",
            app.as_uuid(),
            from,
            to,
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            Ok(UsageHour {
                script: parse(&row.script)?,
                hour: row.hour,
                error: if row.outcome == OK { None } else { Some(parse(&row.outcome)?) },
                count: unsigned(row.count),
                fuel: unsigned(row.fuel),
                duration: std::time::Duration::from_micros(unsigned(row.duration_us)),
            })
        })
        .collect()
    }

    /// Removes at most `limit` counters that are older than `days`, and answers how many.
    pub async fn remove_old_usage(&self, days: u16, limit: u32) -> Result<u64, StoreError> {
        let removed = sqlx::query!(
            "DELETE FROM usage_hourly WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM usage_hourly WHERE hour < now() - make_interval(days => $1)
                ORDER BY hour LIMIT $2
            ))",
            i32::from(days),
            i64::from(limit),
        );
        Ok(removed.execute(&self.pool).await?.rows_affected())
    }
}
