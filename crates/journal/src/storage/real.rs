//! The file seam over a folder of the machine's file system.
//!
//! Writes go through the page cache and become durable by `fdatasync`; space is reserved by
//! `fallocate`, so that a sync has no block map to write. The lock is `flock` on the file `LOCK`:
//! it goes away with the process, however that ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{Storage, StorageError, StorageErrorKind, StorageFile};

const LOCK_FILE: &str = "LOCK";

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct RealStorage {
    folder: PathBuf,
}

/// A file in such a folder.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
}

/// The held lock of a folder.
#[derive(Debug)]
pub struct RealLock {
    _file: File,
}

impl RealStorage {
    /// The folder at `path`, made (with its parents) if it is missing.
    ///
    /// # Errors
    ///
    /// As the machine says: [`StorageErrorKind::ReadOnly`] where nothing may be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let folder = path.into();
        fs::create_dir_all(&folder).map_err(|source| wrap("make folder", &folder, None, source))?;
        Ok(Self { folder })
    }

    /// The folder at `path`, which must be there. Nothing is made or changed.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::NotFound`] if there is no such folder.
    pub fn existing(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let folder = path.into();
        fs::read_dir(&folder).map_err(|source| wrap("read folder", &folder, None, source))?;
        Ok(Self { folder })
    }

    /// The folder at `path`, which need not be there now: every use of it says so then. Nothing is made or changed.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { folder: path.into() }
    }

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Storage for RealStorage {
    type File = RealFile;
    type Lock = RealLock;

    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn make(&self) -> Result<(), StorageError> {
        match fs::create_dir(&self.folder) {
            Ok(()) => self.folder.parent().map_or(Ok(()), |above| Self::at(above).sync_dir()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(wrap("make folder", &self.folder, None, source)),
        }
    }

    fn folder(&self, name: &str) -> Result<Self, StorageError> {
        let folder = self.folder.join(name);
        match fs::create_dir(&folder) {
            Ok(()) => self.sync_dir()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(source) => return Err(wrap("make folder", &folder, None, source)),
        }
        Ok(Self { folder })
    }

    fn lock(&self) -> Result<RealLock, StorageError> {
        let path = self.folder.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| wrap("open lock", &path, None, source))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RealLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(StorageError {
                kind: StorageErrorKind::Locked,
                action: "lock",
                file: path.display().to_string(),
                offset: None,
                source: io::Error::from(Errno::WOULDBLOCK),
            }),
            Err(errno) => Err(wrap("lock", &path, None, errno.into())),
        }
    }

    fn create(&self, name: &str) -> Result<RealFile, StorageError> {
        let path = self.folder.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| wrap("create", &path, None, source))?;
        Ok(RealFile { file, path })
    }

    fn open(&self, name: &str, writable: bool) -> Result<RealFile, StorageError> {
        let path = self.folder.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(&path)
            .map_err(|source| wrap("open", &path, None, source))?;
        Ok(RealFile { file, path })
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let fail = |source| wrap("read folder", &self.folder, None, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_type().map_err(fail)?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let path = self.folder.join(from);
        fs::rename(&path, self.folder.join(to)).map_err(|source| wrap("rename", &path, None, source))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.folder.join(name);
        fs::remove_file(&path).map_err(|source| wrap("remove", &path, None, source))
    }

    fn sync_dir(&self) -> Result<(), StorageError> {
        let fail = |source| wrap("sync folder", &self.folder, None, source);
        File::open(&self.folder).map_err(fail)?.sync_all().map_err(fail)
    }
}

impl StorageFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = offset + done as u64;
            match self.file.read_at(rest, from) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(source) => return Err(wrap("read", &self.path, Some(from), source)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|source| wrap("write", &self.path, Some(offset), source))
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(|source| wrap("sync", &self.path, None, source))
    }

    fn forget(&self, length: u64) {
        #[cfg(target_os = "linux")]
        if let Some(length) = std::num::NonZeroU64::new(length) {
            // Advice that is not taken costs memory and nothing else.
            let _ = rustix::fs::fadvise(&self.file, 0, Some(length), rustix::fs::Advice::DontNeed);
        }
    }

    fn length(&self) -> Result<u64, StorageError> {
        let meta = self.file.metadata().map_err(|source| wrap("measure", &self.path, None, source))?;
        Ok(meta.len())
    }

    fn reserve(&self, length: u64) -> Result<(), StorageError> {
        let have = self.length()?;
        if have >= length {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), have, length - have) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve. Then a full disk is met by the write itself.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.file.set_len(length).map_err(|source| wrap("extend", &self.path, Some(length), source))
            }
            Err(errno) => Err(wrap("reserve space for", &self.path, Some(have), errno.into())),
        }
    }

    fn release_beyond(&self, length: u64) -> Result<(), StorageError> {
        if self.length()? <= length {
            return Ok(());
        }
        self.file.set_len(length).map_err(|source| wrap("shorten", &self.path, Some(length), source))
    }
}

fn wrap(action: &'static str, path: &Path, offset: Option<u64>, source: io::Error) -> StorageError {
    StorageError { kind: kind_of(&source), action, file: path.display().to_string(), offset, source }
}

fn kind_of(error: &io::Error) -> StorageErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => StorageErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => StorageErrorKind::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StorageErrorKind::Full
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => StorageErrorKind::ReadOnly,
        _ => StorageErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_of_a_full_or_read_only_disk_has_its_own_kind() {
        for (errno, kind) in [
            (Errno::NOSPC, StorageErrorKind::Full),
            (Errno::DQUOT, StorageErrorKind::Full),
            (Errno::ROFS, StorageErrorKind::ReadOnly),
            (Errno::ACCESS, StorageErrorKind::ReadOnly),
            (Errno::PERM, StorageErrorKind::ReadOnly),
            (Errno::IO, StorageErrorKind::Io),
        ] {
            assert_eq!(kind_of(&io::Error::from(errno)), kind, "{errno:?}");
        }
    }
}
