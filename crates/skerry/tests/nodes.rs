//! One bank in four processes and more: PostgreSQL, NATS, two nodes and a gateway. Customers of several branches pay each other
//! while a node dies or sleeps past its leases; nothing is lost, nothing comes twice, and clients hear nothing worse than *again*.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::{Folder, SKERRY, assert_balanced, block_on, transfer, until, uuid7};
use ground::{cents, insist, until_at_rest, until_hosted};
use nats::Servers;
use postgres::Group;
use serde_json::{Value, json};
use skerry_client::Client;

const BRANCHES: u16 = 4;

/// What lies under the bank: a server for journals and directory, one for messages, and a configuration for all.
struct Ground {
    folder: Folder,
    config: PathBuf,
    group: Group,
    _servers: Servers,
}

impl Ground {
    fn new(name: &str) -> Self {
        let (folder, group) = (Folder::new(name), Group::single());
        let servers = Servers::new(1, ground::NATS, None);
        let config = folder.0.join("skerry.toml");
        std::fs::write(&config, ground::configuration(&group, &servers, BRANCHES)).unwrap();
        Self { folder, config, group, _servers: servers }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    fn said(&self, arguments: &[&str], name: &str) -> Output {
        Command::new(SKERRY)
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .arg("--data")
            .arg(self.data(name))
            .current_dir(&self.folder.0)
            .output()
            .unwrap()
    }

    fn done(&self, arguments: &[&str], name: &str) {
        let said = self.said(arguments, name);
        assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// Founds the bank on the first machine and makes the others its machines.
    fn found(&self, names: &[&str]) {
        self.done(&["identity", "new"], names[0]);
        let file = self.folder.0.join("bank.identity");
        let file = file.to_str().unwrap();
        self.done(&["identity", "export", file], names[0]);
        for name in &names[1..] {
            self.done(&["identity", "import", file], name);
        }
    }

    fn start(&self, what: &str, name: &str, more: &[&str]) -> Process {
        let data = self.data(name);
        let _stale = std::fs::remove_file(data.join("running.json"));
        let log = data.with_extension("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(SKERRY)
            .args([what, "--name", name, "--config"])
            .arg(&self.config)
            .arg("--data")
            .arg(&data)
            .args(more)
            .current_dir(&self.folder.0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut process = Process { child, data, log };
        until(&format!("{name} is there"), || {
            assert!(process.child.try_wait().unwrap().is_none(), "{name} ended: {}", process.log());
            process.announced()
        });
        process
    }

    fn node(&self, name: &str) -> Process {
        self.start("node", name, &[])
    }

    fn gateway(&self, name: &str) -> Process {
        self.start("gateway", name, &["--listen", "127.0.0.1:0"])
    }
}

struct Process {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Process {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn announced(&self) -> Option<String> {
        common::announced(&self.data.join("running.json"))
    }

    fn client(&self) -> Client {
        ground::client(&self.data).unwrap()
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

/// Lines of each process's log that a failed test shows.
const TAIL: usize = 80;

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("-- the end of {}:\n{}", self.log.display(), tail.join("\n"));
        }
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until the gateway finds every branch open, on exactly these nodes.
fn until_open(client: &Client, nodes: &[&str]) -> BTreeMap<u64, String> {
    until_hosted(client, "every branch is open, on these nodes", |hosts| {
        let at: BTreeSet<&str> = hosts.values().map(String::as_str).collect();
        hosts.len() == usize::from(BRANCHES) && at == nodes.iter().copied().collect()
    })
}

fn branch_of(account: &str) -> u64 {
    account[..4].parse().unwrap()
}

/// Two accounts of each branch, with 1000.00 on each.
fn accounts(client: &Client) -> Vec<String> {
    let heard = Mutex::default();
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for number in 1..200 {
        let name = format!("Customer {number}");
        let wish = json!({"name": name, "document": {"kind": "test", "number": name}});
        let customer: Value = insist(&heard, || block_on(client.post("/v1/customers", &wish)));
        let path = format!("/v1/customers/{}/accounts", customer["id"].as_str().unwrap());
        let wish = json!({"product": "current", "currency": "CNY"});
        let account: Value = insist(&heard, || block_on(client.post(&path, &wish)));
        let account = account["number"].as_str().unwrap().to_owned();
        let own = found.entry(branch_of(&account)).or_default();
        if own.len() < 2 {
            let wish = transfer(&uuid7(), "gl:1001", &account, "1000.00");
            let _paid: Value = insist(&heard, || block_on(client.post("/v1/transfers", &wish)));
            own.push(account);
        }
        if found.len() == usize::from(BRANCHES) && found.values().all(|own| own.len() == 2) {
            return found.into_values().flatten().collect();
        }
    }
    panic!("newcomers do not come to every branch: {found:?}");
}

/// Clients who pay each other 0.01, each payment until it is acknowledged, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<BTreeSet<String>>>,
    /// Acknowledged, by the branch of the payer.
    paid: Arc<BTreeMap<u64, AtomicU64>>,
    threads: Vec<std::thread::JoinHandle<BTreeMap<String, i64>>>,
}

impl Load {
    fn begin(gateway: &Process, accounts: &[String]) -> Self {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let paid: Arc<BTreeMap<u64, AtomicU64>> =
            Arc::new((1..=u64::from(BRANCHES)).map(|branch| (branch, AtomicU64::new(0))).collect());
        let threads = (0..accounts.len()).map(|payer| {
            let (stop, heard, paid) = (Arc::clone(&stop), Arc::clone(&heard), Arc::clone(&paid));
            let (accounts, client) = (accounts.to_vec(), gateway.client());
            std::thread::spawn(move || pay(&client, &accounts, payer, &stop, &heard, &paid))
        });
        Self { threads: threads.collect(), stop, heard, paid }
    }

    /// Waits until payments go on in every branch.
    fn until_more(&self, more: u64) {
        let now = || self.paid.values().map(|paid| paid.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = now();
        until("payments go on in every branch", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client gave up");
            now().iter().zip(&before).all(|(now, before)| *now >= before + more).then_some(())
        });
    }

    /// What every account must have got or paid, in cents; and what clients were told besides.
    fn end(self) -> (BTreeMap<String, i64>, BTreeSet<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let mut sums = BTreeMap::new();
        for thread in self.threads {
            for (account, cents) in thread.join().unwrap() {
                *sums.entry(account).or_default() += cents;
            }
        }
        (sums, Arc::try_unwrap(self.heard).unwrap().into_inner().unwrap())
    }
}

fn pay(
    client: &Client,
    accounts: &[String],
    payer: usize,
    stop: &AtomicBool,
    heard: &Mutex<BTreeSet<String>>,
    paid: &BTreeMap<u64, AtomicU64>,
) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    let mut turn = payer;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        let (from, to) = (&accounts[payer], &accounts[turn % accounts.len()]);
        if from == to {
            continue;
        }
        // The same id each time: that is the rule.
        let wish = transfer(&uuid7(), from, to, "0.01");
        let _paid: Value = insist(heard, || block_on(client.post("/v1/transfers", &wish)));
        paid[&branch_of(from)].fetch_add(1, Ordering::SeqCst);
        *sums.entry(from.clone()).or_default() -= 1;
        *sums.entry(to.clone()).or_default() += 1;
    }
    sums
}

/// Waits until nothing is under way between branches; then every account must have what its clients were told, to the cent.
fn right_to_the_cent(client: &Client, accounts: &[String], sums: &BTreeMap<String, i64>) {
    until_at_rest(client, BRANCHES);
    for account in accounts {
        assert_eq!(cents(client, account), 100_000 + sums.get(account).copied().unwrap_or(0), "{account}");
    }
    block_on(assert_balanced(client));
}

#[test]
fn a_node_is_killed_under_load_and_the_other_answers_for_its_branches() {
    let ground = Ground::new("nodes");
    ground.found(&["a", "b", "g"]);
    let (a, b, gateway) = (ground.node("a"), ground.node("b"), ground.gateway("g"));
    let client = gateway.client();
    let at = until_open(&client, &["a", "b"]);
    assert_eq!(at.values().filter(|node| *node == "a").count(), usize::from(BRANCHES) / 2, "{at:?}");
    let listed = Command::new(SKERRY)
        .args(["--json", "node", "list"])
        .env("SKERRY_SERVER", gateway.announced().unwrap())
        .env("SKERRY_TOKEN_FILE", gateway.data.join("operator.token"))
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    for node in listed["nodes"].as_array().unwrap() {
        let hosted = node["branches"].as_array().unwrap().iter();
        assert!(hosted.clone().all(|branch| at[&branch.as_u64().unwrap()] == node["name"]), "{listed}");
        assert_eq!(hosted.len(), usize::from(BRANCHES) / 2, "{listed}");
    }
    let accounts = accounts(&client);
    let load = Load::begin(&gateway, &accounts);
    load.until_more(20);

    let killed = Instant::now();
    b.kill();
    until_open(&client, &["a"]);
    load.until_more(1);
    eprintln!("all branches answered again after at most {:?}", killed.elapsed());
    load.until_more(20);

    let b = ground.node("b");
    until_open(&client, &["a", "b"]);
    load.until_more(20);
    let (sums, heard) = load.end();
    eprintln!("clients were told besides: {heard:?}");
    right_to_the_cent(&client, &accounts, &sums);

    // Stopped in order: what it had goes over at once.
    a.stop();
    until_open(&client, &["b"]);
    gateway.stop();
    b.stop();
}

/// The epoch of each branch in the store, and where its journal ends.
fn heads(group: &Group) -> String {
    group
        .primary()
        .sql("select string_agg(branch || ':' || epoch, ' ' order by branch) from skerry.journal_head")
}

#[test]
fn a_node_that_slept_past_its_leases_writes_nothing_and_answers_nothing() {
    let ground = Ground::new("sleep");
    ground.found(&["a", "b", "g"]);
    let (a, b, gateway) = (ground.node("a"), ground.node("b"), ground.gateway("g"));
    let client = gateway.client();
    let at = until_open(&client, &["a", "b"]);
    let accounts = accounts(&client);
    let load = Load::begin(&gateway, &accounts);
    load.until_more(20);

    // Whoever is told a payment reads at least its sum from then on, whoever answers.
    let theirs = at.iter().find(|(_, node)| *node == "b").map(|(branch, _)| *branch).unwrap();
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let heard = Arc::new(Mutex::default());
    let wish = json!({"name": "Reader", "document": {"kind": "test", "number": "Reader"}, "branch": theirs});
    let customer: Value = insist(&heard, || block_on(client.post("/v1/customers", &wish)));
    let path = format!("/v1/customers/{}/accounts", customer["id"].as_str().unwrap());
    let wish = json!({"product": "current", "currency": "CNY"});
    let account: Value = insist(&heard, || block_on(client.post(&path, &wish)));
    let account = account["number"].as_str().unwrap().to_owned();
    assert_eq!(branch_of(&account), theirs);
    let writer = {
        let (stop, told, heard, account) =
            (Arc::clone(&stop), Arc::clone(&told), Arc::clone(&heard), account.clone());
        let client = gateway.client();
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let wish = transfer(&uuid7(), "gl:1001", &account, "0.01");
                let _paid: Value = insist(&heard, || block_on(client.post("/v1/transfers", &wish)));
                told.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let reader = {
        let (stop, told, heard, account) =
            (Arc::clone(&stop), Arc::clone(&told), Arc::clone(&heard), account.clone());
        let client = gateway.client();
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let least = told.load(Ordering::SeqCst);
                let path = format!("/v1/accounts/{account}");
                let view: Value = insist(&heard, || block_on(client.get(&path)));
                let posted = view["balances"]["posted"]["amount"].as_str().unwrap().replace('.', "");
                assert!(posted.parse::<u64>().unwrap() >= least, "{posted} after {least} were acknowledged");
            }
        })
    };

    b.signal("-STOP");
    until_open(&client, &["a"]);
    load.until_more(20);
    let before = heads(&ground.group);
    b.signal("-CONT");
    // It finds out by itself, closes what it had, and says so.
    let closed = || b.log().matches("the branch is closed here").count();
    let had = at.values().filter(|node| *node == "b").count();
    until("the node that slept has closed its branches", || (closed() >= had).then_some(()));
    load.until_more(20);
    assert!(!reader.is_finished() && !writer.is_finished());
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    reader.join().unwrap();
    let (sums, heard) = load.end();
    eprintln!("clients were told besides: {heard:?}; epochs {before}, then {}", heads(&ground.group));
    until_open(&client, &["a", "b"]);
    right_to_the_cent(&client, &accounts, &sums);
    assert_eq!(cents(&client, &account).cast_unsigned(), told.load(Ordering::SeqCst), "{}", b.log());
    for process in [gateway, a, b] {
        process.stop();
    }
}

#[test]
fn what_a_process_of_such_a_bank_lacks_is_said_in_words() {
    let folder = Folder::new("lacks");
    let run = |arguments: &[&str], text: &str| {
        let config = folder.0.join("skerry.toml");
        std::fs::write(&config, text).unwrap();
        let said = Command::new(SKERRY)
            .args(arguments)
            .args([Path::new("--config"), &config, Path::new("--data"), &folder.data()])
            .output()
            .unwrap();
        assert!(!said.status.success());
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let store = "[stores.main]\npostgres = \"postgres://u@127.0.0.1:1/bank\"\n[storage]\n";
    let bus = "[bus]\nuse = \"main\"\n[buses.main]\nnats = [\"nats://127.0.0.1:1\"]\n";
    let all = format!("{store}directory = \"main\"\n{bus}");
    for process in ["node", "gateway"] {
        for (name, text, part) in [
            ("a", String::new(), "storage.directory must name"),
            ("a", format!("{store}directory = \"main\"\n"), "bus.use must name"),
            ("a", all.clone(), "identity import"),
            ("A", all.clone(), "--name has 1 to 26"),
            ("", all.clone(), "--name has 1 to 26"),
        ] {
            let said = run(&[process, "--name", name], &text);
            assert!(said.contains(part), "{process} {name:?}: {said}");
        }
    }
    let said = run(&["identity", "new"], &all);
    assert!(said.contains("storage.journals must name"), "{said}");
    assert!(run(&["node"], &all).contains("--name is missing"));
}
