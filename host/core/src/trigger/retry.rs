//! When a failed event is tried again.

use std::time::Duration;

/// How often an event is tried, and how long it waits in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts, the first included; after the last the event is a dead letter.
    pub max_attempts: u16,
    /// The wait after the first failure. Each further one doubles it.
    pub base_delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// How waits are spread.
    pub jitter: Jitter,
}

/// How waits are spread, so that what failed together does not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// The wait is what the policy says.
    None,
    /// Any part of it, from nothing to all: "full jitter" of
    /// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    Full,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_mins(5),
            jitter: Jitter::Full,
        }
    }
}

impl RetryPolicy {
    /// Whether an event that was tried `attempts` times and failed is given up.
    pub const fn is_exhausted(&self, attempts: u16) -> bool {
        attempts >= self.max_attempts
    }

    /// The wait after the failure of attempt number `attempts`, which counts from 1; `random` is from 0 to 1.
    pub fn delay(&self, attempts: u16, random: f64) -> Duration {
        let doublings = u32::from(attempts.saturating_sub(1)).min(31);
        let longest = self.base_delay.saturating_mul(1 << doublings).min(self.max_delay);
        match self.jitter {
            Jitter::None => longest,
            Jitter::Full => longest.mul_f64(random.clamp(0.0, 1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RetryPolicy { jitter: Jitter::None, ..RetryPolicy::default() };
        let seconds = |attempts| policy.delay(attempts, 0.5).as_secs();
        assert_eq!([1, 2, 3, 9, 10, 400].map(seconds), [1, 2, 4, 256, 300, 300]);
        assert!(!policy.is_exhausted(4) && policy.is_exhausted(5));
    }

    proptest! {
        #[test]
        fn a_spread_wait_is_within_the_longest(attempts in 0_u16.., random in 0.0..=1.0_f64) {
            let spread = RetryPolicy::default();
            let whole = RetryPolicy { jitter: Jitter::None, ..spread };
            prop_assert!(spread.delay(attempts, random) <= whole.delay(attempts, random));
            prop_assert!(whole.delay(attempts, random) <= whole.max_delay);
        }
    }
}
