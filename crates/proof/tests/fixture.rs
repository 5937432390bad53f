//! Files of format 1, kept for ever: an export, a checkpoint and a receipt that every later release
//! must still verify, and that this one makes to the byte.
//!
//! `SKERRY_BLESS=1 cargo test --package skerry-proof --test fixture` writes the files of a new
//! format; those of a released one never change.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Journal, signer};
use skerry_proof::batch::Batches;
use skerry_proof::{BatchError, Receipt, SignedCheckpoint, Signer, Standing, verify_export};

fn fixture(name: &str, made: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if std::env::var_os("SKERRY_BLESS").is_some() {
        fs::write(&path, made).unwrap();
    }
    fs::read(&path).unwrap()
}

#[test]
fn files_of_format_1_verify_and_are_made_the_same() {
    let journal = Journal::of(&[2, 0, 7, 35, 1]);
    let (made_export, made_checkpoint) = (journal.bytes().concat(), journal.checkpoint().encode());
    let made_receipt = journal.receipt(3, 33).encode();
    let export = fixture("export.bin", &made_export);
    let checkpoint = fixture("checkpoint.bin", &made_checkpoint);
    let receipt = fixture("receipt.bin", &made_receipt);

    let keys = [signer().public_key()];
    let checkpoint = SignedCheckpoint::decode(&checkpoint).unwrap();
    let batches: Vec<&[u8]> = Batches::new(&export).collect::<Result<_, _>>().unwrap();
    let summary = verify_export(batches, std::slice::from_ref(&checkpoint), &keys).unwrap();
    assert_eq!((summary.batches, summary.records, summary.checkpoints), (5, 45, 1));
    let read = Receipt::decode(&receipt).unwrap();
    assert_eq!(read.verify(&keys), Ok(Standing::SignedNotAnchored));
    assert_eq!((read.position, read.tail.as_slice()), (42, b"tail 3.33".as_slice()));

    assert!(made_export == export, "the export of format 1 has changed");
    assert!(made_checkpoint == checkpoint.encode(), "the checkpoint of format 1 has changed");
    assert!(made_receipt == receipt, "the receipt of format 1 has changed");
}

#[test]
fn batches_back_to_back_are_told_apart_until_the_first_fault() {
    let bytes = Journal::of(&[2, 0, 7]).bytes();
    let mut joined = bytes.concat();
    let whole: Vec<&[u8]> = Batches::new(&joined).map(Result::unwrap).collect();
    assert_eq!(whole, bytes);
    joined.extend_from_slice(&[0; 300]);
    let ends: Vec<_> = Batches::new(&joined).collect();
    assert_eq!(ends.len(), 4);
    assert_eq!(ends[3], Err(BatchError::Magic));
    assert_eq!(Batches::new(&joined[..700]).last(), Some(Err(BatchError::Short)));
}
