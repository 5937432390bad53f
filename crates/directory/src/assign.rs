//! Which branch a newcomer comes to: the one with the most room, by weight.
//!
//! A branch's count of customers is a moment old. Who was placed since is added, so that a thousand who come at once are
//! spread and not heaped.

use crate::rows::{BranchRow, BranchState, Room};
use crate::seam::Choice;

/// The room of a branch, and who was sent there since it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// What its owner last said; `None` takes nobody now.
    pub room: Option<Room>,
    /// Newcomers sent since.
    pub since: u32,
}

impl Placed {
    /// What the owner says now.
    pub fn report(&mut self, room: Option<Room>) {
        // A count that stands still may be from before those who were sent; one that moved has some of them.
        if self.room.map(|room| room.customers) != room.map(|room| room.customers) {
            self.since = 0;
        }
        self.room = room;
    }

    fn left(&self) -> u64 {
        let Some(room) = self.room else { return 0 };
        let used = u64::from(room.customers) + u64::from(self.since);
        u64::from(room.capacity).saturating_sub(used)
    }
}

/// The branch for a newcomer among those of `choice`: open, not closed to newcomers, with room; of these the one with the most room
/// by weight, the lowest number of equals; a gray one only if there is no other.
pub fn choose<'a>(branches: impl Iterator<Item = (&'a BranchRow, Placed)>, choice: &Choice) -> Option<u16> {
    let mut best: Option<((bool, u64), u16)> = None;
    for (row, placed) in branches {
        let wanted = match choice {
            Choice::In(branch) => *branch == row.number,
            Choice::Among(branches) => branches.contains(&row.number),
            Choice::Any => true,
        };
        let left = placed.left();
        if !wanted || !takes(row) || left == 0 {
            continue;
        }
        // What little room there is counts for something at any weight.
        let drawn = (left.saturating_mul(u64::from(row.weight)) / 100).max(1);
        let rank = (!row.gray, drawn);
        if best.is_none_or(|(most, number)| rank > most || (rank == most && row.number < number)) {
            best = Some((rank, row.number));
        }
    }
    best.map(|(_, number)| number)
}

/// Whether newcomers may be sent to a branch at all.
#[must_use]
pub fn takes(row: &BranchRow) -> bool {
    row.state == BranchState::Open && row.newcomers && row.weight > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Name;
    use std::collections::BTreeMap;

    fn row(number: u16) -> BranchRow {
        BranchRow::new(number, Name::new("local").unwrap())
    }

    fn placed(customers: u32, capacity: u32) -> Placed {
        Placed { room: Some(Room { customers, capacity }), since: 0 }
    }

    #[test]
    fn newcomers_are_spread_before_the_counts_are_renewed() {
        let mut branches = [
            (row(1), placed(10, 100)),
            (row(2), placed(12, 100)),
            (row(3), placed(10, 100)),
            (row(4), placed(9, 9)),
        ];
        let mut count = BTreeMap::new();
        for _ in 0..10 {
            let chosen = choose(branches.iter().map(|(row, placed)| (row, *placed)), &Choice::Any).unwrap();
            branches[usize::from(chosen) - 1].1.since += 1;
            *count.entry(chosen).or_insert(0) += 1;
        }
        assert_eq!(count, BTreeMap::from([(1, 4), (2, 2), (3, 4)]));
        branches[0].1.report(Some(Room { customers: 13, capacity: 100 }));
        assert_eq!(choose(branches.iter().map(|(row, placed)| (row, *placed)), &Choice::Any), Some(1));
        let only = Choice::Among(vec![4]);
        assert_eq!(choose(branches.iter().map(|(row, placed)| (row, *placed)), &only), None);
    }

    #[test]
    fn weight_closing_and_gray_decide() {
        let choose = |rows: &[(BranchRow, Placed)]| {
            choose(rows.iter().map(|(row, placed)| (row, *placed)), &Choice::Any)
        };
        let light = BranchRow { weight: 10, ..row(1) };
        let gray = BranchRow { gray: true, ..row(2) };
        let closed = BranchRow { newcomers: false, ..row(3) };
        let mut rows = vec![
            (light, placed(0, 100)),
            (gray, placed(0, 100)),
            (closed, placed(0, 100)),
            (row(4), placed(0, 11)),
        ];
        assert_eq!(choose(&rows), Some(4), "11 at full weight are more than a tenth of 100");
        rows.pop();
        assert_eq!(choose(&rows), Some(1));
        rows.remove(0);
        assert_eq!(choose(&rows), Some(2), "gray, and no other");
        rows.remove(0);
        assert_eq!(choose(&rows), None);
        for off in [
            BranchRow { weight: 0, ..row(5) },
            BranchRow { state: BranchState::Founding, ..row(5) },
            BranchRow { state: BranchState::Closed, ..row(5) },
        ] {
            assert_eq!(choose(&[(off, placed(0, 100))]), None);
        }
    }
}
