//! What an endpoint tells: events, and counts.

use crate::breaker::BreakerState;
use crate::error::{OrderFault, RequestFault};
use crate::message::Message;
use crate::options::Outcome;
use crate::seam::{AskId, DeliveryId, Moment, SubscriptionId, Ticket};
use crate::text::Subject;

/// What `poll` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request has ended.
    Replied {
        /// Which.
        ticket: Ticket,
        /// The reply, under the request's subject; or why there is none.
        outcome: Result<Message, RequestFault>,
    },
    /// Someone asks; answer before the deadline.
    Asked {
        /// The service.
        subscription: SubscriptionId,
        /// To answer with.
        ask: AskId,
        /// The request.
        message: Message,
        /// After this nobody waits for the answer.
        deadline: Moment,
    },
    /// Something was published.
    Heard {
        /// The subscription.
        subscription: SubscriptionId,
        /// The message.
        message: Message,
    },
    /// A message is stored: from here on B2 holds.
    Stored {
        /// Which.
        ticket: Ticket,
    },
    /// A stored message to handle and settle.
    Delivered {
        /// The subscription.
        subscription: SubscriptionId,
        /// To settle with.
        delivery: DeliveryId,
        /// From 1; more than 1 is a redelivery.
        attempt: u32,
        /// The message.
        message: Message,
    },
    /// An order has ended.
    Ordered {
        /// Which.
        ticket: Ticket,
        /// What it brought.
        outcome: Result<Outcome, OrderFault>,
    },
    /// From here on the subscription gets what any endpoint sends.
    Ready {
        /// Which.
        subscription: SubscriptionId,
    },
    /// The subscription could not be made, and is gone.
    NotReady {
        /// Which.
        subscription: SubscriptionId,
        /// Why.
        fault: OrderFault,
    },
    /// The breaker of a subject has changed.
    Breaker {
        /// The subject.
        subject: Subject,
        /// Its state from here on.
        state: BreakerState,
    },
    /// The way to the other endpoints was lost or found again. A bus inside one process never says so.
    Link {
        /// Whether it is there.
        up: bool,
    },
}

/// Counts since connecting; monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusStats {
    /// Requests taken.
    pub requests: u64,
    /// Requests that ended without a reply.
    pub requests_failed: u64,
    /// Requests of others handed to this endpoint.
    pub asked: u64,
    /// Messages published.
    pub published: u64,
    /// Copies of published messages that found their receiver's queue full, as far as this endpoint knows.
    pub missed: u64,
    /// Messages heard.
    pub heard: u64,
    /// Messages told as stored.
    pub stored: u64,
    /// Deliveries, redeliveries among them.
    pub delivered: u64,
    /// Redeliveries.
    pub redelivered: u64,
    /// Messages that this endpoint made dead letters.
    pub dead: u64,
    /// Calls refused as busy.
    pub busy: u64,
    /// Times the link was lost.
    pub links_lost: u64,
}
