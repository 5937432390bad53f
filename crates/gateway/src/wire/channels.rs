//! Channels between branches: their numbers, sums and why one has stopped.

use serde::Serialize;
use utoipa::ToSchema;

use super::scalars::{CurrencyText, Instant, Money};

/// All channels of a branch.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChannelsView {
    /// The branch.
    pub branch: u16,
    /// By the other branch's number.
    pub channels: Vec<ChannelOut>,
}

/// What went to one other branch and came from there.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChannelOut {
    /// The other branch.
    pub peer: u16,
    /// The incarnation of it that the channel was opened with.
    pub incarnation: u32,
    /// Number of the last payment sent.
    pub sent: u64,
    /// Up to this number each was settled or returned.
    pub done: u64,
    /// Payments under way.
    pub open: u64,
    /// Number of the last payment received.
    pub received: u64,
    /// It has stopped and goes on once both branches know the same.
    pub resuming: bool,
    /// Why nothing more is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing_stopped: Option<StoppedOut>,
    /// Why nothing more is received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming_stopped: Option<StoppedOut>,
    /// Sums since the channel was opened, a row a currency.
    pub totals: Vec<ChannelTotals>,
}

/// Why a channel has stopped.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoppedOut {
    /// `hash_differs`, `incarnation_differs` or `number_unknown`.
    pub reason: &'static str,
    /// At which number.
    pub number: u64,
    /// What was expected: a running hash in hex, an incarnation or a number.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// When.
    pub at: Instant,
}

/// What went over a channel in one currency.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChannelTotals {
    /// The currency.
    #[schema(value_type = String)]
    pub currency: CurrencyText,
    /// To the other branch.
    pub sent: SumOut,
    /// Of those, delivered to their payees.
    pub settled: SumOut,
    /// Of those, refused there and given back.
    pub returned: SumOut,
    /// From the other branch, accepted.
    pub received: SumOut,
    /// From the other branch, refused.
    pub refused: SumOut,
}

/// How many payments, and how much.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SumOut {
    /// Payments.
    pub count: u64,
    /// Their sum.
    pub amount: Money,
}

/// Where a branch's record and another one differ.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BreaksView {
    /// The branch.
    pub branch: u16,
    /// Parts of its journal that were declared lost; what other branches held of them was taken back
    /// (`payment.taken_back` in the audit).
    pub losses: Vec<LossOut>,
    /// Channels that have stopped.
    pub stopped: Vec<ChannelOut>,
    /// Balances of the head *returns unapplied* (2902), a currency each: credits that nobody has taken, or if negative
    /// debits.
    pub unapplied: Vec<Money>,
}

/// A declared loss.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LossOut {
    /// The life that began with it.
    pub incarnation: u32,
    /// The first position that was lost.
    pub lost_from: u64,
    /// The end of what had been signed; the same if other branches alone knew of it.
    pub lost_to: u64,
    /// When it was declared.
    pub at: Instant,
}
