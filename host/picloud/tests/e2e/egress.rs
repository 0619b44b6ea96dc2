//! Scripts that call other services, from the command line to the history.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Server, fill, get, home, shared_app};

/// A service that answers each request with its head, one connection after another. It ends with the tests.
fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 8192];
            let count = stream.read(&mut request).unwrap_or(0);
            let seen = String::from_utf8_lossy(&request[..count]).into_owned();
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", seen.len());
            let _ = stream.write_all(format!("{head}{seen}").as_bytes());
        }
    });
    port
}

const SCRIPT: &str = "fn on_request(req) {
    const URL = req.query.url;
    try {
        let answer = http::post(URL, #{ from: \"here\" }, #{ headers: #{ authorization: \"Bearer hunter2-hunter2\" } });
        return answer.body;
    } catch (e) { return e.code; }
}";

#[test]
fn a_script_calls_what_its_app_and_the_operator_allow() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let port = service();
    let server = Server::start(&data_dir, &[("PICLOUD_EGRESS_PRIVATE", "127.0.0.0/8")]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("call.rhai"), SCRIPT).unwrap();
    let deploy = |manifest: &str| {
        fs::write(folder.path().join("picloud.toml"), format!("name = 'demo'\n{manifest}")).unwrap();
        server.cli(&["deploy", folder.path().to_str().unwrap()])
    };
    deploy("").ok();
    let ask = |url: &str| get(server.app, "demo.localhost", &format!("/call?url={url}")).text();
    let url = format!("http://localhost:{port}/orders/7?q=1");
    assert_eq!(ask(&url), "egress_denied");

    let allowed = format!("http://localhost:{port}");
    let listed = server.cli(&["egress", "allow", &allowed, "--method", "post", "--app", "demo"]).ok();
    assert!(listed.contains(&allowed) && listed.contains("POST"), "{listed}");
    let seen = ask(&url);
    assert!(seen.starts_with("POST /orders/7?q=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("content-type: application/json") && seen.contains("hunter2"), "{seen}");

    // The other names and spellings of this machine are not on the list, and its own ports are closed.
    for other in ["http://127.0.0.1", "http://2130706433", "http://[::1]"] {
        assert_eq!(ask(&format!("{other}:{port}/")), "egress_denied");
    }
    let (control, apps) = (server.admin.port(), server.app.port());
    for own in [control, apps] {
        server.cli(&["egress", "allow", &format!("http://localhost:{own}"), "--app", "demo"]).ok();
        assert_eq!(ask(&format!("http://localhost:{own}/")), "egress_address_denied");
    }

    let told = told(&server, 7);
    assert!(told.contains(&format!("called      POST http://localhost:{port}/orders/7 200, ")), "{told}");
    assert!(told.contains(&format!("POST http://localhost:{control}/ egress_address_denied")), "{told}");
    assert!(!told.contains("q=1") && !told.contains("hunter2"), "{told}");

    server.cli(&["egress", "deny", &allowed, "--app", "demo"]).ok();
    assert_eq!(ask(&url), "egress_denied");
    let twice = server.cli(&["egress", "deny", &allowed, "--app", "demo"]).failed(2);
    assert!(twice.contains("is not on the list"), "{twice}");
    deploy(&format!("[egress]\nallow = ['http://*:{port}']\n")).ok();
    assert!(ask(&url).starts_with("POST /orders/7"));
    let listed = server.cli(&["egress", "list", "--app", "demo"]);
    assert!(listed.stderr.contains("every name"), "{}", listed.stderr);
    server.signal("TERM");
    server.wait();
}

/// What the history tells of each execution, once it has so many.
fn told(server: &Server, count: usize) -> String {
    let begun = Instant::now();
    loop {
        let history = server.cli(&["executions", "--app", "demo", "--json"]).ok();
        let history: serde_json::Value = serde_json::from_str(&history).unwrap();
        let executions = history.as_array().or(history["items"].as_array()).unwrap();
        if executions.len() >= count {
            let ids = executions.iter().map(|execution| execution["id"].as_str().unwrap());
            return ids.map(|id| server.cli(&["executions", id, "--app", "demo"]).ok()).collect();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "only {history}");
    }
}

#[test]
fn without_the_operator_nothing_of_this_machine_is_reached() {
    let app = shared_app("egress");
    let port = service();
    app.deploy("call", SCRIPT).ok();
    app.cli(&["egress", "allow", &format!("http://*:{port}"), &format!("http://127.0.0.1:{port}")]).ok();
    for host in ["localhost", "127.0.0.1", "0x7f.1"] {
        assert_eq!(
            app.get(&format!("/call?url=http://{host}:{port}/")).text(),
            "egress_address_denied",
            "{host}"
        );
    }
}

#[test]
fn a_deployment_tells_which_hosts_are_called() {
    let app = shared_app("egress-uses");
    app.deploy("s", "1").ok();
    let source = "const API = \"https://api.example.com\"; fn on_request(req) { http::get(`${API}/x/${req.path}`).json }";
    let deployed = app.deploy("s", source);
    assert!(
        deployed.stderr.contains("newly calls over HTTP the host \"api.example.com\""),
        "{}",
        deployed.stderr
    );
    assert!(deployed.stderr.contains("picloud egress allow https://api.example.com"), "{}", deployed.stderr);
    app.cli(&["egress", "allow", "api.example.com"]).ok();
    let again = app.deploy("s", &format!("{source} // again"));
    assert!(!again.stderr.contains("egress allow"), "{}", again.stderr);
}
