//! Calls of scripts to other services: the app's list, the time of the invocation, the history.

use picloud_core::{EgressRecord, EgressRules, ErrorCode, ExecutionId, LimitField, Node as _};
use picloud_store::{ExecutionFilter, PageSize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::platform::{Platform, post, soon};

/// A service that answers every request of a connection with `found`, or never.
async fn service(answers: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    if answers {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfound";
                        let _ = stream.write_all(answer).await;
                    }
                }
            });
        }
    });
    place
}

async fn allow(platform: &Platform, places: &[&str]) {
    let rules = EgressRules { allow: places.iter().map(|place| place.parse().unwrap()).collect() };
    platform.store.put_egress_rules(platform.demo, &rules).await.unwrap();
    platform.node.app_changed(platform.demo).await;
}

/// What the executions have called, the oldest first.
async fn called(platform: Platform) -> Vec<(Option<ErrorCode>, Vec<EgressRecord>)> {
    let demo = platform.demo;
    let (store, _) = platform.finish().await;
    let size = PageSize::new(200).unwrap();
    let executions = store.executions(demo, &ExecutionFilter::default(), None, size).await.unwrap().items;
    let mut called = Vec::new();
    for execution in executions.iter().rev() {
        let id: ExecutionId = execution.id;
        let egress = store.execution_egress(demo, id).await.unwrap();
        called.push((execution.outcome.error_code(), egress));
    }
    called
}

#[tokio::test]
async fn a_list_counts_from_the_next_request_on_and_every_call_is_in_the_history() {
    // A success is kept because it has called, not as a sample.
    let platform = Platform::with(|config| config.history.successes_per_second = 0).await;
    let place = service(true).await;
    let url = format!("{place}/users/s3cret-token?key=s3cret-token&s3cret-token");
    platform.post("/call", &url).await.assert_problem(500, "egress_denied");
    allow(&platform, &[&place]).await;
    assert_eq!(platform.post("/call", &url).await.text(), "200 found");
    assert_eq!(platform.get("/hello").await.status, 200);
    allow(&platform, &[]).await;
    platform.post("/call", &url).await.assert_problem(500, "egress_denied");
    let called = called(platform).await;
    let told: Vec<_> = called
        .iter()
        .map(|(outcome, egress)| (*outcome, egress[0].status, egress[0].error, egress[0].path.as_str()))
        .collect();
    let denied = Some(ErrorCode::EgressDenied);
    assert_eq!(
        told,
        [
            (denied, None, denied, "/users/[secret masked]"),
            (None, Some(200), None, "/users/[secret masked]"),
            (denied, None, denied, "/users/[secret masked]"),
        ]
    );
    assert!(!format!("{called:?}").contains("s3cret"), "{called:?}");
}

#[tokio::test]
async fn the_invocations_own_time_goes_on_while_a_call_waits() {
    let platform = Platform::start().await;
    let place = service(false).await;
    allow(&platform, &[&place]).await;
    platform.limit(LimitField::WallMs, 200).await;
    let begun = std::time::Instant::now();
    platform.post("/call", &place).await.assert_problem(504, "deadline_exceeded");
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    let called = called(platform).await;
    assert_eq!(called[0].0, Some(ErrorCode::DeadlineExceeded));
    assert_eq!(called[0].1[0].error, Some(ErrorCode::EgressStopped));
}

/// Who starts calls and goes away hides nothing.
#[tokio::test]
async fn a_call_is_in_the_history_also_if_the_client_goes_away() {
    let platform = Platform::start().await;
    let place = service(false).await;
    allow(&platform, &[&place]).await;
    let mut client = platform.client().await;
    client.try_send(post("/call", &place)).await;
    soon(async {
        while platform.node.status().running == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    soon(async {
        while platform.node.status().running > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let called = called(platform).await;
    assert_eq!(called[0].0, Some(ErrorCode::ClientGone));
    assert_eq!(called[0].1[0].error, Some(ErrorCode::EgressStopped), "{called:?}");
}
