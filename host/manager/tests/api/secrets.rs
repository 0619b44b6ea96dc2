//! Secrets: written, listed, removed; never read.

use picloud_core::{AppName, Scope, SecretName, SecretPlace};
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const CANARY: &str = "canary-b1946ac92492d234";

async fn put(server: &Server, name: &str, value: &str) -> Answer {
    server.call("PUT", &format!("/api/v1/apps/demo/secrets/{name}")).text(value).send().await
}

async fn stored(server: &Server, name: &str) -> String {
    let app = server.store.app_by_name(&AppName::new("demo").unwrap()).await.unwrap().unwrap().id;
    let name = SecretName::new(name).unwrap();
    let stored = server.store.secret(app, &name).await.unwrap().unwrap();
    let place = SecretPlace { app, name: &name, version: stored.version };
    server.vault.unseal(place, &stored.sealed).unwrap().expose().to_owned()
}

#[tokio::test]
async fn a_secret_is_set_replaced_listed_and_removed() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    assert_eq!(put(&server, "stripe", CANARY).await.status, 201);
    assert_eq!(stored(&server, "stripe").await, CANARY);
    let replaced = put(&server, "stripe", "{\"any\": \"text é\"}\n").await;
    assert_eq!((replaced.status.as_u16(), &replaced.json()["name"]), (200, &json!("stripe")));
    assert_eq!(stored(&server, "stripe").await, "{\"any\": \"text é\"}\n");
    assert!(server.node.changed.lock().unwrap().iter().filter(|id| **id == app.id).count() >= 2);

    server.script("demo", "pay", "secret stripe\n1").await;
    let list = server.get("/api/v1/apps/demo/secrets").await;
    assert_eq!(list.items("name"), ["stripe"]);
    assert_eq!(list.items("used_by"), [json!(["pay"])]);
    let item = list.json()["items"][0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(item, ["created_at", "name", "updated_at", "used_by"]);

    let gone = server.call("DELETE", "/api/v1/apps/demo/secrets/stripe").send().await;
    assert_eq!(gone.status, 204);
    let again = server.call("DELETE", "/api/v1/apps/demo/secrets/stripe").send().await;
    assert_eq!(again.problem("not_found")["detail"], "no secret \"stripe\" in app \"demo\"");
}

#[tokio::test]
async fn no_call_gives_a_value_and_the_database_has_none() {
    let server = Server::start().await;
    server.app("demo").await;
    let set = put(&server, "key", CANARY).await;
    server.script("demo", "s", "secret key\n1").await;
    let mut answers = vec![set];
    for path in
        ["secrets", "secrets/key", "scripts/s", "scripts/s/versions", "env", "kv", "logs", "executions", ""]
    {
        answers.push(server.get(&format!("/api/v1/apps/demo/{path}")).await);
    }
    assert!(answers.iter().all(|answer| !answer.text.contains("b1946ac9")), "{answers:?}");
    assert_eq!(answers[2].problem("method_not_allowed")["status"], 405);
    let in_clear = format!(
        "SELECT count(*) FROM secrets WHERE position('{CANARY}'::bytea IN ciphertext) > 0 OR position('{CANARY}' IN secrets::text) > 0"
    );
    assert_eq!(server.database.number(&in_clear).await, 0);
    assert_eq!(server.database.number("SELECT count(*) FROM secrets").await, 1);
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_without_repeating_it() {
    let server = Server::start().await;
    server.app("demo").await;
    let path = "/api/v1/apps/demo/secrets/key";
    let empty = server.call("PUT", path).text("").send().await;
    assert!(empty.problem("invalid")["detail"].as_str().unwrap().contains("1 byte"));
    let bytes = [CANARY.as_bytes(), b"\xff"].concat();
    let binary = server.call("PUT", path).body("application/octet-stream", bytes).send().await;
    let detail = binary.problem("invalid")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("UTF-8") && !binary.text.contains(CANARY), "{detail}");
    assert_eq!(put(&server, "key", &"x".repeat(64 << 10)).await.status, 201);
    let large = put(&server, "key", &"x".repeat((64 << 10) + 1)).await;
    large.problem("body_too_large");
    for name in [".", "-x", "a%20b", "a%00", &"a".repeat(65)] {
        let refused = put(&server, name, "x").await;
        assert!(refused.status.is_client_error(), "{name}: {refused:?}");
    }
    let latin = server.call("PUT", path).body("text/plain; charset=latin1", "x").send().await;
    latin.problem("unsupported_media_type");
}

#[tokio::test]
async fn only_an_admin_of_the_app_sees_or_changes_secrets() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    server.app("other").await;
    put(&server, "key", CANARY).await;
    let scopes: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::AppAdmin).collect();
    let lesser = server.token(&scopes, None).await;
    let elsewhere = server.token(Scope::ALL, Some(&app)).await;
    for (token, name, code) in [(lesser, "demo", "forbidden"), (elsewhere, "other", "app_not_found")] {
        for (method, rest) in [("GET", ""), ("PUT", "/key"), ("DELETE", "/key")] {
            let path = format!("/api/v1/apps/{name}/secrets{rest}");
            let refused = server.anonymous(method, &path).token(&token).text("x").send().await;
            refused.problem(code);
        }
    }
    assert_eq!(stored(&server, "key").await, CANARY);
}

#[tokio::test]
async fn a_deployment_tells_what_a_script_newly_uses() {
    let server = Server::start().await;
    server.app("demo").await;
    let declared = |names: &[&str]| json!({ "secrets": { "names": names, "any": false } });
    let first = server.script("demo", "pay", "1").await.json();
    assert_eq!((&first["uses"], &first["newly_uses"]), (&json!({}), &json!({})));
    let second = server.script("demo", "pay", "secret b\n1").await.json();
    assert_eq!((&second["uses"], &second["newly_uses"]), (&declared(&["b"]), &declared(&["b"])));
    let warning = "the secret \"b\" is not set yet; `picloud secret set b` sets it";
    assert_eq!(second["warnings"], json!([warning]));
    put(&server, "b", "x").await;
    let third = server.script("demo", "pay", "secret a\nsecret b\n2").await.json();
    assert_eq!((&third["uses"], &third["newly_uses"]), (&declared(&["a", "b"]), &declared(&["a"])));
    let unchanged = server.script("demo", "pay", "secret a\nsecret b\n2").await.json();
    assert_eq!((&unchanged["unchanged"], &unchanged["newly_uses"]), (&json!(true), &json!({})));

    assert_eq!(server.get("/api/v1/apps/demo/scripts/pay").await.json()["uses"], declared(&["a", "b"]));
    let versions = server.get("/api/v1/apps/demo/scripts/pay/versions").await;
    assert_eq!(versions.items("uses"), [declared(&["a", "b"]), declared(&["b"]), json!({})]);

    let bundle = json!({ "scripts": { "lib": "secret c", "pay": "import lib\n1" } });
    let deployed = server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await.json();
    let pay: &Value = &deployed["scripts"][1];
    assert_eq!((&pay["name"], &pay["newly_uses"]), (&json!("pay"), &declared(&["c"])));
    assert!(pay["warnings"][0].as_str().unwrap().contains("\"c\" is not set yet"));

    server.database.execute("UPDATE script_versions SET uses = NULL").await;
    let anew = server.script("demo", "pay", "secret a\n3").await.json();
    assert_eq!((&anew["uses"], &anew["newly_uses"]), (&declared(&["a"]), &Value::Null));
}
