//! A PostgreSQL that goes away and comes back while a server takes and handles messages.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use picloud_postgres::ThrowawayCluster;

use crate::support::events::{Installation, call_script, send_messages};

/// Nothing here takes that long; what does, hangs.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Default)]
struct Sent {
    accepted: Mutex<Vec<String>>,
    refused: AtomicU64,
    is_enough: AtomicBool,
}

impl Sent {
    fn accepted(&self) -> u64 {
        self.accepted.lock().unwrap().len() as u64
    }

    fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "this hangs");
        thread::yield_now();
    }
}

#[test]
fn events_outlive_a_restart_and_a_crash_of_the_database() {
    let mut installation = Installation::new(ThrowawayCluster::start_durable());
    let server = installation.start_first();
    let sent = Arc::new(Sent::default());
    let (admin, app, token, told) = (server.admin, server.app, server.token(), Arc::clone(&sent));
    let sender = thread::spawn(move || {
        send_messages(admin, &token, 0, |answer| {
            match answer {
                Ok(id) => told.accepted.lock().unwrap().push(id),
                Err(refused) => {
                    assert_eq!((refused.status, refused.code().as_str()), (503, "database_unavailable"));
                    assert!(refused.header("retry-after").is_some());
                    told.refused.fetch_add(1, Relaxed);
                }
            }
            !told.is_enough.load(Relaxed)
        });
    });
    let told = Arc::clone(&sent);
    let caller = thread::spawn(move || {
        call_script(app, |status| {
            assert!(matches!(status, 200 | 503), "{status}");
            !told.is_enough.load(Relaxed)
        });
    });

    for stop in [ThrowawayCluster::stop_server, ThrowawayCluster::crash_server] {
        let (accepted, refused) = (sent.accepted(), sent.refused());
        until(|| sent.accepted() >= accepted + 20);
        stop(&mut installation.database.cluster).unwrap();
        until(|| sent.refused() > refused);
        assert_eq!(server.api("GET /readyz", "").status, 503);
        installation.database.cluster.start_server().unwrap();
        server.wait_until_ready();
        assert_eq!(server.api("GET /readyz", "").json()["notifications"], true);
        let accepted = sent.accepted();
        until(|| sent.accepted() >= accepted + 20);
    }
    sent.is_enough.store(true, Relaxed);
    sender.join().unwrap();
    caller.join().unwrap();
    let noted = std::mem::take(&mut *sent.accepted.lock().unwrap());
    assert!(installation.check(&noted) > noted.len() as u64, "scripts have sent some too");
}
