//! What happened: the only thing that is journaled, and all that a book is made of.
//!
//! Events are facts. Evolving one cannot fail, and its meaning never changes: a correction is a new
//! event. Each carries the [`Stamp`] of its batch, so that replay needs no clock.

mod crossing;

use alloc::{boxed::Box, vec::Vec};

use skerry_ledger::{AccountRef, Limit, Moved, Sides, Stamp, TransferId};
use skerry_money::{Currency, Date};

use crate::actor::Principal;
use crate::chart::Chart;
use crate::command::Done;
use crate::policy::{Matter, Policy};

pub use crossing::{
    ChannelOpened, ChannelResumed, ChannelResuming, ChannelStopped, Received, Returned, Sent, Settled,
    StopReason,
};

/// One thing that happened in a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Money moved, was held, or a hold was resolved.
    Moved(Moved),
    /// A transfer was refused for good: its id is used up.
    Refused(Refused),
    /// A payment to an account of another branch left its payer.
    Sent(Sent),
    /// A payment of another branch arrived, and what became of it here.
    Received(Received),
    /// Payments were delivered in the other branch.
    Settled(Settled),
    /// A payment was refused in the other branch and given back.
    Returned(Returned),
    /// Payments to and from another branch may begin.
    ChannelOpened(ChannelOpened),
    /// A channel takes nothing any more: a break.
    ChannelStopped(ChannelStopped),
    /// A channel that stopped is to go on, once both branches know the same.
    ChannelResuming(ChannelResuming),
    /// A channel goes on.
    ChannelResumed(ChannelResumed),
    /// The branch exists. The first event of every journal.
    BranchOpened(BranchOpened),
    /// The branch goes on after a declared loss.
    Incarnated(Incarnated),
    /// Records of this level may be written from now on.
    FormatRaised(FormatRaised),
    /// The chart of accounts and the products were replaced.
    ChartAdopted(ChartAdopted),
    /// A head has an account in a currency.
    HeadOpened(HeadOpened),
    /// A business day opened, and the one before closed for ever. The last event of its batch.
    DayOpened(DayOpened),
    /// Imports now end before this date.
    WentLive(WentLive),
    /// What needs two principals, and how long the law keeps customers.
    PolicyChanged(PolicyChanged),
    /// Old segments of the journal were ordered into the archive.
    ArchiveOrdered(ArchiveOrdered),
    /// A customer is known.
    CustomerOpened(CustomerOpened),
    /// A customer's sealed data or document was replaced.
    CustomerChanged(CustomerChanged),
    /// A customer's key is to be destroyed.
    CustomerErased(CustomerErased),
    /// An account was opened.
    AccountOpened(AccountOpened),
    /// Floor and daily limit were set.
    LimitsChanged(LimitsChanged),
    /// A side, or both, takes no transfers.
    Frozen(Frozen),
    /// A side, or both, takes transfers again.
    Unfrozen(Unfrozen),
    /// The account takes nothing any more.
    AccountClosed(AccountClosed),
    /// A closed account takes transfers again.
    AccountReopened(AccountReopened),
    /// An idempotency key was used by the command whose events stand just after.
    KeyUsed(KeyUsed),
    /// A principal asks for a second one's approval.
    Proposed(Proposed),
    /// A second principal approved.
    Approved(Approved),
    /// A proposal is gone: declined, withdrawn, or used by the command whose events stand just after.
    ProposalEnded(ProposalEnded),
}

/// See [`Event::Refused`]. Fields are as asked unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Stamp,
    /// The id that is used up.
    pub id: TransferId,
    /// Debit account.
    pub debit: AccountRef,
    /// Credit account.
    pub credit: AccountRef,
    /// The number of the rejection.
    pub code: u16,
    /// The rejection's figure of what there was, minor units; 0 if it has none.
    pub have: i128,
    /// The rejection's figure of what was needed, saturated; 0 if it has none.
    pub need: u64,
    /// The client's classification.
    pub transfer_code: u16,
    /// The flags.
    pub flags: u32,
    /// The reference.
    pub reference: [u8; 16],
    /// The digest of the request.
    pub digest: u64,
}

/// See [`Event::BranchOpened`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchOpened {
    /// When.
    pub at: Stamp,
    /// Its number, 1…9999.
    pub branch: u16,
    /// What it was opened with.
    pub terms: Terms,
}

/// What a branch is opened with; fixed for its life.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The institution's identity.
    pub institution: [u8; 16],
    /// Currencies whose heads are opened at once; others follow with their first account.
    pub currencies: Vec<Currency>,
    /// What clocks show here, in minutes ahead of UTC.
    pub offset_minutes: i16,
    /// When a business day ends, in minutes from local midnight: see [`Date::business_day`].
    pub cutoff_minutes: u16,
    /// How many customers are full.
    pub capacity: u32,
}

/// See [`Event::Incarnated`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnated {
    /// When.
    pub at: Stamp,
    /// The number of the new life, from 2.
    pub incarnation: u32,
    /// First position that was lost.
    pub lost_from: u64,
    /// First position that was, as far as known, not lost again: the end of what had been signed.
    pub lost_to: u64,
}

/// See [`Event::FormatRaised`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRaised {
    /// When.
    pub at: Stamp,
    /// The level.
    pub level: u16,
}

/// See [`Event::ChartAdopted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartAdopted {
    /// When.
    pub at: Stamp,
    /// The whole chart.
    pub chart: Box<Chart>,
}

/// See [`Event::HeadOpened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadOpened {
    /// When.
    pub at: Stamp,
    /// The head's account: branch, code, currency.
    pub account: AccountRef,
    /// Its slot in the trial balance: the next one.
    pub slot: u16,
}

/// See [`Event::DayOpened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayOpened {
    /// When; its business date is that of the day that closed.
    pub at: Stamp,
    /// The day that opened.
    pub date: Date,
}

/// See [`Event::WentLive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WentLive {
    /// When.
    pub at: Stamp,
    /// The first day that takes no imports.
    pub date: Date,
}

/// See [`Event::PolicyChanged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyChanged {
    /// When.
    pub at: Stamp,
    /// The whole policy.
    pub policy: Policy,
}

/// See [`Event::ArchiveOrdered`]. How far it went is the journal's own matter: the book knows no segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveOrdered {
    /// When.
    pub at: Stamp,
    /// Up to where.
    pub before: ArchiveBefore,
}

/// Up to where to archive.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveBefore {
    /// What lies before this position.
    Position(u64),
    /// What is of an earlier business day than this.
    Day(Date),
}

/// See [`Event::CustomerOpened`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerOpened {
    /// When.
    pub at: Stamp,
    /// Dense, from 1.
    pub customer: u32,
    /// HMAC of the document under the institution's secret.
    pub document: [u8; 32],
    /// Where the customer's key lies behind the `Keys` seam.
    pub key_ref: u64,
    /// The business line.
    pub line: u8,
    /// Since when; for an import the old core's date.
    pub opened: Date,
    /// Name, document, contacts as ciphertext.
    pub sealed: Box<[u8]>,
}

/// See [`Event::CustomerChanged`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerChanged {
    /// When.
    pub at: Stamp,
    /// Who.
    pub customer: u32,
    /// The new document, if it changed.
    pub document: Option<[u8; 32]>,
    /// The whole new ciphertext.
    pub sealed: Box<[u8]>,
}

/// See [`Event::CustomerErased`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerErased {
    /// When.
    pub at: Stamp,
    /// Who.
    pub customer: u32,
    /// The key to destroy.
    pub key_ref: u64,
}

/// See [`Event::AccountOpened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountOpened {
    /// When.
    pub at: Stamp,
    /// Its reference; serials are dense, from 1.
    pub account: AccountRef,
    /// Whose.
    pub customer: u32,
    /// The product's number.
    pub product: u16,
    /// The currency.
    pub currency: Currency,
    /// Since when; for an import the old core's date.
    pub opened: Date,
    /// The lowest balance allowed, minor units; negative is an overdraft.
    pub floor: i64,
    /// The most that may be debited in a business day; [`UNLIMITED`](skerry_ledger::UNLIMITED) is no limit.
    pub daily_limit: u64,
    /// The slot of the head it posts to.
    pub slot: u16,
    /// Which of its totals may not exceed the other.
    pub limit: Limit,
}

/// See [`Event::LimitsChanged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsChanged {
    /// When.
    pub at: Stamp,
    /// Which.
    pub account: AccountRef,
    /// The new floor.
    pub floor: i64,
    /// The new daily limit.
    pub daily_limit: u64,
}

/// See [`Event::Frozen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// When.
    pub at: Stamp,
    /// Which.
    pub account: AccountRef,
    /// Which sides.
    pub sides: Sides,
    /// Why: the bank's own code.
    pub reason: u8,
}

/// See [`Event::Unfrozen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfrozen {
    /// When.
    pub at: Stamp,
    /// Which.
    pub account: AccountRef,
    /// Which sides.
    pub sides: Sides,
}

/// See [`Event::AccountClosed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountClosed {
    /// When.
    pub at: Stamp,
    /// Which.
    pub account: AccountRef,
}

/// See [`Event::AccountReopened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountReopened {
    /// When.
    pub at: Stamp,
    /// Which.
    pub account: AccountRef,
}

/// See [`Event::KeyUsed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsed {
    /// When.
    pub at: Stamp,
    /// The key, hashed with its principal.
    pub key: u128,
    /// The digest of the request it came with.
    pub request: [u8; 16],
    /// What a retry is answered.
    pub done: Done,
    /// Whether it is kept for ever, not for a day: an import's.
    pub permanent: bool,
}

/// See [`Event::Proposed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposed {
    /// When.
    pub at: Stamp,
    /// The digest of the request that is to be approved.
    pub request: [u8; 16],
    /// What it is about.
    pub matter: Matter,
    /// Who will send it again once it is approved.
    pub proposer: Principal,
}

/// See [`Event::Approved`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approved {
    /// When.
    pub at: Stamp,
    /// The request.
    pub request: [u8; 16],
    /// Who.
    pub approver: Principal,
}

/// See [`Event::ProposalEnded`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposalEnded {
    /// When.
    pub at: Stamp,
    /// The request.
    pub request: [u8; 16],
}
