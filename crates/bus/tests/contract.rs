//! One contract, every implementation of the seam that lives here.

use skerry_bus::contract::{Rig, check_contract};
use skerry_bus::{Connect, FaultyBus, Limits, LocalBus, LocalExchange, Moment, Name, Wake, Weather};

/// Time goes on only when nothing else does.
#[derive(Default)]
struct Virtual {
    exchange: LocalExchange,
    now: u64,
}

impl Rig for Virtual {
    type Bus = LocalBus;

    fn connect(&mut self, name: Name, limits: Limits) -> LocalBus {
        self.exchange.connect(name, limits).expect("names are used once")
    }

    fn now(&mut self) -> Moment {
        Moment(self.now)
    }

    fn idle(&mut self) {
        self.now += 1000;
    }

    fn wake(&self) -> Option<Wake> {
        None
    }
}

#[test]
fn local() {
    check_contract(&mut Virtual::default());
}

/// The same under a clear sky: the wrapper adds nothing of its own.
#[derive(Default)]
struct Clear {
    under: Virtual,
    weather: Weather,
}

impl Rig for Clear {
    type Bus = FaultyBus<LocalBus>;

    fn connect(&mut self, name: Name, limits: Limits) -> Self::Bus {
        FaultyBus::new(self.under.connect(name, limits), self.weather.clone(), 1)
    }

    fn now(&mut self) -> Moment {
        self.under.now()
    }

    fn idle(&mut self) {
        self.under.idle();
    }

    fn wake(&self) -> Option<Wake> {
        None
    }
}

#[test]
fn faulty_under_a_clear_sky() {
    check_contract(&mut Clear::default());
}
