//! All events of a real bank in a log on a real NATS server: each once and in order, whoever is killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{Bank, Folder, block_on, open_account, transfer, uuid7};
use hyper::Method;
use nats::Servers;
use serde_json::{Value, json};
use skerry_bus::Name;
use skerry_client::Client;
use skerry_nats::{EventLog, EventLogOptions, NatsOptions};

fn start(folder: &Folder, servers: &Servers, begin: &str) -> Bank {
    let path = folder.0.join("skerry.toml");
    let port = servers.all[0].port;
    let text = format!("[outlet]\nnats = [\"nats://127.0.0.1:{port}\"]\nbegin = {begin:?}\n");
    std::fs::write(&path, text).unwrap();
    Bank::start(&folder.data(), &["--branches", "2", "--config", path.to_str().unwrap()])
}

fn log(servers: &Servers) -> EventLog {
    let nats = NatsOptions {
        servers: vec![format!("nats://127.0.0.1:{}", servers.all[0].port)],
        prefix: Name::new("skerry").unwrap(),
        replicas: 1,
        tls: None,
    };
    EventLog::new(EventLogOptions { nats, age_max: Duration::from_secs(30 * 86_400), bytes_max: 10 << 30 })
        .unwrap()
}

/// Ids by source, in order, of what the bank tells.
async fn told(client: &Client) -> BTreeMap<String, Vec<String>> {
    let (mut found, mut after) = (BTreeMap::<String, Vec<String>>::new(), String::new());
    loop {
        let page: Value = client.get(&format!("/v1/events?limit=500&after={after}")).await.unwrap();
        page["next"].as_str().unwrap().clone_into(&mut after);
        page["events"].as_array().unwrap().iter().for_each(|event| note(&mut found, event));
        if page["more"] != true {
            return found;
        }
    }
}

fn note(found: &mut BTreeMap<String, Vec<String>>, event: &Value) {
    let text = |field: &str| event[field].as_str().unwrap().to_owned();
    found.entry(text("source")).or_default().push(text("id"));
}

/// The same of what the log keeps.
fn kept(log: &EventLog) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (_, subject, body) in log.read(1, 1_000_000).unwrap_or_default() {
        let event: Value = serde_json::from_slice(&body).unwrap();
        let kind = event["type"].as_str().unwrap().strip_prefix("skerry.").unwrap().to_owned();
        let branch = event["source"].as_str().unwrap().strip_prefix("/branches/").unwrap().to_owned();
        assert_eq!(subject, format!("skerry.events.{branch}.{kind}"));
        note(&mut found, &event);
    }
    found
}

/// Waits until the log keeps what the bank tells, no more and no less.
fn agree(bank: &Bank, log: &EventLog) -> usize {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let (told, kept) = (block_on(told(&bank.client())), kept(log));
        if told == kept {
            return told.values().map(Vec::len).sum();
        }
        let counts = |all: &BTreeMap<String, Vec<String>>| all.values().map(Vec::len).collect::<Vec<_>>();
        assert!(Instant::now() < end, "told {:?}, kept {:?}\n{}", counts(&told), counts(&kept), bank.log());
    }
}

fn pay(bank: &Bank, accounts: &[String], count: usize) {
    let payments: Vec<Value> = (0..count)
        .map(|nth| transfer(&uuid7(), "gl:1001", &accounts[nth % accounts.len()], "0.01"))
        .collect();
    let asked = json!({"transfers": payments});
    let _all: Value = block_on(bank.client().post("/v1/transfers/batch", &asked)).unwrap();
}

fn metric(bank: &Bank, name: &str) -> u64 {
    let answer =
        block_on(bank.client().call(Method::GET, "/metrics", None, bytes::Bytes::new(), &[])).unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn every_event_is_in_the_log_once_whoever_is_killed() {
    let folder = Folder::new("outlet");
    let mut servers = Servers::new(1, "", None);
    let mut bank = start(&folder, &servers, "beginning");
    let client = bank.client();
    let accounts: Vec<String> =
        (0..4).map(|number| block_on(open_account(&client, &format!("Customer {number}"))).1).collect();
    let log = log(&servers);
    for round in 0..3 {
        pay(&bank, &accounts, 400);
        // The bank dies while its events are on their way.
        let data = bank.kill();
        bank = start(&folder, &servers, "beginning");
        assert_eq!(bank.data, data);
        pay(&bank, &accounts, 400);
        // And so does the server; the bank goes on without it.
        servers.all[0].kill();
        pay(&bank, &accounts, 200);
        let end = Instant::now() + Duration::from_secs(60);
        while metric(&bank, "skerry_outlet_failing") == 0 {
            assert!(Instant::now() < end, "it is not seen that events wait");
        }
        assert!(metric(&bank, "skerry_outlet_lag_records") > 0);
        servers.all[0].start();
        let count = agree(&bank, &log);
        assert!(count >= 1_000 * (round + 1), "{count}");
    }
    assert_eq!((metric(&bank, "skerry_outlet_failing"), metric(&bank, "skerry_outlet_lag_records")), (0, 0));
    let data = bank.stop();
    // What is written down at the end is enough, should the log have let everything go.
    let file: Value = serde_json::from_slice(&std::fs::read(data.join("outlet.json")).unwrap()).unwrap();
    assert!(file["cursor"].as_str().unwrap().contains('~'), "{file}");
}

#[test]
fn a_log_may_begin_with_what_happens_from_now_on() {
    let folder = Folder::new("outlet-now");
    let servers = Servers::new(1, "", None);
    let path = folder.0.join("none.toml");
    std::fs::write(&path, "").unwrap();
    let bank = Bank::start(&folder.data(), &["--branches", "2", "--config", path.to_str().unwrap()]);
    let client = bank.client();
    let accounts = vec![block_on(open_account(&client, "Customer 1")).1];
    bank.stop();
    let bank = start(&folder, &servers, "now");
    let log = log(&servers);
    let before: usize = block_on(told(&bank.client())).values().map(Vec::len).sum();
    let end = Instant::now() + Duration::from_secs(60);
    // Once it has begun, and it begins with what is durable then.
    while log.read(1, 10).is_err() || metric(&bank, "skerry_outlet_lag_records") > 0 {
        assert!(Instant::now() < end, "it does not begin");
    }
    pay(&bank, &accounts, 5);
    while kept(&log).values().map(Vec::len).sum::<usize>() < 5 {
        assert!(Instant::now() < end, "nothing comes: {}", bank.log());
    }
    assert_eq!(kept(&log).values().map(Vec::len).sum::<usize>(), 5, "and nothing of the {before} before");
    bank.stop();
}
