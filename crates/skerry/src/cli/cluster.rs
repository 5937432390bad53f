//! What can be said of a bank of several machines, and of its directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Local, Remote, Settings};

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodeArgs {
    /// The node's name; no two processes of a bank have the same
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) local: Local,
    /// Where it tells machines how it is: /healthz and /metrics
    #[arg(long, value_name = "HOST:PORT", env = "SKERRY_NODE_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Tell it in plain HTTP on an address that is not the loopback
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Take only branches that operators move to this node: for the first node of a new release
    #[arg(long, requires = "name")]
    pub(crate) gray: bool,
    /// What to log: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", env = "SKERRY_LOG")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<NodeCommand>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes with what they host
    List(Remote),
    /// Let a node give its branches away, one at a time as long as others take them, and take none; also over its restarts
    Drain {
        #[command(flatten)]
        remote: Remote,
        /// The node
        node: String,
    },
    /// Let a drained node have branches again
    Resume {
        #[command(flatten)]
        remote: Remote,
        /// The node
        node: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// How many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) count: u16,
    /// The number of the first; said again after a failure it makes no second branch. By default the next one
    #[arg(long, value_name = "NUMBER")]
    pub(crate) first: Option<u16>,
    /// The store of their journals, one of [stores] or `local`; by default those of `storage.journals` in turn
    #[arg(long, value_name = "NAME")]
    pub(crate) store: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Branch number
    pub(crate) branch: u16,
    /// dedicated or scattered
    #[arg(required_unless_present_any = ["node", "any_node"])]
    pub(crate) mode: Option<String>,
    /// Keep it on this node while that can host it
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Let it be on any node again
    #[arg(long, conflicts_with = "node")]
    pub(crate) any_node: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Branch number
    pub(crate) branch: u16,
    /// The node
    #[arg(long, value_name = "NODE")]
    pub(crate) to: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Branch number
    pub(crate) branch: u16,
    /// How many, 0 to 3
    #[arg(value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) count: u8,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct GatewayArgs {
    /// The gateway's name; no two processes of a bank have the same
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Found a bank for several machines: its identity in the data folder, its branches in the directory
    New(Settings),
    /// Write the bank's identity and secrets into a file, for another machine
    Export {
        #[command(flatten)]
        local: Local,
        /// The file; it must not be there yet
        file: PathBuf,
    },
    /// Make a new data folder that of another machine of the bank, from such a file
    Import {
        #[command(flatten)]
        local: Local,
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DirectoryCommand {
    /// Show branches with weight, node and room, stores, nodes
    Show(Remote),
    /// Take all customers in again from the branches; meanwhile none can be opened
    Rebuild(Remote),
}
