//! `skerry bench bank`: a whole bank under the hands of many clients, while things happen to it.
//!
//! Clients pay, within a branch and to another one, look at statements and open customers; chaos stops, kills and starts the
//! bank's processes meanwhile. Nobody sees more of it than *busy* and *try again*. At the end every promise is checked
//! ([`check`]) against what the clients were told.

mod chaos;
mod check;
mod client;
mod pressed;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use skerry_client::{Client, Error, Options};

use self::chaos::{Blow, Chaos};
use self::check::Finding;
use self::client::{Paid, Worker};
use self::pressed::Pressed;
use super::bank::Bank;
use super::machine::Machine;
use super::process::PATIENCE;
use super::random::{Random, now_millis};
use super::setup::{Wanted, open_accounts};
use super::stats::{Latencies, Latency};

/// How long one attempt of a client may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Yuan in each account; clients ask for more than that once in a while.
const FUNDS: u64 = 1_000_000;

/// Press a whole bank from many clients, let things happen to it, and check every promise
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BankArgs {
    /// A bank that runs already, http://host:port; left out, one of our own is started and removed after
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with_all = ["chaos", "keep", "nodes"])]
    server: Option<String>,
    /// File with a token of an operator of that bank
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// Folder on the disk for a bank of our own
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// Branches of a bank of our own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    branches: u16,
    /// Nodes of a bank of our own: it is founded over the stores and the bus of --config, with a gateway; left out, it is one process
    #[arg(long, requires = "config", value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: Option<u16>,
    /// What a bank of nodes is configured with; its database must be empty, and is left with what the run wrote
    #[arg(long, value_name = "FILE", requires = "nodes")]
    config: Option<PathBuf>,
    /// Customers to begin with, an account each
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    customers: u32,
    /// Accounts that lie there besides, with money, and rest
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    resting: u32,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// How long they press
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Share of payments that go to another branch
    #[arg(long, default_value_t = 0.5)]
    crossing: f64,
    /// What happens meanwhile, in turns
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    chaos: Vec<Chaos>,
    /// A command that does something else to it and mends it again; may be given several times
    #[arg(long, value_name = "COMMAND")]
    chaos_command: Vec<String>,
    /// Seconds from the end of one to the beginning of the next
    #[arg(long, default_value_t = 5.0)]
    chaos_every: f64,
    /// Chooses accounts, amounts and what is asked
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave the bank's folder where it is
    #[arg(long)]
    keep: bool,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Payment,
    Statement,
    Opening,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Payment, Self::Statement, Self::Opening];

    const fn name(self) -> &'static str {
        match self {
            Self::Payment => "payments",
            Self::Statement => "statements",
            Self::Opening => "openings",
        }
    }
}

/// An account that may be paid from and to.
#[derive(Debug, Clone)]
struct Known {
    number: String,
    branch: u16,
}

/// What all clients share.
struct Field {
    client: Client,
    accounts: RwLock<Vec<Known>>,
    over: AtomicBool,
    crossing: u64,
    /// Tells this run's customers from those of others.
    run: u64,
    counts: [AtomicU64; 3],
    /// Attempts that were told to come again, or got no answer, by what they were told.
    again: Mutex<BTreeMap<String, u64>>,
    latencies: Mutex<[Latencies; 3]>,
    /// By the payer's branch, when somebody was last told of a payment's end, and the longest time that nobody was.
    told: Mutex<BTreeMap<u16, (Instant, Duration)>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Field {
    fn new(client: Client, args: &BankArgs) -> Self {
        Self {
            client,
            accounts: RwLock::default(),
            over: AtomicBool::new(false),
            crossing: (args.crossing.clamp(0.0, 1.0) * 4_294_967_296.0) as u64,
            run: Random::new(args.seed ^ now_millis()).next(),
            counts: Default::default(),
            again: Mutex::default(),
            latencies: Mutex::new([Latencies::new(), Latencies::new(), Latencies::new()]),
            told: Mutex::default(),
        }
    }

    /// Notes that a request was answered.
    fn done(&self, kind: Kind, began: Instant) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        held(&self.latencies)[kind as usize].record(began.elapsed());
    }

    /// Notes that somebody was told of the end of a payment from this branch.
    fn told_by(&self, branch: u16) {
        let now = Instant::now();
        let mut told = held(&self.told);
        let (last, silence) = told.entry(branch).or_insert((now, Duration::ZERO));
        *silence = (*silence).max(now.duration_since(*last));
        *last = now;
    }

    /// Waits until every branch that ever paid has paid after `since`.
    async fn until_all_told(&self, since: Instant) -> anyhow::Result<()> {
        loop {
            let silent =
                held(&self.told).iter().find(|(_, (last, _))| *last <= since).map(|(branch, _)| *branch);
            let Some(branch) = silent else { return Ok(()) };
            ensure!(since.elapsed() < PATIENCE, "branch {branch} has paid nothing for {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How long ago the branch that is silent for the longest was heard, and the longest silence of any.
    fn silence(&self) -> (Duration, Duration) {
        let told = held(&self.told);
        let now = told.values().map(|(last, _)| last.elapsed()).max().unwrap_or_default();
        (now, told.values().map(|(_, silence)| *silence).max().unwrap_or_default())
    }

    /// Notes that a client tries again.
    fn tries_again(&self, kind: Kind, told: &Error) {
        let told = match told {
            Error::Problem(problem) => problem.code.as_str(),
            Error::TimedOut(_) => "no answer in time",
            _ => "no answer",
        };
        *held(&self.again).entry(format!("{}: {told}", kind.name())).or_default() += 1;
    }

    fn tried_again(&self) -> u64 {
        held(&self.again).values().sum()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    version: &'static str,
    machine: Machine,
    clients: u16,
    branches: u16,
    /// Accounts that lay there besides.
    resting: u32,
    /// Processes that host them; none if one process is the bank.
    nodes: Option<u16>,
    seconds: f64,
    work: Vec<Work>,
    /// Payments that a rule of the ledger refused, as they had to be.
    refused: u64,
    /// Attempts that were told to come again, or got no answer.
    tried_again: u64,
    /// The same by what they were told.
    told_to_try_again: BTreeMap<String, u64>,
    /// The longest time in which no client was told of a payment from some branch, in milliseconds.
    longest_silence_ms: f64,
    chaos: Vec<Blow>,
    checks: Vec<Finding>,
}

/// Requests of one kind.
#[derive(Debug, Serialize)]
struct Work {
    name: &'static str,
    count: u64,
    per_second: f64,
    /// From the first attempt to the answer, all attempts between included.
    latency_ms: Option<Latency>,
}

/// Runs it and prints the report.
///
/// # Errors
///
/// A bank that does not come up, a client that saw more than *try again*, or (after the report) a promise that was not kept.
pub(crate) fn run(args: BankArgs, json: bool) -> anyhow::Result<()> {
    // All on this thread, as the other drivers: the cores are the bank's.
    let report = tokio::task::LocalSet::new().block_on(&super::runtime()?, press(&args))?;
    super::print(&report, &report.text(), json)?;
    let broken: Vec<_> = report.checks.iter().filter(|finding| !finding.kept).map(|one| one.name).collect();
    ensure!(broken.is_empty(), "not kept: {}", broken.join(", "));
    Ok(())
}

async fn press(args: &BankArgs) -> anyhow::Result<Report> {
    let machine = Machine::here(&args.folder)?;
    ensure!(
        args.nodes.is_some()
            || !args.chaos.iter().any(|what| matches!(what, Chaos::Gateway | Chaos::Move | Chaos::Gather)),
        "--chaos gateway, move, gather: only a bank of several processes has a gateway and nodes to move to (--nodes)"
    );
    let mut pressed = Pressed::start(args).await?;
    if args.resting > 0 {
        let wanted = Wanted { accounts_per_customer: 100, ..Wanted::plain(args.resting, args.seed) };
        open_accounts(pressed.face(), wanted).await?;
    }
    let field = Arc::new(Field::new(patient(pressed.face())?, args));
    let workers = Worker::all(&field, args.clients, args.seed);
    let workers = client::open_all(workers, args.customers).await?;
    held(&field.told).clear();
    held(&field.again).clear();
    field.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    held(&field.latencies).iter_mut().for_each(|one| *one = Latencies::new());

    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for worker in workers {
        running.spawn_local(worker.run());
    }
    let view = tokio::spawn(view::show(Arc::clone(&field), Duration::from_secs_f64(args.seconds)));
    let end = tokio::time::Instant::now() + Duration::from_secs_f64(args.seconds);
    let chaos = chaos::happen(&mut pressed, &field, args, end).await?;
    tokio::time::sleep_until(end).await;
    field.over.store(true, Ordering::Relaxed);
    let mut paid: Vec<Paid> = Vec::new();
    while let Some(done) = running.join_next().await {
        paid.extend(done.context("a client died")??);
    }
    let seconds = began.elapsed().as_secs_f64();
    view.abort();
    let checks = check::all(&field, &paid, pressed).await?;
    Ok(report(args, machine, &field, seconds, &paid, chaos, checks))
}

/// A client that leaves trying again to us, so that it is counted.
fn patient(bank: &Bank) -> anyhow::Result<Client> {
    let server = format!("http://{}", bank.authority);
    let token = Some(bank.token.clone());
    Ok(Client::new(Options { server, token, timeout: ATTEMPT, retries: 0, ..Options::default() })?)
}

fn report(
    args: &BankArgs,
    machine: Machine,
    field: &Field,
    seconds: f64,
    paid: &[Paid],
    chaos: Vec<Blow>,
    checks: Vec<Finding>,
) -> Report {
    let latencies = held(&field.latencies);
    let work = Kind::ALL.map(|kind| Work {
        name: kind.name(),
        count: field.count(kind),
        per_second: field.count(kind) as f64 / seconds,
        latency_ms: latencies[kind as usize].summary(),
    });
    Report {
        kind: "bank",
        version: env!("CARGO_PKG_VERSION"),
        machine,
        clients: args.clients,
        branches: args.branches,
        resting: args.resting,
        nodes: args.nodes,
        seconds,
        work: work.into(),
        refused: paid.iter().filter(|paid| !paid.accepted).count() as u64,
        tried_again: field.tried_again(),
        told_to_try_again: held(&field.again).clone(),
        longest_silence_ms: field.silence().1.as_secs_f64() * 1e3,
        chaos,
        checks,
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("{} clients, {:.1} s\n", self.clients, self.seconds);
        for Work { name, count, per_second, latency_ms } in &self.work {
            text += &format!("{name:<12}{count:>9}  {per_second:>9.1}/s");
            if let Some(latency) = latency_ms {
                text += &format!(
                    "  p50 {:.1}  p99 {:.1}  slowest {:.1} ms",
                    latency.p50, latency.p99, latency.max
                );
            }
            text.push('\n');
        }
        text += &format!(
            "refused by a rule {}, tried again {}, longest silence of a branch {:.0} ms\n",
            self.refused, self.tried_again, self.longest_silence_ms
        );
        for (told, times) in &self.told_to_try_again {
            text += &format!("told to try again: {times} times {told}\n");
        }
        for blow in &self.chaos {
            text += &format!(
                "at {:>6.1} s {}: back after {:.0} ms\n",
                blow.at_seconds, blow.what, blow.back_after_ms
            );
        }
        text += &self.medians();
        for Finding { name, kept, detail } in &self.checks {
            text += &format!("{} {name}: {detail}\n", if *kept { "kept  " } else { "BROKEN" });
        }
        text
    }
}

impl Report {
    /// A line for each thing that happened several times.
    fn medians(&self) -> String {
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for blow in &self.chaos {
            times.entry(&blow.what).or_default().push(blow.back_after_ms);
        }
        let mut text = String::new();
        for (what, mut times) in times {
            times.sort_by(f64::total_cmp);
            if let [_, .., slowest] = times.as_slice() {
                let median = times[times.len() / 2];
                let count = times.len();
                text +=
                    &format!("{what}: {count} times, back after {median:.0} ms, at most {slowest:.0} ms\n");
            }
        }
        text
    }
}

/// The journals of a bank of our own, by branch, once it has stopped.
fn branch_folders(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(data.join("branches")).context("could not list the branches' folders")?;
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    folders.sort();
    Ok(folders)
}
