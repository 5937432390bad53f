//! A closed branch that follows the journal of whoever has it open, to be open soon when it is told to.
//!
//! It answers nobody and changes nothing but its own derived files. What it has is what an opening would have made of the same journal.

use skerry_journal::{JournalStore, Storage};

use super::{Branch, Condition, chain};
use crate::aside::Aside;
use crate::open::{OpenFailure, caught};
use crate::replica::Replica;

/// How far a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Followed {
    /// It has everything before this position.
    pub position: u64,
    /// The journal ended here when its store was last asked.
    pub head: u64,
}

impl Followed {
    /// Records that it has yet to read, as far as it knows.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.head.saturating_sub(self.position)
    }
}

impl<J: JournalStore, S: Storage> Branch<J, S> {
    /// Begins to follow, from the newest usable snapshot here or from the beginning; [`keep_up`](Self::keep_up) goes on. A branch that is
    /// open, or follows already, stays as it is. What is here of a life that the journal does not have is put aside once the journal says
    /// that its loss was declared; until it does, the end of the journal is a failure.
    ///
    /// # Errors
    ///
    /// [`OpenFailure`]; after one that [may not pass](OpenFailure::may_pass) the branch is sick for that reason.
    pub fn follow(&mut self) -> Result<(), OpenFailure> {
        if self.work.is_some() || self.follower.is_some() {
            return Ok(());
        }
        let begun = caught(|| {
            let reader = self.store.look()?;
            let aside = Aside::beside(&self.storage, &reader)?;
            Replica::begin(&self.ground(false), &reader, &reader, aside)
        });
        match begun {
            Ok(replica) => {
                self.follower = Some(Box::new(replica));
                self.condition = Condition::Closed;
                Ok(())
            }
            Err(failure) => Err(self.not_followed(failure)),
        }
    }

    /// Reads a piece of what came since. Whether there was anything: if not, ask again a little later.
    ///
    /// # Errors
    ///
    /// [`OpenFailure`]; after one that [may not pass](OpenFailure::may_pass) the follower is thrown away and the branch sick for that reason.
    pub fn keep_up(&mut self) -> Result<bool, OpenFailure> {
        let Some(replica) = &mut self.follower else { return Ok(false) };
        caught(|| replica.step()).map_err(|failure| self.not_followed(failure))
    }

    fn not_followed(&mut self, failure: OpenFailure) -> OpenFailure {
        if !failure.may_pass() {
            self.follower = None;
            self.condition = Condition::Sick(chain(&failure));
        }
        failure
    }

    /// How far it is; `None` unless it follows.
    #[must_use]
    pub fn followed(&self) -> Option<Followed> {
        let replica = self.follower.as_ref()?;
        Some(Followed { position: replica.position(), head: replica.seen().position.0 })
    }

    /// The follower's book, for checks.
    #[must_use]
    pub fn followed_book(&self) -> Option<&skerry_book::Book> {
        self.follower.as_ref().map(|replica| &replica.base.book)
    }

    /// Lets the next follower or opening here begin where this one is, as far as its files go.
    pub(super) fn rest_follower(&mut self) {
        if let Some(replica) = self.follower.take() {
            replica.workshop.rest();
        }
    }
}
