//! Which leases a host asks for.

use std::collections::BTreeSet;

use skerry_directory::{Ask, BranchState, Sent};

use super::{About, Host, is_asked};

/// Branches of one look that leases are acquired for.
const ACQUIRED_TOGETHER: usize = 64;
/// A branch that nobody took for so many leases' time is anybody's.
const ANYBODYS: u64 = 3;

impl Host {
    /// Asks for the leases of what should be here.
    pub(super) fn acquire(&mut self, now: Sent) {
        let (boot_us, capacity) = (now.boot_us, usize::from(self.options.node.capacity));
        if self.is_stopping || !self.is_compared || self.keeper.is_clock_off() {
            return;
        }
        let drained = self.is_drained() || self.is_deaf || self.options.gray;
        let under_way = |branch: u16| is_asked(&self.open, branch, (boot_us, self.options.lease_us));
        let waits = |branch: u16| {
            let until = self.back_off.get(&branch).map_or(0, |back_off| back_off.until_us);
            until.max(self.not_before.get(&branch).copied().unwrap_or(0)) > boot_us
        };
        let wanted = self.free.iter().filter(|(branch, since_us)| {
            let ours = self.plan.get(branch).is_some_and(|planned| self.is_me(planned));
            let old = boot_us.saturating_sub(**since_us) >= ANYBODYS * self.options.lease_us;
            let last = old && (!drained || !self.plan.contains_key(branch));
            let here = self.own.contains_key(branch) || self.following.is_ending(**branch);
            (ours || last) && !here && !waits(**branch) && !under_way(**branch)
        });
        let hosted = self.map.branches.iter().filter(|entry| entry.row.state != BranchState::Closed);
        let hosted: BTreeSet<u16> = hosted.map(|entry| entry.row.number).collect();
        let room = capacity.saturating_sub(self.own.len()).min(ACQUIRED_TOGETHER);
        let wanted: Vec<u16> =
            wanted.map(|(branch, _)| *branch).filter(|branch| hosted.contains(branch)).take(room).collect();
        for branch in wanted {
            let (holder, lease_us) = (self.holder(), self.options.lease_us);
            self.ask(About::Acquire(branch), Ask::Acquire { branch, holder, lease_us }, now);
        }
    }
}
