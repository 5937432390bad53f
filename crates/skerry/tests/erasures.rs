//! Restoring an older backup does not bring an erased customer's key back: by the list of erasures when the data folder is
//! gone, by the data folder when it is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Bank, Folder, SKERRY, block_on, open_account};
use hyper::Method;
use serde_json::{Value, json};

const SLOT: usize = 128;

fn skerry(arguments: &[&str]) -> Output {
    Command::new(SKERRY).args(arguments).env_remove("SKERRY_CONFIG").output().unwrap()
}

/// Whether `needle` lies in any file under `path`.
fn lies_in(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().any(|entry| lies_in(&entry.unwrap().path(), needle));
    }
    std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}

/// The customer's name as the bank of `data` shows it.
fn name(data: &Path, config: &str, customer: &str) -> Value {
    let bank = Bank::start(data, &["--config", config]);
    let shown: Value =
        block_on(async { bank.client().get(&format!("/v1/customers/{customer}")).await.unwrap() });
    bank.stop();
    shown["name"].clone()
}

#[test]
fn an_older_backup_brings_no_erased_key_back() {
    let folder = Folder::new("erasures");
    let (list, config) = (folder.0.join("erasures.list"), folder.0.join("bank.toml"));
    std::fs::write(&config, format!("[bank]\nbranches = 1\n[storage]\nerasures = {:?}\n", list.display()))
        .unwrap();
    let config = config.to_str().unwrap();
    let bank = Bank::start(&folder.data(), &["--config", config]);
    let (erased, kept) = block_on(async {
        let client = bank.client();
        let policy = json!({"four_eyes": [], "retention_days": 0});
        client.send_json(Method::PUT, "/v1/branches/1/policy", &policy, &[]).await.unwrap();
        let wish = json!({"name": "Customer 1", "document": {"kind": "test", "number": "1"}});
        let customer: Value = client.post("/v1/customers", &wish).await.unwrap();
        (customer["id"].as_str().unwrap().to_owned(), open_account(&client, "Customer 2").await.0)
    });
    let backup = folder.0.join("backup");
    let done = skerry(&[
        "backup",
        "--config",
        config,
        "--data",
        bank.data.to_str().unwrap(),
        backup.to_str().unwrap(),
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let before = std::fs::read(backup.join("keys/0001/keys-1.skk")).unwrap();
    block_on(async {
        let client = bank.client();
        client.send_json(Method::DELETE, &format!("/v1/customers/{erased}"), &json!({}), &[]).await.unwrap();
    });
    let data = bank.stop();
    let after = std::fs::read(data.join("keys/0001/keys-1.skk")).unwrap();
    let changed = (1..before.len() / SLOT)
        .find(|slot| before[slot * SLOT..(slot + 1) * SLOT] != after[slot * SLOT..(slot + 1) * SLOT]);
    let slot = changed.expect("an erasure changes a slot");
    let wrapped = &before[slot * SLOT + 16..slot * SLOT + 88];
    assert!(lies_in(&backup, wrapped) && !lies_in(&data, wrapped));
    let noted = std::fs::read_to_string(&list).unwrap();
    let bank_name = noted.trim().split(' ').next().unwrap().to_owned();
    assert_eq!(
        noted.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
        [format!("{bank_name} 1 {slot} erased")]
    );

    let restored = folder.0.join("restored");
    let (from, to, list) = (backup.to_str().unwrap(), restored.to_str().unwrap(), list.to_str().unwrap());
    let silent = skerry(&["restore", from, "--data", to]);
    assert!(!silent.status.success() && !restored.exists());
    assert!(String::from_utf8_lossy(&silent.stderr).contains("--without-erasures"));
    for source in [list, data.to_str().unwrap()] {
        let done = skerry(&["--json", "restore", from, "--data", to, "--erasures", source]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["erased_again"], 1, "by {source}");
        assert!(!lies_in(&restored, wrapped), "the wrapped key lies in the restored folder");
        assert!(name(&restored, config, &erased).is_null(), "by {source}");
        assert_eq!(name(&restored, config, &kept), "Customer 2");
        assert!(!lies_in(&restored, wrapped));
        std::fs::remove_dir_all(&restored).unwrap();
    }
    let done = skerry(&["restore", from, "--data", to, "--without-erasures"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(lies_in(&restored, wrapped), "what the other restores took away");
    // Its first start under a configuration that names the list erases it again.
    assert!(name(&restored, config, &erased).is_null());
    assert!(!lies_in(&restored, wrapped));
}
