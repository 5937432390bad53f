//! A small journal to verify, made of nothing but numbers: batches, their parts and checkpoints.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use skerry_proof::batch::{FORMAT, NO_PREVIOUS, extras_hash};
use skerry_proof::{
    BatchHeader, Checkpoint, CurrencyTotal, Ed25519Signer, Hash, HashAlgorithm, Mmr, RECORD_LENGTH, Receipt,
    SignedCheckpoint, Signer, Tails, leaf_hashes, leaves::record_salt, mmr, path, root,
};

/// The record at `index` of batch `number`.
pub(crate) fn record(number: u64, index: u32) -> [u8; RECORD_LENGTH] {
    let mut record = [0; RECORD_LENGTH];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record[8..12].copy_from_slice(&index.to_le_bytes());
    record[12..].fill(u8::try_from((number + u64::from(index)) % 251).unwrap());
    record
}

/// A batch and what it was made of.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Vec<u8>,
    pub(crate) leaves: Vec<Hash>,
}

/// A journal in memory, with every node of its history.
pub(crate) struct Journal {
    pub(crate) evidence: HashAlgorithm,
    pub(crate) batches: Vec<Made>,
    pub(crate) history: Mmr,
    pub(crate) nodes: Vec<Hash>,
    pub(crate) position: u64,
    pub(crate) head: Hash,
}

impl Journal {
    /// One batch for each count of records; every third record has a tail.
    pub(crate) fn of(counts: &[u32]) -> Self {
        Self::with(HashAlgorithm::Blake3, counts)
    }

    /// The same, of a branch with this evidence hash.
    pub(crate) fn with(evidence: HashAlgorithm, counts: &[u32]) -> Self {
        let mut journal = Self {
            evidence,
            batches: Vec::new(),
            history: Mmr::new(evidence),
            nodes: Vec::new(),
            position: 0,
            head: NO_PREVIOUS,
        };
        for &count in counts {
            journal.append(count);
        }
        journal
    }

    pub(crate) fn append(&mut self, count: u32) {
        let number = self.history.count();
        let records: Vec<u8> = (0..count).flat_map(|index| record(number, index)).collect();
        let texts: Vec<(u32, String)> =
            (0..count).step_by(3).map(|index| (index, format!("tail {number}.{index}"))).collect();
        let tails: Vec<(u32, &[u8])> = texts.iter().map(|(index, text)| (*index, text.as_bytes())).collect();
        let mut area = Vec::new();
        Tails::encode(&tails, &mut area);
        let actors = format!("actors of {number}");

        let salt = [u8::try_from(number % 256).unwrap(); 32];
        let mut leaves = Vec::new();
        leaf_hashes(self.evidence, &salt, &records, Some(&Tails::parse(&area, count).unwrap()), &mut leaves);
        let header = BatchHeader {
            format: FORMAT,
            algorithm: HashAlgorithm::Blake3,
            evidence: self.evidence,
            branch: 7,
            incarnation: 1,
            epoch: 3 + number / 4,
            batch: number,
            first_position: self.position,
            record_count: count,
            business_date: 20_000 + i32::try_from(number / 3).unwrap(),
            time_us: 1_000_000 * number,
            actors_length: u32::try_from(actors.len()).unwrap(),
            tails_length: u32::try_from(area.len()).unwrap(),
            previous: self.head,
            record_root: root(self.evidence, &mut leaves.clone()),
            extras_hash: extras_hash(actors.as_bytes(), &area),
            salt,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&records);
        bytes.extend_from_slice(actors.as_bytes());
        bytes.extend_from_slice(&area);
        let nodes = &mut self.nodes;
        self.history.append(header.history_leaf(), |node| nodes.push(node));
        self.position = header.end_position();
        self.head = header.hash();
        self.batches.push(Made { header, bytes, leaves });
    }

    pub(crate) fn bytes(&self) -> Vec<Vec<u8>> {
        self.batches.iter().map(|batch| batch.bytes.clone()).collect()
    }

    pub(crate) fn node(&self) -> impl Fn(u64) -> Option<Hash> {
        |number| self.nodes.get(usize::try_from(number).ok()?).copied()
    }

    /// What the branch would sign now.
    pub(crate) fn checkpoint(&self) -> SignedCheckpoint {
        self.checkpoint_by(&signer())
    }

    pub(crate) fn checkpoint_by(&self, signer: &dyn Signer) -> SignedCheckpoint {
        let last = self.batches.last();
        let checkpoint = Checkpoint {
            algorithm: self.evidence,
            institution: "test-bank".to_owned(),
            branch: 7,
            incarnation: 1,
            epoch: last.map_or(0, |batch| batch.header.epoch),
            position: self.position,
            batches: self.history.count(),
            head: self.head,
            history_root: self.history.root(),
            business_date: last.map_or(0, |batch| batch.header.business_date),
            time_us: last.map_or(0, |batch| batch.header.time_us),
            totals: vec![
                CurrencyTotal { currency: 156, debits: 5, credits: 5 },
                CurrencyTotal { currency: 978, debits: u128::MAX, credits: u128::MAX },
            ],
            channels: Vec::new(),
            state_digest: self.history.count().is_multiple_of(2).then_some([9; 32]),
        };
        checkpoint.sign(signer).unwrap()
    }

    /// The receipt of a record, under a checkpoint of now.
    pub(crate) fn receipt(&self, batch: u64, index: u32) -> Receipt {
        let made = &self.batches[usize::try_from(batch).unwrap()];
        let body = made.header.split(&made.bytes[256..]).unwrap();
        let (record, tail) = body.record(index).unwrap();
        let place = usize::try_from(index).unwrap();
        Receipt {
            record: *record,
            tail: tail.unwrap_or_default().to_vec(),
            salt: record_salt(&made.header.salt, place),
            position: made.header.first_position + u64::from(index),
            first_position: made.header.first_position,
            record_count: made.header.record_count,
            batch,
            record_path: path(self.evidence, &made.leaves, place).unwrap(),
            history_path: mmr::path(self.evidence, self.history.count(), batch, self.node()).unwrap(),
            checkpoint: self.checkpoint(),
        }
    }
}

pub(crate) fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(&[42; 32])
}
