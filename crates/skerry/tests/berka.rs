//! A real bank's book goes through the bank and agrees with that bank's own balances. The data lies beside the
//! repository and is not ours to ship; without it this test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Bank, Folder, SKERRY};
use serde_json::Value;

const EXPECTED: (u64, u64) = (23_439, 0);

fn data() -> Option<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let path = root.join("../shared/data/berka");
    if path.join("transactions.csv").exists() {
        return Some(path);
    }
    eprintln!("skipped: no data at ../shared/data/berka (examples/berka/README.md says where to get it)");
    None
}

fn mapping() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("examples/berka/mapping.toml")
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

fn assert_agrees(report: &Value) {
    assert_eq!(report["account_days_checked"].as_u64(), Some(EXPECTED.0), "{report}");
    assert_eq!(report["off"].as_u64(), Some(EXPECTED.1), "{report}");
    let sum = report["exact"].as_u64().unwrap() + report["within_tolerance"].as_u64().unwrap();
    assert_eq!(sum, EXPECTED.0, "{report}");
}

#[test]
fn the_book_agrees_through_a_running_bank_and_a_second_run_changes_nothing() {
    let Some(data) = data() else { return };
    let folder = Folder::new("berka");
    let bank = Bank::start(&folder.data(), &[]);
    let import = |more: &[&str]| {
        let mut command = Command::new(SKERRY);
        command
            .arg("import")
            .arg(mapping())
            .arg(&data)
            .args(["--check", "--server", &bank.server])
            .args(more);
        command.env("SKERRY_TOKEN_FILE", bank.data.join("operator.token")).output().unwrap()
    };
    let first = import(&["--json"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_agrees(&report(&first));
    let second = import(&["--json"]);
    let second = report(&second);
    assert_agrees(&second);
    assert_eq!(second["changed"], Value::Bool(false), "{second}");
    let third = import(&[]);
    assert_eq!(
        String::from_utf8_lossy(&third.stdout).trim(),
        "account-days checked: 23439, exact: 10231, within 1.00: 13208, off: 0"
    );
    common::block_on(common::assert_balanced(&bank.client()));
}

#[test]
fn the_book_agrees_straight_into_a_folder() {
    let Some(data) = data() else { return };
    let folder = Folder::new("berka-data");
    let run = || {
        let mut command = Command::new(SKERRY);
        command
            .arg("import")
            .arg(mapping())
            .arg(&data)
            .args(["--check", "--json", "--data"])
            .arg(folder.data());
        command.current_dir(&folder.0).output().unwrap()
    };
    let first = run();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_agrees(&report(&first));
    assert_eq!(report(&run())["changed"], Value::Bool(false));
}
