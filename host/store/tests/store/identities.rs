//! Links of principals to accounts of an issuer.

use picloud_core::{InstanceRole, PrincipalId, PrincipalName};
use picloud_store::{
    IssuedIdentity, IssuedSignIn, NewPrincipal, PrincipalKind, Store, StoreError, TokenHash, testing,
};

fn identity(subject: &str, email: &str) -> IssuedIdentity {
    IssuedIdentity { issuer: "https://e.org".into(), subject: subject.into(), email: email.into() }
}

async fn principal(store: &Store, name: &str, kind: PrincipalKind) -> PrincipalId {
    let new = NewPrincipal { name: PrincipalName::new(name).unwrap(), kind, role: InstanceRole::Member };
    store.create_principal(&new).await.unwrap().id
}

async fn sign_in(store: &Store, identity: &IssuedIdentity, names: &[&str], secret: &str) -> Option<String> {
    let names: Vec<_> = names.iter().map(|name| PrincipalName::new(*name).unwrap()).collect();
    match store.sign_in_issued(identity, &names, TokenHash::of(secret)).await.unwrap() {
        IssuedSignIn::Granted(grant) => {
            let found = store.authenticate_session(TokenHash::of(secret)).await.unwrap().unwrap();
            assert_eq!(found, grant);
            Some(grant.principal.name.to_string())
        }
        IssuedSignIn::Unknown => None,
        IssuedSignIn::Disabled(principal) => panic!("{principal:?} is disabled"),
    }
}

#[tokio::test]
async fn a_link_is_used_up_by_the_first_account() {
    let store = testing::store().await;
    let ada = principal(&store, "ada", PrincipalKind::User).await;
    assert_eq!(sign_in(&store, &identity("1", "ada@e.org"), &[], "a").await, None);
    let link = store.link_identity(ada, "ada@e.org").await.unwrap();
    assert_eq!(link.bound, None);
    let twice = store.link_identity(ada, "ada@e.org").await;
    assert!(matches!(twice, Err(StoreError::AlreadyExists { .. })), "{twice:?}");
    assert_eq!(sign_in(&store, &identity("1", "ada@e.org"), &[], "b").await.as_deref(), Some("ada"));
    assert_eq!(sign_in(&store, &identity("2", "ada@e.org"), &[], "c").await, None);
    let other_issuer = IssuedIdentity { issuer: "https://f.org".into(), ..identity("1", "ada@e.org") };
    assert_eq!(sign_in(&store, &other_issuer, &[], "c").await, None);
    // The address is free again, for a second account of the same user.
    store.link_identity(ada, "ada@e.org").await.unwrap();
    assert_eq!(sign_in(&store, &identity("2", "ada@e.org"), &[], "c").await.as_deref(), Some("ada"));
    let bound: Vec<_> =
        store.identities(ada).await.unwrap().into_iter().map(|link| link.bound.unwrap().1).collect();
    assert_eq!(bound, ["1", "2"]);
    store.unlink_identity(ada, link.id).await.unwrap();
    assert_eq!(store.authenticate_session(TokenHash::of("c")).await.unwrap(), None, "sessions end");
    assert_eq!(sign_in(&store, &identity("1", "ada@e.org"), &[], "d").await, None);
}

#[tokio::test]
async fn a_link_is_for_users_and_bounded_in_number() {
    let store = testing::store().await;
    let bot = principal(&store, "bot", PrincipalKind::Service).await;
    assert!(matches!(store.link_identity(bot, "bot@e.org").await, Err(StoreError::Invalid(_))));
    let nobody = store.link_identity(PrincipalId::generate(), "x@e.org").await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })), "{nobody:?}");
    let ada = principal(&store, "ada", PrincipalKind::User).await;
    for number in 0..16 {
        store.link_identity(ada, &format!("ada{number}@e.org")).await.unwrap();
    }
    assert!(matches!(store.link_identity(ada, "more@e.org").await, Err(StoreError::Invalid(_))));
    let bob = principal(&store, "bob", PrincipalKind::User).await;
    let id = store.identities(ada).await.unwrap()[0].id;
    let foreign = store.unlink_identity(bob, id).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })), "{foreign:?}");
}

#[tokio::test]
async fn nobody_is_made_under_a_name_that_is_taken() {
    let store = testing::store().await;
    let ada = principal(&store, "ada", PrincipalKind::User).await;
    assert_eq!(sign_in(&store, &identity("1", "ada@e.org"), &["ada"], "a").await, None);
    let made = sign_in(&store, &identity("1", "ada@e.org"), &["ada", "ada-2"], "a").await;
    assert_eq!(made.as_deref(), Some("ada-2"));
    assert_eq!(sign_in(&store, &identity("1", "new@e.org"), &[], "b").await.as_deref(), Some("ada-2"));
    assert!(store.identities(ada).await.unwrap().is_empty());
}
