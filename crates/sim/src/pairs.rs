//! What two branches must say alike of the payments between them.
//!
//! What both journals say is compared number by number, as soon as both are known; the books with all that is not durable yet; and once
//! nothing is on its way, that positions mirror each other.

use std::collections::BTreeMap;

use skerry_book::Book;
use skerry_book::channel::check_pair;

use crate::model::Broken;
use crate::model::crossing::Peer;
use crate::oracle::Oracle;
use crate::tally::{State, Tally};

/// One branch, as far as the comparison is concerned.
pub(crate) struct Side<'a> {
    pub(crate) number: u16,
    pub(crate) oracle: &'a Oracle,
    /// How often it has lost what others know.
    pub(crate) lives: u32,
    /// It has, and has not taken it back yet.
    pub(crate) is_lost: bool,
    /// Everything durable of it was seen, and it remembers no less.
    pub(crate) is_whole: bool,
    /// Its book, while it is open and nothing was lost behind its back.
    pub(crate) book: Option<&'a Book>,
}

/// How far what two journals say of one direction was compared: payments that came, and payments that ended.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    came: usize,
    ended: usize,
}

/// All comparisons so far.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    seen: BTreeMap<(u16, u16), Seen>,
}

impl Pairs {
    /// Compares what two branches say of the payments from `from` to `to`, as far as it was not compared.
    ///
    /// # Errors
    ///
    /// In words, where they differ.
    pub(crate) fn compare(&mut self, from: &Side<'_>, to: &Side<'_>) -> Result<(), Broken> {
        let numbers = (from.number, to.number);
        if !agree(from, to) {
            // One has lost what the other knows, and has not taken it back yet.
            self.seen.remove(&numbers);
            return Ok(());
        }
        let nothing = Peer::default();
        let out = from.oracle.model.peers.get(&numbers.1).unwrap_or(&nothing);
        let into = to.oracle.model.peers.get(&numbers.0).unwrap_or(&nothing);
        if from.lives + to.lives == 0 && (out.stopped[0] || into.stopped[1]) {
            return Err(format!("the channel to branch {} stopped, and nobody has lost anything", numbers.1));
        }
        if into.came.len() > out.sent.len() && from.is_whole {
            let (came, sent) = (into.came.len(), out.sent.len());
            return Err(format!("branch {} received {came} payments, {sent} were sent", numbers.1));
        }
        if out.done > into.came.len() && to.is_whole {
            let (done, came) = (out.done, into.came.len());
            return Err(format!("{done} payments have ended, branch {} received {came}", numbers.1));
        }
        let seen = self.seen.entry(numbers).or_default();
        for (sent, came) in out.sent.iter().zip(&into.came).skip(seen.came) {
            if sent.way != came.way {
                return Err(format!("branch {} received {:?}, sent was {:?}", numbers.1, came.way, sent.way));
            }
            seen.came += 1;
        }
        for (sent, came) in out.sent[..out.done].iter().zip(&into.came).skip(seen.ended) {
            if sent.end.map(|(outcome, _)| outcome) != Some(came.outcome) {
                return Err(format!(
                    "a payment ended with {:?}, branch {} said {}",
                    sent.end, numbers.1, came.outcome
                ));
            }
            seen.ended += 1;
        }
        Ok(())
    }

    /// The same of their books, with all that is not durable yet: over a cut by numbers, transit and position are what
    /// was sent and neither accepted nor given back.
    ///
    /// # Errors
    ///
    /// In words, which rule does not hold.
    pub(crate) fn compare_books(one: &Side<'_>, other: &Side<'_>, tally: &mut Tally) -> Result<(), Broken> {
        if !agree(one, other) {
            return Ok(());
        }
        let (Some(left), Some(right)) = (one.book, other.book) else { return Ok(()) };
        let apart = [(left, right), (right, left)].iter().any(|(book, peer)| {
            let channel = book.channel(peer.branch());
            channel.is_some_and(|known| known.is_stopped() || known.incarnation != peer.incarnation())
        });
        if apart {
            return Ok(());
        }
        tally.state(State::PairChecked);
        check_pair(left, right).map_err(|why| format!("beside branch {}: {why}", other.number))
    }
}

/// Whether neither has lost anything that it has not taken back, as far as their journals tell.
fn agree(one: &Side<'_>, other: &Side<'_>) -> bool {
    if one.lives + other.lives == 0 {
        return true;
    }
    let knows = |side: &Side<'_>, peer: &Side<'_>| {
        let line = side.oracle.model.peers.get(&peer.number);
        line.is_none_or(|line| {
            line.stopped == [false; 2] && line.incarnation == peer.oracle.model.incarnation
        })
    };
    !one.is_lost && !other.is_lost && knows(one, other) && knows(other, one)
}

/// What must hold of two branches when nothing is on its way between them.
///
/// # Errors
///
/// In words, what does not.
pub(crate) fn check_rest(one: &Side<'_>, other: &Side<'_>) -> Result<(), Broken> {
    let sums = |side: &Side<'_>, peer: u16| -> BTreeMap<u16, i128> {
        let model = &side.oracle.model;
        let heads = model.accounts.values().filter(|account| !account.is_customer());
        let of = |account: &&crate::model::account::Account| model.is_between(account.reference, peer);
        heads.filter(of).map(|account| (account.currency.number(), account.balance())).collect()
    };
    let (left, right) = (sums(one, other.number), sums(other, one.number));
    for (currency, balance) in &left {
        if right.get(currency).copied().unwrap_or(0) != -balance {
            return Err(format!("the positions do not mirror each other: {left:?} and {right:?}"));
        }
    }
    for (here, there) in [(one, other), (other, one)] {
        if here.oracle.model.on_the_way(there.number) != 0 {
            return Err(format!("money stays on its way to branch {}", there.number));
        }
    }
    Ok(())
}
