//! The naive bank: what a branch must be, added up from its journal in plain maps.
//!
//! It is told every durable event in the order of the journal, and every transfer that clients have asked for.
//! Before it believes an event it judges for itself ([`judge`]) whether that had to happen: a transfer
//! that moved must have been asked for, be allowed, and come to that amount; a refusal that sticks must be the right
//! one. It shares no code with ledger and book beyond their words.
//!
//! It knows no file, no time and no branch at work.

pub(crate) mod account;
mod bookkeeping;
pub(crate) mod crossing;
mod judge;
mod questions;

use std::collections::BTreeMap;

use skerry_book::channel::received_id;
use skerry_book::event::Refused;
use skerry_book::{Done, Event};
use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Stamp, Transfer, TransferId};
use skerry_money::Date;

use account::{Account, CREDIT, DEBIT};
use crossing::Peer;

/// Which request for a transfer: its id, and the digest that tells it from another with the same id.
pub(crate) type Key = (TransferId, u64);

/// A transfer that some client has asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) transfer: Transfer,
    /// It was sent in a linked chain, so its refusal may be another member's fault.
    pub(crate) in_chain: bool,
}

/// All transfers that were ever asked of a branch.
pub(crate) type AllAsked = BTreeMap<Key, Asked>;

/// Something that happened to money.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact {
    pub(crate) position: u64,
    /// As statements show it.
    pub(crate) moved: Moved,
    /// The accounts of this branch that it moved.
    pub(crate) sides: [AccountRef; 2],
    /// Under which id it is found.
    pub(crate) key: TransferId,
    /// No statement shows it.
    pub(crate) unseen: bool,
}

/// A refusal that sticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sticky {
    pub(crate) digest: u64,
    pub(crate) code: u16,
}

/// A customer.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) key_ref: u64,
    pub(crate) document: [u8; 32],
    pub(crate) sealed: Box<[u8]>,
    pub(crate) erased: bool,
}

/// One branch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) number: u16,
    /// How many events it was told.
    pub(crate) position: u64,
    pub(crate) day: Option<Date>,
    pub(crate) live: Option<Date>,
    pub(crate) incarnation: u32,
    pub(crate) accounts: BTreeMap<AccountRef, Account>,
    /// Heads by slot.
    pub(crate) slots: Vec<AccountRef>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) by_id: BTreeMap<TransferId, usize>,
    /// The fact that resolved a hold or reversed a transfer, by the id of that.
    pub(crate) resolved: BTreeMap<TransferId, usize>,
    pub(crate) refused: BTreeMap<TransferId, Sticky>,
    pub(crate) customers: Vec<Customer>,
    /// What a key was used for, and when.
    pub(crate) keys: BTreeMap<u128, (Done, u64)>,
    /// Payments to and from other branches.
    pub(crate) peers: BTreeMap<u16, Peer>,
    /// Payments that had been lost and were taken back, for whoever remembers them otherwise.
    pub(crate) taken_back: Vec<TransferId>,
    pub(crate) counts: Counts,
    /// Records before this position are in the archive.
    pub(crate) archived: u64,
}

/// What happened how often, for the tally.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) days: u64,
    pub(crate) expired: u64,
}

/// What does not hold.
pub(crate) type Broken = String;

impl Model {
    pub(crate) fn new(number: u16) -> Self {
        Self { number, ..Self::default() }
    }

    /// Takes in the next event.
    ///
    /// # Errors
    ///
    /// In words, why it cannot have happened.
    pub(crate) fn take(&mut self, stamp: Stamp, event: &Event, asked: &AllAsked) -> Result<(), Broken> {
        let taken = match event {
            Event::Moved(moved) => self.take_moved(stamp, moved, asked),
            Event::Refused(refused) => self.take_refused(stamp, refused, asked),
            Event::Sent(_)
            | Event::Received(_)
            | Event::Settled(_)
            | Event::Returned(_)
            | Event::ChannelOpened(_)
            | Event::ChannelStopped(_)
            | Event::ChannelResuming(_)
            | Event::ChannelResumed(_) => self.take_crossing(stamp, event, asked),
            other => self.take_bookkeeping(stamp, other),
        };
        taken.map_err(|why| format!("record {} ({}): {why}", self.position, brief(event)))?;
        self.position += 1;
        Ok(())
    }

    pub(crate) fn fact(&self, id: TransferId) -> Option<&Fact> {
        self.facts.get(*self.by_id.get(&id)?)
    }

    /// Whether what `id` was used for may lie in the archive.
    pub(crate) fn is_archived(&self, id: TransferId) -> bool {
        let moved = self.fact(id).is_some_and(|fact| fact.position < self.archived);
        moved || (self.archived > 0 && self.refused.contains_key(&id))
    }

    pub(crate) fn resolution(&self, id: TransferId) -> Option<&Fact> {
        self.facts.get(*self.resolved.get(&id)?)
    }

    /// The open hold with this id.
    pub(crate) fn hold(&self, id: TransferId) -> Option<&Fact> {
        let open = |fact: &&Fact| fact.moved.kind == MovedKind::Held && !self.resolved.contains_key(&id);
        self.fact(id).filter(open)
    }

    fn take_moved(&mut self, stamp: Stamp, moved: &Moved, asked: &AllAsked) -> Result<(), Broken> {
        if moved.kind == MovedKind::HoldExpired {
            self.check_expiry(stamp, moved)?;
        } else {
            self.check_asked(stamp, moved, asked)?;
        }
        let waits = moved.kind == MovedKind::Held && self.is_elsewhere(moved.credit);
        if !waits && self.is_elsewhere(moved.credit) {
            return Err("moves money to another branch without sending it".to_owned());
        }
        let credit = if waits { self.transit(moved.credit.branch(), moved.currency) } else { moved.credit };
        self.happen(moved, [moved.debit, credit], moved.id, moved.related);
        Ok(())
    }

    fn check_expiry(&self, stamp: Stamp, moved: &Moved) -> Result<(), Broken> {
        let hold = self.hold(moved.related).ok_or("expires a hold that is not open")?;
        let (sides, hold) = (hold.sides, hold.moved);
        let due_us = u64::from(hold.expires_s) * 1_000_000;
        if hold.expires_s == 0 || stamp.time_us < due_us {
            return Err(format!("a hold due at {due_us} expires at {}", stamp.time_us));
        }
        let same = (sides, hold.amount) == ([moved.debit, moved.credit], moved.amount);
        if same && moved.time_us == stamp.time_us {
            Ok(())
        } else {
            Err("expires with other accounts or amount than it was held with".to_owned())
        }
    }

    fn check_asked(&self, stamp: Stamp, moved: &Moved, asked: &AllAsked) -> Result<(), Broken> {
        if moved.time_us != stamp.time_us {
            return Err(format!("stamped {} in a batch of {}", moved.time_us, stamp.time_us));
        }
        let Some(asked) = asked.get(&(moved.id, moved.digest)) else {
            return Err("moves money that nobody asked to move".to_owned());
        };
        let transfer = &asked.transfer;
        let verdict = self.judge(transfer, stamp);
        let came_to = (moved.kind, [moved.debit, moved.credit], moved.amount);
        if verdict != Ok(came_to) {
            return Err(format!(
                "came to {came_to:?}, should have come to {verdict:?}; asked was {transfer:?}"
            ));
        }
        let flags = Flags(moved.flags.0 & !Flags::TAIL.0);
        let day = transfer.imported.map_or(stamp.business_date, |imported| imported.business_date);
        let as_asked = flags == transfer.flags
            && moved.reference == transfer.reference
            && moved.related == transfer.related
            && moved.business_date == day
            && moved.value_date == transfer.value_date.unwrap_or(day)
            && moved.imported_us == transfer.imported.map_or(0, |imported| imported.time_us);
        if as_asked { Ok(()) } else { Err(format!("is not what was asked: {transfer:?}")) }
    }

    fn take_refused(&mut self, stamp: Stamp, refused: &Refused, asked: &AllAsked) -> Result<(), Broken> {
        let Some(asked) = asked.get(&(refused.id, refused.digest)) else {
            return Err("refuses what nobody asked for".to_owned());
        };
        if self.by_id.contains_key(&refused.id) || self.refused.contains_key(&refused.id) {
            return Err("refuses an id that was used up before".to_owned());
        }
        let verdict = self.judge(&asked.transfer, stamp);
        // A member of a chain is judged after those in front of it, which left no trace: only the ledger saw them.
        if !asked.in_chain && verdict != Err(refused.code) {
            return Err(format!("should have come to {verdict:?}; asked was {:?}", asked.transfer));
        }
        if !asked.in_chain && refused.code == judge::INSUFFICIENT_FUNDS {
            self.check_figures(refused, &asked.transfer)?;
        }
        let sticky = Sticky { digest: refused.digest, code: refused.code };
        self.refused.insert(refused.id, sticky);
        Ok(())
    }

    fn check_figures(&self, refused: &Refused, transfer: &Transfer) -> Result<(), Broken> {
        // A reversal debits what its original credited.
        let debit = match self.original(transfer) {
            Some(original) => original.moved.credit,
            None => transfer.debit,
        };
        let have = self.accounts.get(&debit).map(|account| account.room(DEBIT));
        if have == Some(refused.have) {
            Ok(())
        } else {
            Err(format!("says {} is left, it is {have:?}", refused.have))
        }
    }

    /// What `transfer` resolves or reverses, in this branch or by a payment back to another one.
    pub(crate) fn original(&self, transfer: &Transfer) -> Option<&Fact> {
        let back = transfer.flags.has(Flags::REVERSAL) && self.is_elsewhere(transfer.credit);
        let peer = transfer.credit.branch();
        self.fact(if back { received_id(transfer.related, peer) } else { transfer.related })
    }

    /// Books what has happened on `sides`, to be found under `key`. It ends what `ends` is the key of.
    fn happen(&mut self, moved: &Moved, sides: [AccountRef; 2], key: TransferId, ends: TransferId) {
        let index = self.facts.len();
        let hold = match moved.kind {
            MovedKind::Posted | MovedKind::Held => None,
            _ => self.fact(moved.related).map(|fact| fact.moved),
        };
        let closing = [Flags::CLOSING_DEBIT, Flags::CLOSING_CREDIT];
        for (side, reference) in [(DEBIT, sides[DEBIT]), (CREDIT, sides[CREDIT])] {
            let account = self.accounts.get_mut(&reference).expect("judged, so it exists");
            account.facts.push(index);
            let amount = u128::from(moved.amount);
            match (moved.kind, hold) {
                (MovedKind::Held, _) => {
                    account.held[side] += amount;
                    account.holds += 1;
                    account.closing += u32::from(moved.flags.has(closing[side]));
                }
                (_, Some(hold)) => {
                    account.held[side] -= u128::from(hold.amount);
                    account.holds -= 1;
                    let closes = hold.flags.has(closing[side]);
                    account.closing -= u32::from(closes);
                    if moved.kind == MovedKind::HoldPosted {
                        account.posted[side] += amount;
                        account.closed |= closes;
                    }
                }
                _ => account.posted[side] += amount,
            }
            if moved.imported_us == 0 {
                account.native = true;
            } else {
                account.imported_until_us = account.imported_until_us.max(moved.imported_us);
            }
        }
        if key != TransferId::NONE {
            self.by_id.insert(key, index);
        }
        if ends != TransferId::NONE {
            self.resolved.insert(ends, index);
        }
        self.counts.expired += u64::from(moved.kind == MovedKind::HoldExpired);
        self.facts.push(Fact { position: self.position, moved: *moved, sides, key, unseen: false });
    }
}

/// An event in few words.
fn brief(event: &Event) -> String {
    match event {
        Event::Moved(moved) => format!("{:?} {:032x} of {}", moved.kind, moved.id.0, moved.amount),
        Event::Refused(refused) => format!("refused {:032x} with {}", refused.id.0, refused.code),
        other => {
            let text = format!("{other:?}");
            text.split(['(', ' ']).next().unwrap_or_default().to_owned()
        }
    }
}
