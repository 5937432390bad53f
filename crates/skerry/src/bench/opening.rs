//! `skerry bench open`: how soon a bank is back after it was killed, and what a snapshot costs those who wait meanwhile.
//!
//! Three questions, each to a bank of its own: replay of everything since the last snapshot; a fresh snapshot of all
//! accounts and its short tail; the latency of batches with and without snapshots being taken beside them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bank::{Bank, Ending};
use super::disk::Disk;
use super::lane::Lane;
use super::load::{Loaded, Plan, load};
use super::machine::{Contention, Machine, Watch, lies_in_memory, usage};
use super::setup::{Wanted, check_trial_balance, open_accounts};
use super::stats::{Latency, median};

/// More records than any run makes: no snapshot is taken.
const NEVER: u64 = 1 << 40;
/// How long a snapshot may take to be written once it is due.
const SNAPSHOT_MAX: Duration = Duration::from_secs(120);

/// Kill banks and see how soon they are back; take snapshots under load
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OpenArgs {
    /// Folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// Transfers to replay, and to load beside snapshots
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10..))]
    transfers: u64,
    /// Accounts of the bank that is replayed from its first record
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    accounts: u32,
    /// Accounts of the bank that takes snapshots
    #[arg(long, value_name = "ACCOUNTS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    snapshot_accounts: u32,
    /// Ask only this
    #[arg(long, value_enum, value_name = "QUESTION")]
    only: Option<Question>,
    /// Turns of each question
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Chooses accounts and amounts
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Question {
    /// How soon a bank is back that replays all it has
    Replay,
    /// How soon a bank is back from a snapshot
    Snapshot,
    /// What those who wait meanwhile feel of snapshots
    Stall,
}

/// All answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Report {
    kind: String,
    version: String,
    machine: Machine,
    accounts: u32,
    snapshot_accounts: u32,
    transfers: u64,
    rounds: Vec<Round>,
    medians: Medians,
    durability: String,
    counted: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Round {
    replay: Option<Back>,
    snapshot: Option<Back>,
    stall: Option<Stall>,
    contention: Contention,
}

/// A bank that was killed and came back.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Back {
    /// From the start of the process to its first *ready*.
    ready_seconds: f64,
    /// Of the whole process until then.
    cpu_seconds: f64,
    /// Records after the last snapshot, which were decoded and evolved again.
    replayed: u64,
    /// Of the snapshots on disk.
    snapshot_bytes: u64,
}

/// Latencies of batches at full load.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stall {
    without_ms: Latency,
    with_ms: Latency,
    /// Taken meanwhile.
    snapshots: u64,
    transfers_per_second_without: f64,
    transfers_per_second_with: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Medians {
    replay_ready_seconds: Option<f64>,
    snapshot_ready_seconds: Option<f64>,
    /// The slowest batch of the middle run with snapshots less that of the middle run without: one run's slowest batch is
    /// mostly the machine's doing.
    slowest_later_by_ms: Option<f64>,
    p99_later_by_ms: Option<f64>,
}

/// Runs it and prints the report.
///
/// # Errors
///
/// A bank that lost something or does not come back; a folder in memory (after the report).
pub(crate) fn run(args: OpenArgs, json: bool) -> anyhow::Result<()> {
    let machine = Machine::here(&args.folder)?;
    let in_memory = lies_in_memory(&machine.file_system);
    let runtime = super::runtime()?;
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        rounds.push(runtime.block_on(one_round(&args))?);
    }
    let report = Report {
        kind: "open".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        accounts: args.accounts,
        snapshot_accounts: args.snapshot_accounts,
        transfers: args.transfers,
        medians: Medians::of(&rounds),
        rounds,
        durability: "every batch of the journal synced to disk before the replies that rest on it".to_owned(),
        counted: "killed with SIGKILL at rest; from the start of the new process to its first 200 on /readyz, asked every 5 ms"
            .to_owned(),
    };
    super::print(&report, &report.text(), json)?;
    ensure!(!in_memory, "the run is void: the data lies in memory");
    Ok(())
}

async fn one_round(args: &OpenArgs) -> anyhow::Result<Round> {
    let watch = Watch::start();
    let own = usage(std::process::id()).unwrap_or_default().cpu_seconds;
    let asked = |question| args.only.is_none_or(|only| only == question);
    let replay = if asked(Question::Replay) { Some(replay(args).await?) } else { None };
    let snapshot = if asked(Question::Snapshot) { Some(snapshot(args).await?) } else { None };
    let stall = if asked(Question::Stall) { Some(stall(args).await?) } else { None };
    let own = usage(std::process::id()).unwrap_or_default().cpu_seconds - own;
    let of_banks: f64 = [
        replay.as_ref().map(|told| told.1),
        snapshot.as_ref().map(|told| told.1),
        stall.as_ref().map(|told| told.1),
    ]
    .into_iter()
    .flatten()
    .sum();
    let contention = watch.contention(own + of_banks);
    Ok(Round {
        replay: replay.map(|told| told.0),
        snapshot: snapshot.map(|told| told.0),
        stall: stall.map(|told| told.0),
        contention,
    })
}

/// A bank with `accounts` in it that takes a snapshot every `records`.
async fn loaded(args: &OpenArgs, accounts: u32, records: u64) -> anyhow::Result<(Bank, Loaded)> {
    let configuration = format!("[branch]\nsnapshot_records = {records}\n");
    let bank = Bank::start_with(&args.folder, 1, false, Some(&configuration)).await?;
    // A day's idempotency keys are bounded, and each customer needs one.
    let accounts_per_customer = accounts.div_ceil(10_000).max(1);
    let wanted = Wanted { accounts_per_customer, ..Wanted::plain(accounts, args.seed) };
    let fields = open_accounts(&bank, wanted).await?;
    let loaded = load(Plan { transfers: args.transfers, ..Plan::of(&bank, fields, args.seed) }).await?;
    loaded.check_all_accepted()?;
    Ok((bank, loaded))
}

/// Everything since the first record is replayed. Also says what CPU the banks took.
async fn replay(args: &OpenArgs) -> anyhow::Result<(Back, f64)> {
    let (bank, _) = loaded(args, args.accounts, NEVER).await?;
    back(bank).await
}

/// The snapshot is of the last batch but few; what came after is replayed.
async fn snapshot(args: &OpenArgs) -> anyhow::Result<(Back, f64)> {
    // An account and its funding are two records; the snapshot falls due shortly before the load ends.
    let due = u64::from(args.snapshot_accounts) * 2 + args.transfers / 20 * 19;
    let (bank, _) = loaded(args, args.snapshot_accounts, due.max(1_000)).await?;
    let asked = Instant::now();
    while metric(&bank, "skerry_branch_snapshots_total").await? == 0 {
        ensure!(asked.elapsed() < SNAPSHOT_MAX, "the bank took no snapshot");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    back(bank).await
}

async fn back(mut bank: Bank) -> anyhow::Result<(Back, f64)> {
    let spent = bank.usage().unwrap_or_default().cpu_seconds;
    let before = totals(&bank).await?;
    let took = bank.restart(Ending::Kill, || Ok(())).await?;
    let cpu_seconds = bank.usage().unwrap_or_default().cpu_seconds;
    let after = totals(&bank).await?;
    ensure!(before == after, "the bank came back with another trial balance: {before} and then {after}");
    let replayed = metric(&bank, "skerry_branch_replayed_records").await?;
    let snapshot_bytes =
        bank.data.as_deref().map(Disk::of).transpose()?.map_or(0, |disk| disk.snapshots.written);
    bank.stop().await?;
    Ok((
        Back { ready_seconds: took.as_secs_f64(), cpu_seconds, replayed, snapshot_bytes },
        spent + cpu_seconds,
    ))
}

/// The same load on two banks, of which one takes snapshots all the time.
async fn stall(args: &OpenArgs) -> anyhow::Result<(Stall, f64)> {
    let (bank, without) = loaded(args, args.snapshot_accounts, NEVER).await?;
    let mut spent = bank.usage().unwrap_or_default().cpu_seconds;
    bank.stop().await?;
    let often = (args.transfers / 8).max(1_000);
    let (bank, with) = loaded(args, args.snapshot_accounts, often).await?;
    let snapshots = metric(&bank, "skerry_branch_snapshots_total").await?;
    spent += bank.usage().unwrap_or_default().cpu_seconds;
    bank.stop().await?;
    ensure!(snapshots > 0, "the bank took no snapshot");
    let rate = |loaded: &Loaded| loaded.accepted as f64 / loaded.elapsed.as_secs_f64();
    let stall = Stall {
        without_ms: without.latencies.summary().context("nothing was asked")?,
        with_ms: with.latencies.summary().context("nothing was asked")?,
        snapshots,
        transfers_per_second_without: rate(&without),
        transfers_per_second_with: rate(&with),
    };
    Ok((stall, spent))
}

async fn totals(bank: &Bank) -> anyhow::Result<Value> {
    let trial = bank.client()?.get("/v1/trial-balance").await.context("could not read the trial balance")?;
    check_trial_balance(&trial)?;
    Ok(trial["totals"].clone())
}

/// The sum of a metric over all branches.
async fn metric(bank: &Bank, name: &str) -> anyhow::Result<u64> {
    let mut lane = Lane::open(&bank.authority).await?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
        bank.authority, bank.token
    );
    let answer = lane.exchange(request.as_bytes(), b"").await.context("could not read the metrics")?;
    sum_of(&String::from_utf8_lossy(answer.body), name)
        .with_context(|| format!("the bank does not tell {name}"))
}

fn sum_of(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<u64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

impl Medians {
    fn of(rounds: &[Round]) -> Self {
        let back = |of: fn(&Round) -> Option<&Back>| {
            median(rounds.iter().filter_map(of).map(|back| back.ready_seconds))
        };
        let stalls = || rounds.iter().filter_map(|round| round.stall.as_ref());
        let later = |of: fn(Latency) -> f64| {
            let with = median(stalls().map(|stall| of(stall.with_ms)))?;
            Some(with - median(stalls().map(|stall| of(stall.without_ms)))?)
        };
        Self {
            replay_ready_seconds: back(|round| round.replay.as_ref()),
            snapshot_ready_seconds: back(|round| round.snapshot.as_ref()),
            slowest_later_by_ms: later(|latency| latency.max),
            p99_later_by_ms: later(|latency| latency.p99),
        }
    }

    fn text(&self) -> String {
        let seconds =
            [("after replay", self.replay_ready_seconds), ("from a snapshot", self.snapshot_ready_seconds)];
        let later = [("slowest batch", self.slowest_later_by_ms), ("p99", self.p99_later_by_ms)];
        let seconds = seconds.into_iter().filter_map(|(name, value)| Some(format!("{name} {:.2} s", value?)));
        let later =
            later.into_iter().filter_map(|(name, value)| Some(format!("{name} {:.1} ms later", value?)));
        let all: Vec<String> = seconds.chain(later).collect();
        format!("medians     {}\n", all.join(", "))
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "machine     {} cores of {}, {} GiB, {}\nwork        {} transfers; {} accounts replayed, {} in snapshots\n",
            self.machine.cores,
            self.machine.processor,
            self.machine.memory_gib,
            self.machine.file_system,
            self.transfers,
            self.accounts,
            self.snapshot_accounts,
        );
        for round in &self.rounds {
            text.push_str(&round.text());
        }
        text.push_str(&self.medians.text());
        text
    }
}

impl Round {
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, back) in [("replay", &self.replay), ("snapshot", &self.snapshot)] {
            let Some(back) = back else { continue };
            text.push_str(&format!(
                "{name:<11} ready after {:.2} s ({:.2} CPU s), {} records replayed, snapshots {} bytes\n",
                back.ready_seconds, back.cpu_seconds, back.replayed, back.snapshot_bytes
            ));
        }
        if let Some(stall) = &self.stall {
            text.push_str(&stall.text());
        }
        let contention = &self.contention;
        text.push_str(&format!(
            "load        {:.2} before, {:.2} after, others {:.1} %\n",
            contention.load_before,
            contention.load_after,
            contention.others_share * 100.0
        ));
        text
    }
}

impl Stall {
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, latency, rate) in [
            ("without", self.without_ms, self.transfers_per_second_without),
            ("with", self.with_ms, self.transfers_per_second_with),
        ] {
            text.push_str(&format!(
                "{name:<11} {rate:.0} transfers/s, batches p50 {:.1} p99 {:.1} p99.9 {:.1} max {:.1} ms\n",
                latency.p50,
                latency.p99,
                latency.p999.unwrap_or_default(),
                latency.max
            ));
        }
        text.push_str(&format!("snapshots   {} taken meanwhile\n", self.snapshots));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_branches_and_never_taken_for_another() {
        let text = "# TYPE a counter\na{branch=\"1\"} 3\na{branch=\"2\"} 4\na_more{branch=\"1\"} 100\nb 9\n";
        assert_eq!(sum_of(text, "a"), Some(7));
        assert_eq!(sum_of(text, "b"), Some(9));
        assert_eq!(sum_of(text, "c"), None);
    }
}
