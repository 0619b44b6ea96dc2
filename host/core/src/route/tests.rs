//! Patterns and their matching.

use proptest::prelude::*;

use super::*;

fn table(patterns: &[&str]) -> RouteTable<String> {
    let mut table = RouteTable::default();
    for text in patterns {
        table.insert(&text.parse().unwrap(), MethodSet::ANY, (*text).to_owned());
    }
    table
}

fn find<'a>(table: &'a RouteTable<String>, path: &str) -> Option<(&'a str, Params)> {
    let segments: Vec<&str> = path[1..].split('/').collect();
    match table.find(Method::Get, &segments) {
        RouteMatch::Found { target, params } => Some((target.as_str(), params)),
        _ => None,
    }
}

fn pairs(params: &[(&str, &str)]) -> Params {
    params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_most_specific_route_wins() {
    let table = table(&["/*all", "/users/:id", "/users/me", "/users/:id/files/*rest", "/"]);
    assert_eq!(find(&table, "/users/me"), Some(("/users/me", pairs(&[]))));
    assert_eq!(find(&table, "/users/7"), Some(("/users/:id", pairs(&[("id", "7")]))));
    assert_eq!(
        find(&table, "/users/7/files/a/b"),
        Some(("/users/:id/files/*rest", pairs(&[("id", "7"), ("rest", "a/b")])))
    );
    assert_eq!(find(&table, "/users"), Some(("/*all", pairs(&[("all", "users")]))));
    assert_eq!(find(&table, "/"), Some(("/", pairs(&[]))));
    assert_eq!(find(&table, "/users/"), Some(("/*all", pairs(&[("all", "users/")]))));
}

#[test]
fn a_trailing_slash_is_another_path() {
    let table = table(&["/a", "/b/"]);
    assert!(find(&table, "/a/").is_none());
    assert!(find(&table, "/b").is_none());
    assert!(find(&table, "//a").is_none());
}

#[test]
fn another_method_is_not_allowed_but_does_not_hide_a_match() {
    let mut table = RouteTable::default();
    let get = MethodSet::default().with(Method::Get);
    let post = MethodSet::default().with(Method::Post);
    table.insert(&"/a".parse().unwrap(), get, 1);
    table.insert(&"/:x".parse().unwrap(), post, 2);
    assert!(matches!(table.find(Method::Head, &["a"]), RouteMatch::Found { target: 1, .. }));
    assert!(matches!(table.find(Method::Post, &["a"]), RouteMatch::Found { target: 2, .. }));
    let RouteMatch::MethodNotAllowed { allowed } = table.find(Method::Put, &["a"]) else { panic!() };
    assert_eq!(allowed.allow(), "GET, HEAD, POST, OPTIONS");
    assert_eq!(table.find(Method::Get, &["b", "c"]), RouteMatch::NotFound);
}

#[test]
fn braces_in_a_new_route_are_a_mistake() {
    let error = |text: &str| RoutePattern::for_new_route(text).unwrap_err().to_string();
    assert_eq!(error("/f/{id}"), "route path contains \"{id}\"; a parameter has no braces: write :id");
    assert!(error("/f/a-{x y}").ends_with("write :id"));
    assert!(error("/f/{id}.json").ends_with("write :id"));
    for rest in ["/f/{*rest}", "/f/{rest...}", "/f/{rest}*"] {
        assert!(error(rest).ends_with("write *rest"), "{rest}");
    }
    assert!(RoutePattern::for_new_route("/f/:id").is_ok());
    assert!("/f/{id}".parse::<RoutePattern>().is_ok(), "what is stored can be read");
}

#[test]
fn wrong_patterns_are_refused() {
    for bad in ["", "a", "/@x", "/a/*r/b", "/:", "/:a-b", "/:a/:a", "/..", "/a%20b", "/a?b", "/\0"] {
        assert!(bad.parse::<RoutePattern>().is_err(), "{bad:?}");
    }
    assert!("/a".repeat(33).parse::<RoutePattern>().is_err());
}

proptest! {
    #[test]
    fn patterns_round_trip_and_match_their_own_text(
        parts in prop::collection::vec("[a-z]{1,4}|:[a-z]{1,3}", 0..6)
    ) {
        let mut seen = std::collections::HashSet::new();
        prop_assume!(parts.iter().filter(|part| part.starts_with(':')).all(|part| seen.insert(part.clone())));
        let text = format!("/{}", parts.join("/"));
        let pattern: RoutePattern = text.parse().unwrap();
        prop_assert_eq!(pattern.to_string(), text.clone());
        let mut table = RouteTable::default();
        table.insert(&pattern, MethodSet::ANY, text.clone());
        let path = text.replace(':', "x");
        let found = find(&table, &path);
        prop_assert_eq!(found.map(|(target, _)| target.to_owned()), Some(text));
    }
}
