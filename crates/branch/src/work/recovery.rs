//! After a loss: who is in which life, what the other branches have of what is gone, and when a channel goes on.
//!
//! A branch whose channel has stopped and is to go on asks the other where it stands. What it lacks it lets itself be told,
//! page by page from the other's journal, and takes it back; once both fit, the channel goes on. Both do the same, and who
//! has lost nothing finds nothing to take back.

use skerry_book::channel::{Channel, WINDOW};
use skerry_book::command::{OpenChannel, StopChannel};
use skerry_book::event::StopReason;
use skerry_book::{Actor, Cause, Command, Event, Payment, RECOVERY_LEVEL};
use skerry_journal::Journal;

use super::channels::HELLO_US;
use super::{Fault, ROOM_SMALL, Work};
use crate::channels::coverage::Mark;
use crate::channels::message::{Header, Said};
use crate::channels::retell::{Ask, Fact, Retold, Stands};
use crate::channels::rewound::Rewound;
use crate::channels::{Asking, Line};
use crate::clock::Now;
use crate::jobs::Job;

/// How two branches meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// Each is in the life that the other knows.
    Agreed,
    /// One has begun a new life, and both have yet to agree on where they stand.
    Apart,
}

impl<J: Journal> Work<J> {
    /// Whether both are who the other thinks; opens the channel at the first word. `None` for a word from a life that is
    /// over. If the other has begun a new life, the channel stops: what it remembers need not be what this one does.
    pub(super) fn meet(&mut self, header: Header) -> Result<Option<Met>, Fault> {
        let (peer, own) = (header.from, self.book.incarnation());
        let line = self.talk.lines.entry(peer).or_default();
        line.heard = line.heard.max(header.to_incarnation);
        if header.to_incarnation > own {
            // It has agreed on a life that this journal does not know of.
            return Err(self.rewound(peer, 0, 0));
        }
        let agreed = matches!(header.to_incarnation, 0) || header.to_incarnation == own;
        let met = if agreed { Met::Agreed } else { Met::Apart };
        let Some(channel) = self.book.channel(peer) else {
            let wish = OpenChannel { peer, incarnation: header.incarnation };
            self.bank_command(&Command::OpenChannel(wish), &Actor::bank(Cause::Channel));
            return Ok(Some(met));
        };
        let (known, resuming) = (channel.incarnation, channel.resuming);
        let able = self.book.format() >= RECOVERY_LEVEL;
        if header.incarnation < known {
            return Ok(None);
        }
        if header.incarnation == known && (agreed || able) {
            return Ok(Some(met));
        }
        Mark::IncarnationDiffered.hit();
        let (knows, is) = if header.incarnation == known {
            (header.to_incarnation, own)
        } else {
            (known, header.incarnation)
        };
        self.stop_for(peer, knows, is);
        if !able {
            return Ok(None);
        }
        if !resuming {
            self.bank_command(&Command::ResumeChannel(peer), &Actor::bank(Cause::Channel));
        }
        Ok(Some(Met::Apart))
    }

    fn stop_for(&mut self, peer: u16, knows: u32, is: u32) {
        self.stop(StopChannel {
            peer,
            reason: StopReason::IncarnationDiffers,
            outgoing: true,
            incoming: true,
            n: 0,
            expected: u128::from(knows),
            found: u128::from(is),
        });
    }

    /// The end of this opening: another branch knows more than the journal does.
    pub(super) fn rewound(&self, peer: u16, told: u64, known: u64) -> Fault {
        Mark::LossFound.hit();
        let incarnation = self.book.incarnation();
        let heard = self.talk.lines.get(&peer).map_or(0, |line| line.heard).max(incarnation);
        let found = Rewound { peer, incarnation, heard, told, known };
        Fault::Rewound { found, position: self.journal.head().position.0 }
    }

    /// Whether the life that this branch is in is on record for good: before that, nobody is told of it.
    pub(super) fn is_born(&self) -> bool {
        self.polled.position.0 >= self.born
    }

    /// Begins to ask `peer` from the beginning.
    pub(super) fn ask_anew(&mut self, peer: u16) {
        self.talk.touch(peer);
        self.talk.waiting.remove(&peer);
        let line = self.talk.lines.entry(peer).or_default();
        line.asking = Asking { now: true, ..Asking::default() };
        self.talk.busy.insert(peer);
    }

    /// What is to be said of losses, this branch's own and the other's.
    pub(super) fn speak_of_losses(channel: &Channel, line: &mut Line, now: Now, said: &mut Vec<Said>) {
        // It must be on record that words of an older life are not heard any more.
        let heeds = |heard: u32| line.durable.stopped || line.durable.incarnation >= heard;
        if let Some(heard) = line.stands.filter(|heard| heeds(*heard)) {
            line.stands = None;
            said.push(Said::Standing(Stands { heard, standing: channel.standing() }));
        }
        let asking = &mut line.asking;
        let due = asking.now || now.monotonic_us >= asking.asked_us + HELLO_US;
        if !channel.resuming || !due {
            return;
        }
        (asking.now, asking.asked_us) = (false, now.monotonic_us);
        said.push(Said::Ask(Ask {
            from: asking.from,
            done: channel.outgoing.done,
            received: channel.incoming.received,
            wants: asking.wants,
        }));
    }

    /// A channel that was lost, and opened anew in this life, takes back what there was.
    fn resume_lost(&mut self, header: Header) {
        if self.book.format() >= RECOVERY_LEVEL {
            self.stop_for(header.from, header.to_incarnation, self.book.incarnation());
            self.bank_command(&Command::ResumeChannel(header.from), &Actor::bank(Cause::Channel));
        }
    }

    /// Another branch asks where this one stands, and perhaps for what it has lost.
    pub(super) fn hear_ask(&mut self, header: Header, met: Met, ask: Ask) {
        let peer = header.from;
        // It goes on once it is told what fits, and says nothing of where it stands: what it has heard of payments shows the loss too.
        let lost = self.book.channel(peer).is_some_and(|channel| {
            let (sent, received) = (channel.outgoing.sent, channel.incoming.received);
            !channel.resuming && !channel.is_stopped() && (ask.done > received || ask.received > sent)
        });
        if met == Met::Apart && lost {
            self.resume_lost(header);
        }
        if let Some(line) = self.talk.lines.get_mut(&peer) {
            line.stands = Some(header.incarnation);
        }
        if ask.wants && !self.talk.retold.contains_key(&peer) {
            Mark::Retelling.hit();
            self.talk.retold.insert(peer, None);
            self.jobs.push_back(Job::Retell(self.far.clone(), peer, ask));
        }
    }

    /// A page has been read.
    pub(super) fn retell(&mut self, peer: u16, page: Result<Retold, String>) {
        match page {
            Ok(page) => drop(self.talk.retold.insert(peer, Some(page))),
            Err(error) => {
                tracing::warn!(
                    branch = self.options.branch,
                    peer,
                    "what it asks for cannot be read: {error}"
                );
                self.talk.retold.remove(&peer);
            }
        }
        self.talk.busy.insert(peer);
    }

    /// Another branch says where it stands.
    pub(super) fn hear_standing(
        &mut self,
        header: Header,
        met: Met,
        stands: Stands,
        now: Now,
    ) -> Result<(), Fault> {
        let peer = header.from;
        let Some(channel) = self.book.channel(peer) else { return Ok(()) };
        if stands.heard != self.book.incarnation() {
            return Ok(());
        }
        let standing = &stands.standing;
        if !channel.resuming {
            let lost = channel.has_lost(standing) && !channel.is_stopped();
            if met == Met::Agreed && channel.shows_loss_of(standing) {
                // Only it can see that: where this branch stands shows it.
                let line = self.talk.lines.entry(peer).or_default();
                line.stands = Some(header.incarnation);
            }
            let (sent, received) = (channel.outgoing.sent, channel.incoming.received);
            return match met {
                Met::Agreed if lost && standing.done > received => {
                    Err(self.rewound(peer, standing.done, received))
                }
                Met::Agreed if lost => Err(self.rewound(peer, standing.received, sent)),
                // The channel itself was lost, and opened anew in this life.
                Met::Apart if lost => {
                    self.resume_lost(header);
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        let blind = self.options.sabotage.blind_resumption();
        if channel.fits(standing) || blind {
            Mark::ChannelResumed.hit();
            tracing::info!(branch = self.options.branch, peer, "a channel goes on");
            let wish = OpenChannel { peer, incarnation: header.incarnation };
            self.bank_command(&Command::GoOn(wish), &Actor::bank(Cause::Channel));
            self.talk.waiting.remove(&peer);
            let line = self.talk.lines.entry(peer).or_default();
            let outgoing = self.book.channel(peer).map(|channel| channel.outgoing.done);
            (line.asking, line.tell, line.tell_all) = (Asking::default(), true, true);
            (line.out, line.moved_us) = (outgoing.unwrap_or_default(), now.monotonic_us);
            return Ok(());
        }
        let lacks = channel.lacks(standing);
        let Some(line) = self.talk.lines.get_mut(&peer) else { return Ok(()) };
        if lacks && !line.asking.wants && !line.asking.over {
            (line.asking.wants, line.asking.now) = (true, true);
        }
        Ok(())
    }

    /// Another branch tells what it has: as far as the batch has room it is taken back, and the rest is asked for again.
    pub(super) fn hear_retold(&mut self, header: Header, retold: Retold) {
        let peer = header.from;
        let resuming = self.book.channel(peer).is_some_and(|channel| channel.resuming);
        let Some(line) = self.talk.lines.get(&peer) else { return };
        if !resuming || !line.asking.wants || line.asking.from != retold.from {
            return;
        }
        let whole = retold.facts.into_iter().all(|fact| self.take_fact(peer, fact));
        let Some(line) = self.talk.lines.get_mut(&peer) else { return };
        line.asking.now = true;
        if !whole {
            Mark::RetoldCutShort.hit();
            return;
        }
        line.asking.from = retold.next;
        if retold.end {
            (line.asking.wants, line.asking.over) = (false, true);
        }
    }

    /// Takes one fact of another branch back; `false` if the batch has no room for it.
    fn take_fact(&mut self, peer: u16, fact: Fact) -> bool {
        let between = |payment: &Payment, from: u16, to: u16| {
            payment.debit.branch() == from && payment.credit.branch() == to && payment.amount > 0
        };
        let own = self.options.branch;
        match fact {
            Fact::Sent { n, payment, tail } if between(&payment, peer, own) => {
                let waiting = self.talk.waiting.entry(peer).or_default();
                if waiting.len() < 2 * WINDOW {
                    waiting.insert(n, (payment, tail));
                }
                true
            }
            Fact::Settled { first, last } => (first..=last).all(|n| self.take_back_received(peer, n, 0)),
            Fact::Returned { n, outcome } => self.take_back_received(peer, n, outcome),
            Fact::Received { n, outcome, payment, tail } if between(&payment, own, peer) => {
                self.take_back_sent(peer, n, &payment, outcome, &tail)
            }
            Fact::Sent { .. } | Fact::Received { .. } => true,
        }
    }

    fn take_back_received(&mut self, peer: u16, n: u64, outcome: u16) -> bool {
        let Some((payment, tail)) = self.talk.waiting.get(&peer).and_then(|waiting| waiting.get(&n)).cloned()
        else {
            return true;
        };
        if self.filling.room() <= ROOM_SMALL {
            return false;
        }
        let stamp = self.stamp();
        if let Some(event) = self.book.take_back_received(peer, n, &payment, outcome, stamp) {
            // A currency that nobody takes must not come into use.
            if outcome == 0 {
                self.open_heads_to_take_back(peer, &payment);
            }
            Mark::ReceivedAgain.hit();
            self.write_taken_back(&event, &tail);
        }
        if let Some(waiting) = self.talk.waiting.get_mut(&peer) {
            waiting.remove(&n);
        }
        true
    }

    fn take_back_sent(&mut self, peer: u16, n: u64, payment: &Payment, outcome: u16, tail: &[u8]) -> bool {
        let stamp = self.stamp();
        loop {
            if self.filling.room() <= ROOM_SMALL {
                return false;
            }
            match self.book.take_back_sent(peer, n, payment, outcome, stamp) {
                None => return true,
                Some(event @ Event::Sent(_)) => {
                    Mark::SentAgain.hit();
                    self.open_heads_to_take_back(peer, payment);
                    self.write_taken_back(&event, tail);
                }
                Some(event) => {
                    self.write(&[event], &Actor::bank(Cause::Channel));
                }
            }
        }
    }

    fn open_heads_to_take_back(&mut self, peer: u16, payment: &Payment) {
        let (stamp, actor) = (self.stamp(), Actor::bank(Cause::Channel));
        loop {
            let heads = self.book.heads_to_take_back(peer, payment.currency, stamp);
            if heads.is_empty() {
                return;
            }
            self.write(&heads, &actor);
        }
    }

    fn write_taken_back(&mut self, event: &Event, tail: &[u8]) {
        let actor = self.filling.actor(&Actor::bank(Cause::Channel));
        match event {
            Event::Sent(sent) => {
                if sent.payer != Some(sent.moved.debit) {
                    Mark::Unapplied.hit();
                }
                self.write_sent(sent, actor, tail.to_vec());
            }
            Event::Received(received) => {
                if received.payee != Some(received.moved.credit) {
                    Mark::Unapplied.hit();
                }
                self.write_received(received, actor, tail.to_vec());
            }
            _ => {}
        }
    }
}
