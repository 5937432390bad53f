//! What two books must agree on about the channels between them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Channel, running_hash};

/// Why two branches' views of the channels between them do not fit together; see [`check_pair`].
pub type Unfit = &'static str;

/// Checks both directions between two books, at any moment: what is between them is on its way, and what both know
/// they know alike. Written once: properties, simulator and tests share it.
///
/// # Errors
///
/// The first rule that does not hold.
pub fn check_pair(one: &crate::Book, other: &crate::Book) -> Result<(), Unfit> {
    check_direction(one, other)?;
    check_direction(other, one)
}

fn check_direction(from: &crate::Book, to: &crate::Book) -> Result<(), Unfit> {
    let nothing = Channel::default();
    let out = from.channel(to.branch()).unwrap_or(&nothing);
    let into = to.channel(from.branch()).unwrap_or(&nothing);
    let (outgoing, incoming) = (&out.outgoing, &into.incoming);
    if incoming.received > outgoing.sent {
        return Err("more was received than sent");
    }
    if outgoing.done > incoming.received || incoming.forgotten > outgoing.done {
        return Err("a payment is done that was not received, or forgotten before it was done");
    }
    let mut sums: BTreeMap<u16, (u128, u128)> = BTreeMap::new();
    let mut hash = outgoing.hash;
    let unseen = outgoing.sent.saturating_sub(incoming.received);
    if unseen == 0 && hash != incoming.hash {
        return Err("both have the same numbers and other payments");
    }
    for (n, open) in (outgoing.done.saturating_add(1)..).zip(&outgoing.open) {
        let (accepted, refused) = sums.entry(open.payment.currency.number()).or_default();
        match into.outcome(n) {
            Some(0) => *accepted = accepted.saturating_add(u128::from(open.payment.amount)),
            Some(_) => *refused = refused.saturating_add(u128::from(open.payment.amount)),
            None if n <= incoming.received => return Err("an open payment has no outcome any more"),
            None => {
                // From what was received on, the rest must lead to what was sent.
                if n == incoming.received.saturating_add(1) {
                    hash = incoming.hash;
                }
                hash = running_hash(hash, n, &open.payment);
            }
        }
    }
    if unseen > 0 && hash != outgoing.hash {
        return Err("what is on its way does not continue what was received");
    }
    check_sums(from, to, &sums)
}

/// Over a cut by numbers, transit and position are what was sent and neither accepted nor given back.
fn check_sums(from: &crate::Book, to: &crate::Book, open: &BTreeMap<u16, (u128, u128)>) -> Result<(), Unfit> {
    let currencies = |book: &crate::Book, peer| -> Vec<u16> {
        book.channel(peer).map(|channel| channel.totals.keys().copied().collect()).unwrap_or_default()
    };
    for number in currencies(from, to.branch()).into_iter().chain(currencies(to, from.branch())) {
        let of = |book: &crate::Book, peer| {
            book.channel(peer).and_then(|channel| channel.totals.get(&number)).copied().unwrap_or_default()
        };
        let (out, into) = (of(from, to.branch()), of(to, from.branch()));
        let (accepted, refused) = open.get(&number).copied().unwrap_or_default();
        if out.settled.amount.saturating_add(accepted) != into.received.amount {
            return Err("what was settled is not what was accepted");
        }
        if out.returned.amount.saturating_add(refused) != into.refused.amount {
            return Err("what was returned is not what was refused");
        }
    }
    Ok(())
}
