//! The `Bus` seam: request and reply, publish and subscribe, stored messages with acknowledgement.
//!
//! Submit and poll, no `async`: every call takes something and returns at once, [`Bus::poll`] tells later what became of
//! it and what has arrived. Implementations: [`LocalExchange`](crate::LocalExchange) inside one process, `skerry-nats`
//! between processes, [`FaultyBus`](crate::FaultyBus) around either. One suite,
//! [`check_contract`](crate::contract::check_contract), runs on all.
//!
//! # Three ways to travel
//!
//! - **Ask**: [`request`](Bus::request) reaches one server of the subject, whose [`respond`](Bus::respond) comes back.
//!   At most once; after [`RequestFault::Deadline`](crate::RequestFault::Deadline) the asker does not know.
//! - **Tell**: [`publish`](Bus::publish) reaches those who subscribe now. At most once; who is full misses it.
//! - **Store**: [`store`](Bus::store) keeps a message in the stream of its subject until each group of the stream has
//!   acknowledged it. At least once.
//!
//! # What an implementation promises
//!
//! - **B1, order**: messages of one endpoint on one subject, by the same way and of the same label, are first delivered to a
//!   receiver in the order of the calls, as long as none is lost on the way to it: what a lost link or server had in
//!   flight comes again behind what followed, as a redelivery does. With a window of 1 a group gets a stored message only
//!   after all before it are settled, so nothing overtakes, whatever goes away.
//! - **B2, kept**: a message told as [`Event::Stored`] is delivered to every group that its stream had then, until one
//!   of its instances acknowledges it or it is a dead letter; also when instances, and where the implementation is durable
//!   the bus itself, go away in between.
//! - **B3, groups**: each group gets one copy, taken by one instance that takes the message's label; an instance in
//!   [`Share::Every`](crate::Share::Every) gets a copy of its own; a message to one group reaches no other.
//! - **B4, answered**: each request ends in exactly one [`Event::Replied`], at the first poll at or after its deadline at the
//!   latest.
//! - **B5, bounded**: every queue has a bound in messages and in bytes and says busy when it is full; nothing that was taken
//!   is dropped to make room.
//! - **B6, not lost by failing**: a stored message whose handler has failed [`ConsumeOptions::attempts_max`] times is
//!   kept among the stream's dead letters, which can be listed, replayed to that group, and discarded. While they are full
//!   it waits.
//! - **B7, no clock**: time is what `poll` is told. Endpoints of one process are told the same clock.
//! - **B8, traced**: headers arrive as they were sent, on every way and through dead letters; the sender's name is true.

use std::sync::Arc;

use crate::breaker::BreakerState;
use crate::error::{ConnectError, RefusedKind};
use crate::event::{BusStats, Event};
use crate::message::Message;
use crate::options::{Answer, ConsumeOptions, Limits, Order, ServeOptions, Settlement, SubscribeOptions};
use crate::text::{Name, Subject};

/// A moment on a monotonic clock: microseconds since any fixed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `us` microseconds later.
    #[must_use]
    pub const fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}

number!(
    /// A request, a stored message or an order of this endpoint, until its outcome is told.
    Ticket
);
number!(
    /// A subscription of this endpoint.
    SubscriptionId
);
number!(
    /// A request that waits for this endpoint's answer.
    AskId
);
number!(
    /// A stored message that waits for this endpoint's acknowledgement.
    DeliveryId
);

/// Called, from any thread, when `poll` has something new after it had nothing. Must be short and must not call the bus.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Gives endpoints of one bus.
pub trait Connect {
    /// What it gives.
    type Bus: Bus;

    /// An endpoint of this name, which no other living endpoint has.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    fn connect(&self, name: Name, limits: Limits) -> Result<Self::Bus, ConnectError>;
}

/// One endpoint of a bus, used by one thread. Dropping it ends its subscriptions; what it had in hand is delivered to
/// others of its group, requests it has not answered end at their deadline.
pub trait Bus: Send {
    /// The endpoint's name.
    fn name(&self) -> Name;

    /// Asks, and wants the reply before `deadline`.
    ///
    /// # Errors
    ///
    /// Busy, too large, or the subject's breaker is open.
    fn request(&mut self, message: &Message, deadline: Moment) -> Result<Ticket, RefusedKind>;

    /// Serves requests; they are told as [`Event::Asked`].
    ///
    /// # Errors
    ///
    /// Too many subscriptions.
    fn serve(&mut self, options: ServeOptions) -> Result<SubscriptionId, RefusedKind>;

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::TooLate`] if its deadline is over or it was answered; too large, and it can still be answered.
    fn respond(&mut self, ask: AskId, answer: Answer) -> Result<(), RefusedKind>;

    /// Tells whoever subscribes now.
    ///
    /// # Errors
    ///
    /// Busy or too large.
    fn publish(&mut self, message: &Message) -> Result<(), RefusedKind>;

    /// Hears what is published; it is told as [`Event::Heard`].
    ///
    /// # Errors
    ///
    /// Too many subscriptions.
    fn subscribe(&mut self, options: SubscribeOptions) -> Result<SubscriptionId, RefusedKind>;

    /// Stores a message in the stream of its subject; [`Event::Stored`] tells when it is. Until then its fate is unknown, and
    /// the bus goes on trying.
    ///
    /// # Errors
    ///
    /// Busy, too large, no declared stream keeps the subject, or the stream does not know the label.
    fn store(&mut self, message: &Message) -> Result<Ticket, RefusedKind>;

    /// Takes stored messages; they are told as [`Event::Delivered`].
    ///
    /// # Errors
    ///
    /// The stream is not declared, or the figures make no sense.
    fn consume(&mut self, options: ConsumeOptions) -> Result<SubscriptionId, RefusedKind>;

    /// Says what became of a delivery. It takes effect by the time [`poll`](Self::poll) has returned `None`, and may be
    /// lost on the way: then the message is delivered again.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::TooLate`] if this endpoint does not have it in hand.
    fn settle(&mut self, delivery: DeliveryId, settlement: Settlement) -> Result<(), RefusedKind>;

    /// Ends a subscription. What it had in hand goes to others; a group's position is kept.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::TooLate`] if there is no such subscription.
    fn stop(&mut self, subscription: SubscriptionId) -> Result<(), RefusedKind>;

    /// Asks something of the bus itself; told as [`Event::Ordered`].
    ///
    /// # Errors
    ///
    /// Busy, or the order makes no sense.
    fn order(&mut self, order: Order) -> Result<Ticket, RefusedKind>;

    /// The next thing that happened, at `now`, which never runs backwards.
    fn poll(&mut self, now: Moment) -> Option<Event>;

    /// When `poll` may have something even if nothing arrives.
    fn next_due(&self) -> Option<Moment>;

    /// Asks to be woken when `poll` has something new after it returned `None`.
    fn on_event(&mut self, wake: Wake);

    /// The state of a subject's breaker, as this endpoint's requests have made it.
    fn breaker(&self, subject: &Subject) -> BreakerState;

    /// Counts since connecting.
    fn stats(&self) -> BusStats;
}

impl<B: Bus + ?Sized> Bus for Box<B> {
    fn name(&self) -> Name {
        (**self).name()
    }

    fn request(&mut self, message: &Message, deadline: Moment) -> Result<Ticket, RefusedKind> {
        (**self).request(message, deadline)
    }

    fn serve(&mut self, options: ServeOptions) -> Result<SubscriptionId, RefusedKind> {
        (**self).serve(options)
    }

    fn respond(&mut self, ask: AskId, answer: Answer) -> Result<(), RefusedKind> {
        (**self).respond(ask, answer)
    }

    fn publish(&mut self, message: &Message) -> Result<(), RefusedKind> {
        (**self).publish(message)
    }

    fn subscribe(&mut self, options: SubscribeOptions) -> Result<SubscriptionId, RefusedKind> {
        (**self).subscribe(options)
    }

    fn store(&mut self, message: &Message) -> Result<Ticket, RefusedKind> {
        (**self).store(message)
    }

    fn consume(&mut self, options: ConsumeOptions) -> Result<SubscriptionId, RefusedKind> {
        (**self).consume(options)
    }

    fn settle(&mut self, delivery: DeliveryId, settlement: Settlement) -> Result<(), RefusedKind> {
        (**self).settle(delivery, settlement)
    }

    fn stop(&mut self, subscription: SubscriptionId) -> Result<(), RefusedKind> {
        (**self).stop(subscription)
    }

    fn order(&mut self, order: Order) -> Result<Ticket, RefusedKind> {
        (**self).order(order)
    }

    fn poll(&mut self, now: Moment) -> Option<Event> {
        (**self).poll(now)
    }

    fn next_due(&self) -> Option<Moment> {
        (**self).next_due()
    }

    fn on_event(&mut self, wake: Wake) {
        (**self).on_event(wake);
    }

    fn breaker(&self, subject: &Subject) -> BreakerState {
        (**self).breaker(subject)
    }

    fn stats(&self) -> BusStats {
        (**self).stats()
    }
}
