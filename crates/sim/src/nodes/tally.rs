//! What can happen to nodes, and what of it was reached.

use crate::tally::names;

names! {
    /// What the simulator does to nodes, stores, buses and the directory.
    Mishap {
        /// A process stands still, perhaps past its leases.
        Pause,
        /// A process dies and is started again.
        Crash,
        /// Its machine loses its power.
        PowerCut,
        /// It is started again on an empty machine.
        NewMachine,
        /// What it had sent to the store arrives after its death.
        LateAppend,
        /// A node drains.
        Drain,
        /// A node stops in good order and is started again.
        Restart,
        /// A node joins, or one that has left comes back.
        Join,
        /// An operator places a branch.
        Placed,
        /// The wall clock of a node goes a little wrong.
        ClockStep,
        /// The wall clock of a node goes so wrong that it must host nothing.
        ClockOff,
        /// The directory cannot be reached, for a second up to a minute.
        DirectoryAway,
        /// The directory is started again and has forgotten leases.
        DirectoryRestarted,
        /// A node does not reach the stores.
        StoreCut,
        /// The answer to an append that was done is lost.
        AnswerLost,
        /// An append is lost on the way, and nobody knows.
        AppendLost,
        /// Two nodes do not hear each other.
        BusCut,
        /// A node is cut off a bus.
        BusLost,
        /// A bus loses, doubles, delays more or less than before.
        BusWeather,
        /// An operator chooses the other bus.
        BusSwitched,
        /// A message is damaged on its way.
        Damaged,
        /// A standby is promoted without the last batches.
        Promotion,
        /// A branch is put back to an old backup.
        OldBackup,
    }
}

names! {
    /// What was reached.
    Reached {
        Opened,
        OpenedElsewhere,
        Promoted,
        Followed,
        Unfollowed,
        HandedOver,
        Closed,
        Fenced,
        Uncertain,
        LeaseRunOut,
        AskedAnOldOwner,
        TwoOpen,
        AnsweredLate,
        OwnerConfirmed,
        StoreAway,
        DirectorySilent,
        ServedWithoutDirectory,
        SentOverTheOtherBus,
        CutOff,
        Refused,
        HeardStraight,
        LossFound,
        LossUnnoticed,
        LossDeclared,
        TakenBack,
        PaymentsCompared,
        NodeEmptied,
        AtRest,
    }
}
