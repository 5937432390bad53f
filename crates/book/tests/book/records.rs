//! Records: one form for each event, nothing else accepted, and version 1 as it was committed.

use crate::lives::{a_crossing_life, a_life, a_life_after_a_loss, an_archived_life};
use crate::world::{World, image};
use proptest::collection::vec;
use proptest::prelude::*;
use skerry_book::actor::Principal;
use skerry_book::event::{KeyUsed, Refused};
use skerry_book::record::{self, RECORD_LENGTH, Record, RecordError, TransferTailRef};
use skerry_book::{Done, Event};
use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Stamp, TransferId};
use skerry_money::{Currency, Date};

const KINDS: [MovedKind; 5] = [
    MovedKind::Posted,
    MovedKind::Held,
    MovedKind::HoldPosted,
    MovedKind::HoldVoided,
    MovedKind::HoldExpired,
];

fn moved() -> impl Strategy<Value = Moved> {
    let ids = (any::<u128>(), any::<u128>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let rest =
        (0..5_usize, any::<u16>(), any::<u32>(), any::<[u8; 16]>(), any::<u32>(), any::<i32>(), any::<i32>());
    (ids, rest, any::<u64>(), any::<bool>()).prop_map(|(ids, rest, digest, imported)| {
        let (id, related, debit, credit, amount, time_us) = ids;
        let (kind, code, flags, reference, expires_s, value_date, own_day) = rest;
        let kind = KINDS[kind];
        let clear = Flags::TAIL.0 | Flags::IMPORTED.0;
        Moved {
            kind,
            id: TransferId(id),
            debit: AccountRef(debit),
            credit: AccountRef(credit),
            amount,
            currency: Currency::CNY,
            code,
            flags: Flags(flags & !clear | if imported { Flags::IMPORTED.0 } else { 0 }),
            reference,
            related: if imported { TransferId::NONE } else { TransferId(related) },
            expires_s: if kind == MovedKind::Held && !imported { expires_s } else { 0 },
            time_us,
            business_date: if imported { Date(own_day) } else { Date(20_000) },
            value_date: Date(value_date),
            imported_us: if imported { time_us } else { 0 },
            digest,
        }
    })
}

fn refused() -> impl Strategy<Value = Refused> {
    let ids = (any::<u128>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<i128>(), any::<u64>());
    (ids, 1..u16::MAX, any::<u16>(), any::<u32>(), any::<[u8; 16]>(), any::<u64>()).prop_map(
        |((id, debit, credit, need, have, time_us), code, transfer_code, flags, reference, digest)| Refused {
            at: Stamp { time_us, business_date: Date(20_000) },
            id: TransferId(id),
            debit: AccountRef(debit),
            credit: AccountRef(credit),
            code,
            have,
            need,
            transfer_code,
            flags: flags & !Flags::TAIL.0,
            reference,
            digest,
        },
    )
}

proptest! {
    #[test]
    fn money_reads_back_as_written(moved in moved(), actor in any::<u16>()) {
        let mut bytes = [0; RECORD_LENGTH];
        record::encode_moved(&moved, actor, &mut bytes);
        let decoded = record::decode(&bytes, &[], Date(20_000)).unwrap();
        prop_assert_eq!((decoded.event, decoded.actor), (Event::Moved(moved), actor));
        prop_assert_eq!(record::decode_moved(&bytes, Date(20_000)), Ok(Some(moved)));
    }

    #[test]
    fn refusals_read_back_as_written(refused in refused()) {
        let (mut bytes, mut tail) = ([0; RECORD_LENGTH], Vec::new());
        record::encode(&Event::Refused(refused), 3, &mut bytes, &mut tail);
        prop_assert!(tail.is_empty());
        prop_assert_eq!(record::decode(&bytes, &[], Date(20_000)).unwrap().event, Event::Refused(refused));
    }

    #[test]
    fn any_bytes_are_an_event_in_its_one_form_or_an_error(
        kind in 0..60_u16, rest in vec(any::<u8>(), RECORD_LENGTH), zeroed in vec(0..RECORD_LENGTH, 0..200),
        tail in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes: Record = rest.try_into().unwrap();
        for index in zeroed {
            bytes[index] = 0;
        }
        bytes[..4].copy_from_slice(&[kind.to_le_bytes(), record::VERSION.to_le_bytes()].concat());
        if let Ok(decoded) = record::decode(&bytes, &tail, Date(20_000)) {
            let (mut again, mut again_tail) = ([0; RECORD_LENGTH], Vec::new());
            record::encode(&decoded.event, decoded.actor, &mut again, &mut again_tail);
            prop_assert_eq!(again, bytes);
            // The tail of a transfer is kept beside its event.
            prop_assert!(again_tail == tail || matches!(decoded.event, Event::Moved(_)));
        }
    }
}

#[test]
fn every_flipped_bit_is_another_event_or_an_error() {
    for world in [a_life(), a_crossing_life(), an_archived_life(), a_life_after_a_loss()] {
        check_flips(&world);
    }
}

fn check_flips(world: &World) {
    for stored in &world.journal {
        let read = |bytes: &Record, tail: &[u8]| record::decode(bytes, tail, stored.business_date);
        let original = read(&stored.record, &stored.tail).unwrap();
        for bit in 0..RECORD_LENGTH * 8 {
            let mut bytes = stored.record;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(read(&bytes, &stored.tail), Ok(original.clone()), "bit {bit} of {original:?}");
        }
        for length in 0..stored.tail.len() {
            assert!(read(&stored.record, &stored.tail[..length]) != Ok(original.clone()), "tail of {length}");
        }
        assert!(!stored.tail.is_empty() || read(&stored.record, &[0]).is_err());
    }
}

#[test]
fn unknown_kinds_and_versions_stop_the_reader() {
    let mut bytes = [0; RECORD_LENGTH];
    bytes[0] = 99;
    bytes[2] = 1;
    let error = record::decode(&bytes, &[], Date(0)).unwrap_err();
    assert_eq!(error, RecordError::Unknown { kind: 99, version: 1 });
    let event = KeyUsed {
        at: Stamp { time_us: 1, business_date: Date(0) },
        key: 1,
        request: [1; 16],
        done: Done::Plain,
        permanent: false,
    };
    record::encode(&Event::KeyUsed(event), 0, &mut bytes, &mut Vec::new());
    bytes[2] = 2;
    assert_eq!(
        record::decode(&bytes, &[], Date(0)).unwrap_err(),
        RecordError::Unknown { kind: 48, version: 2 }
    );
}

#[test]
fn tails_of_transfers_read_back_as_written() {
    let long = "x".repeat(140);
    for (reference, note) in
        [("", &b"sealed"[..]), ("invoice 2026-000017", b""), (long.as_str(), &[1; 4_096])]
    {
        let tail = TransferTailRef { reference, note };
        let mut bytes = Vec::new();
        tail.encode(&mut bytes);
        assert_eq!(TransferTailRef::decode(&bytes), Some(tail));
        bytes.pop();
        assert_eq!(TransferTailRef::decode(&bytes), None);
    }
    let nothing = TransferTailRef { reference: "", note: b"" };
    assert_eq!(TransferTailRef::decode(&[0; 8]), None);
    assert!(nothing.is_empty() && nothing.is_bounded());
    assert_eq!(Principal::new("till-1").unwrap().to_string(), "till-1");
}

/// A journal of version 1 as it was written when version 1 was made, and the digest of the state that it leads to.
/// Never rewrite it: what it says is what closed days were reported from. A new version gets a new fixture. Made by
/// `SKERRY_BLESS=1 cargo test -p skerry-book records`, which writes it only where there is none.
#[test]
fn version_1_reads_for_ever() {
    reads_for_ever(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal-v1.hex"), &a_life());
}

/// The same for the kinds of level 2: payments between branches.
#[test]
fn level_2_reads_for_ever() {
    reads_for_ever(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal-level2.hex"),
        &a_crossing_life(),
    );
}

/// The same for the kind of level 3.
#[test]
fn level_3_reads_for_ever() {
    reads_for_ever(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal-level3.hex"),
        &an_archived_life(),
    );
}

/// The same for the kinds of level 4: what is taken back after a loss.
#[test]
fn level_4_reads_for_ever() {
    let life = a_life_after_a_loss();
    let channel = life.book.channel(2).unwrap();
    assert_eq!((channel.outgoing.sent, channel.outgoing.done, channel.incoming.received), (2, 2, 3));
    let balance = |account| life.book.account(account).unwrap().balance();
    // 900, less a debit of 1,000 taken back, and a credit of 1,000.
    assert_eq!(balance(AccountRef::customer(1, 1)), 900);
    assert_eq!(balance(AccountRef::head(1, 2902, Currency::CNY)), 1_000);
    assert_eq!(balance(AccountRef::head(1, 2902, Currency::USD)), 0);
    let kinds = life.journal.iter().map(|stored| stored.record[0]);
    let new: Vec<u8> = kinds.filter(|kind| [12, 13, 14, 27, 28].contains(kind)).collect();
    assert_eq!(new, [27, 14, 12, 12, 13, 13, 13, 28]);
    reads_for_ever(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal-level4.hex"), &life);
}

fn reads_for_ever(path: &str, life: &World) {
    if std::env::var_os("SKERRY_BLESS").is_some() && !std::path::Path::new(path).exists() {
        std::fs::write(path, written(life)).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let mut world = World::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let state = lines.next().unwrap().strip_prefix("state ").unwrap();
    for line in lines {
        let mut parts = line.split(' ');
        let business_date = Date(parts.next().unwrap().parse().unwrap());
        let bytes: Record = unhex(parts.next().unwrap()).try_into().unwrap();
        let event = record::decode(&bytes, &unhex(parts.next().unwrap_or("")), business_date).unwrap().event;
        world.book.evolve(&event);
    }
    assert_eq!(format!("{:016x}", digest(&image(&world.book))), state);
}

fn written(world: &World) -> String {
    let mut text = String::from("# state digest, then: business date, record, tail\n");
    text.push_str(&format!("state {:016x}\n", digest(&image(&world.book))));
    for stored in &world.journal {
        let line = format!("{} {} {}", stored.business_date.0, hex(&stored.record), hex(&stored.tail));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// FNV-1a, 64 bits: independent of all code under test.
fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
        .collect()
}

#[test]
fn the_life_has_every_kind() {
    let (world, crossing, archived) = (a_life(), a_crossing_life(), an_archived_life());
    let seen: std::collections::BTreeSet<u16> = world
        .journal
        .iter()
        .chain(&crossing.journal)
        .chain(&archived.journal)
        .map(|stored| u16::from_le_bytes([stored.record[0], stored.record[1]]))
        .collect();
    let all: Vec<u16> = (1..=11).chain(16..=26).chain(32..=34).chain(40..=45).chain(48..=51).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    world.check();
}
