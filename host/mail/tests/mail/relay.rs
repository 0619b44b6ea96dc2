//! Sending by a relay, which is the listener of this crate.

use std::sync::{Arc, Mutex};

use picloud_core::{EventId, OutgoingMail, SecretValue};
use picloud_mail::{Relay, RelayConfig, RelayError, SendError, SinkError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::support::Server;

fn relay(url: &str, password: Option<&str>) -> Result<Relay, RelayError> {
    relay_with(url, password, None)
}

fn relay_with(url: &str, password: Option<&str>, roots: Option<Vec<u8>>) -> Result<Relay, RelayError> {
    Relay::new(RelayConfig {
        roots,
        url: url.parse().unwrap(),
        password: password.map(|text| Arc::new(SecretValue::new(text.into()).unwrap())),
        from: "{app}@apps.example.org".parse().unwrap(),
        hello: "apps.example.org".parse().unwrap(),
    })
}

fn mail(to: &str) -> OutgoingMail {
    OutgoingMail {
        from_name: Some("Löw, \"the\" app".into()),
        to: vec![format!("Ada <{to}>")],
        bcc: vec!["help@apps.example.org".into()],
        subject: format!("Grüße {}", "ü".repeat(200)),
        text: Some(".\n..\nzwölf\r\n".into()),
        html: Some("<p>.</p>\n.\n".into()),
        ..OutgoingMail::default()
    }
}

async fn send(relay: &Relay, event: EventId, mail: &OutgoingMail) -> Result<(), SendError> {
    relay.send(event, &"demo".parse().unwrap(), mail).await
}

#[tokio::test]
async fn a_mail_arrives_as_the_script_gave_it() {
    let server = Server::start().await;
    let relay = relay(&format!("smtp://{}?tls=none", server.address), None).unwrap();
    let event = EventId::generate();
    send(&relay, event, &mail("orders@apps.example.org")).await.unwrap();
    let events = server.events();
    assert_eq!(events.len(), 2);
    let (trigger, got) = &events[0];
    assert_eq!(*trigger, server.trigger("orders"));
    assert_eq!(got["from"], json!({ "address": "demo@apps.example.org", "name": "Löw, \"the\" app" }));
    assert_eq!(got["to"], json!([{ "address": "orders@apps.example.org", "name": "Ada" }]));
    assert_eq!(got["subject"], json!(format!("Grüße {}", "ü".repeat(200))));
    assert_eq!(got["text"], ".\r\n..\r\nzwölf\r\n");
    assert_eq!(got["html"], "<p>.</p>\r\n.\r\n");
    assert_eq!(got["message_id"], json!(format!("<{event}@apps.example.org>")));
    assert_eq!(got["auto_submitted"], true);
    assert!(got["date"].is_string());
    let headers = got["headers"].to_string();
    assert!(!headers.contains("help@apps.example.org"), "the hidden receiver is shown: {headers}");
    assert_eq!(events[1].1["envelope"]["to"], json!(["help@apps.example.org"]));
}

#[tokio::test]
async fn refusals_say_whether_trying_again_makes_sense() {
    let server = Server::start().await;
    let relay = relay(&format!("smtp://{}?tls=none", server.address), None).unwrap();
    let event = EventId::generate();
    let error = send(&relay, event, &mail("nobody@apps.example.org")).await.unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("no such address"), "{error}");
    for failure in [SinkError::Full, SinkError::Unavailable] {
        *server.sink.failure.lock().unwrap() = Some(failure);
        let error = send(&relay, event, &mail("orders@apps.example.org")).await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("try again later"), "{error}");
    }
    assert_eq!(server.events(), []);
    let injected =
        OutgoingMail { subject: "x\r\nBcc: eve@example.net".into(), ..mail("orders@apps.example.org") };
    assert!(matches!(send(&relay, event, &injected).await, Err(SendError::Invalid(_))));
}

#[tokio::test]
async fn a_relay_that_is_away_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let relay = relay(&format!("smtp://{address}?tls=none"), None).unwrap();
    let error = send(&relay, EventId::generate(), &mail("orders@apps.example.org")).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_in_clear_to_a_relay_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let hearing = Arc::clone(&heard);
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        socket.write_all(b"220 relay ESMTP\r\n").await.unwrap();
        let mut line = String::new();
        while socket.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
            hearing.lock().unwrap().push_str(&line);
            // It offers to take the password, as one would in the middle that has taken STARTTLS away.
            let answer =
                if line.starts_with("EHLO") { "250-relay\r\n250 AUTH PLAIN LOGIN\r\n" } else { "250 ok\r\n" };
            line.clear();
            if socket.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let relay = relay(&format!("smtp://ada@127.0.0.1:{}", address.port()), Some("hunter2")).unwrap();
    assert!(!format!("{relay:?}").contains("hunter2"));
    let error = send(&relay, EventId::generate(), &mail("orders@apps.example.org")).await.unwrap_err();
    assert!(error.is_temporary() && !error.to_string().contains("hunter2"), "{error}");
    server.await.unwrap();
    let heard = heard.lock().unwrap().clone();
    assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{heard}");
}

#[tokio::test]
async fn a_relay_with_tls_has_to_show_a_certificate_that_is_trusted() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtps://localhost:{}", listener.local_addr().unwrap().port());
    let behind = server.address;
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut outside) = acceptor.accept(socket).await else { continue };
            let mut inside = TcpStream::connect(behind).await.unwrap();
            // Its client may end without a farewell.
            let _ = copy_bidirectional(&mut outside, &mut inside).await;
        }
    });
    let event = EventId::generate();
    let error = send(&relay(&url, None).unwrap(), event, &mail("orders@apps.example.org")).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.events(), []);
    let trusting = relay_with(&url, None, Some(authority.pem().into())).unwrap();
    send(&trusting, event, &mail("orders@apps.example.org")).await.unwrap();
    assert_eq!(server.events().len(), 2);
    let none = relay_with(&url, None, Some(b"no pem".to_vec())).map(|_| ());
    assert_eq!(none, Err(RelayError::NoAuthority));
    let broken = authority.pem().replace("MII", "III");
    assert!(matches!(relay_with(&url, None, Some(broken.into())), Err(RelayError::Tls(_))));
}

#[test]
fn settings_of_a_relay_have_to_go_together() {
    let refused = |url: &str, password| relay(url, password).map(|_| ()).unwrap_err();
    assert_eq!(refused("smtp://ada@mail.example.org", None), RelayError::NoPassword);
    assert_eq!(refused("smtp://mail.example.org", Some("x")), RelayError::NoUser);
    assert_eq!(refused("smtp://ada@127.0.0.1?tls=none", Some("x")), RelayError::PasswordInClear);
}
