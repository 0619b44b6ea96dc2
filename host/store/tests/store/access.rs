//! Who may call an app's endpoints.

use std::time::Duration;

use picloud_core::{
    AccessPatch, AccessSettings, AppId, Capability, Change, MethodSet, PrincipalId, PrincipalName, RateLimit,
    RouteAccess, RouteId, Scope, SignatureScheme,
};
use picloud_store::{
    Bundle, BundleTarget, Lack, NewOwner, NewRoute, NewToken, PutRoute, Route, RoutePatch, SigningKey, Store,
    StoreError, TokenHash, testing::TestDatabase,
};
use time::OffsetDateTime;

use crate::fixture::{app_name, script_name, upload, with_app};

fn patch(json: &str) -> AccessPatch {
    serde_json::from_str(json).unwrap()
}

fn rate(text: &str) -> RateLimit {
    text.parse().unwrap()
}

fn new_route(access: Option<RouteAccess>) -> NewRoute {
    NewRoute { access, ..NewRoute::new(MethodSet::ANY, "/hook".parse().unwrap(), script_name("hook")) }
}

async fn put(store: &Store, app: AppId, route: &NewRoute) -> Route {
    let (PutRoute::Created(route) | PutRoute::Replaced(route)) = store.put_route(app, route).await.unwrap();
    route
}

async fn with_route(access: RouteAccess) -> (Store, AppId, RouteId) {
    let (store, app) = with_app().await;
    upload(&store, app, "hook", "1", &[]).await;
    let route = put(&store, app, &new_route(Some(access))).await;
    (store, app, route.id)
}

#[tokio::test]
async fn settings_are_replaced_by_name_and_reach_the_directory() {
    let (store, app) = with_app().await;
    assert_eq!(store.access_settings(app).await.unwrap(), AccessSettings::default());
    let first = patch(
        r#"{"cors":{"origins":["https://a.example"]},"deny_ips":["10.0.0.0/8"],"rate_limit":{"requests":5,"seconds":1}}"#,
    );
    store.patch_access(app, &first).await.unwrap();
    let second = store.patch_access(app, &patch(r#"{"development":true,"cors":null}"#)).await.unwrap();
    assert!(second.development && second.cors.is_none() && second.rate_limit == Some(rate("5/s")));
    assert_eq!(store.access_settings(app).await.unwrap(), second);
    assert_eq!(store.directory_of(app).await.unwrap().unwrap().access, second);
    let missing = store.patch_access(AppId::generate(), &first).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "app" })));
}

#[tokio::test]
async fn a_route_is_not_opened_by_saying_nothing() {
    let (store, app, id) = with_route(RouteAccess::Token).await;
    let again = put(&store, app, &new_route(None)).await;
    assert_eq!((again.id, again.access), (id, RouteAccess::Token));
    // With other methods and another name of its parameter it is in its place all the same.
    let methods = MethodSet::default().with(picloud_core::Method::Get).with(picloud_core::Method::Post);
    let bundle = Bundle { routes: Some(&[NewRoute { methods, ..new_route(None) }]), ..Bundle::default() };
    store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
    assert_eq!(store.routes(app).await.unwrap()[0].access, RouteAccess::Token);
    let bundle = Bundle { routes: Some(&[new_route(Some(RouteAccess::Token))]), ..Bundle::default() };
    store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
    let id = store.routes(app).await.unwrap()[0].id;
    let bundle = Bundle { routes: Some(&[new_route(None)]), ..Bundle::default() };
    store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
    assert_eq!(store.route(app, id).await.unwrap().unwrap().access, RouteAccess::Token);
    let opened = put(&store, app, &new_route(Some(RouteAccess::Public))).await;
    assert_eq!(opened.access, RouteAccess::Public);
}

#[tokio::test]
async fn a_patch_of_a_route_changes_what_it_names() {
    let (store, app, id) = with_route(RouteAccess::Public).await;
    upload(&store, app, "other", "2", &[]).await;
    let limits = RoutePatch {
        rate_limit: Change::Set(rate("9/min")),
        client_rate_limit: Change::Set(rate("2/10s")),
        ..RoutePatch::default()
    };
    let limited = store.patch_route(app, id, &limits).await.unwrap();
    assert_eq!((limited.rate_limit, limited.client_rate_limit), (Some(rate("9/min")), Some(rate("2/10s"))));
    let other = RoutePatch {
        target: Some(script_name("other").into()),
        access: Some(RouteAccess::Hmac),
        client_rate_limit: Change::Remove,
        ..RoutePatch::default()
    };
    let changed = store.patch_route(app, id, &other).await.unwrap();
    assert_eq!((changed.target.script().unwrap().as_str(), changed.access), ("other", RouteAccess::Hmac));
    assert_eq!((changed.rate_limit, changed.client_rate_limit), (Some(rate("9/min")), None));
    assert_eq!(store.routes(app).await.unwrap(), [changed]);
    let in_directory = store.directory_of(app).await.unwrap().unwrap().routes.remove(0);
    assert_eq!((in_directory.access, in_directory.rate_limit), (RouteAccess::Hmac, Some(rate("9/min"))));

    let elsewhere = store.create_app(&app_name("other")).await.unwrap().id;
    let foreign = store.patch_route(elsewhere, id, &RoutePatch::default()).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { what: "route" })));
    let no_script = RoutePatch { target: Some(script_name("none").into()), ..RoutePatch::default() };
    let refused = store.patch_route(app, id, &no_script).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "script" })));
}

#[tokio::test]
async fn how_callers_sign_stays_as_long_as_nothing_is_said_of_it() {
    let (store, app, id) = with_route(RouteAccess::Hmac).await;
    let scheme = |text: &str| Some(text.parse::<SignatureScheme>().unwrap());
    let signature = async || store.routes(app).await.unwrap()[0].signature.to_string();
    assert_eq!(signature().await, "picloud");
    put(&store, app, &NewRoute { signature: scheme("github"), ..new_route(None) }).await;
    put(&store, app, &new_route(None)).await;
    assert_eq!(signature().await, "github");
    let own = RoutePatch { signature: scheme("generic:x-a"), ..RoutePatch::default() };
    assert_eq!(store.patch_route(app, id, &own).await.unwrap().signature.to_string(), "generic:x-a");
    let in_directory = store.directory_of(app).await.unwrap().unwrap().routes.remove(0);
    assert_eq!(in_directory.signature.header(), "x-a");
    // With other methods it is another route, in the place of the one before.
    let methods = MethodSet::default().with(picloud_core::Method::Post);
    for access in [None, Some(RouteAccess::Hmac)] {
        let methods = if access.is_some() { MethodSet::ANY } else { methods };
        let bundle =
            Bundle { routes: Some(&[NewRoute { methods, ..new_route(access) }]), ..Bundle::default() };
        store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
        assert_eq!(signature().await, "generic:x-a");
    }
}

#[tokio::test]
async fn a_signature_is_asked_for_only_with_hmac() {
    let (store, app, id) = with_route(RouteAccess::Token).await;
    let signed = |access| NewRoute { signature: Some(SignatureScheme::Github), ..new_route(access) };
    for access in [None, Some(RouteAccess::Token), Some(RouteAccess::Public)] {
        let refused = store.put_route(app, &signed(access)).await.unwrap_err();
        assert!(refused.to_string().contains("only a route with hmac has a signature"), "{refused}");
    }
    let patch = RoutePatch { signature: Some(SignatureScheme::Slack), ..RoutePatch::default() };
    assert!(matches!(store.patch_route(app, id, &patch).await, Err(StoreError::Invalid(_))));
    let route = store.route(app, id).await.unwrap().unwrap();
    assert_eq!((route.access, route.signature), (RouteAccess::Token, SignatureScheme::Picloud));
    let made = put(&store, app, &signed(Some(RouteAccess::Hmac))).await;
    assert_eq!((made.access, made.signature), (RouteAccess::Hmac, SignatureScheme::Github));
}

#[tokio::test]
async fn two_keys_are_good_at_a_time_and_only_the_newest_for_ever() {
    let (store, app, id) = with_route(RouteAccess::Hmac).await;
    let add = async |text: &str, keep: u64| {
        let key = SigningKey::from_text(format!("pcs_{text:0>16}"));
        store.add_signing_key(app, id, &key, Duration::from_secs(keep)).await.unwrap()
    };
    let keys = async || {
        let route = store.directory_of(app).await.unwrap().unwrap().routes.remove(0);
        let shown = store.route(app, id).await.unwrap().unwrap().signing_keys;
        assert_eq!(shown.len(), route.keys.len());
        let last = |key: &picloud_store::RouteKey| key.key.reveal().chars().last().unwrap();
        route.keys.iter().map(|key| (last(key), key.expires_at.is_some())).collect::<Vec<_>>()
    };
    assert!(keys().await.is_empty());
    add("1", 60).await;
    assert_eq!(keys().await, [('1', false)]);
    add("2", 60).await;
    assert_eq!(keys().await, [('2', false), ('1', true)]);
    add("3", 60).await;
    assert_eq!(keys().await, [('3', false), ('2', true)]);
    add("4", 0).await;
    assert_eq!(keys().await, [('4', false)]);
    // A deployment of the same routes keeps it.
    let bundle = Bundle { routes: Some(&[new_route(None)]), ..Bundle::default() };
    store.put_bundle(BundleTarget::App(app), bundle).await.unwrap();
    assert_eq!(keys().await, [('4', false)]);
    assert_eq!(format!("{:?}", SigningKey::from_text("secret")), "SigningKey(..)");
}

#[tokio::test]
async fn keys_are_for_signed_routes_of_the_own_app() {
    let (store, app, id) = with_route(RouteAccess::Token).await;
    let key = SigningKey::from_text("pcs_0123456789abcdef");
    let refused = store.add_signing_key(app, id, &key, Duration::ZERO).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("only a route with hmac")));
    let elsewhere = store.create_app(&app_name("other")).await.unwrap().id;
    for (app, id) in [(elsewhere, id), (app, RouteId::generate())] {
        let refused = store.add_signing_key(app, id, &key, Duration::ZERO).await;
        assert!(matches!(refused, Err(StoreError::NotFound { what: "route" })));
    }
}

/// A store with an app, an owner, and somebody who is no owner.
async fn with_people() -> (TestDatabase, Store, AppId) {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let token = NewToken {
        name: "owner's".to_owned(),
        hash: TokenHash::of("owner"),
        scopes: Scope::ALL.to_vec(),
        app: None,
        expires_at: None,
    };
    let owner = NewOwner { name: PrincipalName::new("owner").unwrap(), token };
    store.create_first_owner(&owner).await.unwrap().unwrap();
    database
        .execute(
            "INSERT INTO principals (id, name, kind, role)
            VALUES ('0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b', 'ada', 'user', 'member')",
        )
        .await;
    (database, store, app)
}

async fn give(store: &Store, principal: PrincipalId, secret: &str, change: impl FnOnce(&mut NewToken)) {
    let mut token = NewToken {
        name: "test".to_owned(),
        hash: TokenHash::of(secret),
        scopes: vec![Scope::ScriptWrite],
        app: None,
        expires_at: None,
    };
    change(&mut token);
    store.create_token(principal, &token).await.unwrap();
}

#[tokio::test]
async fn a_token_counts_by_scope_app_and_role() {
    let (database, store, app) = with_people().await;
    let ada = "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b".parse().unwrap();
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    give(&store, ada, "good", |_| {}).await;
    give(&store, ada, "reads", |token| token.scopes = vec![Scope::LogRead]).await;
    give(&store, ada, "others", |token| token.app = Some(other)).await;
    let may = async |secret: &str| {
        let caller = store.authenticate_at(TokenHash::of(secret), app).await.unwrap();
        caller.map(|caller| caller.may(Capability::AppInvoke(app)))
    };
    assert_eq!(may("owner").await, Some(Ok(())));
    assert_eq!(may("good").await, Some(Err(Lack::Role)), "no member");
    for (role, expected) in [("viewer", Err(Lack::Role)), ("editor", Ok(())), ("app_admin", Ok(()))] {
        store.put_member(app, ada, role.parse().unwrap()).await.unwrap();
        assert_eq!(may("good").await, Some(expected), "{role}");
    }
    assert_eq!(may("reads").await, Some(Err(Lack::Scope(Scope::ScriptWrite))));
    assert_eq!(may("others").await, Some(Err(Lack::App)));
    assert_eq!(may("unknown").await, None);
    store.remove_member(app, ada).await.unwrap();
    assert_eq!(may("good").await, Some(Err(Lack::Role)), "no member any more");
    database.execute("UPDATE principals SET disabled_at = now() WHERE name = 'ada'").await;
    assert_eq!(may("good").await, None);
}

#[tokio::test]
async fn an_expired_or_revoked_token_is_nobody_at_an_app() {
    let (_database, store, app) = with_people().await;
    let owner = store.first_owner().await.unwrap().unwrap().id;
    give(&store, owner, "old", |token| {
        token.expires_at = Some(OffsetDateTime::now_utc() - Duration::from_secs(1));
    })
    .await;
    assert_eq!(store.authenticate_at(TokenHash::of("old"), app).await.unwrap(), None);
    let grant = store.authenticate(TokenHash::of("owner")).await.unwrap().unwrap();
    assert!(store.authenticate_at(TokenHash::of("owner"), app).await.unwrap().is_some());
    store.revoke_token(grant.token).await.unwrap();
    assert_eq!(store.authenticate_at(TokenHash::of("owner"), app).await.unwrap(), None);
}
