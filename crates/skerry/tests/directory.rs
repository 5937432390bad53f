//! The directory of a real bank: it comes back with the bank, and from the branches when its files are gone. And branches that are
//! added to one that runs: whole or not at all, however it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Bank, Folder, assert_balanced, balance, block_on, problem, transfer, uuid7};
use serde_json::{Value, json};
use skerry_client::Error;

fn wish(number: u32) -> Value {
    json!({"name": format!("Customer {number}"), "document": {"kind": "passport", "number": format!("P{number}")}})
}

fn open(bank: &Bank, number: u32) -> String {
    let done: Value = block_on(bank.client().post("/v1/customers", &wish(number))).unwrap();
    done["id"].as_str().unwrap().to_owned()
}

/// Whom the bank names when somebody else comes with their document.
fn owner(bank: &Bank, number: u32) -> String {
    let refused = problem(block_on(bank.client().post::<_, Value>("/v1/customers", &wish(number))));
    assert_eq!(refused.code, "document_known", "{refused:?}");
    refused.more["existing"].as_str().unwrap().to_owned()
}

fn said(bank: &Bank, arguments: &[&str]) -> Value {
    let output = bank.skerry(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn it_comes_back_with_the_bank_and_from_the_branches_when_its_files_are_gone() {
    let folder = Folder::new("directory");
    let bank = Bank::start(&folder.data(), &["--branches", "3"]);
    let ids: Vec<String> = (0..40).map(|number| open(&bank, number)).collect();
    said(&bank, &["--json", "branch", "weight", "2", "50"]);
    said(&bank, &["--json", "branch", "close", "3"]);
    let before = said(&bank, &["--json", "directory", "show"]);
    assert_eq!(before["branches"][1]["weight"], 50);
    assert_eq!(before["branches"][2]["newcomers"], false);

    // Killed: nothing of it is forgotten.
    let data = bank.kill();
    let bank = Bank::start(&data, &[]);
    let after = said(&bank, &["--json", "directory", "show"]);
    assert_eq!(after["branches"][1]["weight"], 50);
    assert_eq!(after["branches"][2]["newcomers"], false);
    assert!(after["version"].as_u64() >= before["version"].as_u64());
    for (number, id) in (0..).zip(&ids) {
        assert_eq!(owner(&bank, number), *id);
    }

    // Its files are lost: the branches know everybody.
    let data = bank.stop();
    std::fs::remove_dir_all(data.join("directory")).unwrap();
    let bank = Bank::start(&data, &[]);
    for (number, id) in (0..).zip(&ids) {
        assert_eq!(owner(&bank, number), *id);
    }
    let fresh = said(&bank, &["--json", "directory", "show"]);
    assert_eq!(fresh["branches"][1]["weight"], 100, "what operators said is said again");
    open(&bank, 40);

    // Damaged: thrown away and made again.
    let data = bank.stop();
    let mut files = std::fs::read_dir(data.join("directory")).unwrap().map(|entry| entry.unwrap().path());
    let log = files.find(|path| path.to_string_lossy().contains("log-")).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    // In the first record of the first frame, behind which others follow.
    bytes[4096 + 40 + 8] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let bank = Bank::start(&data, &[]);
    assert!(bank.log().contains("the directory was damaged"), "{}", bank.log());
    assert_eq!(owner(&bank, 7), ids[7]);
    let rebuilt = said(&bank, &["--json", "directory", "rebuild"]);
    assert_eq!(rebuilt, json!({"customers": 41, "elsewhere": 0}));
    assert_eq!(owner(&bank, 39), ids[39]);
    bank.stop();
}

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

/// An account of a customer in `branch`.
fn account(bank: &Bank, customer: &str) -> String {
    let path = format!("/v1/customers/{customer}/accounts");
    let wish = json!({"product": "current", "currency": "CNY"});
    let account: Value = block_on(bank.client().post(&path, &wish)).unwrap();
    account["number"].as_str().unwrap().to_owned()
}

fn pay(bank: &Bank, from: &str, to: &str, amount: &str) {
    let _paid: Value =
        block_on(bank.client().post("/v1/transfers", &transfer(&uuid7(), from, to, amount))).unwrap();
}

fn until_balance(bank: &Bank, account: &str, wanted: &str) {
    until(&format!("{account} has {wanted}"), || block_on(balance(&bank.client(), account)) == wanted);
}

/// The branches, each open, founded and with room; how many.
fn branches(bank: &Bank) -> usize {
    let mut seen = Value::Null;
    until("every branch is whole", || {
        seen = block_on(bank.client().get("/v1/branches")).unwrap();
        let mut all = seen["branches"].as_array().unwrap().iter();
        all.all(|one| one["state"] == "open" && one["room"].as_u64() > Some(0))
    });
    seen["branches"].as_array().unwrap().len()
}

#[test]
fn branches_are_added_to_a_bank_that_runs_and_stay() {
    let folder = Folder::new("adding");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    let ids: Vec<String> = (0..2).map(|number| open(&bank, number)).collect();
    let old = account(&bank, &ids[0]);
    pay(&bank, "gl:1001", &old, "100.00");
    let made = said(&bank, &["--json", "branch", "create", "--count", "2"]);
    let numbers: Vec<u64> = made
        .as_array()
        .or(made["branches"].as_array())
        .unwrap()
        .iter()
        .map(|one| one["branch"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [3, 4], "{made}");
    assert_eq!(said(&bank, &["--json", "branch", "create", "--first", "4"])["branches"][0]["branch"], 4);
    assert_eq!(branches(&bank), 4, "the same number again is the same branch");
    for wrong in [&["--first", "9"][..], &["--store", "main"], &["--count", "0"]] {
        let refused = bank.skerry(&[&["branch", "create"], wrong].concat());
        assert!(!refused.status.success(), "{wrong:?}");
    }

    // The new ones have the most room.
    let (three, four) = (open(&bank, 2), open(&bank, 3));
    assert!(three.starts_with("c0003") && four.starts_with("c0004"), "{three} {four}");
    let (three, four) = (account(&bank, &three), account(&bank, &four));
    pay(&bank, &old, &three, "10.00");
    until_balance(&bank, &three, "10.00");
    pay(&bank, &three, &four, "4.00");
    until_balance(&bank, &four, "4.00");
    pay(&bank, &four, &old, "1.00");
    until_balance(&bank, &old, "91.00");
    assert_eq!(said(&bank, &["--json", "branch", "drain", "3"])["newcomers"], false);

    // What others count by is the same number.
    let rebuilt = said(&bank, &["--json", "directory", "rebuild"]);
    assert_eq!(rebuilt, json!({"customers": 4, "elsewhere": 0}));
    let copy = folder.0.join("copy");
    let copied =
        said(&bank, &["--json", "backup", "--data", bank.data.to_str().unwrap(), copy.to_str().unwrap()]);
    assert_eq!(copied["branches"].as_array().unwrap().len(), 4, "{copied}");
    let drill = said(&bank, &["--json", "restore", copy.to_str().unwrap()]);
    assert_eq!(drill["branches"].as_array().unwrap().len(), 4, "{drill}");
    let meters = block_on(bank.client().get::<Value>("/v1/meters")).unwrap();
    assert_eq!(meters["branches"].as_array().unwrap().len(), 4);

    // In the next life, whether or not the configuration says with how many it was founded.
    let data = bank.stop();
    let bank = Bank::start(&data, &["--branches", "2"]);
    assert_eq!(branches(&bank), 4);
    let data = bank.kill();
    let refused = Bank::try_start(&data, &["--branches", "5"]).unwrap_err();
    assert!(refused.contains("skerry branch create"), "{refused}");
    let bank = Bank::start(&data, &["--branches", "4"]);
    assert_eq!(branches(&bank), 4);
    assert_eq!(block_on(balance(&bank.client(), &three)), "6.00");
    pay(&bank, &four, &three, "0.50");
    until_balance(&bank, &three, "6.50");
    assert_eq!(said(&bank, &["--json", "directory", "show"])["branches"][2]["newcomers"], false);
    block_on(assert_balanced(&bank.client()));
    bank.stop();
}

/// Whether bank.toml in `data` says that there are so many branches.
fn is_kept(data: &Path, branches: u64) -> bool {
    let text = std::fs::read_to_string(data.join("bank.toml")).unwrap_or_default();
    text.contains(&format!("branches = {branches}\n"))
}

#[test]
fn a_branch_that_is_added_while_the_bank_is_killed_is_there_whole_or_not_at_all() {
    type Stage = fn(&Path, u64) -> bool;
    fn lies(data: &Path, number: u64, file: &str) -> bool {
        data.join(format!("branches/{number:04}")).join(file).exists()
    }
    let stages: [(&str, Stage); 5] = [
        ("its folder is there", |data, number| lies(data, number, "")),
        ("its keys are there", |data, number| data.join(format!("keys/{number:04}")).exists()),
        ("its journal is there", |data, number| lies(data, number, "journal/seg-00000000000000000000.open")),
        ("it is kept", is_kept),
        ("it was acknowledged", |_, _| false),
    ];
    let folder = Folder::new("added");
    let mut bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let first = account(&bank, &open(&bank, 0));
    pay(&bank, "gl:1001", &first, "100.00");
    let mut paid = 0;
    for (number, (stage, is_there)) in (2..).zip(stages) {
        let (client, data) = (bank.client(), bank.data.clone());
        let wish = json!({"branch": number});
        let asking = std::thread::spawn(move || block_on(client.post::<_, Value>("/v1/branches", &wish)));
        until(stage, || is_there(&data, number) || asking.is_finished());
        bank.kill();
        let told: Result<Value, Error> = asking.join().unwrap();
        let must_be = told.is_ok() || is_kept(&data, number);
        bank = Bank::start(&data, &["--branches", "1"]);
        let is = u64::try_from(branches(&bank)).unwrap();
        assert_eq!(is, if must_be { number } else { number - 1 }, "{stage}: {told:?}");
        // Whoever asked asks again.
        let view: Value = block_on(bank.client().post("/v1/branches", &json!({"branch": number}))).unwrap();
        assert_eq!((&view["branch"], &view["state"]), (&json!(number), &json!("open")), "{stage}");
        assert_eq!(u64::try_from(branches(&bank)).unwrap(), number, "{stage}");
        let audit: Value =
            block_on(bank.client().get(&format!("/v1/audit?branch={number}&act=branch.opened"))).unwrap();
        assert_eq!(audit["acts"].as_array().unwrap().len(), 1, "{stage}: founded once: {audit}");
        let live: Value =
            block_on(bank.client().get(&format!("/v1/audit?branch={number}&act=branch.went_live"))).unwrap();
        assert_eq!(live["acts"].as_array().unwrap().len(), 1, "{stage}: and wholly: {live}");

        // Newcomers come to it, and it pays and is paid.
        let newcomer = open(&bank, u32::try_from(number).unwrap());
        assert!(newcomer.starts_with(&format!("c{number:04}")), "{stage}: {newcomer}");
        let new = account(&bank, &newcomer);
        pay(&bank, &first, &new, "2.00");
        until_balance(&bank, &new, "2.00");
        pay(&bank, &new, &first, "1.00");
        paid += 1;
        until_balance(&bank, &first, &format!("{}.00", 100 - paid));
    }
    block_on(assert_balanced(&bank.client()));
    bank.stop();
}
