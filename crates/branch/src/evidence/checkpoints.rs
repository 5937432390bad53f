//! Signed checkpoints on disk: what the branch has told the world about itself.
//!
//! They are evidence, not derived: at opening the journal is held against the last one. The newest
//! [`KEPT`] stay, of the older ones the last of each business day.

use skerry_journal::storage::{read_whole, replace_whole};
use skerry_journal::{Storage, StorageError};
use skerry_proof::PublicKey;
use skerry_proof::checkpoint::{CheckpointError, SignedCheckpoint};

/// How many of the newest are kept, whatever their day.
pub const KEPT: usize = 64;

/// Why the checkpoints cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFileError {
    /// The file does not hold a checkpoint.
    #[error("could not read checkpoint {file}")]
    Damaged {
        /// The file.
        file: String,
        /// What does not fit.
        source: CheckpointError,
    },
    /// The machine let us down.
    #[error("could not reach the checkpoints")]
    Storage(#[from] StorageError),
}

/// Place and day in a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    position: u64,
    date: i64,
}

impl Name {
    /// Days are shifted so that names have no sign.
    const SHIFT: i64 = 1 << 31;

    fn of(signed: &SignedCheckpoint) -> Self {
        Self { position: signed.checkpoint.position, date: i64::from(signed.checkpoint.business_date) }
    }

    fn parse(file: &str) -> Option<Self> {
        let (position, date) = file.strip_prefix("checkpoint-")?.strip_suffix(".skc")?.split_once('-')?;
        Some(Self { position: position.parse().ok()?, date: date.parse::<i64>().ok()? - Self::SHIFT })
    }

    fn file(self) -> String {
        format!("checkpoint-{:020}-{:010}.skc", self.position, self.date + Self::SHIFT)
    }
}

/// Puts `signed` among the checkpoints, durably, and takes away what need not be kept.
///
/// # Errors
///
/// As the storage says; then it was not told to anybody.
pub fn keep<S: Storage>(storage: &S, signed: &SignedCheckpoint) -> Result<(), StorageError> {
    replace_whole(storage, &Name::of(signed).file(), &signed.encode())?;
    prune(storage)
}

fn prune<S: Storage>(storage: &S) -> Result<(), StorageError> {
    let names = names(storage)?;
    let mut removed = false;
    for (index, name) in names.iter().enumerate().skip(KEPT) {
        // Newest first: the one before it in the list is the next newer one.
        let newer = index.checked_sub(1).and_then(|newer| names.get(newer));
        if newer.is_some_and(|newer| newer.date == name.date) {
            storage.remove(&name.file())?;
            removed = true;
        }
    }
    if removed { storage.sync_dir() } else { Ok(()) }
}

/// Newest first.
fn names<S: Storage>(storage: &S) -> Result<Vec<Name>, StorageError> {
    let mut names: Vec<Name> = storage.list()?.iter().filter_map(|file| Name::parse(file)).collect();
    names.sort_unstable_by(|left, right| right.cmp(left));
    Ok(names)
}

/// All checkpoints, newest first, each read when it is asked for.
///
/// # Errors
///
/// As the storage says.
pub fn newest_first<S: Storage>(
    storage: &S,
) -> Result<impl Iterator<Item = Result<SignedCheckpoint, CheckpointFileError>> + use<'_, S>, StorageError> {
    let names = names(storage)?;
    Ok(names.into_iter().map(move |name| {
        let file = name.file();
        let bytes = read_whole(storage, &file)?;
        SignedCheckpoint::decode(&bytes).map_err(|source| CheckpointFileError::Damaged { file, source })
    }))
}

/// The newest checkpoint, and whether it was signed by `key`. If it was, its signature is checked: a damaged one must
/// not be given out in receipts. One by an earlier key is only held against the journal.
///
/// # Errors
///
/// [`CheckpointFileError`].
pub fn newest<S: Storage>(
    storage: &S,
    key: PublicKey,
) -> Result<Option<(SignedCheckpoint, bool)>, CheckpointFileError> {
    let Some(name) = names(storage)?.first().copied() else { return Ok(None) };
    let Some(signed) = newest_first(storage)?.next().transpose()? else { return Ok(None) };
    match signed.verify(&[key]) {
        Ok(()) => Ok(Some((signed, true))),
        Err(CheckpointError::UnknownKey(_)) => Ok(Some((signed, false))),
        Err(source) => Err(CheckpointFileError::Damaged { file: name.file(), source }),
    }
}

/// Takes away the checkpoints beyond `position`: those of a life that was declared lost. Returns how many.
///
/// # Errors
///
/// As the storage says.
pub fn put_aside<S: Storage>(storage: &S, position: u64) -> Result<usize, StorageError> {
    let mut count = 0;
    for name in names(storage)?.into_iter().filter(|name| name.position > position) {
        storage.rename(&name.file(), &format!("{}.lost", name.file()))?;
        count += 1;
    }
    storage.sync_dir()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_journal::RealStorage;
    use skerry_journal::StorageFile;
    use skerry_proof::checkpoint::Checkpoint;
    use skerry_proof::{Ed25519Signer, HashAlgorithm, Signer};

    fn signed(position: u64, business_date: i32) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            algorithm: HashAlgorithm::Blake3,
            institution: "one".to_owned(),
            branch: 1,
            incarnation: 1,
            epoch: 1,
            position,
            batches: position,
            head: [1; 32],
            history_root: [2; 32],
            business_date,
            time_us: 0,
            totals: Vec::new(),
            channels: Vec::new(),
            state_digest: None,
        };
        checkpoint.sign(&Ed25519Signer::from_seed(&[1; 32])).unwrap()
    }

    fn folder(name: &str) -> RealStorage {
        let path = std::env::temp_dir().join(format!("skerry-checkpoints-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        RealStorage::open(path).unwrap()
    }

    fn positions(storage: &RealStorage) -> Vec<u64> {
        newest_first(storage).unwrap().map(|signed| signed.unwrap().checkpoint.position).collect()
    }

    #[test]
    fn of_old_days_the_last_one_stays() {
        let storage = folder("prune");
        for position in 0..200 {
            keep(&storage, &signed(position, i32::try_from(position / 50).unwrap() - 1)).unwrap();
        }
        let kept = positions(&storage);
        assert_eq!(kept[..3], [199, 198, 197]);
        assert_eq!(kept[KEPT..], [99, 49], "closing days before the newest {KEPT}: {kept:?}");
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_the_key_is_known() {
        let storage = folder("flip");
        keep(&storage, &signed(7, 0)).unwrap();
        let [own, other] = [[1; 32], [2; 32]].map(|seed| Ed25519Signer::from_seed(&seed).public_key());
        assert!(newest(&storage, own).unwrap().unwrap().1);
        assert!(!newest(&storage, other).unwrap().unwrap().1, "by another key: held against, not given out");
        let file = storage.open(&storage.list().unwrap()[0], true).unwrap();
        let mut unnoticed = 0;
        for offset in 0..file.length().unwrap() {
            let mut byte = [0];
            file.read_at(offset, &mut byte).unwrap();
            file.write_at(offset, &[byte[0] ^ 8]).unwrap();
            unnoticed += u32::from(newest(&storage, own).is_ok_and(|found| found.unwrap().1));
            file.write_at(offset, &byte).unwrap();
        }
        assert_eq!(unnoticed, 0);
    }

    #[test]
    fn a_lost_life_is_put_aside() {
        let storage = folder("lost");
        for position in [10, 20, 30] {
            keep(&storage, &signed(position, 0)).unwrap();
        }
        assert_eq!(put_aside(&storage, 20).unwrap(), 1);
        assert_eq!(positions(&storage), [20, 10]);
    }
}
