//! What the operating system keeps a server from, as the kernel tells it.

use std::{collections::BTreeMap, fs};

use crate::support::{Server, fill, home};

/// `/proc/PID/status`: values by name.
fn status(process: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(Result::unwrap);
    let children =
        threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    children
        .flat_map(|text| text.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_server_and_its_database_are_confined_and_work() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[("PICLOUD_CONFINEMENT", "required")]);
    let database = children(server.process());
    assert_eq!(database.len(), 1, "PostgreSQL is its one child");
    let of_database = children(database[0]);
    assert!(!of_database.is_empty());
    for process in [server.process()].iter().chain(&database).chain(&of_database) {
        let status = status(*process);
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{status:?}");
        let capabilities = u64::from_str_radix(&status["CapPrm"], 16).unwrap();
        assert_eq!(
            capabilities & !0b100_1110_1011,
            0,
            "{capabilities:b} has more than CHOWN to NET_BIND_SERVICE"
        );
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    let report: serde_json::Value = serde_json::from_str(&server.cli(&["doctor", "--json"]).ok()).unwrap();
    let all = ["no_new_privileges", "capabilities", "core_dumps", "write_paths", "system_calls"];
    assert_eq!(report["server"]["confinement"], serde_json::json!(all));
    let doctor = server.cli(&["doctor"]).ok();
    assert!(doctor.contains("write access to its own folders only"), "{doctor}");
    // Writing its data, compiling in a child and forking PostgreSQL's processes is all still possible.
    server.cli(&["app", "create", "demo"]).ok();
    server.cli(&["kv", "set", "c", "k", "1", "--app", "demo"]).ok();
}

#[test]
fn it_can_be_switched_off_and_doctor_says_so() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[("PICLOUD_CONFINEMENT", "off")]);
    assert_eq!(status(server.process())["Seccomp"], "0");
    let doctor = server.cli(&["doctor"]).ok();
    assert!(
        doctor.contains("Confinement nothing") && doctor.contains("the server runs without: no new"),
        "{doctor}"
    );
}
