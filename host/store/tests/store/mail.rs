//! Mail that comes in for several apps at once, and the quota of mail that goes out.

use picloud_core::{
    AppId, Effects, Emission, Emitted, EventId, KvReads, OutboxKind, OutgoingMail, TriggerId, TriggerKind,
};
use picloud_store::{
    AppEvents, CommitTerms, KvCommit, MailQuota, NewEvent, OutboxLimit, Store, StoreError,
    testing::TestDatabase,
};

use crate::fixture::{QUOTA, app_name, id, set, upload, writes};

async fn app(store: &Store, name: &str) -> AppId {
    let app = store.create_app(&app_name(name)).await.unwrap().id;
    upload(store, app, "work", "fn on_email(mail) { mail }", &[]).await;
    app
}

async fn email_trigger(database: &TestDatabase, app: AppId, address: &str) -> TriggerId {
    let trigger = TriggerId::generate();
    database
        .execute(&format!(
            "INSERT INTO triggers (id, app_id, script_id, kind, name, registered_by_principal)
            SELECT '{trigger}', app_id, id, 'email', '{address}', gen_random_uuid() FROM scripts
            WHERE app_id = '{app}' AND name = 'work';
            INSERT INTO email_trigger_details VALUES ('{trigger}', '{address}')"
        ))
        .await;
    trigger
}

fn batch(app: AppId, trigger: TriggerId, limit: u64) -> AppEvents {
    let event = NewEvent::new(OutboxKind::Trigger(TriggerKind::Email), "{}".to_owned());
    AppEvents {
        app,
        events: vec![NewEvent { trigger: Some(trigger), ..event }],
        limit: OutboxLimit::events(limit),
    }
}

fn mails(count: usize) -> Effects {
    let mail = |_| Emission {
        id: EventId::generate(),
        what: Emitted::Mail(Box::new(OutgoingMail {
            to: vec!["ada@example.org".into()],
            text: Some("x".into()),
            ..OutgoingMail::default()
        })),
    };
    Effects { events: (0..count).map(mail).collect(), ..writes([(id("c", "k"), set("1"))]) }
}

#[tokio::test]
async fn an_address_leads_to_its_trigger_while_that_is_enabled() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = app(&store, "demo").await;
    let trigger = email_trigger(&database, app, "orders").await;
    assert_eq!(store.email_trigger("orders").await.unwrap(), Some(trigger));
    assert_eq!(store.email_trigger("order").await.unwrap(), None);
    let unknown = TriggerId::generate();
    assert_eq!(store.email_triggers(&[unknown, trigger]).await.unwrap(), [(app, trigger)]);
    database.execute("UPDATE triggers SET enabled = false").await;
    assert_eq!(store.email_trigger("orders").await.unwrap(), None);
    assert_eq!(store.email_triggers(&[trigger]).await.unwrap(), []);
}

#[tokio::test]
async fn a_mail_for_several_apps_is_taken_by_all_or_by_none() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let (one, other) = (app(&store, "one").await, app(&store, "other").await);
    let (first, second) =
        (email_trigger(&database, one, "one").await, email_trigger(&database, other, "other").await);
    let refused = store.enqueue_for_apps(&[batch(one, first, 10), batch(other, second, 0)]).await;
    assert!(matches!(refused, Err(StoreError::OutboxFull { limit: 0, .. })));
    assert_eq!(database.number("SELECT count(*) FROM outbox").await, 0);
    let gone = AppId::generate();
    let refused = store.enqueue_for_apps(&[batch(one, first, 10), batch(gone, second, 10)]).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    assert_eq!(database.number("SELECT count(*) FROM outbox").await, 0);
    store.take_woken();
    store.enqueue_for_apps(&[batch(other, second, 10), batch(one, first, 10)]).await.unwrap();
    assert_eq!(database.number("SELECT count(DISTINCT app_id) FROM outbox WHERE kind = 'email'").await, 2);
    assert_eq!(store.take_woken().lanes.len(), 2);
}

#[tokio::test]
async fn the_mails_of_a_day_are_counted_with_what_sends_them() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = app(&store, "demo").await;
    let terms = CommitTerms { mails: MailQuota(3), ..CommitTerms::from(QUOTA) };
    let (reads, send) = (KvReads::default(), |count| {
        let (store, terms) = (store.clone(), terms.clone());
        async move { store.kv_commit(app, &KvReads::default(), &mails(count), terms).await }
    });
    assert!(matches!(send(4).await, Err(StoreError::MailQuota { limit: 3 })), "at once");
    assert_eq!(database.number("SELECT count(*) FROM kv").await, 0, "nothing of it is there");
    assert!(matches!(send(2).await.unwrap(), KvCommit::Committed { .. }));
    let refused = send(2).await.unwrap_err();
    assert!(refused.to_string().contains("mails_per_day") && refused.to_string().ends_with('3'), "{refused}");
    assert!(matches!(send(1).await.unwrap(), KvCommit::Committed { .. }));
    assert_eq!(database.number("SELECT count(*) FROM outbox WHERE kind = 'mail'").await, 3);
    assert!(send(1).await.is_err());
    // What sends none is not concerned, and a day that is over does not count.
    let effects = writes([(id("c", "k"), set("2"))]);
    assert!(matches!(
        store.kv_commit(app, &reads, &effects, terms.clone()).await.unwrap(),
        KvCommit::Committed { .. }
    ));
    database.execute("UPDATE mails_sent SET day = day - 1").await;
    assert!(send(3).await.is_ok());
    assert_eq!(store.remove_old_mail_counters(10).await.unwrap(), 0);
    database.execute("UPDATE mails_sent SET day = day - 2").await;
    assert_eq!(store.remove_old_mail_counters(1).await.unwrap(), 1);
    assert_eq!(store.remove_old_mail_counters(10).await.unwrap(), 1);
}
