//! Drives `bench/peers/postgres/measure` and reads the JSON lines that it prints.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::PeerRun;
use crate::bench::load::Mode;
use crate::bench::machine::Watch;
use crate::bench::stats::Latency;

/// Below this a PostgreSQL on such a machine is set up wrongly, and beating it proves nothing.
pub(in crate::bench) const LEAST_PER_SECOND: f64 = 5_000.0;
/// The same for transfers between two databases.
pub(in crate::bench) const LEAST_TWO_PHASE_PER_SECOND: f64 = 1_500.0;

/// How it moves money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Kind {
    /// A transaction a transfer.
    Single,
    /// A thousand transfers in one statement.
    Batch,
    /// Each transfer between two databases, prepared in both before it commits in either.
    TwoPhase,
}

impl Kind {
    /// What our mode is measured against at home.
    pub(in crate::bench) const fn at_home(mode: Mode) -> Self {
        match mode {
            Mode::Packed => Self::Batch,
            Mode::Single => Self::Single,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
            Self::TwoPhase => "two-phase",
        }
    }
}

/// The work to give it.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Work<'a> {
    /// `bench/peers`.
    pub(in crate::bench) peers: &'a Path,
    /// On the disk that ours was measured on.
    pub(in crate::bench) folder: &'a Path,
    pub(in crate::bench) kind: Kind,
    pub(in crate::bench) accounts: u32,
    pub(in crate::bench) seconds: u32,
    /// Client counts to try, separated by blanks.
    pub(in crate::bench) clients: &'a str,
}

/// One line of the script.
#[derive(Debug, Deserialize)]
struct Line {
    kind: String,
    clients: u32,
    transfers: u64,
    transfers_per_second: f64,
    latency_ms: Latency,
    durability: String,
    durable: bool,
    #[serde(default)]
    disk_bytes_per_transfer: Option<f64>,
    #[serde(default)]
    server_cpu_seconds_per_million: Option<f64>,
    #[serde(default)]
    cpu_seconds: f64,
    version: String,
}

/// Runs it once and gives its best client count.
///
/// # Errors
///
/// The script failed (no PostgreSQL, a folder in memory) or printed what is no measurement.
pub(in crate::bench) fn run(work: Work<'_>) -> anyhow::Result<PeerRun> {
    let script = work.peers.join("postgres/measure");
    ensure!(script.exists(), "there is no {}: name the peers' folder with --peers", script.display());
    let watch = Watch::start();
    let output = Command::new(&script)
        .arg(work.kind.name())
        .args([&work.seconds.to_string(), work.clients, &work.accounts.to_string()])
        .env("SKERRY_BENCH_DIR", work.folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not run {}", script.display()))?;
    ensure!(output.status.success(), "{} ended with {}", script.display(), output.status);
    let printed = String::from_utf8(output.stdout).context("the peer's measurements are not text")?;
    best(&printed, work.kind, &watch)
}

fn best(printed: &str, kind: Kind, watch: &Watch) -> anyhow::Result<PeerRun> {
    let lines = printed
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).context("a measurement of the peer is wrong"));
    let lines: Vec<Line> = lines.collect::<anyhow::Result<_>>()?;
    let contention = watch.contention(lines.iter().map(|line| line.cpu_seconds).sum());
    let tried: Vec<String> = lines
        .iter()
        .map(|line| format!("{} clients {:.0}", line.clients, line.transfers_per_second))
        .collect();
    let line = lines
        .into_iter()
        .max_by(|one, other| one.transfers_per_second.total_cmp(&other.transfers_per_second));
    let line = line.context("the peer measured nothing")?;
    Ok(PeerRun {
        peer: if kind == Kind::TwoPhase { "two-phase" } else { "postgres" }.to_owned(),
        variant: format!("{}, {} clients", line.kind, line.clients),
        transfers: line.transfers,
        transfers_per_second: line.transfers_per_second,
        latency_ms: line.latency_ms,
        query_latency_ms: None,
        disk_bytes_per_transfer: line.disk_bytes_per_transfer,
        server_cpu_seconds_per_million: line.server_cpu_seconds_per_million,
        durability: line.durability,
        durable: line.durable,
        contention,
        counted: format!("{}: committed by pgbench, the best of {} a second", line.version, tried.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(clients: u32, per_second: u32) -> String {
        format!(
            "{{\"peer\":\"postgres\",\"kind\":\"single\",\"clients\":{clients},\"transfers\":1000,\
             \"transfers_per_second\":{per_second},\"latency_ms\":{{\"p50\":1.5,\"p99\":4.0,\"max\":9.0}},\
             \"durability\":\"fsync at commit\",\"durable\":true,\"version\":\"PostgreSQL 17\",\"cpu_seconds\":1.5}}"
        )
    }

    #[test]
    fn the_best_client_count_is_taken() {
        let printed = [line(8, 5_000), line(16, 6_100), line(32, 5_900)].join("\n");
        let run = best(&printed, Kind::Single, &Watch::start()).unwrap();
        assert_eq!((run.variant.as_str(), run.transfers_per_second), ("single, 16 clients", 6_100.0));
        assert!(run.durable && run.counted.contains("8 clients 5000"), "{}", run.counted);
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        assert!(best("", Kind::Single, &Watch::start()).is_err());
        assert!(best("hello", Kind::Single, &Watch::start()).is_err());
        assert!(best("{\"kind\":\"single\"}", Kind::Single, &Watch::start()).is_err());
    }
}
