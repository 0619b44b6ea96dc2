//! Plain variables.

use std::{collections::BTreeMap, sync::Arc};

use picloud_core::VariableName;
use picloud_store::{Bundle, BundleTarget, Change, StoreError};

use crate::fixture::{app_name, with_app};

fn name(name: &str) -> VariableName {
    VariableName::new(name).unwrap()
}

#[tokio::test]
async fn a_variable_is_set_read_replaced_and_removed() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let mut changes = store.changes().await.unwrap();
    assert!(store.put_variable(app, &name("B"), "one".into()).await.unwrap());
    assert_eq!(changes.next().await, Change::App(app));
    assert!(!store.put_variable(app, &name("B"), "".into()).await.unwrap());
    assert!(store.put_variable(app, &name("A"), "é".into()).await.unwrap());
    let list = store.variables(app).await.unwrap();
    let shown: Vec<_> = list.iter().map(|variable| (variable.name.as_str(), &*variable.value)).collect();
    assert_eq!(shown, [("A", "é"), ("B", "")]);
    assert_eq!(&*store.variable(app, &name("A")).await.unwrap().unwrap().value, "é");
    assert_eq!(store.variable(other, &name("A")).await.unwrap(), None);
    store.delete_variable(app, &name("A")).await.unwrap();
    let again = store.delete_variable(app, &name("A")).await;
    assert!(matches!(again, Err(StoreError::NotFound { what: "variable" })));
}

#[tokio::test]
async fn there_are_64_of_4_kib_at_most() {
    let (store, app) = with_app().await;
    let full: Arc<str> = "x".repeat(4096).into();
    for number in 0..64 {
        store.put_variable(app, &name(&format!("V{number}")), Arc::clone(&full)).await.unwrap();
    }
    store.put_variable(app, &name("V7"), "y".into()).await.unwrap();
    let refused = store.put_variable(app, &name("V64"), "y".into()).await.unwrap_err();
    assert_eq!(refused.to_string(), "an app has at most 64 variables");
    assert_eq!(store.variables(app).await.unwrap().len(), 64);
    for (value, problem) in [("x".repeat(4097), "at most 4096"), ("a\0".into(), "U+0000")] {
        let refused = store.put_variable(app, &name("V1"), value.into()).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Invalid(_)) && refused.to_string().contains(problem),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_bundle_sets_those_that_it_names() {
    let (store, app) = with_app().await;
    store.put_variable(app, &name("KEPT"), "1".into()).await.unwrap();
    store.put_variable(app, &name("CHANGED"), "1".into()).await.unwrap();
    let variables = BTreeMap::from([(name("CHANGED"), Arc::from("2")), (name("NEW"), Arc::from("2"))]);
    let bundle = Bundle { variables: Some(&variables), ..Bundle::default() };
    store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
    let list = store.variables(app).await.unwrap();
    let shown: Vec<_> = list.iter().map(|variable| (variable.name.as_str(), &*variable.value)).collect();
    assert_eq!(shown, [("CHANGED", "2"), ("KEPT", "1"), ("NEW", "2")]);
}
