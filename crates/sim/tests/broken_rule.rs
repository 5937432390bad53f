//! A rule of the ledger is broken: the simulator must see it. In a process of its own, for the switch is the process's.

use skerry_ledger::sabotage::forget_holds;
use skerry_sim::run;

const STEPS: u64 = 400;
const MOST: u64 = 20;

#[test]
fn a_forgotten_rule_is_caught() {
    forget_holds(true);
    let failure = (1..=MOST).find_map(|seed| run(seed, STEPS).err());
    forget_holds(false);
    let failure = failure.unwrap_or_else(|| panic!("not caught in {MOST} seeds"));
    println!("forgotten holds: {failure}");
    let seen = ["should have come to", "is left"].iter().any(|word| failure.what.contains(word));
    assert!(seen, "for what it is: {failure}");
    if let Err(failure) = run(failure.life.seed, STEPS) {
        panic!("without the bug the seed must pass: {failure}");
    }
}
