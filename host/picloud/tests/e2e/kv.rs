//! Data under load.

use std::thread;

use crate::support::shared_app;

#[test]
fn two_hundred_read_modify_writes_of_one_key_all_count() {
    let app = shared_app("counter");
    app.deploy("count", "let n = kv::get(\"c\", \"n\", 0); kv::set(\"c\", \"n\", n + 1); n + 1").ok();
    let mut answers: Vec<i64> = thread::scope(|scope| {
        let calls: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    let answer = app.get("/count");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answer.text().parse().unwrap()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    answers.sort_unstable();
    assert_eq!(answers, (1..=200).collect::<Vec<_>>());
    assert_eq!(app.cli(&["kv", "get", "c", "n"]).ok(), "200\n");
}

#[test]
fn a_failed_call_leaves_nothing() {
    let app = shared_app("atomic");
    app.deploy("half", "kv::set(\"c\", \"a\", 1); throw \"no\"").ok();
    assert_eq!(app.get("/half").code(), "script_error");
    app.cli(&["kv", "get", "c", "a"]).failed(4);
}

#[test]
fn any_text_comes_back_as_it_went_in() {
    let app = shared_app("texts");
    app.deploy("echo", "kv::set(\"t\", \"k\", req.json); kv::get(\"t\", \"k\")").ok();
    app.deploy("read", "kv::get(\"t\", \"k\")").ok();
    for text in [r#""\u0000""#, "\"\u{e9}\"", "\"e\u{301}\"", r#""🦀\n\t""#, r#"{"a":[1,2.5,null,true]}"#] {
        let wanted: serde_json::Value = serde_json::from_str(text).unwrap();
        let answer = app.post("/echo", &format!("[{text}]"));
        assert_eq!(answer.json()[0], wanted);
        assert_eq!(app.get("/read").json()[0], wanted);
    }
}
