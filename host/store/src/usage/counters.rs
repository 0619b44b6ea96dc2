//! Counters on their way to the database.

use std::collections::BTreeMap;

use picloud_core::{AppId, ErrorCode, Hour, Latencies, ScriptName, Usage};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::OK;
use crate::{
    StoreError,
    text::{bigint, unsigned},
};

/// Counters that are not stored yet. Its order is the order in which rows are locked, so that two batches
/// never wait for each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    scripts: BTreeMap<ScriptKey, ScriptCounter>,
    apps: BTreeMap<(AppId, Hour), AppCounter>,
}

type ScriptKey = (AppId, Hour, ScriptName, &'static str);

#[derive(Clone, Debug, Default)]
struct ScriptCounter {
    count: i64,
    fuel: i64,
    duration_us: i64,
    latencies: Latencies,
}

#[derive(Clone, Copy, Debug, Default)]
struct AppCounter {
    invocations: i64,
    failures: i64,
    fuel: i64,
    peak_concurrency: i32,
}

/// The fuel of an app in an hour, when a batch has been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFuel {
    /// The app.
    pub app: AppId,
    /// The hour.
    pub hour: Hour,
    /// How much of it came with the batch.
    pub of_batch: u64,
    /// All that the database has now, of every node.
    pub total: u64,
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
        let hour = Hour::of(at);
        let key = (app, hour, script.clone(), error.map_or(OK, ErrorCode::as_str));
        let counter = self.scripts.entry(key).or_default();
        counter.count += 1;
        counter.fuel = counter.fuel.saturating_add(bigint(usage.fuel));
        counter.duration_us = counter.duration_us.saturating_add(bigint(usage.duration.as_micros()));
        counter.latencies.record(usage.duration);
        let counter = self.apps.entry((app, hour)).or_default();
        counter.invocations += 1;
        counter.failures += i64::from(error.is_some());
        counter.fuel = counter.fuel.saturating_add(bigint(usage.fuel));
    }

    pub(crate) fn peak(&mut self, app: AppId, at: OffsetDateTime, concurrency: u32) {
        let counter = self.apps.entry((app, Hour::of(at))).or_default();
        let concurrency = i32::try_from(concurrency).unwrap_or(i32::MAX);
        counter.peak_concurrency = counter.peak_concurrency.max(concurrency);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = AppId> {
        self.apps.keys().map(|(app, _)| *app)
    }

    /// Adds them to those in the database.
    pub(crate) async fn store(
        &self,
        connection: &mut PgConnection,
        is_kept: impl Fn(AppId) -> bool,
    ) -> Result<(), StoreError> {
        self.store_scripts(connection, &is_kept).await?;
        self.store_apps(connection, &is_kept).await
    }

    async fn store_scripts(
        &self,
        connection: &mut PgConnection,
        is_kept: impl Fn(AppId) -> bool,
    ) -> Result<(), StoreError> {
        let kept: Vec<(&ScriptKey, &ScriptCounter)> =
            self.scripts.iter().filter(|((app, ..), _)| is_kept(*app)).collect();
        let apps: Vec<uuid::Uuid> = kept.iter().map(|((app, ..), _)| app.as_uuid()).collect();
        let hours: Vec<OffsetDateTime> = kept.iter().map(|((_, hour, ..), _)| hour.start()).collect();
        let scripts: Vec<&str> = kept.iter().map(|((_, _, script, _), _)| script.as_str()).collect();
        let outcomes: Vec<&str> = kept.iter().map(|((.., outcome), _)| *outcome).collect();
        let counts: Vec<i64> = kept.iter().map(|(_, counter)| counter.count).collect();
        let fuels: Vec<i64> = kept.iter().map(|(_, counter)| counter.fuel).collect();
        let durations: Vec<i64> = kept.iter().map(|(_, counter)| counter.duration_us).collect();
        // An array of arrays would have to have rows of one length; as texts they need not.
        let latencies: Vec<String> = kept.iter().map(|(_, counter)| literal(&counter.latencies)).collect();
        let stored = sqlx::query!(
            "INSERT INTO usage_hourly AS u (app_id, hour, script, outcome, count, fuel, duration_us, latency)
            SELECT app_id, hour, script, outcome, count, fuel, duration_us, latency::bigint[]
            FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                $7::bigint[], $8::text[])
                AS new (app_id, hour, script, outcome, count, fuel, duration_us, latency)
            ON CONFLICT (app_id, hour, script, outcome) DO UPDATE SET count = u.count + excluded.count,
                fuel = u.fuel + excluded.fuel, duration_us = u.duration_us + excluded.duration_us,
                latency = ARRAY(
                    SELECT coalesce(b.old, 0) + coalesce(b.new, 0)
                    FROM unnest(u.latency, excluded.latency) WITH ORDINALITY AS b (old, new, at) ORDER BY at
                )",
            &apps,
            &hours,
            &scripts as _,
            &outcomes as _,
            &counts,
            &fuels,
            &durations,
            &latencies,
        );
        stored.execute(connection).await?;
        Ok(())
    }

    async fn store_apps(
        &self,
        connection: &mut PgConnection,
        is_kept: impl Fn(AppId) -> bool,
    ) -> Result<(), StoreError> {
        let kept: Vec<_> = self.apps.iter().filter(|((app, _), _)| is_kept(*app)).collect();
        let apps: Vec<uuid::Uuid> = kept.iter().map(|((app, _), _)| app.as_uuid()).collect();
        let hours: Vec<OffsetDateTime> = kept.iter().map(|((_, hour), _)| hour.start()).collect();
        let invocations: Vec<i64> = kept.iter().map(|(_, counter)| counter.invocations).collect();
        let failures: Vec<i64> = kept.iter().map(|(_, counter)| counter.failures).collect();
        let fuels: Vec<i64> = kept.iter().map(|(_, counter)| counter.fuel).collect();
        let peaks: Vec<i32> = kept.iter().map(|(_, counter)| counter.peak_concurrency).collect();
        let stored = sqlx::query!(
            "INSERT INTO usage_apps AS u (app_id, hour, invocations, failures, fuel, peak_concurrency)
            SELECT * FROM unnest(
                $1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::integer[])
            ON CONFLICT (app_id, hour) DO UPDATE SET invocations = u.invocations + excluded.invocations,
                failures = u.failures + excluded.failures,
                fuel = least(u.fuel::numeric + excluded.fuel, 9223372036854775807),
                peak_concurrency = greatest(u.peak_concurrency, excluded.peak_concurrency)",
            &apps,
            &hours,
            &invocations,
            &failures,
            &fuels,
            &peaks,
        );
        stored.execute(connection).await?;
        Ok(())
    }

    /// What the database has of the fuel that is counted here. Of apps that are gone it has nothing.
    pub(crate) async fn stored_fuel(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<StoredFuel>, StoreError> {
        let apps: Vec<uuid::Uuid> = self.apps.keys().map(|(app, _)| app.as_uuid()).collect();
        let hours: Vec<OffsetDateTime> = self.apps.keys().map(|(_, hour)| hour.start()).collect();
        let rows = sqlx::query!(
            "SELECT u.app_id, u.hour, u.fuel FROM unnest($1::uuid[], $2::timestamptz[]) AS asked (app_id, hour)
            JOIN usage_apps u ON u.app_id = asked.app_id AND u.hour = asked.hour",
            &apps,
            &hours,
        );
        let rows = rows.fetch_all(connection).await?.into_iter();
        Ok(rows
            .map(|row| {
                let (app, hour) = (AppId::from_uuid(row.app_id), Hour::of(row.hour));
                let of_batch = self.apps.get(&(app, hour)).map_or(0, |counter| unsigned(counter.fuel));
                StoredFuel { app, hour, of_batch, total: unsigned(row.fuel) }
            })
            .collect())
    }
}

/// Buckets as PostgreSQL writes an array.
fn literal(latencies: &Latencies) -> String {
    let counts: Vec<String> = latencies.buckets().iter().map(ToString::to_string).collect();
    format!("{{{}}}", counts.join(","))
}
