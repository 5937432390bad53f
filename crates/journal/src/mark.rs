//! The durable mark: a small file that says under which epoch the journal is open and how far it is known to be
//! durable, so that a journal that lost its end is told from one with a torn tail.
//!
//! Two slots of one sector each are written in turn and checked by checksum, so a torn write leaves the other. A
//! slot is written only after what it covers is durable: the mark is a lower bound.

use std::sync::Arc;

use crate::error::{Damage, DamageKind, OpenError};
use crate::seam::Head;
use crate::segment::format::{Fields, checksum, put_head};
use crate::storage::{SECTOR, Storage, StorageError, StorageErrorKind, StorageFile, read_whole};

/// The file's name.
pub(crate) const MARK_FILE: &str = "MARK";

const MAGIC: &[u8; 8] = b"SKRMARK1";
const FORMAT: u16 = 1;
const CONTENT: usize = 128;
const CHECKSUM: usize = 32;
const SLOTS: u64 = 2;

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Counts writes; the higher readable slot counts.
    sequence: u64,
    /// The epoch of the last owner.
    pub epoch: u64,
    /// Everything before this was durable when the slot was written.
    pub durable: Head,
    /// Everything before this was archived.
    pub start: Head,
}

/// The file, open for writing.
#[derive(Debug)]
pub struct MarkFile<F> {
    file: Arc<F>,
    last: Mark,
    branch: u16,
}

impl Mark {
    fn encode(&self, branch: u16) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&branch.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        put_head(&mut bytes, &self.durable);
        put_head(&mut bytes, &self.start);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn decode(bytes: &[u8], branch: u16) -> Option<Self> {
        let content = bytes.get(..CONTENT)?;
        if bytes.get(CONTENT..CONTENT + CHECKSUM)? != checksum(content) {
            return None;
        }
        let mut fields = Fields(content);
        if fields.take(8)? != MAGIC
            || fields.u16()? != FORMAT
            || fields.u16()? != branch
            || fields.u32()? != 0
        {
            return None;
        }
        let (sequence, epoch) = (fields.u64()?, fields.u64()?);
        Some(Self { sequence, epoch, durable: fields.head()?, start: fields.head()? })
    }
}

/// What the file says; `None` if it is not there or was never written.
///
/// # Errors
///
/// [`DamageKind::Mark`] if it has been written twice or more and neither slot is readable, and `must_be_readable`.
pub fn read<S: Storage>(storage: &S, branch: u16, must_be_readable: bool) -> Result<Option<Mark>, OpenError> {
    let place = storage.place();
    let bytes = match read_whole(storage, MARK_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::of_storage(&place, error)),
    };
    let slot = |number: usize| {
        let start = number * SECTOR as usize;
        bytes.get(start..).and_then(|slot| Mark::decode(slot, branch))
    };
    let slots = [slot(0), slot(1)];
    let written = |number: usize| {
        let start = number * SECTOR as usize;
        bytes.get(start..start + CONTENT).is_some_and(|slot| slot.iter().any(|byte| *byte != 0))
    };
    if (0..2).any(|number| slots[number].is_none() && written(number)) {
        crate::coverage::Mark::MarkSlotLost.hit();
    }
    let best = slots.into_iter().flatten().max_by_key(|mark| mark.sequence);
    // The first write goes into slot 1 and covers nothing yet: with slot 0 untouched no mark was ever completed.
    if best.is_none() && must_be_readable && written(0) {
        let file = format!("{place}/{MARK_FILE}");
        return Err(Damage { file, offset: 0, position: 0, kind: DamageKind::Mark }.into());
    }
    Ok(best)
}

impl<F: StorageFile> MarkFile<F> {
    /// Opens the file for writing, or makes it; `last` is what [`read`] found.
    ///
    /// # Errors
    ///
    /// The machine's refusal.
    pub fn open<S: Storage<File = F>>(
        storage: &S,
        branch: u16,
        last: Option<Mark>,
    ) -> Result<Self, StorageError> {
        let file = match storage.open(MARK_FILE, true) {
            Err(error) if error.kind == StorageErrorKind::NotFound => {
                let file = storage.create(MARK_FILE)?;
                file.reserve(SLOTS * SECTOR)?;
                file.sync_data()?;
                storage.sync_dir()?;
                file
            }
            other => other?,
        };
        Ok(Self { file: Arc::new(file), last: last.unwrap_or_default(), branch })
    }

    /// What was written last.
    #[must_use]
    pub fn last(&self) -> Mark {
        self.last
    }

    /// Writes the next slot, durably.
    ///
    /// # Errors
    ///
    /// The machine's refusal; the slot before still stands.
    pub fn write(&mut self, mut mark: Mark) -> Result<(), StorageError> {
        mark.sequence = self.last.sequence + 1;
        self.file.write_at((mark.sequence % SLOTS) * SECTOR, &mark.encode(self.branch))?;
        self.file.sync_data()?;
        self.last = mark;
        Ok(())
    }
}
