//! Whatever is asked, in whatever order, the book stands, a replay of what was stored agrees to the byte, and so does
//! an image read back half way.
//!
//! The space of customers, documents, keys and ids is tiny on purpose: bugs live where they collide.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use skerry_book::actor::{Cause, Role};
use skerry_book::command::{
    ChangeCustomer, ChangeLimits, Freeze, OpenAccount, OpenBranch, OpenCustomer, Propose, Unfreeze,
};
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_book::{Command, derive_id};
use skerry_ledger::{AccountRef, Flags, Imported, Moved, MovedKind, Sides, Transfer, TransferId, UNLIMITED};
use skerry_money::{Currency, Date};

use crate::world::{SEED, World, at, image, person, restore, same, terms};

const FIRST: i32 = 20_458;

#[derive(Debug, Clone)]
enum Step {
    Transfer(Transfer),
    Chain(Vec<Transfer>),
    /// With a key, and whether it is an import's.
    Command(Command, Option<(u128, bool)>),
    As(Role, u8),
    Wait(u64),
}

fn customers() -> impl Strategy<Value = AccountRef> {
    (1..9_u64).prop_map(|serial| AccountRef::customer(1, serial))
}

fn account() -> impl Strategy<Value = AccountRef> {
    prop_oneof![
        6 => (1..6_u64).prop_map(|serial| AccountRef::customer(1, serial)),
        4 => prop_oneof![Just(1001), Just(2001), Just(3901)].prop_map(|code| AccountRef::head(1, code, Currency::CNY)),
        1 => Just(AccountRef::default()),
        1 => Just(AccountRef::customer(2, 1)),
    ]
}

fn id() -> impl Strategy<Value = TransferId> {
    (0..60_u128).prop_map(|low| {
        let millis = u128::from(at(Date(FIRST), 600) / 1_000);
        TransferId((millis << 80) | (7 << 76) | (0b10 << 62) | low)
    })
}

fn flags() -> impl Strategy<Value = Flags> {
    prop_oneof![
        8 => Just(Flags::default()),
        3 => Just(Flags::PENDING),
        2 => Just(Flags::POST),
        2 => Just(Flags::VOID),
        2 => Just(Flags::REVERSAL),
        1 => Just(Flags::BALANCING_DEBIT),
        1 => Just(Flags::PENDING.with(Flags::CLOSING_DEBIT)),
        1 => Just(Flags::BANK),
    ]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let sides = (account(), account(), 0..200_u64);
    (id(), sides, flags(), id(), 0..120_u32, any::<bool>()).prop_map(
        |(id, (debit, credit, amount), flags, related, timeout, names_related)| {
            let names = flags.overlaps(Flags::POST.with(Flags::VOID).with(Flags::REVERSAL));
            let plain = names && names_related;
            let mut transfer = Transfer {
                id,
                debit: if plain { AccountRef::default() } else { debit },
                credit: if plain { AccountRef::default() } else { credit },
                amount: if plain { 0 } else { amount },
                flags,
                related: if names { related } else { TransferId::NONE },
                timeout_seconds: if flags == Flags::PENDING { timeout } else { 0 },
                ..Transfer::default()
            };
            transfer.digest = digest(&transfer);
            transfer
        },
    )
}

fn import() -> impl Strategy<Value = Transfer> {
    (0..8_u8, account(), account(), 1..200_u64, -20..2_i32).prop_map(|(cause, debit, credit, amount, day)| {
        let seed = skerry_book::Seed::new(SEED);
        let business_date = Date(FIRST + day);
        let mut transfer = Transfer {
            id: derive_id(&seed, &[cause]),
            debit,
            credit,
            amount,
            flags: Flags::IMPORTED,
            imported: Some(Imported { time_us: at(business_date, 60), business_date }),
            ..Transfer::default()
        };
        transfer.digest = digest(&transfer);
        transfer
    })
}

fn digest(transfer: &Transfer) -> u64 {
    skerry_book::packed::digest(transfer, &[], &[0; 16], &skerry_book::Seed::new(SEED))
}

fn command() -> impl Strategy<Value = Command> {
    let document = || (0..5_u8).prop_map(|document| [document; 32]);
    let sides = || (any::<bool>(), any::<bool>()).prop_map(|(debit, credit)| Sides { debit, credit });
    let sealed = || Box::from(b"sealed".as_slice());
    prop_oneof![
        4 => (document(), -30..2_i32, any::<bool>()).prop_map(move |(document, day, dated)| {
            let opened = dated.then_some(Date(FIRST + day));
            Command::OpenCustomer(OpenCustomer { document, key_ref: 1, line: 0, opened, sealed: sealed() })
        }),
        5 => (1..5_u32, 1..6_u16, -50..1_i64, proptest::bool::weighted(0.2)).prop_map(|(customer, product, floor, dollars)| {
            let currency = if dollars { Currency::USD } else { Currency::CNY };
            Command::OpenAccount(OpenAccount { customer, product, currency, opened: None, floor, daily_limit: UNLIMITED })
        }),
        1 => (1..5_u32, document()).prop_map(move |(customer, document)| {
            Command::ChangeCustomer(ChangeCustomer { customer, document: Some(document), sealed: sealed() })
        }),
        1 => (1..5_u32).prop_map(Command::EraseCustomer),
        2 => (customers(), -90..90_i64, 0..300_u64).prop_map(|(account, floor, daily)| {
            Command::ChangeLimits(ChangeLimits { account, floor: Some(floor), daily_limit: Some(daily) })
        }),
        1 => (customers(), sides()).prop_map(|(account, sides)| Command::Freeze(Freeze { account, sides, reason: 1 })),
        2 => (customers(), sides()).prop_map(|(account, sides)| Command::Unfreeze(Unfreeze { account, sides })),
        2 => customers().prop_map(Command::CloseAccount),
        2 => customers().prop_map(Command::ReopenAccount),
        2 => (0..4_i32).prop_map(|day| Command::OpenDay(Date(FIRST + day))),
        1 => (-5..3_i32).prop_map(|day| Command::GoLive(Date(FIRST + day))),
        1 => (0..3_u32, proptest::bool::weighted(0.3)).prop_map(|(retention_days, strict)| {
            let four_eyes = if strict { Matters::NONE.with(Matter::Limits) } else { Matters::NONE };
            Command::SetPolicy(Policy { four_eyes, retention_days })
        }),
        2 => (0..3_u8).prop_map(|request| {
            Command::Propose(Propose { request: [request; 16], matter: Matter::Limits })
        }),
        2 => (0..3_u8).prop_map(|request| Command::Approve([request; 16])),
        1 => (0..3_u8).prop_map(|request| Command::EndProposal([request; 16])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let role = prop_oneof![10 => Just(Role::Operator), 1 => Just(Role::Service), 1 => Just(Role::Customer)];
    prop_oneof![
        10 => transfer().prop_map(Step::Transfer),
        2 => import().prop_map(Step::Transfer),
        2 => vec(transfer(), 2..4).prop_map(Step::Chain),
        9 => (command(), proptest::option::weighted(0.3, (0..4_u128, any::<bool>()))).prop_map(|(command, key)| Step::Command(command, key)),
        3 => (role, 0..3_u8).prop_map(|(role, who)| Step::As(role, who)),
        1 => prop_oneof![Just(60_000_000), Just(36_000_000_000)].prop_map(Step::Wait),
    ]
}

fn begin() -> World {
    let mut world = World::new();
    let terms = terms(0, 4);
    world.command(&Command::OpenBranch(OpenBranch { terms, date: Date(FIRST) })).unwrap();
    world
}

/// Two customers with two accounts each, all with some money.
fn settled() -> World {
    let mut world = begin();
    for document in 0..2 {
        let sealed = Box::from([1].as_slice());
        let wish = OpenCustomer { document: [document; 32], key_ref: 1, line: 0, opened: None, sealed };
        world.command(&Command::OpenCustomer(wish)).unwrap();
    }
    for serial in 1..5_u8 {
        let customer = if serial < 3 { 1 } else { 2 };
        let currency = Currency::CNY;
        let wish =
            OpenAccount { customer, product: 1, currency, opened: None, floor: 0, daily_limit: UNLIMITED };
        world.command(&Command::OpenAccount(wish)).unwrap();
        let transfer = Transfer {
            id: TransferId(
                (u128::from(at(Date(FIRST), 600) / 1_000) << 80)
                    | (7 << 76)
                    | (2 << 62)
                    | u128::from(serial) << 32,
            ),
            debit: AccountRef::head(1, 1001, Currency::CNY),
            credit: AccountRef::customer(1, u64::from(serial)),
            amount: 100,
            ..Transfer::default()
        };
        if serial != 4 {
            world.transfer(&transfer).unwrap();
        }
    }
    world
}

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Transfer(transfer) => {
            let _ = world.transfer(transfer);
        }
        Step::Chain(transfers) => world.chain(transfers),
        Step::Command(command, key) => {
            world.key = key.map(|(key, _)| key);
            let import = key.is_some_and(|(_, import)| import);
            world.actor.cause = if import { Cause::Import } else { Cause::Request };
            drop(world.command(command));
        }
        Step::As(role, who) => {
            world.actor = person(&format!("p{who}"), *role);
            world.actor.request = [*who; 16];
        }
        Step::Wait(us) => world.time_us += us,
    }
    world.expire();
}

/// Balances by adding up from nothing.
fn totals(moved: &[Moved]) -> BTreeMap<AccountRef, i128> {
    let mut totals = BTreeMap::new();
    for one in moved.iter().filter(|one| matches!(one.kind, MovedKind::Posted | MovedKind::HoldPosted)) {
        *totals.entry(one.debit).or_insert(0) -= i128::from(one.amount);
        *totals.entry(one.credit).or_insert(0) += i128::from(one.amount);
    }
    totals
}

proptest! {
    #[test]
    fn the_book_stands_and_replays(steps in vec(step(), 1..120), cut in 0..120_usize) {
        let mut world = settled();
        let mut half = None;
        for (index, step) in steps.iter().enumerate() {
            if index == cut {
                half = Some((world.journal.len(), world.book.freeze(), image(&world.book)));
            }
            take(&mut world, step);
            world.check();
        }
        prop_assert!(same(&world.book, &world.replay(SEED)), "a replay");
        prop_assert!(same(&world.book, &world.replay([1; 32])), "a replay under another seed");
        prop_assert!(same(&world.book, &restore(&image(&world.book), SEED).unwrap()), "a restored image");
        for (account, balance) in totals(&world.moved()) {
            prop_assert_eq!(world.book.account(account).unwrap().balance(), balance);
        }
        if let Some((position, frozen, then)) = half {
            let mut now = Vec::new();
            frozen.write(&mut |piece| now.extend_from_slice(piece));
            prop_assert!(now == then, "a frozen image changed");
            let mut book = restore(&then, SEED).unwrap();
            world.events().skip(position).for_each(|event| book.evolve(&event));
            prop_assert!(same(&world.book, &book), "an image and the rest");
        }
    }

    #[test]
    fn sending_everything_twice_is_sending_it_once(transfers in vec(transfer(), 1..60)) {
        let (mut once, mut twice) = (settled(), settled());
        for transfer in &transfers {
            let _ = once.transfer(transfer);
            let _ = twice.transfer(transfer);
            let _ = twice.transfer(transfer);
        }
        prop_assert!(same(&once.book, &twice.book));
    }

    /// Flips only what lies before the ledger's image, which has tests of its own.
    #[test]
    fn any_bytes_are_an_image_or_an_error(flips in vec((0..2_080_usize, any::<u8>()), 1..4), cut in 0..9_000_usize) {
        let mut bytes = image(&begin().book);
        for (index, byte) in flips {
            if let Some(at) = bytes.get_mut(index) {
                *at = byte;
            }
        }
        let whole = restore(&bytes, SEED);
        prop_assert!(whole.is_none_or(|book| image(&book) == bytes));
        bytes.truncate(cut);
        drop(restore(&bytes, SEED));
    }
}
