//! Transactions of invocations against a model: committed runs behave as if they had run one after the other.

use std::{collections::BTreeMap, sync::OnceLock};

use picloud_core::{AppId, AppName, KvSession, KvWrite};
use picloud_store::{KvCommit, Store, testing};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::fixture::{QUOTA, id, list, list_of, read, set};

/// What an invocation does with its data.
#[derive(Clone, Debug)]
enum Step {
    Get(String),
    Set(String, String),
    Delete(String),
    List { prefix: String, after: Option<String>, limit: u32 },
}

/// What an invocation saw in one step.
type Seen = Vec<(String, String)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model(BTreeMap<String, String>);

impl Model {
    fn step(&mut self, step: &Step) -> Seen {
        let pair = |(key, value): (&String, &String)| (key.clone(), value.clone());
        match step {
            Step::Get(key) => self.0.get_key_value(key).map(pair).into_iter().collect(),
            Step::Set(key, value) => {
                self.0.insert(key.clone(), value.clone());
                Seen::new()
            }
            Step::Delete(key) => {
                self.0.remove(key);
                Seen::new()
            }
            Step::List { prefix, after, limit } => {
                let wanted = |key: &str| {
                    key.starts_with(prefix.as_str()) && after.as_deref().is_none_or(|after| key > after)
                };
                self.0.iter().filter(|(key, _)| wanted(key)).map(pair).take(*limit as usize).collect()
            }
        }
    }
}

async fn step(store: &Store, app: AppId, session: &mut KvSession, step: &Step) -> Seen {
    match step {
        Step::Get(key) => {
            let value = read(store, app, session, &id("c", key)).await;
            value.map(|value| (key.clone(), value.to_string())).into_iter().collect()
        }
        Step::Set(key, value) => {
            session.write(id("c", key), set(value));
            Seen::new()
        }
        Step::Delete(key) => {
            session.write(id("c", key), KvWrite::Delete);
            Seen::new()
        }
        Step::List { prefix, after, limit } => {
            let query = list_of("c", prefix, after.as_deref(), *limit);
            let found = list(store, app, session, query).await.into_iter();
            found.map(|(key, value)| (key.as_str().to_owned(), value.to_string())).collect()
        }
    }
}

async fn stored(store: &Store, app: AppId) -> Model {
    let found = store.kv_list(app, &list_of("c", "", None, 1000)).await.unwrap().into_iter();
    Model(found.map(|entry| (entry.key.into(), entry.entry.value.to_string())).collect())
}

async fn new_app(store: &Store) -> AppId {
    let name = AppName::new(format!("a{}", AppId::generate())).unwrap();
    store.create_app(&name).await.unwrap().id
}

fn database() -> &'static (Runtime, Store) {
    static DATABASE: OnceLock<(Runtime, Store)> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(testing::store());
        (runtime, store)
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || "[abé]{1,2}";
    let step = prop_oneof![
        key().prop_map(Step::Get),
        (key(), "[0-9]{1,3}").prop_map(|(key, value)| Step::Set(key, value)),
        key().prop_map(Step::Delete),
        ("[abé]{0,1}", prop::option::of(key()), 0..5_u32).prop_map(|(prefix, after, limit)| Step::List {
            prefix,
            after,
            limit
        }),
    ];
    prop::collection::vec(step, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// One after the other, every run sees what the model says, and leaves what the model says.
    #[test]
    fn sequential_runs_follow_the_model(runs in prop::collection::vec(steps(), 1..6)) {
        let (runtime, store) = database();
        runtime.block_on(async {
            let (app, mut model) = (new_app(store).await, Model::default());
            for run in &runs {
                let mut session = KvSession::default();
                for one in run {
                    prop_assert_eq!(step(store, app, &mut session, one).await, model.step(one), "{:?}", one);
                }
                let (reads, effects) = session.finish();
                let commit = store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap();
                prop_assert_ne!(commit, KvCommit::Conflict);
                prop_assert_eq!(&stored(store, app).await, &model);
            }
            Ok(())
        })?;
    }

    /// Two runs whose steps are mixed in any way: the first to commit wins, and if the second commits too, it
    /// saw what it would have seen after the first.
    #[test]
    fn mixed_runs_are_serializable(
        before in steps(), first in steps(), second in steps(), order in prop::collection::vec(any::<bool>(), 16)
    ) {
        let (runtime, store) = database();
        runtime.block_on(async {
            let (app, mut model) = (new_app(store).await, Model::default());
            let mut session = KvSession::default();
            for one in &before {
                step(store, app, &mut session, one).await;
                model.step(one);
            }
            let (reads, effects) = session.finish();
            let commit = store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap();
            prop_assert_ne!(commit, KvCommit::Conflict);

            let (mut a, mut b) = (KvSession::default(), KvSession::default());
            let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
            let (mut rest_a, mut rest_b) = (first.iter(), second.iter());
            for a_next in order.into_iter().chain([true; 8]).chain([false; 8]) {
                if a_next {
                    if let Some(one) = rest_a.next() {
                        seen_a.push(step(store, app, &mut a, one).await);
                    }
                } else if let Some(one) = rest_b.next() {
                    seen_b.push(step(store, app, &mut b, one).await);
                }
            }

            let (reads, effects) = a.finish();
            let commit = store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap();
            prop_assert_ne!(commit, KvCommit::Conflict);
            prop_assert_eq!(seen_a, first.iter().map(|one| model.step(one)).collect::<Vec<_>>());

            let (reads, effects) = b.finish();
            // A run of a single read that writes nothing is the one that is not validated: it saw one entry at
            // one moment, which is as if it had run before the first.
            let is_validated = !(effects.is_empty() && reads.is_single());
            let commit = store.kv_commit(app, &reads, &effects, QUOTA).await.unwrap();
            if matches!(commit, KvCommit::Committed { .. }) && is_validated {
                prop_assert_eq!(seen_b, second.iter().map(|one| model.step(one)).collect::<Vec<_>>());
            }
            prop_assert_eq!(stored(store, app).await, model);
            Ok(())
        })?;
    }
}
