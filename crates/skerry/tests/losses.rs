//! A branch whose journal was put back to an old copy, in a real bank: it is shown by the other branch, opens only once the
//! loss is declared, and has back what the other one held.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Bank, Folder, SKERRY, assert_balanced, balance, block_on, open_account, transfer, uuid7};
use serde_json::Value;
use skerry_client::Client;

/// Asks until it is so; a bank that never comes so far fails the test.
async fn until<T>(client: &Client, path: &str, is: impl Fn(&Value) -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let seen: Value = client.get(path).await.unwrap();
        if let Some(found) = is(&seen) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came so far: {path} {seen}");
        tokio::task::yield_now().await;
    }
}

/// An account in each of both branches, by branch, with 100.00 on it.
async fn accounts(client: &Client) -> [String; 2] {
    let mut found = [None, None];
    for number in 1.. {
        let (_, account) = open_account(client, &format!("Customer {number}")).await;
        let index = usize::from(account.starts_with("0002"));
        if found[index].is_none() {
            let _done: Value = client
                .post("/v1/transfers", &transfer(&uuid7(), &format!("gl:{}", 1001), &account, "100.00"))
                .await
                .unwrap();
            found[index] = Some(account);
        }
        if let [Some(one), Some(two)] = &found {
            return [one.clone(), two.clone()];
        }
        assert!(number < 20, "newcomers go to one branch alone");
    }
    unreachable!("the loop ends by itself")
}

/// Pays across and waits for the end.
async fn pay(client: &Client, from: &str, to: &str, amount: &str) {
    let id = uuid7();
    let begun = Instant::now();
    loop {
        match client.post::<_, Value>("/v1/transfers", &transfer(&id, from, to, amount)).await {
            Ok(_) => break,
            // Just after a start the branches do not know each other.
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
    until(client, &format!("/v1/payments/{id}"), |seen| (seen["status"] == "settled").then_some(())).await;
}

fn copy_folder(from: &Path, to: &Path) {
    let _gone = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_branch_that_was_put_back_opens_after_a_declared_loss_and_the_books_agree() {
    let folder = Folder::new("losses");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    let [one, two] = block_on(async {
        let client = bank.client();
        let accounts = accounts(&client).await;
        pay(&client, &accounts[0], &accounts[1], "10.00").await;
        pay(&client, &accounts[1], &accounts[0], "3.00").await;
        accounts
    });
    let data = bank.stop();
    let (journal, backup) = (data.join("branches/0001/journal"), folder.0.join("backup"));
    copy_folder(&journal, &backup);
    let bank = Bank::start(&data, &[]);
    block_on(async {
        let client = bank.client();
        pay(&client, &one, &two, "20.00").await;
        pay(&client, &two, &one, "5.00").await;
        pay(&client, &one, &two, "7.00").await;
    });
    let data = bank.kill();
    copy_folder(&backup, &journal);

    // The other branch shows it as soon as they meet; then it stays shut.
    let bank = Bank::start(&data, &[]);
    let sick = |seen: &Value| {
        let branch = &seen["branches"][0];
        let reason = branch["reason"].as_str().unwrap_or_default();
        reason.contains("journal_rewound").then(|| reason.to_owned())
    };
    let shown = block_on(until(&bank.client(), "/v1/branches", sick));
    assert!(shown.contains("branch 2 has payments of this branch"), "{shown}");
    let data = bank.stop();
    let bank = Bank::start(&data, &[]);
    let reason = block_on(until(&bank.client(), "/v1/branches", sick));
    assert!(reason.contains("ends at position"), "{reason}");
    let data = bank.stop();

    let position = reason.split("position ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let declared = Command::new(SKERRY)
        .args(["branch", "declare-loss", "1", "--position", &position, "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(declared.status.success(), "{}", String::from_utf8_lossy(&declared.stderr));

    let bank = Bank::start(&data, &[]);
    let resumed = bank.skerry(&["branch", "resume-channel", "1", "2"]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    block_on(async {
        let client = bank.client();
        for branch in [1, 2] {
            let goes_on = |seen: &Value| {
                let channel = &seen["channels"][0];
                let rests = channel["outgoing_stopped"].is_null() && channel["incoming_stopped"].is_null();
                (rests && channel["resuming"] == false && channel["open"] == 0).then_some(())
            };
            until(&client, &format!("/v1/branches/{branch}/channels"), goes_on).await;
        }
        // 100 − 10 + 3 − 20 + 5 − 7, and the mirror image.
        assert_eq!(
            (balance(&client, &one).await, balance(&client, &two).await),
            ("71.00".to_owned(), "129.00".to_owned())
        );
        pay(&client, &one, &two, "1.00").await;
        pay(&client, &two, &one, "2.00").await;
        assert_eq!(
            (balance(&client, &one).await, balance(&client, &two).await),
            ("72.00".to_owned(), "128.00".to_owned())
        );
        let breaks: Value = client.get("/v1/branches/1/breaks").await.unwrap();
        assert_eq!(breaks["losses"][0]["incarnation"], 2, "{breaks}");
        assert!(breaks["stopped"].as_array().unwrap().is_empty(), "{breaks}");
        let audit: Value = client.get("/v1/audit?limit=1000").await.unwrap();
        let acts = audit["acts"].as_array().unwrap().iter();
        assert_eq!(acts.filter(|act| act["act"] == "payment.taken_back").count(), 3, "{audit}");
        // Whoever follows the events is told the same, of the customer's account, under the payments' own ids.
        let told = "/v1/events?branch=1&type=skerry.payment.taken_back,skerry.channel.resumed";
        let told: Value = client.get(told).await.unwrap();
        let (back, resumed): (Vec<&Value>, Vec<&Value>) = told["events"]
            .as_array()
            .unwrap()
            .iter()
            .partition(|event| event["data"]["transfer"].is_string());
        assert_eq!((back.len(), resumed.len()), (3, 1), "{told}");
        assert!(back.iter().all(|event| event["subject"] == one.as_str()), "{told}");
        assert!(back.iter().all(|event| event["id"].as_str().unwrap().starts_with("0001.2-")), "{told}");
        assert_balanced(&client).await;
    });
    bank.stop();
}
