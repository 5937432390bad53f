//! Lives of a branch that leave behind every kind of record, of every level of the format.

use crate::world::{World, at, operator, terms};
use skerry_book::actor::Cause;
use skerry_book::command::{
    ChangeLimits, Freeze, Incarnate, OpenAccount, OpenBranch, OpenChannel, OpenCustomer, Propose,
    StopChannel, Unfreeze,
};
use skerry_book::event::{ArchiveBefore, StopReason, Terms};
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_book::{Class, Command, Head, Payment};
use skerry_ledger::{AccountRef, Flags, Sides, Transfer, TransferId, UNLIMITED};
use skerry_money::{Currency, Date};

fn first_day() -> Date {
    Date::from_civil(2026, 1, 5).unwrap()
}

/// One event of every kind, in an order that can be lived.
pub(crate) fn a_life() -> World {
    let mut world = World::new();
    let day = first_day();
    let terms = Terms {
        institution: [9; 16],
        currencies: vec![Currency::CNY, Currency::EUR],
        offset_minutes: 480,
        cutoff_minutes: 1_380,
        capacity: 1_000,
    };
    let open = |world: &mut World, command: &Command| world.command(command).unwrap().done;
    open(&mut world, &Command::OpenBranch(OpenBranch { terms, date: day }));
    let mut chart = world.book.chart().clone();
    chart.version = 2;
    let till =
        Head {
            code: 1003, class: Class::Asset, name: "Cash in transit".into(), name_zh: "在途现金".into()
        };
    chart.heads.insert(2, till);
    open(&mut world, &Command::AdoptChart(Box::new(chart)));
    assert!(world.book.account(AccountRef::head(1, 1003, Currency::EUR)).is_some());
    world.key = Some(77);
    open(&mut world, &customer(1));
    (world.key, world.actor.cause) = (Some(78), Cause::Import);
    open(&mut world, &customer(3));
    (world.key, world.actor.cause) = (None, Cause::Request);
    open(&mut world, &customer(2));
    for customer in [1, 2, 2] {
        let wish = OpenAccount {
            customer,
            product: 1,
            currency: Currency::CNY,
            opened: None,
            floor: -5_000,
            daily_limit: UNLIMITED,
        };
        open(&mut world, &Command::OpenAccount(wish));
    }
    let changed = skerry_book::command::ChangeCustomer {
        customer: 2,
        document: Some([8; 32]),
        sealed: Box::from([1, 2, 3].as_slice()),
    };
    open(&mut world, &Command::ChangeCustomer(changed));
    money(&mut world);
    accounts(&mut world);
    people(&mut world, day);
    world
}

fn customer(number: u8) -> Command {
    let sealed = Box::from([number; 20].as_slice());
    let document = [number; 32];
    Command::OpenCustomer(OpenCustomer {
        document,
        key_ref: 40 + u64::from(number),
        line: 0,
        opened: None,
        sealed,
    })
}

fn account(serial: u64) -> AccountRef {
    AccountRef::customer(1, serial)
}

fn money(world: &mut World) {
    let cash = AccountRef::head(1, 1001, Currency::CNY);
    let plain = |id: u8, debit: AccountRef, credit: AccountRef, amount: u64| Transfer {
        id: TransferId((u128::from(1_767_607_200_000_u64) << 80) | (7 << 76) | (0b10 << 62) | u128::from(id)),
        debit,
        credit,
        amount,
        digest: u64::from(id),
        reference: *b"invoice 17\0\0\0\0\0\0",
        code: 12,
        ..Transfer::default()
    };
    let hold = |id: u8, timeout_seconds: u32| Transfer {
        flags: Flags::PENDING,
        timeout_seconds,
        ..plain(id, account(1), account(2), 100)
    };
    let resolve = |id: u8, flags: Flags, related: u8| Transfer {
        flags,
        related: plain(related, cash, cash, 0).id,
        ..plain(id, AccountRef::default(), AccountRef::default(), 0)
    };
    for transfer in [
        plain(1, cash, account(1), 1_000),
        hold(2, 0),
        hold(3, 0),
        hold(4, 60),
        resolve(5, Flags::POST, 2),
        resolve(6, Flags::VOID, 3),
        resolve(7, Flags::REVERSAL, 1),
    ] {
        let transfer = Transfer {
            code: if transfer.flags == Flags::default() { 12 } else { transfer.code },
            ..transfer
        };
        world.transfer(&transfer).unwrap();
    }
    world.transfer(&plain(8, account(1), account(2), 1_000_000)).unwrap_err();
    world.time_us += 120_000_000;
    assert_eq!(world.expire(), 1);
    // What the first hold moved comes back, so that all is at zero.
    world.transfer(&resolve(9, Flags::REVERSAL, 5)).unwrap();
}

fn accounts(world: &mut World) {
    for command in [
        Command::ChangeLimits(ChangeLimits { account: account(1), floor: Some(-70), daily_limit: Some(9) }),
        Command::Freeze(Freeze {
            account: account(1),
            sides: Sides { debit: true, credit: true },
            reason: 200,
        }),
        Command::Unfreeze(Unfreeze { account: account(1), sides: Sides { debit: true, credit: true } }),
        Command::CloseAccount(account(1)),
        Command::ReopenAccount(account(1)),
        Command::CloseAccount(account(1)),
    ] {
        world.command(&command).unwrap();
    }
}

fn people(world: &mut World, day: Date) {
    let policy = Policy { four_eyes: Matters::NONE.with(Matter::Freezes), retention_days: 0 };
    for command in [
        Command::EraseCustomer(99),
        Command::GoLive(Date(day.0 - 1)),
        Command::SetPolicy(policy),
        Command::EraseCustomer(1),
        Command::Propose(Propose { request: [5; 16], matter: Matter::Freezes }),
        Command::Propose(Propose { request: [6; 16], matter: Matter::Freezes }),
        Command::EndProposal([6; 16]),
        Command::Incarnate(Incarnate { incarnation: 2, lost_from: 7, lost_to: 9 }),
    ] {
        let refused = world.command(&command).is_err();
        assert_eq!(refused, command == Command::EraseCustomer(99), "{command:?}");
    }
    world.actor = operator("chief");
    world.command(&Command::Approve([5; 16])).unwrap();
    world.time_us = at(Date(day.0 + 1), 0);
    world.command(&Command::OpenDay(Date(day.0 + 1))).unwrap();
}

/// Branch 1 with one customer and one account, and a channel to branch 2.
fn a_branch_that_met_another() -> World {
    let mut world = World::new();
    let day = first_day();
    let terms = terms(9, 10);
    world.command(&Command::OpenBranch(OpenBranch { terms, date: day })).unwrap();
    world.command(&customer(1)).unwrap();
    let (currency, daily_limit) = (Currency::CNY, UNLIMITED);
    let wish = OpenAccount { customer: 1, product: 1, currency, opened: None, floor: 0, daily_limit };
    world.command(&Command::OpenAccount(wish)).unwrap();
    world.open_channel(2, 1).unwrap();
    world
}

/// Payments to and from branch 2: every kind of level 2.
pub(crate) fn a_crossing_life() -> World {
    let mut world = a_branch_that_met_another();
    let far = AccountRef::customer(2, 5);
    let plain = |id: u8, debit: AccountRef, credit: AccountRef, flags: Flags| Transfer {
        id: TransferId((u128::from(1_767_607_200_000_u64) << 80) | (7 << 76) | (0b10 << 62) | u128::from(id)),
        debit,
        credit,
        amount: 100,
        flags,
        digest: u64::from(id),
        reference: *b"invoice 17\0\0\0\0\0\0",
        code: 12,
        ..Transfer::default()
    };
    let none = Flags::default();
    let cash = AccountRef::head(1, 1001, Currency::CNY);
    let hold = plain(4, account(1), far, Flags::PENDING);
    for transfer in [
        Transfer { amount: 900, ..plain(1, cash, account(1), none) },
        plain(2, account(1), far, none),
        plain(3, account(1), far, none),
        hold,
        Transfer {
            related: hold.id,
            amount: 60,
            ..plain(5, AccountRef::default(), AccountRef::default(), Flags::POST)
        },
    ] {
        world.transfer(&transfer).unwrap();
    }
    let payment = |id: u128, credit: AccountRef| Payment {
        id: TransferId((7 << 76) | id),
        debit: far,
        credit,
        amount: 70,
        currency: Currency::CNY,
        code: 3,
        value_date: Date(first_day().0 - 1),
        flags: none,
        reference: [0; 16],
        related: TransferId::NONE,
    };
    world.arrive(2, 1, &[payment(1, account(1)), payment(2, account(9))], 0);
    world.learn(2, 1, &[0, 1081]);
    let stop = StopChannel {
        peer: 2,
        reason: StopReason::HashDiffers,
        outgoing: false,
        incoming: true,
        n: 3,
        expected: 1 << 100,
        found: 7,
    };
    world.actor = skerry_book::Actor::bank(Cause::Channel);
    world.command(&Command::StopChannel(stop)).unwrap();
    world.check();
    world
}

/// Orders to archive: the kind of level 3.
pub(crate) fn an_archived_life() -> World {
    let mut world = World::new();
    let day = first_day();
    let terms = terms(9, 10);
    world.command(&Command::OpenBranch(OpenBranch { terms, date: day })).unwrap();
    for before in [ArchiveBefore::Position(7), ArchiveBefore::Position(u64::MAX), ArchiveBefore::Day(day)] {
        world.command(&Command::OrderArchive(before)).unwrap();
    }
    world.check();
    world
}

/// A life after a declared loss: the kinds of level 4.
pub(crate) fn a_life_after_a_loss() -> World {
    let mut world = a_branch_that_met_another();
    let far = AccountRef::customer(2, 5);
    let id = |id: u8| {
        TransferId((u128::from(1_767_607_200_000_u64) << 80) | (7 << 76) | (0b10 << 62) | u128::from(id))
    };
    let cash = AccountRef::head(1, 1001, Currency::CNY);
    let deposit = Transfer { id: id(1), debit: cash, credit: account(1), amount: 900, ..Transfer::default() };
    world.transfer(&deposit).unwrap();
    // After the journal was put back it gave the number of a lost payment to another one.
    let other = Transfer { id: id(2), debit: account(1), credit: far, amount: 100, ..Transfer::default() };
    world.transfer(&other).unwrap();
    let (peer, wish) = (2, Incarnate { incarnation: 2, lost_from: 9, lost_to: 12 });
    world.command(&Command::Incarnate(wish)).unwrap();
    let payment = |number: u8, debit: AccountRef, credit: AccountRef, currency: Currency| Payment {
        id: id(number),
        debit,
        credit,
        amount: 1_000,
        currency,
        code: 3,
        value_date: Date(first_day().0 - 1),
        flags: Flags::default(),
        reference: *b"invoice 17\0\0\0\0\0\0",
        related: TransferId::NONE,
    };
    // Beyond what the account has; of an account that is gone; in a currency that is.
    world.take_back_sent(peer, 1, &payment(11, account(1), far, Currency::CNY), 0);
    world.take_back_sent(peer, 2, &payment(12, account(7), far, Currency::USD), 1081);
    for (number, credit, outcome) in [(1, account(1), 0), (2, account(9), 1081), (3, account(7), 0)] {
        let payment = payment(20 + u8::try_from(number).unwrap(), far, credit, Currency::CNY);
        world.take_back_received(peer, number, &payment, outcome);
    }
    world.actor = skerry_book::Actor::bank(Cause::Channel);
    world.command(&Command::GoOn(OpenChannel { peer, incarnation: 1 })).unwrap();
    world.check();
    world
}
