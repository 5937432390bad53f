//! What can be asked of a book besides transfers: owned, typed, already free of JSON.
//!
//! Commands are never journaled; the [events](crate::event) that they lead to are.

use alloc::boxed::Box;

use skerry_ledger::{AccountRef, Sides, Stamp};
use skerry_money::{Currency, Date};

use crate::actor::{Actor, Cause};
use crate::chart::Chart;
use crate::event::ArchiveBefore;
use crate::event::{StopReason, Terms};
use crate::policy::{Matter, Policy};

/// A wish, with everything needed to decide it.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Open the branch itself: its terms, the default chart, the heads and the first business day.
    OpenBranch(OpenBranch),
    /// Go on after a declared loss.
    Incarnate(Incarnate),
    /// Let records of this level be written.
    RaiseFormat(u16),
    /// Replace chart and products.
    AdoptChart(Box<Chart>),
    /// Open the heads of a currency.
    OpenCurrency(Currency),
    /// Close the open day and open this one.
    OpenDay(Date),
    /// End imports before this date.
    GoLive(Date),
    /// Let payments to and from another branch begin; the bank's own.
    OpenChannel(OpenChannel),
    /// Stop a channel; the bank's own.
    StopChannel(StopChannel),
    /// Let a channel that has stopped go on, once both branches know the same.
    ResumeChannel(u16),
    /// Both know the same: it goes on; the bank's own.
    GoOn(OpenChannel),
    /// Replace the policy.
    SetPolicy(Policy),
    /// Put on record that old segments are to be archived; the branch's keeper then does it.
    OrderArchive(ArchiveBefore),
    /// Make a customer known.
    OpenCustomer(OpenCustomer),
    /// Replace a customer's sealed data.
    ChangeCustomer(ChangeCustomer),
    /// Destroy a customer's key.
    EraseCustomer(u32),
    /// Open an account.
    OpenAccount(OpenAccount),
    /// Set floor and daily limit.
    ChangeLimits(ChangeLimits),
    /// Freeze a side or both.
    Freeze(Freeze),
    /// Thaw a side or both.
    Unfreeze(Unfreeze),
    /// Close an account.
    CloseAccount(AccountRef),
    /// Reopen an account.
    ReopenAccount(AccountRef),
    /// Ask for a second principal's approval of the request with this digest.
    Propose(Propose),
    /// Approve the request with this digest, as a second principal.
    Approve([u8; 16]),
    /// Decline (anyone) or withdraw (the proposer) it.
    EndProposal([u8; 16]),
}

impl Command {
    /// Its name in meters, logs and the audit.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OpenBranch(_) => "open_branch",
            Self::Incarnate(_) => "incarnate",
            Self::RaiseFormat(_) => "raise_format",
            Self::AdoptChart(_) => "adopt_chart",
            Self::OpenCurrency(_) => "open_currency",
            Self::OpenDay(_) => "open_day",
            Self::GoLive(_) => "go_live",
            Self::OpenChannel(_) => "open_channel",
            Self::StopChannel(_) => "stop_channel",
            Self::ResumeChannel(_) => "resume_channel",
            Self::GoOn(_) => "go_on",
            Self::SetPolicy(_) => "set_policy",
            Self::OrderArchive(_) => "order_archive",
            Self::OpenCustomer(_) => "open_customer",
            Self::ChangeCustomer(_) => "change_customer",
            Self::EraseCustomer(_) => "erase_customer",
            Self::OpenAccount(_) => "open_account",
            Self::ChangeLimits(_) => "change_limits",
            Self::Freeze(_) => "freeze",
            Self::Unfreeze(_) => "unfreeze",
            Self::CloseAccount(_) => "close_account",
            Self::ReopenAccount(_) => "reopen_account",
            Self::Propose(_) => "propose",
            Self::Approve(_) => "approve",
            Self::EndProposal(_) => "end_proposal",
        }
    }
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The batch's stamp.
    pub stamp: Stamp,
    /// Who, with the digest of the request.
    pub actor: Actor,
    /// The idempotency key, if there is one: [`Book::idempotency_key`](crate::Book::idempotency_key), kept for a day; for
    /// an import [`Book::import_key`](crate::Book::import_key), kept for ever.
    pub key: Option<u128>,
}

impl Context {
    /// Whether something is taken over from an old core: the journaled cause says so, and no key's name can.
    pub(crate) fn is_import(&self) -> bool {
        self.actor.cause == Cause::Import
    }
}

/// What a command comes to, once its events are evolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be journaled and evolved in this order; empty when there was nothing to do.
    pub events: alloc::vec::Vec<crate::Event>,
    /// The answer.
    pub done: Done,
    /// Whether this is the answer to a retry.
    pub repeated: bool,
}

/// The answer to a command that was accepted.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is so.
    Plain,
    /// The customer with this serial.
    Customer(u32),
    /// This account.
    Account(AccountRef),
}

impl Done {
    /// Kind and value for storage.
    pub(crate) fn parts(self) -> (u16, u64) {
        match self {
            Self::Plain => (0, 0),
            Self::Customer(serial) => (1, u64::from(serial)),
            Self::Account(account) => (2, account.0),
        }
    }

    pub(crate) fn from_parts(kind: u16, value: u64) -> Option<Self> {
        match (kind, value) {
            (0, 0) => Some(Self::Plain),
            (1, serial) => u32::try_from(serial).ok().map(Self::Customer),
            (2, account) => Some(Self::Account(AccountRef(account))),
            _ => None,
        }
    }
}

/// See [`Command::OpenBranch`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBranch {
    /// Fixed for the branch's life.
    pub terms: Terms,
    /// The first business day.
    pub date: Date,
}

/// See [`Command::Incarnate`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnate {
    /// The number of the new life.
    pub incarnation: u32,
    /// First position lost.
    pub lost_from: u64,
    /// Position after the last that is known to have been signed.
    pub lost_to: u64,
}

/// See [`Command::OpenCustomer`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCustomer {
    /// HMAC of the document under the institution's secret; one customer per line and document.
    pub document: [u8; 32],
    /// Where the customer's new key lies.
    pub key_ref: u64,
    /// The business line; 0 is retail.
    pub line: u8,
    /// The old core's date, for an import; `None` is today.
    pub opened: Option<Date>,
    /// Ciphertext of name, document and contacts under the customer's key; at most
    /// [`SEALED_MAX`] bytes.
    #[cfg_attr(feature = "wire", serde(with = "serde_bytes"))]
    pub sealed: Box<[u8]>,
}

/// The longest ciphertext of a customer's data, in bytes.
pub const SEALED_MAX: usize = 16 * 1024;

/// See [`Command::ChangeCustomer`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeCustomer {
    /// Who.
    pub customer: u32,
    /// A new document.
    pub document: Option<[u8; 32]>,
    /// The whole new ciphertext.
    #[cfg_attr(feature = "wire", serde(with = "serde_bytes"))]
    pub sealed: Box<[u8]>,
}

/// See [`Command::OpenAccount`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenAccount {
    /// Whose.
    pub customer: u32,
    /// The product's number.
    pub product: u16,
    /// The currency.
    pub currency: Currency,
    /// The old core's date, for an import; `None` is today.
    pub opened: Option<Date>,
    /// The lowest balance allowed; negative is an overdraft, which only operators grant.
    pub floor: i64,
    /// The most that may be debited in a business day; [`UNLIMITED`](skerry_ledger::UNLIMITED) is no limit.
    pub daily_limit: u64,
}

/// See [`Command::ChangeLimits`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeLimits {
    /// Which.
    pub account: AccountRef,
    /// The new floor; `None` leaves it.
    pub floor: Option<i64>,
    /// The new daily limit; `None` leaves it, [`UNLIMITED`](skerry_ledger::UNLIMITED) lifts it.
    pub daily_limit: Option<u64>,
}

/// See [`Command::Freeze`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freeze {
    /// Which.
    pub account: AccountRef,
    /// Which sides.
    pub sides: Sides,
    /// Why: the bank's own code.
    pub reason: u8,
}

/// See [`Command::Unfreeze`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfreeze {
    /// Which.
    pub account: AccountRef,
    /// Which sides.
    pub sides: Sides,
}

/// See [`Command::Propose`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propose {
    /// The digest of the request that needs approval, as its [`Actor`] carries it.
    pub request: [u8; 16],
    /// What it is about.
    pub matter: Matter,
}

/// See [`Command::OpenChannel`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenChannel {
    /// The other branch.
    pub peer: u16,
    /// The incarnation that it says it is in.
    pub incarnation: u32,
}

/// See [`Command::StopChannel`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopChannel {
    /// The other branch.
    pub peer: u16,
    /// Why.
    pub reason: StopReason,
    /// Whether sending stops.
    pub outgoing: bool,
    /// Whether receiving stops.
    pub incoming: bool,
    /// At which number.
    pub n: u64,
    /// What was expected.
    pub expected: u128,
    /// What was found.
    pub found: u128,
}
