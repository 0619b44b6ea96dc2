//! Every app in memory: who a host or a name stands for, without a query.

mod entry;
mod feed;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
};

use arc_swap::ArcSwap;
use picloud_core::{AppId, AppName, DomainName, SandboxCeiling};
use picloud_store::{AppDirectory, Store, StoreError, Woken};
use tokio::sync::{Mutex, Notify};

use crate::host::Sources;

pub(crate) use entry::{Answers, AppEntry, AppState, ScriptEntry, Scripts};
pub(crate) use feed::follow;

/// All apps. Readers take a snapshot; a change makes a new one, in which the entries of other apps are shared.
pub(crate) struct Directory {
    sources: Sources,
    ceiling: SandboxCeiling,
    snapshot: ArcSwap<Snapshot>,
    /// Held from asking the store to taking up the answer, so that an older answer never replaces a newer one.
    turn: Mutex<()>,
    /// Asks for everything to be loaded again, after a change could not be.
    stale: Notify,
    /// What was loaded again since it was last asked for.
    changed: std::sync::Mutex<Changed>,
    schedules: Notify,
}

/// Apps that were loaded again.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// These.
    pub(crate) apps: BTreeSet<AppId>,
    /// All of them.
    pub(crate) everything: bool,
}

#[derive(Clone, Default)]
struct Snapshot {
    ids: HashMap<AppId, Arc<AppEntry>>,
    names: HashMap<AppName, Arc<AppEntry>>,
    domains: HashMap<DomainName, Arc<AppEntry>>,
}

impl Directory {
    /// A directory without apps.
    pub(crate) fn new(sources: Sources, ceiling: SandboxCeiling) -> Self {
        Self {
            sources,
            ceiling,
            snapshot: ArcSwap::default(),
            turn: Mutex::new(()),
            stale: Notify::new(),
            changed: <_>::default(),
            schedules: Notify::new(),
        }
    }

    /// Where the apps are stored.
    pub(crate) fn store(&self) -> &Store {
        &self.sources.store
    }

    /// The app of this id.
    pub(crate) fn by_id(&self, id: AppId) -> Option<Arc<AppEntry>> {
        self.snapshot.load().ids.get(&id).cloned()
    }

    /// The app of this name.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<AppEntry>> {
        self.snapshot.load().names.get(name).cloned()
    }

    /// The app that this host belongs to.
    pub(crate) fn by_domain(&self, host: &str) -> Option<Arc<AppEntry>> {
        self.snapshot.load().domains.get(host).cloned()
    }

    /// Loads one app again. When it returns, requests see the app as it was when this was called, or newer.
    pub(crate) async fn reload(&self, app: AppId) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let loaded = self.sources.store.directory_of(app).await?;
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let state = snapshot.remove(app);
        match (loaded, state) {
            (Some(loaded), state) => snapshot.insert(self.entry(loaded, state)),
            (None, Some(state)) => state.gone.cancel(),
            (None, None) => {}
        }
        self.snapshot.store(Arc::new(snapshot));
        self.lock_changed().apps.insert(app);
        self.schedules.notify_waiters();
        self.sources.store.wake_here(Woken::default());
        Ok(())
    }

    /// Loads every app again.
    pub(crate) async fn reload_all(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let loaded = self.sources.store.directory().await?;
        let before = self.snapshot.load();
        let mut snapshot = Snapshot::default();
        for app in loaded {
            let state = before.ids.get(&app.id).map(|entry| Arc::clone(&entry.state));
            snapshot.insert(self.entry(app, state));
        }
        let gone = before.ids.iter().filter(|(id, _)| !snapshot.ids.contains_key(*id));
        gone.for_each(|(_, entry)| entry.state.gone.cancel());
        self.snapshot.store(Arc::new(snapshot));
        *self.lock_changed() = Changed { apps: BTreeSet::new(), everything: true };
        self.schedules.notify_waiters();
        self.sources.store.wake_here(Woken::default());
        Ok(())
    }

    /// The apps that were loaded again since the last call. Whoever handles events is woken when there are some.
    pub(crate) fn take_changed(&self) -> Changed {
        std::mem::take(&mut *self.lock_changed())
    }

    /// Waits for the next change of any app, from the call on.
    pub(crate) fn schedules_changed(&self) -> impl Future<Output = ()> + '_ {
        let mut changed = Box::pin(self.schedules.notified());
        changed.as_mut().enable();
        changed
    }

    fn lock_changed(&self) -> std::sync::MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for everything to be loaded again as soon as the store answers.
    pub(crate) fn mark_stale(&self) {
        self.stale.notify_one();
    }

    fn entry(&self, app: AppDirectory, state: Option<Arc<AppState>>) -> Arc<AppEntry> {
        Arc::new(AppEntry::new(app, &self.ceiling, &self.sources, state))
    }
}

impl Snapshot {
    fn insert(&mut self, entry: Arc<AppEntry>) {
        self.ids.insert(entry.id, Arc::clone(&entry));
        for domain in &entry.domains {
            self.domains.insert(domain.clone(), Arc::clone(&entry));
        }
        self.names.insert(entry.name.clone(), entry);
    }

    /// Takes an app out, and gives back what is known of it beyond its form. A name or a domain that another
    /// app has taken over since stays that app's.
    fn remove(&mut self, app: AppId) -> Option<Arc<AppState>> {
        let entry = self.ids.remove(&app)?;
        if self.names.get(&entry.name).is_some_and(|named| named.id == app) {
            self.names.remove(&entry.name);
        }
        for domain in &entry.domains {
            if self.domains.get(domain).is_some_and(|owner| owner.id == app) {
                self.domains.remove(domain);
            }
        }
        Some(Arc::clone(&entry.state))
    }
}
