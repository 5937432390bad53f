//! What a gateway may be told, with its bounds. Every limit here shows in `/metrics`.
//!
//! Refuses to know files and the command line: whoever starts the gateway reads `skerry.toml` and fills
//! this in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a gateway listens and what it bounds.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate and key; `None` serves plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Serve plain HTTP on an address that is not the loopback. Said aloud, or refused.
    pub insecure: bool,
    /// Limits.
    pub limits: Limits,
}

/// Certificate files in PEM.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Roots that sign partners' certificates. With them a client may show a certificate, and a token
    /// that names its fingerprint works only over that connection.
    pub partners: Option<PathBuf>,
}

/// Bounds. The memory of one connection is at most [`connection_bytes`](Limits::connection_bytes), or
/// [`http2_connection_bytes`](Limits::http2_connection_bytes); bodies above [`SMALL_BODY`] come out of the common
/// [`bodies_bytes`](Limits::bodies_bytes) besides.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; one more is answered 503 and closed.
    pub connections: usize,
    /// The largest JSON body.
    pub json_bytes: usize,
    /// The largest packed body.
    pub packed_bytes: usize,
    /// All bodies above [`SMALL_BODY`] together; beyond it 503.
    pub bodies_bytes: usize,
    /// Transfers in one batch.
    pub batch_transfers: usize,
    /// From the first byte of a head to its last, and the longest a kept-alive connection may rest.
    pub idle: Duration,
    /// From the head to the last byte of the body.
    pub body: Duration,
    /// From the body to the branch's reply; also the deadline that the branch is given.
    pub request: Duration,
    /// How long a stop waits for requests that run.
    pub drain: Duration,
    /// Streams of events open at once.
    pub event_streams: usize,
    /// The same of one principal.
    pub event_streams_each: usize,
    /// How long a stream waits for a reader who takes nothing.
    pub event_stall: Duration,
}

/// A body up to this many bytes is within the memory stated for a connection.
pub const SMALL_BODY: usize = 64 * 1024;

/// What the task of one request takes.
const TASK: usize = 16 * 1024;

/// The read and write buffers of one connection.
pub const CONNECTION_BUFFER: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection.
pub const HTTP2_STREAMS: u32 = 64;

/// The header list of one request of HTTP/2; HTTP/1 is bounded by its buffer.
pub const HTTP2_HEADER_BYTES: u32 = 16 * 1024;

/// What may be on its way to us on one stream, and on all streams of a connection together.
pub const HTTP2_WINDOWS: (u32, u32) = (64 * 1024, 256 * 1024);

/// Streams that a client reset before we had begun with them; one more ends the connection.
pub const HTTP2_RESETS: usize = 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            json_bytes: 4 * 1024 * 1024,
            packed_bytes: 1024 * 1024,
            bodies_bytes: 256 * 1024 * 1024,
            batch_transfers: 8_192,
            idle: Duration::from_secs(60),
            body: Duration::from_secs(20),
            request: Duration::from_secs(10),
            drain: Duration::from_secs(20),
            event_streams: 256,
            event_streams_each: 32,
            event_stall: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// The most that one connection of HTTP/1 can hold: buffers both ways, a small body and its task.
    #[must_use]
    pub const fn connection_bytes(&self) -> usize {
        2 * CONNECTION_BUFFER + SMALL_BODY + TASK
    }

    /// The most that one connection of HTTP/2 can hold with all its streams at work: buffers both ways, the window, and headers
    /// and a task for each stream. Its bodies, small ones too, come out of [`bodies_bytes`](Self::bodies_bytes).
    #[must_use]
    pub const fn http2_connection_bytes(&self) -> usize {
        2 * CONNECTION_BUFFER
            + HTTP2_WINDOWS.1 as usize
            + HTTP2_STREAMS as usize * (HTTP2_HEADER_BYTES as usize + TASK)
    }
}
