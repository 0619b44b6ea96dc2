//! People and programs with rights of their own, from the command line.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    thread,
};

use crate::support::{Server, fill, home, shared};

/// The column of the row that has `text`, split at two spaces.
fn cell(table: &str, text: &str, column: usize) -> String {
    let row = table.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text} in {table}"));
    row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).nth(column).unwrap().to_owned()
}

#[test]
fn a_user_signs_in_works_in_its_app_and_nowhere_else_and_all_of_it_is_written_down() {
    let server = shared();
    server.cli(&["app", "create", "shop-of-ada"]).ok();
    server.cli(&["app", "create", "not-hers"]).ok();
    assert!(server.cli(&["principal", "create", "ada"]).ok().contains("made the user ada (member)"));
    server.cli(&["member", "set", "ada", "editor", "--app", "shop-of-ada"]).ok();
    assert_eq!(cell(&server.cli(&["member", "list", "--app", "shop-of-ada"]).ok(), "ada", 1), "editor");
    assert!(server.cli_with(&["password", "set", "ada"], "short\n").failed(1).contains("12 and more"));
    server.cli_with(&["password", "set", "ada"], "a long password\n").ok();

    // A configuration folder of her own, and no owner's token beside it.
    let home = tempfile::tempdir().unwrap();
    let hers = |arguments: &[&str], input: &str| {
        let mut command = crate::support::program();
        command
            .args(arguments)
            .env("PICLOUD_URL", format!("http://{}", server.admin))
            .env("PICLOUD_DATA_DIR", home.path())
            .env("XDG_CONFIG_HOME", home.path());
        crate::support::run(command, input)
    };
    assert!(
        hers(&["login", "ada"], "a wrong password\n").failed(5).contains("name or the password is wrong")
    );
    assert!(hers(&["login", "ada"], "a long password\n").ok().contains("as ada (member)"));
    let logins = home.path().join("picloud/logins.json");
    assert_eq!(logins.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let saved = std::fs::read_to_string(&logins).unwrap();
    assert!(saved.contains("pcl_") && !saved.contains("a long password"));

    let list = hers(&["app", "list"], "").ok();
    assert!(list.contains("shop-of-ada") && !list.contains("not-hers"), "{list}");
    assert!(hers(&["app", "show", "not-hers"], "").failed(4).contains("app_not_found"));
    hers(&["kv", "set", "c", "k", "1", "--app", "shop-of-ada"], "").ok();
    assert!(
        hers(&["app", "limits", "shop-of-ada", "--set", "fuel=1000000"], "").failed(5).contains("app_admin")
    );
    assert!(hers(&["audit"], "").failed(5).contains("owner"));

    let token = hers(&["token", "create", "reader", "--scope", "data:read", "--expires-in", "1h"], "").ok();
    assert!(token.trim().starts_with("pcl_") && token.trim().len() == 68, "{token}");
    let as_reader = |arguments: &[&str]| {
        let with_token = [arguments, &["--app", "shop-of-ada", "--token", token.trim()]].concat();
        hers(&with_token, "")
    };
    assert_eq!(as_reader(&["kv", "get", "c", "k"]).ok().trim(), "1");
    assert!(as_reader(&["kv", "set", "c", "k", "2"]).failed(5).contains("data:write"));
    let id = cell(&hers(&["token", "list"], "").ok(), "reader", 0);
    hers(&["token", "revoke", &id], "").ok();
    assert!(as_reader(&["kv", "get", "c", "k"]).failed(5).contains("unauthenticated"));

    assert!(hers(&["logout"], "").ok().contains("signed out"));
    let token = saved.split('"').find(|part| part.starts_with("pcl_")).unwrap();
    assert!(
        hers(&["whoami", "--token", token], "").failed(5).contains("unauthenticated"),
        "login's token is revoked"
    );

    let log = server.cli(&["audit", "--principal", "ada"]).ok();
    for action in ["sign_in", "create_token", "put_entry", "set_limits", "revoke_token"] {
        assert!(log.contains(action), "{action} in {log}");
    }
    assert_eq!(cell(&log, "set_limits", 7), "forbidden");
    server.cli(&["principal", "disable", "ada"]).ok();
    assert_eq!(cell(&server.cli(&["principal", "list"]).ok(), "ada", 3), "disabled");
    hers(&["login", "ada"], "a long password\n").failed(5);
    server.cli(&["principal", "enable", "ada"]).ok();
    server.cli(&["member", "remove", "ada", "--app", "shop-of-ada"]).ok();
    server.cli(&["principal", "delete", "ada"]).ok();
    assert!(server.cli(&["principal", "delete", "owner"]).failed(1).contains("last_owner"));
}

#[test]
fn a_service_has_a_token_and_no_password() {
    let server = shared();
    server.cli(&["principal", "create", "robot", "--kind", "service"]).ok();
    let token =
        server.cli(&["token", "create", "deploy", "--scope", "script:read", "--principal", "robot"]).ok();
    assert!(server.cli(&["whoami", "--token", token.trim()]).ok().contains("robot (member)"));
    assert!(
        server.cli_with(&["password", "set", "robot"], "a long password\n").failed(1).contains("service")
    );
    let json: serde_json::Value =
        serde_json::from_str(&server.cli(&["token", "list", "--principal", "robot", "--json"]).ok()).unwrap();
    assert_eq!(json["items"][0]["name"], "deploy");
    server.cli(&["principal", "delete", "robot"]).ok();
    assert!(server.cli(&["whoami", "--token", token.trim()]).failed(5).contains("unauthenticated"));
}

#[test]
fn a_user_is_linked_to_an_account_of_an_issuer_and_unlinked() {
    let server = shared();
    server.cli(&["principal", "create", "grace"]).ok();
    assert_eq!(server.cli(&["principal", "links", "grace"]).ok(), "", "the note is on standard error");
    server.cli(&["principal", "link", "grace", "--email", "Grace@Example.org"]).ok();
    let again = server.cli(&["principal", "link", "grace", "--email", "grace@example.org"]);
    assert!(again.failed(1).contains("already_exists"));
    assert!(server.cli(&["principal", "link", "grace", "--email", "grace"]).failed(1).contains("invalid"));
    let list = server.cli(&["principal", "links", "grace"]).ok();
    assert_eq!(cell(&list, "grace@example.org", 1), "-", "{list}");
    let json = server.cli(&["principal", "links", "grace", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let id = json["items"][0]["id"].as_str().unwrap();
    server.cli(&["principal", "unlink", "grace", id]).ok();
    server.cli(&["principal", "unlink", "grace", id]).failed(4);
    server.cli(&["principal", "delete", "grace"]).ok();
}

/// The server as it runs, confined, asks its issuer.
#[test]
fn a_browser_is_sent_to_the_issuer_that_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let document = serde_json::json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    });
    let asked = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let body = document.to_string();
        write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8(head).unwrap()
    });
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(
        &data_dir,
        &[
            ("PICLOUD_OIDC_ISSUER", &issuer),
            ("PICLOUD_OIDC_CLIENT_ID", "picloud"),
            ("PICLOUD_OIDC_ALLOWED", "@example.org"),
            ("PICLOUD_PUBLIC_URL", "https://cloud.example.org"),
        ],
    );
    server.wait_until_ready();
    let answer = server.api("GET /api/v1/session/oidc/start", "");
    assert_eq!(answer.status, 302, "{answer:?}");
    let location = answer.header("location").unwrap();
    assert!(location.starts_with(&format!("{issuer}/authorize?response_type=code&client_id=picloud")));
    assert!(location.contains("redirect_uri=https%3A%2F%2Fcloud.example.org%2Fapi%2Fv1%2F"), "{location}");
    assert!(asked.join().unwrap().starts_with("GET /.well-known/openid-configuration HTTP/1.1"));
    let methods = server.api("GET /api/v1/session/methods", "").json();
    assert_eq!(methods["oidc"]["issuer"], issuer);
}
