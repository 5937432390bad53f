//! A branch serves: what is asked is answered once, truly, and not before it is durable.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use common::*;
use skerry_book::Rejection;
use skerry_branch::api::{Answer, Asked, Body, Denied, Malformed, Read, Reply, Role, Scope};
use skerry_journal::FaultStorage;
use skerry_ledger::{Flags, MovedKind, Rejection as LedgerRejection, Transfer, TransferId};

fn small_bank(storage: &FaultStorage) -> Stepped<FaultStorage> {
    let mut bank = Stepped::opened(storage);
    bank.found(3, 1_000);
    bank
}

#[test]
fn money_moves_and_everything_is_still_there_after_reopening() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let outcomes = bank.packed(&[
        transfer(account(1), account(2), 300, now),
        transfer(account(1), account(3), 701, now),
        transfer(account(2), account(3), 1_300, now),
    ]);
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.code).collect::<Vec<_>>(),
        [0, LedgerRejection::InsufficientFunds { have: 0, need: 0 }.code(), 0]
    );
    assert_eq!(outcomes[2].position, outcomes[0].position + 2, "the refusal is journaled between them");
    let image = bank.image();
    bank.branch.close(bank.now);
    bank.open().unwrap();
    assert_eq!(bank.image(), image);
    assert_eq!(bank.balance(account(3)), 2_300);
    assert_eq!(bank.balance(cash()), -3_000);
}

#[test]
fn no_reply_leaves_before_its_batch_is_durable_reads_included() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let paid = bank.submit(operator(), Body::Packed(pack(&[transfer(account(1), account(2), 5, now)])));
    let seen = bank.submit(operator(), Body::Read(Read::Account(account(2))));
    bank.branch.turn(bank.now);
    bank.branch.turn(bank.now);
    assert!(paid.take().is_none());
    assert!(seen.take().is_none(), "the read saw what is not durable yet");
    assert!(bank.branch.step_journal());
    bank.branch.turn(bank.now);
    assert!(matches!(paid.take(), Some(Reply::Packed(_))));
    let Some(Reply::Answer(Answer::Account(view))) = seen.take() else { panic!("the read is answered") };
    assert_eq!(view.account.balance(), 1_005);
}

#[test]
fn a_batch_fills_while_another_is_in_flight() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let before = bank.branch.reader_head().batch;
    let mut slots = Vec::new();
    for _ in 0..10 {
        slots.push(bank.submit(operator(), Body::Packed(pack(&[transfer(account(1), account(2), 1, now)]))));
        bank.branch.turn(bank.now);
    }
    bank.settle();
    assert!(slots.iter().all(|slot| slot.take().is_some()));
    assert_eq!(bank.branch.reader_head().batch - before, 2, "the first went alone, the other nine together");
}

#[test]
fn a_retry_gets_the_first_answer_in_flight_filling_and_durable() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let one = transfer(account(1), account(2), 5, bank.now.wall_us);
    let first = bank.submit(operator(), Body::Packed(pack(&[one, one])));
    bank.branch.turn(bank.now);
    // In flight now; the retry must wait for it rather than guess.
    let second = bank.submit(operator(), Body::Packed(pack(&[one])));
    bank.branch.turn(bank.now);
    bank.settle();
    let third = bank.packed(&[one]);
    let answer = |slot: &Slot| match slot.take() {
        Some(Reply::Packed(packed)) => unpack(&packed.results),
        other => panic!("{other:?}"),
    };
    let first = answer(&first);
    assert_eq!(first[0], first[1]);
    assert_eq!(first[0].code, 0);
    assert_eq!(answer(&second), [first[0]]);
    assert_eq!(third, [first[0]]);
    assert_eq!(bank.balance(account(2)), 1_005);
    let other = Transfer { amount: 6, ..one };
    assert_eq!(bank.packed(&[other])[0].code, LedgerRejection::IdReused.code());
}

#[test]
fn an_id_once_refused_stays_refused() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let much = transfer(account(1), account(2), 5_000, now);
    let refused = bank.packed(&[much])[0];
    assert_ne!(refused.code, 0);
    assert_eq!(bank.packed(&[transfer(cash(), account(1), 9_000, now)])[0].code, 0);
    let again = bank.packed(&[much])[0];
    assert_ne!(again.code, 0, "there is money now, but the id was used up");
    assert_eq!(bank.balance(account(2)), 1_000);
}

#[test]
fn holds_post_void_and_expire_across_batches() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let hold = |timeout_seconds| Transfer {
        flags: Flags::PENDING,
        timeout_seconds,
        ..transfer(account(1), account(2), 100, now)
    };
    let (posted, voided, expiring) = (hold(0), hold(0), hold(60));
    assert!(bank.packed(&[posted, voided, expiring]).iter().all(|outcome| outcome.code == 0));
    let resolve = |flags, related: TransferId, amount| Transfer {
        id: id_at(now),
        flags,
        related,
        amount,
        ..Transfer::default()
    };
    // Both in one request, while nothing of it is durable: the second post of a hold is told how it ended.
    let outcomes = bank.packed(&[
        resolve(Flags::POST, posted.id, 40),
        resolve(Flags::POST, posted.id, 40),
        resolve(Flags::VOID, voided.id, 0),
    ]);
    let already = LedgerRejection::HoldAlreadyPosted.code();
    assert_eq!(outcomes.iter().map(|outcome| outcome.code).collect::<Vec<_>>(), [0, already, 0]);
    assert_eq!(bank.account(account(1)).debits_pending, 100);
    bank.pass_us(61_000_000);
    bank.settle();
    let after = bank.account(account(1));
    assert_eq!((after.debits_pending, after.debits_posted), (0, 40));
    assert_eq!(bank.balance(account(2)), 1_040);
    let late = Transfer {
        id: id_at(bank.now.wall_us),
        flags: Flags::POST,
        related: expiring.id,
        ..Transfer::default()
    };
    assert_ne!(bank.packed(&[late])[0].code, 0);
}

#[test]
fn a_chain_is_all_or_nothing_and_its_retry_too() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let linked = |transfer: Transfer| Transfer { flags: transfer.flags.with(Flags::LINKED), ..transfer };
    let good =
        [linked(transfer(account(1), account(2), 10, now)), transfer(account(2), account(3), 1_010, now)];
    assert!(bank.packed(&good).iter().all(|outcome| outcome.code == 0));
    assert_eq!(bank.packed(&good), bank.packed(&good));
    let bad = [linked(transfer(account(1), account(2), 10, now)), transfer(account(2), account(3), 11, now)];
    let outcomes = bank.packed(&bad);
    assert_eq!(outcomes[0].code, LedgerRejection::LinkedTransferFailed.code());
    assert_eq!(outcomes[1].code, LedgerRejection::InsufficientFunds { have: 0, need: 0 }.code());
    assert_eq!(bank.balance(account(1)), 990);
}

#[test]
fn transfers_with_texts_keep_them_and_packed_retries_agree() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let plain = transfer(account(1), account(2), 5, bank.now.wall_us);
    let long = Asked {
        transfer: transfer(account(1), account(2), 6, bank.now.wall_us),
        reference: "an invoice whose number is longer than sixteen bytes".into(),
        note: Box::from(*b"ciphertext"),
        note_tag: [3; 16],
    };
    let body = || Body::Transfers(vec![Asked { transfer: plain, ..Asked::default() }, long.clone()]);
    let first = bank.ask(operator(), body());
    let Reply::Transfers(first) = first else { panic!("{first:?}") };
    assert!(first.iter().all(|outcome| {
        outcome.is_ok_and(|accepted| !accepted.repeated && accepted.kind == MovedKind::Posted)
    }));
    let Reply::Transfers(again) = bank.ask(operator(), body()) else { panic!() };
    assert!(again.iter().all(|outcome| outcome.is_ok_and(|accepted| accepted.repeated)));
    assert_eq!(
        bank.packed(&[plain])[0].position,
        first[0].unwrap().position,
        "the same request in another dress"
    );
    let image = bank.image();
    bank.branch.close(bank.now);
    bank.open().unwrap();
    assert_eq!(bank.image(), image);
}

#[test]
fn customers_touch_only_what_is_theirs_and_auditors_nothing() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let now = bank.now.wall_us;
    let customer = actor("app", Role::Customer);
    let scope = Scope { customer: Some(1) };
    let mut ask = |scope: Scope, body: Body| {
        let slot = Slot::default();
        let into = slot.clone();
        let mut request = request(customer, body, move |reply| into.put(reply));
        request.scope = scope;
        request.mac = options().gateway.authenticate(&customer, scope, 0);
        bank.branch.submit(request, bank.now).map_err(|_| "busy").unwrap();
        bank.settle();
        slot.take().unwrap()
    };
    let pay = |from, to| Body::Packed(pack(&[transfer(from, to, 1, now)]));
    assert!(matches!(ask(scope, pay(account(1), account(2))), Reply::Packed(packed) if packed.accepted == 1));
    assert!(matches!(ask(scope, pay(account(2), account(1))), Reply::Denied(Denied::Scope)));
    assert!(matches!(ask(Scope::default(), pay(account(1), account(2))), Reply::Denied(Denied::Scope)));
    assert!(matches!(ask(scope, Body::Read(Read::Account(account(1)))), Reply::Answer(Answer::Account(_))));
    assert!(matches!(ask(scope, Body::Read(Read::Account(account(2)))), Reply::Denied(Denied::Scope)));
    assert!(matches!(ask(scope, Body::Read(Read::Status)), Reply::Denied(Denied::Scope)));
    let open = Body::Command { command: Box::new(open_account(1)), key: None };
    assert!(matches!(ask(scope, open), Reply::Denied(Denied::Role)));
    let auditor = actor("auditor", Role::Auditor);
    let Reply::Packed(packed) = bank.ask(auditor, pay(account(1), account(2))) else { panic!() };
    assert_eq!(unpack(&packed.results)[0].code, Rejection::RoleNotAllowed.code());
}

#[test]
fn what_the_gateway_did_not_sign_or_is_late_or_malformed_does_nothing() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    let position = bank.branch.book().unwrap().position();
    let body = || Body::Packed(pack(&[transfer(account(1), account(2), 1, NOON_US)]));
    let mut ask = |change: &dyn Fn(&mut skerry_branch::Request)| {
        let slot = Slot::default();
        let into = slot.clone();
        let mut request = request(operator(), body(), move |reply| into.put(reply));
        change(&mut request);
        bank.branch.submit(request, bank.now).map_err(|_| "busy").unwrap();
        bank.settle();
        slot.take().unwrap()
    };
    assert!(matches!(ask(&|request| request.mac[3] ^= 1), Reply::Denied(Denied::Authentication)));
    assert!(matches!(
        ask(&|request| request.scope.customer = Some(1)),
        Reply::Denied(Denied::Authentication)
    ));
    let late = |request: &mut skerry_branch::Request| {
        request.deadline_us = NOON_US - 1;
        request.mac = options().gateway.authenticate(&request.actor, request.scope, request.deadline_us);
    };
    assert!(matches!(ask(&late), Reply::Expired));
    assert!(matches!(
        ask(&|request| request.body = Body::Packed(vec![0; 95].into())),
        Reply::Malformed(Malformed::Length)
    ));
    let many = vec![0; 96 * 8190];
    assert!(matches!(
        ask(&|request| request.body = Body::Packed(many.clone().into())),
        Reply::Malformed(Malformed::TooMany { max: 8189 })
    ));
    let mut odd = pack(&[transfer(account(1), account(2), 1, NOON_US); 2]).to_vec();
    odd[96 + 95] = 1;
    assert!(matches!(
        ask(&|request| request.body = Body::Packed(odd.clone().into())),
        Reply::Malformed(Malformed::Transfer { index: 1, field: "reserved" })
    ));
    assert_eq!(bank.branch.book().unwrap().position(), position);
}

#[test]
fn days_open_by_themselves_and_end_their_batch() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    bank.pass_us(DAY_US / 2 - 1);
    bank.settle();
    assert_eq!(bank.branch.book().unwrap().day().unwrap().to_string(), "2026-01-05");
    bank.pass_us(1);
    let now = bank.now.wall_us;
    let outcome = bank.packed(&[transfer(account(1), account(2), 1, now)])[0];
    assert_eq!(
        bank.branch.book().unwrap().day().unwrap().to_string(),
        "2026-01-06",
        "the cutoff is the new day's"
    );
    let stored = skerry_journal::JournalReader::read_record(
        &bank.branch.reader().unwrap(),
        skerry_journal::Position(outcome.position),
    );
    assert_eq!(skerry_money::Date(stored.unwrap().header.business_date).to_string(), "2026-01-06");
}

#[test]
fn a_jumping_clock_stops_stamping_until_it_is_confirmed() {
    let storage = FaultStorage::new(1);
    let mut bank = small_bank(&storage);
    bank.now.wall_us += 3_600_000_000;
    let pay = || Body::Packed(pack(&[transfer(account(1), account(2), 1, NOON_US)]));
    assert!(matches!(bank.ask(operator(), pay()), Reply::Busy(_)));
    assert_eq!(bank.branch.clock_jumped().unwrap().by_us, 3_600_000_000);
    bank.branch.confirm_clock(bank.now);
    assert!(matches!(bank.ask(operator(), pay()), Reply::Packed(packed) if packed.accepted == 1));
}

#[test]
fn a_full_batch_goes_through_at_once_and_another_waits_its_turn() {
    let storage = FaultStorage::new(1);
    let mut bank = Stepped::opened(&storage);
    bank.found(50, 1_000_000);
    let now = bank.now.wall_us;
    let batch = |seed: u64| -> Vec<Transfer> {
        (0..8189)
            .map(|n| transfer(account((n + seed) % 50 + 1), account((n * 7 + seed + 1) % 50 + 1), 1, now))
            .collect()
    };
    let slots: Vec<Slot> =
        (0..5).map(|seed| bank.submit(operator(), Body::Packed(pack(&batch(seed))))).collect();
    bank.settle();
    for slot in slots {
        let Some(Reply::Packed(packed)) = slot.take() else { panic!() };
        let same_account = unpack(&packed.results).iter().filter(|outcome| outcome.code != 0).count();
        assert_eq!(u32::try_from(same_account).unwrap() + packed.accepted, 8189);
        assert!(packed.accepted > 7_000);
    }
    skerry_book::invariants::check(bank.branch.book().unwrap()).unwrap();
}
