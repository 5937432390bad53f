//! The file seam over memory that fails on purpose, from one seed.
//!
//! It keeps two truths: what a process sees (the cache) and what a power cut would leave (the platter).
//! A cut keeps any subset of the unsynced sectors and of the unsynced changes of names; a sector may also be torn
//! in the middle. Faults come by probability ([`FaultPlan`]) or by command ([`FaultStorage::fail_next_sync`],
//! [`FaultStorage::flip_bit`], [`FaultStorage::power_cut`]…); each is counted by kind.
//!
//! Same seed, same calls in the same order: same faults, same bytes. It has no clock: a slow sync is
//! an amount of microseconds that the driver collects with [`FaultStorage::take_delay_us`].

mod disk;
mod random;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disk::Disk;

use super::{Storage, StorageError, StorageErrorKind, StorageFile};

/// The kinds of fault that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A power cut took all unsynced sectors of a file.
    LostWrites,
    /// A power cut took some unsynced sectors of a file and kept others.
    TornWrite,
    /// A power cut took the unsynced growth of a file.
    LostLength,
    /// A power cut took a change of names that no folder sync had covered.
    LostEntry,
    /// A write stopped in the middle.
    ShortWrite,
    /// A write failed before it began.
    FailedWrite,
    /// A sync failed; some of its sectors never reach the platter, though reads go on to show them.
    FailedSync,
    /// A sync took long.
    SlowSync,
    /// The disk had no room.
    DiskFull,
    /// The folder refused a change.
    ReadOnly,
    /// A read failed.
    FailedRead,
    /// A bit of a file flipped.
    BitFlip,
    /// The power was cut.
    PowerCut,
}

impl FaultKind {
    /// All of them, in the order of [`FaultStorage::counts`].
    pub const ALL: [Self; 13] = [
        Self::LostWrites,
        Self::TornWrite,
        Self::LostLength,
        Self::LostEntry,
        Self::ShortWrite,
        Self::FailedWrite,
        Self::FailedSync,
        Self::SlowSync,
        Self::DiskFull,
        Self::ReadOnly,
        Self::FailedRead,
        Self::BitFlip,
        Self::PowerCut,
    ];
}

/// How often what fails, in parts per million of the operations concerned. The default is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultPlan {
    /// Writes that fail before they begin.
    pub failed_write_ppm: u32,
    /// Writes that stop in the middle.
    pub short_write_ppm: u32,
    /// Syncs (of data or folder) that fail.
    pub failed_sync_ppm: u32,
    /// Syncs that are slow.
    pub slow_sync_ppm: u32,
    /// How long the slowest takes, in microseconds.
    pub slow_sync_us_max: u64,
    /// Reads that fail.
    pub failed_read_ppm: u32,
}

/// A folder in such a memory. Clones and folders inside it share one disk, one seed and one fate.
#[derive(Debug, Clone)]
pub struct FaultStorage {
    disk: Arc<Mutex<Disk>>,
    prefix: String,
}

/// A file in it.
#[derive(Debug)]
pub struct FaultFile {
    disk: Arc<Mutex<Disk>>,
    node: usize,
    boot: u64,
    name: String,
    writable: bool,
}

/// The held lock of a folder in it.
#[derive(Debug)]
pub struct FaultLock {
    disk: Arc<Mutex<Disk>>,
    prefix: String,
    boot: u64,
}

impl FaultStorage {
    /// An empty disk without limits and without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::new(seed))), prefix: String::new() }
    }

    /// Sets how often what fails from now on.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.disk().plan = plan;
    }

    /// Takes this folder away, as a volume that is unmounted, or brings it back with what was in it.
    pub fn take_away(&self, away: bool) {
        let mut disk = self.disk();
        if away {
            disk.away.insert(self.prefix.clone());
        } else {
            disk.away.remove(&self.prefix);
        }
    }

    /// Limits the disk to `bytes`, or lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Makes the whole disk refuse changes, or take them again.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk().read_only = read_only;
    }

    /// Lets the `skip`-th next sync of data after this call fail (0: the very next).
    pub fn fail_next_sync(&self, skip: u64) {
        self.disk().fail_sync_in = Some(skip);
    }

    /// Lets the `skip`-th next write stop in the middle (0: the very next).
    pub fn short_next_write(&self, skip: u64) {
        self.disk().short_write_in = Some(skip);
    }

    /// Cuts the power after `operations` more changes (writes, syncs, names): from then on everything fails until
    /// [`FaultStorage::power_cut`] is called, which decides what is left.
    pub fn lose_power_in(&self, operations: u64) {
        self.disk().power_lost_in = Some(operations);
    }

    /// Whether the power is gone (see [`FaultStorage::lose_power_in`]).
    #[must_use]
    pub fn is_dark(&self) -> bool {
        self.disk().dark
    }

    /// Cuts the power and turns it on again. What was not synced is kept or lost by sector and by name, as the seed says.
    /// Files and locks held from before are dead.
    pub fn power_cut(&self) {
        self.disk().power_cut();
    }

    /// Flips the bit `bit % 8` of the byte at `offset` in the file `name`, in cache and on the platter.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::NotFound`] if there is no such file or byte.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> Result<(), StorageError> {
        let path = self.path(name);
        let mut disk = self.disk();
        let Some(node) = disk.find(&path) else {
            return Err(fail(
                StorageErrorKind::NotFound,
                "flip a bit of",
                &path,
                Some(offset),
                "no such file",
            ));
        };
        if !disk.flip_bit(node, offset, bit) {
            return Err(fail(
                StorageErrorKind::NotFound,
                "flip a bit of",
                &path,
                Some(offset),
                "no such byte",
            ));
        }
        Ok(())
    }

    /// Microseconds that slow syncs took since the last call.
    #[must_use]
    pub fn take_delay_us(&self) -> u64 {
        std::mem::take(&mut self.disk().delay_us)
    }

    /// How often each kind of fault has happened.
    #[must_use]
    pub fn counts(&self) -> Vec<(FaultKind, u64)> {
        let disk = self.disk();
        FaultKind::ALL.iter().map(|kind| (*kind, disk.count(*kind))).collect()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn file(&self, node: usize, boot: u64, path: String, writable: bool) -> FaultFile {
        FaultFile { disk: Arc::clone(&self.disk), node, boot, name: path, writable }
    }
}

impl Storage for FaultStorage {
    type File = FaultFile;
    type Lock = FaultLock;

    fn place(&self) -> String {
        format!("memory:/{}", self.prefix)
    }

    fn folder(&self, name: &str) -> Result<Self, StorageError> {
        let prefix = format!("{}{name}/", self.prefix);
        self.disk().check(None, &self.prefix, "make folder", false)?;
        Ok(Self { disk: Arc::clone(&self.disk), prefix })
    }

    fn lock(&self) -> Result<FaultLock, StorageError> {
        let mut disk = self.disk();
        disk.check(None, &self.prefix, "lock", true)?;
        if !disk.locks.insert(self.prefix.clone()) {
            return Err(fail(StorageErrorKind::Locked, "lock", &self.prefix, None, "held by another owner"));
        }
        Ok(FaultLock { disk: Arc::clone(&self.disk), prefix: self.prefix.clone(), boot: disk.boot })
    }

    fn create(&self, name: &str) -> Result<FaultFile, StorageError> {
        let path = self.path(name);
        let mut disk = self.disk();
        disk.change(None, &path, "create")?;
        if disk.find(&path).is_some() {
            return Err(fail(StorageErrorKind::AlreadyExists, "create", &path, None, "name is taken"));
        }
        let node = disk.create(&path);
        let boot = disk.boot;
        Ok(self.file(node, boot, path, true))
    }

    fn open(&self, name: &str, writable: bool) -> Result<FaultFile, StorageError> {
        let path = self.path(name);
        let mut disk = self.disk();
        disk.check(None, &path, "open", writable)?;
        let Some(node) = disk.find(&path) else {
            return Err(fail(StorageErrorKind::NotFound, "open", &path, None, "no such file"));
        };
        let boot = disk.boot;
        Ok(self.file(node, boot, path, writable))
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let mut disk = self.disk();
        disk.check(None, &self.prefix, "read folder", false)?;
        Ok(disk.names_under(&self.prefix))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let (from, to) = (self.path(from), self.path(to));
        let mut disk = self.disk();
        disk.change(None, &from, "rename")?;
        if disk.rename(&from, &to) {
            return Ok(());
        }
        Err(fail(StorageErrorKind::NotFound, "rename", &from, None, "no such file"))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path(name);
        let mut disk = self.disk();
        disk.change(None, &path, "remove")?;
        if disk.unlink(&path) {
            return Ok(());
        }
        Err(fail(StorageErrorKind::NotFound, "remove", &path, None, "no such file"))
    }

    fn sync_dir(&self) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.change(None, &self.prefix, "sync folder")?;
        if disk.sync_fails() {
            return Err(fail(StorageErrorKind::Io, "sync folder", &self.prefix, None, "injected"));
        }
        disk.sync_names(&self.prefix);
        Ok(())
    }
}

impl StorageFile for FaultFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut disk = lock(&self.disk);
        disk.check(Some(self.boot), &self.name, "read", false)?;
        if disk.read_fails() {
            return Err(fail(StorageErrorKind::Io, "read", &self.name, Some(offset), "injected"));
        }
        Ok(disk.read(self.node, offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        self.may_write()?;
        disk.change(Some(self.boot), &self.name, "write")?;
        if disk.write_fails() {
            return Err(fail(StorageErrorKind::Io, "write", &self.name, Some(offset), "injected"));
        }
        if let Some(part) = disk.short_write(bytes.len()) {
            let part = bytes.get(..part).unwrap_or(bytes);
            let _room = disk.write(self.node, offset, part);
            return Err(fail(
                StorageErrorKind::Io,
                "write",
                &self.name,
                Some(offset),
                "injected in the middle",
            ));
        }
        if disk.write(self.node, offset, bytes) {
            return Ok(());
        }
        Err(fail(StorageErrorKind::Full, "write", &self.name, Some(offset), "no space left"))
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        self.may_write()?;
        disk.change(Some(self.boot), &self.name, "sync")?;
        if disk.sync_fails() {
            disk.lose_some(self.node);
            return Err(fail(StorageErrorKind::Io, "sync", &self.name, None, "injected"));
        }
        disk.sync(self.node);
        Ok(())
    }

    fn length(&self) -> Result<u64, StorageError> {
        let mut disk = lock(&self.disk);
        disk.check(Some(self.boot), &self.name, "measure", false)?;
        Ok(disk.length(self.node))
    }

    fn reserve(&self, length: u64) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        self.may_write()?;
        disk.change(Some(self.boot), &self.name, "reserve space for")?;
        if disk.grow(self.node, length) {
            return Ok(());
        }
        Err(fail(StorageErrorKind::Full, "reserve space for", &self.name, Some(length), "no space left"))
    }

    fn release_beyond(&self, length: u64) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        self.may_write()?;
        disk.change(Some(self.boot), &self.name, "shorten")?;
        disk.shrink(self.node, length);
        Ok(())
    }
}

impl FaultFile {
    fn may_write(&self) -> Result<(), StorageError> {
        if self.writable {
            return Ok(());
        }
        Err(fail(StorageErrorKind::Io, "write", &self.name, None, "opened for reading"))
    }
}

impl Drop for FaultLock {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        if disk.boot == self.boot {
            disk.locks.remove(&self.prefix);
        }
    }
}

fn lock(disk: &Arc<Mutex<Disk>>) -> MutexGuard<'_, Disk> {
    // A panic elsewhere leaves the disk as consistent as a crash would.
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail(
    kind: StorageErrorKind,
    action: &'static str,
    file: &str,
    offset: Option<u64>,
    why: &'static str,
) -> StorageError {
    StorageError { kind, action, file: file.to_owned(), offset, source: io::Error::other(why) }
}

#[cfg(test)]
mod tests;
