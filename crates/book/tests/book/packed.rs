//! Packed transfers: strict, and the same request however it is dressed.

use proptest::collection::vec;
use proptest::prelude::*;
use skerry_book::packed::{self, Field, Outcome, PackedError, RESULT_LENGTH, TRANSFER_LENGTH};
use skerry_book::{Rejection, Seed};
use skerry_ledger::{AccountRef, Flags, Imported, Transfer, TransferId};
use skerry_money::{Currency, Date};

fn seed() -> Seed {
    Seed::new([3; 32])
}

fn sample() -> Transfer {
    Transfer {
        id: TransferId(7),
        debit: AccountRef::customer(1, 5),
        credit: AccountRef::customer(1, 6),
        amount: 1_234,
        currency: Some(Currency::CNY),
        code: 3,
        flags: Flags::PENDING,
        reference: *b"r\xc3\xa9f\0\0\0\0\0\0\0\0\0\0\0\0",
        related: TransferId(9),
        timeout_seconds: 60,
        value_date: Some(Date(20_000)),
        imported: None,
        digest: 0,
    }
}

fn packed(transfer: &Transfer) -> [u8; TRANSFER_LENGTH] {
    let mut bytes = [0; TRANSFER_LENGTH];
    packed::encode(transfer, &mut bytes);
    bytes
}

#[test]
fn a_transfer_reads_back_as_written_with_the_digest_of_its_bytes() {
    let imported = Imported { time_us: 5, business_date: Date(-3) };
    let import =
        Transfer { flags: Flags::IMPORTED, timeout_seconds: 0, imported: Some(imported), ..sample() };
    for transfer in [sample(), import, Transfer { currency: None, value_date: None, ..sample() }] {
        let read = packed::decode(0, &packed(&transfer), &seed()).unwrap();
        assert_eq!(read, Transfer { digest: packed::digest(&transfer, &[], &[0; 16], &seed()), ..transfer });
        assert_ne!(read.digest, packed::digest(&transfer, b"a longer reference", &[0; 16], &seed()));
        assert_ne!(read.digest, packed::digest(&transfer, &[], &[1; 16], &seed()));
    }
}

#[test]
fn what_is_not_defined_is_refused_by_field() {
    let field = |change: &dyn Fn(&mut [u8; TRANSFER_LENGTH])| {
        let mut bytes = packed(&sample());
        change(&mut bytes);
        match packed::decode(4, &bytes, &seed()) {
            Err(PackedError::Field { index: 4, field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(&|bytes| bytes[40..42].copy_from_slice(&[1, 0])), Field::Currency);
    assert_eq!(field(&|bytes| bytes[45] = 4), Field::Flags, "BANK is not a client's");
    assert_eq!(field(&|bytes| bytes[47] = 0x80), Field::Flags, "nor is TAIL");
    assert_eq!(field(&|bytes| bytes[63] = 1), Field::Reference, "text after padding");
    assert_eq!(field(&|bytes| bytes[48] = 0xff), Field::Reference, "no UTF-8");
    assert_eq!(field(&|bytes| bytes[95] = 1), Field::Reserved);
    assert_eq!(packed::records(&[0; 97]), Err(PackedError::Length { length: 97 }));
    assert_eq!(packed::records(&[0; 192]).unwrap().len(), 2);
    let text = packed::decode(2, &[0xff; TRANSFER_LENGTH], &seed()).unwrap_err().to_string();
    assert_eq!(text, "record 2: currency is not a known ISO 4217 number");
}

#[test]
fn results_carry_figures_saturated() {
    let no = skerry_ledger::Rejection::InsufficientFunds { have: -5, need: 70 };
    let outcome = Outcome::refused(no.into(), Some(12));
    assert_eq!(
        outcome,
        Outcome { code: 1111, field: Field::Amount.number(), position: 12, have: -5, need: 70 }
    );
    assert_eq!(Outcome::decode(&outcome.encode()), Some(outcome));
    assert_eq!(Outcome::accepted(3).encode()[..16], [0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    let huge = skerry_ledger::Rejection::InsufficientFunds { have: i128::MIN, need: u64::MAX };
    assert_eq!(Outcome::refused(huge.into(), None).have, i64::MIN);
    assert_eq!(Outcome::refused(Rejection::CrossesBranches, None).field, Field::Credit.number());
    let mut bytes = outcome.encode();
    bytes[5] = 1;
    assert_eq!(Outcome::decode(&bytes), None);
    assert_eq!(bytes.len(), RESULT_LENGTH);
}

#[test]
fn every_field_of_a_rejection_has_a_number() {
    for rejection in skerry_ledger::Rejection::ALL.iter().filter(|rejection| rejection.code() < 2_000) {
        assert_ne!(Field::from_name(rejection.field()), Field::None, "{rejection:?}");
    }
    for field in Field::ALL {
        assert_eq!(Field::from_name(field.name()), field);
        assert_eq!(Field::ALL[usize::from(field.number())], field);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_transfer_in_its_one_form_or_an_error(
        bytes in vec(any::<u8>(), TRANSFER_LENGTH), zeroed in vec(0..TRANSFER_LENGTH, 0..200), currency in any::<bool>(),
    ) {
        let mut bytes: [u8; TRANSFER_LENGTH] = bytes.try_into().unwrap();
        for index in zeroed {
            bytes[index] = 0;
        }
        bytes[45] &= 3;
        bytes[46..48].fill(0);
        bytes[40..42].copy_from_slice(&if currency { 156_u16 } else { 0 }.to_le_bytes());
        if let Ok(transfer) = packed::decode(0, &bytes, &seed()) {
            prop_assert_eq!(packed(&transfer), bytes);
        }
    }
}
