//! What carries the branches' messages, badly; and what two branches must say alike.
//!
//! A message is lost, doubled, held back or damaged, and overtakes others; two branches do not hear each other for a
//! while. What both journals say of the payments between them is compared number by number, as soon as both are known.

use std::collections::BTreeMap;

use skerry_book::channel::check_pair;
use skerry_branch::channels::Outgoing;
use skerry_journal::{JournalReader, Storage};

use crate::cell::Cell;
use crate::dice::Dice;
use crate::model::Broken;
use crate::model::crossing::Peer;
use crate::tally::{State, Tally, Trouble};

/// A message on its way.
#[derive(Debug)]
struct Letter {
    message: Outgoing,
    /// Not before this step.
    due: u64,
}

/// How far what two journals say of one direction was compared: payments that came, and payments that ended.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    came: usize,
    ended: usize,
}

/// The bus between the branches.
pub(crate) struct Wire {
    dice: Dice,
    letters: Vec<Letter>,
    /// Until which step nothing goes from one branch to another.
    cut_until: BTreeMap<(u16, u16), u64>,
    seen: BTreeMap<(u16, u16), Seen>,
    pub(crate) tally: Tally,
}

impl Wire {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            dice,
            letters: Vec::new(),
            cut_until: BTreeMap::new(),
            seen: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Two branches do not hear each other, or one does not hear the other.
    pub(crate) fn cut(&mut self, from: u16, to: u16, until: u64) {
        self.tally.trouble(Trouble::Partition);
        self.cut_until.insert((from, to), until);
        if self.dice.chance(1, 2) {
            self.cut_until.insert((to, from), until);
        }
    }

    /// Takes a message with whatever befalls it.
    pub(crate) fn take(&mut self, from: u16, message: Outgoing, step: u64) {
        if self.cut_until.get(&(from, message.to)).is_some_and(|until| step < *until) {
            return;
        }
        match self.dice.below(48) {
            0..3 => self.tally.trouble(Trouble::MessageLost),
            3..6 => {
                self.tally.trouble(Trouble::MessageDoubled);
                let due = step + self.dice.below(20);
                self.letters.push(Letter { message: message.clone(), due });
                self.letters.push(Letter { message, due: step });
            }
            6..12 => {
                self.tally.trouble(Trouble::MessageLate);
                let due = step + [self.dice.between(1, 6), self.dice.between(10, 120)][self.dice.index(2)];
                self.letters.push(Letter { message, due });
            }
            12 => {
                self.tally.trouble(Trouble::MessageDamaged);
                let mut bytes = message.bytes.to_vec();
                let at = self.dice.index(bytes.len());
                bytes[at] ^= 1 << self.dice.below(8);
                self.letters.push(Letter { message: Outgoing { bytes: bytes.into(), ..message }, due: step });
            }
            _ => self.letters.push(Letter { message, due: step }),
        }
    }

    /// The next message that arrives: any that is due.
    pub(crate) fn next(&mut self, step: u64) -> Option<Outgoing> {
        let due: Vec<usize> = self
            .letters
            .iter()
            .enumerate()
            .filter(|(_, letter)| letter.due <= step)
            .map(|(at, _)| at)
            .collect();
        let at = *self.dice.pick(&due)?;
        Some(self.letters.swap_remove(at).message)
    }

    /// Whether some messages stay on their way in a step.
    pub(crate) fn dawdles(&mut self) -> bool {
        self.dice.chance(1, 8)
    }

    /// The weather clears; what was held back comes now.
    pub(crate) fn clear(&mut self) {
        self.cut_until.clear();
        self.letters.iter_mut().for_each(|letter| letter.due = 0);
    }

    /// Takes a message on a bus that works.
    pub(crate) fn hold(&mut self, message: Outgoing) {
        self.letters.push(Letter { message, due: 0 });
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Compares what two branches say of the payments from `from` to `to`, as far as it was not compared.
    ///
    /// # Errors
    ///
    /// In words, where they differ.
    pub(crate) fn compare<D: Storage>(&mut self, from: &Cell<D>, to: &Cell<D>) -> Result<(), Broken> {
        let numbers = (from.site.number, to.site.number);
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
        if into.came.len() > out.sent.len() && is_seen_whole(from) {
            let (came, sent) = (into.came.len(), out.sent.len());
            return Err(format!("branch {} received {came} payments, {sent} were sent", numbers.1));
        }
        if out.done > into.came.len() && is_seen_whole(to) {
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
    pub(crate) fn compare_books<D: Storage>(&mut self, one: &Cell<D>, other: &Cell<D>) -> Result<(), Broken> {
        if !agree(one, other) {
            return Ok(());
        }
        let book = |cell: &Cell<D>| cell.site.is_open() && !cell.site.disk.is_dark() && !cell.put_back;
        if !book(one) || !book(other) {
            return Ok(());
        }
        let books = [one, other].map(|cell| cell.site.branch().and_then(|branch| branch.book()));
        let [Some(left), Some(right)] = books else { return Ok(()) };
        let apart = [(left, right), (right, left)].iter().any(|(book, peer)| {
            let channel = book.channel(peer.branch());
            channel.is_some_and(|known| known.is_stopped() || known.incarnation != peer.incarnation())
        });
        if apart {
            return Ok(());
        }
        self.tally.state(State::PairChecked);
        check_pair(left, right).map_err(|why| format!("beside branch {}: {why}", other.site.number))
    }
}

/// Whether neither has lost anything that it has not taken back, as far as their journals tell.
fn agree<D: Storage>(one: &Cell<D>, other: &Cell<D>) -> bool {
    if one.lives + other.lives == 0 {
        return true;
    }
    let lost = |cell: &Cell<D>| cell.put_back || cell.behind;
    let knows = |cell: &Cell<D>, peer: &Cell<D>| {
        let line = cell.oracle.model.peers.get(&peer.site.number);
        line.is_none_or(|line| {
            line.stopped == [false; 2] && line.incarnation == peer.oracle.model.incarnation
        })
    };
    !lost(one) && !lost(other) && knows(one, other) && knows(other, one)
}

/// Whether everything durable of a branch was seen, and it remembers no less.
fn is_seen_whole<D: Storage>(cell: &Cell<D>) -> bool {
    let open = cell.site.is_open() && !cell.site.disk.is_dark();
    open && cell.site.reader().is_some_and(|reader| reader.head().position.0 == cell.oracle.position())
}

/// What must hold of two branches when nothing is on its way between them.
///
/// # Errors
///
/// In words, what does not.
pub(crate) fn check_rest<D: Storage>(one: &Cell<D>, other: &Cell<D>) -> Result<(), Broken> {
    let sums = |cell: &Cell<D>, peer: u16| -> BTreeMap<u16, i128> {
        let model = &cell.oracle.model;
        let heads = model.accounts.values().filter(|account| !account.is_customer());
        let of = |account: &&crate::model::account::Account| model.is_between(account.reference, peer);
        heads.filter(of).map(|account| (account.currency.number(), account.balance())).collect()
    };
    let (left, right) = (sums(one, other.site.number), sums(other, one.site.number));
    for (currency, balance) in &left {
        if right.get(currency).copied().unwrap_or(0) != -balance {
            return Err(format!("the positions do not mirror each other: {left:?} and {right:?}"));
        }
    }
    for (here, there) in [(one, other), (other, one)] {
        if here.oracle.model.on_the_way(there.site.number) != 0 {
            return Err(format!("money stays on its way to branch {}", there.site.number));
        }
    }
    Ok(())
}
