//! Side files: what is derived from the journal and may be thrown away.
//!
//! A side file is written once, from its first byte to its last, and then only read. It is laid in
//! blocks of 4096 bytes, each with a checksum, so that a flipped bit is an error that names file and
//! offset and never a wrong answer. Its last block is the footer, which says what the file stands for.
//!
//! ```text
//! name.tmp: block · block · … · footer    sync, rename to name, sync folder
//! ```
//!
//! This file is the only place of `ids` and `history` that knows the journal's file seam.
//!
//! # Invariants
//!
//! - A name without `.tmp` is a file that was whole and durable before it got the name.
//! - No byte is handed out whose block does not match its checksum.

use std::sync::Arc;

use skerry_journal::storage::{Storage, StorageError, StorageErrorKind, StorageFile};

use super::mix::checksum;

const BLOCK: usize = 4096;
const SUM: usize = 8;
/// Bytes of content in a block.
pub(crate) const PAYLOAD: usize = BLOCK - SUM;
const FLUSH: usize = 1 << 20;

/// Why a side file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SideError {
    /// The machine refused.
    #[error("could not keep a side file")]
    Storage(#[from] StorageError),
    /// The bytes are not those that were written.
    #[error("side file {file} is damaged at offset {offset}: {what}")]
    Damaged {
        /// Which file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// The record that a side file points at could not be read from the journal.
    #[error("could not read the record at position {position}")]
    Record {
        /// Where in the journal.
        position: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was derived from archived positions is not all here, and the journal that is left cannot make it again.
    #[error(
        "the {what} does not cover all positions before {start}, whose records are archived: restore its files from a \
         backup"
    )]
    Unfounded {
        /// What is incomplete.
        what: &'static str,
        /// The first position that the journal still has.
        start: u64,
    },
    /// The record that a side file points at is in the archive, and that is not there now.
    #[error(transparent)]
    Away(skerry_journal::ReadError),
    /// The record that a side file points at is in the archive, which cannot be reached from here.
    #[error("the record at position {position} is archived")]
    Archived {
        /// Where in the journal.
        position: u64,
    },
}

/// A folder of side files; any [`Storage`].
#[derive(Clone)]
pub struct SideFolder(Arc<dyn Folder>);

impl std::fmt::Debug for SideFolder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("SideFolder").field(&self.0.place()).finish()
    }
}

trait Folder: Send + Sync {
    fn place(&self) -> String;
    fn create(&self, name: &str) -> Result<Arc<dyn Bytes>, StorageError>;
    fn open(&self, name: &str) -> Result<Arc<dyn Bytes>, StorageError>;
    fn list(&self) -> Result<Vec<String>, StorageError>;
    fn publish(&self, draft: &str, name: &str) -> Result<(), StorageError>;
    fn remove(&self, name: &str) -> Result<(), StorageError>;
}

trait Bytes: Send + Sync {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;
    fn sync(&self) -> Result<(), StorageError>;
    fn length(&self) -> Result<u64, StorageError>;
}

struct Over<S>(S);

impl<S: Storage> Folder for Over<S> {
    fn place(&self) -> String {
        self.0.place()
    }
    fn create(&self, name: &str) -> Result<Arc<dyn Bytes>, StorageError> {
        self.remove(name)?;
        Ok(Arc::new(Opened(self.0.create(name)?)))
    }
    fn open(&self, name: &str) -> Result<Arc<dyn Bytes>, StorageError> {
        Ok(Arc::new(Opened(self.0.open(name, false)?)))
    }
    fn list(&self) -> Result<Vec<String>, StorageError> {
        self.0.list()
    }
    fn publish(&self, draft: &str, name: &str) -> Result<(), StorageError> {
        self.0.rename(draft, name)?;
        self.0.sync_dir()
    }
    fn remove(&self, name: &str) -> Result<(), StorageError> {
        match self.0.remove(name) {
            Err(error) if error.kind == StorageErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

struct Opened<F>(F);

impl<F: StorageFile> Bytes for Opened<F> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.0.read_at(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write_at(offset, bytes)
    }
    fn sync(&self) -> Result<(), StorageError> {
        self.0.sync_data()
    }
    fn length(&self) -> Result<u64, StorageError> {
        self.0.length()
    }
}

impl SideFolder {
    /// The side files in `storage`, which nothing else writes to.
    pub fn new<S: Storage>(storage: S) -> Self {
        Self(Arc::new(Over(storage)))
    }

    /// Names that begin with `prefix` and end with `suffix`; drafts that a crash left behind are removed.
    pub(crate) fn names(&self, prefix: &str, suffix: &str) -> Result<Vec<String>, SideError> {
        let mut names = self.0.list()?;
        for draft in names.iter().filter(|name| name.starts_with(prefix) && name.ends_with(".tmp")) {
            self.0.remove(draft)?;
        }
        names.retain(|name| name.starts_with(prefix) && name.ends_with(suffix));
        names.sort_unstable();
        Ok(names)
    }

    /// Takes a file away. That it comes back after a power cut does no harm: opening looks again.
    pub(crate) fn remove(&self, name: &str) -> Result<(), SideError> {
        Ok(self.0.remove(name)?)
    }

    /// If the error names a damaged file, takes it away, so that opening again rebuilds it. Returns the error.
    pub(crate) fn discard(&self, error: SideError) -> SideError {
        match error {
            SideError::Damaged { ref file, .. } => self.remove(file).err().unwrap_or(error),
            other => other,
        }
    }

    /// Begins a file that will be called `name`.
    pub(crate) fn create(&self, name: &str) -> Result<SideWriter, SideError> {
        let draft = format!("{name}.tmp");
        let file = self.0.create(&draft)?;
        let buffer = Vec::with_capacity(FLUSH + BLOCK);
        Ok(SideWriter {
            folder: self.clone(),
            file,
            draft,
            name: name.to_owned(),
            buffer,
            begun: 0,
            written: 0,
            content: 0,
        })
    }

    /// Opens a finished file and checks its length and footer.
    pub(crate) fn open(&self, name: &str) -> Result<SideFile, SideError> {
        let file = self.0.open(name)?;
        let length = file.length()?;
        let side = SideFile { file, name: name.to_owned(), length };
        if length == 0 || length % BLOCK as u64 != 0 {
            return Err(side.damaged(length, "its length is not a number of blocks"));
        }
        Ok(side)
    }
}

/// Writes a side file from front to back.
pub(crate) struct SideWriter {
    folder: SideFolder,
    file: Arc<dyn Bytes>,
    draft: String,
    name: String,
    /// Whole blocks with checksums, then the block begun at `begun`.
    buffer: Vec<u8>,
    begun: usize,
    written: u64,
    content: u64,
}

impl SideWriter {
    /// How many bytes of content there are so far: the offset of the next.
    pub(crate) fn offset(&self) -> u64 {
        self.content
    }

    /// Appends content.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), SideError> {
        self.content += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = self.begun + PAYLOAD - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == self.begun + PAYLOAD {
                self.close_block()?;
            }
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), SideError> {
        let index = (self.written + self.begun as u64) / BLOCK as u64;
        let sum = checksum(index, &self.buffer[self.begun..]);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        self.begun = self.buffer.len();
        if self.begun >= FLUSH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SideError> {
        self.file.write(self.written, &self.buffer)?;
        // Piece by piece, so that the journal's syncs never wait behind a whole file.
        self.file.sync()?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.begun = 0;
        Ok(())
    }

    fn pad(&mut self) -> Result<(), SideError> {
        let room = self.begun + PAYLOAD - self.buffer.len();
        if room == PAYLOAD { Ok(()) } else { self.append(&vec![0; room]) }
    }

    /// Writes the footer, makes everything durable, and only then gives the file its name.
    pub(crate) fn finish(mut self, footer: &[u8]) -> Result<SideFile, SideError> {
        assert!(footer.len() <= PAYLOAD, "a footer is one block");
        self.pad()?;
        self.append(footer)?;
        self.pad()?;
        self.flush()?;
        self.folder.0.publish(&self.draft, &self.name)?;
        self.folder.open(&self.name)
    }
}

/// A finished side file, readable from any thread.
#[derive(Clone)]
pub(crate) struct SideFile {
    file: Arc<dyn Bytes>,
    name: String,
    length: u64,
}

impl std::fmt::Debug for SideFile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SideFile").field("name", &self.name).field("length", &self.length).finish()
    }
}

impl SideFile {
    /// Its name in the folder.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its bytes on disk.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn damaged(&self, offset: u64, what: &'static str) -> SideError {
        SideError::Damaged { file: self.name.clone(), offset, what }
    }

    /// The last block's content.
    pub(crate) fn footer(&self) -> Result<Vec<u8>, SideError> {
        let last = self.length / BLOCK as u64 - 1;
        self.read(last * PAYLOAD as u64, PAYLOAD)
    }

    /// `length` bytes of content from `offset`.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, SideError> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let first = offset / PAYLOAD as u64;
        let skip = (offset % PAYLOAD as u64) as usize;
        let blocks = (skip + length).div_ceil(PAYLOAD);
        let mut raw = vec![0; blocks * BLOCK];
        let at = first * BLOCK as u64;
        if self.file.read(at, &mut raw)? != raw.len() {
            return Err(self.damaged(at, "it ends too early"));
        }
        let mut content = Vec::with_capacity(blocks * PAYLOAD);
        for (index, block) in (first..).zip(raw.chunks_exact(BLOCK)) {
            let (payload, sum) = block.split_at(PAYLOAD);
            if checksum(index, payload).to_le_bytes() != sum {
                return Err(self.damaged(index * BLOCK as u64, "a block does not match its checksum"));
            }
            content.extend_from_slice(payload);
        }
        content.drain(..skip);
        content.truncate(length);
        Ok(content)
    }
}
