//! A newcomer's first five minutes, as README tells them, against the real binary.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic where it stands")]

mod common;

use common::{
    Bank, Folder, SKERRY, assert_balanced, balance, block_on, open_account, problem, transfer, uuid7,
};
use hyper::Method;
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn start_pay_prove_stop_start_and_everything_is_still_there() {
    let folder = Folder::new("minutes");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let (one, other, receipt) = block_on(async {
        let client = bank.client();
        let (_, one) = open_account(&client, "Customer 1").await;
        let (_, other) = open_account(&client, "Customer 2").await;
        let cash: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &one, "100.00")).await.unwrap();
        assert!(cash["location"].is_string(), "{cash}");
        let id = uuid7();
        let paid: Value = client.post("/v1/transfers", &transfer(&id, &one, &other, "30.25")).await.unwrap();
        let again: Value = client.post("/v1/transfers", &transfer(&id, &one, &other, "30.25")).await.unwrap();
        assert_eq!(paid["position"], again["position"], "a retry is answered with the first result");
        let reused =
            problem(client.post::<_, Value>("/v1/transfers", &transfer(&id, &one, &other, "30.26")).await);
        assert_eq!(reused.status, 409, "{reused:?}");
        assert_eq!(
            (balance(&client, &one).await, balance(&client, &other).await),
            ("69.75".into(), "30.25".into())
        );
        let entries: Value = client.get(&format!("/v1/accounts/{one}/entries")).await.unwrap();
        assert_eq!(entries["entries"].as_array().map(Vec::len), Some(2), "{entries}");
        let poor = problem(
            client.post::<_, Value>("/v1/transfers", &transfer(&uuid7(), &one, &other, "1000")).await,
        );
        assert_eq!((poor.code.as_str(), poor.status), ("insufficient_funds", 422), "{poor:?}");
        assert_balanced(&client).await;
        let receipt: Value = client.get(&format!("/v1/accounts/{one}/transfers/{id}/receipt")).await.unwrap();
        (one, other, receipt)
    });
    let file = folder.0.join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let verified = Command::new(SKERRY).arg("verify").arg(&file).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("signed, not anchored"));

    let data = bank.stop();
    let bank = Bank::start(&data, &[]);
    block_on(async {
        let client = bank.client();
        assert_eq!(
            (balance(&client, &one).await, balance(&client, &other).await),
            ("69.75".into(), "30.25".into())
        );
        assert_balanced(&client).await;
    });
}

#[test]
fn the_three_lines_that_up_prints_work_as_pasted() {
    let folder = Folder::new("lines");
    let up = |more: &[&str]| {
        let mut command = Command::new(SKERRY);
        command.args(["up", "--detach", "--listen", "127.0.0.1:0", "--data"]).arg(folder.data()).args(more);
        command.current_dir(&folder.0).output().unwrap()
    };
    let started = up(&["--sample", "20"]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let text = String::from_utf8_lossy(&started.stdout).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("curl")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for line in lines {
        let done = Command::new("sh").args(["-c", line]).current_dir(&folder.0).output().unwrap();
        let body = String::from_utf8_lossy(&done.stdout).into_owned();
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{line}\n{body}"));
        assert!(answer.get("code").and_then(Value::as_str).is_none(), "{line}\n{answer}");
    }
    let stopped = Command::new(SKERRY).args(["down", "--data"]).arg(folder.data()).output().unwrap();
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
}

#[test]
fn the_commands_of_the_readme_work_as_written() {
    let readme = include_str!("../../../README.md");
    let block = readme
        .split("```sh")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("README has its commands");
    // make is tested by whoever runs the tests; here the binary under test stands for what it builds.
    let lines: Vec<&str> =
        block.lines().filter(|line| !line.starts_with("export PATH") && !line.starts_with("make ")).collect();
    let folder = Folder::new("readme");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let script = format!("set -eu\n{}\nskerry account show $ONE\n", lines.join("\n"));
    let bin = std::path::Path::new(SKERRY).parent().unwrap();
    let done = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("SKERRY_SERVER", &bank.server)
        .env("SKERRY_TOKEN_FILE", bank.data.join("operator.token"))
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("signed, not anchored") && text.contains("69.75"), "{text}");
}

#[test]
fn the_commands_of_the_api_page_work_as_written() {
    let page = include_str!("../../../docs/api.md");
    let block = page.split("```sh").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = Folder::new("api");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let token = bank.data.join("operator.token");
    let script = block
        .replace("http://127.0.0.1:7117", &bank.server)
        .replace("data/operator.token", &token.display().to_string());
    let done = Command::new("sh").args(["-euc", &script]).current_dir(&folder.0).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains(r#""balance":{"amount":"100.00""#) && !text.contains("/docs/errors/"), "{text}");
}

/// What a newcomer says on the command line to the bank at `bank`.
fn said(bank: &Bank, words: &[&str]) -> (bool, String) {
    let token = bank.data.join("operator.token");
    let done = Command::new(SKERRY)
        .args(words)
        .args(["--server", &bank.server, "--token-file"])
        .arg(&token)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.success(), text)
}

#[test]
fn four_eyes_need_nothing_but_the_command_line() {
    let folder = Folder::new("eyes");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let account = block_on(async { open_account(&bank.client(), "Customer 1").await.1 });
    let policy = ["branch", "policy", "1", "--four-eyes", "limits", "--retention-days", "3653"];
    assert!(said(&bank, &policy).0);
    let limits = ["account", "limits", &account, "--floor", "-10.00"];
    let (done, text) = said(&bank, &limits);
    assert!(!done && text.contains("needs_approval"), "{text}");
    let request = text.trim().rsplit(' ').next().unwrap().to_owned();
    let propose = ["approval", "propose", "--branch", "1", "--request", &request, "--matter", "limits"];
    assert!(said(&bank, &propose).0, "{text}");
    let (done, text) =
        said(&bank, &["--json", "token", "create", "--principal", "second", "--role", "operator"]);
    let token: Value = serde_json::from_str(&text).unwrap();
    assert!(done, "{text}");
    let second = folder.0.join("second.token");
    std::fs::write(&second, token["token"].as_str().unwrap()).unwrap();
    let approve = Command::new(SKERRY)
        .args(["approval", "approve", "1", &request, "--server", &bank.server, "--token-file"])
        .arg(&second)
        .output()
        .unwrap();
    assert!(approve.status.success(), "{}", String::from_utf8_lossy(&approve.stderr));
    assert!(said(&bank, &limits).0);
    let (_, audit) = said(&bank, &["audit", "--approver", "second", "--act", "account.limits_changed"]);
    assert!(audit.contains("operator") && audit.contains(&account), "{audit}");
    let (_, status) = said(&bank, &["status"]);
    assert!(status.starts_with("status") && status.contains("machine"), "{status}");
}

#[test]
fn a_receipt_s_file_says_no_more_than_it_proves() {
    let folder = Folder::new("label");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let receipt: Value = block_on(async {
        let client = bank.client();
        let (_, one) = open_account(&client, "Customer 1").await;
        let id = uuid7();
        let _: Value = client.post("/v1/transfers", &transfer(&id, "gl:1001", &one, "1.00")).await.unwrap();
        client.get(&format!("/v1/accounts/gl:1001@0001/transfers/{id}/receipt")).await.unwrap()
    });
    let verified = |receipt: &Value| {
        let file = folder.0.join("receipt.json");
        std::fs::write(&file, receipt.to_string()).unwrap();
        Command::new(SKERRY).arg("verify").arg(&file).output().unwrap()
    };
    assert!(verified(&receipt).status.success());
    for (name, other) in [("id", json!(uuid7())), ("position", json!(1)), ("branch", json!(2))] {
        let mut changed = receipt.clone();
        changed[name] = other;
        let answer = verified(&changed);
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert!(!answer.status.success() && text.contains(name), "{text}");
    }
}

#[test]
fn the_configuration_shown_is_the_one_that_holds() {
    let folder = Folder::new("shown");
    let show = Command::new(SKERRY)
        .args(["config", "show"])
        .env("SKERRY_LISTEN", "127.0.0.1:9999")
        .env("SKERRY_BRANCHES", "7")
        .env("SKERRY_LOG", "debug")
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&show.stdout).into_owned();
    for line in ["listen = \"127.0.0.1:9999\"", "branches = 7", "level = \"debug\""] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// The note of transfer `id` in the statement of `account`, and why it is not shown.
async fn note_of(client: &skerry_client::Client, account: &str, id: &str) -> (Value, Value) {
    let page: Value = client.get(&format!("/v1/accounts/{account}/entries")).await.unwrap();
    let entry = page["entries"].as_array().unwrap().iter().find(|entry| entry["id"] == id).unwrap();
    assert!(entry.get("note").is_some(), "{entry}");
    (entry["note"].clone(), entry["note_status"].clone())
}

#[test]
fn tokens_changed_in_the_data_folder_hold_in_the_running_bank() {
    let folder = Folder::new("tokens");
    let bank = Bank::start(&folder.data(), &["--branches", "1"]);
    let tokens = |arguments: &[&str]| -> Value {
        let output = Command::new(SKERRY)
            .args(["--json", "token", "--data"])
            .arg(&bank.data)
            .args(arguments)
            .env_remove("SKERRY_SERVER")
            .current_dir(&folder.0)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let made = tokens(&["create", "--principal", "partner", "--role", "auditor", "--days", "1"]);
    let client = bank.client_with(made["token"].as_str().unwrap());
    let until = |expected: bool| {
        let began = std::time::Instant::now();
        while block_on(client.get::<Value>("/v1/branches")).is_ok() != expected {
            assert!(began.elapsed().as_secs() < 30, "the bank did not follow its token file");
            std::thread::sleep(std::time::Duration::from_millis(20)); // between two looks, not to win a race
        }
    };
    until(true);
    let listed = tokens(&["list"]);
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2, "the operator's and this: {listed}");
    assert!(!listed.to_string().contains("sha256"), "{listed}");
    assert_eq!(tokens(&["revoke", made["id"].as_str().unwrap()])["revoked"], json!(true));
    until(false);
    let refused = block_on(client.get::<Value>("/v1/branches"));
    assert_eq!(problem(refused).code, "unauthenticated");
    let nowhere = Command::new(SKERRY)
        .args(["token", "--data", "nowhere", "list"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert!(
        !nowhere.status.success() && String::from_utf8_lossy(&nowhere.stderr).contains("not the data folder")
    );
}

#[test]
fn an_erased_customer_is_unreadable_in_every_file_and_all_else_stays_valid() {
    const NAME: &str = "Customer Unmistakable 7261";
    const NOTE: &str = "a note nobody else writes 9034";
    let folder = Folder::new("erase");
    // Whatever is logged at all is logged: names and notes are not.
    let bank = Bank::start(&folder.data(), &["--branches", "1", "--log", "trace"]);
    let (id, other, paid, receipt) = block_on(async {
        let client = bank.client();
        let (id, number) = open_account(&client, NAME).await;
        let (_, other) = open_account(&client, "Customer 2").await;
        let shown: Value = client.get(&format!("/v1/customers/{id}")).await.unwrap();
        assert_eq!(shown["name"], json!(NAME));
        let _cash: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &number, "10.00")).await.unwrap();
        let paid = uuid7();
        let done = bank.skerry(&[
            "transfer", "create", "--debit", &number, "--credit", &other, "--amount", "10.00", "--id", &paid,
            "--note", NOTE,
        ]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(note_of(&client, &other, &paid).await, (json!(NOTE), Value::Null));
        let receipt: Value =
            client.get(&format!("/v1/accounts/{number}/transfers/{paid}/receipt")).await.unwrap();
        let erase =
            async || client.send_json(Method::DELETE, &format!("/v1/customers/{id}"), &json!({}), &[]).await;
        assert_eq!(problem(erase().await).code, "customer_has_accounts");
        let _closed: Value = client.post(&format!("/v1/accounts/{number}/close"), &json!({})).await.unwrap();
        assert_eq!(problem(erase().await).code, "retention_not_over");
        let policy = json!({"four_eyes": [], "retention_days": 0});
        client.send_json(Method::PUT, "/v1/branches/1/policy", &policy, &[]).await.unwrap();
        erase().await.unwrap();
        assert_eq!(note_of(&client, &other, &paid).await, (Value::Null, json!("erased")), "at once");
        (id, other, paid, receipt)
    });
    let log = bank.log();
    assert!(log.contains("the bank is open"), "there is a log: {log}");
    assert!(!log.contains(NAME) && !log.contains(NOTE));
    assert_eq!(receipt["note"], json!(NOTE), "a receipt shows the note to who may read it");
    let data = bank.kill();
    let bank = Bank::start(&data, &[]);
    block_on(async {
        let client = bank.client();
        let shown: Value = client.get(&format!("/v1/customers/{id}")).await.unwrap();
        assert!(shown["name"].is_null(), "the name is readable after the erasure: {shown}");
        assert_eq!(note_of(&client, &other, &paid).await, (Value::Null, json!("erased")), "after a restart");
        assert_eq!(balance(&client, &other).await, "10.00");
        assert_balanced(&client).await;
    });
    let data = bank.stop();
    let file = folder.0.join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let verified = Command::new(SKERRY).arg("verify").arg(&file).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let exported = folder.0.join("export");
    let done = Command::new(SKERRY)
        .args(["branch", "export", "1", "--data"])
        .arg(&data)
        .arg("--out")
        .arg(&exported)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let verified = Command::new(SKERRY).arg("verify").arg(&exported).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let mut files = vec![data, exported];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            for text in [NAME, NOTE] {
                let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!found, "{text:?} lies in the clear in {}", path.display());
            }
        }
    }
}

#[test]
fn a_backup_restores_to_the_same_bank_and_a_drill_leaves_nothing() {
    let folder = Folder::new("backup");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    let number = block_on(async {
        let client = bank.client();
        let (_, number) = open_account(&client, "Customer 1").await;
        let _cash: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &number, "10.00")).await.unwrap();
        number
    });
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(SKERRY).args(arguments).current_dir(&folder.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    // Beside the running bank.
    run(&["backup".as_ref(), "--data".as_ref(), folder.data().as_os_str(), "copy".as_ref()]);
    block_on(async {
        let client = bank.client();
        let _cash: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", &number, "1.00")).await.unwrap();
    });
    bank.stop();
    run(&["restore".as_ref(), "copy".as_ref()]);
    let old = folder.data();
    let erasures: [&std::ffi::OsStr; 2] = ["--erasures".as_ref(), old.as_os_str()];
    run(&[
        "restore".as_ref(),
        "copy".as_ref(),
        "--data".as_ref(),
        "restored".as_ref(),
        erasures[0],
        erasures[1],
    ]);
    let bank = Bank::start(&folder.0.join("restored"), &[]);
    block_on(async {
        let client = bank.client();
        assert_eq!(balance(&client, &number).await, "10.00", "what was there when the copy was made");
        assert_balanced(&client).await;
    });
}
