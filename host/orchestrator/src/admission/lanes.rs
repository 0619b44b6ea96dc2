//! Who gets the next slot: the state machine of admission, without clocks, locks or futures.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use picloud_core::AppId;

/// Waiters of one app at most; a queue that is longer than this only makes everyone late.
pub(super) const MAX_WAITERS: usize = 256;

/// What a waiter is to the state machine.
pub(super) trait Waiter {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;
}

/// Why an app gets no slot at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// Its own concurrency is used up.
    App,
    /// The node's slots are, but for those that are kept for others.
    Node,
}

/// Slots of a node and the apps that use them or wait for them.
///
/// An app gets a further slot only while more of them are free than it holds. So it has half of them at most, each of `n` apps
/// that want all of them the `n + 1`th part, and the last free one is for an app that holds none. The rule is that of dynamic
/// thresholds for memory that queues share (A. K. Choudhury, E. L. Hahne, IEEE/ACM Transactions on Networking 6(2), 1998), with
/// a factor of one.
///
/// Between two calls, once [`Lanes::grant`] has none, no app waits that could be given a slot: a slot that becomes free goes
/// to a waiter at once. So an app that finds a slot free may take it without looking at others.
pub(super) struct Lanes<W> {
    slots: usize,
    running: usize,
    apps: HashMap<AppId, Lane<W>, BuildHasherDefault<IdHasher>>,
    /// Apps with waiters, each once, in the order of their turns.
    turns: VecDeque<AppId>,
}

struct Lane<W> {
    running: usize,
    concurrency: usize,
    waiters: VecDeque<W>,
}

impl<W: Waiter> Lanes<W> {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: slots.max(1), running: 0, apps: HashMap::default(), turns: VecDeque::new() }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Takes a slot if the app may have one now. `concurrency` is the app's limit as it is now.
    pub(super) fn try_take(&mut self, app: AppId, concurrency: usize) -> Result<(), Shortage> {
        let lane = self.apps.entry(app).or_insert_with(|| Lane {
            running: 0,
            concurrency,
            waiters: VecDeque::new(),
        });
        lane.concurrency = concurrency.max(1);
        if lane.running >= lane.concurrency {
            return Err(Shortage::App);
        }
        // Waiters of its own that could run are there only if its limit was raised just now: then whoever comes
        // first makes use of it.
        if lane.running >= self.slots - self.running {
            return Err(Shortage::Node);
        }
        lane.running += 1;
        self.running += 1;
        Ok(())
    }

    /// Lets a waiter wait, after [`Self::try_take`] gave nothing; gives it back where the queue is full.
    pub(super) fn wait(&mut self, app: AppId, waiter: W) -> Result<(), W> {
        let Some(lane) = self.apps.get_mut(&app) else { return Err(waiter) };
        if lane.waiters.len() >= MAX_WAITERS {
            // Those who gave up keep their place until it is needed.
            lane.waiters.retain(|waiter| !waiter.is_gone());
            if lane.waiters.len() >= MAX_WAITERS {
                return Err(waiter);
            }
        }
        if lane.waiters.is_empty() && !self.turns.contains(&app) {
            self.turns.push_back(app);
        }
        lane.waiters.push_back(waiter);
        Ok(())
    }

    /// What the app lacks now.
    pub(super) fn shortage(&self, app: AppId) -> Shortage {
        match self.apps.get(&app) {
            Some(lane) if lane.running >= lane.concurrency => Shortage::App,
            _ => Shortage::Node,
        }
    }

    /// Gives a slot back. It is the next one's: see [`Self::grant`].
    pub(super) fn give_back(&mut self, app: AppId) {
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.apps.get_mut(&app) {
            lane.running = lane.running.saturating_sub(1);
            if lane.running == 0 && lane.waiters.is_empty() {
                self.apps.remove(&app);
            }
        }
    }

    /// Lets go of everyone who waits.
    pub(super) fn dismiss(&mut self) {
        self.turns.clear();
        for lane in self.apps.values_mut() {
            lane.waiters.clear();
        }
        self.apps.retain(|_, lane| lane.running > 0);
    }

    /// Takes a free slot for the next in turn, whom the caller hands it or gives it back for; to be called until there is
    /// none.
    pub(super) fn grant(&mut self) -> Option<(AppId, W)> {
        self.drop_gone();
        let free = self.slots - self.running;
        let may_run =
            |app: &AppId| self.apps.get(app).is_some_and(|lane| lane.running < lane.concurrency.min(free));
        let turn = self.turns.iter().position(may_run)?;
        let app = self.turns.remove(turn)?;
        let lane = self.apps.get_mut(&app)?;
        let waiter = lane.waiters.pop_front()?;
        lane.running += 1;
        self.running += 1;
        if !lane.waiters.is_empty() {
            self.turns.push_back(app);
        }
        Some((app, waiter))
    }

    /// Drops waiters at the heads of the queues that are gone, so that every queue in `turns` has a live head.
    fn drop_gone(&mut self) {
        let lanes = &mut self.apps;
        self.turns.retain(|app| {
            let Some(lane) = lanes.get_mut(app) else { return false };
            while lane.waiters.front().is_some_and(Waiter::is_gone) {
                lane.waiters.pop_front();
            }
            if lane.waiters.is_empty() && lane.running == 0 {
                lanes.remove(app);
                return false;
            }
            !lane.waiters.is_empty()
        });
    }
}

/// App ids are random or at least distinct in their last eight bytes: they need no further hashing.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.rchunks(8).take(1) {
            self.0 = chunk.iter().fold(self.0, |hash, byte| (hash << 8) | u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its tag from the top bits and its bucket from the bottom ones.
        self.0 ^ self.0.rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone)]
    struct Flag(Rc<Cell<bool>>, usize);

    impl Waiter for Flag {
        fn is_gone(&self) -> bool {
            self.0.get()
        }
    }

    fn flag(tag: usize) -> Flag {
        Flag(Rc::new(Cell::new(false)), tag)
    }

    fn apps(count: usize) -> Vec<AppId> {
        (0..count).map(|_| AppId::generate()).collect()
    }

    #[test]
    fn slots_go_round_robin_by_app() {
        let mut lanes = Lanes::new(1);
        let apps = apps(2);
        lanes.try_take(apps[0], 9).unwrap();
        for (app, tag) in [(0, 1), (0, 2), (0, 3), (1, 4)] {
            assert_eq!(lanes.try_take(apps[app], 9), Err(Shortage::Node));
            assert!(lanes.wait(apps[app], flag(tag)).is_ok());
        }
        let mut order = Vec::new();
        let mut holder = apps[0];
        loop {
            lanes.give_back(holder);
            let Some((app, waiter)) = lanes.grant() else { break };
            order.push(waiter.1);
            holder = app;
        }
        assert_eq!(order, [1, 4, 2, 3]);
        assert_eq!((lanes.running(), lanes.apps.len()), (0, 0));
    }

    /// How many slots an app gets that wants all of them.
    fn take_all(lanes: &mut Lanes<Flag>, app: AppId) -> usize {
        std::iter::from_fn(|| lanes.try_take(app, 256).ok()).count()
    }

    #[test]
    fn greedy_apps_leave_slots_for_others() {
        let apps = apps(9);
        let mut lanes = Lanes::new(32);
        let held: Vec<usize> = apps[..5].iter().map(|app| take_all(&mut lanes, *app)).collect();
        assert_eq!(held, [16, 8, 4, 2, 1], "who comes first has most");
        assert_eq!(take_all(&mut lanes, apps[5]), 1, "the last is for one that holds none");
        // Each slot that becomes free makes their shares more even.
        for app in &apps[..6] {
            for _ in 0..MAX_WAITERS {
                assert!(lanes.wait(*app, flag(0)).is_ok());
            }
        }
        for app in apps[..6].iter().cycle().take(300) {
            if lanes.apps[app].running > 0 {
                lanes.give_back(*app);
            }
            while lanes.grant().is_some() {}
        }
        let even: Vec<usize> = apps[..6].iter().map(|app| lanes.apps[app].running).collect();
        // The seventh part of 32.
        assert!(even.iter().all(|held| matches!(held, 4 | 5)), "{even:?}");
        assert_eq!(lanes.try_take(apps[6], 1), Ok(()), "{even:?}");
    }

    #[test]
    fn an_app_alone_has_half_of_the_slots() {
        for (slots, most) in [(1, 1), (2, 1), (3, 2), (4, 2), (32, 16)] {
            assert_eq!(take_all(&mut Lanes::new(slots), AppId::generate()), most, "{slots}");
        }
    }

    #[test]
    fn a_slot_may_let_two_run() {
        let mut lanes = Lanes::new(8);
        let apps = apps(2);
        assert_eq!([take_all(&mut lanes, apps[0]), take_all(&mut lanes, apps[1])], [4, 2]);
        for (app, tag) in [(0, 1), (0, 2), (1, 3), (1, 4)] {
            assert!(lanes.wait(apps[app], flag(tag)).is_ok());
        }
        let mut next = |app: usize| {
            lanes.give_back(apps[app]);
            std::iter::from_fn(|| lanes.grant()).map(|(_, waiter)| waiter.1).collect::<Vec<_>>()
        };
        assert_eq!(next(0), [3], "three each, and two free");
        assert_eq!(next(0), [1], "two and three, and three free: there is one more for the first");
        assert_eq!(next(1), [4], "three and two, and three free");
        assert_eq!(next(1), [] as [usize; 0]);
    }

    #[test]
    fn an_app_at_its_own_limit_holds_up_nobody() {
        let mut lanes = Lanes::new(4);
        let apps = apps(2);
        lanes.try_take(apps[0], 1).unwrap();
        assert_eq!(lanes.try_take(apps[0], 1), Err(Shortage::App));
        assert!(lanes.wait(apps[0], flag(1)).is_ok());
        assert_eq!(lanes.shortage(apps[0]), Shortage::App);
        assert_eq!(lanes.try_take(apps[1], 1), Ok(()));
        lanes.give_back(apps[1]);
        assert!(lanes.grant().is_none());
        lanes.give_back(apps[0]);
        assert_eq!(lanes.grant().map(|(_, waiter)| waiter.1), Some(1));
    }

    #[test]
    fn a_full_queue_forgets_those_who_gave_up_before_it_refuses() {
        let mut lanes = Lanes::new(1);
        let app = AppId::generate();
        lanes.try_take(app, 1).unwrap();
        let waiters: Vec<Flag> = (0..MAX_WAITERS).map(flag).collect();
        for waiter in &waiters {
            assert!(lanes.wait(app, waiter.clone()).is_ok());
        }
        assert!(lanes.wait(app, flag(0)).is_err());
        waiters[7].0.set(true);
        assert!(lanes.wait(app, flag(0)).is_ok());
        assert!(lanes.wait(app, flag(0)).is_err());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arrive(usize),
        Finish(usize),
        GiveUp(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..4_usize).prop_map(Step::Arrive),
            2 => any::<prop::sample::Index>().prop_map(|index| Step::Finish(index.index(1000))),
            1 => any::<prop::sample::Index>().prop_map(|index| Step::GiveUp(index.index(1000))),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        /// Whatever happens in whatever order: no limit is exceeded, nobody who could run waits, everyone who
        /// stays is served, and at the end nothing is left.
        #[test]
        fn nobody_waits_for_nothing(
            slots in 1..6_usize,
            limits in prop::array::uniform4(1..5_usize),
            steps in steps(),
        ) {
            let ids = apps(4);
            let mut lanes = Lanes::new(slots);
            let mut running: Vec<usize> = Vec::new();
            let mut waiting: Vec<(usize, Flag)> = Vec::new();
            let mut tag = 0;
            let drain = std::iter::repeat_n(Step::Finish(0), 1000);
            for step in steps.into_iter().chain(drain) {
                match step {
                    Step::Arrive(app) if lanes.try_take(ids[app], limits[app]).is_ok() => running.push(app),
                    Step::Arrive(app) => {
                        tag += 1;
                        let flag = flag(tag);
                        if lanes.wait(ids[app], flag.clone()).is_ok() {
                            waiting.push((app, flag));
                        }
                    }
                    Step::Finish(index) if !running.is_empty() => {
                        let app = running.remove(index % running.len());
                        lanes.give_back(ids[app]);
                        while let Some((app, flag)) = lanes.grant() {
                            prop_assert!(!flag.is_gone(), "a slot went to someone who gave up");
                            running.push(ids.iter().position(|id| *id == app).unwrap());
                            waiting.retain(|(_, other)| other.1 != flag.1);
                        }
                    }
                    Step::GiveUp(index) if !waiting.is_empty() => {
                        let (_, flag) = waiting.remove(index % waiting.len());
                        flag.0.set(true);
                    }
                    Step::Finish(_) | Step::GiveUp(_) => {}
                }
                prop_assert!(running.len() <= slots);
                prop_assert_eq!(lanes.running(), running.len());
                for (app, limit) in limits.iter().enumerate() {
                    let count = running.iter().filter(|other| **other == app).count();
                    prop_assert!(count <= *limit);
                    let could_run = count < (*limit).min(slots - running.len());
                    let waits = waiting.iter().any(|(other, _)| *other == app);
                    prop_assert!(!(could_run && waits), "app {} waits beside a free slot", app);
                }
            }
            prop_assert!(running.is_empty() && waiting.is_empty());
        }
    }
}
