//! How fast a local journal is appended to and read, on this machine, in this folder:
//!
//! ```text
//! cargo run --release -p skerry-journal --example scan_speed -- FOLDER [GIGABYTES]
//! ```
//!
//! Every batch is synced before the next is written; reading verifies every root and the chain. The files are
//! in the page cache when they are read: this measures the code, not the disk.

use std::ops::ControlFlow;
use std::time::Instant;

use skerry_journal::contract::{BRANCH, sample_batch};
use skerry_journal::{
    Journal, JournalReader, LocalJournal, LocalOptions, Position, RealStorage, SealedBatch, verify,
};

const RECORDS: u32 = 8189;

/// User and system time of this process, from `/proc/self/stat` (fields 14 and 15, hundredths of a second).
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder that may be filled")?;
    let gigabytes: u64 = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let storage = RealStorage::open(&folder)?;
    let mut journal = LocalJournal::open(&storage, LocalOptions::new(BRANCH))?.journal;
    let sample = sample_batch(BRANCH, journal.epoch(), &journal.taken(), RECORDS, 1);
    let length = sample.bytes().len() as u64;
    let batches = (gigabytes << 30) / length;
    println!("batches of {RECORDS} records, {length} bytes; {batches} of them");

    let mut scratch = Vec::new();
    let (mut sealing, begun) = (std::time::Duration::ZERO, Instant::now());
    let mut told = 0;
    while told < batches {
        while let Some(news) = journal.poll() {
            news?;
            told += 1;
        }
        if journal.in_flight() == 3 || journal.taken().batch >= batches {
            journal.wait(std::time::Duration::from_secs(1));
            continue;
        }
        let sealed = Instant::now();
        let head = journal.taken();
        let mut header = *sample.header();
        (header.batch, header.first_position, header.previous) = (head.batch, head.position.0, head.hash);
        let batch = SealedBatch::seal(header, sample.bytes().to_vec(), &mut scratch)?;
        sealing += sealed.elapsed();
        journal.append(batch).map_err(|(kind, _)| kind)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let stats = journal.stats();
    let bytes = stats.bytes as f64 / 1e9;
    println!(
        "append, durable      {:>7.2} GB/s  {:.0} records/s",
        bytes / seconds,
        stats.batches as f64 * f64::from(RECORDS) / seconds
    );
    println!("  of it making roots {:>7.2} GB/s on the appending thread", bytes / sealing.as_secs_f64());
    println!("  sync mean / max    {} / {} us", stats.sync_us_total / stats.syncs.max(1), stats.sync_us_max);

    let reader = journal.reader();
    for _ in 0..3 {
        let (begun, cpu) = (Instant::now(), cpu_seconds()?);
        verify(&reader, &mut |_| ())?;
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
        println!("scan with roots      {:>7.2} GB/s, {:.2} GB a CPU second", bytes / wall, bytes / cpu);
    }
    let begun = Instant::now();
    let mut read = 0_u64;
    let end = reader.head().position.0;
    while read < 100_000 {
        reader.read_record(Position(read.wrapping_mul(0x9e37_79b9_7f4a_7c15) % end))?;
        read += 1;
    }
    println!("record by position   {:>7.2} us", begun.elapsed().as_secs_f64() * 1e6 / read as f64);
    let begun = Instant::now();
    let first = reader.scan(Position(end / 2), &mut |_| ControlFlow::Break(()))?;
    println!(
        "first batch of a scan {:>6.2} ms (to position {})",
        begun.elapsed().as_secs_f64() * 1e3,
        first.position
    );
    drop(journal);
    let begun = Instant::now();
    let opened = LocalJournal::open(&storage, LocalOptions::new(BRANCH))?;
    println!(
        "open, not closed     {:>7.2} ms (last segment verified and copied)",
        begun.elapsed().as_secs_f64() * 1e3
    );
    opened.journal.close();
    Ok(())
}
