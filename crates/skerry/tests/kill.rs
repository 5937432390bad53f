//! kill -9 in the middle of load, twenty times in a row, journals intact: every acknowledged transfer is there once,
//! none that was refused is, the trial balance is zero, the hash chain verifies.
//!
//! Killing a process never loses the page cache: that syncing is right is shown by the power cuts of `journal` and
//! by the simulator. This shows that recovery is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Bank, Folder, SKERRY, assert_balanced, balance, block_on, open_account, transfer, uuid7};
use serde_json::Value;
use skerry_client::{Client, Error};

const KILLS: usize = 20;
const CLIENTS: usize = 8;
/// Acknowledged transfers between one start and its kill: a count, so that no clock decides what is tested.
const PER_LIFE: u64 = 60;

#[derive(Debug, Default)]
struct Told {
    accepted: Vec<(String, u64)>,
    refused: Vec<String>,
    unknown: Vec<(String, u64)>,
}

#[test]
fn twenty_kills_lose_nothing_and_double_nothing() {
    let folder = Folder::new("kill");
    let mut bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let (payer, payee) = block_on(async {
        let client = bank.client();
        let (_, payer) = open_account(&client, "payer").await;
        let (_, payee) = open_account(&client, "payee").await;
        let funded: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &payer, "1000000.00")).await.unwrap();
        assert!(funded["location"].is_string());
        (payer, payee)
    });
    let told = Arc::new(Mutex::new(Told::default()));
    for _ in 0..KILLS {
        let data = press_and_kill(bank, &payer, &payee, &told);
        bank = Bank::start(&data, &[]);
        let client = bank.client();
        block_on(check(&client, &payer, &payee, &mut told.lock().unwrap()));
    }
    let data = bank.stop();
    let file = folder.0.join("branch.skx");
    let exported = Command::new(SKERRY)
        .args(["branch", "export", "1", "--data"])
        .arg(&data)
        .arg("--out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let verified = Command::new(SKERRY).arg("verify").arg(&file).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let told = told.lock().unwrap();
    assert!(told.accepted.len() as u64 >= PER_LIFE * KILLS as u64, "the load was real");
    assert!(!told.refused.is_empty(), "some were refused");
}

/// Pays from several clients, kills the bank after so many acknowledgements, and notes what each was told.
fn press_and_kill(bank: Bank, payer: &str, payee: &str, told: &Arc<Mutex<Told>>) -> std::path::PathBuf {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|client_number| {
            let (client, payer, payee) = (bank.client(), payer.to_owned(), payee.to_owned());
            let (acknowledged, over, told) = (Arc::clone(&acknowledged), Arc::clone(&over), Arc::clone(told));
            runtime.spawn(async move {
                let mut round = client_number;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    // Every seventh asks for more than there is and must be refused.
                    let (cents, text) =
                        if round % 7 == 0 { (0, "99000000.00".to_owned()) } else { (7, "0.07".to_owned()) };
                    let id = uuid7();
                    let answer: Result<Value, Error> =
                        client.post("/v1/transfers", &transfer(&id, &payer, &payee, &text)).await;
                    let mut told = told.lock().unwrap();
                    match answer {
                        Ok(_) => {
                            told.accepted.push((id, cents));
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::Problem(problem)) if problem.code == "insufficient_funds" => {
                            told.refused.push(id)
                        }
                        Err(_) => told.unknown.push((id, cents)),
                    }
                }
            })
        })
        .collect();
    while acknowledged.load(Ordering::Relaxed) < PER_LIFE {
        std::thread::yield_now();
    }
    let data = bank.kill();
    over.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    data
}

async fn check(client: &Client, payer: &str, payee: &str, told: &mut Told) {
    let mut expected: u64 = 0;
    for (id, cents) in &told.accepted {
        let found: Result<Value, Error> = client.get(&format!("/v1/accounts/{payer}/transfers/{id}")).await;
        assert!(found.is_ok(), "acknowledged {id} is gone: {found:?}");
        expected += cents;
    }
    for id in &told.refused {
        let found: Result<Value, Error> = client.get(&format!("/v1/accounts/{payer}/transfers/{id}")).await;
        assert!(
            found.as_ref().map_or(true, |found| found["state"] == "refused"),
            "refused {id} is there: {found:?}"
        );
    }
    // What nobody was told either way may be there or not, but only once; asking again with the same id settles it.
    for (id, cents) in std::mem::take(&mut told.unknown) {
        let text = if cents == 0 { "99000000.00" } else { "0.07" };
        match client.post::<_, Value>("/v1/transfers", &transfer(&id, payer, payee, text)).await {
            Ok(_) => {
                expected += cents;
                told.accepted.push((id, cents));
            }
            Err(Error::Problem(problem)) if problem.code == "insufficient_funds" => told.refused.push(id),
            Err(error) => panic!("a retry of {id} was not answered: {error}"),
        }
    }
    assert_eq!(balance(client, payee).await, format!("{}.{:02}", expected / 100, expected % 100));
    let mut seen = BTreeMap::new();
    for (id, _) in &told.accepted {
        *seen.entry(id).or_insert(0) += 1;
    }
    assert!(seen.values().all(|count| *count == 1));
    assert_balanced(client).await;
}
