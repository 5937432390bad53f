//! Events of a real bank: kill -9 in the middle of deliveries, a receiver that is down and comes back, and the command line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
#[path = "../../gateway/tests/common/receiver.rs"]
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bank, Folder, SKERRY, block_on, open_account, transfer, uuid7};
use receiver::{Answer, Call, Receiver, until};
use serde_json::{Value, json};
use skerry_client::Client;

/// Retries come quickly here; all else is as it comes.
fn config(folder: &Folder) -> PathBuf {
    let path = folder.0.join("skerry.toml");
    std::fs::write(&path, "[webhooks]\nretry_first_ms = 5\nretry_most_seconds = 1\n").unwrap();
    path
}

async fn all_events(client: &Client) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page: Value = client.get(&format!("/v1/events?limit=500&after={after}")).await.unwrap();
        page["next"].as_str().unwrap().clone_into(&mut after);
        events.extend(page["events"].as_array().unwrap().clone());
        if page["more"] != true {
            return events;
        }
    }
}

fn ids(events: &[Value]) -> BTreeSet<String> {
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn taken(calls: &[Call]) -> BTreeSet<String> {
    calls.iter().map(|call| call.id().to_owned()).collect()
}

/// Looks at a webhook until it is so.
async fn until_shown(client: &Client, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let shown: Value = client.get(path).await.unwrap();
        if is_so(&shown) {
            return shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came about: {shown}");
        tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
    }
}

/// No account sees an event for the first time after it has seen a later one.
fn assert_order(calls: &[Call]) {
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::new();
    for call in calls.iter().filter(|call| seen.insert(call.id().to_owned())) {
        let event = call.event();
        let data = &event["data"];
        for side in ["account", "debit", "credit"] {
            let Some(account) = data[side].as_str().filter(|account| !account.starts_with("gl:")) else {
                continue;
            };
            let position = data["position"].as_u64().unwrap();
            let before = last.insert((event["source"].to_string(), account.to_owned()), position);
            assert!(before.is_none_or(|before| before < position), "{account}: {position} after {before:?}");
        }
    }
}

#[test]
fn kills_in_the_middle_of_deliveries_lose_none() {
    let folder = Folder::new("webhook-kill");
    let config = config(&folder);
    let config = config.to_str().unwrap();
    let mut bank = Bank::start(&folder.data(), &["--branches", "2", "--config", config]);
    let receiver = Receiver::new(|_| Answer::Status(200));
    let (hook, accounts) = block_on(async {
        let client = bank.client();
        let wish = json!({"url": receiver.url(), "after": ""});
        let made: Value = client.post("/v1/webhooks", &wish).await.unwrap();
        assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
        let hook = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
        let mut accounts = Vec::new();
        for number in 0..4 {
            accounts.push(open_account(&client, &format!("{number}")).await.1);
        }
        (hook, accounts)
    });
    for _ in 0..4 {
        let before = receiver.count();
        block_on(async {
            let client = bank.client();
            let transfers: Vec<Value> = (0..400)
                .map(|nth| transfer(&uuid7(), "gl:1001", &accounts[nth % accounts.len()], "0.01"))
                .collect();
            let _all: Value =
                client.post("/v1/transfers/batch", &json!({"transfers": transfers})).await.unwrap();
            // Some are taken, most are not: now.
            until("deliveries are under way", || receiver.count() > before + 40).await;
        });
        let data = bank.kill();
        bank = Bank::start(&data, &["--config", config]);
    }
    let expected = block_on(async { ids(&all_events(&bank.client()).await) });
    assert!(expected.len() > 1_600, "the load was real");
    block_on(until("each is there", || taken(&receiver.calls()) == expected));
    assert_order(&receiver.calls());
    block_on(until_shown(&bank.client(), &hook, |shown| shown["lag_records"] == 0));
    // A stop writes down how far it is: nothing comes twice after it.
    let data = bank.stop();
    receiver.forget();
    let bank = Bank::start(&data, &["--config", config]);
    block_on(async {
        let client = bank.client();
        let _one: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &accounts[0], "1.00")).await.unwrap();
        until("the new one is there", || receiver.count() > 0).await;
    });
    assert_eq!(receiver.count(), 1, "only what is new");
}

#[test]
fn a_receiver_that_was_down_misses_nothing() {
    let folder = Folder::new("webhook-down");
    let config = config(&folder);
    let bank = Bank::start(&folder.data(), &["--branches", "1", "--config", config.to_str().unwrap()]);
    // An address of its own within the loopback: nobody else takes the port while the receiver is down.
    let receiver = Receiver::at("127.0.0.2:0".parse().unwrap(), |_| Answer::Status(200));
    let address = receiver.address;
    block_on(async {
        let client = bank.client();
        let wish = json!({"url": receiver.url(), "after": ""});
        let made: Value = client.post("/v1/webhooks", &wish).await.unwrap();
        let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
        let (_, account) = open_account(&client, "1").await;
        until("it is called", || receiver.count() > 0).await;
        let mut calls = receiver.end();
        for _ in 0..50 {
            let _done: Value =
                client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &account, "0.01")).await.unwrap();
        }
        let fails = |shown: &Value| shown["failing"]["attempts"].as_u64().unwrap_or(0) >= 2;
        let shown = until_shown(&client, &path, fails).await;
        assert!(shown["lag_records"].as_u64().unwrap() >= 50, "{shown}");
        let receiver = Receiver::at(address, |_| Answer::Status(200));
        let expected = ids(&all_events(&client).await);
        until("each is there", || {
            let mut both = calls.clone();
            both.extend(receiver.calls());
            taken(&both) == expected
        })
        .await;
        calls.extend(receiver.calls());
        assert_order(&calls);
    });
}

#[test]
fn the_command_line_follows_and_steers() {
    let folder = Folder::new("webhook-cli");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    let receiver = Receiver::new(|_| Answer::Status(200));
    let done = |arguments: &[&str]| -> String {
        let output = bank.skerry(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&done(arguments)).unwrap() };
    let url = receiver.url();
    let made = json(&["--json", "webhook", "create", &url, "--type", "skerry.account"]);
    let hook = made["id"].as_str().unwrap();
    assert_eq!(json(&["--json", "webhook", "test", hook])["delivered"], true);
    receiver.answer(|_| Answer::Status(500));
    let untaken = bank.skerry(&["webhook", "test", hook]);
    assert!(!untaken.status.success(), "scripts are told");
    assert!(String::from_utf8_lossy(&untaken.stderr).contains("the receiver answered 500"));
    receiver.answer(|_| Answer::Status(200));
    let (_, account) = block_on(open_account(&bank.client(), "1"));
    block_on(until("test and account are there", || receiver.count() == 3));
    assert!(done(&["webhook", "list"]).contains(&url));
    for act in ["disable", "enable", "rotate", "show"] {
        assert_eq!(json(&["--json", "webhook", act, hook])["id"], hook, "{act}");
    }
    json(&["--json", "webhook", "replay", hook, "--after", ""]);
    block_on(until("the account comes again", || receiver.count() == 4));
    json(&["--json", "webhook", "delete", hook]);
    assert!(!bank.skerry(&["webhook", "show", hook]).status.success());

    // From the beginning to the end, one event a line, and the cursor to go on with.
    let output = bank.skerry(&["--json", "events", "--account", &account]);
    let lines: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["type"], "skerry.account.opened");
    let talk = String::from_utf8(output.stderr).unwrap();
    let cursor = talk.split('\'').nth(1).unwrap_or_else(|| panic!("no cursor in {talk}"));
    let mut following = Command::new(SKERRY)
        .args(["--json", "events", "--follow", "--limit", "1", "--account", &account, "--after", cursor])
        .env("SKERRY_SERVER", &bank.server)
        .env("SKERRY_TOKEN_FILE", bank.data.join("operator.token"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    block_on(async {
        let paid = transfer(&uuid7(), "gl:1001", &account, "1.00");
        let _done: Value = bank.client().post("/v1/transfers", &paid).await.unwrap();
    });
    let mut line = String::new();
    BufReader::new(following.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["type"], "skerry.transfer.posted");
    assert!(following.wait().unwrap().success());
    let refused = bank.skerry(&["events", "--type", "skerry.nothing"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("event_type_unknown"));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let _gone = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Positions are given a second time after a declared loss: who has read the first life is told the second, under other ids.
#[test]
fn after_a_declared_loss_a_cursor_goes_back_to_where_the_lives_part() {
    let folder = Folder::new("events-loss");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let account = block_on(open_account(&bank.client(), "1")).1;
    let pay = |bank: &Bank, count: u32| {
        block_on(async {
            let client = bank.client();
            for _ in 0..count {
                let paid = transfer(&uuid7(), "gl:1001", &account, "1.00");
                let _done: Value = client.post("/v1/transfers", &paid).await.unwrap();
            }
        });
    };
    pay(&bank, 3);
    let data = bank.stop();
    let (journal, aside) = (data.join("branches/0001/journal"), folder.0.join("journal"));
    copy(&journal, &aside);
    let bank = Bank::start(&data, &[]);
    pay(&bank, 5);
    let before = block_on(all_events(&bank.client()));
    let position = before.last().unwrap()["data"]["position"].as_u64().unwrap() + 1;
    let cursor = format!("1.{position}");
    let data = bank.stop();
    copy(&aside, &journal);
    let bank = Bank::start(&data, &[]);
    let sick = String::from_utf8(bank.skerry(&["status"]).stdout).unwrap();
    assert!(sick.contains("journal_rewound"), "{sick}");
    let data = bank.stop();
    let numbers = sick.split("journal_rewound").nth(1).unwrap().split(|c: char| !c.is_ascii_digit());
    let named: BTreeSet<&str> = numbers.filter(|digits| !digits.is_empty()).collect();
    let is_done = named.iter().any(|position| {
        let done = Command::new(SKERRY)
            .args(["branch", "declare-loss", "1", "--position", position, "--data"])
            .arg(&data)
            .output()
            .unwrap();
        done.status.success()
    });
    assert!(is_done, "{sick}");
    let bank = Bank::start(&data, &[]);
    pay(&bank, 9);
    block_on(async {
        let client = bank.client();
        let page: Value = client.get(&format!("/v1/events?limit=1000&after={cursor}")).await.unwrap();
        let after = page["events"].as_array().unwrap();
        assert_eq!(after[0]["type"], "skerry.branch.loss_declared", "{page}");
        let lost_from = after[0]["data"]["lost_from"].as_u64().unwrap();
        assert!(lost_from < position, "back to where the lives part");
        assert_eq!(after[0]["id"], format!("0001.2-{lost_from}"));
        let whole = all_events(&client).await;
        let known = ids(&before);
        let kept = before.iter().filter(|event| event["data"]["position"].as_u64() < Some(lost_from)).count();
        assert_eq!(whole.iter().filter(|event| known.contains(event["id"].as_str().unwrap())).count(), kept);
        assert_eq!(kept + after.len(), whole.len(), "none left out, none twice");
        // The cursor of the new life goes on as any.
        let next = page["next"].as_str().unwrap();
        assert!(next.ends_with(".2"), "{next}");
        let page: Value = client.get(&format!("/v1/events?after={next}")).await.unwrap();
        assert_eq!(page["events"].as_array().unwrap().len(), 0);
    });
}
