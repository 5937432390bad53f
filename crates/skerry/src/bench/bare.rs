//! The bare loop: the least that any durable ledger must do, and what ours is held against.
//!
//! An id check in a hash map, two account updates, the links from each transfer to the one before on both its
//! accounts, and an append of 80 bytes a transfer that is synced batch by batch. No rules, no hashes, no network.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use skerry_client::packed::TRANSFER_BYTES;

/// Bytes of a record.
const RECORD_BYTES: usize = 80;

/// Ids are random already: their low half is hash enough.
#[derive(Debug, Default)]
struct LowHalf(u64);

impl Hasher for LowHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are hashed as numbers")
    }

    #[inline]
    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    debits: u128,
    credits: u128,
    /// Position of its last transfer, from 1.
    last: u64,
}

/// The loop's state and file.
pub(super) struct Bare {
    ids: HashMap<u128, u64, BuildHasherDefault<LowHalf>>,
    accounts: Vec<Account>,
    file: File,
    offset: u64,
    position: u64,
    records: Vec<u8>,
    /// Time in the loop alone: what makes the transfers is not counted.
    pub(super) spent: Duration,
}

impl Bare {
    /// A loop over `accounts` (references as of branch 1) with room for `transfers`, writing a file in `folder`.
    ///
    /// # Errors
    ///
    /// The file cannot be made or its space not be set aside.
    pub(super) fn new(folder: &Path, accounts: u32, transfers: u64) -> anyhow::Result<Self> {
        let path = folder.join("bare");
        let make = || format!("could not make {}", path.display());
        let file = OpenOptions::new().create_new(true).write(true).open(&path).with_context(make)?;
        fallocate(&file, FallocateFlags::empty(), 0, transfers * RECORD_BYTES as u64).with_context(make)?;
        file.sync_all().with_context(make)?;
        Ok(Self {
            ids: HashMap::with_capacity_and_hasher(
                usize::try_from(transfers)?,
                BuildHasherDefault::default(),
            ),
            accounts: vec![Account::default(); accounts as usize + 1],
            file,
            offset: 0,
            position: 0,
            records: Vec::new(),
            spent: Duration::ZERO,
        })
    }

    /// Applies one packed batch and syncs it.
    ///
    /// # Errors
    ///
    /// An id that was used before, or a disk that fails.
    pub(super) fn batch(&mut self, packed: &[u8]) -> anyhow::Result<()> {
        let started = Instant::now();
        self.records.clear();
        let (transfers, _whole) = packed.as_chunks::<TRANSFER_BYTES>();
        for transfer in transfers {
            ensure!(self.apply(transfer), "the load used an id twice");
        }
        self.file
            .write_all_at(&self.records, self.offset)
            .context("could not write the bare loop's batch")?;
        self.file.sync_data().context("could not sync the bare loop's batch")?;
        self.offset += self.records.len() as u64;
        self.spent += started.elapsed();
        Ok(())
    }

    #[inline]
    fn apply(&mut self, transfer: &[u8; TRANSFER_BYTES]) -> bool {
        let id = u128::from_le_bytes(field(transfer, 0));
        let (debit, credit) =
            (u64::from_le_bytes(field(transfer, 16)), u64::from_le_bytes(field(transfer, 24)));
        let amount = u64::from_le_bytes(field(transfer, 32));
        self.position += 1;
        if self.ids.insert(id, self.position).is_some() {
            return false;
        }
        let mut record = [0; RECORD_BYTES];
        record[..40].copy_from_slice(&transfer[..40]);
        let payer = &mut self.accounts[serial(debit)];
        payer.debits += u128::from(amount);
        record[40..48].copy_from_slice(&payer.last.to_le_bytes());
        payer.last = self.position;
        let payee = &mut self.accounts[serial(credit)];
        payee.credits += u128::from(amount);
        record[48..56].copy_from_slice(&payee.last.to_le_bytes());
        payee.last = self.position;
        record[56..64].copy_from_slice(&self.position.to_le_bytes());
        self.records.extend_from_slice(&record);
        true
    }

    /// Transfers applied.
    pub(super) const fn transfers(&self) -> u64 {
        self.position
    }

    /// Whether all debits equal all credits.
    pub(super) fn balances(&self) -> bool {
        let debits: u128 = self.accounts.iter().map(|account| account.debits).sum();
        debits == self.accounts.iter().map(|account| account.credits).sum()
    }
}

#[inline]
fn field<const N: usize>(bytes: &[u8; TRANSFER_BYTES], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("fields lie within the record")
}

/// The serial of a customer account's reference.
#[inline]
const fn serial(reference: u64) -> usize {
    (reference & 0xffff_ffff) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::batch::fill_funding;
    use crate::bench::process::Folder;
    use crate::bench::random::Random;

    #[test]
    fn the_loop_keeps_books_and_refuses_a_second_time() {
        let folder = Folder::new(&std::env::temp_dir(), "skerry-bench-bare", false).unwrap();
        let mut bare = Bare::new(folder.path(), 4, 100).unwrap();
        let mut packed = Vec::new();
        fill_funding(
            &mut Random::new(1),
            1 << 48 | 1,
            &[1 << 48 | 2, 1 << 48 | 3, 1 << 48 | 2],
            50,
            &mut packed,
        );
        bare.batch(&packed).unwrap();
        assert!(bare.balances() && bare.transfers() == 3);
        assert_eq!((bare.accounts[1].debits, bare.accounts[2].credits), (150, 100));
        let written = std::fs::read(folder.path().join("bare")).unwrap();
        assert_eq!(
            u64::from_le_bytes(written[160 + 48..160 + 56].try_into().unwrap()),
            1,
            "links to the one before"
        );
        assert!(bare.batch(&packed).is_err());
    }
}
