//! What an endpoint is told: its bounds, what it serves, hears and takes, what it answers and orders.

use bytes::Bytes;

use crate::breaker::BreakerOptions;
use crate::error::RefusedKind;
use crate::message::{Headers, Message};
use crate::text::{Name, Pattern};

/// A bound in both measures; a queue is full when either is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most messages.
    pub messages: usize,
    /// Most bytes, as [`Message::size`] counts them.
    pub bytes: usize,
}

impl Bounds {
    /// Both measures.
    #[must_use]
    pub const fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes }
    }

    /// Whether one more message of `bytes` fits beside what is there. An empty queue takes any one message.
    #[must_use]
    pub fn fit(&self, messages: usize, bytes_there: usize, bytes: usize) -> bool {
        messages < self.messages
            && (messages == 0 || bytes_there.checked_add(bytes).is_some_and(|sum| sum <= self.bytes))
    }
}

/// Bounds of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of payload and extra headers in one message.
    pub message_bytes: usize,
    /// Requests in flight.
    pub requests: Bounds,
    /// Requests in flight to one subject.
    pub requests_per_subject: usize,
    /// Replies that wait to be polled, in bytes (their number is bounded by the requests in flight).
    pub reply_bytes: usize,
    /// Requests of others that wait for an answer.
    pub asks: usize,
    /// What waits to be sent, stored messages among it.
    pub outgoing: Bounds,
    /// When to leave a subject alone.
    pub breaker: BreakerOptions,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1_000_000,
            requests: Bounds::new(65_536, 256 << 20),
            requests_per_subject: 16_384,
            reply_bytes: 256 << 20,
            asks: 65_536,
            outgoing: Bounds::new(65_536, 256 << 20),
            breaker: BreakerOptions::default(),
        }
    }
}

/// Which versions of messages an instance takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Takes {
    /// Every message, with or without a label.
    #[default]
    Everything,
    /// Those without a label, if `unlabelled`, and those with one of `labels`.
    Only {
        /// Whether messages without a label are taken.
        unlabelled: bool,
        /// The labels that are taken.
        labels: Vec<Name>,
    },
}

impl Takes {
    /// Only messages without a label.
    #[must_use]
    pub const fn unlabelled() -> Self {
        Self::Only { unlabelled: true, labels: Vec::new() }
    }

    /// Only messages with one of `labels`.
    #[must_use]
    pub fn labelled(labels: &[Name]) -> Self {
        Self::Only { unlabelled: false, labels: labels.to_vec() }
    }

    /// Whether a message with this label is taken.
    #[must_use]
    pub fn takes(&self, label: Option<Name>) -> bool {
        match (self, label) {
            (Self::Everything, _) => true,
            (Self::Only { unlabelled, .. }, None) => *unlabelled,
            (Self::Only { labels, .. }, Some(label)) => labels.contains(&label),
        }
    }
}

/// How a subscription shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The instances of this group share one copy.
    Group(Name),
    /// This instance gets a copy of its own. In a stream its position is kept under the endpoint's name.
    Every,
}

/// Serving requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// The subjects served. All servers of a subject share its requests.
    pub pattern: Pattern,
    /// The versions served.
    pub takes: Takes,
    /// Requests that wait to be polled; beyond that askers hear busy.
    pub queue: Bounds,
}

/// Hearing what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The subjects heard.
    pub pattern: Pattern,
    /// With whom.
    pub share: Share,
    /// The versions heard.
    pub takes: Takes,
    /// Messages that wait to be polled; beyond that they are missed and counted.
    pub queue: Bounds,
}

/// A stream: the subjects whose messages are stored until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: Name,
    /// The subjects it keeps; no two streams keep the same one.
    pub subjects: Vec<Pattern>,
    /// The labels that messages in it may have. Each is an order of its own.
    pub labels: Vec<Name>,
    /// What it keeps that some group has not acknowledged. Beyond that storing is busy.
    pub bounds: Bounds,
    /// Dead letters it keeps. Beyond that, failing messages wait.
    pub dead: Bounds,
}

/// Taking stored messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// The stream, which this endpoint has declared.
    pub stream: Name,
    /// With whom. From the first instance on, the group gets what is stored, also while no instance is there.
    pub share: Share,
    /// The subjects the group wants; what an instance says last holds for all.
    pub filter: Pattern,
    /// The versions this instance takes, among the stream's.
    pub takes: Takes,
    /// Messages of one label that the whole group has in hand at a time; 1 keeps strict order.
    pub window: u32,
    /// A message in hand so long without acknowledgement is delivered again.
    pub ack_wait_us: u64,
    /// Deliveries of a message before it is a dead letter.
    pub attempts_max: u32,
}

impl ConsumeOptions {
    /// All of `stream`, for `share`: a window of 256, 30 s, five attempts.
    #[must_use]
    pub fn new(stream: Name, share: Share) -> Self {
        Self {
            stream,
            share,
            filter: Pattern::all(),
            takes: Takes::Everything,
            window: 256,
            ack_wait_us: 30_000_000,
            attempts_max: 5,
        }
    }
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every answer is the large one")]
pub enum Answer {
    /// It was handled; this is the reply, be it yes or no.
    Reply {
        /// The reply's headers.
        headers: Headers,
        /// What it says.
        payload: Bytes,
    },
    /// It was not handled, for want of room.
    Busy,
    /// The handler failed; up to 200 bytes of why.
    Failed(Box<str>),
}

impl Answer {
    /// A reply without headers of its own.
    #[must_use]
    pub fn reply(payload: impl Into<Bytes>) -> Self {
        Self::Reply { headers: Headers::default(), payload: payload.into() }
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is handled: the group needs it no more.
    Done,
    /// It failed: deliver it again after so many microseconds, unless its attempts are used up.
    Retry {
        /// How long to wait.
        after_us: u64,
    },
    /// It cannot succeed: make it a dead letter now; up to 200 bytes of why.
    Dead(Box<str>),
}

/// Something asked of the bus itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Make the stream be there, with these subjects, labels and bounds. Every endpoint that stores in it or takes from
    /// it declares it first.
    Declare(StreamSpec),
    /// List dead letters of a stream with numbers above `after`.
    DeadLetters {
        /// The stream.
        stream: Name,
        /// Begin behind this number; 0 for the first.
        after: u64,
        /// At most so many.
        limit: usize,
    },
    /// Store a dead letter again, for its group alone and with fresh attempts, and take it from the dead letters.
    Replay {
        /// The stream.
        stream: Name,
        /// The dead letter's number.
        number: u64,
    },
    /// Throw a dead letter away.
    Discard {
        /// The stream.
        stream: Name,
        /// The dead letter's number.
        number: u64,
    },
    /// Forget a group: nothing is kept for it any more, and what it has not acknowledged is dropped.
    Forget {
        /// The stream.
        stream: Name,
        /// The group, or the endpoint.
        group: Name,
        /// Whether `group` names an endpoint that took under [`Share::Every`].
        every: bool,
    },
}

/// What an order brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The list asked for, by number.
    DeadLetters(Vec<DeadLetter>),
}

/// A message that its group could not handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number, rising within the stream, never used again.
    pub number: u64,
    /// Whose it is. [`Share::Every`] instances are named after their endpoint.
    pub group: Name,
    /// Deliveries it has had.
    pub attempts: u32,
    /// Why the last one failed.
    pub reason: Box<str>,
    /// The message as it was stored.
    pub message: Message,
}

/// The first 200 bytes of a reason, which travels in a header: what is not visible ASCII becomes a blank.
#[must_use]
pub fn short(reason: &str) -> Box<str> {
    let plain = |letter: char| if letter.is_ascii_graphic() { letter } else { ' ' };
    let text: String = reason.chars().take(200).map(plain).collect();
    let text = text.trim();
    if text.is_empty() { "no reason given".into() } else { text.into() }
}

impl StreamSpec {
    /// Checks the figures.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::Invalid`] says which makes no sense.
    pub fn check(&self) -> Result<(), RefusedKind> {
        let refuse = |why| Err(RefusedKind::Invalid(why));
        if self.subjects.is_empty() {
            return refuse("a stream keeps at least one subject");
        }
        if self.bounds.messages == 0 || self.dead.messages == 0 {
            return refuse("a stream's bounds are at least one message and one dead letter");
        }
        if self.labels.len() > LABELS_MAX {
            return refuse("a stream has at most 16 labels");
        }
        Ok(())
    }
}

/// Most labels of a stream.
pub const LABELS_MAX: usize = 16;

impl ConsumeOptions {
    /// Checks the figures.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::Invalid`] says which makes no sense.
    pub fn check(&self) -> Result<(), RefusedKind> {
        let refuse = |why| Err(RefusedKind::Invalid(why));
        if self.window == 0 || self.attempts_max == 0 {
            return refuse("window and attempts are at least 1");
        }
        if self.ack_wait_us < 1000 {
            return refuse("the wait for an acknowledgement is at least 1000 microseconds");
        }
        Ok(())
    }
}
