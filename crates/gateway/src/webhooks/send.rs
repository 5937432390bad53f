//! One delivery: a `POST` of bounded size, answered within a bounded time, to an address that may be reached. Redirects are
//! not followed, bodies of answers are not kept.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;

/// The most of an answer that is read so that its connection can be used again.
const ANSWER_MAX: usize = 16 * 1024;

/// The head of an answer.
const HEAD_MAX: usize = 16 * 1024;

/// Where systems keep the roots they trust.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Delivered(u16),
    /// The receiver wants no more: 410.
    Gone,
    /// It has not, and why; with how long it asks us to wait.
    Failed(String, Option<Duration>),
}

/// A message to be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The same for each attempt.
    pub(crate) id: String,
    /// When this attempt is made, seconds since 1970.
    pub(crate) time_s: u64,
    /// Signatures, a blank between.
    pub(crate) signature: String,
    /// The event.
    pub(crate) body: Bytes,
}

/// Calls receivers.
#[derive(Debug)]
pub(crate) struct Sender {
    tls: Option<Arc<rustls::ClientConfig>>,
    timeout: Duration,
}

/// A connection that may be used again.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

impl Sender {
    /// One that trusts the roots in the PEM file `trusted`, or else the system's.
    ///
    /// # Errors
    ///
    /// A file that was named and cannot be used. A system without roots can still call the loopback.
    pub(crate) fn new(trusted: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let path = trusted.or_else(|| ROOTS.into_iter().map(Path::new).find(|path| path.exists()));
        let tls = path.map(trust).transpose()?;
        Ok(Self { tls, timeout })
    }

    /// Delivers `message`, over `kept` if that is still good; gives back the connection if it may be used again.
    pub(crate) async fn deliver(
        &self,
        target: &Target,
        message: &Message,
        kept: Option<Connection>,
    ) -> (Outcome, Option<Connection>) {
        match tokio::time::timeout(self.timeout, self.exchange(target, message, kept)).await {
            Ok(Ok(done)) => done,
            Ok(Err(why)) => (Outcome::Failed(why, None), None),
            Err(_) => {
                let why = format!("no answer within {} ms", self.timeout.as_millis());
                (Outcome::Failed(why, None), None)
            }
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        message: &Message,
        kept: Option<Connection>,
    ) -> Result<(Outcome, Option<Connection>), String> {
        if let Some(mut connection) = kept
            && connection.ready().await.is_ok()
        {
            // The receiver may just have closed it: that is no failure of this delivery.
            if let Ok(response) = connection.send_request(request(target, message)?).await {
                return Ok(concluded(response, connection).await);
            }
        }
        let mut connection = self.connect(target).await?;
        let sent = connection.send_request(request(target, message)?).await;
        let response = sent.map_err(|error| told("the connection broke", &error))?;
        Ok(concluded(response, connection).await)
    }

    async fn connect(&self, target: &Target) -> Result<Connection, String> {
        let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
        let found = found.map_err(|error| told("the host was not found", &error))?;
        let found: Vec<SocketAddr> = found.collect();
        // We connect to what was looked at, and to nothing that a second look-up would find.
        let reachable: Vec<SocketAddr> =
            found.iter().copied().filter(|address| target.forbids(address.ip()).is_none()).collect();
        if reachable.is_empty() {
            let why = found.iter().find_map(|address| target.forbids(address.ip()));
            return Err(format!("the host may not be called: {}", why.unwrap_or("it leads nowhere")));
        }
        let stream =
            TcpStream::connect(&reachable[..]).await.map_err(|error| told("could not connect", &error))?;
        stream.set_nodelay(true).map_err(|error| told("could not connect", &error))?;
        if !target.tls {
            return over(TokioIo::new(stream)).await;
        }
        let config = self.tls.as_ref().ok_or("there are no trusted roots: set webhooks.trusted")?;
        let name = ServerName::try_from(target.host.clone()).map_err(|_| "the host is not a name for TLS")?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        over(TokioIo::new(stream.map_err(|error| told("could not agree on TLS", &error))?)).await
    }
}

async fn over<S>(stream: S) -> Result<Connection, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX);
    let (sender, connection) =
        builder.handshake(stream).await.map_err(|error| told("could not speak HTTP", &error))?;
    // It ends when the sender is dropped, or the receiver closes.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn told(what: &str, error: &dyn std::error::Error) -> String {
    format!("{what}: {error}")
}

fn request(target: &Target, message: &Message) -> Result<Request<Full<Bytes>>, String> {
    Request::post(target.path.as_str())
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .header(header::USER_AGENT, concat!("skerry/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", message.time_s)
        .header("webhook-signature", &message.signature)
        .body(Full::new(message.body.clone()))
        .map_err(|error| told("the address cannot be called", &error))
}

/// What the answer says; the connection, if the rest of the answer was short.
async fn concluded(
    response: Response<hyper::body::Incoming>,
    connection: Connection,
) -> (Outcome, Option<Connection>) {
    let (head, mut body) = response.into_parts();
    let outcome = match head.status {
        status if status.is_success() => Outcome::Delivered(status.as_u16()),
        StatusCode::GONE => Outcome::Gone,
        status if status.is_redirection() => {
            Outcome::Failed(format!("redirects are not followed: {}", status.as_u16()), None)
        }
        status => {
            let wait = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let wait = wait.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            Outcome::Failed(format!("the receiver answered {}", status.as_u16()), wait)
        }
    };
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (outcome, None) };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > ANSWER_MAX {
            return (outcome, None);
        }
    }
    (outcome, Some(connection))
}

fn trust(path: &Path) -> Result<Arc<rustls::ClientConfig>, String> {
    let wrong = |reason: String| format!("could not read trusted roots in {}: {reason}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    let listed = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    // A system's list may hold one that we do not take: the others still count.
    for certificate in listed.flatten() {
        let _passed_over = roots.add(certificate);
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
