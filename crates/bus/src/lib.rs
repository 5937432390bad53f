//! The bus: how branches, gateways and outside subscribers talk.
//!
//! It knows subjects, headers, requests and replies, groups and deliveries, and bounds on all of them. It does not know
//! what a message means, and it does not know NATS.
//!
//! # Shape
//!
//! ```text
//! request ─► one server of the subject ─► respond ─► Replied        asked: at most once, with a deadline
//! publish ─► each group, every instance that subscribes now          told: at most once
//! store ───► Stream ─► Delivered ─► settle: Done │ Retry │ Dead      stored: at least once
//!                                                   └─► dead letters ─► replay, discard
//! ```
//!
//! All of it behind one seam, [`Bus`], which is submitted to and polled. [`LocalExchange`] connects the threads of one
//! process; [`FaultyBus`] loses, doubles, delays, reorders and cuts off from a seed; [`contract::check_contract`] is what
//! every implementation must pass.
//!
//! # Invariants
//!
//! - No clock: time is what [`Bus::poll`] is told. No thread: whoever holds an endpoint turns it.
//! - Every queue has a bound in messages and in bytes, and says busy when it is full.
//! - What one order of calls with one clock brings forth does not depend on chance or on hashing.

pub mod breaker;
pub mod contract;
pub mod desk;
pub mod due;
pub mod error;
pub mod event;
mod faults;
pub mod inbox;
mod local;
pub mod message;
pub mod options;
pub mod seam;
pub mod slab;
pub mod text;
pub mod trace;
mod wait;

pub use breaker::{BreakerOptions, BreakerState};
pub use error::{ConnectError, Full, OrderFault, RefusedKind, RequestFault};
pub use event::{BusStats, Event};
pub use faults::{FaultCounts, FaultRates, FaultyBus, Weather};
pub use local::{LocalBus, LocalExchange};
pub use message::{Extra, HeaderError, Headers, Message};
pub use options::{
    Answer, Bounds, ConsumeOptions, DeadLetter, Limits, Order, Outcome, ServeOptions, Settlement, Share,
    StreamSpec, SubscribeOptions, Takes,
};
pub use seam::{AskId, Bus, Connect, DeliveryId, Moment, SubscriptionId, Ticket, Wake};
pub use text::{Name, Pattern, Subject, TextError};
pub use trace::TraceContext;
pub use wait::ThreadWait;
