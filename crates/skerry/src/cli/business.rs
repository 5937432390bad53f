//! What can be said of customers, their accounts and their money.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum CustomerCommand {
    /// Open a customer; the bank chooses the branch
    Create {
        /// Name
        #[arg(long)]
        name: String,
        /// Document as KIND:NUMBER
        #[arg(long, value_name = "KIND:NUMBER")]
        document: String,
        /// The branch to live in, instead of the one with the most room
        #[arg(long)]
        branch: Option<u16>,
        /// Idempotency key, for a retry
        #[arg(long)]
        key: Option<String>,
    },
    /// Show one
    Show {
        /// Customer id
        id: String,
    },
    /// Change one; what is left out stays
    Change {
        /// Customer id
        id: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// New document as KIND:NUMBER
        #[arg(long, value_name = "KIND:NUMBER")]
        document: Option<String>,
    },
    /// List the accounts of one
    Accounts {
        /// Customer id
        id: String,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Where the page before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Erase the personal data of one, for ever
    Erase {
        /// Customer id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Open an account
    Open {
        /// Customer id
        customer: String,
        /// Product
        #[arg(long, default_value = "current")]
        product: String,
        /// ISO 4217 code
        #[arg(long, default_value = "CNY")]
        currency: String,
        /// Idempotency key, for a retry
        #[arg(long)]
        key: Option<String>,
    },
    /// Balances, limits, status
    Show {
        /// Account number
        number: String,
    },
    /// Statement lines with running balances
    Entries {
        /// Account number
        number: String,
        /// At most this many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Where the page before ended
        #[arg(long)]
        cursor: Option<String>,
        /// Filters and order as docs/api.md lists them, NAME=VALUE
        #[arg(long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
    },
    /// A statement as ISO 20022: camt.053 of closed days
    Statement {
        /// Account number
        number: String,
        /// First business date, YYYY-MM-DD; the last one if left out
        #[arg(long)]
        from: Option<String>,
        /// Last business date; the latest closed one if left out
        #[arg(long)]
        to: Option<String>,
        /// The open day too: camt.052
        #[arg(long)]
        interim: bool,
        /// Entries on a page
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        /// Where the page before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// The balance at the end of a day
    Balance {
        /// Account number
        number: String,
        /// YYYY-MM-DD
        #[arg(long)]
        date: String,
        /// As of value dates instead of as booked
        #[arg(long)]
        by_value: bool,
    },
    /// Change the floor or the daily limit
    Limits {
        /// Account number
        number: String,
        /// Lowest balance allowed, as 12.34; negative is an overdraft
        #[arg(long, allow_hyphen_values = true)]
        floor: Option<String>,
        /// Most that may be debited on one business day, as 12.34; `none` lifts it
        #[arg(long)]
        daily: Option<String>,
        /// ISO 4217 code of both
        #[arg(long, default_value = "CNY")]
        currency: String,
    },
    /// Freeze it
    Freeze {
        /// Account number
        number: String,
        /// Why: the bank's own code, 1 to 255
        #[arg(long)]
        reason: u8,
        /// Which side: debit, credit or both
        #[arg(long, default_value = "both")]
        side: String,
    },
    /// Lift a freeze
    Unfreeze {
        /// Account number
        number: String,
        /// Which side: debit, credit or both
        #[arg(long, default_value = "both")]
        side: String,
    },
    /// Close it
    Close {
        /// Account number
        number: String,
    },
    /// Open it again
    Reopen {
        /// Account number
        number: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PaymentCommand {
    /// Show one, by the id of its transfer
    Show {
        /// Transfer id
        id: String,
    },
    /// Start those of an ISO 20022 message (pain.001), and tell what became of each (pain.002)
    Initiate {
        /// The message; `-` reads it from stdin
        file: std::path::PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TransferCommand {
    /// Make one
    Create {
        /// Debit: an account number or a head, gl:1001
        #[arg(long)]
        debit: String,
        /// Credit: an account number or a head
        #[arg(long)]
        credit: String,
        /// Amount, as 12.34
        #[arg(long, allow_hyphen_values = true)]
        amount: String,
        /// ISO 4217 code
        #[arg(long, default_value = "CNY")]
        currency: String,
        /// UUIDv7; one is made if none is given
        #[arg(long)]
        id: Option<String>,
        /// The client's own classification, 0 to 65535
        #[arg(long)]
        code: Option<u16>,
        /// Reference
        #[arg(long)]
        reference: Option<String>,
        /// Free text, sealed under the paying customer's key: up to 140 characters
        #[arg(long)]
        note: Option<String>,
        /// YYYY-MM-DD
        #[arg(long)]
        value_date: Option<String>,
        /// Hold the money; post or void it later
        #[arg(long)]
        pending: bool,
        /// Seconds until a hold expires
        #[arg(long, requires = "pending")]
        timeout: Option<u32>,
        /// To another branch: wait so many seconds for the end, 30 at most
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u8>,
    },
    /// Find those of a branch by reference or code
    Find {
        /// Branch number
        #[arg(long)]
        branch: u16,
        /// Reference, whole
        #[arg(long)]
        reference: Option<String>,
        /// Code
        #[arg(long)]
        code: Option<u16>,
        /// At most this many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Where the page before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one, by its debit account and id
    Show {
        /// Debit account
        number: String,
        /// Transfer id
        id: String,
    },
    /// Post a hold, in part or in full
    Post {
        /// Debit account
        number: String,
        /// Transfer id
        id: String,
        /// In part, as 12.34
        #[arg(long)]
        amount: Option<String>,
        /// ISO 4217 code of the amount
        #[arg(long, default_value = "CNY")]
        currency: String,
    },
    /// Release a hold
    Void {
        /// Debit account
        number: String,
        /// Transfer id
        id: String,
    },
    /// Reverse a posted transfer
    Reverse {
        /// Debit account
        number: String,
        /// Transfer id
        id: String,
    },
    /// Fetch the receipt, which `skerry verify` checks offline
    Receipt {
        /// Debit account
        number: String,
        /// Transfer id
        id: String,
    },
}
