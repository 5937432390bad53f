//! `skerry bench flood`: what customers of one branch feel while another branch of the same process is flooded.
//!
//! A few connections pay within the quiet branch at a steady rate, first alone and then beside each flood of the other one; latencies count
//! from the moment that a payment was due. Floods and quiet times take turns.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::bank::Bank;
use super::batch::Field;
use super::load::{Background, Mode, Plan, load};
use super::machine::{Contention, Machine, Watch, lies_in_memory};
use super::setup::{Wanted, open_accounts};
use super::stats::{Latency, median};

/// Connections of those who pay quietly.
const QUIET_CONNECTIONS: usize = 4;

/// Flood one branch and see what those of another branch feel of it
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FloodArgs {
    /// Folder on the disk for the bank
    #[arg(long, value_name = "DIR", default_value = ".", env = "SKERRY_BENCH_DIR")]
    folder: PathBuf,
    /// Payments a second within the quiet branch
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// How long each turn takes
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Connections of a flood
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Turns of each kind
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Accounts of each branch
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    accounts: u32,
    /// Chooses accounts and amounts
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What befalls the other branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    None,
    Single,
    Packed,
}

impl Flood {
    const ALL: [Self; 3] = [Self::None, Self::Single, Self::Packed];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Single => "single requests",
            Self::Packed => "packed batches",
        }
    }

    const fn mode(self) -> Option<Mode> {
        match self {
            Self::None => None,
            Self::Single => Some(Mode::Single),
            Self::Packed => Some(Mode::Packed),
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    version: &'static str,
    machine: Machine,
    rate: f64,
    seconds: f64,
    connections: u16,
    turns: Vec<Turn>,
    /// Medians of all turns.
    felt: Vec<Felt>,
    contention: Contention,
}

#[derive(Debug, Clone, Serialize)]
struct Turn {
    flood: &'static str,
    /// Of the quiet branch, from when each payment was due.
    latency_ms: Latency,
    /// That the flood got through, a second.
    flood_per_second: f64,
}

/// What the quiet branch felt of one kind of flood.
#[derive(Debug, Serialize)]
struct Felt {
    flood: &'static str,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the p99 with no flood.
    p99_ratio: f64,
    flood_per_second: f64,
}

/// Runs it and prints the report.
///
/// # Errors
///
/// A bank that fails, a payment of the quiet branch that was refused, a folder in memory (after the report).
pub(crate) fn run(args: &FloodArgs, json: bool) -> anyhow::Result<()> {
    let machine = Machine::here(&args.folder)?;
    let in_memory = lies_in_memory(&machine.file_system);
    let report = super::runtime()?.block_on(measure(args, machine))?;
    super::print(&report, &report.text(), json)?;
    ensure!(!in_memory, "the run is void: the data lies in memory");
    Ok(())
}

async fn measure(args: &FloodArgs, machine: Machine) -> anyhow::Result<Report> {
    let bank = Bank::start(&args.folder, 2, false).await?;
    let fields = open_accounts(&bank, Wanted::plain(args.accounts * 2, args.seed)).await?;
    let [quiet, flooded] = fields.as_slice() else {
        anyhow::bail!("accounts came to {} branches, two are needed", fields.len());
    };
    let watch = Watch::start();
    let before = bank.cpu_seconds_with_ours();
    let mut turns = Vec::new();
    for _ in 0..args.rounds {
        for flood in Flood::ALL {
            turns.push(turn(&bank, args, (quiet, flooded), flood).await?);
        }
    }
    let contention = watch.contention(bank.cpu_seconds_with_ours() - before);
    bank.stop().await?;
    let felt = felt(&turns)?;
    let (rate, seconds, connections) = (args.rate, args.seconds, args.connections);
    let version = env!("CARGO_PKG_VERSION");
    Ok(Report { kind: "flood", version, machine, rate, seconds, connections, turns, felt, contention })
}

async fn turn(
    bank: &Bank,
    args: &FloodArgs,
    (quiet, flooded): (&Arc<Field>, &Arc<Field>),
    flood: Flood,
) -> anyhow::Result<Turn> {
    let plan = |field: &Arc<Field>| Plan::of(bank, vec![Arc::clone(field)], args.seed);
    let connections = usize::from(args.connections);
    let background = flood.mode().map(|mode| Plan { mode, connections, ..plan(flooded) });
    let background = background.map(Background::start);
    let transfers = (args.rate * args.seconds).max(1.0) as u64;
    let (mode, connections, rate) = (Mode::Single, QUIET_CONNECTIONS, Some(args.rate));
    let paid = load(Plan { mode, connections, transfers, rate, ..plan(quiet) }).await;
    let flooding = background.map(Background::finish).transpose()?;
    let paid = paid?;
    paid.check_all_accepted()?;
    Ok(Turn {
        flood: flood.name(),
        latency_ms: paid.latencies.summary().context("nothing was paid")?,
        flood_per_second: flooding.map_or(0.0, |flood| flood.accepted as f64 / flood.elapsed.as_secs_f64()),
    })
}

fn felt(turns: &[Turn]) -> anyhow::Result<Vec<Felt>> {
    let middle = |flood: Flood, value: fn(&Turn) -> f64| {
        let own = turns.iter().filter(|turn| turn.flood == flood.name());
        median(own.map(value)).context("there was no such turn")
    };
    let alone = middle(Flood::None, |turn| turn.latency_ms.p99)?;
    let felt = |flood: Flood| {
        let p99_ms = middle(flood, |turn| turn.latency_ms.p99)?;
        Ok(Felt {
            flood: flood.name(),
            p50_ms: middle(flood, |turn| turn.latency_ms.p50)?,
            p99_ms,
            p99_ratio: p99_ms / alone,
            flood_per_second: middle(flood, |turn| turn.flood_per_second)?,
        })
    };
    Flood::ALL.into_iter().map(felt).collect()
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("one branch pays {}/s, the other one gets\n", self.rate);
        for Felt { flood, p50_ms, p99_ms, p99_ratio, flood_per_second } in &self.felt {
            text += &format!(
                "{flood:<16}{flood_per_second:>12.0} transfers/s   p50 {p50_ms:>6.2} ms   p99 {p99_ms:>6.2} ms   {p99_ratio:.2} of the p99 alone\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_felt_is_the_middle_of_all_turns_beside_the_quiet_ones() {
        let turn = |flood: Flood, p99: f64| Turn {
            flood: flood.name(),
            latency_ms: Latency { p50: p99 / 2.0, p99, p999: None, max: p99 },
            flood_per_second: 10.0,
        };
        let all = |factor: f64| Flood::ALL.map(|flood| turn(flood, factor * (flood as u8 as f64 + 1.0)));
        let felt = felt(&[all(1.0), all(9.0), all(2.0)].concat()).unwrap();
        assert_eq!(felt.iter().map(|felt| felt.p99_ratio).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        assert!(super::felt(&[turn(Flood::None, 1.0)]).is_err());
    }
}
