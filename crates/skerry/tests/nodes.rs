//! One bank in four processes and more: PostgreSQL, NATS, two nodes and a gateway. Customers of several branches pay each other
//! while a node dies or sleeps past its leases; nothing is lost, nothing comes twice, and clients hear nothing worse than *again*.

mod bank_of_nodes;
mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bank_of_nodes::{BRANCHES, Ground, Load, accounts, branch_of, right_to_the_cent, until_open};
use common::{Folder, SKERRY, block_on, transfer, until, uuid7};
use ground::{cents, insist};
use postgres::Group;
use serde_json::{Value, json};

#[test]
fn a_node_is_killed_under_load_and_the_other_answers_for_its_branches() {
    let ground = Ground::new("nodes");
    ground.found(&["a", "b", "g"]);
    let (a, b, gateway) = (ground.node("a"), ground.node("b"), ground.gateway("g"));
    let client = gateway.client();
    let at = until_open(&client, &["a", "b"]);
    assert_eq!(at.values().filter(|node| *node == "a").count(), usize::from(BRANCHES) / 2, "{at:?}");
    let listed = Command::new(SKERRY)
        .args(["--json", "node", "list"])
        .env("SKERRY_SERVER", gateway.server())
        .env("SKERRY_TOKEN_FILE", gateway.data.join("operator.token"))
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    for node in listed["nodes"].as_array().unwrap() {
        let hosted = node["branches"].as_array().unwrap().iter();
        assert!(hosted.clone().all(|branch| at[&branch.as_u64().unwrap()] == node["name"]), "{listed}");
        assert_eq!(hosted.len(), usize::from(BRANCHES) / 2, "{listed}");
    }
    let accounts = accounts(&client);
    let load = Load::begin(&gateway, &accounts);
    load.until_more(20);

    let killed = Instant::now();
    b.kill();
    until_open(&client, &["a"]);
    load.until_more(1);
    eprintln!("all branches answered again after at most {:?}", killed.elapsed());
    load.until_more(20);

    let b = ground.node("b");
    until_open(&client, &["a", "b"]);
    load.until_more(20);
    let (sums, heard) = load.end();
    eprintln!("clients were told besides: {heard:?}");
    right_to_the_cent(&client, &accounts, &sums);

    // Stopped in order: what it had goes over at once.
    a.stop();
    until_open(&client, &["b"]);
    gateway.stop();
    b.stop();
}

/// The epoch of each branch in the store, and where its journal ends.
fn heads(group: &Group) -> String {
    group
        .primary()
        .sql("select string_agg(branch || ':' || epoch, ' ' order by branch) from skerry.journal_head")
}

#[test]
fn a_node_that_slept_past_its_leases_writes_nothing_and_answers_nothing() {
    let ground = Ground::new("sleep");
    ground.found(&["a", "b", "g"]);
    let (a, b, gateway) = (ground.node("a"), ground.node("b"), ground.gateway("g"));
    let client = gateway.client();
    let at = until_open(&client, &["a", "b"]);
    let accounts = accounts(&client);
    let load = Load::begin(&gateway, &accounts);
    load.until_more(20);

    // Whoever is told a payment reads at least its sum from then on, whoever answers.
    let theirs = at.iter().find(|(_, node)| *node == "b").map(|(branch, _)| *branch).unwrap();
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let heard = Arc::new(Mutex::default());
    let wish = json!({"name": "Reader", "document": {"kind": "test", "number": "Reader"}, "branch": theirs});
    let customer: Value = insist(&heard, || block_on(client.post("/v1/customers", &wish)));
    let path = format!("/v1/customers/{}/accounts", customer["id"].as_str().unwrap());
    let wish = json!({"product": "current", "currency": "CNY"});
    let account: Value = insist(&heard, || block_on(client.post(&path, &wish)));
    let account = account["number"].as_str().unwrap().to_owned();
    assert_eq!(branch_of(&account), theirs);
    let writer = {
        let (stop, told, heard, account) =
            (Arc::clone(&stop), Arc::clone(&told), Arc::clone(&heard), account.clone());
        let client = gateway.client();
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let wish = transfer(&uuid7(), "gl:1001", &account, "0.01");
                let _paid: Value = insist(&heard, || block_on(client.post("/v1/transfers", &wish)));
                told.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let reader = {
        let (stop, told, heard, account) =
            (Arc::clone(&stop), Arc::clone(&told), Arc::clone(&heard), account.clone());
        let client = gateway.client();
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let least = told.load(Ordering::SeqCst);
                let path = format!("/v1/accounts/{account}");
                let view: Value = insist(&heard, || block_on(client.get(&path)));
                let posted = view["balances"]["posted"]["amount"].as_str().unwrap().replace('.', "");
                assert!(posted.parse::<u64>().unwrap() >= least, "{posted} after {least} were acknowledged");
            }
        })
    };

    b.signal("-STOP");
    until_open(&client, &["a"]);
    load.until_more(20);
    let before = heads(&ground.group);
    b.signal("-CONT");
    // It finds out by itself, closes what it had, and says so.
    let closed = || b.log().matches("the branch is closed here").count();
    let had = at.values().filter(|node| *node == "b").count();
    until("the node that slept has closed its branches", || (closed() >= had).then_some(()));
    load.until_more(20);
    assert!(!reader.is_finished() && !writer.is_finished());
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    reader.join().unwrap();
    let (sums, heard) = load.end();
    eprintln!("clients were told besides: {heard:?}; epochs {before}, then {}", heads(&ground.group));
    until_open(&client, &["a", "b"]);
    right_to_the_cent(&client, &accounts, &sums);
    assert_eq!(cents(&client, &account).cast_unsigned(), told.load(Ordering::SeqCst), "{}", b.log());
    for process in [gateway, a, b] {
        process.stop();
    }
}

#[test]
fn what_a_process_of_such_a_bank_lacks_is_said_in_words() {
    let folder = Folder::new("lacks");
    let run = |arguments: &[&str], text: &str| {
        let config = folder.0.join("skerry.toml");
        std::fs::write(&config, text).unwrap();
        let said = Command::new(SKERRY)
            .args(arguments)
            .args([Path::new("--config"), &config, Path::new("--data"), &folder.data()])
            .output()
            .unwrap();
        assert!(!said.status.success());
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let store = "[stores.main]\npostgres = \"postgres://u@127.0.0.1:1/bank\"\n[storage]\n";
    let bus = "[bus]\nuse = \"main\"\n[buses.main]\nnats = [\"nats://127.0.0.1:1\"]\n";
    let all = format!("{store}directory = \"main\"\n{bus}");
    for process in ["node", "gateway"] {
        for (name, text, part) in [
            ("a", String::new(), "storage.directory must name"),
            ("a", format!("{store}directory = \"main\"\n"), "bus.use must name"),
            ("a", all.clone(), "identity import"),
            ("A", all.clone(), "--name has 1 to 26"),
            ("", all.clone(), "--name has 1 to 26"),
        ] {
            let said = run(&[process, "--name", name], &text);
            assert!(said.contains(part), "{process} {name:?}: {said}");
        }
    }
    let said = run(&["identity", "new"], &all);
    assert!(said.contains("storage.journals must name"), "{said}");
    assert!(run(&["node"], &all).contains("--name is missing"));
}
