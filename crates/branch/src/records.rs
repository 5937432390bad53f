//! The durable journal as the id index and the history read it: by position, checked where it is asked.

use std::sync::{Arc, PoisonError, RwLock};

use skerry_journal::{JournalReader, Position, ReadError};

use crate::history::{RECORD_BYTES, Records, SideError};
use crate::work::Recalled;

/// A journal's reader, for derived files.
pub(crate) struct Durable<R>(pub(crate) R);

impl<R: JournalReader> Records for Durable<R> {
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError> {
        for position in positions {
            let stored = self.0.read_record(Position(*position)).map_err(|error| unread(*position, error))?;
            found.push(stored.record);
        }
        Ok(())
    }

    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError> {
        let head = self.0.head();
        if position >= head.position.0 {
            return Ok((position == head.position.0).then_some(head.hash));
        }
        match self.0.read_record(Position(position)) {
            Ok(stored) => Ok((stored.header.first_position == position).then_some(stored.header.previous)),
            Err(ReadError::Archived { .. }) => Ok(None),
            Err(error) => Err(unread(position, error)),
        }
    }
}

/// The records of whichever reader there is at the moment: a follower's, later the owner's.
pub(crate) struct Current(RwLock<Arc<dyn Records>>);

impl Current {
    pub(crate) fn new(records: Arc<dyn Records>) -> Self {
        Self(RwLock::new(records))
    }

    /// From now on these.
    pub(crate) fn set(&self, records: Arc<dyn Records>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = records;
    }

    fn now(&self) -> Arc<dyn Records> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Records for Current {
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError> {
        self.now().read(positions, found)
    }

    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError> {
        self.now().head_before(position)
    }
}

/// The same, with what was read from the archive: for the index as the writer asks it.
pub(crate) struct Near<R> {
    pub(crate) durable: Durable<R>,
    pub(crate) recalled: Arc<Recalled>,
}

impl<R: JournalReader> Records for Near<R> {
    fn read(&self, positions: &[u64], found: &mut Vec<[u8; RECORD_BYTES]>) -> Result<(), SideError> {
        for position in positions {
            match self.durable.read(&[*position], found) {
                Err(SideError::Archived { position }) => {
                    let recalled = self.recalled.get(position).ok_or(SideError::Archived { position })?;
                    found.push(recalled.record);
                }
                read => read?,
            }
        }
        Ok(())
    }

    fn head_before(&self, position: u64) -> Result<Option<[u8; 32]>, SideError> {
        self.durable.head_before(position)
    }
}

fn unread(position: u64, error: ReadError) -> SideError {
    match error {
        ReadError::Archived { .. } => SideError::Archived { position },
        away @ ReadError::ColdAway { .. } => SideError::Away(away),
        error => SideError::Record { position, source: Box::new(error) },
    }
}
