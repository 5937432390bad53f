//! What can go wrong, by name. None of it is a business "no": what a handler decides travels as a reply.

use crate::seam::Moment;
use crate::text::Name;

/// Why the endpoint did not take something. Nothing of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedKind {
    /// A queue or window of the bus is as full as it may be. Poll, then try again.
    #[error("busy: {0} is full")]
    Busy(Full),
    /// The message is larger than a message may be.
    #[error("the message has {bytes} bytes, {bytes_max} are allowed")]
    TooLarge {
        /// Bytes of payload and extra headers.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Requests to this subject failed too often in a row; it is left alone for a while.
    #[error("requests to this subject have failed too often; the next is let through at {} µs", until.0)]
    BreakerOpen {
        /// When the next request is let through to see.
        until: Moment,
    },
    /// No stream that was declared keeps this subject, or there is no stream of this name.
    #[error("no declared stream keeps this")]
    NoStream,
    /// The stream was not declared with this label.
    #[error("the stream was not declared with label {0}")]
    UnknownLabel(Name),
    /// There is no such subscription, question or delivery any more: it was answered, has expired, or was stopped.
    #[error("too late: it was answered, has expired or was stopped")]
    TooLate,
    /// A figure or a combination in the call makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The endpoint is closed.
    #[error("the endpoint is closed")]
    Closed,
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Full {
    /// As many requests of this endpoint are in flight as may be.
    #[error("the window of requests")]
    Requests,
    /// As many requests to this subject are in flight as may be.
    #[error("the subject's window of requests")]
    Subject,
    /// What waits to be sent.
    #[error("the outgoing queue")]
    Outgoing,
    /// The stream holds as much as it may, because some group has not acknowledged it.
    #[error("the stream")]
    Stream,
    /// As many subscriptions, or subjects in use, as one endpoint may have.
    #[error("the table")]
    Table,
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// Nobody serves the subject (or nobody takes the label). It was not handled.
    #[error("nobody serves the subject")]
    NoServer,
    /// Every server's queue is full, or the server said so. It was not handled.
    #[error("the server is busy")]
    Busy,
    /// The handler failed; its words.
    #[error("the handler failed: {0}")]
    Failed(Box<str>),
    /// No reply came in time. Whether it was handled is unknown.
    #[error("no reply before the deadline")]
    Deadline,
    /// It was handled, but its reply found no room here.
    #[error("the reply found no room")]
    ReplyDropped,
}

/// Why an order could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderFault {
    /// There is no stream of this name.
    #[error("there is no stream of this name")]
    NoStream,
    /// There is no such dead letter or group.
    #[error("there is no such dead letter or group")]
    NotFound,
    /// Another stream keeps some of these subjects.
    #[error("stream {0} keeps some of these subjects")]
    Conflict(Name),
    /// A label that messages may still wait under was left out.
    #[error("label {0} cannot be taken away from a stream")]
    LabelInUse(Name),
    /// The stream holds as much as it may.
    #[error("the stream is full")]
    Full,
    /// The machinery behind the bus failed; its words.
    #[error("the bus failed: {0}")]
    Failed(Box<str>),
}

/// Why an endpoint could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An endpoint of this name is there.
    #[error("an endpoint named {0} is connected already")]
    NameInUse(Name),
    /// The bus could not be reached or started.
    #[error("could not connect to the bus")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
