//! What clients ask for: mostly what banks see every day, often what collides, and some of it rubbish.
//!
//! Accounts are few and poor, ids come again, holds are short: so limits are met, retries happen and chains
//! fail. Whether a request is allowed is not known here; the model judges it afterwards.

use skerry_book::derive_id;
use skerry_ledger::{AccountRef, Flags, Imported, MovedKind, Transfer, TransferId};
use skerry_money::{Currency, Date};

use super::{AUDITOR, Batch, CUSTOMER, Desk, Line, OPERATOR, SECOND, SERVICE};
use crate::model::{Fact, Model};
use crate::site::{PEERS, seed};

/// A head that every branch has: cash.
pub(crate) const CASH: u32 = 1001;
/// Fees earned.
const FEES: u32 = 4101;

/// What a transfer is made of besides chance.
pub(crate) struct Scene<'a> {
    pub(crate) model: &'a Model,
    /// The world's wall clock.
    pub(crate) now_us: u64,
}

impl Desk {
    /// Transfers to be sent together.
    pub(crate) fn compose(&mut self, scene: &Scene<'_>) -> Batch {
        if self.dice.chance(1, 25) {
            return self.payout(scene);
        }
        let by = [SERVICE, SERVICE, OPERATOR, OPERATOR, SECOND, CUSTOMER, AUDITOR]
            [self.weigh(&[8, 8, 8, 8, 4, 4, 1])];
        let count = [1, self.dice.between(2, 6), self.dice.between(12, 80)][self.weigh(&[24, 14, 1])];
        let packed = self.dice.chance(1, 2);
        let chain = (2..=4).contains(&count) && self.dice.chance(1, 3);
        let mut lines: Vec<Line> = Vec::new();
        for index in 0..count {
            let mut transfer = self.one(scene, by);
            // A later member may resolve or reverse an earlier one.
            if let Some(earlier) = lines.last().filter(|_| self.dice.chance(1, 8)) {
                transfer = self.after(&earlier.transfer.clone(), scene);
            }
            let last = index + 1 == count;
            if chain && (!last || self.dice.chance(1, 15)) {
                transfer.flags = transfer.flags.with(Flags::LINKED);
            }
            let text = if !packed && self.dice.chance(1, 5) { self.text() } else { String::new() };
            lines.push(Line { transfer, text, note: 0 });
        }
        if !packed && self.dice.chance(1, 40) {
            lines.iter_mut().for_each(|line| line.note = 4_096);
        }
        Batch { by, packed, together: false, lines }
    }

    /// One debit for some payees, here and in other branches.
    fn payout(&mut self, scene: &Scene<'_>) -> Batch {
        let by = [SERVICE, OPERATOR][self.dice.index(2)];
        let (debit, operates) = (self.account(scene), by == OPERATOR && self.dice.chance(1, 3));
        let cash = AccountRef::head(scene.model.number, CASH, Currency::CNY);
        let lines = (0..self.dice.between(1, 5)).map(|_| {
            let plain = self.plain(scene);
            let text = if self.dice.chance(1, 5) { self.text() } else { String::new() };
            let debit = if operates { cash } else { debit };
            Line { transfer: Transfer { debit, ..plain }, text, note: 0 }
        });
        Batch { by, packed: false, together: true, lines: lines.collect() }
    }

    /// So many deposits with long notes that they fill a batch by their tails.
    pub(crate) fn heavy(&mut self, scene: &Scene<'_>) -> Batch {
        let head = AccountRef::head(scene.model.number, CASH, Currency::CNY);
        let lines = (0..90).map(|_| {
            let credit = self.account_of(scene, 2);
            let transfer =
                Transfer { id: self.id(scene), debit: head, credit, amount: 1, ..Transfer::default() };
            Line { transfer, text: String::new(), note: 4_096 }
        });
        Batch { by: OPERATOR, packed: false, together: false, lines: lines.collect() }
    }

    /// One earlier transfer alone, as it was or with another amount.
    pub(crate) fn again(&mut self, earlier: &Batch) -> Batch {
        let mut again = earlier.clone();
        if self.dice.chance(1, 2)
            && let Some(line) = self.dice.pick(&earlier.lines)
        {
            again.lines = vec![line.clone()];
        }
        if self.dice.chance(1, 4)
            && let Some(line) = again.lines.first_mut()
        {
            line.transfer.amount = line.transfer.amount.wrapping_add(1);
        }
        again
    }

    /// An index by weight.
    fn weigh(&mut self, weights: &[u64]) -> usize {
        let mut point = self.dice.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            match point.checked_sub(*weight) {
                None => return index,
                Some(rest) => point = rest,
            }
        }
        0
    }

    fn one(&mut self, scene: &Scene<'_>, by: usize) -> Transfer {
        let operates = by == OPERATOR || by == SECOND;
        let mut transfer = match self.weigh(&[36, 22, 10, 10, 6, 2, 5, 6, 4]) {
            1 if operates => self.with_head(scene),
            2 => self.hold(scene),
            3 => self.resolution(scene),
            4 => self.balancing(scene),
            5 => self.closing(scene),
            6 => self.reversal(scene, operates),
            7 if operates => self.import(scene),
            8 => self.rubbish(scene),
            _ => self.plain(scene),
        };
        // Mostly customers ask for what is theirs.
        if by == CUSTOMER && transfer.debit != AccountRef::default() && self.dice.chance(9, 10) {
            transfer.debit = self.account_of(scene, 1);
        }
        self.dress(transfer, scene)
    }

    fn plain(&mut self, scene: &Scene<'_>) -> Transfer {
        let amount = [self.dice.between(1, 90), self.dice.between(100, 5_000)][self.weigh(&[9, 1])];
        Transfer {
            id: self.id(scene),
            debit: self.account(scene),
            credit: if self.dice.chance(1, 4) { self.account_abroad(scene) } else { self.account(scene) },
            amount,
            ..Transfer::default()
        }
    }

    fn with_head(&mut self, scene: &Scene<'_>) -> Transfer {
        let mut transfer = self.plain(scene);
        let currency =
            scene.model.accounts.get(&transfer.credit).map_or(Currency::CNY, |account| account.currency);
        let code = if self.dice.chance(2, 3) { CASH } else { FEES };
        let head = AccountRef::head(scene.model.number, code, currency);
        if self.dice.chance(5, 6) {
            transfer.debit = head;
            transfer.amount = self.dice.between(50, 600);
        } else {
            transfer.debit = transfer.credit;
            transfer.credit = head;
        }
        transfer
    }

    fn hold(&mut self, scene: &Scene<'_>) -> Transfer {
        let timeout_seconds = [0, 1, 3, 60, 40_000][self.dice.index(5)];
        Transfer { flags: Flags::PENDING, timeout_seconds, ..self.plain(scene) }
    }

    /// Posts or voids a hold that is open, resolved, or none.
    fn resolution(&mut self, scene: &Scene<'_>) -> Transfer {
        let holds: Vec<_> = scene
            .model
            .facts
            .iter()
            .rev()
            .take(150)
            .filter(|fact| fact.moved.kind == MovedKind::Held)
            .collect();
        let Some(hold) = self.dice.pick(&holds).map(|fact| fact.moved) else { return self.plain(scene) };
        self.resolve(hold.id, hold.amount, scene)
    }

    fn resolve(&mut self, hold: TransferId, amount: u64, scene: &Scene<'_>) -> Transfer {
        let flags = if self.dice.chance(2, 3) { Flags::POST } else { Flags::VOID };
        let part = self.dice.between(1, amount.clamp(1, 1 << 40));
        let amount = [0, amount, part, amount.saturating_add(1)][self.weigh(&[6, 3, 4, 1])];
        Transfer { id: self.id(scene), flags, related: hold, amount, ..Transfer::default() }
    }

    /// What resolves or reverses a transfer of the same request.
    fn after(&mut self, earlier: &Transfer, scene: &Scene<'_>) -> Transfer {
        if earlier.flags.has(Flags::PENDING) {
            self.resolve(earlier.id, earlier.amount, scene)
        } else {
            Transfer {
                id: self.id(scene),
                flags: Flags::REVERSAL,
                related: earlier.id,
                ..Transfer::default()
            }
        }
    }

    fn balancing(&mut self, scene: &Scene<'_>) -> Transfer {
        let mut transfer = self.plain(scene);
        let sides = [Flags::BALANCING_DEBIT, Flags::BALANCING_CREDIT];
        transfer.flags = sides[self.dice.index(2)];
        if self.dice.chance(1, 4) {
            transfer.flags = sides[0].with(sides[1]);
        }
        transfer.amount = [0, transfer.amount, transfer.amount * 20][self.dice.index(3)];
        if self.dice.chance(1, 5) {
            transfer.flags = transfer.flags.with(Flags::PENDING);
        }
        // Against a head, which has no limit, "all" would be without end.
        let unlimited = |account| scene.model.accounts.get(&account).is_none_or(|found| !found.is_customer());
        if transfer.amount == 0 && (unlimited(transfer.debit) || unlimited(transfer.credit)) {
            transfer.amount = 100;
        }
        transfer
    }

    fn closing(&mut self, scene: &Scene<'_>) -> Transfer {
        let side = [Flags::CLOSING_DEBIT, Flags::CLOSING_CREDIT][self.weigh(&[5, 1])];
        let shape = if self.dice.chance(1, 2) { Flags::BALANCING_DEBIT } else { Flags(0) };
        let amount = if shape == Flags(0) { self.dice.below(3) } else { 1_000_000 };
        Transfer {
            flags: Flags::PENDING.with(side).with(shape),
            amount,
            timeout_seconds: 30,
            ..self.plain(scene)
        }
    }

    fn reversal(&mut self, scene: &Scene<'_>, operates: bool) -> Transfer {
        let facts = &scene.model.facts;
        let recent = facts.get(facts.len().saturating_sub(120)..).unwrap_or_default();
        let came: Vec<Fact> =
            recent.iter().filter(|fact| scene.model.is_elsewhere(fact.moved.debit)).copied().collect();
        let from = if self.dice.chance(1, 3) && !came.is_empty() { &came } else { recent };
        let Some(original) = self.dice.pick(from).map(|fact| fact.moved) else { return self.plain(scene) };
        // What came from another branch goes back there, if whoever asks knows it.
        let abroad = scene.model.is_elsewhere(original.debit) && self.dice.chance(5, 6);
        let credit = if abroad { original.debit } else { AccountRef::default() };
        let cause = original.id.0.to_le_bytes();
        let id = if operates && self.dice.chance(1, 2) { derive_id(&seed(), &cause) } else { self.id(scene) };
        let amount = if self.dice.chance(1, 2) { 0 } else { original.amount };
        let related = original.id;
        Transfer { id, flags: Flags::REVERSAL, related, credit, amount, ..Transfer::default() }
    }

    fn import(&mut self, scene: &Scene<'_>) -> Transfer {
        let mut transfer = self.plain(scene);
        transfer.debit = AccountRef::head(scene.model.number, CASH, Currency::CNY);
        if let Some(fresh) =
            scene.model.accounts.values().rev().find(|account| account.is_customer() && !account.native)
        {
            transfer.credit = fresh.reference;
        }
        let today = scene.model.day.unwrap_or(Date::EPOCH);
        let business_date = Date(today.0 - i32::try_from(self.dice.below(300)).unwrap_or(0));
        let time_us =
            u64::try_from(business_date.0).unwrap_or(0) * 86_400_000_000 + self.dice.below(1_000_000);
        transfer.id = derive_id(&seed(), &self.dice.next().to_le_bytes());
        Transfer { flags: Flags::IMPORTED, imported: Some(Imported { time_us, business_date }), ..transfer }
    }

    fn rubbish(&mut self, scene: &Scene<'_>) -> Transfer {
        let mut transfer = self.plain(scene);
        let number = scene.model.number;
        match self.dice.below(17) {
            0 => transfer.amount = 0,
            1 => transfer.credit = transfer.debit,
            2 => transfer.amount = u64::MAX,
            3 => transfer.debit = AccountRef::customer(number, 9_999),
            4 => transfer.credit = AccountRef::customer(number + 1, 1),
            5 => transfer.id = TransferId::NONE,
            6 => transfer.id = TransferId(transfer.id.0 & !(0xf << 76) | 4 << 76),
            7 => transfer.id = id_of(scene.now_us + 120_000_000, self.dice.next()),
            8 => transfer.id = id_of(scene.now_us - 25 * 3_600_000_000, self.dice.next()),
            9 => transfer.flags = Flags::POST.with(Flags::VOID),
            10 => transfer.flags = Flags::REVERSAL,
            11 => transfer.related = TransferId(1),
            12 => transfer.timeout_seconds = 5,
            13 => transfer.debit = AccountRef(self.dice.next()),
            14 => transfer.flags = Flags::BANK,
            15 => {
                (transfer.flags, transfer.related) =
                    (Flags::POST, TransferId(7 << 76 | u128::from(self.dice.next())));
            }
            _ => transfer.credit = AccountRef::default(),
        }
        transfer
    }

    /// What any transfer may carry besides.
    fn dress(&mut self, mut transfer: Transfer, scene: &Scene<'_>) -> Transfer {
        let resolves = transfer.flags.overlaps(Flags::POST.with(Flags::VOID));
        if !resolves || self.dice.chance(1, 10) {
            transfer.code = u16::try_from(self.dice.below(4)).unwrap_or(0);
        }
        if self.dice.chance(1, 4) {
            let number = self.dice.below(5);
            let text = format!("invoice {number}");
            transfer.reference[..text.len()].copy_from_slice(text.as_bytes());
        }
        if self.dice.chance(1, 5) {
            let today = scene.model.day.unwrap_or(Date::EPOCH);
            let offset = [self.dice.below(20), self.dice.below(900)][self.weigh(&[9, 1])];
            let offset = i32::try_from(offset).unwrap_or(0);
            transfer.value_date = Some(Date(today.0 + 5 - offset));
        }
        if self.dice.chance(1, 12) {
            transfer.currency = Some([Currency::CNY, Currency::EUR][self.weigh(&[3, 1])]);
        }
        transfer
    }

    fn text(&mut self) -> String {
        format!("contract number {:06}, second reminder", self.dice.below(20))
    }

    /// An account of a customer that clients know of; now and then one that is not there.
    fn account(&mut self, scene: &Scene<'_>) -> AccountRef {
        let customers: Vec<AccountRef> = scene
            .model
            .accounts
            .values()
            .filter(|account| account.is_customer())
            .map(|account| account.reference)
            .collect();
        if self.dice.chance(1, 60) {
            return AccountRef::customer(scene.model.number, customers.len() as u64 + 1);
        }
        self.dice.pick(&customers).copied().unwrap_or_default()
    }

    /// An account of another branch, or of none.
    fn account_abroad(&mut self, scene: &Scene<'_>) -> AccountRef {
        let others: Vec<u16> = PEERS.into_iter().filter(|peer| *peer != scene.model.number).collect();
        let branch = self.dice.pick(&others).copied().unwrap_or_default();
        let branch = if self.dice.chance(1, 60) { 9 } else { branch };
        AccountRef::customer(branch, self.dice.between(1, 8))
    }

    fn account_of(&mut self, scene: &Scene<'_>, customer: u32) -> AccountRef {
        let own = scene.model.accounts.values().filter(|account| account.owner == customer);
        let own: Vec<AccountRef> = own.map(|account| account.reference).collect();
        self.dice.pick(&own).copied().unwrap_or_default()
    }

    fn id(&mut self, scene: &Scene<'_>) -> TransferId {
        // Clients' clocks are not the bank's.
        let lead_us = self.dice.below(4_000_000);
        id_of(scene.now_us - 3_000_000 + lead_us, self.dice.next())
    }
}

/// A UUIDv7 of this time (RFC 9562, 5.7).
fn id_of(time_us: u64, noise: u64) -> TransferId {
    let millis = u128::from(time_us / 1000) & ((1 << 48) - 1);
    TransferId(millis << 80 | 7 << 76 | 2 << 62 | u128::from(noise & ((1 << 62) - 1)))
}
