//! What a node follows without hosting it: begun and ended as the plan wants, said in its beats.

use std::collections::{BTreeMap, VecDeque};

use skerry_directory::{BranchRow, Follow};

use super::{Order, Seen};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Follows {
        behind: Option<u64>,
        /// Since when it is not wanted any more.
        idle_since: Option<u64>,
    },
    /// It is being closed.
    Ending,
    /// It could not begin, and is left alone until then.
    Failed { until_us: u64 },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Following(BTreeMap<u16, State>);

impl Following {
    /// Whether nothing of any follower is here.
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|state| matches!(state, State::Failed { .. }))
    }

    /// What the node says of it.
    pub(super) fn told(&self) -> Vec<Follow> {
        let told = |(branch, state): (&u16, &State)| match state {
            State::Follows { behind, .. } => Some(Follow { branch: *branch, behind: *behind }),
            _ => None,
        };
        self.0.iter().filter_map(told).collect()
    }

    /// Whether the branch would be open here at once.
    pub(super) fn is_near(&self, branch: u16) -> bool {
        self.told().iter().any(|follow| follow.branch == branch && follow.is_near())
    }

    /// Whether something of it is still being closed: nothing else may touch its files.
    pub(super) fn is_ending(&self, branch: u16) -> bool {
        self.0.get(&branch) == Some(&State::Ending)
    }

    /// The follower goes on as the branch.
    pub(super) fn promoted(&mut self, branch: u16) {
        self.0.remove(&branch);
    }

    /// How it is; `again_us`: when one that failed may begin anew.
    pub(super) fn seen(&mut self, branch: u16, seen: Seen, again_us: u64) {
        let Some(state) = self.0.get_mut(&branch) else { return };
        match (seen, state) {
            (Seen::Follows(now), State::Follows { behind, .. }) => *behind = now,
            (Seen::Closed, State::Ending) => drop(self.0.remove(&branch)),
            // It has ended of itself, or never began.
            (Seen::Sick | Seen::Closed, state) => *state = State::Failed { until_us: again_us },
            _ => {}
        }
    }

    /// Begins what is `wanted`, and ends what has not been for `calm_us`, but nothing that is `kept`.
    pub(super) fn turn(
        &mut self,
        wanted: &BTreeMap<u16, BranchRow>,
        kept: impl Fn(u16) -> bool,
        (boot_us, calm_us): (u64, u64),
        orders: &mut VecDeque<Order>,
    ) {
        self.0.retain(|_, state| !matches!(state, State::Failed { until_us } if *until_us <= boot_us));
        for (branch, state) in &mut self.0 {
            let State::Follows { idle_since, .. } = state else { continue };
            if wanted.contains_key(branch) || kept(*branch) {
                *idle_since = None;
            } else if boot_us.saturating_sub(*idle_since.get_or_insert(boot_us)) >= calm_us {
                *state = State::Ending;
                orders.push_back(Order::Unfollow(*branch));
            }
        }
        for (branch, row) in wanted {
            if !self.0.contains_key(branch) {
                self.0.insert(*branch, State::Follows { behind: None, idle_since: None });
                orders.push_back(Order::Follow(row.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_directory::Name;

    fn turned(following: &mut Following, wanted: &[u16], boot_us: u64) -> Vec<Order> {
        let row = |number: &u16| (*number, BranchRow::new(*number, Name::new("main").unwrap()));
        let mut orders = VecDeque::new();
        let wanted = wanted.iter().map(row).collect();
        following.turn(&wanted, |branch| branch == 9, (boot_us, 100), &mut orders);
        orders.into()
    }

    #[test]
    fn it_begins_at_once_ends_calmly_and_waits_for_the_end() {
        let mut following = Following::default();
        assert!(matches!(&turned(&mut following, &[1, 9], 0)[..], [Order::Follow(_), Order::Follow(_)]));
        assert_eq!(following.told()[0], Follow { branch: 1, behind: None });
        assert!(!following.is_near(1) && !following.is_empty());
        following.seen(1, Seen::Follows(Some(3)), 0);
        assert!(following.is_near(1));
        assert_eq!(turned(&mut following, &[], 10), []);
        assert_eq!(turned(&mut following, &[1], 20), [], "wanted again");
        assert_eq!(turned(&mut following, &[], 50), []);
        assert_eq!(turned(&mut following, &[], 149), []);
        assert_eq!(turned(&mut following, &[], 150), [Order::Unfollow(1)], "what is kept goes on");
        assert!(following.is_ending(1) && !following.is_near(1));
        assert_eq!(turned(&mut following, &[1], 160), [], "not before it is closed");
        following.seen(1, Seen::Closed, 0);
        assert!(matches!(&turned(&mut following, &[1], 170)[..], [Order::Follow(_)]));
        following.promoted(1);
        following.promoted(9);
        assert!(following.is_empty());
    }

    #[test]
    fn what_could_not_begin_is_left_alone_for_a_while() {
        let mut following = Following::default();
        assert_eq!(turned(&mut following, &[1], 0).len(), 1);
        following.seen(1, Seen::Sick, 500);
        assert!(following.is_empty() && following.told().is_empty());
        assert_eq!(turned(&mut following, &[1], 499), []);
        assert_eq!(turned(&mut following, &[1], 500).len(), 1);
    }
}
