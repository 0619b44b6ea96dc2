//! Which lanes have events that are due, as far as this process knows, and whose turn it is. Nothing here asks the
//! database; what is known comes from wake-ups, from claims and from scans of the outbox's index.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
};

use picloud_core::{AppId, QueueName};
use picloud_store::{Lane, LaneClaim, LaneId};
use tokio::time::Instant;

/// The most lanes of one claim, and the most events.
const MAX_LANES: usize = 64;
const MAX_EVENTS: usize = 256;

/// The most lanes that are known without anything in them.
const MAX_KNOWN: usize = 10_000;

/// Lanes that may have something, and when.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lanes: HashMap<LaneId, Lane>,
    /// Lanes that may have something and of which nothing is known yet.
    unknown: BTreeSet<LaneId>,
    apps: HashMap<AppId, DueLanes>,
    /// Apps that have due lanes, the next first.
    turns: VecDeque<AppId>,
    timers: BTreeSet<(Instant, LaneId)>,
    times: HashMap<LaneId, Instant>,
    /// Lanes of queues all places of which are taken.
    held: HashMap<(AppId, Option<QueueName>), Vec<LaneId>>,
    /// Apps of which events of lost processes were handled, the latest last: they take turns too.
    had_suspects: Vec<AppId>,
}

/// The due lanes of an app: by queue, and in a queue the highest priority first.
#[derive(Debug, Default)]
struct DueLanes {
    lanes: BTreeMap<(Option<QueueName>, Reverse<i16>), LaneId>,
    /// How often the app was picked, so that each queue comes first in its turn.
    picked: usize,
}

impl Schedule {
    /// A lane may have events that are due. If its queue had no place, it may have one: then that is for whichever of
    /// its lanes has the highest priority.
    pub(super) fn wake(&mut self, lane: LaneId) {
        let queue = self.lanes.get(&lane).map(|known| (known.app, known.queue.clone()));
        let held = queue.and_then(|queue| self.held.remove(&queue)).unwrap_or_default();
        for lane in held.into_iter().chain([lane]) {
            self.wake_alone(lane);
        }
    }

    fn wake_alone(&mut self, lane: LaneId) {
        self.forget_time(lane);
        let Some(known) = self.lanes.get(&lane) else {
            self.unknown.insert(lane);
            return;
        };
        if !known.is_open {
            return;
        }
        let app = known.app;
        let due = self.apps.entry(app).or_default();
        if due.lanes.is_empty() {
            self.turns.push_back(app);
        }
        due.lanes.insert((known.queue.clone(), Reverse(known.priority)), lane);
    }

    /// A lane's first event is due at `time`.
    pub(super) fn wake_at(&mut self, lane: LaneId, time: Instant) {
        if self.times.get(&lane).is_some_and(|known| *known <= time) {
            return;
        }
        self.forget_time(lane);
        self.timers.insert((time, lane));
        self.times.insert(lane, time);
    }

    /// A lane has something that is due, and its queue has no place: until one is free, or `time` has come, the lanes of
    /// lower priority wait as well.
    pub(super) fn hold(&mut self, lane: LaneId, time: Instant) {
        let Some(known) = self.lanes.get(&lane) else { return };
        let (app, queue) = (known.app, known.queue.clone());
        let due = self.apps.get(&app).into_iter().flat_map(|due| &due.lanes);
        let others = due.filter(|((of, _), other)| *of == queue && **other != lane);
        let lanes: Vec<LaneId> = others.map(|(_, other)| *other).chain([lane]).collect();
        for lane in &lanes {
            self.rest(*lane);
            self.wake_at(*lane, time);
        }
        self.held.insert((app, queue), lanes);
    }

    /// A lane has nothing that is due.
    pub(super) fn rest(&mut self, lane: LaneId) {
        let Some(known) = self.lanes.get(&lane) else { return };
        let app = known.app;
        let Some(due) = self.apps.get_mut(&app) else { return };
        due.lanes.remove(&(known.queue.clone(), Reverse(known.priority)));
        if due.lanes.is_empty() {
            self.apps.remove(&app);
            self.turns.retain(|turn| *turn != app);
        }
    }

    /// Takes those lanes of which something must be learnt.
    pub(super) fn take_unknown(&mut self) -> Vec<LaneId> {
        std::mem::take(&mut self.unknown).into_iter().collect()
    }

    /// What was learnt of lanes that were taken as unknown. They are due.
    pub(super) fn learn(&mut self, lanes: Vec<Lane>) {
        for lane in lanes {
            let id = lane.id;
            self.lanes.insert(id, lane);
            self.wake(id);
        }
        self.forget_idle();
    }

    /// Lanes come and go: those in which nothing is due, now or later, are forgotten when they are many. A wake-up has them
    /// looked up again.
    fn forget_idle(&mut self) {
        if self.lanes.len() <= MAX_KNOWN {
            return;
        }
        let due: BTreeSet<LaneId> = self.apps.values().flat_map(|due| due.lanes.values().copied()).collect();
        let times = &self.times;
        self.lanes.retain(|id, _| due.contains(id) || times.contains_key(id));
    }

    /// The apps of which events of lost processes were handled since there were none, the latest last.
    pub(super) fn had_suspects(&self) -> &[AppId] {
        &self.had_suspects
    }

    /// An event of a lost process was claimed, of this app; or there is none.
    pub(super) fn has_had_suspect(&mut self, app: Option<AppId>) {
        let Some(app) = app else { return self.had_suspects.clear() };
        self.had_suspects.retain(|other| *other != app);
        self.had_suspects.push(app);
    }

    /// What is known of an app's lanes may be wrong: whether they are paused, or have a consumer.
    pub(super) fn app_changed(&mut self, app: AppId) {
        let lanes: Vec<LaneId> =
            self.lanes.iter().filter(|(_, lane)| lane.app == app).map(|(id, _)| *id).collect();
        for lane in lanes {
            self.rest(lane);
            self.forget_time(lane);
            self.lanes.remove(&lane);
            self.unknown.insert(lane);
        }
        self.held.retain(|(of, _), _| *of != app);
    }

    /// Forgets everything, before all is read again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Wakes the lanes whose time has come.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((time, lane)) = self.timers.first().copied() {
            if time > now {
                return;
            }
            self.wake(lane);
        }
    }

    /// When the next lane's time comes.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// What to claim next: of the apps in turn, as much as there is `room` for.
    pub(super) fn pick(&mut self, room: impl Fn(AppId) -> usize) -> Vec<LaneClaim> {
        let (mut claims, mut left) = (Vec::new(), MAX_EVENTS);
        for _ in 0..self.turns.len() {
            let Some(app) = self.turns.pop_front() else { break };
            self.turns.push_back(app);
            let room = room(app).min(left);
            let Some(due) = self.apps.get_mut(&app).filter(|_| room > 0) else { continue };
            let tops = due.tops();
            let share = (room / tops.len()).max(1);
            let count = tops.len().min(room).min(MAX_LANES.saturating_sub(claims.len()));
            for at in 0..count {
                let lane = tops[(due.picked + at) % tops.len()];
                let is_limited = self.lanes.get(&lane).is_some_and(|lane| lane.concurrency.is_some());
                claims.push(LaneClaim { lane, most: share as u32, is_limited });
                left = left.saturating_sub(share);
            }
            due.picked += count;
            if left == 0 || claims.len() >= MAX_LANES {
                break;
            }
        }
        claims
    }

    /// Whether the concurrency of a lane's queue is limited.
    pub(super) fn is_limited(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| lane.concurrency.is_some())
    }

    fn forget_time(&mut self, lane: LaneId) {
        if let Some(time) = self.times.remove(&lane) {
            self.timers.remove(&(time, lane));
        }
    }
}

impl DueLanes {
    /// Of each queue, the due lane of the highest priority.
    fn tops(&self) -> Vec<LaneId> {
        let mut tops = Vec::new();
        let mut last: Option<&Option<QueueName>> = None;
        for ((queue, _), lane) in &self.lanes {
            if last != Some(queue) {
                tops.push(*lane);
                last = Some(queue);
            }
        }
        tops
    }
}
