//! Commands to the book: decided, journaled, evolved.

use skerry_book::record;
use skerry_book::{Actor, Cause, Command, Context, Event, Rejection, Role};
use skerry_journal::Journal;

use super::Work;
use crate::api::{Commanded, Denied, Reply, Scope};
use crate::keys::KeyRef;

impl<J: Journal> Work<J> {
    /// Decides and does `command`.
    pub(super) fn command(
        &mut self,
        actor: &Actor,
        scope: Scope,
        command: &Command,
        key: Option<&[u8]>,
    ) -> Reply {
        if scope.customer.is_some() || matches!(actor.role, Role::Customer | Role::Auditor) {
            return Reply::Denied(Denied::Role);
        }
        let key = key.map(|key| match actor.cause {
            Cause::Import => self.book.import_key(key),
            _ => self.book.idempotency_key(&actor.principal, key),
        });
        let context = Context { stamp: self.stamp(), actor: *actor, key };
        match self.book.decide(command, &context) {
            Ok(decision) => {
                self.write(&decision.events, actor);
                Reply::Command(Ok(Commanded { done: decision.done, repeated: decision.repeated }))
            }
            Err(rejection) => Reply::Command(Err(self.count_refusal(rejection))),
        }
    }

    pub(super) fn count_refusal(&mut self, rejection: Rejection) -> Rejection {
        self.metrics.refusals += 1;
        rejection
    }

    /// Journals and evolves `events`, which are true together.
    pub(super) fn write(&mut self, events: &[Event], actor: &Actor) {
        if events.is_empty() {
            return;
        }
        let actor = self.filling.actor(actor);
        for event in events {
            self.write_event(event, actor);
        }
    }

    pub(super) fn write_event(&mut self, event: &Event, actor: u16) -> u64 {
        if let Event::Moved(moved) = event {
            return self.write_moved(moved, actor, Vec::new());
        }
        let (mut bytes, mut tail) = ([0; record::RECORD_LENGTH], Vec::new());
        record::encode(event, actor, &mut bytes, &mut tail);
        let position = self.filling.push_with_tail(&bytes, tail);
        self.book.evolve(event);
        match event {
            Event::Refused(refused) => self.ids.insert(refused.id, position),
            Event::CustomerErased(erased) => {
                self.marks.erasing(KeyRef(erased.key_ref), self.filling.number() + 1)
            }
            other => self.index_channel(other, position),
        }
        if Self::ends_batch(event) {
            self.must_seal = true;
            self.marks.want_checkpoint();
        }
        position
    }
}
