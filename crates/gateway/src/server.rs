//! Listening: connections are capped, watched for idleness, served by hyper and drained at the end.
//!
//! One task a connection and none a request. A connection over the cap is told so and closed; one on which
//! nothing moves is dropped. At a stop nothing new is accepted, what runs is finished, and after
//! [`Limits::drain`] the rest is cut.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::auth::ClientCertificate;
use crate::catalogue;
use crate::config::{
    CONNECTION_BUFFER, GatewayConfig, HTTP2_HEADER_BYTES, HTTP2_RESETS, HTTP2_STREAMS, HTTP2_WINDOWS, Limits,
};
use crate::problem::{Language, Problem};
use crate::service::Front;
use crate::tls::{self, TlsError};

/// Why the gateway does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Plain HTTP beyond the loopback, and nobody said so aloud.
    #[error("{0} is not the loopback: configure a certificate, or say --insecure")]
    Exposed(SocketAddr),
    /// The address could not be taken.
    #[error("could not listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificate or key is of no use.
    #[error("could not set up TLS")]
    Tls(#[from] TlsError),
}

/// A gateway that listens and does not serve yet.
pub struct Listening {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    address: SocketAddr,
}

impl Listening {
    /// Takes the address.
    ///
    /// # Errors
    ///
    /// [`ServeError`].
    pub async fn bind(config: &GatewayConfig) -> Result<Self, ServeError> {
        if !config.listen.ip().is_loopback() && config.tls.is_none() && !config.insecure {
            return Err(ServeError::Exposed(config.listen));
        }
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let failed = |source| ServeError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, acceptor, limits: config.limits, address })
    }

    /// The address taken; its port is known even if 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then drains.
    pub async fn serve(self, front: Front, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let (draining, watcher) = watch::channel(false);
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.admit(stream, &slots, &front, &watcher),
                Err(error) => {
                    // Out of descriptors, mostly: give others the time to close some.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        front.stop();
        let _ = draining.send(true);
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(self.limits.drain, slots.acquire_many(all)).await.is_err() {
            tracing::warn!(seconds = self.limits.drain.as_secs(), "requests still ran when the drain ended");
        }
    }

    fn admit(
        &self,
        stream: TcpStream,
        slots: &Arc<Semaphore>,
        front: &Front,
        watcher: &watch::Receiver<bool>,
    ) {
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            front.meters().connections_refused.add(1);
            refuse(&stream);
            return;
        };
        let (front, watcher, limits) = (front.clone(), watcher.clone(), self.limits);
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            front.meters().connections.add(1);
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => drive(stream, front.clone(), watcher, limits).await,
                Some(acceptor) => {
                    let shaken = tokio::time::timeout(limits.idle, acceptor.accept(stream)).await;
                    if let Ok(Ok(stream)) = shaken {
                        let certificate =
                            stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                        let certificate =
                            certificate.map(|leaf| ClientCertificate(Sha256::digest(leaf).into()));
                        drive(stream, front.clone().with_certificate(certificate), watcher, limits).await;
                    }
                }
            }
            front.meters().connections.subtract(1);
            end(slot);
        });
    }
}

/// Gives the slot back, last of all.
fn end(slot: OwnedSemaphorePermit) {
    drop(slot);
}

/// Tells a connection over the cap why, without waiting for it: a fresh socket takes that much at once.
fn refuse(stream: &TcpStream) {
    let problem = Problem::numbered(catalogue::TOO_MANY_CONNECTIONS).retry_after_ms(1_000);
    let body = serde_json::to_string(&problem.document(Language::English)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(head.as_bytes());
}

async fn drive<S>(stream: S, front: Front, mut watcher: watch::Receiver<bool>, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let moved = Arc::new(AtomicBool::new(true));
    let io = TokioIo::new(Watched { stream, moved: Arc::clone(&moved) });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(CONNECTION_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADER_BYTES)
        .initial_stream_window_size(HTTP2_WINDOWS.0)
        .initial_connection_window_size(HTTP2_WINDOWS.1)
        .max_send_buf_size(CONNECTION_BUFFER)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS);
    let mut connection = pin!(builder.serve_connection(io, front));
    let mut check = tokio::time::interval(limits.idle);
    check.tick().await;
    loop {
        tokio::select! {
            // How a connection ends is the client's business; what was wrong was answered.
            _ = connection.as_mut() => return,
            _ = check.tick() => if !moved.swap(false, Ordering::Relaxed) { return },
            changed = watcher.changed() => {
                connection.as_mut().graceful_shutdown();
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// A stream that remembers whether anything moved on it.
struct Watched<S> {
    stream: S,
    moved: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.moved.store(true, Ordering::Relaxed);
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.moved.store(true, Ordering::Relaxed);
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.moved.store(true, Ordering::Relaxed);
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
