//! What one can ask a branch, and what it answers: plain values, owned, fit to cross threads.
//!
//! A [`Request`] carries its [`Actor`] and is authenticated by the gateway's key; its [`ReplyTo`] is called
//! exactly once, from the branch's own thread, and only when everything that the reply could have seen
//! is durable. Queries over history do not come through here: see [`crate::history`].

use bytes::Bytes;
use skerry_book::channel::Totals;
use skerry_book::event::{ChannelStopped, Incarnated};
use skerry_book::policy::{Policy, Proposal};
use skerry_book::{Chart, Command, Customer, Done, Rejection, Status, TrialLine};
use skerry_ledger::{Account, AccountRef, Hold, Moved, MovedKind, Transfer, TransferId};
use skerry_money::{Currency, Date};

pub use skerry_book::actor::{Actor, Cause, Principal, Role};

pub use crate::queue::{Busy, BusyReason};

/// Called once with the answer. It runs on the branch's thread, so it must only hand the reply on.
pub type ReplyTo = Box<dyn FnOnce(Reply) + Send>;

/// One request.
pub struct Request {
    /// Who asks; journaled.
    pub actor: Actor,
    /// What they may touch.
    pub scope: Scope,
    /// If the branch has not begun by then, it answers [`Reply::Expired`] and does nothing. Wall clock,
    /// microseconds since 1970; 0 is none.
    pub deadline_us: u64,
    /// [`GatewayKey::authenticate`] over actor, scope and deadline.
    pub mac: [u8; 16],
    /// What is asked.
    pub body: Body,
    /// Where the answer goes.
    pub reply: ReplyTo,
}

/// What a principal may touch in this branch. Operations are the gateway's to check; whose account it is,
/// only the book knows.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Only accounts of the customer with this serial may be read or debited.
    pub customer: Option<u32>,
}

/// What is asked.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug)]
pub enum Body {
    /// Packed transfers, 96 bytes each ([`skerry_book::packed`]).
    Packed(Bytes),
    /// Transfers with their texts, in order; links within this list only.
    Transfers(Vec<Asked>),
    /// A command to the book.
    Command {
        /// The command.
        command: Box<Command>,
        /// The idempotency key that the client chose, if any; at most 255 bytes. It is the principal's and kept for a
        /// day; under [`Cause::Import`] it is the institution's and kept for ever.
        #[cfg_attr(feature = "wire", serde(with = "serde_bytes"))]
        key: Option<Box<[u8]>>,
    },
    /// One debit for many payees: plain transfers of one account, all or none of which are debited. What goes to other
    /// branches settles or returns each by itself. Answered as [`Transfers`](Self::Transfers).
    Payout(Vec<Asked>),
    /// A look at the book as it is now.
    Read(Read),
    /// A message of another branch ([`crate::channels::message`]); the bank's own.
    Channel(Bytes),
    /// Sign a checkpoint as soon as can be (for a receipt that must not wait): answered by [`Reply::Marked`].
    Checkpoint,
}

/// A transfer and the texts that do not fit its fixed part.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The transfer; its `digest` is filled in by the branch.
    pub transfer: Transfer,
    /// The whole reference when it is longer than 16 bytes, else empty.
    pub reference: Box<str>,
    /// An encrypted note, or empty.
    #[cfg_attr(feature = "wire", serde(with = "serde_bytes"))]
    pub note: Box<[u8]>,
    /// A keyed digest of the note's plain text, which only the gateway knows; zeros if there is no note. Ciphertext is another
    /// at every attempt, so this is what tells a retry from another transfer.
    pub note_tag: [u8; 16],
}

/// What can be read from the book itself.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// One account.
    Account(AccountRef),
    /// A customer with their accounts.
    Customer(u32),
    /// The customer whose document has this HMAC.
    Document {
        /// The business line; 0 is retail.
        line: u8,
        /// The document's HMAC.
        document: [u8; 32],
    },
    /// Customers from this serial on, those not erased: what the directory is made from.
    Customers {
        /// The first serial looked at; from 1.
        from: u32,
    },
    /// An open hold.
    Hold(TransferId),
    /// Where the money of a payment to another branch is.
    Payment(TransferId),
    /// What goes to and comes from other branches.
    Channels,
    /// The declared losses.
    Losses,
    /// The trial balance.
    TrialBalance {
        /// The day; `None` is the open one.
        date: Option<Date>,
        /// As of value instead of as booked.
        by_value: bool,
    },
    /// The chart of accounts and the products.
    Chart,
    /// What waits for a second principal.
    Proposals,
    /// What needs a second principal.
    Policy,
    /// Counts, days, format.
    Status,
}

/// The answer.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug)]
pub enum Reply {
    /// To [`Body::Packed`].
    Packed(Packed),
    /// To [`Body::Transfers`], in order.
    Transfers(Vec<Outcome>),
    /// To [`Body::Command`].
    Command(Result<Commanded, Rejection>),
    /// To [`Body::Read`].
    Answer(Answer),
    /// To [`Body::Checkpoint`]: one is under way; [`BranchHandle::checkpoint`](crate::BranchHandle::checkpoint) shows it.
    Marked,
    /// To [`Body::Channel`].
    Heard,
    /// A packed body that cannot be read; nothing was done.
    Malformed(Malformed),
    /// The fate of the request is not known: ask again with the same id.
    Unknown,
    /// The deadline had passed; nothing was done.
    Expired,
    /// Not yours to do; nothing was done.
    Denied(Denied),
    /// The branch cannot take it now; nothing was done.
    Busy(Busy),
    /// An id in it leads to a record in the archive, which could not be read, so nobody knows what to answer. Nothing was done.
    Archived(String),
}

/// A command that was accepted, now or (a retry under the same key) earlier.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commanded {
    /// The answer.
    pub done: Done,
    /// Whether this is the answer to a retry.
    pub repeated: bool,
}

/// Results of a packed batch.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// One result record of 32 bytes per transfer, in order ([`skerry_book::packed`]).
    pub results: Bytes,
    /// How many were accepted.
    pub accepted: u32,
}

/// Why a packed body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a whole number of 96-byte transfers.
    #[error("a packed body is a whole number of 96-byte transfers")]
    Length,
    /// More than fit in one batch.
    #[error("a packed body holds at most {max} transfers")]
    TooMany {
        /// The most.
        max: u32,
    },
    /// A transfer with a field that no client may send so.
    #[error("transfer {index}: {field} is not valid")]
    Transfer {
        /// Which, from 0.
        index: u32,
        /// Which field.
        field: &'static str,
    },
}

/// One transfer's result.
pub type Outcome = Result<Accepted, Rejection>;

/// A transfer that was accepted, now or (a retry) earlier.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Position of its record in the journal.
    pub position: u64,
    /// What it did.
    pub kind: MovedKind,
    /// The debited account, also when the request left it out.
    pub debit: AccountRef,
    /// The credited account.
    pub credit: AccountRef,
    /// What was moved or held, in minor units: a balancing or resolving transfer may ask for another amount.
    pub amount: u64,
    /// The accounts' currency.
    pub currency: Currency,
    /// Booking time, microseconds since 1970.
    pub time_us: u64,
    /// The business date.
    pub business_date: Date,
    /// The value date.
    pub value_date: Date,
    /// Whether this is the answer to a retry.
    pub repeated: bool,
}

/// Answers to reads.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone)]
pub enum Answer {
    /// No such thing.
    NotFound,
    /// An account.
    Account(Box<AccountView>),
    /// A customer.
    Customer(Box<CustomerView>),
    /// Customers by serial.
    Customers {
        /// At most [`CUSTOMERS_MAX`].
        list: Vec<CustomerLine>,
        /// Where the next ones begin; `None` after the last.
        next: Option<u32>,
    },
    /// An open hold.
    Hold(Hold),
    /// A payment to another branch.
    Payment(Box<PaymentView>),
    /// All channels, by peer.
    Channels(Vec<(u16, ChannelView)>),
    /// The declared losses, oldest first.
    Losses(Vec<Incarnated>),
    /// A trial balance; its lines sum to zero per currency.
    TrialBalance {
        /// The day.
        date: Date,
        /// By code and currency.
        lines: Vec<TrialLine>,
    },
    /// The chart.
    Chart(Box<Chart>),
    /// What waits for a second principal.
    Proposals(Vec<Proposal>),
    /// What needs one.
    Policy(Policy),
    /// Counts, days, format.
    Status(Box<Status>),
}

/// An account as the book has it.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its reference.
    pub reference: AccountRef,
    /// The ledger's account: totals, limits, status.
    pub account: Account,
    /// When the answer was true: position after the last record it could have seen.
    pub position: u64,
}

/// A payment to another branch, as its sender has it.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentView {
    /// What left the payer; the credit is in the other branch.
    pub moved: Moved,
    /// Its number on the channel.
    pub n: u64,
    /// The position of its record.
    pub position: u64,
    /// What became of it.
    pub state: PaymentState,
}

/// Where the money of a payment is.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    /// In transit: debited, and not yet known to have arrived.
    Sent,
    /// With the payee.
    Settled,
    /// Given back.
    Returned {
        /// The number of the rejection in the payee's branch.
        outcome: u16,
        /// To the payer, or to *returns unapplied*.
        to: AccountRef,
        /// When, microseconds since 1970.
        time_us: u64,
        /// The position of the record.
        position: u64,
    },
}

/// A channel at a glance.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    /// The peer's incarnation.
    pub incarnation: u32,
    /// The last number sent.
    pub sent: u64,
    /// The last that was settled or returned.
    pub done: u64,
    /// The last received.
    pub received: u64,
    /// Why sending has stopped.
    pub outgoing_stopped: Option<ChannelStopped>,
    /// Why receiving has stopped.
    pub incoming_stopped: Option<ChannelStopped>,
    /// It is to go on, once both branches know the same.
    pub resuming: bool,
    /// Sums by currency number.
    pub totals: Vec<(u16, Totals)>,
}

/// Customers in one answer, at most.
pub const CUSTOMERS_MAX: u32 = 1_024;

/// By what a customer is found.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerLine {
    /// Their serial.
    pub serial: u32,
    /// Their business line.
    pub line: u8,
    /// The HMAC of their document.
    pub document: [u8; 32],
}

/// A customer as the book has them.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone)]
pub struct CustomerView {
    /// Their serial.
    pub serial: u32,
    /// The book's entry; the record at its `sealed_at` holds the ciphertext of name and document, see
    /// [`BranchHandle::recorded`](crate::BranchHandle::recorded).
    pub customer: Customer,
    /// Their accounts, oldest first.
    pub accounts: Vec<(AccountRef, Account)>,
    /// When the answer was true.
    pub position: u64,
}

/// Why the branch refuses to look at a request.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The MAC is not the gateway's.
    #[error("the request is not authenticated by the gateway's key")]
    Authentication,
    /// Outside the principal's scope.
    #[error("outside the principal's scope")]
    Scope,
    /// The role may not do this.
    #[error("the role may not do this")]
    Role,
}

/// The secret that gateway and branch share, by which a branch knows its gateway.
#[derive(Clone)]
pub struct GatewayKey([u8; 32]);

impl GatewayKey {
    /// The seal of a message between branches: keyed BLAKE3, cut to 16 bytes.
    #[must_use]
    pub fn seal_message(&self, content: &[u8]) -> [u8; 16] {
        self.seal(&[b"skerry channel v1", content])
    }

    fn seal(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(part);
        }
        let mut seal = [0; 16];
        seal.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        seal
    }

    /// The seal of what gateways and the processes that hold branches say to each other: as
    /// [`seal_message`](Self::seal_message), for another purpose.
    #[must_use]
    pub fn seal_word(&self, kind: &[u8; 2], content: &[u8]) -> [u8; 16] {
        self.seal(&[b"skerry seat v1", kind, content])
    }

    /// A key from 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The MAC of a request: keyed BLAKE3 over its actor, scope and deadline, cut to 16 bytes.
    #[must_use]
    pub fn authenticate(&self, actor: &Actor, scope: Scope, deadline_us: u64) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"skerry request v1");
        hasher.update(&[actor.role.number(), actor.cause.number()]);
        hasher.update(&actor.request);
        for principal in [Some(actor.principal), actor.approver] {
            let name = principal.as_ref().map_or("", Principal::as_str);
            let length = u8::try_from(name.len()).expect("a principal has at most 32 bytes");
            hasher.update(&[length]);
            hasher.update(name.as_bytes());
        }
        hasher.update(&scope.customer.unwrap_or(0).to_le_bytes());
        hasher.update(&deadline_us.to_le_bytes());
        let mut mac = [0; 16];
        mac.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        mac
    }

    /// Whether `request` carries this key's MAC; compared in constant time.
    #[must_use]
    pub fn verifies(&self, request: &Request) -> bool {
        let expected = self.authenticate(&request.actor, request.scope, request.deadline_us);
        // Folding the differences leaves no early exit to time.
        expected.iter().zip(request.mac).fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
    }
}

impl core::fmt::Debug for GatewayKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("GatewayKey(..)")
    }
}

impl core::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Request")
            .field("actor", &self.actor)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}
