use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(json: Value) -> Result<TriggerSpec, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// A trigger with these fields beside those that each has.
fn with(kind: &str, mut fields: Value) -> Value {
    for (name, value) in [("name", "t"), ("kind", kind), ("script", "s")] {
        fields[name] = value.into();
    }
    fields
}

#[test]
fn each_kind_is_read_with_its_defaults_and_written_whole() {
    let cases = [
        (
            with("kv", json!({ "collection": "users:*" })),
            json!({ "collection": "users:*", "operations": ["set", "delete"] }),
        ),
        (
            with("cron", json!({ "cron": "@daily" })),
            json!({ "cron": "@daily", "timezone": "UTC", "missed": "once", "max_lateness_ms": 3_600_000, "jitter_ms": 0 }),
        ),
        (with("queue", json!({ "queue": "jobs" })), json!({ "queue": "jobs" })),
        (with("topic", json!({ "topic": "orders/*" })), json!({ "topic": "orders/*" })),
        (with("email", json!({})), json!({})),
        (with("dead_letter", json!({})), json!({ "source_kinds": [], "source_triggers": [] })),
    ];
    for (given, fields) in cases {
        let spec = read(given.clone()).unwrap();
        let written = serde_json::to_value(&spec).unwrap();
        let mut expected = with(given["kind"].as_str().unwrap(), fields);
        expected["enabled"] = json!(true);
        assert_eq!(written, expected);
        assert_eq!(read(written).unwrap(), spec);
    }
}

#[test]
fn everything_that_is_said_is_kept() {
    let given = [
        with("kv", json!({ "collection": "*", "operations": ["delete"], "enabled": false })),
        with(
            "cron",
            json!({ "cron": "0 3 * * *", "timezone": "Europe/Berlin", "missed": "all", "max_lateness_ms": 1000,
                "jitter_ms": 3_600_000, "max_attempts": 100, "retry_base_delay_ms": 0, "retry_max_delay_ms": 5,
                "enabled": true }),
        ),
        with("queue", json!({ "queue": "jobs", "concurrency": 10_000, "enabled": true })),
        with("email", json!({ "address": "support", "enabled": true })),
        with(
            "dead_letter",
            json!({ "source_kinds": ["http", "kv"], "source_triggers": ["a", "b"], "enabled": true }),
        ),
    ];
    for given in given {
        assert_eq!(serde_json::to_value(read(given.clone()).unwrap()).unwrap(), given);
    }
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    let cases = [
        (with("timer", json!({})), "unknown variant `timer`, expected one of `kv`, `cron`"),
        (with("queue", json!({})), "queue: a trigger of kind queue needs this field"),
        (with("kv", json!({})), "collection: a trigger of kind kv needs this field"),
        (
            with("queue", json!({ "queue": "a", "cron": "@daily" })),
            "cron: a trigger of kind queue has no such field; beside name, script, enabled and those of retries it has \
             queue, concurrency",
        ),
        (with("queue", json!({ "queue": "a", "color": 1 })), "unknown field `color`, expected one of `name`"),
        (
            with("queue", json!({ "queue": "a", "concurrency": 0 })),
            "concurrency: it is 0; allowed is 1 to 10000",
        ),
        (with("queue", json!({ "queue": "a\u{0}" })), "queue name contains '\\0'"),
        (
            with("topic", json!({ "topic": "a", "max_attempts": 101 })),
            "max_attempts: it is 101; allowed is 1 to 100",
        ),
        (with("topic", json!({ "topic": "a", "max_attempts": 0 })), "max_attempts: it is 0"),
        (
            with("topic", json!({ "topic": "a", "retry_base_delay_ms": 2, "retry_max_delay_ms": 1 })),
            "retry_base_delay_ms: it is 2; allowed is at most retry_max_delay_ms, 1",
        ),
        (with("topic", json!({ "topic": "a", "retry_max_delay_ms": u64::MAX })), "allowed is 0 to 604800000"),
        (with("cron", json!({ "cron": "0 0 30 2 *" })), "cron: the schedule \"0 0 30 2 *\" never fires"),
        (
            with("cron", json!({ "cron": "@daily", "timezone": "Mars" })),
            "timezone: there is no time zone \"Mars\"",
        ),
        (with("cron", json!({ "cron": "@daily", "max_lateness_ms": 999 })), "allowed is 1000 to 604800000"),
        (with("cron", json!({ "cron": "@daily", "jitter_ms": 3_600_001 })), "allowed is 0 to 3600000"),
        (
            with("cron", json!({ "cron": "@daily", "missed": "some" })),
            "expected one of `skip`, `once`, `all`",
        ),
        (with("kv", json!({ "collection": "*", "operations": [] })), "at least one is needed"),
        (with("kv", json!({ "collection": "a*b" })), "collection contains '*'"),
        (
            with("dead_letter", json!({ "source_kinds": ["dead_letter"] })),
            "source_kinds: \"dead_letter\" is no kind",
        ),
        (
            with("dead_letter", json!({ "source_kinds": vec!["kv"; 17] })),
            "it has 17 items; allowed is 0 to 16",
        ),
        (with("dead_letter", json!({ "source_triggers": vec!["a"; 65] })), "allowed is 0 to 64"),
    ];
    for (given, text) in cases {
        let refusal = read(given.clone()).unwrap_err();
        assert!(refusal.contains(text), "{given}: {refusal}");
    }
}

#[test]
fn a_trigger_is_for_what_it_names() {
    let kv = read(with("kv", json!({ "collection": "users:*", "operations": ["set"] }))).unwrap().source;
    let collection = |name: &str| CollectionName::new(name).unwrap();
    assert!(kv.is_for_kv(&collection("users:1"), KvOperation::Set));
    assert!(!kv.is_for_kv(&collection("users:1"), KvOperation::Delete));
    assert!(!kv.is_for_kv(&collection("orders"), KvOperation::Set));

    let topic = read(with("topic", json!({ "topic": "orders/*" }))).unwrap().source;
    assert!(topic.is_for_topic(&TopicName::new("orders/new").unwrap()));
    assert!(!topic.is_for_topic(&TopicName::new("users").unwrap()));
    assert!(!kv.is_for_topic(&TopicName::new("orders/new").unwrap()));

    let letters = |fields| read(with("dead_letter", fields)).unwrap().source;
    let name = TriggerName::new("jobs").unwrap();
    let queue = OutboxKind::Trigger(TriggerKind::Queue);
    let any = letters(json!({}));
    assert!(any.is_for_dead_letter(queue, Some(&name)) && any.is_for_dead_letter(OutboxKind::Http, None));
    assert!(!any.is_for_dead_letter(OutboxKind::Trigger(TriggerKind::DeadLetter), Some(&name)));
    let some = letters(json!({ "source_kinds": ["queue"], "source_triggers": ["jobs"] }));
    assert!(some.is_for_dead_letter(queue, Some(&name)));
    assert!(!some.is_for_dead_letter(queue, None));
    assert!(!some.is_for_dead_letter(OutboxKind::Http, Some(&name)));
    assert!(!kv.is_for_dead_letter(queue, Some(&name)));
}

#[test]
fn what_a_trigger_sets_of_retries_replaces_what_is_for_all() {
    let default = RetryPolicy::default();
    assert_eq!(RetryOverrides::default().apply(default), default);
    let set =
        RetryOverrides { max_attempts: Some(2), base_delay_ms: None, max_delay_ms: Some(10) }.apply(default);
    let short = Duration::from_millis(10);
    assert_eq!((set.max_attempts, set.base_delay, set.max_delay), (2, short, short));
}

proptest! {
    #[test]
    fn runs_are_spread_within_the_jitter_and_always_by_the_same(slot in 0_i64..2_000_000_000, jitter in 0_u64..3_600_000) {
        let schedule = Schedule::new("@hourly", "UTC").unwrap();
        let (_, _, max_lateness) = CronSource::LATENESS;
        let jitter = Duration::from_millis(jitter);
        let source = CronSource { schedule, missed: MissedRuns::Once, max_lateness, jitter };
        let slot = OffsetDateTime::from_unix_timestamp(slot).unwrap();
        let trigger = TriggerId::generate();
        let start = source.starts_at(trigger, slot);
        prop_assert!(start >= slot && start <= slot + jitter);
        prop_assert_eq!(source.starts_at(trigger, slot), start);
    }
}

#[test]
fn triggers_of_one_schedule_do_not_all_start_at_once() {
    let TriggerSource::Cron(source) =
        read(with("cron", json!({ "cron": "@hourly", "jitter_ms": 3_600_000 }))).unwrap().source
    else {
        panic!("it is a cron trigger")
    };
    let slot = OffsetDateTime::UNIX_EPOCH;
    let starts: BTreeSet<_> = (0..100).map(|_| source.starts_at(TriggerId::generate(), slot)).collect();
    assert!(starts.len() > 90, "{}", starts.len());
}
