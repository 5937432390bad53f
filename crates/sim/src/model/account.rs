//! An account as the model knows it: what was agreed, and what moved.

use skerry_ledger::{AccountRef, Limit};
use skerry_money::{Currency, Date};

/// Index of the debit side in a pair.
pub(crate) const DEBIT: usize = 0;
/// Index of the credit side in a pair.
pub(crate) const CREDIT: usize = 1;

/// One account; pairs are (debit, credit).
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) reference: AccountRef,
    pub(crate) currency: Currency,
    pub(crate) limit: Limit,
    pub(crate) floor: i64,
    pub(crate) daily_limit: u64,
    pub(crate) opened: Date,
    /// The customer; 0 for a head.
    pub(crate) owner: u32,
    /// The head it posts to; a head posts to itself.
    pub(crate) head: AccountRef,
    pub(crate) frozen: [u8; 2],
    /// Closed by a command, or by posting the hold that closed it.
    pub(crate) closed: bool,
    /// Open holds that close it.
    pub(crate) closing: u32,
    pub(crate) holds: u32,
    pub(crate) posted: [u128; 2],
    pub(crate) held: [u128; 2],
    /// Has an entry that is no import.
    pub(crate) native: bool,
    /// The own time of its last import.
    pub(crate) imported_until_us: u64,
    /// Indexes of the facts that name it.
    pub(crate) facts: Vec<usize>,
}

impl Account {
    pub(crate) fn new(reference: AccountRef, currency: Currency, opened: Date) -> Self {
        Self {
            reference,
            currency,
            limit: Limit::None,
            floor: 0,
            daily_limit: skerry_ledger::UNLIMITED,
            opened,
            owner: 0,
            head: reference,
            frozen: [0; 2],
            closed: false,
            closing: 0,
            holds: 0,
            posted: [0; 2],
            held: [0; 2],
            native: false,
            imported_until_us: 0,
            facts: Vec::new(),
        }
    }

    pub(crate) fn is_customer(&self) -> bool {
        self.owner != 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed || self.closing > 0
    }

    pub(crate) fn balance(&self) -> i128 {
        signed(self.posted[CREDIT]) - signed(self.posted[DEBIT])
    }

    /// What is left on `side`, the floor counted if that side is the limited one.
    pub(crate) fn room(&self, side: usize) -> i128 {
        let mine = [Limit::Debits, Limit::Credits][side];
        let floor = if self.limit == mine { i128::from(self.floor) } else { 0 };
        signed(self.posted[1 - side]) - signed(self.posted[side]) - signed(self.held[side]) - floor
    }

    pub(crate) fn limits(&self, side: usize) -> bool {
        self.limit == [Limit::Debits, Limit::Credits][side]
    }
}

/// A total as a signed number; no simulated bank comes near the end of either.
pub(crate) fn signed(total: u128) -> i128 {
    i128::try_from(total).expect("a simulated total is small")
}
