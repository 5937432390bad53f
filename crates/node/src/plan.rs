//! Which node should have which branch: every node computes the same from the same map, so that they need not agree.
//!
//! What operators placed goes there. A dedicated branch has a node to itself, as long as one is left for the others. The rest is spread
//! evenly; whoever has a branch keeps it unless that would be more than their share. The lease decides when two maps differ.

use std::collections::{BTreeMap, BTreeSet};

use skerry_directory::{BranchEntry, BranchState, Map, Mode, Name};

/// The node for each branch that can have one. Nodes that are drained, or take none of their own accord, or were silent for more than
/// `silent_us`, get none.
#[must_use]
pub fn plan(map: &Map, silent_us: u64) -> BTreeMap<u16, Name> {
    let alive = map.nodes.iter().filter(|node| node.silent_us <= silent_us && node.takes());
    let rooms = alive.map(|node| (&node.row.name, usize::from(node.row.capacity))).collect();
    let mut planning =
        Planning { rooms, loads: BTreeMap::new(), alone: BTreeSet::new(), plan: BTreeMap::new() };
    let hosted = map.branches.iter().filter(|branch| branch.row.state != BranchState::Closed);
    let (placed, others): (Vec<_>, Vec<_>) = hosted.partition(|branch| planning.placement(branch).is_some());
    for branch in placed {
        if let Some(node) = planning.placement(branch) {
            planning.give(branch, node);
        }
    }
    let (dedicated, scattered): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|branch| branch.row.mode == Mode::Dedicated);
    let mut rest = scattered;
    for branch in dedicated {
        match planning.free_node(branch, rest.is_empty()) {
            Some(node) => planning.give(branch, node),
            None => rest.push(branch),
        }
    }
    planning.scatter(&rest);
    planning.plan.into_iter().map(|(branch, node)| (branch, node.clone())).collect()
}

struct Planning<'a> {
    rooms: BTreeMap<&'a Name, usize>,
    loads: BTreeMap<&'a Name, usize>,
    /// Nodes that a dedicated branch has to itself.
    alone: BTreeSet<&'a Name>,
    plan: BTreeMap<u16, &'a Name>,
}

impl<'a> Planning<'a> {
    fn placement(&self, branch: &'a BranchEntry) -> Option<&'a Name> {
        branch.row.placement.as_ref().filter(|name| self.rooms.contains_key(name))
    }

    fn load(&self, node: &Name) -> usize {
        self.loads.get(node).copied().unwrap_or(0)
    }

    fn give(&mut self, branch: &BranchEntry, node: &'a Name) {
        if branch.row.mode == Mode::Dedicated {
            self.alone.insert(node);
        }
        *self.loads.entry(node).or_default() += 1;
        self.plan.insert(branch.row.number, node);
    }

    fn holder(branch: &'a BranchEntry) -> Option<&'a Name> {
        branch.lease.as_ref().map(|lease| &lease.holder.node)
    }

    /// A node that has nothing yet: the branch's own if it can be.
    fn free_node(&self, branch: &'a BranchEntry, last_may_go: bool) -> Option<&'a Name> {
        let free: Vec<&Name> = self.rooms.keys().copied().filter(|node| self.load(node) == 0).collect();
        let shared = self.rooms.len() - self.alone.len();
        if free.is_empty() || (shared <= 1 && !last_may_go) {
            return None;
        }
        let own = Self::holder(branch).filter(|holder| free.contains(holder));
        // From the end: the first ones keep what is scattered.
        own.or(free.last().copied())
    }

    /// Spreads branches over the nodes that nobody has to themselves.
    fn scatter(&mut self, branches: &[&'a BranchEntry]) {
        let alone = std::mem::take(&mut self.alone);
        let mut pool: Vec<&Name> = self.rooms.keys().copied().filter(|node| !alone.contains(node)).collect();
        if pool.is_empty() {
            pool = self.rooms.keys().copied().collect();
        }
        if pool.is_empty() {
            return;
        }
        let total = branches.len() + pool.iter().map(|node| self.load(node)).sum::<usize>();
        let (share, mut more) = (total / pool.len(), total % pool.len());
        let mut left = Vec::new();
        for branch in branches {
            let own = Self::holder(branch).filter(|holder| pool.contains(holder));
            let Some(own) = own.filter(|own| self.load(own) < self.rooms[own]) else {
                left.push(*branch);
                continue;
            };
            // So many nodes have one more than the others.
            let one_more = self.load(own) == share && more > 0;
            if self.load(own) < share || one_more {
                more -= usize::from(one_more);
                self.give(branch, own);
            } else {
                left.push(*branch);
            }
        }
        for branch in left {
            let room = pool.iter().filter(|node| self.load(node) < self.rooms[*node]);
            if let Some(node) = room.min_by_key(|node| (self.load(node), **node)).copied() {
                self.give(branch, node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_directory::{BranchRow, DrainRow, Holder, LeaseView, NodeEntry, NodeRow, Where, Who};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn node(text: &str, silent_us: u64, draining: bool) -> NodeEntry {
        let (address, version) = (Where::new("here").unwrap(), Where::new("1").unwrap());
        let row = NodeRow { name: name(text), address, capacity: 10, version, draining };
        NodeEntry { row, silent_us, drain: None }
    }

    fn drained(text: &str) -> NodeEntry {
        let drain = Some(DrainRow { by: Who::new("chief").unwrap(), at_us: 1 });
        NodeEntry { drain, ..node(text, 0, false) }
    }

    fn branch(number: u16, holder: Option<&str>) -> BranchEntry {
        let lease = holder.map(|holder| LeaseView {
            holder: Holder { node: name(holder), incarnation: 1 },
            grant: 1,
            left_us: 1,
        });
        BranchEntry { row: BranchRow::new(number, name("local")), lease, room: None }
    }

    fn dedicated(number: u16, holder: Option<&str>) -> BranchEntry {
        let mut entry = branch(number, holder);
        entry.row.mode = Mode::Dedicated;
        entry
    }

    fn planned(branches: Vec<BranchEntry>, nodes: Vec<NodeEntry>) -> Vec<(u16, String)> {
        let map = Map { branches, nodes, ..Map::default() };
        plan(&map, 100).into_iter().map(|(branch, node)| (branch, node.to_string())).collect()
    }

    fn is(found: &[(u16, String)], wanted: &[(u16, &str)]) {
        let found: Vec<_> = found.iter().map(|(branch, node)| (*branch, node.as_str())).collect();
        assert_eq!(found, wanted);
    }

    fn ab() -> Vec<NodeEntry> {
        vec![node("a", 0, false), node("b", 0, false)]
    }

    #[test]
    fn a_node_that_joins_gets_its_share_and_the_others_keep_theirs() {
        let held = || (1..=4).map(|number| branch(number, Some("a"))).collect::<Vec<_>>();
        is(&planned(held(), vec![node("a", 0, false)]), &[(1, "a"), (2, "a"), (3, "a"), (4, "a")]);
        is(&planned(held(), ab()), &[(1, "a"), (2, "a"), (3, "b"), (4, "b")]);
        let two = vec![branch(1, Some("a")), branch(2, Some("b")), branch(3, Some("b"))];
        is(&planned(two, ab()), &[(1, "a"), (2, "b"), (3, "b")]);
    }

    #[test]
    fn those_of_a_silent_or_draining_node_go_to_the_others() {
        let held = || vec![branch(1, Some("a")), branch(2, Some("b")), branch(3, None)];
        is(
            &planned(held(), vec![node("a", 101, false), node("b", 0, false)]),
            &[(1, "b"), (2, "b"), (3, "b")],
        );
        is(&planned(held(), vec![node("a", 0, true), node("b", 0, false)]), &[(1, "b"), (2, "b"), (3, "b")]);
        is(&planned(held(), vec![node("a", 0, true)]), &[]);
        is(&planned(held(), vec![node("a", 0, false), drained("b")]), &[(1, "a"), (2, "a"), (3, "a")]);
        is(&planned(held(), vec![drained("a"), drained("b")]), &[]);
        let mut placed = branch(1, Some("a"));
        placed.row.placement = Some(name("a"));
        is(&planned(vec![placed], vec![drained("a"), node("b", 0, false)]), &[(1, "b")]);
    }

    #[test]
    fn a_dedicated_branch_is_alone_while_a_node_is_left_for_the_others() {
        let mixed = || vec![branch(1, Some("a")), dedicated(2, Some("a")), branch(3, None)];
        is(&planned(mixed(), ab()), &[(1, "b"), (2, "a"), (3, "b")]);
        is(&planned(mixed(), vec![node("a", 0, false)]), &[(1, "a"), (2, "a"), (3, "a")]);
        let two = vec![dedicated(1, None), dedicated(2, None)];
        is(&planned(two, ab()), &[(1, "b"), (2, "a")]);
    }

    #[test]
    fn a_node_without_room_gets_what_operators_place_there_and_nothing_else() {
        let full = || {
            let mut gray = node("b", 0, false);
            gray.row.capacity = 0;
            vec![node("a", 0, false), gray, node("c", 0, false)]
        };
        let mut placed = branch(1, Some("a"));
        placed.row.placement = Some(name("b"));
        let held = vec![placed, branch(2, Some("a")), branch(3, Some("c")), branch(4, None)];
        is(&planned(held, full()), &[(1, "b"), (2, "a"), (3, "c"), (4, "a")]);
    }

    #[test]
    fn what_operators_place_goes_there() {
        let mut placed = branch(1, Some("a"));
        placed.row.placement = Some(name("b"));
        is(&planned(vec![placed.clone(), branch(2, None)], ab()), &[(1, "b"), (2, "a")]);
        placed.row.placement = Some(name("c"));
        is(&planned(vec![placed], ab()), &[(1, "a")]);
        let mut closed = branch(1, None);
        closed.row.state = BranchState::Closed;
        is(&planned(vec![closed], ab()), &[]);
    }
}
