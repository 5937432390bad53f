//! The command line, and nothing else: what can be said, with its defaults. What it means is in the other modules.
//!
//! stdout is data (`--json` everywhere), stderr is talk.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod business;
mod cluster;
mod events;
mod operating;

pub(crate) use cluster::{
    CreateArgs, DirectoryCommand, FollowArgs, GatewayArgs, IdentityCommand, MoveArgs, NodeArgs, NodeCommand,
    PlaceArgs,
};
pub(crate) use events::{EventsArgs, WebhookCommand};
pub(crate) use operating::{ApprovalCommand, AuditArgs, BusCommand, TokenCommand};

pub(crate) use business::{AccountCommand, CustomerCommand, PaymentCommand, TransferCommand};

/// A bank core: virtual branches on cheap machines, no lost cents.
#[derive(Debug, Parser)]
#[command(name = "skerry", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the bank is and who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The bank's address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SKERRY_SERVER",
        default_value = "http://127.0.0.1:7117"
    )]
    pub(crate) server: String,
    /// File that holds the token; by default `operator.token` in the data folder
    #[arg(long, global = true, value_name = "PATH", env = "SKERRY_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the certificates to trust, for an https address
    #[arg(long, global = true, value_name = "PATH", env = "SKERRY_CERTIFICATE")]
    pub(crate) certificate: Option<PathBuf>,
}

/// Where the bank lies.
#[derive(Debug, Clone, Args)]
pub(crate) struct Local {
    /// The data folder
    #[arg(long, value_name = "PATH", env = "SKERRY_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// The configuration file; by default `skerry.toml` if it is there
    #[arg(long, value_name = "PATH", env = "SKERRY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the bank: branches, journals and the HTTP API in one process
    Up(UpArgs),
    /// Host branches of a bank of several machines; or list the nodes that do
    Node(NodeArgs),
    /// Serve the HTTP API in front of branches that nodes host
    Gateway(GatewayArgs),
    /// What makes a machine one of a bank's machines: found, export, import
    Identity {
        #[command(subcommand)]
        command: IdentityCommand,
    },
    /// Stop a bank that runs in the background; what it acknowledged stays
    Down(Local),
    /// Say how branches, node and machine are, and the cause of every fault
    Status(Target),
    /// Customers
    Customer {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: CustomerCommand,
    },
    /// Accounts: open, look, limit, freeze, close
    Account {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// Transfers: make, look, post, void, reverse, prove
    Transfer {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: TransferCommand,
    },
    /// Payments to other branches: where the money is
    Payment {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: PaymentCommand,
    },
    /// Branches: list, reopen, keep, restore
    Branch {
        #[command(subcommand)]
        command: BranchCommand,
    },
    /// The directory: who lives where
    Directory {
        #[command(subcommand)]
        command: DirectoryCommand,
    },
    /// Buses: what carries messages between branches
    Bus {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: BusCommand,
    },
    /// Access tokens: through the running bank, or straight in its data folder
    Token {
        #[command(flatten)]
        remote: Remote,
        /// Straight in this data folder, with no token and whether or not its bank runs; a running one follows within a second
        #[arg(long, value_name = "PATH", global = true)]
        data: Option<PathBuf>,
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// The trial balance of every branch and currency
    TrialBalance {
        #[command(flatten)]
        remote: Remote,
        /// Business date, YYYY-MM-DD; by default the open day
        #[arg(long)]
        date: Option<String>,
        /// As of value dates instead of as booked
        #[arg(long)]
        by_value: bool,
        /// One branch only
        #[arg(long)]
        branch: Option<u16>,
    },
    /// The chart of accounts
    Chart(Remote),
    /// Who did what
    Audit {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        asked: AuditArgs,
    },
    /// Four eyes: what waits for a second principal, and the second principal's word
    Approval {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: ApprovalCommand,
    },
    /// What happened, as CloudEvents: from a cursor on, or as it happens
    Events(EventsArgs),
    /// Webhooks: who is called when something happens
    Webhook {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: WebhookCommand,
    },
    /// Take over another core's book from CSV files
    Import(ImportArgs),
    /// Open customers and accounts of a made-up bank, named by number
    Sample {
        #[command(flatten)]
        remote: Remote,
        /// How many customers
        #[arg(long, default_value_t = 100)]
        customers: u32,
        /// Chooses amounts; the same seed makes the same bank
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Check an exported journal or a receipt, without any access to the bank
    Verify(VerifyArgs),
    /// Copy a bank's journals while it runs or rests
    Backup(BackupArgs),
    /// Lay a backup down as a new data folder, and check it
    Restore(RestoreArgs),
    /// Signing keys: list, rotate, seal, serve
    Key {
        #[command(subcommand)]
        command: crate::keys::KeyCommand,
    },
    /// What a bank costs per account, payment and branch
    Cost {
        #[command(flatten)]
        remote: Remote,
        /// TOML file with prices (docs/cost.md)
        #[arg(long, value_name = "FILE")]
        prices: PathBuf,
    },
    /// Configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Measure
    Bench {
        #[command(subcommand)]
        command: crate::bench::BenchCommand,
    },
    /// Run a bank in memory under injected faults; same seed, same run
    Simulate(crate::simulate::SimulateArgs),
}

/// What flags and the environment say of a bank's settings.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) local: Local,
    /// Address the API listens on
    #[arg(long, value_name = "HOST:PORT", env = "SKERRY_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Number of branches to open at the first start
    #[arg(long, env = "SKERRY_BRANCHES")]
    pub(crate) branches: Option<u16>,
    /// Serve plain HTTP on an address that is not the loopback
    #[arg(long)]
    pub(crate) insecure: bool,
    /// What to log: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", env = "SKERRY_LOG")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Go to the background once it answers; `skerry down` stops it
    #[arg(long)]
    pub(crate) detach: bool,
    /// At the first start, open this many sample customers with accounts
    #[arg(long, value_name = "CUSTOMERS", default_value_t = 0)]
    pub(crate) sample: u32,
}

/// A bank by its folder or by its address.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The data folder, for what can be said when the bank does not answer
    #[arg(long, value_name = "PATH", env = "SKERRY_DATA")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BranchCommand {
    /// List them with room and state
    List(Remote),
    /// Its payments to and from each other branch: numbers, what is under way, sums
    Channels {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// What needs four eyes and how long the law keeps customers: shown, or set
    Policy {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
        /// What shall need two principals, such as limits,reversals; `none` for nothing
        #[arg(long, value_delimiter = ',', requires = "retention_days")]
        four_eyes: Option<Vec<String>>,
        /// Days for which erasing is refused after a customer's last account was closed
        #[arg(long, requires = "four_eyes")]
        retention_days: Option<u32>,
    },
    /// Close the open business day for ever and open this one
    OpenDay {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
        /// YYYY-MM-DD
        date: String,
    },
    /// End imports: from this day on the branch's own business counts
    GoLive {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
        /// YYYY-MM-DD
        date: String,
    },
    /// After an upgrade, let it write what releases of before cannot read: they cannot open it any more
    RaiseFormat {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// Let a channel that has stopped go on, once both branches know the same
    ResumeChannel {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
        /// The other branch
        peer: u16,
    },
    /// Where its record and another one differ: losses, channels that have stopped, money that nobody has taken
    Breaks {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// Open a sick branch again from its journal
    Reopen {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// Say that the machine's clock is right although it jumped
    ConfirmClock {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// Accept that the end of a journal is lost; the branch opens under a new incarnation
    DeclareLoss {
        #[command(flatten)]
        local: Local,
        /// Branch number
        branch: u16,
        /// The position that the bank's error named, as proof that it was read
        #[arg(long)]
        position: u64,
    },
    /// Say how many newcomers it draws: its room counts by so many hundredths, 100 is usual
    Weight {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
        /// 0 to 1000
        weight: u16,
    },
    /// Add branches to a bank that runs; newcomers come to them, and all other branches pay and are paid by them
    Create(CreateArgs),
    /// Send no newcomers to it; its customers notice nothing
    #[command(visible_alias = "drain")]
    Close {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// Send newcomers to it again
    Open {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
    },
    /// Keep it as the first to get a new release; newcomers come to it only if no other branch has room
    Gray {
        #[command(flatten)]
        remote: Remote,
        /// Branch number
        branch: u16,
        /// No more
        #[arg(long)]
        off: bool,
    },
    /// Say how it is hosted, `dedicated` to a node of its own or `scattered`, and on which node
    Place(PlaceArgs),
    /// Move it to a node, where it stays while that can host it
    Move(MoveArgs),
    /// Say how many other nodes follow it, so that one takes over soon
    Follow(FollowArgs),
    /// Move old segments of a journal to the cold folder (`storage.cold`), where they stay readable
    Archive(crate::archive::ArchiveArgs),
    /// Copy a branch's journal to a folder that `skerry verify` reads
    Export {
        #[command(flatten)]
        local: Local,
        /// Branch number
        branch: u16,
        /// The folder to make
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The mapping file (docs/import.md)
    pub(crate) mapping: PathBuf,
    /// The folder with the old core's files
    pub(crate) folder: PathBuf,
    /// Compare every account-day with the old core's own balances afterwards
    #[arg(long)]
    pub(crate) check: bool,
    /// Straight into this data folder, whose bank must be stopped, instead of into a running bank
    #[arg(long, value_name = "PATH", conflicts_with = "server")]
    pub(crate) data: Option<PathBuf>,
    /// The running bank's address
    #[arg(long, value_name = "URL", env = "SKERRY_SERVER")]
    pub(crate) server: Option<String>,
    /// File that holds the operator's token; by default `data/operator.token`
    #[arg(long, value_name = "PATH", env = "SKERRY_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the certificates to trust, for an https address
    #[arg(long, value_name = "PATH", env = "SKERRY_CERTIFICATE")]
    pub(crate) certificate: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// An exported journal, a branch's folder in a data folder, or a receipt in JSON
    pub(crate) file: PathBuf,
    /// The branch's cold folder, for a journal whose beginning is archived
    #[arg(long, value_name = "PATH")]
    pub(crate) cold: Option<PathBuf>,
    /// A public key of the bank (64 digits, or sm2: and 128); by default the one the file names, which proves less
    #[arg(long)]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) local: Local,
    /// The folder to write; must not exist
    pub(crate) to: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) from: PathBuf,
    /// The data folder to make; must not exist. Without it the restore is a drill in a temporary folder
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// What was erased since the backup: the list that `storage.erasures` names, or the data folder being replaced. May be
    /// repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) erasures: Vec<PathBuf>,
    /// There is neither, and whoever was erased since the backup may come back
    #[arg(long, conflicts_with = "erasures")]
    pub(crate) without_erasures: bool,
    /// The configuration file, for the signer; by default `skerry.toml` if it is there
    #[arg(long, value_name = "PATH", env = "SKERRY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether it is valid, and what is wrong
    Check(Settings),
    /// Print what holds, after file, environment and defaults; secrets are never in it
    Show(Settings),
}
