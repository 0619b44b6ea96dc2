//! Principals and tokens.

use picloud_core::{AppId, AppRole, InstanceRole, PrincipalId, PrincipalName, Scope, TokenId};
use picloud_store::{
    Bundle, BundleTarget, NewOwner, NewPrincipal, NewToken, PrincipalChange, PrincipalKind, Store,
    StoreError, TokenHash,
    testing::{self, TestDatabase},
};
use time::{Duration, OffsetDateTime};

fn owner(secret: &str) -> NewOwner {
    NewOwner { name: PrincipalName::new("owner").unwrap(), token: token(secret) }
}

fn token(secret: &str) -> NewToken {
    NewToken {
        name: "laptop".to_owned(),
        hash: TokenHash::of(secret),
        scopes: Scope::ALL.to_vec(),
        app: None,
        expires_at: None,
    }
}

async fn owner_of(store: &Store) -> PrincipalId {
    store.create_first_owner(&owner("first")).await.unwrap().unwrap().id
}

#[tokio::test]
async fn of_many_processes_one_makes_the_first_owner() {
    let store = testing::store().await;
    assert_eq!(store.first_owner().await.unwrap(), None);
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.create_first_owner(&owner(&number.to_string())).await.unwrap() })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        made.extend(task.await.unwrap());
    }
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].role, made[0].kind), (InstanceRole::Owner, PrincipalKind::User));
    assert_eq!(store.first_owner().await.unwrap().as_ref(), made.first());
    assert_eq!(store.principal(made[0].id).await.unwrap().as_ref(), made.first());
    assert_eq!(store.tokens(made[0].id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_stands_for_its_principal_until_it_is_revoked() {
    let store = testing::store().await;
    let owner = owner_of(&store).await;
    let grant = store.authenticate(TokenHash::of("first")).await.unwrap().unwrap();
    assert_eq!((grant.principal.id, grant.scopes.as_slice()), (owner, Scope::ALL));
    assert_eq!(store.authenticate(TokenHash::of("other")).await.unwrap(), None);
    store.revoke_token(grant.token).await.unwrap();
    assert_eq!(store.authenticate(TokenHash::of("first")).await.unwrap(), None);
    let again = store.revoke_token(grant.token).await;
    assert!(matches!(again, Err(StoreError::NotFound { what: "token" })));
}

#[tokio::test]
async fn an_expired_token_and_a_disabled_principal_are_nobody() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let owner = owner_of(&store).await;
    let expires_at = Some(OffsetDateTime::now_utc() - Duration::seconds(1));
    store.create_token(owner, &NewToken { expires_at, ..token("old") }).await.unwrap();
    assert_eq!(store.authenticate(TokenHash::of("old")).await.unwrap(), None);
    database.execute("UPDATE principals SET disabled_at = now()").await;
    assert_eq!(store.authenticate(TokenHash::of("first")).await.unwrap(), None);
}

#[tokio::test]
async fn use_is_noted_once_a_minute() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let owner = owner_of(&store).await;
    let used = || async { store.tokens(owner).await.unwrap()[0].last_used_at };
    assert_eq!(used().await, None);
    store.authenticate(TokenHash::of("first")).await.unwrap().unwrap();
    let first = used().await.unwrap();
    store.authenticate(TokenHash::of("first")).await.unwrap().unwrap();
    assert_eq!(used().await, Some(first));
    database.execute("UPDATE tokens SET last_used_at = now() - interval '61 seconds'").await;
    store.authenticate(TokenHash::of("first")).await.unwrap().unwrap();
    assert!(used().await.unwrap() >= first);
}

#[tokio::test]
async fn whoever_makes_an_app_can_be_its_first_member() {
    let store = testing::store().await;
    let owner = owner_of(&store).await;
    let app = store.create_app_of(&crate::fixture::app_name("demo"), Some(owner)).await.unwrap().id;
    assert_eq!(store.role_in_app(app, owner).await.unwrap(), Some(AppRole::AppAdmin));
    let id = AppId::generate();
    let name = crate::fixture::app_name("bundled");
    let bundle = Bundle { admin: Some(owner), ..Bundle::default() };
    store.put_bundle(BundleTarget::NewApp(id, &name), bundle).await.unwrap();
    assert_eq!(store.role_in_app(id, owner).await.unwrap(), Some(AppRole::AppAdmin));
}

#[tokio::test]
async fn of_two_owners_who_demote_each_other_one_is_left() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let first = owner_of(&store).await;
    let new = NewPrincipal {
        name: PrincipalName::new("second").unwrap(),
        kind: PrincipalKind::User,
        role: InstanceRole::Owner,
    };
    let second = store.create_principal(&new).await.unwrap().id;
    let demote = |id| {
        let store = store.clone();
        async move {
            let change = PrincipalChange { role: Some(InstanceRole::Member), ..PrincipalChange::default() };
            store.change_principal(id, &change).await
        }
    };
    let (one, other) = tokio::join!(demote(first), demote(second));
    assert_eq!([one.is_ok(), other.is_ok()].into_iter().filter(|is_ok| *is_ok).count(), 1);
    let owners = "SELECT count(*) FROM principals WHERE role = 'owner' AND disabled_at IS NULL";
    assert_eq!(database.number(owners).await, 1);
}

#[tokio::test]
async fn a_password_that_was_changed_after_it_was_checked_begins_no_session() {
    let store = testing::store().await;
    let owner = owner_of(&store).await;
    let name = PrincipalName::new("owner").unwrap();
    assert!(store.sign_in_record(&name).await.unwrap().is_none());
    store.set_password_hash(owner, "$one").await.unwrap();
    let record = store.sign_in_record(&name).await.unwrap().unwrap();
    let begun = store.create_session(&record, TokenHash::of("a")).await.unwrap().unwrap();
    assert_eq!(begun.principal.id, owner);
    store.set_password_hash(owner, "$two").await.unwrap();
    assert_eq!(store.authenticate_session(TokenHash::of("a")).await.unwrap(), None);
    assert_eq!(store.create_session(&record, TokenHash::of("b")).await.unwrap(), None);
}

#[tokio::test]
async fn a_principal_has_a_bounded_number_of_sessions_and_the_oldest_go() {
    let store = testing::store().await;
    let owner = owner_of(&store).await;
    store.set_password_hash(owner, "$one").await.unwrap();
    let record = store.sign_in_record(&PrincipalName::new("owner").unwrap()).await.unwrap().unwrap();
    for number in 0..33 {
        store.create_session(&record, TokenHash::of(&number.to_string())).await.unwrap().unwrap();
    }
    let is_valid =
        async |number: &str| store.authenticate_session(TokenHash::of(number)).await.unwrap().is_some();
    assert!(!is_valid("0").await && is_valid("1").await && is_valid("32").await);
}

#[tokio::test]
async fn wrong_tokens_are_refused() {
    let store = testing::store().await;
    let owner = owner_of(&store).await;
    let wrong = [
        NewToken { scopes: Vec::new(), ..token("a") },
        NewToken { name: String::new(), ..token("a") },
        NewToken { name: "a\0".to_owned(), ..token("a") },
        NewToken { name: "a".repeat(129), ..token("a") },
    ];
    for token in wrong {
        let refused = store.create_token(owner, &token).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{token:?}");
    }
    let nobody = store.create_token(PrincipalId::generate(), &token("a")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })));
    assert!(store.revoke_token(TokenId::generate()).await.is_err());
}

#[tokio::test]
async fn a_token_of_one_app_goes_with_it() {
    let (store, app) = crate::fixture::with_app().await;
    let owner = owner_of(&store).await;
    store.create_token(owner, &NewToken { app: Some(app), ..token("app") }).await.unwrap();
    assert_eq!(store.authenticate(TokenHash::of("app")).await.unwrap().unwrap().app, Some(app));
    store.delete_app(app).await.unwrap();
    assert_eq!(store.authenticate(TokenHash::of("app")).await.unwrap(), None);
}
