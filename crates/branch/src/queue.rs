//! The bounded queue in front of the writer: who may wait, and whose turn it is.
//!
//! Each principal has a lane. The writer serves lanes in turn, by records and not by requests (deficit
//! round robin after Shreedhar and Varghese, 1995), so one principal's flood costs the others nothing but its
//! own share. A part of the room is reserved for operators and for the bank itself. What does not fit
//! is answered *busy* at once, with a hint when to retry; nothing is ever dropped after admission.
//!
//! It knows no book and no time but the one it is told.
//!
//! # Invariants
//!
//! - Requests and bytes waiting never exceed the bounds; ordinary principals never enter the reserve.
//! - Requests of one principal leave in the order in which they came.

use std::collections::{BTreeMap, VecDeque};

use crate::api::Principal;

/// Bounds and quotas; all are per branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most requests waiting.
    pub requests: usize,
    /// Most bytes of bodies waiting.
    pub bytes: usize,
    /// Percent of both that only operators and the bank may fill.
    pub reserved_percent: usize,
    /// Most requests of one principal that wait or whose reply is held.
    pub in_flight: usize,
    /// Records a second that one principal may ask for; 0 is no limit.
    pub records_per_second: u64,
    /// Records that may come at once before that rate applies; at least one full batch.
    pub burst: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 65_536,
            bytes: 64 << 20,
            reserved_percent: 10,
            in_flight: 16_384,
            records_per_second: 0,
            burst: 65_536,
        }
    }
}

/// No room now.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("busy, retry after {retry_after_ms} ms")]
pub struct Busy {
    /// When to try again, in milliseconds.
    pub retry_after_ms: u32,
    /// What is full.
    pub reason: BusyReason,
}

/// Which bound was met.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyReason {
    /// The branch's queue is full.
    Queue,
    /// The principal has too many requests in flight.
    InFlight,
    /// The principal asks faster than its rate.
    Rate,
    /// The branch is closed, opening, or sick.
    Closed,
}

/// Requests that were not taken, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TurnedAway {
    /// The queue was full.
    pub full: u64,
    /// Their principal had too many in flight, or asked faster than its rate.
    pub quota: u64,
    /// The branch was closed, opening, or sick.
    pub closed: u64,
}

impl TurnedAway {
    fn count(&mut self, reason: BusyReason) {
        match reason {
            BusyReason::Queue => self.full += 1,
            BusyReason::InFlight | BusyReason::Rate => self.quota += 1,
            BusyReason::Closed => self.closed += 1,
        }
    }
}

/// What the queue must know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Whose it is.
    pub principal: Principal,
    /// Whether it may enter the reserve: operators and the bank.
    pub reserved: bool,
    /// The bank's own word, which no rate of principals binds: what is told again and again in the same order would never get through.
    pub own: bool,
    /// Records it may write, at least 1.
    pub records: u32,
    /// Bytes of its body.
    pub bytes: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(Ask, T)>,
    in_flight: usize,
    deficit: u64,
    tokens: u64,
    filled_us: u64,
}

/// Records a lane may take per visit before the next lane is served.
const QUANTUM: u64 = 512;

/// Most records a lane may save up: two full batches.
const DEFICIT_MAX: u64 = 16_384;

/// The queue; `T` is the request.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    lanes: BTreeMap<Principal, Lane<T>>,
    turns: VecDeque<Principal>,
    requests: usize,
    bytes: usize,
    open: bool,
    turned_away: TurnedAway,
}

impl<T> Queue<T> {
    /// An empty queue that admits requests.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            turns: VecDeque::new(),
            requests: 0,
            bytes: 0,
            open: true,
            turned_away: TurnedAway::default(),
        }
    }

    /// Admits `item`, or gives it back with the reason.
    ///
    /// # Errors
    ///
    /// [`Busy`] when a bound or quota is met, or the queue is closed.
    pub fn admit(&mut self, ask: Ask, monotonic_us: u64, item: T) -> Result<(), (Busy, T)> {
        match self.check(&ask, monotonic_us) {
            Ok(()) => {}
            Err(busy) => {
                self.turned_away.count(busy.reason);
                return Err((busy, item));
            }
        }
        let burst = self.limits.burst;
        let lane = self.lanes.entry(ask.principal).or_insert_with(|| Lane::new(burst, monotonic_us));
        if lane.waiting.is_empty() {
            self.turns.push_back(ask.principal);
        }
        lane.in_flight += 1;
        lane.tokens = lane.tokens.saturating_sub(u64::from(ask.records));
        lane.waiting.push_back((ask, item));
        self.requests += 1;
        self.bytes += ask.bytes;
        Ok(())
    }

    fn check(&mut self, ask: &Ask, monotonic_us: u64) -> Result<(), Busy> {
        let busy = |reason, retry_after_ms| Err(Busy { retry_after_ms, reason });
        if !self.open {
            return busy(BusyReason::Closed, 500);
        }
        let share = if ask.reserved { 100 } else { 100 - self.limits.reserved_percent.min(100) };
        let full = self.requests >= self.limits.requests * share / 100
            || (self.requests > 0 && self.bytes + ask.bytes > self.limits.bytes / 100 * share);
        if full {
            return busy(BusyReason::Queue, 20);
        }
        let limits = self.limits;
        let Some(lane) = self.lanes.get_mut(&ask.principal) else { return Ok(()) };
        if lane.in_flight >= limits.in_flight {
            return busy(BusyReason::InFlight, 20);
        }
        lane.refill(&limits, monotonic_us);
        let wanted = u64::from(ask.records).min(limits.burst);
        if limits.records_per_second > 0 && !ask.own && lane.tokens < wanted {
            let wait_ms = (wanted - lane.tokens).saturating_mul(1000) / limits.records_per_second;
            return busy(BusyReason::Rate, u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1));
        }
        Ok(())
    }

    /// Takes requests in turn, for at most `room` records. Returns whether one had to stay for want of room.
    pub fn take(&mut self, room: u32, out: &mut Vec<(Ask, T)>) -> bool {
        let mut left = room;
        while let Some(principal) = self.turns.front().copied() {
            let alone = self.turns.len() == 1;
            let Some(lane) = self.lanes.get_mut(&principal) else {
                self.turns.pop_front();
                continue;
            };
            if !alone {
                // What it could not use for want of room it does not save up.
                lane.deficit = (lane.deficit + QUANTUM).min(DEFICIT_MAX);
            }
            while let Some((ask, _)) = lane.waiting.front() {
                let cost = u64::from(ask.records);
                if !alone && cost > lane.deficit {
                    break;
                }
                if ask.records > left {
                    return true;
                }
                left -= ask.records;
                lane.deficit = lane.deficit.saturating_sub(cost);
                let Some(taken) = lane.waiting.pop_front() else { break };
                self.requests -= 1;
                self.bytes -= taken.0.bytes;
                out.push(taken);
            }
            self.turns.pop_front();
            if lane.waiting.is_empty() {
                lane.deficit = 0;
            } else {
                self.turns.push_back(principal);
            }
        }
        false
    }

    /// Says that the reply to a request of `principal` has left.
    pub fn done(&mut self, principal: &Principal, monotonic_us: u64) {
        let limits = self.limits;
        let Some(lane) = self.lanes.get_mut(principal) else { return };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        if lane.in_flight == 0 {
            lane.refill(&limits, monotonic_us);
            // A lane is kept only while it says something: the number of lanes stays bounded.
            if limits.records_per_second == 0 || lane.tokens >= limits.burst {
                self.lanes.remove(principal);
            }
        }
    }

    /// Stops admitting: the branch is closing or sick. What waits stays until it is taken.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Admits again.
    pub fn reopen(&mut self) {
        self.open = true;
    }

    /// Requests waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Requests that were not taken so far.
    #[must_use]
    pub fn turned_away(&self) -> TurnedAway {
        self.turned_away
    }

    /// Bytes of bodies waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T> Lane<T> {
    fn new(tokens: u64, filled_us: u64) -> Self {
        Self { waiting: VecDeque::new(), in_flight: 0, deficit: 0, tokens, filled_us }
    }

    fn refill(&mut self, limits: &Limits, monotonic_us: u64) {
        let elapsed_us = monotonic_us.saturating_sub(self.filled_us);
        let earned = u128::from(elapsed_us) * u128::from(limits.records_per_second) / 1_000_000;
        if earned > 0 {
            self.filled_us = monotonic_us;
            self.tokens =
                self.tokens.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)).min(limits.burst);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
