//! The directory as JSON.

use serde::{Deserialize, Serialize};
use skerry_directory::{BranchEntry, BranchState, Follow, Map, Mode, NodeEntry};
use skerry_node::host::LEASE_US;
use skerry_node::plan::plan;
use utoipa::ToSchema;

use super::scalars::Instant;

/// Branches, stores and nodes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DirectoryView {
    /// Grows with every change.
    pub version: u64,
    /// Customers are being taken in again: until that has ended none can be opened.
    pub rebuilding: bool,
    /// By number.
    pub branches: Vec<PlacedBranch>,
    /// By name.
    pub stores: Vec<StoreView>,
    /// By name.
    pub nodes: Vec<NodeView>,
}

/// A branch, as the directory knows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlacedBranch {
    /// Its number.
    pub branch: u16,
    /// `founding`, `open` or `closed` for good.
    pub state: &'static str,
    /// How it is hosted.
    pub mode: HostingMode,
    /// How many newcomers it draws, 100 is usual.
    pub weight: u16,
    /// Whether newcomers are sent to it.
    pub newcomers: bool,
    /// Gets a new release first; newcomers only if no other branch has room.
    pub gray: bool,
    /// The store of its journal.
    pub store: String,
    /// The node that should host it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The node that hosts it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How many other nodes are to follow it, 0 to 3.
    pub followers: u8,
    /// Those that do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub followed_by: Vec<FollowerView>,
    /// Customers it holds, as its owner last said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customers: Option<u32>,
    /// Customers it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// A node that follows a branch: it reads the journal as it grows, and takes over soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FollowerView {
    /// Its name.
    pub node: String,
    /// Whether it would take over at once.
    pub near: bool,
    /// Records that it had yet to read when it was last heard of; absent while it does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}

/// A branch that a node follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FollowedView {
    /// Its number.
    pub branch: u16,
    /// Whether the node would take it over at once.
    pub near: bool,
    /// Records that the node had yet to read when it was last heard of; absent while it does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}

/// Where journals are kept.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoreView {
    /// Its name.
    pub name: String,
    /// `local`, `postgres`.
    pub kind: String,
    /// Where; no secret is in it.
    pub place: String,
}

/// A process that hosts branches.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub address: String,
    /// Branches it may host.
    pub capacity: u16,
    /// Its release.
    pub version: String,
    /// Gives its branches away and takes none: an operator drains it, or it says so itself while it stops or its clock is off.
    pub draining: bool,
    /// The operator who drains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained_by: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained_at: Option<Instant>,
    /// Milliseconds since it was last heard of.
    pub silent_ms: u64,
    /// The branches that it hosts.
    pub branches: Vec<u16>,
    /// Those of them that stay while it is drained, because no other node takes them now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stays: Vec<u16>,
    /// The branches that it follows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<FollowedView>,
}

/// Whether a node is drained.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainIn {
    /// `true`: it is to give its branches away and take none. `false`: it may have some again.
    pub draining: bool,
}

/// How a branch is hosted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostingMode {
    /// With others on one node.
    Scattered,
    /// On a node of its own.
    Dedicated,
}

/// What changes of a branch; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SteerIn {
    /// How many newcomers it draws: its room counts by so many hundredths, 0 to 1000.
    #[serde(default)]
    pub weight: Option<u16>,
    /// Whether newcomers are sent to it.
    #[serde(default)]
    pub newcomers: Option<bool>,
    /// Whether it gets a new release first.
    #[serde(default)]
    pub gray: Option<bool>,
    /// How it is hosted.
    #[serde(default)]
    pub mode: Option<HostingMode>,
    /// How many other nodes are to follow it, 0 to 3.
    #[serde(default)]
    pub followers: Option<u8>,
    /// The node that should host it; `null` is any.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub node: Option<Option<String>>,
}

/// A member that is there, be it `null`.
fn given<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(input).map(Some)
}

/// What a rebuild came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RebuiltView {
    /// Customers that were taken in.
    pub customers: u64,
    /// Documents that a second branch has too; the log names them.
    pub elsewhere: u64,
}

impl From<HostingMode> for Mode {
    fn from(mode: HostingMode) -> Self {
        match mode {
            HostingMode::Scattered => Self::Scattered,
            HostingMode::Dedicated => Self::Dedicated,
        }
    }
}

impl FollowerView {
    /// Those who follow `branch` and are heard of, by name.
    #[must_use]
    pub fn all(map: &Map, branch: u16) -> Vec<Self> {
        let heard = map.nodes.iter().filter(|node| node.silent_us <= LEASE_US);
        let view = |node: &NodeEntry| {
            let follow = node.follow(branch)?;
            let node = node.row.name.to_string();
            Some(Self { node, near: follow.is_near(), behind: follow.behind })
        };
        heard.filter_map(view).collect()
    }
}

impl PlacedBranch {
    /// A branch of the map.
    #[must_use]
    pub fn of(map: &Map, entry: &BranchEntry) -> Self {
        let row = &entry.row;
        Self {
            branch: row.number,
            state: match row.state {
                BranchState::Founding => "founding",
                BranchState::Open => "open",
                BranchState::Closed => "closed",
            },
            mode: match row.mode {
                Mode::Scattered => HostingMode::Scattered,
                Mode::Dedicated => HostingMode::Dedicated,
            },
            weight: row.weight,
            newcomers: row.newcomers,
            gray: row.gray,
            store: row.store.to_string(),
            placement: row.placement.as_ref().map(ToString::to_string),
            host: entry.lease.as_ref().map(|lease| lease.holder.node.to_string()),
            followers: row.followers,
            followed_by: FollowerView::all(map, row.number),
            customers: entry.room.map(|room| room.customers),
            capacity: entry.room.map(|room| room.capacity),
        }
    }
}

impl FollowedView {
    fn of(follow: &Follow) -> Self {
        Self { branch: follow.branch, near: follow.is_near(), behind: follow.behind }
    }
}

impl NodeView {
    /// A node of the map.
    #[must_use]
    pub fn of(map: &Map, node: &NodeEntry) -> Self {
        let name = &node.row.name;
        let hosted =
            |entry: &&BranchEntry| entry.lease.as_ref().is_some_and(|lease| lease.holder.node == *name);
        let branches: Vec<u16> = map.branches.iter().filter(hosted).map(|entry| entry.row.number).collect();
        let others = plan(map, LEASE_US);
        let stays = |number: &u16| node.drain.is_some() && !others.contains_key(number);
        Self {
            name: name.to_string(),
            address: node.row.address.to_string(),
            capacity: node.row.capacity,
            version: node.row.version.to_string(),
            draining: !node.takes(),
            drained_by: node.drain.as_ref().map(|row| row.by.to_string()),
            drained_at: node.drain.as_ref().map(|row| Instant(row.at_us)),
            silent_ms: node.silent_us / 1_000,
            stays: branches.iter().copied().filter(stays).collect(),
            branches,
            follows: node.follows.iter().map(FollowedView::of).collect(),
        }
    }

    /// Leaves out the branches that somebody may not see.
    pub fn retain(&mut self, sees: impl Fn(u16) -> bool) {
        self.branches.retain(|branch| sees(*branch));
        self.stays.retain(|branch| sees(*branch));
        self.follows.retain(|followed| sees(followed.branch));
    }
}

impl DirectoryView {
    /// The whole map.
    #[must_use]
    pub fn of(map: &Map) -> Self {
        let stores = map.stores.iter().map(|store| StoreView {
            name: store.name.to_string(),
            kind: store.kind.to_string(),
            place: store.place.to_string(),
        });
        let nodes = map.nodes.iter().map(|node| NodeView::of(map, node));
        Self {
            version: map.version,
            rebuilding: map.rebuilding,
            branches: map.branches.iter().map(|entry| PlacedBranch::of(map, entry)).collect(),
            stores: stores.collect(),
            nodes: nodes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use skerry_directory::{BranchRow, DrainRow, Holder, LeaseView, Name, NodeRow, Where, Who};

    use super::*;

    fn node(text: &str, drained: bool) -> NodeEntry {
        let (address, version) = (Where::new("here").unwrap(), Where::new("1").unwrap());
        let row = NodeRow { name: Name::new(text).unwrap(), address, capacity: 2, version, draining: false };
        let drain = drained.then(|| DrainRow { by: Who::new("chief").unwrap(), at_us: 0 });
        NodeEntry { row, silent_us: 0, drain, follows: Vec::new() }
    }

    fn branch(number: u16, holder: &str) -> BranchEntry {
        let holder = Holder { node: Name::new(holder).unwrap(), incarnation: 1 };
        let lease = Some(LeaseView { holder, grant: 1, left_us: 1 });
        BranchEntry { row: BranchRow::new(number, Name::new("main").unwrap()), lease, room: None }
    }

    #[test]
    fn what_stays_on_a_drained_node_is_what_nobody_else_has_room_for() {
        let branches = vec![branch(1, "a"), branch(2, "a"), branch(3, "a"), branch(4, "b")];
        let mut map = Map { branches, nodes: vec![node("a", true), node("b", false)], ..Map::default() };
        let view = NodeView::of(&map, &map.nodes[0]);
        // The other one has room for one more.
        assert_eq!((view.branches, view.stays.len(), view.draining), (vec![1, 2, 3], 2, true));
        assert!(NodeView::of(&map, &map.nodes[1]).stays.is_empty(), "it is not drained");
        map.nodes[1] = node("b", true);
        assert_eq!(NodeView::of(&map, &map.nodes[0]).stays, [1, 2, 3]);
        assert_eq!(NodeView::of(&map, &map.nodes[1]).stays, [4]);
    }

    #[test]
    fn followers_are_those_who_are_heard_of() {
        let follows = |name, silent_us, behind| NodeEntry {
            silent_us,
            follows: vec![Follow { branch: 1, behind }],
            ..node(name, false)
        };
        let nodes = vec![
            node("a", false),
            follows("b", 0, Some(0)),
            follows("c", LEASE_US + 1, Some(0)),
            follows("d", LEASE_US, None),
        ];
        let map = Map { branches: vec![branch(1, "a"), branch(2, "a")], nodes, ..Map::default() };
        let view = DirectoryView::of(&map);
        let seen = serde_json::to_value(&view.branches[0].followed_by).unwrap();
        let wanted =
            serde_json::json!([{"node": "b", "near": true, "behind": 0}, {"node": "d", "near": false}]);
        assert_eq!(seen, wanted);
        assert!(view.branches[1].followed_by.is_empty());
        assert_eq!(view.nodes[1].follows, [FollowedView { branch: 1, near: true, behind: Some(0) }]);
    }
}
