//! Which runs of a schedule are due, and which were missed.

use std::{collections::VecDeque, time::Duration};

use time::OffsetDateTime;

use super::{CronSource, MissedRuns};

/// What has come of a schedule since somebody last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueSlots {
    /// Times for which there is to be a run, the oldest first.
    pub run: Vec<OffsetDateTime>,
    /// Times that were missed, the oldest first.
    pub missed: Vec<OffsetDateTime>,
    /// The next time.
    pub next: Option<OffsetDateTime>,
}

impl CronSource {
    /// A time is missed if it is further back than this when somebody looks, or if another one has come since.
    pub const ON_TIME: Duration = Duration::from_secs(30);

    /// The most times that one look tells of: the latest ones.
    pub const MAX_SLOTS: usize = 1_000;

    /// What has come by `now`, where the next time was `next_at`.
    ///
    /// The latest time runs if it is not missed. Of those that were missed and are not further back than
    /// [`Self::max_lateness`], none is made up for, the latest, or all, as [`Self::missed`] says.
    pub fn due(&self, next_at: OffsetDateTime, now: OffsetDateTime) -> DueSlots {
        let first = next_at.max(now - self.max_lateness);
        let mut slots: VecDeque<OffsetDateTime> = VecDeque::new();
        let mut next = if first > next_at {
            // A time is never before `first` by less than it takes to look.
            slots.push_back(next_at);
            self.schedule.next_after(first - Duration::from_nanos(1))
        } else {
            Some(next_at)
        };
        while let Some(slot) = next.filter(|slot| *slot <= now) {
            if slots.len() == Self::MAX_SLOTS {
                slots.pop_front();
            }
            slots.push_back(slot);
            next = self.schedule.next_after(slot);
        }
        let slots = Vec::from(slots);
        let is_late = |slot: &OffsetDateTime| now - *slot > self.max_lateness;
        let is_on_time = |slot: &OffsetDateTime| now - *slot <= Self::ON_TIME;
        let latest = slots.last().copied();
        let runs = |slot: &OffsetDateTime| {
            let is_latest = Some(*slot) == latest;
            match self.missed {
                MissedRuns::Skip => is_latest && is_on_time(slot),
                MissedRuns::Once => is_latest && !is_late(slot),
                MissedRuns::All => !is_late(slot),
            }
        };
        let (run, missed) = slots.into_iter().partition(runs);
        DueSlots { run, missed, next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::Schedule;

    const NEXT: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    fn hourly(missed: MissedRuns) -> CronSource {
        CronSource {
            schedule: Schedule::new("0 * * * *", "UTC").unwrap(),
            missed,
            max_lateness: Duration::from_hours(3),
            jitter: Duration::ZERO,
        }
    }

    fn hours(slots: &[OffsetDateTime]) -> Vec<u8> {
        slots.iter().map(|slot| slot.hour()).collect()
    }

    #[test]
    fn one_that_is_on_time_runs_whatever_is_done_about_others() {
        for missed in [MissedRuns::Skip, MissedRuns::Once, MissedRuns::All] {
            let due = hourly(missed).due(NEXT, NEXT + Duration::from_millis(5));
            assert_eq!((hours(&due.run), due.missed.len()), (vec![12], 0));
            assert_eq!(due.next, Some(NEXT + Duration::from_hours(1)));
            let early = hourly(missed).due(NEXT, NEXT - Duration::from_secs(1));
            assert_eq!(early, DueSlots { next: Some(NEXT), ..DueSlots::default() });
        }
    }

    #[test]
    fn those_that_were_missed_are_left_out_or_made_up_for_once_or_all() {
        let now = NEXT + Duration::from_mins(150);
        let of = |missed| {
            let due = hourly(missed).due(NEXT, now);
            assert_eq!(due.next, Some(datetime!(2026-03-01 15:00 UTC)));
            (hours(&due.run), hours(&due.missed))
        };
        assert_eq!(of(MissedRuns::Skip), (vec![], vec![12, 13, 14]));
        assert_eq!(of(MissedRuns::Once), (vec![14], vec![12, 13]));
        assert_eq!(of(MissedRuns::All), (vec![12, 13, 14], vec![]));
    }

    #[test]
    fn those_that_are_too_far_back_are_not_made_up_for() {
        let due = hourly(MissedRuns::All).due(NEXT, NEXT + Duration::from_mins(10 * 60 + 30));
        assert_eq!((hours(&due.run), hours(&due.missed)), (vec![20, 21, 22], vec![12]));
        let daily =
            CronSource { schedule: Schedule::new("@daily", "UTC").unwrap(), ..hourly(MissedRuns::Once) };
        let midnight = datetime!(2026-03-01 0:00 UTC);
        let due = daily.due(midnight, midnight + Duration::from_hours(9));
        assert_eq!((due.run.len(), due.missed), (0, vec![midnight]));
    }

    #[test]
    fn there_is_a_most_that_is_told_of() {
        let often = CronSource {
            schedule: Schedule::new("*/10 * * * * *", "UTC").unwrap(),
            max_lateness: Duration::from_hours(7 * 24),
            ..hourly(MissedRuns::All)
        };
        let due = often.due(NEXT, NEXT + Duration::from_hours(24));
        assert_eq!(due.run.len(), CronSource::MAX_SLOTS);
        assert_eq!(due.next, Some(NEXT + Duration::from_secs(24 * 3_600 + 10)));
    }

    proptest! {
        #[test]
        fn whoever_looks_how_often_enqueues_each_time_once(pauses in prop::collection::vec(1_u64..7_200, 1..20)) {
            let source = hourly(MissedRuns::All);
            let (mut next_at, mut now, mut seen) = (NEXT, NEXT, Vec::new());
            for pause in pauses {
                now += Duration::from_secs(pause);
                let due = source.due(next_at, now);
                seen.extend(due.run);
                prop_assert!(due.missed.is_empty());
                next_at = due.next.unwrap();
                prop_assert!(next_at > now);
            }
            let expected: Vec<OffsetDateTime> =
                (0..100).map(|n| NEXT + Duration::from_hours(n)).take_while(|slot| *slot <= now).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
