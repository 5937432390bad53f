//! What can go wrong, by name. Every fault says the file, and the offset or position, it was met at.
//!
//! None of these is a business "no": a client never sees one as an answer to a transfer.

use std::sync::Arc;

use crate::storage::{StorageError, StorageErrorKind};

/// What is wrong with stored bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// The 256 bytes where a batch header should be do not decode.
    #[error("no readable batch header: {0}")]
    Header(String),
    /// Format number of a later release, or of something else.
    #[error("format {0} is not known to this release")]
    UnknownFormat(u16),
    /// Records do not give the root that the header states.
    #[error("records do not match the root in their batch header")]
    Root,
    /// Actors and tails do not give the hash that the header states.
    #[error("actors or tails do not match the hash in their batch header")]
    Extras,
    /// The batch's header is not the one that was written (its hash is not in the end mark behind it).
    #[error("batch header does not match the end mark behind the batch")]
    EndMark,
    /// The header does not follow the one before it.
    #[error("batch does not follow the one before it: {0}")]
    Chain(&'static str),
    /// The batch is cut off by the end of the file.
    #[error("file ends inside a batch")]
    CutOff,
    /// The batch belongs to another branch.
    #[error("belongs to branch {0}")]
    ForeignBranch(u16),
    /// The head of a segment file does not decode.
    #[error("no readable segment header")]
    SegmentHeader,
    /// The foot of a sealed segment does not decode or does not agree with what comes before it.
    #[error("no readable segment footer")]
    Footer,
    /// Neither slot of the mark decodes, although segments are there.
    #[error("neither slot of the durable mark is readable")]
    Mark,
    /// A segment that must be there is not.
    #[error("the segment that begins at position {0} is missing")]
    MissingSegment(u64),
    /// The journal ends before what is known to have been made durable.
    #[error(
        "journal_rewound: the journal ends at position {have}, but was durable to position {durable}; \
         `skerry branch declare-loss` opens it without what is lost"
    )]
    Truncated {
        /// First position that is not there.
        have: u64,
        /// First position after what the durable mark covers.
        durable: u64,
    },
    /// The batch is bad, but something that was written only after it was durable follows.
    #[error("batch is bad ({0}), and a later one follows at offset {1}: this is damage, not a torn tail")]
    NotATornTail(Box<DamageKind>, u64),
}

/// Stored bytes that are not what was written: where, and what is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("journal damaged in {file} at offset {offset}, position {position}: {kind}")]
pub struct Damage {
    /// The file, with its folder.
    pub file: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// The first record position that is affected.
    pub position: u64,
    /// What is wrong.
    pub kind: DamageKind,
}

/// Why a journal did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another owner in this one, has it open.
    #[error("journal in {place} is in use by another process")]
    InUse {
        /// The folder.
        place: String,
        /// The refused lock.
        source: StorageError,
    },
    /// The folder takes no changes from us.
    #[error("journal in {place} cannot be opened: the folder is read-only")]
    ReadOnly {
        /// The folder.
        place: String,
        /// The refused change.
        source: StorageError,
    },
    /// Opening needs space that the disk does not have.
    #[error("journal in {place} cannot be opened: the disk is full")]
    Full {
        /// The folder.
        place: String,
        /// The refused write.
        source: StorageError,
    },
    /// The stored bytes are damaged. Nothing was changed.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The journal ends before what it once told durable, or has other content there: a server that lost data, or an old copy.
    #[error(
        "journal_rewound: the journal in {place} ends at position {journal}, but was durable to position {position}{}; \
         `skerry branch declare-loss` opens it without what is lost",
        if *.disagrees { " with another hash there" } else { "" }
    )]
    Rewound {
        /// Where it is.
        place: String,
        /// Where it ends.
        journal: u64,
        /// The place that is missing or different.
        position: u64,
        /// Whether it reaches that place with other content.
        disagrees: bool,
    },
    /// What keeps the journal cannot be reached, or not safely, at the moment: opening may succeed later.
    #[error("journal in {place} cannot be opened now")]
    Away {
        /// Where it is.
        place: String,
        /// Why.
        source: StorageError,
    },
    /// The machine gave no thread.
    #[error("could not start a thread for the journal")]
    Thread {
        /// The refusal.
        source: std::io::Error,
    },
    /// The machine failed.
    #[error("could not open the journal")]
    Storage(#[source] StorageError),
}

impl OpenError {
    /// Gives a refusal of the storage its name.
    #[must_use]
    pub fn of_storage(place: &str, source: StorageError) -> Self {
        let place = place.to_owned();
        match source.kind {
            StorageErrorKind::Locked => Self::InUse { place, source },
            StorageErrorKind::ReadOnly => Self::ReadOnly { place, source },
            StorageErrorKind::Full => Self::Full { place, source },
            _ => Self::Storage(source),
        }
    }

    /// The same for a refusal met while reading.
    #[must_use]
    pub fn of_read(place: &str, error: ReadError) -> Self {
        match error {
            ReadError::Storage(source) => Self::of_storage(place, source),
            ReadError::Damaged(damage) => Self::Damaged(damage),
            ReadError::Archived { first: position }
            | ReadError::ColdAway { position, .. }
            | ReadError::Beyond { position, .. } => {
                let kind = DamageKind::MissingSegment(position);
                Self::Damaged(Damage { file: place.to_owned(), offset: 0, position, kind })
            }
        }
    }
}

/// Why a batch was not taken. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendErrorKind {
    /// As many batches are in flight as may be; poll first.
    #[error("as many batches are in flight as may be")]
    Busy,
    /// Someone opened the journal under a higher epoch.
    #[error("the journal was opened under a higher epoch")]
    Fenced,
    /// An earlier append failed: this journal takes nothing more and must be opened anew.
    #[error("an earlier append failed")]
    Stopped,
    /// The batch does not continue the last one taken (position, number, hash, epoch or branch).
    #[error("the batch does not continue the journal: {0}")]
    OutOfOrder(&'static str),
}

/// Why an append that was taken did not end well. The journal takes nothing more; open it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendFaultKind {
    /// The batch may be durable or not: only opening anew tells. Its requests are answered "unknown".
    Uncertain,
    /// There is no space for it. Nothing of it was written.
    Full,
    /// Someone opened the journal under a higher epoch. Nothing of it was written by us.
    Fenced,
}

/// The end of a journal's life: which batch it was, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("could not append batch {batch} ({})", describe(kind))]
pub struct AppendFault {
    /// What may be assumed about the batch.
    pub kind: AppendFaultKind,
    /// The first batch that is not known to be durable; those queued behind it were not written.
    pub batch: u64,
    /// The machine's refusal, if there was one.
    #[source]
    pub source: Option<Arc<StorageError>>,
}

fn describe(kind: &AppendFaultKind) -> &'static str {
    match kind {
        AppendFaultKind::Uncertain => "whether it is durable is unknown",
        AppendFaultKind::Full => "the disk is full",
        AppendFaultKind::Fenced => "the journal was opened under a higher epoch",
    }
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Positions before `first` lie in the archive.
    #[error("positions before {first} are archived")]
    Archived {
        /// First position that is still here.
        first: u64,
    },
    /// The position lies in the archive, and the archive is not there.
    #[error("position {position} is archived, and {segment} cannot be read from the cold folder {place}")]
    ColdAway {
        /// What was asked for.
        position: u64,
        /// The segment that holds it, as far as it is known.
        segment: String,
        /// The cold folder.
        place: String,
        /// The machine's refusal, if there was one.
        source: Option<Box<StorageError>>,
    },
    /// Nothing durable is at this position yet.
    #[error("position {position} is beyond the durable end {durable}")]
    Beyond {
        /// What was asked for.
        position: u64,
        /// First position that is not durable.
        durable: u64,
    },
    /// The stored bytes are damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The machine failed.
    #[error("could not read the journal")]
    Storage(#[from] StorageError),
}

/// Why segments could not be archived or exported. What was not yet copied durably is still in its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The source could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is nowhere to archive to.
    #[error("no cold folder is configured")]
    NoCold,
    /// A segment of the same name but with other content is there: of a branch that was restored or declared a loss, or
    /// of another bank. It is not overwritten.
    #[error("{file} in the cold folder is another segment than the one to be archived: move it away first")]
    Clash {
        /// The file, with its folder.
        file: String,
    },
    /// The machine failed on either side.
    #[error("could not archive the journal")]
    Storage(#[from] StorageError),
}
