//! Marks on rarely taken paths, counted per thread, so that the simulator can show that it went there.
//!
//! A mark costs an addition on a path that is cold anyway, and decides nothing.

/// Declares the marks of a crate: an enum `Mark` whose `hit` counts, and `take`, which gives this thread's counts
/// and begins again.
#[macro_export]
macro_rules! coverage_marks {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A path worth reaching.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $($(#[$doc])* $name),+ }

        thread_local! {
            static COUNTS: [::core::cell::Cell<u64>; Mark::ALL.len()] =
                const { [const { ::core::cell::Cell::new(0) }; Mark::ALL.len()] };
        }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Counts that this path was taken.
            #[cold]
            pub(crate) fn hit(self) {
                COUNTS.with(|counts| {
                    let count = &counts[self as usize];
                    count.set(count.get() + 1);
                });
            }
        }

        /// How often this thread took each path since the last call.
        #[must_use]
        pub fn take() -> Vec<(Mark, u64)> {
            COUNTS.with(|counts| Mark::ALL.iter().map(|mark| (*mark, counts[*mark as usize].take())).collect())
        }
    };
}

coverage_marks! {
    /// A torn tail was left behind at opening.
    TornTail,
    /// A segment file without a readable header was dropped: made, but never durable.
    HeadlessSegment,
    /// An open segment without batches was dropped.
    EmptySegment,
    /// An open segment whose sealed twin is there was dropped.
    SealedTwin,
    /// A draft of interrupted work was dropped.
    Draft,
    /// One slot of the durable mark was unreadable, the other was not.
    MarkSlotLost,
    /// A segment that the mark does not cover was copied at opening.
    CopiedAtOpening,
    /// A segment was sealed where it lies.
    SealedInPlace,
    /// A segment was sealed by copying its batches together.
    SealedPacked,
    /// Sealing failed and was left to the next opening.
    SealFailed,
    /// The durable mark could not be written while running.
    MarkFailed,
    /// Batches that waited behind a failed one were dropped unwritten.
    WaitingDropped,
    /// A segment with a lost end was put aside.
    PutAside,
    /// No space was left for the wished reserve, but for the batch itself.
    SmallReserve,
    /// A segment was archived that an interrupted attempt had copied already.
    CopiedBefore,
    /// Something archived was asked for and the cold folder was not there.
    ColdAway,
    /// An archived segment was opened to be read.
    ReadFromCold,
}
