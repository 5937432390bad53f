//! `skerry simulate`: lives of a bank in memory, under injected faults, each decided by its seed.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use skerry_signers::answer::hex;
use skerry_sim::{Campaign, Failure, Group, Life, Report, Tally, World};

/// What is simulated.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Stage {
    /// Branches, each on a machine of its own: power cuts, bad disks, leaping clocks, restores, lost messages
    #[default]
    Bank,
    /// Nodes that have branches in turn: leases, moves, failovers, a lost directory, two buses, a standby without the last batches
    Nodes,
}

impl From<Stage> for World {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Bank => Self::Bank,
            Stage::Nodes => Self::Nodes,
        }
    }
}

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub(crate) struct SimulateArgs {
    /// What is simulated
    #[arg(long, value_enum, default_value_t = Stage::Bank)]
    world: Stage,
    /// Chooses every fault and every command; the same seed is the same run
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// Run the seeds from 1 to this one, and fail if together they leave anything unreached
    #[arg(long, value_name = "COUNT")]
    seeds: Option<u64>,
    /// Steps of each life
    #[arg(long, default_value_t = 400)]
    steps: u64,
    /// Threads for many seeds; which thread runs a seed changes nothing
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Kinds of trouble with nodes to leave out, as --shrink names them
    #[arg(long, value_delimiter = ',', value_name = "KINDS", conflicts_with = "seeds")]
    without: Vec<String>,
    /// If the seed fails, look for a smaller life that fails too: fewer steps, fewer kinds of trouble
    #[arg(long, conflicts_with = "seeds")]
    shrink: bool,
}

/// Runs one seed or many. Exit code 1 if anything did not hold.
///
/// # Errors
///
/// Only if the answer cannot be written.
pub(crate) fn run(args: &SimulateArgs, json: bool) -> anyhow::Result<ExitCode> {
    // A panic inside a simulated branch is a fault like any other; the report tells what it came to.
    std::panic::set_hook(Box::new(|_| ()));
    match args.seeds {
        Some(seeds) => {
            let campaign = skerry_sim::campaign(args.world.into(), seeds, args.steps, args.threads);
            many(&campaign, args.steps, json)
        }
        None => {
            let life =
                Life { without: args.without.clone(), ..Life::new(args.world.into(), args.seed, args.steps) };
            let ran = skerry_sim::live(&life);
            one(if args.shrink { ran.map_err(skerry_sim::shrink) } else { ran }, json)
        }
    }
}

fn one(ran: Result<Report, Failure>, json: bool) -> anyhow::Result<ExitCode> {
    match ran {
        Ok(report) => {
            let journals: Vec<String> = report.journals.iter().map(|hash| hex(hash)).collect();
            if json {
                println!(
                    "{}",
                    json!({"seed": report.seed, "steps": report.steps, "records": report.records,
                           "journals": journals, "counts": counts(&report.tally)})
                );
            } else {
                println!("seed {} passed: {} steps, {} records", report.seed, report.steps, report.records);
                for (branch, journal) in journals.iter().enumerate() {
                    println!("journal {}: {journal}", branch + 1);
                }
                print_counts(&report.tally);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) if json => {
            println!(
                "{}",
                json!({"world": failure.life.world.name(), "seed": failure.life.seed, "steps": failure.life.steps,
                       "without": failure.life.without, "step": failure.step, "branch": failure.branch,
                       "what": failure.what})
            );
            Ok(ExitCode::FAILURE)
        }
        Err(failure) => {
            println!("{failure}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn many(campaign: &Campaign, steps: u64, json: bool) -> anyhow::Result<ExitCode> {
    let zeros = campaign.tally.zeros();
    let failures: Vec<String> = campaign.failures.iter().map(ToString::to_string).collect();
    if json {
        println!(
            "{}",
            json!({"passed": campaign.passed, "failed": failures.len(), "steps": steps, "records": campaign.records,
                   "failures": failures, "never_reached": zeros, "counts": counts(&campaign.tally)})
        );
    } else {
        print_counts(&campaign.tally);
        for failure in &failures {
            println!("{failure}");
        }
        if !zeros.is_empty() {
            println!("never reached: {}", zeros.join(", "));
        }
        println!(
            "{} seeds passed, {} failed, {} records in their journals",
            campaign.passed,
            failures.len(),
            campaign.records
        );
    }
    Ok(if failures.is_empty() && zeros.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn counts(tally: &Tally) -> Value {
    let mut groups = Map::new();
    for group in Group::ALL {
        let names: Map<String, Value> =
            tally.of(group).map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
        groups.insert(group.name().to_owned(), Value::Object(names));
    }
    Value::Object(groups)
}

fn print_counts(tally: &Tally) {
    for group in Group::ALL {
        let counts: Vec<String> = tally.of(group).map(|(name, count)| format!("{name} {count}")).collect();
        println!("{}: {}", group.name(), counts.join(", "));
    }
}
