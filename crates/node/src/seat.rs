//! One branch as a gateway uses it: requests in, queries beside, and how it is doing.
//!
//! The trait is narrow so that handlers can be tested on a branch that only pretends; in a bank it is the
//! `branch` crate's handle, see [`hosted`](crate::hosted). Everything but `submit` and `health` may block on files
//! and is called from a thread that may.

use std::borrow::Cow;
use std::sync::Arc;

use skerry_branch::Watcher;
use skerry_branch::api::{Busy, Request};
use skerry_branch::evidence::receipts::Recorded;
use skerry_branch::history::{AsOf, Day, DayBy, Found, Page, Query, Totals};
use skerry_branch::keys::Keys;
use skerry_branch::meters::{Histogram, Meters};
use skerry_ledger::{AccountRef, TransferId};
use skerry_money::Date;
use skerry_proof::KeyHistory;

/// A branch that the gateway may ask.
pub trait Seat: Send + Sync {
    /// Its number.
    fn number(&self) -> u16;

    /// The keys that sign its checkpoints, first to present, for those who will verify its receipts.
    fn signing_keys(&self) -> Option<Arc<KeyHistory>> {
        None
    }

    /// Queues a request. Its reply comes exactly once, unless the branch dies first: then the reply is dropped.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing was taken.
    fn submit(&self, request: Request) -> Result<(), Busy>;

    /// The epoch under which its journal is open, 0 while it is not. Never blocks.
    fn epoch(&self) -> u64;

    /// Position after the last durable record; never blocks. Queries below answer for at least what was durable when
    /// they were asked.
    fn durable(&self) -> u64;

    /// Has `watcher` called when more has become durable; never blocks. Replaces the one of before.
    fn watch(&self, watcher: Watcher);

    /// Position after the last record that a signed checkpoint covers; never blocks.
    fn covered(&self) -> u64;

    /// Whether a signed checkpoint covers the record at `position`; never blocks.
    fn is_covered(&self, position: u64) -> bool {
        self.covered() > position
    }

    /// Customers it holds and may hold, as of a moment ago; `None` if it is not open. Never blocks.
    fn room(&self) -> Option<(u64, u64)>;

    /// How it is doing; never blocks.
    fn health(&self) -> Health;

    /// Opens a sick branch again.
    ///
    /// # Errors
    ///
    /// Why it did not open.
    fn reopen(&self) -> Result<(), String>;

    /// Takes the machine's clock's word after a jump; nothing where it has not jumped.
    fn confirm_clock(&self);

    /// Moves old segments of its journal to the cold folder; waits until that is done.
    ///
    /// # Errors
    ///
    /// Why it went no further. What was moved stays moved.
    fn archive(&self, before: Before) -> Result<u64, String>;

    /// Whether the queries below would find what they must without waiting for anybody but the disk.
    fn is_at_hand(&self) -> bool;

    /// A page of transfers.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    fn page(&self, query: &Query) -> Result<Page, Trouble>;

    /// A transfer by its id, with what resolved it.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    fn transfer(&self, id: TransferId) -> Result<Option<Found>, Trouble>;

    /// Posted totals of an account as of dates.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    fn totals(&self, account: AccountRef, as_of: AsOf) -> Result<Totals, Trouble>;

    /// The days from `from` to `to` on which an account moved, oldest first.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    fn days(&self, account: AccountRef, by: DayBy, from: Date, to: Date) -> Result<Vec<Day>, Trouble>;

    /// Durable records from `from` on, at most `most`; empty at the end.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    fn records(&self, from: u64, most: usize) -> Result<Vec<Recorded>, Trouble>;

    /// The durable record at `position`.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    fn record(&self, position: u64) -> Result<Recorded, Trouble> {
        let mut found = self.records(position, 1)?;
        found.pop().filter(|recorded| recorded.position == position).ok_or(Trouble::NotFound)
    }

    /// The receipt of the record at `position`, encoded as `skerry verify` reads it.
    ///
    /// # Errors
    ///
    /// [`Trouble::NotYet`] while no checkpoint covers it.
    fn receipt(&self, position: u64) -> Result<Vec<u8>, Trouble>;

    /// Keys of the branch's customers.
    fn keys(&self) -> Arc<dyn Keys>;
}

/// Up to where to archive.
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Segments that end at or before this position.
    Position(u64),
    /// Segments that hold nothing of this business day or a later one.
    Day(Date),
}

/// A word that is fixed in this release, or came from another process.
pub type Word = Cow<'static, str>;

/// A figure for `/metrics`: name without prefix, kind, help, value.
pub type Counter = (Word, Word, Word, u64);

/// A histogram for `/metrics`: name without prefix, help, values in powers of two, how many of its units are a second (0: it
/// counts things).
pub type Distribution = (Word, Word, Histogram, u64);

/// How a branch is doing.
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// `open`, `opening`, `sick`, `closed`; `away` if no process is heard of that has it.
    pub state: Word,
    /// Why it is not open.
    pub reason: Option<String>,
    /// The store that its journal is kept in, by its name in the configuration; `None` for local files.
    pub store: Option<String>,
    /// Why its checkpoints are late; `None` while they are not.
    pub checkpoint_fault: Option<String>,
    /// Position after the last durable record.
    pub position: u64,
    /// The first position that is in its journal; what lies before it is archived.
    pub start: u64,
    /// The open business day.
    pub business_date: Date,
    /// Customers it holds.
    pub customers: u64,
    /// Accounts it holds.
    pub accounts: u64,
    /// Open holds.
    pub holds: u64,
    /// Customers it may hold.
    pub capacity: u64,
    /// Requests waiting.
    pub queue: u64,
    /// What it has counted.
    pub meters: Meters,
    /// Other figures for `/metrics`.
    pub figures: Vec<Counter>,
    /// Histograms for `/metrics`.
    pub histograms: Vec<Distribution>,
}

impl Health {
    /// Whether it takes requests.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == "open"
    }

    /// Whether it takes nothing until somebody mends it.
    #[must_use]
    pub fn is_sick(&self) -> bool {
        self.state == "sick"
    }

    /// Customers it can still take.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.customers)
    }
}

/// Why a query has no answer.
#[cfg_attr(feature = "remote", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Not yet: behind the journal, being rebuilt, or no checkpoint so far.
    #[error("not yet: {0}")]
    NotYet(String),
    /// What was asked for lies in the archive, and the cold folder cannot be read.
    #[error("{0}")]
    Archived(String),
    /// A cursor stands for more than the branch has.
    #[error("{0}")]
    Ahead(String),
    /// The files let us down.
    #[error("could not read the history: {0}")]
    Failed(String),
    /// No such thing.
    #[error("not found")]
    NotFound,
}
