//! The naive answers to everything that can be asked of a branch: each is a walk over all facts.

use std::collections::BTreeMap;

use skerry_branch::history::{AsOf, DayBy, Entry, Kinds, Order, Query, Side, Totals};
use skerry_ledger::{AccountRef, Basis, Flags, Moved, MovedKind};
use skerry_money::Date;

use super::{Fact, Model};

impl Model {
    /// All entries that answer `query` before position `as_of`, without regard to pages.
    pub(crate) fn entries(&self, query: &Query, as_of: u64) -> Vec<Entry> {
        let mut totals = Totals::default();
        let mut entries = Vec::new();
        for fact in self.facts.iter().take_while(|fact| fact.position < as_of).filter(|fact| !fact.unseen) {
            let side = query.account.and_then(|account| side_of(&fact.moved, account));
            if let (Some(side), true) = (side, is_posted(&fact.moved)) {
                add(&mut totals, side, fact.moved.amount);
            }
            if answers(query, &fact.moved, side) {
                let running = query.account.map(|_| totals);
                entries.push(Entry { position: fact.position, moved: fact.moved, side, totals: running });
            }
        }
        if query.order == Order::NewestFirst {
            entries.reverse();
        }
        entries
    }

    /// What moved on `account` by the dates of `by`, before position `as_of`.
    pub(crate) fn totals(&self, account: AccountRef, by: &AsOf, as_of: u64) -> Totals {
        let mut totals = Totals::default();
        for fact in self.posted_on(account, as_of) {
            let booked = by.business_date.is_none_or(|date| fact.moved.business_date <= date);
            let valued = by.value_date.is_none_or(|date| fact.moved.value_date <= date);
            if let (true, true, Some(side)) = (booked, valued, side_of(&fact.moved, account)) {
                add(&mut totals, side, fact.moved.amount);
            }
        }
        totals
    }

    /// The days on which `account` moved, with what moved on each.
    pub(crate) fn days(&self, account: AccountRef, by: DayBy, as_of: u64) -> BTreeMap<Date, Totals> {
        let mut days = BTreeMap::new();
        for fact in self.posted_on(account, as_of) {
            let date = if by == DayBy::Business { fact.moved.business_date } else { fact.moved.value_date };
            if let Some(side) = side_of(&fact.moved, account) {
                add(days.entry(date).or_default(), side, fact.moved.amount);
            }
        }
        days
    }

    fn posted_on(&self, account: AccountRef, as_of: u64) -> impl Iterator<Item = &Fact> {
        let indexes = self.accounts.get(&account).map_or(&[][..], |account| &account.facts);
        let facts = indexes.iter().map(|index| &self.facts[*index]);
        facts.filter(move |fact| fact.position < as_of && is_posted(&fact.moved) && !fact.unseen)
    }

    /// Posted and held totals of `account` as they were at `position`: (debit, credit) each.
    pub(crate) fn sums_at(&self, account: AccountRef, position: u64) -> ([u128; 2], [u128; 2]) {
        let (mut posted, mut held) = ([0; 2], [0; 2]);
        let indexes = self.accounts.get(&account).map_or(&[][..], |account| &account.facts);
        for fact in indexes.iter().map(|index| &self.facts[*index]) {
            let moved = &fact.moved;
            let side = usize::from(fact.sides[1] == account);
            if fact.position >= position {
                break;
            }
            if is_posted(moved) {
                posted[side] += u128::from(moved.amount);
            }
            if moved.kind == MovedKind::Held {
                held[side] += u128::from(moved.amount);
            } else if moved.kind != MovedKind::Posted {
                let hold = self.fact(moved.related).expect("what is resolved was held");
                held[side] -= u128::from(hold.moved.amount);
            }
        }
        (posted, held)
    }

    /// Credits less debits of every head at the end of `date`.
    pub(crate) fn trial(&self, date: Date, basis: Basis) -> BTreeMap<AccountRef, i128> {
        let mut closing = BTreeMap::new();
        for fact in self.facts.iter().filter(|fact| is_posted(&fact.moved)) {
            let moved = &fact.moved;
            let counts = if basis == Basis::Booked { moved.business_date } else { moved.value_date };
            if counts <= date {
                for (account, sign) in [(fact.sides[0], -1), (fact.sides[1], 1)] {
                    let head = self.accounts[&account].head;
                    *closing.entry(head).or_insert(0) += sign * i128::from(moved.amount);
                }
            }
        }
        closing
    }

    /// What was posted in each currency before `position`, by its number.
    pub(crate) fn posted(&self, position: u64) -> BTreeMap<u16, u128> {
        let mut posted = BTreeMap::new();
        let before = self.facts.iter().take_while(|fact| fact.position < position);
        for fact in before.filter(|fact| is_posted(&fact.moved)) {
            *posted.entry(fact.moved.currency.number()).or_insert(0) += u128::from(fact.moved.amount);
        }
        posted
    }
}

fn add(totals: &mut Totals, side: Side, amount: u64) {
    match side {
        Side::Debit => totals.debits += u128::from(amount),
        Side::Credit => totals.credits += u128::from(amount),
    }
}

fn side_of(moved: &Moved, account: AccountRef) -> Option<Side> {
    if moved.debit == account {
        Some(Side::Debit)
    } else if moved.credit == account {
        Some(Side::Credit)
    } else {
        None
    }
}

fn is_posted(moved: &Moved) -> bool {
    matches!(moved.kind, MovedKind::Posted | MovedKind::HoldPosted)
}

fn answers(query: &Query, moved: &Moved, side: Option<Side>) -> bool {
    let kind = match query.kinds {
        Kinds::Posted => is_posted(moved),
        Kinds::Holds => moved.kind != MovedKind::Posted,
        Kinds::All => true,
    };
    let own_time_us = if moved.flags.has(Flags::IMPORTED) { moved.imported_us } else { moved.time_us };
    let sided = query.account.is_none() || query.side.is_none() || side == query.side;
    kind && sided
        && (query.account.is_none() || side.is_some())
        && query.code.is_none_or(|code| moved.code == code)
        && query.reference.is_none_or(|reference| reference != [0; 16] && moved.reference == reference)
        && query.amount.has(moved.amount)
        && query.time_us.has(own_time_us)
        && query.business_date.has(moved.business_date)
        && query.value_date.has(moved.value_date)
}
