//! The load against a bank of a few lines: it counts what it is asked and answers as it is told.

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::bench::picks::{Picks, Skew};
use crate::bench::random::Random;

fn plan(authority: String, mode: Mode, transfers: u64) -> Plan {
    let picks = Picks::new(4, Skew::Uniform, &mut Random::new(1)).unwrap();
    let references = (1..=4).map(|serial| 1 << 48 | serial).collect();
    let field = Field {
        branch: 1,
        references,
        numbers: vec![[b'1'; 16]; 4],
        picks,
        pending: 0,
        crossing: 0,
        abroad: Arc::default(),
        dressed: false,
    };
    Plan {
        authority,
        token: "sk_test".to_owned(),
        mode,
        batch: 100,
        connections: 3,
        transfers,
        rate: None,
        seed: 1,
        fields: vec![Arc::new(field)],
        halt: None,
    }
}

/// Serves connections for ever; `answer` makes the whole answer from the number of the request and its body.
async fn bank(answer: fn(usize, &[u8]) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Arc::clone(&requests), answer));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, requests: Arc<AtomicUsize>, answer: fn(usize, &[u8]) -> Vec<u8>) {
    let mut input = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&input).into_owned();
        let head = text.find("\r\n\r\n").map(|at| at + 4);
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: Option<usize> = length.and_then(|digits| digits.parse().ok());
        match (head, length) {
            (Some(head), Some(length)) if input.len() >= head + length => {
                let number = requests.fetch_add(1, Ordering::Relaxed);
                stream.write_all(&answer(number, &input[head..head + length])).await.unwrap();
                input.drain(..head + length);
            }
            _ if stream.read_buf(&mut input).await.unwrap() == 0 => return,
            _ => (),
        }
    }
}

fn whole(status: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[tokio::test]
async fn packed_batches_are_counted_by_their_results() {
    let address = bank(|_, body| {
        let mut results = vec![0; body.len() / 96 * 32];
        results[..2].copy_from_slice(&1_004_u16.to_le_bytes());
        whole("200 OK", &results)
    })
    .await;
    let loaded = load(plan(address, Mode::Packed, 1_050)).await.unwrap();
    assert_eq!((loaded.asked, loaded.accepted, loaded.requests), (1_050, 1_039, 11));
    assert_eq!(loaded.refused, BTreeMap::from([(1_004, 11)]));
    assert!(loaded.latencies.summary().is_some());
}

#[tokio::test]
async fn what_finds_its_channel_full_is_sent_again() {
    let address = bank(|number, body| {
        let mut results = vec![0; body.len() / 96 * 32];
        // At first three of each batch find no room, in another place each time, and one goes out.
        for (at, result) in results.chunks_mut(32).enumerate() {
            let code: u16 = if number < 2 && at % 40 == number { CHANNEL_BUSY } else { u16::from(at == 5) };
            result[..2].copy_from_slice(&code.to_le_bytes());
        }
        whole("200 OK", &results)
    })
    .await;
    let loaded = load(Plan { connections: 1, ..plan(address, Mode::Packed, 200) }).await.unwrap();
    assert_eq!((loaded.asked, loaded.accepted, loaded.requests), (200, 200, 4));
    assert_eq!((loaded.refused.len(), loaded.busy), (0, 2));
}

#[tokio::test]
async fn single_requests_are_json_and_a_busy_bank_is_asked_again() {
    let address = bank(|number, body| {
        if serde_json::from_slice::<serde_json::Value>(body).is_err() {
            return whole("400 Bad Request", b"no");
        }
        match number {
            1 | 2 => whole("503 Service Unavailable", b"{}"),
            5 => whole("422 Unprocessable", br#"{"number":1004}"#),
            _ => whole("201 Created", b"{}"),
        }
    })
    .await;
    let loaded = load(plan(address, Mode::Single, 20)).await.unwrap();
    assert_eq!((loaded.asked, loaded.accepted, loaded.busy), (20, 19, 2));
    assert_eq!(loaded.refused, BTreeMap::from([(1_004, 1)]));
}

#[tokio::test]
async fn a_rate_spreads_the_requests() {
    let address = bank(|_, _| whole("201 Created", b"{}")).await;
    let mut plan = plan(address, Mode::Single, 11);
    plan.rate = Some(100.0);
    let loaded = load(plan).await.unwrap();
    assert!(loaded.elapsed >= Duration::from_millis(100), "{:?}", loaded.elapsed);
}

#[tokio::test]
async fn an_answer_that_is_too_short_stops_the_load() {
    let address = bank(|_, _| whole("200 OK", &[0; 32])).await;
    let error = load(plan(address, Mode::Packed, 100)).await.unwrap_err();
    assert!(error.to_string().contains("1 of 100"), "{error:#}");
}

#[tokio::test]
async fn a_load_without_end_ends_when_it_is_told() {
    let address = bank(|_, body| whole("200 OK", &vec![0; body.len() / 96 * 32])).await;
    let halt = Arc::new(AtomicBool::new(true));
    let plan = Plan { halt: Some(halt), ..plan(address, Mode::Packed, u64::MAX) };
    assert_eq!(load(plan).await.unwrap().asked, 0);
}
