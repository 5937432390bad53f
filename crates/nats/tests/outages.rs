//! Servers that go away: a restart, one of three, all three. What was told as stored is delivered to each group, to one
//! with a window of 1 in order; what was taken while nobody was there is sent when somebody is; and the bound says busy
//! meanwhile.

mod common;

use std::time::{Duration, Instant};

use common::{Real, Servers};
use skerry_bus::contract::Rig;
use skerry_bus::{
    Bounds, Bus, ConsumeOptions, Event, Limits, Message, Moment, Name, Order, Pattern, RefusedKind,
    Settlement, Share, StreamSpec, Subject,
};
use skerry_nats::NatsBus;

struct Traffic {
    rig: Real,
    sender: NatsBus,
    /// One with the usual window, one with a window of 1.
    takers: [Taker; 2],
    taken: u32,
    stored: u32,
    busy: u32,
    links_lost: u32,
}

/// A group of its own.
struct Taker {
    bus: NatsBus,
    ready: bool,
    handled: Vec<u32>,
}

impl Taker {
    fn new(mut bus: NatsBus, group: &str, window: Option<u32>) -> Self {
        let mut options = ConsumeOptions::new(name("log"), Share::Group(name(group)));
        options.ack_wait_us = 3_000_000;
        options.window = window.unwrap_or(options.window);
        bus.consume(options).expect("it is declared");
        Self { bus, ready: false, handled: Vec::new() }
    }

    fn turn(&mut self, now: Moment) {
        while let Some(event) = self.bus.poll(now) {
            match event {
                Event::Ready { .. } => self.ready = true,
                Event::Delivered { delivery, message, .. } => {
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    self.handled.push(text.parse().expect("a number"));
                    let _late = self.bus.settle(delivery, Settlement::Done);
                }
                _ => (),
            }
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

impl Traffic {
    fn new(servers: Servers) -> Self {
        let mut rig = Real::new(servers);
        let limits = Limits { outgoing: Bounds::new(50, 1 << 20), ..Limits::default() };
        let mut buses = ["sender", "wide", "strict"].map(|text| rig.connect(name(text), limits));
        let spec = StreamSpec {
            name: name("log"),
            subjects: vec![Pattern::new("log.>").expect("a pattern")],
            labels: Vec::new(),
            bounds: Bounds::new(100_000, 64 << 20),
            dead: Bounds::new(100, 1 << 20),
        };
        for bus in &mut buses {
            declare(&mut rig, bus, &spec);
        }
        let [sender, wide, strict] = buses;
        let takers = [Taker::new(wide, "wide", None), Taker::new(strict, "strict", Some(1))];
        let mut traffic = Self { rig, sender, takers, taken: 0, stored: 0, busy: 0, links_lost: 0 };
        traffic.until("the consumers are ready", |traffic| traffic.takers.iter().all(|taker| taker.ready));
        traffic
    }

    /// Turns all until `done`, for a minute and a half at most.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let now = self.rig.now();
            while let Some(event) = self.sender.poll(now) {
                self.stored += u32::from(matches!(event, Event::Stored { .. }));
                self.links_lost += u32::from(event == Event::Link { up: false });
            }
            self.takers.iter_mut().for_each(|taker| taker.turn(now));
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{what}: not within 90 s; taken {}, stored {}, handled {:?}",
                self.taken,
                self.stored,
                self.takers.each_ref().map(|taker| taker.handled.len())
            );
            self.rig.idle();
        }
    }

    /// Offers the next message.
    fn offer(&mut self) -> bool {
        let subject = Subject::new("log.a").expect("a subject");
        match self.sender.store(&Message::new(subject, self.taken.to_string())) {
            Ok(_) => {
                self.taken += 1;
                true
            }
            Err(RefusedKind::Busy(_)) => {
                self.busy += 1;
                false
            }
            Err(other) => panic!("refused: {other}"),
        }
    }

    /// Stores `count` more and waits until all that was taken is stored.
    fn store(&mut self, count: u32) {
        let goal = self.taken + count;
        while self.taken < goal {
            if !self.offer() {
                let before = self.stored;
                self.until("room comes free", |traffic| traffic.stored > before);
            }
        }
        self.until("all is stored", |traffic| traffic.stored == traffic.taken);
    }

    /// All that was taken is handled by both; by the strict one, for the first time, in order.
    fn check(&mut self) {
        let all = usize::try_from(self.taken).expect("few");
        let has_all = |taker: &Taker| firsts(&taker.handled).len() >= all;
        self.until("all is handled", |traffic| traffic.takers.iter().all(has_all));
        let [mut wide, strict] = self.takers.each_ref().map(|taker| firsts(&taker.handled));
        assert!(strict.into_iter().eq(0..self.taken), "in order: {:?}", self.takers[1].handled);
        wide.sort_unstable();
        assert!(wide.into_iter().eq(0..self.taken), "nothing else: {:?}", self.takers[0].handled);
    }
}

/// The first time of each.
fn firsts(handled: &[u32]) -> Vec<u32> {
    let mut seen = std::collections::BTreeSet::new();
    handled.iter().copied().filter(|number| seen.insert(*number)).collect()
}

/// A cluster that has just begun needs a moment to elect: the order is given again until it is carried out.
fn declare(rig: &mut Real, bus: &mut NatsBus, spec: &StreamSpec) {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let wanted = bus.order(Order::Declare(spec.clone())).expect("there is room");
        let outcome = loop {
            let now = rig.now();
            match bus.poll(now) {
                Some(Event::Ordered { ticket, outcome }) if ticket == wanted => break outcome,
                Some(_) => (),
                None => rig.idle(),
            }
        };
        let Err(fault) = outcome else { return };
        assert!(Instant::now() < end, "the stream cannot be declared: {fault}");
    }
}

#[test]
fn a_server_restarts() {
    let mut traffic = Traffic::new(Servers::new(1, "", None));
    traffic.store(100);
    traffic.rig.servers.all[0].kill();
    traffic.until("the link is seen to be lost", |traffic| traffic.links_lost > 0);
    while traffic.offer() {}
    assert_eq!((traffic.stored, traffic.taken), (100, 150), "bounded while nobody is there");
    traffic.rig.servers.all[0].start();
    traffic.store(100);
    traffic.check();
}

#[test]
fn a_cluster_loses_any_one_and_then_all() {
    let mut traffic = Traffic::new(Servers::new(3, "", None));
    for lost in 0..3 {
        traffic.store(60);
        traffic.rig.servers.wait_until_healthy();
        traffic.rig.servers.all[lost].kill();
        traffic.store(60);
        traffic.rig.servers.all[lost].start();
        traffic.check();
    }
    traffic.rig.servers.all.iter_mut().for_each(common::Server::kill);
    let lost = traffic.links_lost;
    while traffic.offer() {}
    assert!(traffic.busy > 0 && lost <= traffic.links_lost);
    // Ten seconds of nobody: the time of the outage is what is tested.
    let end = Instant::now() + Duration::from_secs(10);
    traffic.until("ten seconds go by", |_| Instant::now() > end);
    let stored = traffic.stored;
    assert!(stored < traffic.taken);
    traffic.rig.servers.all.iter_mut().for_each(common::Server::start);
    traffic.store(60);
    traffic.check();
}
