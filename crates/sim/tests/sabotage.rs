//! Deliberate bugs in the branch and under the journal: the simulator must see each, and nothing without.

use skerry_branch::sabotage::Unsynced;
use skerry_journal::{FaultStorage, Storage};
use skerry_sim::{Failure, Sabotage, run, run_over};

const STEPS: u64 = 400;

/// Runs seeds from 1 until one fails, which must be within `most`; the same seed passes without the bug.
fn is_caught<D: Storage>(bug: &str, most: u64, sabotage: Sabotage, over: fn(FaultStorage) -> D) -> Failure {
    let failures = (1..=most).filter_map(|seed| run_over(seed, STEPS, sabotage, over).err());
    let failure = failures.into_iter().next().unwrap_or_else(|| panic!("{bug}: not caught in {most} seeds"));
    println!("{bug}: {failure}");
    if let Err(failure) = run(failure.life.seed, STEPS) {
        panic!("without the bug the seed must pass: {failure}");
    }
    failure
}

#[test]
fn a_reply_released_early_is_caught() {
    let sabotage = Sabotage { early_reply: true, ..Sabotage::default() };
    let failure = is_caught("early reply", 20, sabotage, |disk| disk);
    let seen = ["acknowledged", "is found as"].iter().any(|word| failure.what.contains(word));
    assert!(seen, "for what it is: {failure}");
}

#[test]
fn a_snapshot_that_holds_what_is_not_durable_is_caught() {
    let sabotage = Sabotage { hasty_derived: true, ..Sabotage::default() };
    let failure = is_caught("hasty snapshot", 300, sabotage, |disk| disk);
    let seen = ["rewound", "stands for"].iter().any(|word| failure.what.contains(word));
    assert!(seen, "for what it is: {failure}");
}

#[test]
fn a_skipped_sync_is_caught() {
    let failure = is_caught("skipped sync", 20, Sabotage::default(), Unsynced);
    let seen = ["gone", "damage", "rewound"].iter().any(|word| failure.what.contains(word));
    assert!(seen, "for what it is: {failure}");
}

#[test]
fn a_payment_that_is_paid_twice_is_caught() {
    let sabotage = Sabotage { payment_twice: true, ..Sabotage::default() };
    let failure = is_caught("payment twice", 20, sabotage, |disk| disk);
    let seen = ["received", "beside branch", "stopped"].iter().any(|word| failure.what.contains(word));
    assert!(seen, "for what it is: {failure}");
}

#[test]
fn payments_and_outcomes_that_are_told_early_are_caught() {
    let sabotage = Sabotage { hasty_words: true, ..Sabotage::default() };
    let failure = is_caught("hasty words", 60, sabotage, |disk| disk);
    // Or the journal does not hand out what is to be told and not durable.
    let seen = ["received", "beside branch", "stopped", "beyond the durable end"];
    let seen = seen.iter().any(|word| failure.what.contains(word));
    assert!(seen, "for what it is: {failure}");
}

#[test]
fn a_channel_that_goes_on_blindly_after_a_loss_is_caught() {
    let sabotage = Sabotage { blind_resumption: true, ..Sabotage::default() };
    let failure = is_caught("blind resumption", 100, sabotage, |disk| disk);
    let seen = ["rewound", "received", "ended", "sent", "beside branch"];
    assert!(seen.iter().any(|word| failure.what.contains(word)), "for what it is: {failure}");
}
