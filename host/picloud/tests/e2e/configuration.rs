//! Wrong settings are refused by name, before anything is touched.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use crate::support::{Server, home, run_plain};

#[track_caller]
fn refused(environment: &[(&str, &str)]) -> String {
    let home = home();
    let data_dir = home.path().join("data");
    let mut all = vec![("PICLOUD_DATA_DIR", data_dir.to_str().unwrap())];
    all.extend_from_slice(environment);
    let stderr = run_plain(&["serve"], &all).failed(2);
    assert!(!data_dir.exists(), "a refused start has made {}", data_dir.display());
    stderr
}

#[test]
fn a_wrong_value_is_refused_with_its_variable_and_what_is_allowed() {
    let cases = [
        ("PICLOUD_ADMIN_ADDR", "8420", "IP:PORT"),
        ("PICLOUD_APP_ADDR", "example.org:80", "IP:PORT"),
        ("PICLOUD_APP_DOMAIN", "a_b", "host name"),
        ("PICLOUD_ADMIN_HOSTS", "a b", "host name"),
        ("PICLOUD_TRUSTED_PROXIES", "10.0.0.0/33", "10.0.0.0/8"),
        ("PICLOUD_NAME_SERVER", "1.1.1.1", "IP:PORT"),
        ("PICLOUD_OIDC_ISSUER", "http://login.example.org", "https://login.example.org"),
        ("PICLOUD_OIDC_CLIENT_ID", " ", "1 to 512"),
        ("PICLOUD_OIDC_ALLOWED", "ada", "@example.org"),
        ("PICLOUD_OIDC_ALLOWED", ",", "@example.net"),
        ("PICLOUD_OIDC_CREATE", "yes", "true or false"),
        ("PICLOUD_PUBLIC_URL", "cloud.example", "https://cloud.example.org"),
        ("PICLOUD_CONFINEMENT", "on", "auto, required, off"),
        ("PICLOUD_EGRESS_PRIVATE", "192.168.1.1/24", "write 192.168.1.0/24 for"),
        ("PICLOUD_EGRESS_PRIVATE", "lamp.local", "192.168.1.0/24:8080"),
        ("PICLOUD_SMTP_ADDR", "25", "IP:PORT"),
        ("PICLOUD_SMTP_DOMAIN", "[127.0.0.1]", "host name"),
        ("PICLOUD_SMTP_MAX_BYTES", "1KiB", "MiB"),
        ("PICLOUD_SMTP_MAX_EVENT_BYTES", "1GiB", "MiB"),
        ("PICLOUD_SMTP_MAX_CONNECTIONS", "0", "1 to 10000"),
        ("PICLOUD_SMTP_MAX_CONNECTIONS_PER_ADDRESS", "0", "1 to 10000"),
        ("PICLOUD_SMTP_MAILS_PER_MINUTE", "0", "1 to 1000000"),
        ("PICLOUD_MAIL_FROM", "{app}", "NAME@DOMAIN"),
        ("PICLOUD_MAX_TRIGGER_DEPTH", "deep", "from 0 to 1000"),
        ("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", "0", "from 1 to 100"),
        ("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", "1000000", "at most PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS"),
        ("PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS", "-1", "from 0 to 604800000"),
        ("PICLOUD_TRIGGER_RETRY_JITTER", "some", "full or none"),
        ("PICLOUD_DEAD_LETTER_RETENTION_DAYS", "0", "from 1 to 3660"),
        ("PICLOUD_ABANDONED_EXECUTIONS_RETENTION_DAYS", "0", "from 1 to 3660"),
        ("PICLOUD_CONCURRENCY", "0", "1 to 1024"),
        ("PICLOUD_CONCURRENCY", "x", "1 to 1024"),
        ("PICLOUD_WORKER_THREADS", "-1", "1 to 256"),
        ("PICLOUD_IMAGE_MEMORY_BYTES", "64MB", "MiB"),
        ("PICLOUD_IMAGE_DISK_BYTES", "1", "MiB"),
        ("PICLOUD_HISTORY_DAYS", "0", "1 to 3650"),
        ("PICLOUD_HISTORY_SUCCESS_PER_SECOND", "1.5", "0 to 100000"),
        ("PICLOUD_DATABASE_CONNECTIONS", "1", "2 to 200"),
        ("PICLOUD_DRAIN_SECONDS", "forever", "0 to 3600"),
        ("PICLOUD_LOG_FORMAT", "xml", "text, json"),
        ("PICLOUD_SANDBOX_MAX_FUEL", "0", "whole number"),
        ("PICLOUD_SANDBOX_MAX_MEMORY_BYTES", "2000000000", "whole number"),
        ("RUST_LOG", "a=b=c", "info,picloud=debug"),
    ];
    for (variable, value, allowed) in cases {
        let stderr = refused(&[(variable, value)]);
        let message = stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(message.starts_with(&format!("error: {variable} is {value:?}")), "{stderr}");
        assert!(message.contains("allowed") && message.contains(allowed), "{stderr}");
    }
}

#[test]
fn a_wrong_database_address_is_refused_without_showing_its_password() {
    let stderr = refused(&[("DATABASE_URL", "mysql://root:hunter2@localhost/x")]);
    assert!(stderr.contains("DATABASE_URL") && stderr.contains("postgres://USER"), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn both_listeners_on_one_port_are_refused() {
    for (admin, app) in [("127.0.0.1:8420", "127.0.0.1:8420"), ("0.0.0.0:8420", "127.0.0.1:8420")] {
        let stderr = refused(&[("PICLOUD_ADMIN_ADDR", admin), ("PICLOUD_APP_ADDR", app)]);
        assert!(stderr.contains("PICLOUD_ADMIN_ADDR") && stderr.contains("PICLOUD_APP_ADDR"), "{stderr}");
    }
}

#[test]
fn settings_of_an_issuer_are_refused_where_one_is_missing() {
    let issuer = ("PICLOUD_OIDC_ISSUER", "https://login.example.org");
    let client = ("PICLOUD_OIDC_CLIENT_ID", "picloud");
    let allowed = ("PICLOUD_OIDC_ALLOWED", "@example.org");
    let cases = [
        (vec![issuer, allowed], "PICLOUD_OIDC_CLIENT_ID is not"),
        (vec![issuer, client], "PICLOUD_OIDC_ALLOWED is not"),
        (vec![issuer, client, ("PICLOUD_OIDC_ALLOWED", "")], "PICLOUD_OIDC_ALLOWED is not"),
        (vec![client], "PICLOUD_OIDC_CLIENT_ID is set and PICLOUD_OIDC_ISSUER is not"),
        (vec![allowed], "PICLOUD_OIDC_ALLOWED is set and PICLOUD_OIDC_ISSUER is not"),
        (vec![("PICLOUD_OIDC_CREATE", "true")], "PICLOUD_OIDC_CREATE is set and PICLOUD_OIDC_ISSUER is not"),
    ];
    for (environment, words) in cases {
        let stderr = refused(&environment);
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_client_secret_that_others_can_read_is_refused_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let with_secret = || {
        refused(&[
            ("PICLOUD_OIDC_ISSUER", "https://login.example.org"),
            ("PICLOUD_OIDC_CLIENT_ID", "picloud"),
            ("PICLOUD_OIDC_ALLOWED", "@example.org"),
            ("PICLOUD_OIDC_CLIENT_SECRET_FILE", file.to_str().unwrap()),
        ])
    };
    assert!(with_secret().contains("PICLOUD_OIDC_CLIENT_SECRET_FILE"), "it is not there");
    for (mode, text, words) in
        [(0o640, "hunter2", "0600"), (0o600, "", "one line"), (0o600, "hunter2\nx", "one line")]
    {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let stderr = with_secret();
        assert!(stderr.contains("PICLOUD_OIDC_CLIENT_SECRET_FILE") && stderr.contains(words), "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn settings_of_a_relay_are_refused_where_one_is_missing_and_no_password_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let file = ("PICLOUD_SMTP_RELAY_PASSWORD_FILE", file.to_str().unwrap());
    let relay = ("PICLOUD_SMTP_RELAY", "smtp://ada@mail.example.org");
    let from = ("PICLOUD_MAIL_FROM", "{app}@apps.example.org");
    let password = ("PICLOUD_SMTP_RELAY_PASSWORD", "hunter2");
    let cases = [
        (vec![relay], "PICLOUD_MAIL_FROM is not"),
        (vec![relay, from], "there is no password"),
        (vec![relay, from, password, file], "set one of them"),
        (vec![relay, from, file], "allowed is 0600"),
        (vec![relay, from, password, ("PICLOUD_SMTP_RELAY_CA_FILE", "/nowhere")], "certificates in PEM form"),
        (vec![from], "PICLOUD_SMTP_RELAY is not"),
        (vec![password], "PICLOUD_SMTP_RELAY is not"),
        (vec![("PICLOUD_SMTP_RELAY", "smtp://mail.example.org"), from, password], "its URL has no user"),
        (
            vec![("PICLOUD_SMTP_RELAY", "smtp://ada@127.0.0.1?tls=none"), from, password],
            "never sent in clear",
        ),
        (vec![("PICLOUD_SMTP_RELAY", "smtp://ada:hunter2@mail.example.org"), from], "it has a password"),
        (vec![("PICLOUD_SMTP_RELAY_PASSWORD", "hunter2\nx")], "one line"),
    ];
    for (environment, words) in cases {
        let stderr = refused(&environment);
        assert!(stderr.contains(words) && !stderr.contains("hunter2"), "{words}: {stderr}");
    }
}

#[test]
fn an_empty_variable_is_unset_and_an_unknown_one_is_noticed() {
    let home = home();
    let data_dir = home.path().join("data");
    crate::support::fill(&data_dir);
    let server = Server::start(&data_dir, &[("PICLOUD_CONCURRENCY", ""), ("PICLOUD_HISTORY_DAY", "3")]);
    server.signal("TERM");
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("PICLOUD_HISTORY_DAY is set") && stderr.contains("PICLOUD_HISTORY_DAYS?"),
        "{stderr}"
    );
}

#[test]
fn a_data_folder_that_cannot_be_used_is_a_plain_message() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stderr = run_plain(&["serve"], &[("PICLOUD_DATA_DIR", file.path().to_str().unwrap())]).failed(6);
    assert!(stderr.contains("PICLOUD_DATA_DIR"), "{stderr}");
}

#[test]
fn a_port_in_use_is_a_plain_message() {
    let home = home();
    let data_dir = home.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [
        ("PICLOUD_DATA_DIR", data_dir.to_str().unwrap()),
        ("PICLOUD_ADMIN_ADDR", "127.0.0.1:0"),
        ("PICLOUD_APP_ADDR", &address),
    ];
    let stderr = run_plain(&["serve"], &environment).failed(6);
    assert!(stderr.contains("PICLOUD_APP_ADDR") && stderr.contains(&address), "{stderr}");
}

#[test]
fn a_missing_postgresql_is_explained() {
    let home = home();
    let data_dir = home.path().join("data");
    let environment = [
        ("PICLOUD_DATA_DIR", data_dir.to_str().unwrap()),
        ("PICLOUD_POSTGRES_BIN", "/nowhere"),
        ("PICLOUD_ADMIN_ADDR", "127.0.0.1:0"),
        ("PICLOUD_APP_ADDR", "127.0.0.1:0"),
    ];
    let stderr = run_plain(&["serve"], &environment).failed(6);
    assert!(stderr.contains("PICLOUD_POSTGRES_BIN is \"/nowhere\""), "{stderr}");
}

#[test]
fn help_documents_every_setting_and_the_exit_codes() {
    let help = run_plain(&["serve", "--help"], &[]).ok();
    for field in picloud_core::LimitField::ALL {
        assert!(help.contains(&format!("[env: {}=]", field.env())), "{}", field.env());
    }
    assert!(help.contains("[env: DATABASE_URL]"), "{help}");
    assert!(run_plain(&["--help"], &[]).ok().contains("Exit codes:"));
    assert!(run_plain(&["no-such-command"], &[]).failed(2).contains("no-such-command"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run_plain(&["completions", shell], &[]).ok().contains("deploy"));
    }
}
