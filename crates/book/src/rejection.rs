//! Every business "no" of a branch: the ledger's, and those of the book around it.
//!
//! A rejection is an outcome, not a fault. Its number is the API: never renumbered, never reused; each has a
//! page `docs/errors/<number>.md`. 1xxx are transfers and 2xxx accounts (the ledger's), 3xxx customers, people
//! and products, 4xxx branch and time.

use skerry_money::Date;

/// Why something is not done.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The ledger's own.
    #[error(transparent)]
    Ledger(#[from] skerry_ledger::Rejection),

    /// The role may not do this at all.
    #[error("the role may not do this")]
    RoleNotAllowed,
    /// Heads, reversals and imports are for operators.
    #[error("only operators post to heads, grant overdrafts, reverse or import")]
    OperatorsOnly,
    /// A second principal must approve this request.
    #[error("a second principal must approve this request")]
    NeedsApproval,
    /// The second principal is the first.
    #[error("one cannot approve one's own request")]
    OwnProposal,
    /// No such proposal stands.
    #[error("no proposal with this digest stands")]
    ProposalNotFound,
    /// It is proposed already.
    #[error("the request is proposed already")]
    ProposalExists,
    /// Too many stand.
    #[error("too many proposals stand")]
    TooManyProposals,
    /// It has been approved.
    #[error("the request is approved already")]
    ProposalApproved,

    /// The key came with another request before.
    #[error("idempotency key used for another request")]
    KeyReused,
    /// More keys than the book keeps within their time.
    #[error("too many idempotency keys within a day")]
    TooManyKeys,

    /// No customer with this serial.
    #[error("customer not found")]
    CustomerNotFound,
    /// The document is a customer's already.
    #[error("the document belongs to customer {customer}")]
    DocumentKnown {
        /// Whose.
        customer: u32,
    },
    /// The customer's key is destroyed.
    #[error("the customer is erased")]
    CustomerErased,
    /// Erasing needs every account closed.
    #[error("the customer has {open} open accounts")]
    CustomerHasAccounts {
        /// How many.
        open: u32,
    },
    /// The law still keeps the customer.
    #[error("retention ends on {}, today is {}", date(.until), date(.today))]
    RetentionNotOver {
        /// The open business day, in days since 1970.
        today: i32,
        /// The first day on which erasing is allowed.
        until: i32,
    },
    /// The ciphertext is empty or beyond its bound.
    #[error("sealed data of {length} bytes; 1 to {most} are taken")]
    SealedLength {
        /// Its bytes.
        length: u32,
        /// The bound.
        most: u32,
    },
    /// The branch is full.
    #[error("the branch takes no more customers")]
    CustomersFull {
        /// How many customers it takes.
        capacity: u32,
    },

    /// No product with this number.
    #[error("product not found")]
    ProductNotFound,
    /// Opened after the open business day.
    #[error("opened in the future")]
    OpenedInFuture,
    /// The account is older than its customer.
    #[error("the account would be older than its customer")]
    OpenedBeforeCustomer,
    /// The chart is not sorted, too long, unnamed, or doubled.
    #[error("the chart is not well formed: {fault}")]
    ChartInvalid {
        /// What is wrong with it.
        fault: ChartFault,
    },
    /// A chart that does not follow the adopted one.
    #[error("the chart is not newer than version {version}")]
    ChartNotNewer {
        /// The adopted one.
        version: u32,
    },
    /// A head is missing or of another class.
    #[error("head {head} is missing or changes class")]
    HeadRemoved {
        /// Which.
        head: u32,
    },
    /// A product is missing or on another head.
    #[error("product {product} is missing or changes its head")]
    ProductRemoved {
        /// Which.
        product: u16,
    },
    /// A product on no head.
    #[error("a product posts to head {head}, which is not in the chart")]
    ProductHeadMissing {
        /// Which.
        head: u32,
    },
    /// Retention beyond its bound.
    #[error("retention is at most {most} days")]
    RetentionTooLong {
        /// The bound.
        most: u32,
    },

    /// The other account lives in another branch.
    #[error("the accounts live in different branches")]
    CrossesBranches,
    /// No channel leads to that branch.
    #[error("branch {peer} is not known here")]
    PeerUnknown {
        /// Which.
        peer: u16,
    },
    /// As many payments to that branch are open as may be.
    #[error("{open} payments to the payee's branch are under way, which is the most")]
    ChannelBusy {
        /// How many are open.
        open: u32,
    },
    /// The channel to that branch has stopped.
    #[error("the channel to branch {peer} has stopped: an operator must look at it")]
    ChannelStopped {
        /// Which.
        peer: u16,
    },
    /// Only channels post to that head.
    #[error("the head is kept by the channels between branches")]
    HeadReserved,
    /// Payments of the account are still under way to other branches.
    #[error("{open} payments of the account are under way to other branches")]
    AccountHasPayments {
        /// How many.
        open: u64,
    },
    /// The payment was lost before it was delivered.
    #[error("a part of the journal was lost, and the payment had not been delivered")]
    PaymentWithdrawn,
    /// The branch has not been opened.
    #[error("the branch is not open")]
    BranchNotOpen,
    /// The branch has been opened.
    #[error("the branch is open already")]
    BranchAlreadyOpen,
    /// The terms cannot be kept.
    #[error("the terms of the branch are not valid")]
    TermsInvalid,
    /// Days only go forward.
    #[error("the day is not after the open one, {}", date(.open))]
    DayNotLater {
        /// The open one, in days since 1970.
        open: i32,
    },
    /// The clock has not reached that day.
    #[error("the day has not begun: the clock is at {}", date(.today))]
    DayNotBegun {
        /// The clock's business day, in days since 1970.
        today: i32,
    },
    /// Imports may not end after native business began.
    #[error("the live date is after the first native entry, booked on {}", date(.first))]
    LiveAfterFirstEntry {
        /// The day of the first native entry, in days since 1970.
        first: i32,
    },
    /// The branch keeps books of its own from that day on.
    #[error("the import is not before the first native entry, booked on {}", date(.first))]
    ImportAfterFirstEntry {
        /// The day of the first native entry, in days since 1970.
        first: i32,
    },
    /// Levels only rise, and only to those this release knows.
    #[error("the format is at level {level}, this release writes up to {known}")]
    FormatLevel {
        /// The level now.
        level: u16,
        /// The highest known.
        known: u16,
    },
    /// Lives are numbered upwards.
    #[error("the branch is in incarnation {incarnation}")]
    IncarnationNotNext {
        /// The one now.
        incarnation: u32,
    },
}

/// Why a chart is not well formed.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChartFault {
    /// Nothing to post to.
    #[error("it has no heads")]
    Empty,
    /// Longer than a chart may be.
    #[error("it has too many heads or products")]
    TooLong,
    /// Heads out of order, or one twice.
    #[error("its heads are not in ascending order of code, each once")]
    HeadsUnsorted,
    /// Products out of order, or one twice.
    #[error("its products are not in ascending order of number, each once")]
    ProductsUnsorted,
    /// A code that is none, or kept for the channels.
    #[error("head {0} is beyond the codes, or kept for payments between branches")]
    HeadCode(u32),
    /// A product's number or key.
    #[error("product {0} has no number, or its key is not 1 to 32 lowercase letters, digits and hyphens")]
    ProductKey(u16),
    /// Two products under one key.
    #[error("two products have one key")]
    KeyTwice,
    /// A name in one of the languages.
    #[error("a head or product has no name, or one that is too long")]
    Unnamed,
}

/// Number, name, request field, and whether asking again later may succeed.
type Entry = (u16, &'static str, &'static str, bool);

impl Rejection {
    /// The number that clients match on.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Ledger(rejection) => rejection.code(),
            _ => self.entry().0,
        }
    }

    /// The name that clients match on: snake case, as stable as the number.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ledger(rejection) => rejection.name(),
            _ => self.entry().1,
        }
    }

    /// The field of the request that is at fault; empty if none is.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Ledger(rejection) => rejection.field(),
            _ => self.entry().2,
        }
    }

    /// Whether the same request could succeed later with nothing changed in it. Of a transfer, such a refusal is
    /// journaled and its id stays refused; of a command, it may just be sent again.
    #[must_use]
    pub fn may_succeed_later(self) -> bool {
        match self {
            Self::Ledger(rejection) => rejection.may_succeed_later(),
            _ => self.entry().3,
        }
    }

    /// Whether a transfer refused so leaves an event and uses its id up: the ledger's refusals that could succeed
    /// later do; the book's never do.
    #[must_use]
    pub fn is_journaled(self) -> bool {
        matches!(self, Self::Ledger(rejection) if rejection.may_succeed_later())
    }

    /// What there is and what was needed, if the rule compares two figures. Their meaning is on the page.
    #[must_use]
    pub fn figures(self) -> Option<(i128, u128)> {
        match self {
            Self::Ledger(rejection) => rejection.figures(),
            Self::DocumentKnown { customer } => Some((i128::from(customer), 0)),
            Self::CustomerHasAccounts { open } => Some((i128::from(open), 0)),
            Self::RetentionNotOver { today, until } => Some((i128::from(today), day(until))),
            Self::SealedLength { length, most } => Some((i128::from(length), u128::from(most))),
            Self::CustomersFull { capacity } => Some((i128::from(capacity), 0)),
            Self::ChartNotNewer { version } => Some((i128::from(version), 0)),
            Self::HeadRemoved { head } | Self::ProductHeadMissing { head } => Some((0, u128::from(head))),
            Self::ProductRemoved { product } => Some((0, u128::from(product))),
            Self::RetentionTooLong { most } => Some((i128::from(most), 0)),
            Self::DayNotLater { open } => Some((i128::from(open), 0)),
            Self::DayNotBegun { today } => Some((i128::from(today), 0)),
            Self::LiveAfterFirstEntry { first } | Self::ImportAfterFirstEntry { first } => {
                Some((i128::from(first), 0))
            }
            Self::FormatLevel { level, known } => Some((i128::from(level), u128::from(known))),
            Self::IncarnationNotNext { incarnation } => Some((i128::from(incarnation), 0)),
            Self::PeerUnknown { peer } | Self::ChannelStopped { peer } => Some((0, u128::from(peer))),
            Self::ChannelBusy { open } => Some((i128::from(open), 0)),
            Self::AccountHasPayments { open } => Some((i128::from(open), 0)),
            _ => None,
        }
    }

    const fn entry(self) -> Entry {
        match self {
            Self::Ledger(_) => (0, "", "", false),
            Self::RoleNotAllowed => (3001, "role_not_allowed", "", false),
            Self::OperatorsOnly => (3002, "operators_only", "", false),
            Self::NeedsApproval => (3003, "needs_approval", "", true),
            Self::OwnProposal => (3004, "own_proposal", "", false),
            Self::ProposalNotFound => (3005, "proposal_not_found", "request", true),
            Self::ProposalExists => (3006, "proposal_exists", "request", false),
            Self::TooManyProposals => (3007, "too_many_proposals", "", true),
            Self::ProposalApproved => (3008, "proposal_approved", "request", false),
            Self::KeyReused => (3010, "key_reused", "idempotency_key", false),
            Self::TooManyKeys => (3011, "too_many_keys", "idempotency_key", true),
            Self::CustomerNotFound => (3020, "customer_not_found", "customer", false),
            Self::DocumentKnown { .. } => (3021, "document_known", "document", false),
            Self::CustomerErased => (3022, "customer_erased", "customer", false),
            Self::CustomerHasAccounts { .. } => (3023, "customer_has_accounts", "customer", true),
            Self::RetentionNotOver { .. } => (3024, "retention_not_over", "customer", true),
            Self::SealedLength { .. } => (3025, "sealed_length", "name", false),
            Self::CustomersFull { .. } => (3026, "customers_full", "", false),
            Self::ProductNotFound => (3030, "product_not_found", "product", false),
            Self::OpenedInFuture => (3031, "opened_in_future", "opened", true),
            Self::OpenedBeforeCustomer => (3032, "opened_before_customer", "opened", false),
            Self::ChartInvalid { .. } => (3040, "chart_invalid", "chart", false),
            Self::ChartNotNewer { .. } => (3041, "chart_not_newer", "version", false),
            Self::HeadRemoved { .. } => (3042, "head_removed", "heads", false),
            Self::ProductRemoved { .. } => (3043, "product_removed", "products", false),
            Self::ProductHeadMissing { .. } => (3044, "product_head_missing", "products", false),
            Self::RetentionTooLong { .. } => (3045, "retention_too_long", "retention_days", false),
            Self::CrossesBranches => (4001, "crosses_branches", "credit", false),
            Self::BranchNotOpen => (4002, "branch_not_open", "", true),
            Self::BranchAlreadyOpen => (4003, "branch_already_open", "", false),
            Self::TermsInvalid => (4004, "terms_invalid", "", false),
            Self::DayNotLater { .. } => (4005, "day_not_later", "date", false),
            Self::DayNotBegun { .. } => (4006, "day_not_begun", "date", true),
            Self::LiveAfterFirstEntry { .. } => (4007, "live_after_first_entry", "date", false),
            Self::ImportAfterFirstEntry { .. } => (4008, "import_after_first_entry", "imported", false),
            Self::FormatLevel { .. } => (4009, "format_level", "level", false),
            Self::IncarnationNotNext { .. } => (4010, "incarnation_not_next", "incarnation", false),
            Self::PeerUnknown { .. } => (4011, "peer_unknown", "credit", true),
            Self::ChannelBusy { .. } => (4012, "channel_busy", "credit", true),
            Self::ChannelStopped { .. } => (4013, "channel_stopped", "credit", true),
            Self::HeadReserved => (4014, "head_reserved", "credit", false),
            Self::AccountHasPayments { .. } => (4015, "account_has_payments", "account", true),
            Self::PaymentWithdrawn => (4016, "payment_withdrawn", "", false),
        }
    }

    /// Every number and name that a branch can answer, ascending: the index of the error pages.
    #[must_use]
    pub fn catalogue() -> alloc::vec::Vec<(u16, &'static str)> {
        let own = Self::OWN.iter().map(|rejection| (rejection.code(), rejection.name()));
        let ledgers =
            skerry_ledger::Rejection::ALL.iter().map(|rejection| (rejection.code(), rejection.name()));
        let mut all: alloc::vec::Vec<_> = ledgers.chain(own).collect();
        all.sort_unstable();
        all
    }

    /// One of each of the book's own, with zero figures.
    pub const OWN: [Self; 42] = [
        Self::RoleNotAllowed,
        Self::OperatorsOnly,
        Self::NeedsApproval,
        Self::OwnProposal,
        Self::ProposalNotFound,
        Self::ProposalExists,
        Self::TooManyProposals,
        Self::ProposalApproved,
        Self::KeyReused,
        Self::TooManyKeys,
        Self::CustomerNotFound,
        Self::DocumentKnown { customer: 0 },
        Self::CustomerErased,
        Self::CustomerHasAccounts { open: 0 },
        Self::RetentionNotOver { today: 0, until: 0 },
        Self::SealedLength { length: 0, most: 0 },
        Self::CustomersFull { capacity: 0 },
        Self::ProductNotFound,
        Self::OpenedInFuture,
        Self::OpenedBeforeCustomer,
        Self::ChartInvalid { fault: ChartFault::Empty },
        Self::ChartNotNewer { version: 0 },
        Self::HeadRemoved { head: 0 },
        Self::ProductRemoved { product: 0 },
        Self::ProductHeadMissing { head: 0 },
        Self::RetentionTooLong { most: 0 },
        Self::CrossesBranches,
        Self::BranchNotOpen,
        Self::BranchAlreadyOpen,
        Self::TermsInvalid,
        Self::DayNotLater { open: 0 },
        Self::DayNotBegun { today: 0 },
        Self::LiveAfterFirstEntry { first: 0 },
        Self::ImportAfterFirstEntry { first: 0 },
        Self::FormatLevel { level: 0, known: 0 },
        Self::IncarnationNotNext { incarnation: 0 },
        Self::PeerUnknown { peer: 0 },
        Self::ChannelBusy { open: 0 },
        Self::ChannelStopped { peer: 0 },
        Self::HeadReserved,
        Self::AccountHasPayments { open: 0 },
        Self::PaymentWithdrawn,
    ];
}

/// Days since 1970 as a date.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "thiserror gives fields by reference")]
const fn date(days: &i32) -> Date {
    Date(*days)
}

fn day(days: i32) -> u128 {
    u128::try_from(days).unwrap_or(0)
}
