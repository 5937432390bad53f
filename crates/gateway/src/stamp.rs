//! Whether a file is still the one that was read: who writes it replaces it by rename, and we notice.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells two states of a file apart. Two writes within one tick of the file system's clock still differ in
/// inode, if they were renames, or in length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of an open file: take it before the bytes are read, so that a later write is never missed.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            length: metadata.size(),
            inode: metadata.ino(),
        }
    }

    /// The stamp of what lies at `path` now; `None` if nothing does.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }
}
