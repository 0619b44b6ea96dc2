//! Which commits exclude each other, and the locks that make them.
//!
//! A commit locks what it validates and what it writes, so that nothing can change between the one and the
//! other. The locks are on buckets, not on keys, so that their number is bounded; they are always taken in
//! ascending order, so that no two commits wait for each other. Each is held twice: in the process, taken
//! before a connection is, and in the database, where it holds against other processes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use picloud_core::{AppId, CollectionName, Effects, KvId, KvReads};
use sqlx::PgConnection;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::StoreError;

/// Buckets of keys of an app; their numbers are 0 to 255, those of collections follow.
const BUCKETS: u64 = 256;

/// The lock of an app's files: shared by those who have read some, held alone by those who write any.
const FILES: u16 = 2 * BUCKETS as u16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Shared,
    Exclusive,
}

/// What a run needs to have to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvLocks(BTreeMap<u16, Mode>);

impl KvLocks {
    /// The locks to hold while a run is done again that has read and written this. What it read is locked as
    /// if it had been written, since the next run may write it.
    pub fn for_rerun(reads: &KvReads, effects: &Effects) -> Self {
        let mut locks = Self::for_commit(reads, effects);
        for id in reads.entries.keys() {
            locks.add_key(id, Mode::Exclusive);
            locks.add_collection(&id.collection, Mode::Shared);
        }
        if !reads.files.is_empty() {
            locks.add(FILES, Mode::Exclusive);
        }
        locks
    }

    /// The lock of an app's files alone.
    pub fn for_files() -> Self {
        Self(BTreeMap::from([(FILES, Mode::Exclusive)]))
    }

    /// Adds the locks of `other`: where a re-run has touched other keys than the run before it.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, mode) in &other.0 {
            self.add(*bucket, *mode);
        }
    }

    /// The locks of a commit: exclusive on what is written, shared on what is only read. A collection that is
    /// written to is shared by its writers, and exclusive to a run that has read a list of it, which any new
    /// key would change.
    pub(super) fn for_commit(reads: &KvReads, effects: &Effects) -> Self {
        let mut locks = Self::default();
        for id in reads.entries.keys() {
            locks.add_key(id, Mode::Shared);
        }
        for list in &reads.lists {
            locks.add_collection(&list.query.collection, Mode::Exclusive);
        }
        for id in effects.kv.keys() {
            locks.add_key(id, Mode::Exclusive);
            locks.add_collection(&id.collection, Mode::Shared);
        }
        if !effects.files.is_empty() {
            locks.add(FILES, Mode::Exclusive);
        } else if !reads.files.is_empty() {
            locks.add(FILES, Mode::Shared);
        }
        locks
    }

    /// What of `needed` is not among these.
    pub(super) fn missing(&self, needed: &Self) -> Self {
        let is_missing = |bucket, mode| self.0.get(bucket).is_none_or(|held| held < mode);
        Self(
            needed
                .0
                .iter()
                .filter(|(bucket, mode)| is_missing(bucket, mode))
                .map(|(b, m)| (*b, *m))
                .collect(),
        )
    }

    /// Takes the locks in the database until the transaction ends, waiting for each.
    pub(crate) async fn take(&self, connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
        let (buckets, exclusive) = self.columns();
        // A function scan yields its rows in the arrays' order.
        let taken = sqlx::query!(
            r#"SELECT CASE WHEN exclusive THEN pg_advisory_xact_lock($1, bucket)
                ELSE pg_advisory_xact_lock_shared($1, bucket) END::text AS "taken!"
            FROM unnest($2::integer[], $3::boolean[]) AS locks (bucket, exclusive)"#,
            namespace(app),
            &buckets,
            &exclusive,
        );
        taken.fetch_all(connection).await?;
        Ok(())
    }

    /// Takes the locks in the database until the transaction ends, if all of them are free.
    pub(super) async fn try_take(
        &self,
        connection: &mut PgConnection,
        app: AppId,
    ) -> Result<bool, StoreError> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let (buckets, exclusive) = self.columns();
        let taken = sqlx::query_scalar!(
            r#"SELECT bool_and(CASE WHEN exclusive THEN pg_try_advisory_xact_lock($1, bucket)
                ELSE pg_try_advisory_xact_lock_shared($1, bucket) END) AS "taken!"
            FROM unnest($2::integer[], $3::boolean[]) AS locks (bucket, exclusive)"#,
            namespace(app),
            &buckets,
            &exclusive,
        );
        Ok(taken.fetch_one(connection).await?)
    }

    fn columns(&self) -> (Vec<i32>, Vec<bool>) {
        self.0.iter().map(|(bucket, mode)| (i32::from(*bucket), *mode == Mode::Exclusive)).unzip()
    }

    fn add_key(&mut self, id: &KvId, mode: Mode) {
        let bucket = hash([id.collection.as_str().as_bytes(), id.key.as_str().as_bytes()]) % BUCKETS;
        self.add(bucket as u16, mode);
    }

    fn add_collection(&mut self, collection: &CollectionName, mode: Mode) {
        let bucket = BUCKETS + hash([collection.as_str().as_bytes()]) % BUCKETS;
        self.add(bucket as u16, mode);
    }

    fn add(&mut self, bucket: u16, mode: Mode) {
        let held = self.0.entry(bucket).or_insert(mode);
        *held = mode.max(*held);
    }
}

/// The half of an advisory lock's key that stands for the app. Two apps that share it only wait for each other
/// now and then.
fn namespace(app: AppId) -> i32 {
    (hash([app.as_uuid().as_bytes().as_slice()]) as u32).cast_signed()
}

/// 64-bit FNV-1a over length-prefixed parts: the same in every process and version, which the standard
/// library's hashers do not promise.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    // The low bits of FNV are its weakest, and they choose the bucket.
    hash ^ (hash >> 32)
}

/// The locks of this process. A bucket that nobody holds or waits for takes no memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets(Arc<Mutex<HashMap<BucketId, Arc<RwLock<()>>>>>);

type BucketId = (AppId, u16);

impl Buckets {
    /// Takes the locks, waiting for each.
    pub(super) async fn lock(&self, app: AppId, locks: &KvLocks) -> Vec<HeldBucket> {
        let mut held = Vec::with_capacity(locks.0.len());
        for (bucket, mode) in &locks.0 {
            let (mut slot, lock) = self.slot((app, *bucket));
            slot.guard = Some(match mode {
                Mode::Shared => Guard::Shared { _guard: lock.read_owned().await },
                Mode::Exclusive => Guard::Exclusive { _guard: lock.write_owned().await },
            });
            held.push(slot);
        }
        held
    }

    /// Takes the locks, if all of them are free.
    pub(super) fn try_lock(&self, app: AppId, locks: &KvLocks) -> Option<Vec<HeldBucket>> {
        let mut held = Vec::with_capacity(locks.0.len());
        for (bucket, mode) in &locks.0 {
            let (mut slot, lock) = self.slot((app, *bucket));
            slot.guard = Some(match mode {
                Mode::Shared => Guard::Shared { _guard: lock.try_read_owned().ok()? },
                Mode::Exclusive => Guard::Exclusive { _guard: lock.try_write_owned().ok()? },
            });
            held.push(slot);
        }
        Some(held)
    }

    fn slot(&self, id: BucketId) -> (HeldBucket, Arc<RwLock<()>>) {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(locks.entry(id).or_default());
        (HeldBucket { buckets: self.clone(), id, guard: None }, lock)
    }
}

/// A bucket that is held, or waited for.
#[derive(Debug)]
pub(crate) struct HeldBucket {
    buckets: Buckets,
    id: BucketId,
    guard: Option<Guard>,
}

#[derive(Debug)]
enum Guard {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Exclusive { _guard: OwnedRwLockWriteGuard<()> },
}

impl Drop for HeldBucket {
    fn drop(&mut self) {
        // The guard's reference is given up under the mutex under which references are taken, so that of the
        // last two holders one sees that it is the last.
        let mut locks = self.buckets.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        if locks.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use picloud_core::{KvKey, KvListQuery, KvListRead, KvVersion, KvWrite};

    use super::*;

    fn id(collection: &str, key: &str) -> KvId {
        KvId { collection: CollectionName::new(collection).unwrap(), key: KvKey::new(key).unwrap() }
    }

    fn reads(id: KvId) -> KvReads {
        KvReads { entries: BTreeMap::from([(id, KvVersion::ABSENT)]), ..KvReads::default() }
    }

    fn writes(id: KvId) -> Effects {
        Effects { kv: BTreeMap::from([(id, KvWrite::Delete)]), ..Effects::default() }
    }

    #[test]
    fn a_key_that_is_read_and_written_is_exclusive() {
        let locks = KvLocks::for_commit(&reads(id("c", "k")), &writes(id("c", "k")));
        let (key, collection) = (locks.0.first_key_value().unwrap(), locks.0.last_key_value().unwrap());
        assert_eq!((key.1, collection.1), (&Mode::Exclusive, &Mode::Shared));
    }

    #[test]
    fn a_list_excludes_those_who_write_to_the_collection() {
        let collection = CollectionName::new("c").unwrap();
        let query = KvListQuery { collection, prefix: String::new(), after: None, limit: 1 };
        let listed = KvReads { lists: vec![KvListRead { query, found: Vec::new() }], ..KvReads::default() };
        let lists = KvLocks::for_commit(&listed, &writes(id("d", "x")));
        let writer = KvLocks::for_commit(&KvReads::default(), &writes(id("c", "k")));
        let shared: Vec<_> = writer.0.iter().filter_map(|(b, m)| Some((*m, *lists.0.get(b)?))).collect();
        assert!(shared.contains(&(Mode::Shared, Mode::Exclusive)));
    }

    #[test]
    fn what_is_held_more_strongly_is_not_missing() {
        let commit = KvLocks::for_commit(&reads(id("c", "k")), &Effects::default());
        let rerun = KvLocks::for_rerun(&reads(id("c", "k")), &Effects::default());
        assert!(rerun.missing(&commit).0.is_empty());
        assert!(!commit.missing(&rerun).0.is_empty());
    }

    #[test]
    fn buckets_that_nobody_holds_are_forgotten() {
        let (buckets, app) = (Buckets::default(), AppId::generate());
        let locks = KvLocks::for_commit(&KvReads::default(), &writes(id("c", "k")));
        let held = buckets.try_lock(app, &locks).unwrap();
        assert!(buckets.try_lock(app, &locks).is_none());
        // A waiter that gives up leaves nothing behind either.
        let mut waiter = Box::pin(buckets.lock(app, &locks));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiter.as_mut().poll(&mut context).is_pending());
        drop(held);
        drop(waiter);
        assert!(buckets.0.lock().unwrap().is_empty());
    }
}
