//! Images: read back whole, refused when cut or changed, and version 1 readable for ever.

mod common;

use std::path::Path;
use std::{env, fs};

use common::{BRANCH, Bank, SEED, bytes, currency, customer, derived_id, id_at, read, sealed};
use proptest::prelude::*;
use skerry_ledger::{
    AccountCommand, AccountRef, Basis, Flags, Imported, Ledger, Limit, ReadError, Sides, Transfer, UNLIMITED,
    invariants,
};
use skerry_money::Date;

const TODAY: Date = Date(19_783);

/// A bank with something in every part of its image.
fn bank() -> Bank {
    let mut bank = Bank::new(TODAY);
    let cash = AccountRef::head(BRANCH, 1001, currency("CNY"));
    let deposits = AccountRef::head(BRANCH, 2001, currency("CNY"));
    for head in [cash, deposits] {
        bank.run(AccountCommand::OpenHead { head, opened: TODAY, limit: Limit::None }).expect("a head");
    }
    for (serial, daily_limit) in [(1, UNLIMITED), (2, 500), (3, UNLIMITED)] {
        let limit = if serial == 3 { Limit::Credits } else { Limit::Debits };
        let open = AccountCommand::Open {
            owner: serial,
            product: 7,
            head: deposits,
            currency: currency("CNY"),
            opened: Date(TODAY.0 - 50),
            limit,
            floor: -100,
            daily_limit,
        };
        bank.run(open).expect("an account");
    }
    let imported = Some(Imported { time_us: 1_000, business_date: Date(TODAY.0 - 40) });
    let plain = |number, debit, credit, amount| Transfer {
        id: id_at(Bank::new(TODAY).stamp.time_us, number),
        debit,
        credit,
        amount,
        ..Transfer::default()
    };
    let pending = Flags::PENDING;
    let transfers = [
        Transfer {
            id: derived_id(1),
            flags: Flags::IMPORTED,
            imported,
            ..plain(0, cash, customer(1), 1_000)
        },
        plain(2, customer(1), customer(2), 300),
        Transfer { value_date: Some(Date(TODAY.0 - 9)), ..plain(3, customer(2), cash, 30) },
        Transfer { flags: pending, timeout_seconds: 60, ..plain(4, customer(1), customer(2), 5) },
        Transfer { flags: pending, ..plain(5, customer(2), customer(1), 6) },
        Transfer { flags: pending, timeout_seconds: 9, ..plain(6, customer(2), cash, 7) },
        Transfer { flags: pending.with(Flags::CLOSING_DEBIT), ..plain(7, customer(3), cash, 0) },
        Transfer {
            flags: Flags::VOID,
            related: id_at(bank.stamp.time_us, 5),
            id: id_at(bank.stamp.time_us, 8),
            ..Transfer::default()
        },
    ];
    for transfer in transfers {
        bank.submit(&sealed(transfer)).expect("it is in order");
    }
    let sides = Sides { debit: false, credit: true };
    bank.run(AccountCommand::Freeze { account: customer(2), sides, reason: 9 }).expect("it freezes");
    bank.run(AccountCommand::GoLive { date: TODAY }).expect("it goes live");
    bank.check();
    bank
}

fn try_read(mut bytes: &[u8]) -> Result<Ledger, ReadError<std::io::ErrorKind>> {
    let fill = |out: &mut [u8]| std::io::Read::read_exact(&mut bytes, out).map_err(|error| error.kind());
    Ledger::read(&mut { fill }, SEED)
}

#[test]
fn an_image_is_the_whole_ledger() {
    let bank = bank();
    let image = bytes(&bank.ledger);
    let restored = read(&image);
    assert_eq!(bytes(&restored), image);
    assert_eq!(restored.account(customer(2)), bank.ledger.account(customer(2)));
    assert_eq!(restored.hold_count(), 3);
    assert_eq!(restored.next_expiry_s(), bank.ledger.next_expiry_s());
    assert_eq!(restored.live_date(), Some(TODAY));
    assert_eq!(restored.imported_through(), Some(Date(TODAY.0 - 40)));
    for basis in [Basis::Booked, Basis::Value] {
        assert_eq!(restored.trial_balance(TODAY, basis), bank.ledger.trial_balance(TODAY, basis));
    }
    invariants::check(&restored).expect("the invariants hold");
}

/// `UPDATE_FIXTURES=1` writes the file; it must never be needed for version 1 again.
#[test]
fn version_1_reads_and_writes_as_it_always_did() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image-v1.bin");
    let image = bytes(&bank().ledger);
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &image).expect("the fixture can be written");
    }
    let kept = fs::read(&path).expect("the fixture is there");
    assert!(kept == image, "the image of a ledger has changed: give it a new version");
    assert_eq!(bytes(&read(&kept)), kept);
}

#[test]
fn an_image_cut_anywhere_is_refused() {
    let image = bytes(&bank().ledger);
    for length in 0..image.len() {
        let refused = try_read(&image[..length]).err();
        assert_eq!(refused, Some(ReadError::Source(std::io::ErrorKind::UnexpectedEof)), "cut at {length}");
    }
}

#[test]
fn another_magic_and_a_later_version_are_named() {
    let image = bytes(&bank().ledger);
    let mut other = image.clone();
    other[0] = b'X';
    assert_eq!(try_read(&other).err(), Some(ReadError::Corrupt("its magic")));
    let mut later = image;
    later[8] = 2;
    assert_eq!(try_read(&later).err(), Some(ReadError::Version(2)));
}

proptest! {
    #[test]
    fn a_changed_image_never_panics(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut image = bytes(&bank().ledger);
        for (at, value) in flips {
            let at = at % image.len();
            image[at] = value;
        }
        if let Ok(ledger) = try_read(&image) {
            // Whatever was read can be looked at; whether it is right, the invariants and the digest say.
            let _ = invariants::check(&ledger);
            prop_assert_eq!(ledger.holds().count(), ledger.hold_count());
            let _ = ledger.trial_balance(TODAY, Basis::Value);
            let _ = bytes(&ledger);
        }
    }
}
