//! The trial balance: what was posted to each general-ledger head, per booking date and value date.
//!
//! Kept as movements, so that the balance as booked and the balance as of value come from the same sums,
//! and a closed day never changes. Refuses to know accounts: it is told slots and amounts.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use skerry_money::Date;

use crate::types::AccountRef;

/// Which of a posting's two dates a trial balance goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The business day it was booked on: what the bank has reported.
    Booked,
    /// Its value date: what is known now of that day.
    Value,
}

/// One head of a trial balance, in minor units of the head's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialRow {
    /// The head.
    pub head: AccountRef,
    /// Debits of all days before.
    pub debits_before: u128,
    /// Credits of all days before.
    pub credits_before: u128,
    /// Debits of the day.
    pub debits: u128,
    /// Credits of the day.
    pub credits: u128,
}

impl TrialRow {
    /// Credits less debits at the end of the day.
    #[must_use]
    pub const fn closing(&self) -> i128 {
        let credits = self.credits_before.wrapping_add(self.credits);
        let debits = self.debits_before.wrapping_add(self.debits);
        credits.wrapping_sub(debits).cast_signed()
    }
}

/// What one head moved in one pair of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Movement {
    pub(crate) slot: u16,
    pub(crate) debits: u128,
    pub(crate) credits: u128,
}

/// Booking date and value date of a posting.
pub(crate) type Days = (Date, Date);

/// The movements of all days. Cloning it is a mark: a page of movements is copied before its next change.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    days: BTreeMap<Days, usize>,
    movements: Vec<Arc<Vec<Movement>>>,
    /// The days last posted to, which are nearly always the next.
    hot: Option<Days>,
    hot_index: usize,
    /// By slot: one more than the slot's index in the hot movements, 0 if it has none.
    hot_rows: Vec<u32>,
}

impl Trial {
    pub(crate) const fn new() -> Self {
        Self { days: BTreeMap::new(), movements: Vec::new(), hot: None, hot_index: 0, hot_rows: Vec::new() }
    }

    /// Posts `amount` from the head in slot `debit` to the one in slot `credit`.
    #[inline]
    pub(crate) fn post(&mut self, days: Days, debit: u16, credit: u16, amount: u64) {
        if self.hot != Some(days) {
            self.warm(days);
        }
        let debit_row = self.row(debit);
        let credit_row = self.row(credit);
        let Some(page) = self.movements.get_mut(self.hot_index) else { return };
        let page = Arc::make_mut(page);
        if let Some(movement) = page.get_mut(debit_row) {
            movement.debits = plus(movement.debits, amount);
        }
        if let Some(movement) = page.get_mut(credit_row) {
            movement.credits = plus(movement.credits, amount);
        }
    }

    /// The index of a slot in the hot movements, adding it if it has none.
    #[inline]
    fn row(&mut self, slot: u16) -> usize {
        match self.hot_rows.get(usize::from(slot)) {
            Some(row) if *row != 0 => usize::try_from(row.wrapping_sub(1)).unwrap_or(usize::MAX),
            _ => self.add_row(slot),
        }
    }

    #[cold]
    fn add_row(&mut self, slot: u16) -> usize {
        let page = self.movements.get_mut(self.hot_index).map(Arc::make_mut).expect("the hot page exists");
        page.push(Movement { slot, debits: 0, credits: 0 });
        let rows = page.len();
        self.remember(slot, rows);
        rows.saturating_sub(1)
    }

    fn remember(&mut self, slot: u16, row_plus_one: usize) {
        let slot = usize::from(slot);
        if self.hot_rows.len() <= slot {
            self.hot_rows.resize(slot.saturating_add(1), 0);
        }
        if let Some(row) = self.hot_rows.get_mut(slot) {
            *row = u32::try_from(row_plus_one).expect("a page has at most a row per slot");
        }
    }

    #[cold]
    fn warm(&mut self, days: Days) {
        let next = self.movements.len();
        let index = *self.days.entry(days).or_insert(next);
        if index == next {
            self.movements.push(Arc::default());
        }
        self.hot = Some(days);
        self.hot_index = index;
        self.hot_rows.fill(0);
        let slots: Vec<u16> = self
            .movements
            .get(index)
            .map(|page| page.iter().map(|row| row.slot).collect())
            .unwrap_or_default();
        for (row, slot) in (1_usize..).zip(slots) {
            self.remember(slot, row);
        }
    }

    /// Every pair of days with its movements, by date; within it in no set order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Days, &[Movement])> {
        self.days
            .iter()
            .map(|(days, index)| (*days, self.movements.get(*index).map_or(&[][..], |page| page.as_slice())))
    }

    pub(crate) fn len(&self) -> usize {
        self.days.len()
    }

    /// Puts back the movements of a pair of days, as an image has them.
    pub(crate) fn restore(&mut self, days: Days, movements: Vec<Movement>) {
        let next = self.movements.len();
        self.days.insert(days, next);
        self.movements.push(Arc::new(movements));
    }

    /// The trial balance of `date`; `head` names the head in a slot. Heads without any movement up to
    /// then are left out.
    pub(crate) fn balance(
        &self,
        date: Date,
        basis: Basis,
        head: impl Fn(u16) -> AccountRef,
    ) -> Vec<TrialRow> {
        let mut rows: BTreeMap<u16, TrialRow> = BTreeMap::new();
        for ((booked, value), movements) in self.iter() {
            let day = match basis {
                Basis::Booked => booked,
                Basis::Value => value,
            };
            if day > date {
                continue;
            }
            for movement in movements {
                let row = rows.entry(movement.slot).or_insert_with(|| TrialRow {
                    head: head(movement.slot),
                    debits_before: 0,
                    credits_before: 0,
                    debits: 0,
                    credits: 0,
                });
                let (debits, credits) = if day == date {
                    (&mut row.debits, &mut row.credits)
                } else {
                    (&mut row.debits_before, &mut row.credits_before)
                };
                *debits = debits.wrapping_add(movement.debits);
                *credits = credits.wrapping_add(movement.credits);
            }
        }
        let mut rows: Vec<TrialRow> = rows.into_values().collect();
        rows.sort_unstable_by_key(|row| row.head);
        rows
    }
}

#[inline]
fn plus(total: u128, amount: u64) -> u128 {
    total.checked_add(u128::from(amount)).expect("2^64 transfers of 2^64 - 1 fit in a u128")
}
