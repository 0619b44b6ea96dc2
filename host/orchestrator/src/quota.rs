//! How much kv data an app has, closely enough to hold it to its limit.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use picloud_core::{AppId, Effects, KvWrite};
use picloud_store::{Store, StoreError};
use tokio::{sync::Mutex, time::Instant};

/// How long a measurement holds, when what was committed here since is added to it. Other nodes' commits and
/// expired entries are seen after this time.
const MEASUREMENT_HOLDS: Duration = Duration::from_mins(10);

/// An app that is over its limit is measured again at most this often, so that being over costs nothing.
const REMEASURE_AFTER: Duration = Duration::from_secs(1);

/// The bytes of an app's keys and values.
#[derive(Debug, Default)]
pub(crate) struct KvUsage {
    /// The last measurement and what was committed since.
    bytes: AtomicI64,
    measured_at: Mutex<Option<Instant>>,
}

/// The app has no room for what a run wants to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverQuota {
    /// What it has.
    pub(crate) used: u64,
    /// What the run would add at most.
    pub(crate) wanted: u64,
}

impl KvUsage {
    /// Checks that `effects` fit under `limit`. What they replace is not known before the commit, so that a
    /// write counts in full; an app within one run's writes of its limit is measured to be sure.
    pub(crate) async fn check(
        &self,
        store: &Store,
        app: AppId,
        effects: &Effects,
        limit: u64,
    ) -> Result<Result<(), OverQuota>, StoreError> {
        let wanted = written(effects);
        if wanted == 0 {
            return Ok(Ok(()));
        }
        let mut measured_at = self.measured_at.lock().await;
        let age = measured_at.map(|at| at.elapsed());
        let is_over = |used: i64| u64::try_from(used).unwrap_or(0).saturating_add(wanted) > limit;
        let must_measure = match age {
            None => true,
            Some(age) if age >= MEASUREMENT_HOLDS => true,
            Some(age) => age >= REMEASURE_AFTER && is_over(self.bytes.load(Relaxed)),
        };
        if must_measure {
            let used = store.kv_used_bytes(&[app]).await?;
            let used = used.first().map_or(0, |(_, bytes)| i64::try_from(*bytes).unwrap_or(i64::MAX));
            self.bytes.store(used, Relaxed);
            *measured_at = Some(Instant::now());
        }
        let used = self.bytes.load(Relaxed);
        Ok(if is_over(used) {
            Err(OverQuota { used: u64::try_from(used).unwrap_or(0), wanted })
        } else {
            Ok(())
        })
    }

    /// Adds what a commit has changed.
    pub(crate) fn add(&self, delta: i64) {
        self.bytes.fetch_add(delta, Relaxed);
    }
}

/// The bytes that `effects` set.
fn written(effects: &Effects) -> u64 {
    let sizes = effects.kv.iter().map(|(id, write)| match write {
        KvWrite::Set { value, .. } => id.key.as_str().len() + value.len(),
        KvWrite::Delete => 0,
    });
    sizes.sum::<usize>() as u64
}
