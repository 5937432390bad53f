//! The `Journal` seam: open under a raised epoch, append at a position, read from a position, archive.
//!
//! Submit and poll, no `async`: [`Journal::append`] takes a batch and returns at once, [`Journal::poll`]
//! tells later that it is durable. Implementations: [`LocalJournal`](crate::LocalJournal) over the file
//! seam, [`MemoryJournal`](crate::MemoryJournal) for simulation. One suite,
//! [`check_contract`](crate::contract::check_contract), runs on all.
//!
//! # What an implementation promises
//!
//! - **J1, durable**: once `poll` has told a batch, it is there after any power cut, whole and once.
//! - **J2, prefix**: batches become durable in the order of `append`. What is found after a crash is a
//!   prefix of what was appended, and holds at least all that was told.
//! - **J3, one writer**: after an open that raised the epoch, no older owner appends anything more:
//!   either the open is refused while the older owner lives, or the older one's appends are `Fenced`.
//! - **J4, no guessing**: after a fault nothing more is taken. What was in flight is told by opening anew.
//! - **J5, readers** see durable batches only, and never block or slow the writer for longer than a
//!   look at a table of segments takes.
//! - **J6, no silence**: bytes that are not what was written are an error that names the place.
//! - **J7, still the owner**: a check that came out well says that at some moment after it was asked for, nobody had opened the
//!   journal under a higher epoch.
//! - **J8, looked at**: whoever looks without being the owner sees batches in their order, each whole, and changes nothing: no epoch,
//!   no file, no lock. What they see an opening finds too, unless the store has lost it.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::batch::{BatchView, SealedBatch, StoredRecord};
use crate::error::{AppendErrorKind, AppendFault, ArchiveError, OpenError, ReadError};

/// The number of a record in its branch's journal, from 0, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A place between two batches: what the next one must continue. The default is the beginning of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Position of the next record; so many records lie before it.
    pub position: Position,
    /// Number of the next batch, from 0.
    pub batch: u64,
    /// Header hash of the last batch; zero before the first.
    pub hash: [u8; 32],
}

impl Head {
    /// The place after `batch`.
    #[must_use]
    pub fn after(batch: &SealedBatch) -> Self {
        batch.view().head_after()
    }
}

/// What a reader or a metrics page may want to know; monotonic since opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalStats {
    /// Batches made durable.
    pub batches: u64,
    /// Their bytes, padding not counted.
    pub bytes: u64,
    /// Syncs of batch data.
    pub syncs: u64,
    /// Microseconds spent in them (0 where there is no clock).
    pub sync_us_total: u64,
    /// The longest of them, in microseconds.
    pub sync_us_max: u64,
    /// The last of them, in microseconds.
    pub sync_us_last: u64,
    /// Segments sealed.
    pub seals: u64,
    /// Attempts at sealing that failed; they are made again at the next opening.
    pub seal_failures: u64,
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Where the journal ends now.
    pub head: Head,
    /// The first position still here (more than 0 after archiving).
    pub start: Position,
    /// The epoch of this owner.
    pub epoch: u64,
    /// A torn tail was left behind: file and offset where it began.
    pub torn: Option<(String, u64)>,
    /// Files that an operator's declaration of loss put aside.
    pub put_aside: Vec<String>,
    /// Whether the durable mark was missing although batches are there (a restored copy).
    pub mark_missing: bool,
}

/// An opened journal with what opening found.
#[derive(Debug)]
pub struct Opened<J> {
    /// The journal, which takes the batch that continues `recovery.head`.
    pub journal: J,
    /// What was found.
    pub recovery: Recovery,
}

/// Called, from any thread, when `poll` has something new. Must be short and must not call the journal.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Where a branch's journal is, and how to open it: at start, and again after every fault.
pub trait JournalStore: Send {
    /// What opening gives.
    type Journal: Journal;

    /// Opens the journal under an epoch higher than any before; finds its end; leaves a torn tail behind.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. Nothing acknowledged is changed by a failed opening.
    fn open(&self) -> Result<Opened<Self::Journal>, OpenError>;

    /// Reads what is there now without becoming its owner, through to the cold folder where one is configured.
    /// [`JournalReader::look_again`] shows what has come since.
    ///
    /// # Errors
    ///
    /// As for opening; [`OpenError::Away`] too where no journal was begun yet and only an owner may begin it.
    fn look(&self) -> Result<<Self::Journal as Journal>::Reader, OpenError>;

    /// What was told under epochs before `epoch`, and is missing, was declared lost under it: this machine forgets that it was told, so
    /// that it can open the journal too. Whoever says so has read it in the journal.
    ///
    /// # Errors
    ///
    /// As for opening: what is remembered stays.
    fn forgive(&self, _epoch: u64) -> Result<(), OpenError> {
        Ok(())
    }

    /// How long to wait before opening again unasked, after so many attempts in vain since it was last open, where what
    /// keeps it from opening or appending may pass by itself (a server that is away). `None`: somebody has to order it.
    fn patience(&self, _attempts: u32) -> Option<Duration> {
        None
    }
}

/// A journal open for appending by one owner.
pub trait Journal: Send {
    /// Reads it from other threads.
    type Reader: JournalReader;

    /// The epoch under which this owner appends; every header carries it.
    fn epoch(&self) -> u64;

    /// The durable end: everything before it has been told, or was found at opening.
    fn head(&self) -> Head;

    /// The end of what has been taken: the next batch must continue this.
    fn taken(&self) -> Head;

    /// How many batches are in flight (taken and not yet told).
    fn in_flight(&self) -> usize;

    /// Takes `batch` to make it durable.
    ///
    /// # Errors
    ///
    /// The batch comes back with the reason; nothing of it was written.
    #[expect(
        clippy::result_large_err,
        reason = "the batch comes back by value; it moves in by value as well"
    )]
    fn append(&mut self, batch: SealedBatch) -> Result<(), (AppendErrorKind, SealedBatch)>;

    /// The next thing that happened, in order: a batch has become durable, or the journal has failed.
    fn poll(&mut self) -> Option<Result<Appended, AppendFault>>;

    /// Asks whether this owner still is the one: a *check*, for answers that rest on no append. Returns its number, from 1; ask one
    /// at a time. What comes of it [`confirmed`](Self::confirmed) tells; that another owner is there, or that nobody knows, is a fault,
    /// which [`poll`](Self::poll) tells.
    fn confirm(&mut self) -> u64;

    /// The number of the last check that came out well; 0 before the first.
    fn confirmed(&self) -> u64;

    /// Does one piece of waiting work on the caller's thread, if this implementation has no thread of its own.
    /// `false` if there was none.
    fn step(&mut self) -> bool;

    /// Asks to be woken when `poll` or `confirmed` has something new. An implementation without a thread never calls it.
    fn on_progress(&mut self, wake: Wake);

    /// A reader of the same journal for any thread. What is archived it does not reach: it never waits for the cold folder.
    fn reader(&self) -> Self::Reader;

    /// The same, reading through to the cold folder where one is configured: for whoever may wait for it.
    fn far_reader(&self) -> Self::Reader;

    /// Counts since opening.
    fn stats(&self) -> JournalStats;

    /// Lets go of what [`JournalReader::copy_old`] has copied, and returns the first position still here. Short: nothing
    /// is copied and the cold folder is not touched.
    ///
    /// # Errors
    ///
    /// The machine failed; whatever is gone from here is in the cold folder.
    fn release(&mut self, copied: Shelved) -> Result<Position, ArchiveError>;

    /// Waits until everything taken is durable or has failed, writes the durable mark and lets go. What `poll`
    /// had still to tell is returned.
    fn close(self) -> Vec<Result<Appended, AppendFault>>;
}

/// The word of an implementation that everything before a place lies durably in the cold folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shelved {
    end: Head,
}

impl Shelved {
    /// Says so of everything before `end`; for implementations of [`JournalReader::copy_old`] alone.
    #[must_use]
    pub const fn before(end: Head) -> Self {
        Self { end }
    }

    /// The place before which everything is there.
    #[must_use]
    pub const fn end(&self) -> Head {
        self.end
    }
}

/// A batch that has become durable, given back so that its bytes can go on to history without being read.
#[derive(Debug)]
pub struct Appended {
    /// The durable end after it.
    pub head: Head,
    /// The batch itself.
    pub batch: SealedBatch,
}

/// Reads durable batches by position while the writer goes on.
pub trait JournalReader: Clone + Send + Sync + 'static {
    /// The first position that is here, and not in the cold folder.
    fn start(&self) -> Position;

    /// The first place that this reader reaches, in the cold folder too if it reads through.
    ///
    /// # Errors
    ///
    /// [`ReadError::ColdAway`] if the cold folder cannot be reached.
    fn origin(&self) -> Result<Head, ReadError>;

    /// Copies the whole sealed segments that end at or before `before`, at most `most` of them, to the cold folder,
    /// durably and checked on the way. What is there already, from an attempt that did not come to its end, is not copied again. Nothing is
    /// taken away: that is [`Journal::release`].
    ///
    /// # Errors
    ///
    /// [`ArchiveError::NoCold`] where none is configured; [`ArchiveError::Clash`] if another journal's segment is there.
    fn copy_old(&self, before: Position, most: usize) -> Result<Shelved, ArchiveError>;

    /// The durable end.
    fn head(&self) -> Head;

    /// Asks the store where the journal ends now, of a reader that [`JournalStore::look`] gave; [`head`](Self::head) says the same from
    /// then on. An owner's reader knows without asking. An end *before* the one of last time is a store that lost data.
    ///
    /// # Errors
    ///
    /// As [`JournalStore::look`]; the reader then stays where it was.
    fn look_again(&self) -> Result<Head, OpenError>;

    /// Whole verified batches (root, extras and chain among them), the first being the one that holds `from`, until
    /// `bytes_max` is reached; at least one unless `from` is the durable end.
    ///
    /// # Errors
    ///
    /// [`ReadError::Beyond`] if `from` is after the durable end; [`ReadError::Archived`] if it is in the archive and this
    /// reader does not read through, [`ReadError::ColdAway`] if it does and the cold folder is not there.
    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<SealedBatch>, ReadError>;

    /// One record with its tail and its batch's header. The header's place is checked; the record is **not** checked
    /// against the root: that would cost reading the whole batch. [`JournalReader::read`] does, and so does a scan.
    ///
    /// # Errors
    ///
    /// [`ReadError::Beyond`] if there is no such durable record.
    fn read_record(&self, position: Position) -> Result<StoredRecord, ReadError>;

    /// Calls `visit` on every verified batch from the one that holds `from` to the durable end at the time of the call,
    /// or until it breaks. Returns the place after the last batch visited.
    ///
    /// # Errors
    ///
    /// Bad bytes end the scan with the place named; what was visited before them was good.
    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(BatchView<'_>) -> ControlFlow<()>,
    ) -> Result<Head, ReadError>;
}
