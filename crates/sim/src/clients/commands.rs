//! The commands that clients send: customers, accounts, limits, freezes, days, erasures, four eyes.

use skerry_book::Command;
use skerry_book::command::{
    ChangeCustomer, ChangeLimits, Freeze, OpenAccount, OpenBranch, OpenCustomer, Propose, Unfreeze,
};
use skerry_book::event::Terms;
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_branch::api::Read;
use skerry_branch::keys::Keys;
use skerry_ledger::{AccountRef, Sides, UNLIMITED};
use skerry_money::{Currency, Date};

use super::transfers::Scene;
use super::{AUDITOR, CUSTOMER, Desk, OPERATOR, Order, SECOND, SERVICE};

/// What clocks show where the simulated bank is: minutes ahead of UTC.
pub(crate) const OFFSET_MINUTES: i16 = 480;

impl Desk {
    fn order_of(&mut self, by: usize, command: Command, now_us: u64) -> Order {
        let (mut key, mut request) = ([0; 16], [0; 16]);
        key.copy_from_slice(&self.dice.bytes()[..16]);
        request.copy_from_slice(&self.dice.bytes()[..16]);
        let key = self.dice.chance(4, 5).then_some(key);
        Order { by, command, key, request, asked_us: now_us }
    }

    /// The commands that make a branch: itself, a short retention, customers and their accounts.
    pub(crate) fn founding(&mut self, keys: &dyn Keys, now_us: u64) -> Vec<Order> {
        let cutoff_minutes = u16::try_from(self.dice.below(1_440)).unwrap_or(0);
        let terms = Terms {
            institution: [3; 16],
            currencies: vec![Currency::CNY],
            offset_minutes: OFFSET_MINUTES,
            cutoff_minutes,
            capacity: 40,
        };
        let date = Date::business_day(now_us, i32::from(OFFSET_MINUTES), cutoff_minutes);
        let mut commands = vec![
            Command::OpenBranch(OpenBranch { terms, date }),
            Command::SetPolicy(Policy { four_eyes: Matters::NONE, retention_days: 1 }),
        ];
        for customer in 1..=4 {
            commands.extend(self.open_customer(keys, None));
            commands.push(open_account(customer, Currency::CNY, None, 0));
        }
        commands.push(open_account(1, Currency::EUR, None, 0));
        commands.push(open_account(2, Currency::CNY, None, -300));
        commands.into_iter().map(|command| self.order_of(OPERATOR, command, now_us)).collect()
    }

    /// Some command.
    pub(crate) fn command(&mut self, scene: &Scene<'_>, keys: &dyn Keys) -> Option<Order> {
        let by =
            [OPERATOR, OPERATOR, OPERATOR, SECOND, SERVICE, SERVICE, AUDITOR, CUSTOMER][self.dice.index(8)];
        let model = scene.model;
        let accounts: Vec<AccountRef> = model
            .accounts
            .values()
            .filter(|account| account.is_customer())
            .map(|account| account.reference)
            .collect();
        let account = self.dice.pick(&accounts).copied().unwrap_or_default();
        let customer = u32::try_from(self.dice.index(model.customers.len()) + 1).unwrap_or(1);
        let today = model.day.unwrap_or(Date::EPOCH);
        let command = match self.dice.below(40) {
            0..5 => self.open_customer(keys, Some(today))?,
            5..11 => self.some_account(customer, today),
            11..16 => self.limits(account),
            16..20 => Command::Freeze(Freeze { account, sides: self.sides(), reason: self.reason() }),
            20..25 => Command::Unfreeze(Unfreeze { account, sides: self.sides() }),
            25..28 => Command::CloseAccount(account),
            28..31 => Command::ReopenAccount(account),
            31..33 => Command::EraseCustomer(customer),
            33..35 => {
                let key = skerry_branch::keys::KeyRef(model.customers.get(customer as usize - 1)?.key_ref);
                let sealed = keys.seal(key, plain(key.0).as_bytes()).ok()?.into();
                Command::ChangeCustomer(ChangeCustomer { customer, document: None, sealed })
            }
            35 => Command::OpenDay(Date(today.0 + i32::try_from(self.dice.below(3)).unwrap_or(0))),
            36 => Command::OpenCurrency(Currency::USD),
            37 => Command::Propose(Propose { request: [self.reason(); 16], matter: Matter::Freezes }),
            38 => Command::Approve([self.reason(); 16]),
            _ if self.dice.chance(1, 6) => Command::GoLive(today),
            _ => Command::SetPolicy(Policy { four_eyes: self.matters(), retention_days: 1 }),
        };
        Some(self.order_of(by, command, scene.now_us))
    }

    /// Some look at the book.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) -> (usize, Read) {
        let accounts: Vec<AccountRef> = scene.model.accounts.keys().copied().collect();
        let account = self.dice.pick(&accounts).copied().unwrap_or_default();
        let by = [OPERATOR, SERVICE, CUSTOMER, AUDITOR][self.dice.index(4)];
        let day = scene.model.day.map(|day| Date(day.0 - i32::try_from(self.dice.below(4)).unwrap_or(0)));
        let recent: Vec<_> = scene.model.facts.iter().rev().take(60).map(|fact| fact.moved).collect();
        let sent: Vec<_> = recent.iter().filter(|moved| scene.model.is_elsewhere(moved.credit)).collect();
        let payment = self.dice.pick(&sent).map(|moved| Read::Payment(moved.id));
        if let Some(payment) = payment.filter(|_| self.dice.chance(1, 6)) {
            return (by, payment);
        }
        let read = match self.dice.below(14) {
            0..8 => Read::Account(account),
            8 => Read::Customer(u32::try_from(self.dice.between(1, 6)).unwrap_or(1)),
            9 | 10 => Read::TrialBalance { date: day, by_value: self.dice.chance(1, 2) },
            11 => Read::Status,
            12 => Read::Proposals,
            _ => Read::Chart,
        };
        (by, read)
    }

    fn open_customer(&mut self, keys: &dyn Keys, today: Option<Date>) -> Option<Command> {
        let key = *keys.create(1).ok()?.first()?;
        let sealed = keys.seal(key, plain(key.0).as_bytes()).ok()?.into();
        let mut document = [0; 32];
        // Few documents, so that some are known already.
        let number = if today.is_some() { self.dice.below(80) } else { 100 + key.0 };
        document[..8].copy_from_slice(&number.to_le_bytes());
        let long_ago = today.filter(|_| self.dice.chance(2, 3)).map(|day| Date(day.0 - 1_000));
        Some(Command::OpenCustomer(OpenCustomer {
            document,
            key_ref: key.0,
            line: 0,
            opened: long_ago,
            sealed,
        }))
    }

    fn some_account(&mut self, customer: u32, today: Date) -> Command {
        let currency = [Currency::CNY, Currency::CNY, Currency::EUR][self.dice.index(3)];
        let opened = self.dice.chance(1, 2).then_some(Date(today.0 - 300));
        let floor = [0, 0, -200, 50][self.dice.index(4)];
        let mut command = open_account(customer, currency, opened, floor);
        if let Command::OpenAccount(wish) = &mut command {
            wish.product = [1, 1, 1, self.product()][self.dice.index(4)];
            wish.daily_limit = [UNLIMITED, 300][self.dice.index(2)];
        }
        command
    }

    fn product(&mut self) -> u16 {
        u16::try_from(self.dice.between(1, 12)).unwrap_or(1)
    }

    fn limits(&mut self, account: AccountRef) -> Command {
        let floor = self.dice.chance(2, 3).then(|| [0, -100, -500, 30][self.dice.index(4)]);
        let daily_limit = self.dice.chance(1, 2).then(|| [UNLIMITED, 100, 1_000][self.dice.index(3)]);
        Command::ChangeLimits(ChangeLimits { account, floor, daily_limit })
    }

    fn sides(&mut self) -> Sides {
        let both = self.dice.chance(1, 3);
        let debit = self.dice.chance(1, 2);
        Sides { debit: debit || both, credit: !debit || both }
    }

    fn reason(&mut self) -> u8 {
        u8::try_from(self.dice.between(1, 5)).unwrap_or(1)
    }

    fn matters(&mut self) -> Matters {
        // Rarely, for it stays until two principals lift it: policy itself is then under four eyes.
        if self.dice.chance(1, 30) { Matters::NONE.with(Matter::Freezes) } else { Matters::NONE }
    }
}

fn open_account(customer: u32, currency: Currency, opened: Option<Date>, floor: i64) -> Command {
    Command::OpenAccount(OpenAccount {
        customer,
        product: 1,
        currency,
        opened,
        floor,
        daily_limit: UNLIMITED,
    })
}

/// What is sealed of a customer: no more than the number of their key.
pub(crate) fn plain(key: u64) -> String {
    format!("Customer with key {key}")
}
