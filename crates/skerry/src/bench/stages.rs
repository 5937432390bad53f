//! What each stage of a batch costs by itself, on one thread: decode, decide and evolve, ids, hashing and roots, append.
//!
//! Each stage runs the very code that a branch runs, over the same transfers, one stage after another.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use skerry_book::command::Context as Asked;
use skerry_book::{Book, Seed, packed, record};
use skerry_branch::history::{RECORD_BYTES, Records, SideError, SideFolder};
use skerry_branch::ids::{Ids, IdsConfig};
use skerry_journal::{Journal, LocalJournal, LocalOptions, RealStorage, SealedBatch};
use skerry_ledger::{NoPast, Stamp, TransferId};
use skerry_money::Date;
use skerry_proof::batch::{BatchHeader, HEADER_LENGTH};
use skerry_proof::{HashAlgorithm, leaf_hashes, root};

use super::batch::{Generator, fill_funding};
use super::founding::{BRANCH, commands, operator};
use super::random::{Random, now_millis};

/// What one transfer spends in each stage, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stages {
    pub(super) decode: f64,
    pub(super) decide_evolve: f64,
    pub(super) encode: f64,
    pub(super) ids: f64,
    pub(super) leaf_hashes: f64,
    pub(super) root: f64,
    pub(super) append: f64,
}

/// The times so far, and over how many transfers.
#[derive(Debug, Default)]
struct Spent {
    transfers: u64,
    decode: Duration,
    decide_evolve: Duration,
    encode: Duration,
    ids: Duration,
    leaf_hashes: Duration,
    root: Duration,
    append: Duration,
}

/// Measures `batches` of `size` transfers over the accounts of `generator`, which are 1 to `accounts`.
///
/// # Errors
///
/// A stage that refuses, or a disk that fails.
pub(super) fn measure(
    folder: &Path,
    accounts: u32,
    mut generator: Generator,
    size: usize,
    batches: u64,
) -> anyhow::Result<Stages> {
    let storage = RealStorage::open(folder).context("could not open the stages' folder")?;
    let config = IdsConfig::new([5; 16]);
    let most = config.memtable_ids as u64 / size as u64;
    let ids = Ids::open(SideFolder::new(storage.clone()), Arc::new(Nothing), config, 0);
    let journal =
        LocalJournal::open(&storage, LocalOptions::new(BRANCH)).context("could not open a journal")?.journal;
    let seed = Seed::new([1; 32]);
    let mut bench = Bench {
        book: founded(accounts, seed)?,
        seed: Seed::new([1; 32]),
        ids: ids.context("could not open an id index")?,
        journal,
        position: 0,
        body: Vec::new(),
        transfers: Vec::new(),
        moved: Vec::new(),
        records: Vec::new(),
        hashes: Vec::new(),
        spent: Spent::default(),
    };
    bench.fund(accounts)?;
    bench.spent = Spent::default();
    // One memtable: freezing it is a job of another thread in a branch, and none of these stages.
    for _ in 0..batches.min(most.saturating_sub(u64::from(accounts).div_ceil(size as u64) + 1)).max(1) {
        generator.fill_packed(size, now_millis(), &mut bench.body);
        bench.batch()?;
    }
    Ok(bench.spent.per_transfer())
}

/// An index that never asks the journal: all its ids are in memory.
struct Nothing;

impl Records for Nothing {
    fn read(&self, _: &[u64], _: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError> {
        Ok(())
    }

    fn head_before(&self, _: u64) -> Result<Option<[u8; 32]>, SideError> {
        Ok(None)
    }
}

/// A book with `accounts`, each of its own customer.
fn founded(accounts: u32, seed: Seed) -> anyhow::Result<Book> {
    let mut book = Book::new(BRANCH, seed);
    for command in commands(accounts) {
        let context = Asked { stamp: stamp(&book), actor: operator(), key: None };
        let decision = book.decide(&command, &context);
        let decision =
            decision.map_err(|rejection| anyhow::anyhow!("the book refused to open: {rejection:?}"))?;
        for event in &decision.events {
            book.evolve(event);
        }
    }
    Ok(book)
}

fn stamp(book: &Book) -> Stamp {
    book.stamp(now_millis() * 1_000)
}

struct Bench {
    book: Book,
    seed: Seed,
    ids: Ids,
    journal: LocalJournal<RealStorage>,
    position: u64,
    body: Vec<u8>,
    transfers: Vec<skerry_ledger::Transfer>,
    moved: Vec<skerry_ledger::Moved>,
    records: Vec<u8>,
    hashes: Vec<[u8; 32]>,
    spent: Spent,
}

impl Bench {
    fn fund(&mut self, accounts: u32) -> anyhow::Result<()> {
        let cash = skerry_ledger::AccountRef::head(BRANCH, 1001, super::founding::renminbi()).0;
        let references: Vec<u64> =
            (1..=u64::from(accounts)).map(|serial| u64::from(BRANCH) << 48 | serial).collect();
        let mut random = Random::new(now_millis());
        for credits in references.chunks(8_000) {
            fill_funding(&mut random, cash, credits, 1_000_000_000_000, &mut self.body);
            self.batch()?;
        }
        Ok(())
    }

    /// Takes the batch in `body` through all stages.
    fn batch(&mut self) -> anyhow::Result<()> {
        let (packed, _whole) = self.body.as_chunks::<{ packed::TRANSFER_LENGTH }>();
        let (count, mut transfers) = (packed.len(), std::mem::take(&mut self.transfers));
        transfers.clear();
        transfers.reserve(count);
        let mut watch = Instant::now();
        for (index, bytes) in packed.iter().enumerate() {
            transfers.push(
                packed::decode(index, bytes, &self.seed).context("a transfer of the load cannot be read")?,
            );
        }
        lap(&mut watch, &mut self.spent.decode);

        let stamp = stamp(&self.book);
        let sender =
            self.book.sender(&operator(), stamp).map_err(|no| anyhow::anyhow!("the book refused: {no:?}"))?;
        self.moved.clear();
        watch = Instant::now();
        for transfer in &transfers {
            let moved = self.book.decide_transfer(transfer, &sender, &NoPast);
            let moved =
                moved.map_err(|rejection| anyhow::anyhow!("the book refused a transfer: {rejection:?}"))?;
            self.book.evolve_moved(&moved);
            self.moved.push(moved);
        }
        lap(&mut watch, &mut self.spent.decide_evolve);

        self.records.clear();
        self.records.resize(HEADER_LENGTH + count * record::RECORD_LENGTH, 0);
        let (laid, _whole) = self.records[HEADER_LENGTH..].as_chunks_mut::<{ record::RECORD_LENGTH }>();
        watch = Instant::now();
        for (moved, out) in self.moved.iter().zip(laid) {
            record::encode_moved(moved, 0, out);
        }
        lap(&mut watch, &mut self.spent.encode);
        self.index(&transfers)?;
        self.hash();
        self.append(stamp.business_date, stamp.time_us)?;
        self.spent.transfers += count as u64;
        self.transfers = transfers;
        Ok(())
    }

    fn index(&mut self, transfers: &[skerry_ledger::Transfer]) -> anyhow::Result<()> {
        let mut watch = Instant::now();
        for group in transfers.chunks(32) {
            self.ids.warm(group.iter().map(|transfer| transfer.id));
            for transfer in group {
                let known = self.ids.find(transfer.id).context("the id index failed")?;
                ensure!(known.is_none(), "the load used the id {:?} twice", TransferId(transfer.id.0));
                self.ids.insert(transfer.id, self.position);
                self.position += 1;
            }
        }
        lap(&mut watch, &mut self.spent.ids);
        Ok(())
    }

    fn hash(&mut self) {
        self.hashes.clear();
        let mut watch = Instant::now();
        leaf_hashes(HashAlgorithm::Blake3, &[6; 32], &self.records[HEADER_LENGTH..], None, &mut self.hashes);
        lap(&mut watch, &mut self.spent.leaf_hashes);
        black_box(root(HashAlgorithm::Blake3, &mut self.hashes));
        lap(&mut watch, &mut self.spent.root);
    }

    fn append(&mut self, business_date: Date, time_us: u64) -> anyhow::Result<()> {
        let (end, bytes) = (self.journal.taken(), std::mem::take(&mut self.records));
        let count = (bytes.len() - HEADER_LENGTH) / record::RECORD_LENGTH;
        let header = BatchHeader {
            format: 1,
            algorithm: HashAlgorithm::Blake3,
            evidence: HashAlgorithm::Blake3,
            branch: BRANCH,
            incarnation: 1,
            epoch: self.journal.epoch(),
            batch: end.batch,
            first_position: end.position.0,
            record_count: u32::try_from(count).context("a batch is small")?,
            business_date: business_date.0,
            time_us,
            actors_length: 0,
            tails_length: 0,
            previous: end.hash,
            record_root: [0; 32],
            extras_hash: [0; 32],
            salt: [6; 32],
        };
        let sealed = SealedBatch::seal(header, bytes, &mut self.hashes).context("could not seal a batch")?;
        let mut watch = Instant::now();
        let taken = self.journal.append(sealed);
        taken.map_err(|(kind, _)| anyhow::anyhow!("the journal refused a batch: {kind:?}"))?;
        let appended = loop {
            match self.journal.poll() {
                Some(told) => break told.context("the journal failed")?,
                None => self.journal.wait(Duration::from_secs(1)),
            }
        };
        lap(&mut watch, &mut self.spent.append);
        self.records = appended.batch.into_bytes();
        Ok(())
    }
}

/// Adds the time since `watch` to `sum` and starts again.
fn lap(watch: &mut Instant, sum: &mut Duration) {
    let now = Instant::now();
    *sum += now - *watch;
    *watch = now;
}

impl Spent {
    fn per_transfer(&self) -> Stages {
        let each = |sum: Duration| sum.as_nanos() as f64 / self.transfers.max(1) as f64;
        Stages {
            decode: each(self.decode),
            decide_evolve: each(self.decide_evolve),
            encode: each(self.encode),
            ids: each(self.ids),
            leaf_hashes: each(self.leaf_hashes),
            root: each(self.root),
            append: each(self.append),
        }
    }
}
