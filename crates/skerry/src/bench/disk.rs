//! Bytes on disk, by what they are for: the journal, or what is derived from it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use rustix::fs::{SeekFrom, seek};
use serde::{Deserialize, Serialize};

/// Bytes that hold data, and bytes that the file system set aside.
///
/// An open segment is set aside ahead of its writer; `written` counts only what holds data by then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bytes {
    pub(super) written: u64,
    pub(super) allocated: u64,
}

/// What lies under the branches' folders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Disk {
    /// Segments.
    pub(super) journal: Bytes,
    /// Side files, id runs, marks: whatever grows with transfers and is not the journal.
    pub(super) side: Bytes,
    /// Snapshots: they grow with accounts, and old ones go.
    pub(super) snapshots: Bytes,
}

impl Bytes {
    fn add(&mut self, other: Self) {
        self.written += other.written;
        self.allocated += other.allocated;
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            written: self.written.saturating_sub(earlier.written),
            allocated: self.allocated.saturating_sub(earlier.allocated),
        }
    }
}

impl Disk {
    /// What lies under `data` now.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read. A file that goes while we look is no error: derived files come and go.
    pub(super) fn of(data: &Path) -> anyhow::Result<Self> {
        let mut disk = Self::default();
        disk.visit(&data.join("branches"))?;
        Ok(disk)
    }

    /// The growth since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            journal: self.journal.since(earlier.journal),
            side: self.side.since(earlier.side),
            snapshots: self.snapshots.since(earlier.snapshots),
        }
    }

    fn visit(&mut self, folder: &Path) -> anyhow::Result<()> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("could not list the folder {}", folder.display()))?;
        for entry in entries {
            let path =
                entry.with_context(|| format!("could not list the folder {}", folder.display()))?.path();
            if path.is_dir() {
                self.visit(&path)?;
            } else if let Some(bytes) = bytes_of(&path) {
                self.kind(&path).add(bytes);
            }
        }
        Ok(())
    }

    fn kind(&mut self, path: &Path) -> &mut Bytes {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let text = path.to_string_lossy();
        if name.starts_with("seg-") && (name.ends_with(".open") || name.ends_with(".seal")) {
            &mut self.journal
        } else if text.contains("snap") {
            &mut self.snapshots
        } else {
            &mut self.side
        }
    }
}

/// `None` if the file has gone.
fn bytes_of(path: &Path) -> Option<Bytes> {
    let file = std::fs::File::open(path).ok()?;
    let facts = file.metadata().ok()?;
    let allocated = facts.blocks() * 512;
    let written = data_bytes(&file, facts.len()).unwrap_or_else(|| facts.len().min(allocated));
    Some(Bytes { written, allocated })
}

/// The lengths of a file's extents with data, as lseek(2) tells them; `None` where it does not.
fn data_bytes(file: &std::fs::File, length: u64) -> Option<u64> {
    let (mut at, mut sum) = (0, 0);
    while at < length {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = seek(file, SeekFrom::Hole(start)).ok()?;
        sum += end.saturating_sub(start);
        at = end.max(at + 1);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_segment_set_aside_counts_by_what_is_in_it() {
        let root = std::env::temp_dir().join(format!("skerry-bench-disk-{}", std::process::id()));
        let branch = root.join("branches/0001");
        std::fs::create_dir_all(branch.join("snapshots")).unwrap();
        std::fs::create_dir_all(branch.join("journal")).unwrap();
        let mut segment =
            std::fs::File::create(branch.join("journal/seg-00000000000000000000.open")).unwrap();
        rustix::fs::fallocate(&segment, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
        segment.write_all(&[1; 8_192]).unwrap();
        segment.sync_all().unwrap();
        std::fs::write(branch.join("history-1.side"), [2; 5_000]).unwrap();
        std::fs::write(branch.join("snapshots/1"), [3; 100]).unwrap();
        let disk = Disk::of(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(disk.journal.allocated, 1 << 20);
        assert!((8_192..=16_384).contains(&disk.journal.written), "{disk:?}");
        assert!((5_000..=8_192).contains(&disk.side.written) && disk.snapshots.written >= 100, "{disk:?}");
        assert_eq!(disk.since(disk), Disk::default());
        assert!(Disk::of(&root).is_err());
    }
}
