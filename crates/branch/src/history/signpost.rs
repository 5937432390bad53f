//! Where the rows of an account, or of a reference, stand in a full chunk.
//!
//! Without them a question about one account reads every row that is not sealed yet, a million and more under load.
//! With them it reads a handful of each chunk. They are made once, when a chunk is full: a counting sort.

use super::columns::{CHUNK_ROWS, Columns};

/// Rows that share a bucket are told apart by reading them; four a bucket keep both small.
const BUCKETS: usize = CHUNK_ROWS / 4;

/// Rows of a chunk by the hash of something in them.
#[derive(Debug, Clone, Default)]
struct Buckets {
    /// Where each bucket's rows begin, and where the last one's end; nothing where no row is filed.
    starts: Box<[u16]>,
    /// Rows, in order within their bucket.
    rows: Box<[u16]>,
}

impl Buckets {
    /// Files the rows, which come in order.
    fn of(filed: impl Iterator<Item = (usize, u16)> + Clone) -> Self {
        let mut starts = vec![0_u16; BUCKETS + 1];
        let mut count = 0_usize;
        for (bucket, _) in filed.clone() {
            starts[bucket + 1] += 1;
            count += 1;
        }
        if count == 0 {
            return Self::default();
        }
        let mut rows = vec![0_u16; count];
        for bucket in 0..BUCKETS {
            starts[bucket + 1] += starts[bucket];
        }
        let mut next = starts.clone();
        for (bucket, row) in filed {
            rows[usize::from(next[bucket])] = row;
            next[bucket] += 1;
        }
        Self { starts: starts.into(), rows: rows.into() }
    }

    fn candidates(&self, bucket: usize) -> impl Iterator<Item = u32> + '_ {
        let range = match self.starts.get(bucket..bucket + 2) {
            Some([from, to]) => usize::from(*from)..usize::from(*to),
            _ => 0..0,
        };
        self.rows[range].iter().map(|row| u32::from(*row))
    }

    fn bytes(&self) -> usize {
        (self.starts.len() + self.rows.len()) * size_of::<u16>()
    }
}

/// The signposts of one chunk.
#[derive(Debug, Clone)]
pub(super) struct Signposts {
    accounts: Buckets,
    references: Buckets,
}

/// The bucket of an account. Accounts are numbered by the bank, so nobody can choose ones that meet.
#[inline]
fn of_account(account: u64) -> usize {
    (account.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % BUCKETS
}

/// The bucket of a reference, by its keyed hash.
#[inline]
fn of_reference(hash: u64) -> usize {
    (hash >> 32) as usize % BUCKETS
}

impl Signposts {
    /// Those of `columns`, which change no more.
    pub(super) fn of(columns: &Columns) -> Self {
        const { assert!(CHUNK_ROWS * 2 <= u16::MAX as usize) };
        let both = columns.debits.iter().zip(&columns.credits).zip(0_u16..);
        let accounts =
            both.flat_map(|((debit, credit), row)| [(of_account(*debit), row), (of_account(*credit), row)]);
        let hashes = columns.references.iter().zip(0_u16..).filter(|(hash, _)| **hash != 0);
        let references = hashes.map(|(hash, row)| (of_reference(*hash), row));
        Self { accounts: Buckets::of(accounts), references: Buckets::of(references) }
    }

    /// Rows among which are all of `account`, in order; a row may come twice in a row.
    pub(super) fn account(&self, account: u64) -> impl Iterator<Item = u32> + '_ {
        self.accounts.candidates(of_account(account))
    }

    /// Rows among which are all whose reference has this hash, in order.
    pub(super) fn reference(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        self.references.candidates(of_reference(hash))
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        self.accounts.bytes() + self.references.bytes()
    }
}
