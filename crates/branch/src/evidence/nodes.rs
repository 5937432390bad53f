//! The nodes of the history, kept so that paths can be proved: 32 bytes each, in the order they are made.
//!
//! A derived file. Its first 4096 bytes hold a mark: up to which place of the journal the nodes were durable when
//! it was written. What lies behind the mark is made again from the journal at opening.
//!
//! # Invariants
//!
//! - The mark is written only after the nodes it covers are synced; nodes it covers are never rewritten.

use skerry_journal::storage::remove_if_there;
use skerry_journal::{Head, Position, Storage, StorageError, StorageErrorKind, StorageFile};
use skerry_proof::mmr::{Mmr, node_count};
use skerry_proof::{Hash, HashAlgorithm};

/// The file's name.
pub const FILE: &str = "history-nodes.skn";
const MAGIC: &[u8; 8] = b"SKNODES1";
const HEADER: u64 = 4096;
const MARK: usize = 96;

/// The node file, open for one writer.
#[derive(Debug)]
pub struct Nodes<F> {
    file: F,
    mmr: Mmr,
    marked: Head,
}

impl<F: StorageFile> Nodes<F> {
    /// Opens the file, or makes it anew if it is not there, damaged, or stands for a place that `agrees` denies.
    ///
    /// The caller then appends the batches from [`Nodes::marked`] on.
    ///
    /// # Errors
    ///
    /// As the storage says.
    pub fn open<S: Storage<File = F>>(
        storage: &S,
        algorithm: HashAlgorithm,
        agrees: impl Fn(&Head) -> bool,
    ) -> Result<Self, StorageError> {
        match storage.open(FILE, true) {
            Ok(file) => {
                if let Some(marked) = read_mark(&file)?.filter(agrees)
                    && let Some(mmr) = read_peaks(&file, algorithm, marked.batch)?
                {
                    return Ok(Self { file, mmr, marked });
                }
            }
            Err(error) if error.kind == StorageErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        crate::coverage::Mark::NodesAnew.hit();
        remove_if_there(storage, FILE)?;
        let file = storage.create(FILE)?;
        storage.sync_dir()?;
        Ok(Self { file, mmr: Mmr::new(algorithm), marked: Head::default() })
    }

    /// Makes the file anew for a journal whose beginning is archived: it goes on from the peaks in `mmr`, which stands for
    /// `head`. Leaves behind that place can be proved, those before it no more.
    ///
    /// # Errors
    ///
    /// As the storage says.
    pub fn resume<S: Storage<File = F>>(storage: &S, mmr: Mmr, head: Head) -> Result<Self, StorageError> {
        remove_if_there(storage, FILE)?;
        let file = storage.create(FILE)?;
        storage.sync_dir()?;
        for (number, peak) in peak_numbers(mmr.count()).zip(mmr.peaks()) {
            file.write_at(HEADER + number * 32, peak)?;
        }
        let mut nodes = Self { file, mmr, marked: Head::default() };
        nodes.mark(head)?;
        Ok(nodes)
    }

    /// The place that the file is known to stand for after a crash.
    #[must_use]
    pub fn marked(&self) -> Head {
        self.marked
    }

    /// How many leaves it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.mmr.count()
    }

    /// Appends the leaf of the next batch.
    ///
    /// # Errors
    ///
    /// As the storage says; then the leaf is still to be appended.
    pub fn append(&mut self, leaf: Hash) -> Result<(), StorageError> {
        let offset = HEADER + node_count(self.mmr.count()) * 32;
        let mut made = Vec::with_capacity(64);
        let mut grown = self.mmr.clone();
        grown.append(leaf, |node| made.extend_from_slice(&node));
        self.file.write_at(offset, &made)?;
        self.mmr = grown;
        Ok(())
    }

    /// Syncs the nodes and marks that they stand for `head`.
    ///
    /// # Errors
    ///
    /// As the storage says; the old mark then still holds.
    pub fn mark(&mut self, head: Head) -> Result<(), StorageError> {
        assert_eq!(head.batch, self.mmr.count(), "the mark names the place that the nodes have reached");
        if head == self.marked {
            return Ok(());
        }
        self.file.sync_data()?;
        self.file.write_at(0, &encode_mark(&head))?;
        self.file.sync_data()?;
        self.marked = head;
        Ok(())
    }
}

/// Fetches the node `number`, or `None` if it is not there: beyond the end, or from before a resumption.
///
/// # Errors
///
/// As the storage says.
pub fn read<F: StorageFile>(file: &F, number: u64) -> Result<Option<Hash>, StorageError> {
    let mut node = [0; 32];
    let got = file.read_at(HEADER + number * 32, &mut node)?;
    Ok((got == node.len() && node != [0; 32]).then_some(node))
}

/// Takes the mark away, so that the next opening makes the nodes anew.
///
/// # Errors
///
/// As the storage says.
pub fn condemn<S: Storage>(storage: &S) -> Result<(), StorageError> {
    let file = storage.open(FILE, true)?;
    file.write_at(0, &[0; MARK])?;
    file.sync_data()
}

fn encode_mark(head: &Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&head.position.0.to_le_bytes());
    bytes.extend_from_slice(&head.batch.to_le_bytes());
    bytes.extend_from_slice(&head.hash);
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(check.as_bytes());
    bytes
}

fn read_mark<F: StorageFile>(file: &F) -> Result<Option<Head>, StorageError> {
    let mut bytes = [0; 88];
    if file.read_at(0, &mut bytes)? < bytes.len() {
        return Ok(None);
    }
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[24..56]);
    let head = Head { position: Position(number(8)), batch: number(16), hash };
    Ok((encode_mark(&head) == bytes).then_some(head))
}

/// The numbers of the peaks over `count` leaves: each is the last node made when its last leaf was appended.
fn peak_numbers(count: u64) -> impl Iterator<Item = u64> {
    let bits = (0..u64::BITS).rev().filter(move |bit| count & (1 << bit) != 0);
    bits.scan(0, |end, bit| {
        *end += 1 << bit;
        Some(node_count(*end) - 1)
    })
}

fn read_peaks<F: StorageFile>(
    file: &F,
    algorithm: HashAlgorithm,
    count: u64,
) -> Result<Option<Mmr>, StorageError> {
    let mut peaks = Vec::new();
    for number in peak_numbers(count) {
        match read(file, number)? {
            Some(peak) => peaks.push(peak),
            None => return Ok(None),
        }
    }
    Ok(Mmr::from_peaks(algorithm, count, peaks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_journal::RealStorage;
    use skerry_journal::storage::fault::FaultStorage;
    use skerry_proof::mmr;

    const BLAKE3: HashAlgorithm = HashAlgorithm::Blake3;

    fn folder(name: &str) -> RealStorage {
        let path = std::env::temp_dir().join(format!("skerry-nodes-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        RealStorage::open(path).unwrap()
    }

    fn leaf(index: u64) -> Hash {
        *blake3::hash(&index.to_le_bytes()).as_bytes()
    }

    fn head(batch: u64) -> Head {
        Head { position: Position(batch * 10), batch, hash: leaf(batch) }
    }

    #[test]
    fn it_goes_on_from_its_mark_and_proves_what_a_range_in_memory_proves() {
        let storage = folder("marks");
        let mut whole = Mmr::new(BLAKE3);
        let mut made = 0;
        for marked in [1_u64, 2, 7, 64, 100] {
            let mut nodes = Nodes::open(&storage, BLAKE3, |_| true).unwrap();
            assert_eq!(nodes.count(), made);
            for index in made..marked {
                nodes.append(leaf(index)).unwrap();
                whole.append(leaf(index), |_| {});
            }
            nodes.mark(head(marked)).unwrap();
            // Unmarked leaves are forgotten at opening, though their bytes are there.
            nodes.append(leaf(9999)).unwrap();
            made = marked;
            let file = storage.open(FILE, false).unwrap();
            for index in 0..made {
                let path = mmr::path(BLAKE3, made, index, |number| read(&file, number).unwrap()).unwrap();
                assert!(mmr::verify_path(BLAKE3, &leaf(index), index, made, &path, &whole.root()));
            }
        }
    }

    #[test]
    fn resumed_from_peaks_it_proves_what_comes_after_and_nothing_before() {
        let storage = folder("resume");
        let mut whole = Mmr::new(BLAKE3);
        for index in 0..11 {
            whole.append(leaf(index), |_| {});
        }
        let mut nodes = Nodes::resume(&storage, whole.clone(), head(11)).unwrap();
        for index in 11..40 {
            nodes.append(leaf(index)).unwrap();
            whole.append(leaf(index), |_| {});
        }
        let file = storage.open(FILE, false).unwrap();
        for index in 0..40 {
            let path = mmr::path(BLAKE3, 40, index, |number| read(&file, number).unwrap());
            let proved = path
                .is_some_and(|path| mmr::verify_path(BLAKE3, &leaf(index), index, 40, &path, &whole.root()));
            // The last leaf before the resumption is a peak itself, so it can still be proved.
            assert_eq!(proved, index >= 10, "leaf {index}");
        }
    }

    #[test]
    fn a_leaf_that_could_not_be_written_is_still_to_be_appended() {
        let storage = FaultStorage::new(1);
        let mut nodes = Nodes::open(&storage, BLAKE3, |_| true).unwrap();
        nodes.append(leaf(0)).unwrap();
        storage.short_next_write(0);
        assert!(nodes.append(leaf(1)).is_err());
        assert_eq!(nodes.count(), 1);
        nodes.append(leaf(1)).unwrap();
        nodes.mark(head(2)).unwrap();
        let mut whole = Mmr::new(BLAKE3);
        (0..2).for_each(|index| whole.append(leaf(index), |_| {}));
        let file = storage.open(FILE, false).unwrap();
        let path = mmr::path(BLAKE3, 2, 1, |number| read(&file, number).unwrap()).unwrap();
        assert!(mmr::verify_path(BLAKE3, &leaf(1), 1, 2, &path, &whole.root()));
    }

    #[test]
    fn off_the_journal_or_damaged_it_begins_anew() {
        let storage = folder("anew");
        let mut nodes = Nodes::open(&storage, BLAKE3, |_| true).unwrap();
        nodes.append(leaf(0)).unwrap();
        nodes.mark(head(1)).unwrap();
        assert_eq!(Nodes::open(&storage, BLAKE3, |_| true).unwrap().count(), 1);
        storage.open(FILE, true).unwrap().write_at(20, &[1]).unwrap();
        assert_eq!(Nodes::open(&storage, BLAKE3, |_| true).unwrap().count(), 0);
        let mut nodes = Nodes::open(&storage, BLAKE3, |_| true).unwrap();
        nodes.append(leaf(0)).unwrap();
        nodes.mark(head(1)).unwrap();
        assert_eq!(Nodes::open(&storage, BLAKE3, |_| false).unwrap().count(), 0);
    }
}
