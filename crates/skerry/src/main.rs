//! `skerry`: the only place where the bank meets. Reads the command line, calls one module, prints what came of it.

mod archive;
mod bench;
mod buses;
mod cli;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(not(feature = "cluster"))]
#[path = "cluster/absent.rs"]
mod cluster;
mod config;
mod erasures;
mod events;
mod folder;
mod identity;
mod import;
mod keys;
mod nats;
mod offline;
mod oidc;
mod operating;
mod outlet;
mod output;
mod remote;
mod residences;
mod sample;
mod signing;
mod simulate;
mod status;
mod stores;
mod tokens;
mod traces;
mod up;
mod webhooks;

use std::process::ExitCode;

use clap::Parser;

use cli::{BranchCommand, Cli, Command, ConfigCommand, DirectoryCommand, NodeCommand};

/// The system's allocator makes a thread that frees a snapshot's pages hold up the one that books payments: its lock was
/// seen held for 90 ms. This one has no lock between threads, and is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // `{:#}` prints the whole chain on one line: what we tried, then why it failed.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let json = cli.json;
    match cli.command {
        Command::Up(args) => up::run(&args)?,
        Command::Node(args) => match args.command {
            Some(NodeCommand::List(remote)) => operating::nodes(&remote, json)?,
            Some(NodeCommand::Drain { remote, node }) => operating::drain(&remote, &node, true, json)?,
            Some(NodeCommand::Resume { remote, node }) => operating::drain(&remote, &node, false, json)?,
            None => cluster::run_node(&args)?,
        },
        Command::Gateway(args) => cluster::run_gateway(&args)?,
        Command::Identity { command } => identity::run(&command, json)?,
        Command::Down(local) => up::stop(&local)?,
        Command::Status(target) => return status::run(&target, json),
        Command::Customer { remote, command } => remote::customer(&remote, command, json)?,
        Command::Account { remote, command } => remote::account(&remote, command, json)?,
        Command::Payment { remote, command } => remote::payment(&remote, &command, json)?,
        Command::Transfer { remote, command } => remote::transfer(&remote, command, json)?,
        Command::Token { data: Some(data), command, .. } => tokens::run(&data, command, json)?,
        Command::Token { remote, command, .. } => remote::token(&remote, command, json)?,
        Command::TrialBalance { remote, date, by_value, branch } => {
            remote::trial_balance(&remote, date.as_deref(), by_value, branch, json)?;
        }
        Command::Chart(remote) => remote::show(&remote, "/v1/chart", json)?,
        Command::Audit { remote, asked } => operating::audit(&remote, &asked, json)?,
        Command::Approval { remote, command } => operating::approval(&remote, command, json)?,
        Command::Bus { remote, command } => operating::bus(&remote, command, json)?,
        Command::Events(args) => events::run(&args, json)?,
        Command::Webhook { remote, command } => events::webhook(&remote, command, json)?,
        Command::Branch { command } => match command {
            BranchCommand::List(remote) => remote::show(&remote, "/v1/branches", json)?,
            BranchCommand::Channels { remote, branch } => {
                remote::show(&remote, &format!("/v1/branches/{branch}/channels"), json)?;
            }
            BranchCommand::Policy { remote, branch, four_eyes, retention_days } => {
                operating::policy(&remote, branch, four_eyes.zip(retention_days), json)?;
            }
            BranchCommand::OpenDay { remote, branch, date } => {
                operating::open_day(&remote, branch, &date, json)?;
            }
            BranchCommand::GoLive { remote, branch, date } => {
                operating::go_live(&remote, branch, &date, json)?;
            }
            BranchCommand::RaiseFormat { remote, branch } => {
                operating::raise_format(&remote, branch, json)?;
            }
            BranchCommand::ResumeChannel { remote, branch, peer } => {
                remote::resume_channel(&remote, branch, peer, json)?;
            }
            BranchCommand::Breaks { remote, branch } => {
                remote::show(&remote, &format!("/v1/branches/{branch}/breaks"), json)?;
            }
            BranchCommand::Reopen { remote, branch } => remote::reopen_branch(&remote, branch, json)?,
            BranchCommand::ConfirmClock { remote, branch } => remote::confirm_clock(&remote, branch, json)?,
            BranchCommand::DeclareLoss { local, branch, position } => {
                offline::declare_loss(&local, branch, position, json)?;
            }
            BranchCommand::Weight { remote, branch, weight } => {
                remote::steer(&remote, branch, &serde_json::json!({"weight": weight}), json)?;
            }
            BranchCommand::Create(args) => operating::create(&args, json)?,
            BranchCommand::Close { remote, branch } => {
                remote::steer(&remote, branch, &serde_json::json!({"newcomers": false}), json)?;
            }
            BranchCommand::Open { remote, branch } => {
                remote::steer(&remote, branch, &serde_json::json!({"newcomers": true}), json)?;
            }
            BranchCommand::Gray { remote, branch, off } => {
                remote::steer(&remote, branch, &serde_json::json!({"gray": !off}), json)?;
            }
            BranchCommand::Place(args) => operating::place(&args, json)?,
            BranchCommand::Move(args) => operating::move_branch(&args, json)?,
            BranchCommand::Follow(args) => operating::follow(&args, json)?,
            BranchCommand::Archive(args) => archive::run(&args, json)?,
            BranchCommand::Export { local, branch, out } => offline::export(&local, branch, &out, json)?,
        },
        Command::Directory { command } => match command {
            DirectoryCommand::Show(remote) => remote::show(&remote, "/v1/directory", json)?,
            DirectoryCommand::Rebuild(remote) => remote::rebuild_directory(&remote, json)?,
        },
        Command::Import(args) => return import::run(&args, json),
        Command::Sample { remote, customers, seed } => sample::run(&remote, customers, seed, json)?,
        Command::Key { command } => keys::run(&command, json)?,
        Command::Verify(args) => return offline::verify(&args, json),
        Command::Backup(args) => offline::backup(&args, json)?,
        Command::Restore(args) => offline::restore(&args, json)?,
        Command::Cost { remote, prices } => remote::cost(&remote, &prices, json)?,
        Command::Config { command: ConfigCommand::Check(settings) } => {
            config::Config::of(&settings)?.check_files()?;
            eprintln!("the configuration is valid");
        }
        Command::Config { command: ConfigCommand::Show(settings) } => {
            let config = config::Config::of(&settings)?;
            let shown =
                if json { serde_json::to_string_pretty(&config)? + "\n" } else { toml::to_string(&config)? };
            print!("{shown}");
        }
        Command::Bench { command } => bench::run_command(command, json)?,
        Command::Simulate(args) => return simulate::run(&args, json),
    }
    Ok(ExitCode::SUCCESS)
}
