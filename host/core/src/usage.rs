//! What invocations used, added up: hours of the clock, and how long runs took.

use std::time::Duration;

use time::OffsetDateTime;

const HOUR_SECONDS: i64 = 3_600;
const DAY_HOURS: i64 = 24;

/// An hour of the clock, in UTC. Budgets and counters go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    /// The hour that `time` is in.
    pub const fn of(time: OffsetDateTime) -> Self {
        Self(time.unix_timestamp().div_euclid(HOUR_SECONDS))
    }

    /// When it begins.
    pub fn start(self) -> OffsetDateTime {
        // Only hours of times are made, and of those near to them.
        OffsetDateTime::from_unix_timestamp(self.0 * HOUR_SECONDS).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The hour after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The first hour of its day.
    #[must_use]
    pub const fn first_of_day(self) -> Self {
        Self(self.0.div_euclid(DAY_HOURS) * DAY_HOURS)
    }

    /// The first hour of the day after.
    #[must_use]
    pub const fn next_day(self) -> Self {
        Self(self.first_of_day().0 + DAY_HOURS)
    }
}

/// The bits of a time within its octave that a bucket tells apart: 8 buckets an octave, each at most an eighth wide.
const STEP_BITS: u32 = 3;
const STEPS: usize = 1 << STEP_BITS;

/// The first octave begins at 64 microseconds; what is faster shares one bucket.
const FIRST_OCTAVE: u32 = 6;

/// The last begins at 18 minutes, which is more than any run may take; what is slower shares its last bucket.
const LAST_OCTAVE: u32 = 30;

/// How often runs took how long, in buckets that are the same everywhere, so that hours, scripts and nodes can be added
/// up: a logarithmic histogram with linear steps in each octave (as `HdrHistogram` has them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// The most buckets.
    pub const MAX_BUCKETS: usize = (LAST_OCTAVE - FIRST_OCTAVE + 1) as usize * STEPS + 1;

    /// Those of stored buckets; [`Self::buckets`] gives them back.
    pub fn of_buckets(mut buckets: Vec<u64>) -> Self {
        buckets.truncate(Self::MAX_BUCKETS);
        Self(buckets)
    }

    /// How many runs fell into each bucket; empty ones at the end are left out.
    pub fn buckets(&self) -> &[u64] {
        &self.0
    }

    /// Adds a run.
    pub fn record(&mut self, duration: Duration) {
        let bucket = bucket_of(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] = self.0[bucket].saturating_add(1);
    }

    /// Adds the runs of another.
    pub fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// The time that `percent` of the runs took at most; `None` where there are none. It is the upper end of the bucket,
    /// which is at most an eighth too long.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let all = self.0.iter().fold(0u64, |all, count| all.saturating_add(*count));
        let rank = (u128::from(all) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0u128;
        let bucket = self.0.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        })?;
        Some(Duration::from_micros(end_of(bucket)))
    }
}

fn bucket_of(micros: u64) -> usize {
    let Some(octave) = micros.checked_ilog2().filter(|octave| *octave >= FIRST_OCTAVE) else { return 0 };
    if octave > LAST_OCTAVE {
        return Latencies::MAX_BUCKETS - 1;
    }
    let step = (micros >> (octave - STEP_BITS)) as usize % STEPS;
    (octave - FIRST_OCTAVE) as usize * STEPS + step + 1
}

/// Where a bucket ends, in microseconds.
fn end_of(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return 1 << FIRST_OCTAVE };
    let octave = FIRST_OCTAVE + (above / STEPS) as u32;
    ((STEPS + above % STEPS + 1) as u64) << (octave - STEP_BITS)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_hour_begins_at_its_start_and_a_day_has_24() {
        let hour = Hour::of(datetime!(2026-01-02 23:59:59.9 UTC));
        assert_eq!(hour.start(), datetime!(2026-01-02 23:00 UTC));
        assert_eq!(hour.next().start(), datetime!(2026-01-03 00:00 UTC));
        assert_eq!(hour.first_of_day().start(), datetime!(2026-01-02 00:00 UTC));
        assert_eq!(hour.next_day(), hour.next());
        assert_eq!(hour.next().first_of_day(), hour.next());
        assert_eq!(Hour::of(datetime!(1969-12-31 23:30 UTC)).start(), datetime!(1969-12-31 23:00 UTC));
        assert_eq!(Hour::of(datetime!(2026-01-02 01:30 +2)).start(), datetime!(2026-01-01 23:00 UTC));
    }

    #[test]
    fn every_time_lies_in_a_bucket_that_is_at_most_an_eighth_wide() {
        let mut end = 0;
        for bucket in 0..Latencies::MAX_BUCKETS {
            assert_eq!(bucket_of(end), bucket, "{end}");
            assert_eq!(bucket_of(end_of(bucket) - 1), bucket);
            if bucket > 0 {
                assert!((end_of(bucket) - end) * 8 <= end, "{bucket}");
            }
            end = end_of(bucket);
        }
        assert_eq!(bucket_of(u64::MAX), Latencies::MAX_BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_all_runs_together() {
        let (mut fast, mut slow) = (Latencies::default(), Latencies::default());
        assert_eq!(fast.percentile(50), None);
        (0..90).for_each(|_| fast.record(Duration::from_millis(1)));
        (0..10).for_each(|_| slow.record(Duration::from_secs(2)));
        fast.merge(&slow);
        let within = |percent: u64, least: Duration| {
            let found = fast.percentile(percent).unwrap();
            assert!(found >= least && found <= least * 9 / 8, "{percent}: {found:?}");
        };
        within(50, Duration::from_millis(1));
        within(90, Duration::from_millis(1));
        within(91, Duration::from_secs(2));
        within(99, Duration::from_secs(2));
        assert_eq!(Latencies::of_buckets(fast.buckets().to_vec()), fast);
    }
}
