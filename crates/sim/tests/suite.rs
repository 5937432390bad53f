//! Hundreds of simulated lives: all pass, together they reach everything, and a seed is a life.

use skerry_sim::{Group, World, campaign, run};

/// Enough for the rarest path to come up several times; `skerry simulate --seeds 1000` does more.
const SEEDS: u64 = 400;
const STEPS: u64 = 400;

#[test]
fn every_seed_passes_and_together_they_reach_everything() {
    let campaign = campaign(World::Bank, SEEDS, STEPS, 2);
    for group in Group::ALL {
        let counts: Vec<String> =
            campaign.tally.of(group).map(|(name, count)| format!("{name} {count}")).collect();
        println!("{}: {}", group.name(), counts.join(", "));
    }
    let failures: Vec<String> = campaign.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} of {SEEDS} seeds failed:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(campaign.passed, SEEDS);
    assert!(campaign.records > SEEDS * 300, "the simulated banks were idle: {} records", campaign.records);
    let zeros = campaign.tally.zeros();
    assert!(zeros.is_empty(), "never reached in {SEEDS} seeds: {zeros:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 44, 907] {
        let first = run(seed, STEPS);
        // On another thread, after other runs: nothing but the seed may count.
        let second = std::thread::spawn(move || {
            let other = run(seed + 1, 50);
            assert!(other.is_ok(), "{other:?}");
            run(seed, STEPS)
        });
        assert_eq!(first, second.join().expect("the thread ends"), "seed {seed}");
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let journals = |seed| run(seed, 60).expect("it passes").journals;
    assert_ne!(journals(5), journals(6));
}
