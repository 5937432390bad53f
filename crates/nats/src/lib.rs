//! The bus between processes: the [`Bus`](skerry_bus::Bus) seam over NATS for asking and telling, over JetStream for
//! storing.
//!
//! ```text
//! NatsBus (endpoint.rs, the caller's thread)
//!    │ commands: bounded        ▲ inbox: bounded per subscription
//!    ▼                          │
//! driver (driver.rs, one thread with tokio) ── core NATS: requests, published
//!                      └────── streams.rs ── JetStream: stored, consumers, dead letters
//! ```
//!
//! Where NATS is away, requests and messages wait within the bounds and then say busy; requests end at their deadline.
//! Stored messages of one subject are sent one after the other, each until the server has acknowledged it, so that a
//! lost server neither loses nor reorders them.
//!
//! [`EventLog`] is no part of the seam: domain events for others, in a stream that keeps them by age.
//!
//! **Invariant:** tokio never leaves this crate.

mod driver;
mod endpoint;
mod events;
mod options;
mod streams;
mod wire;

pub use endpoint::NatsBus;
pub use events::{EventLog, EventLogError, EventLogOptions, Logged};
pub use options::{NatsConnector, NatsOptions, NatsTls};
