//! What a machine remembers of the branch that its journal does not have: checkpoints and snapshots that stand for more, or for other
//! content. Whoever opens the branch takes them for the sign of a loss; an operator who declares the loss has them put aside.
//!
//! On another machine the same is left of the same loss. There whoever follows the journal finds in it that the loss was declared, by a
//! life that is later than theirs, and puts them aside too. Until then nothing of them is touched: they may be all that tells of a loss.

use skerry_journal::{JournalReader, Position, Storage};

use crate::evidence::checkpoints;
use crate::history::Records as _;
use crate::open::OpenFailure;
use crate::records::Durable;
use crate::snapshot;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Up to where something was promised.
    pub(crate) lost_to: u64,
    /// The latest life of which anything is here.
    pub(crate) incarnation: u32,
    /// The latest life of which something is here that the journal does not have; 0 is none.
    life: u32,
    /// The last checkpoint that the journal bears out.
    kept: u64,
    /// Those that it does not, or that cannot be read.
    snapshots: Vec<String>,
}

impl Aside {
    /// Looks through a branch's folder; `agrees` tells whether the journal has a batch that ends at a position with a hash.
    pub(crate) fn find<S: Storage>(
        storage: &S,
        agrees: impl Fn(u64, &[u8; 32]) -> Result<bool, OpenFailure>,
    ) -> Result<Self, OpenFailure> {
        let mut aside = Self::default();
        for signed in checkpoints::newest_first(&storage.folder("checkpoints")?)? {
            let checkpoint = signed?.checkpoint;
            aside.incarnation = aside.incarnation.max(checkpoint.incarnation);
            if agrees(checkpoint.position, &checkpoint.head)? {
                aside.kept = checkpoint.position;
                break;
            }
            aside.note(checkpoint.position, checkpoint.incarnation);
        }
        let folder = storage.folder("snapshots")?;
        for (position, file) in snapshot::list(&folder)? {
            let mark = snapshot::read_mark(&folder, &file).map(|(mark, _)| mark);
            let incarnation = mark.as_ref().map_or(0, |mark| mark.incarnation);
            aside.incarnation = aside.incarnation.max(incarnation);
            match mark {
                Ok(mark) if agrees(position.0, &mark.head.hash)? => continue,
                Ok(_) => aside.note(position.0, incarnation),
                Err(_) => aside.lost_to = aside.lost_to.max(position.0),
            }
            aside.snapshots.push(file);
        }
        Ok(aside)
    }

    /// The same against what `reader` reads; what is archived is nobody's doubt.
    pub(crate) fn beside<S: Storage, R: JournalReader>(storage: &S, reader: &R) -> Result<Self, OpenFailure> {
        let (durable, head, start) = (Durable(reader.clone()), reader.head().position, reader.start());
        Self::find(storage, |position, hash| {
            let position = Position(position);
            if position > start && position <= head {
                return Ok(durable.head_before(position.0)? == Some(*hash));
            }
            Ok(position <= start)
        })
    }

    fn note(&mut self, position: u64, incarnation: u32) {
        self.lost_to = self.lost_to.max(position);
        self.life = self.life.max(incarnation).max(1);
    }

    /// Whether something is here that the journal does not have.
    pub(crate) const fn is_doubt(&self) -> bool {
        self.life > 0
    }

    /// Whether a snapshot is none to begin with.
    pub(crate) fn has(&self, snapshot: &str) -> bool {
        self.snapshots.iter().any(|file| file == snapshot)
    }

    /// Whether a journal in which the branch lives its life number `incarnation` says that all of it was declared lost.
    pub(crate) fn is_declared(&self, incarnation: u32) -> bool {
        incarnation > self.life
    }

    /// Puts it aside.
    pub(crate) fn put<S: Storage>(&self, storage: &S) -> Result<(), OpenFailure> {
        for _ in 0..checkpoints::put_aside(&storage.folder("checkpoints")?, self.kept)? {
            crate::coverage::Mark::CheckpointPutAside.hit();
        }
        let folder = storage.folder("snapshots")?;
        for file in &self.snapshots {
            crate::coverage::Mark::SnapshotThrownAway.hit();
            snapshot::discard(&folder, file)?;
        }
        Ok(())
    }
}
