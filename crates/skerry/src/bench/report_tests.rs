//! Medians, ratios and reasons to call a run void, on runs of a few figures.

use std::path::Path;

use super::*;

const QUIET: Contention =
    Contention { load_before: 0.0, load_after: 1.0, others_share: 0.0, stolen_share: 0.0 };

fn ours(per_second: f64, p99: f64) -> OurRun {
    OurRun {
        transfers: 10,
        accepted: 10,
        refused: BTreeMap::new(),
        requests: 1,
        busy_answers: 0,
        seconds: 1.0,
        transfers_per_second: per_second,
        latency_ms: Some(Latency { p50: 1.0, p99, p999: Some(p99), max: p99 }),
        server_cpu_seconds_per_million: Some(1.0),
        client_cpu_seconds_per_million: 0.5,
        disk: Some(DiskUse {
            journal_bytes_per_transfer: 120.0,
            side_bytes_per_transfer: 60.0,
            total_bytes_per_transfer: 180.0,
            allocated_bytes_per_transfer: 200.0,
            snapshot_bytes: 0,
        }),
        memory: None,
        payments: None,
        trial_balance: "zero".to_owned(),
        durability: "synced".to_owned(),
        contention: QUIET,
        counted: String::new(),
    }
}

fn theirs(peer: &str, per_second: f64) -> PeerRun {
    PeerRun {
        peer: peer.to_owned(),
        variant: "x".to_owned(),
        transfers: 10,
        transfers_per_second: per_second,
        latency_ms: Latency { p50: 5.0, p99: 40.0, p999: None, max: 50.0 },
        query_latency_ms: None,
        disk_bytes_per_transfer: Some(1_800.0),
        server_cpu_seconds_per_million: None,
        durability: "x".to_owned(),
        durable: true,
        contention: QUIET,
        counted: String::new(),
    }
}

#[test]
fn ratios_are_of_medians_over_the_rounds() {
    let ours = [ours(900_000.0, 20.0), ours(1_000_000.0, 10.0), ours(2_000_000.0, 5.0)];
    let peers =
        [theirs("tigerbeetle", 190_000.0), theirs("postgres", 6_000.0), theirs("tigerbeetle", 210_000.0)];
    let medians = Medians::of(&ours, &[], &peers);
    assert_eq!((medians.transfers_per_second, medians.p99_ms), (Some(1_000_000.0), Some(10.0)));
    let names: Vec<_> = medians.peers.iter().map(|against| against.peer.as_str()).collect();
    assert_eq!(names, ["tigerbeetle", "postgres"]);
    assert_eq!(medians.peers[0].throughput_ratio, Some(5.0));
    assert_eq!(medians.peers[0].p99_ratio, Some(0.25));
    assert_eq!(medians.peers[0].disk_ratio, Some(0.1));
}

#[test]
fn a_run_that_proves_nothing_says_why() {
    assert_eq!(void(&[ours(1.0, 1.0)], &[theirs("postgres", 5_000.0)], false), Vec::<String>::new());
    let mut lost = ours(1.0, 1.0);
    lost.accepted = 9;
    let mut careless = theirs("tigerbeetle", 1.0);
    careless.durable = false;
    let reasons = void(&[lost], &[careless, theirs("postgres", 4_999.0)], true);
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons[0].contains("memory") && reasons[3].contains("5000"), "{reasons:?}");
}

#[test]
fn the_text_names_durability_contention_and_ratio() {
    let (ours, peers) = (vec![ours(10.0, 1.0)], vec![theirs("postgres", 5.0)]);
    let report = Report {
        kind: "ledger".to_owned(),
        version: "0".to_owned(),
        machine: Machine::here(Path::new("/")).unwrap(),
        work: Work {
            mode: "packed".to_owned(),
            accounts: 2,
            accounts_per_customer: 1,
            transfers: 10,
            batch: 5,
            connections: 1,
            branches: 1,
            skew: "uniform".to_owned(),
            pending_share: 0.0,
            crossing_share: 0.0,
            bus: None,
            nodes: None,
            rate: None,
            seed: 1,
        },
        medians: Medians::of(&ours, &[], &peers),
        void: void(&ours, &peers, true),
        ours,
        at_home: Vec::new(),
        peers,
    };
    let text = report.text();
    for part in
        ["2.00 times the throughput", "others 0.0 %", "VOID        the data lies in memory", "batches of 5"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read.medians.peers[0].throughput_ratio, Some(2.0));
}

#[test]
fn payments_between_branches_stand_beside_one_branch() {
    let medians = Medians::of(&[ours(400_000.0, 9.0)], &[ours(1_000_000.0, 5.0)], &[]);
    assert_eq!((medians.at_home_per_second, medians.crossing_ratio), (Some(1_000_000.0), Some(0.4)));
    let mut seen = Payments::default();
    seen.add(&serde_json::json!({"open": 2, "totals": [
        {"sent": {"count": 9}, "settled": {"count": 6}, "returned": {"count": 1}},
        {"sent": {"count": 1}, "settled": {"count": 1}, "returned": {"count": 0}},
    ]}));
    assert_eq!((seen.open, seen.sent, seen.settled, seen.returned), (2, 10, 7, 1));
}
