//! What an app used, by script and hour or day.

use std::collections::BTreeMap;

use picloud_core::{AppId, ErrorCode, Latencies, ScriptName};
use time::{Duration, OffsetDateTime};

use super::OK;
use crate::{
    Page, PageSize, Store, StoreError,
    text::{parse, unsigned},
};

/// What counters are added up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsagePeriod {
    /// Hours.
    #[default]
    Hour,
    /// Days, in UTC.
    Day,
}

impl UsagePeriod {
    const fn unit(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Which counters to read: those of the hours that begin from `from` on and before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRange {
    /// From when on.
    pub from: OffsetDateTime,
    /// Before when.
    pub to: OffsetDateTime,
    /// What they are added up by.
    pub by: UsagePeriod,
}

/// What some invocations used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// How many there were.
    pub invocations: u64,
    /// Those that failed, by how.
    pub errors: BTreeMap<&'static str, u64>,
    /// The fuel they used.
    pub fuel: u64,
    /// The time they took in all.
    pub duration: std::time::Duration,
    /// How long they took, one by one. Those that were counted before that was noted are not in it.
    pub latencies: Latencies,
}

/// What one script did in one hour or day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// When that begins.
    pub start: OffsetDateTime,
    /// The script.
    pub script: ScriptName,
    /// What it used.
    pub counts: UsageCounts,
}

/// The counters of one outcome.
struct OutcomeCounts {
    outcome: String,
    count: i64,
    fuel: i64,
    duration_us: i64,
    latency: Vec<i64>,
}

impl UsageCounts {
    fn add(&mut self, row: OutcomeCounts) -> Result<(), StoreError> {
        let count = unsigned(row.count);
        self.invocations += count;
        if row.outcome != OK {
            *self.errors.entry(parse::<ErrorCode>(&row.outcome)?.as_str()).or_default() += count;
        }
        self.fuel = self.fuel.saturating_add(unsigned(row.fuel));
        self.duration += std::time::Duration::from_micros(unsigned(row.duration_us));
        self.latencies.merge(&Latencies::of_buckets(row.latency.into_iter().map(unsigned).collect()));
        Ok(())
    }
}

impl Store {
    /// The counters of an app by hour or day and script, oldest first; those after `after`.
    pub async fn usage(
        &self,
        app: AppId,
        range: UsageRange,
        after: Option<(OffsetDateTime, &ScriptName)>,
        size: PageSize,
    ) -> Result<Page<UsageRow>, StoreError> {
        let after = after.unzip();
        let rows = sqlx::query!(
            r#"WITH page AS (
                SELECT DISTINCT date_trunc($4, hour, 'UTC') AS start, script FROM usage_hourly
                WHERE app_id = $1 AND hour >= $2 AND hour < $3
                    AND ($5::timestamptz IS NULL OR (date_trunc($4, hour, 'UTC'), script) > ($5, $6::text))
                ORDER BY 1, 2 LIMIT $7
            )
            SELECT page.start AS "start!", page.script, u.outcome, u.count, u.fuel, u.duration_us, u.latency
            FROM page JOIN usage_hourly u ON u.app_id = $1 AND u.hour >= $2 AND u.hour < $3
                AND u.hour >= page.start AND u.hour < page.start + $8 * interval '1 hour'
                AND u.script = page.script
            ORDER BY 1, 2"#,
            app.as_uuid(),
            range.from,
            range.to,
            range.by.unit(),
            after.0,
            after.1.map(ScriptName::as_str),
            size.and_one(),
            match range.by {
                UsagePeriod::Hour => 1.0,
                UsagePeriod::Day => 24.0,
            },
        );
        let mut found: Vec<UsageRow> = Vec::new();
        for row in rows.fetch_all(&self.pool).await? {
            let is_same =
                |last: &&mut UsageRow| last.start == row.start && last.script.as_str() == row.script;
            let counts = OutcomeCounts {
                outcome: row.outcome,
                count: row.count,
                fuel: row.fuel,
                duration_us: row.duration_us,
                latency: row.latency,
            };
            if let Some(last) = found.last_mut().filter(is_same) {
                last.counts.add(counts)?;
            } else {
                let mut new = UsageRow {
                    start: row.start,
                    script: parse(&row.script)?,
                    counts: UsageCounts::default(),
                };
                new.counts.add(counts)?;
                found.push(new);
            }
        }
        Page::of(found, size, Ok)
    }

    /// All counters of an app in a range, added up.
    pub async fn usage_totals(&self, app: AppId, range: UsageRange) -> Result<UsageCounts, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT u.outcome, sum(u.count)::bigint AS "count!",
                least(sum(u.fuel), 9223372036854775807)::bigint AS "fuel!",
                least(sum(u.duration_us), 9223372036854775807)::bigint AS "duration_us!"
            FROM usage_hourly u WHERE u.app_id = $1 AND u.hour >= $2 AND u.hour < $3 GROUP BY u.outcome"#,
            app.as_uuid(),
            range.from,
            range.to,
        );
        let mut totals = UsageCounts::default();
        for row in rows.fetch_all(&self.pool).await? {
            totals.add(OutcomeCounts {
                outcome: row.outcome,
                count: row.count,
                fuel: row.fuel,
                duration_us: row.duration_us,
                latency: Vec::new(),
            })?;
        }
        let buckets = sqlx::query!(
            r#"SELECT b.at AS "at!", sum(b.count)::bigint AS "count!"
            FROM usage_hourly u, unnest(u.latency) WITH ORDINALITY AS b (count, at)
            WHERE u.app_id = $1 AND u.hour >= $2 AND u.hour < $3 GROUP BY b.at ORDER BY b.at"#,
            app.as_uuid(),
            range.from,
            range.to,
        );
        let buckets = buckets.fetch_all(&self.pool).await?.into_iter().map(|bucket| unsigned(bucket.count));
        // Buckets are numbered without gaps, since every array begins with the first.
        totals.latencies = Latencies::of_buckets(buckets.collect());
        Ok(totals)
    }
}

impl UsageRange {
    /// The range that has all of its first and last period.
    #[must_use]
    pub fn whole(self) -> Self {
        let length = match self.by {
            UsagePeriod::Hour => Duration::HOUR,
            UsagePeriod::Day => Duration::DAY,
        };
        let floor = |time: OffsetDateTime| {
            let into = time.unix_timestamp().rem_euclid(length.whole_seconds());
            OffsetDateTime::from_unix_timestamp(time.unix_timestamp() - into).unwrap_or(time)
        };
        let (from, last) = (floor(self.from), floor(self.to));
        let is_whole = last == self.to;
        Self { from, to: if is_whole { last } else { last.checked_add(length).unwrap_or(last) }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_range_is_widened_to_whole_periods() {
        let range = |by| {
            let (from, to) = (datetime!(2026-01-02 03:30 UTC), datetime!(2026-01-03 04:00 UTC));
            let whole = UsageRange { from, to, by }.whole();
            (whole.from, whole.to)
        };
        assert_eq!(
            range(UsagePeriod::Hour),
            (datetime!(2026-01-02 03:00 UTC), datetime!(2026-01-03 04:00 UTC))
        );
        assert_eq!(
            range(UsagePeriod::Day),
            (datetime!(2026-01-02 00:00 UTC), datetime!(2026-01-04 00:00 UTC))
        );
    }
}
