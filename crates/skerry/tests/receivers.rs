//! The runbook of events that do not reach their receiver, typed as it stands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod place;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{block_on, open_account, transfer, uuid7};
use place::{Page, Place, shows};
use serde_json::Value;

/// A receiver of webhooks that answers each call with `status`, and counts those that it took.
fn receiver(status: Arc<AtomicU16>, taken: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = Vec::new();
            let mut part = [0; 4_096];
            // A whole event ends with its closing brace.
            while !asked.ends_with(b"}") {
                match stream.read(&mut part) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => asked.extend_from_slice(&part[..read]),
                }
            }
            let status = status.load(Ordering::Relaxed);
            taken.fetch_add(u64::from(status == 204), Ordering::Relaxed);
            let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn failing_receiver() {
    let place = Place::new("failing-receiver", 1, "[webhooks]\nretry_first_ms = 3600000\n");
    let mut page = Page::open("failing-receiver");
    place.up();
    let (status, taken) = (Arc::new(AtomicU16::new(503)), Arc::new(AtomicU64::new(0)));
    let url = receiver(Arc::clone(&status), Arc::clone(&taken));
    let made: Value =
        serde_json::from_str(&place.shell(&format!("skerry --json webhook create {url}"))).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let (_, account) = block_on(open_account(&place.client(), "Customer 1"));
    let wish = transfer(&uuid7(), "gl:1001", &account, "5.00");
    let _paid: Value = block_on(place.client().post("/v1/transfers", &wish)).unwrap();
    place.until_metric(&format!("skerry_webhook_failing{{webhook=\"{id}\"}} 1"));

    let seen = page.step(&place);
    assert!(
        seen.contains(&id) && seen.contains("503"),
        "what it answered, and when it is tried again: {seen}"
    );
    let typed = |page: &mut Page| place.try_shell(&format!("WEBHOOK={id}\n{}", page.next()));
    let said = typed(&mut page);
    assert!(!said.done && shows(&said.text, "delivered false") && said.text.contains("503"), "{}", said.text);
    status.store(204, Ordering::Relaxed);
    // Its next attempt would be in an hour.
    assert!(typed(&mut page).done);
    place.until_metric(&format!("skerry_webhook_failing{{webhook=\"{id}\"}} 0"));
    place.until_metric(&format!("skerry_webhook_lag_records{{webhook=\"{id}\"}} 0"));
    let once = taken.load(Ordering::Relaxed);
    assert!(once >= 3, "customer, account and payment: {once}");
    assert!(typed(&mut page).done);
    let began = Instant::now();
    while taken.load(Ordering::Relaxed) < 2 * once {
        assert!(began.elapsed() < Duration::from_secs(60), "the same events come again");
        std::thread::sleep(Duration::from_millis(10));
    }
    page.end();
}
