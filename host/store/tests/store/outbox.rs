//! The outbox against a real PostgreSQL: what is claimed, by whom, in which order, and what becomes of it.

use std::{collections::BTreeSet, time::Duration};

use picloud_core::{
    AppId, DedupeKey, Effects, Emission, Emitted, EventId, GroupKey, InboxId, KvReads, KvWrite,
    MessageOptions, OutboxKind, PrincipalName, QueueName, Scope, TopicName, TriggerId, TriggerKind,
};
use picloud_store::{
    Acknowledge, ClaimedEvent, CommitTerms, DeadLetterFilter, EventAnswer, EventFault, KeptAnswer, KvCommit,
    LaneClaim, LaneId, LetterState, NewEvent, NewOwner, NewToken, OutboxLimit, Replay, Replayed, ReplyTo,
    Resolution, Settlement, Store, StoreError, TokenHash, TriggerState, Verdict, testing::TestDatabase,
};

use crate::fixture::{QUOTA, app_name, id, set, size, upload, writes};

pub(crate) const NO_LIMIT: OutboxLimit = OutboxLimit::NONE;

/// A database with one app, which has a script `work`, and its owner.
pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) app: AppId,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = database.store().await;
        let app = store.create_app(&app_name("demo")).await.unwrap().id;
        upload(&store, app, "work", "fn on_message(m) { m }", &[]).await;
        let token = NewToken {
            name: "first".into(),
            hash: TokenHash::of("first"),
            scopes: Scope::ALL.to_vec(),
            app: None,
            expires_at: None,
        };
        let owner = NewOwner { name: PrincipalName::new("owner").unwrap(), token };
        store.create_first_owner(&owner).await.unwrap();
        Self { database, store, app }
    }

    /// A trigger as the repository of triggers would make it.
    pub(crate) async fn trigger(&self, kind: TriggerKind, name: &str, details: &str) -> TriggerId {
        let trigger = TriggerId::generate();
        let kind = kind.as_str();
        self.database
            .execute(&format!(
                "INSERT INTO triggers (id, app_id, script_id, kind, name, registered_by_principal)
                SELECT '{trigger}', s.app_id, s.id, '{kind}', '{name}', p.id FROM scripts s, principals p
                WHERE s.app_id = '{}' AND s.name = 'work';
                {}",
                self.app,
                details.replace("$id", &trigger.to_string()).replace("$app", &self.app.to_string()),
            ))
            .await;
        trigger
    }

    pub(crate) async fn consumer(&self, queue: &str) -> TriggerId {
        let details = format!("INSERT INTO queue_trigger_details VALUES ('$id', '$app', '{queue}')");
        self.trigger(TriggerKind::Queue, queue, &details).await
    }

    pub(crate) async fn send(&self, event: NewEvent) -> EventId {
        let id = event.id;
        self.store.enqueue(self.app, &[event], NO_LIMIT).await.unwrap();
        id
    }

    /// The lanes that have something, which whoever handles events was told of.
    pub(crate) fn woken(&self) -> BTreeSet<LaneId> {
        self.store.take_woken().lanes
    }

    pub(crate) async fn due(&self) -> Vec<LaneId> {
        self.store.due_lanes().await.unwrap().into_iter().map(|due| due.lane).collect()
    }

    pub(crate) async fn claim(&self, store: &Store, most: u32) -> Vec<ClaimedEvent> {
        let lanes = store.due_lanes().await.unwrap();
        let lanes = store.lanes(&lanes.iter().map(|due| due.lane).collect::<Vec<_>>()).await.unwrap();
        let claims: Vec<_> = lanes
            .into_iter()
            .filter(|lane| lane.is_open)
            .map(|lane| LaneClaim { lane: lane.id, most, is_limited: lane.concurrency.is_some() })
            .collect();
        store.claim(&claims).await.unwrap()
    }

    pub(crate) async fn settle(&self, event: &ClaimedEvent, verdict: Verdict) {
        self.store.settle(&[Settlement { claim: event.claim, app: self.app, verdict }]).await.unwrap();
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.database.number(&format!("SELECT count(*) FROM {table}")).await
    }
}

pub(crate) fn message(queue: &str, body: &str) -> NewEvent {
    let payload = format!(r#"{{"body":{body}}}"#);
    let queue = Some(QueueName::new(queue).unwrap());
    NewEvent { queue, ..NewEvent::new(OutboxKind::Trigger(TriggerKind::Queue), payload) }
}

pub(crate) fn ids(events: &[ClaimedEvent]) -> Vec<EventId> {
    events.iter().map(|event| event.claim.event).collect()
}

pub(crate) fn done(event: &ClaimedEvent) -> Verdict {
    Verdict::Done { dead_letter: event.dead_letter, is_grouped: event.group.is_some() }
}

pub(crate) fn fault(message: &str) -> EventFault {
    EventFault::new(picloud_core::ErrorCode::ScriptError, message)
}

#[tokio::test]
async fn an_event_is_claimed_once_and_is_gone_when_it_is_done() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let first = fixture.send(message("jobs", "1")).await;
    let second = fixture.send(message("jobs", "2")).await;
    assert_eq!(fixture.woken(), fixture.due().await.into_iter().collect());
    let claimed = fixture.claim(&fixture.store, 10).await;
    assert_eq!(ids(&claimed), [first, second]);
    assert_eq!(claimed[0].payload, r#"{"body":1}"#);
    assert_eq!((claimed[0].claim.attempt, claimed[0].claim.worker), (1, fixture.store.worker()));
    assert!(fixture.claim(&fixture.database.store().await, 10).await.is_empty());
    for event in &claimed {
        fixture.settle(event, done(event)).await;
    }
    assert_eq!(fixture.count("outbox").await, 0);
}

#[tokio::test]
async fn a_claim_takes_no_more_than_it_asks_for() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    for body in ["1", "2", "3"] {
        fixture.send(message("jobs", body)).await;
    }
    assert_eq!(fixture.claim(&fixture.store, 2).await.len(), 2);
    assert_eq!(fixture.claim(&fixture.store, 2).await.len(), 1);
}

#[tokio::test]
async fn messages_wait_for_a_consumer_and_while_their_queue_is_paused() {
    let fixture = Fixture::new().await;
    fixture.send(message("jobs", "1")).await;
    assert!(fixture.claim(&fixture.store, 9).await.is_empty());
    fixture.consumer("jobs").await;
    fixture.database.execute("UPDATE queues SET paused_at = now()").await;
    assert!(fixture.claim(&fixture.store, 9).await.is_empty());
    fixture.database.execute("UPDATE queues SET paused_at = NULL").await;
    assert_eq!(fixture.claim(&fixture.store, 9).await.len(), 1);
}

#[tokio::test]
async fn a_failed_event_comes_back_and_counts_its_attempts() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.send(message("jobs", "1")).await;
    let event = fixture.claim(&fixture.store, 1).await.remove(0);
    fixture.settle(&event, Verdict::Retry { delay: Duration::ZERO, fault: fault("once") }).await;
    let again = fixture.claim(&fixture.store, 1).await.remove(0);
    assert_eq!((again.claim.event, again.claim.attempt), (event.claim.event, 2));
    // What is given back was not tried.
    fixture.settle(&again, Verdict::GiveBack { delay: Duration::ZERO }).await;
    let third = fixture.claim(&fixture.store, 1).await.remove(0);
    assert_eq!(third.claim.attempt, 2);
    let later = Duration::from_hours(1);
    fixture.settle(&third, Verdict::Retry { delay: later, fault: fault("twice") }).await;
    assert!(fixture.claim(&fixture.store, 1).await.is_empty());
    let next = fixture.store.next_due(&fixture.due().await).await.unwrap();
    assert!(next[0].due_in > later / 2 && next[0].due_in <= later);
}

#[tokio::test]
async fn who_has_lost_its_claim_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.send(message("jobs", "1")).await;
    let stale = fixture.claim(&fixture.store, 1).await.remove(0);
    let other = fixture.database.store().await;
    // It never said that it lives.
    assert_eq!(other.rescue(5).await.unwrap().events, 1);
    let taken = other.claim_suspect(&[]).await.unwrap().unwrap();
    assert_eq!((taken.claim.event, taken.claim.attempt, taken.is_suspect), (stale.claim.event, 2, true));
    for verdict in [
        done(&stale),
        Verdict::Retry { delay: Duration::ZERO, fault: fault("late") },
        Verdict::GiveBack { delay: Duration::ZERO },
        Verdict::Dead { fault: fault("late"), script: None },
    ] {
        fixture.settle(&stale, verdict).await;
        let held =
            format!("SELECT count(*) FROM outbox WHERE claimed_by = '{}' AND attempts = 2", other.worker());
        assert_eq!(fixture.database.number(&held).await, 1);
    }
    let effects = writes([(id("c", "k"), set("1"))]);
    let terms = |event: &ClaimedEvent| CommitTerms {
        acknowledge: Some(Acknowledge { claim: event.claim, lineage: event.lineage, dead_letter: None }),
        ..CommitTerms::from(QUOTA)
    };
    let commit = |event: ClaimedEvent| {
        let (store, effects) = (fixture.store.clone(), effects.clone());
        async move { store.kv_commit(fixture.app, &KvReads::default(), &effects, terms(&event)).await.unwrap() }
    };
    assert_eq!(commit(stale).await, KvCommit::Superseded);
    assert_eq!(fixture.count("kv").await, 0);
    assert!(matches!(commit(taken).await, KvCommit::Committed { .. }));
    assert_eq!((fixture.count("kv").await, fixture.count("outbox").await), (1, 0));
}

#[tokio::test]
async fn a_process_that_lives_keeps_what_it_has() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.send(message("jobs", "1")).await;
    fixture.store.beat().await.unwrap();
    fixture.claim(&fixture.store, 1).await;
    let other = fixture.database.store().await;
    let rescued = other.rescue(5).await.unwrap();
    assert_eq!((rescued.events, rescued.others_work), (0, true));
    // It listens, so that a beat that is late is forgiven; one that is long overdue is not.
    let _listener = fixture.store.changes().await.unwrap();
    fixture.database.execute("UPDATE outbox_workers SET heartbeat_at = now() - interval '10 s'").await;
    assert_eq!(other.rescue(5).await.unwrap().events, 0);
    fixture.database.execute("UPDATE outbox_workers SET heartbeat_at = now() - interval '16 s'").await;
    assert_eq!(other.rescue(5).await.unwrap().events, 1);
}

#[tokio::test]
async fn one_that_does_not_listen_is_lost_sooner() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.send(message("jobs", "1")).await;
    fixture.store.beat().await.unwrap();
    fixture.claim(&fixture.store, 1).await;
    fixture.database.execute("UPDATE outbox_workers SET heartbeat_at = now() - interval '7 s'").await;
    assert_eq!(fixture.database.store().await.rescue(5).await.unwrap().events, 1);
}

#[tokio::test]
async fn what_a_caller_waited_for_is_not_tried_again() {
    let fixture = Fixture::new().await;
    let reply = ReplyTo { inbox: InboxId::generate(), node: fixture.store.worker() };
    let event = NewEvent {
        script: Some("work".parse().unwrap()),
        reply: Some(reply),
        ..NewEvent::new(OutboxKind::Http, "{}".into())
    };
    fixture.send(event).await;
    // It is claimed from the beginning, and nobody is woken for it.
    assert!(fixture.woken().is_empty() && fixture.due().await.is_empty());
    let rescued = fixture.database.store().await.rescue(5).await.unwrap();
    assert_eq!((rescued.events, rescued.dead), (0, 1));
    let letters =
        fixture.store.dead_letters(fixture.app, &DeadLetterFilter::default(), None, size(9)).await.unwrap();
    assert_eq!(letters.items[0].error_code, "worker_lost");
    assert_eq!(letters.items[0].script.as_ref().unwrap().as_str(), "work");
}

/// Who asks while a request leaves the outbox and gets its answer finds one or the other.
#[tokio::test]
async fn a_request_that_is_answered_right_now_is_known() {
    let fixture = Fixture::new().await;
    let request =
        NewEvent { script: Some("work".parse().unwrap()), ..NewEvent::new(OutboxKind::Http, "{}".into()) };
    let event = fixture.send(request).await;
    assert_eq!(fixture.store.event_answer(fixture.app, event).await.unwrap(), Some(EventAnswer::Pending));
    let answering = format!(
        "LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE; DELETE FROM outbox WHERE id = '{event}';
        INSERT INTO event_results (event_id, app_id, status, headers, body, expires_at)
        VALUES ('{event}', '{}', 200, '[]', 'hi', now() + interval '1 hour')",
        fixture.app
    );
    let held = fixture.database.hold(&answering).await;
    let (store, app) = (fixture.store.clone(), fixture.app);
    let asked = tokio::spawn(async move { store.event_answer(app, event).await.unwrap() });
    fixture.database.until_blocked().await;
    held.commit().await;
    let answer = KeptAnswer { status: 200, headers: Vec::new(), body: "hi".into() };
    assert_eq!(asked.await.unwrap(), Some(EventAnswer::Answered(answer)));
}

#[tokio::test]
async fn a_message_with_a_key_is_sent_once_a_day() {
    let fixture = Fixture::new().await;
    let keyed =
        |body: &str| NewEvent { dedupe_key: Some(DedupeKey::new("k").unwrap()), ..message("jobs", body) };
    let (first, second, third) = (keyed("1"), keyed("2"), keyed("3"));
    let both = [first.clone(), second.clone()];
    let enqueued = fixture.store.enqueue(fixture.app, &both, NO_LIMIT).await.unwrap();
    assert_eq!((enqueued.events, enqueued.duplicates), (vec![first.id], vec![(second.id, first.id)]));
    let enqueued = fixture.store.enqueue(fixture.app, std::slice::from_ref(&third), NO_LIMIT).await.unwrap();
    assert_eq!(enqueued.duplicates, [(third.id, first.id)]);
    fixture.database.execute("UPDATE queue_dedupe_keys SET expires_at = now() - interval '1 s'").await;
    let enqueued = fixture.store.enqueue(fixture.app, std::slice::from_ref(&third), NO_LIMIT).await.unwrap();
    assert_eq!(enqueued.events, [third.id]);
}

#[tokio::test]
async fn messages_of_a_group_come_one_after_the_other() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let grouped = |group: &str, body: &str| NewEvent {
        group: Some(GroupKey::new(group).unwrap()),
        ..message("jobs", body)
    };
    let (a, b) = ([grouped("a", "1"), grouped("a", "2"), grouped("a", "3")], grouped("b", "1"));
    fixture.store.enqueue(fixture.app, &a[..2], NO_LIMIT).await.unwrap();
    fixture.store.enqueue(fixture.app, &[b.clone(), a[2].clone()], NO_LIMIT).await.unwrap();
    let mut claimed = fixture.claim(&fixture.store, 9).await;
    claimed.sort_by_key(|event| event.group.clone());
    assert_eq!(ids(&claimed), [a[0].id, b.id]);
    // A failure does not let the next one pass.
    fixture.settle(&claimed[0], Verdict::Retry { delay: Duration::ZERO, fault: fault("x") }).await;
    let again = fixture.claim(&fixture.store, 9).await;
    assert_eq!(ids(&again), [a[0].id]);
    fixture.settle(&again[0], done(&again[0])).await;
    assert_eq!(fixture.woken().len(), 1);
    let second = fixture.claim(&fixture.store, 9).await;
    assert_eq!(ids(&second), [a[1].id]);
    // Giving one up does.
    fixture.settle(&second[0], Verdict::Dead { fault: fault("x"), script: None }).await;
    let third = fixture.claim(&fixture.store, 9).await;
    assert_eq!(ids(&third), [a[2].id]);
    fixture.settle(&third[0], done(&third[0])).await;
    fixture.settle(&claimed[1], done(&claimed[1])).await;
    assert_eq!((fixture.count("queue_groups").await, fixture.count("outbox").await), (0, 0));
}

#[tokio::test]
async fn a_queue_is_handled_by_so_many_at_once_whoever_they_are() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    for body in ["1", "2", "3"] {
        fixture.send(message("jobs", body)).await;
    }
    fixture.database.execute("UPDATE queues SET concurrency = 2").await;
    let other = fixture.database.store().await;
    let first = fixture.claim(&fixture.store, 1).await;
    let second = fixture.claim(&other, 9).await;
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(fixture.claim(&fixture.store, 9).await.is_empty());
    fixture.settle(&first[0], done(&first[0])).await;
    assert_eq!(fixture.claim(&other, 9).await.len(), 1);
}

#[tokio::test]
async fn what_waits_and_dead_letters_are_bounded_in_bytes() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let limit = OutboxLimit { events: 100, bytes: 10_000 };
    // What cannot be compressed.
    let ids = (0..60).map(|_| uuid::Uuid::new_v4().simple().to_string());
    let noise = ids.collect::<String>();
    let send = || async {
        let event = message("jobs", &serde_json::to_string(&noise).unwrap());
        fixture.store.enqueue(fixture.app, &[event], limit).await
    };
    let crowded = || async {
        let within = Duration::from_secs(10);
        tokio::time::timeout(within, fixture.store.is_crowded()).await.expect("it was refused for its bytes");
    };
    let mut accepted = 0;
    let refused = loop {
        match send().await {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert!((2..=5).contains(&accepted), "{accepted}");
    let StoreError::OutboxFull { message: text, limit: 10_000 } = refused else { panic!("{refused}") };
    assert!(text.contains("its limit outbox_bytes is 10000"), "{text}");
    // As dead letters they count on, until somebody has looked after them.
    for event in fixture.claim(&fixture.store, 9).await {
        fixture.settle(&event, Verdict::Dead { fault: fault("x"), script: None }).await;
    }
    crowded().await;
    assert_eq!(fixture.store.make_room().await.unwrap(), 0, "nobody has looked after any");
    assert!(send().await.is_err());
    let ignored = "UPDATE dead_letters SET resolution = 'ignored', resolved_at = now()";
    fixture.database.execute(ignored).await;
    crowded().await;
    assert!(fixture.store.make_room().await.unwrap() >= 1);
    assert!(fixture.count("dead_letters").await >= 1, "no more went than had to");
    assert!(send().await.is_ok());
}

#[tokio::test]
async fn an_app_with_a_full_outbox_is_told_so() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let send = |limit| {
        let (store, event) = (fixture.store.clone(), message("jobs", "1"));
        async move { store.enqueue(fixture.app, &[event], OutboxLimit::events(limit)).await }
    };
    assert!(send(2).await.is_ok() && send(2).await.is_ok());
    let refused = send(2).await.unwrap_err();
    let StoreError::OutboxFull { message: text, limit: 2 } = refused else { panic!("{refused}") };
    assert_eq!(text, "2 events of the app wait, and 1 more would come; its limit outbox_events is 2");
    assert_eq!(fixture.count("outbox").await, 2);
    for event in fixture.claim(&fixture.store, 9).await {
        fixture.settle(&event, done(&event)).await;
    }
    // Another process has counted nothing yet.
    let event = message("jobs", "1");
    assert!(
        fixture.database.store().await.enqueue(fixture.app, &[event], OutboxLimit::events(2)).await.is_ok()
    );
}

#[tokio::test]
async fn changes_of_entries_make_events_for_those_who_wait_for_them() {
    let fixture = Fixture::new().await;
    let details = "INSERT INTO kv_trigger_details VALUES ('$id', 'users:*', ARRAY['set', 'delete'])";
    let trigger = fixture.trigger(TriggerKind::Kv, "users", details).await;
    let users = id("users:eu", "ann");
    let commit = |write: KvWrite| {
        let (store, effects) =
            (fixture.store.clone(), writes([(users.clone(), write), (id("other", "k"), set("1"))]));
        async move { store.kv_commit(fixture.app, &KvReads::default(), &effects, QUOTA).await.unwrap() }
    };
    let payload = || async {
        let event = fixture.claim(&fixture.store, 9).await.remove(0);
        fixture.settle(&event, done(&event)).await;
        assert_eq!(event.trigger, Some(trigger));
        serde_json::from_str::<serde_json::Value>(&event.payload).unwrap()
    };
    assert!(matches!(commit(KvWrite::Delete).await, KvCommit::Committed { .. }));
    assert_eq!(fixture.count("outbox").await, 0, "nothing was there to be deleted");
    let _ = commit(set(r#"{"n":1}"#)).await;
    let expected = serde_json::json!({"collection": "users:eu", "key": "ann", "operation": "set",
        "value": {"n": 1}, "old_value": null});
    assert_eq!(payload().await, expected);
    let _ = commit(KvWrite::Delete).await;
    let expected = serde_json::json!({"collection": "users:eu", "key": "ann", "operation": "delete",
        "value": null, "old_value": {"n": 1}});
    assert_eq!(payload().await, expected);
}

#[tokio::test]
async fn a_publication_comes_to_all_who_listen_and_a_chain_keeps_its_root() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    for (name, pattern) in [("all", "*"), ("orders", "orders/*"), ("users", "users")] {
        let details = format!("INSERT INTO topic_trigger_details VALUES ('$id', '{pattern}')");
        fixture.trigger(TriggerKind::Topic, name, &details).await;
    }
    let parent = fixture.send(message("jobs", "1")).await;
    let event = fixture.claim(&fixture.store, 1).await.remove(0);
    let publication = Emission {
        id: EventId::generate(),
        what: Emitted::Publication { topic: TopicName::new("orders/new").unwrap(), body: "[1]".into() },
    };
    let effects = Effects { events: vec![publication], ..Effects::default() };
    let acknowledge = Acknowledge { claim: event.claim, lineage: event.lineage, dead_letter: None };
    let terms = CommitTerms { acknowledge: Some(acknowledge), ..CommitTerms::from(QUOTA) };
    let _ = fixture.store.kv_commit(fixture.app, &KvReads::default(), &effects, terms).await.unwrap();
    let published = fixture.claim(&fixture.store, 9).await;
    assert_eq!(published.len(), 2);
    for event in &published {
        assert_eq!(event.payload, r#"{"topic":"orders/new","body":[1]}"#);
        assert_eq!(
            (event.lineage.root, event.lineage.parent, event.lineage.depth),
            (parent, Some(parent), 1)
        );
    }
}

#[tokio::test]
async fn effects_with_more_events_than_may_wait_leave_nothing() {
    let fixture = Fixture::new().await;
    let send = |_| Emission {
        id: EventId::generate(),
        what: Emitted::Message {
            queue: QueueName::new("jobs").unwrap(),
            body: "1".into(),
            options: MessageOptions::default(),
        },
    };
    let effects = Effects { events: (0..3).map(send).collect(), ..writes([(id("c", "k"), set("1"))]) };
    let terms = CommitTerms { outbox: OutboxLimit::events(2), ..CommitTerms::from(QUOTA) };
    let refused = fixture.store.kv_commit(fixture.app, &KvReads::default(), &effects, terms).await;
    assert!(matches!(refused, Err(StoreError::OutboxFull { .. })));
    assert_eq!((fixture.count("outbox").await, fixture.count("kv").await), (0, 0));
}

#[tokio::test]
async fn a_dead_letter_has_all_of_its_event_and_is_replayed_once() {
    let fixture = Fixture::new().await;
    let consumer = fixture.consumer("jobs").await;
    let sent = fixture.send(message("jobs", r#"{"n":1}"#)).await;
    let event = fixture.claim(&fixture.store, 1).await.remove(0);
    let script = Some(("work".parse().unwrap(), 1));
    fixture.settle(&event, Verdict::Dead { fault: fault("no user 7"), script }).await;
    assert_eq!(fixture.store.unresolved_dead_letters(fixture.app).await.unwrap(), 1);
    let unresolved = DeadLetterFilter { state: Some(LetterState::Unresolved), ..DeadLetterFilter::default() };
    let letters = fixture.store.dead_letters(fixture.app, &unresolved, None, size(9)).await.unwrap();
    let letter = &letters.items[0];
    assert_eq!((letter.event, letter.payload.as_str(), letter.attempts), (sent, "", 1));
    let whole = fixture.store.dead_letter(fixture.app, letter.id).await.unwrap().unwrap();
    assert_eq!(whole.payload, r#"{"body":{"n":1}}"#);
    assert_eq!(letter.trigger.as_ref().unwrap().0, consumer);
    assert_eq!((letter.error_code.as_str(), letter.error.as_str()), ("script_error", "no user 7"));
    let kinds = fixture.store.dead_letter_fingerprints(fixture.app).await.unwrap();
    assert_eq!((kinds[0].fingerprint.as_str(), kinds[0].count), (letter.fingerprint.as_str(), 1));

    let replay = || async {
        let by = fixture.store.first_owner().await.unwrap().map(|owner| owner.id);
        fixture
            .store
            .replay_dead_letter(fixture.app, letter.id, &Replay::default(), by, NO_LIMIT)
            .await
            .unwrap()
    };
    let (one, two) = tokio::join!(replay(), replay());
    let events: BTreeSet<EventId> =
        [one, two].into_iter().map(|(Replayed::Event(event) | Replayed::Already(event))| event).collect();
    assert_eq!(events.len(), 1);
    assert_ne!(one, two);
    let replayed = fixture.claim(&fixture.store, 9).await;
    assert_eq!(ids(&replayed), Vec::from_iter(events));
    assert_eq!((replayed[0].claim.attempt, replayed[0].lineage.parent), (1, Some(sent)));
    let letter = fixture.store.dead_letter(fixture.app, letter.id).await.unwrap().unwrap();
    assert_eq!(letter.resolution.unwrap().0, Resolution::Replayed);
    assert!(matches!(
        fixture.store.ignore_dead_letter(fixture.app, letter.id, None).await,
        Err(StoreError::Conflict)
    ));
}

#[tokio::test]
async fn handlers_of_dead_letters_say_what_became_of_them_and_never_loop() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let details = "INSERT INTO dead_letter_trigger_details VALUES ('$id', ARRAY['queue'])";
    fixture.trigger(TriggerKind::DeadLetter, "rescue", details).await;
    let resolution = || async {
        let letters =
            fixture.store.dead_letters(fixture.app, &DeadLetterFilter::default(), None, size(9)).await;
        letters.unwrap().items[0].resolution.map(|(resolution, _)| resolution)
    };
    for (verdict, resolved) in [
        (None, Resolution::HandledByScript),
        (Some(Verdict::Dead { fault: fault("again"), script: None }), Resolution::HandlerFailed),
    ] {
        fixture.send(message("jobs", "1")).await;
        let event = fixture.claim(&fixture.store, 9).await.remove(0);
        fixture.settle(&event, Verdict::Dead { fault: fault("x"), script: None }).await;
        assert_eq!(resolution().await, None);
        let telling = fixture.claim(&fixture.store, 9).await.remove(0);
        assert_eq!(telling.kind, OutboxKind::Trigger(TriggerKind::DeadLetter));
        assert_eq!((telling.lineage.root, telling.lineage.depth), (event.claim.event, 1));
        let payload: serde_json::Value = serde_json::from_str(&telling.payload).unwrap();
        assert_eq!(payload["source"]["event"], serde_json::json!({"body": 1}));
        assert_eq!(payload["error"], serde_json::json!({"code": "script_error", "message": "x"}));
        fixture.settle(&telling, verdict.unwrap_or_else(|| done(&telling))).await;
        assert_eq!(resolution().await, Some(resolved));
    }
    assert_eq!((fixture.count("outbox").await, fixture.count("dead_letters").await), (0, 2));
}

#[tokio::test]
async fn triggers_are_found_with_the_state_of_who_registered_them() {
    let fixture = Fixture::new().await;
    let consumer = fixture.consumer("jobs").await;
    fixture.send(message("jobs", "1")).await;
    let event = fixture.claim(&fixture.store, 9).await;
    let state = || async {
        let resolved = fixture.store.resolve(&event).await.unwrap();
        let found = resolved.of(&event[0]).unwrap().clone();
        assert_eq!((found.id, found.script.as_str()), (consumer, "work"));
        found.state
    };
    let owner = fixture.store.first_owner().await.unwrap().unwrap().id;
    assert_eq!(state().await, TriggerState::Ready);
    fixture.database.execute("UPDATE principals SET role = 'member'").await;
    assert_eq!(state().await, TriggerState::PrincipalPowerless(owner));
    fixture.database.execute("UPDATE principals SET disabled_at = now()").await;
    assert_eq!(state().await, TriggerState::PrincipalDisabled(owner));
    fixture.database.execute("DELETE FROM principals").await;
    assert_eq!(state().await, TriggerState::PrincipalGone(owner));
    fixture.database.execute("UPDATE triggers SET enabled = false").await;
    assert_eq!(state().await, TriggerState::Disabled);
    fixture.database.execute("DELETE FROM triggers").await;
    assert!(fixture.store.resolve(&event).await.unwrap().of(&event[0]).is_none());
}

#[tokio::test]
async fn what_an_app_has_waiting_goes_with_it() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.send(message("jobs", "1")).await;
    fixture.send(message("other", "1")).await;
    fixture.claim(&fixture.store, 1).await;
    fixture.store.delete_app(fixture.app).await.unwrap();
    assert_eq!((fixture.count("outbox").await, fixture.count("outbox_lanes").await), (0, 0));
    let refused = fixture.store.enqueue(fixture.app, &[message("jobs", "1")], NO_LIMIT).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "app" })), "{refused:?}");
}
