//! Branches pay each other: what each step does, and what is refused; over a bus that fails (`storm`). On
//! threads and over the bus seam: the crate `post`.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod losses;
mod storm;

use common::*;
use skerry_book::Command;
use skerry_book::channel::{Payment, check_pair};
use skerry_book::command::{Freeze, Incarnate};
use skerry_book::event::StopReason;
use skerry_branch::api::{Answer, Asked, Body, PaymentState, PaymentView, Read, Reply};
use skerry_branch::channels::Outgoing;
use skerry_branch::channels::coverage::{self, Mark};
use skerry_branch::channels::message::{Header, Outcomes, Run, Said};
use skerry_branch::history::Query;
use skerry_branch::{Condition, Options};
use skerry_journal::{FaultStorage, Storage};
use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Sides, Transfer, TransferId};

const BRANCHES: [u16; 3] = [1, 2, 3];
const ACCOUNTS: u64 = 3;
const EACH: u64 = 1_000_000;

fn of(branch: u16, serial: u64) -> AccountRef {
    AccountRef::customer(branch, serial)
}

fn till(branch: u16) -> AccountRef {
    AccountRef::head(branch, 1001, cny())
}

fn options_of(branch: u16) -> Options {
    Options { branch, snapshot_records: 60, checkpoint_us: 3_000_000, ..options() }
}

/// A founded branch with money on every account, that knows all others.
fn founded<S: Storage>(branch: u16, storage: &S) -> Stepped<S> {
    founded_with(storage, options_of(branch))
}

fn founded_with<S: Storage>(storage: &S, options: Options) -> Stepped<S> {
    let branch = options.branch;
    let mut bank = Stepped::with(storage, options);
    bank.open().unwrap();
    bank.command(found());
    let key = bank.branch_keys().create(1).unwrap()[0];
    bank.command(open_customer(1, key.0));
    for _ in 0..ACCOUNTS {
        bank.command(open_account(1));
    }
    let now_us = bank.now.wall_us;
    let deposits: Vec<Transfer> =
        (1..=ACCOUNTS).map(|serial| transfer(till(branch), of(branch, serial), EACH, now_us)).collect();
    assert!(bank.packed(&deposits).iter().all(|outcome| outcome.code == 0));
    bank.branch.know(&BRANCHES);
    bank
}

fn payment<S: Storage>(bank: &mut Stepped<S>, id: TransferId) -> PaymentView {
    match bank.ask(operator(), Body::Read(Read::Payment(id))) {
        Reply::Answer(Answer::Payment(view)) => *view,
        other => panic!("{other:?}"),
    }
}

/// Carries everything until nobody has anything to say.
fn carry(banks: &mut [Stepped<FaultStorage>]) {
    loop {
        let mut messages: Vec<Outgoing> = Vec::new();
        for bank in banks.iter_mut() {
            bank.settle();
            messages.extend(std::iter::from_fn(|| bank.branch.take_message()));
        }
        if messages.is_empty() {
            return;
        }
        for message in messages {
            deliver(banks, message);
        }
    }
}

fn deliver(banks: &[Stepped<FaultStorage>], message: Outgoing) {
    if let Some(to) = banks.get(usize::from(message.to) - 1) {
        let _ = to.branch.deliver(message.bytes, to.now);
    }
}

fn pair() -> Vec<Stepped<FaultStorage>> {
    let mut banks: Vec<_> =
        [1, 2].map(|branch| founded(branch, &FaultStorage::new(u64::from(branch)))).into();
    carry(&mut banks);
    banks
}

fn check_all(banks: &[Stepped<FaultStorage>]) {
    for (index, bank) in banks.iter().enumerate() {
        let book = bank.branch.book().unwrap();
        assert_eq!(skerry_book::invariants::check(book), Ok(()));
        for other in &banks[index + 1..] {
            assert_eq!(check_pair(book, other.branch.book().unwrap()), Ok(()));
        }
    }
}

#[test]
fn a_payment_is_sent_settled_and_seen_on_both_statements() {
    let mut banks = pair();
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    let outcome = banks[0].packed(&[one])[0];
    assert_eq!(outcome.code, skerry_book::packed::SENT);
    assert_eq!(payment(&mut banks[0], one.id).state, PaymentState::Sent);
    carry(&mut banks);
    let seen = payment(&mut banks[0], one.id);
    assert_eq!((seen.state, seen.n, seen.position), (PaymentState::Settled, 1, outcome.position));
    assert_eq!(banks[1].balance(of(2, 2)), i128::from(EACH) + 250);
    assert_eq!(banks[0].packed(&[one])[0], outcome, "a retry is answered as the first time");
    for (index, account, counterparty) in [(0, of(1, 1), of(2, 2)), (1, of(2, 2), of(1, 1))] {
        let history = banks[index].branch.history().unwrap();
        let entries = |account| {
            let query = Query { account: Some(account), ..Query::default() };
            history.query(&query).unwrap().entries
        };
        let last = entries(account).into_iter().max_by_key(|entry| entry.position).unwrap();
        let sides = [last.moved.debit, last.moved.credit];
        assert!(sides.contains(&account) && sides.contains(&counterparty), "the statement shows both sides");
        let totals = last.totals.unwrap();
        let balance = banks[index].balance(account);
        assert_eq!(totals.credits as i128 - totals.debits as i128, balance, "with the balance after it");
        assert_eq!(entries(counterparty).len(), 1, "and it is found by the other side's account");
    }
    let now = banks[0].now;
    banks[0].branch.mark(now, false);
    banks[0].settle();
    let signed = banks[0].branch.workshop().unwrap().latest().unwrap();
    let told = signed.checkpoint.channels[0];
    assert_eq!((told.peer, told.sent.count, told.settled.amount, told.returned.count), (2, 1, 250, 0));
    check_all(&banks);
}

#[test]
fn a_refused_payment_comes_back_to_a_frozen_account_and_says_why() {
    let mut banks = pair();
    let far = transfer(of(1, 1), of(2, 99), 70, banks[0].now.wall_us);
    assert_eq!(banks[0].packed(&[far])[0].code, skerry_book::packed::SENT);
    let sides = Sides { debit: true, credit: true };
    banks[0].command(Command::Freeze(Freeze { account: of(1, 1), sides, reason: 9 }));
    carry(&mut banks);
    let seen = payment(&mut banks[0], far.id);
    let PaymentState::Returned { outcome, to, .. } = seen.state else { panic!("{seen:?}") };
    assert_eq!((outcome, to), (1081, of(1, 1)));
    assert_eq!(banks[0].balance(of(1, 1)), i128::from(EACH));
    check_all(&banks);
}

#[test]
fn a_reversal_is_a_payment_of_the_payees_branch() {
    let mut banks = pair();
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    banks[0].packed(&[one]);
    carry(&mut banks);
    let back = Transfer {
        flags: Flags::REVERSAL,
        related: one.id,
        ..transfer(AccountRef::default(), of(1, 1), 0, banks[1].now.wall_us)
    };
    let again = Transfer { id: id_at(banks[1].now.wall_us), ..back };
    let outcomes = banks[1].packed(&[back]);
    assert_eq!(outcomes[0].code, skerry_book::packed::SENT);
    assert_eq!(banks[1].packed(&[again])[0].code, 1068, "once");
    carry(&mut banks);
    assert_eq!(banks[0].balance(of(1, 1)), i128::from(EACH));
    assert_eq!(banks[1].balance(of(2, 2)), i128::from(EACH));
    check_all(&banks);
}

#[test]
fn a_new_life_stops_both_directions_until_both_know_the_same_and_no_other_channel() {
    let mut banks: Vec<_> =
        BRANCHES.map(|branch| founded(branch, &FaultStorage::new(u64::from(branch)))).into();
    carry(&mut banks);
    let now_us = banks[0].now.wall_us;
    banks[0].packed(&[transfer(of(1, 1), of(2, 1), 4, now_us)]);
    carry(&mut banks);
    banks[0].command(Command::Incarnate(Incarnate { incarnation: 2, lost_from: 1, lost_to: 2 }));
    assert_eq!(banks[0].packed(&[transfer(of(1, 1), of(2, 1), 5, now_us)])[0].code, 4013);
    let stopped = banks[0].branch.book().unwrap().channel(2).unwrap();
    let stop = stopped.incoming.stopped.unwrap();
    assert_eq!((stop.reason, stop.expected, stop.found), (StopReason::IncarnationDiffers, 1, 2));
    assert!(stopped.outgoing.stopped.is_some() && stopped.resuming);
    // The other branch hears it, and its other channel does not.
    banks[0].settle();
    let word = std::iter::from_fn(|| banks[0].branch.take_message()).find(|word| word.to == 2).unwrap();
    deliver(&banks, word);
    banks[1].settle();
    let stopped = banks[1].branch.book().unwrap().channel(1).unwrap();
    assert_eq!(stopped.outgoing.stopped.unwrap().found, 2);
    assert_eq!(banks[1].packed(&[transfer(of(2, 1), of(1, 1), 5, now_us)])[0].code, 4013);
    banks[2].packed(&[transfer(of(3, 1), of(2, 1), 6, now_us)]);
    carry(&mut banks);
    for bank in &mut banks {
        bank.pass_us(1_100_000);
    }
    carry(&mut banks);
    let goes_on = banks[1].branch.book().unwrap().channel(1).unwrap();
    assert!(!goes_on.is_stopped() && !goes_on.resuming && goes_on.incarnation == 2);
    assert_eq!(
        banks[0].packed(&[transfer(of(1, 1), of(2, 1), 5, now_us)])[0].code,
        skerry_book::packed::SENT
    );
    carry(&mut banks);
    assert_eq!(banks[1].balance(of(2, 1)), i128::from(EACH) + 15);
    check_all(&banks);
}

#[test]
fn a_message_that_nobody_sealed_moves_nothing() {
    let mut banks = pair();
    let one = transfer(of(1, 1), of(2, 2), 250, banks[0].now.wall_us);
    banks[0].packed(&[one]);
    banks[0].settle();
    let message = banks[0].branch.take_message().unwrap();
    let mut bytes = message.bytes.to_vec();
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    let before = banks[1].image();
    banks[1].branch.deliver(bytes.into(), banks[1].now).unwrap();
    banks[1].settle();
    assert_eq!(banks[1].image(), before);
    deliver(&banks, message);
    carry(&mut banks);
    assert_eq!(payment(&mut banks[0], one.id).state, PaymentState::Settled);
}

#[test]
fn a_run_that_finds_no_more_room_is_taken_up_where_it_stopped() {
    drop(coverage::take());
    let mut banks = pair();
    let asked = |transfer: Transfer, length: usize, note: usize| Asked {
        transfer,
        reference: "r".repeat(length).into(),
        note: vec![7; note].into(),
        note_tag: [u8::from(note > 0); 16],
    };
    let now_us = banks[0].now.wall_us;
    let payments = (0..60).map(|_| asked(transfer(of(1, 1), of(2, 1), 2, now_us), 140, 0)).collect();
    assert!(matches!(banks[0].ask(operator(), Body::Transfers(payments)), Reply::Transfers(_)));
    banks[0].settle();
    let message = banks[0].branch.take_message().unwrap();
    // Notes that leave room for a few of the references, in the batch into which the run comes.
    let notes = (0..62).map(|_| asked(transfer(till(2), of(2, 2), 1, now_us), 0, 4_096)).collect();
    let slot = banks[1].submit(operator(), Body::Transfers(notes));
    deliver(&banks, message);
    banks[1].settle();
    assert!(matches!(slot.take(), Some(Reply::Transfers(_))));
    let cut = coverage::take().into_iter().find(|(mark, _)| *mark == Mark::PaymentsCutShort);
    assert_eq!(cut, Some((Mark::PaymentsCutShort, 1)));
    let received = banks[1].branch.book().unwrap().channel(1).unwrap().incoming.received;
    assert!((1..60).contains(&received), "some found room: {received}");
    carry(&mut banks);
    assert_eq!(banks[1].balance(of(2, 1)), i128::from(EACH) + 120);
    check_all(&banks);
}

#[test]
fn a_restored_branch_is_found_by_the_first_message_that_knows_more() {
    let storage = FaultStorage::new(1);
    let mut banks = vec![founded(1, &storage), founded(2, &FaultStorage::new(2))];
    carry(&mut banks);
    let now_us = banks[0].now.wall_us;
    // Its numbers go on from an older state: another payment has the number of one that was settled.
    for amount in [5, 6] {
        banks[0].packed(&[transfer(of(1, 1), of(2, 2), amount, now_us)]);
        carry(&mut banks);
    }
    let told = banks[1].branch.book().unwrap().channel(1).unwrap().incoming.hash;
    let header = Header { from: 2, to: 1, incarnation: 1, to_incarnation: 1 };
    let outcomes = |hash| Outcomes { first: 3, received: 3, hash, again: false, outcomes: vec![0] };
    banks[0].packed(&[transfer(of(1, 1), of(2, 2), 7, now_us)]);
    banks[0].settle();
    let bytes = header.seal(&Said::Outcomes(outcomes(told)), &options().gateway);
    banks[0].branch.deliver(bytes, banks[0].now).unwrap();
    banks[0].settle();
    // Nothing settles by another's outcome: its journal is not what it was.
    let sick = |bank: &Stepped<FaultStorage>| match bank.branch.condition() {
        Condition::Sick(why) => why.clone(),
        other => panic!("{other:?}"),
    };
    let why = sick(&banks[0]);
    assert!(why.starts_with("journal_rewound: branch 2 has payments of this branch up to 3"), "{why}");
    // And who has received less than its sender is done with has lost something itself.
    let run = Run { first: 9, done: 8, ..Run::default() };
    let payment = Payment::of(&transfer_moved(of(1, 1), of(2, 2)));
    let run = Run { payments: vec![payment], ..run };
    let header = Header { from: 1, to: 2, incarnation: 1, to_incarnation: 1 };
    let bytes = header.seal(&Said::Payments(run), &options().gateway);
    banks[1].branch.deliver(bytes, banks[1].now).unwrap();
    banks[1].settle();
    let why = sick(&banks[1]);
    assert!(why.contains("up to 8") && why.contains("has them up to 2"), "{why}");
}

fn transfer_moved(debit: AccountRef, credit: AccountRef) -> Moved {
    Moved {
        kind: MovedKind::Posted,
        id: TransferId(7 << 76 | 1),
        debit,
        credit,
        amount: 1,
        currency: cny(),
        code: 0,
        flags: Flags::default(),
        reference: [0; 16],
        related: TransferId::NONE,
        expires_s: 0,
        time_us: 0,
        business_date: skerry_money::Date(20_000),
        value_date: skerry_money::Date(20_000),
        imported_us: 0,
        digest: 0,
    }
}
