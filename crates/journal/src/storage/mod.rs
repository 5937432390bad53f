//! The file seam: the one narrow door between the journal and the machine it runs on.
//!
//! Below it lie [`RealStorage`](crate::RealStorage) (a folder of the file system) and
//! [`FaultStorage`](crate::FaultStorage) (memory that loses, tears and breaks on purpose). Above it
//! lie segments, snapshots and side files. It knows names, offsets and bytes; it does not know what
//! a batch is.
//!
//! # What an implementation promises
//!
//! - Bytes written before a [`StorageFile::sync_data`] that returned `Ok` are there after a power cut,
//!   provided the name they are found under is (below).
//! - A name created, renamed or removed before a [`Storage::sync_dir`] that returned `Ok` stays so.
//! - Before that, any subset of the written sectors and of the changes of names may survive.
//! - A rename replaces its target at once: either the old or the new file is found, never none.
//! - After a failed sync nothing further is promised about that file, even if a later sync says `Ok`.
//!   Its user must never trust it again.

pub mod fault;
pub mod real;

use std::io;

/// The sector that a machine writes whole, and the boundary on which batches of an open segment begin.
pub const SECTOR: u64 = 4096;

/// What kind of refusal came from below; the source holds the operating system's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No file has this name.
    NotFound,
    /// A file has this name already.
    AlreadyExists,
    /// The disk, or the quota, is full.
    Full,
    /// The folder or the file system takes no changes from us.
    ReadOnly,
    /// Somebody else holds the folder's lock.
    Locked,
    /// Anything else: the machine failed.
    Io,
}

/// A refusal of the machine: what was attempted, on which file, at which offset.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {file}{}", at(*offset))]
pub struct StorageError {
    /// The class to act upon.
    pub kind: StorageErrorKind,
    /// A verb, as in "could not *write* …".
    pub action: &'static str,
    /// The file or folder, as the storage calls it.
    pub file: String,
    /// Where in the file, for reads and writes.
    pub offset: Option<u64>,
    /// The cause.
    pub source: io::Error,
}

fn at(offset: Option<u64>) -> String {
    offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default()
}

/// A folder of files with flat names. Clones mean the same folder; any thread may use any clone.
pub trait Storage: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: StorageFile;
    /// Holds the folder's lock until it is dropped.
    type Lock: std::fmt::Debug + Send + Sync + 'static;

    /// Where this is, for messages.
    fn place(&self) -> String;

    /// Makes this very folder if it is missing and what holds it is there. Where folders always are there is nothing to do.
    fn make(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// The folder `name` inside this one, made if it is missing (and durable at once). Errors as the machine says.
    fn folder(&self, name: &str) -> Result<Self, StorageError>;

    /// Takes the lock of this folder for this process, without waiting.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::Locked`] if another process or another owner in this one holds it.
    fn lock(&self) -> Result<Self::Lock, StorageError>;

    /// Makes a new, empty file. Its name is durable only after [`Storage::sync_dir`].
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::AlreadyExists`] if the name is taken.
    fn create(&self, name: &str) -> Result<Self::File, StorageError>;

    /// Opens a file for reading, and for writing too if `writable`.
    fn open(&self, name: &str, writable: bool) -> Result<Self::File, StorageError>;

    /// The names of the files (not folders) here, sorted.
    fn list(&self) -> Result<Vec<String>, StorageError>;

    /// Gives the file `from` the name `to`, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError>;

    /// Takes the name away. Open files go on to be readable.
    fn remove(&self, name: &str) -> Result<(), StorageError>;

    /// Makes all changes of names so far durable.
    fn sync_dir(&self) -> Result<(), StorageError>;
}

/// An open file: positional, blocking, usable from several threads at once.
pub trait StorageFile: std::fmt::Debug + Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may be there.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes every byte written so far, and the length, durable.
    fn sync_data(&self) -> Result<(), StorageError>;

    /// Says that the first `length` bytes are durable and will not be read soon: the machine's memory has better uses.
    fn forget(&self, _length: u64) {}

    /// The length in bytes, reserved space included.
    fn length(&self) -> Result<u64, StorageError>;

    /// Reserves space so that the file is at least `length` bytes long and writes below it cannot meet a full disk.
    /// New bytes read as zero.
    fn reserve(&self, length: u64) -> Result<(), StorageError>;

    /// Gives back reserved space beyond `length`. The caller promises that nothing acknowledged lies there.
    fn release_beyond(&self, length: u64) -> Result<(), StorageError>;
}

/// All of the file `name`.
pub fn read_whole<S: Storage>(storage: &S, name: &str) -> Result<Vec<u8>, StorageError> {
    let file = storage.open(name, false)?;
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let got = file.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Puts `bytes` under `name`, durably and at once: after a power cut either the old or the new content is there, whole.
pub fn replace_whole<S: Storage>(storage: &S, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let draft = format!("{name}.tmp");
    remove_if_there(storage, &draft)?;
    let file = storage.create(&draft)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    storage.rename(&draft, name)?;
    storage.sync_dir()
}

/// Removes `name`; that it was not there is no error.
pub fn remove_if_there<S: Storage>(storage: &S, name: &str) -> Result<(), StorageError> {
    match storage.remove(name) {
        Err(error) if error.kind != StorageErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads exactly `buffer.len()` bytes; `false` if the file ends before.
pub(crate) fn read_exact_at<F: StorageFile>(
    file: &F,
    offset: u64,
    buffer: &mut [u8],
) -> Result<bool, StorageError> {
    Ok(file.read_at(offset, buffer)? == buffer.len())
}
