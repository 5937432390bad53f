//! Verifying an exported journal: batch after batch, with nothing but its bytes and the keys.
//!
//! The walk recomputes every hash and compares: the chain of headers, the root of each batch's
//! records, the hash of its actors and tails, positions and numbers without gaps, and wherever a
//! checkpoint stands, head and history root. What the records mean is not its business.

use alloc::vec::Vec;

use crate::batch::{BatchError, BatchHeader, HEADER_LENGTH, NO_PREVIOUS, header_hash};
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::mmr::Mmr;
use crate::signer::KeyRing;
use crate::{Hash, HashAlgorithm};

/// A walk over a journal, at the end of the last batch it took.
#[derive(Debug, Clone)]
pub struct Walk {
    /// The last header, once there is one.
    last: Option<BatchHeader>,
    branch: Option<u16>,
    incarnation: u32,
    epoch: u64,
    position: u64,
    head: Hash,
    time_us: u64,
    business_date: i32,
    history: Mmr,
    scratch: Vec<Hash>,
}

/// Where a journal stops being what it claims, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("batch {batch} at position {position} does not verify")]
pub struct WalkError {
    /// The number that the batch should have had.
    pub batch: u64,
    /// The position that its first record should have had.
    pub position: u64,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// What can be wrong with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The batch itself is damaged.
    #[error("could not read the batch")]
    Batch(#[source] BatchError),
    /// It belongs to another branch.
    #[error("it belongs to branch {0}")]
    Branch(u16),
    /// It has another evidence hash than the batches before it.
    #[error("its evidence hash is {}, which is not that of the branch", .0.name())]
    Evidence(HashAlgorithm),
    /// Its number does not follow.
    #[error("it says that it is batch {0}")]
    Number(u64),
    /// Its first position does not follow.
    #[error("it says that it begins at position {0}")]
    Position(u64),
    /// It does not carry the hash of the header before it.
    #[error("it does not continue the chain")]
    Chain,
    /// Incarnation, epoch, time or business date run backwards.
    #[error("its {0} runs backwards")]
    Backwards(&'static str),
    /// A checkpoint that ends with this batch states another head, history or position.
    #[error("a checkpoint states another {0}")]
    Disagrees(&'static str),
    /// A checkpoint's signature is not to be believed.
    #[error("could not verify a checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// The journal ends here, but a checkpoint covers more: it was rewound.
    #[error("the journal ends here, but a checkpoint states {0} batches")]
    Rewound(u64),
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// Begins before the first batch of a branch.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: None,
            branch: None,
            incarnation: 0,
            epoch: 0,
            position: 0,
            head: NO_PREVIOUS,
            time_us: 0,
            business_date: i32::MIN,
            history: Mmr::new(HashAlgorithm::Blake3),
            scratch: Vec::new(),
        }
    }

    /// Begins where `checkpoint` ends: for a journal whose older spans are elsewhere. `history` is
    /// the state that its writer kept; the caller has verified the signature.
    ///
    /// # Errors
    ///
    /// [`Fault::Disagrees`] if `history` is not the one that the checkpoint states.
    pub fn resume(checkpoint: &Checkpoint, history: Mmr) -> Result<Self, Fault> {
        if history.algorithm() != checkpoint.algorithm
            || history.count() != checkpoint.batches
            || history.root() != checkpoint.history_root
        {
            return Err(Fault::Disagrees("history"));
        }
        Ok(Self {
            last: None,
            branch: Some(checkpoint.branch),
            incarnation: checkpoint.incarnation,
            epoch: checkpoint.epoch,
            position: checkpoint.position,
            head: checkpoint.head,
            time_us: checkpoint.time_us,
            business_date: checkpoint.business_date,
            history,
            scratch: Vec::new(),
        })
    }

    /// Takes the next batch: exactly its bytes, without padding.
    ///
    /// # Errors
    ///
    /// [`WalkError`]; the walk then stays where it was.
    pub fn batch(&mut self, bytes: &[u8]) -> Result<BatchHeader, WalkError> {
        self.take(bytes).map_err(|fault| self.error(fault))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<BatchHeader, Fault> {
        let (encoded, body) =
            bytes.split_first_chunk::<HEADER_LENGTH>().ok_or(Fault::Batch(BatchError::Short))?;
        let header = BatchHeader::decode(encoded).map_err(Fault::Batch)?;
        self.follows(&header)?;
        header.verify_body(body, &mut self.scratch).map_err(Fault::Batch)?;

        self.head = header_hash(encoded);
        self.position = header.end_position();
        if self.history.count() == 0 {
            self.history = Mmr::new(header.evidence);
        }
        self.history.append(header.history_leaf(), |_| ());
        self.branch = Some(header.branch);
        self.incarnation = header.incarnation;
        self.epoch = header.epoch;
        self.time_us = header.time_us;
        self.business_date = header.business_date;
        self.last = Some(header);
        Ok(header)
    }

    /// Whether `header` may come next.
    fn follows(&self, header: &BatchHeader) -> Result<(), Fault> {
        if self.branch.is_some_and(|branch| branch != header.branch) {
            return Err(Fault::Branch(header.branch));
        }
        if self.batches() > 0 && header.evidence != self.history.algorithm() {
            return Err(Fault::Evidence(header.evidence));
        }
        if header.batch != self.batches() {
            return Err(Fault::Number(header.batch));
        }
        if header.first_position != self.position {
            return Err(Fault::Position(header.first_position));
        }
        if header.previous != self.head {
            return Err(Fault::Chain);
        }
        if header.incarnation < self.incarnation {
            return Err(Fault::Backwards("incarnation"));
        }
        if header.epoch < self.epoch {
            return Err(Fault::Backwards("epoch"));
        }
        if header.time_us < self.time_us {
            return Err(Fault::Backwards("time"));
        }
        if header.business_date < self.business_date {
            return Err(Fault::Backwards("business date"));
        }
        Ok(())
    }

    /// Compares a checkpoint that ends where the walk stands. Its signature is the caller's.
    ///
    /// # Errors
    ///
    /// [`Fault::Disagrees`], which names the field.
    pub fn agrees(&self, checkpoint: &Checkpoint) -> Result<(), WalkError> {
        let field = if checkpoint.batches != self.batches() {
            "number of batches"
        } else if self.branch.is_some_and(|branch| branch != checkpoint.branch) {
            "branch"
        } else if checkpoint.algorithm != self.history.algorithm() {
            "hash algorithm"
        } else if checkpoint.position != self.position {
            "position"
        } else if checkpoint.head != self.head {
            "head hash"
        } else if checkpoint.history_root != self.history.root() {
            "history root"
        } else if self.batches() > 0 && checkpoint.time_us != self.time_us {
            "time"
        } else {
            return Ok(());
        };
        Err(self.error(Fault::Disagrees(field)))
    }

    /// An error at the place where the walk stands.
    fn error(&self, fault: Fault) -> WalkError {
        WalkError { batch: self.batches(), position: self.position, fault }
    }

    /// How many batches the journal has so far.
    #[must_use]
    pub const fn batches(&self) -> u64 {
        self.history.count()
    }

    /// How many records the journal has so far: the position of the next.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The hash of the last header.
    #[must_use]
    pub const fn head(&self) -> Hash {
        self.head
    }

    /// The history so far.
    #[must_use]
    pub const fn history(&self) -> &Mmr {
        &self.history
    }

    /// The last header taken.
    #[must_use]
    pub const fn last(&self) -> Option<&BatchHeader> {
        self.last.as_ref()
    }
}

/// What a whole export turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Batches in the journal.
    pub batches: u64,
    /// Records in it.
    pub records: u64,
    /// The hash of the last header.
    pub head: Hash,
    /// The history root over all batches.
    pub history_root: Hash,
    /// Checkpoints that were verified and agree.
    pub checkpoints: u64,
    /// How many records the last of them covers; those after it are chained, but not signed.
    pub signed_records: u64,
}

/// Verifies a journal from its first batch, and all checkpoints with it.
///
/// `checkpoints` may come in any order. For reading from files, where a batch can fail to come, use
/// [`Walk`] itself.
///
/// # Errors
///
/// [`WalkError`], the first in the order of the journal.
pub fn verify_export<Bytes: AsRef<[u8]>>(
    batches: impl IntoIterator<Item = Bytes>,
    checkpoints: &[SignedCheckpoint],
    keys: &(impl KeyRing + ?Sized),
) -> Result<Summary, WalkError> {
    let mut walk = Walk::new();
    let mut waiting: Vec<&SignedCheckpoint> = checkpoints.iter().collect();
    waiting.sort_by_key(|signed| core::cmp::Reverse(signed.checkpoint.batches));
    let mut summary = Summary {
        batches: 0,
        records: 0,
        head: NO_PREVIOUS,
        history_root: [0; 32],
        checkpoints: 0,
        signed_records: 0,
    };
    let mut batches = batches.into_iter();
    loop {
        while let Some(due) = waiting.pop_if(|next| next.checkpoint.batches <= walk.batches()) {
            due.verify(keys).map_err(|error| walk.error(Fault::Checkpoint(error)))?;
            walk.agrees(&due.checkpoint)?;
            summary.checkpoints = summary.checkpoints.saturating_add(1);
            summary.signed_records = due.checkpoint.position;
        }
        match batches.next() {
            Some(bytes) => walk.batch(bytes.as_ref())?,
            None => break,
        };
    }
    if let Some(beyond) = waiting.pop() {
        return Err(walk.error(Fault::Rewound(beyond.checkpoint.batches)));
    }
    summary.batches = walk.batches();
    summary.records = walk.position();
    summary.head = walk.head();
    summary.history_root = walk.history().root();
    Ok(summary)
}
