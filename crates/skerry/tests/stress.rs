//! `skerry bench bank`: clients that press a bank which is killed, restarted and paused meanwhile see nothing but *try again*,
//! and every promise holds afterwards; what is asked wrongly is said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::process::{Command, Output};

use common::{Bank, Folder, SKERRY};
use serde_json::Value;

fn press(folder: &Folder, more: &[&str]) -> Output {
    let mut command = Command::new(SKERRY);
    command.args(["--json", "bench", "bank", "--folder"]).arg(&folder.0).args(more);
    command.output().unwrap()
}

/// The report of a run that went well.
fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn kept(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["kept"] == true), "{checks:?}");
    checks.iter().map(|check| check["name"].as_str().unwrap()).collect()
}

#[test]
fn a_bank_that_is_killed_restarted_and_paused_keeps_every_promise() {
    let folder = Folder::new("stress");
    let options = ["--seconds", "12", "--clients", "8", "--customers", "24", "--branches", "3"];
    let chaos = ["--chaos", "kill,restart,pause", "--chaos-every", "0.5"];
    let report = report(&press(&folder, &[options.as_slice(), &chaos].concat()));
    let blows: Vec<&str> =
        report["chaos"].as_array().unwrap().iter().map(|blow| blow["what"].as_str().unwrap()).collect();
    assert_eq!(blows[..3], ["kill", "restart", "pause"]);
    assert!(
        report["work"].as_array().unwrap().iter().all(|work| work["count"].as_u64() > Some(0)),
        "{report}"
    );
    assert!(report["tried_again"].as_u64() > Some(0), "somebody was there when it was killed");
    assert_eq!(
        kept(&report),
        ["channels at rest", "each payment exactly once", "trial balances are zero", "hash chains are whole"]
    );
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "its bank is removed");
}

#[test]
fn a_bank_that_runs_already_is_pressed_too_and_never_harmed() {
    let folder = Folder::new("stress-there");
    let bank = Bank::start(&folder.data(), &["--branches", "2"]);
    let (server, token) = (bank.client().server().to_owned(), folder.data().join("operator.token"));
    let there = ["--server", &server, "--token-file", token.to_str().unwrap()];
    let options = ["--seconds", "2", "--clients", "4", "--customers", "8"];
    let report = report(&press(&folder, &[there.as_slice(), &options].concat()));
    assert_eq!(kept(&report).len(), 3, "its journals are not ours to stop and read");
    for (more, word) in [
        (vec!["--chaos", "kill"], "--chaos"),
        (vec!["--keep"], "--keep"),
        (vec!["--nodes", "2", "--config", "skerry.toml"], "--nodes"),
        (vec!["--chaos", "flood"], "flood"),
    ] {
        let refused = press(&folder, &[there.as_slice(), &more].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(word), "{said}");
    }
    bank.stop();
    for (more, word) in [
        (vec!["--chaos", "gateway"], "--chaos gateway"),
        (vec!["--nodes", "2"], "--config"),
        (vec!["--nodes", "1", "--config", "skerry.toml"], "2..=16"),
        (
            vec!["--seconds", "2", "--customers", "4", "--chaos-every", "0.1", "--chaos-command", "exit 3"],
            "exit 3",
        ),
    ] {
        let refused = press(&folder, &more);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(word), "{said}");
    }
}

#[test]
fn a_flood_of_one_branch_is_measured_beside_the_quiet_of_another() {
    let folder = Folder::new("flood");
    let mut command = Command::new(SKERRY);
    command.args(["--json", "bench", "flood", "--folder"]).arg(&folder.0);
    let options =
        ["--seconds", "0.5", "--rounds", "1", "--connections", "4", "--accounts", "20", "--rate", "50"];
    let output = command.args(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // A folder in memory voids the run, after the report.
    assert!(output.status.success() || said.contains("in memory"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let felt = report["felt"].as_array().unwrap();
    let floods: Vec<&str> = felt.iter().map(|felt| felt["flood"].as_str().unwrap()).collect();
    assert_eq!(floods, ["nothing", "single requests", "packed batches"]);
    assert!(felt.iter().all(|felt| felt["p99_ratio"].as_f64() > Some(0.0)), "{report}");
    assert!(felt[1..].iter().all(|felt| felt["flood_per_second"].as_f64() > Some(0.0)), "{report}");
}
