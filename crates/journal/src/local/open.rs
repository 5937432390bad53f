//! Opening: survey, raise the epoch, seal what is open, begin.
//!
//! Everything is looked at before anything is changed. A segment that the durable mark does not cover to its end is
//! copied into a new file, whatever its own file says: after a failed sync, reads show bytes that the disk
//! does not have, and only writing them again makes them durable.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::reader::{LocalReader, Shared};
use super::survey::{Entry, Survey, Unsealed, survey};
use super::{LocalOptions, seal};
use crate::coverage::Mark as Covered;
use crate::error::{OpenError, ReadError};
use crate::mark::MarkFile;
use crate::seam::{Head, JournalReader, Recovery};
use crate::segment::Segment;
use crate::storage::{Storage, StorageError, StorageFile, remove_if_there};

/// What opening has made ready.
#[derive(Debug)]
pub(super) struct Ready<S: Storage> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) lock: S::Lock,
    pub(super) recovery: Recovery,
}

/// See [`JournalStore::open`](crate::seam::JournalStore::open).
pub(super) fn open<S: Storage>(
    storage: &S,
    cold: Option<S>,
    options: LocalOptions,
) -> Result<Ready<S>, OpenError> {
    let place = storage.place();
    let refused = |error: StorageError| OpenError::of_storage(&place, error);
    let lock = storage.lock().map_err(refused)?;
    let found = survey(storage, options.branch, options.accept_loss)?;
    let (head, start) = (found.head, found.start);
    let mut recovery = Recovery {
        head,
        start: start.position,
        epoch: found.mark.map_or(0, |mark| mark.epoch).max(last_epoch(&found)) + 1,
        torn: found.torn.clone(),
        put_aside: Vec::new(),
        mark_missing: found.mark.is_none() && !found.entries.is_empty(),
    };
    // A name that was seen need not be durable: its folder's sync may have failed under an earlier owner. Nothing may be
    // taken away for its sake before it is.
    storage.sync_dir().map_err(refused)?;
    for name in &found.leftovers {
        tidy(storage, name, options, &mut recovery).map_err(refused)?;
    }
    let mut mark_file = MarkFile::open(storage, options.branch, found.mark).map_err(refused)?;
    // From here on no older owner may write, and none can: the lock is ours.
    let mut mark = mark_file.last();
    mark.epoch = recovery.epoch;
    if options.accept_loss {
        mark.durable = head;
    }
    mark.start = start;
    let covered = mark.durable;
    mark_file.write(mark).map_err(refused)?;

    let table =
        seal_all(storage, found, covered, &mut recovery).map_err(|e| OpenError::of_read(&place, e))?;
    mark.durable = head;
    mark_file.write(mark).map_err(refused)?;
    let shared =
        Shared::new(storage.clone(), options.branch, options.mode, table, head, Some(mark_file), cold);
    let ready = Ready { shared: Arc::new(shared), lock, recovery };
    if options.verify_sealed {
        let reader = LocalReader::of(&ready.shared, false);
        let scanned = reader.scan(start.position, &mut |_| ControlFlow::Continue(()));
        scanned.map_err(|error| OpenError::of_read(&place, error))?;
    }
    Ok(ready)
}

/// Takes away a file that means nothing any more; where a loss was declared, a segment is put aside all the same.
fn tidy<S: Storage>(
    storage: &S,
    name: &str,
    options: LocalOptions,
    recovery: &mut Recovery,
) -> Result<(), StorageError> {
    if name.ends_with(".tmp") {
        Covered::Draft.hit();
    } else if options.accept_loss {
        return put_aside(storage, name, recovery.epoch, &mut recovery.put_aside);
    }
    remove_if_there(storage, name)
}

fn put_aside<S: Storage>(
    storage: &S,
    name: &str,
    epoch: u64,
    aside: &mut Vec<String>,
) -> Result<(), StorageError> {
    Covered::PutAside.hit();
    let new_name = format!("lost-{epoch:06}-{name}");
    storage.rename(name, &new_name)?;
    storage.sync_dir()?;
    aside.push(new_name);
    Ok(())
}

fn last_epoch<F: StorageFile>(found: &Survey<F>) -> u64 {
    found.entries.iter().map(Entry::epoch).max().unwrap_or(0)
}

/// Seals what is open: afterwards all segments are sealed and durable.
fn seal_all<S: Storage>(
    storage: &S,
    found: Survey<S::File>,
    covered: Head,
    recovery: &mut Recovery,
) -> Result<Vec<Arc<Segment<S::File>>>, ReadError> {
    let lossy = found.lossy;
    let count = found.entries.len();
    let mut table = Vec::with_capacity(count);
    for (index, entry) in found.entries.into_iter().enumerate() {
        table.push(Arc::new(match entry {
            Entry::Sealed(segment) => segment,
            Entry::Unsealed(unsealed) => {
                let aside = (lossy && index + 1 == count).then_some(&mut recovery.put_aside);
                seal_one(storage, unsealed, covered, aside, recovery.epoch)?
            }
        }));
    }
    Ok(table)
}

fn seal_one<S: Storage>(
    storage: &S,
    unsealed: Unsealed<S::File>,
    covered: Head,
    aside: Option<&mut Vec<String>>,
    epoch: u64,
) -> Result<Segment<S::File>, ReadError> {
    let name = unsealed.name.format();
    let segment = unsealed.into_segment(&storage.place());
    let Some(aside) = aside else {
        if segment.head().position <= covered.position {
            return seal::seal(storage, &segment);
        }
        Covered::CopiedAtOpening.hit();
        return seal::rewrite(storage, &Arc::new(segment), true);
    };
    let sealed = seal::rewrite(storage, &Arc::new(segment), false)?;
    put_aside(storage, &name, epoch, aside)?;
    Ok(sealed)
}
