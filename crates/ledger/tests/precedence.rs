//! The order of refusals, walked: a request that breaks every rule of its kind is mended rule by rule, and
//! each answer is the next number. So a change of order cannot go unnoticed.

mod common;

use common::{BRANCH, Bank, currency, customer, derived_id, id_at, sealed};
use skerry_ledger::{
    AccountCommand, AccountRef, Earlier, Flags, Imported, Limit, Rejection, Sides, Transfer, TransferId,
    UNLIMITED,
};
use skerry_money::Date;

const TODAY: Date = Date(19_783);
const DAY_US: u64 = 86_400_000_000;

/// A request, the bank it goes to, and the numbers it has been refused with so far.
struct Walk {
    bank: Bank,
    transfer: Transfer,
    codes: Vec<u16>,
}

impl Walk {
    fn new(transfer: Transfer) -> Self {
        let mut bank = Bank::new(TODAY);
        for (code, alpha) in [(1001, "CNY"), (2001, "CNY"), (2001, "EUR")] {
            let head = AccountRef::head(BRANCH, code, currency(alpha));
            bank.run(AccountCommand::OpenHead { head, opened: TODAY, limit: Limit::None }).expect("a head");
        }
        Self { bank, transfer, codes: Vec::new() }
    }

    /// Opens the next customer account: its balance can go down to `floor`.
    fn open(&mut self, alpha: &str, limit: Limit, daily_limit: u64, opened: Date) -> AccountRef {
        let currency = currency(alpha);
        let head = AccountRef::head(BRANCH, 2001, currency);
        let (owner, product, floor) = (1, 1, 0);
        let open = AccountCommand::Open { owner, product, head, currency, opened, limit, floor, daily_limit };
        self.bank.run(open).expect("an account");
        customer(u64::try_from(self.bank.ledger.customer_count()).expect("few accounts"))
    }

    /// Expects `code`, then mends what it names.
    fn refused(&mut self, code: u16, mend: impl FnOnce(&mut Self)) {
        let transfer = sealed(self.transfer);
        let decided = self.bank.ledger.decide(&transfer, self.bank.stamp, &self.bank.past);
        assert_eq!(decided.map_err(Rejection::code), Err(code), "{transfer:?}");
        self.codes.push(code);
        mend(self);
    }

    /// Expects the mended request to be accepted, after refusals with rising numbers.
    fn accepted(self) {
        let decided = self.bank.ledger.decide(&sealed(self.transfer), self.bank.stamp, &self.bank.past);
        assert!(decided.is_ok(), "{decided:?}");
        assert!(self.codes.is_sorted_by(|one, next| one < next), "{:?} do not rise", self.codes);
    }

    fn move_money(&mut self, number: u64, debit: AccountRef, credit: AccountRef, amount: u64, flags: Flags) {
        let id = id_at(self.bank.stamp.time_us, number);
        let transfer = sealed(Transfer { id, debit, credit, amount, flags, ..Transfer::default() });
        self.bank.submit(&transfer).expect("money moves");
    }

    fn freeze(&mut self, account: AccountRef, debit: bool, credit: bool) {
        let sides = Sides { debit, credit };
        self.bank.run(AccountCommand::Freeze { account, sides, reason: 1 }).expect("it freezes");
    }

    fn unfreeze(&mut self, account: AccountRef, debit: bool, credit: bool) {
        let sides = Sides { debit, credit };
        self.bank.run(AccountCommand::Unfreeze { account, sides }).expect("it unfreezes");
    }

    fn close(&mut self, account: AccountRef) {
        self.bank.run(AccountCommand::Close { account }).expect("it closes");
    }

    fn reopen(&mut self, account: AccountRef) {
        self.bank.run(AccountCommand::Reopen { account }).expect("it reopens");
    }

    fn now(&self) -> u64 {
        self.bank.stamp.time_us
    }
}

const fn cash() -> u32 {
    1001
}

#[test]
fn an_import_is_refused_in_order() {
    let mut walk = Walk::new(Transfer {
        flags: Flags(1 << 20).with(Flags::IMPORTED).with(Flags::POST).with(Flags::CLOSING_DEBIT),
        related: TransferId(1),
        timeout_seconds: 5,
        value_date: Some(Date(1)),
        currency: Some(currency("EUR")),
        ..Transfer::default()
    });
    let now = walk.now();
    let old = Date(TODAY.0 - 100);
    let cash = AccountRef::head(BRANCH, cash(), currency("CNY"));
    let euro = walk.open("EUR", Limit::Debits, UNLIMITED, TODAY);
    let [debit, credit] = [TODAY, old].map(|opened| walk.open("CNY", Limit::Debits, 1, opened));
    let [fresh, other] = [TODAY, TODAY].map(|opened| walk.open("CNY", Limit::Debits, 1, opened));
    for account in [debit, credit] {
        walk.move_money(account.0, cash, account, 1, Flags::BANK);
        walk.move_money(account.0 + 1_000, account, cash, 1, Flags::BANK);
    }
    walk.bank.run(AccountCommand::GoLive { date: TODAY }).expect("the bank goes live");
    walk.freeze(fresh, true, false);
    walk.freeze(other, false, true);
    for account in [debit, credit] {
        walk.close(account);
    }
    walk.refused(1010, |walk| walk.transfer.id = TransferId((4 << 76) | 1));
    walk.refused(1011, |walk| walk.transfer.id = id_at(now + DAY_US, 1));
    walk.refused(1012, |walk| walk.transfer.id = id_at(now - 2 * DAY_US, 1));
    walk.refused(1013, |walk| {
        walk.transfer.id = id_at(now, 77);
        walk.bank.past.set(id_at(now, 77), Earlier::Foreign);
    });
    walk.refused(1014, |walk| walk.transfer.id = id_at(now, 78));
    walk.refused(1020, |walk| walk.transfer.flags.0 &= !(1 << 20));
    walk.refused(1021, |walk| walk.transfer.flags = Flags::IMPORTED.with(Flags::CLOSING_DEBIT));
    walk.refused(1022, |walk| walk.transfer.flags = Flags::IMPORTED);
    walk.refused(1030, |walk| walk.transfer.amount = 5);
    walk.refused(1032, |walk| walk.transfer.related = TransferId::NONE);
    walk.refused(1034, |walk| walk.transfer.timeout_seconds = 0);
    walk.refused(1036, |walk| {
        walk.transfer.imported = Some(Imported { time_us: now + 1, business_date: TODAY });
        walk.transfer.flags = Flags::default();
    });
    walk.refused(1037, |walk| walk.transfer.flags = Flags::IMPORTED);
    walk.refused(1038, |walk| walk.transfer.imported = Some(Imported { time_us: 1, business_date: TODAY }));
    let early = Date(TODAY.0 - 200);
    walk.refused(1039, |walk| walk.transfer.imported = Some(Imported { time_us: 1, business_date: early }));
    walk.refused(1040, |walk| walk.transfer.value_date = None);
    walk.refused(1041, |walk| walk.transfer.debit = customer(88));
    walk.refused(1042, |walk| walk.transfer.credit = customer(88));
    walk.refused(1043, |walk| walk.transfer.credit = customer(89));
    walk.refused(1080, |walk| walk.transfer.debit = euro);
    walk.refused(1081, |walk| walk.transfer.credit = credit);
    walk.refused(1082, |walk| walk.transfer.debit = debit);
    walk.refused(1083, |walk| walk.transfer.currency = None);
    walk.refused(1084, |walk| walk.reopen(debit));
    walk.refused(1085, |walk| walk.reopen(credit));
    walk.refused(1090, |walk| walk.transfer.debit = fresh);
    walk.refused(1091, |walk| walk.transfer.credit = other);
    // From here on two accounts opened on different days, with imports of different times.
    let [later, earlier] = [-50, -60].map(|days| walk.open("CNY", Limit::Debits, 1, Date(TODAY.0 + days)));
    walk.refused(1092, |walk| {
        (walk.transfer.debit, walk.transfer.credit) = (earlier, later);
        walk.transfer.imported = Some(Imported { time_us: 1, business_date: Date(TODAY.0 - 55) });
    });
    for (number, account, time_us) in [(501, earlier, 30), (502, later, 40)] {
        let imported = Some(Imported { time_us, business_date: Date(TODAY.0 - 1) });
        let (id, flags) = (derived_id(number), Flags::IMPORTED);
        let import =
            Transfer { id, debit: cash, credit: account, amount: 9, flags, imported, ..Transfer::default() };
        walk.bank.submit(&sealed(import)).expect("an import");
        walk.freeze(account, true, true);
    }
    let at = |time_us| Some(Imported { time_us, business_date: Date(TODAY.0 - 1) });
    walk.refused(1093, |walk| walk.transfer.imported = at(20));
    walk.refused(1094, |walk| walk.transfer.imported = at(35));
    walk.refused(1095, |walk| walk.transfer.imported = at(40));
    walk.transfer.amount = 10;
    walk.refused(1100, |walk| walk.unfreeze(earlier, true, false));
    walk.refused(1101, |walk| walk.unfreeze(later, false, true));
    // The daily limit of 1 is not asked of an import.
    walk.refused(1111, |walk| walk.transfer.amount = 9);
    walk.accepted();
}

#[test]
fn figures_are_asked_last() {
    let mut walk = Walk::new(Transfer { timeout_seconds: u32::MAX, ..Transfer::default() });
    let now = walk.now();
    let debit = walk.open("CNY", Limit::Debits, 4, TODAY);
    let credit = walk.open("CNY", Limit::Credits, UNLIMITED, TODAY);
    let cash = AccountRef::head(BRANCH, cash(), currency("CNY"));
    walk.transfer.id = id_at(now, 1);
    walk.transfer.flags = Flags::PENDING.with(Flags::BALANCING_DEBIT).with(Flags::LINKED);
    (walk.transfer.debit, walk.transfer.credit) = (debit, credit);
    walk.freeze(debit, true, false);
    walk.freeze(credit, false, true);
    walk.refused(1002, |walk| walk.transfer.flags.0 &= !Flags::LINKED.0);
    walk.refused(1035, |walk| walk.transfer.timeout_seconds = 5);
    walk.refused(1100, |walk| walk.unfreeze(debit, true, false));
    walk.refused(1101, |walk| walk.unfreeze(credit, false, true));
    walk.refused(1110, |walk| {
        walk.transfer.flags = Flags::PENDING;
        walk.transfer.amount = 9;
    });
    walk.refused(1111, |walk| walk.move_money(2, cash, debit, 9, Flags::default()));
    walk.refused(1112, |walk| walk.move_money(3, credit, cash, 9, Flags::default()));
    walk.refused(1113, |walk| walk.transfer.amount = 4);
    walk.accepted();
}

#[test]
fn a_post_is_refused_in_order() {
    let mut walk = Walk::new(Transfer {
        flags: Flags::POST,
        currency: Some(currency("EUR")),
        code: 9,
        amount: 6,
        ..Transfer::default()
    });
    let now = walk.now();
    let [debit, credit, other] = [0; 3].map(|_| walk.open("CNY", Limit::Debits, UNLIMITED, TODAY));
    let cash = AccountRef::head(BRANCH, cash(), currency("CNY"));
    walk.move_money(1, cash, debit, 20, Flags::default());
    for number in 2..=6 {
        walk.move_money(number, debit, credit, 1, Flags::PENDING);
    }
    for (number, related, flags) in [(12, 2, Flags::POST), (13, 3, Flags::VOID)] {
        let (id, related) = (id_at(now, number), id_at(now, related));
        walk.bank.submit(&sealed(Transfer { id, related, flags, ..Transfer::default() })).expect("it ends");
    }
    let held = sealed(Transfer {
        id: id_at(now, 7),
        debit,
        credit,
        amount: 1,
        flags: Flags::PENDING,
        timeout_seconds: 1,
        ..Transfer::default()
    });
    walk.bank.submit(&held).expect("a hold with a timeout");
    walk.bank.wait(2);
    walk.move_money(8, debit, credit, 5, Flags::PENDING);
    let closing = Flags::PENDING.with(Flags::CLOSING_DEBIT);
    (walk.transfer.debit, walk.transfer.credit) = (other, other);
    walk.transfer.id = id_at(now, 50);
    walk.refused(1031, |walk| walk.transfer.related = id_at(now, 50));
    walk.refused(1033, |walk| walk.transfer.related = id_at(now, 51));
    walk.refused(1050, |walk| walk.transfer.related = id_at(now, 1));
    walk.refused(1051, |walk| walk.transfer.related = id_at(now, 2));
    walk.refused(1052, |walk| walk.transfer.related = id_at(now, 3));
    walk.refused(1053, |walk| walk.transfer.related = id_at(now, 7));
    walk.refused(1054, |walk| {
        walk.transfer.related = walk.bank.ledger.holds().find(|hold| hold.amount == 5).expect("the hold").id
    });
    walk.refused(1055, |walk| walk.transfer.debit = debit);
    walk.refused(1056, |walk| walk.transfer.credit = AccountRef::default());
    walk.refused(1057, |walk| walk.transfer.currency = None);
    walk.refused(1058, |walk| walk.transfer.code = 0);
    walk.refused(1059, |walk| walk.transfer.flags = Flags::VOID);
    walk.move_money(60, debit, other, 0, closing);
    walk.move_money(61, cash, credit, 0, Flags::PENDING.with(Flags::CLOSING_CREDIT));
    walk.freeze(debit, true, false);
    walk.freeze(credit, false, true);
    walk.refused(1060, |walk| {
        walk.transfer.flags = Flags::POST;
        walk.transfer.amount = 5;
    });
    let reopen = |walk: &mut Walk, number: u64| {
        let (id, related) = (id_at(walk.now(), number), id_at(walk.now(), number - 10));
        let void = Transfer { id, related, flags: Flags::VOID, ..Transfer::default() };
        walk.bank.submit(&sealed(void)).expect("it opens again");
    };
    walk.refused(1084, |walk| reopen(walk, 70));
    walk.refused(1085, |walk| reopen(walk, 71));
    walk.refused(1100, |walk| walk.unfreeze(debit, true, false));
    walk.refused(1101, |walk| walk.unfreeze(credit, false, true));
    walk.accepted();
}

#[test]
fn a_reversal_is_refused_in_order() {
    let mut walk = Walk::new(Transfer {
        flags: Flags::REVERSAL,
        currency: Some(currency("EUR")),
        amount: 6,
        ..Transfer::default()
    });
    let now = walk.now();
    let [payer, payee, other] =
        [UNLIMITED, 4, UNLIMITED].map(|daily| walk.open("CNY", Limit::Debits, daily, TODAY));
    let cash = AccountRef::head(BRANCH, cash(), currency("CNY"));
    walk.move_money(1, cash, payer, 20, Flags::default());
    walk.move_money(2, payer, other, 5, Flags::default());
    walk.move_money(3, payer, other, 5, Flags::PENDING);
    walk.move_money(4, payer, payee, 5, Flags::default());
    let undo =
        Transfer { id: derived_id(9), related: id_at(now, 2), flags: Flags::REVERSAL, ..Transfer::default() };
    walk.bank.submit(&sealed(undo)).expect("a reversal");
    walk.bank
        .submit(&sealed(Transfer {
            id: id_at(now, 30),
            related: id_at(now, 3),
            flags: Flags::VOID,
            ..Transfer::default()
        }))
        .expect("a void");
    (walk.transfer.debit, walk.transfer.credit) = (other, other);
    walk.transfer.id = id_at(now, 50);
    walk.refused(1031, |walk| walk.transfer.related = id_at(now, 50));
    walk.refused(1033, |walk| walk.transfer.related = id_at(now, 51));
    walk.refused(1065, |walk| walk.transfer.related = id_at(now, 3));
    walk.refused(1066, |walk| walk.transfer.related = derived_id(9));
    walk.refused(1067, |walk| walk.transfer.related = id_at(now, 2));
    walk.refused(1068, |walk| walk.transfer.related = id_at(now, 4));
    walk.refused(1069, |walk| walk.transfer.debit = AccountRef::default());
    walk.refused(1070, |walk| walk.transfer.credit = payer);
    walk.refused(1071, |walk| walk.transfer.currency = None);
    walk.move_money(5, payee, cash, 2, Flags::BANK);
    walk.move_money(60, payee, cash, 0, Flags::PENDING.with(Flags::CLOSING_DEBIT));
    walk.move_money(61, payer, cash, 0, Flags::PENDING.with(Flags::CLOSING_DEBIT));
    walk.freeze(payee, true, false);
    walk.freeze(payer, false, true);
    walk.refused(1072, |walk| walk.transfer.amount = 0);
    let reopen = |walk: &mut Walk, number: u64| {
        let (id, related) = (id_at(walk.now(), number), id_at(walk.now(), number - 10));
        let void = Transfer { id, related, flags: Flags::VOID, ..Transfer::default() };
        walk.bank.submit(&sealed(void)).expect("it opens again");
    };
    walk.refused(1084, |walk| reopen(walk, 70));
    walk.refused(1085, |walk| reopen(walk, 71));
    walk.refused(1100, |walk| walk.unfreeze(payee, true, false));
    walk.refused(1101, |walk| walk.unfreeze(payer, false, true));
    walk.refused(1111, |walk| walk.move_money(6, cash, payee, 2, Flags::default()));
    walk.refused(1113, |walk| walk.transfer.flags = Flags::REVERSAL.with(Flags::BANK));
    walk.accepted();
}

#[test]
fn the_past_comes_before_the_rules() {
    let mut walk = Walk::new(Transfer::default());
    let account = walk.open("CNY", Limit::Debits, UNLIMITED, TODAY);
    let cash = AccountRef::head(BRANCH, cash(), currency("CNY"));
    let id = id_at(walk.now(), 1);
    let transfer = sealed(Transfer { id, debit: cash, credit: account, amount: 5, ..Transfer::default() });
    walk.bank.submit(&transfer).expect("money moves");
    walk.transfer = transfer;
    walk.freeze(account, false, true);
    walk.refused(1015, |walk| walk.transfer.amount = 6);
    walk.refused(1014, |walk| walk.transfer.id = id_at(walk.now(), 2));
    walk.refused(1101, |walk| walk.bank.past.refuse(&sealed(walk.transfer), Rejection::DebitNotFound));
    // What the branch remembers is the answer, whatever it was.
    walk.refused(1080, |_| ());
}
