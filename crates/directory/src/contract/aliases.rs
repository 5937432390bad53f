//! Opening customers: reserved, confirmed, released, forgotten, taken in again.

use super::scene::{Rig, Scene, customer, document, phone, reserve, room, row};
use crate::rows::{Alias, CustomerRef, Setting};
use crate::seam::{Ask, CLAIM_US_MAX, Choice, Finding, Rebuild, Refusal, Told};

fn confirm(aliases: &[Alias], customer: CustomerRef) -> Ask {
    Ask::Confirm { aliases: aliases.to_vec(), customer }
}

fn release(alias: Alias, claim: u64) -> Ask {
    Ask::Release { alias, claim }
}

/// The number of the last claim, where every claim has run out.
fn unsettled(told: &Told, what: (Alias, u16, Alias)) -> u64 {
    match told {
        Told::Unsettled { alias, branch, first, claim } => {
            assert_eq!((*alias, *branch, *first), what);
            *claim
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn a_customer_is_reserved_confirmed_and_found(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    assert_eq!(scene.find(document(1)), Finding::Nobody);
    let wish = reserve(&[document(1), phone(1)], Choice::Any, 1_000_000);
    assert_eq!(scene.ask(wish.clone()), Told::Reserved { branch: 1, joined: false });
    assert_eq!(
        scene.ask(wish.clone()),
        Told::Reserved { branch: 1, joined: true },
        "a retry is sent to the same"
    );
    assert_eq!(scene.find(document(1)), Finding::Reserved { branch: 1 });
    assert_eq!(scene.find(phone(1)), Finding::Reserved { branch: 1 });
    for _ in 0..2 {
        scene.done(confirm(&[document(1), phone(1)], customer(1, 7)));
    }
    assert_eq!(scene.find(phone(1)), Finding::Customer(customer(1, 7)));
    let taken = Told::Taken { alias: document(1), customer: customer(1, 7) };
    assert_eq!(scene.ask(wish), taken);
    let other_line = Alias { line: 1, ..document(1) };
    assert_eq!(scene.find(other_line), Finding::Nobody, "a line knows nothing of another");
    let other_document = reserve(&[document(2), phone(1)], Choice::Any, 1_000_000);
    assert_eq!(scene.ask(other_document), Told::Taken { alias: phone(1), customer: customer(1, 7) });
    assert_eq!(scene.find(document(2)), Finding::Nobody, "all of them or none");
}

pub(super) fn many_at_once_come_to_one_branch(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2, 3, 4]);
    for number in 0..20 {
        // Each would choose another branch.
        let asks = (0..12).map(|at| reserve(&[document(number)], Choice::In(1 + at % 4), 10_000_000));
        let told = scene.ask_all(asks.collect());
        let branches: Vec<(u16, bool)> = told
            .iter()
            .map(|told| match told {
                Told::Reserved { branch, joined } => (*branch, *joined),
                other => panic!("not reserved: {other:?}"),
            })
            .collect();
        let first = branches[0].0;
        assert!(branches.iter().all(|(branch, _)| *branch == first), "{branches:?}");
        assert!(branches.iter().filter(|(_, joined)| !joined).count() <= 1, "one of them was first");
        assert_eq!(scene.find(document(number)), Finding::Reserved { branch: first });
    }
}

pub(super) fn a_reservation_outlives_a_restart(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    let branch = scene.reserved(&[document(1), phone(1)], Choice::In(2));
    scene.restart();
    assert_eq!(scene.find(document(1)), Finding::Reserved { branch });
    assert_eq!(scene.reserved(&[document(1)], Choice::In(2)), 2);
    scene.done(confirm(&[document(1), phone(1)], customer(2, 1)));
    scene.reserved(&[document(2)], Choice::In(1));
    scene.restart();
    // A confirmation may be forgotten, alone; the reservation never.
    for alias in [document(1), phone(1)] {
        let found = scene.find(alias);
        let good = [Finding::Customer(customer(2, 1)), Finding::Reserved { branch: 2 }];
        assert!(good.contains(&found), "{found:?}");
    }
    assert_eq!(scene.find(document(2)), Finding::Reserved { branch: 1 });
}

pub(super) fn a_second_alias_waits_for_its_first(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    let short = reserve(&[document(1), phone(1)], Choice::In(2), 300_000);
    assert!(matches!(scene.ask(short), Told::Reserved { branch: 2, .. }));
    let other = reserve(&[document(2), phone(1)], Choice::In(1), 300_000);
    let claim = loop {
        match scene.ask(other.clone()) {
            Told::Held { alias, branch, .. } => assert_eq!((alias, branch), (phone(1), 2)),
            told => break unsettled(&told, (phone(1), 2, document(1))),
        }
        scene.idle();
    };
    assert_eq!(scene.find(document(2)), Finding::Nobody);
    // Branch 2 was asked and knows no such customer.
    scene.done(release(phone(1), claim));
    scene.done(release(phone(1), claim));
    assert_eq!(scene.ask(other), Told::Reserved { branch: 1, joined: false });
    assert_eq!(
        scene.find(document(1)),
        Finding::Reserved { branch: 2 },
        "that is for its own claimants to settle"
    );
    assert_eq!(scene.refused(release(phone(1), claim)), Refusal::Claimed(phone(1)), "it is another's by now");
    scene.restart();
    assert_eq!(scene.find(phone(1)), Finding::Reserved { branch: 1 });
}

pub(super) fn a_claim_is_released_only_when_it_has_run_out(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    let wish = |branch, within_us| reserve(&[document(1)], Choice::In(branch), within_us);
    assert!(matches!(scene.ask(wish(1, 100_000)), Told::Reserved { branch: 1, .. }));
    let long = scene.ask(wish(1, 30_000_000));
    assert_eq!(long, Told::Reserved { branch: 1, joined: true }, "the longest claim counts");
    assert_eq!(scene.refused(release(document(1), 1)), Refusal::Claimed(document(1)));

    let own = (document(2), 1, document(2));
    let both = [document(2), phone(2)];
    let wish = |branch| reserve(&both, Choice::In(branch), 0);
    assert!(matches!(scene.ask(wish(1)), Told::Reserved { branch: 1, .. }));
    scene.idle();
    let early = unsettled(&scene.ask(wish(2)), own);
    assert_eq!(
        scene.ask(wish(1)),
        Told::Reserved { branch: 1, joined: true },
        "the same branch settles it by itself"
    );
    scene.idle();
    assert_eq!(
        scene.refused(release(document(2), early)),
        Refusal::Claimed(document(2)),
        "it was claimed since"
    );
    scene.done(Ask::Steer { branch: 1, setting: Setting::Newcomers(false) });
    let claim = unsettled(&scene.ask(reserve(&[document(2)], Choice::Any, 0)), own);
    scene.done(release(document(2), claim));
    assert_eq!(scene.find(phone(2)), Finding::Nobody, "the rest of the reservation goes with its first");
    assert_eq!(scene.reserved(&[document(2)], Choice::Any), 2);
}

pub(super) fn another_branch_is_refused(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    scene.reserved(&[document(1)], Choice::In(1));
    let wrong = scene.refused(confirm(&[document(2), document(1)], customer(2, 1)));
    assert_eq!(wrong, Refusal::Elsewhere { alias: document(1), branch: 1 });
    assert_eq!(scene.find(document(2)), Finding::Nobody, "all of them or none");
    scene.done(confirm(&[document(1)], customer(1, 1)));
    let wrong = scene.refused(confirm(&[document(1)], customer(2, 1)));
    assert_eq!(wrong, Refusal::Elsewhere { alias: document(1), branch: 1 });
    // The branch's own book says whose it is now.
    scene.done(confirm(&[document(1)], customer(1, 2)));
    assert_eq!(scene.find(document(1)), Finding::Customer(customer(1, 2)));
    // A claim that was released and acted upon all the same tells where it was.
    scene.done(confirm(&[document(3)], customer(2, 5)));
    assert_eq!(scene.find(document(3)), Finding::Customer(customer(2, 5)));
}

pub(super) fn newcomers_are_spread_by_room_weight_and_gray(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2, 3]);
    scene.done(Ask::Report(vec![(1, room(0, 8)), (2, room(0, 4)), (3, room(0, 100))]));
    scene.done(Ask::Steer { branch: 3, setting: Setting::Gray(true) });
    let mut next = 100;
    let mut place = |scene: &mut Scene<'_, _>, choice| {
        next += 1;
        scene.ask(reserve(&[document(next)], choice, 10_000_000))
    };
    let mut counts = [0; 3];
    for _ in 0..12 {
        let Told::Reserved { branch, .. } = place(&mut scene, Choice::Any) else { panic!("there is room") };
        counts[usize::from(branch) - 1] += 1;
    }
    assert_eq!(counts, [8, 4, 0], "the gray one is the last resort");
    let told = place(&mut scene, Choice::Among(vec![1, 2]));
    assert_eq!(told, Told::No(Refusal::NoRoom));
    assert_eq!(place(&mut scene, Choice::Any), Told::Reserved { branch: 3, joined: false });
    scene.done(Ask::Report(vec![(1, None), (2, room(4, 104)), (3, room(0, 100))]));
    scene.done(Ask::Steer { branch: 3, setting: Setting::Gray(false) });
    scene.done(Ask::Steer { branch: 2, setting: Setting::Weight(50) });
    assert_eq!(
        place(&mut scene, Choice::Any),
        Told::Reserved { branch: 3, joined: false },
        "99 against 100 halved"
    );
    scene.done(Ask::Steer { branch: 3, setting: Setting::Newcomers(false) });
    assert_eq!(place(&mut scene, Choice::Any), Told::Reserved { branch: 2, joined: false });
    let named = place(&mut scene, Choice::In(3));
    assert_eq!(named, Told::Reserved { branch: 3, joined: false }, "an operator may still name it");
    let told = place(&mut scene, Choice::Among(vec![1, 3]));
    assert_eq!(told, Told::No(Refusal::NoRoom));
}

pub(super) fn what_is_forgotten_can_be_another_s(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    scene.reserved(&[document(1)], Choice::In(1));
    scene.done(confirm(&[document(1)], customer(1, 1)));
    let forget = |customer| Ask::Forget { aliases: vec![document(1)], customer };
    scene.done(forget(customer(1, 2)));
    assert_eq!(scene.find(document(1)), Finding::Customer(customer(1, 1)), "it is not theirs");
    for _ in 0..2 {
        scene.done(forget(customer(1, 1)));
    }
    assert_eq!(scene.find(document(1)), Finding::Nobody);
    scene.restart();
    assert_eq!(scene.find(document(1)), Finding::Nobody);
    assert_eq!(scene.reserved(&[document(1)], Choice::In(2)), 2);
}

pub(super) fn a_rebuild_takes_everybody_in_again(rig: &mut impl Rig) {
    let mut scene = Scene::with_branches(rig, &[1, 2]);
    for number in 1..=40 {
        let branch = scene.reserved(&[document(number)], Choice::In(1 + u16::from(number) % 2));
        scene.done(confirm(&[document(number)], customer(branch, u32::from(number))));
    }
    scene.reserved(&[document(77)], Choice::In(2));
    let begun = scene.ask(Ask::Rebuild(Rebuild::Begin));
    let soon = matches!(begun, Told::Rebuilding { scan_after_us, .. } if scan_after_us <= CLAIM_US_MAX);
    assert!(soon, "no claim that was lost runs longer: {begun:?}");
    let number = scene.begin_rebuild();
    assert_eq!(scene.find(document(1)), Finding::Nobody);
    assert_eq!(scene.find(document(77)), Finding::Reserved { branch: 2 }, "who is being opened stays bound");
    assert_eq!(scene.refused(reserve(&[document(1)], Choice::Any, 1)), Refusal::Rebuilding);
    let half = |range: std::ops::RangeInclusive<u8>| {
        range.map(|n| (document(n), customer(1 + u16::from(n) % 2, u32::from(n)))).collect::<Vec<_>>()
    };
    scene.record(number, &half(1..=20));
    scene.restart();
    assert!(scene.map().rebuilding, "a rebuild that did not end is none");
    let first = scene.begin_rebuild();
    scene.record(first, &half(1..=40));
    let number = scene.begin_rebuild();
    assert_eq!(scene.find(document(1)), Finding::Nobody);
    assert_eq!(scene.record(first, &half(1..=40)), Told::No(Refusal::NotRebuilding));
    assert_eq!(scene.refused(Ask::Rebuild(Rebuild::End { number: first })), Refusal::NotRebuilding);
    for _ in 0..2 {
        assert_eq!(scene.record(number, &half(1..=40)), Told::Recorded { elsewhere: vec![] });
    }
    let twice = [(document(1), customer(1, 99)), (document(77), customer(2, 77))];
    let told = scene.record(number, &twice);
    assert_eq!(told, Told::Recorded { elsewhere: vec![(document(1), customer(2, 1))] }, "told, not hidden");
    for _ in 0..2 {
        scene.done(Ask::Rebuild(Rebuild::End { number }));
    }
    scene.restart();
    for (alias, whose) in half(1..=40) {
        assert_eq!(scene.find(alias), Finding::Customer(whose));
    }
    assert_eq!(scene.find(document(77)), Finding::Customer(customer(2, 77)));
    scene.done(Ask::AddBranch(row(3)));
}
