//! The ledger again, as slowly and plainly as it can be said: it keeps everything that ever happened in a
//! list and adds up from nothing whenever it wants to know something. It shares no code with the ledger.

use std::collections::BTreeMap;

use skerry_ledger::{
    AccountRef, Flags, Limit, Moved, MovedKind, Sides, Stamp, Transfer, TransferId, UNLIMITED,
};
use skerry_money::{Currency, Date};

/// What an account was agreed to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) currency: Currency,
    pub(crate) limit: Limit,
    pub(crate) floor: i128,
    pub(crate) daily: u64,
    pub(crate) opened: Date,
    pub(crate) is_customer: bool,
    pub(crate) frozen: [u8; 2],
    pub(crate) closed: bool,
}

/// Something that happened to money.
#[derive(Debug, Clone, Copy)]
struct Fact {
    kind: MovedKind,
    transfer: Transfer,
    accounts: [AccountRef; 2],
    amount: u64,
    day: Date,
    expires_us: Option<u64>,
}

/// All that ever happened.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    pub(crate) terms: BTreeMap<AccountRef, Terms>,
    pub(crate) live: Option<Date>,
    facts: Vec<Fact>,
    refused: Vec<(TransferId, u64, u16)>,
}

/// Accepted, with what was moved; or the number of the refusal.
pub(crate) type Verdict = Result<(MovedKind, [AccountRef; 2], u64), u16>;

const STICKY: [u16; 15] =
    [1038, 1039, 1040, 1050, 1065, 1080, 1081, 1084, 1085, 1100, 1101, 1110, 1111, 1112, 1113];

impl Oracle {
    pub(crate) const fn new() -> Self {
        Self { terms: BTreeMap::new(), live: None, facts: Vec::new(), refused: Vec::new() }
    }

    /// What a transfer comes to, and remembers it.
    pub(crate) fn submit(&mut self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let verdict = self.judge(transfer, stamp);
        match verdict {
            Ok(outcome) => self.happen(transfer, outcome, stamp),
            Err(code) => self.refuse(transfer, code),
        }
        verdict
    }

    /// What a chain comes to: tried on a copy of the world, which is kept if nothing was refused.
    pub(crate) fn submit_chain(
        &mut self,
        transfers: &[Transfer],
        stamp: Stamp,
    ) -> Result<Vec<u64>, (usize, u16)> {
        let mut world = self.clone();
        let mut amounts = Vec::new();
        for (index, transfer) in transfers.iter().enumerate() {
            let within = transfers[..index].iter().any(|other| other.id == transfer.id);
            match world.judge(transfer, stamp) {
                Ok(outcome) => {
                    amounts.push(outcome.2);
                    world.happen(transfer, outcome, stamp);
                }
                Err(1015) if within => return Err((index, 1014)),
                Err(1015) if index == 0 => {
                    let applied = |transfer: &Transfer| self.judge_id(transfer, stamp) == Some(1015);
                    let other = transfers.iter().position(|transfer| !applied(transfer));
                    return Err(other.map_or((0, 1015), |other| (other, 1003)));
                }
                Err(1015) => return Err((index, 1003)),
                Err(code) => {
                    self.refuse(transfer, code);
                    return Err((index, code));
                }
            }
        }
        *self = world;
        Ok(amounts)
    }

    pub(crate) fn expire(&mut self, stamp: Stamp) -> Vec<TransferId> {
        let mut due: Vec<(u64, TransferId)> = self
            .open_holds()
            .filter_map(|hold| hold.expires_us.map(|expires| (expires, hold.transfer.id)))
            .filter(|(expires, _)| *expires <= stamp.time_us)
            .collect();
        due.sort_unstable();
        for (_, id) in &due {
            let hold = *self.open_holds().find(|hold| hold.transfer.id == *id).expect("it was open");
            let transfer = Transfer { related: *id, ..Transfer::default() };
            let kind = MovedKind::HoldExpired;
            self.facts.push(Fact { kind, transfer, day: stamp.business_date, expires_us: None, ..hold });
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    pub(crate) fn freeze(&mut self, account: AccountRef, sides: Sides, reason: u8) {
        let terms = self.terms.get_mut(&account).expect("an account that exists");
        for (side, chosen) in [sides.debit, sides.credit].into_iter().enumerate() {
            if chosen {
                terms.frozen[side] = reason;
            }
        }
    }

    /// Sum of what was posted on one side: 0 debits, 1 credits.
    pub(crate) fn posted(&self, account: AccountRef, side: usize) -> i128 {
        let moved = self.facts.iter().filter(|fact| {
            fact.accounts[side] == account && matches!(fact.kind, MovedKind::Posted | MovedKind::HoldPosted)
        });
        moved.map(|fact| i128::from(fact.amount)).sum()
    }

    /// Sum of what is held on one side.
    pub(crate) fn held(&self, account: AccountRef, side: usize) -> i128 {
        self.open_holds()
            .filter(|hold| hold.accounts[side] == account)
            .map(|hold| i128::from(hold.amount))
            .sum()
    }

    pub(crate) fn open_hold_count(&self) -> usize {
        self.open_holds().count()
    }

    /// Whether it is closed, or being closed by an open hold.
    pub(crate) fn is_closed(&self, account: AccountRef) -> bool {
        self.terms[&account].closed || self.closing_hold(account).is_some()
    }

    fn closing_hold(&self, account: AccountRef) -> Option<TransferId> {
        let closing = [Flags::CLOSING_DEBIT, Flags::CLOSING_CREDIT];
        let found = self.open_holds().find(|hold| {
            (0..2).any(|side| hold.accounts[side] == account && hold.transfer.flags.has(closing[side]))
        });
        found.map(|hold| hold.transfer.id)
    }

    fn open_holds(&self) -> impl Iterator<Item = &Fact> {
        let open = |hold: &&Fact| hold.kind == MovedKind::Held && self.resolution(hold.transfer.id).is_none();
        self.facts.iter().filter(open)
    }

    fn resolution(&self, id: TransferId) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.transfer.related == id)
    }

    fn fact(&self, id: TransferId) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.transfer.id == id)
    }

    fn refuse(&mut self, transfer: &Transfer, code: u16) {
        let new = self.judge_id_past(transfer).is_none();
        if new && STICKY.contains(&code) {
            self.refused.push((transfer.id, transfer.digest, code));
        }
    }

    fn happen(
        &mut self,
        transfer: &Transfer,
        (kind, accounts, amount): (MovedKind, [AccountRef; 2], u64),
        stamp: Stamp,
    ) {
        let held = kind == MovedKind::Held && transfer.timeout_seconds != 0;
        let expires_us = held
            .then(|| (stamp.time_us.div_ceil(1_000_000) + u64::from(transfer.timeout_seconds)) * 1_000_000);
        let day = transfer.imported.map_or(stamp.business_date, |imported| imported.business_date);
        self.facts.push(Fact { kind, transfer: *transfer, accounts, amount, day, expires_us });
        if kind == MovedKind::HoldPosted {
            let hold = self.fact(transfer.related).expect("the hold was there").transfer;
            for (side, closing) in [Flags::CLOSING_DEBIT, Flags::CLOSING_CREDIT].into_iter().enumerate() {
                if hold.flags.has(closing) {
                    self.terms.get_mut(&accounts[side]).expect("it exists").closed = true;
                }
            }
        }
    }

    /// What is left on the limited side, the floor counted.
    fn room(&self, account: AccountRef, side: usize) -> i128 {
        let terms = &self.terms[&account];
        let mine = [Limit::Debits, Limit::Credits][side];
        let floor = if terms.limit == mine { terms.floor } else { 0 };
        self.posted(account, 1 - side) - self.posted(account, side) - self.held(account, side) - floor
    }

    fn daily_left(&self, account: AccountRef, day: Date) -> u64 {
        let terms = &self.terms[&account];
        if terms.daily == UNLIMITED {
            return UNLIMITED;
        }
        let theirs = Flags::IMPORTED.with(Flags::BANK);
        let spent = self.facts.iter().filter(|fact| {
            fact.accounts[0] == account && fact.day == day && !fact.transfer.flags.overlaps(theirs)
        });
        let used: u64 = spent
            .map(|fact| match (fact.kind, self.resolution(fact.transfer.id)) {
                (MovedKind::Posted, _) | (MovedKind::Held, None) => fact.amount,
                (MovedKind::Held, Some(end)) if end.kind == MovedKind::HoldPosted => end.amount,
                _ => 0,
            })
            .sum();
        terms.daily.saturating_sub(used)
    }

    fn judge_id_past(&self, transfer: &Transfer) -> Option<u16> {
        if let Some(fact) = self.fact(transfer.id) {
            return Some(if fact.transfer.digest == transfer.digest { 1015 } else { 1014 });
        }
        let refused = self.refused.iter().find(|(id, ..)| *id == transfer.id)?;
        Some(if refused.1 == transfer.digest { refused.2 } else { 1014 })
    }

    fn judge_id(&self, transfer: &Transfer, stamp: Stamp) -> Option<u16> {
        let derived = Flags::BANK.with(Flags::IMPORTED).with(Flags::REVERSAL);
        let now_ms = i128::from(stamp.time_us / 1000);
        let age_ms = now_ms - i128::from(transfer.id.millis());
        match transfer.id.version() {
            _ if transfer.id == TransferId::NONE => Some(1010),
            8 if transfer.flags.overlaps(derived) => self.judge_id_past(transfer),
            7 if age_ms < -60_000 => Some(1012),
            7 if age_ms > 86_400_000 => Some(1013),
            7 => self.judge_id_past(transfer),
            _ => Some(1011),
        }
    }

    fn judge(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        if let Some(code) = self.judge_id(transfer, stamp) {
            return Err(code);
        }
        if let Some(code) = judge_flags(transfer.flags) {
            return Err(code);
        }
        if let Some(code) = self.judge_fields(transfer, stamp) {
            return Err(code);
        }
        if transfer.flags.has(Flags::POST) || transfer.flags.has(Flags::VOID) {
            self.judge_resolution(transfer, stamp)
        } else if transfer.flags.has(Flags::REVERSAL) {
            self.judge_reversal(transfer, stamp)
        } else {
            self.judge_movement(transfer, stamp)
        }
    }

    fn judge_fields(&self, transfer: &Transfer, stamp: Stamp) -> Option<u16> {
        let flags = transfer.flags;
        let refers = flags.overlaps(Flags::POST.with(Flags::VOID).with(Flags::REVERSAL));
        let free = Flags::BALANCING_DEBIT
            .with(Flags::BALANCING_CREDIT)
            .with(Flags::CLOSING_DEBIT)
            .with(Flags::CLOSING_CREDIT);
        let day = transfer.imported.map_or(stamp.business_date, |imported| imported.business_date);
        let last_import = self.live.map_or(stamp.business_date.0, |live| live.0 - 1);
        let broken = [
            (1030, transfer.amount == 0 && !refers && !flags.overlaps(free)),
            (1031, refers && transfer.related == TransferId::NONE),
            (1032, !refers && transfer.related != TransferId::NONE),
            (1033, refers && transfer.related == transfer.id),
            (
                1034,
                transfer.timeout_seconds != 0 && (!flags.has(Flags::PENDING) || flags.has(Flags::IMPORTED)),
            ),
            (1036, flags.has(Flags::IMPORTED) && transfer.imported.is_none()),
            (1037, !flags.has(Flags::IMPORTED) && transfer.imported.is_some()),
            (1038, transfer.imported.is_some_and(|imported| imported.time_us > stamp.time_us)),
            (1039, transfer.imported.is_some_and(|imported| imported.business_date.0 > last_import)),
            (1040, transfer.value_date.is_some_and(|value| (value.0 - day.0).abs() > 400)),
            (1041, !refers && transfer.debit == AccountRef::default()),
            (1042, !refers && transfer.credit == AccountRef::default()),
            (1043, !refers && transfer.debit == transfer.credit),
        ];
        broken.into_iter().find(|(_, is_broken)| *is_broken).map(|(code, _)| code)
    }

    fn judge_movement(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let accounts = [transfer.debit, transfer.credit];
        let debit = self.terms.get(&transfer.debit).ok_or(1080_u16)?;
        let credit = self.terms.get(&transfer.credit).ok_or(1081_u16)?;
        if debit.currency != credit.currency {
            return Err(1082);
        }
        if transfer.currency.is_some_and(|currency| currency != debit.currency) {
            return Err(1083);
        }
        self.judge_closed(accounts, None)?;
        self.judge_import(transfer, accounts)?;
        self.judge_freeze(accounts, transfer.flags)?;
        let day = transfer.imported.map_or(stamp.business_date, |imported| imported.business_date);
        let amount = self.judge_balancing(transfer, accounts, day)?;
        self.judge_limits(accounts, amount, transfer.flags, day)?;
        let kind = if transfer.flags.has(Flags::PENDING) { MovedKind::Held } else { MovedKind::Posted };
        Ok((kind, accounts, amount))
    }

    fn judge_closed(&self, accounts: [AccountRef; 2], by_hold: Option<TransferId>) -> Result<(), u16> {
        for (side, account) in accounts.into_iter().enumerate() {
            let closing = [Flags::CLOSING_DEBIT, Flags::CLOSING_CREDIT][side];
            let own =
                by_hold.and_then(|id| self.fact(id)).is_some_and(|hold| hold.transfer.flags.has(closing));
            if self.is_closed(account) && !own {
                return Err([1084, 1085][side]);
            }
        }
        Ok(())
    }

    fn judge_import(&self, transfer: &Transfer, accounts: [AccountRef; 2]) -> Result<(), u16> {
        let Some(imported) = transfer.imported else { return Ok(()) };
        let theirs = |account| self.facts.iter().filter(move |fact| fact.accounts.contains(&account));
        let native = |account| theirs(account).any(|fact| fact.transfer.imported.is_none());
        let too_early = |account| imported.business_date < self.terms[&account].opened;
        let later =
            |fact: &Fact| fact.transfer.imported.is_some_and(|other| other.time_us > imported.time_us);
        let backwards = |account| theirs(account).any(later);
        let [debit, credit] = accounts;
        let broken = [
            (1090, debit, native(debit)),
            (1091, credit, native(credit)),
            (1092, debit, too_early(debit)),
            (1093, credit, too_early(credit)),
            (1094, debit, backwards(debit)),
            (1095, credit, backwards(credit)),
        ];
        let mut broken = broken.into_iter().filter(|(_, account, _)| self.terms[account].is_customer);
        broken.find(|(.., is_broken)| *is_broken).map_or(Ok(()), |(code, ..)| Err(code))
    }

    fn judge_freeze(&self, accounts: [AccountRef; 2], flags: Flags) -> Result<(), u16> {
        for (side, account) in accounts.into_iter().enumerate() {
            if self.terms[&account].frozen[side] != 0 && !flags.has(Flags::BANK) {
                return Err([1100, 1101][side]);
            }
        }
        Ok(())
    }

    fn judge_balancing(&self, transfer: &Transfer, accounts: [AccountRef; 2], day: Date) -> Result<u64, u16> {
        let flags = transfer.flags;
        let balancing = [Flags::BALANCING_DEBIT, Flags::BALANCING_CREDIT];
        if !balancing.into_iter().any(|flag| flags.has(flag)) {
            return Ok(transfer.amount);
        }
        let mut most = if transfer.amount == 0 { i128::from(u64::MAX) } else { i128::from(transfer.amount) };
        for side in 0..2 {
            if flags.has(balancing[side]) {
                most = most.min(self.room(accounts[side], side));
            }
        }
        if flags.has(Flags::BALANCING_DEBIT) && !flags.overlaps(Flags::BANK.with(Flags::IMPORTED)) {
            most = most.min(i128::from(self.daily_left(accounts[0], day)));
        }
        if most <= 0 { Err(1110) } else { Ok(u64::try_from(most).expect("at most what was asked")) }
    }

    fn judge_limits(
        &self,
        accounts: [AccountRef; 2],
        amount: u64,
        flags: Flags,
        day: Date,
    ) -> Result<(), u16> {
        if flags.has(Flags::BANK) || amount == 0 {
            return Ok(());
        }
        for side in 0..2 {
            let limited = self.terms[&accounts[side]].limit == [Limit::Debits, Limit::Credits][side];
            if limited && self.room(accounts[side], side) < i128::from(amount) {
                return Err([1111, 1112][side]);
            }
        }
        if !flags.has(Flags::IMPORTED) && self.daily_left(accounts[0], day) < amount {
            return Err(1113);
        }
        Ok(())
    }

    fn judge_resolution(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let Some(hold) = self.fact(transfer.related) else { return Err(1050) };
        if hold.kind != MovedKind::Held {
            return Err(1051);
        }
        match self.resolution(transfer.related).map(|end| end.kind) {
            Some(MovedKind::HoldPosted) => return Err(1052),
            Some(MovedKind::HoldVoided) => return Err(1053),
            Some(_) => return Err(1054),
            None if hold.expires_us.is_some_and(|expires| stamp.time_us >= expires) => return Err(1054),
            None => (),
        }
        let unset = AccountRef::default();
        let currency = self.terms[&hold.accounts[0]].currency;
        let is_post = transfer.flags.has(Flags::POST);
        let broken = [
            (1055, transfer.debit != unset && transfer.debit != hold.accounts[0]),
            (1056, transfer.credit != unset && transfer.credit != hold.accounts[1]),
            (1057, transfer.currency.is_some_and(|other| other != currency)),
            (1058, transfer.code != 0 && transfer.code != hold.transfer.code),
            (1059, is_post && transfer.amount > hold.amount),
            (1060, !is_post && transfer.amount != 0 && transfer.amount != hold.amount),
        ];
        if let Some((code, _)) = broken.into_iter().find(|(_, is_broken)| *is_broken) {
            return Err(code);
        }
        let amount = if transfer.amount == 0 { hold.amount } else { transfer.amount };
        if !is_post {
            return Ok((MovedKind::HoldVoided, hold.accounts, amount));
        }
        self.judge_closed(hold.accounts, Some(transfer.related))?;
        self.judge_freeze(hold.accounts, transfer.flags)?;
        Ok((MovedKind::HoldPosted, hold.accounts, amount))
    }

    fn judge_reversal(&self, transfer: &Transfer, stamp: Stamp) -> Verdict {
        let Some(original) = self.fact(transfer.related) else { return Err(1065) };
        let accounts = [original.accounts[1], original.accounts[0]];
        let unset = AccountRef::default();
        let currency = self.terms[&accounts[0]].currency;
        let broken = [
            (1066, !matches!(original.kind, MovedKind::Posted | MovedKind::HoldPosted)),
            (1067, original.transfer.flags.has(Flags::REVERSAL)),
            (1068, self.resolution(transfer.related).is_some()),
            (1069, transfer.debit != unset && transfer.debit != accounts[0]),
            (1070, transfer.credit != unset && transfer.credit != accounts[1]),
            (1071, transfer.currency.is_some_and(|other| other != currency)),
            (1072, transfer.amount != 0 && transfer.amount != original.amount),
        ];
        if let Some((code, _)) = broken.into_iter().find(|(_, is_broken)| *is_broken) {
            return Err(code);
        }
        self.judge_closed(accounts, None)?;
        self.judge_freeze(accounts, transfer.flags)?;
        self.judge_limits(accounts, original.amount, transfer.flags, stamp.business_date)?;
        Ok((MovedKind::Posted, accounts, original.amount))
    }
}

fn judge_flags(flags: Flags) -> Option<u16> {
    let known = (0..11).map(|bit| 1 << bit).sum::<u32>() + (1 << 31);
    if flags.0 | known != known {
        return Some(1020);
    }
    let modes = [Flags::PENDING, Flags::POST, Flags::VOID, Flags::REVERSAL];
    let set = modes.into_iter().filter(|mode| flags.has(*mode)).count();
    let ends = flags.has(Flags::POST) || flags.has(Flags::VOID) || flags.has(Flags::REVERSAL);
    let shaping = [
        Flags::BALANCING_DEBIT,
        Flags::BALANCING_CREDIT,
        Flags::CLOSING_DEBIT,
        Flags::CLOSING_CREDIT,
        Flags::IMPORTED,
    ];
    if set > 1 || (ends && shaping.into_iter().any(|flag| flags.has(flag))) {
        return Some(1021);
    }
    let closing = flags.has(Flags::CLOSING_DEBIT) || flags.has(Flags::CLOSING_CREDIT);
    (closing && !flags.has(Flags::PENDING)).then_some(1022)
}

/// What an event says, in the oracle's terms.
pub(crate) fn verdict(moved: &Moved) -> (MovedKind, [AccountRef; 2], u64) {
    (moved.kind, [moved.debit, moved.credit], moved.amount)
}
