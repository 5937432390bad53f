//! The bus inside one process: what one thread sends is in the other's inbox when the call returns.
//!
//! ```text
//! LocalBus ── route (cached) ──► Inbox of another LocalBus      asked, told: at most once
//!    │
//!    └────── store ──► Stream (a mutex, a queue per group and label) ◄── take, settle ── LocalBus
//! ```
//!
//! Nothing here is durable: streams and dead letters live as long as the [`LocalExchange`]. It has no thread and no clock;
//! one seed and one order of calls give one run.

mod endpoint;
mod routes;
mod settle;
mod stream;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use endpoint::LocalBus;

use crate::error::{ConnectError, OrderFault, RequestFault};
use crate::inbox::Inbox;
use crate::message::Message;
use crate::options::{Limits, Order, Outcome, StreamSpec};
use crate::seam::{Connect, Moment, SubscriptionId, Ticket};
use crate::text::{Name, Pattern, Subject};
use routes::{Member, Route};
use stream::{GroupKey, Stream};

/// Where the endpoints of one process meet. Clones are the same exchange.
#[derive(Debug, Clone, Default)]
pub struct LocalExchange {
    shared: Arc<Exchange>,
}

impl Connect for LocalExchange {
    type Bus = LocalBus;

    fn connect(&self, name: Name, limits: Limits) -> Result<LocalBus, ConnectError> {
        if !self.shared.change().endpoints.insert(name) {
            return Err(ConnectError::NameInUse(name));
        }
        Ok(LocalBus::new(name, limits, Arc::clone(&self.shared)))
    }
}

/// What one endpoint puts into another's inbox.
#[derive(Debug)]
enum Parcel {
    Ask {
        subscription: SubscriptionId,
        message: Message,
        from: Arc<Inbox<Parcel>>,
        ticket: Ticket,
        deadline: Moment,
    },
    Reply {
        ticket: Ticket,
        outcome: Result<Message, RequestFault>,
    },
    Copy {
        subscription: SubscriptionId,
        message: Message,
    },
}

/// The lane of an inbox where replies wait.
const REPLIES: usize = 0;

/// The lane for word of replies that found no room in that one.
const DROPPED: usize = 1;

#[derive(Debug, Default)]
struct Exchange {
    tables: RwLock<Tables>,
    /// Raised with every change of the tables; routes of an older version are made anew.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    endpoints: BTreeSet<Name>,
    members: Vec<Arc<Member>>,
    streams: Vec<Arc<Stream>>,
    instances: u64,
}

impl Exchange {
    fn look(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Tables> {
        let tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::SeqCst);
        tables
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn route(&self, subject: &Subject) -> Route {
        let tables = self.look();
        let stream = tables.streams.iter().find(|stream| stream.keeps(subject)).cloned();
        Route::new(self.version(), &tables.members, stream, subject)
    }

    fn stream(&self, name: Name) -> Option<Arc<Stream>> {
        self.look().streams.iter().find(|stream| stream.name == name).cloned()
    }

    /// A number for an instance, never used again.
    fn instance(&self) -> u64 {
        let mut tables = self.change();
        tables.instances += 1;
        tables.instances
    }

    fn declare(&self, spec: StreamSpec) -> Result<(), OrderFault> {
        let mut tables = self.change();
        let overlaps = |subjects: &[Pattern]| {
            spec.subjects.iter().any(|ours| subjects.iter().any(|theirs| ours.overlaps(theirs)))
        };
        let others = tables.streams.iter().filter(|stream| stream.name != spec.name);
        if let Some(other) = others.into_iter().find(|stream| overlaps(&stream.subjects())) {
            return Err(OrderFault::Conflict(other.name));
        }
        if let Some(stream) = tables.streams.iter().find(|stream| stream.name == spec.name) {
            return stream.redeclare(spec);
        }
        tables.streams.push(Arc::new(Stream::new(spec)));
        Ok(())
    }

    fn carry_out(&self, order: Order) -> Result<Outcome, OrderFault> {
        let stream = |name| self.stream(name).ok_or(OrderFault::NoStream);
        match order {
            Order::Declare(spec) => self.declare(spec)?,
            Order::DeadLetters { stream: name, after, limit } => {
                return Ok(Outcome::DeadLetters(stream(name)?.dead_letters(after, limit)));
            }
            Order::Replay { stream: name, number } => stream(name)?.replay(number)?,
            Order::Discard { stream: name, number } => stream(name)?.discard(number)?,
            Order::Forget { stream: name, group, every } => {
                stream(name)?.forget(GroupKey { every, name: group })?;
            }
        }
        Ok(Outcome::Done)
    }
}
