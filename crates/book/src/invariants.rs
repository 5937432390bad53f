//! What must always hold, recomputed from the state. One copy, used by properties, simulator and debug builds.

use alloc::collections::BTreeMap;

use skerry_ledger::{AccountRef, Basis};

use crate::book::Book;

/// Checks the book and its ledger. Takes time in the number of accounts.
///
/// # Errors
///
/// The first invariant that does not hold.
pub fn check(book: &Book) -> Result<(), &'static str> {
    check_chains(book)?;
    check_indexes(book)?;
    check_heads(book)?;
    check_trial(book)?;
    let differ = |proposal: &crate::policy::Proposal| proposal.approver != Some(proposal.proposer);
    if !book.life.proposals.0.iter().all(differ) {
        return Err("a proposal is approved by its proposer");
    }
    skerry_ledger::invariants::check(&book.ledger).map_err(|_| "an invariant of the ledger does not hold")
}

/// Every account is in the chain of its owner, and in no other.
fn check_chains(book: &Book) -> Result<(), &'static str> {
    let mut seen: usize = 0;
    for serial in 1..=book.customers.len() {
        for account in book.customers.accounts(serial) {
            let reference = AccountRef::customer(book.branch, u64::from(account));
            if book.owner(reference) != Some(serial) {
                return Err("an account is in the chain of a customer who does not own it");
            }
            seen = seen.saturating_add(1);
        }
    }
    let accounts = book.ledger.customer_count();
    if seen == accounts && book.customers.next.len() == accounts {
        Ok(())
    } else {
        Err("chains and accounts do not agree in number")
    }
}

/// Every living customer is found by their document, every key by itself.
fn check_indexes(book: &Book) -> Result<(), &'static str> {
    let mut living: usize = 0;
    for (serial, customer) in (1..).zip(book.customers.list.iter()) {
        if customer.erased {
            continue;
        }
        living = living.saturating_add(1);
        if book.customer_by_document(customer.line, &customer.document) != Some(serial) {
            return Err("a customer is not found by their document");
        }
    }
    if book.customers.indexed() != living {
        return Err("the index of documents names customers who do not exist");
    }
    book.keys.check()
}

fn check_heads(book: &Book) -> Result<(), &'static str> {
    for currency in &book.life.currencies {
        for head in &book.life.chart.heads {
            if book.ledger.account(AccountRef::head(book.branch, head.code, *currency)).is_none() {
                return Err("a head of the chart is not open in a currency in use");
            }
        }
    }
    Ok(())
}

/// The trial balance of the open day sums to zero in each currency, as booked and as of value.
fn check_trial(book: &Book) -> Result<(), &'static str> {
    let Some(day) = book.day() else { return Ok(()) };
    for basis in [Basis::Booked, Basis::Value] {
        let mut sums: BTreeMap<u16, i128> = BTreeMap::new();
        for line in book.trial_balance(day, basis) {
            let sum = sums.entry(line.currency.number()).or_default();
            *sum = sum.wrapping_add(line.closing);
        }
        if sums.values().any(|sum| *sum != 0) {
            return Err("a trial balance does not sum to zero");
        }
    }
    Ok(())
}
