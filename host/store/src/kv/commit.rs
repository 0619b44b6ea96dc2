//! Committing what a run wants to change, if what it has read is still so.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use picloud_core::{AppId, DeadLetterId, Effects, ExecutionId, FileQuota, KvId, KvReads, KvWrite, Lineage};
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    locks::{HeldBucket, KvLocks},
    validate::Current,
};
use crate::{
    AnswerOf, KeptAnswer, Store, StoreError, answers, files,
    outbox::{Cause, Claim, Emitting, KvEvents, LaneId, MailQuota, OutboxLimit, acknowledge, emit},
    text::bigint,
};

/// Each statement must see what was committed before it, also where the database's default is stricter.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The quota of a commit that writes no files.
pub(super) const NO_FILES: FileQuota = FileQuota { bytes: 0, files: 0 };

/// What a commit is bound by, and what is committed with it.
#[derive(Clone, Debug)]
pub struct CommitTerms {
    /// What the app's files may be.
    pub files: FileQuota,
    /// The most events of the app that may wait.
    pub outbox: OutboxLimit,
    /// Whether the app has triggers for changes of entries: to look for those that a change is for, or to do without.
    pub kv_triggers: KvTriggers,
    /// The most e-mails of the app in a day.
    pub mails: MailQuota,
    /// The run whose effects these are. Where it handles no event, its events say that they came of it.
    pub execution: Option<ExecutionId>,
    /// The event whose handling this is.
    pub acknowledge: Option<Acknowledge>,
    /// The answer that is kept.
    pub answer: Option<(AnswerOf, KeptAnswer)>,
}

/// Whether triggers for changes of entries are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvTriggers {
    /// There may be some.
    #[default]
    LookFor,
    /// The app has none.
    None,
}

/// An event that was handled: it leaves the outbox with the commit of what its handling did.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledge {
    /// The right to handle it.
    pub claim: Claim,
    /// Where it stands in its chain.
    pub lineage: Lineage,
    /// The dead letter that it told of.
    pub dead_letter: Option<DeadLetterId>,
}

impl From<FileQuota> for CommitTerms {
    /// A commit that is no event's, of an app whose outbox and mails are not bounded.
    fn from(files: FileQuota) -> Self {
        Self {
            files,
            outbox: OutboxLimit::NONE,
            mails: MailQuota(u64::MAX),
            kv_triggers: KvTriggers::LookFor,
            execution: None,
            acknowledge: None,
            answer: None,
        }
    }
}

/// The longest time to live, so that its end is a time that the database can hold: 100 years. A longer one of a
/// script is cut to it; the management API refuses it.
pub const LONGEST_TTL: Duration = Duration::from_hours(100 * 365 * 24);

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum KvCommit {
    /// All of it is committed.
    Committed {
        /// By how many bytes the app's entries have grown, or shrunk.
        bytes_delta: i64,
    },
    /// Something that was read has changed; nothing is committed.
    Conflict,
    /// The event was taken from the process that handled it; nothing is committed.
    Superseded,
}

/// The locks of a run that is done again, held until it is committed or this is dropped.
#[derive(Debug)]
pub struct KvLocked {
    // The order of the fields is the order in which they are given up: the database's locks first.
    transaction: Transaction<'static, Postgres>,
    held: Vec<HeldBucket>,
    _permit: OwnedSemaphorePermit,
    store: Store,
    app: AppId,
    locks: KvLocks,
}

impl Store {
    /// Commits all of `effects` if everything in `reads` is still so, or else nothing. [`StoreError::FileQuota`] if the
    /// app's files would then be more than `quota` allows.
    ///
    /// A run that writes nothing is validated if it has read more than one entry or list, in one statement and
    /// without locks. [`StoreError::NotFound`] if the app is gone.
    pub async fn kv_commit(
        &self,
        app: AppId,
        reads: &KvReads,
        effects: &Effects,
        terms: impl Into<CommitTerms>,
    ) -> Result<KvCommit, StoreError> {
        let terms = terms.into();
        if effects.is_empty() && terms.acknowledge.is_none() && terms.answer.is_none() {
            if reads.is_single() {
                return Ok(KvCommit::Committed { bytes_delta: 0 });
            }
            let mut connection = self.pool.acquire().await?;
            return self.apply(&mut connection, app, reads, effects, &terms, &mut BTreeSet::new()).await;
        }
        let locks = KvLocks::for_commit(reads, effects);
        let held = self.buckets.lock(app, &locks).await;
        let mut transaction = self.pool.begin_with(BEGIN).await?;
        locks.take(&mut transaction, app).await?;
        let mut lanes = BTreeSet::new();
        let result = self.apply(&mut transaction, app, reads, effects, &terms, &mut lanes).await?;
        finish(transaction, result).await?;
        drop(held);
        self.wake_after(result, &lanes);
        Ok(result)
    }

    /// Takes the locks of a run before it is done again, so that nobody can come in between. Its reads go
    /// through any connection; its commit through [`KvLocked::commit`].
    pub async fn kv_begin_locked(&self, app: AppId, locks: &KvLocks) -> Result<KvLocked, StoreError> {
        let held = self.buckets.lock(app, locks).await;
        let permit = Arc::clone(&self.locked_runs).acquire_owned().await;
        // The semaphore is never closed; if it were, the store would be.
        let permit = permit.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        let mut transaction = self.pool.begin_with(BEGIN).await?;
        locks.take(&mut transaction, app).await?;
        let (store, locks) = (self.clone(), locks.clone());
        Ok(KvLocked { transaction, held, _permit: permit, store, app, locks })
    }
}

impl KvLocked {
    /// As [`Store::kv_commit`], under the locks that are held.
    ///
    /// If the run has touched more than they cover, the rest is locked if it is free; to wait for it could be
    /// to wait for ever. If it is not free that is a conflict: begin again with [`KvLocks::merge`]d locks.
    pub async fn commit(
        mut self,
        reads: &KvReads,
        effects: &Effects,
        terms: impl Into<CommitTerms>,
    ) -> Result<KvCommit, StoreError> {
        let terms = terms.into();
        let missing = self.locks.missing(&KvLocks::for_commit(reads, effects));
        let Some(more) = self.store.buckets.try_lock(self.app, &missing) else {
            return self.finish(KvCommit::Conflict).await;
        };
        self.held.extend(more);
        if !missing.try_take(&mut self.transaction, self.app).await? {
            return self.finish(KvCommit::Conflict).await;
        }
        let (store, mut lanes) = (self.store.clone(), BTreeSet::new());
        let result = store.apply(&mut self.transaction, self.app, reads, effects, &terms, &mut lanes).await?;
        let result = self.finish(result).await?;
        store.wake_after(result, &lanes);
        Ok(result)
    }

    async fn finish(self, result: KvCommit) -> Result<KvCommit, StoreError> {
        finish(self.transaction, result).await?;
        Ok(result)
    }
}

async fn finish(transaction: Transaction<'_, Postgres>, result: KvCommit) -> Result<(), StoreError> {
    match result {
        KvCommit::Committed { .. } => transaction.commit().await?,
        KvCommit::Conflict | KvCommit::Superseded => transaction.rollback().await?,
    }
    Ok(())
}

impl Store {
    /// Wakes those who handle what was committed.
    fn wake_after(&self, result: KvCommit, lanes: &BTreeSet<LaneId>) {
        if matches!(result, KvCommit::Committed { .. }) {
            self.wakes.wake(lanes);
        }
    }

    async fn apply(
        &self,
        connection: &mut PgConnection,
        app: AppId,
        reads: &KvReads,
        effects: &Effects,
        terms: &CommitTerms,
        lanes: &mut BTreeSet<LaneId>,
    ) -> Result<KvCommit, StoreError> {
        let current = Current::load(connection, app, reads, effects).await?;
        // Where nothing is locked, files are looked at after the entries: what has not changed until then was so when the
        // entries were looked at.
        if !current.agrees_with(reads) || !files::agree(connection, app, &reads.files).await? {
            return Ok(KvCommit::Conflict);
        }
        if let Some(Acknowledge { claim, dead_letter, .. }) = &terms.acknowledge
            && !acknowledge(connection, claim, *dead_letter, lanes).await?
        {
            return Ok(KvCommit::Superseded);
        }
        files::write(connection, app, &effects.files, terms.files).await?;
        let events = match terms.kv_triggers {
            KvTriggers::LookFor => KvEvents::find(connection, app, effects).await?,
            KvTriggers::None => KvEvents::default(),
        };
        let columns = Columns::of(effects);
        columns.set(connection, app).await?;
        columns.delete(connection, app).await?;
        let cause = match (terms.acknowledge, terms.execution) {
            (Some(handled), _) => Cause::Event(handled.claim.event, handled.lineage),
            (None, Some(execution)) => Cause::Run(execution),
            (None, None) => Cause::None,
        };
        let emitting = Emitting { limit: terms.outbox, mails: terms.mails, cause };
        let inserted = emit(self, connection, app, &effects.events, events, &emitting).await?;
        lanes.extend(inserted.lanes);
        if let Some((of, answer)) = &terms.answer {
            lanes.extend(answers::keep(self, connection, app, of, answer).await?.lanes);
        }
        Ok(KvCommit::Committed { bytes_delta: columns.bytes - current.bytes_replaced(effects) })
    }
}

/// The writes, as the arrays that the statements take.
#[derive(Default)]
struct Columns<'a> {
    collections: Vec<&'a str>,
    keys: Vec<&'a str>,
    values: Vec<&'a str>,
    ttls: Vec<Option<i64>>,
    deleted_collections: Vec<&'a str>,
    deleted_keys: Vec<&'a str>,
    /// What the written entries take.
    bytes: i64,
}

impl<'a> Columns<'a> {
    fn of(effects: &'a Effects) -> Self {
        let mut columns = Self::default();
        for (KvId { collection, key }, write) in &effects.kv {
            match write {
                KvWrite::Set { value, ttl } => {
                    columns.collections.push(collection.as_str());
                    columns.keys.push(key.as_str());
                    columns.values.push(value);
                    columns.ttls.push(ttl.map(|ttl| bigint(ttl.min(LONGEST_TTL).as_micros())));
                    columns.bytes += bigint(key.as_str().len() + value.len());
                }
                KvWrite::Delete => {
                    columns.deleted_collections.push(collection.as_str());
                    columns.deleted_keys.push(key.as_str());
                }
            }
        }
        columns
    }

    async fn set(&self, connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let set = sqlx::query!(
            "INSERT INTO kv (app_id, collection, key, value, expires_at)
            SELECT $1, collection, key, value, statement_timestamp() + ttl * interval '1 microsecond'
            FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) AS new (collection, key, value, ttl)
            ON CONFLICT (app_id, collection, key) DO UPDATE SET value = excluded.value,
                version = excluded.version, expires_at = excluded.expires_at, updated_at = excluded.updated_at",
            app.as_uuid(),
            &self.collections as _,
            &self.keys as _,
            &self.values as _,
            &self.ttls as _,
        );
        set.execute(connection).await.map_err(|error| StoreError::foreign(error, "app"))?;
        Ok(())
    }

    async fn delete(&self, connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
        if self.deleted_keys.is_empty() {
            return Ok(());
        }
        let deleted = sqlx::query!(
            "DELETE FROM kv USING unnest($2::text[], $3::text[]) AS gone (collection, key)
            WHERE kv.app_id = $1 AND kv.collection = gone.collection AND kv.key = gone.key",
            app.as_uuid(),
            &self.deleted_collections as _,
            &self.deleted_keys as _,
        );
        deleted.execute(connection).await?;
        Ok(())
    }
}
