//! One kept-alive HTTP/1.1 connection, plain or TLS.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::Error;

/// Whom `https` trusts, as [`trust`] reads it.
pub type Trust = Arc<rustls::ClientConfig>;

/// Where a bank is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host and port.
    pub authority: String,
    /// Whether to speak TLS.
    pub tls: bool,
}

impl Address {
    /// Reads `http://host:port` or `https://host:port`, a trailing slash allowed.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Address(text.to_owned());
        let (rest, tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(wrong()),
        };
        let rest = rest.trim_end_matches('/');
        let port = rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if rest.contains('/') || rest.contains('@') || !matches!(port, Some(Ok(_))) {
            return Err(wrong());
        }
        Ok(Self { authority: rest.to_owned(), tls })
    }
}

/// Trust for `https`: the certificates of one PEM file and no others.
///
/// # Errors
///
/// [`Error::Certificate`] if the file holds no certificate.
pub fn trust(path: &std::path::Path) -> Result<Trust, Error> {
    let wrong = |reason: String| Error::Certificate { path: path.display().to_string(), reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One connection. One request at a time.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects; a task of its own then drives the socket until either side closes.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] or [`Error::Http`].
    pub async fn open(address: &Address, tls: Option<&Trust>) -> Result<Self, Error> {
        let refused = |source| Error::Connect { address: address.authority.clone(), source };
        let stream = TcpStream::connect(&address.authority).await.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        if !address.tls {
            return Self::over(TokioIo::new(stream)).await;
        }
        let host = address.authority.rsplit_once(':').map_or(address.authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Error::Address(address.authority.clone()))?;
        let config = tls.ok_or_else(|| Error::Certificate {
            path: String::from("(none)"),
            reason: "https needs the file of the certificates to trust".to_owned(),
        })?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(refused)?;
        Self::over(TokioIo::new(stream)).await
    }

    async fn over<S>(stream: S) -> Result<Self, Error>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) =
            handshake(stream).await.map_err(|source| Error::Http { action: "shake hands", source })?;
        tokio::spawn(async move {
            // A connection that the other side closes is not news: the next request opens another.
            let _closed = connection.await;
        });
        Ok(Self { sender })
    }

    /// Whether another request may be sent here.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// [`Error::Http`]: the connection is of no more use.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, hyper::HeaderMap, Bytes), Error> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = body.collect().await.map_err(broken_answer)?.to_bytes();
        Ok((head.status, head.headers, body))
    }

    /// The same with a server that is not a bank's: an answer of more than `most` bytes is not read.
    ///
    /// # Errors
    ///
    /// [`Error::Http`], [`Error::TooLong`]: the connection is of no more use.
    pub async fn send_bounded(
        &mut self,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<(StatusCode, hyper::HeaderMap, Bytes), Error> {
        let (head, mut body) = self.begin(request).await?.into_parts();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(broken_answer)?.into_data() else { continue };
            if read.len().saturating_add(piece.len()) > most {
                return Err(Error::TooLong(most));
            }
            read.extend_from_slice(&piece);
        }
        Ok((head.status, head.headers, read.into()))
    }

    async fn begin(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        self.sender.ready().await.map_err(|source| Error::Http { action: "use the connection", source })?;
        let sent = self.sender.send_request(request).await;
        sent.map_err(|source| Error::Http { action: "send the request", source })
    }
}

fn broken_answer(source: hyper::Error) -> Error {
    Error::Http { action: "read the answer", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let plain = Address::parse("http://127.0.0.1:7117/").unwrap();
        assert_eq!((plain.authority.as_str(), plain.tls), ("127.0.0.1:7117", false));
        assert!(Address::parse("https://bank:1").unwrap().tls);
        for wrong in
            ["", "bank:1", "ftp://bank:1", "http://bank", "http://bank:x", "http://bank:1/v1", "http://a@b:1"]
        {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
