//! What carries the branches' messages, badly: the post's own wires, one for each branch, on a bus in bad weather.
//!
//! A message is lost, doubled, held back or damaged, and overtakes others; two branches do not hear each other for a while.

use std::collections::{BTreeMap, BTreeSet};

use skerry_branch::channels::Outgoing;
use skerry_bus::{Connect, FaultRates, FaultyBus, Limits, LocalExchange, Moment, Name, Weather};
use skerry_post::News;

use crate::dice::Dice;
use crate::site::PEERS;
use crate::tally::{Tally, Trouble};

/// Messages are late by up to so much.
const LATE_US: u64 = 3_000_000;
const WEATHER: FaultRates = FaultRates { loss: 35, doubling: 60, delay: 120, delay_us: LATE_US };

/// The bus between the branches.
pub(crate) struct Wire {
    dice: Dice,
    weather: Weather,
    /// By branch.
    ends: BTreeMap<u16, skerry_post::Wire>,
    /// Until which step two branches do not hear each other.
    cut_until: BTreeMap<(u16, u16), u64>,
    /// Something was sent since nothing came.
    is_busy: bool,
    tally: Tally,
}

fn name(branch: u16) -> Name {
    Name::new(&format!("branch-{branch}")).expect("a name")
}

impl Wire {
    pub(crate) fn new(mut dice: Dice) -> Self {
        let (exchange, weather) = (LocalExchange::default(), Weather::default());
        weather.set(WEATHER);
        let ends = PEERS.into_iter().map(|number| {
            let endpoint =
                exchange.connect(name(number), Limits::default()).expect("each name is one branch's");
            let bus = FaultyBus::new(endpoint, weather.clone(), dice.next());
            let mut end = skerry_post::Wire::new(Box::new(bus));
            let unheard = end.hear(&BTreeSet::from([number]));
            assert!(unheard.is_empty(), "a bus in memory takes subscriptions: {unheard:?}");
            (number, end)
        });
        let ends = ends.collect();
        Self { dice, weather, ends, cut_until: BTreeMap::new(), is_busy: false, tally: Tally::default() }
    }

    /// Two branches do not hear each other.
    pub(crate) fn cut(&mut self, one: u16, other: u16, until: u64) {
        self.tally.trouble(Trouble::Partition);
        self.cut_until.insert((one, other), until);
        self.weather.cut(name(one), name(other));
    }

    /// A step has come.
    pub(crate) fn pass(&mut self, step: u64) {
        let before = self.cut_until.len();
        self.cut_until.retain(|_, until| step < *until);
        if self.cut_until.len() < before {
            self.weather.heal();
            self.cut_until.keys().for_each(|(one, other)| self.weather.cut(name(*one), name(*other)));
        }
    }

    /// Takes a message with whatever befalls it.
    pub(crate) fn take(&mut self, from: u16, mut message: Outgoing) {
        if self.dice.chance(1, 48) {
            self.tally.trouble(Trouble::MessageDamaged);
            let mut bytes = message.bytes.to_vec();
            let at = self.dice.index(bytes.len());
            bytes[at] ^= 1 << self.dice.below(8);
            message.bytes = bytes.into();
        }
        self.send(from, message);
    }

    /// Takes a message as it is.
    pub(crate) fn send(&mut self, from: u16, message: Outgoing) {
        self.is_busy = true;
        if let Some(end) = self.ends.get_mut(&from) {
            // To a branch that there is not: it goes nowhere.
            let _dropped = end.send(message);
        }
    }

    /// The next message that arrives, at any branch. Nobody has looked whether it is one: a branch must find out.
    pub(crate) fn next(&mut self, us: u64) -> Option<Outgoing> {
        let first = self.dice.index(PEERS.len());
        for at in 0..PEERS.len() {
            let end = self.ends.get_mut(&PEERS[(first + at) % PEERS.len()])?;
            while let Some(news) = end.poll(Moment(us)) {
                if let News::Said { to, bytes } = news {
                    return Some(Outgoing { to, bytes });
                }
            }
        }
        self.is_busy = false;
        None
    }

    /// Whether some messages stay on their way in a step.
    pub(crate) fn dawdles(&mut self) -> bool {
        self.dice.chance(1, 8)
    }

    /// The weather clears; what was held back comes in its time.
    pub(crate) fn clear(&mut self) {
        self.cut_until.clear();
        self.weather.heal();
        self.weather.set(FaultRates::default());
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_busy && self.ends.values().all(|end| end.next_due().is_none())
    }

    /// What happened to messages.
    pub(crate) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// The same, with what the bus has counted.
    pub(crate) fn sum_up(&self) -> Tally {
        let (counts, mut tally) = (self.weather.counts(), self.tally.clone());
        tally.troubles(Trouble::MessageLost, counts.lost);
        tally.troubles(Trouble::MessageDoubled, counts.doubled);
        tally.troubles(Trouble::MessageLate, counts.late);
        tally
    }
}
