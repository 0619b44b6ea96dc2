//! The control listener from outside: nothing without a token, nothing of another host.

use crate::support::{get, request, shared};

#[test]
fn nothing_is_managed_without_a_token() {
    let server = shared();
    let host = server.admin.to_string();
    for path in ["/api/v1/apps", "/api/v1/whoami", "/api/v1/status", "/metrics", "/api/v1/no-such-thing"] {
        let answer = get(server.admin, &host, path);
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{path}");
    }
    assert_eq!(get(server.admin, &host, "/healthz").status, 200);
    let ready = get(server.admin, &host, "/readyz");
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
}

#[test]
fn another_host_name_is_refused() {
    let server = shared();
    let answer = get(server.admin, "evil.example.org", "/healthz");
    assert_eq!((answer.status, answer.code().as_str()), (421, "misdirected_request"));
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let server = shared();
    let head = format!(
        "POST /api/v1/apps\ncontent-type: text/plain\norigin: http://evil.example.org\nauthorization: Bearer {}",
        server.token()
    );
    let answer = request(server.admin, &server.admin.to_string(), &head, br#"{"name":"evil"}"#);
    assert_eq!(answer.status, 403);
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let server = shared();
    let answer = server.api("POST /api/v1/apps", r#"{"name":"x","role":"owner"}"#);
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid"));
    assert!(answer.text().contains("role"), "{answer:?}");
}

#[test]
fn the_owners_token_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let metadata = std::fs::metadata(shared().data_dir().join("owner-token")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}
