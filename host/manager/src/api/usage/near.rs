//! Which limits an app is near to.

use picloud_core::{LimitField, Limits, UNLIMITED};
use picloud_store::AppUsage;
use serde::Serialize;
use utoipa::ToSchema;

/// From how much on a limit is near.
const NEAR_PERCENT: u64 = 80;

/// A limit that an app is near to, or at.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct NearView {
    /// Its name.
    limit: &'static str,
    /// How much is used.
    used: u64,
    /// How much there is.
    most: u64,
    /// Used of 100.
    percent: u64,
}

/// The limits of which an app has used 80 of 100 or more, the most used first.
pub(super) fn of(limits: &Limits, used: &AppUsage, kv_bytes: u64) -> Vec<NearView> {
    let used = [
        (LimitField::FuelPerHour, used.fuel_of_hour),
        (LimitField::FuelPerDay, used.fuel_of_day),
        (LimitField::KvBytes, kv_bytes),
        (LimitField::Concurrency, used.peak_concurrency),
    ];
    let mut near: Vec<NearView> = used
        .into_iter()
        .filter(|(field, used)| limits.get(*field) != UNLIMITED && *used > 0)
        .map(|(field, used)| {
            let most = limits.get(field);
            let percent = u128::from(used) * 100 / u128::from(most.max(1));
            let percent = u64::try_from(percent).unwrap_or(u64::MAX);
            NearView { limit: field.as_str(), used, most, percent }
        })
        .filter(|near| near.percent >= NEAR_PERCENT)
        .collect();
    near.sort_by_key(|near| std::cmp::Reverse(near.percent));
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_near_from_80_of_100_on() {
        let limits = Limits { fuel_per_hour: 1_000, kv_bytes: 100, concurrency: 1, ..Limits::default() };
        let used = |fuel: u64, peak_concurrency: u64| AppUsage {
            fuel_of_hour: fuel,
            fuel_of_day: fuel,
            peak_concurrency,
            ..AppUsage::default()
        };
        assert_eq!(of(&limits, &used(799, 0), 79), []);
        let near = of(&limits, &used(800, 1), 250);
        let shown: Vec<_> = near.iter().map(|near| (near.limit, near.percent)).collect();
        assert_eq!(shown, [("kv_bytes", 250), ("concurrency", 100), ("fuel_per_hour", 80)]);
        // Where nothing is allowed, nothing is used but by what was there before.
        let none = Limits { kv_bytes: 0, ..Limits::default() };
        assert_eq!(of(&none, &used(u64::MAX, 0), 0), []);
        assert_eq!(of(&none, &used(0, 0), 5)[0].percent, 500);
    }
}
