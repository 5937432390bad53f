//! A branch that was put back to an old backup: its peers show it, a loss is declared, what they hold is taken back, and
//! the channels go on; what nobody holds is gone.

use skerry_branch::Condition;
use skerry_branch::OpenFailure;
use skerry_branch::api::{Body, PaymentState, Reply};
use skerry_branch::channels::coverage::{self, Mark};
use skerry_branch::channels::message::{Header, Said};
use skerry_journal::storage::{read_whole, replace_whole};
use skerry_journal::{FaultStorage, LocalStore, Mode, Storage};
use skerry_ledger::{AccountRef, Flags, Transfer};

use super::common::*;
use super::{EACH, carry, check_all, founded, of, options_of, payment};
use skerry_book::channel::{position, transit};

type Files = Vec<(String, Vec<u8>)>;

fn files(folder: &FaultStorage) -> Files {
    let names = folder.list().unwrap().into_iter();
    names.map(|name| (name.clone(), read_whole(folder, &name).unwrap())).collect()
}

fn put(folder: &FaultStorage, files: &Files) {
    for name in folder.list().unwrap() {
        folder.remove(&name).unwrap();
    }
    for (name, bytes) in files {
        replace_whole(folder, name, bytes).unwrap();
    }
}

/// Two branches that have paid each other, and the journal of the first as it was then.
fn paired() -> (Vec<Stepped<FaultStorage>>, Files) {
    let mut banks = vec![founded(1, &FaultStorage::new(1)), founded(2, &FaultStorage::new(2))];
    carry(&mut banks);
    pay(&mut banks, 0, of(1, 1), of(2, 1), 10);
    pay(&mut banks, 1, of(2, 2), of(1, 2), 20);
    carry(&mut banks);
    let backup = back_up(&mut banks[0]);
    (banks, backup)
}

/// The bank is closed for it, and open again.
fn back_up(bank: &mut Stepped<FaultStorage>) -> Files {
    bank.settle();
    bank.branch.close(bank.now);
    let backup = files(&bank.storage.folder("journal").unwrap());
    bank.open().unwrap();
    bank.branch.know(&[1, 2]);
    backup
}

fn pay(
    banks: &mut [Stepped<FaultStorage>],
    at: usize,
    from: AccountRef,
    to: AccountRef,
    amount: u64,
) -> Transfer {
    let one = transfer(from, to, amount, banks[at].now.wall_us);
    assert_eq!(banks[at].packed(&[one])[0].code, skerry_book::packed::SENT);
    one
}

/// Puts the backup onto a machine that has nothing else but the keys.
fn move_to_empty(banks: &mut [Stepped<FaultStorage>], backup: &Files) {
    let (now, old) = (banks[0].now, banks[0].storage.clone());
    banks[0].branch.close(now);
    let storage = FaultStorage::new(77);
    put(&storage.folder("keys").unwrap(), &files(&old.folder("keys").unwrap()));
    put(&storage.folder("journal").unwrap(), backup);
    banks[0] = Stepped { now, openings: 50, ..Stepped::with(&storage, options_of(1)) };
}

fn declare(bank: &mut Stepped<FaultStorage>) {
    let options =
        skerry_journal::LocalOptions { branch: 1, accept_loss: true, ..local_options(Mode::Stepped) };
    let storage = bank.storage.folder("journal").unwrap();
    let cold = Some(bank.storage.folder("cold").unwrap());
    bank.branch.declare_loss(LocalStore { storage, options, cold }, bank.now, [99; 32]).unwrap();
    bank.branch.know(&[1, 2]);
}

/// Carries everything, with time for what is said again.
fn come_to_rest(banks: &mut [Stepped<FaultStorage>]) {
    for _ in 0..6 {
        carry(banks);
        banks.iter_mut().for_each(|bank| bank.pass_us(1_100_000));
    }
    carry(banks);
    check_all(banks);
    for (one, other) in [(0, 1), (1, 0)] {
        let (here, there) = (banks[one].branch.book().unwrap(), banks[other].branch.book().unwrap());
        let channel = here.channel(there.branch()).unwrap();
        assert!(!channel.is_stopped() && !channel.resuming, "it goes on: {channel:?}");
        assert_eq!(channel.incarnation, there.incarnation());
        assert_eq!(channel.outgoing.sent, channel.outgoing.done);
        let balance = |book: &skerry_book::Book, head| book.account(head).map_or(0, |head| head.balance());
        assert_eq!(balance(here, transit(here.branch(), there.branch(), cny())), 0);
        let between = balance(here, position(here.branch(), there.branch(), cny()));
        assert_eq!(between, -balance(there, position(there.branch(), here.branch(), cny())));
    }
}

fn hits(mark: Mark) -> u64 {
    coverage::take().into_iter().find(|(found, _)| *found == mark).map_or(0, |(_, hits)| hits)
}

/// What both branches' customers have.
fn balances(banks: &mut [Stepped<FaultStorage>]) -> Vec<i128> {
    let accounts = [(0, of(1, 1)), (0, of(1, 2)), (0, of(1, 3)), (1, of(2, 1)), (1, of(2, 2)), (1, of(2, 3))];
    accounts.map(|(at, account)| banks[at].balance(account)).into()
}

#[test]
fn a_branch_put_back_on_its_own_machine_takes_back_what_its_peer_holds() {
    let (mut banks, backup) = paired();
    let far = pay(&mut banks, 0, of(1, 1), of(2, 99), 7);
    let paid = pay(&mut banks, 0, of(1, 1), of(2, 1), 30);
    let came = pay(&mut banks, 1, of(2, 2), of(1, 3), 40);
    carry(&mut banks);
    let back = Transfer {
        flags: Flags::REVERSAL,
        related: came.id,
        ..transfer(AccountRef::default(), of(2, 2), 0, banks[0].now.wall_us)
    };
    assert_eq!(banks[0].packed(&[back])[0].code, skerry_book::packed::SENT);
    carry(&mut banks);
    let before = balances(&mut banks);
    // Nobody else knows of this one.
    let now_us = banks[0].now.wall_us;
    assert_eq!(banks[0].packed(&[transfer(of(1, 1), of(1, 2), 5, now_us)])[0].code, 0);
    let now = banks[0].now;
    banks[0].branch.mark(now, true);
    banks[0].settle();
    banks[0].branch.close(now);
    put(&banks[0].storage.folder("journal").unwrap(), &backup);
    let failure = banks[0].open().unwrap_err();
    assert!(matches!(failure, OpenFailure::Rewound { .. }), "{failure}");
    declare(&mut banks[0]);
    let refused = banks[0].packed(&[transfer(of(1, 1), of(2, 1), 1, now_us)])[0];
    assert_eq!(refused.code, 4013, "nothing is sent before both know the same");
    come_to_rest(&mut banks);
    assert_eq!(balances(&mut banks), before, "all but what nobody else knew");
    assert_eq!(payment(&mut banks[0], paid.id).state, PaymentState::Settled);
    let PaymentState::Returned { outcome, to, .. } = payment(&mut banks[0], far.id).state else {
        panic!("it was refused")
    };
    assert_eq!((outcome, to), (1081, of(1, 1)));
    assert_eq!(payment(&mut banks[0], back.id).state, PaymentState::Settled);
    let again = Transfer { id: id_at(banks[0].now.wall_us), ..back };
    assert_eq!(
        banks[0].packed(&[again])[0].code,
        1068,
        "what was reversed before the loss is not reversed again"
    );
    pay(&mut banks, 0, of(1, 1), of(2, 1), 3);
    pay(&mut banks, 1, of(2, 1), of(1, 1), 4);
    come_to_rest(&mut banks);
    assert_eq!(banks[0].branch.book().unwrap().incarnation(), 2);
}

#[test]
fn a_branch_put_back_unnoticed_is_shown_its_loss_and_does_not_open_until_it_is_declared() {
    drop(coverage::take());
    let (mut banks, backup) = paired();
    pay(&mut banks, 0, of(1, 1), of(2, 1), 30);
    carry(&mut banks);
    let before = balances(&mut banks);
    move_to_empty(&mut banks, &backup);
    banks[0].open().unwrap();
    banks[0].branch.know(&[1, 2]);
    carry(&mut banks);
    let Condition::Sick(why) = banks[0].branch.condition().clone() else { panic!("it is shown its loss") };
    assert!(why.starts_with("journal_rewound: branch 2 has payments of this branch up to 2"), "{why}");
    assert!(matches!(banks[0].ask(operator(), Body::Checkpoint), Reply::Busy(_)));
    for _ in 0..2 {
        let failure = banks[0].open().unwrap_err();
        assert!(matches!(failure, OpenFailure::PeerAhead { peer: 2, told: 2, known: 1, .. }), "{failure}");
    }
    declare(&mut banks[0]);
    come_to_rest(&mut banks);
    assert_eq!(balances(&mut banks), before);
    assert_eq!(hits(Mark::LossFound), 1);
    let now = banks[0].now;
    banks[0].branch.close(now);
    banks[0].open().unwrap();
    banks[0].branch.know(&[1, 2]);
    come_to_rest(&mut banks);
}

#[test]
fn a_branch_that_is_greeted_before_it_greets_is_shown_its_loss_too() {
    let (mut banks, backup) = paired();
    pay(&mut banks, 0, of(1, 1), of(2, 1), 30);
    carry(&mut banks);
    move_to_empty(&mut banks, &backup);
    banks[0].open().unwrap();
    banks[0].branch.know(&[1, 2]);
    // It asks nobody then: it says where it stands, and the other sees that this is less than it once was.
    let header = Header { from: 2, to: 1, incarnation: 1, to_incarnation: 1 };
    let greeting = header.seal(&Said::Hello, &options().gateway);
    banks[0].branch.deliver(greeting, banks[0].now).unwrap();
    carry(&mut banks);
    let condition = banks[0].branch.condition();
    assert!(matches!(condition, Condition::Sick(why) if why.starts_with("journal_rewound")), "{condition:?}");
}

#[test]
fn numbers_given_twice_are_found_and_the_later_payments_withdrawn() {
    drop(coverage::take());
    let (mut banks, backup) = paired();
    for amount in [30, 31] {
        pay(&mut banks, 0, of(1, 1), of(2, 1), amount);
    }
    carry(&mut banks);
    let before = balances(&mut banks);
    move_to_empty(&mut banks, &backup);
    banks[0].open().unwrap();
    banks[0].branch.know(&[1, 2]);
    // Before anybody is heard: other payments under the lost ones' numbers, and beyond.
    let others: Vec<Transfer> =
        (0..3).map(|amount| pay(&mut banks, 0, of(1, 3), of(2, 3), 100 + amount)).collect();
    come_to_be_sick(&mut banks);
    declare(&mut banks[0]);
    come_to_rest(&mut banks);
    assert_eq!(balances(&mut banks), before, "those of after the loss were never delivered");
    assert_eq!(hits(Mark::PaymentWithdrawn), 3);
    for other in others {
        let seen = payment(&mut banks[0], other.id);
        let PaymentState::Returned { outcome, to, .. } = seen.state else { panic!("{seen:?}") };
        assert_eq!((outcome, to), (4016, of(1, 3)));
    }
}

fn come_to_be_sick(banks: &mut [Stepped<FaultStorage>]) {
    for _ in 0..4 {
        carry(banks);
        banks.iter_mut().for_each(|bank| bank.pass_us(1_100_000));
    }
    let condition = banks[0].branch.condition();
    assert!(matches!(condition, Condition::Sick(why) if why.starts_with("journal_rewound")), "{condition:?}");
}

#[test]
fn what_has_no_account_any_more_is_booked_where_an_operator_finds_it() {
    drop(coverage::take());
    let (mut banks, backup) = paired();
    banks[0].command(open_account(1));
    pay(&mut banks, 1, of(2, 1), of(1, 4), 500);
    carry(&mut banks);
    pay(&mut banks, 0, of(1, 4), of(2, 2), 120);
    carry(&mut banks);
    let before = balances(&mut banks);
    move_to_empty(&mut banks, &backup);
    banks[0].open().unwrap();
    banks[0].branch.know(&[1, 2]);
    come_to_be_sick(&mut banks);
    declare(&mut banks[0]);
    come_to_rest(&mut banks);
    assert_eq!(balances(&mut banks), before);
    let unapplied = AccountRef::head(1, 2902, cny());
    assert_eq!(banks[0].branch.book().unwrap().account(unapplied).unwrap().balance(), 380);
    assert_eq!(hits(Mark::Unapplied), 2);
}

#[test]
fn a_long_loss_is_told_page_by_page_and_over_a_frozen_account() {
    drop(coverage::take());
    let (mut banks, backup) = paired();
    let sides = skerry_ledger::Sides { debit: true, credit: true };
    for round in 0..5 {
        let now_us = banks[0].now.wall_us;
        let long = |transfer: Transfer| skerry_branch::api::Asked {
            transfer,
            reference: format!("{round} {}", "r".repeat(100)).into(),
            note: Box::default(),
            note_tag: [0; 16],
        };
        for at in [0, 1] {
            let (from, to) = ([of(1, 1), of(2, 1)][at], [of(2, 3), of(1, 3)][at]);
            let many = (0..300).map(|_| long(transfer(from, to, 1, now_us))).collect();
            assert!(matches!(banks[at].ask(operator(), Body::Transfers(many)), Reply::Transfers(_)));
        }
        carry(&mut banks);
    }
    let before = balances(&mut banks);
    move_to_empty(&mut banks, &backup);
    banks[0].open().unwrap();
    let freeze = skerry_book::command::Freeze { account: of(1, 3), sides, reason: 1 };
    banks[0].command(skerry_book::Command::Freeze(freeze));
    banks[0].branch.know(&[1, 2]);
    come_to_be_sick(&mut banks);
    declare(&mut banks[0]);
    come_to_rest(&mut banks);
    assert_eq!(balances(&mut banks), before, "a freeze keeps nothing away that has happened");
    assert!(hits(Mark::Retelling) > 2, "it takes several pages");
    let received = banks[0].branch.book().unwrap().channel(2).unwrap().incoming.received;
    assert_eq!(received, 1_501);
    assert_eq!(i128::from(EACH) + 1_500, before[2]);
}

#[test]
fn what_finds_no_room_in_the_batch_is_asked_for_again() {
    drop(coverage::take());
    let (mut banks, backup) = paired();
    let now_us = banks[0].now.wall_us;
    let text = |transfer: Transfer, length: usize, note: usize| skerry_branch::api::Asked {
        transfer,
        reference: "r".repeat(length).into(),
        note: vec![7; note].into(),
        note_tag: [u8::from(note > 0); 16],
    };
    let many = (0..60).map(|_| text(transfer(of(1, 1), of(2, 3), 1, now_us), 140, 0)).collect();
    assert!(matches!(banks[0].ask(operator(), Body::Transfers(many)), Reply::Transfers(_)));
    carry(&mut banks);
    let before = balances(&mut banks);
    move_to_empty(&mut banks, &backup);
    banks[0].open().unwrap();
    banks[0].branch.know(&[1, 2]);
    come_to_be_sick(&mut banks);
    declare(&mut banks[0]);
    let mut notes = 0;
    loop {
        banks.iter_mut().for_each(Stepped::settle);
        let words: Vec<_> =
            banks.iter_mut().flat_map(|bank| std::iter::from_fn(|| bank.branch.take_message())).collect();
        if words.is_empty() {
            break;
        }
        for word in words {
            let Some(to) = banks.get_mut(usize::from(word.to) - 1) else { continue };
            if word.to == 1 && word.bytes[6] == 7 && notes == 0 {
                // Notes that leave room for a few of the references, in the batch into which the page comes.
                let full =
                    (0..62).map(|_| text(transfer(super::till(1), of(1, 2), 1, now_us), 0, 4_096)).collect();
                drop(to.submit(operator(), Body::Transfers(full)));
                notes = 62;
            }
            let _ = to.branch.deliver(word.bytes, to.now);
        }
    }
    assert!(hits(Mark::RetoldCutShort) > 0);
    come_to_rest(&mut banks);
    let mut after = balances(&mut banks);
    after[1] -= notes;
    assert_eq!(after, before);
}
