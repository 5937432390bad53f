//! What can be said of events and of those who are called with them.

use clap::{Args, Subcommand};

use super::Remote;

/// What happened, as the journals say it.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Go on when the end is reached, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
    /// Begin after this cursor; `now` at the end, left out at the beginning
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// One branch only
    #[arg(long)]
    pub(crate) branch: Option<u16>,
    /// Only these types, or what begins so: skerry.transfer. May be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// Only what touches this account
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account: Option<String>,
    /// Stop after so many
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Make one; its secret is shown this once
    Create {
        /// Where events are posted, https://…
        url: String,
        /// Only these types, or what begins so: skerry.transfer. May be repeated
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
        /// Only these branches. May be repeated
        #[arg(long = "branch", value_name = "BRANCH")]
        branches: Vec<u16>,
        /// Begin after this cursor instead of at the end; `` is the beginning
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
    },
    /// List all: where each goes, how far it is, why it is not called if it is not
    List,
    /// Show one
    Show {
        /// Its id
        id: String,
    },
    /// Delete one
    Delete {
        /// Its id
        id: String,
    },
    /// Call it again, from where it was; one that is failing is tried at once
    Enable {
        /// Its id
        id: String,
    },
    /// Call it no more until it is enabled
    Disable {
        /// Its id
        id: String,
    },
    /// Give it a new secret; the one before signs too for a day
    Rotate {
        /// Its id
        id: String,
    },
    /// Call it again with everything after a cursor
    Replay {
        /// Its id
        id: String,
        /// A cursor; `now`, or `` for the beginning
        #[arg(long, value_name = "CURSOR")]
        after: String,
    },
    /// Post one event that means nothing, and say what came of it
    Test {
        /// Its id
        id: String,
    },
}
