//! Leases and nodes: who may try.

use super::scene::{Rig, Scene, beat, holder, name, node};
use crate::rows::{BranchState, Follow, Setting, Who};
use crate::seam::{Ask, Refusal, Told};

const LEASE_US: u64 = 500_000;

fn acquire(branch: u16, node: &str, incarnation: u64) -> Ask {
    Ask::Acquire { branch, holder: holder(node, incarnation), lease_us: LEASE_US }
}

fn renew(branches: &[u16], node: &str, incarnation: u64) -> Ask {
    Ask::Renew { branches: branches.to_vec(), holder: holder(node, incarnation), lease_us: LEASE_US }
}

fn with_nodes<R: Rig>(rig: &mut R) -> Scene<'_, R> {
    let mut scene = Scene::with_branches(rig, &[1, 2, 3]);
    scene.done(beat(node("a")));
    scene.done(beat(node("b")));
    scene
}

/// Whoever holds the branch gives it up.
fn give_up(scene: &mut Scene<'_, impl Rig>, branch: u16) {
    if let Some(lease) = scene.map().branch(branch).and_then(|entry| entry.lease.clone()) {
        scene.done(Ask::GiveUp { leases: vec![(branch, lease.grant)], holder: lease.holder });
    }
}

fn granted(told: &Told) -> bool {
    matches!(told, Told::Granted { .. })
}

pub(super) fn one_holder_at_a_time(rig: &mut impl Rig) {
    let mut scene = with_nodes(rig);
    for round in 0..10 {
        let asks = (0..12).map(|at| acquire(1, if at % 2 == 0 { "a" } else { "b" }, round * 100 + at));
        let told = scene.ask_all(asks.collect());
        assert_eq!(told.iter().filter(|told| granted(told)).count(), 1, "{told:?}");
        let lease = scene.map().branch(1).and_then(|entry| entry.lease.clone()).expect("somebody has it");
        assert!(lease.left_us <= LEASE_US, "{}", lease.left_us);
        let late = vec![(1, lease.grant + 1), (2, lease.grant)];
        scene.done(Ask::GiveUp { leases: late, holder: lease.holder.clone() });
        let still = scene.map().branch(1).and_then(|entry| entry.lease.clone());
        assert!(still.is_none_or(|still| still.grant == lease.grant), "that was another grant");
        scene.done(Ask::GiveUp { leases: vec![(1, lease.grant)], holder: lease.holder });
        assert_eq!(scene.map().branch(1).and_then(|entry| entry.lease.clone()), None);
    }
}

pub(super) fn a_lease_is_another_s_only_after_its_time(rig: &mut impl Rig) {
    let mut scene = with_nodes(rig);
    let sent = scene.now().monotonic_us;
    let told = scene.ask(acquire(1, "a", 1));
    let Told::Granted { grant, lease_us, wall_us } = told else { panic!("{told:?}") };
    let near = scene.now().wall_us.abs_diff(wall_us);
    assert!(lease_us == LEASE_US && near < 60_000_000, "the directory tells its own clock: {near}");
    let before = scene.map();
    let again = scene.ask(acquire(1, "a", 1));
    assert!(
        matches!(again, Told::Granted { grant: same, .. } if same == grant),
        "a retry is granted: {again:?}"
    );
    assert_eq!(scene.map().version, before.version, "and nothing else");
    let another_life = scene.refused(acquire(1, "a", 2));
    assert!(
        matches!(another_life, Refusal::HeldBy { left_us, .. } if left_us <= LEASE_US),
        "{another_life:?}"
    );
    loop {
        match scene.ask(acquire(1, "b", 1)) {
            Told::Granted { grant: other, .. } => {
                assert!(other > grant, "grants are numbered");
                break;
            }
            Told::No(Refusal::HeldBy { holder: other, .. }) => assert_eq!(other, holder("a", 1)),
            wrong => panic!("{wrong:?}"),
        }
        scene.idle();
    }
    let passed = scene.now().monotonic_us - sent;
    assert!(passed >= LEASE_US, "{passed} us after it was asked for it was another's");
    let after = scene.map();
    assert!(after.version > before.version);
    let told = scene.ask(renew(&[1], "a", 1));
    assert!(matches!(&told, Told::Renewed { kept, lost, .. } if kept.is_empty() && *lost == [1]), "{told:?}");
    scene.done(Ask::GiveUp { leases: vec![(1, grant)], holder: holder("a", 1) });
    let lease = scene.map().branch(1).and_then(|entry| entry.lease.clone());
    assert_eq!(lease.map(|lease| lease.holder), Some(holder("b", 1)), "another's lease is not given up");
    scene.done(Ask::Steer { branch: 2, setting: Setting::State(BranchState::Closed) });
    assert_eq!(scene.refused(acquire(2, "a", 1)), Refusal::NotOpen(2));
    assert_eq!(scene.refused(acquire(9, "a", 1)), Refusal::NoBranch(9));
    assert_eq!(scene.refused(acquire(1, "c", 1)), Refusal::NoNode(name("c")));
}

pub(super) fn renewing_keeps_what_is_kept_and_tells_what_is_lost(rig: &mut impl Rig) {
    let mut scene = with_nodes(rig);
    assert!(granted(&scene.ask(acquire(1, "a", 1))) && granted(&scene.ask(acquire(2, "a", 1))));
    assert!(granted(&scene.ask(acquire(3, "b", 1))));
    let begun = scene.now().monotonic_us;
    // As long as it is renewed it is nobody else's, however long that is.
    while scene.now().monotonic_us - begun < 3 * LEASE_US {
        let sent = scene.now().monotonic_us;
        let told = scene.ask(renew(&[1, 2, 3, 4], "a", 1));
        let Told::Renewed { kept, lost, .. } = told else { panic!("{told:?}") };
        assert_eq!((kept, lost), (vec![1, 2], vec![3, 4]));
        let tried = scene.ask(acquire(1, "b", 1));
        let late = scene.now().monotonic_us - sent >= LEASE_US;
        assert!(late || matches!(tried, Told::No(Refusal::HeldBy { .. })), "{tried:?}");
        if granted(&tried) {
            // This machine stood still for longer than a lease: begin again.
            give_up(&mut scene, 1);
            scene.ask(acquire(1, "a", 1));
        }
        scene.idle();
    }
    // Nobody took branch 2 in the meantime: the same holder goes on.
    while scene.map().branch(2).is_some_and(|entry| entry.lease.is_some()) {
        scene.idle();
    }
    let told = scene.ask(renew(&[2], "a", 1));
    assert!(matches!(&told, Told::Renewed { kept, .. } if *kept == [2]), "{told:?}");
}

pub(super) fn nodes_come_and_go(rig: &mut impl Rig) {
    let mut scene = with_nodes(rig);
    assert!(granted(&scene.ask(acquire(1, "a", 1))));
    let refused = scene.refused(Ask::DropNode(name("a")));
    assert_eq!(refused, Refusal::NodeInUse { node: name("a"), branch: 1 });
    give_up(&mut scene, 1);
    scene.done(beat(crate::rows::NodeRow { draining: true, ..node("a") }));
    let map = scene.map();
    let names: Vec<&str> = map.nodes.iter().map(|entry| entry.row.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(map.nodes[0].row.draining && map.nodes[0].silent_us < 60_000_000);
    scene.done(Ask::DropNode(name("a")));
    scene.done(Ask::DropNode(name("a")));
    assert_eq!(scene.map().nodes.len(), 1);
    scene.restart();
    assert_eq!(scene.map().nodes.len(), 1);
}

pub(super) fn a_drain_is_kept_until_it_is_taken_back(rig: &mut impl Rig) {
    let mut scene = with_nodes(rig);
    let drain = |node: &str, by: Option<&str>| Ask::Drain {
        node: name(node),
        by: by.map(|by| Who::new(by).expect("plain")),
    };
    let who = |scene: &mut Scene<'_, _>, node: &str| {
        let map = scene.map();
        map.node(&name(node)).expect("it is there").drain.as_ref().map(|row| row.by.to_string())
    };
    assert!(scene.map().nodes.iter().all(crate::rows::NodeEntry::takes), "nobody has said so");
    for by in [Some("chief"), None] {
        assert_eq!(scene.refused(drain("gone", by)), Refusal::NoNode(name("gone")));
    }
    let version = scene.map().version;
    scene.done(drain("a", None));
    assert_eq!(scene.map().version, version, "there is nothing to take back");
    scene.done(drain("a", Some("chief")));
    let first = scene.map();
    assert!(first.version > version);
    assert!(!first.nodes[0].takes() && first.nodes[1].takes());
    scene.done(drain("a", Some("行长")));
    let again = scene.map();
    assert_eq!(
        (again.version, &again.nodes[0].drain),
        (first.version, &first.nodes[0].drain),
        "said already"
    );

    // What the node says of itself leaves it as it is, and so does another life of either.
    scene.done(beat(node("a")));
    scene.restart();
    scene.done(beat(crate::rows::NodeRow { capacity: 1, ..node("a") }));
    assert_eq!(scene.map().nodes[0].drain, first.nodes[0].drain);
    assert!(granted(&scene.ask(acquire(1, "a", 1))), "a lease is given to whoever asks: plans look at it");
    give_up(&mut scene, 1);

    scene.done(drain("a", None));
    let back = scene.map();
    assert!(back.nodes[0].takes() && back.version > again.version);
    scene.done(drain("b", Some("chief")));
    scene.restart();
    assert_eq!((who(&mut scene, "a"), who(&mut scene, "b")), (None, Some("chief".to_owned())));
    scene.done(Ask::DropNode(name("b")));
    scene.done(beat(node("b")));
    assert_eq!(who(&mut scene, "b"), None, "a node that was dropped begins anew");
}

pub(super) fn what_a_node_follows_is_what_it_said_last(rig: &mut impl Rig) {
    let mut scene = with_nodes(rig);
    let says = |follows: &[(u16, Option<u64>)]| Ask::Beat {
        node: node("b"),
        follows: follows.iter().map(|(branch, behind)| Follow { branch: *branch, behind: *behind }).collect(),
    };
    let told = |scene: &mut Scene<'_, _>, of: &str| {
        let map = scene.map();
        let follows = &map.node(&name(of)).expect("it is there").follows;
        follows.iter().map(|follow| (follow.branch, follow.behind)).collect::<Vec<_>>()
    };
    assert_eq!((told(&mut scene, "a"), told(&mut scene, "b")), (vec![], vec![]));
    let before = scene.map();
    scene.done(says(&[(1, Some(0)), (3, None), (2, Some(u64::from(u32::MAX) + 7))]));
    assert_eq!(told(&mut scene, "b"), [(1, Some(0)), (3, None), (2, Some(u64::from(u32::MAX) + 7))]);
    assert_eq!(told(&mut scene, "a"), []);
    let near: Vec<bool> = scene.map().nodes[1].follows.iter().map(Follow::is_near).collect();
    assert_eq!(near, [true, false, false], "what nobody knows is not near");
    assert_eq!(scene.map().version, before.version, "it changes many times a second");
    scene.done(says(&[(2, Some(5))]));
    assert_eq!(told(&mut scene, "b"), [(2, Some(5))]);
    scene.done(says(&[]));
    assert_eq!(told(&mut scene, "b"), []);
    scene.done(says(&[(1, Some(0))]));
    scene.done(Ask::DropNode(name("b")));
    scene.done(beat(node("b")));
    assert_eq!(told(&mut scene, "b"), []);
}
