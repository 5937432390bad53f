//! Measures the id index and the history on generated records: how fast they feed, how many bytes they
//! take on disk and in memory, how long questions take.
//!
//! ```text
//! cargo run --release -p skerry-branch --example history -- ids     [transfers]
//! cargo run --release -p skerry-branch --example history -- history [transfers] [accounts]
//! ```
//!
//! Records lie in a plain file in the place of a journal; side files in the same folder. The folder (the
//! environment's `SKERRY_MEASURE_FOLDER`, else one under the system's folder for temporary files) is
//! emptied first. "cpu" is time on the processor, which a busy machine does not stretch as it does "wall".
//! Figures are of this machine at this hour: compare them only with others of the same run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skerry_branch::history::{
    AsOf, DurableBatch, History, HistoryConfig, HistoryHandle, Order, Query, RECORD_BYTES, Records,
    SideError, SideFolder,
};
use skerry_branch::ids::{Ids, IdsConfig};
use skerry_journal::RealStorage;
use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, TransferId};
use skerry_money::{Currency, Date};

type Failure = Box<dyn std::error::Error>;

const BATCH: u64 = 8_189;
const BRANCH: u16 = 1;
const SECRET: [u8; 16] = [42; 16];
const TODAY: i32 = 20_400;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let transfers = number(arguments.next(), 10_000_000)?;
    let accounts = number(arguments.next(), 10_000)?;
    match what.as_str() {
        "ids" => measure_ids(transfers),
        "history" => measure_history(transfers, accounts),
        _ => Err("say `ids` or `history`".into()),
    }
}

fn number(text: Option<String>, default: u64) -> Result<u64, Failure> {
    Ok(text.map_or(Ok(default), |text| text.parse())?)
}

/// Processor time of this thread; `None` where the system does not tell.
fn processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Adds up wall and processor time of one kind of work.
#[derive(Default)]
struct Watch {
    wall: Duration,
    worst: Duration,
    processor: Duration,
}

impl Watch {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (begun, busy) = (Instant::now(), processor());
        let result = work();
        let wall = begun.elapsed();
        self.wall += wall;
        self.worst = self.worst.max(wall);
        self.processor += busy.and_then(|busy| processor()?.checked_sub(busy)).unwrap_or(wall);
        result
    }

    fn each(&self, count: u64) -> String {
        let each = |time: Duration| time.as_nanos() as f64 / count as f64;
        format!("{:7.1} ns cpu, {:7.1} ns wall", each(self.processor), each(self.wall))
    }
}

fn folder(name: &str) -> Result<PathBuf, Failure> {
    let base = std::env::var_os("SKERRY_MEASURE_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = base.join(format!("skerry-measure-{name}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A stream of numbers from a seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// A UUIDv7 of that millisecond.
fn uuid(millis: u64, numbers: &mut Numbers) -> TransferId {
    let random = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
    let low = random & ((1 << 76) - 1) & !(3 << 62) | 2 << 62;
    TransferId(u128::from(millis) << 80 | 7 << 76 | low)
}

/// Fixed records in a file, in the place of a journal.
struct Plain(File);

impl Records for Plain {
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError> {
        for position in positions {
            let mut record = [0; RECORD_BYTES];
            let read = self.0.read_exact_at(&mut record, position * RECORD_BYTES as u64);
            read.map_err(|error| SideError::Record { position: *position, source: Box::new(error) })?;
            found.push(record);
        }
        Ok(())
    }

    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError> {
        Ok(Some(head(position)))
    }
}

fn head(position: u64) -> [u8; 32] {
    let mut head = [0; 32];
    head[..8].copy_from_slice(&position.to_le_bytes());
    head
}

fn measure_ids(transfers: u64) -> Result<(), Failure> {
    for (name, spread) in [("time-ordered", 0), ("random in the window of 24 hours", 24 * 3600 * 1000)] {
        let folder = folder("ids")?;
        let records = Arc::new(Plain(File::create_new(folder.join("records"))?));
        let storage = SideFolder::new(RealStorage::open(&folder)?);
        let mut ids = Ids::open(storage, records, IdsConfig::new(SECRET), 0)?;
        let mut numbers = Numbers(7);
        // Made beforehand, some batches at a time, so that making them is not measured.
        let (mut asking, mut working) = (Watch::default(), Watch::default());
        let mut position = 0;
        while position < transfers {
            let now = 1_760_000_000_000 + position / 1_000;
            let count = (BATCH * 16).min(transfers - position);
            let made: Vec<TransferId> =
                (0..count).map(|_| uuid(now - numbers.below(spread + 1), &mut numbers)).collect();
            asking.time(|| -> Result<(), SideError> {
                for batch in made.chunks(BATCH as usize) {
                    for few in batch.chunks(32) {
                        ids.warm(few.iter().copied());
                        for id in few {
                            assert_eq!(ids.find(*id)?, None, "a new id is new");
                            ids.insert(*id, position);
                            position += 1;
                        }
                    }
                    ids.durable(position, head(position));
                }
                Ok(())
            })?;
            working.time(|| -> Result<(), SideError> {
                while let Some(work) = ids.take_work() {
                    ids.finish(work.run())?;
                }
                Ok(())
            })?;
        }
        let stats = ids.stats();
        println!("ids, {name}: {transfers} (a read that misses the caches: {:.0} ns, many at once)", miss());
        println!("  find and insert     {} each", asking.each(transfers));
        println!("  jobs (own thread)   {} each", working.each(transfers));
        println!(
            "  on disk             {:7.1} bytes each in {} runs",
            per(stats.file_bytes, stats.run_ids),
            stats.runs
        );
        println!(
            "  memory              {:7.1} MiB, {} false leads",
            mib(stats.memory_bytes),
            stats.false_leads
        );
    }
    Ok(())
}

/// What one of many independent reads from 64 MiB costs here and now: the yardstick for an index in memory.
fn miss() -> f64 {
    let memory: Vec<u32> = (0..1 << 24).collect();
    let mut numbers = Numbers(3);
    let mut watch = Watch::default();
    let reads = 4_000_000;
    let sum = watch.time(|| {
        (0..reads).fold(0_u32, |sum, _| sum.wrapping_add(memory[numbers.next() as usize % memory.len()]))
    });
    std::hint::black_box(sum);
    watch.processor.as_nanos() as f64 / f64::from(reads)
}

fn per(bytes: u64, count: u64) -> f64 {
    bytes as f64 / count.max(1) as f64
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The record of transfer number `position`: uniform accounts, ten codes, a reference of its own, value dates
/// up to three days from the business date, which changes every million.
fn record(position: u64, accounts: u64, numbers: &mut Numbers) -> [u8; RECORD_BYTES] {
    let debit = 1 + numbers.below(accounts);
    let credit = 1 + (debit + numbers.below(accounts - 1)) % accounts;
    let mut reference = [0; 16];
    reference.copy_from_slice(format!("INV-{:012x}", scrambled(position)).as_bytes());
    let moved = Moved {
        kind: MovedKind::Posted,
        id: uuid(1_760_000_000_000 + position / 1_000, numbers),
        debit: AccountRef::customer(BRANCH, debit),
        credit: AccountRef::customer(BRANCH, credit),
        amount: 1 + numbers.below(1_000_000),
        currency: Currency::from_alpha("CNY").expect("CNY is a currency"),
        code: numbers.below(10) as u16,
        flags: Flags(0),
        reference,
        related: TransferId::NONE,
        expires_s: 0,
        time_us: 1_760_000_000_000_000 + position,
        business_date: day_of(position),
        value_date: Date(day_of(position).0 - numbers.below(4) as i32 / 3),
        imported_us: 0,
        digest: 0,
    };
    let mut bytes = [0; RECORD_BYTES];
    skerry_book::record::encode_moved(&moved, 0, &mut bytes);
    bytes
}

fn scrambled(position: u64) -> u64 {
    Numbers(position).next() >> 16
}

fn day_of(position: u64) -> Date {
    Date(TODAY + (position / 1_000_000) as i32)
}

fn measure_history(transfers: u64, accounts: u64) -> Result<(), Failure> {
    let folder = folder("history")?;
    let path = folder.join("records");
    let side = folder.join("side");
    let file = File::options().create_new(true).read(true).append(true).open(&path)?;
    let mut journal = BufWriter::with_capacity(1 << 20, file.try_clone()?);
    let records = Arc::new(Plain(file));
    let (mut history, _ids) = open(&side, &records)?;
    let mut numbers = Numbers(11);
    let (mut feeding, mut sealing) = (Watch::default(), Watch::default());
    let mut position = 0;
    while position < transfers {
        let count = BATCH.min(transfers - position);
        let bytes: Vec<u8> = (position..position + count)
            .flat_map(|position| record(position, accounts, &mut numbers))
            .collect();
        journal.write_all(&bytes)?;
        let business_date = day_of(position);
        let head = head(position + count);
        feeding.time(|| history.feed(DurableBatch { first: position, business_date, head, records: &bytes }));
        position += count;
        while let Some(work) = history.take_work() {
            let done = sealing.time(|| work.run());
            history.finish(done)?;
        }
    }
    journal.flush()?;
    let stats = history.stats();
    println!("history of {transfers} transfers over {accounts} accounts");
    println!("  feed                {} a transfer", feeding.each(transfers));
    println!("  seal                {} a transfer, longest {:?}", sealing.each(transfers), sealing.worst);
    let in_files = transfers - stats.unsealed_rows as u64;
    println!(
        "  on disk             {:7.1} bytes a transfer in {} spans",
        per(stats.file_bytes, in_files),
        stats.spans
    );
    println!(
        "  memory              {:7.1} MiB for {} unsealed",
        mib(stats.memory_bytes),
        stats.unsealed_rows
    );
    questions("warm", &history.handle(), transfers, accounts, &mut numbers)?;
    drop(history);

    let begun = Instant::now();
    let (history, _ids) = open(&side, &records)?;
    println!(
        "  open                {:?}, to position {} of {transfers}",
        begun.elapsed(),
        history.position()
    );
    if drop_caches() {
        questions("cold", &history.handle(), history.position(), accounts, &mut numbers)?;
    } else {
        println!("  cold: not measured, this process may not drop the machine's caches");
    }
    Ok(())
}

fn open(side: &Path, records: &Arc<Plain>) -> Result<(History, Ids), Failure> {
    let records = Arc::clone(records);
    let folder = SideFolder::new(RealStorage::open(side)?);
    let ids = Ids::open(folder.clone(), Arc::clone(&records) as Arc<dyn Records>, IdsConfig::new(SECRET), 0)?;
    let config = HistoryConfig::new(BRANCH, SECRET);
    Ok((History::open(folder, records, ids.reader(), config, 0)?, ids))
}

/// Asks the machine to forget what it has read; only root may.
fn drop_caches() -> bool {
    write_out();
    std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

fn write_out() {
    // Dirty pages are not dropped, so everything is written out first; a failure only makes "cold" warmer.
    let _ = std::process::Command::new("sync").status();
}

fn questions(
    name: &str,
    handle: &HistoryHandle,
    transfers: u64,
    accounts: u64,
    numbers: &mut Numbers,
) -> Result<(), Failure> {
    let rounds = 1_000;
    let mut any = || AccountRef::customer(BRANCH, 1 + numbers.below(accounts));
    let picked: Vec<AccountRef> = (0..rounds).map(|_| any()).collect();
    time(&format!("{name}: last 100 of an account"), &picked, |account| {
        handle.query(&Query::of_account(*account)).map(|_| ())
    })?;
    time(&format!("{name}: first 100 of an account"), &picked, |account| {
        handle.query(&Query { order: Order::OldestFirst, ..Query::of_account(*account) }).map(|_| ())
    })?;
    time(&format!("{name}: balance as of a value date"), &picked, |account| {
        let dates = AsOf { value_date: Some(Date(TODAY)), business_date: None };
        handle.totals(*account, dates, 0).map(|_| ())
    })?;
    let positions: Vec<u64> = (0..rounds).map(|_| numbers.below(transfers)).collect();
    time(&format!("{name}: by reference"), &positions, |position| {
        let text = format!("INV-{:012x}", scrambled(*position));
        let reference = text.as_bytes().try_into().ok();
        let page = handle.query(&Query { reference, ..Query::default() })?;
        assert!(page.entries.iter().any(|entry| entry.position == *position), "the reference is found");
        Ok(())
    })?;
    time(&format!("{name}: last 100 of a code"), &positions, |position| {
        handle.query(&Query { code: Some((position % 10) as u16), ..Query::default() }).map(|_| ())
    })?;
    time(&format!("{name}: 100 of everything by time"), &positions, |position| {
        let time_us =
            skerry_branch::history::Range { from: Some(1_760_000_000_000_000 + position), to: None };
        handle.query(&Query { time_us, order: Order::OldestFirst, ..Query::default() }).map(|_| ())
    })
}

fn time<T>(
    name: &str,
    asked: &[T],
    mut ask: impl FnMut(&T) -> Result<(), skerry_branch::history::HistoryError>,
) -> Result<(), Failure> {
    let mut took = Vec::with_capacity(asked.len());
    for one in asked {
        let begun = Instant::now();
        ask(one)?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |permille: usize| took[(took.len() - 1) * permille / 1_000];
    println!("  {name:36} p50 {:9.1?}  p99 {:9.1?}  max {:9.1?}", at(500), at(990), at(1_000));
    Ok(())
}
