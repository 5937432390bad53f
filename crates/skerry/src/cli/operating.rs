//! What can be said of who did what, of what takes two to do, and of what carries messages between branches.

use clap::{Args, Subcommand};

/// Filters of the audit; all of them hold together.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// Only acts of this principal
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only acts that this principal approved
    #[arg(long)]
    pub(crate) approver: Option<String>,
    /// Only acts on this account
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// Only this kind, such as account.frozen, or transfer for all of them
    #[arg(long)]
    pub(crate) act: Option<String>,
    /// Only what this request did, by its digest
    #[arg(long)]
    pub(crate) request: Option<String>,
    /// At or after this time (RFC 3339)
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// At or before this time
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// One branch only
    #[arg(long)]
    pub(crate) branch: Option<u16>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Where the page before ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// All proposals that stand
    List,
    /// Propose a request that was refused with `needs_approval`
    Propose {
        /// Branch number
        #[arg(long)]
        branch: u16,
        /// The digest that the refusal named
        #[arg(long)]
        request: String,
        /// What it is about, such as limits
        #[arg(long)]
        matter: String,
    },
    /// Approve what another principal proposed
    Approve {
        /// Branch number
        branch: u16,
        /// The digest, as `list` shows it
        request: String,
    },
    /// Decline or withdraw a proposal
    End {
        /// Branch number
        branch: u16,
        /// The digest, as `list` shows it
        request: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BusCommand {
    /// All that the bank hears on: which is chosen, by whom, and how each is doing
    List,
    /// Send messages between branches over another one from now on; payments go on, none is lost or made twice
    Switch {
        /// `local`, or the name of one of `[buses]` in the configuration
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one; it is printed once
    Create {
        /// Whose it is
        #[arg(long)]
        principal: String,
        /// operator, service, auditor or customer
        #[arg(long)]
        role: String,
        /// Days until it expires
        #[arg(long, default_value_t = 90)]
        days: u32,
        /// Only this branch
        #[arg(long)]
        branch: Option<u16>,
        /// Only this customer
        #[arg(long)]
        customer: Option<String>,
        /// Only these operations
        #[arg(long = "operation")]
        operations: Vec<String>,
    },
    /// List them, without their secrets
    List,
    /// Revoke one
    Revoke {
        /// Token id, as `list` shows it
        id: String,
    },
}
