//! A whole journal, its checkpoints and its receipts, verified as an outsider would; and each way in
//! which somebody could have tampered with them.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

mod common;

use common::{Journal, signer};
use skerry_proof::batch::BatchHeader;
use skerry_proof::mmr::{consistency, verify_consistency};
use skerry_proof::{
    BatchError, CheckpointError, Ed25519Signer, Fault, HashAlgorithm, PublicKey, ReceiptError,
    SignedCheckpoint, Signer, Standing, Walk, verify_export,
};

const BLAKE3: HashAlgorithm = HashAlgorithm::Blake3;
const COUNTS: [u32; 7] = [1, 4, 0, 33, 2, 8, 5];

fn keys() -> [PublicKey; 1] {
    [signer().public_key()]
}

/// What is wrong with a journal, and at which batch.
fn fault(batches: &[Vec<u8>], checkpoints: &[SignedCheckpoint]) -> (u64, Fault) {
    let error = verify_export(batches, checkpoints, &keys()).unwrap_err();
    (error.batch, error.fault)
}

/// The bytes of the journal after `change` was made to the header of batch `number`.
fn with_header(number: usize, change: impl FnOnce(&mut BatchHeader)) -> Vec<Vec<u8>> {
    let mut batches = Journal::of(&COUNTS).bytes();
    let mut header = BatchHeader::decode(&batches[number]).unwrap();
    change(&mut header);
    batches[number][..256].copy_from_slice(&header.encode());
    batches
}

#[test]
fn a_sound_journal_verifies() {
    let journal = Journal::of(&COUNTS);
    let checkpoints = [journal.checkpoint(), Journal::of(&COUNTS[..3]).checkpoint()];
    let summary = verify_export(journal.bytes(), &checkpoints, &keys()).unwrap();
    assert_eq!((summary.batches, summary.records, summary.checkpoints), (7, 53, 2));
    assert_eq!((summary.head, summary.history_root), (journal.head, journal.history.root()));
    assert_eq!(summary.signed_records, 53);
    let nothing = verify_export(Vec::<Vec<u8>>::new(), &[], &keys()).unwrap();
    assert_eq!((nothing.batches, nothing.records), (0, 0));
}

#[test]
fn batches_cannot_be_left_out_swapped_or_replaced() {
    let good = Journal::of(&COUNTS).bytes();
    let mut without = good.clone();
    without.remove(3);
    assert_eq!(fault(&without, &[]), (3, Fault::Number(4)));
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert_eq!(fault(&swapped, &[]), (1, Fault::Number(2)));
    let mut replaced = good.clone();
    replaced[4] = Journal::of(&[1, 4, 0, 32, 2]).bytes().remove(4);
    assert_eq!(fault(&replaced, &[]), (4, Fault::Position(37)));
    let mut flipped = good;
    flipped[3][300] ^= 1;
    assert_eq!(fault(&flipped, &[]), (3, Fault::Batch(BatchError::RecordRoot)));
}

#[test]
fn headers_cannot_be_edited() {
    let edited = |change: fn(&mut BatchHeader)| fault(&with_header(4, change), &[]);
    assert_eq!(edited(|header| header.branch = 8), (4, Fault::Branch(8)));
    assert_eq!(edited(|header| header.previous[0] ^= 1), (4, Fault::Chain));
    assert_eq!(edited(|header| header.incarnation = 0), (4, Fault::Backwards("incarnation")));
    assert_eq!(edited(|header| header.epoch = 1), (4, Fault::Backwards("epoch")));
    assert_eq!(edited(|header| header.time_us = 0), (4, Fault::Backwards("time")));
    assert_eq!(edited(|header| header.business_date = 0), (4, Fault::Backwards("business date")));
    assert_eq!(edited(|header| header.tails_length += 1), (4, Fault::Batch(BatchError::Short)));
    assert_eq!(edited(|header| header.extras_hash[0] ^= 1), (4, Fault::Batch(BatchError::ExtrasHash)));
    // What nothing contradicts in the batch itself, the next one does.
    assert_eq!(edited(|header| header.time_us += 1), (5, Fault::Chain));
}

#[test]
fn a_rewritten_journal_meets_its_checkpoint() {
    let signed = Journal::of(&COUNTS).checkpoint();
    let shorter = Journal::of(&COUNTS[..5]).bytes();
    assert_eq!(fault(&shorter, std::slice::from_ref(&signed)), (5, Fault::Rewound(7)));
    let rewritten = Journal::of(&[1, 4, 0, 33, 2, 9, 4]).bytes();
    assert_eq!(fault(&rewritten, std::slice::from_ref(&signed)), (7, Fault::Disagrees("head hash")));

    let mut edited = signed.clone();
    edited.checkpoint.totals[0].debits += 1;
    let bytes = Journal::of(&COUNTS).bytes();
    assert_eq!(fault(&bytes, &[edited]), (7, Fault::Checkpoint(CheckpointError::Signature)));
    let stranger = Ed25519Signer::from_seed(&[1; 32]);
    let unknown = signed.checkpoint.sign(&stranger).unwrap();
    let expected = CheckpointError::UnknownKey(stranger.key_id());
    assert_eq!(fault(&bytes, &[unknown]), (7, Fault::Checkpoint(expected)));
}

#[test]
fn a_walk_goes_on_where_a_span_ended() {
    let (whole, span) = (Journal::of(&COUNTS), Journal::of(&COUNTS[..4]));
    let closed = span.checkpoint().checkpoint;
    let mut walk = Walk::resume(&closed, span.history.clone()).unwrap();
    for bytes in &whole.bytes()[4..] {
        walk.batch(bytes).unwrap();
    }
    walk.agrees(&whole.checkpoint().checkpoint).unwrap();
    assert_eq!(walk.head(), whole.head);
    let wrong = Walk::resume(&closed, whole.history.clone()).unwrap_err();
    assert_eq!(wrong, Fault::Disagrees("history"));
}

#[test]
fn a_failed_batch_leaves_the_walk_where_it_was() {
    let journal = Journal::of(&COUNTS).bytes();
    let mut walk = Walk::new();
    walk.batch(&journal[0]).unwrap();
    let head = walk.head();
    let mut damaged = journal[1].clone();
    damaged[400] ^= 1;
    assert!(walk.batch(&damaged).is_err());
    assert_eq!((walk.head(), walk.batches(), walk.position()), (head, 1, 1));
    walk.batch(&journal[1]).unwrap();
}

#[test]
fn every_record_has_a_receipt_that_verifies() {
    let journal = Journal::of(&COUNTS);
    for batch in &journal.batches {
        for index in 0..batch.header.record_count {
            let receipt = journal.receipt(batch.header.batch, index);
            let standing = receipt.verify(&keys()).unwrap();
            assert_eq!(standing, Standing::SignedNotAnchored);
            assert_eq!(standing.to_string(), "signed, not anchored");
        }
    }
}

#[test]
fn a_receipt_is_good_for_one_record_at_one_place() {
    let journal = Journal::of(&COUNTS);
    let good = journal.receipt(3, 5);
    let verify = |change: fn(&mut skerry_proof::Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        receipt.verify(&keys()).unwrap_err()
    };
    assert_eq!(verify(|receipt| receipt.record[40] ^= 1), ReceiptError::Root);
    assert_eq!(verify(|receipt| receipt.tail.push(b'!')), ReceiptError::Root);
    assert_eq!(verify(|receipt| receipt.position += 1), ReceiptError::Root);
    assert_eq!(verify(|receipt| receipt.position += 100), ReceiptError::Position);
    assert_eq!(verify(|receipt| receipt.position += 28), ReceiptError::Position); // the next batch
    assert_eq!(verify(|receipt| receipt.first_position += 6), ReceiptError::Position);
    assert_eq!(verify(|receipt| receipt.batch = 7), ReceiptError::Position);
    assert_eq!(verify(|receipt| receipt.batch = 2), ReceiptError::Root);
    assert_eq!(verify(|receipt| receipt.record_count += 1), ReceiptError::Root);
    assert_eq!(
        verify(|receipt| receipt.checkpoint.checkpoint.position += 1),
        ReceiptError::Checkpoint(CheckpointError::Signature)
    );
    // A checkpoint from before the record does not cover it, true as it is.
    let mut early = good.clone();
    early.checkpoint = Journal::of(&COUNTS[..3]).checkpoint();
    assert_eq!(early.verify(&keys()), Err(ReceiptError::Position));
    // Nor does one whose signer contradicts himself: the root has the record, the position has not.
    let mut torn = good.checkpoint.checkpoint.clone();
    torn.position = good.position;
    let torn = skerry_proof::Receipt { checkpoint: torn.sign(&signer()).unwrap(), ..good.clone() };
    assert_eq!(torn.verify(&keys()), Err(ReceiptError::Position));
}

#[test]
fn successive_checkpoints_prove_that_nothing_was_rewritten() {
    let whole = Journal::of(&COUNTS);
    let new = whole.checkpoint().checkpoint.history();
    for count in 0..COUNTS.len() {
        let old = Journal::of(&COUNTS[..count]).checkpoint().checkpoint.history();
        let proof = consistency(BLAKE3, old.count, new.count, whole.node()).unwrap();
        assert!(verify_consistency(BLAKE3, old, new, &proof));
        let other = Journal::of(&[2; 7][..count]).checkpoint().checkpoint.history();
        assert!(count == 0 || !verify_consistency(BLAKE3, other, new, &proof));
    }
}
