//! Opening: from the newest usable snapshot and the journal's tail to a branch that serves.
//!
//! The journal is held against everything that outlived it: checkpoints are promises to the outside, and
//! snapshots hold only what was durable. A journal that is shorter than one of them, or disagrees with it, was
//! rewound, and the branch refuses to open until an operator declares the loss.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use skerry_book::record::{self, RecordError};
use skerry_book::{Book, Event};
use skerry_journal::{
    BatchView, Head, Journal, JournalReader, JournalStore, OpenError, Position, ReadError, Recovery, Storage,
    StorageError,
};
use skerry_ledger::{Moved, MovedKind};
use skerry_money::Date;
use skerry_proof::checkpoint::SignedCheckpoint;
use skerry_proof::mmr::Mmr;
use skerry_proof::{HashAlgorithm, PublicKey, Signer};

use crate::batch::{Builder, Writer};
use crate::channels::{Talk, rewound};
use crate::clock::{Clock, Now};
use crate::evidence::checkpoints::{self, CheckpointFileError};
use crate::evidence::nodes::Nodes;
use crate::held::HeldReplies;
use crate::history::{History, RECORD_BYTES, Records, SideError, SideFolder};
use crate::ids::Ids;
use crate::jobs::{Followers, Job, Tray, Workshop};
use crate::keys::{KeyError, KeyRef, Keys};
use crate::meters::Meters;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::records::{Durable, Near};
use crate::snapshot::{self, Mark, SnapshotError};
use crate::work::{Marks, Recalls, Scratch, Work};

/// Why a branch did not open. Nothing acknowledged was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// The journal itself did not open.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The journal is shorter than, or disagrees with, what it has promised.
    #[error(
        "journal_rewound: the journal ends at position {journal}, but {evidence} stands for position {position}\
         {}; `skerry branch declare-loss` opens it without what is lost",
        if *.disagrees { " and has another hash there" } else { "" }
    )]
    Rewound {
        /// What remembers more.
        evidence: &'static str,
        /// Where the journal ends.
        journal: u64,
        /// The place that is missing or different.
        position: u64,
        /// Whether the journal reaches that place with other content.
        disagrees: bool,
    },
    /// Another branch knows of payments that the journal does not have.
    #[error(
        "journal_rewound: branch {peer} has payments of this branch up to {told} that the journal, which ends at position \
         {journal} and has them up to {known}, does not have; `skerry branch declare-loss` opens it without what is lost"
    )]
    PeerAhead {
        /// Which.
        peer: u16,
        /// The number that it knows.
        told: u64,
        /// The number up to which they were known here.
        known: u64,
        /// Where the journal ends.
        journal: u64,
    },
    /// The journal's beginning is archived and no snapshot stands in for it.
    #[error("positions before {start} are archived and no usable snapshot is left: restore either")]
    NoBase {
        /// The first position that is here.
        start: u64,
    },
    /// The branch was founded with another evidence hash.
    #[error(
        "the journal's record roots are {}, but the bank is configured for {}: the evidence hash is fixed for a \
         branch's life", .journal.name(), .configured.name()
    )]
    Evidence {
        /// What the last batch says.
        journal: HashAlgorithm,
        /// What the branch was to be opened with.
        configured: HashAlgorithm,
    },
    /// The journal could not be read.
    #[error("could not replay the journal")]
    Read(#[from] ReadError),
    /// A record that cannot be read.
    #[error("could not replay the record at position {position}")]
    Record {
        /// Where.
        position: u64,
        /// Why.
        source: RecordError,
    },
    /// A derived file could not be used.
    #[error("could not open derived files")]
    Side(#[from] SideError),
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFileError),
    /// An erasure could not be done again.
    #[error("could not erase a customer's key again")]
    Key(#[from] KeyError),
    /// The machine let us down.
    #[error("could not reach the branch's folder")]
    Storage(#[from] StorageError),
    /// The journal's history does not follow its own rules: opening panicked.
    #[error("opening panicked: {0}")]
    Panicked(String),
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the journal ends.
    pub head: Head,
    /// The position of the snapshot that replay began from; 0 without one.
    pub snapshot: u64,
    /// Records replayed.
    pub replayed: u64,
    /// A torn tail that was left behind: file and offset.
    pub torn: Option<(String, u64)>,
}

/// What opening needs besides the journal.
pub(crate) struct Ground<'a, S> {
    pub(crate) storage: &'a S,
    pub(crate) options: &'a Arc<Options>,
    pub(crate) signer: &'a Arc<dyn Signer + Send + Sync>,
    pub(crate) keys: &'a Arc<dyn Keys>,
    pub(crate) now: Now,
    pub(crate) entropy: [u8; 32],
    /// What another branch has shown to be lost is declared.
    pub(crate) declared: bool,
}

/// An open branch, with what its jobs work in.
pub(crate) struct Opened<J: Journal, S: Storage> {
    pub(crate) work: Work<J>,
    pub(crate) workshop: Workshop<S>,
    pub(crate) found: Found,
}

/// The state while it is being rebuilt.
struct Base {
    book: Book,
    mmr: Mmr,
    totals: Vec<(u16, u128)>,
    head: Head,
    time_us: u64,
}

pub(crate) fn open<J: JournalStore, S: Storage>(
    store: &J,
    ground: &Ground<'_, S>,
) -> Result<Opened<J::Journal, S>, OpenFailure> {
    let options = ground.options;
    let opened = store.open()?;
    let (journal, recovery) = (opened.journal, opened.recovery);
    let (reader, far) = (journal.reader(), journal.far_reader());
    check_evidence(&reader, options.evidence)?;
    let durable: Arc<dyn Records> = Arc::new(Durable(reader.clone()));
    let all: Arc<dyn Records> = Arc::new(Durable(far.clone()));
    let folder = |name| ground.storage.folder(name);
    let (snapshots, checkpoints, evidence) =
        (folder("snapshots")?, folder("checkpoints")?, folder("evidence")?);
    let latest = check_checkpoints(&checkpoints, ground.signer.public_key(), &*durable, &recovery)?;
    let archive = Archive { reader: &far, start: recovery.start };
    let base = find_base(&snapshots, &*durable, options, recovery.head, recovery.start);
    let mut base =
        archive.or_whole(base, || find_base(&snapshots, &*durable, options, recovery.head, Position(0)))?;
    let from_snapshot = base.head.position.0;
    let start = recovery.start.0;
    let id_runs = SideFolder::new(folder("ids")?);
    let recalls = Recalls::default();
    let near: Arc<dyn Records> =
        Arc::new(Near { durable: Durable(reader.clone()), recalled: Arc::clone(&recalls.read) });
    let open_ids = |start| Ids::open(id_runs.clone(), Arc::clone(&near), options.ids, start);
    let mut ids = archive.or_whole(open_ids(start).map_err(OpenFailure::Side), || Ok(open_ids(0)?))?;
    let ground_place = (base.mmr.clone(), base.head);
    replay(&far, &mut base, &mut ids, &**ground.keys)?;
    erase_again(&base.book, &**ground.keys)?;
    if !ground.declared {
        rewound::check(&ground.storage.folder("peers")?, &base.book)?;
    }
    if cfg!(debug_assertions)
        && let Err(broken) = skerry_book::invariants::check(&base.book)
    {
        return Err(OpenFailure::Panicked(broken.to_owned()));
    }

    let agrees = |head: &Head| durable.head_before(head.position.0).is_ok_and(|hash| hash == Some(head.hash));
    let mut nodes =
        Nodes::open(&evidence, options.evidence, |head| head.position >= recovery.start && agrees(head))?;
    // With the whole archive at hand they are made again from the beginning; else they go on from here.
    if nodes.marked().position < recovery.start && !archive.is_whole() {
        let (mmr, head) = ground_place;
        nodes = Nodes::resume(&evidence, mmr, head)?;
    }
    let spans = SideFolder::new(folder("history")?);
    let open_history = |start| {
        History::open(
            spans.clone(),
            Arc::clone(&all),
            ids.reader_over(Arc::clone(&all)),
            options.history,
            start,
        )
    };
    let history =
        archive.or_whole(open_history(start).map_err(OpenFailure::Side), || Ok(open_history(0)?))?;
    let followers = Followers { head: nodes.marked(), history, nodes };
    let tray = Tray::default();
    let workshop = Workshop {
        ground: ground.storage.clone(),
        snapshots,
        evidence,
        checkpoints,
        signer: Arc::clone(ground.signer),
        keys: Arc::clone(ground.keys),
        snapshots_kept: options.snapshots_kept,
        followers: Mutex::new(followers),
        tray: Arc::clone(&tray),
        latest: RwLock::new(latest.map(Arc::new)),
        glance: Mutex::default(),
    };
    let checkpointed = workshop.latest().map_or(0, |signed| signed.checkpoint.position);
    let writer = Writer {
        branch: options.branch,
        incarnation: base.book.incarnation().max(1),
        evidence: options.evidence,
        epoch: journal.epoch(),
    };
    let found = Found {
        head: recovery.head,
        snapshot: from_snapshot,
        replayed: recovery.head.position.0 - from_snapshot,
        torn: recovery.torn,
    };
    let stamp = base.book.stamp(base.time_us);
    let talk = Talk::new(&base.book);
    let work = Work {
        options: Arc::clone(options),
        writer,
        refused_act: None,
        filling: Builder::new(recovery.head, stamp.time_us, stamp.business_date),
        sealed: recovery.head,
        polled: recovery.head,
        answered: Arc::new(AtomicU64::new(recovery.head.position.0)),
        sealed_time_us: base.time_us,
        fed: recovery.head.batch,
        tray,
        feeding: 0,
        catching_up: true,
        followers_behind: false,
        jobs: VecDeque::from([Job::CatchUp(far.clone())]),
        journal,
        reader,
        far,
        clock: Clock::new(ground.now, stamp.time_us),
        jumped: None,
        mmr: base.mmr,
        must_seal: false,
        waiting: None,
        held: HeldReplies::default(),
        checks: 0,
        intake: VecDeque::new(),
        recalls,
        entropy: ground.entropy,
        marks: Marks::new(base.totals, from_snapshot, checkpointed, ground.now),
        book: base.book,
        ids,
        meters: Meters::default(),
        metrics: Metrics::opened(found.replayed),
        talk,
        born: 0,
        scratch: Scratch::default(),
    };
    Ok(Opened { work, workshop, found })
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

/// The journal goes on with the hash it began with, or not at all.
fn check_evidence<R: JournalReader>(reader: &R, configured: HashAlgorithm) -> Result<(), OpenFailure> {
    let Some(last) = reader.head().position.0.checked_sub(1) else { return Ok(()) };
    match reader.read(Position(last), 1)?.first().map(|batch| batch.header().evidence) {
        Some(journal) if journal != configured => Err(OpenFailure::Evidence { journal, configured }),
        _ => Ok(()),
    }
}

/// Holds the journal against the last promise to the outside.
fn check_checkpoints<S: Storage>(
    folder: &S,
    key: PublicKey,
    durable: &dyn Records,
    recovery: &Recovery,
) -> Result<Option<SignedCheckpoint>, OpenFailure> {
    let Some((signed, ours)) = checkpoints::newest(folder, key)? else { return Ok(None) };
    let place = Position(signed.checkpoint.position);
    let head = &signed.checkpoint.head;
    hold_against("a signed checkpoint", place, head, durable, recovery.head, recovery.start)?;
    // By a key of before its rotation: good to hold the journal against, but receipts wait for the next.
    Ok(ours.then_some(signed))
}

fn hold_against(
    evidence: &'static str,
    place: Position,
    hash: &[u8; 32],
    durable: &dyn Records,
    head: Head,
    start: Position,
) -> Result<(), OpenFailure> {
    let rewound =
        |disagrees| OpenFailure::Rewound { evidence, journal: head.position.0, position: place.0, disagrees };
    if place > head.position {
        return Err(rewound(false));
    }
    if place > start && durable.head_before(place.0)? != Some(*hash) {
        return Err(rewound(true));
    }
    Ok(())
}

/// The newest snapshot that can be read, or the empty book.
fn find_base<S: Storage>(
    folder: &S,
    durable: &dyn Records,
    options: &Options,
    head: Head,
    start: Position,
) -> Result<Base, OpenFailure> {
    for (_, file) in snapshot::list(folder)? {
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

/// Does again what the journal says, from the base and from where the id index stands.
fn replay<R: JournalReader>(
    reader: &R,
    base: &mut Base,
    ids: &mut Ids,
    keys: &dyn Keys,
) -> Result<(), OpenFailure> {
    let ids_from = ids.position();
    let from = ids_from.min(base.head.position.0);
    if from >= reader.head().position.0 {
        return Ok(());
    }
    let mut failed = None;
    let mut replay = Replay { base, ids, ids_from, keys };
    reader.scan(Position(from), &mut |batch| match replay.batch(batch) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Keys that are asked about at once.
const ASKED_TOGETHER: usize = 4_096;

/// Holds the keys against the book: they may come from an older copy than the snapshot that the book came from.
fn erase_again(book: &Book, keys: &dyn Keys) -> Result<(), OpenFailure> {
    let customers = (1..=book.customer_count()).filter_map(|serial| book.customer(serial));
    let erased: Vec<_> =
        customers.filter(|customer| customer.erased).map(|customer| KeyRef(customer.key_ref)).collect();
    for some in erased.chunks(ASKED_TOGETHER) {
        for key in keys.not_erased(some)? {
            crate::coverage::Mark::ErasedAgain.hit();
            keys.erase(key)?;
        }
    }
    Ok(())
}

struct Replay<'a> {
    base: &'a mut Base,
    ids: &'a mut Ids,
    ids_from: u64,
    keys: &'a dyn Keys,
}

impl Replay<'_> {
    fn batch(&mut self, batch: BatchView<'_>) -> Result<(), OpenFailure> {
        let parts = batch.parts();
        let date = Date(batch.header.business_date);
        let evolve_from = self.base.head.position.0;
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
            // Erasing is part of what happened: it is done again, whatever was restored.
            Event::CustomerErased(erased) => {
                crate::coverage::Mark::ErasedAgain.hit();
                self.keys.erase(KeyRef(erased.key_ref))?;
            }
            _ => {}
        }
        self.base.book.evolve(&event);
        Ok(())
    }
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
