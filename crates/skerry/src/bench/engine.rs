//! `skerry bench engine`: a branch in this process, without HTTP, beside the bare loop in the same run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bare::Bare;
use super::batch::{Field, Generator, fill_funding};
use super::founding::{BRANCH, Engine, all_accepted, renminbi};
use super::machine::{Contention, Machine, Watch, lies_in_memory, usage};
use super::picks::{Picks, Skew};
use super::process::Folder;
use super::random::{Random, now_millis};
use super::stages::{Stages, measure};
use super::stats::{median, ratio};

/// Measure a branch in this process beside the bare loop
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EngineArgs {
    /// Folder on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// Customer accounts to open
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=5_000_000))]
    accounts: u32,
    /// Transfers to make, by each
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    transfers: u64,
    /// Transfers in a batch
    #[arg(long, default_value_t = 8_189, value_parser = clap::value_parser!(u32).range(1..=8_189))]
    batch: u32,
    /// Batches under way
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    window: u32,
    /// How accounts are chosen: uniform, zipf or zipf=EXPONENT
    #[arg(long, default_value = "uniform")]
    skew: Skew,
    /// Turns of the branch and of the bare loop
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Chooses accounts and amounts
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the engine and the bare loop did.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Report {
    kind: String,
    version: String,
    machine: Machine,
    accounts: u32,
    transfers: u64,
    batch: u32,
    window: u32,
    skew: String,
    rounds: Vec<Round>,
    /// Nanoseconds a transfer, each stage by itself on one thread.
    stages_ns: Stages,
    /// Of the engine's throughput to the bare loop's, round by round.
    ratio: Option<f64>,
    durability: String,
    counted: String,
}

/// Both in turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Round {
    engine_per_second: f64,
    /// Of this process, the making of the transfers with it.
    engine_cpu_seconds_per_million: f64,
    bare_per_second: f64,
    contention: Contention,
}

/// Runs the rounds and prints the report.
///
/// # Errors
///
/// A transfer that was refused, a disk that fails, or a folder in memory (after the report).
pub(crate) fn run(args: EngineArgs, json: bool) -> anyhow::Result<()> {
    let machine = Machine::here(&args.folder)?;
    let in_memory = lies_in_memory(&machine.file_system);
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        let watch = Watch::start();
        let before = usage(std::process::id()).unwrap_or_default().cpu_seconds;
        let (engine_per_second, spent) = engine(&args)?;
        let bare_per_second = bare(&args)?;
        let own = usage(std::process::id()).unwrap_or_default().cpu_seconds - before;
        rounds.push(Round {
            engine_per_second,
            engine_cpu_seconds_per_million: spent / args.transfers as f64 * 1e6,
            bare_per_second,
            contention: watch.contention(own),
        });
    }
    let folder = folder(&args)?;
    let batches = args.transfers.div_ceil(u64::from(args.batch));
    let stages = measure(folder.path(), args.accounts, generator(&args)?, args.batch as usize, batches)?;
    let ratio =
        median(rounds.iter().filter_map(|r| ratio(Some(r.engine_per_second), Some(r.bare_per_second))));
    let report = Report {
        kind: "engine".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        accounts: args.accounts,
        transfers: args.transfers,
        batch: args.batch,
        window: args.window,
        skew: args.skew.to_string(),
        rounds,
        stages_ns: stages,
        ratio,
        durability: "both sync every batch; the branch overlaps that with the next batch".to_owned(),
        counted:
            "the branch: from the first batch sent to the last answered; the bare loop: its own time alone"
                .to_owned(),
    };
    super::print(&report, &report.text(), json)?;
    ensure!(!in_memory, "the run is void: the data lies in memory");
    Ok(())
}

/// A folder for one turn.
fn folder(args: &EngineArgs) -> anyhow::Result<Folder> {
    Folder::new(&args.folder, "skerry-bench-engine", false)
}

fn generator(args: &EngineArgs) -> anyhow::Result<Generator> {
    let picks = Picks::new(args.accounts, args.skew, &mut Random::new(args.seed))?;
    let field = Field {
        branch: BRANCH,
        references: references(args.accounts),
        numbers: Vec::new(),
        picks,
        pending: 0,
        crossing: 0,
        abroad: Arc::default(),
        dressed: false,
    };
    Ok(Generator::new(Arc::new(field), args.seed ^ now_millis() << 20))
}

fn references(accounts: u32) -> Vec<u64> {
    (1..=u64::from(accounts)).map(|serial| u64::from(BRANCH) << 48 | serial).collect()
}

/// Transfers a second, and CPU seconds of this process meanwhile.
fn engine(args: &EngineArgs) -> anyhow::Result<(f64, f64)> {
    let folder = folder(args)?;
    let engine = Engine::open(folder.path())?;
    engine.found(args.accounts)?;
    fund(&engine, args.accounts)?;
    let mut generator = generator(args)?;
    let before = usage(std::process::id()).context("could not look at this process")?;
    let started = Instant::now();
    let (mut left, mut under_way, mut accepted) = (args.transfers, 0, 0);
    while left > 0 || under_way > 0 {
        while left > 0 && under_way < args.window {
            let count = left.min(u64::from(args.batch));
            let mut body = Vec::new();
            generator.fill_packed(count as usize, now_millis(), &mut body);
            engine.send(Bytes::from(body))?;
            left -= count;
            under_way += 1;
        }
        accepted += engine.accepted()?;
        under_way -= 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = usage(std::process::id()).context("could not look at this process")?;
    engine.close();
    all_accepted(accepted, args.transfers)?;
    Ok((accepted as f64 / seconds, after.cpu_seconds - before.cpu_seconds))
}

fn fund(engine: &Engine, accounts: u32) -> anyhow::Result<()> {
    let cash = skerry_ledger::AccountRef::head(BRANCH, 1001, renminbi()).0;
    let mut random = Random::new(now_millis());
    for credits in references(accounts).chunks(8_000) {
        let mut body = Vec::new();
        fill_funding(&mut random, cash, credits, 1_000_000_000_000, &mut body);
        engine.send(Bytes::from(body))?;
        all_accepted(engine.accepted()?, credits.len() as u64)?;
    }
    Ok(())
}

fn bare(args: &EngineArgs) -> anyhow::Result<f64> {
    let folder = folder(args)?;
    let mut bare = Bare::new(folder.path(), args.accounts, args.transfers)?;
    let mut generator = generator(args)?;
    let (mut left, mut body) = (args.transfers, Vec::new());
    while left > 0 {
        let count = left.min(u64::from(args.batch));
        generator.fill_packed(count as usize, now_millis(), &mut body);
        bare.batch(&body)?;
        left -= count;
    }
    ensure!(bare.balances() && bare.transfers() == args.transfers, "the bare loop does not balance");
    Ok(args.transfers as f64 / bare.spent.as_secs_f64())
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "machine     {} cores of {}, {} GiB, {}\n",
            self.machine.cores, self.machine.processor, self.machine.memory_gib, self.machine.file_system
        );
        for round in &self.rounds {
            text.push_str(&format!(
                "engine      {:.0} transfers/s, {:.2} CPU s a million; bare loop {:.0}; load {:.2} before, {:.2} after, \
                 others {:.1} %\n",
                round.engine_per_second,
                round.engine_cpu_seconds_per_million,
                round.bare_per_second,
                round.contention.load_before,
                round.contention.load_after,
                round.contention.others_share * 100.0
            ));
        }
        let stages = &self.stages_ns;
        for (name, nanos) in [
            ("decode", stages.decode),
            ("decide, evolve", stages.decide_evolve),
            ("encode", stages.encode),
            ("ids", stages.ids),
            ("leaf hashes", stages.leaf_hashes),
            ("root", stages.root),
            ("append, sync", stages.append),
        ] {
            text.push_str(&format!("{name:<14} {nanos:>8.1} ns a transfer\n"));
        }
        let ratio = self.ratio.map_or_else(|| "unknown".to_owned(), |ratio| format!("{ratio:.2}"));
        text.push_str(&format!("ratio       {ratio} of the bare loop\n"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_bare_loop_and_stages_do_the_same_work() {
        let args = EngineArgs {
            folder: std::env::temp_dir(),
            accounts: 50,
            transfers: 1_000,
            batch: 300,
            window: 2,
            skew: Skew::Zipf(1.0),
            rounds: 1,
            seed: 1,
        };
        let (per_second, _) = engine(&args).unwrap();
        assert!(per_second > 0.0 && bare(&args).unwrap() > 0.0);
        let folder = folder(&args).unwrap();
        let stages = measure(folder.path(), args.accounts, generator(&args).unwrap(), 300, 4).unwrap();
        assert!(stages.decide_evolve > 0.0 && stages.leaf_hashes > 0.0 && stages.append > 0.0, "{stages:?}");
    }
}
