//! The document.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::Server;

/// `UPDATE_OPENAPI=1 cargo test -p picloud-manager` writes the document anew.
#[test]
fn the_committed_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let document = format!("{}\n", picloud_manager::openapi_json());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == document,
        "docs/openapi.json is not what the code says; run `UPDATE_OPENAPI=1 cargo test -p picloud-manager` and \
         review the difference"
    );
}

#[tokio::test]
async fn the_served_document_is_openapi_3_1() {
    let server = Server::start().await;
    let answer = server.anonymous("GET", "/api/v1/openapi.json").send().await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = Vec::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            ids.push(operation["operationId"].as_str().unwrap());
            assert!(operation["summary"].is_string(), "{operation}");
            assert!(operation["responses"]["default"].is_object(), "{operation}");
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(picloud_manager::openapi_json()).unwrap();
    let mut open = vec![&document];
    let mut references = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(reference)) = object.get("$ref") {
                    references += 1;
                    assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
                }
                open.extend(object.values());
            }
            Value::Array(array) => open.extend(array),
            _ => {}
        }
    }
    assert!(references > 30);
}
