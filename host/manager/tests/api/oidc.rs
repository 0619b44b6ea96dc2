//! Signing in by way of an OpenID Connect issuer.

use std::time::{Duration, Instant};

use picloud_core::{InstanceRole, PrincipalName};
use picloud_manager::{AllowedEmails, ClientSecret, IssuerUrl, OidcConfig, PublicUrl};
use picloud_store::PrincipalChange;
use serde_json::{Value, json};

use crate::support::{
    Answer, Server,
    issuer::{CLIENT_ID, CLIENT_SECRET, Signing, State, TestIssuer, TokenEndpoint},
};

const START: &str = "/api/v1/session/oidc/start";
const CALLBACK: &str = "/api/v1/session/oidc/callback";
const FINISHED: &str = "SELECT count(*) FROM audit_log WHERE action = 'finish_oidc'";

fn config(issuer: &TestIssuer) -> OidcConfig {
    OidcConfig {
        issuer: IssuerUrl::parse(&issuer.url).unwrap(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: Some(ClientSecret::parse(CLIENT_SECRET).unwrap()),
        allowed: AllowedEmails::parse("@example.org, bob@example.net").unwrap(),
        create: true,
        public_url: None,
    }
}

async fn start() -> (Server, TestIssuer) {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut OidcConfig)) -> (Server, TestIssuer) {
    let issuer = TestIssuer::start().await;
    let mut oidc = config(&issuer);
    change(&mut oidc);
    (Server::start_with(|config| config.oidc = Some(oidc)).await, issuer)
}

/// Begins a sign-in: the issuer's page, and the cookie that the browser keeps.
async fn begin(server: &Server) -> (String, String) {
    let answer = server.anonymous("GET", START).send().await;
    assert_eq!(answer.status, 302, "{answer:?}");
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    (answer.header("location").to_owned(), cookie)
}

/// Comes back from the issuer, as the browser does: from another site.
async fn finish(server: &Server, query: &str, cookie: &str) -> Answer {
    let call = server.anonymous("GET", &format!("{CALLBACK}?{query}")).header("cookie", cookie);
    call.header("sec-fetch-site", "cross-site").header("sec-fetch-dest", "document").send().await
}

async fn sign_in(server: &Server, issuer: &TestIssuer) -> Answer {
    let (location, cookie) = begin(server).await;
    finish(server, &issuer.agree(&location), &cookie).await
}

/// The session's cookie of an answer that signs in.
#[track_caller]
fn session(answer: &Answer) -> String {
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{answer:?}");
    let mut cookies = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let session = cookies.find(|cookie| cookie.starts_with("picloud_session=pcls_")).unwrap();
    session.split(';').next().unwrap().to_owned()
}

async fn who(server: &Server, answer: &Answer) -> Value {
    server.by_cookie("GET", "/api/v1/whoami", &session(answer)).send().await.json()
}

#[track_caller]
fn refused(answer: &Answer, code: &str, words: &str) {
    let problem = answer.problem(code);
    assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    assert_eq!(answer.header("set-cookie"), "", "{answer:?}");
}

async fn newest_audit(server: &Server) -> Value {
    server.get("/api/v1/audit?action=finish_oidc").await.json()["items"][0].clone()
}

#[tokio::test]
async fn a_user_of_the_issuer_becomes_a_member_and_is_known_from_then_on() {
    let (server, issuer) = start().await;
    for signing in [Signing::Rs256, Signing::Es256] {
        issuer.set(|state| state.signing = signing);
        let answer = sign_in(&server, &issuer).await;
        let me = who(&server, &answer).await;
        assert_eq!((&me["name"], &me["role"]), (&json!("ada"), &json!("member")), "{me}");
        let audit = newest_audit(&server).await;
        assert_eq!((&audit["outcome"], &audit["principal"]), (&json!("ok"), &json!("ada")), "{audit}");
        assert_eq!(audit["session_id"], me["session_id"]);
    }
    // The account counts from now on, and not its address.
    issuer.set(|state| state.email = "countess@example.org".into());
    let answer = sign_in(&server, &issuer).await;
    assert_eq!(who(&server, &answer).await["name"], "ada");
    let links = server.get("/api/v1/principals/ada/identities").await;
    assert_eq!(links.items("email"), [json!("countess@example.org")]);
    assert_eq!(links.items("subject"), [json!("248289761001")]);
    assert_eq!(issuer.calls("/realm/keys"), 1);
    assert_eq!(issuer.calls("/realm/.well-known/openid-configuration"), 1);
}

#[tokio::test]
async fn the_ways_of_signing_in_are_told() {
    let server = Server::start().await;
    let methods = server.anonymous("GET", "/api/v1/session/methods").send().await.json();
    assert_eq!(methods, json!({ "password": true, "oidc": null }));
    server.anonymous("GET", START).send().await.problem("not_found");
    server.anonymous("GET", CALLBACK).send().await.problem("not_found");
    let (server, issuer) = start().await;
    let methods = server.anonymous("GET", "/api/v1/session/methods").send().await.json();
    assert_eq!(methods["oidc"], json!({ "issuer": issuer.url, "start": START }));
}

#[tokio::test]
async fn the_cookie_is_for_the_way_back_only_and_bound_to_the_host_over_tls() {
    let (server, issuer) = start().await;
    let plain = server.anonymous("GET", START).send().await;
    let cookie = plain.header("set-cookie");
    assert!(cookie.starts_with("picloud_sign_in="), "{cookie}");
    for part in ["; HttpOnly", "; SameSite=Lax", "; Path=/", "; Max-Age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let tls = || {
        let call = server.anonymous("GET", START).header("host", "cloud.example");
        call.header("x-forwarded-proto", "https")
    };
    let begun = tls().send().await;
    let cookie = begun.header("set-cookie");
    assert!(cookie.starts_with("__Host-picloud_sign_in=") && cookie.ends_with("; Secure"), "{cookie}");
    let location = begun.header("location");
    assert!(location.contains("redirect_uri=https%3A%2F%2Fcloud.example%2Fapi"), "{location}");
    let back = |cookie: &str| {
        let path = format!("{CALLBACK}?{}", issuer.agree(location));
        let call = server.anonymous("GET", &path).header("host", "cloud.example");
        call.header("x-forwarded-proto", "https").header("cookie", cookie).send()
    };
    let value = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    // Another host, or plain HTTP, could have set this one.
    let planted = back(&format!("picloud_sign_in={value}")).await;
    refused(&planted, "bad_request", "not begun in this browser");
    let answer = back(&format!("__Host-picloud_sign_in={value}")).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let cookies: Vec<_> =
        answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(cookies[0].starts_with("__Host-picloud_session=pcls_"), "{cookies:?}");
    assert!(cookies[0].contains("SameSite=Strict") && cookies[0].ends_with("; Secure"), "{cookies:?}");
    assert!(cookies[1].starts_with("__Host-picloud_sign_in=; Path=/; Max-Age=0"), "{cookies:?}");
    assert!(!answer.text.contains("pcls_"));
}

#[tokio::test]
async fn the_way_back_is_to_the_address_that_is_set_or_to_a_host_of_this_listener() {
    let (server, _issuer) =
        start_with(|oidc| oidc.public_url = Some(PublicUrl::parse("https://cloud.example/").unwrap())).await;
    let (location, cookie) = begin(&server).await;
    assert!(location.contains("redirect_uri=https%3A%2F%2Fcloud.example%2Fapi%2Fv1%2F"), "{location}");
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    let foreign = server.anonymous("GET", START).header("host", "evil.example").send().await;
    foreign.problem("misdirected_request");
    for path in [START, CALLBACK] {
        for dest in ["image", "iframe", "empty"].iter().cycle().take(20) {
            let fetched = server.anonymous("GET", path).header("sec-fetch-dest", dest).send().await;
            refused(&fetched, "forbidden", "not for a page to fetch");
        }
    }
    let opened = server.anonymous("GET", START).header("sec-fetch-dest", "document").send().await;
    assert_eq!(opened.status, 302, "{opened:?}");
}

#[tokio::test]
async fn a_sign_in_is_over_once_and_in_its_own_browser() {
    let (server, issuer) = start().await;
    let (location, cookie) = begin(&server).await;
    let query = issuer.agree(&location);
    let (_, other) = begin(&server).await;
    for foreign in ["", other.as_str(), &format!("{cookie}; {other}")] {
        refused(&finish(&server, &query, foreign).await, "bad_request", "not begun in this browser");
    }
    let audit = newest_audit(&server).await;
    assert_eq!((&audit["outcome"], &audit["principal"]), (&json!("bad_request"), &json!(null)), "{audit}");
    assert!(audit["detail"].as_str().unwrap().contains("not begun in this browser"), "{audit}");
    assert_eq!(issuer.calls("/realm/token"), 0);
    session(&finish(&server, &query, &cookie).await);
    refused(&finish(&server, &query, &cookie).await, "bad_request", "not begun in this browser");
    assert_eq!(issuer.calls("/realm/token"), 1);
    // The same code with a new state: the issuer does not take it twice.
    let (location, cookie) = begin(&server).await;
    let new = issuer.agree(&location);
    let old_code = query.split('&').next().unwrap();
    let mixed = format!("{old_code}&{}", new.split_once('&').unwrap().1);
    refused(&finish(&server, &mixed, &cookie).await, "forbidden", "invalid_grant");
    // Somebody else's code, in the browser of whom is to be signed in as them.
    let (location, _) = begin(&server).await;
    let foreign_code = issuer.agree(&location).split('&').next().unwrap().to_owned();
    let (location, cookie) = begin(&server).await;
    let state = issuer.agree(&location).split_once('&').unwrap().1.to_owned();
    refused(
        &finish(&server, &format!("{foreign_code}&{state}"), &cookie).await,
        "forbidden",
        "invalid_grant",
    );
}

#[tokio::test]
async fn what_the_browser_comes_back_with_is_not_believed() {
    let (server, issuer) = start().await;
    for (change, code, words) in [
        ("error=access_denied&code=", "forbidden", "access_denied"),
        ("error=%3Cscript%3E&code=", "forbidden", "no error code"),
        ("iss=https://evil.example&code=", "forbidden", "another issuer"),
        ("x=", "forbidden", "no code"),
    ] {
        let (location, cookie) = begin(&server).await;
        let query = issuer.agree(&location).replacen("code=", change, 1);
        refused(&finish(&server, &query, &cookie).await, code, words);
    }
    let (location, cookie) = begin(&server).await;
    let query = issuer.agree(&location);
    let twice = format!("{query}&code=x");
    assert_eq!(finish(&server, &twice, &cookie).await.status, 422);
    for query in ["", "code=x", "state=x", &format!("state={}", "x".repeat(5000))] {
        refused(&finish(&server, query, &cookie).await, "bad_request", "not begun");
    }
    session(&finish(&server, &query, &cookie).await);
}

#[tokio::test]
async fn only_a_token_of_the_issuer_for_this_client_and_this_sign_in_is_taken() {
    type Change = fn(&mut State);
    let cases: [(Change, &str); 13] = [
        (|state| state.claims = |claims| claims["nonce"] = json!("other"), "another sign-in"),
        (
            |state| state.claims = |claims| drop(claims.as_object_mut().unwrap().remove("nonce")),
            "another sign-in",
        ),
        (|state| state.claims = |claims| claims["aud"] = json!("other"), "another client"),
        (|state| state.claims = |claims| claims["aud"] = json!(["picloud", "other"]), "another client"),
        (|state| state.claims = |claims| claims["azp"] = json!("other"), "another client"),
        (|state| state.claims = |claims| claims["exp"] = json!(1_700_000_000), "expired"),
        (|state| state.claims = |claims| claims["nbf"] = json!(32_503_680_000_u64), "not valid yet"),
        (|state| state.claims = |claims| claims["iss"] = json!("https://evil.example"), "another issuer"),
        (|state| state.claims = |claims| claims["sub"] = json!(""), "subject"),
        (|state| state.signing = Signing::None, "malformed"),
        (|state| state.signing = Signing::HmacWithPublicKey, "public key"),
        (|state| state.signing = Signing::Forged, "signature"),
        (|state| state.signing = Signing::ForeignKey, "signature"),
    ];
    let (server, issuer) = start().await;
    for (change, words) in cases {
        issuer.set(|state| {
            state.signing = Signing::Es256;
            state.claims = |_| {};
            change(state);
        });
        refused(&sign_in(&server, &issuer).await, "unauthenticated", words);
        let audit = newest_audit(&server).await;
        assert!(audit["detail"].as_str().unwrap().contains(words), "{audit}");
    }
    assert_eq!(server.database.number("SELECT count(*) FROM sessions").await, 0);
    assert_eq!(server.database.number(FINISHED).await, 13);
    // What is not there is no address of anybody either.
    issuer.set(|state| {
        state.signing = Signing::Es256;
        state.claims = |claims| claims["aud"] = json!(["picloud"]);
    });
    session(&sign_in(&server, &issuer).await);
}

#[tokio::test]
async fn only_verified_addresses_that_are_allowed_sign_in() {
    let (server, issuer) = start().await;
    let claims: [fn(&mut Value); 4] = [
        |claims| claims["email_verified"] = json!(false),
        |claims| claims["email_verified"] = json!("false"),
        |claims| drop(claims.as_object_mut().unwrap().remove("email_verified")),
        |claims| claims["email"] = json!("ada@example.org, eve@evil.example"),
    ];
    for change in claims {
        issuer.set(|state| state.claims = change);
        refused(&sign_in(&server, &issuer).await, "forbidden", "verified");
    }
    issuer.set(|state| state.claims = |_| {});
    for email in
        ["eve@evil.example", "alice@example.net", "ada@sub.example.org", "ada@example.org.evil.example"]
    {
        issuer.set(|state| state.email = email.into());
        refused(&sign_in(&server, &issuer).await, "forbidden", "not one of those");
        assert_eq!(newest_audit(&server).await["target"], email);
    }
    issuer.set(|state| state.email = "Bob@Example.net".into());
    let answer = sign_in(&server, &issuer).await;
    assert_eq!(who(&server, &answer).await["name"], "bob");
}

#[tokio::test]
async fn an_address_that_the_token_lacks_is_asked_for() {
    let (server, issuer) = start().await;
    issuer.set(|state| state.email_in_userinfo = true);
    let answer = sign_in(&server, &issuer).await;
    assert_eq!(who(&server, &answer).await["name"], "ada");
    // The token is about somebody else than the answer is.
    issuer.set(|state| state.claims = |claims| claims["sub"] = json!("another"));
    refused(&sign_in(&server, &issuer).await, "unauthenticated", "another user");
}

#[tokio::test]
async fn nobody_is_made_unless_that_is_set_and_no_one_takes_a_name_over() {
    let (server, issuer) = start_with(|oidc| oidc.create = false).await;
    server.user("ada", InstanceRole::Owner).await;
    refused(&sign_in(&server, &issuer).await, "forbidden", "no user here is linked");
    assert_eq!(newest_audit(&server).await["target"], "ada@example.org");
    assert_eq!(server.database.number("SELECT count(*) FROM principals").await, 2);

    let (server, issuer) = start().await;
    server.user("ada", InstanceRole::Owner).await;
    let answer = sign_in(&server, &issuer).await;
    let me = who(&server, &answer).await;
    assert_eq!((&me["name"], &me["role"]), (&json!("ada@example.org"), &json!("member")), "{me}");
    issuer.set(|state| state.subject = "another account".into());
    let answer = sign_in(&server, &issuer).await;
    assert_eq!(who(&server, &answer).await["name"], "ada-2", "one address, two accounts, two users");
}

#[tokio::test]
async fn a_user_is_linked_by_an_owner_and_then_by_the_account() {
    let (server, issuer) = start_with(|oidc| oidc.create = false).await;
    server.user("ada", InstanceRole::Owner).await;
    let links = "/api/v1/principals/ada/identities";
    let link = |email: &str| server.call("POST", links).json(&json!({ "email": email })).send();
    for bad in ["ada", "", "ada@", "a b@example.org"] {
        link(bad).await.problem("invalid");
    }
    assert_eq!(link("Ada@Example.org").await.status, 201);
    link("ada@example.org").await.problem("already_exists");
    let narrow = server.token(&[picloud_core::Scope::InstanceAdmin], None).await;
    let call = server.anonymous("POST", links).token(&narrow).json(&json!({ "email": "eve@example.org" }));
    call.send().await.problem("forbidden");
    server.principal("bot", picloud_store::PrincipalKind::Service, InstanceRole::Member).await;
    let bot = server.call("POST", "/api/v1/principals/bot/identities");
    bot.json(&json!({ "email": "bot@example.org" })).send().await.problem("invalid");

    let answer = sign_in(&server, &issuer).await;
    let me = who(&server, &answer).await;
    assert_eq!((&me["name"], &me["role"]), (&json!("ada"), &json!("owner")), "{me}");
    // Whoever gets the address later is another account.
    issuer.set(|state| state.subject = "another account".into());
    refused(&sign_in(&server, &issuer).await, "forbidden", "no user here is linked");
    issuer.set(|state| state.subject = "248289761001".into());

    let id = server.get(links).await.items("id")[0].as_str().unwrap().to_owned();
    let removed = server.call("DELETE", &format!("{links}/{id}")).send().await;
    assert_eq!(removed.status, 204);
    server.call("DELETE", &format!("{links}/{id}")).send().await.problem("not_found");
    let cookie = session(&answer);
    server.by_cookie("GET", "/api/v1/whoami", &cookie).send().await.problem("unauthenticated");
    refused(&sign_in(&server, &issuer).await, "forbidden", "no user here is linked");
    let actions = server.get("/api/v1/audit?action=link_identity").await;
    assert!(actions.items("outcome").contains(&json!("ok")));
    assert_eq!(server.get("/api/v1/audit?action=unlink_identity").await.items("target")[1], "ada");
}

#[tokio::test]
async fn a_disabled_user_does_not_sign_in_and_uses_no_link_up() {
    let (server, issuer) = start().await;
    let ada = server.user("ada", InstanceRole::Member).await;
    let links = "/api/v1/principals/ada/identities";
    server.call("POST", links).json(&json!({ "email": "ada@example.org" })).send().await;
    let disable = |disabled| {
        let change = PrincipalChange { disabled: Some(disabled), ..PrincipalChange::default() };
        let store = server.store.clone();
        async move { store.change_principal(ada.id, &change).await.unwrap() }
    };
    disable(true).await;
    refused(&sign_in(&server, &issuer).await, "forbidden", "disabled");
    assert_eq!(server.get(links).await.items("subject"), [json!(null)]);
    disable(false).await;
    let answer = sign_in(&server, &issuer).await;
    disable(true).await;
    let cookie = session(&answer);
    server.by_cookie("GET", "/api/v1/whoami", &cookie).send().await.problem("unauthenticated");
    refused(&sign_in(&server, &issuer).await, "forbidden", "disabled");
    assert_eq!(newest_audit(&server).await["target"], "ada");
    let name = PrincipalName::new("ada@example.org").unwrap();
    assert!(server.store.principal_by_name(&name).await.unwrap().is_none(), "nobody is made in its place");
}

#[tokio::test]
async fn first_sign_ins_of_one_user_at_once_make_one_user() {
    let (server, issuer) = start().await;
    let mut begun = Vec::new();
    for _ in 0..6 {
        let (location, cookie) = begin(&server).await;
        begun.push((issuer.agree(&location), cookie));
    }
    let finished = begun.iter().map(|(query, cookie)| finish(&server, query, cookie));
    for answer in futures_util::future::join_all(finished).await {
        assert_eq!(who(&server, &answer).await["name"], "ada");
    }
    assert_eq!(server.database.number("SELECT count(*) FROM principals").await, 2);
}

#[tokio::test]
async fn an_issuer_that_is_down_keeps_nobody_waiting_and_comes_back() {
    let (server, issuer) = start().await;
    issuer.set(|state| state.down = true);
    for _ in 0..5 {
        let answer = server.anonymous("GET", START).send().await;
        refused(&answer, "issuer_unavailable", "log has the cause");
        assert_eq!(answer.status, 502);
    }
    assert_eq!(issuer.calls("/realm/.well-known/openid-configuration"), 1, "it is left alone for a moment");
    issuer.set(|state| state.down = false);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let (location, cookie) = begin(&server).await;
    let query = issuer.agree(&location);
    issuer.set(|state| state.down = true);
    refused(&finish(&server, &query, &cookie).await, "issuer_unavailable", "log has the cause");
    let audit = newest_audit(&server).await;
    assert!(audit["detail"].as_str().unwrap().contains("answered 503"), "{audit}");
    // What others do goes on.
    server.session("owner", "correct horse battery").await;
}

#[tokio::test]
async fn a_misbehaving_token_endpoint_is_cut_off() {
    let (server, issuer) = start().await;
    for (behaviour, reason) in [
        (TokenEndpoint::Redirects, "answered 307"),
        (TokenEndpoint::Garbage, "expected value"),
        (TokenEndpoint::Fails, "answered 500"),
        (TokenEndpoint::Endless, "token endpoint"),
    ] {
        issuer.set(|state| state.tokens = behaviour);
        let begun = Instant::now();
        refused(&sign_in(&server, &issuer).await, "issuer_unavailable", "log has the cause");
        assert!(begun.elapsed() < Duration::from_secs(8), "{behaviour:?} took {:?}", begun.elapsed());
        let audit = newest_audit(&server).await;
        assert!(audit["detail"].as_str().unwrap().contains(reason), "{behaviour:?}: {audit}");
    }
    assert_eq!(issuer.calls("/elsewhere"), 0, "no redirect is followed");
}

#[tokio::test]
async fn an_answer_that_trickles_is_given_up_after_ten_seconds() {
    let (server, issuer) = start().await;
    issuer.set(|state| state.tokens = TokenEndpoint::Trickling);
    let begun = Instant::now();
    refused(&sign_in(&server, &issuer).await, "issuer_unavailable", "log has the cause");
    assert!((9..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_document_of_another_issuer_is_refused() {
    let (server, issuer) = start().await;
    issuer.set(|state| state.issuer = Some("https://evil.example".into()));
    refused(&server.anonymous("GET", START).send().await, "issuer_unavailable", "log has the cause");
}

#[tokio::test]
async fn new_keys_are_found_and_asked_for_once_a_minute() {
    let (server, issuer) = start().await;
    issuer.set(|state| state.signing = Signing::Es256);
    session(&sign_in(&server, &issuer).await);
    issuer.rotate();
    session(&sign_in(&server, &issuer).await);
    assert_eq!(issuer.calls("/realm/keys"), 2);
    issuer.rotate();
    for _ in 0..3 {
        refused(&sign_in(&server, &issuer).await, "unauthenticated", "does not know the key");
    }
    assert_eq!(issuer.calls("/realm/keys"), 2, "not more than once a minute");
    issuer.set(|state| state.signing = Signing::Rs256);
    session(&sign_in(&server, &issuer).await);
}

#[tokio::test]
async fn strangers_begin_and_fail_a_few_times_only() {
    let (server, issuer) = start().await;
    for _ in 0..40 {
        session(&sign_in(&server, &issuer).await);
    }
    let mut allowed = 0;
    let limited = loop {
        let answer = finish(&server, "state=x&code=y", "picloud_sign_in=z").await;
        match answer.status.as_u16() {
            400 => allowed += 1,
            _ => break answer,
        }
    };
    limited.problem("sign_in_limited");
    assert!((28..=31).contains(&allowed), "{allowed}");
    assert!(limited.header("retry-after").parse::<u64>().unwrap() > 0);
    server.anonymous("GET", START).send().await.problem("sign_in_limited");
    assert_eq!(server.database.number(FINISHED).await, 40 + allowed, "what is too many is not written");
}
