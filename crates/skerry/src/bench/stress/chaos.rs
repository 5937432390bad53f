//! What happens to a bank of our own while clients press it: its process is killed, stopped as an operator does, or paused.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::super::bank::{Bank, Ending};
use super::super::lane::Lane;
use super::BankArgs;

/// How long a process is paused.
const PAUSE: Duration = Duration::from_secs(3);

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Chaos {
    /// The process is killed (kill -9) and started again
    Kill,
    /// It is stopped as an operator does, and started again
    Restart,
    /// It stands still for three seconds (SIGSTOP, SIGCONT)
    Pause,
}

impl Chaos {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
        }
    }
}

/// What has happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Blow {
    pub(super) at_seconds: f64,
    pub(super) what: &'static str,
    /// From the blow until it answered again.
    pub(super) back_after_ms: f64,
}

/// Lets one thing after another happen until `end`. The bank as it is then, running.
///
/// # Errors
///
/// The bank does not end, or does not come up again.
pub(super) async fn happen(
    mut bank: Bank,
    args: &BankArgs,
    end: tokio::time::Instant,
) -> anyhow::Result<(Bank, Vec<Blow>)> {
    let (began, every) = (Instant::now(), Duration::from_secs_f64(args.chaos_every));
    let mut blows = Vec::new();
    for what in args.chaos.iter().cycle() {
        if tokio::time::Instant::now() + every >= end {
            break;
        }
        tokio::time::sleep(every).await;
        let (at_seconds, struck) = (began.elapsed().as_secs_f64(), Instant::now());
        bank = strike(bank, *what, args.branches).await?;
        let back_after_ms = struck.elapsed().as_secs_f64() * 1e3;
        blows.push(Blow { at_seconds, what: what.name(), back_after_ms });
    }
    Ok((bank, blows))
}

async fn strike(bank: Bank, what: Chaos, branches: u16) -> anyhow::Result<Bank> {
    let ending = match what {
        Chaos::Kill => Ending::Kill,
        Chaos::Restart => Ending::Stop,
        Chaos::Pause => return pause(bank).await,
    };
    Ok(bank.restart(branches, ending, || Ok(())).await?.0)
}

async fn pause(bank: Bank) -> anyhow::Result<Bank> {
    let process = bank.process.and_then(|id| Pid::from_raw(id.cast_signed()));
    let process = process.context("only a bank of our own can be paused")?;
    kill_process(process, Signal::STOP).context("could not pause the bank")?;
    tokio::time::sleep(PAUSE).await;
    kill_process(process, Signal::CONT).context("could not let the bank go on")?;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", bank.authority);
    let mut lane = Lane::open(&bank.authority).await?;
    lane.exchange(request.as_bytes(), b"").await?;
    Ok(bank)
}
