//! The journal in PostgreSQL: one row a batch, and the epoch beside it.
//!
//! It knows bytes, positions and epochs, like every implementation of the journal seam; never what the bytes mean. tokio does
//! not leave it: callers submit and poll, or wait on their own threads.
//!
//! # Shape
//!
//! ```text
//! branch ── append ─► PostgresJournal ─► Lane ─► Writer (a task): one statement a batch, pipelined
//!                          │                        │ where epoch = and position = and hash =
//!                          └─ poll ◄────────────────┘ commit confirmed by a standby, no warning
//! jobs ──── read ───► PostgresReader ─► Pool of links, a record by slice
//!                          └─ before the start: sealed segments in the cold folder
//! ```
//!
//! # Invariants
//!
//! - A batch is told durable only after its commit returned without a warning, under settings that were compared within the very
//!   statement that wrote it.
//! - Whoever opens raises the epoch first and reads second; the statement of an older owner then matches no row.
//! - Nothing here retries an append: what is uncertain ends the journal, and opening anew tells.
//! - A key's number is given out only after the row under it was committed: the table's own key keeps two owners apart.
//! - Only tables and plain SQL: no triggers, no procedures, no extensions.

mod archive;
mod check;
mod directory;
mod error;
mod ground;
mod journal;
mod keys;
mod link;
mod open;
mod pool;
mod reader;
mod schema;
mod server;
mod settings;
mod shared;
mod tls;
mod writer;

pub use directory::PostgresDirectory;
pub use error::LinkError;
pub use journal::{PostgresJournal, PostgresOptions, PostgresStore};
pub use keys::{PostgresKeys, copy_keys, erased_keys};
pub use link::Link;
pub use pool::Pool;
pub use reader::PostgresReader;
pub use server::{Durability, Server, ServerOptions, TlsFiles};
