//! The directory inside one process, in a folder of its own.
//!
//! ```text
//! submit ─► queue ─► poll: decide all that wait ─► records ─► one sync ─► answers
//!                              │ rows, reservations: in memory
//!                              └ confirmed aliases: places in memory (`index.rs`), records in the table (`log.rs`)
//! ```
//!
//! Answers of a batch are told when its records are durable; a confirmation may be told before, for without it the
//! reservation stands. If the machine fails, the memory is thrown away and the files are opened again. If the files cannot be
//! what was written they are thrown away too: the directory is derived, and a rebuild makes it again.
//!
//! Leases, rooms, and when a node was last heard of and what it follows, live in memory only.

mod decide;
mod index;
pub mod log;
pub mod record;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use skerry_journal::{Storage, StorageError};

use self::index::Index;
use self::log::{Found, Log, TABLE_BYTES_MAX, Unread};
use self::record::{Record, UNIT};
use self::state::{ALIAS_LENGTH, Broken, Heard, Lease, State, bytes_of, confirmed, scan};
use crate::assign::Placed;
use crate::rows::{Alias, Name};
use crate::seam::{Answered, Ask, Busy, CLAIM_US_MAX, Directory, Fault, LEASE_US, Now, Ticket, Wake};

/// How an embedded directory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Whoever acted upon this directory before is gone, because they lived in the process that held its folder. Otherwise
    /// leases and claims that were given before the start may still be counted on, and are waited for.
    pub alone: bool,
    /// Asks that may wait.
    pub asks_max: usize,
    /// The log is cut off at about this length, in bytes.
    pub log_bytes_max: u64,
    /// A confirmation is made durable after so many microseconds at the latest.
    pub lazy_us: u64,
    /// After a failure of the machine the files are tried again so much later.
    pub retry_us: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { alone: true, asks_max: 4_096, log_bytes_max: 8 << 20, lazy_us: 50_000, retry_us: 100_000 }
    }
}

/// What was found at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing: the directory is empty and wants to be rebuilt.
    Fresh,
    /// Everything.
    Whole,
    /// Something that cannot be what was written; it was thrown away, and the directory wants to be rebuilt.
    ThrownAway(String),
}

/// Why the directory did not open.
#[derive(Debug, thiserror::Error)]
#[error("could not open the directory in {place}")]
pub struct EmbeddedError {
    /// The folder.
    pub place: String,
    /// The cause.
    pub source: StorageError,
}

/// Sizes, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbeddedStats {
    /// Confirmed aliases.
    pub aliases: u64,
    /// Open reservations.
    pub reservations: u64,
    /// Memory for finding aliases.
    pub index_bytes: usize,
    /// The table's length.
    pub table_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Embedded<S: Storage> {
    storage: S,
    options: EmbeddedOptions,
    _lock: S::Lock,
    open: Option<Open<S>>,
    recovery: Recovery,
    queue: VecDeque<(Ticket, Ask)>,
    answers: VecDeque<Answered>,
    next: u64,
    retry_at: u64,
    /// What was in memory alone when the files failed.
    memory: Option<Memory>,
}

/// What lives in memory alone, and outlives the files' failing.
#[derive(Debug)]
struct Memory {
    placed: BTreeMap<u16, Placed>,
    leases: BTreeMap<u16, Lease>,
    seen: BTreeMap<Name, Heard>,
    claims: BTreeMap<Alias, Option<u64>>,
    claims_over: u64,
    leases_over: u64,
}

/// The files, open, and the memory that goes with them.
#[derive(Debug)]
struct Open<S: Storage> {
    log: Log<S>,
    state: State,
    options: EmbeddedOptions,
    /// Something must be durable before it is told.
    must_sync: bool,
    /// When what may wait has waited long enough.
    lazy_due: Option<u64>,
    /// When the first ask came.
    begun: Option<u64>,
    /// It began with nothing: reservations may have been lost.
    fresh: bool,
    /// When lost claims, and lost leases, are over.
    claims_over: u64,
    leases_over: u64,
}

/// Asks that one turn takes.
const BATCH: usize = 512;
/// So much that may wait is synced all the same.
const LAZY_BYTES_MAX: usize = 1 << 20;
/// A table is written anew at opening when it is longer than this and more than twice what lives in it: a customer's
/// reservation and confirmation are as long as each other.
const REWRITE_BYTES_MIN: u64 = 1 << 20;

impl<S: Storage> Embedded<S> {
    /// Opens the directory in `storage`, a folder of its own.
    ///
    /// # Errors
    ///
    /// The machine failed, or somebody else holds the folder.
    pub fn open(storage: &S, options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let fail = |source| EmbeddedError { place: storage.place(), source };
        let lock = storage.lock().map_err(fail)?;
        let (open, recovery) = open(storage, options, false).map_err(fail)?;
        Ok(Self {
            storage: storage.clone(),
            options,
            _lock: lock,
            open: Some(open),
            recovery,
            queue: VecDeque::new(),
            answers: VecDeque::new(),
            next: 0,
            retry_at: 0,
            memory: None,
        })
    }

    /// What was found when the files were last opened.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Sizes.
    #[must_use]
    pub fn stats(&self) -> EmbeddedStats {
        let Some(open) = &self.open else { return EmbeddedStats::default() };
        EmbeddedStats {
            aliases: open.state.index.count(),
            reservations: open.state.pending.len() as u64,
            index_bytes: open.state.index.bytes(),
            table_bytes: open.log.end(),
        }
    }

    fn turn(&mut self, now: Now) {
        if self.open.is_none() && now.monotonic_us >= self.retry_at {
            self.reopen(now);
        }
        let Some(open) = &mut self.open else {
            let silent: Vec<Ticket> = self.queue.drain(..).map(|(ticket, _)| ticket).collect();
            return self.doubt(&silent, "its files could not be opened");
        };
        let count = self.queue.len().min(BATCH);
        let (mut tickets, mut told) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut ended = open.begin(now);
        for (ticket, ask) in self.queue.drain(..count) {
            tickets.push(ticket);
            if ended.is_ok() {
                match open.handle(ask, now) {
                    Ok(answer) => told.push(answer),
                    Err(broken) => ended = Err(broken),
                }
            }
        }
        let ended = ended.and_then(|()| open.settle(now));
        match ended {
            Ok(()) => {
                let answers = tickets.into_iter().zip(told);
                self.answers.extend(answers.map(|(ticket, told)| Answered { ticket, outcome: Ok(told) }));
            }
            Err(broken) => self.fail(&tickets, broken, now),
        }
    }

    fn fail(&mut self, tickets: &[Ticket], broken: Broken, now: Now) {
        if let Some(Open { state, claims_over, leases_over, .. }) = self.open.take() {
            let claims = state.pending.iter().map(|(alias, pending)| (*alias, pending.until)).collect();
            let (placed, leases, seen) = (state.placed, state.leases, state.seen);
            self.memory = Some(Memory { placed, leases, seen, claims, claims_over, leases_over });
        }
        self.retry_at = now.monotonic_us.saturating_add(self.options.retry_us);
        let why = match broken {
            Broken::Machine(error) => error.to_string(),
            Broken::Damaged(at) => format!("the table is damaged at {at}"),
        };
        self.doubt(tickets, &why);
    }

    fn doubt(&mut self, tickets: &[Ticket], why: &str) {
        let why: Arc<str> = why.into();
        let fault =
            |ticket: &Ticket| Answered { ticket: *ticket, outcome: Err(Fault::Unknown(Arc::clone(&why))) };
        self.answers.extend(tickets.iter().map(fault));
    }

    fn reopen(&mut self, now: Now) {
        match open(&self.storage, self.options, true) {
            Ok((mut open, recovery)) => {
                self.memory.take().into_iter().for_each(|memory| open.remember(memory, now));
                (self.open, self.recovery) = (Some(open), recovery);
            }
            Err(_again_later) => self.retry_at = now.monotonic_us.saturating_add(self.options.retry_us),
        }
    }
}

impl<S: Storage> Directory for Embedded<S> {
    fn submit(&mut self, ask: Ask) -> Result<Ticket, Busy> {
        let waiting = self.queue.len() + self.answers.len();
        if waiting >= self.options.asks_max {
            return Err(Busy { waiting });
        }
        self.next += 1;
        self.queue.push_back((Ticket(self.next), ask));
        Ok(Ticket(self.next))
    }

    fn poll(&mut self, now: Now) -> Option<Answered> {
        let lazy =
            self.open.as_ref().and_then(|open| open.lazy_due).is_some_and(|due| due <= now.monotonic_us);
        if self.answers.is_empty() && (!self.queue.is_empty() || lazy) {
            self.turn(now);
        }
        self.answers.pop_front()
    }

    fn next_due(&self) -> Option<u64> {
        self.open.as_ref().and_then(|open| open.lazy_due)
    }

    fn on_event(&mut self, _wake: Wake) {
        // Nothing happens here but what `poll` does.
    }
}

impl<S: Storage> Drop for Embedded<S> {
    fn drop(&mut self) {
        if let Some(open) = &mut self.open {
            // What may be forgotten is kept if it can be.
            let _as_good_as_can_be = open.log.flush();
        }
    }
}

/// Opens the files. `distrust`: a write or sync of this process failed, so the table is written anew.
fn open<S: Storage>(
    storage: &S,
    options: EmbeddedOptions,
    distrust: bool,
) -> Result<(Open<S>, Recovery), StorageError> {
    match read(storage, options, distrust) {
        Ok(open) => Ok((open, Recovery::Whole)),
        Err(Unread::Machine(error)) => Err(error),
        Err(Unread::Nothing) => Ok((fresh(storage, options)?, Recovery::Fresh)),
        Err(Unread::Damaged(why)) => Ok((fresh(storage, options)?, Recovery::ThrownAway(why))),
    }
}

fn fresh<S: Storage>(storage: &S, options: EmbeddedOptions) -> Result<Open<S>, StorageError> {
    let mut open = Open::new(Log::fresh(storage, options.log_bytes_max)?, State::default(), options, true);
    open.opened()?;
    Ok(open)
}

fn read<S: Storage>(storage: &S, options: EmbeddedOptions, distrust: bool) -> Result<Open<S>, Unread> {
    let found = Found::look(storage)?;
    let frames = found.frames()?;
    let mut log = Log::resume(storage, found, frames, options.log_bytes_max);
    let mut state = State::default();
    scan(&log, |record, _, at| {
        let known = known(&log, &state.index, &record)?;
        state.evolve(record, place(at)?, known);
        Ok(())
    })
    .map_err(unread)?;
    let alive = state.index.count() * ALIAS_LENGTH as u64;
    if distrust || log.end() > REWRITE_BYTES_MIN + 2 * alive + (alive >> 3) {
        log = rewrite(log, &mut state).map_err(unread)?;
    } else {
        log.checkpoint()?;
    }
    let mut open = Open::new(log, state, options, false);
    open.opened()?;
    Ok(open)
}

/// Writes what lives into a new table.
fn rewrite<S: Storage>(log: Log<S>, state: &mut State) -> Result<Log<S>, Broken> {
    let mut index = Index::default();
    let mut broken = None;
    let rewritten = log.rewrite(|log, put| {
        for row in state.rows() {
            put(&bytes_of(&row))?;
        }
        let copied = scan(log, |record, bytes, at| {
            if let Record::Confirmed(alias, _) = record
                && state.index.candidates(&alias).contains(&place(at)?)
            {
                index.insert(&alias, place(put(bytes)?)?);
            }
            Ok(())
        });
        match copied {
            Err(Broken::Machine(error)) => Err(error),
            Err(damaged) => {
                broken = Some(damaged);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    })?;
    state.index = index;
    broken.map_or(Ok(rewritten), Err)
}

fn unread(broken: Broken) -> Unread {
    match broken {
        Broken::Machine(error) => Unread::Machine(error),
        Broken::Damaged(at) => Unread::Damaged(format!("the table is damaged at {at}")),
    }
}

/// A place in units.
fn place(at: u64) -> Result<u32, Broken> {
    u32::try_from(at / UNIT as u64).map_err(|_| Broken::Damaged(at))
}

/// Where the alias of a record lay before it.
fn known<S: Storage>(log: &Log<S>, index: &Index, record: &Record) -> Result<Option<u32>, Broken> {
    match record {
        Record::Confirmed(alias, _) | Record::Gone(alias) => {
            Ok(confirmed(log, index, alias)?.map(|(at, _)| at))
        }
        _ => Ok(None),
    }
}

impl<S: Storage> Open<S> {
    fn new(log: Log<S>, state: State, options: EmbeddedOptions, fresh: bool) -> Self {
        Self {
            log,
            state,
            options,
            must_sync: false,
            lazy_due: None,
            begun: None,
            fresh,
            claims_over: 0,
            leases_over: 0,
        }
    }

    /// The files failed while the process went on: what it has told in the meantime holds.
    fn remember(&mut self, memory: Memory, now: Now) {
        let over = now.monotonic_us.saturating_add(CLAIM_US_MAX);
        let claim = self.state.next_claim();
        for (alias, pending) in &mut self.state.pending {
            pending.claim = claim;
            pending.until = memory.claims.get(alias).copied().flatten().or(Some(over));
        }
        (self.state.placed, self.state.leases, self.state.seen) = (memory.placed, memory.leases, memory.seen);
        self.begun = Some(now.monotonic_us);
        self.claims_over = if self.fresh { over } else { memory.claims_over };
        self.leases_over = memory.leases_over;
    }

    /// Counts this opening: versions never come back.
    fn opened(&mut self) -> Result<(), StorageError> {
        let record = Record::Opened(self.state.opened + 1);
        self.log.append(&bytes_of(&record));
        self.state.opened += 1;
        self.log.flush()?;
        self.log.tidy()
    }

    /// The clock is known from the first turn on.
    fn begin(&mut self, now: Now) -> Result<(), Broken> {
        if self.fresh && self.state.opened < now.wall_us / 1_000_000 {
            // A directory before this one may have told versions of its own.
            self.keep(Record::Opened(now.wall_us / 1_000_000))?;
        }
        if self.begun.is_some() {
            return Ok(());
        }
        self.begun = Some(now.monotonic_us);
        let later = |us: u64| if self.options.alone { 0 } else { now.monotonic_us.saturating_add(us) };
        self.leases_over = later(*LEASE_US.end());
        // A rebuild that did not end may have begun because reservations were lost.
        self.claims_over = if self.state.complete { 0 } else { later(CLAIM_US_MAX) };
        let until = later(CLAIM_US_MAX);
        let claim = self.state.next_claim();
        self.state
            .pending
            .values_mut()
            .for_each(|pending| (pending.until, pending.claim) = (Some(until), claim));
        Ok(())
    }

    fn since(&self, now: Now) -> u64 {
        self.begun.unwrap_or(now.monotonic_us)
    }

    /// How long claims that this directory has lost may still be acted upon.
    const fn claims_lost_left_us(&self, now: Now) -> u64 {
        self.claims_over.saturating_sub(now.monotonic_us)
    }

    /// How long leases from before the opening may still be counted on.
    const fn leases_lost_left_us(&self, now: Now) -> u64 {
        self.leases_over.saturating_sub(now.monotonic_us)
    }

    /// Lays a record down; it is durable before the answer is told.
    fn keep(&mut self, record: Record) -> Result<(), Broken> {
        self.must_sync = true;
        self.lay(record)
    }

    /// The same, durable a little later.
    fn keep_lazily(&mut self, record: Record) -> Result<(), Broken> {
        self.lay(record)
    }

    fn lay(&mut self, record: Record) -> Result<(), Broken> {
        let at = self.log.end();
        if at + 2 * ALIAS_LENGTH as u64 > TABLE_BYTES_MAX {
            return Err(Broken::Damaged(at));
        }
        let known = known(&self.log, &self.state.index, &record)?;
        self.log.append(&bytes_of(&record));
        self.state.evolve(record, place(at)?, known);
        Ok(())
    }

    /// Makes durable what must be, and what has waited long enough.
    fn settle(&mut self, now: Now) -> Result<(), Broken> {
        let waits = self.log.unflushed();
        let due = self.lazy_due.is_some_and(|due| due <= now.monotonic_us);
        if self.must_sync || due || waits > LAZY_BYTES_MAX {
            self.log.flush()?;
            (self.must_sync, self.lazy_due) = (false, None);
        } else if waits > 0 && self.lazy_due.is_none() {
            self.lazy_due = Some(now.monotonic_us.saturating_add(self.options.lazy_us));
        }
        Ok(())
    }
}
