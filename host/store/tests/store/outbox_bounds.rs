//! What one app does may not stop the events of others, nor fill the database.

use picloud_core::{
    Effects, Emission, Emitted, ErrorCode, EventId, KvReads, PrincipalId, TopicName, TriggerKind, TriggerSpec,
};
use picloud_store::{CommitTerms, EventFault, KeyOwner, KeyState, KvCommit, RequestKey, StoreError, Verdict};

use crate::{
    fixture::{QUOTA, app_name, upload},
    outbox::{Fixture, NO_LIMIT, done, message},
};

/// Makes as many queues as an app may have, with a message in each.
async fn fill_lanes(fixture: &Fixture) {
    fixture
        .database
        .execute(&format!(
            "INSERT INTO outbox_lanes (app_id, queue, priority)
            SELECT '{app}', 'q' || n, 0 FROM generate_series(1, 2000) n;
            INSERT INTO outbox (id, lane_id, app_id, kind, payload, run_at, root_id)
            SELECT gen_random_uuid(), id, app_id, 'queue', '{{}}', now(), gen_random_uuid() FROM outbox_lanes",
            app = fixture.app
        ))
        .await;
}

#[tokio::test]
async fn an_app_with_as_many_queues_as_may_be_stops_nobody_and_gets_room_when_they_are_empty() {
    let fixture = Fixture::new().await;
    fixture.consumer("q1").await;
    let letters = "INSERT INTO dead_letter_trigger_details VALUES ('$id')";
    fixture.trigger(TriggerKind::DeadLetter, "letters", letters).await;
    let cron = "INSERT INTO cron_trigger_details VALUES ('$id', '@hourly', 'UTC', 'once', 3600000, 0, now())";
    fixture.trigger(TriggerKind::Cron, "hourly", cron).await;
    fill_lanes(&fixture).await;
    let refused = fixture.store.enqueue(fixture.app, &[message("more", "1")], NO_LIMIT).await;
    let Err(StoreError::Invalid(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("2000"), "{text}");

    // What is in no queue still goes: schedules, and what tells of failures.
    assert_eq!(fixture.store.fire_schedules().await.unwrap().events, 1);
    let given_up = fixture.claim(&fixture.store, 1).await;
    let given_up = given_up.iter().find(|event| event.trigger.is_none()).unwrap();
    let fault = EventFault::new(ErrorCode::ScriptError, "no");
    fixture.settle(given_up, Verdict::Dead { fault, script: None }).await;
    assert_eq!(fixture.count("outbox WHERE kind = 'dead_letter'").await, 1);

    // One queue has run empty.
    fixture.send(message("more", "1")).await;
    assert_eq!(fixture.count("outbox_lanes WHERE queue = 'q1'").await, 0);
    assert_eq!(fixture.count("outbox_lanes WHERE queue <> ''").await, 2_000);
    fixture.database.execute("DELETE FROM outbox WHERE kind = 'queue'").await;
    let mut removed = 0;
    loop {
        match fixture.store.remove_empty_lanes().await.unwrap() {
            0 => break,
            some => removed += some,
        }
    }
    assert!(removed >= 1_900, "{removed}");
    assert_eq!(fixture.count("outbox").await, 2, "the schedule's event and the letter's stay");
}

#[tokio::test]
async fn the_new_queues_of_one_run_count_before_they_are_made() {
    let fixture = Fixture::new().await;
    let many: Vec<_> = (0..2_001).map(|n| message(&format!("q{n}"), "1")).collect();
    let refused = fixture.store.enqueue(fixture.app, &many, NO_LIMIT).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused}");
    assert_eq!((fixture.count("outbox").await, fixture.count("outbox_lanes").await), (0, 0));
    assert!(fixture.store.enqueue(fixture.app, &many[..2_000], NO_LIMIT).await.is_ok());
}

#[tokio::test]
async fn a_lane_that_something_comes_into_is_not_removed() {
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(&format!(
            "INSERT INTO outbox_lanes (app_id, queue, priority)
            SELECT '{}', 'q' || n, 0 FROM generate_series(1, 150) n",
            fixture.app
        ))
        .await;
    // A message is on its way into one of them, and not committed.
    let into = "WITH lane AS (SELECT id, app_id FROM outbox_lanes WHERE queue = 'q7' FOR KEY SHARE)
        INSERT INTO outbox (id, lane_id, app_id, kind, payload, run_at, root_id)
        SELECT gen_random_uuid(), id, app_id, 'queue', '{}', now(), gen_random_uuid() FROM lane";
    let held = fixture.database.hold(into).await;
    let queues =
        "INSERT INTO queues (app_id, name, concurrency) SELECT app_id, queue, CASE queue WHEN 'q9' THEN 2 END
        FROM outbox_lanes ON CONFLICT DO NOTHING";
    fixture.database.execute(queues).await;
    assert_eq!(fixture.store.remove_empty_lanes().await.unwrap(), 149);
    assert_eq!(fixture.count("queues WHERE name IN ('q7', 'q9')").await, 2, "used, and set up");
    assert_eq!(fixture.count("queues").await, 2, "the others are nothing any more");
    held.commit().await;
    assert_eq!(fixture.count("outbox o JOIN outbox_lanes l ON l.id = o.lane_id").await, 1);
}

#[tokio::test]
async fn a_queue_whose_trigger_is_gone_and_that_nobody_uses_is_forgotten() {
    let fixture = Fixture::new().await;
    let trigger = fixture.consumer("jobs").await;
    fixture.database.execute("INSERT INTO queues (app_id, name) SELECT id, 'jobs' FROM apps").await;
    fixture.send(message("used", "1")).await;
    assert_eq!(fixture.store.remove_unused_queues(10).await.unwrap(), 0);
    fixture.store.delete_trigger(fixture.app, trigger).await.unwrap();
    assert_eq!(fixture.store.remove_unused_queues(10).await.unwrap(), 1);
    assert_eq!(fixture.count("queues WHERE name = 'used'").await, 1);
}

#[tokio::test]
async fn runs_of_a_schedule_that_nobody_handles_do_not_pile_up() {
    let fixture = Fixture::new().await;
    let cron = "INSERT INTO cron_trigger_details VALUES ('$id', '*/10 * * * * *', 'UTC', 'all', 604800000, 0,
        date_trunc('minute', now() - interval '1 hour'))";
    fixture.trigger(TriggerKind::Cron, "often", cron).await;
    let first = fixture.store.fire_schedules().await.unwrap();
    assert!(first.events >= 350, "made up for in one go: {}", first.events);
    fixture.database.execute("UPDATE cron_trigger_details SET next_at = now()").await;
    let second = fixture.store.fire_schedules().await.unwrap();
    assert_eq!((second.events, second.missed), (0, 1));
    // Once some are handled, it goes on.
    fixture.database.execute("DELETE FROM outbox").await;
    fixture.database.execute("UPDATE cron_trigger_details SET next_at = now()").await;
    assert_eq!(fixture.store.fire_schedules().await.unwrap().events, 1);
}

#[tokio::test]
async fn an_app_has_ten_triggers_for_dead_letters() {
    let fixture = Fixture::new().await;
    let by = PrincipalId::generate();
    for number in 0..11 {
        let spec = format!(r#"{{"name":"t{number}","script":"work","kind":"dead_letter"}}"#);
        let spec: TriggerSpec = serde_json::from_str(&spec).unwrap();
        let made = fixture.store.create_trigger(fixture.app, by, &spec).await;
        match (number, made) {
            (0..10, made) => drop(made.unwrap()),
            (_, Err(StoreError::Invalid(text))) => assert!(text.contains("at most 10"), "{text}"),
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_run_makes_so_many_bytes_of_events() {
    let fixture = Fixture::new().await;
    for number in 0..9 {
        let topic = "INSERT INTO topic_trigger_details VALUES ('$id', '*')";
        fixture.trigger(TriggerKind::Topic, &format!("t{number}"), topic).await;
    }
    let body: std::sync::Arc<str> = format!("\"{}\"", "x".repeat(1 << 20)).into();
    let topic = TopicName::new("news").unwrap();
    let publications = |count: usize| {
        let what = || Emitted::Publication { topic: topic.clone(), body: body.clone() };
        let events = (0..count).map(|_| Emission { id: EventId::generate(), what: what() }).collect();
        Effects { events, ..Effects::default() }
    };
    let commit = async |count| {
        let terms = CommitTerms::from(QUOTA);
        fixture.store.kv_commit(fixture.app, &KvReads::default(), &publications(count), terms).await
    };
    let refused = commit(4).await;
    assert!(matches!(&refused, Err(StoreError::TooLarge(_))), "{refused:?}");
    assert_eq!(fixture.count("outbox").await, 0);
    assert!(matches!(commit(3).await, Ok(KvCommit::Committed { .. })));
    assert_eq!(fixture.count("outbox").await, 27);
}

#[tokio::test]
async fn events_of_lost_processes_are_handled_by_turns_of_their_apps() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let other = fixture.store.create_app(&app_name("other")).await.unwrap().id;
    upload(&fixture.store, other, "work", "1", &[]).await;
    for body in ["1", "2", "3"] {
        fixture.send(message("jobs", body)).await;
    }
    let what = picloud_store::NewEvent {
        script: Some("work".parse().unwrap()),
        ..picloud_store::NewEvent::new(picloud_core::OutboxKind::Http, "{}".into())
    };
    fixture.store.enqueue(other, &[what], NO_LIMIT).await.unwrap();
    let lost = fixture.database.store().await;
    assert_eq!(fixture.claim(&lost, 9).await.len(), 4);
    assert_eq!(fixture.store.rescue(9).await.unwrap().events, 4);
    let mut last = Vec::new();
    let mut order = Vec::new();
    while let Some(event) = fixture.store.claim_suspect(&last).await.unwrap() {
        last.retain(|app| *app != event.app);
        last.push(event.app);
        order.push(event.app == fixture.app);
        fixture.settle(&event, done(&event)).await;
    }
    assert_eq!(order, [true, false, true, true]);
}

#[tokio::test]
async fn keys_are_bounded_for_each_who_has_them_and_known_ones_are_answered_still() {
    let fixture = Fixture::new().await;
    let wait = std::time::Duration::from_hours(1);
    let key = |owner, key: &str| RequestKey { owner, scope: [7; 32], key: key.into(), request: [1; 32] };
    let app = KeyOwner::App(fixture.app);
    let KeyState::New(hold) = fixture.store.take_key(&key(app, "first"), wait).await.unwrap() else {
        panic!("it is new")
    };
    let answer = picloud_store::KeptAnswer { status: 200, headers: Vec::new(), body: "x".into() };
    fixture.store.keep_answer(&hold, &answer).await.unwrap();
    fixture
        .database
        .execute(&format!(
            "INSERT INTO idempotency_keys (app_id, scope, key, request, expires_at)
            SELECT '{}', decode(repeat('00', 32), 'hex'), n::text, decode(repeat('00', 32), 'hex'), now() + interval '1 h'
            FROM generate_series(1, 9999) n",
            fixture.app
        ))
        .await;
    let full = fixture.store.take_key(&key(app, "more"), wait).await;
    assert!(matches!(&full, Err(StoreError::KeysFull { .. })), "{full:?}");
    let known = fixture.store.take_key(&key(app, "first"), wait).await.unwrap();
    assert_eq!(known, KeyState::Answered(answer));
    // Those of a principal are counted by themselves, and so are the bytes of its answers.
    let owner = PrincipalId::from_uuid(fixture.store.first_owner().await.unwrap().unwrap().id.as_uuid());
    let owner = KeyOwner::Principal(owner);
    let KeyState::New(hold) = fixture.store.take_key(&key(owner, "large"), wait).await.unwrap() else {
        panic!("it is new")
    };
    let body = vec![b'x'; 64 << 20].into();
    let large = picloud_store::KeptAnswer { status: 200, headers: Vec::new(), body };
    fixture.store.keep_answer(&hold, &large).await.unwrap();
    let full = fixture.store.take_key(&key(owner, "more"), wait).await;
    assert!(matches!(&full, Err(StoreError::KeysFull { .. })), "{full:?}");
}

#[tokio::test]
async fn the_oldest_answers_go_when_an_app_has_too_many_bytes_of_them() {
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(&format!(
            "INSERT INTO event_results (event_id, app_id, status, body, expires_at)
            SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}', 200,
                convert_to(repeat('x', 32 * 1024 * 1024), 'UTF8'), now() + interval '1 hour'
            FROM generate_series(1, 10) n",
            fixture.app
        ))
        .await;
    let answer =
        picloud_store::KeptAnswer { status: 200, headers: Vec::new(), body: vec![b'x'; 16 << 20].into() };
    let event = EventId::generate();
    let of = picloud_store::AnswerOf::Event(event, None);
    let terms = CommitTerms { answer: Some((of, answer)), ..CommitTerms::from(QUOTA) };
    let kept = Effects { events: Vec::new(), ..Effects::default() };
    let committed = fixture.store.kv_commit(fixture.app, &KvReads::default(), &kept, terms).await;
    assert!(matches!(committed, Ok(KvCommit::Committed { .. })), "{committed:?}");
    // 16 MiB, and seven of 32.
    assert_eq!(fixture.count("event_results").await, 8);
    assert_eq!(fixture.count(&format!("event_results WHERE event_id = '{event}'")).await, 1);
    let oldest = "event_results WHERE event_id = '00000000-0000-7000-8000-000000000003'";
    assert_eq!(fixture.count(oldest).await, 0);
}

#[tokio::test]
async fn a_message_that_was_taken_back_may_be_sent_again() {
    let fixture = Fixture::new().await;
    let keyed = || picloud_store::NewEvent {
        dedupe_key: Some(picloud_core::DedupeKey::new("order-7").unwrap()),
        ..message("jobs", "1")
    };
    let first = fixture.send(keyed()).await;
    let again = fixture.store.enqueue(fixture.app, &[keyed()], NO_LIMIT).await.unwrap();
    assert_eq!((again.events.len(), again.duplicates.len()), (0, 1));
    fixture.store.cancel_event(fixture.app, first, PrincipalId::generate()).await.unwrap();
    let again = fixture.store.enqueue(fixture.app, &[keyed()], NO_LIMIT).await.unwrap();
    assert_eq!((again.events.len(), again.duplicates.len()), (1, 0));
}
