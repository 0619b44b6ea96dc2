//! Members of apps.

use picloud_core::{InstanceRole, Scope};
use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn members_are_set_listed_and_removed() {
    let server = Server::start().await;
    server.app("demo").await;
    let ada = server.user("ada", InstanceRole::Member).await;
    let token = server.token_of(ada.id, Scope::ALL, None).await;
    let asks = |path: &'static str| server.anonymous("GET", path).token(&token).send();
    asks("/api/v1/apps/demo").await.problem("app_not_found");

    let set = |who: &str, role: &str| {
        let path = format!("/api/v1/apps/demo/members/{who}");
        server.call("PUT", &path).json(&json!({ "role": role })).send()
    };
    assert_eq!(set("ada", "viewer").await.status, 201);
    assert_eq!(asks("/api/v1/apps/demo").await.status, 200);
    asks("/api/v1/apps/demo/members").await.problem("forbidden");
    let changed = set(&ada.id.to_string(), "app_admin").await;
    assert_eq!((changed.status.as_u16(), &changed.json()["role"]), (200, &json!("app_admin")));
    assert_eq!(asks("/api/v1/apps/demo/members").await.items("name"), ["ada"]);
    assert_eq!(asks("/api/v1/apps").await.items("name"), ["demo"]);

    set("nobody", "viewer").await.problem("not_found");
    set("ada", "owner").await.problem("invalid");
    let remove = || server.call("DELETE", "/api/v1/apps/demo/members/ada").send();
    assert_eq!(remove().await.status, 204);
    remove().await.problem("not_found");
    asks("/api/v1/apps/demo").await.problem("app_not_found");
}

#[tokio::test]
async fn an_editor_cannot_raise_itself() {
    let server = Server::start().await;
    let demo = server.app("demo").await;
    let eve = server.user("eve", InstanceRole::Member).await;
    server.store.put_member(demo.id, eve.id, picloud_core::AppRole::Editor).await.unwrap();
    let token = server.token_of(eve.id, Scope::ALL, None).await;
    let path = "/api/v1/apps/demo/members/eve";
    let answer =
        server.anonymous("PUT", path).token(&token).json(&json!({ "role": "app_admin" })).send().await;
    assert_eq!(answer.problem("forbidden")["role"], "app_admin");
}
