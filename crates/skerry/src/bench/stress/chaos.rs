//! What happens while clients press: processes are killed, stopped as an operator does, or paused; and whatever else a command does.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use super::pressed::{Pressed, Wound};
use super::{BankArgs, Field};

/// What may happen. With nodes the first three befall one after the other, and moves one branch after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Chaos {
    /// The process is killed (kill -9) and started again
    Kill,
    /// It is stopped as an operator does, and started again
    Restart,
    /// It stands still for three seconds (SIGSTOP, SIGCONT)
    Pause,
    /// The gateway before the nodes is killed and started again
    Gateway,
    /// A branch is moved to the next node; the longest silence of a branch is how long its clients waited
    Move,
    /// All branches are moved to one node, and scattered over all again
    Gather,
}

impl Chaos {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Gateway => "gateway",
            Self::Move => "move",
            Self::Gather => "gather",
        }
    }
}

/// What has happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Blow {
    pub(super) at_seconds: f64,
    pub(super) what: String,
    /// From the blow until clients were told of a payment again by every branch.
    pub(super) back_after_ms: f64,
}

/// One of what may happen.
#[derive(Debug)]
enum What<'a> {
    Known(Chaos),
    /// A line for the shell, run to its end.
    Command(&'a str),
}

/// Lets one thing after another happen until `end`.
///
/// # Errors
///
/// The bank does not end, does not come up again, or does not answer again; a command fails.
pub(super) async fn happen(
    pressed: &mut Pressed,
    field: &Field,
    args: &BankArgs,
    end: tokio::time::Instant,
) -> anyhow::Result<Vec<Blow>> {
    let (began, every) = (Instant::now(), Duration::from_secs_f64(args.chaos_every));
    let known = args.chaos.iter().map(|what| What::Known(*what));
    let all: Vec<What<'_>> = known.chain(args.chaos_command.iter().map(|line| What::Command(line))).collect();
    let mut blows = Vec::new();
    for what in all.iter().cycle() {
        if tokio::time::Instant::now() + every >= end {
            break;
        }
        tokio::time::sleep(every).await;
        let (at_seconds, struck) = (began.elapsed().as_secs_f64(), Instant::now());
        let (name, wound) = match what {
            What::Known(what) => (what.name().to_owned(), pressed.strike(*what).await?),
            What::Command(line) => (command(line).await?, Wound::None),
        };
        field.until_all_told(Instant::now()).await?;
        let back_after_ms = struck.elapsed().as_secs_f64() * 1e3;
        blows.push(Blow { at_seconds, what: name, back_after_ms });
        pressed.mend(wound).await?;
    }
    Ok(blows)
}

async fn command(line: &str) -> anyhow::Result<String> {
    let run = line.to_owned();
    let status = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &run]).status());
    let status = status.await.context("a command's thread died")?.context("could not start a shell")?;
    ensure!(status.success(), "{line:?} ended with {status}");
    Ok(line.to_owned())
}
