//! A journal that was rewound: what is put aside, and how the branch begins its next life.

use skerry_book::command::Incarnate;
use skerry_book::{Actor, Cause, Command};
use skerry_journal::{Journal, JournalReader, JournalStore, Position, Storage};

use super::Branch;
use crate::aside::Aside;
use crate::channels::rewound::Rewound;
use crate::clock::Now;
use crate::open::{Found, OpenFailure};
use crate::work::Work;

impl<J: JournalStore, S: Storage> Branch<J, S> {
    /// Opens a branch whose journal was rewound, under a new incarnation: what outlived the journal and
    /// stands for more than it has is put aside, and the loss is journaled. `store` must accept the loss too.
    ///
    /// # Errors
    ///
    /// [`OpenFailure`].
    pub fn declare_loss(&mut self, store: J, now: Now, entropy: [u8; 32]) -> Result<Found, OpenFailure> {
        self.work = None;
        self.workshop = None;
        self.follower = None;
        // The declaration counts once: whatever is lost after it must be told again.
        let usual = std::mem::replace(&mut self.store, store);
        let opened = self.put_aside().and_then(|aside| Ok((aside, self.open_as(now, entropy, true)?)));
        self.store = usual;
        let (aside, found) = opened?;
        let Some(work) = &mut self.work else { return Ok(found) };
        // No life has the number of one that somebody knows already.
        let last = aside.incarnation.max(work.book.incarnation()).max(1);
        while work.book.incarnation() <= last {
            let (incarnation, lost_from) = (work.book.incarnation().max(1) + 1, work.book.position());
            let lost_to = aside.lost_to.max(lost_from);
            if !work.incarnate(Incarnate { incarnation, lost_from, lost_to }) {
                break;
            }
        }
        Ok(found)
    }

    /// Puts aside what stands for more than the journal has.
    fn put_aside(&self) -> Result<Aside, OpenFailure> {
        let opened = self.store.open()?;
        let reader = opened.journal.reader();
        let head = opened.recovery.head;
        drop(opened);
        let agrees = |position: u64, hash: &[u8; 32]| -> bool {
            if position >= head.position.0 {
                return position == head.position.0 && head.hash == *hash;
            }
            reader.read_record(Position(position)).is_ok_and(|stored| stored.header.previous == *hash)
        };
        let noted = Rewound::find(&self.storage.folder("peers")?)?;
        let mut aside = Aside::find(&self.storage, |position, hash| Ok(agrees(position, hash)))?;
        aside.incarnation = aside.incarnation.max(noted.map_or(0, |noted| noted.heard));
        aside.put(&self.storage)?;
        Ok(aside)
    }

    /// Keeps what another branch has shown, so that the next opening knows it.
    pub(super) fn note(&self, found: &Rewound) {
        let kept = self.storage.folder("peers").and_then(|folder| found.keep(&folder));
        if let Err(error) = kept {
            tracing::error!(
                branch = self.options.branch,
                "could not note what branch {} knows: {error}",
                found.peer
            );
        }
    }
}

impl<J: Journal> Work<J> {
    /// Begins the next life. Returns whether it has begun.
    fn incarnate(&mut self, wish: Incarnate) -> bool {
        let actor = Actor::bank(Cause::DeclaredLoss);
        let begun = self.bank_command(&Command::Incarnate(wish), &actor);
        self.born = self.filling.next_position();
        if begun {
            // Whoever is put back again must know of this life.
            self.marks.want_checkpoint();
        }
        begun
    }
}
