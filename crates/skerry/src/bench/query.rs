//! `skerry bench query`: how long questions about history take, while the bank goes on working.
//!
//! Transfers here have a reference each and some a value date in the past, so that there is something to find.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bank::{Bank, Ending};
use super::batch::Field;
use super::lane::Lane;
use super::load::{Background, Loaded, Plan, load, problem_text};
use super::machine::{Contention, Machine, Watch, lies_in_memory};
use super::random::{Random, now_millis};
use super::setup::{Wanted, check_trial_balance, open_accounts};
use super::stats::{Latencies, Latency};

/// Where Linux takes the order to forget what it read (proc(5)).
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// Entries asked for.
const ENTRIES: usize = 100;

/// Load a bank, then ask it about its history
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct QueryArgs {
    /// Folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// Customer accounts to open
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    accounts: u32,
    /// Accounts of each customer
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    accounts_per_customer: u32,
    /// Transfers to make before the first question
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    transfers: u64,
    /// Questions of each kind
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    queries: u32,
    /// Connections that go on loading packed batches while questions are asked; 0 for a bank at rest
    #[arg(long, default_value_t = 2)]
    load_connections: usize,
    /// Restart the bank and empty the machine's file cache before the questions (needs root); without load
    #[arg(long)]
    cold: bool,
    /// Chooses accounts and amounts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave the bank's folder where it is
    #[arg(long)]
    keep: bool,
}

/// What was asked and how long it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Report {
    kind: String,
    version: String,
    machine: Machine,
    accounts: u32,
    transfers: u64,
    cold: bool,
    /// Of a restart, from the process's start to its being ready, when `cold`.
    ready_after_seconds: Option<f64>,
    /// Transfers a second that were loaded meanwhile.
    load_transfers_per_second: Option<f64>,
    questions: Vec<Question>,
    trial_balance: String,
    contention: Contention,
    counted: String,
}

/// One kind of question.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Question {
    name: String,
    count: u64,
    latency_ms: Latency,
}

/// Runs it and prints the report.
///
/// # Errors
///
/// A bank that fails, an answer that is wrong, or a folder in memory (after the report).
pub(crate) fn run(args: QueryArgs, json: bool) -> anyhow::Result<()> {
    let machine = Machine::here(&args.folder)?;
    let in_memory = lies_in_memory(&machine.file_system);
    let report = super::runtime()?.block_on(measure(&args, machine))?;
    super::print(&report, &report.text(), json)?;
    ensure!(!in_memory, "the run is void: the data lies in memory");
    Ok(())
}

async fn measure(args: &QueryArgs, machine: Machine) -> anyhow::Result<Report> {
    let mut bank = Bank::start(&args.folder, 1, args.keep).await?;
    let accounts_per_customer = args.accounts_per_customer;
    let wanted = Wanted { accounts_per_customer, dressed: true, ..Wanted::plain(args.accounts, args.seed) };
    let fields = open_accounts(&bank, wanted).await?;
    let field = Arc::clone(fields.first().context("the bank opened no account")?);
    let plan = |bank: &Bank| Plan::of(bank, fields.clone(), args.seed);
    let loaded = load(Plan { transfers: args.transfers, ..plan(&bank) }).await?;
    loaded.check_all_accepted()?;
    let mut ready_after_seconds = None;
    if args.cold {
        ready_after_seconds = Some(bank.restart(Ending::Stop, forget_files).await?.as_secs_f64());
    }
    let watch = Watch::start();
    let before = bank.cpu_seconds_with_ours();
    let wanted = args.load_connections > 0 && !args.cold;
    let background =
        wanted.then(|| Background::start(Plan { connections: args.load_connections, ..plan(&bank) }));
    let mut asker = Asker::new(&bank, field, args.seed).await?;
    let questions = asker.all(args.queries, &loaded.remembered).await;
    let loaded = background.map(Background::finish);
    let (questions, loaded) = (questions?, loaded.transpose()?);
    loaded.as_ref().map(Loaded::check_all_accepted).transpose()?;
    let contention = watch.contention(bank.cpu_seconds_with_ours() - before);
    let trial: Value =
        bank.client()?.get("/v1/trial-balance").await.context("could not read the trial balance")?;
    check_trial_balance(&trial)?;
    bank.stop().await?;
    Ok(Report {
        kind: "query".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        accounts: args.accounts,
        transfers: args.transfers,
        cold: args.cold,
        ready_after_seconds,
        load_transfers_per_second: loaded.map(|loaded| loaded.accepted as f64 / loaded.elapsed.as_secs_f64()),
        questions,
        trial_balance: "zero".to_owned(),
        contention,
        counted: "one question after another over one connection, from before it is sent to its whole answer"
            .to_owned(),
    })
}

/// Makes the machine forget the files it has read.
fn forget_files() -> anyhow::Result<()> {
    rustix::fs::sync();
    std::fs::write(Path::new(DROP_CACHES), "3").context("could not empty the file cache: --cold needs root")
}

/// Asks, over one connection.
struct Asker {
    lane: Lane,
    authority: String,
    token: String,
    field: Arc<Field>,
    random: Random,
}

impl Asker {
    async fn new(bank: &Bank, field: Arc<Field>, seed: u64) -> anyhow::Result<Self> {
        let lane = Lane::open(&bank.authority).await?;
        let (authority, token) = (bank.authority.clone(), bank.token.clone());
        Ok(Self { lane, authority, token, field, random: Random::new(seed) })
    }

    async fn all(&mut self, count: u32, references: &[String]) -> anyhow::Result<Vec<Question>> {
        ensure!(!references.is_empty(), "no reference was remembered");
        let year_ago = date(now_millis() / 86_400_000 - 365);
        let mut entries = Latencies::new();
        let mut balance = Latencies::new();
        let mut reference = Latencies::new();
        for number in 0..count as usize {
            let account = self.account();
            let path = format!("/v1/accounts/{account}/entries?limit={ENTRIES}");
            check_entries(&self.ask(&path, &mut entries).await?)?;
            let path = format!("/v1/accounts/{account}/balance?value={year_ago}");
            let answer = self.ask(&path, &mut balance).await?;
            ensure!(answer["balance"]["amount"].is_string(), "a balance is no amount: {answer}");
            let wanted = &references[number % references.len()];
            let path = format!("/v1/transfers?branch={}&reference={wanted}", self.field.branch);
            let answer = self.ask(&path, &mut reference).await?;
            let found = answer["transfers"].as_array().map_or(0, Vec::len);
            ensure!(found == 1, "the reference {wanted} was found {found} times");
        }
        let question = |name: &str, latencies: &Latencies| -> anyhow::Result<Question> {
            let latency_ms = latencies.summary().context("nothing was asked")?;
            Ok(Question { name: name.to_owned(), count: u64::from(count), latency_ms })
        };
        Ok(vec![
            question(&format!("last {ENTRIES} entries of an account"), &entries)?,
            question("balance as of a value date a year back", &balance)?,
            question("transfer by reference", &reference)?,
        ])
    }

    fn account(&mut self) -> String {
        let count = u32::try_from(self.field.numbers.len()).unwrap_or(u32::MAX);
        let number = self.field.numbers[self.random.below(count) as usize];
        String::from_utf8_lossy(&number).into_owned()
    }

    async fn ask(&mut self, path: &str, latencies: &mut Latencies) -> anyhow::Result<Value> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
            self.authority, self.token
        );
        let started = Instant::now();
        let answer = self.lane.exchange(request.as_bytes(), b"").await?;
        latencies.record(started.elapsed());
        ensure!(answer.status == 200, "the bank refused GET {path}: {}", problem_text(&answer));
        serde_json::from_slice(answer.body)
            .with_context(|| format!("could not read the answer to GET {path}"))
    }
}

/// Each line's balance is the older one's plus or minus its own amount; newest first.
fn check_entries(page: &Value) -> anyhow::Result<()> {
    let lines = page["entries"].as_array().context("a statement has no entries")?;
    ensure!(!lines.is_empty(), "an account that was funded has no entries");
    for pair in lines.windows(2) {
        let (newer, older) = (&pair[0], &pair[1]);
        let moved =
            if newer["side"] == "credit" { minor(&newer["amount"])? } else { -minor(&newer["amount"])? };
        let fits = minor(&older["balance"])? + moved == minor(&newer["balance"])?;
        ensure!(fits, "running balances do not follow from each other: {older} and then {newer}");
    }
    Ok(())
}

/// Minor units of an amount with its decimals.
fn minor(money: &Value) -> anyhow::Result<i128> {
    let text = money["amount"].as_str().context("an amount is no text")?;
    text.replace('.', "").parse().with_context(|| format!("an amount is no number: {text}"))
}

/// `YYYY-MM-DD` of a day since 1970.
fn date(days: u64) -> String {
    i32::try_from(days).map_or_else(|_| String::new(), |days| skerry_money::Date(days).to_string())
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "machine     {} cores of {}, {} GiB, {}\nwork        {} transfers over {} accounts, {}\n",
            self.machine.cores,
            self.machine.processor,
            self.machine.memory_gib,
            self.machine.file_system,
            self.transfers,
            self.accounts,
            match (self.cold, self.load_transfers_per_second) {
                (true, _) => "cold cache".to_owned(),
                (false, Some(rate)) => format!("while {rate:.0} transfers/s were loaded"),
                (false, None) => "at rest".to_owned(),
            }
        );
        for question in &self.questions {
            let latency = question.latency_ms;
            text.push_str(&format!(
                "{:<40} p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms\n",
                question.name,
                latency.p50,
                latency.p99,
                latency.p999.unwrap_or_default(),
                latency.max
            ));
        }
        text.push_str(&format!(
            "load        {:.2} before, {:.2} after, others {:.1} %\n",
            self.contention.load_before,
            self.contention.load_after,
            self.contention.others_share * 100.0
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn running_balances_are_checked() {
        let line = |side: &str, amount: &str, balance: &str| json!({"side": side, "amount": {"amount": amount}, "balance": {"amount": balance}});
        let good = json!({"entries": [line("debit", "2.50", "-1.00"), line("credit", "1.50", "1.50")]});
        check_entries(&good).unwrap();
        let bad = json!({"entries": [line("credit", "2.50", "-1.00"), line("credit", "1.50", "1.50")]});
        assert!(check_entries(&bad).is_err());
        assert!(check_entries(&json!({"entries": []})).is_err());
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(date(20_454), "2026-01-01");
    }
}
