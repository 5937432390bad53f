//! The clients of one branch: what they asked, what they were told, and whether the two agree with the model.
//!
//! They know what a client may know: requests and replies. A reply is held against everything they were told
//! before at once, and against the model as soon as that has seen the place which the reply names.

mod answers;
pub(crate) mod commands;
mod requests;
pub(crate) mod transfers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use skerry_book::{Book, Command, Done};
use skerry_branch::api::{
    Accepted, AccountView, Actor, Cause, PaymentState, PaymentView, Principal, Read, Reply, Role, Scope,
};
use skerry_ledger::{AccountRef, Transfer, TransferId};

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
        format!("{unknown} batches, {orders} commands, too late to ask {expired:?}")
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
        for (_, ticket) in std::mem::take(&mut self.tickets) {
            self.lose(ticket.asking, tally);
        }
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
            if !confirmed(&promise, model)? {
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
        for (key, fate) in &self.fates {
            match fate {
                Fate::Done(position) if model.fact(key.0).map(|fact| fact.position) != Some(*position) => {
                    return Err(format!("{:032x} was acknowledged at {position}, but is not there", key.0.0));
                }
                Fate::Nothing if model.fact(key.0).is_some_and(|fact| fact.moved.digest == key.1) => {
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
            if taken_back.contains(&key.0) && matches!(fate, Fate::Done(_)) {
                *fate = Fate::Nothing;
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

/// Whether the model bears the promise out; `false` if it has not come so far.
fn confirmed(promise: &Promise, model: &Model) -> Result<bool, Broken> {
    match promise {
        Promise::Done { position, .. } if *position >= model.position => Ok(false),
        Promise::Done { key, position, told } => {
            let fact =
                model.fact(key.0).filter(|fact| fact.position == *position && fact.moved.digest == key.1);
            let Some(fact) = fact else {
                return Err(format!(
                    "{:032x} was acknowledged at {position}, where something else is",
                    key.0.0
                ));
            };
            let same = told.as_ref().is_none_or(|told| is_told_right(told, fact));
            if same {
                Ok(true)
            } else {
                Err(format!("acknowledged was {told:?}, recorded is {:?}", fact.moved))
            }
        }
        Promise::Refused { key, code } => match model.refused.get(&key.0) {
            Some(sticky) if sticky.digest == key.1 && sticky.code == *code => Ok(true),
            Some(sticky) => Err(format!("{:032x} was refused with {code}, recorded is {sticky:?}", key.0.0)),
            None => Ok(false),
        },
        Promise::Command { key, done } => match model.keys.get(key) {
            Some((kept, _)) if kept == done => Ok(true),
            Some((kept, _)) => Err(format!("a command was answered {done:?}, recorded is {kept:?}")),
            None => Ok(false),
        },
        Promise::Made(Done::Plain) => Ok(true),
        Promise::Made(Done::Customer(serial)) => Ok(*serial as usize <= model.customers.len()),
        Promise::Made(Done::Account(account)) => Ok(model.accounts.contains_key(account)),
        Promise::Read(view) if view.position > model.position => Ok(false),
        Promise::Read(view) => check_view(view, model).map(|()| true),
        Promise::Payment(view) if view.position >= model.position => Ok(false),
        Promise::Payment(view) => check_payment(view, model),
    }
}

/// Where the money of a payment is said to be.
fn check_payment(view: &PaymentView, model: &Model) -> Result<bool, Broken> {
    let peer = model.peers.get(&view.moved.credit.branch());
    let mut gone = peer.into_iter().flat_map(|peer| &peer.withdrawn);
    if let Some((.., until)) = gone.find(|(way, from, _)| (way.id, *from) == (view.moved.id, view.position)) {
        return match view.state {
            PaymentState::Returned { position, .. } if position != *until => {
                Err(format!("a payment withdrawn at {until} is said to be {:?}", view.state))
            }
            _ => Ok(true),
        };
    }
    let sent = peer.map(|peer| &peer.sent);
    let index = usize::try_from(view.n).unwrap_or(0).wrapping_sub(1);
    let out = sent.and_then(|sent| sent.get(index)).filter(|out| out.way.id == view.moved.id);
    let out = out.ok_or_else(|| format!("tells of a payment that was not sent: {view:?}"))?;
    let told = match view.state {
        PaymentState::Sent => return Ok(out.position == view.position),
        PaymentState::Settled => (0, out.end.map_or(0, |(_, position)| position)),
        PaymentState::Returned { outcome, position, .. } => (outcome, position),
    };
    match out.end {
        None => Ok(false),
        Some(end) if end == told => Ok(true),
        Some(end) => Err(format!("a payment is said to be {:?}, it ended with {end:?}", view.state)),
    }
}

fn is_told_right(told: &Accepted, fact: &crate::model::Fact) -> bool {
    let moved = &fact.moved;
    told.kind == moved.kind
        && (told.debit, told.credit, told.amount) == (moved.debit, moved.credit, moved.amount)
        && told.currency == moved.currency
        && told.time_us == moved.time_us
        && (told.business_date, told.value_date) == (moved.business_date, moved.value_date)
}

fn check_view(view: &AccountView, model: &Model) -> Result<(), Broken> {
    let AccountView { reference, account, position } = view;
    let (posted, held) = model.sums_at(*reference, *position);
    let same = posted == [account.debits_posted, account.credits_posted]
        && held == [account.debits_pending, account.credits_pending];
    if same {
        return Ok(());
    }
    let AccountRef(number) = reference;
    Err(format!(
        "account {number:016x} was read at {position} as {account:?}, was {posted:?} and held {held:?}"
    ))
}
