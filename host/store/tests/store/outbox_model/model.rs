//! What the outbox should be.

use std::collections::{BTreeMap, BTreeSet};

use picloud_core::EventId;
use picloud_store::ClaimedEvent;

pub(super) const MAX_ATTEMPTS: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worker {
    Alive,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// With an entry that is written and a message that is sent.
    Commit,
    Retry,
    RetryLater,
    GiveBack,
    GiveBackLater,
    Dead,
}

/// When an event that waits may be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Since this step.
    Since(u64),
    Later,
    /// When it is the first of its group, and then perhaps later.
    Behind {
        is_delayed: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) due: Due,
    pub(super) priority: i16,
    pub(super) group: Option<u8>,
    pub(super) attempts: u16,
    pub(super) claimed_by: Option<Worker>,
    pub(super) is_suspect: bool,
}

/// All that the outbox should have, and what has left it.
#[derive(Default)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) accepted: BTreeSet<EventId>,
    pub(super) done: BTreeSet<EventId>,
    pub(super) dead: BTreeMap<EventId, (i16, Option<u8>)>,
    pub(super) waiting: BTreeMap<EventId, Waiting>,
    /// The messages of each group that are not ended, in their order.
    pub(super) groups: BTreeMap<u8, Vec<EventId>>,
    pub(super) keys: BTreeMap<u8, EventId>,
    /// What handlers have written: the attempt that did.
    pub(super) effects: BTreeMap<EventId, u16>,
    pub(super) replays: BTreeMap<EventId, EventId>,
    pub(super) is_paused: bool,
    pub(super) limit: Option<u8>,
}

impl Model {
    pub(super) fn accept(&mut self, id: EventId, priority: i16, group: Option<u8>, is_delayed: bool) {
        assert!(self.accepted.insert(id));
        let mut due = if is_delayed { Due::Later } else { Due::Since(self.now) };
        if let Some(group) = group {
            let group = self.groups.entry(group).or_default();
            if !group.is_empty() {
                due = Due::Behind { is_delayed };
            }
            group.push(id);
        }
        let priority = if group.is_some() { 0 } else { priority };
        let waiting = Waiting { due, priority, group, attempts: 0, claimed_by: None, is_suspect: false };
        self.waiting.insert(id, waiting);
    }

    /// What is due and nobody has, in its order.
    pub(super) fn ready(&self, is_suspect: bool) -> Vec<EventId> {
        let free =
            self.waiting.iter().filter(|(_, it)| it.claimed_by.is_none() && it.is_suspect == is_suspect);
        let mut ready: Vec<(u64, EventId)> = free
            .filter_map(|(id, it)| if let Due::Since(since) = it.due { Some((since, *id)) } else { None })
            .collect();
        ready.sort_unstable();
        ready.into_iter().map(|(_, id)| id).collect()
    }

    /// What a claim of at most so many of each lane gets.
    pub(super) fn claimable(&self, most: u32) -> BTreeSet<EventId> {
        if self.is_paused {
            return BTreeSet::new();
        }
        let has_place = |it: &&Waiting| it.claimed_by.is_some() || it.is_suspect;
        let taken = self.waiting.values().filter(has_place).count();
        let mut places = self.limit.map_or(usize::MAX, |limit| usize::from(limit).saturating_sub(taken));
        let ready = self.ready(false);
        let mut lanes: Vec<i16> = ready.iter().map(|id| self.waiting[id].priority).collect();
        lanes.sort_unstable_by_key(|priority| std::cmp::Reverse(*priority));
        lanes.dedup();
        let mut claimed = BTreeSet::new();
        for lane in lanes {
            let of_lane = ready.iter().filter(|id| self.waiting[*id].priority == lane);
            for id in of_lane.take(places.min(most as usize)) {
                claimed.insert(*id);
                places -= 1;
            }
        }
        claimed
    }

    pub(super) fn claim(&mut self, event: &ClaimedEvent, worker: Worker) {
        let waiting = self.waiting.get_mut(&event.claim.event).unwrap();
        waiting.claimed_by = Some(worker);
        waiting.attempts += 1;
        assert_eq!(event.claim.attempt, waiting.attempts);
    }

    pub(super) fn end(&mut self, id: EventId, end: End) {
        let waiting = self.waiting.get_mut(&id).unwrap();
        waiting.claimed_by = None;
        match end {
            End::Done | End::Commit | End::Dead => self.remove(id, end),
            End::Retry | End::RetryLater => {
                waiting.is_suspect = false;
                waiting.due = if end == End::Retry { Due::Since(self.now) } else { Due::Later };
            }
            End::GiveBack => waiting.attempts -= 1,
            End::GiveBackLater => {
                waiting.attempts -= 1;
                waiting.due = Due::Later;
            }
        }
    }

    fn remove(&mut self, id: EventId, end: End) {
        let gone = self.waiting.remove(&id).unwrap();
        if let Some(key) = gone.group {
            let group = self.groups.get_mut(&key).unwrap();
            assert_eq!(group.remove(0), id, "only the first of a group is handled");
            match group.first() {
                None => _ = self.groups.remove(&key),
                Some(next) => {
                    let next = self.waiting.get_mut(next).unwrap();
                    let is_delayed = next.due == Due::Behind { is_delayed: true };
                    next.due = if is_delayed { Due::Later } else { Due::Since(self.now) };
                }
            }
        }
        if end == End::Dead {
            self.dead.insert(id, (gone.priority, gone.group));
            return;
        }
        self.done.insert(id);
        if end == End::Commit {
            assert_eq!(self.effects.insert(id, gone.attempts), None);
        }
    }

    pub(super) fn come_due(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.due = match waiting.due {
                Due::Later => Due::Since(self.now),
                Due::Behind { .. } => Due::Behind { is_delayed: false },
                since @ Due::Since(_) => since,
            };
        }
    }

    /// What a lost process had: how much is tried again, and how much given up.
    pub(super) fn rescue(&mut self, lost: &[&ClaimedEvent]) -> (u64, u64) {
        let (mut kept, mut dead) = (0, 0);
        for event in lost {
            if event.claim.attempt >= MAX_ATTEMPTS {
                self.end(event.claim.event, End::Dead);
                dead += 1;
            } else {
                let waiting = self.waiting.get_mut(&event.claim.event).unwrap();
                (waiting.claimed_by, waiting.is_suspect) = (None, true);
                kept += 1;
            }
        }
        (kept, dead)
    }

    /// Each that was accepted is in one place and no other.
    pub(super) fn check_accounts(&self) {
        let all = self.done.iter().chain(self.dead.keys()).chain(self.waiting.keys());
        let mut all: Vec<EventId> = all.copied().collect();
        all.sort_unstable();
        assert!(all.iter().eq(&self.accepted), "{all:?} is not {:?}", self.accepted);
    }
}
