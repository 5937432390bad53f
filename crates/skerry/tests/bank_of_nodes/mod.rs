//! A bank of several processes for tests: PostgreSQL, NATS, nodes and gateways, and clients of several branches who pay each other by the
//! rules for retries.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    reason = "shared by tests that use parts of it, where whatever fails ends the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skerry_client::Client;

use crate::common::{Folder, SKERRY, assert_balanced, block_on, transfer, until, uuid7};
use crate::ground::process::Process;
use crate::ground::{self, cents, insist, until_at_rest, until_hosted};
use crate::nats::Servers;
use crate::postgres::{self, Group};

pub(crate) const BRANCHES: u16 = 4;

/// What lies under the bank: a server for journals and directory, one for messages, and a configuration for all.
pub(crate) struct Ground {
    pub(crate) folder: Folder,
    pub(crate) config: PathBuf,
    pub(crate) group: Group,
    _servers: Servers,
}

impl Ground {
    pub(crate) fn new(name: &str) -> Self {
        let (folder, group) = (Folder::new(name), Group::single());
        let servers = Servers::new(1, ground::NATS, None);
        let config = folder.0.join("skerry.toml");
        std::fs::write(&config, ground::configuration(&group, &servers, BRANCHES)).unwrap();
        Self { folder, config, group, _servers: servers }
    }

    /// On servers at these addresses of this machine (store, bus), which want TLS: `certify` writes an authority, a certificate and its key.
    pub(crate) fn afar(name: &str, [store, bus]: [&str; 2], certify: impl Fn(&Path) -> [PathBuf; 3]) -> Self {
        let folder = Folder::new(name);
        let files = certify(&folder.0);
        let own = [0, 1, 2].map(|file| files[file].display().to_string());
        let theirs = folder.0.join("servers");
        std::fs::create_dir(&theirs).unwrap();
        let admitted = theirs.join("pg_hba.conf");
        std::fs::write(&admitted, "host all all 127.0.0.1/32 trust\nhostssl all all samenet trust\n")
            .unwrap();
        let key = theirs.join("own.key");
        std::fs::copy(&files[2], &key).unwrap();
        postgres::give(&admitted);
        postgres::give(&key);
        let group = Group::with(&format!(
            "listen_addresses = '*'\nhba_file = '{}'\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            admitted.display(),
            own[1],
            key.display()
        ));
        let [ca, certificate, key] = &own;
        let tls =
            format!("tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}");
        let servers = Servers::at("0.0.0.0", 1, &format!("{}\n{tls}", ground::NATS), None);
        let config = folder.0.join("skerry.toml");
        let files = format!("ca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n");
        let text = ground::configuration(&group, &servers, BRANCHES)
            .replace("skerry@127.0.0.1", &format!("skerry@{store}"))
            .replace("nats://127.0.0.1", &format!("tls://{bus}"))
            .replace("[bus]", &format!("{files}[bus]"));
        std::fs::write(&config, text + &files).unwrap();
        Self { folder, config, group, _servers: servers }
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    pub(crate) fn said(&self, arguments: &[&str], name: &str) -> Output {
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

    pub(crate) fn done(&self, arguments: &[&str], name: &str) {
        let said = self.said(arguments, name);
        assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// Founds the bank on the first machine and makes the others its machines.
    pub(crate) fn found(&self, names: &[&str]) {
        self.done(&["identity", "new"], names[0]);
        let file = self.folder.0.join("bank.identity");
        let file = file.to_str().unwrap();
        self.done(&["identity", "export", file], names[0]);
        for name in &names[1..] {
            self.done(&["identity", "import", file], name);
        }
    }

    pub(crate) fn start(&self, what: &str, name: &str, more: &[&str]) -> Process {
        let mut command = Command::new(SKERRY);
        command.args([what, "--name", name, "--config"]).arg(&self.config).arg("--data").arg(self.data(name));
        command.args(more).current_dir(&self.folder.0);
        Process::start(command, name, self.data(name))
    }

    pub(crate) fn node(&self, name: &str) -> Process {
        self.start("node", name, &[])
    }

    pub(crate) fn gateway(&self, name: &str) -> Process {
        self.start("gateway", name, &["--listen", "127.0.0.1:0"])
    }
}

/// Waits until the gateway finds every branch open, on exactly these nodes.
pub(crate) fn until_open(client: &Client, nodes: &[&str]) -> BTreeMap<u64, String> {
    until_hosted(client, "every branch is open, on these nodes", |hosts| {
        let at: BTreeSet<&str> = hosts.values().map(String::as_str).collect();
        hosts.len() == usize::from(BRANCHES) && at == nodes.iter().copied().collect()
    })
}

pub(crate) fn branch_of(account: &str) -> u64 {
    account[..4].parse().unwrap()
}

/// Two accounts of each branch, with 1000.00 on each.
pub(crate) fn accounts(client: &Client) -> Vec<String> {
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
pub(crate) struct Load {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) heard: Arc<Mutex<BTreeSet<String>>>,
    /// Acknowledged, by the branch of the payer.
    pub(crate) paid: Arc<BTreeMap<u64, AtomicU64>>,
    pub(crate) threads: Vec<std::thread::JoinHandle<BTreeMap<String, i64>>>,
}

impl Load {
    pub(crate) fn begin(gateway: &Process, accounts: &[String]) -> Self {
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
    pub(crate) fn until_more(&self, more: u64) {
        let now = || self.paid.values().map(|paid| paid.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = now();
        until("payments go on in every branch", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client gave up");
            now().iter().zip(&before).all(|(now, before)| *now >= before + more).then_some(())
        });
    }

    /// What every account must have got or paid, in cents; and what clients were told besides.
    pub(crate) fn end(self) -> (BTreeMap<String, i64>, BTreeSet<String>) {
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

pub(crate) fn pay(
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
pub(crate) fn right_to_the_cent(client: &Client, accounts: &[String], sums: &BTreeMap<String, i64>) {
    until_at_rest(client, BRANCHES);
    for account in accounts {
        assert_eq!(cents(client, account), 100_000 + sums.get(account).copied().unwrap_or(0), "{account}");
    }
    block_on(assert_balanced(client));
}
