//! Who counts as a branch's holder, announcement by announcement.

use super::*;

fn here(node: &str, epoch: u64, position: u64) -> Here {
    let health = Health { state: "open".into(), ..Health::default() };
    Here { node: node.into(), branch: 7, epoch, position, covered: 0, gone: false, key: None, health }
}

fn holder(stand: &Stand) -> Option<String> {
    stand.holder().map(|name| name.to_string())
}

#[test]
fn the_higher_epoch_has_it_and_the_lower_one_is_not_heard() {
    let stand = Stand::default();
    assert!(stand.hear(here("a", 3, 10), Moment(1)).changed);
    assert!(stand.hear(here("b", 4, 12), Moment(2)).changed);
    assert_eq!(stand.hear(here("a", 3, 99), Moment(3)), Heard::default());
    assert_eq!(holder(&stand).as_deref(), Some("b"));
    assert_eq!(stand.durable.load(Ordering::Acquire), 12);
    assert!(stand.is_stale(3) && !stand.is_stale(4) && !stand.is_stale(0));
}

#[test]
fn a_former_holder_does_not_come_back_when_the_present_one_falls_silent() {
    let stand = Stand::default();
    stand.hear(here("a", 3, 10), Moment(1));
    stand.hear(here("b", 4, 12), Moment(2));
    assert!(stand.check(Moment(3 + SILENCE_US)));
    assert!(!stand.hear(here("a", 3, 13), Moment(4 + SILENCE_US)).taken);
    assert_eq!(holder(&stand), None);
    assert_eq!(stand.health(Moment(5 + SILENCE_US)).state, "away");
}

#[test]
fn positions_only_grow_within_an_epoch_and_may_fall_with_the_next() {
    let stand = Stand::default();
    assert!(stand.hear(here("a", 3, 10), Moment(1)).moved);
    assert!(!stand.hear(here("a", 3, 9), Moment(2)).moved);
    assert_eq!(stand.durable.load(Ordering::Acquire), 10);
    assert!(stand.hear(here("a", 5, 8), Moment(3)).moved);
    assert_eq!(stand.durable.load(Ordering::Acquire), 8);
}

#[test]
fn a_process_that_could_not_open_it_is_shown_and_takes_it_from_nobody() {
    let stand = Stand::default();
    stand.hear(here("a", 3, 10), Moment(1));
    assert!(!stand.hear(here("b", 0, 0), Moment(2)).taken);
    stand.deny(Name::new("a").unwrap(), Moment(3));
    assert!(stand.hear(here("b", 0, 0), Moment(4)).taken);
    assert_eq!(stand.durable.load(Ordering::Acquire), 10);
    assert!(stand.hear(here("a", 4, 10), Moment(5)).changed);
}

#[test]
fn who_has_it_is_heard_again_after_one_that_could_not_open_it_was_shown() {
    let stand = Stand::default();
    stand.hear(here("a", 3, 10), Moment(1));
    assert!(stand.check(Moment(2 + SILENCE_US)), "a fell silent");
    assert!(stand.hear(here("b", 0, 0), Moment(3 + SILENCE_US)).taken);
    assert!(stand.hear(here("a", 3, 11), Moment(4 + SILENCE_US)).changed);
    assert_eq!(holder(&stand).as_deref(), Some("a"));
    assert!(!stand.hear(here("b", 0, 0), Moment(5 + SILENCE_US)).taken);
}

#[test]
fn requests_wait_for_a_while_after_a_goodbye_and_are_then_turned_away() {
    let stand = Stand::default();
    assert!(!stand.may_be_asked(Moment(1), 50));
    stand.hear(here("a", 3, 10), Moment(1));
    let gone = Here { gone: true, ..here("a", 3, 10) };
    assert!(stand.hear(gone, Moment(10)).changed);
    assert!(stand.may_be_asked(Moment(10 + 50), 50));
    assert!(!stand.may_be_asked(Moment(11 + 50), 50));
}
