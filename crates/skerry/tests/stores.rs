//! A bank whose journals lie in PostgreSQL: it serves, survives kill -9 of itself and of the server, opens again by itself once the
//! server is back, on this machine or with nothing but the store, and its journal can be copied out and verified.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    Bank, Folder, SKERRY, assert_balanced, balance, block_on, open_account, problem, transfer, uuid7,
};
use postgres::Group;
use serde_json::{Value, json};
use skerry_client::{Client, Error};

fn configuration(folder: &Folder, group: &Group, more: &str) -> PathBuf {
    let path = folder.0.join("skerry.toml");
    let url = group.url("postgres");
    let text = format!(
        "[storage]\njournals = [\"main\"]\n\n[stores.main]\npostgres = {url:?}\ncommit_timeout_ms = 4000\n{more}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(folder: &Folder, more: &[&str]) -> Bank {
    let config = folder.0.join("skerry.toml");
    let mut arguments = vec!["--config", config.to_str().unwrap()];
    arguments.extend(more);
    Bank::start(&folder.data(), &arguments)
}

async fn pay(client: &Client, payer: &str, payee: &str) -> Result<Value, Error> {
    client.post("/v1/transfers", &transfer(&uuid7(), payer, payee, "1.00")).await
}

/// Two accounts, the first with money.
async fn found(client: &Client) -> (String, String) {
    let (_, payer) = open_account(client, "payer").await;
    let (_, payee) = open_account(client, "payee").await;
    let _funded: Value =
        client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &payer, "1000.00")).await.unwrap();
    (payer, payee)
}

/// Waits until the bank says that its branch is open again.
fn healthy(client: &Client) -> Value {
    let began = Instant::now();
    loop {
        let status: Result<Value, _> = block_on(client.get("/v1/status"));
        if let Ok(status) = status
            && status["healthy"] == true
        {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it does not open again");
        std::thread::sleep(Duration::from_millis(50)); // between two looks, not to win a race
    }
}

#[test]
fn a_bank_lives_on_one_server_and_through_its_absence() {
    let folder = Folder::new("store");
    let mut group = Group::single();
    configuration(&folder, &group, "durability = \"single\"");
    let bank = start(&folder, &["--branches", "1"]);
    let client = bank.client();
    let (payer, payee) = block_on(found(&client));
    let status = healthy(&client);
    assert!(status.to_string().contains("\"store\":\"main\""), "{status}");
    for _ in 0..10 {
        block_on(pay(&client, &payer, &payee)).unwrap();
    }
    assert_eq!(group.primary().sql("select count(*) > 0 from skerry.journal where branch = 1"), "t");
    assert!(!folder.data().join("branches/0001/journal").exists(), "nothing of the journal lies here");

    // The server goes: what was under way is unknown, the rest is turned away at once, and nothing hangs.
    group.primary_mut().kill();
    for _ in 0..3 {
        let refused = problem(block_on(pay(&client, &payer, &payee)));
        assert!(refused.status >= 500, "{refused:?}");
    }
    group.primary_mut().start();
    healthy(&client);
    block_on(pay(&client, &payer, &payee)).unwrap();
    assert_eq!(block_on(balance(&client, &payee)), "11.00");

    // kill -9 of the bank, and all that it had derived from the journal is gone too.
    drop(client);
    let data = bank.kill();
    std::fs::remove_dir_all(data.join("branches/0001/derived")).unwrap();
    let bank = start(&folder, &[]);
    let client = bank.client();
    assert_eq!(block_on(balance(&client, &payee)), "11.00");
    block_on(assert_balanced(&client));

    // A copy beside the running bank verifies without it.
    let out = folder.0.join("export");
    let config = folder.0.join("skerry.toml");
    let run = |arguments: &[&str]| {
        let output = Command::new(SKERRY).args(arguments).current_dir(&folder.0).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (data, config, out) = (data.to_str().unwrap(), config.to_str().unwrap(), out.to_str().unwrap());
    run(&["branch", "export", "1", "--data", data, "--config", config, "--out", out]);
    run(&["verify", out]);
    run(&["config", "check", "--config", config]);
    drop(bank);
}

#[test]
fn a_promoted_standby_carries_the_bank_on() {
    let folder = Folder::new("promotion");
    let mut group = Group::replicated();
    configuration(&folder, &group, "");
    let bank = start(&folder, &["--branches", "1"]);
    let client = bank.client();
    let (payer, payee) = block_on(found(&client));
    for _ in 0..20 {
        block_on(pay(&client, &payer, &payee)).unwrap();
    }
    group.primary_mut().kill();
    let (best, other) = group.by_reach();
    group.nodes[best].promote();
    group.nodes[other].follow(group.nodes[best].port);
    healthy(&client);
    assert_eq!(block_on(balance(&client, &payee)), "20.00", "what was acknowledged is there");
    block_on(pay(&client, &payer, &payee)).unwrap();
    block_on(assert_balanced(&client));
}

#[test]
fn a_new_branch_is_not_founded_on_a_server_that_loses_data() {
    let folder = Folder::new("unsafe");
    let group = Group::single();
    let config = configuration(&folder, &group, "");
    let refused = Bank::try_start(&folder.data(), &["--config", config.to_str().unwrap(), "--branches", "1"]);
    let log = refused.expect_err("there are no standbys, and nobody has said that this is meant");
    assert!(log.contains("synchronous_standby_names is empty") && log.contains("durability"), "{log}");
}

fn wish(number: u32) -> Value {
    json!({"name": format!("Customer {number}"), "document": {"kind": "passport", "number": format!("P{number}")}})
}

fn open(bank: &Bank, number: u32) -> Result<Value, Error> {
    block_on(bank.client().post("/v1/customers", &wish(number)))
}

#[test]
fn a_directory_on_a_server_is_made_again_when_its_tables_are_dropped() {
    let folder = Folder::new("directory-store");
    let mut group = Group::single();
    configuration(&folder, &group, "durability = \"single\"");
    let path = folder.0.join("skerry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[storage]\n", "[storage]\ndirectory = \"main\"\n")).unwrap();
    let bank = start(&folder, &["--branches", "2"]);
    let ids: Vec<Value> = (0..20).map(|number| open(&bank, number).unwrap()["id"].clone()).collect();
    let shown = block_on(bank.client().get::<Value>("/v1/directory")).unwrap();
    assert_eq!(
        (&shown["branches"][0]["store"], &shown["stores"][1]["kind"]),
        (&json!("main"), &json!("postgres"))
    );

    // The server goes: nobody can be opened, and that is said; it comes back, and they can.
    group.primary_mut().kill();
    let refused = problem(open(&bank, 20));
    assert!(refused.status == 503, "{refused:?}");
    group.primary_mut().start();
    healthy(&bank.client());
    let began = Instant::now();
    while let Err(refused) = open(&bank, 20) {
        assert!(began.elapsed() < Duration::from_secs(60), "{refused:?}");
    }

    let tables = "directory_state, skerry.directory_alias, skerry.directory_branch, skerry.directory_store, \
                  skerry.directory_node, skerry.directory_moved, skerry.directory_bus";
    group.primary().sql(&format!("drop table skerry.{tables}"));
    // Its tables are made again, and it says that it knows nobody yet.
    let began = Instant::now();
    loop {
        let refused = problem(open(&bank, 21));
        if refused.code == "directory_rebuilding" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{refused:?}");
    }
    // Two minutes in which somebody might still act upon a claim that was lost: let them have gone by.
    group.primary().sql("update skerry.directory_state set claims_over_us = 0");
    let rebuilt = bank.skerry(&["--json", "directory", "rebuild"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&rebuilt.stdout).unwrap()["customers"], 21);
    for (number, id) in (0..).zip(&ids) {
        let known = problem(open(&bank, number));
        assert_eq!((known.code.as_str(), known.more["existing"].as_str()), ("document_known", id.as_str()));
    }
    open(&bank, 21).unwrap();
    bank.stop();
}
