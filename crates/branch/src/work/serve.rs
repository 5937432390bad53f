//! Taking requests in turn and answering them; the answers are held until they are durable.

use skerry_journal::Journal;

use super::{Fault, SharedQueue, Work, lock};
use crate::api::{Body, Busy, BusyReason, Denied, Reply, Request, Role};
use crate::clock::Now;
use crate::meters::{Kind, Meter};
use crate::queue::Ask;

/// What came of a request.
pub(super) enum Served {
    /// This is the answer.
    Answer(Reply),
    /// It needs a record that is in flight, and nothing was done.
    MustWait,
    /// It needs the records at these positions from the archive, and nothing was done.
    Recall(Vec<u64>),
}

impl<J: Journal> Work<J> {
    /// Serves what waits, as far as the batch has room. Returns whether anything was served.
    pub(super) fn take_requests(
        &mut self,
        now: Now,
        queue: &SharedQueue,
        ticks: &dyn Fn() -> u64,
    ) -> Result<bool, Fault> {
        let mut done = false;
        self.metrics.behind(self.is_behind(), now);
        while !self.must_seal && self.waiting.is_none() && !self.is_behind() {
            if self.intake.is_empty() {
                let mut taken = std::mem::take(&mut self.scratch.taken);
                let blocked = lock(queue).take(self.filling.room(), &mut taken);
                self.intake.extend(taken.drain(..));
                self.scratch.taken = taken;
                if self.intake.is_empty() {
                    // Someone waits for more room than is left: this batch is full.
                    self.must_seal |= blocked && !self.filling.is_empty();
                    return Ok(done);
                }
            }
            while let Some((ask, request)) = self.intake.pop_front() {
                if ask.records > self.filling.room() && !self.filling.is_empty() {
                    crate::coverage::Mark::NoRoom.hit();
                    self.intake.push_front((ask, request));
                    return Ok(done);
                }
                if let Some(back) = self.serve(ask, request, now, ticks)? {
                    self.intake.push_front(back);
                    return Ok(done);
                }
                done = true;
                if self.must_seal {
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    /// Serves one request; gives it back if it must wait.
    fn serve(
        &mut self,
        ask: Ask,
        request: Request,
        now: Now,
        ticks: &dyn Fn() -> u64,
    ) -> Result<Option<(Ask, Request)>, Fault> {
        let begin = ticks();
        let (records, bytes) = (self.filling.next_position(), self.filling.bytes());
        let refusals = self.metrics.refusals;
        let kind = kind_of(&request.body);
        let value = match self.answer(&request, now) {
            Ok(Served::Answer(value)) => value,
            Ok(Served::MustWait) => {
                crate::coverage::Mark::MustWait.hit();
                return Ok(Some((ask, request)));
            }
            Ok(Served::Recall(positions)) => {
                self.recall(ask, request, positions, now);
                return Ok(None);
            }
            Err(fault) => {
                // It is answered like all that were taken: nobody knows what became of it.
                self.intake.push_front((ask, request));
                return Err(fault);
            }
        };
        let cost = Meter {
            messages: 1,
            records: self.filling.next_position() - records,
            refusals: self.metrics.refusals - refusals,
            bytes_in: u64::try_from(ask.bytes).unwrap_or(u64::MAX),
            bytes_journal: self.filling.bytes() - bytes,
            cpu_ns: ticks().saturating_sub(begin),
        };
        self.meters.count(kind, &request.actor.principal, &cost);
        if let Body::Command { command, .. } = &request.body {
            self.meters.count_command(command.name(), &cost);
        }
        self.hold(request, value, now);
        self.end_recall();
        Ok(None)
    }

    fn answer(&mut self, request: &Request, now: Now) -> Result<Served, Fault> {
        if request.deadline_us != 0 && self.clock.last_us() > request.deadline_us {
            return Ok(Served::Answer(Reply::Expired));
        }
        if !self.options.gateway.verifies(request) {
            return Ok(Served::Answer(Reply::Denied(Denied::Authentication)));
        }
        let mut actor = request.actor;
        actor.approver = self.book.approver(&actor, self.filling.time_us());
        match &request.body {
            Body::Packed(bytes) => self.packed(&actor, request.scope, bytes),
            Body::Transfers(asked) => self.transfers(&actor, request.scope, asked),
            Body::Payout(asked) => self.payout(&actor, request.scope, asked),
            Body::Command { command, key } => {
                Ok(Served::Answer(self.command(&actor, request.scope, command, key.as_deref())))
            }
            Body::Read(read) => {
                let archived = self.archived(read)?;
                if !archived.is_empty() {
                    return Ok(Served::Recall(archived));
                }
                Ok(Served::Answer(self.read(&actor, request.scope, read)))
            }
            Body::Channel(bytes) if actor.role == Role::Bank => {
                self.hear(bytes, now)?;
                Ok(Served::Answer(Reply::Heard))
            }
            Body::Channel(_) => Ok(Served::Answer(Reply::Denied(Denied::Role))),
            Body::Checkpoint => {
                self.marks.want_checkpoint();
                Ok(Served::Answer(Reply::Marked))
            }
        }
    }

    /// Answers *busy* to all that wait: the clock cannot be trusted, and so nothing can be stamped.
    pub(super) fn turn_away(&mut self, now: Now, queue: &SharedQueue) -> bool {
        let mut taken = std::mem::take(&mut self.scratch.taken);
        taken.extend(self.intake.drain(..));
        taken.extend(self.recalls.drain());
        lock(queue).take(u32::MAX, &mut taken);
        let done = !taken.is_empty();
        for (ask, request) in taken.drain(..) {
            lock(queue).done(&ask.principal, now.monotonic_us);
            (request.reply)(Reply::Busy(Busy { retry_after_ms: 1000, reason: BusyReason::Closed }));
        }
        self.scratch.taken = taken;
        done
    }
}

fn kind_of(body: &Body) -> Kind {
    match body {
        Body::Packed(_) => Kind::Packed,
        Body::Transfers(_) | Body::Payout(_) => Kind::Transfers,
        Body::Command { .. } => Kind::Command,
        Body::Read(_) => Kind::Read,
        Body::Checkpoint | Body::Channel(_) => Kind::Bank,
    }
}
