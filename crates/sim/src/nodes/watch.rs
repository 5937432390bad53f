//! What belongs to a branch and not to a node: the store that all nodes reach, the clients, the witness.

use std::sync::Arc;

use skerry_branch::Options;
use skerry_branch::keys::SlotKeys;
use skerry_journal::{FaultStorage, JournalReader, MemoryReader, MemoryStore};

use super::seat::Opened;
use super::tally::Reached;
use crate::clients::Desk;
use crate::dice::Dice;
use crate::model::Broken;
use crate::oracle::Oracle;
use crate::pairs::Side;
use crate::site::{MASTER, options, seed};
use crate::tally::Tally;

/// What the store has lost and nobody has declared yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The store remembers that it told more: no opening may go on silently.
    Known,
    /// Nothing in the store tells.
    Unknown,
}

/// See the module.
pub(super) struct Watch {
    pub(super) number: u16,
    pub(super) batches: MemoryStore,
    pub(super) keys: Arc<SlotKeys<FaultStorage>>,
    pub(super) options: Options,
    pub(super) oracle: Oracle,
    pub(super) desk: Desk,
    pub(super) loss: Option<Loss>,
    /// How often it has lost what others know.
    pub(super) lives: u32,
    /// It has, in this life, and the next is not on record yet.
    pub(super) behind: bool,
    latest: u32,
    /// The node where it was opened last.
    pub(super) last_at: Option<usize>,
    /// So many batches are never lost.
    pub(super) floor: usize,
    pub(super) tally: Tally,
}

impl Watch {
    pub(super) fn new(number: u16, sabotage: skerry_branch::sabotage::Sabotage, dice: &mut Dice) -> Self {
        let mut noise = dice.fork();
        let entropy = Box::new(move |buffer: &mut [u8]| {
            for chunk in buffer.chunks_mut(32) {
                chunk.copy_from_slice(&noise.bytes()[..chunk.len()]);
            }
        });
        // Customers' keys lie beside the journal, where all nodes reach them.
        let keys = SlotKeys::open(&FaultStorage::new(dice.next()), MASTER, entropy).expect("a calm disk");
        Self {
            number,
            batches: MemoryStore::default(),
            keys: Arc::new(keys),
            options: options(number, sabotage, dice),
            oracle: Oracle::new(number, seed()),
            desk: Desk::new(number, dice.fork()),
            loss: None,
            lives: 0,
            behind: false,
            latest: 0,
            last_at: None,
            floor: usize::MAX,
            tally: Tally::nodes(),
        }
    }

    pub(super) fn reader(&self) -> MemoryReader {
        MemoryReader::of(&self.batches)
    }

    /// What has become durable is walked, what was answered is heard: every promise must be borne out at once.
    pub(super) fn observe(&mut self) -> Result<(), Broken> {
        let reader = self.reader();
        self.oracle.advance(&reader, &self.desk.asked)?;
        self.behind = self.oracle.is_behind(self.behind, &mut self.latest);
        let taken_back = std::mem::take(&mut self.oracle.model.taken_back);
        if !taken_back.is_empty() {
            self.tally.reach(Reached::TakenBack);
            self.desk.forget_withdrawn(&taken_back);
        }
        self.desk.hear(&mut self.tally)?;
        self.desk.confirm(&self.oracle.model)?;
        self.desk.check_borne_out()
    }

    /// What an opening on the node `at` came to.
    pub(super) fn opened(&mut self, opened: &Opened, at: usize) -> Result<(), Broken> {
        match opened {
            Opened::Well | Opened::Promoted => {
                let promoted = matches!(opened, Opened::Promoted);
                self.tally.reach(if promoted { Reached::Promoted } else { Reached::Opened });
                if self.last_at.replace(at).is_some_and(|last| last != at) {
                    self.tally.reach(Reached::OpenedElsewhere);
                }
                match self.loss.take() {
                    Some(Loss::Known) => {
                        return Err("goes on although its store knows that more was told".to_owned());
                    }
                    Some(Loss::Unknown) => self.tally.reach(Reached::LossUnnoticed),
                    None => {}
                }
                let reader = self.reader();
                self.oracle.recheck(&reader, &self.desk.asked)?;
                self.desk.check_kept(&self.oracle.model)
            }
            Opened::Rewound if self.lives > 0 => {
                self.tally.reach(Reached::LossFound);
                Ok(())
            }
            Opened::Rewound => Err("says that its journal was rewound, but nobody did".to_owned()),
            Opened::Away => {
                self.tally.reach(Reached::StoreAway);
                Ok(())
            }
            Opened::Otherwise(why) => Err(format!("does not open: {why}")),
        }
    }

    /// The store goes back by so many batches. Whoever was asked about them will not answer any more.
    pub(super) fn lose(&mut self, batches: usize, loss: Loss) -> Result<(), Broken> {
        match loss {
            Loss::Known => self.batches.lose(batches),
            Loss::Unknown => self.batches.lose_unnoticed(batches),
        }
        self.desk.hang_up(&mut self.tally);
        let reader = self.reader();
        self.oracle.rewind(&reader, &self.desk.asked)?;
        // What was durable and told to nobody is nobody's loss.
        let loss = if self.batches.misses_some() { Loss::Known } else { Loss::Unknown };
        (self.loss, self.behind) = (Some(loss), true);
        self.lives += 1;
        self.desk.forget_lost(&self.oracle.model);
        Ok(())
    }

    /// So many batches may be lost.
    pub(super) fn losable(&self) -> usize {
        self.batches.batches().saturating_sub(self.floor)
    }

    /// How it is compared with another branch, served by `book` now.
    pub(super) fn side<'a>(&'a self, book: Option<&'a skerry_book::Book>) -> Side<'a> {
        Side {
            number: self.number,
            oracle: &self.oracle,
            lives: self.lives,
            is_lost: self.loss.is_some() || self.behind,
            is_whole: self.reader().head().position.0 == self.oracle.position(),
            book: book.filter(|_| self.loss.is_none()),
        }
    }
}
