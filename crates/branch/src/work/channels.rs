//! The talk with other branches: what is heard becomes records, what is durable becomes messages.

use skerry_book::channel::{Channel, received_id, running_hash};
use skerry_book::command::StopChannel;
use skerry_book::event::{Received, Sent, StopReason};
use skerry_book::record::{self, RECORD_LENGTH};
use skerry_book::{Actor, CHANNEL_LEVEL, Cause, Command, Event};
use skerry_journal::{Journal, JournalReader, Position, ReadError};
use skerry_ledger::{Flags, TransferId};

use super::recovery::Met;
use super::{Fault, Work};
use crate::channels::coverage::Mark;
use crate::channels::message::{self, Header, Outcomes, RUN_MAX, Run, Said};
use crate::channels::{Line, Outgoing, travelling};
use crate::clock::Now;

/// Who is asked again who it is, after so long.
pub(super) const HELLO_US: u64 = 1_000_000;
/// Bytes of tails after which a run ends.
const TAILS_MAX: usize = 128 << 10;
/// Records that must have room beside a payment: two heads of a currency that is new on the channel.
const HEADS: u32 = 2;

impl<J: Journal> Work<J> {
    /// Hears a message. If it shows that the journal has lost something while others may have the branch, it is they who may have done
    /// what it speaks of: the journal's store tells, before anybody calls it a loss.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Now) -> Result<(), Fault> {
        match self.take_in(bytes, now) {
            Err(fault @ Fault::Rewound { .. }) if !self.options.is_held() => {
                if self.suspected.is_none() {
                    self.checks = self.journal.confirm();
                    self.metrics.checked();
                    self.suspected = Some((fault, self.checks));
                }
                Ok(())
            }
            heard => heard,
        }
    }

    /// What cannot be understood is passed over: it will be said again, by somebody who is right.
    fn take_in(&mut self, bytes: &[u8], now: Now) -> Result<(), Fault> {
        let (header, said) = match message::open(bytes, &self.options.gateway) {
            Ok(read) => read,
            Err(error) => {
                Mark::MessageRefused.hit();
                tracing::warn!(branch = self.options.branch, "{error}");
                return Ok(());
            }
        };
        let known = self.talk.lines.contains_key(&header.from);
        if header.to != self.options.branch || !known || self.book.format() < CHANNEL_LEVEL {
            return Ok(());
        }
        let Some(met) = self.meet(header)? else { return Ok(()) };
        let line = self.talk.lines.entry(header.from).or_default();
        line.met = true;
        self.talk.busy.insert(header.from);
        match said {
            Said::Hello => (line.welcome, line.stands) = (true, Some(header.incarnation)),
            Said::Welcome => {}
            Said::Payments(run) if met == Met::Agreed => return self.hear_payments(header, run),
            Said::Outcomes(told) if met == Met::Agreed => return self.hear_outcomes(header.from, &told, now),
            // It speaks to a life that is over, and goes on until it hears of this one: a greeting may have been lost.
            Said::Payments(_) | Said::Outcomes(_) => line.welcome = true,
            Said::Ask(ask) => self.hear_ask(header, met, ask),
            Said::Standing(stands) => return self.hear_standing(header, met, stands, now),
            Said::Retold(retold) => self.hear_retold(header, retold),
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, wish: StopChannel) {
        let running = self.book.channel(wish.peer).is_some_and(|channel| {
            (wish.outgoing && channel.outgoing.stopped.is_none())
                || (wish.incoming && channel.incoming.stopped.is_none())
        });
        if running {
            Mark::ChannelStopped.hit();
            tracing::error!(
                branch = self.options.branch,
                peer = wish.peer,
                reason = wish.reason.name(),
                "a channel stops at number {}",
                wish.n
            );
            self.bank_command(&Command::StopChannel(wish), &Actor::bank(Cause::Channel));
        }
    }

    fn hear_payments(
        &mut self,
        Header { from: peer, incarnation, .. }: Header,
        run: Run,
    ) -> Result<(), Fault> {
        let Some(incoming) = self.book.channel(peer).map(|channel| &channel.incoming) else { return Ok(()) };
        if incoming.stopped.is_some() {
            // It may be the other that has lost something: it sees it by where this branch stands.
            if let Some(line) = self.talk.lines.get_mut(&peer) {
                line.stands = Some(incarnation);
            }
            return Ok(());
        }
        if !is_between(&run, peer, self.options.branch) {
            return Ok(());
        }
        let (received, hash) = (incoming.received, incoming.hash);
        if run.done > received {
            // What the other is done with was received here: this journal has lost it.
            return Err(self.rewound(peer, run.done, received));
        }
        let Some(line) = self.talk.lines.get_mut(&peer) else { return Ok(()) };
        if run.first > received + 1 {
            Mark::PaymentsMissed.hit();
            (line.tell, line.again) = (true, true);
            return Ok(());
        }
        let seen = usize::try_from(received + 1 - run.first).unwrap_or(usize::MAX);
        if seen > 0 {
            // It was told and got lost, or is about to be told.
            Mark::PaymentsRepeated.hit();
            (line.tell, line.tell_all) = (true, true);
        }
        if seen >= run.payments.len() {
            if self.options.sabotage.payment_twice() {
                self.take_payments(peer, &run, 0);
            }
            return Ok(());
        }
        if let Some((n, found)) = strays(&run, seen, hash) {
            self.stop(StopChannel {
                peer,
                reason: StopReason::HashDiffers,
                outgoing: false,
                incoming: true,
                n,
                expected: hash,
                found,
            });
            return Ok(());
        }
        self.take_payments(peer, &run, seen);
        Ok(())
    }

    /// Gives each new payment of a run its outcome, as far as the batch has room.
    fn take_payments(&mut self, peer: u16, run: &Run, seen: usize) {
        let actor = self.filling.actor(&Actor::bank(Cause::Channel));
        let (stamp, mut tails) = (self.stamp(), run.tails.iter());
        self.filling.reserve(run.payments.len() - seen);
        for (index, payment) in run.payments.iter().enumerate() {
            let tail = if payment.flags.has(Flags::TAIL) { tails.next() } else { None };
            if index < seen {
                continue;
            }
            if self.filling.room() <= HEADS {
                Mark::PaymentsCutShort.hit();
                if let Some(line) = self.talk.lines.get_mut(&peer) {
                    (line.tell, line.again) = (true, true);
                }
                return;
            }
            // A currency that the payee has no account in must not come into use here.
            let heads = match self.book.account(payment.credit) {
                Some(payee) if payee.currency == payment.currency => {
                    self.book.channel_heads(peer, payment.currency, stamp)
                }
                _ => Vec::new(),
            };
            for event in heads {
                self.write_event(&event, actor);
            }
            let received = self.book.decide_received(payment, peer, run.done, stamp);
            self.write_received(&received, actor, tail.map(|tail| tail.to_vec()).unwrap_or_default());
        }
    }

    fn hear_outcomes(&mut self, peer: u16, heard: &Outcomes, now: Now) -> Result<(), Fault> {
        let Some(outgoing) = self.book.channel(peer).map(|channel| &channel.outgoing) else { return Ok(()) };
        if outgoing.stopped.is_some() {
            return Ok(());
        }
        let (sent, done) = (outgoing.sent, outgoing.done);
        if heard.received > sent {
            return Err(self.rewound(peer, heard.received, sent));
        }
        let known = outgoing.known_hash(heard.received);
        if known.is_some_and(|known| known != heard.hash) {
            // Numbers were given twice: the payments that the other has under them are gone from this journal.
            return Err(self.rewound(peer, heard.received, sent));
        }
        let (stamp, room) = (self.stamp(), self.filling.room());
        let most = usize::try_from(room).unwrap_or(usize::MAX);
        let events = self.book.decide_outcomes(peer, heard.first, &heard.outcomes, stamp, most);
        self.write(&events, &Actor::bank(Cause::Channel));
        let Some(line) = self.talk.lines.get_mut(&peer) else { return Ok(()) };
        if !events.is_empty() {
            line.moved_us = now.monotonic_us;
        }
        if heard.again {
            Mark::PaymentsAskedAgain.hit();
            line.out = line.out.min(heard.received.max(done));
        }
        Ok(())
    }

    /// Journals, evolves and indexes a payment that leaves.
    #[inline]
    pub(super) fn write_sent(&mut self, sent: &Sent, actor: u16, tail: Vec<u8>) -> u64 {
        let mut bytes = [0; RECORD_LENGTH];
        record::encode_sent(sent, actor, &mut bytes);
        let position = self.filling.push_with_tail(&bytes, tail);
        self.book.evolve_sent(sent);
        self.marks.moved(&sent.moved);
        self.index_sent(sent, position);
        position
    }

    fn index_sent(&mut self, sent: &Sent, position: u64) {
        let moved = &sent.moved;
        self.talk.touch(moved.credit.branch());
        self.ids.insert(moved.id, position);
        if moved.flags.has(Flags::REVERSAL) {
            self.ids.insert_resolution(received_id(moved.related, moved.credit.branch()), position);
        } else if moved.related != TransferId::NONE {
            self.ids.insert_resolution(moved.related, position);
        }
    }

    /// The same with one that arrives.
    #[inline]
    pub(super) fn write_received(&mut self, received: &Received, actor: u16, tail: Vec<u8>) -> u64 {
        let mut bytes = [0; RECORD_LENGTH];
        record::encode_received(received, actor, &mut bytes);
        let position = self.filling.push_with_tail(&bytes, tail);
        self.book.evolve_received(received);
        self.index_received(received, position);
        position
    }

    fn index_received(&mut self, received: &Received, position: u64) {
        let moved = &received.moved;
        let peer = moved.debit.branch();
        self.talk.touch(peer);
        if received.outcome == 0 {
            self.marks.moved(moved);
            self.ids.insert(received_id(moved.id, peer), position);
        }
    }

    /// Indexes what was written of a channel by the way of all events.
    pub(super) fn index_channel(&mut self, event: &Event, position: u64) {
        match event {
            Event::Sent(sent) => {
                self.marks.moved(&sent.moved);
                self.index_sent(sent, position);
            }
            Event::Received(received) => self.index_received(received, position),
            Event::Settled(settled) => {
                self.talk.touch(settled.peer);
                if let Some(moved) = event.posting(self.options.branch) {
                    self.marks.moved(&moved);
                }
            }
            Event::Returned(returned) => {
                let moved = &returned.moved;
                self.talk.touch(moved.debit.branch());
                let mark = if returned.withdrawn { Mark::PaymentWithdrawn } else { Mark::PaymentReturned };
                mark.hit();
                self.marks.moved(moved);
                self.ids.insert(moved.id, position);
                self.ids.insert_resolution(moved.related, position);
            }
            Event::ChannelOpened(opened) => self.talk.touch(opened.peer),
            Event::ChannelStopped(stopped) => self.talk.touch(stopped.peer),
            Event::ChannelResuming(resuming) => self.ask_anew(resuming.peer),
            Event::ChannelResumed(resumed) => self.talk.touch(resumed.peer),
            _ => {}
        }
    }

    /// Makes messages of what is durable and due. Returns whether any was made.
    pub(super) fn speak(&mut self, now: Now) -> Result<bool, Fault> {
        if self.book.format() < CHANNEL_LEVEL || self.book.day().is_none() || !self.is_born() {
            return Ok(false);
        }
        if self.options.sabotage.hasty_words() {
            self.talk.durable(u64::MAX);
        }
        let mut said = false;
        let busy: Vec<u16> = self.talk.busy.iter().copied().collect();
        for peer in busy {
            if !self.talk.has_room() {
                return Ok(said);
            }
            said |= self.speak_to(peer, now)?;
        }
        Ok(said)
    }

    fn speak_to(&mut self, peer: u16, now: Now) -> Result<bool, Fault> {
        let Some(mut line) = self.talk.lines.get(&peer).copied() else { return Ok(false) };
        let mut said = Vec::new();
        let known = self.book.channel(peer);
        if (known.is_none() || !line.met)
            && (line.hello_us == 0 || now.monotonic_us >= line.hello_us + HELLO_US)
        {
            line.hello_us = now.monotonic_us.max(1);
            said.push(Said::Hello);
        }
        if std::mem::take(&mut line.welcome) {
            said.push(Said::Welcome);
        }
        if let Some(channel) = known {
            Self::speak_of_losses(channel, &mut line, now, &mut said);
            if line.tell {
                let told = tell(channel, &line).filter(|_| channel.incoming.stopped.is_none());
                said.extend(told.map(Said::Outcomes));
                (line.told, line.tell) = (line.durable.received, false);
                (line.tell_all, line.again) = (false, false);
            }
            let waits = line.durable.sent > line.durable.done && channel.outgoing.stopped.is_none();
            if waits
                && line.out > line.durable.done
                && now.monotonic_us >= line.moved_us + self.options.resend_us
            {
                Mark::PaymentsResent.hit();
                line.out = line.durable.done;
                line.moved_us = now.monotonic_us;
            }
            line.out = line.out.max(channel.outgoing.done);
            if waits && line.out < line.durable.sent {
                let run = self.run_of(channel, &line)?;
                if !run.payments.is_empty() {
                    line.out += run.payments.len() as u64;
                    line.moved_us = now.monotonic_us;
                    said.push(Said::Payments(run));
                }
            }
        }
        let rests = known.is_some_and(|channel| !channel.resuming)
            && line.met
            && line.stands.is_none()
            && line.durable.sent == line.durable.done
            && !line.tell;
        let to_incarnation = known.map_or(0, |channel| channel.incarnation);
        let incarnation = self.book.incarnation();
        let header = Header { from: self.options.branch, to: peer, incarnation, to_incarnation };
        let any = !said.is_empty();
        for said in &said {
            let bytes = header.seal(said, &self.options.gateway);
            self.talk.outbox.push_back(Outgoing { to: peer, bytes });
        }
        self.talk.lines.insert(peer, line);
        if let Some(page) = self.talk.retold.get_mut(&peer).and_then(Option::take) {
            self.talk.retold.remove(&peer);
            let bytes = header.seal(&Said::Retold(page), &self.options.gateway);
            self.talk.outbox.push_back(Outgoing { to: peer, bytes });
        }
        if rests {
            self.talk.busy.remove(&peer);
        }
        Ok(any)
    }

    /// The next payments to hand out, all of them durable.
    fn run_of(&self, channel: &Channel, line: &Line) -> Result<Run, Fault> {
        let outgoing = &channel.outgoing;
        let first = line.out + 1;
        let skip = usize::try_from(line.out - outgoing.done).unwrap_or(usize::MAX);
        let most = usize::try_from(line.durable.sent - line.out).unwrap_or(usize::MAX).min(RUN_MAX);
        let mut run = Run { first, done: line.durable.done, ..Run::default() };
        run.before = channel.hash_before(first).unwrap_or_default();
        run.after = run.before;
        run.payments.reserve(most);
        let mut bytes = 0;
        for open in outgoing.open.iter().skip(skip).take(most) {
            if open.payment.flags.has(Flags::TAIL) {
                let stored = match self.reader.read_record(Position(open.position)) {
                    // Its text is archived and the archive is not there: it waits, and nothing else does.
                    Err(ReadError::Archived { .. } | ReadError::ColdAway { .. }) => break,
                    stored => stored.map_err(Fault::Read)?,
                };
                let tail = travelling(stored.tail.as_deref().unwrap_or_default());
                bytes += tail.len();
                run.tails.push(tail.into());
            }
            run.after = open.hash;
            run.payments.push(open.payment);
            if bytes > TAILS_MAX {
                break;
            }
        }
        Ok(run)
    }
}

/// What is to be told: from the first that is kept, or only what is new.
fn tell(channel: &Channel, line: &Line) -> Option<Outcomes> {
    let incoming = &channel.incoming;
    let from = if line.tell_all { incoming.forgotten } else { line.told.max(incoming.forgotten) };
    let received = line.durable.received;
    let skip = usize::try_from(from - incoming.forgotten).ok()?;
    let most = usize::try_from(received.checked_sub(from)?).ok()?;
    let outcomes = incoming.outcomes.iter().skip(skip).take(most).copied().collect();
    let hash = line.durable.received_hash;
    Some(Outcomes { first: from + 1, received, hash, again: line.again, outcomes })
}

/// Whether a run's payments lead from `peer` to `branch`.
fn is_between(run: &Run, peer: u16, branch: u16) -> bool {
    run.payments.iter().all(|one| one.debit.branch() == peer && one.credit.branch() == branch)
}

/// Where a run leaves the way: the number, and the hash found there. `seen` payments were received before, and `hash` is
/// the running hash to the last of them.
fn strays(run: &Run, seen: usize, hash: u128) -> Option<(u64, u128)> {
    let mut running = run.before;
    for (index, (n, payment)) in (run.first..).zip(&run.payments).enumerate() {
        if index == seen && running != hash {
            return Some((n, running));
        }
        running = running_hash(running, n, payment);
    }
    let last = run.first + run.payments.len() as u64 - 1;
    (running != run.after).then_some((last, running))
}
