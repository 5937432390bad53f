//! The bus of a running bank: real NATS servers, payments between branches all the while, switched from one to the other and
//! back; servers that die; strangers on the subject.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Bank, Folder, assert_balanced, balance, block_on, open_account, problem, transfer, uuid7};
use hyper::Method;
use nats::Servers;
use place::{Page, Place, shows};
use serde_json::{Value, json};
use skerry_bus::{Bus, Connect, Limits, Message, Name};
use skerry_client::Client;
use skerry_nats::{NatsConnector, NatsOptions};
use skerry_post::subject;

/// Two buses, `a` and `b`; the bank begins on `usual`, and nothing goes straight.
fn start(folder: &Folder, servers: &[Servers; 2], usual: &str) -> Bank {
    let path = folder.0.join("skerry.toml");
    let bus = |name: &str, servers: &Servers| {
        format!("[buses.{name}]\nnats = [\"nats://127.0.0.1:{}\"]\n", servers.all[0].port)
    };
    let text = format!(
        "[bus]\nuse = {usual:?}\nstraight = false\n{}{}",
        bus("a", &servers[0]),
        bus("b", &servers[1])
    );
    std::fs::write(&path, text).unwrap();
    Bank::start(&folder.data(), &["--branches", "2", "--config", path.to_str().unwrap()])
}

fn two() -> [Servers; 2] {
    [Servers::new(1, "", None), Servers::new(1, "", None)]
}

/// An account of each branch, with 1000.00 on it.
fn accounts(client: &Client) -> [String; 2] {
    let mut found = [None, None];
    for number in 1..40 {
        let (_, account) = block_on(open_account(client, &format!("Customer {number}")));
        let index = usize::from(account.starts_with("0002"));
        if found[index].is_none() {
            let wish = transfer(&uuid7(), "gl:1001", &account, "1000.00");
            let _paid: Value = block_on(client.post("/v1/transfers", &wish)).unwrap();
            found[index] = Some(account);
        }
        if let [Some(one), Some(two)] = &found {
            return [one.clone(), two.clone()];
        }
    }
    panic!("newcomers go to one branch alone");
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    common::until(what, || is().then_some(()));
}

fn buses(client: &Client) -> Value {
    block_on(client.get("/v1/buses")).unwrap()
}

fn of<'a>(view: &'a Value, bus: &str) -> &'a Value {
    view["buses"].as_array().unwrap().iter().find(|one| one["bus"] == bus).unwrap()
}

fn count(client: &Client, bus: &str, what: &str) -> u64 {
    of(&buses(client), bus)[what].as_u64().unwrap()
}

fn metrics(client: &Client) -> String {
    let answer = block_on(client.call(Method::GET, "/metrics", None, bytes::Bytes::new(), &[])).unwrap();
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn switch(bank: &Bank, bus: &str) {
    let said = bank.skerry(&["--json", "bus", "switch", bus]);
    assert!(said.status.success(), "{bus}: {} {}", String::from_utf8_lossy(&said.stderr), bank.log());
    let view: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&view["chosen"], &view["by"]), (&json!(bus), &json!("operator")));
}

/// Clients who pay 0.01 from one branch to the other and back, each payment until it is acknowledged, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(bank: &Bank, accounts: &[String; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4)
            .map(|client| {
                let (stop, accounts, client) = (Arc::clone(&stop), accounts.clone(), (client, bank.client()));
                std::thread::spawn(move || pay(&stop, &accounts, client.0 % 2, &client.1))
            })
            .collect();
        Self { stop, threads }
    }

    /// The ids that were acknowledged.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn pay(stop: &AtomicBool, accounts: &[String; 2], from: usize, client: &Client) -> Vec<String> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = uuid7();
        let wish = transfer(&id, &accounts[from], &accounts[1 - from], "0.01");
        // Busy and unknown are said again under the same id, as the rules for retries want.
        until("it is acknowledged", || block_on(client.post::<_, Value>("/v1/transfers", &wish)).is_ok());
        acknowledged.push(id);
    }
    acknowledged
}

/// Waits until every one of these payments has settled, and every channel is at rest; then the books must be right to the cent.
fn all_settled(bank: &Bank, accounts: &[String; 2], ids: &[String]) {
    let client = bank.client();
    let channels = || {
        [1, 2].map(|branch| -> Value {
            block_on(client.get(&format!("/v1/branches/{branch}/channels"))).unwrap()
        })
    };
    until("the channels are at rest", || channels().iter().all(|view| view["channels"][0]["open"] == 0));
    for id in ids {
        let seen: Value = block_on(client.get(&format!("/v1/payments/{id}"))).unwrap();
        assert_eq!(seen["status"], "settled", "{seen}");
    }
    let [one, two] = channels().map(|view| view["channels"][0].clone());
    for (sender, receiver) in [(&one, &two), (&two, &one)] {
        let (sent, received) = (&sender["totals"][0], &receiver["totals"][0]);
        assert_eq!(
            (&sent["sent"], &sent["settled"]),
            (&received["received"], &received["received"]),
            "{one} {two}"
        );
        assert!(sender["outgoing_stopped"].is_null() && sender["incoming_stopped"].is_null());
    }
    let all: u64 = [&one, &two].iter().map(|view| view["totals"][0]["sent"]["count"].as_u64().unwrap()).sum();
    assert_eq!(all, ids.len() as u64, "each acknowledged payment exactly once, and no other");
    let cents =
        |account: &String| -> u64 { block_on(balance(&client, account)).replace('.', "").parse().unwrap() };
    assert_eq!(cents(&accounts[0]) + cents(&accounts[1]), 200_000);
    block_on(assert_balanced(&client));
}

/// Until so many more messages have come over a bus.
fn until_used(client: &Client, bus: &str, more: u64) {
    let before = count(client, bus, "heard");
    until(&format!("messages come over {bus}"), || count(client, bus, "heard") >= before + more);
}

#[test]
fn the_bus_is_switched_under_load_and_no_payment_is_lost_or_made_twice() {
    let (folder, servers) = (Folder::new("buses"), two());
    let bank = start(&folder, &servers, "local");
    let client = bank.client();
    let accounts = accounts(&client);
    until("both are reached", || ["a", "b"].iter().all(|bus| of(&buses(&client), bus)["link"] == "up"));
    let load = Load::begin(&bank, &accounts);
    until_used(&client, "local", 20);
    let missing = bank.skerry(&["bus", "switch", "c"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("there are: local, a, b"), "{said}");
    for bus in ["a", "b", "local", "b", "a"] {
        switch(&bank, bus);
        until_used(&client, bus, 20);
    }
    let at = buses(&client)["at"].clone();
    switch(&bank, "a");
    assert_eq!(buses(&client)["at"], at, "chosen already: nothing has changed");
    switch(&bank, "local");
    until_used(&client, "local", 20);
    let ids = load.end();
    all_settled(&bank, &accounts, &ids);
    let sent = ["a", "b", "local"].map(|bus| count(&client, bus, "sent"));
    assert!(sent.iter().all(|sent| *sent > 20), "{sent:?}");
    assert_eq!(refused(&bank.client_with(&auditor(&client)), "a"), "forbidden");
    bank.stop();
}

/// Why the bank does not switch.
fn refused(client: &Client, bus: &str) -> String {
    let body = serde_json::to_vec(&json!({"bus": bus})).unwrap();
    let json = Some("application/json");
    problem(block_on(client.call(Method::PUT, "/v1/buses/chosen", json, body.into(), &[]))).code
}

fn auditor(client: &Client) -> String {
    let wish = json!({"principal": "auditor", "role": "auditor"});
    let made: Value = block_on(client.post("/v1/tokens", &wish)).unwrap();
    made["token"].as_str().unwrap().to_owned()
}

#[test]
fn the_choice_outlives_the_bank_and_payments_outlive_the_server() {
    let (folder, mut servers) = (Folder::new("bus-server"), two());
    let bank = start(&folder, &servers, "a");
    let client = bank.client();
    let accounts = accounts(&client);
    until("both are reached", || ["a", "b"].iter().all(|bus| of(&buses(&client), bus)["link"] == "up"));
    let load = Load::begin(&bank, &accounts);
    until_used(&client, "a", 20);
    switch(&bank, "b");
    until_used(&client, "b", 20);

    // The server dies: what was acknowledged waits, with money in transit.
    servers[1].all[0].kill();
    until("it is seen", || metrics(&client).contains("skerry_bus_link_up{bus=\"b\"} 0"));
    let status: Value = block_on(client.get("/v1/status")).unwrap();
    assert_eq!((&status["healthy"], &status["status"]), (&json!(false), &json!("degraded")));
    until("messages are dropped and counted", || count(&client, "b", "dropped_away") > 0);
    // Back to a bus that is there; one that is not is refused.
    switch(&bank, "a");
    until_used(&client, "a", 20);
    assert_eq!(refused(&client, "b"), "bus_away");
    servers[1].all[0].start();
    until("it is there again", || of(&buses(&client), "b")["link"] == "up");
    switch(&bank, "b");
    until_used(&client, "b", 20);
    // Once more, and nobody switches: it is waited for.
    servers[1].all[0].kill();
    until("messages wait", || of(&buses(&client), "b")["link"] == "down");
    servers[1].all[0].start();
    until_used(&client, "b", 20);
    let ids = load.end();
    all_settled(&bank, &accounts, &ids);
    assert!(count(&client, "b", "links_lost") >= 2);

    // The choice is in the directory, not in the process; kill -9 does not undo it.
    let id = uuid7();
    let wish = transfer(&id, &accounts[0], &accounts[1], "0.01");
    let _paid: Value = block_on(client.post("/v1/transfers", &wish)).unwrap();
    bank.kill();
    let bank = start(&folder, &servers, "a");
    let client = bank.client();
    until("it is followed", || buses(&client)["chosen"] == "b");
    assert_eq!((&buses(&client)["configured"], &buses(&client)["by"]), (&json!("a"), &json!("operator")));
    all_settled(&bank, &accounts, &[ids, vec![id]].concat());
    // A directory that is lost takes the choice along: then the configuration holds.
    let data = bank.stop();
    std::fs::remove_dir_all(data.join("directory")).unwrap();
    let bank = start(&folder, &servers, "a");
    let view = buses(&bank.client());
    assert_eq!((&view["chosen"], &view["by"]), (&json!("a"), &Value::Null));
    bank.stop();
}

#[test]
fn a_bank_starts_without_its_bus_and_strangers_on_it_move_nothing() {
    let (folder, mut servers) = (Folder::new("bus-late"), two());
    servers[0].all[0].kill();
    let bank = start(&folder, &servers, "a");
    let client = bank.client();
    let accounts = accounts(&client);
    let id = uuid7();
    let wish = transfer(&id, &accounts[0], &accounts[1], "1.00");
    let pay = || block_on(client.post::<_, Value>("/v1/transfers", &wish));
    // The branches have never met, so nothing is debited before they can.
    assert_eq!(of(&buses(&client), "a")["link"], "down");
    assert_eq!(problem(pay()).code, "peer_unknown");
    servers[0].all[0].start();
    until("it is paid", || pay().is_ok());
    all_settled(&bank, &accounts, std::slice::from_ref(&id));

    let connector = NatsConnector::new(NatsOptions {
        servers: vec![format!("nats://127.0.0.1:{}", servers[0].all[0].port)],
        prefix: Name::new("skerry").unwrap(),
        replicas: 1,
        tls: None,
    });
    let mut stranger = connector.connect(Name::new("stranger").unwrap(), Limits::default()).unwrap();
    let before = count(&client, "a", "heard");
    for number in 0..500_u32 {
        let garbage: Vec<u8> = number.to_le_bytes().repeat(usize::try_from(number % 97).unwrap());
        stranger.publish(&Message::new(subject(1), garbage)).unwrap();
    }
    until("it is counted", || metrics(&client).contains("skerry_bus_refused_total{bus=\"a\"} 500"));
    let id = [id, uuid7()];
    let wish = transfer(&id[1], &accounts[1], &accounts[0], "1.00");
    let _paid: Value = block_on(client.post("/v1/transfers", &wish)).unwrap();
    all_settled(&bank, &accounts, &id);
    assert!(count(&client, "a", "heard") > before);
    bank.stop();
}

#[test]
fn another_bus_and_none_by_the_runbook() {
    let mut servers = two();
    let first = servers[0].all[0].port;
    let more = format!(
        "[bus]\nuse = \"first\"\nstraight = false\n[buses.first]\nnats = [\"nats://127.0.0.1:{first}\"]\n"
    );
    let mut place = Place::new("switch-bus", 2, &more);
    place.instead.push(("127.0.0.1:4223".to_owned(), format!("127.0.0.1:{}", servers[1].all[0].port)));
    let mut page = Page::open("switch-bus");
    place.up();
    let client = place.client();
    let accounts = accounts(&client);
    let pay = |id: &str| {
        let wish = transfer(id, &accounts[0], &accounts[1], "1.00");
        until("it is acknowledged", || block_on(client.post::<_, Value>("/v1/transfers", &wish)).is_ok());
    };
    let settled = |id: &str| {
        place.until(&format!("/v1/payments/{id}"), |seen| (seen["status"] == "settled").then_some(()));
    };
    let ids: Vec<String> = (0..3).map(|_| uuid7()).collect();
    pay(&ids[0]);
    settled(&ids[0]);
    servers[0].all[0].kill();
    place.until_metric("skerry_bus_link_up{bus=\"first\"} 0");
    pay(&ids[1]);
    assert!(shows(&page.step(&place), "first true down"));
    page.step(&place);
    assert!(shows(&page.step(&place), "second true up"));
    settled(&ids[1]);
    pay(&ids[2]);
    settled(&ids[2]);
    let seen = page.step(&place);
    assert!(shows(&seen, "healthy true"), "{seen}");
    page.end();
    block_on(assert_balanced(&client));
}
