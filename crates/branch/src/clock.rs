//! Time as the branch believes it: never backwards, and no leap without a second opinion.
//!
//! It reads no clock. Each turn is told what the wall clock and the monotonic clock of the machine
//! say; the two together show a jump. A small step back makes stamps stand still until the wall clock has
//! caught up; a jump of more than [`JUMP_US_MAX`], either way, stops stamping until an operator (or a second
//! source) confirms it.
//!
//! # Invariants
//!
//! - A stamp is never smaller than the one before, across openings too.

/// What the machine's clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall clock: microseconds since 1970-01-01T00:00:00Z.
    pub wall_us: u64,
    /// Monotonic clock: microseconds since any fixed moment.
    pub monotonic_us: u64,
}

/// Largest step of the wall clock against the monotonic one that needs no confirmation: 5 s.
pub const JUMP_US_MAX: u64 = 5_000_000;

/// The wall clock has jumped: nothing is stamped until [`Clock::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wall clock jumped by {by_us} µs")]
pub struct Jumped {
    /// Forward if positive.
    pub by_us: i64,
}

/// The branch's clock.
#[derive(Debug, Clone)]
pub struct Clock {
    anchor: Now,
    last_us: u64,
}

impl Clock {
    /// A clock started at `now` for a journal whose last stamp was `last_us` (0 for an empty one).
    ///
    /// A wall clock that is behind the journal by more than [`JUMP_US_MAX`] counts as a jump back.
    #[must_use]
    pub fn new(now: Now, last_us: u64) -> Self {
        let anchor = Now { wall_us: now.wall_us.max(last_us), monotonic_us: now.monotonic_us };
        Self { anchor, last_us }
    }

    /// The stamp for `now`: microseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Jumped`] while the wall clock is off the monotonic one by more than [`JUMP_US_MAX`].
    pub fn stamp(&mut self, now: Now) -> Result<u64, Jumped> {
        let elapsed = now.monotonic_us.saturating_sub(self.anchor.monotonic_us);
        let expected = self.anchor.wall_us.saturating_add(elapsed);
        if now.wall_us.abs_diff(expected) > JUMP_US_MAX {
            crate::coverage::Mark::ClockLeapt.hit();
            return Err(Jumped { by_us: signed_difference(now.wall_us, expected) });
        }
        // Small steps and slewing are taken as they come: the anchor follows.
        if now.wall_us >= self.last_us {
            self.anchor = now;
        } else {
            crate::coverage::Mark::ClockStood.hit();
        }
        self.last_us = self.last_us.max(now.wall_us);
        Ok(self.last_us)
    }

    /// Takes the wall clock's word after a jump: an operator or a second source has confirmed it.
    ///
    /// Stamps still never go back: after a confirmed jump back they stand until the clock has caught up.
    pub fn confirm(&mut self, now: Now) {
        self.anchor = now;
    }

    /// The last stamp given, or that of the journal.
    #[must_use]
    pub fn last_us(&self) -> u64 {
        self.last_us
    }
}

fn signed_difference(left: u64, right: u64) -> i64 {
    let magnitude = i64::try_from(left.abs_diff(right)).unwrap_or(i64::MAX);
    if left >= right { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn at(wall_s: u64, monotonic_s: u64) -> Now {
        Now { wall_us: wall_s * S, monotonic_us: monotonic_s * S }
    }

    #[test]
    fn stamps_follow_the_wall_clock() {
        let mut clock = Clock::new(at(100, 1), 0);
        assert_eq!(clock.stamp(at(101, 2)), Ok(101 * S));
        assert_eq!(clock.stamp(at(4_101, 4_002)), Ok(4_101 * S), "a long silence is no jump");
    }

    #[test]
    fn a_small_step_back_makes_stamps_stand() {
        let mut clock = Clock::new(at(100, 1), 0);
        assert_eq!(clock.stamp(at(103, 4)), Ok(103 * S));
        assert_eq!(clock.stamp(at(101, 4)), Ok(103 * S));
        assert_eq!(clock.stamp(at(104, 7)), Ok(104 * S));
    }

    #[test]
    fn a_jump_either_way_stops_stamping_until_it_is_confirmed() {
        for (wall_s, by_s) in [(110, 9), (90, -11)] {
            let mut clock = Clock::new(at(100, 1), 0);
            let jumped = clock.stamp(at(wall_s, 2)).unwrap_err();
            assert_eq!(jumped.by_us, by_s * 1_000_000);
            clock.confirm(at(wall_s, 2));
            assert!(clock.stamp(at(wall_s + 1, 3)).is_ok());
        }
    }

    #[test]
    fn a_journal_from_the_future_counts_as_a_jump_back() {
        let mut clock = Clock::new(at(100, 1), 200 * S);
        assert!(clock.stamp(at(100, 1)).is_err());
        let mut close = Clock::new(at(100, 1), 101 * S);
        assert_eq!(close.stamp(at(100, 1)), Ok(101 * S));
    }
}
