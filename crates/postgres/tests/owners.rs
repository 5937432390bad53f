//! One owner at a time, whatever becomes of connections and servers: fenced, cut off, killed; never twice, never lost.

mod common;

use common::cable::Cable;
use common::{Group, Store, chain, holds, load, next, offer, open, open_again, store};
use skerry_journal::{
    AppendFaultKind, DamageKind, Journal, JournalReader, JournalStore, OpenError, Position, ReadError,
};
use skerry_postgres::{Durability, ServerOptions};

const COUNT: &str = "select count(*), coalesce(sum(records), 0) from skerry.journal";

#[test]
fn a_fenced_owner_writes_not_one_row() {
    let group = Group::single();
    let store = store(group.options(Durability::Single));
    let mut older = open(&store);
    for _ in 0..3 {
        assert!(offer(&mut older, 10));
        next(&mut older).unwrap();
    }
    let mut newer = open(&store.clone());
    assert!(newer.epoch() > older.epoch());
    let before = group.primary().sql(COUNT);
    // Everything that the older owner has room for, and after it learnt of its fate.
    while offer(&mut older, 10) {}
    assert_eq!(next(&mut older).unwrap_err().kind, AppendFaultKind::Fenced);
    assert!(!offer(&mut older, 10), "it takes nothing more");
    assert_eq!(group.primary().sql(COUNT), before);
    assert!(offer(&mut newer, 1));
    next(&mut newer).unwrap();
    assert_eq!(group.primary().sql(COUNT), "4|31");
}

#[test]
fn what_was_on_its_way_when_another_opened_is_there_once_or_not_at_all() {
    let group = Group::single();
    let store = store(group.options(Durability::Single));
    for _ in 0..10 {
        let mut older = open(&store);
        let begun = older.taken();
        while offer(&mut older, 50) {}
        let opened = open_again(&store.clone());
        let mut told = begun;
        let taken = older.taken();
        while told != taken {
            match next(&mut older) {
                Ok(appended) => told = appended.head,
                Err(fault) => {
                    assert_eq!(fault.kind, AppendFaultKind::Fenced);
                    break;
                }
            }
        }
        holds(&opened, told, taken);
    }
}

fn cabled(group: &Group) -> (Cable, Store) {
    let cable = Cable::to(group.primary().port);
    let url = format!("postgres://skerry@127.0.0.1:{}/postgres", cable.port);
    let store = store(ServerOptions { url, ..group.options(Durability::Single) });
    (cable, store)
}

#[test]
fn an_answer_that_is_lost_leaves_a_batch_that_opening_finds() {
    let group = Group::single();
    let (cable, store) = cabled(&group);
    let mut journal = open(&store);
    assert!(offer(&mut journal, 5));
    let told = next(&mut journal).unwrap().head;
    cable.lose_answers();
    assert!(offer(&mut journal, 7));
    let taken = journal.taken();
    let fault = next(&mut journal).unwrap_err();
    assert_eq!((&fault.kind, fault.batch), (&AppendFaultKind::Uncertain, 1));
    assert!(chain(&fault).contains("did not commit a batch within"), "{}", chain(&fault));
    cable.mend();
    let epoch = journal.epoch();
    let opened = open_again(&store);
    assert_eq!(opened.recovery.head, taken, "the commit had reached the server");
    assert!(opened.recovery.epoch > epoch);
    holds(&opened, told, taken);
}

#[test]
fn a_request_that_is_lost_leaves_nothing() {
    let group = Group::single();
    let (cable, store) = cabled(&group);
    let mut journal = open(&store);
    assert!(offer(&mut journal, 5));
    let told = next(&mut journal).unwrap().head;
    cable.lose_requests();
    assert!(offer(&mut journal, 7));
    let taken = journal.taken();
    assert_eq!(next(&mut journal).unwrap_err().kind, AppendFaultKind::Uncertain);
    cable.mend();
    let opened = open_again(&store);
    assert_eq!(opened.recovery.head, told, "nothing had reached the server");
    let mut journal = opened.journal;
    assert!(offer(&mut journal, 7));
    assert_eq!(next(&mut journal).unwrap().head.position, taken.position);
}

#[test]
fn a_connection_cut_under_load_again_and_again_loses_and_doubles_nothing() {
    let group = Group::single();
    let (cable, store) = cabled(&group);
    let mut journal = open(&store);
    for round in 1..=8 {
        let (told, taken, fault) = load(&mut journal, |count| {
            if count == round * 3 {
                cable.cut();
            }
        });
        assert_eq!(fault.kind, AppendFaultKind::Uncertain);
        cable.mend();
        let opened = open_again(&store);
        holds(&opened, told, taken);
        journal = opened.journal;
    }
}

#[test]
fn a_server_killed_under_load_keeps_what_it_told() {
    let mut group = Group::single();
    let store = store(group.options(Durability::Single));
    let mut journal = open(&store);
    for round in 1..=4 {
        let (told, taken, fault) = load(&mut journal, |count| {
            if count == round * 7 {
                group.primary_mut().kill();
            }
        });
        assert_eq!(fault.kind, AppendFaultKind::Uncertain);
        assert!(matches!(store.open(), Err(OpenError::Away { .. })), "nobody is there");
        group.primary_mut().start();
        let opened = open_again(&store);
        holds(&opened, told, taken);
        journal = opened.journal;
    }
}

#[test]
fn the_tables_of_another_bank_are_refused() {
    let group = Group::single();
    drop(open(&store(group.options(Durability::Single))));
    group.primary().sql("update skerry.meta set value = 'another bank' where name = 'bank'");
    let refused = store(group.options(Durability::Single)).open().expect_err("not ours");
    assert!(chain(&refused).contains("\"another bank\""), "{}", chain(&refused));
}

#[test]
fn a_record_is_read_by_slice_and_a_changed_row_is_named() {
    let group = Group::single();
    let store = store(group.options(Durability::Single));
    let mut journal = open(&store);
    for _ in 0..3 {
        assert!(offer(&mut journal, 150));
        next(&mut journal).unwrap();
    }
    let node = group.primary();
    let raw = "select bool_and(pg_column_size(body) = octet_length(body)), min(octet_length(body)) > 10000 from skerry.journal";
    assert_eq!(node.sql(raw), "t|t", "not compressed");
    let kinds = "select string_agg(distinct attstorage::text, '') from pg_attribute where attname = 'body' \
                 and attrelid::regclass::text like '%journal_b%'";
    assert_eq!(node.sql(kinds), "e", "out of the row, so that a part of it can be read");
    let spans = "select count(*) from pg_inherits where inhparent = 'skerry.journal_b0007'::regclass";
    assert_eq!(node.sql(spans), "2", "spans 0 and 1 of 200 positions");

    let reader = journal.reader();
    let good = reader.read_record(Position(160)).expect("it is there");
    // A byte of the record itself: a slice does not see it, a whole batch does.
    let flip = |byte: u32| {
        format!(
            "update skerry.journal set body = set_byte(body, {byte}, get_byte(body, {byte}) # 1) where position = 150"
        )
    };
    let byte = 256 + 112 * 10 + 50;
    node.sql(&flip(byte));
    assert_ne!(reader.read_record(Position(160)).expect("not checked against the root").record, good.record);
    let Err(ReadError::Damaged(damage)) = reader.read(Position(150), usize::MAX) else {
        panic!("it is damaged")
    };
    assert_eq!((damage.kind, damage.position), (DamageKind::Root, 150));
    assert!(damage.file.contains("skerry.journal_b0007_s000000"), "{}", damage.file);
    node.sql(&flip(byte));
    node.sql(&flip(120));
    let Err(ReadError::Damaged(damage)) = reader.read(Position(150), usize::MAX) else {
        panic!("it is damaged")
    };
    assert!(matches!(damage.kind, DamageKind::Root | DamageKind::EndMark), "{damage}");
    node.sql(&flip(120));
    node.sql("delete from skerry.journal where position = 150");
    assert!(matches!(reader.read_record(Position(160)), Err(ReadError::Damaged(_))), "a row is missing");
    assert!(reader.scan(Position(0), &mut |_| std::ops::ControlFlow::Continue(())).is_err());
}
