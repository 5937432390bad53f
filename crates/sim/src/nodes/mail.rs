//! What a node's branches say to others: the post's own wires, on two buses at once, one of which is chosen.

use std::collections::BTreeSet;

use skerry_branch::channels::Outgoing;
use skerry_bus::{Connect, FaultyBus, Limits, LocalExchange, Moment, Name, Weather};
use skerry_post::{News, Wire, is_sealed};

use crate::dice::Dice;
use crate::site::gateway;

/// The names of the buses, as an operator chooses them.
pub(super) const BUSES: [&str; 2] = ["first", "second"];

/// Both buses, with the weather over them.
#[derive(Debug, Default)]
pub(super) struct Buses {
    exchanges: [LocalExchange; 2],
    pub(super) weathers: [Weather; 2],
}

/// One node on both.
pub(super) struct Mail {
    name: Name,
    wires: Vec<Wire>,
    weathers: [Weather; 2],
    /// Where it sends.
    pub(super) chosen: usize,
}

impl Mail {
    /// On both buses; nobody of that name may be on them.
    pub(super) fn connect(buses: &Buses, name: Name, dice: &mut Dice) -> Self {
        let wire = |(exchange, weather): (&LocalExchange, &Weather)| {
            let endpoint = exchange.connect(name, Limits::default()).expect("the former endpoint is gone");
            Wire::new(Box::new(FaultyBus::new(endpoint, weather.clone(), dice.next())))
        };
        let wires = buses.exchanges.iter().zip(&buses.weathers).map(wire).collect();
        Self { name, wires, weathers: buses.weathers.clone(), chosen: 0 }
    }

    /// Whether the usual bus, which is the first, and the chosen one reach the node.
    pub(super) fn is_reached(&self) -> bool {
        [0, self.chosen].into_iter().all(|bus| !self.weathers[bus].is_isolated(self.name))
    }

    /// Hears what is said to these branches.
    pub(super) fn hear(&mut self, branches: &BTreeSet<u16>) {
        for wire in &mut self.wires {
            let unheard = wire.hear(branches);
            assert!(unheard.is_empty(), "a bus in memory takes subscriptions: {unheard:?}");
        }
    }

    /// A full bus drops it; it is said again.
    pub(super) fn send(&mut self, message: Outgoing) {
        let _dropped = self.wires[self.chosen].send(message);
    }

    /// What came, and whether it is what a branch of the bank said.
    pub(super) fn poll(&mut self, us: u64) -> Option<(u16, bytes::Bytes, bool)> {
        for wire in &mut self.wires {
            while let Some(news) = wire.poll(Moment(us)) {
                if let News::Said { to, bytes } = news {
                    let sealed = is_sealed(&bytes, to, &gateway());
                    return Some((to, bytes, sealed));
                }
            }
        }
        None
    }
}
