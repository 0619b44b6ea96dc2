//! Exact hourly counters of invocations, fuel and time, by script and by app.

mod apps;
mod counters;
mod read;

pub use apps::{AppUsage, HourFuel};
pub(crate) use counters::Counters;
pub use counters::StoredFuel;
pub use read::{UsageCounts, UsagePeriod, UsageRange, UsageRow};

use crate::{Store, StoreError};

/// The outcome of those that succeeded, beside the error codes.
pub(crate) const OK: &str = "ok";

impl Store {
    /// Removes at most `limit` counters of scripts, and as many of apps, that are older than `days`; answers how many of
    /// the kind that has more.
    pub async fn remove_old_usage(&self, days: u16, limit: u32) -> Result<u64, StoreError> {
        let of_scripts = sqlx::query!(
            "DELETE FROM usage_hourly WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM usage_hourly WHERE hour < now() - make_interval(days => $1)
                ORDER BY hour LIMIT $2
            ))",
            i32::from(days),
            i64::from(limit),
        );
        let of_scripts = of_scripts.execute(&self.pool).await?.rows_affected();
        let of_apps = sqlx::query!(
            "DELETE FROM usage_apps WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM usage_apps WHERE hour < now() - make_interval(days => $1)
                ORDER BY hour LIMIT $2
            ))",
            i32::from(days),
            i64::from(limit),
        );
        let of_apps = of_apps.execute(&self.pool).await?.rows_affected();
        // Nobody tries a batch again for so long.
        sqlx::query!("DELETE FROM usage_writers WHERE stored_at < now() - interval '7 days'")
            .execute(&self.pool)
            .await?;
        Ok(of_scripts.max(of_apps))
    }
}
