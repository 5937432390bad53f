//! A real bank as a real process, in a temporary folder on a free port; ended and removed when the test ends.
#![expect(dead_code, reason = "each test file uses what it needs of this")]
#![expect(clippy::unwrap_used, reason = "a fixture that does not stand ends its test here")]
#![expect(unreachable_pub, reason = "read in the test files that use it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skerry_client::{Client, Error, Options, Problem};

/// The binary under test.
pub const SKERRY: &str = env!("CARGO_BIN_EXE_skerry");

/// For how long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(120);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skerry-{name}-{}-{count}", std::process::id()));
        let _gone = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A running bank.
#[derive(Debug)]
pub struct Bank {
    child: Child,
    pub data: PathBuf,
    pub server: String,
    log: PathBuf,
}

impl Bank {
    /// Starts a bank on `data` and waits until it answers.
    pub fn start(data: &Path, more: &[&str]) -> Self {
        Self::try_start(data, more).unwrap_or_else(|log| panic!("the bank did not start:\n{log}"))
    }

    /// Starts a bank; what it logged if it ended instead of answering.
    pub fn try_start(data: &Path, more: &[&str]) -> Result<Self, String> {
        let running = data.join("running.json");
        let _gone = std::fs::remove_file(&running);
        let log = data.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut child = Command::new(SKERRY)
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .env_remove("SKERRY_CONFIG")
            .current_dir(data.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            if let Some(server) = announced(&running)
                && ready(&server)
            {
                return Ok(Self { child, data: data.to_owned(), server, log });
            }
            let ended = child.try_wait().unwrap().is_some();
            if ended || began.elapsed() > PATIENCE {
                let _dead = child.kill();
                let _reaped = child.wait();
                return Err(std::fs::read_to_string(&log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(10)); // between two looks, not to win a race
        }
    }

    /// A client with the operator's token.
    pub fn client(&self) -> Client {
        self.client_with(&std::fs::read_to_string(self.data.join("operator.token")).unwrap())
    }

    /// A client with `token`.
    pub fn client_with(&self, token: &str) -> Client {
        client(&self.server, token)
    }

    /// Runs the command line against this bank.
    pub fn skerry(&self, arguments: &[&str]) -> Output {
        Command::new(SKERRY)
            .args(arguments)
            .env("SKERRY_SERVER", &self.server)
            .env("SKERRY_TOKEN_FILE", self.data.join("operator.token"))
            .output()
            .unwrap()
    }

    /// kill -9.
    pub fn kill(mut self) -> PathBuf {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.data.clone()
    }

    /// SIGTERM; the bank must drain and end by itself, with success.
    pub fn stop(mut self) -> PathBuf {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a stopped bank ends with success, not {status}: {}", self.log());
        self.data.clone()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A client that asks once.
pub fn client(server: &str, token: &str) -> Client {
    let token = Some(token.trim().to_owned());
    Client::new(Options { server: server.to_owned(), token, retries: 0, ..Options::default() }).unwrap()
}

/// Looks again and again until there is what must come.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20)); // between two looks, not to win a race
    }
}

/// The server that a running process names in its `running.json`.
pub fn announced(path: &Path) -> Option<String> {
    let value: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(value["server"].as_str()?.to_owned())
}

fn ready(server: &str) -> bool {
    let client =
        Client::new(Options { server: server.to_owned(), retries: 0, ..Options::default() }).unwrap();
    block_on(async {
        client.call(hyper::Method::GET, "/healthz", None, bytes::Bytes::new(), &[]).await.is_ok()
    })
}

/// Runs one future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The problem that a call was refused with.
pub fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> Problem {
    match result {
        Err(Error::Problem(problem)) => *problem,
        other => panic!("a problem document was expected, not {other:?}"),
    }
}

/// Opens a customer and an account; its number.
pub async fn open_account(client: &Client, name: &str) -> (String, String) {
    let customer: Value = client
        .post("/v1/customers", &json!({"name": name, "document": {"kind": "test", "number": name}}))
        .await
        .unwrap();
    let id = customer["id"].as_str().unwrap().to_owned();
    let account: Value = client
        .post(&format!("/v1/customers/{id}/accounts"), &json!({"product": "current", "currency": "CNY"}))
        .await
        .unwrap();
    (id, account["number"].as_str().unwrap().to_owned())
}

/// A transfer as JSON.
pub fn transfer(id: &str, debit: &str, credit: &str, amount: &str) -> Value {
    json!({"id": id, "debit": debit, "credit": credit, "amount": {"amount": amount, "currency": "CNY"}})
}

/// A fresh UUIDv7, unique within the process.
pub fn uuid7() -> String {
    let millis = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id =
        format!("{millis:012x}7{:03x}8{:07x}{count:08x}", count & 0xfff, std::process::id() & 0xfff_ffff);
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

/// The posted balance of an account, as text.
pub async fn balance(client: &Client, number: &str) -> String {
    let account: Value = client.get(&format!("/v1/accounts/{number}")).await.unwrap();
    account["balances"]["posted"]["amount"]
        .as_str()
        .unwrap_or_else(|| panic!("no balance in {account}"))
        .to_owned()
}

/// Every row of the trial balance adds up to zero per currency.
pub async fn assert_balanced(client: &Client) {
    let answer: Value = client.get("/v1/trial-balance").await.unwrap();
    let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("no rows in {answer}"));
    let mut sums = std::collections::BTreeMap::<(u64, String), i128>::new();
    for row in rows {
        let minor = |side: &str| -> i128 {
            row[side]["amount"]
                .as_str()
                .unwrap_or_else(|| panic!("no {side} in {row}"))
                .replace('.', "")
                .parse()
                .unwrap()
        };
        let currency = row["debits"]["currency"].as_str().unwrap().to_owned();
        *sums.entry((row["branch"].as_u64().unwrap_or(0), currency)).or_default() +=
            minor("debits") - minor("credits");
    }
    assert!(!rows.is_empty(), "an empty trial balance proves nothing");
    assert!(sums.values().all(|sum| *sum == 0), "the trial balance does not sum to zero: {sums:?}");
}
