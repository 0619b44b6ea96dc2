//! The audit log.

use picloud_core::{InstanceRole, Scope};
use serde_json::{Value, json};

use crate::support::Server;

const AUDIT: &str = "/api/v1/audit";

fn newest(answer: &crate::support::Answer) -> Value {
    answer.json()["items"][0].clone()
}

#[tokio::test]
async fn a_change_is_written_with_who_what_where_and_how_it_ended() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let put = server.script("demo", "hello", "1").await;
    let entry = newest(&server.get(AUDIT).await);
    let me = server.get("/api/v1/whoami").await.json();
    for (field, expected) in [
        ("action", json!("put_script")),
        ("capability", json!("AppWriteScripts")),
        ("app", json!("demo")),
        ("app_id", json!(app.id.to_string())),
        ("target", json!("hello")),
        ("principal", json!("owner")),
        ("principal_id", me["id"].clone()),
        ("token_id", me["token_id"].clone()),
        ("session_id", json!(null)),
        ("address", json!("127.0.0.1")),
        ("outcome", json!("ok")),
        ("request_id", json!(put.header("picloud-request-id"))),
    ] {
        assert_eq!(entry[field], expected, "{field} of {entry}");
    }
    let before = server.get(AUDIT).await.items("id").len();
    server.get("/api/v1/apps/demo/scripts/hello").await;
    assert_eq!(server.get(AUDIT).await.items("id").len(), before, "what only reads is not written");
}

#[tokio::test]
async fn what_was_refused_and_what_failed_is_written_as_well() {
    let server = Server::start().await;
    server.app("demo").await;
    let narrow = server.token(&[Scope::ScriptRead], None).await;
    let refused = server.anonymous("DELETE", "/api/v1/apps/demo").token(&narrow).send().await;
    refused.problem("forbidden");
    let entry = newest(&server.get(AUDIT).await);
    assert_eq!(
        (&entry["action"], &entry["outcome"], &entry["app"]),
        (&json!("delete_app"), &json!("forbidden"), &json!("demo"))
    );
    server.script("demo", "bad", "!no").await.problem("compile_error");
    let entry = newest(&server.get(AUDIT).await);
    assert_eq!((&entry["target"], &entry["outcome"]), (&json!("bad"), &json!("compile_error")));
    let strangers = server.anonymous("DELETE", "/api/v1/apps/demo").send().await;
    strangers.problem("unauthenticated");
    assert_eq!(newest(&server.get(AUDIT).await), entry, "strangers cannot fill the log");
}

#[tokio::test]
async fn sign_ins_are_written_with_the_name_and_never_a_password() {
    let server = Server::start().await;
    let cookie = server.session("owner", "a long password").await;
    server.sign_in("owner", "a wrong password").await.problem("unauthenticated");
    let entries = server.get(&format!("{AUDIT}?action=sign_in")).await;
    let json = entries.json();
    let (failed, good) = (&json["items"][0], &json["items"][1]);
    assert_eq!((&failed["outcome"], &failed["target"]), (&json!("unauthenticated"), &json!("owner")));
    assert_eq!(failed["principal"], json!(null), "nobody knows who that was");
    assert_eq!((&good["outcome"], &good["principal"]), (&json!("ok"), &json!("owner")));
    let me = server.by_cookie("GET", "/api/v1/whoami", &cookie).send().await.json();
    assert_eq!(good["session_id"], me["session_id"]);
    let all = server.get(AUDIT).await.text;
    assert!(!all.contains("a long") && !all.contains("a wrong") && !all.contains("pcls_"), "{all}");
}

#[tokio::test]
async fn who_and_what_outlast_their_end() {
    let server = Server::start().await;
    server.app("demo").await;
    let ada = server.user("ada", InstanceRole::Owner).await;
    let token = server.token_of(ada.id, Scope::ALL, None).await;
    let deleted = server.anonymous("DELETE", "/api/v1/apps/demo").token(&token).send().await;
    assert_eq!(deleted.status, 204);
    server.call("DELETE", "/api/v1/principals/ada").send().await;
    for filter in
        ["principal=ada".to_owned(), format!("principal={}", ada.id), "app=demo&action=delete_app".into()]
    {
        let entries = server.get(&format!("{AUDIT}?{filter}")).await;
        assert_eq!(entries.items("action"), ["delete_app"], "{filter}");
        assert_eq!(entries.items("principal"), ["ada"], "{filter}");
    }
}

#[tokio::test]
async fn it_is_filtered_by_time_and_paged() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.app(name).await;
    }
    assert_eq!(server.get(AUDIT).await.items("app"), ["c", "b", "a"]);
    let page = server.get(&format!("{AUDIT}?limit=2")).await;
    assert_eq!(page.items("app"), ["c", "b"]);
    let next = page.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("{AUDIT}?limit=2&cursor={next}")).await.items("app"), ["a"]);
    let at = page.items("at")[1].as_str().unwrap().replace('+', "%2B");
    assert_eq!(server.get(&format!("{AUDIT}?since={at}")).await.items("app"), ["c", "b"]);
    assert_eq!(server.get(&format!("{AUDIT}?until={at}")).await.items("app"), ["a"]);
    for wrong in ["since=yesterday", "cursor=x", "limit=0", "limit=201", "principal=A", "other=1"] {
        server.get(&format!("{AUDIT}?{wrong}")).await.problem("invalid");
    }
    for odd in ["action=%25", "action=_", "action=x%00y"] {
        assert!(server.get(&format!("{AUDIT}?{odd}")).await.items("app").is_empty(), "{odd}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_no_entry_with_it() {
    let server = Server::start().await;
    server.app("demo").await;
    // The body never comes, so that the handler waits until its client is gone.
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "PUT /api/v1/apps/demo/scripts/s HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: 5\r\n\r\n1",
        server.address, server.owner
    );
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
    drop(socket);
    let mut entry = Value::Null;
    while entry["action"] != "put_script" {
        tokio::task::yield_now().await;
        entry = newest(&server.get(AUDIT).await);
    }
    assert_eq!(entry["target"], "s");
    assert_ne!(entry["outcome"], "ok");
}
