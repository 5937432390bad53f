//! The other side of the wire: what the command line, import, bench and agents use to speak to a bank.
//!
//! ```text
//! Client ── pool of kept-alive connections ──► HTTP/1.1, TLS for https ──► gateway
//!    └── retries what the bank says may be retried, with the same body and so the same id
//! ```
//!
//! Knows the HTTP API (docs/api.md) and nothing of the inside of a bank: its wire types are its own.

pub mod connection;
pub mod error;
pub mod packed;
pub mod wire;

mod calls;
mod client;
mod uuid;

pub use calls::EntryFilter;
pub use client::{Client, Options, Response};
pub use error::{Error, Problem};
pub use uuid::{parse_uuid, uuid_text, uuid_v7};
