//! Signed requests.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use picloud_core::{MethodSet, Node as _, RouteAccess, RouteId, SignatureScheme};
use picloud_store::SigningKey;
use sha2::Sha256;
use time::OffsetDateTime;

use crate::{
    client::Answer,
    platform::{Platform, request, until},
};

const KEY: &str = "pcs_0123456789abcdef0123456789abcdef";
const BODY: &str = "{\"order\": 7}";

async fn signed_route() -> (Platform, RouteId) {
    let platform = Platform::with(|config| config.slots = 1).await;
    let hmac = |route: &mut picloud_store::NewRoute| route.access = Some(RouteAccess::Hmac);
    let id = platform.guarded_route(MethodSet::ANY, "/hook", "echo", hmac).await;
    (platform, id)
}

async fn give_key(platform: &Platform, route: RouteId, key: &str) {
    let key = SigningKey::from_text(key);
    platform.store.add_signing_key(platform.demo, route, &key, Duration::from_mins(1)).await.unwrap();
    platform.node.app_changed(platform.demo).await;
}

/// `ago` keeps signatures of one body apart.
fn signature(key: &str, ago: i64, body: &str) -> String {
    let time = OffsetDateTime::now_utc().unix_timestamp() - ago;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    format!("t={time},v1={:x}", mac.finalize().into_bytes())
}

async fn send(platform: &Platform, signatures: &[&str], body: &str) -> Answer {
    platform.raw(signed_post(signatures, body)).await
}

fn signed_post(signatures: &[&str], body: &str) -> String {
    let length = body.len().to_string();
    let mut headers: Vec<_> = signatures.iter().map(|value| ("picloud-signature", *value)).collect();
    headers.push(("content-length", &length));
    request("POST", "/hook", &headers) + body
}

#[tokio::test]
async fn a_signed_request_is_taken_once() {
    let (platform, route) = signed_route().await;
    let early = signature(KEY, 1, BODY);
    send(&platform, &[&early], BODY).await.assert_problem(401, "unauthenticated");
    give_key(&platform, route, KEY).await;
    let value = signature(KEY, 2, BODY);
    let taken = send(&platform, &[&value], BODY).await;
    assert_eq!(taken.json()["body"], BODY);
    let again = send(&platform, &[&value], BODY).await;
    again.assert_problem(401, "unauthenticated");
    assert!(again.text().contains("was used before"), "{}", again.text());
    assert_eq!(again.header("www-authenticate"), Some("PiCloud-Signature realm=\"picloud\""));
    assert_eq!(platform.executions().await, 1);
}

#[tokio::test]
async fn what_is_not_signed_as_it_is_runs_nothing() {
    let (platform, route) = signed_route().await;
    give_key(&platform, route, KEY).await;
    let good = signature(KEY, 3, BODY);
    let changed = BODY.replace('7', "8");
    let cut = &good[..good.len() - 1];
    let base64 =
        format!("{},v1=a+LRHNnibr7Tvhof+YzqmtZPSPJaFew+9LCsWrLRHEo=", good.split(',').next().unwrap());
    for (values, body, problem) in [
        (vec![], BODY, "needs a signature"),
        (vec![good.as_str(), good.as_str()], BODY, "two picloud-signature headers"),
        (vec![good.as_str()], changed.as_str(), "not one of this body"),
        (vec![good.as_str()], "", "not one of this body"),
        (vec![&signature("pcs_another_key_of_length", 3, BODY)], BODY, "not one of this body"),
        (vec![&signature(KEY, 400, BODY)], BODY, "more than 300 seconds"),
        (vec![&signature(KEY, -400, BODY)], BODY, "more than 300 seconds"),
        (vec![cut], BODY, "is not t=SECONDS"),
        (vec![base64.as_str()], BODY, "is not t=SECONDS"),
        (vec![""], BODY, "is not t=SECONDS"),
    ] {
        let refused = send(&platform, &values, body).await;
        refused.assert_problem(401, "unauthenticated");
        assert!(refused.text().contains(problem), "{problem}: {}", refused.text());
        assert!(!refused.text().contains(KEY));
    }
    // A token of the platform is no signature.
    let (token, _) = platform.token(|_| {}).await;
    let bearer = format!("Bearer {token}");
    platform.ask("GET", "/hook", &[("authorization", &bearer)]).await.assert_problem(401, "unauthenticated");
    let metrics = platform.node.metrics();
    assert!(metrics.contains("picloud_access_refusals_total{reason=\"signature\"} 11"), "{metrics}");
    assert_eq!(platform.executions().await, 0);
}

#[tokio::test]
async fn a_new_key_works_beside_the_old_one_until_that_ends() {
    let (platform, route) = signed_route().await;
    give_key(&platform, route, KEY).await;
    let new = "pcs_fedcba9876543210fedcba9876543210";
    give_key(&platform, route, new).await;
    for (ago, key) in [(1, KEY), (2, new)] {
        assert_eq!(send(&platform, &[&signature(key, ago, BODY)], BODY).await.status, 200, "{key}");
    }
    let both = format!("{},{}", signature(KEY, 3, BODY), signature(new, 3, BODY).split(',').nth(1).unwrap());
    assert_eq!(send(&platform, &[&both], BODY).await.status, 200);
    let key = SigningKey::from_text(new);
    platform.store.add_signing_key(platform.demo, route, &key, Duration::ZERO).await.unwrap();
    platform.node.app_changed(platform.demo).await;
    send(&platform, &[&signature(KEY, 4, BODY)], BODY).await.assert_problem(401, "unauthenticated");
    assert_eq!(send(&platform, &[&signature(new, 5, BODY)], BODY).await.status, 200);
}

#[tokio::test]
async fn a_key_of_one_route_signs_for_no_other() {
    let (platform, route) = signed_route().await;
    give_key(&platform, route, KEY).await;
    let hmac = |route: &mut picloud_store::NewRoute| route.access = Some(RouteAccess::Hmac);
    let other = platform.guarded_route(MethodSet::ANY, "/other", "echo", hmac).await;
    give_key(&platform, other, "pcs_fedcba9876543210fedcba9876543210").await;
    let empty = signature(KEY, 1, "");
    let refused = platform.ask("GET", "/other", &[("picloud-signature", &empty)]).await;
    refused.assert_problem(401, "unauthenticated");
    assert_eq!(platform.ask("GET", "/hook", &[("picloud-signature", &empty)]).await.status, 200);
}

#[tokio::test]
async fn a_signature_whose_request_was_refused_for_load_can_come_again() {
    let (platform, route) = signed_route().await;
    give_key(&platform, route, KEY).await;
    let mut holder = platform.client().await;
    holder.send("GET /hold HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    until(|| platform.node.status().running == 1).await;
    let value = signature(KEY, 1, BODY);
    let mut waiter = platform.client().await;
    waiter.send(signed_post(&[&value], BODY)).await;
    until(|| platform.node.status().waiting == 1).await;
    // While it waits it is in use; when its client goes away it is not.
    send(&platform, &[&value], BODY).await.assert_problem(401, "unauthenticated");
    drop(waiter);
    until(|| platform.node.status().waiting == 0).await;
    platform.scripts.release.add_permits(1);
    assert_eq!(send(&platform, &[&value], BODY).await.status, 200);
}

/// What GitHub sends, and sends again in the same form when its first attempt failed.
#[tokio::test]
async fn a_route_takes_the_signatures_of_the_sender_that_it_names_and_of_no_other() {
    let platform = Platform::with(|config| config.slots = 1).await;
    let github = |route: &mut picloud_store::NewRoute| {
        route.access = Some(RouteAccess::Hmac);
        route.signature = Some(SignatureScheme::Github);
    };
    let route = platform.guarded_route(MethodSet::ANY, "/github", "echo", github).await;
    give_key(&platform, route, KEY).await;
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(BODY.as_bytes());
    let value = format!("sha256={:x}", mac.finalize().into_bytes());
    let length = BODY.len().to_string();
    let post = |header: &str, value: &str| {
        request("POST", "/github", &[(header, value), ("content-length", &length)]) + BODY
    };
    for _ in 0..2 {
        let taken = platform.raw(post("x-hub-signature-256", &value)).await;
        assert_eq!(taken.json()["body"], BODY);
    }
    let of_platform = platform.raw(post("picloud-signature", &signature(KEY, 1, BODY))).await;
    of_platform.assert_problem(401, "unauthenticated");
    assert!(of_platform.text().contains("x-hub-signature-256: sha256=HEX"), "{}", of_platform.text());
    let changed = platform.raw(post("x-hub-signature-256", &value).replace("7}", "8}")).await;
    changed.assert_problem(401, "unauthenticated");
    assert_eq!(platform.executions().await, 2);
}
