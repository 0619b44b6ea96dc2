//! HTTP/2 without TLS, in frames written by hand.

use std::time::Duration;

use crate::{
    client::Client,
    platform::{Platform, soon},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `:method GET`, `:scheme http`, `:path` and `:authority` without indexing or Huffman coding.
fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    let authority = "demo.localhost";
    block.extend_from_slice(&[0x01, authority.len() as u8]);
    block.extend_from_slice(authority.as_bytes());
    block
}

async fn connect(platform: &Platform) -> Client {
    let mut client = platform.client().await;
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    client
}

/// The next frame as kind, stream and payload; `None` at the end of the connection.
async fn next(client: &mut Client) -> Option<(u8, u32, Vec<u8>)> {
    let head = client.read(9).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], stream, client.read(length).await?))
}

#[tokio::test]
async fn requests_are_answered() {
    let platform = Platform::start().await;
    let mut client = connect(&platform).await;
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/hello"))).await;
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &get("/echo"))).await;
    let mut bodies = [Vec::new(), Vec::new()];
    soon(async {
        while bodies.iter().any(Vec::is_empty) {
            let (kind, stream, payload) = next(&mut client).await.unwrap();
            if kind == DATA {
                bodies[(stream / 2) as usize].extend(payload);
            }
        }
    })
    .await;
    assert_eq!(bodies[0], b"hello");
    let seen: serde_json::Value = serde_json::from_slice(&bodies[1]).unwrap();
    assert_eq!(seen["headers"], "host: demo.localhost\n");
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_and_nothing_else() {
    let platform = Platform::start().await;
    let mut client = connect(&platform).await;
    let flood: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            let mut frames = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/hold"));
            frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            frames
        })
        .collect();
    client.try_send(flood).await;
    let code = soon(async {
        loop {
            match next(&mut client).await {
                Some((GOAWAY, _, payload)) => break Some(payload[7]),
                Some(_) => {}
                None => break None,
            }
        }
    })
    .await;
    // ENHANCE_YOUR_CALM, unless the connection was reset before it could be read.
    assert!(matches!(code, Some(11) | None), "{code:?}");
    assert_eq!(platform.get("/hello").await.text(), "hello");
    crate::platform::until(|| picloud_core::Node::status(&*platform.node).running == 0).await;
}

#[tokio::test]
async fn a_silent_connection_is_ended() {
    let platform = Platform::with(|config| {
        config.serve.head_timeout = Duration::from_millis(200);
        config.serve.idle_timeout = Duration::from_millis(200);
        config.serve.write_timeout = Duration::from_millis(200);
    })
    .await;
    let mut client = connect(&platform).await;
    soon(client.read_to_end()).await;

    // One that asks, but leaves no room for the answer.
    let mut client = platform.client().await;
    let no_window = [0, 4, 0, 0, 0, 0];
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &no_window)].concat()).await;
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/hello"))).await;
    soon(client.read_to_end()).await;
    assert_eq!(platform.get("/hello").await.text(), "hello");
}

#[tokio::test]
async fn a_connection_that_never_asks_is_ended_as_soon_as_one_of_http_1() {
    let platform = Platform::with(|config| config.serve.head_timeout = Duration::from_millis(200)).await;
    // A preface that is never whole, and one that nothing follows but pings.
    let mut client = platform.client().await;
    client.send(&PREFACE[..16]).await;
    soon(client.read_to_end()).await;

    let mut client = connect(&platform).await;
    soon(async {
        loop {
            client.try_send(frame(PING, 0, 0, &[0; 8])).await;
            if next(&mut client).await.is_none() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let platform = Platform::start().await;
    let mut client = connect(&platform).await;
    let mut block = get("/hello");
    for _ in 0..101 {
        block.extend_from_slice(&[0x00, 1, b'x', 1, b'y']);
    }
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
    let body = soon(async {
        loop {
            let (kind, _, payload) = next(&mut client).await.unwrap();
            if kind == DATA {
                break payload;
            }
        }
    })
    .await;
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "headers_too_large");
}
