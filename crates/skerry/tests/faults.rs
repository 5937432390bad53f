//! Machines that fail: each fault is a clear error that names file and position; what was acknowledged is not lost;
//! nothing is skipped in silence.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bank, Folder, SKERRY, balance, block_on, open_account, transfer, uuid7};
use serde_json::Value;

fn segments(data: &Path, branch: u16) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![data.join(format!("branches/{branch:04}"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap().to_string_lossy().starts_with("seg-") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Two accounts in each branch with money on the first; (branch, payer, payee).
async fn fund(bank: &Bank, branches: usize) -> Vec<(u16, String, String)> {
    let client = bank.client();
    let mut by_branch = std::collections::BTreeMap::<u16, Vec<String>>::new();
    let mut customer = 0;
    while by_branch.len() < branches || by_branch.values().any(|numbers| numbers.len() < 2) {
        customer += 1;
        let (_, number) = open_account(&client, &format!("Customer {customer}")).await;
        by_branch.entry(number[..4].parse().unwrap()).or_default().push(number);
    }
    let mut pairs = Vec::new();
    for (branch, numbers) in by_branch {
        let _paid: Value = client
            .post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &numbers[0], "1000.00"))
            .await
            .unwrap();
        for _ in 0..20 {
            let _paid: Value = client
                .post("/v1/transfers", &transfer(&uuid7(), &numbers[0], &numbers[1], "1.00"))
                .await
                .unwrap();
        }
        pairs.push((branch, numbers[0].clone(), numbers[1].clone()));
    }
    pairs
}

#[test]
fn a_flipped_bit_stops_its_branch_names_the_place_and_leaves_the_others_alone() {
    let folder = Folder::new("flip");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    let pairs = block_on(fund(&bank, 2));
    let data = bank.kill();
    let file = segments(&data, 1).into_iter().next().expect("branch 1 has a segment");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let at = last / 2;
    let at = (at..last).find(|at| bytes[*at] != 0).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    // Derived files would hide the flip from a quick start; the journal itself must be found wanting.
    let bank = Bank::start(&data, &[]);
    block_on(async {
        let client = bank.client();
        let (_, payer, payee) = &pairs[1];
        assert_eq!(balance(&client, payer).await, "980.00");
        let _paid: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), payer, payee, "1.00")).await.unwrap();
        let branches: Value = client.get("/v1/branches").await.unwrap();
        let list = branches["branches"].as_array().unwrap_or_else(|| panic!("{branches}"));
        let sick = list.iter().find(|branch| branch["branch"] == 1).unwrap().to_string();
        assert!(sick.contains("seg-"), "the sick branch names no file: {sick}");
        let (_, payer, _) = &pairs[0];
        let refused = common::problem(client.get::<Value>(&format!("/v1/accounts/{payer}")).await);
        assert_eq!(refused.status, 503, "{refused:?}");
        for newcomer in 0..4 {
            let (_, number) = open_account(&client, &format!("Newcomer {newcomer}")).await;
            assert!(number.starts_with("0002"), "newcomers go to the branch that serves, not to {number}");
        }
    });
    let status = bank.skerry(&["status"]);
    assert!(!status.status.success(), "status of a bank with a sick branch fails");
    assert!(String::from_utf8_lossy(&status.stdout).contains("seg-"));
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let folder = Folder::new("second");
    let _bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let second = Command::new(SKERRY)
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.data())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("held by another process") && text.contains("data"), "{text}");
}

/// A small file system of our own; `None` (with a printed reason) where the test may not mount one.
fn small_disk(folder: &Folder, megabytes: u32) -> Option<PathBuf> {
    let place = folder.0.join("disk");
    std::fs::create_dir(&place).unwrap();
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
        .arg(&place)
        .output()
        .unwrap();
    if done.status.success() {
        return Some(place);
    }
    eprintln!(
        "skipped: no file system can be mounted here: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    None
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_answers_clearly_and_loses_nothing_that_was_acknowledged() {
    let folder = Folder::new("full");
    let Some(place) = small_disk(&folder, 48) else { return };
    let _unmount = Unmount(place.clone());
    let config = folder.0.join("skerry.toml");
    std::fs::write(&config, "[storage]\nsegment_bytes = 1048576\n").unwrap();
    let data = place.join("data");
    let more = ["--branches", "1", "--config", config.to_str().unwrap()];
    let bank = Bank::start(&data, &more);
    let (payer, payee, acknowledged) = block_on(async {
        let pairs = fund(&bank, 1).await;
        let (_, payer, payee) = pairs[0].clone();
        let client = bank.client();
        // Something else fills the disk.
        let filler = place.join("filler");
        let _full = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k"])
            .arg(format!("of={}", filler.display()))
            .output();
        let mut acknowledged = 20;
        let mut refused = 0;
        for _ in 0..20_000 {
            match client.post::<_, Value>("/v1/transfers", &transfer(&uuid7(), &payer, &payee, "0.01")).await
            {
                Ok(_) => acknowledged += 1,
                Err(skerry_client::Error::Problem(problem)) => {
                    assert_eq!(problem.status, 503, "{problem:?}");
                    refused += 1;
                    if refused > 3 {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0, "the disk never filled");
        let status = bank.skerry(&["status"]);
        let text = String::from_utf8_lossy(&status.stdout).to_lowercase();
        assert!(
            text.contains("space") || text.contains("full"),
            "status does not name the full disk: {text}"
        );
        std::fs::remove_file(filler).unwrap();
        (payer, payee, acknowledged - 20)
    });
    assert!(!payer.is_empty());
    let data = bank.kill();
    let bank = Bank::start(&data, &more);
    block_on(async {
        let cents = 2000 + acknowledged;
        let client = bank.client();
        let text = balance(&client, &payee).await;
        let have: u64 = text.replace('.', "").parse().unwrap();
        // What was refused as unknown may have been written before the disk was full.
        assert!(have >= cents && have <= cents + 4, "{have} cents, {cents} acknowledged");
    });
}

#[test]
fn a_read_only_folder_is_named() {
    let folder = Folder::new("readonly");
    let Some(place) = small_disk(&folder, 64) else { return };
    let _unmount = Unmount(place.clone());
    let data = place.join("data");
    Bank::start(&data, &["--branches", "1"]).stop();
    let done = Command::new("mount").args(["-o", "remount,ro"]).arg(&place).status().unwrap();
    assert!(done.success());
    let output =
        Command::new(SKERRY).args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.to_lowercase().contains("read-only") && text.contains("data"), "{text}");
}
