//! A circuit breaker: after failures in a row a subject is left alone for a while, then tried with one request at a time.
//!
//! ```text
//! closed ── `failures` in a row ──► open ── `open_us` later ──► half open ── `probes` good ones ──► closed
//!                                    ▲                              │
//!                                    └────────── one bad ───────────┘
//! ```
//!
//! Busy is no failure: it is back-pressure at work, and says when to come again.

use crate::seam::Moment;

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it; 0 is never.
    pub failures: u32,
    /// How long it stays open.
    pub open_us: u64,
    /// Good requests, one after the other, that close it again.
    pub probes: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 20, open_us: 1_000_000, probes: 3 }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerState {
    /// Requests pass.
    #[default]
    Closed,
    /// None passes before this moment.
    Open {
        /// The moment.
        until: Moment,
    },
    /// One passes at a time.
    HalfOpen,
}

/// One subject's breaker.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: BreakerState,
    failures: u32,
    good: u32,
    probing: bool,
}

/// How a request ended, as a breaker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was handled.
    Good,
    /// It was not, or nobody knows.
    Bad,
    /// It says nothing about the subject's health.
    Neither,
}

impl Breaker {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Lets a request through, or not. `Ok(true)` if it passes as a probe, which [`Breaker::ended`] wants to hear.
    ///
    /// # Errors
    ///
    /// When it is worth asking again.
    pub fn admit(&mut self, now: Moment) -> Result<bool, Moment> {
        match self.state {
            BreakerState::Closed => Ok(false),
            BreakerState::Open { until } if now < until => Err(until),
            BreakerState::HalfOpen if self.probing => Err(now),
            BreakerState::Open { .. } | BreakerState::HalfOpen => {
                self.state = BreakerState::HalfOpen;
                self.probing = true;
                Ok(true)
            }
        }
    }

    /// Hears how a request that was let through ended.
    pub fn ended(&mut self, probe: bool, ending: Ending, now: Moment, options: &BreakerOptions) {
        match self.state {
            BreakerState::Closed => self.ended_closed(ending, now, options),
            BreakerState::HalfOpen if probe => self.ended_probe(ending, now, options),
            // It began before the breaker opened: it says nothing about the present.
            BreakerState::HalfOpen | BreakerState::Open { .. } => (),
        }
    }

    fn ended_closed(&mut self, ending: Ending, now: Moment, options: &BreakerOptions) {
        match ending {
            Ending::Good => self.failures = 0,
            Ending::Neither => (),
            Ending::Bad => {
                self.failures = self.failures.saturating_add(1);
                if options.failures > 0 && self.failures >= options.failures {
                    self.open(now, options);
                }
            }
        }
    }

    fn ended_probe(&mut self, ending: Ending, now: Moment, options: &BreakerOptions) {
        self.probing = false;
        match ending {
            Ending::Bad => self.open(now, options),
            Ending::Neither => (),
            Ending::Good => {
                self.good += 1;
                if self.good >= options.probes {
                    *self = Self::default();
                }
            }
        }
    }

    fn open(&mut self, now: Moment, options: &BreakerOptions) {
        let state = BreakerState::Open { until: now.after(options.open_us) };
        *self = Self { state, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: BreakerOptions = BreakerOptions { failures: 3, open_us: 100, probes: 2 };

    fn fail(breaker: &mut Breaker, times: u32, now: Moment) {
        for _ in 0..times {
            let probe = breaker.admit(now).unwrap();
            breaker.ended(probe, Ending::Bad, now, &OPTIONS);
        }
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 2, Moment(0));
        breaker.ended(false, Ending::Neither, Moment(0), &OPTIONS);
        breaker.ended(false, Ending::Good, Moment(0), &OPTIONS);
        fail(&mut breaker, 2, Moment(0));
        assert_eq!(breaker.state(), BreakerState::Closed);
        fail(&mut breaker, 1, Moment(5));
        assert_eq!(breaker.state(), BreakerState::Open { until: Moment(105) });
        assert_eq!(breaker.admit(Moment(104)), Err(Moment(105)));
    }

    #[test]
    fn probes_one_at_a_time_and_closes() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, Moment(0));
        assert_eq!(breaker.admit(Moment(100)), Ok(true));
        assert_eq!(breaker.admit(Moment(100)), Err(Moment(100)), "one probe at a time");
        breaker.ended(false, Ending::Good, Moment(100), &OPTIONS);
        assert!(breaker.admit(Moment(100)).is_err(), "a request from before says nothing");
        breaker.ended(true, Ending::Good, Moment(101), &OPTIONS);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(Moment(101)), Ok(true));
        breaker.ended(true, Ending::Good, Moment(101), &OPTIONS);
        assert_eq!(breaker.state(), BreakerState::Closed);
        fail(&mut breaker, 2, Moment(200));
        assert_eq!(breaker.state(), BreakerState::Closed, "it counts from nothing");
    }

    #[test]
    fn a_bad_probe_opens_it_again_and_a_busy_one_tells_nothing() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, Moment(0));
        assert_eq!(breaker.admit(Moment(100)), Ok(true));
        breaker.ended(true, Ending::Neither, Moment(100), &OPTIONS);
        assert_eq!(breaker.admit(Moment(100)), Ok(true));
        breaker.ended(true, Ending::Bad, Moment(110), &OPTIONS);
        assert_eq!(breaker.state(), BreakerState::Open { until: Moment(210) });
    }

    #[test]
    fn zero_is_never() {
        let options = BreakerOptions { failures: 0, ..OPTIONS };
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.ended(false, Ending::Bad, Moment(0), &options);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
