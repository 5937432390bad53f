//! What a transfer must come to, said as plainly as it can be.
//!
//! The order of refusals is that of `skerry_ledger::precedence`. Codes are written as numbers: they are what
//! clients see, and this file must not learn them from the code it judges.

use skerry_book::channel::received_id;
use skerry_ledger::{AccountKind, AccountRef, Flags, MovedKind, Stamp, Transfer, TransferId, UNLIMITED};
use skerry_money::Date;

use super::account::{Account, DEBIT};
use super::{Fact, Model};

/// Accepted, with what it does, to whom, and how much; or the number of the refusal.
pub(crate) type Verdict = Result<(MovedKind, [AccountRef; 2], u64), u16>;

pub(super) const INSUFFICIENT_FUNDS: u16 = 1111;

/// It cannot leave the branch.
const CROSSES: u16 = 4001;
/// What cannot.
const STAYS: Flags = Flags(
    Flags::LINKED.0
        | Flags::BALANCING_DEBIT.0
        | Flags::BALANCING_CREDIT.0
        | Flags::CLOSING_DEBIT.0
        | Flags::CLOSING_CREDIT.0
        | Flags::IMPORTED.0,
);
const CLOSING: [Flags; 2] = [Flags::CLOSING_DEBIT, Flags::CLOSING_CREDIT];
const BALANCING: [Flags; 2] = [Flags::BALANCING_DEBIT, Flags::BALANCING_CREDIT];

impl Model {
    /// What `transfer` must come to if it is decided now.
    pub(crate) fn judge(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        judge_id(transfer, stamp)?;
        self.judge_repetition(transfer)?;
        judge_flags(transfer.flags)?;
        let crosses = self.is_elsewhere(transfer.credit);
        if crosses && (transfer.flags.overlaps(STAYS) || transfer.credit.kind().is_some_and(is_head)) {
            return Err(CROSSES);
        }
        if crosses && transfer.flags.has(Flags::REVERSAL) {
            return self.judge_payment_back(transfer, stamp);
        }
        self.judge_fields(transfer, stamp)?;
        if transfer.flags.has(Flags::POST) || transfer.flags.has(Flags::VOID) {
            self.judge_resolution(transfer, stamp)
        } else if transfer.flags.has(Flags::REVERSAL) {
            self.judge_reversal(transfer, stamp)
        } else {
            self.judge_movement(transfer, stamp)
        }
    }

    fn judge_repetition(&self, transfer: &Transfer) -> Result<(), u16> {
        let earlier = self.fact(transfer.id).map(|fact| (fact.moved.digest, 1015));
        let earlier =
            earlier.or_else(|| self.refused.get(&transfer.id).map(|sticky| (sticky.digest, sticky.code)));
        match earlier {
            None => Ok(()),
            Some((digest, code)) if digest == transfer.digest => Err(code),
            Some(_) => Err(1014),
        }
    }

    fn judge_fields(&self, transfer: &Transfer, stamp: Stamp) -> Result<(), u16> {
        let flags = transfer.flags;
        let refers = flags.overlaps(Flags::POST.with(Flags::VOID).with(Flags::REVERSAL));
        let may_be_nothing = refers || BALANCING.iter().chain(&CLOSING).any(|flag| flags.has(*flag));
        let day = booking_day(transfer, stamp);
        let imported = flags.has(Flags::IMPORTED);
        let pending = flags.has(Flags::PENDING);
        let end_s = stamp.time_us.div_ceil(1_000_000) + u64::from(transfer.timeout_seconds);
        let timed = transfer.timeout_seconds != 0;
        let own_time_us = transfer.imported.map_or(0, |own| own.time_us);
        let too_late = match self.live {
            Some(live) => day >= live,
            None => day > stamp.business_date,
        };
        let unset = AccountRef::default();
        first_broken(&[
            (1030, transfer.amount == 0 && !may_be_nothing),
            (1031, refers && transfer.related == TransferId::NONE),
            (1032, !refers && transfer.related != TransferId::NONE),
            (1033, refers && transfer.related == transfer.id),
            (1034, timed && (!pending || imported)),
            (1035, timed && u32::try_from(end_s).is_err()),
            (1036, imported && own_time_us == 0),
            (1037, !imported && transfer.imported.is_some()),
            (1038, own_time_us > stamp.time_us),
            (1039, imported && too_late),
            (1040, transfer.value_date.is_some_and(|value| value.0.abs_diff(day.0) > 400)),
            (1041, !refers && transfer.debit == unset),
            (1042, !refers && transfer.credit == unset),
            (1043, !refers && transfer.debit == transfer.credit),
        ])
    }

    fn judge_movement(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let names = [transfer.debit, transfer.credit];
        let debit = self.accounts.get(&transfer.debit).ok_or(1080_u16)?;
        let into = if self.is_elsewhere(transfer.credit) {
            self.transit(transfer.credit.branch(), debit.currency)
        } else {
            transfer.credit
        };
        let credit = self.accounts.get(&into).ok_or(1081_u16)?;
        let pair = [debit, credit];
        first_broken(&[
            (1082, debit.currency != credit.currency),
            (1083, transfer.currency.is_some_and(|currency| currency != debit.currency)),
            (1084, debit.is_closed()),
            (1085, credit.is_closed()),
        ])?;
        judge_import(transfer, pair)?;
        judge_freeze(pair)?;
        let day = booking_day(transfer, stamp);
        let amount = self.balanced(transfer, pair, day)?;
        self.judge_limits(pair, amount, transfer.flags, day)?;
        let kind = if transfer.flags.has(Flags::PENDING) { MovedKind::Held } else { MovedKind::Posted };
        Ok((kind, names, amount))
    }

    /// The amount, or what a balancing transfer finds to move.
    fn balanced(&self, transfer: &Transfer, pair: [&Account; 2], day: Date) -> Result<u64, u16> {
        if !BALANCING.iter().any(|flag| transfer.flags.has(*flag)) {
            return Ok(transfer.amount);
        }
        let wish = if transfer.amount == 0 { u64::MAX } else { transfer.amount };
        let mut most = i128::from(wish);
        for side in 0..2 {
            if transfer.flags.has(BALANCING[side]) {
                most = most.min(pair[side].room(side));
            }
        }
        if transfer.flags.has(Flags::BALANCING_DEBIT) && !transfer.flags.has(Flags::IMPORTED) {
            most = most.min(i128::from(self.daily_left(pair[DEBIT], day)));
        }
        if most <= 0 { Err(1110) } else { Ok(u64::try_from(most).expect("at most the wish")) }
    }

    fn judge_limits(&self, pair: [&Account; 2], amount: u64, flags: Flags, day: Date) -> Result<(), u16> {
        for (side, account) in pair.into_iter().enumerate() {
            if amount != 0 && account.limits(side) && account.room(side) < i128::from(amount) {
                return Err([INSUFFICIENT_FUNDS, 1112][side]);
            }
        }
        let daily = !flags.has(Flags::IMPORTED) && self.daily_left(pair[DEBIT], day) < amount;
        if daily { Err(1113) } else { Ok(()) }
    }

    /// What is left of the account's daily limit, added up from everything it spent that day.
    fn daily_left(&self, account: &Account, day: Date) -> u64 {
        if account.daily_limit == UNLIMITED {
            return UNLIMITED;
        }
        let spent = account.facts.iter().map(|index| &self.facts[*index]).filter(|fact| {
            fact.moved.debit == account.reference
                && fact.moved.business_date == day
                && !fact.moved.flags.has(Flags::IMPORTED)
        });
        let used: u64 = spent.map(|fact| self.spent_by(fact)).sum();
        account.daily_limit.saturating_sub(used)
    }

    fn spent_by(&self, fact: &Fact) -> u64 {
        match (fact.moved.kind, self.resolution(fact.moved.id).map(|end| end.moved)) {
            (MovedKind::Posted, _) | (MovedKind::Held, None) => fact.moved.amount,
            (MovedKind::Held, Some(end)) if end.kind == MovedKind::HoldPosted => end.amount,
            _ => 0,
        }
    }

    fn judge_resolution(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let Some(fact) = self.fact(transfer.related) else { return Err(1050) };
        let (sides, hold) = (fact.sides, fact.moved);
        let end = self.resolution(transfer.related).map(|end| end.moved.kind);
        let overdue = hold.expires_s != 0 && stamp.time_us >= u64::from(hold.expires_s) * 1_000_000;
        let posts = transfer.flags.has(Flags::POST);
        first_broken(&[
            (1051, hold.kind != MovedKind::Held),
            (1052, end == Some(MovedKind::HoldPosted)),
            (1053, end == Some(MovedKind::HoldVoided)),
            (1054, end.is_some() || overdue),
            (1055, differs(transfer.debit, hold.debit)),
            (1056, differs(transfer.credit, hold.credit)),
            (1057, transfer.currency.is_some_and(|currency| currency != hold.currency)),
            (1058, transfer.code != 0 && transfer.code != hold.code),
            (1059, posts && transfer.amount > hold.amount),
            (1060, !posts && transfer.amount != 0 && transfer.amount != hold.amount),
        ])?;
        let names = [hold.debit, hold.credit];
        let amount = if transfer.amount == 0 { hold.amount } else { transfer.amount };
        if !posts {
            return Ok((MovedKind::HoldVoided, sides, amount));
        }
        let pair = self.pair(sides);
        for side in 0..2 {
            // The hold that closes an account may still be posted to it.
            if pair[side].is_closed() && !hold.flags.has(CLOSING[side]) {
                return Err([1084, 1085][side]);
            }
        }
        judge_freeze(pair)?;
        Ok((MovedKind::HoldPosted, names, amount))
    }

    fn judge_reversal(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let Some(original) = self.fact(transfer.related).map(|fact| fact.moved) else { return Err(1065) };
        let names = [original.credit, original.debit];
        if self.is_elsewhere(original.credit) {
            return Err(CROSSES);
        }
        // What was given back, after it had left, was never asked for.
        if self.is_elsewhere(original.debit) {
            return Err(1065);
        }
        first_broken(&[
            (1066, !matches!(original.kind, MovedKind::Posted | MovedKind::HoldPosted)),
            (1067, original.flags.has(Flags::REVERSAL)),
            (1068, self.resolution(transfer.related).is_some()),
            (1069, differs(transfer.debit, original.credit)),
            (1070, differs(transfer.credit, original.debit)),
            (1071, transfer.currency.is_some_and(|currency| currency != original.currency)),
            (1072, transfer.amount != 0 && transfer.amount != original.amount),
        ])?;
        let pair = self.pair(names);
        first_broken(&[(1084, pair[0].is_closed()), (1085, pair[1].is_closed())])?;
        judge_freeze(pair)?;
        self.judge_limits(pair, original.amount, transfer.flags, stamp.business_date)?;
        Ok((MovedKind::Posted, names, original.amount))
    }

    /// The reversal of a payment that came from another branch is a payment back.
    fn judge_payment_back(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let Some(original) = self.original(transfer).map(|fact| fact.moved) else { return Err(1065) };
        let key = received_id(transfer.related, transfer.credit.branch());
        first_broken(&[
            (1068, self.resolution(key).is_some()),
            (1067, original.flags.has(Flags::REVERSAL)),
            (1069, differs(transfer.debit, original.credit)),
            (1070, differs(transfer.credit, original.debit)),
            (1071, transfer.currency.is_some_and(|currency| currency != original.currency)),
            (1072, transfer.amount != 0 && transfer.amount != original.amount),
        ])?;
        let back = Transfer {
            debit: original.credit,
            credit: original.debit,
            amount: original.amount,
            flags: Flags::default(),
            related: TransferId::NONE,
            ..*transfer
        };
        self.judge_fields(&back, stamp)?;
        self.judge_movement(&back, stamp)
    }

    fn pair(&self, names: [AccountRef; 2]) -> [&Account; 2] {
        names.map(|name| self.accounts.get(&name).expect("money moved there, so it exists"))
    }
}

fn judge_id(transfer: &Transfer, stamp: Stamp) -> Result<(), u16> {
    let derived = Flags::BANK.with(Flags::IMPORTED).with(Flags::REVERSAL);
    let now_ms = i128::from(stamp.time_us / 1000);
    let age_ms = now_ms - i128::from(transfer.id.millis());
    match transfer.id.version() {
        _ if transfer.id == TransferId::NONE => Err(1010),
        8 if transfer.flags.overlaps(derived) => Ok(()),
        7 if age_ms < -60_000 => Err(1012),
        7 if age_ms > 24 * 3_600_000 => Err(1013),
        7 => Ok(()),
        _ => Err(1011),
    }
}

fn judge_flags(flags: Flags) -> Result<(), u16> {
    let modes = [Flags::PENDING, Flags::POST, Flags::VOID, Flags::REVERSAL];
    let set = modes.iter().filter(|mode| flags.has(**mode)).count();
    let refers = modes[1..].iter().any(|mode| flags.has(*mode));
    let shapes = BALANCING.iter().chain(&CLOSING).chain(&[Flags::IMPORTED]).any(|flag| flags.has(*flag));
    let closes = CLOSING.iter().any(|flag| flags.has(*flag));
    first_broken(&[
        (1020, flags.0 & !(0x7ff | Flags::TAIL.0) != 0),
        (1021, set > 1 || (refers && shapes)),
        (1022, closes && !flags.has(Flags::PENDING)),
    ])
}

fn judge_import(transfer: &Transfer, pair: [&Account; 2]) -> Result<(), u16> {
    let Some(imported) = transfer.imported else { return Ok(()) };
    let customers = pair.map(|account| Some(account).filter(|account| account.is_customer()));
    let broken = |side: usize, rule: &dyn Fn(&Account) -> bool| customers[side].is_some_and(rule);
    let native = |account: &Account| account.native;
    let early = |account: &Account| imported.business_date < account.opened;
    let backwards = |account: &Account| imported.time_us < account.imported_until_us;
    first_broken(&[
        (1090, broken(0, &native)),
        (1091, broken(1, &native)),
        (1092, broken(0, &early)),
        (1093, broken(1, &early)),
        (1094, broken(0, &backwards)),
        (1095, broken(1, &backwards)),
    ])
}

fn judge_freeze(pair: [&Account; 2]) -> Result<(), u16> {
    first_broken(&[(1100, pair[0].frozen[0] != 0), (1101, pair[1].frozen[1] != 0)])
}

fn is_head(kind: AccountKind) -> bool {
    matches!(kind, AccountKind::Head(..))
}

/// The first rule in order that is broken.
fn first_broken(rules: &[(u16, bool)]) -> Result<(), u16> {
    rules.iter().find(|(_, broken)| *broken).map_or(Ok(()), |(code, _)| Err(*code))
}

fn differs(named: AccountRef, expected: AccountRef) -> bool {
    named != AccountRef::default() && named != expected
}

fn booking_day(transfer: &Transfer, stamp: Stamp) -> Date {
    transfer.imported.map_or(stamp.business_date, |imported| imported.business_date)
}
