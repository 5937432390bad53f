//! docs/nodes.md: its commands typed as they stand, once by hand and once with `deploy/three-nodes`, on real nodes over a real PostgreSQL
//! and NATS. What must then be so, what is refused, and that payments go on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use common::{Folder, PATIENCE, SKERRY, assert_balanced, block_on, transfer, until, uuid7};
use ground::{cents, client, until_at_rest, until_hosted};
use nats::Servers;
use postgres::Group;
use serde_json::{Value, json};
use skerry_client::Client;

const BRANCHES: u16 = 4;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The blocks of docs/nodes.md in this language.
fn blocks(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(project().join("docs/nodes.md")).unwrap();
    let fence = format!("```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Of the page's commands, so many are about the script; the others are typed by hand.
const BY_SCRIPT: usize = 3;

/// Where commands are typed: a folder, what is said once before them, and what is written otherwise on this machine.
struct Terminal {
    folder: PathBuf,
    told: String,
    instead: Vec<(String, String)>,
    blocks: std::vec::IntoIter<String>,
}

impl Terminal {
    fn new(folder: &Path, told: &str, blocks: Vec<String>) -> Self {
        let blocks = blocks.into_iter();
        Self { folder: folder.to_owned(), told: told.to_owned(), instead: Vec::new(), blocks }
    }

    fn next(&mut self) -> String {
        let block = self.blocks.next().expect("the page has more commands");
        self.instead.iter().fold(block, |text, (page, machine)| text.replace(page, machine))
    }

    /// Types `script`; whether it worked, and what was said.
    fn try_type(&self, script: &str) -> (bool, String) {
        let output = shell(&self.folder, &format!("{}\n{script}", self.told)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned());
        (output.status.success(), text.concat())
    }

    /// The same; it must work.
    fn type_in(&self, script: &str) -> String {
        let (done, said) = self.try_type(script);
        assert!(done, "{script}\n{said}");
        said
    }

    /// Types the page's next block.
    fn step(&mut self) -> String {
        let block = self.next();
        self.type_in(&block)
    }

    /// The same; it must be refused, in these words.
    fn refused(&self, script: &str, words: &str) {
        let (done, said) = self.try_type(script);
        assert!(!done && said.contains(words), "{script}\n{said}");
    }

    /// What a machine hears at this address.
    fn asked(&self, url: &str) -> Option<String> {
        let (done, said) = self.try_type(&format!("curl -sS {url}"));
        done.then_some(said)
    }

    fn end(mut self) {
        assert_eq!(self.blocks.next(), None, "commands that nobody has typed");
    }
}

/// A shell in `folder` that finds the binary under test.
fn shell(folder: &Path, script: &str) -> Command {
    let bin = Path::new(SKERRY).parent().unwrap();
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(folder).stdin(Stdio::null());
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    command
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn told(mut self, signal: &str) -> ExitStatus {
        let done = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn count(hosts: &BTreeMap<u64, String>, node: &str) -> usize {
    hosts.values().filter(|host| *host == node).count()
}

/// Sends until it is done.
fn insist(client: &Client, path: &str, wish: &Value) -> Value {
    ground::insist(&Mutex::default(), || block_on(client.post(path, wish)))
}

/// One customer's account in each branch, and what must be on it in cents.
struct Accounts {
    numbers: Vec<String>,
    cents: Vec<i64>,
}

impl Accounts {
    fn open(client: &Client) -> Self {
        let mut accounts = Self { numbers: Vec::new(), cents: Vec::new() };
        (1..=BRANCHES).for_each(|branch| accounts.join(client, branch));
        accounts
    }

    /// One more, in `branch`.
    fn join(&mut self, client: &Client, branch: u16) {
        let open = |branch: u16| {
            let name = format!("Payer {branch}");
            let wish = json!({"name": name, "document": {"kind": "test", "number": name}, "branch": branch});
            let customer = insist(client, "/v1/customers", &wish);
            let path = format!("/v1/customers/{}/accounts", customer["id"].as_str().unwrap());
            let account = insist(client, &path, &json!({"product": "current", "currency": "CNY"}));
            let number = account["number"].as_str().unwrap().to_owned();
            insist(client, "/v1/transfers", &transfer(&uuid7(), "gl:1001", &number, "100.00"));
            number
        };
        self.numbers.push(open(branch));
        self.cents.push(10_000);
    }

    /// Everybody pays the next one, in another branch; and all have what they must have.
    fn pay(&mut self, client: &Client) {
        for from in 0..self.numbers.len() {
            let to = (from + 1) % self.numbers.len();
            let amount = i64::try_from(from + 1).unwrap();
            let wish = transfer(&uuid7(), &self.numbers[from], &self.numbers[to], &format!("{amount}.00"));
            insist(client, "/v1/transfers", &wish);
            self.cents[from] -= amount * 100;
            self.cents[to] += amount * 100;
        }
        self.check(client);
    }

    fn check(&self, client: &Client) {
        until_at_rest(client, u16::try_from(self.numbers.len()).unwrap());
        for (number, wanted) in self.numbers.iter().zip(&self.cents) {
            assert_eq!(cents(client, number), *wanted, "{number}");
        }
        block_on(assert_balanced(client));
    }
}

/// `deploy/three-nodes three` in `folder`, once it says that all is open.
fn script(folder: &Path) -> Process {
    let log = folder.join("script.log");
    let file = std::fs::File::create(&log).unwrap();
    // Whoever runs the tests in the background may ignore Ctrl-C, which a shell could not undo.
    let child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(project().join("deploy/three-nodes"))
        .arg("three")
        .env("SKERRY", SKERRY)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let mut script = Process(child);
    let said = || std::fs::read_to_string(&log).unwrap();
    until("the script has started all", || {
        assert!(script.lives(), "{}", said());
        said().contains("three nodes and a gateway are open").then_some(())
    });
    script
}

/// Whatever the script has started and did not end yet.
struct Leftovers(PathBuf);

impl Leftovers {
    fn pids(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let pids = files.filter(|path| path.extension().is_some_and(|extension| extension == "pid"));
        let pids = pids.filter_map(|path| Some(std::fs::read_to_string(path).ok()?.trim().to_owned()));
        pids.filter(|pid| Path::new("/proc").join(pid).exists()).collect()
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _dead = Command::new("kill").args(["-9", &pid]).status();
        }
    }
}

#[test]
fn three_nodes_by_the_script() {
    let folder = Folder::new("three");
    let three = folder.0.join("three");
    let _left = Leftovers(three.clone());
    let running = script(&folder.0);
    let mut terminal = Terminal::new(&folder.0, ". three/env", blocks("sh")[..BY_SCRIPT].to_vec());
    assert!(terminal.step().contains("0.1.0"), "nodes are listed with their release");
    let client = client(&three.join("gateway")).unwrap();
    until_hosted(&client, "each node has its share", |hosts| {
        ["a", "b", "c"].iter().all(|node| count(hosts, node) > 0)
    });
    let mut accounts = Accounts::open(&client);
    accounts.pay(&client);

    // A machine dies.
    terminal.step();
    accounts.pay(&client);
    until_hosted(&client, "the others have its branches", |hosts| count(hosts, "b") == 0);

    // Another one is emptied.
    assert!(terminal.step().contains("\"node\":\"c\""));
    until_hosted(&client, "it gives its branches away", |hosts| count(hosts, "a") == 4);
    let health = until("it says so itself", || {
        let health: Value = serde_json::from_str(&terminal.asked("$NODE_C/healthz")?).unwrap();
        (health["branches"] == json!([])).then_some(health)
    });
    assert_eq!(health["state"], "draining");
    let metrics = terminal.asked("$NODE_C/metrics").unwrap();
    for line in ["skerry_node_draining 1", "skerry_node_branches 0", "skerry_bus_chosen{bus=\"main\"} 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    accounts.pay(&client);

    // The bus inside a process would part the branches.
    terminal.refused("skerry bus switch local", "ends at this process");
    assert!(terminal.type_in("skerry --json bus list").contains("\"chosen\": \"main\""));

    // The machine that died comes back, as its unit starts it.
    let back = by_unit(&folder.0, &three);
    until_hosted(&client, "it has its share", |hosts| count(hosts, "b") == 2 && count(hosts, "a") == 2);
    accounts.pay(&client);
    let ended = back.told("-TERM");
    assert!(ended.success(), "{ended}: {}", std::fs::read_to_string(folder.0.join("unit.log")).unwrap());

    // All is ended in order, and the same bank goes on with what operators have said.
    assert_eq!(running.told("-INT").code(), Some(130));
    assert_eq!(Leftovers(three.clone()).pids(), Vec::<String>::new());
    let running = script(&folder.0);
    until_hosted(&client, "all but the drained one host", |hosts| {
        count(hosts, "a") == 2 && count(hosts, "b") == 2
    });
    accounts.check(&client);
    terminal.type_in("skerry node resume c");
    until_hosted(&client, "it has its share again", |hosts| count(hosts, "c") > 0);
    accounts.pay(&client);
    assert_eq!(running.told("-TERM").code(), Some(143));
    assert_eq!(Leftovers(three).pids(), Vec::<String>::new());
    terminal.end();
}

/// Node `b` as `skerry-node@b` starts it, on the script's bank; once it says that it is ready.
fn by_unit(folder: &Path, three: &Path) -> Process {
    let unit = std::fs::read_to_string(project().join("deploy/systemd/skerry-node@.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let line = line.replace("/usr/bin/skerry", SKERRY).replace("%i", "b");
    let line = line
        .replace("/etc/skerry", three.to_str().unwrap())
        .replace("/var/lib/skerry", three.to_str().unwrap());
    let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut words = line.split_whitespace();
    let log = std::fs::File::create(folder.join("unit.log")).unwrap();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir("/").stdin(Stdio::null()).env("NOTIFY_SOCKET", folder.join("notify"));
    let process = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let mut bytes = [0; 256];
    let length = socket.recv(&mut bytes).expect("the service manager is told in time");
    assert!(bytes[..length].starts_with(b"READY=1\n"), "{}", String::from_utf8_lossy(&bytes[..length]));
    process
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn two_nodes_by_hand() {
    let (folder, group) = (Folder::new("by-hand"), Group::single());
    let servers = Servers::new(1, ground::NATS, None);
    let (a, b, gateway) = (free_port(), free_port(), free_port());
    let told = format!("export SKERRY_SERVER=http://127.0.0.1:{gateway} SKERRY_LISTEN=127.0.0.1:{gateway}");
    let mut terminal = Terminal::new(&folder.0, &told, blocks("sh")[BY_SCRIPT..].to_vec());
    let here = |port: u16| format!("127.0.0.1:{port}");
    terminal.instead = vec![(here(7118), here(a)), (here(7119), here(b))];
    let config =
        blocks("toml").remove(0).replace("postgres://bank@127.0.0.1:5432/bank", &group.url("postgres"));
    let config = config.replace(&here(4222), &here(servers.all[0].port));
    std::fs::write(folder.0.join("skerry.toml"), config).unwrap();
    let names: Vec<String> = (0..2).map(|_| terminal.step()).collect();
    assert!(names[0].contains("institution") && names[1].contains("bank"), "{names:?}");

    // Each in a process of its own.
    let start = |line: &str| {
        let log = folder.0.join("processes.log");
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = shell(&folder.0, &format!("{told}\nexec {line}"));
        Process(command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap())
    };
    let lines = terminal.next();
    let lines: Vec<&str> = lines.lines().collect();
    let mut processes: Vec<Process> = lines.iter().map(|line| start(line)).collect();
    let client = until("the gateway is there", || client(&folder.0.join("data-g")));
    until_hosted(&client, "each has its share", |hosts| count(hosts, "a") == 2 && count(hosts, "b") == 2);
    terminal.told += "\nexport SKERRY_TOKEN_FILE=data-g/operator.token";
    let listed = terminal.step();
    assert!(
        listed.contains("seat.a") && listed.contains("scattered") && listed.contains("business_date"),
        "{listed}"
    );
    let mut accounts = Accounts::open(&client);
    accounts.pay(&client);

    // Drained, also in its next life.
    assert!(terminal.step().contains("drained_by"));
    until_hosted(&client, "it gives its branches away", |hosts| count(hosts, "a") == 4);
    accounts.pay(&client);
    let died = processes.remove(1);
    died.told("-KILL");
    processes.insert(1, start(lines[1]));
    until("it knows that it is drained", || {
        let health = terminal.asked(&format!("http://127.0.0.1:{b}/healthz"))?;
        let health: Value = serde_json::from_str(&health).unwrap();
        (health["state"] == "draining").then(|| assert_eq!(health["branches"], json!([])))
    });
    until_hosted(&client, "it takes none", |hosts| count(hosts, "a") == 4);
    accounts.pay(&client);

    // Everywhere: nothing moves, and what stays is said.
    let said = terminal.type_in("skerry node drain a");
    assert!(said.contains("branches 1, 2, 3, 4 stay"), "{said}");
    accounts.pay(&client);
    terminal.type_in("skerry node resume a");

    // Back, one on its own node, alone, and anywhere.
    terminal.step();
    until_hosted(&client, "it goes where it was sent", |hosts| hosts[&1] == "b" && count(hosts, "b") == 2);
    terminal.step();
    until_hosted(&client, "it has a node to itself", |hosts| hosts[&2] == "a" && count(hosts, "b") == 3);
    terminal.step();
    until_hosted(&client, "evenly", |hosts| count(hosts, "a") == 2 && count(hosts, "b") == 2);
    accounts.pay(&client);
    assert!(terminal.step().contains("followed_by"));
    until("the other one is near", || {
        let listed = terminal.type_in("skerry --json branch list");
        let view: Value = serde_json::from_str(&listed).unwrap();
        (view["branches"][0]["followed_by"][0]["near"] == true).then_some(())
    });
    let seen = terminal.step();
    assert!(seen.contains("\"following\":[{\"branch\":"), "{seen}");
    assert!(seen.contains("\"lease\":\"held\"") && seen.contains("skerry_node_branches 2"), "{seen}");

    // More of them, on the nodes that there are: everybody pays them and is paid by them, and nothing was started again.
    let listed = terminal.step();
    assert!(listed.contains("founding") || listed.contains("open"), "{listed}");
    until_hosted(&client, "the new ones have a node each", |hosts| {
        count(hosts, "a") == 3 && count(hosts, "b") == 3
    });
    [5, 6].into_iter().for_each(|branch| accounts.join(&client, branch));
    accounts.pay(&client);
    let view: Value = block_on(client.get("/v1/directory")).unwrap();
    assert!(view["branches"].as_array().unwrap().iter().all(|branch| branch["state"] == "open"), "{view}");
    let audit: Value = block_on(client.get("/v1/audit?branch=6&act=branch.opened")).unwrap();
    assert_eq!(audit["acts"][0]["principal"], "operator", "{audit}");
    // A machine that was made one of the bank's before copies them too.
    let copied = terminal.type_in("skerry backup --config skerry.toml --data data-b copy");
    assert!(copied.contains("branch 6 copied"), "{copied}");

    for (script, words) in [
        ("skerry branch create --first 9", "the next branch is 7"),
        ("skerry branch create --store local", "there is no store"),
        ("skerry node drain nobody", "there is no node nobody"),
        ("skerry node resume nobody", "there is no node nobody"),
        ("skerry branch move 1 --to nobody", "there is no node nobody"),
        ("skerry branch place 1 --node nobody", "there is no node nobody"),
        ("skerry branch move 77 --to b", "there is no branch 77"),
        ("skerry branch follow 77 1", "there is no branch 77"),
        ("skerry branch follow 1 4", "0..=3"),
        ("skerry branch place 1", "required"),
        ("skerry bus switch local", "over processes go: main"),
    ] {
        terminal.refused(script, words);
    }
    accounts.check(&client);
    // The gateway first, then the nodes.
    while let Some(process) = processes.pop() {
        assert!(process.told("-TERM").success());
    }
    terminal.end();
}
