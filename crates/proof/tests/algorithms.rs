//! Every evidence hash under every signature: journals, checkpoints and receipts verify, whatever is changed in them is
//! seen, and a branch does not change its hash under way.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

mod common;

use common::Journal;
use proptest::prelude::*;
use skerry_proof::batch::BatchHeader;
use skerry_proof::signer::from_secret;
use skerry_proof::{
    CheckpointError, Fault, HashAlgorithm, KeyHistory, PublicKey, Receipt, ReceiptError, Rotation,
    SignatureAlgorithm, SignedCheckpoint, Signer, verify_export,
};

const COUNTS: [u32; 5] = [3, 0, 8, 1, 5];

fn signer(algorithm: SignatureAlgorithm, number: u8) -> Box<dyn Signer + Send + Sync> {
    from_secret(algorithm, &[number; 32]).unwrap()
}

fn pairs() -> impl Iterator<Item = (HashAlgorithm, SignatureAlgorithm)> {
    HashAlgorithm::ALL.into_iter().flat_map(|hash| SignatureAlgorithm::ALL.map(|signature| (hash, signature)))
}

fn receipt(journal: &Journal, signer: &dyn Signer) -> Receipt {
    Receipt { checkpoint: journal.checkpoint_by(signer), ..journal.receipt(2, 6) }
}

#[test]
fn every_pair_verifies() {
    for (hash, signature) in pairs() {
        let (journal, signer) = (Journal::with(hash, &COUNTS), signer(signature, 3));
        let keys = [signer.public_key()];
        let signed = journal.checkpoint_by(&*signer);
        let read = SignedCheckpoint::decode(&signed.encode()).unwrap();
        assert_eq!((read.checkpoint.algorithm, read.signature_algorithm), (hash, signature));
        let summary = verify_export(journal.bytes(), &[read], &keys).unwrap();
        assert_eq!((summary.batches, summary.checkpoints), (5, 1));
        let receipt = receipt(&journal, &*signer);
        let read = Receipt::decode(&receipt.encode()).unwrap();
        assert_eq!(read, receipt);
        read.verify(&keys).unwrap();
    }
}

/// Roots of different functions over the same records have nothing in common.
#[test]
fn another_function_is_another_root() {
    let roots = HashAlgorithm::ALL.map(|hash| Journal::with(hash, &COUNTS).history.root());
    assert!(roots[0] != roots[1] && roots[1] != roots[2] && roots[0] != roots[2]);
}

#[test]
fn every_flipped_bit_of_a_receipt_is_seen() {
    for (hash, signature) in
        [(HashAlgorithm::Sm3, SignatureAlgorithm::Sm2), (HashAlgorithm::Sha256, SignatureAlgorithm::Ed25519)]
    {
        let signer = signer(signature, 3);
        let keys = [signer.public_key()];
        let good = receipt(&Journal::with(hash, &COUNTS), &*signer).encode();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let verdict = Receipt::decode(&bytes).and_then(|receipt| receipt.verify(&keys));
            assert!(verdict.is_err(), "byte {at} of a {} receipt", hash.name());
        }
    }
}

#[test]
fn an_unknown_algorithm_is_named() {
    let receipt = Journal::of(&COUNTS).receipt(0, 0);
    let with = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] = 77;
        bytes
    };
    let checkpoint = receipt.checkpoint.encode();
    let hash = SignedCheckpoint::decode(&with(checkpoint.clone(), 10)).unwrap_err();
    assert_eq!(
        (hash, hash.to_string().as_str()),
        (CheckpointError::Algorithm(77), "hash algorithm 77 is not known")
    );
    let signature = SignedCheckpoint::decode(&with(checkpoint, 11)).unwrap_err();
    assert_eq!(signature.to_string(), "signature algorithm 77 is not known");
    assert_eq!(Receipt::decode(&with(receipt.encode(), 10)), Err(ReceiptError::Algorithm(77)));
    let mut other = receipt.encode();
    other[10] = HashAlgorithm::Sm3.number();
    assert_eq!(Receipt::decode(&other), Err(ReceiptError::Malformed), "not that of its checkpoint");
}

#[test]
fn a_branch_keeps_its_evidence_hash() {
    let mut batches = Journal::with(HashAlgorithm::Sm3, &COUNTS).bytes();
    let mut header = BatchHeader::decode(&batches[2]).unwrap();
    header.evidence = HashAlgorithm::Sha256;
    batches[2][..256].copy_from_slice(&header.encode());
    let error = verify_export(batches, &[], &[] as &[PublicKey]).unwrap_err();
    assert_eq!((error.batch, error.fault), (2, Fault::Evidence(HashAlgorithm::Sha256)));

    let journal = Journal::with(HashAlgorithm::Sm3, &COUNTS);
    let signer = signer(SignatureAlgorithm::Sm2, 3);
    let mut stated = journal.checkpoint().checkpoint;
    stated.algorithm = HashAlgorithm::Blake3;
    let signed = stated.sign(&*signer).unwrap();
    let error = verify_export(journal.bytes(), &[signed], &[signer.public_key()]).unwrap_err();
    assert_eq!(error.fault, Fault::Disagrees("hash algorithm"));
}

#[test]
fn a_checkpoint_states_the_time_of_its_last_batch() {
    let journal = Journal::of(&COUNTS);
    let signer = signer(SignatureAlgorithm::Ed25519, 3);
    let mut stated = journal.checkpoint().checkpoint;
    stated.time_us -= 1;
    let signed = stated.sign(&*signer).unwrap();
    let error = verify_export(journal.bytes(), &[signed], &[signer.public_key()]).unwrap_err();
    assert_eq!(error.fault, Fault::Disagrees("time"));
}

/// One export, signed by three keys in turn.
#[test]
fn a_journal_verifies_across_rotations_and_no_key_signs_after_its_time() {
    const COUNTS: [u32; 6] = [2, 3, 1, 4, 2, 2];
    let key = |number: u8| signer(SignatureAlgorithm::ALL[usize::from(number % 2)], number + 1);
    let mut history = KeyHistory::new(key(0).public_key());
    for number in 0..2 {
        let (old, new) = (key(number), key(number + 1));
        let retired_us = 1_000_000 * (u64::from(number) + 1);
        history.push(Rotation::sign(&history, "test-bank", retired_us, &*old, &*new).unwrap()).unwrap();
    }
    // Batch n is of time n million: checkpoints over 2, 3 and 6 batches are of 1, 2 and 5 million.
    let at = |batches: usize, by: u8| Journal::of(&COUNTS[..batches]).checkpoint_by(&*key(by));
    let journal = Journal::of(&COUNTS);
    let sound = [at(2, 0), at(3, 1), at(6, 2)];
    assert_eq!(verify_export(journal.bytes(), &sound, &history).unwrap().checkpoints, 3);
    let late = verify_export(journal.bytes(), &[at(3, 0)], &history).unwrap_err();
    let retired = CheckpointError::Retired { key: key(0).key_id(), retired_us: 1_000_000 };
    assert_eq!(late.fault, Fault::Checkpoint(retired));
    let unknown = verify_export(journal.bytes(), &[at(3, 3)], &history).unwrap_err();
    assert_eq!(unknown.fault, Fault::Checkpoint(CheckpointError::UnknownKey(key(3).key_id())));
}

proptest! {
    /// One key's signature is never another's, of whichever scheme, nor good for another message.
    #[test]
    fn signatures_belong_to_key_and_message(
        one in 1..255_u8, two in 1..255_u8, message: Vec<u8>, flip: proptest::sample::Index, second: bool,
    ) {
        let schemes = SignatureAlgorithm::ALL;
        let (one, two) = (signer(schemes[0], one), signer(schemes[usize::from(second)], two));
        let signature = two.sign(&message).unwrap();
        prop_assert!(two.public_key().verify(&message, &signature));
        prop_assert_eq!(one.public_key().verify(&message, &signature), one.public_key() == two.public_key());
        let mut changed = message.clone();
        if changed.is_empty() { changed.push(0) } else { let at = flip.index(changed.len()); changed[at] ^= 1 }
        prop_assert!(!two.public_key().verify(&changed, &signature));
        let mut changed = signature;
        changed[flip.index(64)] ^= 0x10;
        prop_assert!(!two.public_key().verify(&message, &changed));
    }
}
