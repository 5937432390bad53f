//! The holder's side of leases: what a node may still count on.
//!
//! The directory grants a lease for so long; the holder counts it on its *boot* clock (which goes on while the machine
//! sleeps or the process is stopped) from before the ask was sent, so its end is never later than the directory's. It
//! also compares wall clocks: the directory's lay between the sending and the hearing of the ask, so what is certain about the
//! difference is certain.

use std::collections::BTreeMap;

/// A node whose wall clock is further from the directory's hosts nothing, in microseconds.
pub const CLOCK_OFF_US_MAX: u64 = 500_000;

/// When an ask was sent, on the node's own clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The boot clock.
    pub boot_us: u64,
    /// The wall clock.
    pub wall_us: u64,
}

/// The leases of one node, as it may count on them.
#[derive(Debug, Clone)]
pub struct Keeper {
    margin_us: u64,
    held: BTreeMap<u16, Held>,
    /// The last grant of each branch that was given up.
    ended: BTreeMap<u16, u64>,
    off_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    grant: u64,
    until: u64,
}

impl Keeper {
    /// Without leases. `margin_us` before its end a lease is not relied upon.
    #[must_use]
    pub const fn new(margin_us: u64) -> Self {
        Self { margin_us, held: BTreeMap::new(), ended: BTreeMap::new(), off_us: 0 }
    }

    /// The directory granted `branch` under `grant` for `lease_us`. `walls`: what its wall clock said, and the node's own when
    /// the answer came. Whether it counts: one that was given up does not, and if the directory still grants it, it has to be
    /// given up again.
    pub fn granted(&mut self, sent: Sent, branch: u16, grant: u64, lease_us: u64, walls: (u64, u64)) -> bool {
        self.compare(sent, walls);
        if self.ended.get(&branch).is_some_and(|ended| grant <= *ended) {
            return false;
        }
        let until = sent.boot_us.saturating_add(lease_us);
        let known = self.held.entry(branch).or_insert(Held { grant, until });
        // Answers may come out of order: only a later grant, or a later end of the same one, counts.
        if (grant, until) > (known.grant, known.until) {
            *known = Held { grant, until };
        }
        true
    }

    /// The directory renewed `branches`; as [`granted`](Self::granted). What was given up in the meantime stays so.
    pub fn renewed(&mut self, sent: Sent, branches: &[u16], lease_us: u64, walls: (u64, u64)) {
        self.compare(sent, walls);
        let until = sent.boot_us.saturating_add(lease_us);
        for branch in branches {
            self.held.get_mut(branch).into_iter().for_each(|held| held.until = held.until.max(until));
        }
    }

    /// They are another's.
    pub fn lost(&mut self, branches: &[u16]) {
        self.held.retain(|branch, _| !branches.contains(branch));
    }

    /// Counts on `branches` no more; what to tell the directory ([`Ask::GiveUp`](crate::Ask::GiveUp)).
    pub fn give_up(&mut self, branches: &[u16]) -> Vec<(u16, u64)> {
        let given: Vec<_> =
            branches.iter().filter_map(|branch| Some((*branch, self.held.get(branch)?.grant))).collect();
        self.ended.extend(given.iter().copied());
        self.lost(branches);
        given
    }

    /// How far the node's wall clock is from the directory's at least, in microseconds: ahead is positive; 0 while it may be
    /// right.
    pub const fn off_us(&self) -> i64 {
        self.off_us
    }

    /// Whether the node's clock is certain to be too far off for hosting anything.
    #[must_use]
    pub const fn is_clock_off(&self) -> bool {
        self.off_us.unsigned_abs() > CLOCK_OFF_US_MAX
    }

    /// Whether a reply that rests on no append may be released now.
    #[must_use]
    pub fn may_answer(&self, branch: u16, boot_us: u64) -> bool {
        !self.is_clock_off() && self.left_us(branch, boot_us) > self.margin_us
    }

    /// How long a lease may still be counted on.
    #[must_use]
    pub fn left_us(&self, branch: u16, boot_us: u64) -> u64 {
        self.held.get(&branch).map_or(0, |held| held.until.saturating_sub(boot_us))
    }

    /// The branches that were granted and not lost, run out or not.
    pub fn branches(&self) -> impl Iterator<Item = u16> {
        self.held.keys().copied()
    }

    fn compare(&mut self, sent: Sent, (wall_us, heard_wall_us): (u64, u64)) {
        let difference = |own: u64| i64::try_from(i128::from(own) - i128::from(wall_us)).unwrap_or(i64::MAX);
        let (least, most) = (difference(sent.wall_us), difference(heard_wall_us.max(sent.wall_us)));
        // Between these two the true difference lies.
        self.off_us = if least > 0 { least } else { most.min(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn sent(boot_us: u64, wall_us: u64) -> Sent {
        Sent { boot_us, wall_us }
    }

    #[test]
    fn a_lease_is_counted_from_the_sending_and_not_to_its_last_moment() {
        let mut keeper = Keeper::new(100_000);
        assert!(!keeper.may_answer(1, 0));
        keeper.granted(sent(1_000_000, 0), 1, 7, 2_000_000, (0, 0));
        keeper.granted(sent(1_000_000, 0), 2, 8, 2_000_000, (0, 0));
        assert!(keeper.may_answer(1, 2_899_999) && !keeper.may_answer(1, 2_900_000));
        keeper.renewed(sent(1_500_000, 0), &[1], 2_000_000, (0, 0));
        keeper.renewed(sent(1_200_000, 0), &[1], 2_000_000, (0, 0));
        assert!(keeper.may_answer(1, 3_399_999), "an older answer that comes later takes nothing away");
        assert!(!keeper.may_answer(2, 3_399_999));
        assert_eq!(keeper.give_up(&[1, 3]), [(1, 7)]);
        assert!(!keeper.may_answer(1, 1_500_000));
        keeper.renewed(sent(1_600_000, 0), &[1], 2_000_000, (0, 0));
        assert!(!keeper.granted(sent(1_600_000, 0), 1, 7, 2_000_000, (0, 0)));
        assert!(!keeper.may_answer(1, 1_600_000), "what was given up does not come back");
        keeper.granted(sent(1_700_000, 0), 1, 9, 2_000_000, (0, 0));
        keeper.granted(sent(1_900_000, 0), 1, 7, 2_000_000, (0, 0));
        assert_eq!(keeper.left_us(1, 1_700_000), 2_000_000, "an older grant is none");
        keeper.lost(&[1]);
        assert_eq!(keeper.branches().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn only_what_is_certain_of_a_clock_counts() {
        let mut keeper = Keeper::new(0);
        let mut grant = |sent_wall, directory, heard_wall| {
            keeper.granted(sent(0, sent_wall), 1, 1, 2_000_000, (directory, heard_wall));
            (keeper.off_us(), keeper.may_answer(1, 0))
        };
        assert_eq!(grant(10_000_000, 10_300_000, 12_000_000), (0, true), "a slow way says nothing");
        assert_eq!(grant(10_400_000, 10_000_000, 10_400_010), (400_000, true));
        assert_eq!(grant(10_500_001, 10_000_000, 10_500_002), (500_001, false), "ahead");
        assert_eq!(grant(9_000_000, 10_000_000, 9_499_999), (-500_001, false), "behind");
        assert_eq!(grant(9_000_000, 10_000_000, 9_500_000), (-500_000, true));
        assert_eq!(
            grant(9_000_000, 10_000_000, 8_000_000),
            (-1_000_000, false),
            "a clock set back on the way"
        );
    }
}
