//! What a run is told in: one JSON object, or the same as text. Every figure comes with what was counted, how it was
//! made durable and who else used the machine.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::machine::{Contention, Machine};
use super::peers::PeerRun;
use super::peers::postgres::{LEAST_PER_SECOND, LEAST_TWO_PHASE_PER_SECOND};
use super::stats::{Latency, median, ratio};

/// A whole measurement: ours and the peers', in turns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) kind: String,
    pub(super) version: String,
    pub(super) machine: Machine,
    pub(super) work: Work,
    /// One per round.
    pub(super) ours: Vec<OurRun>,
    /// One per round if ours pays across branches: the same load in a bank of one branch.
    #[serde(default)]
    pub(super) at_home: Vec<OurRun>,
    /// In the order they ran.
    pub(super) peers: Vec<PeerRun>,
    pub(super) medians: Medians,
    /// Why the run proves nothing, if it does not.
    pub(super) void: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) mode: String,
    pub(super) accounts: u32,
    pub(super) accounts_per_customer: u32,
    pub(super) transfers: u64,
    pub(super) batch: usize,
    pub(super) connections: usize,
    pub(super) branches: usize,
    pub(super) skew: String,
    pub(super) pending_share: f64,
    #[serde(default)]
    pub(super) crossing_share: f64,
    /// The server that payments between branches went over; none: straight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) bus: Option<String>,
    /// Nodes that its branches were on, behind a gateway; none: one process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) nodes: Option<u16>,
    pub(super) rate: Option<f64>,
    pub(super) seed: u64,
}

/// What ours did in one turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OurRun {
    pub(super) transfers: u64,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) requests: u64,
    pub(super) busy_answers: u64,
    pub(super) seconds: f64,
    pub(super) transfers_per_second: f64,
    /// Of a request, from before it is sent (or due) to its whole answer.
    pub(super) latency_ms: Option<Latency>,
    /// Of the bank's process, from the first request until its derived files stood still.
    pub(super) server_cpu_seconds_per_million: Option<f64>,
    pub(super) client_cpu_seconds_per_million: f64,
    pub(super) disk: Option<DiskUse>,
    pub(super) memory: Option<Memory>,
    /// What became of payments between branches.
    #[serde(default)]
    pub(super) payments: Option<Payments>,
    pub(super) trial_balance: String,
    pub(super) durability: String,
    pub(super) contention: Contention,
    pub(super) counted: String,
}

/// Bytes on disk a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct DiskUse {
    pub(super) journal_bytes_per_transfer: f64,
    pub(super) side_bytes_per_transfer: f64,
    pub(super) total_bytes_per_transfer: f64,
    /// With what is set aside and not yet written.
    pub(super) allocated_bytes_per_transfer: f64,
    /// Snapshots grow with accounts; they are not in the total.
    pub(super) snapshot_bytes: u64,
}

/// Memory of the bank's process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Growth from the empty bank to all accounts opened and funded.
    pub(super) accounts_bytes: u64,
    /// The same a million accounts, where there are enough that fixed buffers do not count.
    pub(super) bytes_per_million_accounts: Option<f64>,
    pub(super) resident_bytes_after_load: u64,
}

/// Payments between branches, by their senders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Payments {
    pub(super) sent: u64,
    pub(super) settled: u64,
    pub(super) returned: u64,
    #[serde(skip)]
    pub(super) open: u64,
    /// From the first request until none was on its way.
    pub(super) seconds_to_the_end: f64,
}

impl Payments {
    /// Adds a channel as `GET /v1/branches/{branch}/channels` lists it.
    pub(super) fn add(&mut self, channel: &serde_json::Value) {
        self.open += channel["open"].as_u64().unwrap_or_default();
        for row in channel["totals"].as_array().into_iter().flatten() {
            let count = |name: &str| row[name]["count"].as_u64().unwrap_or_default();
            self.sent += count("sent");
            self.settled += count("settled");
            self.returned += count("returned");
        }
    }
}

/// Medians over the rounds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Medians {
    pub(super) transfers_per_second: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// The throughput of the same load in one branch.
    #[serde(default)]
    pub(super) at_home_per_second: Option<f64>,
    /// Ours by that: more is better.
    #[serde(default)]
    pub(super) crossing_ratio: Option<f64>,
    pub(super) peers: Vec<Against>,
}

/// Ours beside one peer, by medians.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Against {
    pub(super) peer: String,
    pub(super) transfers_per_second: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Ours by theirs: more is better.
    pub(super) throughput_ratio: Option<f64>,
    /// Ours by theirs: less is better.
    pub(super) p99_ratio: Option<f64>,
    /// Ours by theirs: less is better.
    pub(super) disk_ratio: Option<f64>,
}

impl Medians {
    /// Of these rounds; each peer once, in the order in which it first ran.
    pub(super) fn of(ours: &[OurRun], at_home: &[OurRun], peers: &[PeerRun]) -> Self {
        let transfers_per_second = median(ours.iter().map(|run| run.transfers_per_second));
        let p99_ms = median(ours.iter().filter_map(|run| run.latency_ms).map(|latency| latency.p99));
        let disk = median(ours.iter().filter_map(|run| run.disk).map(|disk| disk.total_bytes_per_transfer));
        let mut against: Vec<Against> = Vec::new();
        for run in peers {
            if against.iter().any(|known| known.peer == run.peer) {
                continue;
            }
            let runs = || peers.iter().filter(|other| other.peer == run.peer);
            let theirs = median(runs().map(|run| run.transfers_per_second));
            let their_p99 = median(runs().map(|run| run.latency_ms.p99));
            let their_disk = median(runs().filter_map(|run| run.disk_bytes_per_transfer));
            against.push(Against {
                peer: run.peer.clone(),
                transfers_per_second: theirs,
                p99_ms: their_p99,
                throughput_ratio: ratio(transfers_per_second, theirs),
                p99_ratio: ratio(p99_ms, their_p99),
                disk_ratio: ratio(disk, their_disk),
            });
        }
        let at_home_per_second = median(at_home.iter().map(|run| run.transfers_per_second));
        let crossing_ratio = ratio(transfers_per_second, at_home_per_second);
        Self { transfers_per_second, p99_ms, at_home_per_second, crossing_ratio, peers: against }
    }
}

/// Why these runs prove nothing; empty if they do.
pub(super) fn void(ours: &[OurRun], peers: &[PeerRun], in_memory: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if in_memory {
        reasons.push("the data lies in memory".to_owned());
    }
    for run in ours.iter().filter(|run| run.accepted != run.transfers) {
        reasons.push(format!("ours accepted {} of {} transfers", run.accepted, run.transfers));
    }
    for run in peers {
        if !run.durable {
            reasons.push(format!("{} is not as durable as ours: {}", run.peer, run.durability));
        }
        let least = match run.peer.as_str() {
            "postgres" => LEAST_PER_SECOND,
            "two-phase" => LEAST_TWO_PHASE_PER_SECOND,
            _ => 0.0,
        };
        if run.transfers_per_second < least {
            let (peer, rate) = (&run.peer, run.transfers_per_second);
            reasons.push(format!("{peer} stays under {least:.0} transfers a second: {rate:.0}"));
        }
    }
    reasons
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Memory can be written to; the results say nothing.
        let mut line = |one: String| {
            text.push_str(&one);
            text.push('\n');
        };
        let (machine, work) = (&self.machine, &self.work);
        line(format!(
            "machine     {} cores of {}, {} GiB, Linux {}, {}",
            machine.cores, machine.processor, machine.memory_gib, machine.kernel, machine.file_system
        ));
        line(format!(
            "work        {} transfers over {} accounts in {} branches{}, {}, {}, {} connections, {} skew, {} pending",
            work.transfers,
            work.accounts,
            work.branches,
            work.nodes.map_or_else(String::new, |nodes| format!(" on {nodes} nodes")),
            work.mode,
            if work.mode == "packed" {
                format!("batches of {}", work.batch)
            } else {
                "one a request".to_owned()
            },
            work.connections,
            work.skew,
            work.pending_share
        ));
        for run in &self.at_home {
            line(run.text("one branch"));
        }
        for run in &self.ours {
            line(run.text("ours"));
        }
        for run in &self.peers {
            line(peer_text(run));
        }
        if self.work.crossing_share > 0.0 {
            line(format!(
                "ratio       one branch: {} the throughput, {:.0} % of ours pay another branch, {} (medians)",
                times(self.medians.crossing_ratio),
                self.work.crossing_share * 100.0,
                if self.work.bus.is_some() { "over NATS" } else { "straight" }
            ));
        }
        for against in &self.medians.peers {
            line(format!(
                "ratio       {}: {} the throughput, {} the p99 latency, {} the bytes (medians)",
                against.peer,
                times(against.throughput_ratio),
                times(against.p99_ratio),
                times(against.disk_ratio)
            ));
        }
        for reason in &self.void {
            line(format!("VOID        {reason}"));
        }
        text
    }
}

impl OurRun {
    fn text(&self, name: &str) -> String {
        let mut text = format!("{name:<11} {:.0} transfers/s", self.transfers_per_second);
        if let Some(latency) = self.latency_ms {
            put_latency(&mut text, latency);
        }
        if let Some(seconds) = self.server_cpu_seconds_per_million {
            put(&mut text, format_args!("; {seconds:.2} CPU s a million"));
        }
        put(&mut text, format_args!(" (client {:.2})", self.client_cpu_seconds_per_million));
        if let Some(disk) = self.disk {
            put(
                &mut text,
                format_args!(
                    "; {:.1} bytes a transfer (journal {:.1}, side files {:.1})",
                    disk.total_bytes_per_transfer,
                    disk.journal_bytes_per_transfer,
                    disk.side_bytes_per_transfer
                ),
            );
        }
        if let Some(bytes) = self.memory.and_then(|memory| memory.bytes_per_million_accounts) {
            let mebibytes = bytes / 1_048_576.0;
            put(&mut text, format_args!("; {mebibytes:.0} MiB a million accounts"));
        }
        if let Some(payments) = self.payments {
            let Payments { sent, settled, returned, .. } = payments;
            put(
                &mut text,
                format_args!("; {sent} sent to another branch, {settled} settled, {returned} returned"),
            );
        }
        put(
            &mut text,
            format_args!(
                "; {} of {} accepted, trial balance {}",
                self.accepted, self.transfers, self.trial_balance
            ),
        );
        put_contention(&mut text, self.contention);
        text
    }
}

fn peer_text(run: &PeerRun) -> String {
    let mut text = format!("{:<11} {:.0} transfers/s ({})", run.peer, run.transfers_per_second, run.variant);
    put_latency(&mut text, run.latency_ms);
    if let Some(query) = run.query_latency_ms {
        put(&mut text, format_args!("; queries p50 {:.1} p99 {:.1} ms", query.p50, query.p99));
    }
    if let Some(seconds) = run.server_cpu_seconds_per_million {
        put(&mut text, format_args!("; {seconds:.2} CPU s a million"));
    }
    if let Some(bytes) = run.disk_bytes_per_transfer {
        put(&mut text, format_args!("; {bytes:.1} bytes a transfer"));
    }
    put(&mut text, format_args!("; {}", run.durability));
    put_contention(&mut text, run.contention);
    text
}

fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("memory can be written to");
}

fn put_latency(text: &mut String, latency: Latency) {
    put(text, format_args!("; p50 {:.2} p99 {:.2}", latency.p50, latency.p99));
    if let Some(p999) = latency.p999 {
        put(text, format_args!(" p99.9 {p999:.2}"));
    }
    put(text, format_args!(" max {:.2} ms", latency.max));
}

fn put_contention(text: &mut String, contention: Contention) {
    put(
        text,
        format_args!(
            "; load {:.2} before, {:.2} after, others {:.1} %, stolen {:.1} %",
            contention.load_before,
            contention.load_after,
            contention.others_share * 100.0,
            contention.stolen_share * 100.0
        ),
    );
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "unknown".to_owned(), |ratio| format!("{ratio:.2} times"))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
