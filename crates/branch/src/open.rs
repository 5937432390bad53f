//! Opening: from the newest usable snapshot and the journal's tail to a branch that serves.
//!
//! The journal is held against everything that outlived it: checkpoints are promises to the outside, and
//! snapshots hold only what was durable. A journal that is shorter than one of them, or disagrees with it, was
//! rewound, and the branch refuses to open until an operator declares the loss.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};

use skerry_book::record::RecordError;
use skerry_journal::{
    Head, Journal, JournalReader, JournalStore, OpenError, Position, ReadError, Recovery, Storage,
    StorageError,
};
use skerry_proof::checkpoint::SignedCheckpoint;
use skerry_proof::{HashAlgorithm, PublicKey, Signer};

use crate::aside::Aside;
use crate::batch::{Builder, Writer};
use crate::branch::{ReaderOf, panic_text};
use crate::channels::Talk;
use crate::clock::{Clock, Now};
use crate::evidence::checkpoints::{self, CheckpointFileError};
use crate::held::HeldReplies;
use crate::history::{Records, SideError};
use crate::jobs::{Job, Workshop};
use crate::keys::{KeyError, Keys};
use crate::meters::Meters;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::records::Durable;
use crate::replica::Replica;
use crate::work::{Marks, Scratch, Work};

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
    /// The journal is not the one that was followed: its store lost data meanwhile, or another one took its place.
    #[error("the journal is another one from position {position} on than it was")]
    Differs {
        /// The first position that is not the same, as far as is known.
        position: u64,
    },
    /// History and evidence could not be kept beside the journal.
    #[error("could not follow the journal: {0}")]
    Beside(String),
    /// The machine let us down.
    #[error("could not reach the branch's folder")]
    Storage(#[from] StorageError),
    /// The journal's history does not follow its own rules: opening panicked.
    #[error("opening panicked: {0}")]
    Panicked(String),
}

impl OpenFailure {
    /// Whether a follower that met it has lost nothing, and may ask again: what keeps the journal was away, or did not answer.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Journal(OpenError::Away { .. })
                | Self::Read(ReadError::Storage(_) | ReadError::ColdAway { .. })
        )
    }
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the journal ends.
    pub head: Head,
    /// The position of the snapshot that replay began from; 0 without one.
    pub snapshot: u64,
    /// Records replayed by the opening itself; what a follower had replayed before does not count.
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
    /// What another branch has shown to be lost is declared.
    pub(crate) declared: bool,
}

/// An open branch, with what its jobs work in.
pub(crate) struct Opened<J: Journal, S: Storage> {
    pub(crate) work: Work<J>,
    pub(crate) workshop: Workshop<S>,
    pub(crate) found: Found,
}

/// Does `work` on a journal. One that breaks its own rules makes the book assert; that must stay this branch's trouble.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, OpenFailure>) -> Result<T, OpenFailure> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(OpenFailure::Panicked(panic_text(&*panic))))
}

pub(crate) fn open<J: JournalStore, S: Storage>(
    store: &J,
    ground: &Ground<'_, S>,
    (now, entropy): (Now, [u8; 32]),
    followed: Option<Replica<ReaderOf<J>, S>>,
) -> Result<Opened<J::Journal, S>, OpenFailure> {
    let options = ground.options;
    if let Some(epoch) = followed.as_ref().and_then(Replica::declared) {
        store.forgive(epoch)?;
    }
    let opened = store.open()?;
    let (journal, recovery) = (opened.journal, opened.recovery);
    let (reader, far) = (journal.reader(), journal.far_reader());
    check_evidence(&reader, options.evidence)?;
    let checkpoints = ground.storage.folder("checkpoints")?;
    let latest =
        check_checkpoints(&checkpoints, ground.signer.public_key(), &Durable(reader.clone()), &recovery)?;
    let mut replica = match followed.and_then(|followed| followed.go_on_with(&reader, &far)) {
        Some(followed) => followed,
        None => Replica::begin(ground, &reader, &far, Aside::default())?,
    };
    let from = replica.position();
    replica.read_on()?;
    let Replica { base, ids, workshop, recalls, from_snapshot, .. } = replica.finished(ground)?;
    *workshop.latest.write().unwrap_or_else(PoisonError::into_inner) = latest.map(Arc::new);
    let tray = Arc::clone(&workshop.tray);
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
        replayed: recovery.head.position.0 - from,
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
        clock: Clock::new(now, stamp.time_us),
        jumped: None,
        mmr: base.mmr,
        must_seal: false,
        waiting: None,
        held: HeldReplies::default(),
        checks: 0,
        suspected: None,
        intake: VecDeque::new(),
        recalls,
        entropy,
        marks: Marks::new(base.totals, from_snapshot, checkpointed, now),
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

/// The journal goes on with the hash it began with, or not at all.
pub(crate) fn check_evidence<R: JournalReader>(
    reader: &R,
    configured: HashAlgorithm,
) -> Result<(), OpenFailure> {
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

pub(crate) fn hold_against(
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
