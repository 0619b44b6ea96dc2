//! Triggers: setting them up, finding those that an event is for, and what they need.

use picloud_core::{
    AppId, CollectionName, KvOperation, OutboxKind, PrincipalId, TopicName, TriggerId, TriggerKind,
    TriggerName, TriggerSource, TriggerSpec,
};
use picloud_store::{
    Bundle, BundleTarget, BundleTriggers, MatchingTrigger, OtherScripts, PutBundle, PutTrigger, Store,
    StoreError, Trigger, testing::TestDatabase,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::fixture::{app_name, script_name, size, upload, with_app};

fn spec(name: &str, kind: &str, mut fields: Value) -> TriggerSpec {
    for (field, value) in [("name", name), ("kind", kind), ("script", "main")] {
        fields[field] = value.into();
    }
    serde_json::from_value(fields).unwrap()
}

/// One of each kind, by name.
fn one_of_each() -> [TriggerSpec; 6] {
    [
        spec(
            "cron",
            "cron",
            json!({ "cron": "0 3 * * *", "timezone": "Europe/Berlin", "missed": "all", "jitter_ms": 5, "max_attempts": 3 }),
        ),
        spec("email", "email", json!({ "address": "demo.in" })),
        spec("kv", "kv", json!({ "collection": "users:*", "operations": ["set"], "retry_base_delay_ms": 7 })),
        spec(
            "letters",
            "dead_letter",
            json!({ "source_kinds": ["http", "queue"], "source_triggers": ["queue"] }),
        ),
        spec("queue", "queue", json!({ "queue": "jobs", "concurrency": 4, "retry_max_delay_ms": 9 })),
        spec("topic", "topic", json!({ "topic": "orders/*", "enabled": false })),
    ]
}

async fn with_script() -> (Store, AppId) {
    let (store, app) = with_app().await;
    upload(&store, app, "main", "1", &[]).await;
    (store, app)
}

async fn create(store: &Store, app: AppId, spec: &TriggerSpec) -> Result<Trigger, StoreError> {
    store.create_trigger(app, PrincipalId::generate(), spec).await
}

fn name(name: &str) -> TriggerName {
    TriggerName::new(name).unwrap()
}

fn names(found: Vec<MatchingTrigger>) -> Vec<String> {
    found.into_iter().map(|trigger| trigger.name.to_string()).collect()
}

#[tokio::test]
async fn a_trigger_of_each_kind_is_kept_as_it_was_given() {
    let (store, app) = with_script().await;
    let by = PrincipalId::generate();
    for spec in one_of_each() {
        let made = store.create_trigger(app, by, &spec).await.unwrap();
        assert_eq!((&made.spec, made.registered_by), (&spec, by));
        assert_eq!(store.trigger(app, made.id).await.unwrap().unwrap(), made);
        assert_eq!(store.trigger_by_name(app, &spec.name).await.unwrap().unwrap(), made);
        assert_eq!(made.next_at.is_some(), spec.kind() == TriggerKind::Cron);
    }
    let first = store.triggers(app, None, size(4)).await.unwrap();
    assert!(first.more);
    let rest = store.triggers(app, Some(first.items[3].name()), size(4)).await.unwrap();
    let listed = first.items.iter().chain(&rest.items).map(|trigger| trigger.spec.clone());
    assert_eq!(listed.collect::<Vec<_>>(), one_of_each());

    let directory = store.directory_of(app).await.unwrap().unwrap();
    let enabled: Vec<_> = directory.triggers.into_iter().map(|trigger| trigger.spec).collect();
    assert_eq!(enabled, one_of_each()[..5], "the disabled one is no part of it");
    let (_, other) = with_app().await;
    assert_eq!(store.trigger(other, first.items[0].id).await.unwrap(), None, "of another app");
}

#[tokio::test]
async fn a_put_replaces_all_but_the_id_and_is_registered_anew() {
    let (store, app) = with_script().await;
    let (first, second) = (PrincipalId::generate(), PrincipalId::generate());
    let put = store.put_trigger(app, first, &spec("t", "kv", json!({ "collection": "a" }))).await.unwrap();
    let PutTrigger::Created(made) = put else { panic!("{put:?}") };
    let changed = spec("t", "kv", json!({ "collection": "b", "operations": ["delete"], "max_attempts": 1 }));
    let put = store.put_trigger(app, second, &changed).await.unwrap();
    let PutTrigger::Replaced(replaced) = put else { panic!("{put:?}") };
    assert_eq!((replaced.id, &replaced.spec, replaced.registered_by), (made.id, &changed, second));

    let renamed = TriggerSpec { name: name("u"), ..changed };
    store.replace_trigger(app, made.id, first, &renamed).await.unwrap();
    assert_eq!(store.trigger_by_name(app, &name("t")).await.unwrap(), None);
    let of_other_kind =
        store.replace_trigger(app, made.id, first, &spec("u", "topic", json!({ "topic": "a" }))).await;
    assert!(
        matches!(&of_other_kind, Err(StoreError::Invalid(text)) if text.contains("of kind kv, which cannot be changed to topic")),
        "{of_other_kind:?}"
    );
    create(&store, app, &spec("v", "kv", json!({ "collection": "b" }))).await.unwrap();
    let taken =
        store.replace_trigger(app, made.id, first, &spec("v", "kv", json!({ "collection": "b" }))).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists { what: "trigger" })), "{taken:?}");

    store.delete_trigger(app, made.id).await.unwrap();
    let gone = Err(StoreError::NotFound { what: "trigger" });
    assert_eq!(
        store.delete_trigger(app, made.id).await.map_err(|e| e.to_string()),
        gone.map_err(|e: StoreError| e.to_string())
    );
    let missing = store.replace_trigger(app, TriggerId::generate(), first, &renamed).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "trigger" })), "{missing:?}");
}

#[tokio::test]
async fn a_trigger_needs_a_script_of_its_app_and_keeps_it() {
    let (store, app) = with_script().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    upload(&store, other, "theirs", "1", &[]).await;
    let of = |script: &str| TriggerSpec {
        script: script_name(script),
        ..spec("t", "topic", json!({ "topic": "a" }))
    };
    for script in ["missing", "theirs"] {
        let refused = create(&store, app, &of(script)).await;
        assert!(matches!(refused, Err(StoreError::NotFound { what: "script" })), "{refused:?}");
    }
    let made = create(&store, app, &of("main")).await.unwrap();
    let refused = store.delete_script(app, &script_name("main")).await;
    assert!(matches!(&refused, Err(StoreError::InUse { by, .. }) if by == &["trigger t"]), "{refused:?}");
    store.delete_trigger(app, made.id).await.unwrap();
    store.delete_script(app, &script_name("main")).await.unwrap();
    create(&store, other, &of("theirs")).await.unwrap();
    store.delete_app(other).await.unwrap();
}

#[tokio::test]
async fn a_queue_has_one_trigger_and_an_address_one_in_the_installation() {
    let (store, app) = with_script().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    upload(&store, other, "main", "1", &[]).await;
    let jobs = |name: &str| spec(name, "queue", json!({ "queue": "jobs" }));
    create(&store, app, &jobs("first")).await.unwrap();
    let refused = create(&store, app, &jobs("second")).await.unwrap_err();
    assert_eq!(refused.to_string(), "the queue jobs has a trigger already, first; a queue has one");
    create(&store, other, &jobs("second")).await.unwrap();

    let support = spec("mail", "email", json!({ "address": "support" }));
    create(&store, app, &support).await.unwrap();
    let refused = create(&store, other, &support).await.unwrap_err();
    assert_eq!(refused.to_string(), "the address support is taken; choose another one");
    let refused = create(&store, other, &spec("mail", "email", json!({ "address": "demo.mail" }))).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("begin with other.")),
        "{refused:?}"
    );
    let made = create(&store, other, &spec("Mail", "email", json!({}))).await.unwrap();
    let TriggerSource::Email { address: Some(address) } = made.spec.source else { panic!("{made:?}") };
    assert_eq!(address.as_str(), "other.mail");
    let too_long = create(&store, other, &spec(&"a".repeat(64), "email", json!({}))).await;
    assert!(matches!(&too_long, Err(StoreError::Invalid(text)) if text.contains("name one")), "{too_long:?}");
}

#[tokio::test]
async fn the_concurrency_of_a_queue_stays_where_nothing_is_said() {
    let (store, app) = with_script().await;
    let by = PrincipalId::generate();
    let put = async |fields| {
        let put = store.put_trigger(app, by, &spec("q", "queue", fields)).await.unwrap();
        let TriggerSource::Queue { concurrency, .. } = put.trigger().spec.source else { panic!("{put:?}") };
        concurrency
    };
    assert_eq!(put(json!({ "queue": "jobs" })).await, None);
    assert_eq!(put(json!({ "queue": "jobs", "concurrency": 3 })).await, Some(3));
    assert_eq!(put(json!({ "queue": "jobs" })).await, Some(3));
    assert_eq!(put(json!({ "queue": "others" })).await, None);
}

#[tokio::test]
async fn of_triggers_made_at_once_under_one_name_there_is_one() {
    let (store, app) = with_script().await;
    let made = futures_util::future::join_all((0..8).map(|at| {
        let store = store.clone();
        async move { create(&store, app, &spec("t", "topic", json!({ "topic": format!("t{at}") }))).await }
    }))
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for refusal in refused {
        assert!(matches!(refusal, Err(StoreError::AlreadyExists { what: "trigger" })), "{refusal:?}");
    }
}

#[tokio::test]
async fn an_app_has_at_most_200_triggers() {
    let (store, app) = with_script().await;
    let numbered = |at: usize| spec(&format!("t{at}"), "topic", json!({ "topic": "a" }));
    let many: Vec<_> = (0..=200).map(numbered).collect();
    let put = async |specs: &[TriggerSpec]| bundle(&store, app, specs, OtherScripts::Keep).await;
    let refused = put(&many).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("at most 200")),
        "{refused:?}"
    );
    assert_eq!(put(&many[..200]).await.unwrap().triggers.len(), 200);
    let refused = create(&store, app, &many[200]).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("at most 200")),
        "{refused:?}"
    );
    store.put_trigger(app, PrincipalId::generate(), &many[0]).await.unwrap();
}

async fn bundle(
    store: &Store,
    app: AppId,
    specs: &[TriggerSpec],
    others: OtherScripts,
) -> Result<PutBundle, StoreError> {
    let triggers = Some(BundleTriggers { specs, registered_by: PrincipalId::generate() });
    store.put_bundle(BundleTarget::App(app), Bundle { triggers, others, ..Bundle::default() }).await
}

#[tokio::test]
async fn the_triggers_of_a_bundle_are_all_of_the_app() {
    let (store, app) = with_script().await;
    let before = bundle(&store, app, &one_of_each(), OtherScripts::Keep).await.unwrap();
    assert_eq!((before.triggers.len(), before.removed_triggers.len()), (6, 0));

    // One is gone, one is of another kind, and two have changed their queues.
    let mut after = vec![
        spec("kv", "topic", json!({ "topic": "a" })),
        spec("other", "queue", json!({ "queue": "jobs" })),
        spec("queue", "queue", json!({ "queue": "others" })),
    ];
    let put = bundle(&store, app, &after, OtherScripts::Keep).await.unwrap();
    assert_eq!(put.removed_triggers, ["cron", "email", "letters", "topic"].map(name));
    let kept = |put: &PutBundle, name: &str| {
        put.triggers.iter().find(|trigger| trigger.name().as_str() == name).unwrap().id
    };
    assert_eq!(kept(&before, "queue"), kept(&put, "queue"));
    assert_ne!(kept(&before, "kv"), kept(&put, "kv"), "one of another kind is another trigger");

    after.push(after[0].clone());
    let twice = bundle(&store, app, &after, OtherScripts::Keep).await;
    assert!(
        matches!(&twice, Err(StoreError::Invalid(text)) if text.contains("kv is given twice")),
        "{twice:?}"
    );
    let missing =
        TriggerSpec { script: script_name("missing"), ..spec("x", "topic", json!({ "topic": "a" })) };
    let refused = bundle(&store, app, &[missing], OtherScripts::Keep).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "script" })), "{refused:?}");
    assert_eq!(store.triggers(app, None, size(9)).await.unwrap().items.len(), 3, "nothing of it was done");

    // What says nothing of triggers leaves them, and their script with them.
    let refused = store
        .put_bundle(BundleTarget::App(app), Bundle { others: OtherScripts::Delete, ..Bundle::default() })
        .await;
    assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
    bundle(&store, app, &[], OtherScripts::Delete).await.unwrap();
    assert!(store.scripts(app, None, size(9)).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_time_that_is_due_outlives_a_deployment_of_the_same_schedule() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    upload(&store, app, "main", "1", &[]).await;
    let hourly = |mut fields: Value| {
        fields["cron"] = "0 * * * *".into();
        spec("t", "cron", fields)
    };
    let by = PrincipalId::generate();
    let put = async |spec: TriggerSpec| store.put_trigger(app, by, &spec).await.unwrap().trigger().next_at;
    let now = OffsetDateTime::now_utc();
    let next = put(hourly(json!({}))).await.unwrap();
    assert!(next > now - Duration::minutes(1) && next <= now + Duration::minutes(61), "{next}");

    database.execute("UPDATE cron_trigger_details SET next_at = now() - interval '5 minutes'").await;
    assert!(put(hourly(json!({ "jitter_ms": 9, "max_attempts": 2 }))).await.unwrap() < now);
    // Another time zone is another schedule.
    assert!(put(hourly(json!({ "timezone": "Europe/Berlin" }))).await.unwrap() > now);

    database.execute("UPDATE cron_trigger_details SET next_at = now() - interval '5 minutes'").await;
    let id = store.trigger_by_name(app, &name("t")).await.unwrap().unwrap().id;
    assert_eq!(store.set_trigger_enabled(app, id, false).await.unwrap().next_at, None);
    let again = store.set_trigger_enabled(app, id, true).await.unwrap();
    assert!(again.next_at.unwrap() > now, "what came while it was disabled is not made up for");
    assert_eq!(again.registered_by, by);
    assert!(store.set_trigger_enabled(app, TriggerId::generate(), true).await.is_err());
}

#[tokio::test]
async fn times_that_have_come_are_listed_the_latest_first() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    upload(&store, app, "main", "1", &[]).await;
    let id = create(&store, app, &spec("t", "cron", json!({ "cron": "@daily" }))).await.unwrap().id;
    database
        .execute(
            "INSERT INTO cron_slots (trigger_id, scheduled_for, event_id)
            SELECT id, timestamptz '2026-01-01', NULL FROM triggers
            UNION ALL SELECT id, timestamptz '2026-01-02', id FROM triggers",
        )
        .await;
    let slots = store.cron_slots(id, size(9)).await.unwrap();
    assert_eq!(slots.iter().map(|slot| slot.event.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(store.cron_slots(id, size(1)).await.unwrap(), slots[..1]);
    assert_eq!(store.cron_slots(TriggerId::generate(), size(9)).await.unwrap(), []);
}

#[tokio::test]
async fn an_event_is_for_the_enabled_triggers_of_its_app_that_match() {
    let (store, app) = with_script().await;
    let (_, other) = with_app().await;
    let specs = [
        spec("all", "kv", json!({ "collection": "*" })),
        spec("deleted", "kv", json!({ "collection": "users:1", "operations": ["delete"] })),
        spec("off", "kv", json!({ "collection": "*", "enabled": false })),
        spec("orders", "topic", json!({ "topic": "orders/*" })),
        spec("any", "dead_letter", json!({})),
        spec("jobs", "dead_letter", json!({ "source_kinds": ["queue"], "source_triggers": ["work"] })),
        spec("web", "dead_letter", json!({ "source_kinds": ["http"] })),
    ];
    for spec in &specs {
        create(&store, app, spec).await.unwrap();
    }
    let users = CollectionName::new("users:1").unwrap();
    let kv = async |app, operation| names(store.triggers_for_kv(app, &users, operation).await.unwrap());
    assert_eq!(kv(app, KvOperation::Set).await, ["all"]);
    assert_eq!(kv(app, KvOperation::Delete).await, ["all", "deleted"]);
    assert!(kv(other, KvOperation::Set).await.is_empty());
    let topic = TopicName::new("orders/new").unwrap();
    assert_eq!(names(store.triggers_for_topic(app, &topic).await.unwrap()), ["orders"]);
    assert!(store.triggers_for_topic(app, &TopicName::new("users").unwrap()).await.unwrap().is_empty());
    let letters = async |kind, trigger: Option<&str>| {
        let trigger = trigger.map(name);
        names(store.triggers_for_dead_letter(app, kind, trigger.as_ref()).await.unwrap())
    };
    assert_eq!(letters(OutboxKind::Trigger(TriggerKind::Queue), Some("work")).await, ["any", "jobs"]);
    assert_eq!(letters(OutboxKind::Trigger(TriggerKind::Queue), Some("else")).await, ["any"]);
    assert_eq!(letters(OutboxKind::Http, None).await, ["any", "web"]);
    assert!(letters(OutboxKind::Trigger(TriggerKind::DeadLetter), Some("any")).await.is_empty());
}

#[tokio::test]
async fn changes_of_triggers_are_heard_of() {
    let (store, app) = with_script().await;
    let mut changes = store.changes().await.unwrap();
    let news = picloud_store::Change::App(app);
    let made = create(&store, app, &spec("t", "topic", json!({ "topic": "a" }))).await.unwrap();
    assert_eq!(changes.next().await, news);
    store.set_trigger_enabled(app, made.id, false).await.unwrap();
    assert_eq!(changes.next().await, news);
    store.put_trigger(app, made.registered_by, &made.spec).await.unwrap();
    assert_eq!(changes.next().await, news);
    store.delete_trigger(app, made.id).await.unwrap();
    assert_eq!(changes.next().await, news);
}
