//! What happened how often: a run is only as good as the places it went to.

use std::collections::BTreeMap;

use skerry_journal::FaultKind;

use crate::nodes::tally::{Mishap, Reached};

/// An enum of names that are counted.
macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($(#[$of:meta])* $name:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $kind { $($(#[$of])* $name),+ }

        impl $kind {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

pub(crate) use names;

/// A batch that its tails fill in the middle of a run or of a page, too rare to wait for: tests of the branch's own show it.
fn is_shown_elsewhere(mark: skerry_branch::channels::coverage::Mark) -> bool {
    use skerry_branch::channels::coverage::Mark;
    matches!(mark, Mark::PaymentsCutShort | Mark::RetoldCutShort)
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What the simulator did to a branch.
    Trouble,
    /// What the disks did, below the file seam.
    Disk,
    /// What was reached.
    State,
    /// Rare paths of the code under test that were taken.
    Mark,
}

impl Group {
    /// All of them, in order of printing.
    pub const ALL: [Self; 4] = [Self::Trouble, Self::Disk, Self::State, Self::Mark];

    /// Its name in print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Disk => "disk fault",
            Self::State => "state",
            Self::Mark => "code mark",
        }
    }
}

/// The kinds of trouble with nodes, by name.
pub(crate) fn mishaps() -> Vec<String> {
    Mishap::ALL.iter().map(|mishap| format!("{mishap:?}")).collect()
}

/// Counts by group and name. Everything that can be counted is there from the start, with zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<(Group, String), u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let mut tally = Self { counts: BTreeMap::new() };
        for trouble in Trouble::ALL {
            tally.add(Group::Trouble, &format!("{trouble:?}"), 0);
        }
        for kind in FaultKind::ALL {
            tally.add(Group::Disk, &format!("{kind:?}"), 0);
        }
        for state in State::ALL {
            tally.add(Group::State, &format!("{state:?}"), 0);
        }
        for mark in skerry_journal::coverage::Mark::ALL {
            tally.add(Group::Mark, &format!("journal {mark:?}"), 0);
        }
        for mark in skerry_branch::coverage::Mark::ALL {
            tally.add(Group::Mark, &format!("branch {mark:?}"), 0);
        }
        for mark in skerry_branch::channels::coverage::Mark::ALL {
            if !is_shown_elsewhere(*mark) {
                tally.add(Group::Mark, &format!("channel {mark:?}"), 0);
            }
        }
        tally
    }
}

impl Tally {
    /// That of a life of nodes: what it may reach is another list.
    #[must_use]
    pub fn nodes() -> Self {
        let mut tally = Self { counts: BTreeMap::new() };
        for mishap in Mishap::ALL {
            tally.add(Group::Trouble, &format!("{mishap:?}"), 0);
        }
        for reached in Reached::ALL {
            tally.add(Group::State, &format!("{reached:?}"), 0);
        }
        tally
    }

    pub(crate) fn mishap(&mut self, mishap: Mishap) {
        self.add(Group::Trouble, &format!("{mishap:?}"), 1);
    }

    pub(crate) fn reach(&mut self, reached: Reached) {
        self.add(Group::State, &format!("{reached:?}"), 1);
    }

    fn add(&mut self, group: Group, name: &str, count: u64) {
        *self.counts.entry((group, name.to_owned())).or_insert(0) += count;
    }

    pub(crate) fn trouble(&mut self, trouble: Trouble) {
        self.add(Group::Trouble, &format!("{trouble:?}"), 1);
    }

    pub(crate) fn troubles(&mut self, trouble: Trouble, count: u64) {
        self.add(Group::Trouble, &format!("{trouble:?}"), count);
    }

    pub(crate) fn state(&mut self, state: State) {
        self.add(Group::State, &format!("{state:?}"), 1);
    }

    pub(crate) fn states(&mut self, state: State, count: u64) {
        self.add(Group::State, &format!("{state:?}"), count);
    }

    pub(crate) fn disk(&mut self, counts: &[(FaultKind, u64)]) {
        for (kind, count) in counts {
            self.add(Group::Disk, &format!("{kind:?}"), *count);
        }
    }

    /// Takes the marks that this thread's code has left.
    pub(crate) fn marks(&mut self) {
        let journal = skerry_journal::coverage::take()
            .into_iter()
            .map(|(mark, count)| (format!("journal {mark:?}"), count));
        let branch = skerry_branch::coverage::take()
            .into_iter()
            .map(|(mark, count)| (format!("branch {mark:?}"), count));
        let channel = skerry_branch::channels::coverage::take().into_iter();
        let channel = channel.filter(|(mark, _)| !is_shown_elsewhere(*mark));
        let channel = channel.map(|(mark, count)| (format!("channel {mark:?}"), count));
        for (name, count) in journal.chain(branch).chain(channel).filter(|(_, count)| *count > 0) {
            self.add(Group::Mark, &name, count);
        }
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for ((group, name), count) in &other.counts {
            self.add(*group, name, *count);
        }
    }

    /// All counts of a group, by name.
    pub fn of(&self, group: Group) -> impl Iterator<Item = (&str, u64)> {
        let of_group = self.counts.iter().filter(move |((of, _), _)| *of == group);
        of_group.map(|((_, name), count)| (name.as_str(), *count))
    }

    /// What was never reached.
    #[must_use]
    pub fn zeros(&self) -> Vec<String> {
        let zeros = self.counts.iter().filter(|(_, count)| **count == 0);
        zeros.map(|((group, name), _)| format!("{}: {name}", group.name())).collect()
    }
}

names! {
    /// What the simulator does to a branch or its machine.
    Trouble {
        /// The power goes between two operations of the disk.
        PowerCut,
        /// The power goes in the middle of whatever comes.
        PowerCutSoon,
        /// The process dies; the machine goes on.
        Kill,
        /// One sync fails.
        FailSync,
        /// One write stops in the middle.
        ShortWrite,
        /// Writes, reads and syncs fail now and then, syncs are slow.
        BadDisk,
        /// Nothing may grow.
        FullDisk,
        /// Nothing may change.
        ReadOnlyDisk,
        /// A bit flips in a file that can be rebuilt.
        FlipDerived,
        /// A bit flips in the journal or a checkpoint.
        FlipEvidence,
        /// The wall clock steps by less than five seconds.
        ClockStep,
        /// The wall clock leaps.
        ClockLeap,
        /// Background work stands still.
        SlowJobs,
        /// The journal is put back to an old backup.
        Restore,
        /// The branch moves to an empty machine with an old backup of its journal.
        NewMachine,
        /// The beginning of the journal is moved to cold storage.
        Archive,
        /// Cold storage is taken away.
        ColdAway,
        /// It comes back.
        ColdBack,
        /// The branch is closed and opened.
        Restart,
        /// A message between branches is lost.
        MessageLost,
        /// It comes twice.
        MessageDoubled,
        /// It comes late, after others.
        MessageLate,
        /// A bit of it flips.
        MessageDamaged,
        /// For a while two branches do not hear each other.
        Partition,
    }
}

names! {
    /// What was reached.
    State {
        Opened,
        OpenedAgainAfterAFault,
        OpenedFromASnapshot,
        OpenedWithATornTail,
        OpeningFailed,
        Sick,
        Busy,
        DeadlinePassed,
        Denied,
        Malformed,
        Unknown,
        UnknownHadHappened,
        UnknownHadNotHappened,
        Accepted,
        AcceptedAgain,
        RefusedForGood,
        RefusedForGoodAgain,
        RefusedForNow,
        IdReused,
        ChainDone,
        ChainRefused,
        Held,
        HoldPosted,
        HoldVoided,
        HoldExpired,
        Balanced,
        ClosedByAHold,
        Reversed,
        Imported,
        TextKept,
        CommandDone,
        CommandRefused,
        CommandDoneAgain,
        CustomerErased,
        DayOpened,
        ReadChecked,
        QueryChecked,
        QueryBehind,
        QueryOfADamagedFile,
        BalanceAsOfChecked,
        DaysChecked,
        LookUpChecked,
        ReceiptVerified,
        ReceiptTooEarly,
        ReceiptUnproven,
        CheckpointChecked,
        SnapshotWanted,
        ClockHeldRequestsOff,
        Rewound,
        LossDeclared,
        LossUnnoticed,
        LossShown,
        LostAcknowledged,
        FlipFound,
        FlipHarmless,
        ExpiredLookedUp,
        AnsweredFromTheArchive,
        Archived,
        ReadThroughToTheArchive,
        ArchiveMissed,
        PaymentSent,
        PaymentSettled,
        PaymentReturned,
        PaymentReversed,
        HoldSent,
        PaidTogether,
        PairChecked,
        PaymentLookedUp,
        AtRest,
    }
}
