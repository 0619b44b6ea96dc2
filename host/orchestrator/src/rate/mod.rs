//! Rate limits: buckets of tokens, each a single number.
//!
//! A bucket is kept as the moment when it will be full again (the generic cell rate algorithm): a request moves that
//! moment on by its share of the time, and is refused if the moment lies further ahead than the time of the whole limit.

mod clients;

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use picloud_core::RateLimit;

pub(crate) use clients::Clients;

const SECOND: u64 = 1_000_000_000;

/// A moment, in nanoseconds since the node has started.
pub(crate) type Nanos = u64;

/// A rate limit, in the numbers that it is reckoned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limit: RateLimit,
    /// A request's share of the time.
    share: Nanos,
    /// How far ahead the moment of the full bucket may lie for one more request.
    tolerance: Nanos,
}

/// What a bucket says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass.
    Passed {
        /// Requests that may follow at once.
        remaining: u64,
        /// Seconds until the bucket is full again, rounded up.
        reset: u64,
    },
    /// It may not.
    Refused {
        /// Seconds until one may, rounded up.
        retry_after: u64,
    },
}

/// A bucket that all clients share.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

impl Quota {
    pub(crate) fn new(limit: RateLimit) -> Self {
        // At least a microsecond, since a limit has at most a million requests.
        let share = u64::from(limit.seconds()) * SECOND / u64::from(limit.requests());
        Self { limit, share, tolerance: share * u64::from(limit.requests() - 1) }
    }

    /// What a bucket that is full at `full_at` says, and when it is full then.
    fn take(self, full_at: Nanos, now: Nanos) -> (Verdict, Nanos) {
        let ahead = full_at.saturating_sub(now);
        if ahead > self.tolerance {
            let retry_after = (ahead - self.tolerance).div_ceil(SECOND);
            return (Verdict::Refused { retry_after }, full_at);
        }
        let remaining = (self.tolerance - ahead) / self.share;
        let ahead = ahead + self.share;
        (Verdict::Passed { remaining, reset: ahead.div_ceil(SECOND) }, now + ahead)
    }
}

impl Bucket {
    pub(crate) fn take(&self, quota: Quota, now: Nanos) -> Verdict {
        let mut full_at = self.0.load(Relaxed);
        loop {
            let (verdict, then) = quota.take(full_at, now);
            if then == full_at {
                return verdict;
            }
            match self.0.compare_exchange_weak(full_at, then, Acquire, Relaxed) {
                Ok(_) => return verdict,
                Err(changed) => full_at = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(requests: u32, seconds: u32) -> Quota {
        Quota::new(RateLimit::new(requests, seconds).unwrap())
    }

    #[test]
    fn all_requests_may_come_at_once_and_then_one_in_each_part_of_the_time() {
        let (bucket, quota) = (Bucket::default(), quota(3, 60));
        let start = 5 * SECOND;
        for (remaining, reset) in [(2, 20), (1, 40), (0, 60)] {
            assert_eq!(bucket.take(quota, start), Verdict::Passed { remaining, reset });
        }
        assert_eq!(bucket.take(quota, start), Verdict::Refused { retry_after: 20 });
        assert_eq!(bucket.take(quota, start + SECOND / 2), Verdict::Refused { retry_after: 20 });
        assert_eq!(bucket.take(quota, start + 19 * SECOND), Verdict::Refused { retry_after: 1 });
        let later = start + 20 * SECOND;
        assert_eq!(bucket.take(quota, later), Verdict::Passed { remaining: 0, reset: 60 });
        assert!(matches!(bucket.take(quota, later), Verdict::Refused { .. }));
        let much_later = start + 1000 * SECOND;
        assert_eq!(bucket.take(quota, much_later), Verdict::Passed { remaining: 2, reset: 20 });
    }

    #[test]
    fn what_is_refused_takes_nothing() {
        let (bucket, quota) = (Bucket::default(), quota(1, 10));
        assert!(matches!(bucket.take(quota, 0), Verdict::Passed { .. }));
        for now in 0..10 {
            assert!(matches!(bucket.take(quota, now * SECOND), Verdict::Refused { .. }), "{now}");
        }
        assert!(matches!(bucket.take(quota, 10 * SECOND), Verdict::Passed { .. }));
    }

    #[test]
    fn the_largest_and_the_smallest_limits_are_exact() {
        for (requests, seconds) in [(1_000_000, 1), (999_999, 1), (1, 86_400), (1_000_000, 86_400), (7, 11)] {
            let (bucket, quota) = (Bucket::default(), quota(requests, seconds));
            let passed = (0..u64::from(requests) + 10)
                .filter(|_| matches!(bucket.take(quota, 1), Verdict::Passed { .. }))
                .count();
            assert_eq!(passed, requests as usize);
        }
    }

    #[test]
    fn threads_together_get_no_more_than_the_limit() {
        let (bucket, quota) = (Bucket::default(), quota(1000, 3600));
        let passed: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000).filter(|_| matches!(bucket.take(quota, 1), Verdict::Passed { .. })).count()
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }
}
