//! Budgets of fuel: what an app may use in an hour and in a day.
//!
//! What was used is counted here, exactly, when a run ends; the batches of the history take it to the database, and bring
//! back what other nodes have used. Nothing waits for that. Whoever asks is let in as long as anything is left, so that an
//! app can go over its budget by what runs at that moment, and by what other nodes let in until they have heard of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use picloud_core::{ErrorCode, Fault, Hour, LimitField, Limits, UNLIMITED};
use picloud_edge::Problem;
use picloud_store::{HourFuel, StoredFuel};
use time::OffsetDateTime;

/// Hours that are kept in memory before those of past days are forgotten: two days.
const MOST_HOURS: usize = 48;

/// The fuel that an app used in the hours of the present day.
#[derive(Debug, Default)]
pub(crate) struct FuelLedger(Mutex<BTreeMap<Hour, HourUse>>);

#[derive(Clone, Copy, Debug, Default)]
struct HourUse {
    /// What the database has, of every node.
    stored: u64,
    /// What this node has not stored yet.
    pending: u64,
}

/// A budget that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget {
    budget: LimitField,
    used: u64,
    limit: u64,
    /// Seconds until it is there again, at least one.
    retry_after: u32,
}

impl FuelLedger {
    /// One that begins with what the database has.
    pub(crate) fn restored(hours: &[HourFuel]) -> Self {
        let stored = |fuel: &HourFuel| (fuel.hour, HourUse { stored: fuel.fuel, pending: 0 });
        Self(Mutex::new(hours.iter().map(stored).collect()))
    }

    /// Counts fuel of a run that began in `hour`. To be called before the run is in a batch, so that a batch is never
    /// stored with what is not counted here.
    pub(crate) fn spend(&self, hour: Hour, fuel: u64) {
        let mut hours = self.lock();
        let spent = hours.entry(hour).or_default();
        spent.pending = spent.pending.saturating_add(fuel);
        if hours.len() > MOST_HOURS
            && let Some((latest, _)) = hours.last_key_value()
        {
            let today = latest.first_of_day();
            hours.retain(|hour, spent| *hour >= today || spent.pending > 0);
        }
    }

    /// A batch is stored.
    pub(crate) fn stored(&self, fuel: &StoredFuel) {
        let mut hours = self.lock();
        let spent = hours.entry(fuel.hour).or_default();
        spent.pending = spent.pending.saturating_sub(fuel.of_batch);
        spent.stored = spent.stored.max(fuel.total);
    }

    /// Refuses an app that has used up a budget of the hour or the day that `now` is in.
    pub(crate) fn check(&self, limits: &Limits, now: OffsetDateTime) -> Result<(), OverBudget> {
        if limits.fuel_per_hour == UNLIMITED && limits.fuel_per_day == UNLIMITED {
            return Ok(());
        }
        let hour = Hour::of(now);
        // The day first: it is there again the later.
        let windows = [
            (LimitField::FuelPerDay, hour.first_of_day(), hour.next_day()),
            (LimitField::FuelPerHour, hour, hour.next()),
        ];
        let hours = self.lock();
        for (budget, from, end) in windows {
            let used = hours.range(from..end).map(|(_, spent)| spent.stored.saturating_add(spent.pending));
            let used = used.fold(0, u64::saturating_add);
            let limit = limits.get(budget);
            if used >= limit {
                return Err(OverBudget { budget, used, limit, retry_after: seconds_until(end, now) });
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hour, HourUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds until an hour begins, rounded up.
fn seconds_until(hour: Hour, now: OffsetDateTime) -> u32 {
    let left = hour.start() - now;
    let seconds = left.whole_seconds() + i64::from(left.subsec_nanoseconds() > 0);
    u32::try_from(seconds).unwrap_or(0).max(1)
}

impl OverBudget {
    /// The code that clients see.
    pub(crate) const CODE: ErrorCode = ErrorCode::FuelBudget;

    /// Seconds until the budget is there again.
    pub(crate) fn retry_after(&self) -> u32 {
        self.retry_after
    }

    /// The answer to a request. How much fuel an app has is not the public's to know.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(Self::CODE).retry_after(self.retry_after)
    }

    /// The refusal of a call by somebody who may invoke the app's scripts.
    pub(crate) fn fault(&self) -> Fault {
        let Self { budget, used, limit, retry_after } = self;
        let budget = budget.as_str();
        let message = format!(
            "the app has used {used} units of fuel; its limit {budget} is {limit}, and it starts again in \
             {retry_after} seconds"
        );
        Fault::new(Self::CODE, message)
    }
}

#[cfg(test)]
mod tests {
    use picloud_core::AppId;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 22:59:30 UTC);

    fn limits(fuel_per_hour: u64, fuel_per_day: u64) -> Limits {
        Limits { fuel_per_hour, fuel_per_day, ..Limits::default() }
    }

    fn stored(hour: Hour, of_batch: u64, total: u64) -> StoredFuel {
        StoredFuel { app: AppId::generate(), hour, of_batch, total }
    }

    #[test]
    fn what_is_used_up_is_there_again_when_the_clock_crosses_the_hour() {
        let ledger = FuelLedger::default();
        let hourly = limits(100, UNLIMITED);
        ledger.spend(Hour::of(NOW), 99);
        assert_eq!(ledger.check(&hourly, NOW), Ok(()));
        ledger.spend(Hour::of(NOW), 1);
        let over = ledger.check(&hourly, NOW).unwrap_err();
        assert_eq!((over.budget, over.used, over.retry_after), (LimitField::FuelPerHour, 100, 30));
        let last = datetime!(2026-03-01 22:59:59.999 UTC);
        assert_eq!(ledger.check(&hourly, last).unwrap_err().retry_after, 1);
        assert_eq!(ledger.check(&hourly, datetime!(2026-03-01 23:00 UTC)), Ok(()));
        // A run counts in the hour in which it began, also when it ends in the next.
        ledger.spend(Hour::of(NOW), 1_000);
        assert_eq!(ledger.check(&hourly, datetime!(2026-03-01 23:00 UTC)), Ok(()));
    }

    #[test]
    fn a_day_has_all_of_its_hours_and_asks_for_the_longer_wait() {
        let hours = [(20, 40), (22, 60)].map(|(hour, fuel)| HourFuel {
            hour: Hour::of(datetime!(2026-03-01 00:00 UTC) + time::Duration::hours(hour)),
            fuel,
        });
        let ledger = FuelLedger::restored(&hours);
        assert_eq!(ledger.check(&limits(61, 101), NOW), Ok(()));
        let over = ledger.check(&limits(60, 100), NOW).unwrap_err();
        assert_eq!((over.budget, over.used, over.retry_after), (LimitField::FuelPerDay, 100, 3_630));
        assert_eq!(ledger.check(&limits(60, 100), datetime!(2026-03-02 00:00 UTC)), Ok(()));
        assert_eq!(ledger.check(&limits(UNLIMITED, UNLIMITED), NOW), Ok(()));
    }

    #[test]
    fn a_batch_that_is_stored_counts_once_and_brings_what_other_nodes_used() {
        let (ledger, hour) = (FuelLedger::default(), Hour::of(NOW));
        let used = |ledger: &FuelLedger| ledger.check(&limits(1, UNLIMITED), NOW).unwrap_err().used;
        ledger.spend(hour, 10);
        ledger.spend(hour, 5);
        ledger.stored(&stored(hour, 10, 10));
        assert_eq!(used(&ledger), 15);
        ledger.stored(&stored(hour, 5, 115));
        assert_eq!(used(&ledger), 115, "100 are another node's");
        // An older answer changes nothing.
        ledger.stored(&stored(hour, 0, 10));
        assert_eq!(used(&ledger), 115);
    }

    #[test]
    fn past_days_are_forgotten_unless_they_are_not_stored() {
        let ledger = FuelLedger::default();
        let mut hour = Hour::of(NOW);
        for number in 0..1_000 {
            ledger.spend(hour, 1);
            if number != 3 {
                ledger.stored(&stored(hour, 1, 1));
            }
            hour = hour.next();
        }
        let kept = ledger.lock().len();
        assert!(kept <= MOST_HOURS, "{kept}");
        assert_eq!(ledger.lock().values().filter(|spent| spent.pending > 0).count(), 1);
    }

    #[test]
    fn threads_together_lose_nothing() {
        let ledger = FuelLedger::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| ledger.spend(Hour::of(NOW), 1)));
            }
        });
        assert_eq!(ledger.check(&limits(1, UNLIMITED), NOW).unwrap_err().used, 40_000);
    }
}
