//! What `deploy/` ships: the unit starts and stops a bank as it says, dashboards and alerts ask for figures that a running bank
//! prints, and each alert has its page and fires.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod place;
mod promql;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Folder, SKERRY, block_on, open_account, transfer, uuid7};
use place::{Place, project, shows};
use serde_json::Value;

const UNIT: &str = include_str!("../../../deploy/systemd/skerry.service");
/// Those of a bank of several machines, under the names that systemd instantiates.
const TEMPLATES: [(&str, &str); 2] = [
    ("skerry-node@a.service", include_str!("../../../deploy/systemd/skerry-node@.service")),
    ("skerry-gateway@g.service", include_str!("../../../deploy/systemd/skerry-gateway@.service")),
];
const README: &str = include_str!("../../../deploy/README.md");
const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../../deploy/prometheus/alerts_test.yml");

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What the unit says of `key`, once.
fn said(key: &str) -> &'static str {
    let mut found = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = found.next().unwrap_or_else(|| panic!("the unit has no {key}"));
    assert_eq!(found.next(), None, "{key} twice");
    value
}

/// The commands of deploy/README.md, block by block.
fn commands() -> Vec<&'static str> {
    README.split("```sh\n").skip(1).map(|part| part.split("```").next().unwrap()).collect()
}

/// `command` with its absolute paths under `root`.
fn under(root: &Path, command: &str) -> String {
    let root = root.to_str().unwrap();
    ["/usr/", "/etc/", "/var/"].iter().fold(command.to_owned(), |text, path| {
        let found = text.replace(&format!(" {path}"), &format!(" {root}{path}"));
        found.replace(&format!("={path}"), &format!("={root}{path}"))
    })
}

/// Installs as deploy/README.md says, with the binary under test, under `root`.
fn install(root: &Path) {
    let script = under(root, commands()[0]).replace("target/release/skerry", SKERRY);
    let path = format!("{}:{}", root.join("usr/bin").display(), std::env::var("PATH").unwrap());
    let done =
        Command::new("sh").args(["-euc", &script]).env("PATH", path).current_dir(project()).output().unwrap();
    assert!(done.status.success(), "{script}\n{}", text(&done));
    // A port of its own, and the data where the unit of this machine has it.
    let config = root.join("etc/skerry/skerry.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    let data = root.join("var/lib/skerry");
    let here =
        written.replace("127.0.0.1:7117", "127.0.0.1:0").replace("/var/lib/skerry", data.to_str().unwrap());
    std::fs::write(config, here).unwrap();
    std::fs::create_dir_all(root.join("var/lib")).unwrap();
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let length = socket.recv(&mut bytes).expect("the service manager is told in time");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn the_unit_starts_tells_that_it_is_ready_and_stops_with_success() {
    let folder = Folder::new("unit");
    let root = &folder.0;
    install(root);
    let socket = UnixDatagram::bind(root.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let line = under(root, &format!(" {}", said("ExecStart")));
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir("/").stdin(Stdio::null()).env("NOTIFY_SOCKET", root.join("notify"));
    let log = std::fs::File::create(root.join("log")).unwrap();
    let mut service = Service(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    assert_eq!(said("Type"), "notify");
    let ready = heard(&socket);
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    let server = ready.rsplit(' ').next().unwrap();

    // Whoever is told so, finds it: the second block of the page.
    let path = format!("{}:{}", root.join("usr/bin").display(), std::env::var("PATH").unwrap());
    let script = under(root, commands()[1]).replace("http://127.0.0.1:7117", server);
    let asked = Command::new("sh").args(["-euc", &script]).env("PATH", path).output().unwrap();
    assert!(asked.status.success() && shows(&text(&asked), "healthy true"), "{}", text(&asked));

    let signal = said("KillSignal").trim_start_matches("SIG");
    let told = Command::new("kill").args(["-s", signal, &service.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert!(heard(&socket).starts_with("STOPPING=1"), "it says that it is stopping");
    let ended = service.0.wait().unwrap();
    assert!(ended.success(), "a clean stop is no failure: {ended}");
    assert_eq!(said("Restart"), "on-failure", "so systemd leaves it stopped");
    assert!(!root.join("var/lib/skerry/running.json").exists());
}

#[test]
fn systemd_takes_the_unit_and_finds_it_closed_enough() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let folder = Folder::new("analyze");
    install(&folder.0);
    for (name, unit) in [("skerry.service", UNIT)].into_iter().chain(TEMPLATES) {
        // Under its own name, with a program that is there.
        let path = folder.0.join(name);
        std::fs::write(&path, under(&folder.0, unit)).unwrap();
        let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let said = text(&verified);
        assert!(verified.status.success() && !said.contains(&format!("{name}:")), "{said}");
        let mut security = Command::new("systemd-analyze");
        let judged =
            security.args(["security", "--offline=yes", "--threshold=20"]).arg(&path).output().unwrap();
        if text(&judged).contains("unrecognized option") {
            eprintln!("skipped: this systemd-analyze judges no unit that is not loaded");
            return;
        }
        assert!(judged.status.success(), "{name}: {}", text(&judged));
    }
}

#[test]
fn all_units_are_as_closed_as_the_first() {
    let settings = |unit: &'static str| -> Vec<&'static str> {
        let own = ["Description=", "Documentation=", "After=", "ExecStart=", "StateDirectory="];
        let set = unit.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
        set.filter(|line| !own.iter().any(|key| line.starts_with(key))).collect()
    };
    for (name, unit) in TEMPLATES {
        assert_eq!(settings(unit), settings(UNIT), "{name}");
        // The data is where the service manager makes room for it, under the instance's name.
        assert!(
            unit.contains("\nStateDirectory=skerry/%i\n") && unit.contains("--data /var/lib/skerry/%i\n")
        );
        assert!(unit.contains("--name %i"), "{name}");
    }
}

/// What a bank prints that has done a little of everything.
fn figures() -> String {
    let place = Place::new("figures", 2, "");
    place.up();
    let client = place.client();
    let (_, account) = block_on(open_account(&client, "Customer 1"));
    let wish = transfer(&uuid7(), "gl:1001", &account, "1.00");
    let _paid: Value = block_on(client.post("/v1/transfers", &wish)).unwrap();
    let hook = serde_json::json!({"url": "http://127.0.0.1:9/hooks"});
    let _made: Value = block_on(client.post("/v1/webhooks", &hook)).unwrap();
    place.metrics()
}

/// All expressions in a dashboard, and what its variables ask for.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    Value::String(text) if name == "query" && text.starts_with("label_values(") => {
                        let inside = text.trim_start_matches("label_values(").trim_end_matches(')');
                        let (metric, label) = inside.split_once(", ").unwrap();
                        found.push(format!("count by ({label}) ({metric})"));
                    }
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = std::fs::read_dir(project().join("deploy/grafana")).unwrap();
    let read = |path: PathBuf| {
        let board = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path, board)
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

#[test]
fn dashboards_and_alerts_ask_for_figures_that_a_bank_prints() {
    let text = figures();
    let printed = promql::printed(&text);
    let mut all = Vec::new();
    for (path, board) in dashboards() {
        let mut found = Vec::new();
        expressions(&board, &mut found);
        assert!(found.len() > 10, "{} asks for little: {found:?}", path.display());
        all.extend(found);
    }
    all.extend(alerts().into_iter().map(|alert| alert.expression));
    let wrong: Vec<String> = all
        .iter()
        .flat_map(|asked| {
            promql::wrong(asked, &printed).into_iter().map(move |wrong| format!("{wrong}: {asked}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if let Some(mut promtool) = promtool() {
        let mut child =
            promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        // It frowns on names too; what it cannot read it calls an error.
        assert!(!String::from_utf8_lossy(&output.stderr).contains("error while"), "{output:?}");
    }
}

#[test]
fn dashboards_are_whole() {
    let mut names = std::collections::BTreeSet::new();
    for (path, board) in dashboards() {
        let name = path.display();
        assert!(names.insert(board["uid"].as_str().unwrap().to_owned()), "{name}: another has this uid");
        let mut ids = std::collections::BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title} has another's id");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {title} is beyond the edge");
            let described = panel["description"].as_str().unwrap();
            if let Some(page) = described.split_whitespace().find(|word| word.starts_with("docs/")) {
                assert!(project().join(page).exists(), "{name}: {title} names {page}, which is not there");
            }
        }
    }
    assert_eq!(names.len(), 2);
}

/// A rule of alerts.yml.
struct Alert {
    name: String,
    expression: String,
    lines: Vec<String>,
}

impl Alert {
    fn value(&self, key: &str) -> &str {
        let found = self.lines.iter().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }
}

fn alerts() -> Vec<Alert> {
    let parts = ALERTS.split("      - alert: ").skip(1);
    let read = |part: &str| {
        let mut lines = part.lines().map(str::to_owned);
        let name = lines.next().unwrap();
        let mut alert = Alert { name, expression: String::new(), lines: lines.collect() };
        alert.expression = alert.value("expr").to_owned();
        alert
    };
    parts.map(read).collect()
}

#[test]
fn every_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on() {
    let alerts = alerts();
    assert!(alerts.len() >= 15, "{}", alerts.len());
    for alert in &alerts {
        let name = &alert.name;
        assert!(["page", "ticket"].contains(&alert.value("severity")), "{name}");
        assert!(!alert.value("summary").is_empty());
        let page = project().join(alert.value("runbook_url"));
        let page =
            std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{name}: no page {}", page.display()));
        assert!(page.contains(&format!("`{name}`")), "{name} is not named on its page");
        assert!(ALERTS_TEST.contains(&format!("alertname: {name}\n")), "alerts_test.yml does not try {name}");
    }
}

/// Prometheus' own tool: the one that `SKERRY_PROMTOOL` names, that `scripts/promtool` has fetched, or in the PATH.
fn promtool() -> Option<Command> {
    let fetched = project().join("target/tools/bin/promtool");
    let named = std::env::var_os("SKERRY_PROMTOOL").map(PathBuf::from);
    let program = named.or_else(|| fetched.exists().then_some(fetched)).unwrap_or_else(|| "promtool".into());
    if Command::new(&program).arg("--version").output().is_err() {
        eprintln!("skipped: there is no promtool here; scripts/promtool fetches it");
        return None;
    }
    let mut command = Command::new(program);
    command.current_dir(project().join("deploy/prometheus"));
    Some(command)
}

#[test]
fn prometheus_takes_the_rules_and_each_fires_when_it_should() {
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ] {
        let Some(mut promtool) = promtool() else { return };
        let output = promtool.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
}
