//! The outbox against a model: whatever is done to events, each that was accepted is done, dead or waiting, with all of its
//! attempts, and what can be claimed is exactly what the model says, in its order.

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    time::Duration,
};

use picloud_core::{
    DeadLetterId, DedupeKey, Effects, Emission, Emitted, ErrorCode, EventId, GroupKey, KvReads,
    MessageOptions, QueueName,
};
use picloud_store::{
    Acknowledge, ClaimedEvent, CommitTerms, DeadLetterFilter, EventFault, KvCommit, Lane, LaneClaim, LaneId,
    NewEvent, Replay, Replayed, Settlement, Store, Verdict,
};
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{runtime::Runtime, sync::Mutex};
use uuid::Uuid;

use self::model::{Due, End, MAX_ATTEMPTS, Model, Waiting, Worker};
use crate::{
    fixture::{QUOTA, id, set, size, writes},
    outbox::{Fixture, NO_LIMIT, done, ids, message},
};

/// Longer than a case takes.
const LATER: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
enum Step {
    /// All in one insert.
    Send(Vec<Message>),
    Claim(Worker, u32),
    ClaimSuspect,
    /// Of a claim that holds.
    End(usize, End),
    /// Of a claim that was ended, or taken away.
    EndStale(usize, End),
    /// Whatever has a time is due.
    ComeDue,
    Pause,
    Resume,
    Limit(Option<u8>),
    /// The process that never says that it lives is found to be lost.
    Rescue,
    Replay(usize),
}

#[derive(Clone, Debug)]
struct Message {
    priority: i16,
    group: Option<u8>,
    key: Option<u8>,
    is_delayed: bool,
}

/// The database that the cases use one after the other. One that a case has failed with is not used again.
struct Bed {
    fixture: Fixture,
    lost: Store,
    connection: PgConnection,
}

impl Bed {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        fixture.consumer("jobs").await;
        // Set up, so that it can be paused before the first message.
        let app = fixture.app;
        fixture
            .database
            .execute(&format!("INSERT INTO queues (app_id, name) VALUES ('{app}', 'jobs')"))
            .await;
        let lost = fixture.database.store().await;
        let connection = PgConnection::connect(&fixture.database.url()).await.unwrap();
        Self { fixture, lost, connection }
    }

    fn store(&self, worker: Worker) -> &Store {
        match worker {
            Worker::Alive => &self.fixture.store,
            Worker::Lost => &self.lost,
        }
    }

    async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.unwrap();
    }

    async fn clear(&mut self) {
        self.execute(
            "DELETE FROM outbox; DELETE FROM queue_groups; DELETE FROM dead_letters; DELETE FROM queue_dedupe_keys;
            DELETE FROM kv; UPDATE queues SET paused_at = NULL, concurrency = NULL",
        )
        .await;
    }

    /// The lanes in which something is due or will be, the highest priority first.
    async fn lanes(&self) -> Vec<Lane> {
        let due = self.fixture.store.due_lanes().await.unwrap();
        let ids: Vec<LaneId> = due.iter().map(|due| due.lane).collect();
        let mut lanes = self.fixture.store.lanes(&ids).await.unwrap();
        lanes.sort_unstable_by_key(|lane| std::cmp::Reverse(lane.priority));
        lanes
    }

    async fn letters(&self) -> BTreeMap<EventId, DeadLetterId> {
        let (store, filter) = (&self.fixture.store, DeadLetterFilter::default());
        let letters = store.dead_letters(self.fixture.app, &filter, None, size(200)).await.unwrap();
        letters.items.iter().map(|letter| (letter.event, letter.id)).collect()
    }

    /// Ends a claim as the dispatcher does. Answers the message that its handler sent, if all of it was committed.
    async fn end(&self, event: &ClaimedEvent, worker: Worker, end: End) -> Option<EventId> {
        let fault = EventFault::new(ErrorCode::ScriptError, "it failed");
        let verdict = match end {
            End::Commit => return self.commit(event, worker).await,
            End::Done => done(event),
            End::Retry => Verdict::Retry { delay: Duration::ZERO, fault },
            End::RetryLater => Verdict::Retry { delay: LATER, fault },
            End::GiveBack => Verdict::GiveBack { delay: Duration::ZERO },
            End::GiveBackLater => Verdict::GiveBack { delay: LATER },
            End::Dead => Verdict::Dead { fault, script: None },
        };
        let settlement = Settlement { claim: event.claim, app: self.fixture.app, verdict };
        self.store(worker).settle(&[settlement]).await.unwrap();
        None
    }

    async fn commit(&self, event: &ClaimedEvent, worker: Worker) -> Option<EventId> {
        let attempt = event.claim.attempt.to_string();
        let emission = Emission {
            id: EventId::generate(),
            what: Emitted::Message {
                queue: QueueName::new("jobs").unwrap(),
                body: "1".into(),
                options: MessageOptions::default(),
            },
        };
        let sent = emission.id;
        let effect = (id("seen", &event.claim.event.to_string()), set(&attempt));
        let effects = Effects { events: vec![emission], ..writes([effect]) };
        let acknowledge =
            Acknowledge { claim: event.claim, lineage: event.lineage, dead_letter: event.dead_letter };
        let terms = CommitTerms { acknowledge: Some(acknowledge), ..CommitTerms::from(QUOTA) };
        let store = self.store(worker);
        match store.kv_commit(self.fixture.app, &KvReads::default(), &effects, terms).await.unwrap() {
            KvCommit::Committed { .. } => Some(sent),
            KvCommit::Superseded => None,
            KvCommit::Conflict => panic!("a blind write conflicted"),
        }
    }
}

type RowState = (Uuid, i16, Option<Uuid>, bool, bool, bool);

struct Case<'a> {
    bed: &'a mut Bed,
    model: Model,
    claims: Vec<(ClaimedEvent, Worker)>,
    stale: Vec<(ClaimedEvent, Worker)>,
}

impl Case<'_> {
    async fn step(&mut self, step: &Step) {
        self.model.now += 1;
        let before: BTreeSet<EventId> = self.model.ready(false).into_iter().collect();
        match step {
            Step::Send(messages) => self.send(messages).await,
            Step::Claim(worker, most) => self.claim(*worker, *most).await,
            Step::ClaimSuspect => self.claim_suspect().await,
            Step::End(at, end) if !self.claims.is_empty() => {
                let (event, worker) = self.claims.remove(at % self.claims.len());
                let sent = self.bed.end(&event, worker, *end).await;
                assert_eq!(sent.is_some(), *end == End::Commit);
                self.model.end(event.claim.event, *end);
                if let Some(sent) = sent {
                    self.model.accept(sent, 0, None, false);
                }
                // Given back, its attempt is as if it had never been: the same process may make the same claim again.
                if !matches!(end, End::GiveBack | End::GiveBackLater) {
                    self.stale.push((event, worker));
                }
            }
            Step::EndStale(at, end) => {
                if let Some((event, worker)) = self.stale_claim(*at) {
                    assert_eq!(self.bed.end(event, worker, *end).await, None);
                }
            }
            Step::End(..) => {}
            Step::ComeDue => {
                let due = "UPDATE outbox SET run_at = statement_timestamp()
                        WHERE run_at > statement_timestamp() AND run_at < 'infinity';
                    UPDATE outbox SET not_before = statement_timestamp() WHERE not_before IS NOT NULL";
                self.bed.execute(due).await;
                self.model.come_due();
            }
            Step::Pause | Step::Resume => {
                self.model.is_paused = matches!(step, Step::Pause);
                let at = if self.model.is_paused { "now()" } else { "NULL" };
                self.bed.execute(&format!("UPDATE queues SET paused_at = {at}")).await;
            }
            Step::Limit(limit) => {
                self.model.limit = *limit;
                let limit = limit.map_or_else(|| "NULL".to_owned(), |limit| limit.to_string());
                self.bed.execute(&format!("UPDATE queues SET concurrency = {limit}")).await;
            }
            Step::Rescue => self.rescue().await,
            Step::Replay(at) => self.replay(*at).await,
        }
        if !matches!(step, Step::ComeDue) {
            self.check_woken(&before).await;
        }
    }

    /// A claim that does not hold any more: where there is one, of an event that the same process has claimed again.
    fn stale_claim(&self, at: usize) -> Option<(&ClaimedEvent, Worker)> {
        let is_again = |(event, worker): &&(ClaimedEvent, Worker)| {
            let waiting = self.model.waiting.get(&event.claim.event);
            waiting.is_some_and(|waiting| waiting.claimed_by == Some(*worker))
        };
        let again: Vec<&(ClaimedEvent, Worker)> = self.stale.iter().filter(is_again).collect();
        let found = if again.is_empty() { self.stale.iter().collect() } else { again };
        found.get(at % found.len().max(1)).map(|(event, worker)| (event, *worker))
    }

    async fn send(&mut self, messages: &[Message]) {
        let event = |wanted: &Message| NewEvent {
            priority: wanted.priority,
            group: wanted.group.map(|group| GroupKey::new(format!("g{group}")).unwrap()),
            dedupe_key: wanted.key.map(|key| DedupeKey::new(format!("k{key}")).unwrap()),
            delay: if wanted.is_delayed { LATER } else { Duration::ZERO },
            ..message("jobs", "1")
        };
        let events: Vec<NewEvent> = messages.iter().map(event).collect();
        let fixture = &self.bed.fixture;
        let enqueued = fixture.store.enqueue(fixture.app, &events, NO_LIMIT).await.unwrap();
        let (mut kept, mut duplicates) = (Vec::new(), BTreeSet::new());
        for (event, wanted) in events.iter().zip(messages) {
            if let Some(key) = wanted.key {
                let first = *self.model.keys.entry(key).or_insert(event.id);
                if first != event.id {
                    duplicates.insert((event.id, first));
                    continue;
                }
            }
            kept.push(event.id);
            self.model.accept(event.id, wanted.priority, wanted.group, wanted.is_delayed);
        }
        assert_eq!(enqueued.events, kept);
        assert_eq!(enqueued.duplicates.into_iter().collect::<BTreeSet<_>>(), duplicates);
    }

    async fn claim(&mut self, worker: Worker, most: u32) {
        let lanes = self.bed.lanes().await;
        let lanes = lanes.iter().filter(|lane| lane.is_open);
        let claims: Vec<LaneClaim> = lanes
            .map(|lane| LaneClaim { lane: lane.id, most, is_limited: lane.concurrency.is_some() })
            .collect();
        let claimed = self.bed.store(worker).claim(&claims).await.unwrap();
        let found: BTreeSet<EventId> = ids(&claimed).into_iter().collect();
        assert_eq!(found, self.model.claimable(most));
        assert_eq!(found.len(), claimed.len());
        for event in claimed {
            self.model.claim(&event, worker);
            self.claims.push((event, worker));
        }
    }

    async fn claim_suspect(&mut self) {
        let first = self.model.ready(true).first().copied().filter(|_| !self.model.is_paused);
        let claimed = self.bed.fixture.store.claim_suspect(&[]).await.unwrap();
        assert_eq!(claimed.as_ref().map(|event| event.claim.event), first);
        if let Some(event) = claimed {
            assert!(event.is_suspect);
            self.model.claim(&event, Worker::Alive);
            self.claims.push((event, Worker::Alive));
        }
    }

    async fn rescue(&mut self) {
        let rescued = self.bed.fixture.store.rescue(MAX_ATTEMPTS).await.unwrap();
        let (mut taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.claims).into_iter().partition(|(_, worker)| *worker == Worker::Lost);
        taken.sort_by_key(|(event, _)| event.claim.event);
        self.claims = kept;
        let lost: Vec<&ClaimedEvent> = taken.iter().map(|(event, _)| event).collect();
        assert_eq!((rescued.events, rescued.dead), self.model.rescue(&lost));
        self.stale.extend(taken);
    }

    async fn replay(&mut self, at: usize) {
        let letters = self.bed.letters().await;
        let Some((event, letter)) = letters.iter().nth(at % letters.len().max(1)) else { return };
        let (store, app) = (&self.bed.fixture.store, self.bed.fixture.app);
        let replayed = store.replay_dead_letter(app, *letter, &Replay::default(), None, NO_LIMIT).await;
        match (replayed.unwrap(), self.model.replays.get(event)) {
            (Replayed::Already(again), Some(first)) => assert_eq!(again, *first),
            (Replayed::Event(new), None) => {
                self.model.replays.insert(*event, new);
                let (priority, group) = self.model.dead[event];
                self.model.accept(new, priority, group, false);
            }
            (replayed, before) => panic!("{replayed:?} after {before:?}"),
        }
    }

    /// Of what is due now and was not before, whoever handles events was told.
    async fn check_woken(&self, before: &BTreeSet<EventId>) {
        let mut woken = self.bed.fixture.store.take_woken();
        let other = self.bed.lost.take_woken();
        woken.everything |= other.everything;
        woken.lanes.extend(other.lanes);
        let new = self.model.ready(false).into_iter().filter(|id| !before.contains(id));
        let new: BTreeSet<i16> = new.map(|id| self.model.waiting[&id].priority).collect();
        if new.is_empty() || woken.everything {
            return;
        }
        let lanes = self.bed.lanes().await;
        let told = lanes.iter().filter(|lane| woken.lanes.contains(&lane.id)).map(|lane| lane.priority);
        let told: BTreeSet<i16> = told.collect();
        assert!(told.is_superset(&new), "{told:?} does not have all of {new:?}");
    }

    /// What is stored is what the model has.
    async fn check(&mut self) {
        self.model.check_accounts();
        let bed = &mut *self.bed;
        let rows: Vec<RowState> = sqlx::query_as(
            "SELECT id, attempts, claimed_by, is_suspect, run_at = 'infinity',
                run_at > statement_timestamp() AND run_at < 'infinity'
            FROM outbox ORDER BY id",
        )
        .fetch_all(&mut bed.connection)
        .await
        .unwrap();
        let row = |(id, it): (&EventId, &Waiting)| {
            let worker = it.claimed_by.map(|worker| bed.store(worker).worker().as_uuid());
            let is_behind = matches!(it.due, Due::Behind { .. });
            let is_later = it.due == Due::Later;
            (id.as_uuid(), it.attempts.cast_signed(), worker, it.is_suspect, is_behind, is_later)
        };
        assert_eq!(rows, self.model.waiting.iter().map(row).collect::<Vec<_>>());
        let groups: Vec<String> =
            sqlx::query_scalar(r#"SELECT group_key FROM queue_groups ORDER BY group_key COLLATE "C""#)
                .fetch_all(&mut bed.connection)
                .await
                .unwrap();
        assert_eq!(groups, self.model.groups.keys().map(|group| format!("g{group}")).collect::<Vec<_>>());
        let seen: Vec<(String, String)> =
            sqlx::query_as(r#"SELECT key, value::text FROM kv ORDER BY key COLLATE "C""#)
                .fetch_all(&mut bed.connection)
                .await
                .unwrap();
        let effect = |(id, attempt): (&EventId, &u16)| (id.to_string(), attempt.to_string());
        assert_eq!(seen, self.model.effects.iter().map(effect).collect::<Vec<_>>());
        assert!(bed.letters().await.keys().eq(self.model.dead.keys()));
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = || {
        prop_oneof![
            2 => Just(End::Done),
            3 => Just(End::Commit),
            3 => Just(End::Retry),
            1 => Just(End::RetryLater),
            1 => Just(End::GiveBack),
            1 => Just(End::GiveBackLater),
            2 => Just(End::Dead),
        ]
    };
    let some = |most: u8| prop_oneof![2 => Just(None), 1 => (0..most).prop_map(Some)];
    let message = (-1..2_i16, some(2), some(2), prop::bool::weighted(0.2));
    let message = message.prop_map(|(priority, group, key, is_delayed)| Message {
        priority,
        group,
        // A key that is taken drops the message: most have none.
        key: key.filter(|_| priority == 0),
        is_delayed,
    });
    let worker = prop_oneof![Just(Worker::Alive), Just(Worker::Lost)];
    let step = prop_oneof![
        3 => prop::collection::vec(message, 1..4).prop_map(Step::Send),
        6 => (worker, 1..4_u32).prop_map(|(worker, most)| Step::Claim(worker, most)),
        3 => Just(Step::ClaimSuspect),
        8 => (any::<usize>(), end()).prop_map(|(at, end)| Step::End(at, end)),
        5 => (any::<usize>(), end()).prop_map(|(at, end)| Step::EndStale(at, end)),
        1 => Just(Step::ComeDue),
        1 => Just(Step::Pause),
        3 => Just(Step::Resume),
        1 => prop::option::of(1..4_u8).prop_map(Step::Limit),
        3 => Just(Step::Rescue),
        2 => any::<usize>().prop_map(Step::Replay),
    ];
    prop::collection::vec(step, 10..50)
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_accounted_for_whatever_is_done(steps in steps()) {
        static BED: Mutex<Option<Bed>> = Mutex::const_new(None);
        runtime().block_on(async {
            let mut kept = BED.lock().await;
            let mut bed = match kept.take() {
                Some(bed) => bed,
                None => Bed::new().await,
            };
            let mut case = Case { bed: &mut bed, model: Model::default(), claims: Vec::new(), stale: Vec::new() };
            for step in &steps {
                case.step(step).await;
                case.check().await;
            }
            bed.clear().await;
            *kept = Some(bed);
        });
    }
}
