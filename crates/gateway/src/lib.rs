//! The face of the bank: HTTP and JSON in front of the branches.
//!
//! ```text
//! connection ── server ──► Front ──► router ──► handler ──► Bank::ask ──► Seat ──► branch
//!               caps,      problems   axum       Caller,       MAC,          │
//!               watches    in words              scopes        deadline      └──► history, beside the writer
//! ```
//!
//! Start with [`app`] for what can be called, [`bank`] for how a branch is asked, [`server`] for how connections are
//! bounded. It refuses to know journals and books: a [`Seat`](skerry_node::Seat) is all it sees of a branch, be it of this
//! process or of another. Who lives in which, it asks the directory ([`residence`]).
//!
//! # Invariants
//!
//! - **G1, bounded**: connections, bodies, streams, queries and waiting have a bound each, and meeting one is a
//!   problem document with `Retry-After`.
//! - **G2, once**: what changes something carries an id or an idempotency key that the book keeps.
//! - **G3, sealed**: names and documents reach a branch only as ciphertext, and logs not at all.
//! - **G4, one voice**: whatever goes wrong is a problem document; its number is in [`catalogue`].

pub mod app;
pub mod auth;
pub mod bank;
pub mod body;
mod buses;
pub mod catalogue;
pub mod config;
mod derived;
pub mod detail;
pub mod digests;
pub mod events;
mod events_view;
pub mod extract;
pub mod founding;
pub mod gateway;
pub mod hosting;
pub mod iso20022;
mod join;
mod known;
pub mod meters;
mod newcomers;
mod notes;
pub mod oidc;
pub mod problem;
mod random;
pub mod residence;
pub mod routes;
pub mod sealing;
pub mod server;
pub mod service;
mod stamp;
pub mod text;
pub mod tls;
pub mod tokens;
pub mod traces;
mod usage;
pub mod webhooks;
pub mod wire;

pub use bank::Bank;
pub use config::{GatewayConfig, Limits, TlsConfig};
pub use gateway::{Gateway, Secrets, Shared};
pub use server::{Listening, ServeError};
pub use tokens::{NewToken, TokenError, TokenRecord, TokenStore};
