//! Events: what the dispatcher makes of them.

use std::{collections::BTreeMap, sync::atomic::Ordering::SeqCst, time::Duration};

use picloud_core::{
    AppId, AppName, EventId, GroupKey, LimitField, Node as _, OutboxKind, PrincipalId, QueueName,
    RetryPolicy, TriggerId, TriggerKind, TriggerSpec,
};
use picloud_orchestrator::OrchestratorConfig;
use picloud_store::{
    DeadLetter, DeadLetterFilter, NewEvent, OutboxLimit, PageSize, Store, testing::TestDatabase,
};
use serde_json::{Value, json};

use crate::platform::{Platform, put_script, soon, until};

pub(crate) const ATTEMPTS: u16 = 3;

/// Failed events are tried again at once.
pub(crate) fn at_once(config: &mut OrchestratorConfig) {
    config.triggers.max_depth = 4;
    config.triggers.retry =
        RetryPolicy { max_attempts: ATTEMPTS, base_delay: Duration::ZERO, ..RetryPolicy::default() };
}

/// A platform whose owner has a trigger for the queue `jobs`, which runs `work`.
pub(crate) async fn with_consumer() -> Platform {
    let platform = Platform::with(at_once).await;
    platform.token(|_| {}).await;
    platform.trigger(json!({ "name": "jobs", "kind": "queue", "queue": "jobs" })).await;
    platform
}

impl Platform {
    pub(crate) async fn owner(&self) -> PrincipalId {
        self.store.first_owner().await.unwrap().unwrap().id
    }

    /// Registers a trigger of the owner that runs `work`.
    pub(crate) async fn trigger(&self, mut fields: Value) -> TriggerId {
        fields["script"] = "work".into();
        let spec: TriggerSpec = serde_json::from_value(fields).unwrap();
        let trigger = self.store.create_trigger(self.demo, self.owner().await, &spec).await.unwrap();
        self.node.app_changed(self.demo).await;
        trigger.id
    }

    pub(crate) async fn send(&self, events: impl IntoIterator<Item = NewEvent>) -> Vec<EventId> {
        send(&self.store, self.demo, events).await
    }

    pub(crate) async fn letters(&self) -> Vec<DeadLetter> {
        let size = PageSize::new(200).unwrap();
        self.store.dead_letters(self.demo, &DeadLetterFilter::default(), None, size).await.unwrap().items
    }

    /// The one dead letter, once it is there.
    async fn letter(&self) -> DeadLetter {
        self.until_rows("dead_letters", 1).await;
        self.letters().await.remove(0)
    }
}

async fn send(store: &Store, app: AppId, events: impl IntoIterator<Item = NewEvent>) -> Vec<EventId> {
    let events: Vec<NewEvent> = events.into_iter().collect();
    store.enqueue(app, &events, OutboxLimit::NONE).await.unwrap().events
}

/// A message for the queue `jobs`.
pub(crate) fn message(body: &Value) -> NewEvent {
    let payload = json!({ "queue": "jobs", "body": body }).to_string();
    let queue = Some(QueueName::new("jobs").unwrap());
    NewEvent { queue, ..NewEvent::new(OutboxKind::Trigger(TriggerKind::Queue), payload) }
}

/// Each of the events has had its effect once, and nothing else was done.
pub(crate) async fn assert_done_once(database: &TestDatabase, events: &[EventId]) {
    let ids: Vec<String> = events.iter().map(|event| format!("'{event}'")).collect();
    let counted = |value: &str| {
        let key = ids.join(",");
        format!("SELECT count(*) FROM kv WHERE key IN ({key}) AND value {value}")
    };
    assert_eq!(database.number(&counted("::text = '1'")).await, i64::try_from(events.len()).unwrap());
    assert_eq!(database.number("SELECT count(*) FROM kv").await, i64::try_from(events.len()).unwrap());
}

fn bodies(platform: &Platform) -> Vec<Value> {
    platform.scripts.given().into_iter().map(|given| given.event["body"].clone()).collect()
}

#[tokio::test]
async fn a_message_runs_once_and_is_gone_with_its_run_in_the_history() {
    let platform = with_consumer().await;
    let sent = platform.send([message(&json!({}))]).await;
    platform.until_rows("outbox", 0).await;
    let given = platform.scripts.given();
    assert_eq!(given.len(), 1);
    let event = &given[0].event;
    assert_eq!(event["id"], sent[0].to_string());
    assert_eq!(
        (&event["kind"], &event["trigger"], &event["attempt"], &event["queue"]),
        (&json!("queue"), &json!("jobs"), &json!(1), &json!("jobs"))
    );
    assert_done_once(&platform.database, &sent).await;
    let database = platform.database.clone();
    platform.finish().await;
    let history = format!(
        "SELECT count(*) FROM executions WHERE kind = 'queue' AND event_id = '{0}' AND root_id = '{0}'
        AND parent_id IS NULL AND trigger = 'jobs' AND attempt = 1 AND error_code IS NULL",
        sent[0]
    );
    assert_eq!(database.number(&history).await, 1);
    assert_eq!(database.number("SELECT count(*) FROM executions").await, 1);
    assert_eq!(database.number("SELECT count(*) FROM outbox_workers").await, 0, "it has signed off");
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_a_dead_letter() {
    let platform = with_consumer().await;
    platform.send([message(&json!({ "do": "fail", "user": 7 }))]).await;
    let first = platform.letter().await;
    let attempts: Vec<Value> =
        platform.scripts.given().into_iter().map(|given| given.event["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!((first.attempts, first.error_code.as_str()), (ATTEMPTS, "script_error"));
    assert_eq!(first.error, "no user 7");
    assert_eq!(first.script.as_ref().unwrap().as_str(), "work");
    platform.send([message(&json!({ "do": "fail", "user": 8 }))]).await;
    platform.until_rows("dead_letters", 2).await;
    assert!(platform.letters().await.iter().all(|letter| letter.fingerprint == first.fingerprint));
    assert_eq!((platform.rows("outbox").await, platform.rows("kv").await), (0, 0));
    let once = platform.send([message(&json!({ "do": "fail once" }))]).await;
    platform.until_rows("outbox", 0).await;
    assert_eq!(platform.scripts.runs(), 8);
    assert_done_once(&platform.database, &once).await;
}

#[tokio::test]
async fn what_would_fail_again_is_given_up_at_once() {
    let platform = with_consumer().await;
    platform.send([message(&json!({ "do": "no handler" }))]).await;
    let letter = platform.letter().await;
    assert_eq!((letter.error_code.as_str(), letter.attempts), ("no_handler", 1));
    assert_eq!(platform.scripts.runs(), 1);
    platform.database.execute("DELETE FROM dead_letters").await;
    let gone = NewEvent { script: Some("gone".parse().unwrap()), ..message(&json!({})) };
    platform.send([gone]).await;
    let letter = platform.letter().await;
    assert_eq!((letter.error_code.as_str(), letter.attempts), ("script_not_found", 1));
    assert_eq!(platform.scripts.runs(), 1);
}

#[tokio::test]
async fn events_of_who_may_not_any_more_are_dead_with_the_reason() {
    let platform = with_consumer().await;
    let trigger = platform.trigger(json!({ "name": "news", "kind": "topic", "topic": "*" })).await;
    for (change, code) in [
        ("UPDATE triggers SET enabled = false WHERE kind = 'topic'", "trigger_disabled"),
        ("UPDATE triggers SET enabled = true; UPDATE principals SET role = 'member'", "principal_powerless"),
        ("UPDATE principals SET disabled_at = now()", "principal_gone"),
        ("DELETE FROM principals", "principal_gone"),
        ("DELETE FROM triggers", "trigger_not_found"),
    ] {
        platform.database.execute(change).await;
        let payload = json!({ "topic": "x", "body": {} }).to_string();
        let kind = OutboxKind::Trigger(TriggerKind::Topic);
        platform.send([NewEvent { trigger: Some(trigger), ..NewEvent::new(kind, payload) }]).await;
        let letter = platform.letter().await;
        assert_eq!((letter.error_code.as_str(), letter.attempts), (code, 1), "{change}: {}", letter.error);
        platform.database.execute("DELETE FROM dead_letters").await;
    }
    assert_eq!((platform.scripts.runs(), platform.rows("outbox").await), (0, 0));
}

#[tokio::test]
async fn a_script_that_calls_itself_by_events_comes_to_an_end() {
    let platform = with_consumer().await;
    let first = platform.send([message(&json!({ "do": "again" }))]).await[0];
    let letter = platform.letter().await;
    assert_eq!(letter.error_code, "trigger_depth_exceeded");
    assert_eq!((letter.lineage.depth, letter.lineage.root), (5, first));
    assert_eq!((platform.scripts.runs(), platform.rows("outbox").await), (5, 0));
}

#[tokio::test]
async fn messages_of_a_paused_queue_or_one_without_a_consumer_wait() {
    let platform = with_consumer().await;
    let paused = platform.send([message(&json!({ "n": 1 }))]).await;
    platform.until_rows("outbox", 0).await;
    platform.database.execute("UPDATE queues SET paused_at = now()").await;
    platform.node.app_changed(platform.demo).await;
    let mut sent = platform.send([message(&json!({ "n": 2 }))]).await;
    let orphan = NewEvent { queue: Some("other".parse().unwrap()), ..message(&json!({ "n": 3 })) };
    sent.extend(platform.send([orphan]).await);
    // What comes after them, in no queue, does not wait.
    let script = Some("work".parse().unwrap());
    sent.extend(platform.send([NewEvent { queue: None, script, ..message(&json!({ "n": 4 })) }]).await);
    platform.until_rows("kv", 2).await;
    assert_eq!(platform.rows("outbox WHERE claimed_by IS NULL AND attempts = 0").await, 2);
    platform.trigger(json!({ "name": "other", "kind": "queue", "queue": "other" })).await;
    platform.until_rows("outbox", 1).await;
    platform.database.execute("UPDATE queues SET paused_at = NULL").await;
    platform.node.app_changed(platform.demo).await;
    platform.until_rows("outbox", 0).await;
    assert_eq!(bodies(&platform), [1, 4, 3, 2].map(|n| json!({ "n": n })));
    assert_done_once(&platform.database, &[paused, sent].concat()).await;
}

#[tokio::test]
async fn no_more_of_a_queue_are_handled_at_once_than_it_allows() {
    let platform = with_consumer().await;
    platform
        .database
        .execute("INSERT INTO queues (app_id, name) SELECT id, 'jobs' FROM apps ON CONFLICT DO NOTHING")
        .await;
    platform.database.execute("UPDATE queues SET concurrency = 2").await;
    platform.node.app_changed(platform.demo).await;
    let sent = platform.send((0..6).map(|_| message(&json!({ "do": "hold" })))).await;
    for done in 0..6 {
        let begun = (done + 2).min(6);
        until(|| platform.scripts.holding.load(SeqCst) == begun).await;
        let claimed = platform.rows("outbox WHERE claimed_by IS NOT NULL").await;
        assert!(claimed <= 2, "{claimed} are claimed");
        platform.scripts.release.add_permits(1);
    }
    platform.until_rows("outbox", 0).await;
    assert_done_once(&platform.database, &sent).await;
}

#[tokio::test]
async fn the_next_free_place_of_a_queue_is_for_the_highest_priority() {
    let platform = with_consumer().await;
    let of = |priority: i16, body: Value| NewEvent { priority, ..message(&body) };
    // Each priority has waited before, so that all are known.
    let known = platform.send([-100, 0, 5, 100].map(|priority| of(priority, json!({})))).await;
    platform.until_rows("outbox", 0).await;
    platform
        .database
        .execute("INSERT INTO queues (app_id, name) SELECT id, 'jobs' FROM apps ON CONFLICT DO NOTHING")
        .await;
    platform.database.execute("UPDATE queues SET concurrency = 1").await;
    platform.node.app_changed(platform.demo).await;
    let hold = platform.send([of(5, json!({ "do": "hold" }))]).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    let sent =
        platform.send([-100, 0, 100, 5, 0].map(|priority| of(priority, json!({ "n": priority })))).await;
    // Once something that was sent after them has been handled, it is known that they wait.
    let script = Some("work".parse().unwrap());
    let fence = platform.send([NewEvent { queue: None, script, ..message(&json!({})) }]).await;
    platform.until_rows("outbox", 6).await;
    let began = std::time::Instant::now();
    platform.scripts.release.add_permits(1);
    platform.until_rows("outbox", 0).await;
    let given = platform.scripts.given();
    let order: Vec<i64> = given.iter().filter_map(|given| given.event["body"]["n"].as_i64()).collect();
    assert_eq!(order, [100, 5, 0, 0, -100]);
    assert!(began.elapsed() < Duration::from_secs(2), "they waited for a timer: {:?}", began.elapsed());
    assert_done_once(&platform.database, &[known, hold, sent, fence].concat()).await;
}

#[tokio::test]
async fn higher_priorities_go_first_and_a_delay_is_kept() {
    let platform = with_consumer().await;
    platform.limit(LimitField::Concurrency, 1).await;
    let hold = platform.send([message(&json!({ "do": "hold" }))]).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    let of = |priority: i16| NewEvent { priority, ..message(&json!({ "n": priority })) };
    let delay = Duration::from_millis(400);
    let late = NewEvent { delay, priority: 100, ..message(&json!({ "late": true })) };
    let began = std::time::Instant::now();
    let sent = platform.send([of(-100), of(0), of(100), of(5), late]).await;
    platform.scripts.release.add_permits(1);
    platform.until_rows("outbox", 0).await;
    let given = platform.scripts.given();
    let order: Vec<i64> = given.iter().filter_map(|given| given.event["body"]["n"].as_i64()).collect();
    assert_eq!(order, [100, 5, 0, -100]);
    let late = given.iter().find(|given| given.event["body"]["late"] == true).unwrap();
    assert!(late.at >= began + delay);
    assert_done_once(&platform.database, &[hold, sent].concat()).await;
}

#[tokio::test]
async fn a_group_keeps_its_order_also_when_some_fail_at_first() {
    let platform = with_consumer().await;
    let messages = (0..30).map(|n| {
        let what = if n % 4 == 0 { "fail once" } else { "" };
        let body = json!({ "do": what, "group": n % 3, "n": n });
        NewEvent { group: Some(GroupKey::new(format!("g{}", n % 3)).unwrap()), ..message(&body) }
    });
    let sent = platform.send(messages).await;
    platform.until_rows("outbox", 0).await;
    let mut groups: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for given in platform.scripts.given() {
        let body = &given.event["body"];
        if body["do"] != "fail once" || given.event["attempt"] == 2 {
            groups.entry(body["group"].to_string()).or_default().push(body["n"].as_i64().unwrap());
        }
    }
    for group in groups.values() {
        assert!(group.len() == 10 && group.is_sorted(), "{group:?}");
    }
    assert_done_once(&platform.database, &sent).await;
    assert_eq!(platform.rows("queue_groups").await, 0);
}

#[tokio::test]
async fn an_app_with_much_to_do_does_not_hold_up_another() {
    let platform = Platform::with(|config| {
        at_once(config);
        config.slots = 4;
    })
    .await;
    platform.token(|_| {}).await;
    platform.trigger(json!({ "name": "jobs", "kind": "queue", "queue": "jobs" })).await;
    let other = platform.store.create_app(&AppName::new("other").unwrap()).await.unwrap().id;
    put_script(&platform.store, other, "work").await;
    platform.node.app_changed(other).await;
    platform.send((0..500).map(|_| message(&json!({ "do": "hold" })))).await;
    until(|| platform.scripts.holding.load(SeqCst) >= 2).await;
    let script = Some("work".parse().unwrap());
    send(&platform.store, other, [NewEvent { queue: None, script, ..message(&json!({ "do": "nothing" })) }])
        .await;
    let has_run = || platform.scripts.given().iter().any(|given| given.app == other);
    // One run of the busy app ends after the other, and the next one begins.
    let mut ended = 0;
    while !has_run() {
        let begun = platform.scripts.runs();
        assert!(ended < 8, "{ended} runs of one app went before the only one of another");
        platform.scripts.release.add_permits(1);
        ended += 1;
        until(|| platform.scripts.runs() > begun).await;
    }
    platform.scripts.release.add_permits(500);
    platform.until_rows("outbox", 0).await;
    assert_eq!(platform.rows("kv").await, 500);
}

#[tokio::test]
async fn a_node_that_stops_gives_back_what_has_not_begun_and_ends_what_runs() {
    let platform = with_consumer().await;
    platform.limit(LimitField::Concurrency, 1).await;
    // Runs that are quick make it claim ahead.
    platform.send((0..20).map(|_| message(&json!({ "do": "nothing" })))).await;
    platform.until_rows("outbox", 0).await;
    let mut messages = vec![message(&json!({ "do": "hold" }))];
    messages.extend((0..30).map(|_| message(&json!({}))));
    let sent = platform.send(messages).await;
    until(|| platform.scripts.holding.load(SeqCst) == 1).await;
    let claimed = "SELECT count(*) FROM outbox WHERE claimed_by IS NOT NULL";
    soon(async { while platform.database.number(claimed).await < 2 {} }).await;
    let (database, scripts) = (platform.database.clone(), std::sync::Arc::clone(&platform.scripts));
    let finished = tokio::spawn(platform.finish());
    soon(async { while database.number(claimed).await > 1 {} }).await;
    assert_eq!(scripts.runs(), 21);
    scripts.release.add_permits(1);
    soon(finished).await.unwrap();
    assert_done_once(&database, &sent[..1]).await;
    let left = "SELECT count(*) FROM outbox WHERE claimed_by IS NULL AND attempts = 0 AND NOT is_suspect";
    assert_eq!(database.number(left).await, 30);
    assert_eq!(database.number("SELECT count(*) FROM outbox").await, 30);
}
