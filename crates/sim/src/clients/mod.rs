//! The clients of one branch: what they asked, what they were told, and whether the two agree with the model.
//!
//! They know what a client may know: requests and replies. A reply is held against everything they were told
//! before at once, and against the model as soon as that has seen the place which the reply names.

mod answers;
pub(crate) mod commands;
mod promises;
mod requests;
pub(crate) mod transfers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use skerry_book::{Book, Command, Done};
use skerry_branch::api::{
    Accepted, AccountView, Actor, Cause, PaymentView, Principal, Read, Reply, Role, Scope,
};
use skerry_ledger::{Transfer, TransferId};

use crate::dice::Dice;
use crate::model::{AllAsked, Broken, Key, Model};
use crate::site::seed;
use crate::tally::{State, Tally};

/// A client: who they are, as the gateway would say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) principal: Principal,
    pub(crate) role: Role,
    pub(crate) scope: Scope,
}

/// The number of an operator among the clients.
pub(crate) const OPERATOR: usize = 0;
/// The number of the second operator.
pub(crate) const SECOND: usize = 1;
/// The number of a program of the bank.
pub(crate) const SERVICE: usize = 2;
/// The number of the first customer's own token.
pub(crate) const CUSTOMER: usize = 3;
/// The number of the auditor.
pub(crate) const AUDITOR: usize = 4;

/// All clients, by their numbers.
pub(crate) fn client(number: usize) -> Client {
    let (name, role) = [
        ("operator-1", Role::Operator),
        ("operator-2", Role::Operator),
        ("service", Role::Service),
        ("customer-1", Role::Customer),
        ("auditor", Role::Auditor),
    ][number];
    let customer = (number == CUSTOMER).then_some(1);
    Client { principal: Principal::new(name).expect("a short name"), role, scope: Scope { customer } }
}

impl Client {
    pub(crate) fn actor(&self, request: [u8; 16]) -> Actor {
        let Self { principal, role, .. } = *self;
        Actor { principal, role, request, approver: None, cause: Cause::Request }
    }
}

/// A transfer as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) transfer: Transfer,
    /// A reference too long for the record.
    pub(crate) text: String,
    /// Bytes of an encrypted note.
    pub(crate) note: usize,
}

/// Transfers that are sent together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) by: usize,
    pub(crate) packed: bool,
    /// One debit for many payees, or none.
    pub(crate) together: bool,
    pub(crate) lines: Vec<Line>,
}

/// A command as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) by: usize,
    pub(crate) command: Command,
    pub(crate) key: Option<[u8; 16]>,
    pub(crate) request: [u8; 16],
    /// When it was first asked, by the world's clock.
    pub(crate) asked_us: u64,
}

/// Clients send a command again within this time: less than the day for which keys are kept.
const KEYS_KEPT_US: u64 = 20 * 3_600 * 1_000_000;

/// What became of a request for a transfer, as far as its clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody has answered yet.
    Open,
    /// It may have happened or not.
    Unknown,
    /// It happened, recorded at this position.
    Done(u64),
    /// It was refused for good with this number.
    Refused(u16),
    /// It did not happen.
    Nothing,
}

/// A promise that the model has still to confirm.
#[derive(Debug, Clone)]
enum Promise {
    Done { key: Key, position: u64, told: Option<Box<Accepted>> },
    Refused { key: Key, code: u16 },
    Command { key: u128, done: Done },
    Made(Done),
    Read(Box<AccountView>),
    Payment(Box<PaymentView>),
}

/// What was asked with a ticket.
enum Asking {
    Batch(Batch, Vec<Key>),
    Order(Order),
    Read(Read),
    Checkpoint,
    /// Bytes that are no transfers.
    Rubbish,
}

impl Asking {
    /// What was asked of the node `at`.
    fn words(&self, at: usize) -> String {
        match self {
            Self::Batch(batch, _) => format!("{} transfers at {at}", batch.lines.len()),
            Self::Order(order) => format!("command {} at {at}", order.command.name()),
            Self::Read(read) => format!("{read:?} at {at}"),
            Self::Checkpoint => format!("a checkpoint at {at}"),
            Self::Rubbish => format!("rubbish at {at}"),
        }
    }
}

struct Ticket {
    asking: Asking,
    /// The highest position that clients were told of when they asked.
    told: u64,
    /// How far the journal had been walked when they asked.
    walked: u64,
    /// It was sent with a MAC that is not the gateway's.
    forged: bool,
    /// It was sent with a deadline.
    deadline: bool,
    /// Which node was asked.
    at: usize,
}

/// Replies on their way to the clients.
type Inbox = Arc<Mutex<VecDeque<(u64, Reply)>>>;

/// The clients of one branch.
pub(crate) struct Desk {
    pub(crate) asked: AllAsked,
    fates: BTreeMap<Key, Fate>,
    tickets: BTreeMap<u64, Ticket>,
    next_ticket: u64,
    inbox: Inbox,
    promises: Vec<Promise>,
    /// Sent, and the answer never came or was *unknown*.
    unknown: VecDeque<Batch>,
    unknown_orders: VecDeque<Order>,
    /// To be looked up in the history: too late to be asked again.
    pub(crate) expired: Vec<Key>,
    /// Commands that were done, and with what result.
    orders: Vec<(Order, Done)>,
    /// Sent before, to be sent again by whoever likes to.
    sent: Vec<Batch>,
    /// The highest position that was told.
    told: u64,
    /// Records before this position are in the archive.
    pub(crate) archived: u64,
    /// Nothing is forged and nothing has a deadline.
    plainly: bool,
    /// Which node is asked, where there are several.
    pub(crate) at: usize,
    /// Tickets whose owners wait no more.
    gone: BTreeSet<u64>,
    /// Computes keys as the branch does.
    words: Book,
    pub(crate) dice: Dice,
}

impl Desk {
    pub(crate) fn new(number: u16, dice: Dice) -> Self {
        Self {
            asked: AllAsked::new(),
            fates: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
            inbox: Inbox::default(),
            promises: Vec::new(),
            unknown: VecDeque::new(),
            unknown_orders: VecDeque::new(),
            expired: Vec::new(),
            orders: Vec::new(),
            sent: Vec::new(),
            told: 0,
            archived: 0,
            plainly: false,
            at: 0,
            gone: BTreeSet::new(),
            words: Book::new(number, seed()),
            dice,
        }
    }

    /// Whether something is still open: a request without an answer, or an answer that settles nothing.
    pub(crate) fn is_settled(&self) -> bool {
        self.tickets.is_empty()
            && self.unknown.is_empty()
            && self.unknown_orders.is_empty()
            && self.expired.is_empty()
    }

    /// What is still open, in words.
    pub(crate) fn unsettled(&self) -> String {
        let expired: Vec<String> = self.expired.iter().map(|key| format!("{:032x}", key.0.0)).collect();
        let (unknown, orders) = (self.unknown.len(), self.unknown_orders.len());
        let waiting: Vec<String> =
            self.tickets.values().map(|ticket| ticket.asking.words(ticket.at)).collect();
        format!("{unknown} batches, {orders} commands, too late to ask {expired:?}, waiting {waiting:?}")
    }

    /// Positions below this were told to somebody.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    pub(crate) fn open_tickets(&self) -> usize {
        self.tickets.len()
    }

    /// Something of unknown fate, to be sent again.
    pub(crate) fn take_unknown(&mut self) -> Option<Batch> {
        self.unknown.pop_front()
    }

    /// The same of commands; one that is so old that its key may be forgotten is given up.
    pub(crate) fn take_unknown_order(&mut self, now_us: u64) -> Option<Order> {
        self.unknown_orders.retain(|order| order.asked_us + KEYS_KEPT_US > now_us);
        self.unknown_orders.pop_front()
    }

    /// A command that was done not long ago.
    pub(crate) fn earlier_order(&mut self, now_us: u64) -> Option<Order> {
        let (order, _) = self.dice.pick(&self.orders)?;
        (order.asked_us + KEYS_KEPT_US > now_us).then(|| order.clone())
    }

    /// Something that was sent before.
    pub(crate) fn earlier(&mut self) -> Option<Batch> {
        self.dice.pick(&self.sent).cloned()
    }

    /// The process is gone: whoever waits will never hear.
    pub(crate) fn hang_up(&mut self, tally: &mut Tally) {
        self.replies().clear();
        for (number, ticket) in std::mem::take(&mut self.tickets) {
            self.gone.insert(number);
            self.lose(ticket.asking, tally);
        }
    }

    /// Whoever asked the node `at` waits no more, and does not listen to what it may still say.
    pub(crate) fn hang_up_at(&mut self, at: usize, tally: &mut Tally) {
        let gone: Vec<u64> =
            self.tickets.iter().filter(|(_, ticket)| ticket.at == at).map(|(number, _)| *number).collect();
        for number in gone {
            self.gone.insert(number);
            if let Some(ticket) = self.tickets.remove(&number) {
                self.lose(ticket.asking, tally);
            }
        }
    }

    /// Whether somebody waits for an answer of the node `at`.
    pub(crate) fn is_waiting_at(&self, at: usize) -> bool {
        self.tickets.values().any(|ticket| ticket.at == at)
    }

    /// Every promise that was made so far must have been borne out by the journal.
    ///
    /// # Errors
    ///
    /// In words, which was not.
    pub(crate) fn check_borne_out(&self) -> Result<(), Broken> {
        self.promises
            .first()
            .map_or(Ok(()), |promise| Err(format!("was answered, but is not in the journal: {promise:?}")))
    }

    fn replies(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Reply)>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fate of what was asked is not known.
    fn lose(&mut self, asking: Asking, tally: &mut Tally) {
        tally.state(State::Unknown);
        match asking {
            Asking::Batch(batch, keys) => {
                for key in keys {
                    let fate = self.fates.entry(key).or_insert(Fate::Open);
                    // Another copy of it may have been answered; this one may have happened.
                    if matches!(fate, Fate::Open | Fate::Nothing) {
                        *fate = Fate::Unknown;
                    }
                }
                self.unknown.push_back(batch);
            }
            Asking::Order(order) if order.key.is_some() => self.unknown_orders.push_back(order),
            _ => {}
        }
    }

    /// Holds every promise whose place the model has seen against it.
    ///
    /// # Errors
    ///
    /// In words, which promise was broken.
    pub(crate) fn confirm(&mut self, model: &Model) -> Result<(), Broken> {
        let mut waiting = Vec::new();
        for promise in std::mem::take(&mut self.promises) {
            if !promises::confirmed(&promise, model)? {
                waiting.push(promise);
            }
        }
        self.promises = waiting;
        Ok(())
    }

    /// After an opening, all that was promised before must have been confirmed.
    ///
    /// # Errors
    ///
    /// In words, what is not there.
    pub(crate) fn check_kept(&mut self, model: &Model) -> Result<(), Broken> {
        self.confirm(model)?;
        if let Some(promise) = self.promises.first() {
            return Err(format!("was acknowledged, but is not in the journal after opening: {promise:?}"));
        }
        let under_way = |key: &Key| {
            let asked =
                |ticket: &Ticket| matches!(&ticket.asking, Asking::Batch(_, keys) if keys.contains(key));
            self.tickets.values().any(asked)
        };
        for (key, fate) in &self.fates {
            match fate {
                Fate::Done(position) if model.fact(key.0).map(|fact| fact.position) != Some(*position) => {
                    return Err(format!("{:032x} was acknowledged at {position}, but is not there", key.0.0));
                }
                Fate::Nothing
                    if model.fact(key.0).is_some_and(|fact| fact.moved.digest == key.1)
                        && !under_way(key) =>
                {
                    return Err(format!("{:032x} was answered as not done, but is there", key.0.0));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A restore has taken back what the model no longer has. Returns how much of it was acknowledged.
    pub(crate) fn forget_lost(&mut self, model: &Model) -> u64 {
        let mut lost = 0;
        for (key, fate) in &mut self.fates {
            let there = match fate {
                Fate::Done(_) => model.fact(key.0).is_some(),
                Fate::Refused(_) => model.refused.contains_key(&key.0),
                _ => true,
            };
            if !there {
                lost += 1;
                *fate = Fate::Nothing;
            }
        }
        self.promises.clear();
        // Serials are given anew: a command of the lost life would now mean somebody else.
        self.unknown_orders.clear();
        self.orders.clear();
        self.told = self.told.min(model.position);
        for ticket in self.tickets.values_mut() {
            ticket.told = ticket.told.min(model.position);
        }
        lost
    }

    /// Payments were taken back that had been lost: what was done under their ids since was withdrawn.
    pub(crate) fn forget_withdrawn(&mut self, taken_back: &[TransferId]) {
        for (key, fate) in &mut self.fates {
            match fate {
                Fate::Done(_) if taken_back.contains(&key.0) => *fate = Fate::Nothing,
                // What was refused while it was lost is there again.
                Fate::Nothing if taken_back.contains(&key.0) => *fate = Fate::Unknown,
                _ => {}
            }
        }
        let about = |promise: &Promise| match promise {
            Promise::Done { key, .. } => Some(key.0),
            Promise::Payment(view) => Some(view.moved.id),
            _ => None,
        };
        self.promises.retain(|promise| about(promise).is_none_or(|id| !taken_back.contains(&id)));
    }

    /// What the history says of a transfer that was too late to be asked again.
    ///
    /// # Errors
    ///
    /// If that is not what clients were told before.
    pub(crate) fn looked_up(
        &mut self,
        key: Key,
        position: Option<u64>,
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        tally.state(State::ExpiredLookedUp);
        match (self.fates.get(&key), position) {
            (Some(Fate::Done(told)), found) if found != Some(*told) => {
                Err(format!("{:032x} was done at {told}, the history finds {found:?}", key.0.0))
            }
            (_, Some(position)) => {
                self.fates.insert(key, Fate::Done(position));
                Ok(())
            }
            (_, None) => {
                self.fates.insert(key, Fate::Nothing);
                Ok(())
            }
        }
    }
}
