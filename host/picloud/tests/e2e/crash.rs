//! A server that is killed at a step of its work with events, or at any moment, and the one that is started after it.
//!
//! The step is held by a lock that another connection has on a table, so that nothing is left to chance. Many more random
//! moments than here are tried by `cargo xtask bench --only crash`, with the same scripts and the same account.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::mpsc::channel,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use picloud_postgres::ThrowawayCluster;

use crate::support::{
    Server,
    events::{HOST, Installation, ask, call_script, send_messages},
    get,
};

/// How often it is killed at random moments, and after how many messages at most.
const ROUNDS: u32 = 5;
const MOST_MESSAGES: u64 = 30;

#[test]
fn a_server_killed_at_any_step_loses_no_event_and_repeats_no_effect() {
    let installation = Installation::new(ThrowawayCluster::start());
    let database = &installation.database;
    let send = |server: &Server| assert_eq!(get(server.app, HOST, "/send").text(), "sent");

    let mut server = Some(installation.start_first());
    // Where it is killed: it inserts or claims; has claimed and asks for the trigger; commits what a run did together with
    // the event's end; moves events to the dead letters.
    for table in ["outbox", "triggers", "kv", "dead_letters"] {
        let killed = server.take().unwrap();
        send(&killed);
        let mut lock = database.lock(table);
        let address = killed.app;
        // Its caller never hears of it, and whether it was accepted is what the database says.
        let caller =
            thread::spawn(move || ask(address, &format!("GET /send HTTP/1.1\r\nhost: {HOST}\r\n\r\n")));
        let waiting =
            format!("SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
        database.wait(&waiting, Duration::from_secs(30), |waiting| waiting > 0);
        killed.signal("KILL");
        killed.wait();
        caller.join().unwrap();
        lock.kill().unwrap();
        lock.wait().unwrap();
        server = Some(installation.start());
    }
    let server = server.unwrap();
    send(&server);
    // Each call sends ten messages, and half of them send another.
    let accepted = installation.check(&[]);
    assert!(accepted >= 5 * 14, "{accepted}");
    let dead = database.number("SELECT count(*) FROM dead_letters");
    let failing = database.number("SELECT count(*) FROM kv WHERE collection = 'sent' AND value = '9'");
    assert_eq!(dead, failing, "only what always fails was given up");
}

#[test]
fn a_server_killed_at_random_moments_loses_no_event_and_repeats_no_effect() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
    let seed = std::env::var("CRASH_SEED").unwrap_or(now);
    println!("CRASH_SEED={seed}");
    let installation = Installation::new(ThrowawayCluster::start());
    let mut server = installation.start_first();
    let mut noted = Vec::new();
    for round in 0..ROUNDS {
        let mut hasher = DefaultHasher::new();
        (&seed, round).hash(&mut hasher);
        let messages = 1 + hasher.finish() % MOST_MESSAGES;
        let (sender, accepted) = channel();
        let (admin, app, token) = (server.admin, server.app, server.token());
        let clients = [
            thread::spawn(move || {
                send_messages(admin, &token, u64::from(round) << 32, |id| {
                    id.is_ok_and(|id| sender.send(id).is_ok())
                });
            }),
            thread::spawn(move || call_script(app, |status| status == 200)),
        ];
        for _ in 0..messages {
            noted.push(accepted.recv().expect("the server answers"));
        }
        server.signal("KILL");
        server.wait();
        for client in clients {
            client.join().unwrap();
        }
        noted.extend(accepted);
        server = installation.start();
    }
    let accepted = installation.check(&noted);
    assert!(accepted > noted.len() as u64, "scripts have sent some too");
}
