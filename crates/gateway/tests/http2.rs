//! HTTP/2: spoken over TLS and without, with the same answers; its streams, headers and resets are bounded.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Version};
use common::{TestBank, id, transfer};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use skerry_gateway::config::{HTTP2_HEADER_BYTES, HTTP2_STREAMS};
use skerry_gateway::{GatewayConfig, Limits, Listening, TlsConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

async fn serve(bank: &TestBank, tls: Option<TlsConfig>) -> SocketAddr {
    let limits = Limits::default();
    let config = GatewayConfig { listen: "127.0.0.1:0".parse().unwrap(), tls, insecure: false, limits };
    let listening = Listening::bind(&config).await.unwrap();
    let address = listening.address();
    tokio::spawn(listening.serve(bank.front.clone(), std::future::pending()));
    address
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Body> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn call(
    sender: &SendRequest<Body>,
    bank: &TestBank,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {}", bank.operator));
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = sender.clone().send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// Many requests on one connection at once: money moves and problems are problems.
async fn banks(sender: &SendRequest<Body>, bank: &TestBank) {
    let (one, other) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let mut running = Vec::new();
    for _ in 0..20 {
        let body = transfer(&id(), &one, &other, "0.10");
        running.push(async move { call(sender, bank, "POST", "/v1/transfers", &body).await });
    }
    let mut statuses = Vec::new();
    for call in running {
        statuses.push(call.await.0);
    }
    assert_eq!(statuses, vec![201; 20]);
    let (status, account) = call(sender, bank, "GET", &format!("/v1/accounts/{other}"), &Value::Null).await;
    assert_eq!((status, &account["balances"]["posted"]["amount"]), (200, &Value::from("2.01")));
    let (status, problem) = call(sender, bank, "POST", "/v1/transfers", &Value::from("x")).await;
    assert_eq!((status, &problem["code"]), (400, &Value::from("invalid_field")));
    let large = Value::from("x".repeat(Limits::default().json_bytes + 1));
    let (status, problem) = call(sender, bank, "POST", "/v1/transfers", &large).await;
    assert_eq!((status, &problem["code"]), (413, &Value::from("body_too_large")));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_chosen_by_alpn_over_tls() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    let bank = TestBank::new(1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let file = |name: &str, text: &str| {
        let path = bank.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = TlsConfig {
        certificate: file("server.pem", &certificate.pem()),
        key: file("server.key", &key.serialize_pem()),
        partners: None,
    };
    let address = serve(&bank, Some(tls)).await;
    for (offered, chosen) in [
        (vec![&b"h2"[..], b"http/1.1"], Some(&b"h2"[..])),
        (vec![b"http/1.1"], Some(b"http/1.1")),
        (vec![], None),
    ] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
        if chosen == Some(b"h2") {
            banks(&connect(stream).await, &bank).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_spoken_without_tls_to_who_begins_with_it() {
    let bank = TestBank::new(1);
    let address = serve(&bank, None).await;
    banks(&connect(TcpStream::connect(address).await.unwrap()).await, &bank).await;
}

// What follows is laid by hand (RFC 9113, 4 and 6): a well-behaved client cannot misbehave.

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `POST http://x/v1/transfers` in HPACK (RFC 7541): three entries of the static table, and two literals.
fn post() -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04, 13];
    block.extend(b"/v1/transfers");
    block.extend([0x01, 1, b'x']);
    block
}

/// A connection whose preface is said; the server's frames are read one by one.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { stream }
    }

    /// The next frame of one of these kinds: kind, stream, payload; `None` once the connection is over.
    async fn next(&mut self, kinds: &[u8]) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            let read = tokio::time::timeout(Duration::from_secs(30), self.stream.read_exact(&mut head));
            read.await.expect("the server says something or closes").ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.ok()?;
            if kinds.contains(&head[3]) {
                return Some((head[3], stream, payload));
            }
        }
    }

    /// Whether the server ended the connection because it was too much; the bytes after it do not matter.
    async fn is_told_to_calm_down(&mut self) -> bool {
        match self.next(&[GOAWAY]).await {
            Some((_, _, payload)) => number(&payload[4..8]) == ENHANCE_YOUR_CALM,
            None => false,
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

async fn is_healthy(bank: &TestBank, address: SocketAddr) {
    let sender = connect(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(call(&sender, bank, "GET", "/v1/branches", &Value::Null).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let bank = TestBank::new(1);
    let address = serve(&bank, None).await;
    let mut raw = Raw::connect(address).await;
    let (_, _, settings) = raw.next(&[SETTINGS]).await.unwrap();
    let said = |id: u16| {
        let pairs = settings.chunks(6).find(|pair| pair[..2] == id.to_be_bytes());
        pairs.map(|pair| number(&pair[2..]))
    };
    assert_eq!(said(3), Some(HTTP2_STREAMS));
    assert_eq!(said(6), Some(HTTP2_HEADER_BYTES));
    raw.stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    // No end of stream: each waits for its body.
    for nth in 0..=HTTP2_STREAMS {
        raw.stream.write_all(&frame(HEADERS, END_HEADERS, 2 * nth + 1, &post())).await.unwrap();
    }
    let (kind, stream, payload) = raw.next(&[RST_STREAM, GOAWAY]).await.unwrap();
    assert_eq!((kind, stream, number(&payload)), (RST_STREAM, 2 * HTTP2_STREAMS + 1, REFUSED_STREAM));
    // The first one ends, without a token: it is answered.
    raw.stream.write_all(&frame(0, END_STREAM, 1, &[])).await.unwrap();
    let (_, stream, _) = raw.next(&[HEADERS]).await.unwrap();
    assert!(stream % 2 == 1);
    is_healthy(&bank, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_and_leave_nothing_running() {
    let bank = TestBank::new(1);
    let address = serve(&bank, None).await;
    let mut raw = Raw::connect(address).await;
    let mut flood = Vec::new();
    for nth in 0..10_000_u32 {
        flood.extend(frame(HEADERS, END_HEADERS, 2 * nth + 1, &post()));
        flood.extend(frame(RST_STREAM, 0, 2 * nth + 1, &8_u32.to_be_bytes()));
    }
    // The server may have closed before it has all.
    let _ = raw.stream.write_all(&flood).await;
    assert!(raw.is_told_to_calm_down().await, "10,000 resets in one breath");
    is_healthy(&bank, address).await;
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while bank.gateway.meters.in_flight.get() > 0 {
        assert!(std::time::Instant::now() < until, "requests still run");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_not_gathered() {
    let bank = TestBank::new(1);
    let address = serve(&bank, None).await;
    let mut raw = Raw::connect(address).await;
    let mut flood = frame(HEADERS, 0, 1, &post());
    // A header of 100 bytes again and again, and never the end of the block.
    let mut field = vec![0x00, 1, b'a', 100];
    field.extend([b'v'; 100]);
    let block = field.repeat(150);
    for _ in 0..1_000 {
        flood.extend(frame(CONTINUATION, 0, 1, &block));
    }
    let _ = raw.stream.write_all(&flood).await;
    assert!(raw.is_told_to_calm_down().await, "15 MB of headers");
    is_healthy(&bank, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_list_over_the_bound_is_refused_alone() {
    let bank = TestBank::new(1);
    let address = serve(&bank, None).await;
    let sender = connect(TcpStream::connect(address).await.unwrap()).await;
    let request = |length: usize| {
        let request = Request::builder().uri("http://localhost/healthz").header("x-long", "v".repeat(length));
        sender.clone().send_request(request.body(Body::empty()).unwrap())
    };
    assert_eq!(request(8 * 1024).await.unwrap().status(), 200);
    match request(20 * 1024).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(!error.is_closed(), "{error}"),
    }
    assert_eq!(request(10).await.unwrap().status(), 200, "the connection goes on");
}
