//! The directory of a real bank: it comes back with the bank, and from the branches when its files are gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use common::{Bank, Folder, block_on, problem};
use serde_json::{Value, json};

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
