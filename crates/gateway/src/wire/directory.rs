//! The directory as JSON.

use serde::{Deserialize, Serialize};
use skerry_directory::{BranchEntry, BranchState, Map, Mode};
use utoipa::ToSchema;

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
    /// Customers it holds, as its owner last said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customers: Option<u32>,
    /// Customers it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
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
    /// Gives its branches away.
    pub draining: bool,
    /// Milliseconds since it was last heard of.
    pub silent_ms: u64,
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

impl PlacedBranch {
    /// A branch of the map.
    #[must_use]
    pub fn of(entry: &BranchEntry) -> Self {
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
            customers: entry.room.map(|room| room.customers),
            capacity: entry.room.map(|room| room.capacity),
        }
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
        let nodes = map.nodes.iter().map(|node| NodeView {
            name: node.row.name.to_string(),
            address: node.row.address.to_string(),
            capacity: node.row.capacity,
            version: node.row.version.to_string(),
            draining: node.row.draining,
            silent_ms: node.silent_us / 1_000,
        });
        Self {
            version: map.version,
            rebuilding: map.rebuilding,
            branches: map.branches.iter().map(PlacedBranch::of).collect(),
            stores: stores.collect(),
            nodes: nodes.collect(),
        }
    }
}
