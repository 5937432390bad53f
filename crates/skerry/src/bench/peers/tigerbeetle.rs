//! Drives `tigerbeetle benchmark`, a single replica on a new data file, and reads what it prints.
//!
//! Whether it is durable is not taken on trust: while it runs, the flags of its data file are read from `/proc`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::PeerRun;
use crate::bench::machine::{Watch, free_bytes, usage};
use crate::bench::process::Folder;
use crate::bench::stats::Latency;

/// Room that a data file needs before its first transfer, and per transfer, with a margin.
const EMPTY_BYTES: u64 = 2 << 30;
const TRANSFER_BYTES: u64 = 2_200;
/// `O_DSYNC` as Linux shows it in `/proc/<pid>/fdinfo`.
const DSYNC: u32 = 0o10_000;
/// How often a running benchmark is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The work to give it.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Work<'a> {
    pub(in crate::bench) binary: &'a Path,
    /// On the disk that ours was measured on.
    pub(in crate::bench) folder: &'a Path,
    pub(in crate::bench) transfers: u64,
    pub(in crate::bench) accounts: u32,
    pub(in crate::bench) batch: usize,
    /// Its clients, where not its own default of one.
    pub(in crate::bench) clients: Option<usize>,
}

/// Runs it once; the data file is removed.
///
/// # Errors
///
/// Too little room on the disk, a binary that fails or prints what we cannot read.
pub(in crate::bench) fn run(work: Work<'_>) -> anyhow::Result<PeerRun> {
    let needed = EMPTY_BYTES + work.transfers * TRANSFER_BYTES;
    let free = free_bytes(work.folder)?;
    ensure!(free >= needed, "the peer needs {} GiB of disk and {} are free", needed >> 30, free >> 30);
    let folder = Folder::new(work.folder, "skerry-bench-tigerbeetle", false)?;
    let file = folder.path().join("0_0.tigerbeetle");
    let output =
        std::fs::File::create(folder.path().join("stdout")).context("could not make the peer's output")?;
    let talk =
        std::fs::File::create(folder.path().join("stderr")).context("could not make the peer's output")?;
    let watch = Watch::start();
    let child = Command::new(work.binary)
        .args(arguments(&work, &file))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(talk)
        .spawn()
        .with_context(|| format!("could not start {}", work.binary.display()))?;
    let seen = watch_over(Guard(child), &file, folder.path())?;
    let contention = watch.contention(seen.cpu_seconds);
    let printed = std::fs::read_to_string(folder.path().join("stdout"))
        .context("could not read what the peer printed")?;
    let report = parse(&printed)?;
    let transfers = work.transfers;
    Ok(PeerRun {
        peer: "tigerbeetle".to_owned(),
        variant: match work.clients {
            None | Some(1) => format!("batches of {}, one client", work.batch),
            Some(clients) => format!("batches of {}, {clients} clients", work.batch),
        },
        transfers,
        transfers_per_second: report.per_second,
        latency_ms: report.batch,
        query_latency_ms: report.query,
        disk_bytes_per_transfer: report.grown.map(|bytes| bytes as f64 / transfers as f64),
        server_cpu_seconds_per_million: Some(seen.cpu_seconds / transfers as f64 * 1e6),
        durability: if seen.synced {
            "data file opened with O_DSYNC"
        } else {
            "data file not seen with O_DSYNC"
        }
        .to_owned(),
        durable: seen.synced,
        contention,
        counted:
            "its own `load accepted`; growth of its data file; CPU of benchmark and replica, queries included"
                .to_owned(),
    })
}

fn arguments(work: &Work<'_>, file: &Path) -> Vec<String> {
    let mut arguments = vec![
        "benchmark".to_owned(),
        format!("--transfer-count={}", work.transfers),
        format!("--account-count={}", work.accounts),
        format!("--transfer-batch-count={}", work.batch),
        format!("--file={}", file.display()),
    ];
    arguments.extend(work.clients.map(|clients| format!("--clients={clients}")));
    arguments
}

/// A child that does not outlive us.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    cpu_seconds: f64,
    synced: bool,
}

/// Looks at the benchmark and the replica it starts until they end.
fn watch_over(mut guard: Guard, file: &Path, folder: &Path) -> anyhow::Result<Seen> {
    let process = guard.0.id();
    let mut spent = std::collections::BTreeMap::new();
    let mut synced = false;
    loop {
        for id in std::iter::once(process).chain(children(process)) {
            if let Some(usage) = usage(id) {
                spent.insert(id, usage.cpu_seconds);
            }
            synced |= opened_synced(id, file);
        }
        if let Some(status) = guard.0.try_wait().context("could not wait for the peer")? {
            let talk = std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
            let last = talk.lines().last().unwrap_or("it said nothing");
            ensure!(status.success(), "the peer ended with {status}: {last}");
            return Ok(Seen { cpu_seconds: spent.values().sum(), synced });
        }
        std::thread::sleep(LOOK);
    }
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether `process` holds `file` open with `O_DSYNC`.
fn opened_synced(process: u32, file: &Path) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let holds = |path: &Path| std::fs::read_link(path).is_ok_and(|target| target == file);
    open.flatten().filter(|entry| holds(&entry.path())).any(|entry| {
        let number = entry.file_name();
        let facts = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{}", number.to_string_lossy()));
        facts.is_ok_and(|facts| flags(&facts) & DSYNC != 0)
    })
}

fn flags(facts: &str) -> u32 {
    let line = facts.lines().find_map(|line| line.strip_prefix("flags:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0)
}

/// What it prints on stdout.
#[derive(Debug, PartialEq)]
struct Report {
    per_second: f64,
    batch: Latency,
    query: Option<Latency>,
    /// Growth of the data file.
    grown: Option<u64>,
}

fn parse(printed: &str) -> anyhow::Result<Report> {
    let value = |name: &str| {
        printed.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name))
    };
    let number = |name: &str| -> Option<f64> { value(name)?.1.split_whitespace().next()?.parse().ok() };
    let Some(per_second) = number("load accepted") else {
        bail!("the peer printed no `load accepted`");
    };
    let latency = |of: &str| -> Option<Latency> {
        let percentile = |p: &str| number(&format!("{of} latency {p}"));
        Some(Latency {
            p50: percentile("p50")?,
            p99: percentile("p99")?,
            p999: None,
            max: percentile("p100")?,
        })
    };
    let grown = match (number("datafile"), number("datafile empty")) {
        (Some(full), Some(empty)) if full >= empty => Some((full - empty) as u64),
        _ => None,
    };
    let batch = latency("batch").context("the peer printed no batch latency")?;
    Ok(Report { per_second, batch, query: latency("query"), grown })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
123 batches in 2.61 s
transfer batch size = 8189 txs
transfer batch delay = 0ns
load accepted = 382860 tx/s
batch latency p1   = 10 ms
batch latency p50  = 17 ms
batch latency p99  = 40 ms
batch latency p100 = 147 ms

100 queries in 0.4 s
query latency p1   = 0 ms
query latency p50  = 0 ms
query latency p99  = 22 ms
query latency p100 = 24 ms

rss = 3180081152 bytes

datafile empty = 1141374976 bytes
datafile = 2174750720 bytes
";

    #[test]
    fn its_report_is_read() {
        let report = parse(PRINTED).unwrap();
        assert_eq!(report.per_second, 382_860.0);
        assert_eq!(report.batch, Latency { p50: 17.0, p99: 40.0, p999: None, max: 147.0 });
        assert_eq!(report.query.map(|query| query.p99), Some(22.0));
        assert_eq!(report.grown, Some(1_033_375_744));
    }

    #[test]
    fn a_report_without_its_figure_is_no_report() {
        assert!(parse("").is_err());
        assert!(parse("load accepted = ? tx/s\n").is_err());
        assert!(parse("load accepted = 5 tx/s\n").is_err(), "no latency");
        let short = PRINTED.split("100 queries").next().unwrap();
        let report = parse(short).unwrap();
        assert_eq!((report.query, report.grown), (None, None));
    }

    #[test]
    fn the_flags_of_an_open_file_are_octal() {
        assert_eq!(flags("pos:\t0\nflags:\t02150002\nmnt_id:\t1\n") & DSYNC, DSYNC);
        assert_eq!(flags("pos:\t0\nflags:\t02100002\n") & DSYNC, 0);
        assert_eq!(flags(""), 0);
    }

    #[test]
    fn it_is_asked_for_our_work() {
        let work = Work {
            binary: Path::new("tb"),
            folder: Path::new("."),
            transfers: 10,
            accounts: 5,
            batch: 1,
            clients: Some(32),
        };
        let arguments = arguments(&work, Path::new("f"));
        assert_eq!(
            arguments[1..],
            [
                "--transfer-count=10",
                "--account-count=5",
                "--transfer-batch-count=1",
                "--file=f",
                "--clients=32"
            ]
        );
    }
}
