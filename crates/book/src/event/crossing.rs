//! What happens to payments between branches and to the channels that carry them.

use skerry_ledger::{AccountRef, Moved, Stamp};
use skerry_money::Currency;

#[cfg(doc)]
use super::Event;
use crate::channel::Payment;

/// See [`Event::Sent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Debits the payer; credits, in name, the payee of the other branch. Posted, or a hold posted.
    pub moved: Moved,
    /// Its number on the channel to the payee's branch, below 2^48.
    pub n: u64,
    /// For one that this branch had lost and that the payee's branch gave back: the payer, wherever it was booked.
    pub payer: Option<AccountRef>,
}

/// See [`Event::Received`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Debits, in name, the payer of the other branch; credits the payee. Moves nothing if it was refused.
    pub moved: Moved,
    /// Its number on the channel from the payer's branch.
    pub n: u64,
    /// How far behind this number the sender was done.
    pub back: u32,
    /// 0 if it was accepted, else the number of the rejection.
    pub outcome: u16,
    /// For one that this branch had lost and that the payer's branch gave back: the payee, wherever it was booked.
    pub payee: Option<AccountRef>,
}

/// See [`Event::Settled`]. Debits transit and credits the position with the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// When.
    pub at: Stamp,
    /// The payees' branch.
    pub peer: u16,
    /// The currency of them all.
    pub currency: Currency,
    /// The first number.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Their sum, minor units.
    pub amount: u64,
}

/// See [`Event::Returned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned {
    /// Debits, in name, the payee of the other branch; credits the payer or *returns unapplied*. Its id is derived, and
    /// `related` is the payment's.
    pub moved: Moved,
    /// Its number on the channel.
    pub n: u64,
    /// The number of the rejection there.
    pub outcome: u16,
    /// It was the last one sent, the other branch has another payment under its number, and the number is free again.
    pub withdrawn: bool,
}

/// See [`Event::ChannelOpened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOpened {
    /// When.
    pub at: Stamp,
    /// The other branch.
    pub peer: u16,
    /// Its incarnation.
    pub incarnation: u32,
}

/// See [`Event::ChannelStopped`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelStopped {
    /// When.
    pub at: Stamp,
    /// The other branch.
    pub peer: u16,
    /// Why.
    pub reason: StopReason,
    /// Nothing more is sent.
    pub outgoing: bool,
    /// Nothing more is received.
    pub incoming: bool,
    /// At which number.
    pub n: u64,
    /// What was expected: a running hash, or a number.
    pub expected: u128,
    /// What was found instead.
    pub found: u128,
}

/// See [`Event::ChannelResuming`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelResuming {
    /// When.
    pub at: Stamp,
    /// The other branch.
    pub peer: u16,
}

/// See [`Event::ChannelResumed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelResumed {
    /// When.
    pub at: Stamp,
    /// The other branch.
    pub peer: u16,
    /// Its incarnation from now on.
    pub incarnation: u32,
}

impl Sent {
    /// What travels.
    #[must_use]
    pub fn payment(&self) -> Payment {
        let payment = Payment::of(&self.moved);
        Payment { debit: self.payer.unwrap_or(payment.debit), ..payment }
    }
}

impl Received {
    /// What came.
    #[must_use]
    pub fn payment(&self) -> Payment {
        let payment = Payment::of(&self.moved);
        Payment { credit: self.payee.unwrap_or(payment.credit), ..payment }
    }
}

impl ChannelStopped {
    /// 1 outgoing, 2 incoming, 3 both.
    pub(crate) fn sides(&self) -> u8 {
        u8::from(self.outgoing) | (u8::from(self.incoming) << 1)
    }
}

/// Why a channel stopped.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// What came does not continue what was received.
    HashDiffers,
    /// The peer is in another incarnation than the one that the channel was opened with.
    IncarnationDiffers,
    /// The peer tells of payments that were never sent, or has forgotten some that are open.
    NumberUnknown,
}

impl StopReason {
    const ALL: [Self; 3] = [Self::HashDiffers, Self::IncarnationDiffers, Self::NumberUnknown];
    /// The stored number; never renumbered.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::HashDiffers => 1,
            Self::IncarnationDiffers => 2,
            Self::NumberUnknown => 3,
        }
    }

    /// The reason with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.number() == number)
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HashDiffers => "hash_differs",
            Self::IncarnationDiffers => "incarnation_differs",
            Self::NumberUnknown => "number_unknown",
        }
    }
}
