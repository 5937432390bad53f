//! Customers' keys of a branch in a store lie there too: a machine with nothing but the bank's identity, secrets and configuration
//! reads the names, what was erased stays so on every machine and after every restore, and a backup has the keys as files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bank, Folder, SKERRY, block_on};
use hyper::Method;
use postgres::Group;
use serde_json::{Value, json};

fn configuration(folder: &Folder, group: &Group) -> String {
    let path = folder.0.join("skerry.toml");
    let url = group.url("postgres");
    let text = format!(
        "[storage]\njournals = [\"main\"]\nerasures = {:?}\n\n[stores.main]\npostgres = {url:?}\ndurability = \"single\"\n",
        folder.0.join("erasures.list").display()
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn open_customer(bank: &Bank, number: u32) -> String {
    let wish = json!({"name": format!("Customer {number}"), "document": {"kind": "test", "number": number.to_string()}});
    let opened: Value = block_on(bank.client().post("/v1/customers", &wish)).unwrap();
    opened["id"].as_str().unwrap().to_owned()
}

fn name(bank: &Bank, customer: &str) -> Value {
    let shown: Value = block_on(bank.client().get(&format!("/v1/customers/{customer}"))).unwrap();
    shown["name"].clone()
}

fn erase(bank: &Bank, customer: &str) {
    let path = format!("/v1/customers/{customer}");
    block_on(bank.client().send_json(Method::DELETE, &path, &json!({}), &[])).unwrap();
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// A data folder as another machine has it: who the bank is, its secrets, and which store each branch is in.
fn another_machine(data: &Path, folder: &Folder) -> PathBuf {
    let other = folder.0.join("elsewhere");
    std::fs::create_dir_all(other.join("branches/0001")).unwrap();
    for name in
        ["bank.toml", "signers.toml", "secrets", "tokens.json", "operator.token", "branches/0001/store.toml"]
    {
        let from = data.join(name);
        if from.exists() {
            copy(&from, &other.join(name));
        }
    }
    other
}

#[test]
fn another_machine_reads_the_names_and_not_those_that_were_erased() {
    let folder = Folder::new("store-keys");
    let group = Group::single();
    let config = configuration(&folder, &group);
    let bank = Bank::start(&folder.data(), &["--config", &config, "--branches", "1"]);
    let policy = json!({"four_eyes": [], "retention_days": 0});
    block_on(bank.client().send_json(Method::PUT, "/v1/branches/1/policy", &policy, &[])).unwrap();
    let customers: Vec<String> = (1..=4).map(|number| open_customer(&bank, number)).collect();
    let data = bank.data.clone();
    assert!(!data.join("keys/0001").exists(), "no key lies here");
    assert_eq!(group.primary().sql("select count(*) from skerry.customer_key where branch = 1"), "33");

    let backup = folder.0.join("backup");
    let skerry = |arguments: &[&str]| {
        let output = Command::new(SKERRY).args(arguments).env_remove("SKERRY_CONFIG").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let [from, to] = [&data, &backup].map(|path| path.to_str().unwrap());
    skerry(&["backup", "--config", &config, "--data", from, to]);
    erase(&bank, &customers[0]);
    let data = bank.kill();

    let other = another_machine(&data, &folder);
    let bank = Bank::start(&other, &["--config", &config]);
    assert_eq!(name(&bank, &customers[1]), "Customer 2");
    assert!(name(&bank, &customers[0]).is_null());
    assert_eq!(name(&bank, &open_customer(&bank, 5)), "Customer 5");
    erase(&bank, &customers[2]);
    bank.stop();

    // Back on the first machine, which was away all the time.
    let bank = Bank::start(&data, &["--config", &config]);
    assert!(name(&bank, &customers[2]).is_null(), "erased elsewhere");
    assert_eq!(name(&bank, &customers[3]), "Customer 4");
    bank.stop();
    // The store as it was before the erasures, of which the journal knows.
    group.primary().sql(
        "update skerry.customer_key set wrapped = decode(repeat('00', 72), 'hex') where wrapped is null",
    );
    let bank = Bank::start(&data, &["--config", &config]);
    assert_eq!(group.primary().sql("select count(*) from skerry.customer_key where wrapped is null"), "2");
    bank.stop();

    // The backup is from before both: it has all keys as files, and what the old data folder says is erased in its store is erased here.
    let restored = folder.0.join("restored");
    let [to, from, old] = [&restored, &backup, &data].map(|path| path.to_str().unwrap());
    let told = skerry(&["--json", "restore", from, "--data", to, "--erasures", old, "--config", &config]);
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["erased_again"], 2);
    let local = folder.0.join("local.toml");
    std::fs::write(&local, "").unwrap();
    let bank = Bank::start(&restored, &["--config", local.to_str().unwrap()]);
    assert_eq!(name(&bank, &customers[1]), "Customer 2");
    for erased in [&customers[0], &customers[2]] {
        assert!(name(&bank, erased).is_null());
    }
}

#[test]
fn keys_that_are_away_come_back_by_themselves() {
    let folder = Folder::new("store-keys-away");
    let mut group = Group::single();
    let config = configuration(&folder, &group);
    let bank = Bank::start(&folder.data(), &["--config", &config, "--branches", "1"]);
    let customer = open_customer(&bank, 1);
    let data = bank.stop();
    group.primary_mut().kill();
    let bank = Bank::start(&data, &["--config", &config]);
    let status: Value = block_on(bank.client().get("/v1/status")).unwrap();
    assert_eq!(status["healthy"], false, "{status}");
    group.primary_mut().start();
    let began = std::time::Instant::now();
    while block_on(bank.client().get::<Value>("/v1/status")).unwrap()["healthy"] != true {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "it does not open: {}", bank.log());
        std::thread::sleep(std::time::Duration::from_millis(50)); // between two looks, not to win a race
    }
    assert_eq!(name(&bank, &customer), "Customer 1");
}
