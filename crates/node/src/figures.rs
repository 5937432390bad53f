//! A branch's figures under the names that `/metrics` gives them.

use skerry_branch::Figures;

use crate::seat::{Counter, Distribution};

const MICROS: u64 = 1_000_000;

pub(crate) fn counters(figures: &Figures) -> Vec<Counter> {
    let (metrics, journal, ids, history) =
        (&figures.metrics, &figures.journal, &figures.ids, &figures.history);
    let status = figures.status.as_ref();
    let (moved, refused) = status.map_or((0, 0), |status| (status.moved, status.refused));
    let keys = status.map_or(0, |status| status.keys as u64);
    let counters = [
        ("transfers_total", "counter", "Transfers posted or held, and holds resolved.", moved),
        ("refusals_journaled_total", "counter", "Refusals that used an id up.", refused),
        ("refusals_total", "counter", "Refusals given.", metrics.refusals),
        ("records_total", "counter", "Records sealed since opening.", metrics.records),
        ("batches_total", "counter", "Batches sealed since opening.", metrics.batches),
        ("batch_bytes_total", "counter", "Bytes of batches since opening.", metrics.bytes),
        (
            "behind_micros_total",
            "counter",
            "Microseconds in which nothing was taken: files were behind.",
            metrics.behind_us_total,
        ),
        ("behind_micros_max", "gauge", "The longest such time.", metrics.behind_us_max),
        (
            "owner_checks_total",
            "counter",
            "Checks asked of the journal's store because the lease was no good any more.",
            metrics.owner_checks,
        ),
        ("replayed_records", "gauge", "Records replayed at the last opening.", metrics.replayed),
        ("snapshots_total", "counter", "Snapshots written since opening.", metrics.snapshots),
        ("snapshot_failures_total", "counter", "Snapshots that failed.", metrics.snapshot_failures),
        ("checkpoints_total", "counter", "Checkpoints signed since opening.", metrics.checkpoints),
        (
            "checkpoint_failures_total",
            "counter",
            "Attempts to sign a checkpoint that failed.",
            metrics.checkpoint_failures,
        ),
        (
            "checkpoints_late",
            "gauge",
            "1 while the last attempt to sign a checkpoint has failed.",
            u64::from(metrics.checkpoint_fault.is_some()),
        ),
        ("queue_requests", "gauge", "Requests waiting.", figures.queue_requests as u64),
        ("queue_bytes", "gauge", "Bytes waiting.", figures.queue_bytes as u64),
        ("queue_requests_max", "gauge", "Requests that may wait.", figures.queue_requests_max as u64),
        ("queue_bytes_max", "gauge", "Bytes that may wait.", figures.queue_bytes_max as u64),
        ("busy_full_total", "counter", "Requests turned away: the queue was full.", figures.turned_away.full),
        (
            "busy_quota_total",
            "counter",
            "Requests turned away: too many of one principal, or too fast.",
            figures.turned_away.quota,
        ),
        (
            "busy_closed_total",
            "counter",
            "Requests turned away: the branch did not serve.",
            figures.turned_away.closed,
        ),
        (
            "payments_in_transit",
            "gauge",
            "Payments to other branches, neither settled nor returned.",
            figures.transit.open,
        ),
        (
            "payments_waiting_seconds",
            "gauge",
            "Seconds for which the first payment in transit of any channel has been its first.",
            figures.transit.waiting_us / MICROS,
        ),
        (
            "channels_stopped",
            "gauge",
            "Channels to or from other branches that have stopped.",
            figures.transit.stopped,
        ),
        ("batches_in_flight", "gauge", "Batches being made durable.", figures.in_flight as u64),
        ("replies_held", "gauge", "Replies that wait for a batch to be durable.", figures.held as u64),
        ("syncs_total", "counter", "Syncs of journal data since opening.", journal.syncs),
        ("sync_micros_total", "counter", "Microseconds in syncs since opening.", journal.sync_us_total),
        ("sync_micros_max", "gauge", "The longest sync, in microseconds.", journal.sync_us_max),
        ("segments_sealed_total", "counter", "Segments sealed since opening.", journal.seals),
        ("ids_in_memory", "gauge", "Ids not yet in a run.", ids.memtable_ids as u64),
        ("id_runs", "gauge", "Runs of ids on disk.", ids.runs as u64),
        ("ids_memory_bytes", "gauge", "Memory of the id index, filters included.", ids.memory_bytes as u64),
        ("ids_file_bytes", "gauge", "Bytes of id runs on disk.", ids.file_bytes),
        ("history_position", "gauge", "Position up to which history answers.", history.position),
        ("history_memory_bytes", "gauge", "Memory of the history.", history.memory_bytes as u64),
        ("history_file_bytes", "gauge", "Bytes of history files on disk.", history.file_bytes),
        ("idempotency_keys", "gauge", "Idempotency keys kept.", keys),
    ];
    let owned = |(name, kind, help, value): (&'static str, &'static str, &'static str, u64)| {
        (name.into(), kind.into(), help.into(), value)
    };
    counters.map(owned).into()
}

pub(crate) fn histograms(figures: &Figures) -> Vec<Distribution> {
    let metrics = &figures.metrics;
    let histograms = [
        ("batch_records", "Records per batch.", metrics.batch_records, 0),
        ("durable_seconds", "From sealing a batch to its being durable.", metrics.durable_us, MICROS),
        ("reply_seconds", "From taking a request to its reply.", metrics.reply_us, MICROS),
    ];
    histograms.map(|(name, help, values, unit)| (name.into(), help.into(), values, unit)).into()
}
