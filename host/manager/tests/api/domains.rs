//! Hosts of apps, and the proof that they may be served.

use picloud_core::{AppRole, InstanceRole, Scope};
use serde_json::{Value, json};

use crate::support::{Answer, NameServer, Server};

const DOMAINS: &str = "/api/v1/apps/demo/domains";
const HOST: &str = "shop.example.org";
const RECORD: &str = "_picloud.shop.example.org";

struct Fixture {
    server: Server,
    names: NameServer,
}

impl Fixture {
    async fn start() -> Self {
        let names = NameServer::start().await;
        let address = names.address;
        let server = Server::start_with(|config| config.name_server = Some(address)).await;
        server.app("demo").await;
        server.app("other").await;
        Self { server, names }
    }

    async fn claim(&self, app: &str, host: &str) -> Value {
        let answer = self.post(&format!("/api/v1/apps/{app}/domains"), &json!({ "domain": host })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.server.call("POST", path).json(body).send().await
    }

    /// Looks for a proof, as if the last look was long ago.
    async fn verify(&self, app: &str, claim: &Value) -> Answer {
        self.server.database.execute("UPDATE domains SET checked_at = NULL").await;
        self.post(&path(app, claim), &json!({})).await
    }
}

fn path(app: &str, claim: &Value) -> String {
    format!("/api/v1/apps/{app}/domains/{}/verify", claim["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_host_is_served_once_its_record_is_there() {
    let it = Fixture::start().await;
    let claim = it.claim("demo", HOST).await;
    let value = claim["proof"]["value"].as_str().unwrap().to_owned();
    assert_eq!(claim["proof"]["record"], RECORD);
    assert!(value.starts_with("picloud-verification=") && value.len() == 53, "{value}");
    assert_eq!((&claim["verified_at"], &claim["verified_by"]), (&Value::Null, &Value::Null));
    let changes = it.server.node.changed.lock().unwrap().len();

    let missing = it.verify("demo", &claim).await;
    missing.problem("domain_unproven");
    assert!(
        missing.text.contains("there is no such record yet") && missing.text.contains(&value),
        "{missing:?}"
    );
    it.names.set(RECORD, &["v=spf1 -all"]);
    let wrong = it.verify("demo", &claim).await;
    wrong.problem("domain_unproven");
    assert!(wrong.text.contains("v=spf1 -all"), "{wrong:?}");
    it.names.fail(true);
    let failed = it.verify("demo", &claim).await;
    failed.problem("domain_unproven");
    assert!(failed.text.contains("try again later"), "{failed:?}");
    it.names.fail(false);
    assert_eq!(it.server.node.changed.lock().unwrap().len(), changes, "nothing has changed yet");

    it.names.set(RECORD, &["v=spf1 -all", &value]);
    let proved = it.verify("demo", &claim).await;
    assert_eq!(proved.status, 200, "{proved:?}");
    assert_eq!((&proved.json()["proof"], &proved.json()["verified_by"]), (&Value::Null, &json!("dns")));
    assert_eq!(it.server.node.changed.lock().unwrap().len(), changes + 1);
    assert_eq!(it.server.get(DOMAINS).await.json()["items"][0], proved.json());
}

#[tokio::test]
async fn the_proof_of_one_claim_is_none_of_another() {
    let it = Fixture::start().await;
    let (mine, theirs) = (it.claim("demo", HOST).await, it.claim("other", HOST).await);
    assert_ne!(mine["proof"]["value"], theirs["proof"]["value"]);
    it.names.set(RECORD, &[mine["proof"]["value"].as_str().unwrap()]);
    it.verify("other", &theirs).await.problem("domain_unproven");
    assert_eq!(it.verify("demo", &mine).await.status, 200);
    it.names.set(RECORD, &[theirs["proof"]["value"].as_str().unwrap()]);
    it.verify("other", &theirs).await.problem("already_exists");
    // Not by the way of the other app either.
    let foreign = format!("{DOMAINS}/{}/verify", theirs["id"].as_str().unwrap());
    it.post(&foreign, &json!({})).await.problem("not_found");
    it.post(&foreign, &json!({ "method": "operator" })).await.problem("not_found");
    it.post(DOMAINS, &json!({ "domain": HOST })).await.problem("already_exists");
}

#[tokio::test]
async fn name_servers_are_not_flooded() {
    let it = Fixture::start().await;
    let claim = it.claim("demo", HOST).await;
    it.post(&path("demo", &claim), &json!({})).await.problem("domain_unproven");
    let asked = it.names.asked();
    let refused = it.post(&path("demo", &claim), &json!({})).await;
    refused.problem("rate_limited");
    assert_eq!((refused.header("retry-after"), it.names.asked()), ("5", asked));
}

#[tokio::test]
async fn only_an_owner_vouches() {
    let it = Fixture::start().await;
    let app = it.server.app("shop").await;
    let claim = it.claim("shop", "lamp.home.arpa").await;
    let admin = it.server.user("amy", InstanceRole::Member).await.id;
    it.server.store.put_member(app.id, admin, AppRole::AppAdmin).await.unwrap();
    let body = json!({ "method": "operator" });
    let call =
        |token: String| it.server.anonymous("POST", &path("shop", &claim)).token(&token).json(&body).send();
    call(it.server.token_of(admin, &[Scope::AppAdmin], None).await).await.problem("forbidden");
    call(it.server.token(&[Scope::AppAdmin], None).await).await.problem("forbidden");
    assert_eq!(it.names.asked(), 0);
    let vouched = call(it.server.token(&[Scope::AppAdmin, Scope::InstanceAdmin], None).await).await;
    assert_eq!(vouched.json()["verified_by"], "operator", "{vouched:?}");
}

#[tokio::test]
async fn wrong_hosts_and_methods_are_refused() {
    let it = Fixture::start().await;
    for bad in [
        "",
        "Shop.example",
        "a..b",
        "shop.example.org:80",
        "*.example.org",
        "http://x",
        "127.0.0.1",
        "localhost",
        "victim.localhost",
    ] {
        it.post(DOMAINS, &json!({ "domain": bad })).await.problem("invalid");
    }
    let claim = it.claim("demo", HOST).await;
    it.post(&path("demo", &claim), &json!({ "method": "trust" })).await.problem("invalid");
    it.post(&path("demo", &claim), &json!({ "proved": true })).await.problem("invalid");
    // With the label of its record it is too long for DNS, which is no reason to fail in another way.
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let claim = it.claim("demo", &long).await;
    it.verify("demo", &claim).await.problem("domain_unproven");
    assert_eq!(it.names.asked(), 0);
}

#[tokio::test]
async fn a_host_goes_with_its_claim() {
    let it = Fixture::start().await;
    let claim = it.claim("demo", HOST).await;
    let id = claim["id"].as_str().unwrap();
    let delete = |app: &str| it.server.call("DELETE", &format!("/api/v1/apps/{app}/domains/{id}")).send();
    delete("other").await.problem("not_found");
    assert_eq!(delete("demo").await.status, 204);
    assert_eq!(it.server.get(DOMAINS).await.items("domain"), [""; 0]);
}
