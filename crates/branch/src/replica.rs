//! The state of a branch as its journal makes it: the one way in which a journal is replayed.
//!
//! ```text
//! snapshot ─► begin ─► step · step · step ─► go_on_with ─► read_on ─► finished ─► a branch that serves
//!                       (a follower)          (an opening: the epoch is raised)
//! ```
//!
//! An opening that nobody prepared begins a replica and reads to the end at once. A follower reads a journal that is another's, for as
//! long as it is, and hands its replica to the opening, which then takes as long as what is left to read.
//!
//! # Invariants
//!
//! - It takes what follows what it has, batch by batch of one chain, and nothing else: [`OpenFailure::Differs`].
//! - Beside its own derived files it changes nothing before it is finished: no journal, no key. Of these it puts aside what the journal
//!   has declared lost, and nothing that may be all that tells of a loss.
//! - Nothing in it reaches beyond [`Replica::seen`], a place where the journal's store has said that it ends.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, RwLock};

use skerry_book::record;
use skerry_book::{Book, Event};
use skerry_journal::batch::continues;
use skerry_journal::{BatchView, Head, JournalReader, Position, SealedBatch, Storage};
use skerry_ledger::{Moved, MovedKind};
use skerry_money::Date;
use skerry_proof::HashAlgorithm;
use skerry_proof::mmr::Mmr;

use crate::aside::Aside;
use crate::channels::rewound;
use crate::evidence::nodes::Nodes;
use crate::history::{History, RECORD_BYTES, Records, SideError, SideFolder};
use crate::ids::Ids;
use crate::jobs::{Followers, Tray, Workshop};
use crate::keys::{KeyRef, Keys};
use crate::open::{Ground, OpenFailure, check_evidence, hold_against};
use crate::options::Options;
use crate::records::{Current, Durable, Near};
use crate::snapshot::{self, Mark, SnapshotError};
use crate::work::Recalls;

/// See the module. `R` reads its journal, through to the archive.
pub(crate) struct Replica<R, S: Storage> {
    pub(crate) base: Base,
    pub(crate) ids: Ids,
    /// What lies before is in the index already.
    ids_from: u64,
    /// Everything before it was read.
    cursor: u64,
    reader: R,
    /// What index and history compare with: another reader's once the journal is open.
    near: Arc<Current>,
    all: Arc<Current>,
    pub(crate) recalls: Recalls,
    pub(crate) workshop: Workshop<S>,
    /// The position of the snapshot that it began with; 0 without one.
    pub(crate) from_snapshot: u64,
    /// Keys that are to be gone once a branch serves from this.
    erased: Vec<KeyRef>,
    seen: Head,
    /// What this machine remembers and the journal does not have.
    aside: Aside,
    /// The epoch under which a loss was declared last, as far as it was read here.
    declared: Option<u64>,
    /// That of the batch which is being taken in.
    epoch: u64,
}

/// The book and what goes with it.
pub(crate) struct Base {
    pub(crate) book: Book,
    pub(crate) mmr: Mmr,
    pub(crate) totals: Vec<(u16, u128)>,
    pub(crate) head: Head,
    pub(crate) time_us: u64,
}

/// A follower reads so much of the journal at once.
const PIECE: usize = 4 << 20;

impl<R: JournalReader, S: Storage> Replica<R, S> {
    /// From the newest usable snapshot that is not `aside`, or from nothing. `far` reads through to the archive.
    pub(crate) fn begin(
        ground: &Ground<'_, S>,
        near: &R,
        far: &R,
        aside: Aside,
    ) -> Result<Self, OpenFailure> {
        let options = ground.options;
        check_evidence(near, options.evidence)?;
        let (seen, start) = (near.head(), near.start());
        let folder = |name| ground.storage.folder(name);
        let (snapshots, evidence) = (folder("snapshots")?, folder("evidence")?);
        let durable = Durable(near.clone());
        let archive = Archive { reader: far, start };
        let base_from = |start| find_base(&snapshots, &durable, (options, &aside), seen, start);
        let base = archive.or_whole(base_from(start), || base_from(Position(0)))?;
        let recalls = Recalls::default();
        let near_records = Near { durable: Durable(near.clone()), recalled: Arc::clone(&recalls.read) };
        let near_records = Arc::new(Current::new(Arc::new(near_records)));
        let all = Arc::new(Current::new(Arc::new(Durable(far.clone()))));
        let id_runs = SideFolder::new(folder("ids")?);
        let open_ids = |start| {
            let records: Arc<dyn Records> = Arc::<Current>::clone(&near_records);
            Ids::open(id_runs.clone(), records, options.ids, start)
        };
        let ids = archive.or_whole(open_ids(start.0).map_err(OpenFailure::Side), || Ok(open_ids(0)?))?;
        let agrees =
            |head: &Head| durable.head_before(head.position.0).is_ok_and(|hash| hash == Some(head.hash));
        let mut nodes =
            Nodes::open(&evidence, options.evidence, |head| head.position >= start && agrees(head))?;
        // With the whole archive at hand they are made again from the beginning; else they go on from here.
        if nodes.marked().position < start && !archive.is_whole() {
            nodes = Nodes::resume(&evidence, base.mmr.clone(), base.head)?;
        }
        let spans = SideFolder::new(folder("history")?);
        let open_history = |start| {
            let records: Arc<dyn Records> = Arc::<Current>::clone(&all);
            let ids = ids.reader_over(Arc::clone(&records));
            History::open(spans.clone(), records, ids, options.history, start)
        };
        let history =
            archive.or_whole(open_history(start.0).map_err(OpenFailure::Side), || Ok(open_history(0)?))?;
        let followers = Followers { head: nodes.marked(), history, nodes };
        let workshop = Workshop {
            ground: ground.storage.clone(),
            snapshots,
            evidence,
            checkpoints: folder("checkpoints")?,
            signer: Arc::clone(ground.signer),
            keys: Arc::clone(ground.keys),
            snapshots_kept: options.snapshots_kept,
            followers: Mutex::new(followers),
            tray: Tray::default(),
            latest: RwLock::default(),
            glance: Mutex::default(),
        };
        let ids_from = ids.position();
        let (from_snapshot, erased) = (base.head.position.0, erased_in(&base.book));
        let (reader, cursor) = (far.clone(), ids_from.min(from_snapshot));
        let near = near_records;
        Ok(Self {
            base,
            ids,
            ids_from,
            cursor,
            reader,
            near,
            all,
            recalls,
            workshop,
            from_snapshot,
            erased,
            seen,
            aside,
            declared: None,
            epoch: 0,
        })
    }

    /// Where the book stands.
    pub(crate) const fn position(&self) -> u64 {
        self.base.head.position.0
    }

    /// Where the journal ended when its store was last asked.
    pub(crate) const fn seen(&self) -> Head {
        self.seen
    }

    /// Reads a piece of what is there. At the end it asks the store first whether that still is the end. Whether anything was read.
    ///
    /// # Errors
    ///
    /// [`OpenFailure::may_pass`] tells whether it can go on after it.
    pub(crate) fn step(&mut self) -> Result<bool, OpenFailure> {
        if self.cursor >= self.seen.position.0 {
            self.look()?;
        }
        let left = self.seen.position.0.saturating_sub(self.cursor);
        if left == 0 {
            self.settle()?;
            return Ok(false);
        }
        let batches = self.reader.read(Position(self.cursor), PIECE)?;
        for batch in &batches {
            self.take(batch.view())?;
        }
        self.beside(&batches)?;
        Ok(true)
    }

    /// At the end of the journal: what this machine remembers and the journal does not have must be of a life whose loss it declares.
    fn settle(&mut self) -> Result<(), OpenFailure> {
        if !self.aside.is_doubt() {
            return Ok(());
        }
        let (journal, position) = (self.seen.position.0, self.aside.lost_to);
        if !self.aside.is_declared(self.base.book.incarnation().max(1)) {
            let (evidence, disagrees) = ("what this machine remembers", position <= journal);
            return Err(OpenFailure::Rewound { evidence, journal, position, disagrees });
        }
        tracing::warn!(journal, position, "what was declared lost elsewhere is put aside here too");
        std::mem::take(&mut self.aside).put(&self.workshop.ground)
    }

    /// The epoch under which a loss was declared that this machine need not remember any more.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared.filter(|_| !self.aside.is_doubt())
    }

    /// What the store has now must go on from what it had.
    fn look(&mut self) -> Result<(), OpenFailure> {
        let now = self.reader.look_again()?;
        if now != self.seen && !holds(&self.reader, &self.seen) {
            return Err(OpenFailure::Differs { position: now.position.min(self.seen.position).0 });
        }
        self.seen = now;
        Ok(())
    }

    /// History and evidence follow as well.
    fn beside(&self, batches: &[SealedBatch]) -> Result<(), OpenFailure> {
        self.workshop.follow(&self.reader, batches).map_err(OpenFailure::Beside)
    }

    /// Goes on with the journal as it was opened. `None` if it is not the one that was followed: whoever opens it begins anew then.
    pub(crate) fn go_on_with(mut self, near: &R, far: &R) -> Option<Self> {
        if self.aside.is_doubt() {
            return None;
        }
        if !holds(far, &self.seen) {
            tracing::warn!(
                position = self.seen.position.0,
                "the journal is not the one that was followed: it is read anew"
            );
            return None;
        }
        self.reader = far.clone();
        self.seen = far.head();
        self.near
            .set(Arc::new(Near { durable: Durable(near.clone()), recalled: Arc::clone(&self.recalls.read) }));
        self.all.set(Arc::new(Durable(far.clone())));
        Some(self)
    }

    /// Reads to the end. History and evidence come later.
    pub(crate) fn read_on(&mut self) -> Result<(), OpenFailure> {
        if self.cursor >= self.reader.head().position.0 {
            return Ok(());
        }
        let (mut failed, reader) = (None, self.reader.clone());
        reader.scan(Position(self.cursor), &mut |batch| match self.take(batch) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The journal is ours and all of it was read: now what it says is done outside of it too.
    pub(crate) fn finished(self, ground: &Ground<'_, S>) -> Result<Self, OpenFailure> {
        erase_again(&self.erased, &**ground.keys)?;
        if !ground.declared {
            rewound::check(&ground.storage.folder("peers")?, &self.base.book)?;
        }
        if cfg!(debug_assertions)
            && let Err(broken) = skerry_book::invariants::check(&self.base.book)
        {
            return Err(OpenFailure::Panicked(broken.to_owned()));
        }
        Ok(self)
    }

    fn take(&mut self, batch: BatchView<'_>) -> Result<(), OpenFailure> {
        let parts = batch.parts();
        let date = Date(batch.header.business_date);
        let evolve_from = self.base.head.position.0;
        self.epoch = batch.header.epoch;
        if batch.header.first_position >= evolve_from && continues(&self.base.head, &batch.header).is_err() {
            return Err(OpenFailure::Differs { position: batch.header.first_position });
        }
        let records = parts.records.as_chunks::<RECORD_BYTES>().0;
        for (index, (position, record)) in (0_u32..).zip((batch.header.first_position..).zip(records)) {
            if position >= self.ids_from {
                self.ids.insert_record(position, record);
            }
            if position >= evolve_from {
                let tail = parts.tails.get(index).unwrap_or_default();
                self.record(position, record, tail, date)?;
            }
        }
        if batch.header.first_position >= evolve_from {
            self.base.mmr.append(batch.header.history_leaf(), |_| {});
            self.base.head = batch.head_after();
            self.base.time_us = batch.header.time_us;
        }
        let end = batch.head_after();
        self.cursor = end.position.0;
        if end.position.0 > self.ids_from {
            self.ids.durable(end.position.0, end.hash);
            while self.ids.must_wait() {
                let Some(work) = self.ids.take_work() else { break };
                let done = work.run();
                self.ids.finish(done)?;
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        position: u64,
        record: &[u8; RECORD_BYTES],
        tail: &[u8],
        date: Date,
    ) -> Result<(), OpenFailure> {
        let unread = |source| OpenFailure::Record { position, source };
        if tail.is_empty()
            && let Some(moved) = record::decode_moved(record, date).map_err(unread)?
        {
            self.base.count(&moved);
            self.base.book.evolve_moved(&moved);
            return Ok(());
        }
        let event = record::decode(record, tail, date).map_err(unread)?.event;
        match &event {
            Event::Moved(moved) => self.base.count(moved),
            Event::Sent(_) | Event::Received(_) | Event::Settled(_) | Event::Returned(_) => {
                if let Some(moved) = event.posting(self.base.book.branch()) {
                    self.base.count(&moved);
                }
            }
            // Erasing is part of what happened: it is done again, whatever was restored, once the journal is ours.
            Event::CustomerErased(erased) => {
                crate::coverage::Mark::ErasedAgain.hit();
                self.erased.push(KeyRef(erased.key_ref));
            }
            Event::Incarnated(_) => self.declared = Some(self.epoch),
            _ => {}
        }
        self.base.book.evolve(&event);
        Ok(())
    }
}

/// Whether the journal that `reader` reads has a batch that ends at `place`.
fn holds<R: JournalReader>(reader: &R, place: &Head) -> bool {
    let durable = Durable(reader.clone());
    place.position <= reader.head().position
        && durable.head_before(place.position.0).is_ok_and(|hash| hash == Some(place.hash))
}

impl Base {
    fn count(&mut self, moved: &Moved) {
        if matches!(moved.kind, MovedKind::Posted | MovedKind::HoldPosted) {
            let currency = moved.currency.number();
            match self.totals.iter_mut().find(|(known, _)| *known == currency) {
                Some((_, total)) => *total += u128::from(moved.amount),
                None => self.totals.push((currency, u128::from(moved.amount))),
            }
        }
    }
}

/// The archive, for what is missing here and can be made again from the beginning.
struct Archive<'a, R> {
    reader: &'a R,
    start: Position,
}

impl<R: JournalReader> Archive<'_, R> {
    /// Whether all that is not in the journal lies there now.
    fn is_whole(&self) -> bool {
        self.start > Position(0) && self.reader.origin().is_ok_and(|origin| origin == Head::default())
    }

    /// What was `found`; if it wants what is archived, and the archive is whole, what comes of beginning `anew`.
    fn or_whole<T>(
        &self,
        found: Result<T, OpenFailure>,
        anew: impl FnOnce() -> Result<T, OpenFailure>,
    ) -> Result<T, OpenFailure> {
        let wants =
            matches!(found, Err(OpenFailure::NoBase { .. } | OpenFailure::Side(SideError::Unfounded { .. })));
        if !wants || !self.is_whole() {
            return found;
        }
        crate::coverage::Mark::RebuiltFromTheArchive.hit();
        tracing::warn!("what was derived from archived positions is made again from the archive");
        anew()
    }
}

/// The newest snapshot that can be read, or the empty book.
fn find_base<S: Storage>(
    folder: &S,
    durable: &dyn Records,
    (options, aside): (&Options, &Aside),
    head: Head,
    start: Position,
) -> Result<Base, OpenFailure> {
    for (_, file) in snapshot::list(folder)?.into_iter().filter(|(_, file)| !aside.has(file)) {
        match read_base(folder, &file, options) {
            Ok(base) => {
                let place = base.head.position;
                hold_against("a snapshot", place, &base.head.hash, durable, head, start)?;
                return Ok(base);
            }
            Err(SnapshotError::Storage(error)) => return Err(error.into()),
            Err(error) => {
                crate::coverage::Mark::SnapshotPassedOver.hit();
                tracing::warn!("a snapshot is not used: {error}");
            }
        }
    }
    if start.0 > 0 {
        return Err(OpenFailure::NoBase { start: start.0 });
    }
    let book = Book::new(options.branch, options.seed);
    Ok(Base { book, mmr: Mmr::new(options.evidence), totals: Vec::new(), head: Head::default(), time_us: 0 })
}

fn read_base<S: Storage>(folder: &S, file: &str, options: &Options) -> Result<Base, SnapshotError> {
    let damaged = |what| SnapshotError::Damaged { file: file.to_owned(), what };
    let (mark, state) = snapshot::read(folder, file)?;
    if mark.branch != options.branch {
        return Err(damaged("branch"));
    }
    let mut rest = state.as_slice();
    let mut fill = |buffer: &mut [u8]| -> Result<(), ()> {
        let (now, later) = rest.split_at_checked(buffer.len()).ok_or(())?;
        buffer.copy_from_slice(now);
        rest = later;
        Ok(())
    };
    let book = Book::read(&mut fill, options.seed).map_err(|_| damaged("image"))?;
    if !rest.is_empty() || book.position() != mark.head.position.0 {
        return Err(damaged("image"));
    }
    let (mmr, totals) = read_extra(&mark, options.evidence).ok_or_else(|| damaged("history peaks"))?;
    Ok(Base { book, mmr, totals, head: mark.head, time_us: mark.time_us })
}

/// Peaks and posted totals: count u32, peaks 32 each, then (currency u16, total u128) to the end.
fn read_extra(mark: &Mark, evidence: HashAlgorithm) -> Option<(Mmr, Vec<(u16, u128)>)> {
    let (count, rest) = mark.extra.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (peaks, totals) = rest.split_at_checked(count.checked_mul(32)?)?;
    let mmr = Mmr::from_peaks(evidence, mark.head.batch, peaks.as_chunks::<32>().0.to_vec())?;
    let (totals, left) = totals.as_chunks::<18>();
    let total = |bytes: &[u8; 18]| {
        let (currency, total) = bytes.split_first_chunk::<2>()?;
        Some((u16::from_le_bytes(*currency), u128::from_le_bytes(total.try_into().ok()?)))
    };
    left.is_empty().then(|| Some((mmr, totals.iter().map(total).collect::<Option<_>>()?)))?
}

/// Keys that are asked about at once.
const ASKED_TOGETHER: usize = 4_096;

/// Keys that are gone, as the book of a snapshot says.
fn erased_in(book: &Book) -> Vec<KeyRef> {
    let customers = (1..=book.customer_count()).filter_map(|serial| book.customer(serial));
    customers.filter(|customer| customer.erased).map(|customer| KeyRef(customer.key_ref)).collect()
}

/// Holds the keys against what the journal says: they may come from an older copy than the snapshot that the book came from.
fn erase_again(erased: &[KeyRef], keys: &dyn Keys) -> Result<(), OpenFailure> {
    for some in erased.chunks(ASKED_TOGETHER) {
        for key in keys.not_erased(some)? {
            crate::coverage::Mark::ErasedAgain.hit();
            keys.erase(key)?;
        }
    }
    Ok(())
}
