//! TLS: certificate and key from PEM files, and partners' roots for those who show a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// A certificate file that is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {reason}")]
pub struct TlsError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// An acceptor with ring, TLS 1.2 and 1.3, HTTP/2 and 1.1.
///
/// # Errors
///
/// [`TlsError`] names the file.
pub fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| wrong(&config.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&config.certificate, &error))?;
    let builder = match &config.partners {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| wrong(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server =
        builder.with_single_cert(chain, key).map_err(|error| wrong(&config.certificate, &error))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, &error))?.collect();
    let chain = read.map_err(|error| wrong(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError { path: path.to_owned(), reason: "there is no certificate in it".to_owned() });
    }
    Ok(chain)
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError { path: path.to_owned(), reason: error.to_string() }
}
