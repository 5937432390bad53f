//! What can be asked of the history, and what is answered.
//!
//! Plain data only. Filters are AND-ed; a filter left out lets everything through. Positions are record
//! numbers of the branch's journal, so a cursor stays valid for ever, whatever side files come and go.

use core::fmt;
use core::str::FromStr;

use skerry_ledger::{AccountRef, Moved, TransferId};
use skerry_money::Date;

/// Which side of a transfer an account is on.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The account is debited.
    Debit,
    /// The account is credited.
    Credit,
}

/// Which kinds of event a query wants.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kinds {
    /// What moved a posted balance: plain transfers and posted holds. The lines of a statement.
    #[default]
    Posted,
    /// What held or released money: holds, voids, expiries, and posted holds too.
    Holds,
    /// Everything that named the account.
    All,
}

/// In which order a page lists what it found.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Journal order.
    OldestFirst,
    /// Journal order, reversed: what a statement on a screen wants.
    #[default]
    NewestFirst,
}

impl Order {
    /// The other way round.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::OldestFirst => Self::NewestFirst,
            Self::NewestFirst => Self::OldestFirst,
        }
    }
}

/// A place between two records; a page goes on from it in the query's order.
///
/// The number is how many records of the journal lie before the place. Its text is sixteen
/// hexadecimal digits.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// A text that is no [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is sixteen hexadecimal digits, as an earlier page gave it")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let hexadecimal = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hexadecimal {
            return Err(CursorError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| CursorError)
    }
}

/// An inclusive range with open ends.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    /// The least value let through.
    pub from: Option<T>,
    /// The greatest value let through.
    pub to: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self { from: None, to: None }
    }
}

impl<T: Copy + PartialOrd> Range<T> {
    /// Whether `value` lies in the range.
    #[must_use]
    pub fn has(&self, value: T) -> bool {
        self.from.is_none_or(|from| from <= value) && self.to.is_none_or(|to| value <= to)
    }

    /// Whether any value between `least` and `greatest` could lie in the range.
    #[must_use]
    pub fn meets(&self, least: T, greatest: T) -> bool {
        self.from.is_none_or(|from| from <= greatest) && self.to.is_none_or(|to| least <= to)
    }
}

/// A question for transfers.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Transfers that name this account; entries then carry side and running totals.
    pub account: Option<AccountRef>,
    /// The side the account is on; means nothing without `account`.
    pub side: Option<Side>,
    /// Which kinds of event.
    pub kinds: Kinds,
    /// The client's classification.
    pub code: Option<u16>,
    /// The 16 bytes of reference in the record; all zero finds nothing.
    pub reference: Option<[u8; 16]>,
    /// Minor units.
    pub amount: Range<u64>,
    /// Microseconds since 1970: the old core's time for an import, else the booking time.
    pub time_us: Range<u64>,
    /// The accounting date it posted to.
    pub business_date: Range<Date>,
    /// The value date.
    pub value_date: Range<Date>,
    /// In which order.
    pub order: Order,
    /// At most so many entries; 0 counts as 1, and more than [`Query::LIMIT_MAX`] as that.
    pub limit: usize,
    /// Where an earlier page ended; `None` begins at the end that `order` names.
    pub cursor: Option<Cursor>,
    /// Answer only if the history holds everything before this position.
    pub at_least: u64,
}

impl Query {
    /// The most entries on a page.
    pub const LIMIT_MAX: usize = 1_000;

    /// Everything about one account, newest first, 100 a page.
    #[must_use]
    pub fn of_account(account: AccountRef) -> Self {
        Self { account: Some(account), ..Self::default() }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self {
            account: None,
            side: None,
            kinds: Kinds::default(),
            code: None,
            reference: None,
            amount: Range::default(),
            time_us: Range::default(),
            business_date: Range::default(),
            value_date: Range::default(),
            order: Order::default(),
            limit: 100,
            cursor: None,
            at_least: 0,
        }
    }
}

/// Posted totals of an account, both monotonic.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Everything ever debited, minor units.
    pub debits: u128,
    /// Everything ever credited, minor units.
    pub credits: u128,
}

impl Totals {
    /// Credits less debits: what a deposit holds. Saturates at the ends of an `i128`.
    #[must_use]
    pub fn balance(&self) -> i128 {
        let whole = |total: u128| i128::try_from(total).unwrap_or(i128::MAX);
        whole(self.credits).saturating_sub(whole(self.debits))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { debits: self.debits + other.debits, credits: self.credits + other.credits }
    }

    pub(crate) fn less(self, other: Self) -> Self {
        Self { debits: self.debits - other.debits, credits: self.credits - other.credits }
    }

    #[inline]
    pub(crate) fn add(&mut self, side: Side, amount: u64) {
        match side {
            Side::Debit => self.debits += u128::from(amount),
            Side::Credit => self.credits += u128::from(amount),
        }
    }

    pub(crate) fn of(side: Side, amount: u64) -> Self {
        match side {
            Side::Debit => Self { debits: u128::from(amount), credits: 0 },
            Side::Credit => Self { debits: 0, credits: u128::from(amount) },
        }
    }
}

/// One transfer found.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its record's number in the branch's journal.
    pub position: u64,
    /// What happened; a long reference or a note is in the record's tail.
    pub moved: Moved,
    /// The side the asked account is on.
    pub side: Option<Side>,
    /// The asked account's posted totals right after this entry.
    pub totals: Option<Totals>,
}

/// A page of what was found.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In the query's order.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` when there is nothing more. A page may be short, even empty, and still go on:
    /// one question reads a bounded number of records.
    pub next: Option<Cursor>,
    /// Where to go on in the reversed order, for what lies before this page.
    pub previous: Option<Cursor>,
    /// The answer holds for the journal up to this position.
    pub as_of: u64,
}

/// Which transfers a balance counts.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AsOf {
    /// Those that posted to this accounting date or an earlier one.
    pub business_date: Option<Date>,
    /// Those of this value date or an earlier one.
    pub value_date: Option<Date>,
}

/// By which date a list of days counts.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayBy {
    /// The accounting date.
    Business,
    /// The value date.
    Value,
}

/// One day of an account on which it moved.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// The day.
    pub date: Date,
    /// What moved on it.
    pub moved: Totals,
    /// Posted totals at its end.
    pub closing: Totals,
}

/// A transfer found by its id.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its own record.
    pub entry: Entry,
    /// What later resolved it, if it is a hold, or reversed it.
    pub resolved_by: Option<Entry>,
}

/// An id as it is stored when it names what *resolved* another transfer: versions 7 and 8 of a UUID turn
/// into 15 and 0, which no transfer may have.
pub(crate) const fn resolution_of(id: TransferId) -> TransferId {
    TransferId(id.0 ^ (8 << 76))
}
