//! Commits that meet: conflicts, locks, and what they must not use up.

use std::time::Duration;

use picloud_core::{AppId, KvSession};
use picloud_store::{KvCommit, KvLocks, Store, StoreConfig, testing::TestDatabase};

use crate::fixture::{QUOTA, app_name, commit, id, list, list_of, read, set, with_app, writes};

/// Adds one to a key as an invocation does: once without locks, then under them, three times at most.
/// Answers how many runs it took.
async fn increment(store: &Store, app: AppId, collection: &str, key: &str) -> u32 {
    let mut locks = KvLocks::default();
    for run in 1..=4 {
        let locked = if run == 1 { None } else { Some(store.kv_begin_locked(app, &locks).await.unwrap()) };
        let mut session = KvSession::default();
        let now = read(store, app, &mut session, &id(collection, key)).await;
        let next = now.map_or(0, |now| now.parse::<u64>().unwrap()) + 1;
        session.write(id(collection, key), set(&next.to_string()));
        let (reads, effects) = session.finish();
        locks.merge(&KvLocks::for_rerun(&reads, &effects));
        let commit = match locked {
            None => store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap(),
            Some(locked) => locked.commit(&reads, &effects, QUOTA).await.unwrap(),
        };
        if matches!(commit, KvCommit::Committed { .. }) {
            return run;
        }
    }
    panic!("conflicted in every run");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_of_a_hot_key_is_lost() {
    let (store, app) = with_app().await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { increment(&store, app, "c", "hot").await })
        })
        .collect();
    let mut most_runs = 0;
    for task in tasks {
        most_runs = most_runs.max(task.await.unwrap());
    }
    assert_eq!(&*store.kv_get(app, &id("c", "hot")).await.unwrap().unwrap().value, "50");
    assert!(most_runs <= 2, "a re-run under locks conflicted");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_lose_no_increment_either() {
    let database = TestDatabase::create().await;
    let stores = [database.store().await, database.store().await];
    let app = stores[0].create_app(&app_name("demo")).await.unwrap().id;
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move { increment(&store, app, "c", "hot").await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(&*stores[0].kv_get(app, &id("c", "hot")).await.unwrap().unwrap().value, "40");
}

#[tokio::test]
async fn write_skew_is_refused() {
    let (store, app) = with_app().await;
    let both = writes([(id("c", "a"), set("1")), (id("c", "b"), set("1"))]);
    commit(&store, app, &both).await;
    // Each reads both and clears one: only one of them may see the other still set.
    let run = |clears: &'static str| {
        let store = store.clone();
        async move {
            let mut session = KvSession::default();
            read(&store, app, &mut session, &id("c", "a")).await;
            read(&store, app, &mut session, &id("c", "b")).await;
            session.write(id("c", clears), set("0"));
            session.finish()
        }
    };
    let (first, second) = (run("a").await, run("b").await);
    let (first, second) = tokio::join!(
        store.kv_commit(app, &first.0, &first.1, QUOTA),
        store.kv_commit(app, &second.0, &second.1, QUOTA)
    );
    let commits = [first.unwrap(), second.unwrap()];
    assert_eq!(commits.iter().filter(|commit| matches!(commit, KvCommit::Conflict)).count(), 1);
}

#[tokio::test]
async fn a_phantom_in_a_list_is_refused() {
    let (store, app) = with_app().await;
    let mut session = KvSession::default();
    assert!(list(&store, app, &mut session, list_of("c", "a", None, 10)).await.is_empty());
    session.write(id("d", "count"), set("0"));
    let (reads, effects) = session.finish();
    // Outside the prefix: nothing that the run has read changes.
    store.kv_put(app, &id("c", "b1"), "1".into(), None, None).await.unwrap();
    assert!(matches!(
        store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap(),
        KvCommit::Committed { .. }
    ));
    store.kv_put(app, &id("c", "a1"), "1".into(), None, None).await.unwrap();
    assert_eq!(store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap(), KvCommit::Conflict);
}

#[tokio::test]
async fn lists_of_two_runs_that_add_to_them_exclude_each_other() {
    let (store, app) = with_app().await;
    for round in 0..10 {
        let run = |key: String| {
            let store = store.clone();
            async move {
                let mut session = KvSession::default();
                list(&store, app, &mut session, list_of("c", "", None, 100)).await;
                session.write(id("c", &key), set("1"));
                session.finish()
            }
        };
        let (first, second) = (run(format!("{round}a")).await, run(format!("{round}b")).await);
        let (first, second) = tokio::join!(
            store.kv_commit(app, &first.0, &first.1, QUOTA),
            store.kv_commit(app, &second.0, &second.1, QUOTA)
        );
        let commits = [first.unwrap(), second.unwrap()];
        assert_eq!(commits.iter().filter(|commit| matches!(commit, KvCommit::Conflict)).count(), 1);
    }
}

#[tokio::test]
async fn a_run_that_only_reads_is_validated_if_it_read_twice() {
    let (store, app) = with_app().await;
    let mut session = KvSession::default();
    read(&store, app, &mut session, &id("c", "a")).await;
    let (one, effects) = session.clone().finish();
    read(&store, app, &mut session, &id("c", "b")).await;
    let (two, _) = session.finish();
    store.kv_put(app, &id("c", "a"), "1".into(), None, None).await.unwrap();
    assert!(matches!(store.kv_commit(app, &one, &effects, QUOTA).await.unwrap(), KvCommit::Committed { .. }));
    assert_eq!(store.kv_commit(app, &two, &effects, QUOTA).await.unwrap(), KvCommit::Conflict);
}

#[tokio::test]
async fn a_failed_commit_leaves_nothing() {
    let (store, app) = with_app().await;
    let mut session = KvSession::default();
    read(&store, app, &mut session, &id("c", "a")).await;
    session.write(id("c", "b"), set("1"));
    session.write(id("d", "x"), set("1"));
    let (reads, effects) = session.finish();
    store.kv_put(app, &id("c", "a"), "1".into(), None, None).await.unwrap();
    assert_eq!(store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap(), KvCommit::Conflict);
    assert_eq!(store.kv_get(app, &id("c", "b")).await.unwrap(), None);
    assert_eq!(store.kv_get(app, &id("d", "x")).await.unwrap(), None);
}

#[tokio::test]
async fn a_rerun_that_touches_more_is_committed_if_the_rest_is_free() {
    let (store, app) = with_app().await;
    let first = KvLocks::for_rerun(&<_>::default(), &writes([(id("c", "a"), set("1"))]));
    let more = writes([(id("c", "a"), set("1")), (id("d", "b"), set("1"))]);
    let locked = store.kv_begin_locked(app, &first).await.unwrap();
    assert!(matches!(
        locked.commit(&<_>::default(), &more, QUOTA).await.unwrap(),
        KvCommit::Committed { .. }
    ));
    // Held by another run: to wait could be to wait for ever, so it is a conflict.
    let rest = KvLocks::for_rerun(&<_>::default(), &writes([(id("d", "b"), set("1"))]));
    let other = store.kv_begin_locked(app, &rest).await.unwrap();
    let locked = store.kv_begin_locked(app, &first).await.unwrap();
    assert_eq!(locked.commit(&<_>::default(), &more, QUOTA).await.unwrap(), KvCommit::Conflict);
    drop(other);
}

#[tokio::test]
async fn another_process_waits_for_a_locked_run() {
    let database = TestDatabase::create().await;
    let (here, there) = (database.store().await, database.store().await);
    let app = here.create_app(&app_name("demo")).await.unwrap().id;
    let one = writes([(id("c", "k"), set("1"))]);
    let locks = KvLocks::for_rerun(&<_>::default(), &one);
    let locked = here.kv_begin_locked(app, &locks).await.unwrap();

    let waiter = tokio::spawn(async move {
        let mut session = KvSession::default();
        read(&there, app, &mut session, &id("c", "k")).await;
        session.write(id("c", "k"), set("2"));
        let (reads, effects) = session.finish();
        there.kv_commit(app, &reads, &effects, QUOTA).await.unwrap()
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while database.number(waiting).await == 0 {
        tokio::task::yield_now().await;
    }
    let committed = locked.commit(&<_>::default(), &one, QUOTA).await.unwrap();
    assert!(matches!(committed, KvCommit::Committed { .. }));
    assert_eq!(waiter.await.unwrap(), KvCommit::Conflict);
}

#[tokio::test]
async fn waiting_for_a_hot_key_does_not_use_up_the_pool() {
    let database = TestDatabase::create().await;
    let config =
        StoreConfig { max_connections: 2, acquire_timeout: Duration::from_secs(1), ..database.config() };
    let store = Store::connect(config).await.unwrap();
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let hot = writes([(id("c", "hot"), set("1"))]);
    let locks = KvLocks::for_rerun(&<_>::default(), &hot);
    let locked = store.kv_begin_locked(app, &locks).await.unwrap();
    let waiters: Vec<_> = (0..30)
        .map(|number| {
            let (store, hot, locks) = (store.clone(), hot.clone(), locks.clone());
            tokio::spawn(async move {
                if number % 2 == 0 {
                    store.kv_commit(app, &<_>::default(), &hot, QUOTA).await
                } else {
                    store
                        .kv_begin_locked(app, &locks)
                        .await
                        .unwrap()
                        .commit(&<_>::default(), &hot, QUOTA)
                        .await
                }
            })
        })
        .collect();
    // On this runtime's only thread, each of them runs up to where it waits.
    tokio::task::yield_now().await;
    store.kv_put(app, &id("other", "cold"), "1".into(), None, None).await.unwrap();
    assert!(store.kv_get(app, &id("other", "cold")).await.unwrap().is_some());
    assert!(matches!(locked.commit(&<_>::default(), &hot, QUOTA).await.unwrap(), KvCommit::Committed { .. }));
    for waiter in waiters {
        assert!(matches!(waiter.await.unwrap().unwrap(), KvCommit::Committed { .. }));
    }
}

#[tokio::test]
async fn a_locked_run_that_is_given_up_frees_its_keys() {
    let (store, app) = with_app().await;
    let one = writes([(id("c", "k"), set("1"))]);
    let locks = KvLocks::for_rerun(&<_>::default(), &one);
    drop(store.kv_begin_locked(app, &locks).await.unwrap());
    assert!(matches!(
        store.kv_commit(app, &<_>::default(), &one, QUOTA).await.unwrap(),
        KvCommit::Committed { .. }
    ));
}
