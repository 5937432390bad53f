//! A business "no": copyable, numbered, the same on every replica.
//!
//! A rejection is an outcome, not a fault. Faults of the machine live in the journal and the branch and
//! never here. The number is the interface and never changes its meaning; the text may change freely.

use thiserror::Error;

/// Why a transfer or an account command was refused.
///
/// The order of the variants, and of their numbers, is the order of [precedence](crate::precedence).
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the error text of each variant is its documentation, and docs/errors has a page for each"
)]
pub enum Rejection {
    #[error("another transfer of the linked chain was refused")]
    LinkedTransferFailed,
    #[error("the last transfer of the request is linked to a next one")]
    LinkedChainOpen,
    #[error("part of the linked chain was applied before, in another chain or alone")]
    LinkedChainChanged,
    #[error("the transfer has no id")]
    IdMissing,
    #[error("the id is not a UUID of version 7")]
    IdVersionNotAllowed,
    #[error("the id's time is more than 60 seconds ahead of the branch")]
    IdTooFarAhead,
    #[error("the id's time is more than 24 hours back")]
    IdExpired,
    #[error("the id was used before, for something else")]
    IdReused,
    #[error("the transfer was applied before")]
    AlreadyApplied,
    /// Carries a number of another crate, which knows its meaning.
    #[error("the id was refused before, with {code}")]
    RefusedBefore { code: u16, have: i128, need: u128 },
    #[error("a reserved flag is set")]
    FlagsReserved,
    #[error("the flags exclude each other")]
    FlagsExclusive,
    #[error("only a pending transfer can close an account")]
    ClosingNotPending,
    #[error("the amount is zero")]
    AmountZero,
    #[error("the transfer to resolve or reverse is not named")]
    RelatedMissing,
    #[error("a related transfer is named, but nothing is resolved or reversed")]
    RelatedUnexpected,
    #[error("the transfer names itself as related")]
    RelatedIsItself,
    #[error("only a pending transfer of this bank has a timeout")]
    TimeoutUnexpected,
    #[error("the timeout ends after 2106")]
    TimeoutTooLong,
    #[error("an imported transfer needs its own time and business date")]
    ImportTimeMissing,
    #[error("only an imported transfer has its own time")]
    ImportTimeUnexpected,
    #[error("the imported time is ahead of the branch")]
    ImportInFuture,
    #[error("the imported business date is not before the branch went live")]
    ImportAfterLive,
    #[error("the value date is more than 400 days from the business date")]
    ValueDateOutOfRange,
    #[error("the account to debit is not named")]
    DebitMissing,
    #[error("the account to credit is not named")]
    CreditMissing,
    #[error("debit and credit are the same account")]
    SameAccount,
    #[error("there is no such hold")]
    HoldNotFound,
    #[error("the related transfer is not pending and never was")]
    NotAHold,
    #[error("the hold was posted before")]
    HoldAlreadyPosted,
    #[error("the hold was voided before")]
    HoldAlreadyVoided,
    #[error("the hold has expired")]
    HoldExpired,
    #[error("the hold debits another account")]
    HoldDebitDiffers,
    #[error("the hold credits another account")]
    HoldCreditDiffers,
    #[error("the hold is in another currency")]
    HoldCurrencyDiffers,
    #[error("the hold has another code")]
    HoldCodeDiffers,
    #[error("{need} is more than the {have} held")]
    ExceedsHold { have: u64, need: u64 },
    #[error("a void releases the {have} held, not {need}")]
    HoldAmountDiffers { have: u64, need: u64 },
    #[error("there is no such transfer to reverse")]
    OriginalNotFound,
    #[error("the transfer to reverse has posted nothing")]
    OriginalNotPosted,
    #[error("a reversal cannot be reversed")]
    OriginalIsReversal,
    #[error("the transfer was reversed before")]
    OriginalAlreadyReversed,
    #[error("the account to debit is not the one the original credited")]
    OriginalCreditDiffers,
    #[error("the account to credit is not the one the original debited")]
    OriginalDebitDiffers,
    #[error("the original is in another currency")]
    OriginalCurrencyDiffers,
    #[error("a reversal moves the whole {have}, not {need}")]
    OriginalAmountDiffers { have: u64, need: u64 },
    #[error("the account to debit does not exist")]
    DebitNotFound,
    #[error("the account to credit does not exist")]
    CreditNotFound,
    #[error("the two accounts have different currencies")]
    CurrenciesDiffer,
    #[error("the transfer's currency is not that of its accounts")]
    CurrencyNotTheirs,
    #[error("the account to debit is closed")]
    DebitClosed,
    #[error("the account to credit is closed")]
    CreditClosed,
    #[error("the account to debit has entries of this bank and takes no imports")]
    ImportDebitNative,
    #[error("the account to credit has entries of this bank and takes no imports")]
    ImportCreditNative,
    #[error("the account to debit was not open on that date")]
    ImportBeforeDebitOpened,
    #[error("the account to credit was not open on that date")]
    ImportBeforeCreditOpened,
    #[error("the account to debit has later imports")]
    ImportDebitBackwards,
    #[error("the account to credit has later imports")]
    ImportCreditBackwards,
    #[error("debits of the account are frozen, reason {reason}")]
    DebitFrozen { reason: u8 },
    #[error("credits of the account are frozen, reason {reason}")]
    CreditFrozen { reason: u8 },
    #[error("nothing is left to balance")]
    NothingToBalance,
    #[error("{have} available, {need} needed")]
    InsufficientFunds { have: i128, need: u64 },
    #[error("the account takes {have} more, not {need}")]
    CreditLimitExceeded { have: i128, need: u64 },
    #[error("{have} left of the daily limit, {need} needed")]
    DailyLimitExceeded { have: u64, need: u64 },

    #[error("the account does not exist")]
    AccountNotFound,
    #[error("the account is closed")]
    AccountClosed,
    #[error("the account is not closed")]
    AccountNotClosed,
    #[error("a hold is closing the account: void or post it")]
    AccountClosing,
    #[error("the account has a balance of {have}")]
    AccountHasBalance { have: i128 },
    #[error("the account has {have} open holds")]
    AccountHasHolds { have: u32 },
    #[error("the account is frozen, reason {reason}")]
    AccountFrozen { reason: u8 },
    #[error("neither debits nor credits are named")]
    FreezeSideMissing,
    #[error("a freeze needs a reason other than 0")]
    FreezeReasonMissing,
    #[error("that side is frozen already, reason {reason}")]
    AlreadyFrozen { reason: u8 },
    #[error("that side is not frozen")]
    NotFrozen,
    #[error("the general-ledger head does not exist")]
    HeadNotFound,
    #[error("the reference is not that of a head of this branch")]
    HeadMalformed,
    #[error("the general-ledger head exists")]
    HeadExists,
    #[error("the general-ledger head is in another currency")]
    HeadCurrencyDiffers,
    #[error("the branch has no room for another account")]
    BranchFull,
    #[error("the branch went live before")]
    AlreadyLive,
    #[error("the live date is not after the last import")]
    LiveBeforeImports,
}

/// What is said about a rejection besides its text.
struct Facts {
    code: u16,
    name: &'static str,
    field: &'static str,
    later: bool,
}

/// Could succeed later, so it is journaled and the id stays refused.
const LATER: bool = true;
/// Will be refused whenever it is tried.
const NEVER: bool = false;

impl Rejection {
    /// Every rejection once, figures zero, in order of precedence: for pages and tests that must name all.
    pub const ALL: &[Self] = &[
        Self::LinkedTransferFailed,
        Self::LinkedChainOpen,
        Self::LinkedChainChanged,
        Self::IdMissing,
        Self::IdVersionNotAllowed,
        Self::IdTooFarAhead,
        Self::IdExpired,
        Self::IdReused,
        Self::AlreadyApplied,
        Self::FlagsReserved,
        Self::FlagsExclusive,
        Self::ClosingNotPending,
        Self::AmountZero,
        Self::RelatedMissing,
        Self::RelatedUnexpected,
        Self::RelatedIsItself,
        Self::TimeoutUnexpected,
        Self::TimeoutTooLong,
        Self::ImportTimeMissing,
        Self::ImportTimeUnexpected,
        Self::ImportInFuture,
        Self::ImportAfterLive,
        Self::ValueDateOutOfRange,
        Self::DebitMissing,
        Self::CreditMissing,
        Self::SameAccount,
        Self::HoldNotFound,
        Self::NotAHold,
        Self::HoldAlreadyPosted,
        Self::HoldAlreadyVoided,
        Self::HoldExpired,
        Self::HoldDebitDiffers,
        Self::HoldCreditDiffers,
        Self::HoldCurrencyDiffers,
        Self::HoldCodeDiffers,
        Self::ExceedsHold { have: 0, need: 0 },
        Self::HoldAmountDiffers { have: 0, need: 0 },
        Self::OriginalNotFound,
        Self::OriginalNotPosted,
        Self::OriginalIsReversal,
        Self::OriginalAlreadyReversed,
        Self::OriginalCreditDiffers,
        Self::OriginalDebitDiffers,
        Self::OriginalCurrencyDiffers,
        Self::OriginalAmountDiffers { have: 0, need: 0 },
        Self::DebitNotFound,
        Self::CreditNotFound,
        Self::CurrenciesDiffer,
        Self::CurrencyNotTheirs,
        Self::DebitClosed,
        Self::CreditClosed,
        Self::ImportDebitNative,
        Self::ImportCreditNative,
        Self::ImportBeforeDebitOpened,
        Self::ImportBeforeCreditOpened,
        Self::ImportDebitBackwards,
        Self::ImportCreditBackwards,
        Self::DebitFrozen { reason: 0 },
        Self::CreditFrozen { reason: 0 },
        Self::NothingToBalance,
        Self::InsufficientFunds { have: 0, need: 0 },
        Self::CreditLimitExceeded { have: 0, need: 0 },
        Self::DailyLimitExceeded { have: 0, need: 0 },
        Self::AccountNotFound,
        Self::AccountClosed,
        Self::AccountNotClosed,
        Self::AccountClosing,
        Self::AccountHasBalance { have: 0 },
        Self::AccountHasHolds { have: 0 },
        Self::AccountFrozen { reason: 0 },
        Self::FreezeSideMissing,
        Self::FreezeReasonMissing,
        Self::AlreadyFrozen { reason: 0 },
        Self::NotFrozen,
        Self::HeadNotFound,
        Self::HeadMalformed,
        Self::HeadExists,
        Self::HeadCurrencyDiffers,
        Self::BranchFull,
        Self::AlreadyLive,
        Self::LiveBeforeImports,
    ];

    /// The number clients match on: never renumbered, never used again.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.facts().code
    }

    /// The same as a word in snake case, the `code` of a problem document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The field of the request that it is about; empty if none is.
    #[must_use]
    pub const fn field(self) -> &'static str {
        self.facts().field
    }

    /// Whether the same request could succeed at another time. Such a refusal of a transfer is journaled,
    /// and its id stays refused.
    ///
    /// The two refusals about the id's own time are not among them: an id that lies outside the window has
    /// not acted, and to remember ids from the far future would let strangers fill the index.
    #[must_use]
    pub const fn may_succeed_later(self) -> bool {
        self.facts().later
    }

    /// What there was and what was needed, in minor units, where the rule compares figures.
    #[must_use]
    pub fn figures(self) -> Option<(i128, u128)> {
        match self {
            Self::ExceedsHold { have, need }
            | Self::HoldAmountDiffers { have, need }
            | Self::OriginalAmountDiffers { have, need }
            | Self::DailyLimitExceeded { have, need } => Some((i128::from(have), u128::from(need))),
            Self::InsufficientFunds { have, need } | Self::CreditLimitExceeded { have, need } => {
                Some((have, u128::from(need)))
            }
            Self::AccountHasBalance { have } => Some((have, 0)),
            Self::AccountHasHolds { have } => Some((i128::from(have), 0)),
            Self::RefusedBefore { have, need, .. } => Some((have, need)),
            _ => None,
        }
    }

    /// All of it as three numbers, to be journaled and read back with [`from_parts`](Self::from_parts).
    #[must_use]
    pub fn parts(self) -> (u16, i128, u128) {
        let (have, need) = match self {
            Self::DebitFrozen { reason }
            | Self::CreditFrozen { reason }
            | Self::AccountFrozen { reason }
            | Self::AlreadyFrozen { reason } => (i128::from(reason), 0),
            other => other.figures().unwrap_or((0, 0)),
        };
        (self.code(), have, need)
    }

    /// The rejection that [`parts`](Self::parts) came from; [`RefusedBefore`](Self::RefusedBefore) if the
    /// number is not one of this crate.
    #[must_use]
    pub fn from_parts(code: u16, have: i128, need: u128) -> Self {
        let unknown = Self::RefusedBefore { code, have, need };
        let Some(kind) = Self::ALL.iter().find(|kind| kind.code() == code) else { return unknown };
        kind.with_figures(have, need).unwrap_or(unknown)
    }

    /// The same rule with other figures; `None` if they do not fit it.
    fn with_figures(self, have: i128, need: u128) -> Option<Self> {
        let reason = || u8::try_from(have).ok();
        let short = || Some((u64::try_from(have).ok()?, u64::try_from(need).ok()?));
        let signed = || Some((have, u64::try_from(need).ok()?));
        Some(match self {
            Self::ExceedsHold { .. } => short().map(|(have, need)| Self::ExceedsHold { have, need })?,
            Self::HoldAmountDiffers { .. } => {
                short().map(|(have, need)| Self::HoldAmountDiffers { have, need })?
            }
            Self::OriginalAmountDiffers { .. } => {
                short().map(|(have, need)| Self::OriginalAmountDiffers { have, need })?
            }
            Self::DailyLimitExceeded { .. } => {
                short().map(|(have, need)| Self::DailyLimitExceeded { have, need })?
            }
            Self::InsufficientFunds { .. } => {
                signed().map(|(have, need)| Self::InsufficientFunds { have, need })?
            }
            Self::CreditLimitExceeded { .. } => {
                signed().map(|(have, need)| Self::CreditLimitExceeded { have, need })?
            }
            Self::AccountHasBalance { .. } => Self::AccountHasBalance { have },
            Self::AccountHasHolds { .. } => Self::AccountHasHolds { have: u32::try_from(have).ok()? },
            Self::DebitFrozen { .. } => Self::DebitFrozen { reason: reason()? },
            Self::CreditFrozen { .. } => Self::CreditFrozen { reason: reason()? },
            Self::AccountFrozen { .. } => Self::AccountFrozen { reason: reason()? },
            Self::AlreadyFrozen { .. } => Self::AlreadyFrozen { reason: reason()? },
            other => other,
        })
    }

    #[rustfmt::skip]
    const fn facts(self) -> Facts {
        let (code, name, field, later) = match self {
            Self::LinkedTransferFailed => (1001, "linked_transfer_failed", "flags", NEVER),
            Self::LinkedChainOpen => (1002, "linked_chain_open", "flags", NEVER),
            Self::LinkedChainChanged => (1003, "linked_chain_changed", "id", NEVER),

            Self::IdMissing => (1010, "id_missing", "id", NEVER),
            Self::IdVersionNotAllowed => (1011, "id_version_not_allowed", "id", NEVER),
            Self::IdTooFarAhead => (1012, "id_too_far_ahead", "id", NEVER),
            Self::IdExpired => (1013, "id_expired", "id", NEVER),
            Self::IdReused => (1014, "id_reused", "id", NEVER),
            Self::AlreadyApplied => (1015, "already_applied", "id", NEVER),
            Self::RefusedBefore { code, .. } => (code, "refused_before", "id", NEVER),

            Self::FlagsReserved => (1020, "flags_reserved", "flags", NEVER),
            Self::FlagsExclusive => (1021, "flags_exclusive", "flags", NEVER),
            Self::ClosingNotPending => (1022, "closing_not_pending", "flags", NEVER),

            Self::AmountZero => (1030, "amount_zero", "amount", NEVER),
            Self::RelatedMissing => (1031, "related_missing", "related", NEVER),
            Self::RelatedUnexpected => (1032, "related_unexpected", "related", NEVER),
            Self::RelatedIsItself => (1033, "related_is_itself", "related", NEVER),
            Self::TimeoutUnexpected => (1034, "timeout_unexpected", "timeout", NEVER),
            Self::TimeoutTooLong => (1035, "timeout_too_long", "timeout", NEVER),
            Self::ImportTimeMissing => (1036, "import_time_missing", "imported", NEVER),
            Self::ImportTimeUnexpected => (1037, "import_time_unexpected", "imported", NEVER),
            Self::ImportInFuture => (1038, "import_in_future", "imported", LATER),
            Self::ImportAfterLive => (1039, "import_after_live", "imported", LATER),
            Self::ValueDateOutOfRange => (1040, "value_date_out_of_range", "value_date", LATER),
            Self::DebitMissing => (1041, "debit_missing", "debit", NEVER),
            Self::CreditMissing => (1042, "credit_missing", "credit", NEVER),
            Self::SameAccount => (1043, "same_account", "credit", NEVER),

            Self::HoldNotFound => (1050, "hold_not_found", "related", LATER),
            Self::NotAHold => (1051, "not_a_hold", "related", NEVER),
            Self::HoldAlreadyPosted => (1052, "hold_already_posted", "related", NEVER),
            Self::HoldAlreadyVoided => (1053, "hold_already_voided", "related", NEVER),
            Self::HoldExpired => (1054, "hold_expired", "related", NEVER),
            Self::HoldDebitDiffers => (1055, "hold_debit_differs", "debit", NEVER),
            Self::HoldCreditDiffers => (1056, "hold_credit_differs", "credit", NEVER),
            Self::HoldCurrencyDiffers => (1057, "hold_currency_differs", "currency", NEVER),
            Self::HoldCodeDiffers => (1058, "hold_code_differs", "code", NEVER),
            Self::ExceedsHold { .. } => (1059, "exceeds_hold", "amount", NEVER),
            Self::HoldAmountDiffers { .. } => (1060, "hold_amount_differs", "amount", NEVER),

            Self::OriginalNotFound => (1065, "original_not_found", "related", LATER),
            Self::OriginalNotPosted => (1066, "original_not_posted", "related", NEVER),
            Self::OriginalIsReversal => (1067, "original_is_reversal", "related", NEVER),
            Self::OriginalAlreadyReversed => (1068, "original_already_reversed", "related", NEVER),
            Self::OriginalCreditDiffers => (1069, "original_credit_differs", "debit", NEVER),
            Self::OriginalDebitDiffers => (1070, "original_debit_differs", "credit", NEVER),
            Self::OriginalCurrencyDiffers => (1071, "original_currency_differs", "currency", NEVER),
            Self::OriginalAmountDiffers { .. } => (1072, "original_amount_differs", "amount", NEVER),

            Self::DebitNotFound => (1080, "debit_not_found", "debit", LATER),
            Self::CreditNotFound => (1081, "credit_not_found", "credit", LATER),
            Self::CurrenciesDiffer => (1082, "currencies_differ", "credit", NEVER),
            Self::CurrencyNotTheirs => (1083, "currency_not_theirs", "currency", NEVER),
            Self::DebitClosed => (1084, "debit_closed", "debit", LATER),
            Self::CreditClosed => (1085, "credit_closed", "credit", LATER),

            Self::ImportDebitNative => (1090, "import_debit_native", "debit", NEVER),
            Self::ImportCreditNative => (1091, "import_credit_native", "credit", NEVER),
            Self::ImportBeforeDebitOpened => (1092, "import_before_debit_opened", "imported", NEVER),
            Self::ImportBeforeCreditOpened => (1093, "import_before_credit_opened", "imported", NEVER),
            Self::ImportDebitBackwards => (1094, "import_debit_backwards", "imported", NEVER),
            Self::ImportCreditBackwards => (1095, "import_credit_backwards", "imported", NEVER),

            Self::DebitFrozen { .. } => (1100, "debit_frozen", "debit", LATER),
            Self::CreditFrozen { .. } => (1101, "credit_frozen", "credit", LATER),

            Self::NothingToBalance => (1110, "nothing_to_balance", "amount", LATER),
            Self::InsufficientFunds { .. } => (1111, "insufficient_funds", "amount", LATER),
            Self::CreditLimitExceeded { .. } => (1112, "credit_limit_exceeded", "amount", LATER),
            Self::DailyLimitExceeded { .. } => (1113, "daily_limit_exceeded", "amount", LATER),

            Self::AccountNotFound => (2001, "account_not_found", "account", LATER),
            Self::AccountClosed => (2002, "account_closed", "account", LATER),
            Self::AccountNotClosed => (2003, "account_not_closed", "account", LATER),
            Self::AccountClosing => (2004, "account_closing", "account", LATER),
            Self::AccountHasBalance { .. } => (2005, "account_has_balance", "account", LATER),
            Self::AccountHasHolds { .. } => (2006, "account_has_holds", "account", LATER),
            Self::AccountFrozen { .. } => (2007, "account_frozen", "account", LATER),
            Self::FreezeSideMissing => (2008, "freeze_side_missing", "sides", NEVER),
            Self::FreezeReasonMissing => (2009, "freeze_reason_missing", "reason", NEVER),
            Self::AlreadyFrozen { .. } => (2010, "already_frozen", "sides", LATER),
            Self::NotFrozen => (2011, "not_frozen", "sides", LATER),
            Self::HeadNotFound => (2012, "head_not_found", "head", LATER),
            Self::HeadMalformed => (2013, "head_malformed", "head", NEVER),
            Self::HeadExists => (2014, "head_exists", "head", NEVER),
            Self::HeadCurrencyDiffers => (2015, "head_currency_differs", "currency", NEVER),
            Self::BranchFull => (2016, "branch_full", "", LATER),
            Self::AlreadyLive => (2017, "already_live", "date", NEVER),
            Self::LiveBeforeImports => (2018, "live_before_imports", "date", NEVER),
        };
        Facts { code, name, field, later }
    }
}

#[cfg(test)]
mod tests {
    use super::Rejection;

    #[test]
    fn numbers_rise_in_order_of_precedence_and_names_are_unique() {
        for pair in Rejection::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{:?} comes before {:?}", pair[0], pair[1]);
        }
        for (index, one) in Rejection::ALL.iter().enumerate() {
            assert!(Rejection::ALL[..index].iter().all(|other| other.name() != one.name()));
            assert!(one.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }

    #[test]
    fn every_rejection_survives_the_journal() {
        for kind in Rejection::ALL {
            let one = kind.with_figures(7, 9).unwrap();
            let (code, have, need) = one.parts();
            assert_eq!(Rejection::from_parts(code, have, need), one);
        }
        let owed = Rejection::InsufficientFunds { have: -5, need: u64::MAX };
        let (code, have, need) = owed.parts();
        assert_eq!(Rejection::from_parts(code, have, need), owed);
    }

    #[test]
    fn a_number_of_another_crate_is_carried_through() {
        let foreign = Rejection::from_parts(3007, -1, 2);
        assert_eq!(foreign, Rejection::RefusedBefore { code: 3007, have: -1, need: 2 });
        assert_eq!(foreign.parts(), (3007, -1, 2));
    }
}
