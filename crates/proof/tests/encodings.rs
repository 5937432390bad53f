//! Headers, checkpoints, receipts and tails: what decodes encodes back, and rubbish ends in an error.

mod common;

use common::{Journal, signer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use skerry_proof::batch::{FORMAT, HEADER_LENGTH};
use skerry_proof::checkpoint::{ChannelTotal, Checkpoint, Payments};
use skerry_proof::{
    BatchError, BatchHeader, CheckpointError, CurrencyTotal, HashAlgorithm, Receipt, ReceiptError,
    SignedCheckpoint, Tails,
};

fn header() -> impl Strategy<Value = BatchHeader> {
    let numbers = (any::<(u16, u32, u64, u64)>(), 0..u64::MAX - 9_000, 0..9_000_u32);
    (numbers, any::<(i32, u64, u32, u32)>(), any::<[[u8; 32]; 4]>(), select(&HashAlgorithm::ALL)).prop_map(
        |(numbers, sizes, hashes, evidence)| {
            let ((branch, incarnation, epoch, batch), first_position, record_count) = numbers;
            let (business_date, time_us, actors_length, tails_length) = sizes;
            let [previous, record_root, extras_hash, salt] = hashes;
            BatchHeader {
                format: FORMAT,
                algorithm: HashAlgorithm::Blake3,
                evidence,
                branch,
                incarnation,
                epoch,
                batch,
                first_position,
                record_count,
                business_date,
                time_us,
                actors_length,
                tails_length,
                previous,
                record_root,
                extras_hash,
                salt,
            }
        },
    )
}

fn channel(((peer, currency), sums): ((u16, u16), [(u64, u128); 5])) -> ChannelTotal {
    let [sent, settled, returned, received, refused] = sums.map(|(count, amount)| Payments { count, amount });
    ChannelTotal { peer, currency, sent, settled, returned, received, refused }
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let totals = proptest::collection::btree_map(any::<u16>(), any::<(u128, u128)>(), 0..4);
    let channels = proptest::collection::btree_map(any::<(u16, u16)>(), any::<[(u64, u128); 5]>(), 0..4);
    let rest = any::<([u8; 32], [u8; 32], i32, u64, Option<[u8; 32]>)>();
    let algorithms = select(&HashAlgorithm::ALL);
    ("[a-z-]{0,32}", any::<(u16, u32, u64, u64, u64)>(), rest, totals, channels, algorithms).prop_map(
        |(institution, numbers, rest, totals, channels, algorithm)| Checkpoint {
            algorithm,
            institution,
            branch: numbers.0,
            incarnation: numbers.1,
            epoch: numbers.2,
            position: numbers.3,
            batches: numbers.4,
            head: rest.0,
            history_root: rest.1,
            business_date: rest.2,
            time_us: rest.3,
            totals: totals
                .into_iter()
                .map(|(currency, (debits, credits))| CurrencyTotal { currency, debits, credits })
                .collect(),
            channels: channels.into_iter().map(channel).collect(),
            state_digest: rest.4,
        },
    )
}

#[test]
fn the_header_lies_where_the_format_says() {
    let header = &Journal::of(&[1, 5]).batches[1].header;
    let bytes = header.encode();
    assert_eq!(&bytes[0..8], b"SKBATCH1");
    assert_eq!(bytes[8..10], 1_u16.to_le_bytes());
    assert_eq!(bytes[10..12], [1, 0]);
    assert_eq!(bytes[12..16], 256_u32.to_le_bytes());
    assert_eq!(bytes[16..20], [7, 0, 0, 0]);
    assert_eq!(bytes[20..24], 1_u32.to_le_bytes());
    assert_eq!(bytes[24..32], 3_u64.to_le_bytes());
    assert_eq!(bytes[32..40], 1_u64.to_le_bytes());
    assert_eq!(bytes[40..48], 1_u64.to_le_bytes());
    assert_eq!(bytes[48..52], 5_u32.to_le_bytes());
    assert_eq!(bytes[52..56], 20_000_i32.to_le_bytes());
    assert_eq!(bytes[56..64], 1_000_000_u64.to_le_bytes());
    assert_eq!(bytes[64..68], (5_u32 * 112).to_le_bytes());
    assert_eq!(bytes[68..72], header.actors_length.to_le_bytes());
    assert_eq!(bytes[72..76], header.tails_length.to_le_bytes());
    assert_eq!(bytes[80..112], header.previous);
    assert_eq!(bytes[112..144], header.record_root);
    assert_eq!(bytes[144..176], header.extras_hash);
    assert_eq!(bytes[176..208], header.salt);
    assert_eq!(bytes[208..], [0; 48]);
}

#[test]
fn each_fault_of_a_header_has_its_name() {
    let good = Journal::of(&[5]).batches[0].header.encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        BatchHeader::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b'X'), BatchError::Magic);
    assert_eq!(with(8, 2), BatchError::Format(2));
    assert_eq!(with(10, 2), BatchError::Algorithm(2));
    assert_eq!(with(11, 4), BatchError::Algorithm(4));
    assert_eq!(BatchError::Algorithm(4).to_string(), "hash algorithm 4 is not known");
    assert_eq!(with(12, 1), BatchError::Lengths);
    assert_eq!(with(48, 6), BatchError::Lengths);
    assert_eq!(with(64, 1), BatchError::Lengths);
    for reserved in [11, 18, 19, 76, 79, 208, 255] {
        assert_eq!(with(reserved, 1), BatchError::Reserved);
    }
    assert_eq!(BatchHeader::decode(&good[..255]), Err(BatchError::Short));
    assert_eq!(BatchHeader::decode(b""), Err(BatchError::Short));
}

/// No byte of a batch is beyond the reach of its header.
#[test]
fn every_flipped_bit_of_a_batch_is_seen() {
    let journal = Journal::of(&[4]);
    let good = &journal.batches[0];
    for at in 0..good.bytes.len() {
        let mut bytes = good.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let (header, body) = bytes.split_at(HEADER_LENGTH);
        let intact = BatchHeader::decode(header).is_ok_and(|header| {
            header.hash() == journal.head && header.verify_body(body, &mut vec![]).is_ok()
        });
        assert!(!intact, "byte {at}");
    }
}

#[test]
fn every_flipped_bit_of_a_receipt_is_seen() {
    let receipt = Journal::of(&[5, 3, 9]).receipt(1, 2).encode();
    let keys = [skerry_proof::Signer::public_key(&signer())];
    assert!(Receipt::decode(&receipt).unwrap().verify(&keys).is_ok());
    for at in 0..receipt.len() {
        let mut bytes = receipt.clone();
        bytes[at] ^= 1 << (at % 8);
        let verdict = Receipt::decode(&bytes).and_then(|receipt| receipt.verify(&keys));
        assert!(verdict.is_err(), "byte {at}");
    }
}

#[test]
fn cut_bytes_are_short() {
    let journal = Journal::of(&[3, 3]);
    let checkpoint = journal.checkpoint().encode();
    for end in 0..checkpoint.len() {
        assert_eq!(SignedCheckpoint::decode(&checkpoint[..end]), Err(CheckpointError::Short));
    }
    let receipt = journal.receipt(0, 0).encode();
    for end in 0..receipt.len() {
        let error = Receipt::decode(&receipt[..end]).unwrap_err();
        let short = [ReceiptError::Short, ReceiptError::Checkpoint(CheckpointError::Short)];
        assert!(short.contains(&error), "{end}: {error}");
    }
}

proptest! {
    #[test]
    fn headers_survive(header in header()) {
        let bytes = header.encode();
        prop_assert_eq!(BatchHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn checkpoints_survive(checkpoint in checkpoint()) {
        let signed = checkpoint.sign(&signer()).unwrap();
        let bytes = signed.encode();
        prop_assert_eq!(SignedCheckpoint::decode(&bytes), Ok(signed));
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_eq!(SignedCheckpoint::decode(&longer), Err(CheckpointError::Trailing));
    }

    /// Flips bits and cuts: whatever still decodes, encodes to the very bytes it came from.
    #[test]
    fn one_encoding_only(flips in vec((any::<proptest::sample::Index>(), 0..8_u32), 0..4), cut in 0..3_usize) {
        let journal = Journal::of(&[3, 1]);
        let batch = journal.bytes().remove(0);
        for mut bytes in [journal.checkpoint().encode(), journal.receipt(1, 0).encode(), batch] {
            for (at, bit) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            bytes.truncate(bytes.len() - cut);
            if let Ok(signed) = SignedCheckpoint::decode(&bytes) {
                prop_assert_eq!(signed.encode(), bytes.clone());
            }
            if let Ok(receipt) = Receipt::decode(&bytes) {
                prop_assert_eq!(receipt.encode(), bytes.clone());
            }
            if let Ok(header) = BatchHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_LENGTH]);
                let _ = header.verify_body(&bytes[HEADER_LENGTH..], &mut vec![]);
            }
        }
    }

    #[test]
    fn rubbish_is_an_error(bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200), count in 0..9_u32) {
        prop_assert!(SignedCheckpoint::decode(&bytes).is_err());
        prop_assert!(Receipt::decode(&bytes).is_err());
        prop_assert!(BatchHeader::decode(&bytes).is_err());
        if let Ok(tails) = Tails::parse(&bytes, count) {
            let listed: Vec<(u32, &[u8])> = tails.iter().collect();
            let mut again = Vec::new();
            Tails::encode(&listed, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
