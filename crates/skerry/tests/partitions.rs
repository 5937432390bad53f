//! A node that the network cuts off, for real: it runs in a network namespace of its own, over TLS, and packets on its links are lost
//! without a word, in both directions or in one. Its branches open elsewhere while customers pay, and it comes back by itself.
//!
//! Namespaces want root and `ip`; where the tests may not make them, this says so and does nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod bank_of_nodes;
mod common;
mod ground;
#[path = "../../nats/tests/common/mod.rs"]
#[expect(dead_code, reason = "its rig is for the seam's contract")]
mod nats;
#[path = "../../postgres/tests/common/mod.rs"]
mod postgres;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bank_of_nodes::{Ground, Load, accounts, right_to_the_cent, until_open};
use common::{SKERRY, until};
use ground::process::Process;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Said to the process that runs in a network of its own.
const INSIDE: &str = "SKERRY_TEST_OWN_NETWORK";
const TEST: &str = "a_node_that_the_network_cuts_off_loses_its_branches_and_comes_back";
/// No card has this address: what is sent to it is lost.
const NOBODY: &str = "02:00:00:00:00:99";

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn ip(arguments: &[&str]) {
    run("ip", arguments);
}

/// Why there can be no namespaces here, if so.
fn missing() -> Option<String> {
    let said = |program: &str, arguments: &[&str]| match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("{program}: {error}")),
    };
    let make = "ip link add one type veth peer name other && ip link set lo up";
    said("ip", &["-V"]).or_else(|| said("unshare", &["--net", "--", "sh", "-c", make]))
}

/// A way to the node's machine: a pair of network cards, ours and its own.
struct Link {
    name: &'static str,
    ours: String,
    theirs: String,
}

/// Whose packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    FromIt,
    ToIt,
    Both,
}

/// A namespace that lives as long as the process in it.
struct Machine {
    keeper: Child,
    links: Vec<Link>,
}

impl Machine {
    /// With a link of each name; ours is `10.213.N.1`, counted from 1.
    fn new(names: &[&'static str]) -> Self {
        let keeper = Command::new("unshare").args(["--net", "--", "sleep", "infinity"]).spawn().unwrap();
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        let pid = keeper.id().to_string();
        until("it has a network of its own", || (network(&pid) != network("self")).then_some(()));
        let mut machine = Self { keeper, links: Vec::new() };
        machine.ip(&["link", "set", "lo", "up"]);
        for (number, name) in (1..).zip(names) {
            let (ours, theirs) = (format!("10.213.{number}.1"), format!("10.213.{number}.2"));
            ip(&["link", "add", name, "type", "veth", "peer", "name", name, "netns", &pid]);
            ip(&["addr", "add", &format!("{ours}/30"), "dev", name]);
            ip(&["link", "set", name, "up"]);
            machine.ip(&["addr", "add", &format!("{theirs}/30"), "dev", name]);
            machine.ip(&["link", "set", name, "up"]);
            machine.links.push(Link { name, ours, theirs });
        }
        machine
    }

    /// What runs a program there, with its arguments to follow.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--net", "--", program]);
        command
    }

    fn ip(&self, arguments: &[&str]) {
        let status = self.command("ip").args(arguments).status().unwrap();
        assert!(status.success(), "ip {arguments:?}");
    }

    fn cut(&self, names: &[&str], lost: Lost) {
        for link in self.links.iter().filter(|link| names.contains(&link.name)) {
            let lose =
                |to: &str| ["neigh", "replace", to, "lladdr", NOBODY, "dev", link.name].map(str::to_owned);
            if lost != Lost::FromIt {
                ip(&lose(&link.theirs).each_ref().map(String::as_str));
            }
            if lost != Lost::ToIt {
                self.ip(&lose(&link.ours).each_ref().map(String::as_str));
            }
        }
    }

    fn mend(&self) {
        for link in &self.links {
            // One that was not cut has nothing to delete.
            let forget = |to: &str| ["neigh", "del", to, "dev", link.name].map(str::to_owned);
            let _ours = Command::new("ip").args(forget(&link.theirs)).stderr(Stdio::null()).status().unwrap();
            let theirs = forget(&link.ours);
            let _theirs = self.command("ip").args(theirs).stderr(Stdio::null()).status().unwrap();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _dead = self.keeper.kill();
        let _reaped = self.keeper.wait();
    }
}

/// An authority and one certificate under it for every process, as files that each may read.
fn certificates(folder: &Path, addresses: &[&str]) -> [PathBuf; 3] {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    [authority, write("own.pem", signed.pem()), write("own.key", key.serialize_pem())]
}

#[test]
fn a_node_that_the_network_cuts_off_loses_its_branches_and_comes_back() {
    if std::env::var_os(INSIDE).is_some() {
        return cut_off_and_back();
    }
    if let Some(why) = missing() {
        // Past the harness, which would keep it to itself.
        writeln!(std::io::stderr(), "skipped: no network namespaces here: {why}").unwrap();
        return;
    }
    // The whole test runs in a network of its own, which ends with its last process, however it ends.
    let again = std::env::current_exe().unwrap();
    let mut alone = Command::new("unshare");
    alone.args(["--net", "--"]).arg(again).args([TEST, "--exact", "--nocapture"]).env(INSIDE, "1");
    assert!(alone.status().unwrap().success());
}

fn cut_off_and_back() {
    ip(&["link", "set", "lo", "up"]);
    let machine = Machine::new(&["store", "bus"]);
    let ground = Ground::afar("partitions", ["10.213.1.1", "10.213.2.1"], |folder| {
        certificates(folder, &["127.0.0.1", "10.213.1.1", "10.213.2.1"])
    });
    ground.found(&["a", "b", "g"]);
    let start = |name: &str| {
        let mut command = machine.command(SKERRY);
        command.args(["node", "--name", name, "--config"]).arg(&ground.config);
        command.arg("--data").arg(ground.data(name)).current_dir(&ground.folder.0);
        Process::start(command, name, ground.data(name))
    };
    let (a, b, gateway) = (start("a"), ground.node("b"), ground.gateway("g"));
    let client = gateway.client();
    until_open(&client, &["a", "b"]);
    let accounts = accounts(&client);
    let load = Load::begin(&gateway, &accounts);
    load.until_more(5);
    for (links, lost) in [
        // It would keep its leases, and nobody could ask for anything.
        (&["bus"][..], Lost::Both),
        (&["store", "bus"], Lost::Both),
        (&["store"], Lost::Both),
        (&["store"], Lost::ToIt),
        (&["store", "bus"], Lost::FromIt),
    ] {
        eprintln!("{links:?} cut, {lost:?}");
        machine.cut(links, lost);
        until_open(&client, &["b"]);
        load.until_more(5);
        machine.mend();
        until_open(&client, &["a", "b"]);
        load.until_more(5);
    }
    let (sums, heard) = load.end();
    eprintln!("clients were told besides: {heard:?}");
    right_to_the_cent(&client, &accounts, &sums);
    gateway.stop();
    a.stop();
    b.stop();
}
