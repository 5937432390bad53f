//! One debit for many payees: all or nothing, numbered without gaps, and answered again as it was decided.

use skerry_book::channel::WINDOW;
use skerry_book::command::{Freeze, OpenAccount, OpenBranch, OpenCustomer, StopChannel};
use skerry_book::event::{Event, StopReason};
use skerry_book::{Actor, Cause, Command, Rejection};
use skerry_ledger::{
    AccountRef, Flags, Rejection as LedgerRejection, Sides, Transfer, TransferId, UNLIMITED,
};
use skerry_money::{Currency, Date};

use crate::world::{World, at, operator, terms};

const FIRST: Date = Date(20_458);
const PAYER: AccountRef = AccountRef::customer(1, 1);
const NEIGHBOUR: AccountRef = AccountRef::customer(1, 2);
const FAR: AccountRef = AccountRef::customer(2, 5);
const FARTHER: AccountRef = AccountRef::customer(3, 5);
const APPLIED: Rejection = Rejection::Ledger(LedgerRejection::AlreadyApplied);
const CHANGED: Rejection = Rejection::Ledger(LedgerRejection::LinkedChainChanged);

/// Branch 1 with 1,000 on the first of two accounts, and channels to 2 and 3.
fn begin() -> World {
    let mut world = World::new();
    let terms = terms(0, 4);
    world.command(&Command::OpenBranch(OpenBranch { terms, date: FIRST })).unwrap();
    let sealed = Box::from([1].as_slice());
    let wish = OpenCustomer { document: [1; 32], key_ref: 1, line: 0, opened: None, sealed };
    world.command(&Command::OpenCustomer(wish)).unwrap();
    let (currency, daily_limit) = (Currency::CNY, UNLIMITED);
    let wish = OpenAccount { customer: 1, product: 1, currency, opened: None, floor: 0, daily_limit };
    for _ in 0..2 {
        world.command(&Command::OpenAccount(wish)).unwrap();
    }
    let cash = AccountRef::head(1, 1001, Currency::CNY);
    world.transfer(&payment(100, cash, PAYER, 1_000)).unwrap();
    for peer in [2, 3] {
        world.open_channel(peer, 1).unwrap();
    }
    world
}

fn payment(number: u16, debit: AccountRef, credit: AccountRef, amount: u64) -> Transfer {
    let millis = u128::from(at(FIRST, 600) / 1_000);
    let id = TransferId((millis << 80) | (7 << 76) | (0b10 << 62) | u128::from(number));
    // What was asked, as far as these tests ask otherwise under the same id.
    Transfer { id, debit, credit, amount, digest: amount, ..Transfer::default() }
}

fn payout(amounts: [u64; 3]) -> Vec<Transfer> {
    let payees = [NEIGHBOUR, FAR, FARTHER];
    (0..)
        .zip(payees.into_iter().zip(amounts))
        .map(|(n, (to, amount))| payment(n, PAYER, to, amount))
        .collect()
}

fn posted(world: &World, account: AccountRef) -> i128 {
    world.book.account(account).unwrap().balance()
}

/// The numbers under which payments left.
fn numbers(world: &World) -> Vec<u64> {
    world
        .events()
        .filter_map(|event| if let Event::Sent(sent) = event { Some(sent.n) } else { None })
        .collect()
}

fn stop(world: &mut World, peer: u16) {
    world.actor = Actor::bank(Cause::Channel);
    let (reason, outgoing, incoming) = (StopReason::NumberUnknown, true, false);
    let stop = StopChannel { peer, reason, outgoing, incoming, n: 1, expected: 0, found: 9 };
    world.command(&Command::StopChannel(stop)).unwrap();
    world.actor = operator("till-1");
}

#[test]
fn it_leaves_at_once_for_everybody() {
    let mut world = begin();
    let many = [&payout([1, 20, 300])[..], &[payment(7, PAYER, FAR, 9)]].concat();
    world.payout(&many).unwrap();
    assert_eq!((posted(&world, PAYER), posted(&world, NEIGHBOUR)), (1_000 - 330, 1));
    assert_eq!(numbers(&world), [1, 1, 2], "two to branch 2, one to branch 3");
    world.check();
}

#[test]
fn one_that_is_refused_names_itself_and_nothing_moves() {
    let mut world = begin();
    let before = world.journal.len();
    let (index, rejection) = world.payout(&payout([1, 999, 1])).unwrap_err();
    assert!(matches!((index, rejection), (2, Rejection::Ledger(LedgerRejection::InsufficientFunds { .. }))));
    let hold = Transfer { flags: Flags::PENDING, ..payment(1, PAYER, FAR, 1) };
    assert_eq!(world.payout(&[payment(0, PAYER, FAR, 1), hold]), Err((1, Rejection::CrossesBranches)));
    let unmet = payment(1, PAYER, AccountRef::customer(4, 5), 1);
    assert_eq!(
        world.payout(&[payment(0, PAYER, FAR, 1), unmet]),
        Err((1, Rejection::PeerUnknown { peer: 4 }))
    );
    stop(&mut world, 3);
    let stopped = Rejection::ChannelStopped { peer: 3 };
    assert_eq!(world.payout(&payout([1, 20, 300])), Err((2, stopped)));
    let moved = world.events().skip(before).any(|event| matches!(event, Event::Moved(_) | Event::Sent(_)));
    assert!(!moved && posted(&world, PAYER) == 1_000);
    world.check();
}

#[test]
fn it_is_bounded_by_what_may_be_open_to_each_branch() {
    let mut world = begin();
    let count = u16::try_from(WINDOW).unwrap();
    let many = |from: u16, count: u16| -> Vec<_> {
        (from..from + count).map(|n| payment(200 + n, PAYER, FAR, 0)).collect()
    };
    let over = many(0, count + 1);
    let (index, rejection) = world.payout(&over).unwrap_err();
    let open = u32::try_from(WINDOW).unwrap();
    assert!(
        (index, rejection) == (WINDOW, Rejection::ChannelBusy { open }),
        "the one that finds no room: {index} {rejection:?}"
    );
}

#[test]
fn a_retry_is_answered_as_it_was_decided_whatever_happened_since() {
    let mut world = begin();
    world.payout(&payout([1, 20, 300])).unwrap();
    assert_eq!(world.payout(&payout([1, 20, 300])), Err((0, APPLIED)));
    // Payees that are not admitted any more.
    stop(&mut world, 3);
    let freeze = Freeze { account: NEIGHBOUR, sides: Sides { debit: true, credit: true }, reason: 1 };
    world.command(&Command::Freeze(freeze)).unwrap();
    assert_eq!(world.payout(&payout([1, 20, 300])), Err((0, APPLIED)));
    world.check();
}

#[test]
fn a_retry_that_pays_others_otherwise_is_no_repetition() {
    let mut world = begin();
    world.payout(&payout([1, 20, 300])).unwrap();
    assert_eq!(world.payout(&payout([1, 21, 300])), Err((1, CHANGED)));
    // The payee at the stopped channel was paid just so; another was not.
    stop(&mut world, 3);
    assert_eq!(world.payout(&payout([1, 21, 300])), Err((2, CHANGED)));
    world.check();
}
