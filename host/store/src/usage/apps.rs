//! What whole apps used: the side of their budgets.

use picloud_core::{AppId, Hour};
use time::{Duration, OffsetDateTime};

use crate::{Store, StoreError, text::unsigned};

/// The fuel of an app in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourFuel {
    /// The hour.
    pub hour: Hour,
    /// The fuel.
    pub fuel: u64,
}

/// What an app used lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppUsage {
    /// Fuel in the present hour.
    pub fuel_of_hour: u64,
    /// Fuel in the present day.
    pub fuel_of_day: u64,
    /// Invocations in the present day.
    pub invocations_of_day: u64,
    /// Those of them that failed.
    pub failures_of_day: u64,
    /// The most that ran at once on one node, in the present day.
    pub peak_concurrency: u64,
}

impl Store {
    /// What these apps used in the hour and the day that `now` is in, in their order.
    pub async fn usage_of_apps(
        &self,
        apps: &[AppId],
        now: OffsetDateTime,
    ) -> Result<Vec<AppUsage>, StoreError> {
        let hour = Hour::of(now);
        let ids: Vec<uuid::Uuid> = apps.iter().map(|app| app.as_uuid()).collect();
        let rows = sqlx::query!(
            r#"SELECT asked.at AS "at!",
                coalesce(sum(u.fuel) FILTER (WHERE u.hour = $2), 0)::bigint AS "fuel_of_hour!",
                least(coalesce(sum(u.fuel), 0), 9223372036854775807)::bigint AS "fuel_of_day!",
                coalesce(sum(u.invocations), 0)::bigint AS "invocations!",
                coalesce(sum(u.failures), 0)::bigint AS "failures!",
                coalesce(max(u.peak_concurrency), 0) AS "peak!"
            FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (app_id, at)
            LEFT JOIN usage_apps u ON u.app_id = asked.app_id AND u.hour >= $3 AND u.hour < $4
            GROUP BY asked.at ORDER BY asked.at"#,
            &ids,
            hour.start(),
            hour.first_of_day().start(),
            hour.first_of_day().start() + Duration::DAY,
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        Ok(rows
            .map(|row| AppUsage {
                fuel_of_hour: unsigned(row.fuel_of_hour),
                fuel_of_day: unsigned(row.fuel_of_day),
                invocations_of_day: unsigned(row.invocations),
                failures_of_day: unsigned(row.failures),
                peak_concurrency: unsigned(row.peak.into()),
            })
            .collect())
    }
}
