//! Marks on rarely taken paths of a branch; see [`skerry_journal::coverage`].

skerry_journal::coverage_marks! {
    /// A request waited for a record that was still in flight.
    MustWait,
    /// The past of an id was read from the batch being filled.
    PastInFilling,
    /// The past of an id was read from the journal.
    PastInJournal,
    /// A retry was answered with its first answer.
    Repeated,
    /// A refusal was journaled.
    RefusalJournaled,
    /// A linked chain was refused as a whole.
    ChainRefused,
    /// The journal had no room for a sealed batch.
    BatchWaited,
    /// A request had to stay for want of room in the batch.
    NoRoom,
    /// History was given up to catch up from the journal.
    FeedingGivenUp,
    /// History was found damaged and went back to be fed again.
    HistoryRepaired,
    /// Requests that had been taken were answered unknown.
    TakenAbandoned,
    /// Replies that were held were answered unknown.
    HeldAbandoned,
    /// A snapshot was passed over.
    SnapshotPassedOver,
    /// An erasure was done again at opening.
    ErasedAgain,
    /// The node file of the history was begun anew.
    NodesAnew,
    /// A checkpoint or snapshot waited for its batch to become durable.
    MarkWaited,
    /// The image of a snapshot took more than one turn.
    FrozenInSlices,
    /// A checkpoint could not be kept.
    CheckpointFailed,
    /// A snapshot could not be written.
    SnapshotFailed,
    /// A full memtable was frozen.
    MemtableFrozen,
    /// A memtable was used again.
    MemtableUsedAgain,
    /// A run of ids was written.
    RunWritten,
    /// Runs of ids were merged.
    RunsMerged,
    /// A run of ids was thrown away at opening.
    RunThrownAway,
    /// A filter let through what was not there.
    FalseLead,
    /// An id led into the archive.
    ArchivedId,
    /// Records were read from the archive for a request that asked for them.
    Recalled,
    /// They could not be read.
    RecallFailed,
    /// A segment was archived: copied, then let go.
    SegmentArchived,
    /// What was derived from archived positions was made again from the archive.
    RebuiltFromTheArchive,
    /// A branch stopped with an archiving under way.
    ArchivingCutShort,
    /// A span of history was sealed.
    SpanSealed,
    /// A span of history was thrown away at opening.
    SpanThrownAway,
    /// Stamps stood still because the wall clock went back a little.
    ClockStood,
    /// The wall clock leapt.
    ClockLeapt,
    /// A checkpoint of a lost life was put aside.
    CheckpointPutAside,
    /// A snapshot of a lost life was thrown away.
    SnapshotThrownAway,
}
