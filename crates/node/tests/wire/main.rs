//! Whatever is said between gateway and branch arrives as it was said; and what is no such word is refused with its reason.
#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod commands;

use bytes::Bytes;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skerry_book::event::Incarnated;
use skerry_book::policy::{Matter, Matters, Policy, Proposal};
use skerry_book::{Cause, Chart, ChartFault, Done, Event, Rejection};
use skerry_branch::api::{
    Accepted, Actor, Answer, Asked, Body, Busy, BusyReason, ChannelView, Commanded, CustomerLine, Denied,
    GatewayKey, Malformed, Packed, PaymentState, PaymentView, Principal, Read, Reply, Role, Scope,
};
use skerry_branch::evidence::receipts::Recorded;
use skerry_branch::history::{
    AsOf, Cursor, Day, DayBy, Entry, Found, Kinds, Order, Page, Query, Range, Side, Totals,
};
use skerry_branch::keys::{KeyError, KeyRef};
use skerry_branch::meters::{Histogram, Kind, Meter};
use skerry_ledger::{AccountRef, Flags, Imported, Moved, MovedKind, Stamp, Transfer, TransferId};
use skerry_money::{Currency, Date};
use skerry_node::remote::wire::{
    self, Ask, AskFrame, Here, KeyFault, KeyHistoryText, RecordedBytes, Submit, Told, ToldFrame, WireError,
    Word,
};
use skerry_node::{Before, Health, Trouble};
use skerry_proof::{Ed25519Signer, KeyHistory, Rotation, Signer as _};

fn key() -> GatewayKey {
    GatewayKey::new([7; 32])
}

/// The body of a word, which the bytes of another must equal if they say the same.
fn there_and_back<W: Word>(word: &W) -> W {
    let bytes = wire::encode(word, &key());
    let read: W = wire::decode(&bytes, &key()).expect("what is said can be read");
    assert_eq!(wire::encode(&read, &key()), bytes, "what is read is said the same");
    read
}

fn ask(ask: Ask) -> AskFrame {
    there_and_back(&AskFrame { branch: 7, nonce: u128::MAX, until_us: 9, ask })
}

fn told(told: Told) -> Told {
    there_and_back(&ToldFrame { branch: 7, nonce: 1, epoch: 2, position: 3, covered: 4, told }).told
}

/// A value of any kind, as it is inside of words.
fn same<T: Serialize + DeserializeOwned + std::fmt::Debug>(value: &T) {
    let bytes = rmp_serde::to_vec_named(value).unwrap();
    let read: T = rmp_serde::from_slice(&bytes).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(format!("{read:?}"), format!("{value:?}"));
}

fn actor() -> Actor {
    let principal = Principal::new("柜员-1").unwrap();
    let approver = Principal::new("chief");
    Actor { principal, role: Role::Service, request: [0xfe; 16], approver, cause: Cause::Import }
}

fn submit(body: Body) -> Body {
    let said = format!("{body:?}");
    let scope = Scope { customer: Some(u32::MAX) };
    let submit = Submit { actor: actor(), scope, deadline_us: u64::MAX, mac: [9; 16], body };
    let Ask::Submit(read) = ask(Ask::Submit(Box::new(submit))).ask else { panic!("it stays what it is") };
    assert_eq!((read.actor, read.scope, read.deadline_us, read.mac), (actor(), scope, u64::MAX, [9; 16]));
    assert_eq!(format!("{:?}", read.body), said);
    read.body
}

fn reply(reply: Reply) {
    let said = format!("{reply:?}");
    let Told::Reply(read) = told(Told::Reply(Box::new(reply))) else { panic!("it stays what it is") };
    assert_eq!(format!("{read:?}"), said);
}

fn at() -> Stamp {
    Stamp { time_us: 1_767_614_400_000_000, business_date: Date(20_458) }
}

fn moved() -> Moved {
    Moved {
        kind: MovedKind::HoldPosted,
        id: TransferId(u128::MAX),
        debit: AccountRef::customer(7, 1),
        credit: AccountRef::head(7, 2001, Currency::CNY),
        amount: u64::MAX,
        currency: Currency::CNY,
        code: 9,
        flags: Flags::POST,
        reference: *b"0123456789abcdef",
        related: TransferId(3),
        expires_s: 0,
        time_us: at().time_us,
        business_date: at().business_date,
        value_date: Date(-1),
        imported_us: 0,
        digest: 77,
    }
}

#[test]
fn every_command_arrives_as_it_was_sent() {
    let mut names = std::collections::BTreeSet::new();
    for command in commands::all() {
        names.insert(command.name());
        let key = Some(vec![0xee; 255].into());
        let Body::Command { command: read, key } =
            submit(Body::Command { command: Box::new(command.clone()), key })
        else {
            panic!("it stays a command")
        };
        assert_eq!((*read, key.unwrap().len()), (command, 255));
    }
    assert_eq!(names.len(), 25, "one of each: {names:?}");
}

#[test]
fn every_rejection_arrives_with_its_figures() {
    let figured = [
        Rejection::Ledger(skerry_ledger::Rejection::RefusedBefore {
            code: 1111,
            have: i128::MIN,
            need: u128::MAX,
        }),
        Rejection::Ledger(skerry_ledger::Rejection::InsufficientFunds { have: i128::MIN, need: u64::MAX }),
        Rejection::RetentionNotOver { today: -1, until: i32::MAX },
        Rejection::ChartInvalid { fault: ChartFault::HeadCode(u32::MAX) },
    ];
    let ledgers = skerry_ledger::Rejection::ALL.iter().map(|rejection| Rejection::Ledger(*rejection));
    for rejection in ledgers.chain(Rejection::OWN).chain(figured) {
        same(&rejection);
        reply(Reply::Command(Err(rejection)));
    }
}

#[test]
fn every_reply_arrives_as_it_was_given() {
    let busy = |reason| Busy { retry_after_ms: 5, reason };
    let accepted = Accepted {
        position: 1,
        kind: MovedKind::Held,
        debit: AccountRef(2),
        credit: AccountRef(3),
        amount: 4,
        currency: Currency::CNY,
        time_us: 5,
        business_date: Date(6),
        value_date: Date(7),
        repeated: true,
    };
    reply(Reply::Packed(Packed { results: Bytes::from(vec![0xcd; 32 * 100]), accepted: 99 }));
    reply(Reply::Transfers(vec![Ok(accepted), Err(Rejection::CrossesBranches)]));
    for done in [Done::Plain, Done::Customer(1), Done::Account(AccountRef(2))] {
        reply(Reply::Command(Ok(Commanded { done, repeated: false })));
    }
    reply(Reply::Marked);
    reply(Reply::Heard);
    reply(Reply::Malformed(Malformed::Length));
    reply(Reply::Malformed(Malformed::TooMany { max: 8_190 }));
    reply(Reply::Malformed(Malformed::Transfer { index: 1, field: "reserved" }));
    reply(Reply::Unknown);
    reply(Reply::Expired);
    for denied in [Denied::Authentication, Denied::Scope, Denied::Role] {
        reply(Reply::Denied(denied));
    }
    for reason in [BusyReason::Queue, BusyReason::InFlight, BusyReason::Rate, BusyReason::Closed] {
        reply(Reply::Busy(busy(reason)));
        assert!(matches!(told(Told::Busy(busy(reason))), Told::Busy(read) if read == busy(reason)));
    }
    reply(Reply::Archived("档案".into()));
}

#[test]
fn every_answer_arrives_as_it_was_given() {
    let answer = |answer| reply(Reply::Answer(answer));
    let incarnated = Incarnated { at: at(), incarnation: 2, lost_from: 3, lost_to: 4 };
    answer(Answer::NotFound);
    let line = CustomerLine { serial: 1, line: 2, document: [0xff; 32] };
    answer(Answer::Customers { list: vec![line], next: Some(2) });
    for state in [
        PaymentState::Sent,
        PaymentState::Settled,
        PaymentState::Returned { outcome: 1, to: AccountRef(2), time_us: 3, position: 4 },
    ] {
        answer(Answer::Payment(Box::new(PaymentView { moved: moved(), n: 1, position: 2, state })));
    }
    let view = ChannelView {
        incarnation: 1,
        sent: 2,
        done: 3,
        received: 4,
        outgoing_stopped: None,
        incoming_stopped: None,
        resuming: true,
        totals: vec![(156, skerry_book::channel::Totals::default())],
    };
    answer(Answer::Channels(vec![(3, view)]));
    answer(Answer::Losses(vec![incarnated]));
    answer(Answer::Chart(Box::new(Chart::standard())));
    let proposer = Principal::BANK;
    let proposal =
        Proposal { request: [1; 16], matter: Matter::Limits, proposer, approver: None, time_us: 2 };
    answer(Answer::Proposals(vec![proposal]));
    answer(Answer::Policy(Policy::default()));
}

#[test]
fn every_body_and_read_arrives_as_it_was_sent() {
    let read = submit(Body::Packed(Bytes::from(vec![0x90; 96 * 8_190])));
    assert!(matches!(read, Body::Packed(bytes) if bytes.len() == 96 * 8_190));
    let imported = Some(Imported { time_us: 1, business_date: Date(2) });
    let transfer =
        Transfer { amount: u64::MAX, currency: Some(Currency::CNY), imported, ..Transfer::default() };
    let note: Box<[u8]> = vec![0xff; 64].into();
    let asked = Asked { transfer, reference: "发票 1".into(), note, note_tag: [1; 16] };
    submit(Body::Transfers(vec![asked.clone(), Asked::default()]));
    submit(Body::Payout(vec![asked]));
    submit(Body::Channel(Bytes::from_static(b"hello")));
    submit(Body::Checkpoint);
    for read in [
        Read::Account(AccountRef(1)),
        Read::Customer(2),
        Read::Document { line: 1, document: [3; 32] },
        Read::Customers { from: 4 },
        Read::Hold(TransferId(5)),
        Read::Payment(TransferId(6)),
        Read::Channels,
        Read::Losses,
        Read::TrialBalance { date: Some(Date(7)), by_value: true },
        Read::Chart,
        Read::Proposals,
        Read::Policy,
        Read::Status,
    ] {
        submit(Body::Read(read));
    }
}

#[test]
fn queries_and_what_they_find_arrive() {
    let entry = Entry {
        position: 1,
        moved: moved(),
        side: Some(Side::Credit),
        totals: Some(Totals { debits: u128::MAX, credits: 1 }),
    };
    let page = Page { entries: vec![entry], next: Some(Cursor(1)), previous: None, as_of: 9 };
    assert!(matches!(told(Told::Page(page.clone())), Told::Page(read) if read == page));
    let found = Some(Box::new(Found { entry, resolved_by: Some(entry) }));
    assert!(matches!(told(Told::Transfer(found.clone())), Told::Transfer(read) if read == found));
    let day = Day { date: Date(1), moved: Totals::default(), closing: Totals { debits: 1, credits: 2 } };
    assert!(matches!(told(Told::Days(vec![day])), Told::Days(read) if read == [day]));
    let as_of = AsOf { business_date: Some(Date(1)), value_date: None };
    ask(Ask::Totals { account: AccountRef(1), as_of });
    ask(Ask::Days { account: AccountRef(1), by: DayBy::Value, from: Date(1), to: Date(2) });
    ask(Ask::Records { from: 1, most: 2 });
    ask(Ask::Archive(Before::Day(Date(1))));
    ask(Ask::SealUnder { key: KeyRef(1), plain: Bytes::from_static(&[0xff, 0]) });
    let keys = vec![KeyRef(1), KeyRef(u64::MAX)];
    assert!(matches!(ask(Ask::NotErased(keys.clone())).ask, Ask::NotErased(read) if read == keys));
    assert!(matches!(ask(Ask::ErasedKeys).ask, Ask::ErasedKeys));
    assert!(matches!(told(Told::Keys(keys.clone())), Told::Keys(read) if read == keys));
    for trouble in [
        Trouble::NotYet("a".into()),
        Trouble::Archived("b".into()),
        Trouble::Ahead("c".into()),
        Trouble::Failed("d".into()),
        Trouble::NotFound,
    ] {
        assert!(matches!(told(Told::Trouble(trouble.clone())), Told::Trouble(read) if read == trouble));
    }
    let away = KeyError::Away("the store is down".to_owned());
    for error in [KeyError::Erased, KeyError::Unknown(7), KeyError::NotSealed, away] {
        let said = error.to_string();
        let Told::Keyless(fault) = told(Told::Keyless(KeyFault::from(&error))) else {
            panic!("it stays a fault")
        };
        assert_eq!(KeyError::from(fault).to_string(), said);
    }
}

#[test]
fn records_travel_as_the_journal_has_them() {
    let sealed: Box<[u8]> = vec![0xaa; 500].into();
    let customer =
        skerry_book::event::CustomerChanged { at: at(), customer: 1, document: Some([2; 32]), sealed };
    let note = skerry_book::record::TransferTail { reference: "x".repeat(40).into(), note: Box::default() };
    let mut tail = Vec::new();
    note.as_ref().encode(&mut tail);
    let tailed = Moved { flags: Flags::TAIL, kind: MovedKind::Posted, related: TransferId(0), ..moved() };
    for (event, tail) in [(Event::CustomerChanged(customer), Vec::new()), (Event::Moved(tailed), tail)] {
        let recorded = Recorded {
            position: 8,
            incarnation: 1,
            time_us: at().time_us,
            business_date: at().business_date,
            actor: actor(),
            event,
            tail: tail.into(),
        };
        let Told::Records(read) = told(Told::Records(vec![RecordedBytes::from(&recorded)])) else {
            panic!("they stay records")
        };
        let read = read.into_iter().next().unwrap().read().unwrap();
        assert_eq!(format!("{read:?}"), format!("{recorded:?}"));
    }
}

#[test]
fn health_arrives_with_meters_and_histograms() {
    let mut health = Health { state: "sick".into(), reason: Some("why".into()), ..Health::default() };
    let cost = Meter { messages: 1, ..Meter::default() };
    health.meters.count(Kind::Packed, &Principal::BANK, &cost);
    health.meters.count_command("freeze", &cost);
    health.figures.push(("a_total".into(), "counter".into(), "A.".into(), 7));
    let mut histogram = Histogram::default();
    [0, 1, 1_000, u64::MAX].into_iter().for_each(|value| histogram.record(value));
    health.histograms.push(("b_seconds".into(), "B.".into(), histogram, 1_000_000));
    let Told::Health(read) = told(Told::Health(Box::new(health.clone()))) else { panic!("it stays health") };
    assert_eq!(format!("{read:?}"), format!("{health:?}"));
    let here = Here {
        node: "one".into(),
        branch: 7,
        epoch: 1,
        position: 2,
        covered: 1,
        gone: true,
        key: Some([0xff; 16]),
        health,
    };
    assert_eq!(format!("{:?}", there_and_back(&here)), format!("{here:?}"));
}

#[test]
fn signing_keys_arrive_verified() {
    let (old, new) = (Ed25519Signer::from_seed(&[1; 32]), Ed25519Signer::from_seed(&[2; 32]));
    let mut keys = KeyHistory::new(old.public_key());
    keys.push(Rotation::sign(&keys, "test bank", 5, &old, &new).unwrap()).unwrap();
    let text = KeyHistoryText::from(&keys);
    assert_eq!(text.read().unwrap(), keys);
    let mut bytes = rmp_serde::to_vec_named(&text).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let forged: KeyHistoryText = rmp_serde::from_slice(&bytes).unwrap();
    assert!(matches!(forged.read(), Err(WireError::Body(_))));
}

#[test]
fn what_is_no_word_is_refused_with_its_reason() {
    let bytes = wire::encode(&AskFrame { branch: 1, nonce: 2, until_us: 3, ask: Ask::Health }, &key());
    let refused = |bytes: &[u8]| wire::decode::<AskFrame>(bytes, &key()).err().expect("it is refused");
    for length in 0..bytes.len() {
        assert!(matches!(refused(&bytes[..length]), WireError::Foreign | WireError::Seal));
    }
    assert_eq!(wire::decode::<AskFrame>(&bytes, &GatewayKey::new([1; 32])).err(), Some(WireError::Seal));
    assert_eq!(wire::decode::<Here>(&bytes, &key()).err(), Some(WireError::Foreign), "it is another kind");
    let mut other = bytes.to_vec();
    other[2] = 9;
    assert_eq!(refused(&other).to_string(), "it is said in version 9; this release speaks version 1");
    for at in 4..bytes.len() {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        assert_eq!(refused(&other), WireError::Seal);
    }
}

#[test]
fn values_that_a_constructor_refuses_are_refused() {
    let read = |bytes: &[u8]| rmp_serde::from_slice::<Principal>(bytes).is_ok();
    let text = |text: &str| rmp_serde::to_vec(text).unwrap();
    assert!(
        read(&text("chief")) && !read(&text("")) && !read(&text("a\u{7}")) && !read(&text(&"x".repeat(33)))
    );
    let number = |number: u32| rmp_serde::to_vec(&number).unwrap();
    assert!(rmp_serde::from_slice::<Currency>(&number(156)).is_ok());
    assert!(rmp_serde::from_slice::<Currency>(&number(0)).is_err());
    assert!(rmp_serde::from_slice::<Currency>(&number(999)).is_err());
    assert!(rmp_serde::from_slice::<Matters>(&number(1 << 30)).is_err());
}

/// A release that knows more fields is understood by this one, and one that knows fewer understands it: both ways by name.
#[test]
fn fields_are_found_by_name() {
    #[derive(Serialize)]
    struct Busier {
        told_by: &'static str,
        reason: BusyReason,
        retry_after_ms: u32,
    }
    let later = Busier { told_by: "a later release", reason: BusyReason::Rate, retry_after_ms: 9 };
    let read: Busy = rmp_serde::from_slice(&rmp_serde::to_vec_named(&later).unwrap()).unwrap();
    assert_eq!(read, Busy { retry_after_ms: 9, reason: BusyReason::Rate });
}

fn dates() -> impl Strategy<Value = Option<Date>> {
    proptest::option::of(any::<i32>().prop_map(Date))
}

proptest! {
    #[test]
    fn any_query_arrives(
        account in proptest::option::of(any::<u64>()),
        amounts in any::<(Option<u64>, Option<u64>)>(),
        (from, to) in (dates(), dates()),
        (code, reference, cursor, limit, at_least) in any::<(Option<u16>, Option<[u8; 16]>, Option<u64>, usize, u64)>(),
        (side, kinds, order) in (0..3_u8, 0..3_u8, any::<bool>()),
    ) {
        let query = Query {
            account: account.map(AccountRef),
            side: [None, Some(Side::Debit), Some(Side::Credit)][usize::from(side)],
            kinds: [Kinds::Posted, Kinds::Holds, Kinds::All][usize::from(kinds)],
            code,
            reference,
            amount: Range { from: amounts.0, to: amounts.1 },
            time_us: Range { from: amounts.1, to: amounts.0 },
            business_date: Range { from, to },
            value_date: Range { from: to, to: from },
            order: if order { Order::OldestFirst } else { Order::NewestFirst },
            limit,
            cursor: cursor.map(Cursor),
            at_least,
        };
        let read = ask(Ask::Page(query)).ask;
        prop_assert!(matches!(read, Ask::Page(read) if read == query));
    }

    #[test]
    fn any_transfer_arrives(
        (id, debit, credit, amount, code, flags) in any::<(u128, u64, u64, u64, u16, u32)>(),
        (reference, related, timeout_seconds, digest) in any::<([u8; 16], u128, u32, u64)>(),
        value_date in dates(),
        text in ".{0,40}",
        note in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let transfer = Transfer {
            id: TransferId(id),
            debit: AccountRef(debit),
            credit: AccountRef(credit),
            amount,
            currency: Some(Currency::CNY),
            code,
            flags: Flags(flags),
            reference,
            related: TransferId(related),
            timeout_seconds,
            value_date,
            imported: None,
            digest,
        };
        let asked = Asked { transfer, reference: text.into(), note: note.into(), note_tag: reference };
        let body = submit(Body::Transfers(vec![asked.clone()]));
        prop_assert!(matches!(body, Body::Transfers(read) if read == [asked]));
    }

    #[test]
    fn no_bytes_make_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _refused = AskFrame::read(&bytes).is_ok();
        let _refused = ToldFrame::read(&bytes).is_ok();
        let _refused = Here::read(&bytes).is_ok();
    }
}
