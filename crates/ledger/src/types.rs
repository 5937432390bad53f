//! The words of the ledger: references to accounts, ids, flags, what is asked and what happened.
//!
//! Everything here is plain data of fixed size. A [`Transfer`] is what a client asks; a [`Moved`] is
//! what happened. Only the second is ever journaled.

use skerry_money::{Currency, Date};

/// A reference to a ledger account: 8 bytes, self-describing, the same in every branch.
///
/// ```text
/// 63       48 47    40 39                              0
/// | branch   | class  | customer: serial (1…9 999 999 999)
///                     | head: code (24 bits) · ISO 4217 number (16 bits)
/// ```
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AccountRef(pub u64);

/// What an [`AccountRef`] points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A customer account, by its serial in the branch of issue; serials are dense and start at 1.
    Customer(u64),
    /// A general-ledger head in one currency.
    Head(u32, Currency),
}

const CLASS_CUSTOMER: u64 = 0;
const CLASS_HEAD: u64 = 1;
const BODY_BITS: u32 = 40;
const BODY: u64 = (1 << BODY_BITS) - 1;

impl AccountRef {
    /// The largest serial: ten digits.
    pub const SERIAL_MAX: u64 = 9_999_999_999;

    /// The customer account with `serial`, issued by `branch`.
    #[must_use]
    pub const fn customer(branch: u16, serial: u64) -> Self {
        assert!(serial <= Self::SERIAL_MAX, "serial has more than ten digits");
        Self(((branch as u64) << 48) | (CLASS_CUSTOMER << BODY_BITS) | serial)
    }

    /// The general-ledger head `code` of `branch` in `currency`.
    #[must_use]
    pub const fn head(branch: u16, code: u32, currency: Currency) -> Self {
        assert!(code < 1 << 24, "head code has more than 24 bits");
        Self(
            ((branch as u64) << 48)
                | (CLASS_HEAD << BODY_BITS)
                | ((code as u64) << 16)
                | currency.number() as u64,
        )
    }

    /// The branch that issued it.
    #[must_use]
    pub const fn branch(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Whether it is in the form of a customer account; cheaper than [`kind`](Self::kind).
    #[must_use]
    #[inline]
    pub const fn is_customer(self) -> bool {
        (self.0 >> BODY_BITS) & 0xff == CLASS_CUSTOMER
    }

    /// The serial, if it is in the form of a customer account. May be 0 or too large for any account.
    #[must_use]
    #[inline]
    pub const fn customer_serial(self) -> Option<u64> {
        if self.is_customer() { Some(self.0 & BODY) } else { None }
    }

    /// What it points at; `None` if no account can have this reference.
    #[must_use]
    pub const fn kind(self) -> Option<AccountKind> {
        let body = self.0 & BODY;
        match (self.0 >> BODY_BITS) & 0xff {
            CLASS_CUSTOMER if body >= 1 && body <= Self::SERIAL_MAX => Some(AccountKind::Customer(body)),
            CLASS_HEAD => match Currency::from_number((body & 0xffff) as u16) {
                Some(currency) => Some(AccountKind::Head((body >> 16) as u32, currency)),
                None => None,
            },
            _ => None,
        }
    }
}

/// The id of a transfer: a UUIDv7 chosen by a client, or a UUIDv8 derived by the bank.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TransferId(pub u128);

impl TransferId {
    /// No id: the zero that unused fields carry.
    pub const NONE: Self = Self(0);

    /// The UUID version, 0 to 15.
    #[must_use]
    pub const fn version(self) -> u8 {
        ((self.0 >> 76) & 0xf) as u8
    }

    /// The Unix time of a UUIDv7, in milliseconds (RFC 9562, 5.7).
    #[must_use]
    pub const fn millis(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

/// What a transfer is and how it wants to be treated; a bit each, the same on the wire and in the journal.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// The next transfer succeeds or fails with this one.
    pub const LINKED: Self = Self(1);
    /// Hold the amount; post or void it later.
    pub const PENDING: Self = Self(1 << 1);
    /// Post the pending transfer `related`, in part or (amount 0 or equal) in full.
    pub const POST: Self = Self(1 << 2);
    /// Void the pending transfer `related`.
    pub const VOID: Self = Self(1 << 3);
    /// Move at most `amount`, as much as the debit account's limit allows.
    pub const BALANCING_DEBIT: Self = Self(1 << 4);
    /// Move at most `amount`, as much as the credit account's limit allows.
    pub const BALANCING_CREDIT: Self = Self(1 << 5);
    /// Close the debit account with this (pending) transfer; voiding it reopens.
    pub const CLOSING_DEBIT: Self = Self(1 << 6);
    /// Close the credit account with this (pending) transfer; voiding it reopens.
    pub const CLOSING_CREDIT: Self = Self(1 << 7);
    /// Comes from the old core, with its own time.
    pub const IMPORTED: Self = Self(1 << 8);
    /// Reverses the posted transfer `related`, wholly.
    pub const REVERSAL: Self = Self(1 << 9);
    /// Derived by the bank itself: version 8 ids are allowed, limits and freezes are ignored.
    pub const BANK: Self = Self(1 << 10);
    /// The record has a tail (long reference, encrypted note). Set by the book, never by a client.
    pub const TAIL: Self = Self(1 << 31);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A transfer as it is asked for. Fixed size; the text of a long reference or a note travels beside it.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Chosen by the client.
    pub id: TransferId,
    /// The account to debit; may be unset for [`Flags::POST`], [`Flags::VOID`] and [`Flags::REVERSAL`].
    pub debit: AccountRef,
    /// The account to credit; may be unset as above.
    pub credit: AccountRef,
    /// Minor units. For balancing the most to move; 0 means no upper bound there, and "all" for a post.
    pub amount: u64,
    /// The currency asked for: must be that of both accounts. `None` takes the accounts' own.
    pub currency: Option<Currency>,
    /// The client's own classification.
    pub code: u16,
    /// Flags.
    pub flags: Flags,
    /// Up to 16 bytes of UTF-8, zero padded; a longer reference travels in the tail and leaves its hash here.
    pub reference: [u8; 16],
    /// The pending transfer to resolve, or the posted one to reverse.
    pub related: TransferId,
    /// Seconds until a pending transfer expires; 0 never.
    pub timeout_seconds: u32,
    /// The value date; `None` is the business date.
    pub value_date: Option<Date>,
    /// For [`Flags::IMPORTED`]: the old core's own time, microseconds since 1970, and its business date.
    pub imported: Option<Imported>,
    /// Keyed digest of the request, for telling a retry from another request with the same id.
    pub digest: u64,
}

/// When the old core booked an imported transfer.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub time_us: u64,
    /// The old core's accounting date; before the branch's live date.
    pub business_date: Date,
}

/// What the branch stamps on every command of a batch.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Booking time: microseconds since 1970, never backwards.
    pub time_us: u64,
    /// The open business day.
    pub business_date: Date,
}

/// What happened to money: the event of the ledger, whose `evolve` cannot fail.
///
/// `kind` decides how the fields are read; see [`MovedKind`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// What happened.
    pub kind: MovedKind,
    /// The transfer's id.
    pub id: TransferId,
    /// Debited account (of the hold, when one is resolved).
    pub debit: AccountRef,
    /// Credited account.
    pub credit: AccountRef,
    /// Minor units moved or held; for a post what was posted, for a void or expiry what was released.
    pub amount: u64,
    /// The accounts' currency.
    pub currency: Currency,
    /// The client's classification.
    pub code: u16,
    /// As asked, plus [`Flags::TAIL`].
    pub flags: Flags,
    /// As asked.
    pub reference: [u8; 16],
    /// The hold resolved or the transfer reversed.
    pub related: TransferId,
    /// For a hold: when it expires, in seconds since 1970; 0 never.
    pub expires_s: u32,
    /// Booking time, microseconds since 1970.
    pub time_us: u64,
    /// The accounting date it posts to: the open day, or for an import the old core's.
    pub business_date: Date,
    /// The value date.
    pub value_date: Date,
    /// For an import the old core's time, else 0.
    pub imported_us: u64,
    /// The request's digest.
    pub digest: u64,
}

/// The kinds of [`Moved`].
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovedKind {
    /// Posted on both sides.
    Posted,
    /// Held on both sides.
    Held,
    /// The hold `related` posted (in part or whole) and the rest released.
    HoldPosted,
    /// The hold `related` released by a client.
    HoldVoided,
    /// The hold `related` released because its time ran out.
    HoldExpired,
}
