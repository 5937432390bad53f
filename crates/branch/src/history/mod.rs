//! History: what happened, found by account, code, reference, id and date.
//!
//! It follows the journal: durable batches come in by [`History::feed`], on a thread that is not the
//! writer's, and questions go to a [`HistoryHandle`] on any thread. The newest transfers are kept in
//! columns in memory; when there are enough of them a job seals them as a *span*, an immutable side
//! file. Nothing here is a truth: a span that does not agree with the journal is thrown away, and
//! [`History::position`] says from where to feed again.
//!
//! ```text
//! feed ──► tail ──► chunk · chunk ── full ──► sealing ── HistoryWork ──► span · span · span
//!            └──────────┴──── HistoryHandle: query, totals, days, transfer ────┘
//! ```
//!
//! It refuses to know customers, limits and the writer's state. It starts no thread and has no clock.
//!
//! # Invariants
//!
//! - **H1**: an answer holds for the journal up to the position it names, all of it and no more.
//! - **H2**: spans follow each other without gaps from the first position, hold only what is durable, and
//!   name the head hash they stand for.
//! - **H3**: running totals are those of the ledger at that position, whatever filters and pages are asked.
//! - **H4**: memory is bounded: see [`HistoryConfig`]. Columns and their signposts take about 62 bytes a transfer.

pub(crate) mod asked;
mod blobs;
mod columns;
mod find;
mod handle;
mod list;
pub(crate) mod mix;
mod parts;
pub(crate) mod records;
mod seal;
pub(crate) mod side;
mod signpost;
mod span;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
mod varint;

use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use skerry_money::Date;

use crate::ids::IdsReader;

pub use asked::{
    AsOf, Cursor, CursorError, Day, DayBy, Entry, Found, Kinds, Order, Page, Query, Range, Side, Totals,
};
pub use handle::{HistoryError, HistoryHandle};
pub use records::{RECORD_BYTES, Records};
pub use side::{SideError, SideFolder};

use columns::{CHUNK_ROWS, Columns};
use handle::{Shared, State};
use parts::Keyed;
use records::Raw;
use seal::Unsealed;
use span::Span;

/// The bounds of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryConfig {
    /// The branch: its customers' accounts are filed by serial.
    pub branch: u16,
    /// Keys the hash of references. The same for the life of the files.
    pub secret: [u8; 16],
    /// Transfers of a span; at most 16 million. Memory for them is held until the span is sealed.
    pub span_rows: usize,
    /// Unsealed spans that may wait for their job before [`History::must_wait`].
    pub sealing_max: usize,
}

impl HistoryConfig {
    /// The usual bounds.
    #[must_use]
    pub const fn new(branch: u16, secret: [u8; 16]) -> Self {
        Self { branch, secret, span_rows: 1 << 19, sealing_max: 2 }
    }
}

/// A durable batch, as the journal holds it.
#[derive(Debug, Clone, Copy)]
pub struct DurableBatch<'a> {
    /// Position of its first record.
    pub first: u64,
    /// Its accounting date.
    pub business_date: Date,
    /// Hash of its header.
    pub head: [u8; 32],
    /// Its fixed records, one after another.
    pub records: &'a [u8],
}

/// Counts and sizes for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryStats {
    /// Everything before this position is answered for.
    pub position: u64,
    /// Sealed spans.
    pub spans: usize,
    /// Lists of accounts in them.
    pub account_lists: u64,
    /// Their bytes on disk.
    pub file_bytes: u64,
    /// Transfers in memory.
    pub unsealed_rows: usize,
    /// Memory held.
    pub memory_bytes: usize,
}

/// The history's feeder; owned by one thread.
pub struct History {
    config: HistoryConfig,
    folder: SideFolder,
    shared: Arc<Shared>,
    /// Header hash of the last batch fed.
    head: [u8; 32],
    working: bool,
    /// Rows of the batch that is being fed.
    staged: Columns,
}

/// A job: run it on any thread, then give its result to [`History::finish`].
pub struct HistoryWork {
    folder: SideFolder,
    unsealed: Arc<Unsealed>,
}

/// What a job has made.
#[derive(Debug)]
pub struct HistoryDone(Span);

impl std::fmt::Debug for History {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(out)
    }
}

impl std::fmt::Debug for HistoryWork {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "HistoryWork({}..{})", self.unsealed.first, self.unsealed.end)
    }
}

impl HistoryWork {
    /// Writes the span; blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`SideError`] if the machine refuses.
    pub fn run(self) -> Result<HistoryDone, SideError> {
        self.unsealed.seal(&self.folder).map(HistoryDone)
    }
}

impl History {
    /// Opens the spans in `folder` that agree with the journal behind `records`, whose first position is
    /// `start`, and throws the others away. Then feed from [`History::position`].
    ///
    /// # Errors
    ///
    /// [`SideError`] if the machine or the journal fails. A damaged span is no error: it is rebuilt.
    pub fn open(
        folder: SideFolder,
        records: Arc<dyn Records>,
        ids: IdsReader,
        config: HistoryConfig,
        start: u64,
    ) -> Result<Self, SideError> {
        assert!(config.span_rows <= 1 << 24, "a span of more than 16 million transfers");
        let spans = open_spans(&folder, &*records, start)?;
        let first = spans.last().map_or(start, |span| span.extent.end);
        let state = State {
            spans,
            sealing: Vec::new(),
            chunks: Vec::new(),
            tail: Columns::with_room(),
            days: Vec::new(),
            first,
            end: first,
            damaged: None,
        };
        let shared = Shared {
            state: RwLock::new(state),
            folder: folder.clone(),
            keyed: Keyed { seed: mix::Seed::new(config.secret), branch: config.branch },
            records,
            ids,
            position: Mutex::new(first),
            moved_on: Condvar::new(),
        };
        let shared = Arc::new(shared);
        Ok(Self { config, folder, shared, head: [0; 32], working: false, staged: Columns::default() })
    }

    /// The next position to feed.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.handle().position()
    }

    /// Everything before this position is in spans on disk; what comes after needs the journal at the next opening.
    #[must_use]
    pub fn kept(&self) -> u64 {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        state.spans.last().map_or(0, |span| span.extent.end)
    }

    /// A handle for questions.
    #[must_use]
    pub fn handle(&self) -> HistoryHandle {
        HistoryHandle(Arc::clone(&self.shared))
    }

    fn state(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a durable batch. What lies before [`History::position`] is passed over, so a batch may come twice.
    ///
    /// # Panics
    ///
    /// If the batch leaves a gap, or its records are not whole.
    pub fn feed(&mut self, batch: DurableBatch<'_>) {
        let shared = Arc::clone(&self.shared);
        // Only this thread moves the history on, so what it reads here stays true.
        let (end, span_first) = {
            let state = shared.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.end, state.first)
        };
        let (records, rest) = batch.records.as_chunks::<RECORD_BYTES>();
        assert!(rest.is_empty(), "a batch holds whole records");
        assert!(batch.first <= end, "a batch is missing before the one fed");
        let known = usize::try_from(end - batch.first).unwrap_or(usize::MAX);
        let Some(records) = records.get(known..).filter(|records| !records.is_empty()) else { return };
        let first = u32::try_from(end - span_first).expect("a span has fewer than 2^32 positions");
        // Reading the records takes a millisecond for a full batch: questions do not wait for that, only for the copy.
        self.staged.clear();
        for (offset, record) in (first..).zip(records) {
            if Raw(record).is_moved() {
                self.staged.push(shared.keyed.seed, offset, batch.business_date.0, record);
            }
        }
        let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.days.last().is_none_or(|(_, date)| *date != batch.business_date.0) {
            state.days.push((first, batch.business_date.0));
        }
        let mut copied = 0;
        let mut filled = Vec::new();
        while copied < self.staged.len() {
            let until = self.staged.len().min(copied + CHUNK_ROWS - state.tail.len());
            state.tail.extend(&self.staged, copied..until);
            copied = until;
            if state.tail.len() == CHUNK_ROWS {
                let full = Arc::new(std::mem::replace(&mut state.tail, Columns::with_room()));
                filled.push(Arc::clone(&full));
                state.chunks.push(full);
            }
        }
        state.end += records.len() as u64;
        self.head = batch.head;
        self.close_span(&mut state);
        let end = state.end;
        drop(state);
        *shared.position.lock().unwrap_or_else(PoisonError::into_inner) = end;
        shared.moved_on.notify_all();
        // Until they stand, a question reads all rows.
        filled.iter().for_each(|chunk| chunk.finish());
    }

    /// Gives what has been fed to a job, if it is enough for a span.
    fn close_span(&mut self, state: &mut State) {
        let rows = state.chunks.len() * CHUNK_ROWS + state.tail.len();
        let positions = state.end - state.first;
        if rows < self.config.span_rows && positions < self.config.span_rows as u64 * 8 {
            return;
        }
        let mut chunks = std::mem::take(&mut state.chunks);
        if state.tail.len() > 0 {
            chunks.push(Arc::new(std::mem::replace(&mut state.tail, Columns::with_room())));
        }
        state.sealing.push(Arc::new(Unsealed {
            first: state.first,
            end: state.end,
            head: self.head,
            chunks,
            days: std::mem::take(&mut state.days),
            branch: self.config.branch,
        }));
        state.first = state.end;
    }

    /// Whether jobs have fallen so far behind that nothing more should be fed until one is done.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.state().sealing.len() > self.config.sealing_max
    }

    /// A job for this or another thread, if there is one and none is out.
    pub fn take_work(&mut self) -> Option<HistoryWork> {
        if self.working {
            return None;
        }
        let unsealed = self.state().sealing.first().map(Arc::clone)?;
        self.working = true;
        Some(HistoryWork { folder: self.folder.clone(), unsealed })
    }

    /// Takes a job back. After an error the job will be handed out again.
    ///
    /// # Errors
    ///
    /// That of the job.
    pub fn finish(&mut self, done: Result<HistoryDone, SideError>) -> Result<(), SideError> {
        self.working = false;
        let HistoryDone(span) = done?;
        let mut state = self.state();
        // After a repair the job may be about what is no longer there.
        let expected = state.sealing.first().map(|unsealed| (unsealed.first, unsealed.end));
        if expected == Some((span.extent.first, span.extent.end)) {
            crate::coverage::Mark::SpanSealed.hit();
            state.sealing.remove(0);
            state.spans.push(Arc::new(span));
        }
        Ok(())
    }

    /// If a question met a damaged span: throws away it and all that follows, and returns the position to feed
    /// from. Answers are incomplete until then, so handles say [`HistoryError::Behind`] to whoever names a position.
    ///
    /// # Errors
    ///
    /// [`SideError`] if the machine refuses.
    pub fn repair(&mut self) -> Result<Option<u64>, SideError> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = state.damaged.take() else { return Ok(None) };
        let Some(at) = state.spans.iter().position(|span| span.file.name() == name) else { return Ok(None) };
        crate::coverage::Mark::HistoryRepaired.hit();
        let first = state.spans[at].extent.first;
        for span in state.spans.drain(at..) {
            self.folder.remove(span.file.name())?;
        }
        state.sealing.clear();
        state.chunks.clear();
        state.tail = Columns::with_room();
        state.days.clear();
        (state.first, state.end) = (first, first);
        drop(state);
        *shared.position.lock().unwrap_or_else(PoisonError::into_inner) = first;
        Ok(Some(first))
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> HistoryStats {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let chunks = state.sealing.iter().flat_map(|unsealed| &unsealed.chunks).chain(&state.chunks);
        let (mut rows, mut bytes) = (state.tail.len(), state.tail.bytes());
        for chunk in chunks {
            rows += chunk.len();
            bytes += chunk.bytes();
        }
        HistoryStats {
            position: state.end,
            spans: state.spans.len(),
            account_lists: state.spans.iter().map(|span| span.accounts()).sum(),
            file_bytes: state.spans.iter().map(|span| span.file.length()).sum(),
            unsealed_rows: rows,
            memory_bytes: bytes + state.spans.iter().map(|span| span.bytes()).sum::<usize>(),
        }
    }
}

/// Opens the unbroken row of spans from `start` that agrees with the journal; removes every other file.
fn open_spans(folder: &SideFolder, records: &dyn Records, start: u64) -> Result<Vec<Arc<Span>>, SideError> {
    let mut spans: Vec<Arc<Span>> = Vec::new();
    for name in folder.names(span::PREFIX, span::SUFFIX)? {
        let follows = |span: &Span| match spans.last() {
            None => span.extent.first <= start,
            Some(last) => span.extent.first == last.extent.end,
        };
        match Span::open(folder, &name) {
            Ok(span)
                if follows(&span) && records::agrees(records, start, span.extent.end, span.extent.head)? =>
            {
                spans.push(Arc::new(span));
            }
            Ok(_) | Err(SideError::Damaged { .. }) => {
                crate::coverage::Mark::SpanThrownAway.hit();
                folder.remove(&name)?;
            }
            Err(error) => return Err(error),
        }
    }
    let whole = spans.first().is_some_and(|span| span.extent.first == 0)
        && spans.last().is_some_and(|span| span.extent.end >= start);
    // Balances as of a date count from the beginning.
    if start > 0 && !whole {
        return Err(SideError::Unfounded { what: "history", start });
    }
    Ok(spans)
}
