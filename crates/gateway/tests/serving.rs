//! Over real sockets: caps, silence, rubbish, streams, TLS refusals, and a stop that drains.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use std::time::Duration;

use common::{TestBank, id, transfer};
use skerry_gateway::{GatewayConfig, Limits, Listening, ServeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn serve(bank: &TestBank, limits: Limits) -> Server {
    let config = GatewayConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None, insecure: false, limits };
    let listening = Listening::bind(&config).await.unwrap();
    let address = listening.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(listening.serve(bank.front.clone(), async {
        let _ = stopped.await;
    }));
    Server { address, stop, task }
}

/// Sends raw bytes and reads until the other side closes or falls silent.
async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut buffer)).await {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..count]);
        if answer.windows(4).any(|part| part == b"\r\n\r\n") && answer.ends_with(b"}") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(bank: &TestBank, length: usize) -> String {
    format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        bank.operator
    )
}

/// Reads one answer, whose length its head says.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count =
            tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return text;
        }
    }
}

/// Most clients send their whole body before they look for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_hears_so_and_may_go_on() {
    let bank = TestBank::new(1);
    let server = serve(&bank, Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = vec![b' '; 40 << 20];
    stream.write_all(head(&bank, body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body).await.expect("it is read to its end");
    let refused = one_answer(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("body_too_large"), "{refused}");
    stream.write_all(head(&bank, 2).as_bytes()).await.unwrap();
    stream.write_all(b"{}").await.unwrap();
    let next = one_answer(&mut stream).await;
    assert!(next.contains("missing_field"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_a_problem_document_each_time() {
    let bank = TestBank::new(1);
    let server = serve(&bank, Limits::default()).await;
    let (ana, ben) = (bank.funded(1, "10.00").await, bank.funded(1, "0.01").await);
    let far_future = "ffffffff-ffff-7000-8000-000000000000";
    let long_ago = "00000000-0001-7000-8000-000000000000";
    let version_8 = "0197a3c0-5b00-8000-8000-0123456789ab";
    let cases = [
        ("{".to_owned(), "malformed_json"),
        (String::new(), "malformed_json"),
        ("[]".to_owned(), "invalid_field"),
        ("\u{0}\u{1}".to_owned(), "malformed_json"),
        ("{\"id\":".repeat(10_000), "invalid_field"),
        ("[".repeat(100_000), "malformed_json"),
        (transfer(&id(), &ana, &ben, "-1.00").to_string(), "invalid_field"),
        (transfer(&id(), &ana, &ben, "0.00").to_string(), "amount_zero"),
        (transfer(&id(), &ana, &ben, &"9".repeat(400)).to_string(), "invalid_field"),
        (transfer(&id(), &ana, &ben, "184467440737095516.15").to_string(), "insufficient_funds"),
        (transfer(&id(), &ana, &ben, "1e5").to_string(), "invalid_field"),
        (transfer(&id(), &ana, &ben, "1.00").to_string().replace("CNY", "QQQ"), "invalid_field"),
        (transfer(&id(), &ana, &ben, "1.00").to_string().replace("CNY", "JPY"), "invalid_field"),
        (transfer(&id(), &ana, &ben, "1").to_string().replace("CNY", "JPY"), "currency_not_theirs"),
        (transfer(&id(), &ana, &ana, "1.00").to_string(), "same_account"),
        (transfer(far_future, &ana, &ben, "1.00").to_string(), "id_too_far_ahead"),
        (transfer(long_ago, &ana, &ben, "1.00").to_string(), "id_expired"),
        (transfer(version_8, &ana, &ben, "1.00").to_string(), "id_version_not_allowed"),
        (transfer("00000000-0000-0000-0000-000000000000", &ana, &ben, "1.00").to_string(), "id_missing"),
        (transfer(&id(), "0001000000099999", &ben, "1.00").to_string(), "invalid_field"),
        (transfer(&id(), "gl:9", &ben, "1.00").to_string(), "debit_not_found"),
    ];
    let mut wrong = Vec::new();
    for (body, code) in cases {
        let answer = raw(server.address, format!("{}{body}", head(&bank, body.len())).as_bytes()).await;
        let expected = format!("\"code\":\"{code}\"");
        if !answer.contains("application/problem+json") || !answer.contains(&expected) {
            wrong.push((body.chars().take(200).collect::<String>(), code, answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(bank.balance(&ana).await, "10.00");
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n", &[0xff; 64]]
    {
        let answer = raw(server.address, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let healthy = raw(server.address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(healthy.ends_with("ok\n"), "{healthy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_before_they_are_read() {
    let bank = TestBank::with_limits(1, Limits { json_bytes: 10_000, ..Limits::default() });
    let server = serve(&bank, Limits::default()).await;
    let answer = raw(server.address, head(&bank, 100_000_000).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    // Without a length the bytes themselves are counted.
    let chunked = head(&bank, 0).replace("content-length: 0", "transfer-encoding: chunked");
    let chunk = format!("{chunked}4000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x4000));
    let answer = raw(server.address, chunk.as_bytes()).await;
    assert!(answer.contains("body_too_large"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_cap_are_told_and_silent_ones_dropped() {
    let bank = TestBank::new(1);
    let limits = Limits { connections: 4, idle: Duration::from_millis(200), ..Limits::default() };
    let server = serve(&bank, limits).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let told = raw(server.address, b"").await;
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("too_many_connections"), "{told}");
    for mut stream in silent {
        let mut byte = [0; 1];
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "a silent connection is dropped");
    }
    let healthy = raw(server.address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_runs_and_ends_streams() {
    let bank = TestBank::new(1);
    let server = serve(&bank, Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n\r\n",
        bank.operator
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("event: skerry.branch.opened") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(seen.contains("text/event-stream") && seen.contains("id: 1."), "{seen}");
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server.task).await.expect("the drain ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn plain_http_beyond_the_loopback_must_be_said_aloud() {
    let config = |insecure| GatewayConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        tls: None,
        insecure,
        limits: Limits::default(),
    };
    assert!(matches!(Listening::bind(&config(false)).await, Err(ServeError::Exposed(_))));
    assert!(Listening::bind(&config(true)).await.is_ok());
}

/// A root, and what it signed for a name: certificate and key in PEM, the certificate's bytes.
struct Issued {
    certificate: String,
    key: String,
    der: Vec<u8>,
}

fn issue(root: &rcgen::Issuer<'_, rcgen::KeyPair>, name: &str) -> Issued {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, root).unwrap();
    Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_bound_to_a_certificate_needs_it() {
    use sha2::Digest;
    let bank = TestBank::new(1);
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = rcgen::Issuer::new(root, root_key);
    let (server, partner) = (issue(&root, "localhost"), issue(&root, "partner"));
    let file = |name: &str, text: &str| {
        let path = bank.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = skerry_gateway::TlsConfig {
        certificate: file("server.pem", &server.certificate),
        key: file("server.key", &server.key),
        partners: Some(file("root.pem", &root_pem)),
    };
    let limits = Limits::default();
    let config =
        GatewayConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: Some(tls), insecure: false, limits };
    let listening = Listening::bind(&config).await.unwrap();
    let address = listening.address();
    tokio::spawn(listening.serve(bank.front.clone(), std::future::pending()));

    let options = skerry_client::Options {
        server: format!("https://localhost:{}", address.port()),
        token: Some(bank.operator.clone()),
        certificate: Some(bank.folder.join("root.pem")),
        ..skerry_client::Options::default()
    };
    let plain = skerry_client::Client::new(options.clone()).unwrap();
    assert_eq!(plain.branches().await.unwrap().branches.len(), 1);

    let fingerprint = skerry_gateway::text::hex(&sha2::Sha256::digest(&partner.der));
    let bound = bank.token(&skerry_gateway::NewToken {
        principal: "partner".into(),
        role: "auditor".into(),
        certificate: Some(fingerprint),
        ..skerry_gateway::NewToken::default()
    });
    let without = skerry_client::Client::new(skerry_client::Options {
        token: Some(bound.clone()),
        retries: 0,
        ..options
    });
    match without.unwrap().branches().await {
        Err(skerry_client::Error::Problem(problem)) => assert_eq!(problem.code, "unauthenticated"),
        other => panic!("{other:?}"),
    }
    let answer = get_with_certificate(address, &root_pem, &partner, &bound).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let stranger = {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["partner".to_owned()]).unwrap().self_signed(&key).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    };
    let answer = get_with_certificate(address, &root_pem, &stranger, &bound).await;
    assert!(answer.is_empty(), "a certificate that our root did not sign ends the handshake: {answer}");
}

/// `GET /v1/branches` over TLS with a client certificate; empty if the handshake fails.
async fn get_with_certificate(
    address: std::net::SocketAddr,
    root: &str,
    own: &Issued,
    token: &str,
) -> String {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_client_auth_cert(chain, key)
    .unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let Ok(mut stream) = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await else {
        return String::new();
    };
    let request = format!(
        "GET /v1/branches HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}
