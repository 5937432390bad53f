//! A real bank with a collector of traces beside it: what it is told, what it is never told, and that a bank without one
//! pays as well. Built with the feature `otel` only.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Bank, Folder, balance, block_on, open_account, transfer, uuid7};
use hyper::Method;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use skerry_client::{Client, Error, Response};

/// A batch as it came: the head of the request, and its body.
type Batch = (String, Vec<u8>);

/// A collector of traces: takes everything, on as many connections as come.
struct Collector {
    address: String,
    batches: Receiver<Batch>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, batches) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                std::thread::spawn(move || serve(&stream.unwrap(), &sender));
            }
        });
        Self { address, batches }
    }

    /// Every span until one of this name has come, with the batches that they came in.
    fn until(&self, name: &str) -> (Vec<Span>, Vec<Batch>) {
        let (mut spans, mut batches) = (Vec::new(), Vec::new());
        while !spans.iter().any(|span: &Span| span.name == name) {
            let batch = self.batches.recv_timeout(Duration::from_secs(60)).unwrap();
            spans.extend(decoded(&batch));
            batches.push(batch);
        }
        (spans, batches)
    }
}

fn serve(stream: &TcpStream, batches: &Sender<Batch>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        let _test_over = batches.send((head, body));
        let mut stream = stream;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len()).unwrap();
        stream.write_all(&answer).unwrap();
    }
}

fn decoded((_, body): &Batch) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{key} is {other:?}"),
    })
}

fn configured(folder: &Folder, traces: &str) -> Bank {
    let file = folder.0.join("skerry.toml");
    std::fs::write(&file, format!("[traces]\n{traces}\n")).unwrap();
    Bank::start(&folder.data(), &["--branches", "1", "--config", file.to_str().unwrap()])
}

async fn pay(client: &Client, body: serde_json::Value, parent: &str) -> u16 {
    let body = Bytes::from(body.to_string());
    let headers = [("traceparent", parent)];
    status(client.call(Method::POST, "/v1/transfers", Some("application/json"), body, &headers).await)
}

fn status(answer: Result<Response, Error>) -> u16 {
    match answer {
        Ok(response) => response.status,
        Err(Error::Problem(problem)) => problem.status,
        Err(other) => panic!("{other}"),
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_payment_is_told_under_its_clients_trace_and_names_nobody() {
    let folder = Folder::new("traces");
    let collector = Collector::start();
    let headers = folder.0.join("headers");
    secret(&headers, "authorization: Bearer collectors-own\n");
    // Nothing is sampled, so only what the client's trace asks for is told.
    let bank = configured(
        &folder,
        &format!(
            "endpoint = \"http://{}/v1/traces\"\nsample = 0.0\nheaders_file = {headers:?}",
            collector.address
        ),
    );
    let reference = uuid7();
    let (one, other) = block_on(async {
        let client = bank.client();
        let (_, one) = open_account(&client, "Customer 1").await;
        let (_, other) = open_account(&client, "Customer 2").await;
        let unrecorded = format!("00-{TRACE}-00000000000000aa-00");
        assert_eq!(pay(&client, transfer(&uuid7(), "gl:1001", &one, "50.00"), &unrecorded).await, 201);
        let recorded = format!("00-{TRACE}-00000000000000bb-01");
        assert_eq!(pay(&client, transfer(&reference, &one, &other, "12.34"), &recorded).await, 201);
        assert_eq!(pay(&client, transfer(&uuid7(), &one, &other, "9999.00"), &recorded).await, 422);
        let path = format!("/v1/accounts/{one}/entries");
        let headers = [("traceparent", recorded.as_str())];
        let read = client.call(Method::GET, &path, None, Bytes::new(), &headers).await.unwrap();
        assert_eq!(read.status, 200);
        (one, other)
    });
    let (spans, batches) = collector.until("GET /v1/accounts/{number}/entries");

    let servers: Vec<&Span> = spans.iter().filter(|span| span.kind == 2).collect();
    let names: Vec<&str> = servers.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        names,
        ["POST /v1/transfers", "POST /v1/transfers", "GET /v1/accounts/{number}/entries"],
        "sampled-out requests are not told"
    );
    let [paid, refused, read] = servers[..] else { panic!("{servers:?}") };
    for span in &spans {
        assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    }
    assert_eq!(paid.parent_span_id, 0xbb_u64.to_be_bytes());
    let of = |key| attribute(paid, key);
    assert_eq!(of("http.route").as_deref(), Some("/v1/transfers"));
    assert_eq!(of("http.request.method").as_deref(), Some("POST"));
    assert_eq!(of("http.response.status_code").as_deref(), Some("201"));
    assert_eq!(of("skerry.principal.kind").as_deref(), Some("operator"));
    assert_eq!(of("skerry.problem.number"), None);
    assert_eq!(attribute(refused, "skerry.problem.code").as_deref(), Some("insufficient_funds"));
    assert_eq!(attribute(refused, "http.response.status_code").as_deref(), Some("422"));
    assert!(refused.status.is_none(), "a refusal is no error of the bank's");

    let within = |parent: &Span, name: &str| {
        let found = spans.iter().find(|span| span.parent_span_id == parent.span_id && span.name == name);
        found.unwrap_or_else(|| panic!("no {name:?} in {:?}", parent.name)).clone()
    };
    let decision = within(paid, "branch decision");
    assert_eq!(attribute(&decision, "skerry.branch").as_deref(), Some("1"));
    assert!(decision.start_time_unix_nano >= paid.start_time_unix_nano);
    assert!(decision.end_time_unix_nano <= paid.end_time_unix_nano);
    within(refused, "branch decision");
    within(read, "history query");

    let token = std::fs::read_to_string(bank.data.join("operator.token")).unwrap();
    for (head, body) in &batches {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
        assert!(head.contains("authorization: bearer collectors-own\r\n"), "{head}");
        let text = String::from_utf8_lossy(body);
        for never in ["Customer", &one, &other, &reference, "12.34", "9999", token.trim()] {
            assert!(!text.contains(never), "{never:?} is in a span");
        }
    }
    assert!(!bank.log().contains("collectors-own"));
}

#[test]
fn what_waits_is_told_at_the_end() {
    let folder = Folder::new("traces-end");
    let collector = Collector::start();
    let bank =
        configured(&folder, &format!("endpoint = \"http://{}/v1/traces\"\nsample = 1", collector.address));
    block_on(async {
        let client = bank.client();
        open_account(&client, "Customer 1").await;
        let unknown = client.call(Method::GET, "/v1/nothing/Customer", None, Bytes::new(), &[]).await;
        assert_eq!(status(unknown), 404);
    });
    bank.stop();
    // The bank has ended: what is not here will not come.
    let spans: Vec<Span> = collector.batches.try_iter().flat_map(|batch| decoded(&batch)).collect();
    let lost = spans.iter().find(|span| span.name == "GET").expect("a request without a route is told");
    assert_eq!(attribute(lost, "http.route"), None);
    assert_eq!(attribute(lost, "skerry.problem.code").as_deref(), Some("not_found"));
    let roots = spans.iter().filter(|span| span.kind == 2);
    assert!(roots.clone().all(|span| span.parent_span_id.is_empty()), "{spans:?}");
    let traces: std::collections::BTreeSet<_> = roots.clone().map(|span| span.trace_id.clone()).collect();
    assert_eq!(traces.len(), roots.count(), "each has a trace of its own");
}

#[test]
fn payments_go_on_while_the_collector_is_away() {
    let folder = Folder::new("traces-away");
    // A port that was free a moment ago: nobody answers there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bank = configured(
        &folder,
        &format!("endpoint = \"http://{nobody}/v1/traces\"\nsample = 1\nqueue_max = 16\ntimeout_ms = 500"),
    );
    block_on(async {
        let client = bank.client();
        let (_, one) = open_account(&client, "Customer 1").await;
        for _ in 0..300 {
            let parent = format!("00-{TRACE}-00000000000000cc-01");
            assert_eq!(pay(&client, transfer(&uuid7(), "gl:1001", &one, "1.00"), &parent).await, 201);
        }
        assert_eq!(balance(&client, &one).await, "300.00");
        let began = Instant::now();
        loop {
            let read = client.call(Method::GET, "/metrics", None, Bytes::new(), &[]).await.unwrap();
            let metrics = String::from_utf8(read.body.to_vec()).unwrap();
            let figure = |name: &str| -> u64 {
                let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().parse().unwrap()
            };
            assert_eq!(figure("skerry_traces_sent_total "), 0);
            // Two spans a payment; a few may wait still.
            if figure("skerry_traces_dropped_total ") >= 500 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
        }
    });
    let log = bank.log();
    assert_eq!(log.matches("the collector of traces is away").count(), 1, "said once: {log}");
    bank.stop();
}

fn secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
