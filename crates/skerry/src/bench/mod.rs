//! `skerry bench`: what this bank does on this machine, beside what its peers do in the same run.
//!
//! Refuses to know the inside of the bank where it speaks of the whole: `ledger` and `query` go through the public
//! API, like any client.

mod bank;
mod bare;
mod batch;
mod directory;
mod disk;
mod engine;
mod flood;
mod founding;
mod lane;
mod ledger;
mod load;
mod machine;
mod nodes;
mod opening;
mod peers;
mod picks;
mod process;
mod query;
mod random;
mod report;
mod setup;
mod stages;
mod stats;
mod stress;

use anyhow::Context;

/// What to measure.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Load a bank with transfers, in turns with its peers, and print what it takes
    Ledger(Box<ledger::LedgerArgs>),
    /// Press a whole bank from many clients, let things happen to it, and check every promise
    Bank(Box<stress::BankArgs>),
    /// Find customers among millions, and open newcomers by many at once
    Directory(directory::DirectoryArgs),
    /// Flood one branch and see what those of another branch feel of it
    Flood(flood::FloodArgs),
    /// Measure a branch in this process, stage by stage, beside the bare loop
    Engine(engine::EngineArgs),
    /// Kill banks and see how soon they are back; take snapshots under load
    Open(opening::OpenArgs),
    /// Measure questions about history: entries, balances, references
    Query(query::QueryArgs),
}

/// Runs one benchmark and prints its report.
///
/// # Errors
///
/// What went wrong, or why the run is void.
pub(crate) fn run_command(command: BenchCommand, json: bool) -> anyhow::Result<()> {
    match command {
        BenchCommand::Ledger(args) => ledger::run(*args, json),
        BenchCommand::Bank(args) => stress::run(*args, json),
        BenchCommand::Directory(args) => directory::run(&args, json),
        BenchCommand::Flood(args) => flood::run(&args, json),
        BenchCommand::Engine(args) => engine::run(args, json),
        BenchCommand::Open(args) => opening::run(args, json),
        BenchCommand::Query(args) => query::run(args, json),
    }
}

/// A runtime on the calling thread.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("could not start the runtime")
}

/// Prints `report` as JSON, or its `text`.
fn print<T: serde::Serialize>(report: &T, text: &str, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report).context("could not write the report")?);
    } else {
        print!("{text}");
    }
    Ok(())
}
