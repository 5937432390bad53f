//! Branches, stores, nodes, moved customers, versions and bounds.

use super::scene::{Rig, Scene, beat, customer, document, holder, name, node, reserve, room, row, store};
use crate::rows::{BranchRow, BranchState, Follow, Mode, Setting, Who};
use crate::seam::{Ask, Choice, Finding, LIST_MAX, Refusal, Told};

pub(super) fn a_new_directory_places_nobody_until_it_is_rebuilt(rig: &mut impl Rig) {
    let mut scene = Scene::empty(rig);
    assert!(scene.map().rebuilding);
    let refused = scene.refused(reserve(&[document(1)], Choice::Any, 1_000));
    assert_eq!(refused, Refusal::Rebuilding, "nobody knows whose the document is");
    scene.restart();
    assert_eq!(scene.refused(reserve(&[document(1)], Choice::Any, 1_000)), Refusal::Rebuilding);
    scene.rebuild(&[(document(1), customer(3, 4))]);
    assert_eq!(scene.find(document(1)), Finding::Customer(customer(3, 4)));
    assert!(!scene.map().rebuilding);
    let late = scene.record(1, &[(document(2), customer(3, 5))]);
    assert_eq!(late, Told::No(Refusal::NotRebuilding));
    scene.restart();
    assert!(!scene.map().rebuilding);
    assert_eq!(scene.find(document(1)), Finding::Customer(customer(3, 4)));
}

pub(super) fn branches_and_stores_are_kept_and_versioned(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[2, 1]);
    let mut version = scene.map().version;
    let mut changes = |scene: &mut Scene<'_, _>, ask: Ask, does: bool| {
        scene.done(ask.clone());
        let map = scene.map();
        assert_eq!(map.version > version, does, "{ask:?} makes another map");
        let since = scene.ask(Ask::Map { since: map.version });
        assert_eq!(since, Told::Unchanged);
        assert!(matches!(scene.ask(Ask::Map { since: map.version - 1 }), Told::Map(_)));
        version = map.version;
    };
    let steer = |setting| Ask::Steer { branch: 1, setting };
    changes(&mut scene, Ask::PutStore(store("second")), true);
    changes(&mut scene, Ask::PutStore(store("second")), false);
    changes(&mut scene, Ask::PutStore(store("third")), true);
    changes(&mut scene, Ask::DropStore(name("third")), true);
    changes(&mut scene, Ask::DropStore(name("third")), false);
    changes(&mut scene, beat(node("a")), true);
    changes(&mut scene, beat(node("a")), false);
    for setting in [
        Setting::Weight(1_000),
        Setting::Newcomers(false),
        Setting::Gray(true),
        Setting::Mode(Mode::Dedicated),
        Setting::State(BranchState::Founding),
        Setting::Store(name("second")),
        Setting::Placement(Some(name("a"))),
        Setting::Followers(3),
        Setting::Followers(2),
    ] {
        changes(&mut scene, steer(setting.clone()), true);
        changes(&mut scene, steer(setting), false);
    }
    changes(&mut scene, Ask::AddBranch(row(1)), false);
    changes(&mut scene, Ask::Report(vec![(1, room(5, 10)), (77, room(1, 1))]), false);

    let before = scene.map();
    let numbers: Vec<u16> = before.branches.iter().map(|entry| entry.row.number).collect();
    assert_eq!(numbers, [1, 2], "in the order of their numbers");
    let one = &before.branch(1).expect("it is there").row;
    assert_eq!((one.weight, one.newcomers, one.gray, one.mode), (1_000, false, true, Mode::Dedicated));
    assert_eq!((one.store.as_str(), one.state, one.followers), ("second", BranchState::Founding, 2));
    assert_eq!(before.branch(2).expect("it is there").row.followers, 0, "nobody wanted any");
    assert_eq!(before.branch(1).expect("it is there").room, room(5, 10));
    assert_eq!(
        scene.refused(Ask::DropStore(name("second"))).to_string(),
        "branch 1 keeps its journal in store second"
    );
    scene.restart();
    let after = scene.map();
    assert!(after.version >= before.version, "versions never come back");
    let rows =
        |map: &crate::rows::Map| map.branches.iter().map(|entry| entry.row.clone()).collect::<Vec<_>>();
    assert_eq!(rows(&after), rows(&before));
    assert_eq!(after.stores, before.stores);
    assert_eq!(after.nodes[0].row, before.nodes[0].row);
}

pub(super) fn the_chosen_bus_is_kept(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1]);
    assert_eq!(scene.map().bus, None, "nobody has chosen");
    let choose = |bus: &str, by: &str| Ask::UseBus { bus: name(bus), by: Who::new(by).expect("plain") };
    scene.done(choose("main", "chief"));
    let first = scene.map();
    let row = first.bus.clone().expect("it is chosen");
    assert_eq!((row.name.as_str(), row.by.as_str()), ("main", "chief"));
    scene.done(choose("main", "deputy"));
    let again = scene.map();
    assert_eq!((again.version, again.bus), (first.version, first.bus), "the same again changes nothing");
    scene.done(choose("local", "行长"));
    let second = scene.map();
    assert!(second.version > first.version);
    let row = second.bus.clone().expect("it is chosen");
    assert_eq!((row.name.as_str(), row.by.as_str()), ("local", "行长"));
    scene.rebuild(&[]);
    scene.restart();
    assert_eq!(scene.map().bus, second.bus, "over a restart, and customers that are taken in again");
}

pub(super) fn what_makes_no_sense_is_refused(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1]);
    let steer = |branch, setting| Ask::Steer { branch, setting };
    let version = scene.map().version;
    let lease = |lease_us| Ask::Acquire { branch: 1, holder: holder("a", 1), lease_us };
    let same = [document(1), document(1)];
    let follow = Follow { branch: 1, behind: None };
    let mut other_line = document(2);
    other_line.line = 9;
    for (ask, why) in [
        (steer(1, Setting::Weight(1_001)), "a weight is a number from 0 to 1000"),
        (steer(1, Setting::Followers(4)), "a branch has 0 to 3 followers"),
        (steer(2, Setting::Weight(1)), "there is no branch 2"),
        (steer(1, Setting::Store(name("gone"))), "there is no store gone"),
        (steer(1, Setting::Placement(Some(name("gone")))), "there is no node gone"),
        (Ask::AddBranch(row(0)), "a branch is a number from 1 to 9999"),
        (Ask::AddBranch(row(10_000)), "a branch is a number from 1 to 9999"),
        (Ask::AddBranch(BranchRow { followers: 4, ..row(2) }), "a branch has 0 to 3 followers"),
        (lease(99_999), "a lease is 0.1 to 60 seconds"),
        (lease(60_000_001), "a lease is 0.1 to 60 seconds"),
        (lease(1_000_000), "there is no node a"),
        (reserve(&[], Choice::Any, 1), "1 to 4 aliases, all different"),
        (reserve(&same, Choice::Any, 1), "1 to 4 aliases, all different"),
        (reserve(&[document(1), other_line], Choice::Any, 1), "the aliases of one customer are of one line"),
        (reserve(&[document(1)], Choice::Any, 120_000_001), "a claim runs for two minutes at most"),
        (reserve(&[document(1)], Choice::In(3), 1), "there is no branch 3"),
        (reserve(&[document(1)], Choice::Among(vec![3]), 1), "no branch that takes newcomers has room"),
        (Ask::Confirm { aliases: vec![document(1)], customer: customer(1, 0) }, "not a customer"),
        (Ask::Report(vec![(1, None); LIST_MAX + 1]), "too many branches in one ask"),
        (Ask::Beat { node: node("a"), follows: vec![follow; LIST_MAX + 1] }, "too many branches in one ask"),
        (Ask::PutMoved { customer: customer(1, 1), branch: Some(4) }, "there is no branch 4"),
    ] {
        assert_eq!(scene.refused(ask.clone()).to_string(), why, "{ask:?}");
    }
    assert_eq!(scene.map().version, version, "and nothing was changed");
}

pub(super) fn moved_customers_are_found(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    let put = |branch| Ask::PutMoved { customer: customer(1, 9), branch };
    assert_eq!(scene.ask(Ask::FindMoved(customer(1, 9))), Told::Moved(None));
    scene.done(put(Some(2)));
    scene.restart();
    assert_eq!(scene.ask(Ask::FindMoved(customer(1, 9))), Told::Moved(Some(2)));
    assert_eq!(scene.ask(Ask::FindMoved(customer(2, 9))), Told::Moved(None));
    scene.done(put(Some(1)));
    assert_eq!(scene.ask(Ask::FindMoved(customer(1, 9))), Told::Moved(None), "home again");
    scene.done(put(None));
}

pub(super) fn a_full_queue_is_busy(rig: &mut impl Rig) {
    use crate::seam::Directory;
    let mut scene = Scene::with_branches(rig, &[1]);
    let mut taken = 0_u32;
    while scene.first().submit(Ask::Find(document(1))).is_ok() {
        taken += 1;
        assert!(taken < 1 << 20, "a queue has a bound");
    }
    let mut told = 0;
    while told < taken {
        let now = scene.now();
        match scene.first().poll(now) {
            Some(answered) => {
                assert_eq!(answered.outcome, Ok(Told::Found(Finding::Nobody)));
                told += 1;
            }
            None => scene.idle(),
        }
    }
    assert_eq!(scene.find(document(1)), Finding::Nobody, "and takes more afterwards");
}
