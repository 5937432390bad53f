//! What one can look at in a branch that has no threads: the counterpart of the handle's readers.

use skerry_journal::{JournalStore, Storage};
use skerry_proof::Receipt;

use crate::branch::Branch;
use crate::evidence::receipts::{Desk, Evidence, EvidenceError};
use crate::history::HistoryHandle;

impl<J: JournalStore, S: Storage> Branch<J, S> {
    /// Its history, while it is open; another one after each opening.
    #[must_use]
    pub fn history(&self) -> Option<HistoryHandle> {
        self.workshop().map(|workshop| workshop.followers().history.handle())
    }

    /// The receipt of the durable record at `position`.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`]; after [`EvidenceError::NotYet`] want a checkpoint by [`mark`](Self::mark) and ask again.
    pub fn receipt(&self, position: u64) -> Result<Receipt, EvidenceError> {
        let (Some(reader), Some(workshop)) = (self.reader(), self.workshop()) else {
            return Err(EvidenceError::Closed);
        };
        Desk { reader, workshop }.receipt(position)
    }
}
