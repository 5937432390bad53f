//! Marks on the paths of payments between branches; see [`skerry_journal::coverage`].

skerry_journal::coverage_marks! {
    /// A message of a channel could not be read.
    MessageRefused,
    /// A payment had been received before.
    PaymentsRepeated,
    /// Payments before these did not arrive.
    PaymentsMissed,
    /// The batch had no room for all payments of a message.
    PaymentsCutShort,
    /// The other branch asked for payments again.
    PaymentsAskedAgain,
    /// Payments were sent again because nothing was heard of them.
    PaymentsResent,
    /// A payment came back.
    PaymentReturned,
    /// The other branch was in another incarnation.
    IncarnationDiffered,
    /// A channel stopped.
    ChannelStopped,
    /// A channel that had stopped went on.
    ChannelResumed,
    /// Another branch knew of payments that the journal had lost.
    LossFound,
    /// Another branch was told what it had lost.
    Retelling,
    /// The batch had no room for all that was told.
    RetoldCutShort,
    /// A lost payment was taken back from the payee's branch.
    SentAgain,
    /// A lost payment was taken back from the payer's branch.
    ReceivedAgain,
    /// What was taken back had no account any more.
    Unapplied,
    /// A payment of after the loss had the number of a lost one, and was given back.
    PaymentWithdrawn,
}
