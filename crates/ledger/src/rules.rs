//! The rules: every way in which a transfer can be refused, in the order of [`crate::precedence`].
//!
//! Rules look at a [`View`], which is the ledger itself or a chain's overlay on it, so each is written
//! once. They read and never write.

use skerry_money::Date;

use crate::account::{Account, Limit, UNLIMITED, counts_daily};
use crate::holds::Hold;
use crate::past::Earlier;
use crate::rejection::Rejection;
use crate::types::{AccountRef, Flags, Imported, Moved, MovedKind, Stamp, Transfer, TransferId};

/// What the rules may look at.
pub(crate) trait View {
    fn account(&self, account: AccountRef) -> Option<&Account>;
    fn hold(&self, id: TransferId) -> Option<Hold>;
    fn earlier(&self, id: TransferId) -> Option<Earlier>;
    fn live(&self) -> Option<Date>;
}

const KNOWN: u32 = ((1 << 11) - 1) | Flags::TAIL.0;
const RESOLVE: Flags = Flags::POST.with(Flags::VOID);
const BALANCING: Flags = Flags::BALANCING_DEBIT.with(Flags::BALANCING_CREDIT);
const CLOSING: Flags = Flags::CLOSING_DEBIT.with(Flags::CLOSING_CREDIT);
/// Flags that name what kind of transfer it is: at most one of them.
const MODES: Flags = RESOLVE.with(Flags::PENDING).with(Flags::REVERSAL);
/// A transfer with none of these is plain.
const SPECIAL: Flags = MODES.with(BALANCING).with(CLOSING);

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const AHEAD_MS: u64 = 60 * 1000;
const VALUE_DAYS: u32 = 400;

/// Decides one transfer against `view`; [`crate::Ledger::decide`] is this on the ledger itself.
#[inline]
pub(crate) fn decide<V: View>(view: &V, transfer: &Transfer, stamp: Stamp) -> Result<Moved, Rejection> {
    check_id(transfer, stamp)?;
    // Before every other rule: the retry of an accepted transfer must not be refused because the account
    // has been emptied since.
    if let Some(earlier) = view.earlier(transfer.id) {
        return Err(again(&earlier, transfer.digest));
    }
    check_flags(transfer.flags)?;
    check_fields(transfer, stamp, view.live())?;
    if transfer.flags.overlaps(RESOLVE) {
        resolve(view, transfer, stamp)
    } else if transfer.flags.has(Flags::REVERSAL) {
        reverse(view, transfer, stamp)
    } else {
        transact(view, transfer, stamp)
    }
}

/// Decides a plain posting whose id is the caller's matter.
#[inline]
pub(crate) fn decide_posting<V: View>(
    view: &V,
    transfer: &Transfer,
    stamp: Stamp,
) -> Result<Moved, Rejection> {
    check_flags(transfer.flags)?;
    check_fields(transfer, stamp, view.live())?;
    transact(view, transfer, stamp)
}

/// Checks the id, that it may act and has not acted, and that the flags go together.
pub(crate) fn check_new<V: View>(view: &V, transfer: &Transfer, stamp: Stamp) -> Result<(), Rejection> {
    check_id(transfer, stamp)?;
    view.earlier(transfer.id).map_or(Ok(()), |earlier| Err(again(&earlier, transfer.digest)))?;
    check_flags(transfer.flags)
}

#[inline]
fn check_id(transfer: &Transfer, stamp: Stamp) -> Result<(), Rejection> {
    if transfer.id == TransferId::NONE {
        return Err(Rejection::IdMissing);
    }
    let derived = Flags::BANK.with(Flags::IMPORTED).with(Flags::REVERSAL);
    match transfer.id.version() {
        // A derived id has no time in it: its cause is what makes it happen once.
        8 if transfer.flags.overlaps(derived) => Ok(()),
        7 => {
            let (millis, now_ms) = (transfer.id.millis(), stamp.time_us / 1000);
            if millis > now_ms.saturating_add(AHEAD_MS) {
                Err(Rejection::IdTooFarAhead)
            } else if millis.saturating_add(DAY_MS) < now_ms {
                Err(Rejection::IdExpired)
            } else {
                Ok(())
            }
        }
        _ => Err(Rejection::IdVersionNotAllowed),
    }
}

/// The answer to an id that was used before.
#[cold]
pub(crate) fn again(earlier: &Earlier, digest: u64) -> Rejection {
    match *earlier {
        Earlier::Moved { moved, .. } if moved.digest == digest => Rejection::AlreadyApplied,
        Earlier::Refused { digest: refused, code, have, need } if refused == digest => {
            Rejection::from_parts(code, have, need)
        }
        _ => Rejection::IdReused,
    }
}

#[inline]
fn check_flags(flags: Flags) -> Result<(), Rejection> {
    if flags.0 & !KNOWN != 0 {
        return Err(Rejection::FlagsReserved);
    }
    if !flags.overlaps(SPECIAL) {
        return Ok(());
    }
    let modes = (flags.0 & MODES.0).count_ones();
    let resolved = flags.overlaps(RESOLVE.with(Flags::REVERSAL));
    if modes > 1 || (resolved && flags.overlaps(BALANCING.with(Flags::IMPORTED).with(CLOSING))) {
        return Err(Rejection::FlagsExclusive);
    }
    if flags.overlaps(CLOSING) && !flags.has(Flags::PENDING) {
        return Err(Rejection::ClosingNotPending);
    }
    Ok(())
}

#[inline]
fn check_fields(transfer: &Transfer, stamp: Stamp, live: Option<Date>) -> Result<(), Rejection> {
    let flags = transfer.flags;
    let related = flags.overlaps(RESOLVE.with(Flags::REVERSAL));
    // Resolving and reversing take the other amount, balancing the most, closing may move nothing.
    if transfer.amount == 0 && !related && !flags.overlaps(BALANCING.with(CLOSING)) {
        return Err(Rejection::AmountZero);
    }
    check_related(transfer, related)?;
    if transfer.timeout_seconds != 0 {
        check_timeout(transfer, stamp)?;
    }
    if transfer.imported.is_some() || flags.has(Flags::IMPORTED) {
        check_imported(transfer, stamp, live)?;
    }
    if let Some(value) = transfer.value_date {
        check_value_date(value, booking_day(transfer, stamp))?;
    }
    if related { Ok(()) } else { check_named(transfer) }
}

#[inline]
fn check_related(transfer: &Transfer, needed: bool) -> Result<(), Rejection> {
    match (needed, transfer.related != TransferId::NONE) {
        (true, false) => Err(Rejection::RelatedMissing),
        (false, true) => Err(Rejection::RelatedUnexpected),
        (true, true) if transfer.related == transfer.id => Err(Rejection::RelatedIsItself),
        _ => Ok(()),
    }
}

fn check_timeout(transfer: &Transfer, stamp: Stamp) -> Result<(), Rejection> {
    if !transfer.flags.has(Flags::PENDING) || transfer.flags.has(Flags::IMPORTED) {
        return Err(Rejection::TimeoutUnexpected);
    }
    expiry(transfer.timeout_seconds, stamp).map(drop)
}

/// The second in which a hold made now expires: never earlier than asked for.
fn expiry(timeout_seconds: u32, stamp: Stamp) -> Result<u32, Rejection> {
    if timeout_seconds == 0 {
        return Ok(0);
    }
    let end = stamp.time_us.div_ceil(1_000_000).saturating_add(u64::from(timeout_seconds));
    u32::try_from(end).map_err(|_| Rejection::TimeoutTooLong)
}

fn check_imported(transfer: &Transfer, stamp: Stamp, live: Option<Date>) -> Result<(), Rejection> {
    let imported = match (transfer.imported, transfer.flags.has(Flags::IMPORTED)) {
        (Some(imported), true) if imported.time_us != 0 => imported,
        (_, true) => return Err(Rejection::ImportTimeMissing),
        (_, false) => return Err(Rejection::ImportTimeUnexpected),
    };
    if imported.time_us > stamp.time_us {
        return Err(Rejection::ImportInFuture);
    }
    let in_time = match live {
        Some(live) => imported.business_date < live,
        None => imported.business_date <= stamp.business_date,
    };
    if in_time { Ok(()) } else { Err(Rejection::ImportAfterLive) }
}

fn check_value_date(value: Date, booked: Date) -> Result<(), Rejection> {
    if value.0.abs_diff(booked.0) <= VALUE_DAYS { Ok(()) } else { Err(Rejection::ValueDateOutOfRange) }
}

#[inline]
fn check_named(transfer: &Transfer) -> Result<(), Rejection> {
    if transfer.debit == AccountRef::default() {
        Err(Rejection::DebitMissing)
    } else if transfer.credit == AccountRef::default() {
        Err(Rejection::CreditMissing)
    } else if transfer.debit == transfer.credit {
        Err(Rejection::SameAccount)
    } else {
        Ok(())
    }
}

/// A transfer or a hold between two named accounts.
#[inline]
fn transact<V: View>(view: &V, transfer: &Transfer, stamp: Stamp) -> Result<Moved, Rejection> {
    let debit = view.account(transfer.debit).ok_or(Rejection::DebitNotFound)?;
    let credit = view.account(transfer.credit).ok_or(Rejection::CreditNotFound)?;
    check_currency(debit, credit, transfer)?;
    check_open(debit.is_closed(), credit.is_closed())?;
    if let Some(imported) = transfer.imported {
        let history = |account: AccountRef, state| account.is_customer().then_some(state);
        check_history(&imported, history(transfer.debit, debit), history(transfer.credit, credit))?;
    }
    check_freeze(debit, credit, transfer.flags)?;
    let day = booking_day(transfer, stamp);
    let amount = if transfer.flags.overlaps(BALANCING) {
        balance(debit, credit, transfer, day)?
    } else {
        transfer.amount
    };
    check_limits(debit, credit, amount, transfer.flags, day)?;
    let is_hold = transfer.flags.has(Flags::PENDING);
    Ok(Moved {
        kind: if is_hold { MovedKind::Held } else { MovedKind::Posted },
        amount,
        currency: debit.currency,
        expires_s: if is_hold { expiry(transfer.timeout_seconds, stamp)? } else { 0 },
        ..moved(transfer, stamp, debit)
    })
}

#[inline]
fn check_currency(debit: &Account, credit: &Account, transfer: &Transfer) -> Result<(), Rejection> {
    if debit.currency != credit.currency {
        return Err(Rejection::CurrenciesDiffer);
    }
    match transfer.currency {
        Some(currency) if currency != debit.currency => Err(Rejection::CurrencyNotTheirs),
        _ => Ok(()),
    }
}

#[inline]
const fn check_open(debit_closed: bool, credit_closed: bool) -> Result<(), Rejection> {
    match (debit_closed, credit_closed) {
        (true, _) => Err(Rejection::DebitClosed),
        (_, true) => Err(Rejection::CreditClosed),
        _ => Ok(()),
    }
}

/// A customer account's history comes in order and before its life here. Heads are shared by all
/// accounts, whose histories come one after another, so they take any and are not given here.
fn check_history(
    imported: &Imported,
    debit: Option<&Account>,
    credit: Option<&Account>,
) -> Result<(), Rejection> {
    let too_early = |account: &Account| imported.business_date < account.opened;
    let backwards = |account: &Account| imported.time_us < account.imported_until_us;
    if debit.is_some_and(Account::has_native_entries) {
        Err(Rejection::ImportDebitNative)
    } else if credit.is_some_and(Account::has_native_entries) {
        Err(Rejection::ImportCreditNative)
    } else if debit.is_some_and(too_early) {
        Err(Rejection::ImportBeforeDebitOpened)
    } else if credit.is_some_and(too_early) {
        Err(Rejection::ImportBeforeCreditOpened)
    } else if debit.is_some_and(backwards) {
        Err(Rejection::ImportDebitBackwards)
    } else if credit.is_some_and(backwards) {
        Err(Rejection::ImportCreditBackwards)
    } else {
        Ok(())
    }
}

#[inline]
const fn check_freeze(debit: &Account, credit: &Account, flags: Flags) -> Result<(), Rejection> {
    if (debit.debit_freeze | credit.credit_freeze) == 0 || flags.has(Flags::BANK) {
        return Ok(());
    }
    if debit.debit_freeze != 0 {
        return Err(Rejection::DebitFrozen { reason: debit.debit_freeze });
    }
    Err(Rejection::CreditFrozen { reason: credit.credit_freeze })
}

/// The most that a balancing transfer can move: what was asked, what the balanced sides have room for,
/// and what is left of the day's limit.
fn balance(debit: &Account, credit: &Account, transfer: &Transfer, day: Date) -> Result<u64, Rejection> {
    let mut most = if transfer.amount == 0 { u64::MAX } else { transfer.amount };
    if transfer.flags.has(Flags::BALANCING_DEBIT) {
        most = most.min(room(debit.debit_room()));
        if counts_daily(transfer.flags) {
            most = most.min(debit.daily_room(day));
        }
    }
    if transfer.flags.has(Flags::BALANCING_CREDIT) {
        most = most.min(room(credit.credit_room()));
    }
    if most == 0 { Err(Rejection::NothingToBalance) } else { Ok(most) }
}

fn room(room: i128) -> u64 {
    if room <= 0 { 0 } else { u64::try_from(room).unwrap_or(u64::MAX) }
}

#[inline]
fn check_limits(
    debit: &Account,
    credit: &Account,
    amount: u64,
    flags: Flags,
    day: Date,
) -> Result<(), Rejection> {
    if flags.has(Flags::BANK) {
        return Ok(());
    }
    if matches!(debit.limit, Limit::Debits) {
        let have = debit.debit_room();
        // A closing hold of nothing breaks no limit, even on an account below its floor.
        if have < i128::from(amount) && amount != 0 {
            return Err(Rejection::InsufficientFunds { have, need: amount });
        }
    }
    if matches!(credit.limit, Limit::Credits) {
        let have = credit.credit_room();
        if have < i128::from(amount) && amount != 0 {
            return Err(Rejection::CreditLimitExceeded { have, need: amount });
        }
    }
    if debit.daily_limit != UNLIMITED && counts_daily(flags) {
        let have = debit.daily_room(day);
        if have < amount {
            return Err(Rejection::DailyLimitExceeded { have, need: amount });
        }
    }
    Ok(())
}

/// A post or a void of an open hold.
fn resolve<V: View>(view: &V, transfer: &Transfer, stamp: Stamp) -> Result<Moved, Rejection> {
    let Some(hold) = view.hold(transfer.related) else {
        return Err(why_no_hold(view.earlier(transfer.related)));
    };
    if hold.expires_s != 0 && stamp.time_us >= u64::from(hold.expires_s).saturating_mul(1_000_000) {
        return Err(Rejection::HoldExpired);
    }
    if !unset_or(transfer.debit, hold.debit) {
        return Err(Rejection::HoldDebitDiffers);
    }
    if !unset_or(transfer.credit, hold.credit) {
        return Err(Rejection::HoldCreditDiffers);
    }
    let debit = view.account(hold.debit).ok_or(Rejection::DebitNotFound)?;
    let credit = view.account(hold.credit).ok_or(Rejection::CreditNotFound)?;
    if transfer.currency.is_some_and(|currency| currency != debit.currency) {
        return Err(Rejection::HoldCurrencyDiffers);
    }
    if transfer.code != 0 && transfer.code != hold.code {
        return Err(Rejection::HoldCodeDiffers);
    }
    let (have, need) = (hold.amount, transfer.amount);
    let is_post = transfer.flags.has(Flags::POST);
    if is_post && need > have {
        return Err(Rejection::ExceedsHold { have, need });
    }
    if !is_post && need != 0 && need != have {
        return Err(Rejection::HoldAmountDiffers { have, need });
    }
    if is_post {
        // The hold that closes an account may still be posted to it; any other hold only voided.
        check_open(debit.is_closed() && !hold.closing_debit, credit.is_closed() && !hold.closing_credit)?;
        check_freeze(debit, credit, transfer.flags)?;
    }
    Ok(Moved {
        kind: if is_post { MovedKind::HoldPosted } else { MovedKind::HoldVoided },
        debit: hold.debit,
        credit: hold.credit,
        amount: if need == 0 { have } else { need },
        code: hold.code,
        ..moved(transfer, stamp, debit)
    })
}

fn why_no_hold(earlier: Option<Earlier>) -> Rejection {
    match earlier {
        Some(Earlier::Moved { moved, resolved }) => match (moved.kind, resolved) {
            (MovedKind::Held, Some(MovedKind::HoldPosted)) => Rejection::HoldAlreadyPosted,
            (MovedKind::Held, Some(MovedKind::HoldVoided)) => Rejection::HoldAlreadyVoided,
            (MovedKind::Held, Some(MovedKind::HoldExpired)) => Rejection::HoldExpired,
            (MovedKind::Held, _) => Rejection::HoldNotFound,
            _ => Rejection::NotAHold,
        },
        _ => Rejection::HoldNotFound,
    }
}

/// The whole of a posted transfer, the other way.
fn reverse<V: View>(view: &V, transfer: &Transfer, stamp: Stamp) -> Result<Moved, Rejection> {
    let Some(Earlier::Moved { moved: original, resolved }) = view.earlier(transfer.related) else {
        return Err(Rejection::OriginalNotFound);
    };
    if !matches!(original.kind, MovedKind::Posted | MovedKind::HoldPosted) {
        return Err(Rejection::OriginalNotPosted);
    }
    if original.flags.has(Flags::REVERSAL) {
        return Err(Rejection::OriginalIsReversal);
    }
    if resolved.is_some() {
        return Err(Rejection::OriginalAlreadyReversed);
    }
    if !unset_or(transfer.debit, original.credit) {
        return Err(Rejection::OriginalCreditDiffers);
    }
    if !unset_or(transfer.credit, original.debit) {
        return Err(Rejection::OriginalDebitDiffers);
    }
    if transfer.currency.is_some_and(|currency| currency != original.currency) {
        return Err(Rejection::OriginalCurrencyDiffers);
    }
    let (have, need) = (original.amount, transfer.amount);
    if need != 0 && need != have {
        return Err(Rejection::OriginalAmountDiffers { have, need });
    }
    let debit = view.account(original.credit).ok_or(Rejection::DebitNotFound)?;
    let credit = view.account(original.debit).ok_or(Rejection::CreditNotFound)?;
    check_open(debit.is_closed(), credit.is_closed())?;
    check_freeze(debit, credit, transfer.flags)?;
    check_limits(debit, credit, have, transfer.flags, stamp.business_date)?;
    Ok(Moved {
        debit: original.credit,
        credit: original.debit,
        amount: have,
        code: if transfer.code == 0 { original.code } else { transfer.code },
        ..moved(transfer, stamp, debit)
    })
}

fn unset_or(named: AccountRef, expected: AccountRef) -> bool {
    named == AccountRef::default() || named == expected
}

/// The day a transfer is booked on: the open one, or for an import the old core's.
#[inline]
fn booking_day(transfer: &Transfer, stamp: Stamp) -> Date {
    transfer.imported.map_or(stamp.business_date, |imported| imported.business_date)
}

/// The event for a plain posting of `transfer`; the other kinds change what differs.
#[inline]
fn moved(transfer: &Transfer, stamp: Stamp, debit: &Account) -> Moved {
    let business_date = booking_day(transfer, stamp);
    Moved {
        kind: MovedKind::Posted,
        id: transfer.id,
        debit: transfer.debit,
        credit: transfer.credit,
        amount: transfer.amount,
        currency: debit.currency,
        code: transfer.code,
        flags: transfer.flags,
        reference: transfer.reference,
        related: transfer.related,
        expires_s: 0,
        time_us: stamp.time_us,
        business_date,
        value_date: transfer.value_date.unwrap_or(business_date),
        imported_us: transfer.imported.map_or(0, |imported| imported.time_us),
        digest: transfer.digest,
    }
}

/// The journaled end of a hold whose time ran out.
pub(crate) fn expired(hold: &Hold, account: &Account, stamp: Stamp) -> Moved {
    Moved {
        kind: MovedKind::HoldExpired,
        id: TransferId::NONE,
        debit: hold.debit,
        credit: hold.credit,
        amount: hold.amount,
        currency: account.currency,
        code: hold.code,
        flags: Flags::BANK,
        reference: [0; 16],
        related: hold.id,
        expires_s: hold.expires_s,
        time_us: stamp.time_us,
        business_date: stamp.business_date,
        value_date: stamp.business_date,
        imported_us: 0,
        digest: 0,
    }
}
