//! Hosts of apps: claims, and which of them are served.

use picloud_core::{AppId, DomainChallenge, DomainId, ProofMethod};
use picloud_store::{DomainCheck, StoreError};

use crate::fixture::{app_name, claim, domain, with_app};

const TAKEN: StoreError = StoreError::AlreadyExists { what: "domain" };

fn is_taken<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(error) if error.to_string() == TAKEN.to_string())
}

#[tokio::test]
async fn several_apps_claim_a_host_and_one_is_served() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let mine = claim(&store, app, "www.example.org", 1).await.unwrap();
    let theirs = claim(&store, other, "www.example.org", 2).await.unwrap();
    assert!(is_taken(&claim(&store, app, "www.example.org", 3).await), "claimed twice by one app");
    assert_eq!(mine.challenge, DomainChallenge::from_random([1; 16]));
    assert_eq!((&mine.verified, store.domains(app).await.unwrap()), (&None, vec![mine.clone()]));
    for app in [app, other] {
        assert!(store.directory_of(app).await.unwrap().unwrap().domains.is_empty(), "a claim is not served");
    }

    let proved = store.verify_domain(app, mine.id, ProofMethod::Dns).await.unwrap();
    assert_eq!(proved.verified.map(|(_, method)| method), Some(ProofMethod::Dns));
    assert_eq!(store.directory_of(app).await.unwrap().unwrap().domains, std::slice::from_ref(&mine.name));
    assert!(is_taken(&store.verify_domain(other, theirs.id, ProofMethod::Operator).await));
    assert!(store.directory_of(other).await.unwrap().unwrap().domains.is_empty());
    let third = store.create_app(&app_name("third")).await.unwrap().id;
    assert!(is_taken(&claim(&store, third, "www.example.org", 4).await), "it is served for another app");
    let again = store.verify_domain(app, mine.id, ProofMethod::Operator).await.unwrap();
    assert_eq!(again, proved, "proved once, it stays so");

    store.delete_domain(app, mine.id).await.unwrap();
    store.verify_domain(other, theirs.id, ProofMethod::Dns).await.unwrap();
    assert_eq!(store.directory_of(other).await.unwrap().unwrap().domains, [theirs.name]);
}

#[tokio::test]
async fn two_proofs_at_once_serve_one_app() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let mine = claim(&store, app, "www.example.org", 1).await.unwrap().id;
    let theirs = claim(&store, other, "www.example.org", 2).await.unwrap().id;
    let outcomes = tokio::join!(
        store.verify_domain(app, mine, ProofMethod::Dns),
        store.verify_domain(other, theirs, ProofMethod::Dns)
    );
    let (one, two) = (is_taken(&outcomes.0), is_taken(&outcomes.1));
    assert!(one != two && (outcomes.0.is_ok() || outcomes.1.is_ok()), "{outcomes:?}");
}

#[tokio::test]
async fn a_proof_is_not_looked_for_all_the_time() {
    let (store, app) = with_app().await;
    let claimed = claim(&store, app, "www.example.org", 1).await.unwrap();
    let check = || store.begin_domain_check(app, claimed.id);
    assert_eq!(check().await.unwrap(), DomainCheck::Due(claimed.clone()));
    assert_eq!(check().await.unwrap(), DomainCheck::TooSoon);
}

#[tokio::test]
async fn a_domain_of_another_app_is_none() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let domain = domain(&store, app, "www.example.org").await;
    let missing = |outcome: Result<(), StoreError>| {
        assert!(matches!(outcome, Err(StoreError::NotFound { what: "domain" })), "{outcome:?}");
    };
    for (app, id) in [(other, domain.id), (app, DomainId::generate())] {
        missing(store.delete_domain(app, id).await);
        missing(store.begin_domain_check(app, id).await.map(drop));
        missing(store.verify_domain(app, id, ProofMethod::Operator).await.map(drop));
    }
    let nobody = claim(&store, AppId::generate(), "a.org", 1).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "app" })));
    assert_eq!(store.domains(app).await.unwrap(), [domain]);
}

#[tokio::test]
async fn an_app_has_at_most_a_hundred_domains() {
    let (store, app) = with_app().await;
    for number in 0..100 {
        claim(&store, app, &format!("d{number}.example"), number).await.unwrap();
    }
    let refused = claim(&store, app, "d100.example", 100).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("at most 100")),
        "{refused:?}"
    );
    assert_eq!(store.domains(app).await.unwrap().len(), 100);
}
