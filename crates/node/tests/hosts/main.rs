//! Several hosts over one directory, whatever happens to clocks, processes and answers: never do two count on one branch, and once the
//! troubles end each branch is soon open on one node, dedicated ones alone, the others evenly, and followed by as many others as it wants.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

#[path = "../../../directory/tests/dice/mod.rs"]
mod dice;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use skerry_directory::{Ask, Directory, Setting, Weather};
use skerry_node::host::{Host, HostOptions};
use world::{BRANCHES, NODES, START_US, World, row, wanted};

fn live(seed: u64) -> BTreeSet<&'static str> {
    let mut world = World::new(seed);
    world.nodes.iter_mut().for_each(|node| node.wall_off = 0);
    for _ in 0..6_000 {
        world.trouble();
        world.step();
    }
    world.mend();
    world.gets_well(START_US + 40_000_000);
    drained_and_resumed(&mut world);
    cut_off_and_reached(&mut world);
    world.reached
}

fn drained_and_resumed(world: &mut World) {
    failed_over(world);
    // A drained node gives its branches away, one after the other, and takes none in its next life either.
    let drained = world.dice.below(NODES.len() as u64) as usize;
    world.say(drained, true);
    let end = world.us + 30_000_000;
    while !world.nodes[drained].host.is_empty() {
        world.step();
        assert!(world.us < end, "it does not give them away: {:?}", world.hosted());
    }
    world.nodes[drained].begin_again();
    world.run(15_000_000, |world| assert!(world.nodes[drained].host.is_empty(), "it takes one"));
    assert_eq!(world.hosted().iter().map(BTreeSet::len).sum::<usize>(), usize::from(BRANCHES));

    // Where nobody else takes them, branches stay where they are; and a branch without any node is worse than a node with one.
    let others: Vec<usize> = (0..NODES.len()).filter(|at| *at != drained).collect();
    others.iter().for_each(|at| world.say(*at, true));
    world.run(3_000_000, |_| {});
    let before = world.hosted();
    world.run(15_000_000, |world| assert_eq!(world.hosted(), before, "branches stay"));
    others.iter().for_each(|at| world.nodes[*at].paused_until = u64::MAX);
    world.run(20_000_000, |_| {});
    assert_eq!(world.hosted()[drained].len(), usize::from(BRANCHES), "the last resort");

    for at in 0..NODES.len() {
        world.nodes[at].paused_until = 0;
        world.say(at, false);
    }
    world.gets_well(40_000_000);
}

/// A node that the bus does not reach gives its branches away; where it reaches nobody they stay.
fn cut_off_and_reached(world: &mut World) {
    let cut = world.dice.below(NODES.len() as u64) as usize;
    world.nodes[cut].host.reached(false);
    let end = world.us + 30_000_000;
    while !world.nodes[cut].host.is_empty() {
        world.step();
        assert!(world.us < end, "it does not give them away: {:?}", world.hosted());
    }
    world.run(3_000_000, |world| assert!(world.nodes[cut].host.is_empty(), "it takes one"));
    world.nodes[cut].host.reached(true);
    world.gets_well(40_000_000);

    world.nodes.iter_mut().for_each(|node| node.host.reached(false));
    let before = world.hosted();
    world.run(15_000_000, |world| assert_eq!(world.hosted(), before, "branches stay"));
    world.nodes.iter_mut().for_each(|node| node.host.reached(true));
    world.gets_well(40_000_000);
}

/// A node dies: what others follow is open there soon after its lease, and nobody opens it from its beginning.
fn failed_over(world: &mut World) {
    let dies = world.dice.below(NODES.len() as u64) as usize;
    let followed = |branch: &u16| wanted(*branch) > 0;
    let lost: Vec<u16> = world.hosted()[dies].iter().copied().filter(followed).collect();
    let followers: BTreeMap<u16, Vec<usize>> = lost
        .iter()
        .map(|branch| {
            let follow = |at: &usize| world.nodes[*at].following.contains(branch);
            (*branch, (0..NODES.len()).filter(follow).collect())
        })
        .collect();
    world.nodes[dies].paused_until = u64::MAX;
    // A lease, a look, an ask and an opening.
    world.run(2_000_000 + 500_000 + 300_000 + 200_000, |_| {});
    for (branch, followers) in followers {
        let open = |at: &&usize| world.nodes[**at].serving.contains(&branch);
        assert_eq!(
            followers.iter().filter(open).count(),
            1,
            "branch {branch} is open at one of {followers:?}"
        );
    }
    world.nodes[dies].paused_until = 0;
    world.nodes[dies].begin_again();
    world.gets_well(40_000_000);
}

#[test]
fn never_two_hosts_and_soon_one() {
    let mut reached = BTreeSet::new();
    for seed in 1..=60 {
        match std::panic::catch_unwind(|| live(seed)) {
            Ok(mut states) => reached.append(&mut states),
            Err(_) => panic!("seed {seed}"),
        }
    }
    for state in [
        "paused",
        "began a new life",
        "the directory was started again",
        "drained",
        "stopped",
        "cut off the bus",
        "opened",
        "closed",
        "handed over",
        "a follower took over",
        "followed no more",
        "a branch did not open",
        "nobody",
        "somebody",
        "served beyond a lease",
    ] {
        assert!(reached.contains(state), "no life reached: {state}; reached {reached:?}");
    }
}

/// A node of a new release has what operators place on it, on the way in, while others run, and when it is begun again; nothing else, as
/// long as another node is there.
#[test]
fn a_gray_node_has_only_what_is_placed_on_it() {
    let mut world = World::new(7);
    world.nodes.iter_mut().for_each(|node| node.wall_off = 0);
    let calm = Weather { patience_us: 1_000_000, ..Weather::default() };
    world.directory.iter().for_each(|directory| directory.set_weather(calm));
    let gray = 1;
    let begin = |world: &mut World| {
        world.nodes[gray].begin_again();
        let node = &mut world.nodes[gray];
        let options = HostOptions { gray: true, ..HostOptions::new(row(&node.name), node.life) };
        node.host = Host::new(options);
    };
    begin(&mut world);
    let all_of = |world: &World| world.hosted().iter().map(BTreeSet::len).sum::<usize>();
    let end = world.us + START_US + 30_000_000;
    while all_of(&world) < usize::from(BRANCHES) {
        world.step();
        assert!(world.us < end, "not all are open: {:?}", world.hosted());
    }
    let nothing =
        |world: &World| assert_eq!(world.nodes[gray].host.branches().next(), None, "nobody gave it");
    world.run(15_000_000, nothing);

    let setting = Setting::Placement(Some(world.nodes[gray].name.clone()));
    let placed = Ask::Steer { branch: 1, setting };
    world.directory.iter_mut().for_each(|directory| {
        directory.submit(placed.clone()).unwrap();
    });
    world.run(15_000_000, |_| {});
    assert_eq!(world.hosted()[gray], [1].into());
    begin(&mut world);
    world.run(15_000_000, |_| {});
    assert_eq!((world.hosted()[gray].clone(), all_of(&world)), ([1].into(), usize::from(BRANCHES)));

    // The others die: the last resort.
    for at in (0..NODES.len()).filter(|at| *at != gray) {
        world.nodes[at].paused_until = u64::MAX;
    }
    world.run(20_000_000, |_| {});
    assert_eq!(world.hosted()[gray].len(), usize::from(BRANCHES));
}
