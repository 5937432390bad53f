//! Finding ids beside the writer, without its leave.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use skerry_ledger::TransferId;

use crate::history::asked::resolution_of;
use crate::history::mix::Seed;
use crate::history::{Records, SideError, SideFolder};

use super::{Shared, confirm};

/// Finds durable ids from any thread.
#[derive(Clone)]
pub struct IdsReader {
    pub(super) seed: Seed,
    pub(super) folder: SideFolder,
    pub(super) records: Arc<dyn Records>,
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for IdsReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "IdsReader(to {})", self.position())
    }
}

impl IdsReader {
    /// As [`Ids::find`], for what is durable.
    ///
    /// # Errors
    ///
    /// As [`Ids::find`].
    pub fn find(&self, id: TransferId) -> Result<Option<u64>, SideError> {
        let durable = self.position();
        let parts = self.shared.parts.read().unwrap_or_else(PoisonError::into_inner).clone();
        let hash = self.seed.hash(id.0);
        let frozen =
            parts.frozen.iter().rev().filter(|frozen| frozen.spans(id.0)).map(|frozen| &frozen.table);
        for table in std::iter::once(&parts.active).chain(frozen) {
            if let Some(position) = table.find(hash, id.0).filter(|position| *position < durable) {
                return Ok(Some(position));
            }
        }
        for run in parts.runs.iter().rev().filter(|run| run.may_have(id.0, hash)) {
            if let Some(position) = confirm(&self.folder, &*self.records, run, id, hash)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// As [`Ids::find_resolution`], for what is durable.
    ///
    /// # Errors
    ///
    /// As [`Ids::find`].
    pub fn find_resolution(&self, id: TransferId) -> Result<Option<u64>, SideError> {
        self.find(resolution_of(id))
    }

    /// Everything before this position is durable and found.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }
}
