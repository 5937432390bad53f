//! What the bank does of itself: business days that open when the cutoff has passed, holds whose time is up.

use skerry_book::{Actor, Cause, Command, Context, Event};
use skerry_journal::Journal;

use super::{Fault, Work};

impl<J: Journal> Work<J> {
    /// Does what is due at `time_us`. Returns whether anything was.
    pub(super) fn bank_acts(&mut self, time_us: u64) -> Result<bool, Fault> {
        if self.must_seal || self.waiting.is_some() {
            return Ok(false);
        }
        let expired = self.expire_holds();
        Ok(self.open_day(time_us) || expired)
    }

    /// The day changes only by an event, which ends its batch; all later ones carry the new date.
    fn open_day(&mut self, time_us: u64) -> bool {
        let Some(date) = self.book.day_due(time_us) else { return false };
        if self.book.day().is_none() {
            return false;
        }
        self.bank_command(&Command::OpenDay(date), &Actor::bank(Cause::Cutoff))
    }

    /// Does a command of the bank's own. Returns whether it was done.
    pub(crate) fn bank_command(&mut self, command: &Command, actor: &Actor) -> bool {
        let context = Context { stamp: self.stamp(), actor: *actor, key: None };
        match self.book.decide(command, &context) {
            Ok(decision) => {
                self.refused_act = None;
                self.write(&decision.events, actor);
                true
            }
            // Tried again each turn: said once, and again when it is another.
            Err(rejection) if self.refused_act == Some((command.name(), rejection.code())) => false,
            Err(rejection) => {
                self.refused_act = Some((command.name(), rejection.code()));
                tracing::error!(
                    code = rejection.code(),
                    "the bank's own {} was refused: {rejection}",
                    command.name()
                );
                false
            }
        }
    }

    fn expire_holds(&mut self) -> bool {
        let stamp = self.stamp();
        let mut expired = 0;
        while expired < self.options.expiries_per_batch && self.filling.room() > 0 {
            let Some(moved) = self.book.decide_expiry(stamp) else { break };
            let actor = self.filling.actor(&Actor::bank(Cause::HoldExpiry));
            self.write_moved(&moved, actor, Vec::new());
            expired += 1;
        }
        expired > 0
    }

    /// Whether `event` ends its batch.
    pub(super) fn ends_batch(event: &Event) -> bool {
        matches!(event, Event::DayOpened(_))
    }
}
