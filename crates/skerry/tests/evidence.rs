//! A bank that proves with SM2 and SM3, keys that are sealed, rotated or elsewhere; all with the real binary, and checked
//! offline.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

mod common;

use common::{Bank, Folder, SKERRY, block_on, open_account, problem, transfer, uuid7};
use serde_json::{Value, json};
use skerry_proof::SignatureAlgorithm;
use skerry_proof::signer::from_secret;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Writes a file that only its owner may read.
fn secret_file(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn skerry(arguments: &[&str]) -> Output {
    Command::new(SKERRY).args(arguments).arg("--json").output().unwrap()
}

/// What a command answered as data; it must have succeeded.
fn answered(arguments: &[&str]) -> Value {
    let done = skerry(arguments);
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Pays from cash into a new account and fetches the receipt, waiting for its checkpoint.
async fn paid_and_proved(bank: &Bank, name: &str) -> Value {
    let client = bank.client();
    let (_, number) = open_account(&client, name).await;
    let id = uuid7();
    let _paid: Value =
        client.post("/v1/transfers", &transfer(&id, "gl:1001", &number, "5.00")).await.unwrap();
    let entries: Value = client.get(&format!("/v1/accounts/{number}/entries")).await.unwrap();
    assert_eq!(entries["entries"].as_array().map(Vec::len), Some(1));
    let debit = _paid["location"].as_str().unwrap().to_owned();
    loop {
        match client.get::<Value>(&format!("{debit}/receipt")).await {
            Ok(receipt) => return receipt,
            Err(skerry_client::Error::Problem(problem)) if problem.status == 503 => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn verify(folder: &Folder, receipt: &Value, key: Option<&str>) -> (bool, Value) {
    let file = folder.0.join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let mut arguments = vec!["verify", text(&file)];
    if let Some(key) = key {
        arguments.extend(["--key", key]);
    }
    let done = skerry(&arguments);
    (done.status.success(), serde_json::from_slice(&done.stdout).unwrap())
}

fn founded(folder: &Folder) -> PathBuf {
    secret_file(&folder.0.join("passphrase"), "correct horse battery\n");
    let config = folder.0.join("bank-config.toml");
    let toml = format!(
        "[bank]\nbranches = 1\n[evidence]\nhash = \"sm3\"\nsignature = \"sm2\"\n\
         [evidence.signer]\npassphrase_file = \"{}\"\n",
        text(&folder.0.join("passphrase"))
    );
    std::fs::write(&config, toml).unwrap();
    config
}

#[test]
fn sm2_and_sm3_from_founding_through_rotation_to_the_flipped_bit() {
    let folder = Folder::new("sm");
    let (config, data) = (founded(&folder), folder.data());
    let (config, data_text) = (text(&config), text(&data));
    let bank = Bank::start(&data, &["--config", config]);
    let first = block_on(paid_and_proved(&bank, "Customer 1"));
    let old_key = first["public_key"].as_str().unwrap().to_owned();
    assert!(old_key.starts_with("sm2:"), "{old_key}");
    let (valid, shown) = verify(&folder, &first, Some(&old_key));
    assert!(valid && shown["hash"] == "SM3" && shown["signature"] == "SM2", "{shown}");

    let good = first["receipt"].as_str().unwrap();
    for at in (0..good.len()).step_by(97) {
        let mut digits = good.as_bytes().to_vec();
        digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
        let mut changed = first.clone();
        changed["receipt"] = json!(String::from_utf8(digits).unwrap());
        let (valid, shown) = verify(&folder, &changed, Some(&old_key));
        assert!(!valid, "digit {at}: {shown}");
    }
    let stranger = from_secret(SignatureAlgorithm::Sm2, &[9; 32]).unwrap().public_key().to_string();
    let (valid, shown) = verify(&folder, &first, Some(&stranger));
    assert!(!valid && shown["cause"].as_str().unwrap().contains("is not known"), "{shown}");

    let running = skerry(&["key", "rotate", "--data", data_text, "--config", config]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("held by another process"));
    bank.stop();
    let rotated = answered(&["key", "rotate", "--data", data_text, "--config", config]);
    let new_key = rotated["public_key"].as_str().unwrap().to_owned();
    assert_ne!(new_key, old_key);
    assert_eq!(rotated["keys"].as_array().map(Vec::len), Some(2), "{rotated}");

    let bank = Bank::start(&data, &["--config", config]);
    let second = block_on(paid_and_proved(&bank, "Customer 2"));
    bank.stop();
    assert_eq!(second["public_key"].as_str(), Some(new_key.as_str()));
    for (receipt, key) in [(&first, &old_key), (&second, &old_key), (&second, &new_key)] {
        let (valid, shown) = verify(&folder, receipt, Some(key));
        assert!(valid, "{shown}");
    }
    let export = folder.0.join("export");
    answered(&["branch", "export", "1", "--data", data_text, "--config", config, "--out", text(&export)]);
    for key in [&old_key, &new_key] {
        let whole = answered(&["verify", text(&export), "--key", key]);
        assert!(whole["checkpoints"].as_u64().unwrap() >= 2, "both keys' checkpoints: {whole}");
    }
}

#[test]
fn a_sealed_key_opens_with_its_passphrase_alone_and_errors_name_the_file() {
    let folder = Folder::new("sealed");
    let (config, data) = (founded(&folder), folder.data());
    Bank::start(&data, &["--config", text(&config)]).stop();
    let key = data.join("secrets/signer.key");
    let good = std::fs::read(&key).unwrap();
    assert!(good.starts_with(b"SKSEALK1"));
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let refused = |what: &str| {
        let log = Bank::try_start(&data, &["--config", text(&config)]).unwrap_err();
        assert!(log.contains(what), "{log}");
        log
    };
    let passphrase = folder.0.join("passphrase");
    secret_file(&passphrase, "incorrect horse\n");
    assert!(refused("the passphrase is wrong").contains("secrets/signer.key"));
    secret_file(&passphrase, "correct horse battery\n");
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    std::fs::write(&key, &flipped).unwrap();
    assert!(refused("tampered").contains("secrets/signer.key"));
    std::fs::write(&key, &good).unwrap();
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused("chmod 600");
    secret_file(&passphrase, "correct horse battery\n");
    secret_file(&key, &"5".repeat(64));
    refused("is not sealed");
    std::fs::write(&key, &good).unwrap();

    // Another key than the one that signed last is a thief's, for all that anybody can tell.
    let other = folder.0.join("other");
    let plain = folder.0.join("plain.toml");
    std::fs::write(&plain, "[bank]\nbranches = 1\n[evidence]\nhash = \"sm3\"\n").unwrap();
    Bank::start(&other, &["--config", text(&plain)]).stop();
    std::fs::copy(other.join("secrets/signer.key"), &key).unwrap();
    let log = Bank::try_start(&data, &["--config", text(&plain)]).unwrap_err();
    assert!(log.contains("skerry key rotate"), "{log}");
    std::fs::write(&key, &good).unwrap();
    Bank::start(&data, &["--config", text(&config)]).stop();

    let founded_otherwise = folder.0.join("otherwise.toml");
    std::fs::write(&founded_otherwise, "[evidence]\nhash = \"sha-256\"\n").unwrap();
    let log = Bank::try_start(&data, &["--config", text(&founded_otherwise)]).unwrap_err();
    assert!(log.contains("evidence.hash was fixed at the first start"), "{log}");
}

/// From a key in a file to one that a command has; the command goes away and comes back.
#[test]
fn a_command_signs_and_while_it_cannot_payments_go_on() {
    let folder = Folder::new("command");
    let data = folder.data();
    Bank::start(&data, &["--branches", "1"]).stop();
    let (vault, there) = (folder.0.join("vault.key"), folder.0.join("there"));
    secret_file(&vault, &"07".repeat(32));
    let key = from_secret(SignatureAlgorithm::Ed25519, &[7; 32]).unwrap().public_key().to_string();
    let script = format!(
        "[ -e '{}' ] || {{ read line; echo error the vault is closed; exit; }}; exec '{SKERRY}' key serve --file '{}'",
        text(&there),
        text(&vault)
    );
    let next = folder.0.join("next.toml");
    let toml = format!(
        "[bank]\nbranches = 1\n[evidence.signer]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\npublic_key = \"{key}\"\n\
         timeout_ms = 60000\n"
    );
    std::fs::write(&next, toml).unwrap();

    let closed = skerry(&["key", "rotate", "--data", text(&data), "--next", text(&next)]);
    assert!(
        String::from_utf8_lossy(&closed.stderr).contains("the vault is closed"),
        "nothing is changed then"
    );
    Bank::start(&data, &[]).stop();
    std::fs::write(&there, "").unwrap();
    let rotated = answered(&["key", "rotate", "--data", text(&data), "--next", text(&next)]);
    assert_eq!(rotated["public_key"], json!(key));
    assert!(!data.join("secrets/signer.key").exists(), "the old key does not stay");

    let bank = Bank::start(&data, &["--config", text(&next)]);
    let receipt = block_on(paid_and_proved(&bank, "Customer 1"));
    let (valid, shown) = verify(&folder, &receipt, Some(&key));
    assert!(valid, "{shown}");
    bank.stop();

    std::fs::remove_file(&there).unwrap();
    let bank = Bank::start(&data, &["--config", text(&next)]);
    block_on(async {
        let client = bank.client();
        let (_, number) = open_account(&client, "Customer 2").await;
        let pay = || transfer(&uuid7(), "gl:1001", &number, "1.00");
        let paid: Value = client.post("/v1/transfers", &pay()).await.unwrap();
        let receipt = format!("{}/receipt", paid["location"].as_str().unwrap());
        let late = problem(client.get::<Value>(&receipt).await);
        assert_eq!(late.status, 503, "{late:?}");
        let _paid_too: Value = client.post("/v1/transfers", &pay()).await.unwrap();
        let status: Value = client.get("/v1/branches").await.unwrap();
        let fault = status["branches"][0]["checkpoint_fault"].as_str().unwrap_or_default();
        assert!(fault.contains("the vault is closed"), "{status}");
        assert_eq!(status["branches"][0]["state"], "open");
        assert!(bank.log().contains("could not sign a checkpoint, payments go on"), "{}", bank.log());
    });
    std::fs::write(&there, "").unwrap();
    let receipt = block_on(paid_and_proved(&bank, "Customer 3"));
    let (valid, shown) = verify(&folder, &receipt, Some(&key));
    assert!(valid, "{shown}");
    bank.stop();
}
