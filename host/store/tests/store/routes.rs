//! Routes.

use picloud_core::{AppId, Method, MethodSet, RouteId};
use picloud_store::{NewRoute, PutRoute, Route, Store, StoreError};

use crate::fixture::{app_name, script_name, upload, with_app};

fn route(methods: &[Method], pattern: &str, script: &str) -> NewRoute {
    NewRoute::new(methods.iter().copied().collect(), pattern.parse().unwrap(), script_name(script))
}

async fn with_scripts() -> (Store, AppId) {
    let (store, app) = with_app().await;
    upload(&store, app, "one", "1", &[]).await;
    upload(&store, app, "two", "2", &[]).await;
    (store, app)
}

async fn create(store: &Store, app: AppId, new: &NewRoute) -> Route {
    match store.put_route(app, new).await.unwrap() {
        PutRoute::Created(route) => route,
        PutRoute::Replaced(route) => panic!("replaced {route:?}"),
    }
}

#[tokio::test]
async fn a_route_keeps_what_it_was_given() {
    let (store, app) = with_scripts().await;
    let new = route(&[Method::Get, Method::Post], "/users/:id/*rest", "one");
    let made = create(&store, app, &new).await;
    assert_eq!((made.methods, &made.pattern, &made.target), (new.methods, &new.pattern, &new.target));
    assert_eq!(store.route(app, made.id).await.unwrap(), Some(made.clone()));
    assert_eq!(store.routes(app).await.unwrap(), [made]);
}

#[tokio::test]
async fn two_routes_of_the_same_paths_share_no_method() {
    let (store, app) = with_scripts().await;
    create(&store, app, &route(&[Method::Get], "/users/:id", "one")).await;
    // Another method, another path, a literal that looks like a parameter's rest: all free.
    create(&store, app, &route(&[Method::Post], "/users/:name", "one")).await;
    create(&store, app, &route(&[Method::Get], "/users/:id/", "one")).await;
    create(&store, app, &route(&[Method::Get], "/users/a:id", "one")).await;
    create(&store, app, &route(&[Method::Get], "/users/*id", "one")).await;
    let overlap = store.put_route(app, &route(&[Method::Get, Method::Put], "/users/:other", "two")).await;
    let Err(StoreError::RouteOverlaps { route: taken }) = overlap else { panic!("{overlap:?}") };
    assert_eq!(
        (taken.to_string().as_str(), taken.target.script().unwrap().as_str()),
        ("GET /users/:id", "one")
    );
    assert_eq!(store.routes(app).await.unwrap().len(), 5);
}

#[tokio::test]
async fn putting_the_same_paths_and_methods_replaces() {
    let (store, app) = with_scripts().await;
    let first = create(&store, app, &route(&[Method::Get], "/users/:id", "one")).await;
    let put = store.put_route(app, &route(&[Method::Get], "/users/:name", "two")).await.unwrap();
    let PutRoute::Replaced(second) = put else { panic!("created a second one") };
    assert_eq!((second.id, second.target.script().unwrap().as_str()), (first.id, "two"));
    assert_eq!(store.routes(app).await.unwrap(), [second]);
}

#[tokio::test]
async fn routes_that_overlap_are_refused_also_at_the_same_moment() {
    let (store, app) = with_scripts().await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            let other = if number % 2 == 0 { Method::Put } else { Method::Patch };
            tokio::spawn(
                async move { store.put_route(app, &route(&[Method::Get, other], "/:a", "one")).await },
            )
        })
        .collect();
    for task in tasks {
        // One of the two shapes wins; those of the other are refused.
        let put = task.await.unwrap();
        assert!(matches!(put, Ok(_) | Err(StoreError::RouteOverlaps { .. })), "{put:?}");
    }
    assert_eq!(store.routes(app).await.unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_routes_are_refused() {
    let (store, app) = with_scripts().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let none = NewRoute { methods: MethodSet::default(), ..route(&[], "/a", "one") };
    assert!(matches!(store.put_route(app, &none).await, Err(StoreError::Invalid(_))));
    let missing = store.put_route(app, &route(&[Method::Get], "/a", "three")).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "script" })));
    let foreign = store.put_route(other, &route(&[Method::Get], "/a", "one")).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { what: "script" })));
    let nobody = store.put_route(AppId::generate(), &route(&[Method::Get], "/a", "one")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "app" })));
}

#[tokio::test]
async fn a_route_is_deleted_by_its_own_app_only() {
    let (store, app) = with_scripts().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let made = create(&store, app, &route(&[Method::Get], "/a", "one")).await;
    assert!(matches!(store.delete_route(other, made.id).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.route(other, made.id).await.unwrap(), None);
    store.delete_route(app, made.id).await.unwrap();
    let again = store.delete_route(app, RouteId::generate()).await;
    assert!(matches!(again, Err(StoreError::NotFound { what: "route" })));
}
