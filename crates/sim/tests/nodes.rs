//! Simulated lives of a bank of several nodes: all pass, together they reach everything, and each deliberate bug is seen.

use skerry_sim::{Bugs, Failure, Group, Life, Sabotage, World, campaign, live, run_nodes, shrink};

/// Enough for the rarest path to come up several times; `skerry simulate --world nodes --seeds 1000` does more.
const SEEDS: u64 = 60;
const STEPS: u64 = 400;

#[test]
fn every_life_of_nodes_passes_and_together_they_reach_everything() {
    let campaign = campaign(World::Nodes, SEEDS, STEPS, 2);
    for group in Group::ALL {
        let counts: Vec<String> =
            campaign.tally.of(group).map(|(name, count)| format!("{name} {count}")).collect();
        println!("{}: {}", group.name(), counts.join(", "));
    }
    let failures: Vec<String> = campaign.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} of {SEEDS} lives failed:\n{}", failures.len(), failures.join("\n"));
    assert!(campaign.records > SEEDS * 200, "the simulated banks were idle: {} records", campaign.records);
    let zeros = campaign.tally.zeros();
    assert!(zeros.is_empty(), "never reached in {SEEDS} lives: {zeros:?}");
}

#[test]
fn the_same_seed_is_the_same_life_of_nodes() {
    for seed in [3, 44] {
        let life = Life::new(World::Nodes, seed, STEPS);
        let (first, again) = (live(&life), life.clone());
        let second = std::thread::spawn(move || {
            drop(live(&Life::new(World::Bank, seed, 50)));
            live(&again)
        });
        assert_eq!(first, second.join().expect("the thread ends"), "seed {seed}");
    }
}

/// Lives from seed 1 on until one fails in one of these words, which must be within `most`; the same life passes without the bug.
fn is_caught(bug: &str, most: u64, words: &[&str], (bugs, sabotage): (Bugs, Sabotage)) {
    let fails = |seed| run_nodes(&Life::new(World::Nodes, seed, STEPS), bugs, sabotage).err();
    let seen = |failure: &Failure| words.iter().any(|word| failure.what.contains(word));
    let failure = (1..=most).filter_map(fails).find(seen);
    let failure = failure.unwrap_or_else(|| panic!("{bug}: not caught in {most} lives"));
    println!("{bug}: {failure}");
    if let Err(failure) = live(&failure.life) {
        panic!("without the bug the life must pass: {failure}");
    }
}

#[test]
fn an_answer_without_a_lease_is_caught() {
    let bugs = Bugs { no_leash: true, ..Bugs::default() };
    is_caught(
        "no leash",
        400,
        &["a read saw", "was read at", "is not in the journal"],
        (bugs, Sabotage::default()),
    );
}

#[test]
fn a_lease_on_a_clock_that_sleeps_is_caught() {
    let bugs = Bugs { sleeping_clock: true, ..Bugs::default() };
    is_caught("sleeping clock", 60, &["count on its lease", "a read saw"], (bugs, Sabotage::default()));
}

#[test]
fn a_lease_that_is_given_up_before_its_branch_is_closed_is_caught() {
    let bugs = Bugs { gives_up_early: true, ..Bugs::default() };
    is_caught("gives up early", 60, &["count on its lease", "a read saw"], (bugs, Sabotage::default()));
}

#[test]
fn an_opening_that_does_not_raise_the_epoch_is_caught() {
    let bugs = Bugs { no_new_epoch: true, ..Bugs::default() };
    is_caught("no new epoch", 150, &["a read saw", "rewound", "goes on"], (bugs, Sabotage::default()));
}

#[test]
fn a_payment_that_is_paid_twice_between_nodes_is_caught() {
    let sabotage = Sabotage { payment_twice: true, ..Sabotage::default() };
    is_caught("payment twice", 20, &["received", "beside branch", "stopped"], (Bugs::default(), sabotage));
}

#[test]
fn a_reply_that_leaves_early_between_nodes_is_caught() {
    let sabotage = Sabotage { early_reply: true, ..Sabotage::default() };
    is_caught("early reply", 20, &["is not in the journal"], (Bugs::default(), sabotage));
}

#[test]
fn a_life_that_passes_is_not_made_small() {
    let life = Life::new(World::Nodes, 1, 40);
    let failure = Failure { life: life.clone(), step: 40, branch: 1, what: "nothing".to_owned() };
    assert_eq!(shrink(failure).life, life, "no smaller one fails either");
}
