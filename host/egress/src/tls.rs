//! TLS: always verified, against Mozilla's roots and those that the operator adds.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Certificates of authorities that are trusted beside Mozilla's.
#[derive(Clone, Debug, Default)]
pub struct ExtraRoots(Vec<CertificateDer<'static>>);

/// Certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// There is no certificate.
    #[error("it has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    Empty,
    /// One cannot be read.
    #[error("a certificate in it cannot be used: {0}")]
    Certificate(String),
}

impl ExtraRoots {
    /// Reads a file of PEM certificates.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| RootsError::Certificate(error.to_string()))?;
        if certificates.is_empty() {
            return Err(RootsError::Empty);
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| RootsError::Certificate(error.to_string()))?;
        }
        Ok(Self(certificates))
    }
}

/// The settings of every connection. No session is resumed: it would tell a server that two apps are of one node.
pub(crate) fn client_config(extra: ExtraRoots) -> Result<Arc<ClientConfig>, RootsError> {
    let unusable = |error: tokio_rustls::rustls::Error| RootsError::Certificate(error.to_string());
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in extra.0 {
        roots.add(certificate).map_err(unusable)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        for pem in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(ExtraRoots::from_pem(pem.as_bytes()).unwrap_err(), RootsError::Empty);
        }
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(ExtraRoots::from_pem(broken.as_bytes()), Err(RootsError::Certificate(_))));
    }
}
