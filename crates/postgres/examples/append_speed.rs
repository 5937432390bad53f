//! How fast the journal alone appends: batches of a packed request's size to a server of its own, without standbys and with one.
//!
//! `cargo run --release --package skerry-postgres --example append_speed -- [BATCHES] [RECORDS]`. Nothing else of the bank is in it:
//! what a bank adds, `bench/postgres-store` measures. The servers lie in the folder for temporary files.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Group, next, open, store};
use skerry_journal::contract::{BRANCH, sample_batch};
use skerry_journal::{Head, Journal, JournalReader, Position, SealedBatch};
use skerry_postgres::{Durability, ServerOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |usual: u32| arguments.next().map_or(usual, |text| text.parse().expect("a number"));
    let (batches, records) = (number(400), number(8_189));
    measure("one server, no standby", &Group::single(), Durability::Single, batches, records);
    let mut group = Group::replicated();
    group.nodes[2].stop();
    measure("one synchronous standby", &group, Durability::Replicated, batches, records);
}

fn measure(name: &str, group: &Group, durability: Durability, count: u32, records: u32) {
    let patience = Duration::from_secs(60);
    let store = store(ServerOptions { patience, ..group.options(durability) }).with_spans(4 << 20);
    let mut journal = open(&store);
    let batches = prepare(journal.epoch(), count, records);
    let bytes: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
    let mut waiting = batches.into_iter().peekable();
    let mut sent = std::collections::VecDeque::new();
    let mut took = Vec::new();
    let began = Instant::now();
    while waiting.peek().is_some() || journal.in_flight() > 0 {
        while journal.in_flight() < 3
            && let Some(batch) = waiting.next()
        {
            sent.push_back(Instant::now());
            assert!(journal.append(batch).is_ok(), "there is room");
        }
        next(&mut journal).expect("it is appended");
        took.extend(sent.pop_front().map(|since| since.elapsed()));
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    let (rate, megabytes) = (f64::from(count) / seconds, bytes as f64 / 1e6);
    println!(
        "{name}: {rate:.1} batches/s of {records} records, {:.0} records/s, {:.1} MB/s; from submitting to told p50 {:.1} ms, p99 {:.1} ms",
        rate * f64::from(records),
        megabytes / seconds,
        at(50),
        at(99),
    );
    let began = Instant::now();
    let end = journal.reader().scan(Position(0), &mut |_| std::ops::ControlFlow::Continue(()));
    assert_eq!(end.expect("it verifies"), journal.head());
    println!("{name}: read back and verified at {:.0} MB/s", megabytes / began.elapsed().as_secs_f64());
}

fn prepare(epoch: u64, count: u32, records: u32) -> Vec<SealedBatch> {
    let mut head = Head::default();
    let make = |number: u32| {
        let batch = sample_batch(BRANCH, epoch, &head, records, number.into());
        head = Head::after(&batch);
        batch
    };
    (0..count).map(make).collect()
}
