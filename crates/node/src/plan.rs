//! Which node should have which branch, and which should follow it: every node computes the same from the same map, so that they need not
//! agree.
//!
//! What operators placed goes there. A dedicated branch has a node to itself, as long as one is left for the others. The rest is spread
//! evenly; whoever has a branch keeps it unless that would be more than their share. A branch whose host is gone goes to whoever follows it,
//! nearest first, and evenness comes later. The lease decides when two maps differ.
//!
//! A branch that wants followers has the next nodes after its host, by name and turned by its number, so that branches of one host fall to
//! different nodes; whoever follows it already goes on, and a dedicated branch's node comes last. A node that is to get the branch from another follows it as well until then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use skerry_directory::{BranchEntry, BranchState, Follow, Map, Mode, Name, NodeEntry};

/// Branches that a node follows at most, besides those that it is about to get.
pub const FOLLOWED_MAX: usize = 256;

/// Who should have a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The node that hosts it.
    pub node: Name,
    /// Those that follow it; never its host of now.
    pub followers: Vec<Name>,
}

/// The nodes for each branch that can have one. Nodes that are drained, or take none of their own accord, or were silent for more than
/// `silent_us`, get none. Where all of them take none of their own accord, as when the bus reaches nobody, nothing is to be gained by moving: then
/// that is not counted.
#[must_use]
pub fn plan(map: &Map, silent_us: u64) -> BTreeMap<u16, Planned> {
    let alive = |node: &&NodeEntry| node.silent_us <= silent_us && node.drain.is_none();
    let mut rooms: BTreeMap<_, _> =
        map.nodes.iter().filter(alive).map(|node| (&node.row.name, node)).collect();
    if rooms.values().any(|node| node.takes()) {
        rooms.retain(|_, node| node.takes());
    }
    let mut planning =
        Planning { rooms, loads: BTreeMap::new(), alone: BTreeSet::new(), plan: BTreeMap::new() };
    let hosted = || map.branches.iter().filter(|branch| branch.row.state != BranchState::Closed);
    let (placed, others): (Vec<_>, Vec<_>) =
        hosted().partition(|branch| planning.placement(branch).is_some());
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
    let mut followed = BTreeMap::new();
    let planned = hosted().filter_map(|branch| {
        let node = *planning.plan.get(&branch.row.number)?;
        let followers = planning.followers(branch, node, &mut followed);
        Some((branch.row.number, Planned { node: node.clone(), followers }))
    });
    planned.collect()
}

struct Planning<'a> {
    /// Those that take branches.
    rooms: BTreeMap<&'a Name, &'a NodeEntry>,
    loads: BTreeMap<&'a Name, usize>,
    /// Nodes that a dedicated branch has to itself.
    alone: BTreeSet<&'a Name>,
    plan: BTreeMap<u16, &'a Name>,
}

/// How well a node knows a branch: what is greater takes it over sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Knows {
    Nothing,
    Some,
    Near,
}

impl<'a> Planning<'a> {
    fn placement(&self, branch: &'a BranchEntry) -> Option<&'a Name> {
        branch.row.placement.as_ref().filter(|name| self.rooms.contains_key(name))
    }

    fn load(&self, node: &Name) -> usize {
        self.loads.get(node).copied().unwrap_or(0)
    }

    fn has_room(&self, node: &Name) -> bool {
        let room = self.rooms.get(node).map_or(0, |entry| usize::from(entry.row.capacity));
        self.load(node) < room
    }

    fn knows(&self, node: &Name, branch: &BranchEntry) -> Knows {
        match self.rooms.get(node).and_then(|entry| entry.follow(branch.row.number)) {
            Some(follow) if follow.is_near() => Knows::Near,
            Some(Follow { .. }) => Knows::Some,
            None => Knows::Nothing,
        }
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
        let empty = |node: &&Name| self.load(node) == 0 && self.has_room(node);
        let free: Vec<&Name> = self.rooms.keys().copied().filter(empty).collect();
        let shared = self.rooms.len() - self.alone.len();
        if free.is_empty() || (shared <= 1 && !last_may_go) {
            return None;
        }
        let own = Self::holder(branch).filter(|holder| free.contains(holder));
        // From the end: the first ones keep what is scattered.
        own.or_else(|| free.into_iter().max_by_key(|node| (self.knows(node, branch), *node)))
    }

    /// Spreads branches over the nodes that nobody has to themselves.
    fn scatter(&mut self, branches: &[&'a BranchEntry]) {
        // A dedicated branch among them has no node to itself.
        let alone = self.alone.clone();
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
            let Some(own) = own.filter(|own| self.has_room(own)) else {
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
            let room = pool.iter().copied().filter(|node| self.has_room(node));
            if let Some(node) = room.min_by_key(|node| self.order(branch, node)) {
                self.give(branch, node);
            }
        }
        self.alone = alone;
    }

    /// Which node comes first for a branch that goes to another: the least loaded one; but where nobody answers any more, whoever knows it
    /// best.
    fn order(
        &self,
        branch: &'a BranchEntry,
        node: &'a Name,
    ) -> (Reverse<Knows>, usize, Reverse<bool>, &'a Name) {
        let knows = self.knows(node, branch);
        let answered = Self::holder(branch).is_some();
        let first = if answered { Knows::Nothing } else { knows };
        // How near somebody is changes from look to look: what is calmly moved must not change its way with it.
        (Reverse(first), self.load(node), Reverse(knows > Knows::Nothing), node)
    }

    /// The followers of a branch that `node` is to have. `followed` counts those of each node.
    fn followers(
        &self,
        branch: &'a BranchEntry,
        node: &'a Name,
        followed: &mut BTreeMap<&'a Name, usize>,
    ) -> Vec<Name> {
        let wanted = usize::from(branch.row.followers);
        if wanted == 0 {
            return Vec::new();
        }
        let holder = Self::holder(branch);
        let (before, after): (Vec<&Name>, Vec<&Name>) =
            self.rooms.keys().copied().partition(|other| *other <= node);
        let mut others = after;
        others.extend(before.into_iter().filter(|other| *other != node));
        if !others.is_empty() {
            let turned = usize::from(branch.row.number) % others.len();
            others.rotate_left(turned);
        }
        others.retain(|other| {
            Some(*other) != holder && followed.get(other).copied().unwrap_or(0) < FOLLOWED_MAX
        });
        // A node that a dedicated branch has to itself gets no other branch while there are others: it follows for want of them.
        let knows = |other: &Name| self.knows(other, branch) > Knows::Nothing;
        others.sort_by_key(|other| (self.alone.contains(other), Reverse(knows(other))));
        others.truncate(wanted);
        others.iter().for_each(|other| *followed.entry(*other).or_default() += 1);
        // It is about to get it.
        let comes = holder.is_some_and(|holder| holder != node);
        comes.then_some(node).into_iter().chain(others).cloned().collect()
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
        NodeEntry { row, silent_us, drain: None, follows: Vec::new() }
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

    fn follows(text: &str, followed: &[(u16, Option<u64>)]) -> NodeEntry {
        let follow = |(branch, behind): &(u16, Option<u64>)| Follow { branch: *branch, behind: *behind };
        NodeEntry { follows: followed.iter().map(follow).collect(), ..node(text, 0, false) }
    }

    fn wanting(followers: u8, entry: BranchEntry) -> BranchEntry {
        BranchEntry { row: BranchRow { followers, ..entry.row }, ..entry }
    }

    fn of(branches: Vec<BranchEntry>, nodes: Vec<NodeEntry>) -> BTreeMap<u16, Planned> {
        plan(&Map { branches, nodes, ..Map::default() }, 100)
    }

    fn planned(branches: Vec<BranchEntry>, nodes: Vec<NodeEntry>) -> Vec<(u16, String)> {
        of(branches, nodes).into_iter().map(|(branch, planned)| (branch, planned.node.to_string())).collect()
    }

    /// Host and followers of branch 1.
    fn first(branches: Vec<BranchEntry>, nodes: Vec<NodeEntry>) -> (String, Vec<String>) {
        let planned = of(branches, nodes).remove(&1).expect("it is planned");
        (planned.node.to_string(), planned.followers.iter().map(ToString::to_string).collect())
    }

    fn first_is(found: (String, Vec<String>), host: &str, followers: &[&str]) {
        assert_eq!(
            (found.0.as_str(), found.1.iter().map(String::as_str).collect::<Vec<_>>()),
            (host, followers.to_vec())
        );
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
        // Nobody takes any, of their own accord: it stays as it is.
        is(&planned(held(), vec![node("a", 0, true), node("b", 0, true)]), &[(1, "a"), (2, "b"), (3, "a")]);
        is(&planned(held(), vec![node("a", 0, true), drained("b")]), &[(1, "a"), (2, "a"), (3, "a")]);
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

    fn abc() -> Vec<NodeEntry> {
        ["a", "b", "c"].map(|text| node(text, 0, false)).into()
    }

    #[test]
    fn followers_are_the_next_nodes_and_never_the_host() {
        let held = |followers| vec![wanting(followers, branch(1, Some("a")))];
        first_is(first(held(0), abc()), "a", &[]);
        first_is(first(held(1), abc()), "a", &["c"]);
        first_is(first(held(2), abc()), "a", &["c", "b"]);
        first_is(first(held(3), abc()), "a", &["c", "b"]);
        let gone = |entry| vec![node("a", 0, false), node("b", 0, false), entry];
        for gone in [gone(node("c", 101, false)), gone(node("c", 0, true)), gone(drained("c"))] {
            first_is(first(held(2), gone), "a", &["b"]);
        }
        first_is(first(held(1), vec![node("a", 0, false)]), "a", &[]);
        let spread = of(
            (1..=4).map(|number| wanting(1, branch(number, Some("a")))).collect(),
            vec![
                node("a", 0, false),
                NodeEntry { row: NodeRow { capacity: 0, ..node("b", 0, false).row }, ..node("b", 0, false) },
                NodeEntry { row: NodeRow { capacity: 0, ..node("c", 0, false).row }, ..node("c", 0, false) },
            ],
        );
        let names: Vec<_> = spread.values().map(|planned| planned.followers[0].to_string()).collect();
        assert_eq!(names, ["c", "b", "c", "b"], "those of one host fall to different nodes");
    }

    #[test]
    fn whoever_follows_goes_on_and_a_node_follows_so_many() {
        let held = vec![wanting(1, branch(1, Some("a")))];
        let nodes = vec![node("a", 0, false), follows("b", &[(1, None)]), node("c", 0, false)];
        first_is(first(held, nodes), "a", &["b"]);
        let many = u16::try_from(FOLLOWED_MAX).unwrap() + 10;
        let held = (1..=many).map(|number| wanting(1, branch(number, Some("a")))).collect();
        let mut nodes = ab();
        nodes[0].row.capacity = many;
        nodes[1].row.capacity = 0;
        let following = of(held, nodes).values().filter(|planned| !planned.followers.is_empty()).count();
        assert_eq!(following, FOLLOWED_MAX);
    }

    #[test]
    fn a_node_that_a_branch_has_to_itself_follows_for_want_of_others() {
        let held = |followers| vec![wanting(followers, branch(1, Some("a"))), dedicated(2, Some("c"))];
        let nodes = || vec![node("a", 0, false), node("b", 0, false), follows("c", &[(1, Some(0))])];
        first_is(first(held(1), nodes()), "a", &["b"]);
        first_is(first(held(2), nodes()), "a", &["b", "c"]);
    }

    #[test]
    fn whoever_is_to_get_a_branch_follows_it_first() {
        let mut placed = wanting(1, branch(1, Some("a")));
        placed.row.placement = Some(name("b"));
        first_is(first(vec![placed.clone()], abc()), "b", &["b", "c"]);
        first_is(first(vec![placed.clone()], ab()), "b", &["b"]);
        placed.row.followers = 0;
        first_is(first(vec![placed], abc()), "b", &[]);
    }

    #[test]
    fn a_branch_without_a_host_goes_to_whoever_follows_it_nearest() {
        let free = || vec![wanting(1, branch(1, None)), branch(2, Some("c")), branch(3, Some("c"))];
        let near = |b, c| vec![node("a", 0, false), follows("b", &[(1, b)]), follows("c", &[(1, c)])];
        first_is(first(free(), near(Some(Follow::NEAR + 1), Some(Follow::NEAR))), "c", &["b"]);
        first_is(first(free(), near(Some(7), None)), "b", &["c"]);
        first_is(first(free(), near(None, None)), "b", &["c"]);
        first_is(first(free(), abc()), "a", &["c"]);
        // Where somebody has it, evenness goes first: it is moved when whoever gets it is near.
        let full = || vec![wanting(1, branch(1, Some("d"))), branch(2, Some("c"))];
        first_is(first(full(), near(None, Some(0))), "b", &["b", "c"]);
        let mut alone = dedicated(1, None);
        alone.row.followers = 1;
        first_is(first(vec![alone], near(Some(0), None)), "b", &["c"]);
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
