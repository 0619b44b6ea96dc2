//! Redirects: each hop is checked as a call of its own.

use picloud_core::{EgressCall, EgressRedirects, ErrorCode, Method};

use crate::support::{Caller, LOOPBACK, Server, get, ok, redirect, text};

/// A server whose paths lead on: `/302/LOCATION` and so on; any other path is echoed.
async fn server() -> Server {
    Server::start(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (code, location) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        match code.parse() {
            Ok(code) if code > 300 => redirect(code, &location.replace("%20", " ")),
            _ => ok(request),
        }
    })
    .await
}

fn caller(server: &Server) -> (Caller, String) {
    let place = format!("http://a.test:{}", server.port());
    let caller = Caller::new(LOOPBACK, &[&place]);
    caller.names.set("a.test", &[&["127.0.0.1"]]);
    caller.names.set("b.test", &[&["127.0.0.1"]]);
    (caller, place)
}

#[tokio::test]
async fn a_redirect_to_what_is_not_allowed_is_not_followed() {
    let server = server().await;
    let (caller, place) = caller(&server);
    let port = server.port();
    for location in [
        format!("http://b.test:{port}/"),
        format!("//b.test:{port}/"),
        format!("https://a.test:{port}/"),
        "http://a.test/".to_owned(),
        format!("http://127.0.0.1:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let refused = caller.get(&format!("{place}/302/{location}")).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "egress_denied", "{location}: {refused}");
        let records = caller.records();
        assert_eq!((records[0].status, records[0].error), (Some(302), None));
        assert_eq!(
            (records[1].status, records[1].error),
            (None, Some(ErrorCode::EgressDenied)),
            "{location}"
        );
    }
    assert_eq!(server.seen.requests().len(), 7, "only the first hop of each");
}

#[tokio::test]
async fn a_redirect_to_a_closed_address_is_not_followed_although_it_is_allowed() {
    let server = server().await;
    let (_, place) = caller(&server);
    let port = server.port();
    let places = [place.clone(), format!("http://c.test:{port}"), "http://169.254.169.254".to_owned()];
    let caller = Caller::new(&["127.0.0.1"], &places.each_ref().map(String::as_str));
    caller.names.set("a.test", &[&["127.0.0.1"]]);
    caller.names.set("c.test", &[&["127.0.0.2"]]);
    for location in [format!("http://c.test:{port}/"), "http://169.254.169.254/latest/meta-data/".to_owned()]
    {
        let refused = caller.get(&format!("{place}/307/{location}")).await;
        assert_eq!(Caller::refused(refused), "egress_address_denied", "{location}");
    }
}

#[tokio::test]
async fn where_a_redirect_leads_nowhere_it_is_an_error() {
    let server = server().await;
    let (caller, place) = caller(&server);
    for location in ["ftp://a.test/", "http://user:password@a.test/", "http://", "javascript:1"] {
        assert_eq!(
            Caller::refused(caller.get(&format!("{place}/302/{location}")).await),
            "invalid",
            "{location}"
        );
    }
}

#[tokio::test]
async fn at_most_as_many_are_followed_as_wanted() {
    let hops = |count: usize| "/302/".repeat(count) + "/end";
    let server = server().await;
    let (caller, place) = caller(&server);
    let follow = async |count: usize, most: EgressRedirects| {
        caller.call(EgressCall { redirects: most, ..get(&format!("{place}{}", hops(count))) }).await
    };
    let five = follow(5, EgressRedirects::Follow(5)).await.unwrap();
    assert_eq!(five.status, 200);
    assert_eq!(caller.records().len(), 6, "each hop is recorded");
    let failed = follow(6, EgressRedirects::Follow(5)).await.unwrap_err();
    assert_eq!(failed.code.as_str(), "egress_failed");
    assert!(failed.message.contains("leads on after 5 redirects"), "{failed}");
    let not_followed = follow(1, EgressRedirects::Answer).await.unwrap();
    assert_eq!(not_followed.status, 302);
    assert!(not_followed.headers.iter().any(|(name, _)| name == "location"));
}

fn with_credentials(url: &str, method: Method) -> EgressCall {
    let headers = [
        ("authorization", "Bearer x"),
        ("x-api-key", "x"),
        ("cookie", "a=b"),
        ("accept", "text/x"),
        ("content-type", "text/y"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let body = if method == Method::Get { "" } else { "body" };
    EgressCall { method, headers, body: body.into(), ..get(url) }
}

#[tokio::test]
async fn credentials_go_along_to_the_same_origin_only() {
    let server = server().await;
    let (mut caller, place) = caller(&server);
    let other = format!("http://b.test:{}", server.port());
    caller.allow(&[&other]);
    let same = caller.call(with_credentials(&format!("{place}/302//end"), Method::Get)).await.unwrap();
    for header in ["authorization", "x-api-key", "cookie"] {
        assert!(text(&same).contains(header), "{}", text(&same));
    }
    let away = caller.call(with_credentials(&format!("{place}/302/{other}/end"), Method::Get)).await.unwrap();
    assert!(text(&away).contains("accept: text/x"), "{}", text(&away));
    for header in ["authorization", "x-api-key", "cookie"] {
        assert!(!text(&away).contains(header), "{}", text(&away));
    }
    assert_eq!(away.url, format!("{other}/end"));
    // Back again they stay away: who was in between has chosen where to.
    let back = format!("{place}/302/{other}/302/{place}/end");
    let back = caller.call(with_credentials(&back, Method::Get)).await.unwrap();
    assert!(!text(&back).contains("authorization"), "{}", text(&back));
}

#[tokio::test]
async fn methods_change_as_browsers_have_it() {
    let server = server().await;
    let (caller, place) = caller(&server);
    for (code, sent, then) in [
        (301, Method::Post, "GET"),
        (302, Method::Post, "GET"),
        (303, Method::Post, "GET"),
        (303, Method::Delete, "GET"),
        (302, Method::Put, "PUT"),
        (307, Method::Post, "POST"),
        (308, Method::Patch, "PATCH"),
    ] {
        let answer = caller.call(with_credentials(&format!("{place}/{code}//end"), sent)).await.unwrap();
        let request = text(&answer);
        assert!(request.starts_with(&format!("{then} /end ")), "{code} {sent:?}: {request}");
        let has_body = then != "GET";
        assert_eq!(request.ends_with("body"), has_body, "{code} {sent:?}: {request}");
        assert_eq!(request.contains("content-type"), has_body, "{code} {sent:?}: {request}");
    }
}

#[tokio::test]
async fn the_method_of_each_hop_must_be_allowed() {
    let server = server().await;
    let (mut caller, place) = caller(&server);
    caller.rules.allow[0].methods = [Method::Post].into_iter().collect();
    let refused = caller.call(with_credentials(&format!("{place}/302//end"), Method::Post)).await;
    assert_eq!(Caller::refused(refused), "egress_denied", "it became a GET");
}
