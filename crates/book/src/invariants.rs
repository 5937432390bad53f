//! What must always hold, recomputed from the state. One copy, used by properties, simulator and debug builds.

use alloc::collections::BTreeMap;

use skerry_ledger::{AccountRef, Basis};
use skerry_money::Currency;

use crate::book::Book;
use crate::channel::{Totals, WINDOW, position, transit};

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
    check_channels(book)?;
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

/// Every channel's numbers, sums and heads say the same; see [`crate::channel`], C1 to C3.
fn check_channels(book: &Book) -> Result<(), &'static str> {
    for (peer, channel) in book.channels() {
        let (outgoing, incoming) = (&channel.outgoing, &channel.incoming);
        let length = |queue: usize| u64::try_from(queue).unwrap_or(u64::MAX);
        if outgoing.sent.checked_sub(outgoing.done) != Some(length(outgoing.open.len()))
            || outgoing.open.len() > WINDOW
        {
            return Err("what is open on a channel is not what was sent and is not done");
        }
        if incoming.received.checked_sub(incoming.forgotten) != Some(length(incoming.outcomes.len())) {
            return Err("a channel does not keep the outcomes that it must");
        }
        let mut counts = [0_u64; 3];
        for (number, totals) in channel.sums() {
            let currency = Currency::from_number(number).ok_or("a channel's currency is unknown")?;
            check_totals(book, peer, currency, totals)?;
            let Totals { sent, settled, returned, received, refused } = *totals;
            let sums = [
                sent.count,
                settled.count.saturating_add(returned.count),
                received.count.saturating_add(refused.count),
            ];
            for (total, sum) in counts.iter_mut().zip(sums) {
                *total = total.saturating_add(sum);
            }
        }
        if counts != [outgoing.sent, outgoing.done, incoming.received] {
            return Err("a channel's counts are not its numbers");
        }
    }
    check_held(book)
}

fn check_totals(book: &Book, peer: u16, currency: Currency, totals: &Totals) -> Result<(), &'static str> {
    let balance = |account| book.account(account).map_or(0, skerry_ledger::Account::balance);
    let signed = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
    let moved = |from: u128, less: u128| signed(from).wrapping_sub(signed(less));
    let out = totals.sent.amount.wrapping_sub(totals.returned.amount);
    if balance(transit(book.branch, peer, currency)) != moved(out, totals.settled.amount) {
        return Err("transit is not what is open on its channel");
    }
    let between = moved(totals.settled.amount, totals.received.amount);
    if balance(position(book.branch, peer, currency)) != between {
        return Err("a position is not what was settled less what was received");
    }
    let open = book.channel(peer).into_iter().flat_map(|channel| &channel.outgoing.open);
    let open = open.filter(|open| open.payment.currency == currency);
    let open = open.fold(0_u128, |sum, open| sum.saturating_add(u128::from(open.payment.amount)));
    if signed(open) == moved(out, totals.settled.amount) {
        Ok(())
    } else {
        Err("the open payments of a channel do not add up")
    }
}

/// Every hold to be sent is open and credits transit to its payee's branch.
fn check_held(book: &Book) -> Result<(), &'static str> {
    for (id, payee) in &book.channels.held {
        let hold = book.ledger.hold(*id).ok_or("a hold to be sent is not open")?;
        let currency = book.account(hold.debit).map(|payer| payer.currency);
        let expected = currency.map(|currency| transit(book.branch, payee.branch(), currency));
        if expected != Some(hold.credit) {
            return Err("a hold to be sent does not wait in transit");
        }
    }
    Ok(())
}
