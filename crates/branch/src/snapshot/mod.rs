//! Snapshots: the state of a branch at one place of its journal, in one file.
//!
//! The image is frozen on the writer's thread (clones of page pointers, some in each turn; the writer keeps and copies a
//! page before its first change after the mark) and written by a background job, only after everything in it is durable. The
//! file says which place it stands for; ahead of the journal or off its hash, it is thrown away.
//!
//! ```text
//! header (4096): magic 8 · format u16 · branch u16 · incarnation u32 · position u64 · batch u64 · head hash 32 · time_us u64
//!                business date i32 · extra length u32 · state length u64 · state digest 32 · extra … · BLAKE3 of all before, in the last 32
//! state: the book's image, as its owner lays it
//! ```
//!
//! It knows neither accounts nor customers; the state is bytes.

use skerry_journal::storage::remove_if_there;
use skerry_journal::{Head, Position, Storage, StorageError, StorageErrorKind, StorageFile};

/// What a snapshot stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The branch.
    pub branch: u16,
    /// Its incarnation.
    pub incarnation: u32,
    /// The place in the journal: state after the batch before it.
    pub head: Head,
    /// The last stamp, microseconds since 1970.
    pub time_us: u64,
    /// The open business day, days since 1970.
    pub business_date: i32,
    /// State that lies beside the book's and must open with it (the mountain range's peaks); at most [`EXTRA_MAX`] bytes.
    pub extra: Vec<u8>,
}

/// What a written snapshot says about its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Length of the state in bytes.
    pub length: u64,
    /// BLAKE3 of the state.
    pub hash: [u8; 32],
}

/// Why a snapshot cannot be used. Any of these means: take an older one, or the journal from its start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file does not hold what it says.
    #[error("snapshot {file} is damaged: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// Which part.
        what: &'static str,
    },
    /// The machine let us down.
    #[error("could not reach a snapshot")]
    Storage(#[from] StorageError),
}

const MAGIC: &[u8; 8] = b"SKSNAP01";
const FORMAT: u16 = 1;
const HEADER: usize = 4096;
const HEADER_U64: u64 = 4096;
const FIXED: usize = 120;
/// The most bytes of [`Mark::extra`].
pub const EXTRA_MAX: usize = HEADER - FIXED - 32;
/// Written and synced in pieces of this size, so that the journal's syncs never wait behind a whole snapshot. The memory
/// that a piece took in the file cache serves the next one.
const PIECE: usize = 256 << 10;

/// The file name for a snapshot at `position`.
#[must_use]
pub fn name(position: Position) -> String {
    format!("snapshot-{:020}.sks", position.0)
}

/// Snapshots in `storage`, newest first.
///
/// # Errors
///
/// As the storage says.
pub fn list<S: Storage>(storage: &S) -> Result<Vec<(Position, String)>, StorageError> {
    let mut found: Vec<_> = storage
        .list()?
        .into_iter()
        .filter_map(|file| {
            let digits = file.strip_prefix("snapshot-")?.strip_suffix(".sks")?;
            Some((Position(digits.parse().ok()?), file))
        })
        .collect();
    found.sort_unstable_by(|left, right| right.cmp(left));
    Ok(found)
}

/// Writes a snapshot: `state` is called once with a sink for the image's bytes.
///
/// It has its name only when it is whole and durable.
///
/// # Errors
///
/// As the storage says; then there is at most a draft, which the next one overwrites.
pub fn write<S: Storage>(
    storage: &S,
    mark: &Mark,
    state: impl FnOnce(&mut dyn FnMut(&[u8])),
) -> Result<Digest, StorageError> {
    assert!(mark.extra.len() <= EXTRA_MAX, "what lies beside the state fits the snapshot's header");
    let draft = "snapshot.tmp";
    remove_if_there(storage, draft)?;
    let file = storage.create(draft)?;
    let mut body = Body::new(&file);
    state(&mut |bytes| body.put(bytes));
    let digest = body.finish()?;
    file.write_at(0, &encode_header(mark, &digest))?;
    file.sync_data()?;
    storage.rename(draft, &name(mark.head.position))?;
    storage.sync_dir()?;
    Ok(digest)
}

/// Bytes on their way into the file; the first error stops writing and is told at the end.
struct Body<'a, F: StorageFile> {
    file: &'a F,
    buffer: Vec<u8>,
    offset: u64,
    length: u64,
    hasher: blake3::Hasher,
    failed: Option<StorageError>,
}

impl<'a, F: StorageFile> Body<'a, F> {
    fn new(file: &'a F) -> Self {
        let buffer = Vec::with_capacity(PIECE);
        Self { file, buffer, offset: HEADER_U64, length: 0, hasher: blake3::Hasher::new(), failed: None }
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PIECE {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() && !self.buffer.is_empty() {
            self.hasher.update(&self.buffer);
            let written = self.file.write_at(self.offset, &self.buffer).and_then(|()| self.file.sync_data());
            self.failed = written.err();
            let length = u64::try_from(self.buffer.len()).expect("a piece is 1 MiB");
            self.offset += length;
            self.file.forget(self.offset);
            self.length += length;
        }
        self.buffer.clear();
    }

    fn finish(mut self) -> Result<Digest, StorageError> {
        self.flush();
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Digest { length: self.length, hash: *self.hasher.finalize().as_bytes() }),
        }
    }
}

fn encode_header(mark: &Mark, digest: &Digest) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&mark.branch.to_le_bytes());
    header.extend_from_slice(&mark.incarnation.to_le_bytes());
    header.extend_from_slice(&mark.head.position.0.to_le_bytes());
    header.extend_from_slice(&mark.head.batch.to_le_bytes());
    header.extend_from_slice(&mark.head.hash);
    header.extend_from_slice(&mark.time_us.to_le_bytes());
    header.extend_from_slice(&mark.business_date.to_le_bytes());
    let extra = u32::try_from(mark.extra.len()).expect("bounded by EXTRA_MAX");
    header.extend_from_slice(&extra.to_le_bytes());
    header.extend_from_slice(&digest.length.to_le_bytes());
    header.extend_from_slice(&digest.hash);
    assert_eq!(header.len(), FIXED, "the fixed part of the header has the documented length");
    header.extend_from_slice(&mark.extra);
    header.resize(HEADER - 32, 0);
    let check = blake3::hash(&header);
    header.extend_from_slice(check.as_bytes());
    header
}

fn decode_header(header: &[u8]) -> Option<(Mark, Digest)> {
    let (content, check) = header.split_at_checked(HEADER - 32)?;
    if blake3::hash(content).as_bytes() != check {
        return None;
    }
    let mut rest = content;
    if take::<8>(&mut rest)? != *MAGIC || u16::from_le_bytes(take(&mut rest)?) != FORMAT {
        return None;
    }
    let branch = u16::from_le_bytes(take(&mut rest)?);
    let incarnation = u32::from_le_bytes(take(&mut rest)?);
    let position = Position(u64::from_le_bytes(take(&mut rest)?));
    let batch = u64::from_le_bytes(take(&mut rest)?);
    let hash = take(&mut rest)?;
    let time_us = u64::from_le_bytes(take(&mut rest)?);
    let business_date = i32::from_le_bytes(take(&mut rest)?);
    let extra = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let digest = Digest { length: u64::from_le_bytes(take(&mut rest)?), hash: take(&mut rest)? };
    let extra = rest.get(..extra)?.to_vec();
    Some((
        Mark { branch, incarnation, head: Head { position, batch, hash }, time_us, business_date, extra },
        digest,
    ))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// Reads the mark of the snapshot `file` alone.
///
/// # Errors
///
/// [`SnapshotError`].
pub fn read_mark<S: Storage>(storage: &S, file: &str) -> Result<(Mark, Digest), SnapshotError> {
    let mut header = vec![0; HEADER];
    storage.open(file, false)?.read_at(0, &mut header)?;
    decode_header(&header).ok_or_else(|| SnapshotError::Damaged { file: file.to_owned(), what: "header" })
}

/// Reads the snapshot `file`, its state verified against its digest.
///
/// # Errors
///
/// [`SnapshotError`].
pub fn read<S: Storage>(storage: &S, file: &str) -> Result<(Mark, Vec<u8>), SnapshotError> {
    let (mark, digest) = read_mark(storage, file)?;
    let damaged = |what| SnapshotError::Damaged { file: file.to_owned(), what };
    let length = usize::try_from(digest.length).map_err(|_| damaged("length"))?;
    let handle = storage.open(file, false)?;
    // The header is authentic, so is the length; still no allocation beyond what the file has.
    if handle.length()? < HEADER_U64.saturating_add(digest.length) {
        return Err(damaged("length"));
    }
    let mut state = vec![0; length];
    let got = handle.read_at(HEADER_U64, &mut state)?;
    if got != length || *blake3::hash(&state).as_bytes() != digest.hash {
        return Err(damaged("state"));
    }
    Ok((mark, state))
}

/// Removes all snapshots but the `keep` newest, and whatever `condemn` says is off the journal.
///
/// # Errors
///
/// As the storage says.
pub fn prune<S: Storage>(storage: &S, keep: usize) -> Result<(), StorageError> {
    let found = list(storage)?;
    for (_, file) in found.iter().skip(keep) {
        storage.remove(file)?;
    }
    if found.len() > keep { storage.sync_dir() } else { Ok(()) }
}

/// Puts a snapshot that must not be used out of the way.
///
/// # Errors
///
/// As the storage says; that it is gone already is no error.
pub fn discard<S: Storage>(storage: &S, file: &str) -> Result<(), StorageError> {
    match storage.remove(file) {
        Err(error) if error.kind != StorageErrorKind::NotFound => Err(error),
        _ => storage.sync_dir(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_journal::RealStorage;

    fn folder(name: &str) -> RealStorage {
        let path = std::env::temp_dir().join(format!("skerry-snapshot-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        RealStorage::open(path).unwrap()
    }

    fn mark(position: u64) -> Mark {
        let head = Head { position: Position(position), batch: 7, hash: [5; 32] };
        Mark { branch: 1, incarnation: 2, head, time_us: 9, business_date: -3, extra: vec![1, 2, 3] }
    }

    fn write_pieces(storage: &RealStorage, position: u64, size: usize) -> Digest {
        write(storage, &mark(position), |sink| {
            for piece in vec![7_u8; size].chunks(1000) {
                sink(piece);
            }
        })
        .unwrap()
    }

    #[test]
    fn a_snapshot_reads_back_as_written() {
        let storage = folder("roundtrip");
        for size in [0, 10, PIECE, PIECE + 1] {
            let digest = write_pieces(&storage, 40, size);
            let (found, state) = read(&storage, &name(Position(40))).unwrap();
            assert_eq!(found, mark(40));
            assert_eq!(state, vec![7; size]);
            assert_eq!(digest.length, u64::try_from(size).unwrap());
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let storage = folder("flip");
        write_pieces(&storage, 40, 5000);
        let file = storage.open(&name(Position(40)), true).unwrap();
        for offset in [0, 9, 60, 130, 4000, HEADER_U64, HEADER_U64 + 4999] {
            let mut byte = [0];
            file.read_at(offset, &mut byte).unwrap();
            file.write_at(offset, &[byte[0] ^ 4]).unwrap();
            assert!(
                matches!(read(&storage, &name(Position(40))), Err(SnapshotError::Damaged { .. })),
                "at {offset}"
            );
            file.write_at(offset, &byte).unwrap();
        }
        read(&storage, &name(Position(40))).unwrap();
    }

    #[test]
    fn only_the_newest_are_kept() {
        let storage = folder("prune");
        for position in [5, 100, 20] {
            write_pieces(&storage, position, 1);
        }
        prune(&storage, 2).unwrap();
        let positions: Vec<u64> =
            list(&storage).unwrap().into_iter().map(|(position, _)| position.0).collect();
        assert_eq!(positions, [100, 20]);
    }
}
