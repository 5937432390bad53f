//! A thousand power cuts below the file seam, under the real segment code.
//!
//! After each: what was told is there, whole and once; what was not told is there whole or not at all; the chain holds;
//! and the journal takes more.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use common::small;
use skerry_journal::contract::{BRANCH, sample_batch};
use skerry_journal::{
    FaultKind, FaultPlan, FaultStorage, Head, Journal, JournalReader, LocalJournal, LocalOptions,
    LocalReader, Mode, OpenError, Opened, Position, SealedBatch, verify,
};

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the outside knows: batches by number that were told, and those that were appended after them.
#[derive(Default)]
struct Outside {
    told: BTreeMap<u64, SealedBatch>,
    open: BTreeMap<u64, SealedBatch>,
}

/// One life of the journal: open, append until something breaks or the life is over. Returns whether it opened.
fn live(storage: &FaultStorage, options: LocalOptions, outside: &mut Outside, dice: &mut Dice) -> bool {
    let Opened { mut journal, recovery } = match LocalJournal::open(storage, options) {
        Ok(opened) => opened,
        Err(OpenError::Damaged(damage)) => panic!("a power cut is no damage: {damage}"),
        Err(_machine_failed) => return false,
    };
    check(&journal.reader(), recovery.head, outside);
    let lifetime = dice.below(60);
    for _ in 0..lifetime {
        let head = journal.taken();
        let count = if dice.below(10) == 0 { 100 } else { 1 + dice.below(20) } as u32;
        let batch = sample_batch(BRANCH, journal.epoch(), &head, count, dice.below(1 << 40));
        if journal.append(batch.clone()).is_ok() {
            outside.open.insert(batch.header().batch, batch);
        }
        for _ in 0..dice.below(4) {
            journal.step();
        }
        while let Some(news) = journal.poll() {
            match news {
                Ok(told) => {
                    outside.open.remove(&told.batch.header().batch);
                    outside.told.insert(told.batch.header().batch, told.batch);
                }
                Err(_fault) => return true,
            }
        }
    }
    if dice.below(4) == 0 {
        for told in journal.close().into_iter().flatten() {
            outside.told.insert(told.batch.header().batch, told.batch);
        }
    }
    true
}

/// The journal is what the outside knows, and then perhaps some of what was still open, in order.
fn check(reader: &LocalReader<FaultStorage>, head: Head, outside: &mut Outside) {
    let mut next = Head::default();
    let end = reader.scan(Position(0), &mut |view| {
        let number = view.header.batch;
        assert_eq!((number, view.header.first_position), (next.batch, next.position.0));
        assert_eq!(view.header.previous, next.hash, "the chain is broken at batch {number}");
        let known = outside.told.get(&number).or_else(|| outside.open.get(&number));
        assert_eq!(
            Some(view.bytes),
            known.map(SealedBatch::bytes),
            "batch {number} is not what was appended"
        );
        next = view.head_after();
        ControlFlow::Continue(())
    });
    assert_eq!(end.expect("a journal that opened is good"), head);
    let told = outside.told.last_key_value().map_or(0, |(number, _)| number + 1);
    assert!(head.batch >= told, "{told} batches were told, {} are there", head.batch);
    // From now on the journal knows what became of the open ones, and so does the outside.
    for (number, batch) in std::mem::take(&mut outside.open) {
        if number < head.batch {
            outside.told.insert(number, batch);
        }
    }
}

/// Several lives of one journal with a cut after each. Returns how many cuts there were.
fn run(seed: u64, counts: &mut BTreeMap<FaultKind, u64>) -> (u64, [u8; 32]) {
    let storage = FaultStorage::new(seed);
    let mut dice = Dice(seed);
    let mut outside = Outside::default();
    let options = small(Mode::Stepped);
    let mut cuts = 0;
    for _ in 0..5 {
        // Half of the cuts come at an operation, the others between two.
        if dice.below(2) == 0 {
            storage.lose_power_in(dice.below(200));
        }
        if dice.below(3) == 0 {
            storage.set_plan(FaultPlan {
                failed_sync_ppm: 5_000,
                short_write_ppm: 5_000,
                failed_write_ppm: 2_000,
                slow_sync_ppm: 10_000,
                slow_sync_us_max: 50_000,
                ..FaultPlan::default()
            });
        }
        // Without a cut in between, the same process opens again: after a failed sync the cache lies.
        while live(&storage, options, &mut outside, &mut dice) && !storage.is_dark() && dice.below(2) == 0 {}
        storage.power_cut();
        storage.set_plan(FaultPlan::default());
        cuts += 1;
    }
    let Opened { journal, recovery } =
        LocalJournal::open(&storage, options).expect("it opens after the last cut");
    check(&journal.reader(), recovery.head, &mut outside);
    let verified = verify(&journal.reader(), &mut |_| ()).expect("all of it is good");
    assert_eq!(verified.head, recovery.head);
    for (kind, count) in storage.counts() {
        *counts.entry(kind).or_insert(0) += count;
    }
    (cuts, verified.head.hash)
}

#[test]
fn a_thousand_power_cuts_lose_nothing_that_was_told() {
    let mut counts = BTreeMap::new();
    let mut cuts = 0;
    for seed in 0..240 {
        cuts += run(seed, &mut counts).0;
    }
    assert!(cuts >= 1_000);
    let happened = [
        FaultKind::LostWrites,
        FaultKind::TornWrite,
        FaultKind::LostLength,
        FaultKind::LostEntry,
        FaultKind::ShortWrite,
        FaultKind::FailedWrite,
        FaultKind::FailedSync,
        FaultKind::SlowSync,
        FaultKind::PowerCut,
    ];
    for kind in happened {
        assert!(counts[&kind] > 10, "{kind:?} came {} times only: {counts:?}", counts[&kind]);
    }
}

#[test]
fn the_same_seed_leaves_the_same_journal() {
    for seed in [3, 77] {
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        assert_eq!(run(seed, &mut first), run(seed, &mut second));
        assert_eq!(first, second);
    }
}

/// An opening that copies a segment may fail just after it gave the copy its name. The next opening sees that name, takes
/// the original away, and then the power goes: one of the two must still be there.
#[test]
fn no_original_goes_before_the_name_of_its_copy_is_durable() {
    for (seed, skip) in (0..12).flat_map(|seed| (0..14).map(move |skip| (seed, skip))) {
        let storage = FaultStorage::new(seed);
        let options = small(Mode::Stepped);
        let Opened { mut journal, .. } = LocalJournal::open(&storage, options).unwrap();
        for count in 1..4 {
            let batch = sample_batch(BRANCH, journal.epoch(), &journal.taken(), count, seed);
            journal.append(batch).unwrap();
            while journal.step() {}
        }
        let told = std::iter::from_fn(|| journal.poll()).filter(Result::is_ok).count() as u64;
        drop(journal);
        storage.fail_next_sync(skip);
        drop(LocalJournal::open(&storage, options));
        storage.fail_next_sync(u64::MAX);
        drop(LocalJournal::open(&storage, options).expect("no sync fails any more"));
        storage.power_cut();
        let opened = LocalJournal::open(&storage, options).expect("a power cut is no damage");
        assert_eq!(opened.recovery.head.batch, told, "seed {seed}, sync {skip}");
    }
}
