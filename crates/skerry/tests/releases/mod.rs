//! Processes of several releases on one machine, commands typed as a page has them, and clients that pay meanwhile.
#![expect(clippy::unwrap_used, reason = "a fixture that does not stand ends its test here")]
#![expect(unreachable_pub, reason = "read in the test file that uses it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use serde_json::Value;
use skerry_client::{Client, Error};

use crate::common::{SKERRY, block_on, client, transfer, until, uuid7};
use crate::ground::AGAIN;
use crate::ground::process::Process;

pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A release: the folder of its binary.
pub struct Release(PathBuf);

impl Release {
    /// The one under test.
    pub fn new() -> Self {
        Self(Path::new(SKERRY).parent().unwrap().to_owned())
    }

    /// An earlier one, built from the history; without the history the test says so and passes.
    pub fn of(commit: &str, features: &str) -> Option<Self> {
        let built =
            Command::new(project().join("scripts/old-release")).args([commit, features]).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        if built.status.code() == Some(3) {
            eprintln!("skipped: {said}");
            return None;
        }
        assert!(built.status.success(), "{said}");
        let binary = PathBuf::from(String::from_utf8(built.stdout).unwrap().trim());
        Some(Self(binary.parent().unwrap().to_owned()))
    }
}

/// The commands of docs/upgrading.md, block by block.
pub fn blocks() -> Vec<String> {
    let page = std::fs::read_to_string(project().join("docs/upgrading.md")).unwrap();
    let parts = page.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Where commands are typed: a folder, and what is said once before them.
pub struct Desk {
    pub folder: PathBuf,
    pub told: Vec<(&'static str, String)>,
}

impl Desk {
    fn shell(&self, release: &Release, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(&self.folder).stdin(Stdio::null());
        command.env_remove("SKERRY_CONFIG").envs(self.told.iter().map(|(name, value)| (name, value)));
        command.env("PATH", format!("{}:{}", release.0.display(), std::env::var("PATH").unwrap()));
        command
    }

    /// Types `script`; it must work.
    pub fn types(&self, release: &Release, script: &str) -> String {
        let output = self.shell(release, script).output().unwrap();
        let text =
            [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part).into_owned()).concat();
        assert!(output.status.success(), "{script}\n{text}");
        text
    }

    /// Types `script`; whether it works is seen elsewhere.
    pub fn tries(&self, release: &Release, script: &str) {
        let _done = self.shell(release, script).output();
    }

    /// Types `script`, which must work; what it printed on stdout.
    pub fn prints(&self, release: &Release, script: &str) -> String {
        let output = self.shell(release, script).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types `script`, which must be refused.
    pub fn refused(&self, release: &Release, script: &str) -> String {
        let output = self.shell(release, script).output().unwrap();
        assert!(!output.status.success(), "{script}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts `line` as a process with the data folder `data`, and waits until it has announced itself.
    pub fn starts(&self, release: &Release, line: &str, data: &str) -> Process {
        Process::start(self.shell(release, &format!("exec {line}")), line, self.folder.join(data))
    }
}

/// The gateways of a bank, as its clients know them.
pub struct Ways {
    servers: RwLock<Vec<String>>,
    token: String,
    heard: Mutex<BTreeSet<String>>,
    /// Calls that met no gateway at all.
    broken: AtomicU64,
}

impl Ways {
    pub fn new(servers: Vec<String>, token: String) -> Arc<Self> {
        let (heard, broken) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { servers: RwLock::new(servers), token, heard, broken })
    }

    pub fn change(&self, servers: &[&Process]) {
        *self.servers.write().unwrap() = servers.iter().map(|process| process.server()).collect();
    }

    pub fn client(&self, turn: usize) -> Client {
        let servers = self.servers.read().unwrap();
        client(&servers[turn % servers.len()], &self.token)
    }

    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::SeqCst)
    }

    pub fn heard(&self) -> BTreeSet<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Asks until it is done: the same again, and by another gateway where one is not there.
    pub fn insist<T>(&self, ask: impl Fn(&Client) -> Result<T, Error>) -> T {
        let (mut turn, mut way) = (0, self.client(0));
        until("it is done", || match ask(&way) {
            Ok(done) => Some(done),
            Err(Error::Problem(problem)) => {
                assert!(AGAIN.contains(&problem.code.as_str()), "{problem:?}");
                self.heard.lock().unwrap().insert(problem.code);
                None
            }
            Err(_) => {
                self.broken.fetch_add(1, Ordering::SeqCst);
                turn += 1;
                way = self.client(turn);
                None
            }
        })
    }

    /// Pays once.
    pub fn pay(&self, wish: &Value) {
        let _paid: Value = self.insist(|client| block_on(client.post("/v1/transfers", wish)));
    }
}

/// Clients who pay each other 0.01, each payment until it is acknowledged, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Acknowledged, by payer.
    paid: Arc<Vec<AtomicU64>>,
    threads: Vec<JoinHandle<Vec<Value>>>,
}

impl Load {
    pub fn begin(ways: &Arc<Ways>, accounts: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let paid: Arc<Vec<AtomicU64>> = Arc::new(accounts.iter().map(|_| AtomicU64::new(0)).collect());
        let threads = (0..accounts.len()).map(|payer| {
            let (stop, paid, ways, accounts) =
                (Arc::clone(&stop), Arc::clone(&paid), Arc::clone(ways), accounts.to_vec());
            std::thread::spawn(move || {
                let (mut done, mut turn) = (Vec::new(), payer);
                while !stop.load(Ordering::SeqCst) {
                    turn += 1;
                    let payee = turn % accounts.len();
                    if payee == payer {
                        continue;
                    }
                    // The same id each time: that is the rule.
                    let wish = transfer(&uuid7(), &accounts[payer], &accounts[payee], "0.01");
                    ways.pay(&wish);
                    paid[payer].fetch_add(1, Ordering::SeqCst);
                    done.push(wish);
                }
                done
            })
        });
        Self { threads: threads.collect(), stop, paid }
    }

    /// Waits until every payer goes on.
    pub fn until_more(&self, more: u64) {
        let now = || self.paid.iter().map(|paid| paid.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = now();
        until("payments go on", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client gave up");
            now().iter().zip(&before).all(|(now, before)| *now >= before + more).then_some(())
        });
    }

    /// All payments that were acknowledged.
    pub fn end(self) -> Vec<Value> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// What each account has got or paid in all of these payments of 0.01, in cents.
pub fn sums(paid: &[Value]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for wish in paid {
        *sums.entry(wish["debit"].as_str().unwrap().to_owned()).or_default() -= 1;
        *sums.entry(wish["credit"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    sums
}
