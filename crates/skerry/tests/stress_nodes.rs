//! `skerry bench bank --nodes`: nodes and the gateway die and sleep under load; whoever follows the rules for trying again is told of
//! each payment once, and every promise holds afterwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::path::Path;
use std::process::{Command, Output};

use common::{Folder, SKERRY};
use nats::Servers;
use postgres::Group;
use serde_json::Value;

fn press(folder: &Folder, config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(SKERRY);
    command.args(["--json", "bench", "bank", "--nodes", "2", "--folder"]).arg(&folder.0).arg("--config");
    command.arg(config).args(more).output().unwrap()
}

#[test]
fn a_bank_of_nodes_that_are_killed_stopped_and_paused_keeps_every_promise() {
    let (group, servers) = (Group::single(), Servers::new(1, ground::NATS, None));
    let (folder, configured) = (Folder::new("stress-nodes"), Folder::new("stress-nodes-config"));
    let config = configured.0.join("skerry.toml");
    std::fs::write(&config, ground::configuration(&group, &servers, 4)).unwrap();
    let options = ["--seconds", "40", "--clients", "8", "--customers", "24"];
    let chaos = ["--chaos", "kill,gateway,pause,restart", "--chaos-every", "0.5", "--chaos-command", "true"];
    let output = press(&folder, &config, &[options.as_slice(), &chaos].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let blows: Vec<&str> =
        report["chaos"].as_array().unwrap().iter().map(|blow| blow["what"].as_str().unwrap()).collect();
    assert!(blows.starts_with(&["kill", "gateway", "pause", "restart", "true"]), "{blows:?}");
    assert!(report["tried_again"].as_u64() > Some(0), "somebody was there when it was killed");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() == 4 && checks.iter().all(|check| check["kept"] == true), "{checks:?}");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "its processes' folders are removed");

    // The database holds that bank now.
    let again = press(&folder, &config, &options);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && said.contains("skerry identity new"), "{said}");
}
