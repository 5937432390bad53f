//! Restoring an older backup does not bring an erased customer's key back: by the list of erasures when the data folder is
//! gone, by the data folder when it is not; also when the bank has changed its signing key in between.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::{Path, PathBuf};
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

/// A bank of which a backup was taken and then a customer erased.
struct Staged {
    folder: Folder,
    config: String,
    data: PathBuf,
    list: PathBuf,
    backup: PathBuf,
    /// The customer erased since, and one who was not.
    customers: [String; 2],
    /// The erased customer's key as the backup has it, and its number.
    wrapped: Vec<u8>,
    slot: usize,
}

/// `between` is done to the stopped bank, with its configuration and data folder, after the backup and before the erasure.
fn staged(name: &str, between: impl FnOnce(&str, &Path)) -> Staged {
    let folder = Folder::new(name);
    let (list, config) = (folder.0.join("erasures.list"), folder.0.join("bank.toml"));
    std::fs::write(&config, format!("[bank]\nbranches = 1\n[storage]\nerasures = {:?}\n", list.display()))
        .unwrap();
    let config = config.to_str().unwrap().to_owned();
    let bank = Bank::start(&folder.data(), &["--config", &config]);
    let (erased, kept) = block_on(async {
        let client = bank.client();
        let policy = json!({"four_eyes": [], "retention_days": 0});
        client.send_json(Method::PUT, "/v1/branches/1/policy", &policy, &[]).await.unwrap();
        let wish = json!({"name": "Customer 1", "document": {"kind": "test", "number": "1"}});
        let customer: Value = client.post("/v1/customers", &wish).await.unwrap();
        (customer["id"].as_str().unwrap().to_owned(), open_account(&client, "Customer 2").await.0)
    });
    let backup = folder.0.join("backup");
    let (from, to) = (bank.data.to_str().unwrap(), backup.to_str().unwrap());
    let done = skerry(&["backup", "--config", &config, "--data", from, to]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let data = bank.stop();
    between(&config, &data);
    let bank = Bank::start(&data, &["--config", &config]);
    block_on(async {
        let client = bank.client();
        client.send_json(Method::DELETE, &format!("/v1/customers/{erased}"), &json!({}), &[]).await.unwrap();
    });
    bank.stop();
    let before = std::fs::read(backup.join("keys/0001/keys-1.skk")).unwrap();
    let after = std::fs::read(data.join("keys/0001/keys-1.skk")).unwrap();
    let changed = (1..before.len() / SLOT)
        .find(|slot| before[slot * SLOT..(slot + 1) * SLOT] != after[slot * SLOT..(slot + 1) * SLOT]);
    let slot = changed.expect("an erasure changes a slot");
    let wrapped = before[slot * SLOT + 16..slot * SLOT + 88].to_vec();
    assert!(lies_in(&backup, &wrapped) && !lies_in(&data, &wrapped));
    Staged { folder, config, data, list, backup, customers: [erased, kept], wrapped, slot }
}

impl Staged {
    /// The list has one line, which calls the bank by the beginning of `key`.
    fn check_list(&self, key: &str) {
        let noted = std::fs::read_to_string(&self.list).unwrap();
        let lines: Vec<_> = noted.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, [format!("{} 1 {} erased", &key[..16], self.slot)]);
    }

    /// Restored with what the list or the data folder say, the customer is gone from every file.
    fn check_restores(&self) {
        let restored = self.folder.0.join("restored");
        let [from, to, list, data] =
            [&self.backup, &restored, &self.list, &self.data].map(|path| path.to_str().unwrap());
        for source in [list, data] {
            let done = skerry(&["--json", "restore", from, "--data", to, "--erasures", source]);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let report: Value = serde_json::from_slice(&done.stdout).unwrap();
            assert_eq!(report["erased_again"], 1, "by {source}");
            assert!(!lies_in(&restored, &self.wrapped), "the wrapped key lies in the restored folder");
            assert!(name(&restored, &self.config, &self.customers[0]).is_null(), "by {source}");
            assert_eq!(name(&restored, &self.config, &self.customers[1]), "Customer 2");
            assert!(!lies_in(&restored, &self.wrapped));
            std::fs::remove_dir_all(&restored).unwrap();
        }
    }

    /// Restored without a word of erasures, it is erased again by the first start under a configuration that names the list.
    fn check_first_start(&self) {
        let restored = self.folder.0.join("restored");
        let (from, to) = (self.backup.to_str().unwrap(), restored.to_str().unwrap());
        let silent = skerry(&["restore", from, "--data", to]);
        assert!(!silent.status.success() && !restored.exists());
        assert!(String::from_utf8_lossy(&silent.stderr).contains("--without-erasures"));
        let done = skerry(&["restore", from, "--data", to, "--without-erasures"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(lies_in(&restored, &self.wrapped), "what the other restores took away");
        assert!(name(&restored, &self.config, &self.customers[0]).is_null());
        assert!(!lies_in(&restored, &self.wrapped));
    }
}

/// The bank's public keys, first to present, without the names of their schemes.
fn keys(config: &str, data: &Path) -> Vec<String> {
    let done = skerry(&["--json", "key", "list", "--config", config, "--data", data.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let listed: Value = serde_json::from_slice(&done.stdout).unwrap();
    let key = |key: &Value| key["public_key"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    listed["keys"].as_array().unwrap().iter().map(key).collect()
}

#[test]
fn an_older_backup_brings_no_erased_key_back() {
    let staged = staged("erasures", |_, _| ());
    staged.check_list(&keys(&staged.config, &staged.data)[0]);
    staged.check_restores();
    staged.check_first_start();
}

/// The list calls the bank by its first key, which the backup knows and every later start too.
#[test]
fn nor_does_it_when_the_signing_key_was_rotated_in_between() {
    let staged = staged("erasures-rotated", |config, data| {
        let data = data.to_str().unwrap();
        let done = skerry(&["--json", "key", "rotate", "--config", config, "--data", data]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    });
    let (then, now) = (keys(&staged.config, &staged.backup), keys(&staged.config, &staged.data));
    assert_eq!((then.len(), now.len()), (1, 2), "the backup is older than the rotation");
    staged.check_list(&then[0]);
    staged.check_restores();
    staged.check_first_start();
    check_newer_keys(&staged, &now);
}

/// The retired key must not sign again: with the newer keys put into the older backup, the restored bank goes on with the
/// present one, and all its checkpoints are to be believed.
fn check_newer_keys(staged: &Staged, keys: &[String]) {
    for file in ["signers.toml", "secrets/signer.key"] {
        std::fs::copy(staged.data.join(file), staged.backup.join(file)).unwrap();
    }
    let again = staged.folder.0.join("again");
    let [from, to, list] = [&staged.backup, &again, &staged.list].map(|path| path.to_str().unwrap());
    let done = skerry(&["restore", from, "--data", to, "--erasures", list]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let branch = again.join("branches/0001");
    for key in keys {
        let done = skerry(&["--json", "verify", branch.to_str().unwrap(), "--key", key]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}
