//! The store where a branch's journal lies, as one node reaches it, or does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skerry_journal::{
    JournalStore, MemoryJournal, MemoryReader, MemoryStore, OpenError, Opened, StorageError, StorageErrorKind,
};

/// How long a branch waits before it opens again by itself, at first.
const PATIENCE: Duration = Duration::from_millis(100);

/// The store of one branch from one node. The batches and the epoch are shared by all nodes.
#[derive(Debug, Clone)]
pub(crate) struct SharedStore {
    pub(crate) batches: MemoryStore,
    /// The node does not reach it.
    pub(crate) cut: Arc<AtomicBool>,
}

impl SharedStore {
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    fn reach(&self) -> Result<(), OpenError> {
        if !self.is_cut() {
            return Ok(());
        }
        let source = StorageError {
            kind: StorageErrorKind::Io,
            action: "reach",
            file: "the store".to_owned(),
            offset: None,
            source: io::Error::other("the network is cut"),
        };
        Err(OpenError::Away { place: "the store".to_owned(), source })
    }

    /// The same, to be opened although something that was told is gone.
    pub(crate) fn accepting_loss(&self) -> Self {
        Self { batches: self.batches.accepting_loss(), ..self.clone() }
    }
}

impl JournalStore for SharedStore {
    type Journal = MemoryJournal;

    fn open(&self) -> Result<Opened<MemoryJournal>, OpenError> {
        self.reach()?;
        self.batches.open()
    }

    fn look(&self) -> Result<MemoryReader, OpenError> {
        self.reach()?;
        self.batches.look()
    }

    fn patience(&self, attempts: u32) -> Option<Duration> {
        Some(PATIENCE * 2_u32.pow(attempts.min(4)))
    }
}
