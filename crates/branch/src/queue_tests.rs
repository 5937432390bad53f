//! Tests of the queue: turns, quotas, the operators' reserve.

use super::*;

fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

fn ask(name: &str, records: u32) -> Ask {
    Ask { principal: principal(name), reserved: false, own: false, records, bytes: 100 }
}

fn take(queue: &mut Queue<u32>, records: u32) -> Vec<u32> {
    let mut out = Vec::new();
    let blocked = queue.take(records, &mut out);
    assert_eq!(blocked, !queue.is_empty(), "what stays, stays for want of room");
    out.into_iter().map(|(_, item)| item).collect()
}

#[test]
fn one_flood_does_not_push_the_others_back() {
    let mut queue = Queue::new(Limits::default());
    for item in 0..100 {
        queue.admit(ask("flood", 8189), 0, item).unwrap();
    }
    queue.admit(ask("small", 1), 0, 1000).unwrap();
    let first_turns = take(&mut queue, 8192);
    assert!(first_turns.contains(&1000), "the small one is served within the first batch: {first_turns:?}");
}

#[test]
fn a_principal_keeps_its_order() {
    let mut queue = Queue::new(Limits::default());
    for item in 0..50 {
        queue.admit(ask(if item % 2 == 0 { "a" } else { "b" }, 1 + item % 7), 0, item).unwrap();
    }
    let mut taken = Vec::new();
    while !queue.is_empty() {
        taken.extend(take(&mut queue, 16));
    }
    for parity in 0..2 {
        let lane: Vec<u32> = taken.iter().copied().filter(|item| item % 2 == parity).collect();
        assert!(lane.is_sorted(), "{lane:?}");
    }
    assert_eq!(taken.len(), 50);
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_batch_is_never_overfilled() {
    let mut queue = Queue::new(Limits::default());
    queue.admit(ask("a", 8000), 0, 0).unwrap();
    queue.admit(ask("a", 8000), 0, 1).unwrap();
    assert_eq!(take(&mut queue, 8192), [0]);
    assert_eq!(take(&mut queue, 7999), [0_u32; 0]);
    assert_eq!(take(&mut queue, 8000), [1]);
}

#[test]
fn the_reserve_is_for_operators() {
    let limits = Limits { requests: 10, reserved_percent: 20, ..Limits::default() };
    let mut queue = Queue::new(limits);
    for item in 0..8 {
        queue.admit(ask("shop", 1), 0, item).unwrap();
    }
    let (busy, _) = queue.admit(ask("shop", 1), 0, 8).unwrap_err();
    assert_eq!(busy.reason, BusyReason::Queue);
    let operator = Ask { reserved: true, ..ask("operator", 1) };
    queue.admit(operator, 0, 9).unwrap();
    queue.admit(operator, 0, 10).unwrap();
    assert!(queue.admit(operator, 0, 11).is_err());
    assert_eq!(queue.turned_away(), TurnedAway { full: 2, ..TurnedAway::default() });
}

#[test]
fn rate_and_flight_are_per_principal() {
    let limits = Limits { records_per_second: 10, burst: 20, in_flight: 3, ..Limits::default() };
    let mut queue = Queue::new(limits);
    queue.admit(ask("a", 20), 0, 0).unwrap();
    let (busy, _) = queue.admit(ask("a", 5), 100_000, 1).unwrap_err();
    assert_eq!(busy.reason, BusyReason::Rate);
    assert_eq!(busy.retry_after_ms, 400, "one token came back in 100 ms, four are missing");
    queue.admit(ask("a", 5), 500_000, 1).unwrap();
    queue.admit(ask("a", 1), 700_000, 2).unwrap();
    let (busy, _) = queue.admit(ask("a", 1), 9_000_000, 3).unwrap_err();
    assert_eq!(busy.reason, BusyReason::InFlight);
    queue.admit(ask("b", 1), 700_000, 4).unwrap();
    take(&mut queue, 100);
    queue.done(&principal("a"), 9_000_000);
    queue.admit(ask("a", 1), 9_000_000, 5).unwrap();
    assert_eq!(queue.turned_away(), TurnedAway { quota: 2, ..TurnedAway::default() });
}

#[test]
fn no_rate_binds_the_banks_own_words() {
    let limits = Limits { records_per_second: 10, burst: 20, ..Limits::default() };
    let mut queue = Queue::new(limits);
    let own = |records| Ask { reserved: true, own: true, ..ask("bank", records) };
    // A page of what was lost counts for a full burst: behind a greeting it would never be admitted.
    for item in 0..10 {
        queue.admit(own(4), 0, item).unwrap();
        queue.admit(own(4_096), 0, item).unwrap();
    }
    let (busy, _) = queue.admit(Ask { own: false, ..own(4) }, 0, 11).unwrap_err();
    assert_eq!(busy.reason, BusyReason::Rate, "others are bound by what it took");
}

#[test]
fn a_closed_queue_admits_nobody_and_keeps_what_waits() {
    let mut queue = Queue::new(Limits::default());
    queue.admit(ask("a", 1), 0, 1).unwrap();
    queue.close();
    assert_eq!(queue.admit(ask("a", 1), 0, 2).unwrap_err().0.reason, BusyReason::Closed);
    assert_eq!(queue.turned_away(), TurnedAway { closed: 1, ..TurnedAway::default() });
    assert_eq!(take(&mut queue, 10), [1]);
    queue.reopen();
    queue.admit(ask("a", 1), 0, 3).unwrap();
}
