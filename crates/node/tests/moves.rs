//! A branch goes from process to process, its holder dies, the bus loses and doubles: no request is answered twice, and each
//! payment of a client that follows the rules for retries is booked exactly once.
#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{
    BRANCH, Folder, Payers, ask, ask_within, booked, bus, key, moved, name, open, pay, transfer, wait_until,
};
use skerry_branch::api::{Asked, Body, BusyReason, GatewayKey, Read, Reply};
use skerry_branch::meters::Kind;
use skerry_bus::{FaultRates, FaultyBus, LocalExchange, Message, Weather};
use skerry_node::remote::wire::{self, Here};
use skerry_node::remote::{Holder, HolderOptions, RemoteOptions, RemoteSeats, subject_of_here};
use skerry_node::{Health, Hosted, Seat as _, Trouble};

#[test]
fn a_branch_that_moves_under_load_is_answered_for_without_a_loss() {
    let (folder, exchange) = (Folder::new(), LocalExchange::default());
    let seats = RemoteSeats::start(bus(&exchange, "gateway"), RemoteOptions::new(key())).unwrap();
    let holders =
        ["one", "two"].map(|node| Holder::start(bus(&exchange, node), HolderOptions::new(key())).unwrap());
    let branch = open(&folder.0);
    holders[0].add(Arc::new(Hosted::new(branch.handle())));
    let payers = Payers::begin(&seats, 3);
    let seat = seats.seat(BRANCH);
    let branch = moved(&folder.0, branch, &holders, &seat, 6);
    let paid = payers.end();
    assert_eq!(booked(&seat), paid);
    branch.close();
}

#[test]
fn nobody_is_told_to_try_again_because_a_branch_moves() {
    const LONG_US: u64 = 60_000_000;
    let (folder, exchange) = (Folder::new(), LocalExchange::default());
    let options = RemoteOptions { patience_us: LONG_US, ..RemoteOptions::new(key()) };
    let seats = RemoteSeats::start(bus(&exchange, "gateway"), options).unwrap();
    let holders =
        ["one", "two"].map(|node| Holder::start(bus(&exchange, node), HolderOptions::new(key())).unwrap());
    let branch = open(&folder.0);
    holders[0].add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("it is heard of", || seat.health().is_open());
    let over = AtomicBool::new(false);
    let is_over = || over.load(Ordering::SeqCst);
    let branch = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over() {
                    let asked = vec![Asked { transfer: transfer(), ..Asked::default() }];
                    let told = ask_within(&seat, Body::Transfers(asked), LONG_US);
                    let Some(Reply::Transfers(outcomes)) = told else { panic!("{told:?}") };
                    assert!(outcomes[0].is_ok(), "{outcomes:?}");
                }
            });
            scope.spawn(|| {
                while !is_over() {
                    assert_eq!(seat.record(0).unwrap().position, 0);
                    let told = ask_within(&seat, Body::Read(Read::Status), LONG_US);
                    assert!(matches!(told, Some(Reply::Answer(_))), "{told:?}");
                }
            });
        }
        let branch = moved(&folder.0, branch, &holders, &seat, 12);
        over.store(true, Ordering::SeqCst);
        branch
    });
    branch.close();
}

#[test]
fn what_a_lost_holder_was_asked_ends_as_unknown_and_the_next_one_tells() {
    let (folder, exchange, weather) = (Folder::new(), LocalExchange::default(), Weather::default());
    let seats = RemoteSeats::start(bus(&exchange, "gateway"), RemoteOptions::new(key())).unwrap();
    let lost = FaultyBus::new(bus(&exchange, "one"), weather.clone(), 1);
    let lost = Holder::start(lost, HolderOptions::new(key())).unwrap();
    let branch = open(&folder.0);
    lost.add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("it is heard of", || seat.health().is_open());
    pay(&seat, transfer());

    // The payment reaches the branch or not; its answer reaches nobody.
    weather.isolate(name("one"));
    let asked = transfer();
    let again = {
        let seat = seats.seat(BRANCH);
        std::thread::spawn(move || pay(&seat, asked))
    };
    wait_until("silence is noticed", || seat.health().state == "away");
    assert!(seat.health().reason.unwrap().contains("process one"));
    assert_eq!(seat.room(), None);
    branch.close();
    let branch = open(&folder.0);
    let next = Holder::start(bus(&exchange, "two"), HolderOptions::new(key())).unwrap();
    next.add(Arc::new(Hosted::new(branch.handle())));
    assert!(again.join().unwrap() >= 1, "its first try was answered unknown");
    assert_eq!(booked(&seat), 2);

    // The lost one comes back and knows nothing of it: nobody listens to it.
    weather.heal();
    pay(&seat, transfer());
    assert_eq!(booked(&seat), 3);
    drop((lost, next));
    branch.close();
}

#[test]
fn a_bus_that_loses_doubles_and_delays_books_each_payment_once() {
    let (folder, exchange, weather) = (Folder::new(), LocalExchange::default(), Weather::default());
    let asking = FaultyBus::new(bus(&exchange, "gateway"), weather.clone(), 7);
    let seats = RemoteSeats::start(asking, RemoteOptions::new(key())).unwrap();
    let holding = FaultyBus::new(bus(&exchange, "one"), weather.clone(), 8);
    let holder = Holder::start(holding, HolderOptions::new(key())).unwrap();
    let branch = open(&folder.0);
    holder.add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("it is heard of", || seat.health().is_open());
    weather.set(FaultRates { loss: 30, doubling: 100, delay: 100, delay_us: 20_000 });
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let seat = seats.seat(BRANCH);
            std::thread::spawn(move || (0..5).map(|_| pay(&seat, transfer())).sum::<u64>())
        })
        .collect();
    let unknown: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    weather.set(FaultRates::default());
    assert!(unknown > 0, "some were lost on their way");
    assert_eq!(booked(&seat), 200);
    branch.close();
}

#[test]
fn a_request_that_meets_nobody_goes_to_the_next_holder() {
    let (folder, exchange) = (Folder::new(), LocalExchange::default());
    let seats = RemoteSeats::start(bus(&exchange, "gateway"), RemoteOptions::new(key())).unwrap();
    let one = Holder::start(bus(&exchange, "one"), HolderOptions::new(key())).unwrap();
    let two = Holder::start(bus(&exchange, "two"), HolderOptions::new(key())).unwrap();
    let branch = open(&folder.0);
    let seat = seats.seat(BRANCH);
    assert_eq!(ask(&seat, Body::Read(Read::Status)).map(drop), None, "nobody has it");
    one.add(Arc::new(Hosted::new(branch.handle())));
    wait_until("it is heard of", || seat.health().is_open());
    // A word of a process that has it no more, as one that comes late would be.
    let mut stray = bus(&exchange, "stray");
    let health = Health { state: "open".into(), ..Health::default() };
    let here = Here {
        node: "two".into(),
        branch: BRANCH,
        epoch: seat.epoch() + 1,
        position: 0,
        covered: 0,
        gone: false,
        key: None,
        health,
    };
    skerry_bus::Bus::publish(&mut stray, &Message::new(subject_of_here(BRANCH), wire::encode(&here, &key())))
        .unwrap();
    wait_until("it is believed", || seat.epoch() == here.epoch);
    let asking = {
        let seat = seats.seat(BRANCH);
        std::thread::spawn(move || ask(&seat, Body::Read(Read::Status)))
    };
    one.remove(BRANCH);
    branch.close();
    let mut branch = open(&folder.0);
    while branch.handle().epoch() <= here.epoch {
        branch.close();
        branch = open(&folder.0);
    }
    two.add(Arc::new(Hosted::new(branch.handle())));
    let reply = asking.join().unwrap();
    assert!(matches!(reply, Some(Reply::Answer(_) | Reply::Busy(_))), "{reply:?}");
    wait_until("the next one answers", || {
        matches!(ask(&seat, Body::Read(Read::Status)), Some(Reply::Answer(_)))
    });
    branch.close();
}

#[test]
fn whoever_has_another_key_is_neither_heard_nor_answered() {
    let (folder, exchange) = (Folder::new(), LocalExchange::default());
    let foreign = GatewayKey::new([1; 32]);
    let seats = RemoteSeats::start(bus(&exchange, "gateway"), RemoteOptions::new(key())).unwrap();
    let others = RemoteSeats::start(bus(&exchange, "stranger"), RemoteOptions::new(foreign)).unwrap();
    let holder = Holder::start(bus(&exchange, "one"), HolderOptions::new(key())).unwrap();
    let branch = open(&folder.0);
    holder.add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("the bank's own hears of it", || seat.health().is_open());
    let record = seat.record(0).unwrap();
    assert_eq!(record.position, 0);
    let stranger = others.seat(BRANCH);
    assert_eq!(stranger.health().state, "away");
    assert!(matches!(stranger.record(0), Err(Trouble::NotYet(_))));
    branch.close();
}

#[test]
fn a_full_queue_says_busy_and_calls_no_reply() {
    let exchange = LocalExchange::default();
    let queue = skerry_bus::Bounds::new(4, 1);
    let options = RemoteOptions { queue, ..RemoteOptions::new(key()) };
    let seats = RemoteSeats::start(bus(&exchange, "gateway"), options).unwrap();
    let holder = Holder::start(bus(&exchange, "one"), HolderOptions::new(key())).unwrap();
    let folder = Folder::new();
    let branch = open(&folder.0);
    holder.add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("it is heard of", || seat.health().is_open());
    holder.remove(BRANCH);
    wait_until("the goodbye is heard", || seat.health().state == "away");
    // The first waits for the next holder, and has all the room there is.
    let (send, receive) = std::sync::mpsc::channel();
    let wish = || {
        let send = send.clone();
        common::request(common::operator(), Body::Read(Read::Status), move |reply| drop(send.send(reply)))
    };
    seat.submit(wish()).unwrap();
    let mut turned_away = 0;
    while let Err(busy) = seat.submit(wish()) {
        turned_away += 1;
        if busy.reason == BusyReason::Closed {
            break;
        }
        assert_eq!(busy.reason, BusyReason::Queue);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(turned_away > 0);
    let first = receive.recv().unwrap();
    assert!(matches!(first, Reply::Busy(busy) if busy.reason == BusyReason::Closed), "{first:?}");
    branch.close();
}

#[test]
fn a_copy_of_a_request_does_nothing() {
    let (folder, exchange, weather) = (Folder::new(), LocalExchange::default(), Weather::default());
    let asking = FaultyBus::new(bus(&exchange, "gateway"), weather.clone(), 7);
    let seats = RemoteSeats::start(asking, RemoteOptions::new(key())).unwrap();
    let holder = Holder::start(bus(&exchange, "one"), HolderOptions::new(key())).unwrap();
    let branch = open(&folder.0);
    holder.add(Arc::new(Hosted::new(branch.handle())));
    let seat = seats.seat(BRANCH);
    wait_until("it is heard of", || seat.health().is_open());
    weather.set(FaultRates { doubling: 1000, ..FaultRates::default() });
    for _ in 0..20 {
        assert!(matches!(ask(&seat, Body::Read(Read::Status)), Some(Reply::Answer(_))));
    }
    let handle = branch.handle();
    let reads = || handle.figures().meters.kind(Kind::Read).messages;
    wait_until("they are counted", || reads() >= 20);
    // A payment that is durable comes behind whatever came before it.
    pay(&seat, transfer());
    let transfers = || handle.figures().meters.kind(Kind::Transfers).messages;
    wait_until("it is counted", || transfers() >= 1);
    assert_eq!((reads(), transfers()), (20, 1));
    branch.close();
}
