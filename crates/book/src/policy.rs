//! What needs four eyes, and how long the law keeps a customer.
//!
//! A request under four eyes is first refused with `needs_approval`. Its sender proposes its digest,
//! another principal approves, and the sender sends the very same request again: now it carries both names.
//! A command uses its approval up; transfers need not, for their ids let them happen only once.

use alloc::vec::Vec;

use crate::actor::Principal;

/// What can be put under four eyes.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matter {
    /// Reversing a transfer.
    Reversals,
    /// Floors and daily limits.
    Limits,
    /// Freezing and thawing.
    Freezes,
    /// Transfers that touch a general-ledger head.
    Heads,
    /// Imported transfers, and the live date.
    Imports,
    /// Going on after a declared loss, and letting a channel that has stopped go on.
    DeclaredLoss,
    /// Erasing a customer.
    Erasure,
    /// The policy itself; under four eyes as soon as anything is.
    Policy,
}

impl Matter {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Reversals,
        Self::Limits,
        Self::Freezes,
        Self::Heads,
        Self::Imports,
        Self::DeclaredLoss,
        Self::Erasure,
        Self::Policy,
    ];

    /// Its bit in [`Policy::two_eyes`]'s stored form; never reassigned.
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            Self::Reversals => 1,
            Self::Limits => 1 << 1,
            Self::Freezes => 1 << 2,
            Self::Heads => 1 << 3,
            Self::Imports => 1 << 4,
            Self::DeclaredLoss => 1 << 5,
            Self::Erasure => 1 << 6,
            Self::Policy => 1 << 7,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reversals => "reversals",
            Self::Limits => "limits",
            Self::Freezes => "freezes",
            Self::Heads => "heads",
            Self::Imports => "imports",
            Self::DeclaredLoss => "declared_loss",
            Self::Erasure => "erasure",
            Self::Policy => "policy",
        }
    }

    /// The matter with this name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|matter| matter.name() == name)
    }

    pub(crate) fn from_bit(bit: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|matter| matter.bit() == bit)
    }
}

/// A set of [`Matter`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matters(u32);

impl Matters {
    /// None.
    pub const NONE: Self = Self(0);

    /// With `matter` in it.
    #[must_use]
    pub const fn with(self, matter: Matter) -> Self {
        Self(self.0 | matter.bit())
    }

    /// Whether `matter` is in it. The policy is as soon as anything is: else one could lift the rule alone.
    #[must_use]
    pub const fn has(self, matter: Matter) -> bool {
        self.0 & matter.bit() != 0 || (matches!(matter, Matter::Policy) && self.0 != 0)
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Matter> {
        Matter::ALL.into_iter().filter(move |matter| self.0 & matter.bit() != 0)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        let known = Matter::ALL.into_iter().fold(0, |known, matter| known | matter.bit());
        (bits & !known == 0).then_some(Self(bits))
    }
}

#[cfg(feature = "wire")]
impl serde::Serialize for Matters {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u32(self.0)
    }
}

#[cfg(feature = "wire")]
impl<'de> serde::Deserialize<'de> for Matters {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let bits = <u32 as serde::Deserialize>::deserialize(input)?;
        Self::from_bits(bits).ok_or_else(|| serde::de::Error::custom("matters that are not known"))
    }
}

/// The rules that an institution sets for its branch.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What needs a second principal.
    pub four_eyes: Matters,
    /// Days after the end of the relationship before a customer may be erased. The end is when the last account
    /// closed or, without any, when the customer was opened.
    pub retention_days: u32,
}

impl Policy {
    /// The longest retention: 100 years.
    pub const RETENTION_DAYS_MAX: u32 = 36_525;
}

impl Default for Policy {
    /// Nothing under four eyes; ten years of retention, which covers what most anti-money-laundering laws ask.
    fn default() -> Self {
        Self { four_eyes: Matters::NONE, retention_days: 3_653 }
    }
}

/// How long a proposal, or an approval counted from its proposal, stands: a day.
pub const PROPOSAL_LIFE_US: u64 = 24 * 3_600 * 1_000_000;

/// The most proposals that stand at once.
pub const PROPOSALS_MAX: usize = 1_024;

/// A request that waits for a second principal, or has one.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// The digest of the request.
    pub request: [u8; 16],
    /// What it is about.
    pub matter: Matter,
    /// Who asked.
    pub proposer: Principal,
    /// Who approved.
    pub approver: Option<Principal>,
    /// When it was proposed, microseconds since 1970.
    pub time_us: u64,
}

impl Proposal {
    /// Whether it still counts at `now_us`.
    #[must_use]
    pub const fn stands(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.time_us) < PROPOSAL_LIFE_US
    }
}

/// All proposals, oldest first. Few, so a list will do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Proposals(pub(crate) Vec<Proposal>);

impl Proposals {
    /// The one for `request`, if it stands.
    pub(crate) fn find(&self, request: &[u8; 16], now_us: u64) -> Option<&Proposal> {
        self.0.iter().find(|proposal| proposal.request == *request && proposal.stands(now_us))
    }

    pub(crate) fn standing(&self, now_us: u64) -> impl Iterator<Item = &Proposal> {
        self.0.iter().filter(move |proposal| proposal.stands(now_us))
    }

    /// Adds one and forgets those whose time is over.
    pub(crate) fn add(&mut self, proposal: Proposal) {
        self.0.retain(|earlier| earlier.stands(proposal.time_us) && earlier.request != proposal.request);
        self.0.push(proposal);
    }

    pub(crate) fn approve(&mut self, request: &[u8; 16], approver: Principal) {
        let found = self.0.iter_mut().find(|proposal| proposal.request == *request);
        found.expect("only a standing proposal is approved").approver = Some(approver);
    }

    pub(crate) fn end(&mut self, request: &[u8; 16]) {
        self.0.retain(|proposal| proposal.request != *request);
    }
}
