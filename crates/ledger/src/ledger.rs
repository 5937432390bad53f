//! The ledger itself: where accounts lie, and what an event does to them.
//!
//! The rules that refuse are in `rules`, the sums in `account`; this file finds accounts and applies.

use alloc::vec::Vec;

use skerry_money::Date;

use crate::account::{Account, Change, counts_daily};
use crate::holds::{Hold, Holds, Place, Stored};
use crate::image::LedgerImage;
use crate::operations::HeadSlot;
use crate::paged::PagedVec;
use crate::past::{Earlier, NoPast, Past};
use crate::rejection::Rejection;
use crate::rules::{self, View};
use crate::trial::{Basis, Trial, TrialRow};
use crate::types::{AccountRef, Flags, Moved, MovedKind, Stamp, Transfer, TransferId};

/// Accounts in pages of 4, 512 bytes: larger ones make `decide` faster over many accounts (fewer counts of sharers
/// to fetch), smaller ones make the first batch after a mark faster (less to copy). `examples/hot_path.rs` shows both.
pub(crate) type Accounts = PagedVec<Account, 4>;

/// The accounts, open holds and trial balance of one branch.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) branch: u16,
    /// By serial less one.
    pub(crate) customers: Accounts,
    /// By slot.
    pub(crate) heads: Accounts,
    pub(crate) head_refs: Vec<AccountRef>,
    /// The same, sorted, with their slots.
    pub(crate) head_index: Vec<(AccountRef, u16)>,
    pub(crate) holds: Holds,
    pub(crate) trial: Trial,
    pub(crate) live: Option<Date>,
    pub(crate) imported_through: Option<Date>,
    /// An image under way, with everything but the customers' accounts.
    pub(crate) marking: Option<alloc::boxed::Box<LedgerImage>>,
}

impl Ledger {
    /// An empty ledger for `branch`. `seed` keys its table of holds: secret, and nothing that is kept or
    /// answered depends on it.
    #[must_use]
    pub const fn new(branch: u16, seed: [u64; 2]) -> Self {
        Self {
            branch,
            customers: Accounts::new(),
            heads: Accounts::new(),
            head_refs: Vec::new(),
            head_index: Vec::new(),
            holds: Holds::new(seed),
            trial: Trial::new(),
            live: None,
            imported_through: None,
            marking: None,
        }
    }

    /// Decides one transfer that is not part of a chain. Reads only; allocates nothing.
    ///
    /// # Errors
    ///
    /// The rejection that comes first in [`crate::precedence`]. [`Rejection::AlreadyApplied`] is the answer
    /// to an exact retry: the caller repeats the first answer.
    #[inline]
    pub fn decide<P: Past + ?Sized>(
        &self,
        transfer: &Transfer,
        stamp: Stamp,
        past: &P,
    ) -> Result<Moved, Rejection> {
        if transfer.flags.has(Flags::LINKED) {
            return Err(Rejection::LinkedChainOpen);
        }
        rules::decide(&Alone { ledger: self, past }, transfer, stamp)
    }

    /// Decides a plain posting whose id is the caller's to judge: a payment that another branch made and numbered. It
    /// needs no past.
    ///
    /// # Errors
    ///
    /// As [`decide`](Self::decide), without those about ids.
    #[inline]
    pub fn decide_posting(&self, transfer: &Transfer, stamp: Stamp) -> Result<Moved, Rejection> {
        rules::decide_posting(&Alone { ledger: self, past: &NoPast }, transfer, stamp)
    }

    /// Whether the id of `transfer` may act and has not, and its flags go together: for who decides the rest by
    /// [`decide_posting`](Self::decide_posting).
    ///
    /// # Errors
    ///
    /// As [`decide`](Self::decide), about id and flags alone.
    pub fn check_new<P: Past + ?Sized>(
        &self,
        transfer: &Transfer,
        stamp: Stamp,
        past: &P,
    ) -> Result<(), Rejection> {
        rules::check_new(&Alone { ledger: self, past }, transfer, stamp)
    }

    /// The next hold to expire at `stamp`, as the event that ends it; `None` if none is due. Evolve it
    /// and ask again: they come in order of expiry, then id.
    #[must_use]
    pub fn decide_expiry(&self, stamp: Stamp) -> Option<Moved> {
        let hold = self.read_hold(self.holds.first_to_expire()?);
        let due = stamp.time_us >= u64::from(hold.expires_s).saturating_mul(1_000_000);
        due.then(|| rules::expired(&hold, self.account(hold.debit).expect("a hold's accounts exist"), stamp))
    }

    /// When the next hold expires, in seconds since 1970.
    #[must_use]
    pub fn next_expiry_s(&self) -> Option<u32> {
        self.holds.first_to_expire().map(|stored| self.read_hold(stored).expires_s)
    }

    /// Does what `moved` says.
    ///
    /// # Panics
    ///
    /// If an account or the hold it names does not exist: the journal is corrupt or belongs to another
    /// branch, and to go on would be to fork the bank's history.
    #[inline]
    pub fn evolve(&mut self, moved: &Moved) {
        let resolved = match moved.kind {
            MovedKind::Posted | MovedKind::Held => None,
            _ => Some(self.take_hold(moved.related)),
        };
        let change = Change::of(moved, resolved.as_ref());
        let debit = self.place(moved.debit).expect("the debited account exists");
        let credit = self.place(moved.credit).expect("the credited account exists");
        let debit_slot = {
            let account = self.account_mut(debit);
            account.debit(&change);
            account.head
        };
        let credit_slot = {
            let account = self.account_mut(credit);
            account.credit(&change);
            account.head
        };
        if change.posted != 0 {
            let days = (moved.business_date, moved.value_date);
            self.trial.post(days, debit_slot, credit_slot, change.posted);
        }
        if moved.kind == MovedKind::Held {
            self.holds.insert(Stored::new(&hold_of(moved), debit, credit));
        }
        if moved.imported_us != 0 {
            self.imported_through = self.imported_through.max(Some(moved.business_date));
        }
    }

    /// Brings the accounts of `transfers` into the processor's cache: the misses of many overlap, which
    /// those of one `decide` after another cannot. Worth calling once per few dozen transfers when the
    /// accounts do not fit the cache. The answer is meaningless; pass it to `core::hint::black_box`.
    #[must_use]
    pub fn warm(&self, transfers: &[Transfer]) -> u64 {
        transfers.iter().fold(0, |sum, transfer| sum ^ self.peek(transfer.debit) ^ self.peek(transfer.credit))
    }

    #[inline]
    fn peek(&self, account: AccountRef) -> u64 {
        let index = account.0.wrapping_sub(1) & u64::from(u32::MAX);
        let Ok(index) = usize::try_from(index) else { return 0 };
        let Some(account) = self.customers.get(index) else { return 0 };
        // The totals lie on one cache line, the limits on the next, the page's sharers on a third.
        let sharers = self.customers.sharers(index);
        account.daily_limit ^ u64::from(account.debits_posted == 1) ^ u64::from(sharers == Some(1))
    }

    /// The account that `account` refers to, if this branch has it.
    #[must_use]
    #[inline]
    pub fn account(&self, account: AccountRef) -> Option<&Account> {
        self.account_at(self.place(account)?)
    }

    /// The open hold made by the pending transfer `id`.
    #[must_use]
    pub fn hold(&self, id: TransferId) -> Option<Hold> {
        self.holds.get(id).map(|stored| self.read_hold(stored))
    }

    /// All open holds, in no set order.
    pub fn holds(&self) -> impl Iterator<Item = Hold> {
        self.holds.iter().map(|stored| self.read_hold(stored))
    }

    /// How many holds are open.
    #[must_use]
    pub fn hold_count(&self) -> usize {
        self.holds.len()
    }

    /// How many customer accounts were opened; their serials are 1 to this.
    #[must_use]
    pub const fn customer_count(&self) -> usize {
        self.customers.len()
    }

    /// The branch whose accounts these are.
    #[must_use]
    pub const fn branch(&self) -> u16 {
        self.branch
    }

    /// All customer accounts, by serial.
    pub fn customers(&self) -> impl Iterator<Item = (AccountRef, &Account)> {
        (1..).map(|serial| AccountRef::customer(self.branch, serial)).zip(self.customers.iter())
    }

    /// All general-ledger heads, by slot.
    pub fn heads(&self) -> impl Iterator<Item = (AccountRef, &Account)> {
        self.head_refs.iter().copied().zip(self.heads.iter())
    }

    /// The head in `slot`.
    #[must_use]
    pub fn head(&self, slot: HeadSlot) -> Option<AccountRef> {
        self.head_refs.get(usize::from(slot.0)).copied()
    }

    /// From which day on nothing is imported, once the branch is live.
    #[must_use]
    pub const fn live_date(&self) -> Option<Date> {
        self.live
    }

    /// The last day that an import was booked on.
    #[must_use]
    pub const fn imported_through(&self) -> Option<Date> {
        self.imported_through
    }

    /// The trial balance of `date`, by head: per currency its debits equal its credits. Heads that never
    /// moved are left out. Takes time in the number of days; for reports, not for every transfer.
    #[must_use]
    pub fn trial_balance(&self, date: Date, basis: Basis) -> Vec<TrialRow> {
        self.trial
            .balance(date, basis, |slot| self.head(HeadSlot(slot)).expect("a slot that moved has a head"))
    }

    #[inline]
    pub(crate) fn place(&self, account: AccountRef) -> Option<Place> {
        if account.branch() != self.branch {
            return None;
        }
        if let Some(serial) = account.customer_serial() {
            // An index that no account has yet is found out by `account_at`.
            return u32::try_from(serial.checked_sub(1)?).ok().filter(|at| *at < Place::COUNT_MAX).map(Place);
        }
        let found = self.head_index.binary_search_by_key(&account, |(head, _)| *head).ok()?;
        self.head_index.get(found).map(|(_, slot)| Place(u32::from(*slot) | Place::HEAD))
    }

    #[inline]
    pub(crate) fn account_at(&self, place: Place) -> Option<&Account> {
        let (accounts, index) = match place.0 & Place::HEAD {
            0 => (&self.customers, place.0),
            _ => (&self.heads, place.0 & !Place::HEAD),
        };
        accounts.get(usize::try_from(index).ok()?)
    }

    #[inline]
    pub(crate) fn account_mut(&mut self, place: Place) -> &mut Account {
        let (accounts, index) = match place.0 & Place::HEAD {
            0 => (&mut self.customers, place.0),
            _ => (&mut self.heads, place.0 & !Place::HEAD),
        };
        let index = usize::try_from(index).expect("a place is an index");
        accounts.get_mut(index).expect("the account exists")
    }

    fn take_hold(&mut self, id: TransferId) -> Hold {
        let stored = self.holds.remove(id).expect("a resolved hold is open");
        self.read_hold(&stored)
    }

    fn read_hold(&self, stored: &Stored) -> Hold {
        stored.read(|place| self.refer(place))
    }

    /// The reference to the account at `place`; the inverse of [`place`](Self::place).
    fn refer(&self, place: Place) -> AccountRef {
        if place.0 & Place::HEAD == 0 {
            return AccountRef::customer(self.branch, u64::from(place.0).saturating_add(1));
        }
        let slot = usize::try_from(place.0 & !Place::HEAD).ok();
        slot.and_then(|slot| self.head_refs.get(slot)).copied().expect("a hold's head exists")
    }
}

/// The hold that a [`MovedKind::Held`] opens.
pub(crate) fn hold_of(moved: &Moved) -> Hold {
    Hold {
        id: moved.id,
        debit: moved.debit,
        credit: moved.credit,
        amount: moved.amount,
        code: moved.code,
        expires_s: moved.expires_s,
        closing_debit: moved.flags.has(Flags::CLOSING_DEBIT),
        closing_credit: moved.flags.has(Flags::CLOSING_CREDIT),
        counted_on: counts_daily(moved.flags).then_some(moved.business_date),
    }
}

/// The ledger as the rules see it for a transfer on its own.
struct Alone<'a, P: ?Sized> {
    ledger: &'a Ledger,
    past: &'a P,
}

impl<P: Past + ?Sized> View for Alone<'_, P> {
    #[inline]
    fn account(&self, account: AccountRef) -> Option<&Account> {
        self.ledger.account(account)
    }

    fn hold(&self, id: TransferId) -> Option<Hold> {
        self.ledger.hold(id)
    }

    #[inline]
    fn earlier(&self, id: TransferId) -> Option<Earlier> {
        self.past.find(id)
    }

    #[inline]
    fn live(&self) -> Option<Date> {
        self.ledger.live
    }
}
