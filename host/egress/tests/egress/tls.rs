//! TLS is verified: against the roots, and for the name that was called.

use std::{net::SocketAddr, sync::Arc};

use picloud_egress::ExtraRoots;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::support::{Caller, LOOPBACK, Seen, answer, ok, text};

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> ExtraRoots {
        ExtraRoots::from_pem(self.0.pem().as_bytes()).unwrap()
    }

    /// A server with a certificate for these names.
    async fn serve(&self, names: &[&str]) -> (SocketAddr, Arc<Seen>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            );
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Seen> = Arc::default();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, kept) = (acceptor.clone(), Arc::clone(&kept));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, Arc::new(|_: &str| ok("over TLS")), kept).await;
                    }
                });
            }
        });
        (address, seen)
    }
}

fn caller(port: u16, roots: ExtraRoots) -> Caller {
    let places = ["*", "127.0.0.1"].map(|host| format!("https://{host}:{port}"));
    let caller = Caller::with(LOOPBACK, &[], &places.each_ref().map(String::as_str), roots);
    for name in ["a.test", "b.test"] {
        caller.names.set(name, &[&["127.0.0.1"]]);
    }
    caller
}

#[tokio::test]
async fn a_certificate_of_a_known_authority_is_taken_for_its_name_only() {
    let authority = Authority::new();
    let (address, seen) = authority.serve(&["a.test", "127.0.0.1"]).await;
    let caller = caller(address.port(), authority.roots());
    for host in ["a.test", "A.TEST.", "127.0.0.1"] {
        let answer = caller.get(&format!("https://{host}:{}/", address.port())).await.unwrap();
        assert_eq!(text(&answer), "over TLS");
    }
    let refused = caller.get(&format!("https://b.test:{}/", address.port())).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "egress_failed");
    assert!(refused.message.contains("gave no secure connection"), "{refused}");
    assert!(seen.requests().iter().all(|request| !request.contains("b.test")));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let authority = Authority::new();
    let (address, seen) = authority.serve(&["a.test"]).await;
    for roots in [ExtraRoots::default(), Authority::new().roots()] {
        let refused = caller(address.port(), roots).get(&format!("https://a.test:{}/", address.port())).await;
        assert_eq!(Caller::refused(refused), "egress_failed");
    }
    assert!(seen.requests().is_empty());
}

#[tokio::test]
async fn a_server_in_clear_gives_no_secure_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let refused = caller(port, ExtraRoots::default()).get(&format!("https://a.test:{port}/")).await;
    assert_eq!(Caller::refused(refused), "egress_failed");
}
