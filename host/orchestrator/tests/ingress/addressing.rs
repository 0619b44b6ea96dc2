//! Which app answers, and who it thinks is asking.

use picloud_core::{AppName, DomainChallenge, DomainName, MethodSet, Node as _, ProofMethod};
use picloud_orchestrator::Addressing;

use crate::platform::{Platform, put_script, soon};

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

#[tokio::test]
async fn an_app_answers_at_its_host_its_domains_and_its_path() {
    let platform = Platform::start().await;
    for (name, is_proved) in [("shop.example", true), ("claimed.example", false)] {
        let challenge = DomainChallenge::from_random([0; 16]);
        let name = DomainName::new(name).unwrap();
        let id = platform.store.create_domain(platform.demo, &name, &challenge).await.unwrap().id;
        if is_proved {
            platform.store.verify_domain(platform.demo, id, ProofMethod::Dns).await.unwrap();
        }
    }
    platform.node.app_changed(platform.demo).await;
    let addresses = [
        ("demo.localhost", "/hello"),
        ("DEMO.localhost:8421", "/hello"),
        ("demo.localhost.", "/hello"),
        ("shop.example", "/hello"),
        ("Shop.Example:80", "/hello"),
        ("127.0.0.1:8421", "/@demo/hello"),
        ("[::1]:8421", "/@demo/hello"),
        ("localhost", "/@demo/hello"),
    ];
    for (host, path) in addresses {
        assert_eq!(platform.raw(request(host, path)).await.text(), "hello", "{host}{path}");
    }
    let unknown = [
        ("claimed.example", "/hello"),
        ("nobody.localhost", "/hello"),
        ("nobody.localhost", "/@demo/hello"),
        ("a.demo.localhost", "/hello"),
        ("evil.example", "/hello"),
        ("localhost", "/hello"),
        ("localhost", "/@nobody/hello"),
        ("localhost", "/@"),
    ];
    for (host, path) in unknown {
        platform.raw(request(host, path)).await.assert_problem(404, "app_not_found");
    }
    platform.raw(request("demo.localhost", "/@demo/hello")).await.assert_problem(404, "route_not_found");
}

#[tokio::test]
async fn with_a_domain_of_its_own_the_platform_has_no_path_form() {
    let addressing = Addressing::new(Some("apps.example")).unwrap();
    let platform = Platform::with(|config| config.addressing = addressing).await;
    assert_eq!(platform.raw(request("demo.apps.example", "/hello")).await.text(), "hello");
    platform.raw(request("localhost", "/@demo/hello")).await.assert_problem(404, "app_not_found");
    platform.raw(request("demo.localhost", "/hello")).await.assert_problem(404, "app_not_found");
}

#[tokio::test]
async fn pages_under_the_path_form_are_sandboxed() {
    let platform = Platform::start().await;
    let page = r#"{"headers": [["content-type", "text/html"]], "body": "<script>"}"#;
    let policy = |answer: crate::client::Answer| answer.header("content-security-policy").map(str::to_owned);
    let sandbox = Some("sandbox allow-scripts allow-forms".to_owned());
    let by_path = format!(
        "POST /@demo/respond HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    );
    assert_eq!(policy(platform.raw(by_path).await), sandbox);
    assert_eq!(policy(platform.post("/respond", page).await), None);
}

#[tokio::test]
async fn routes_replace_the_path_that_a_script_has_by_its_name() {
    let platform = Platform::start().await;
    assert_eq!(platform.get("/api/nested").await.json()["path"], "/api/nested");
    platform.route(MethodSet::ANY, "/users/:id", "api/nested").await;
    let seen = platform.get("/users/7").await.json();
    assert_eq!(seen["params"], serde_json::json!([["id", "7"]]));
    platform.get("/api/nested").await.assert_problem(404, "route_not_found");
    assert_eq!(platform.get("/hello").await.status, 200);
}

#[tokio::test]
async fn changes_are_seen_at_once_by_the_node_and_soon_by_others() {
    let platform = Platform::start().await;
    let app = platform.store.create_app(&AppName::new("late").unwrap()).await.unwrap().id;
    put_script(&platform.store, app, "hello").await;
    // Nobody told this node: it hears of it from the database.
    soon(async { while platform.raw(request("late.localhost", "/hello")).await.status != 200 {} }).await;

    platform.store.delete_app(app).await.unwrap();
    platform.node.app_changed(app).await;
    platform.raw(request("late.localhost", "/hello")).await.assert_problem(404, "app_not_found");
}

#[tokio::test]
async fn only_a_trusted_proxy_names_the_client() {
    let forged = "GET /echo HTTP/1.1\r\nhost: demo.localhost\r\nx-forwarded-for: 6.6.6.6\r\n\
        x-forwarded-for: 1.2.3.4, 127.0.0.9\r\nx-real-ip: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\r\n";
    let open = Platform::start().await;
    let seen = open.raw(forged).await.json();
    assert_eq!((&seen["ip"], &seen["headers"]), (&"127.0.0.1".into(), &"host: demo.localhost\n".into()));

    let proxied =
        Platform::with(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let seen = proxied.raw(forged).await.json();
    assert_eq!(seen["ip"], "1.2.3.4");
    assert!(seen["headers"].as_str().unwrap().contains("x-forwarded-for: 6.6.6.6\n"));
}
