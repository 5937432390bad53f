//! Payments between branches, as the journal of one of them tells it: what was sent, what came, and how each ended.
//!
//! Whether two branches tell the same is not known here; see [`crate::wire`].

use std::collections::BTreeMap;

use skerry_book::Event;
use skerry_book::channel::received_id;
use skerry_book::event::{Received, Returned, Sent, Settled};
use skerry_ledger::{AccountRef, Flags, Moved, MovedKind, Stamp, TransferId};
use skerry_money::{Currency, Date};

use super::account::{Account, CREDIT, DEBIT};
use super::{AllAsked, Broken, Model};

/// The heads of a channel; the peer's number follows.
const TRANSIT: u32 = 1105;
const POSITION: u32 = 1106;
/// Where returns wait that nobody takes.
const UNAPPLIED: u32 = 2902;

/// What both branches must say of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) id: TransferId,
    pub(crate) debit: AccountRef,
    pub(crate) credit: AccountRef,
    pub(crate) amount: u64,
    pub(crate) currency: Currency,
    pub(crate) code: u16,
    pub(crate) value_date: Date,
    pub(crate) reference: [u8; 16],
    /// What it gives back, if it does.
    pub(crate) reverses: TransferId,
}

/// A payment that left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) way: Way,
    pub(crate) position: u64,
    /// What became of it, and at which position: 0 settled, else the number of the refusal.
    pub(crate) end: Option<(u16, u64)>,
}

/// A payment that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    pub(crate) way: Way,
    pub(crate) position: u64,
    /// 0 accepted, else the number of the refusal.
    pub(crate) outcome: u16,
}

/// All that went to one other branch and came from there, by numbers from 1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    pub(crate) incarnation: u32,
    pub(crate) sent: Vec<Out>,
    pub(crate) done: usize,
    pub(crate) came: Vec<Came>,
    /// Nothing more goes out, nothing more comes in.
    pub(crate) stopped: [bool; 2],
    /// It is to go on.
    pub(crate) resuming: bool,
    /// What was sent and withdrawn, when, and until when.
    pub(crate) withdrawn: Vec<(Way, u64, u64)>,
}

/// How much of what went to or came from one other branch in one currency; count and amount each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    pub(crate) sent: (u64, u128),
    pub(crate) settled: (u64, u128),
    pub(crate) returned: (u64, u128),
    pub(crate) received: (u64, u128),
    pub(crate) refused: (u64, u128),
}

impl Peer {
    /// Whether both directions rest, and lost payments may be taken back.
    fn takes_back(&self) -> bool {
        self.stopped == [true; 2] && self.resuming
    }
}

impl Way {
    fn of(moved: &Moved) -> Self {
        Self {
            id: moved.id,
            debit: moved.debit,
            credit: moved.credit,
            amount: moved.amount,
            currency: moved.currency,
            code: moved.code,
            value_date: moved.value_date,
            reference: moved.reference,
            reverses: if moved.flags.has(Flags::REVERSAL) { moved.related } else { TransferId::NONE },
        }
    }
}

impl Model {
    /// Whether an account belongs to another branch.
    pub(crate) fn is_elsewhere(&self, account: AccountRef) -> bool {
        account != AccountRef::default() && account.branch() != self.number
    }

    pub(super) fn transit(&self, peer: u16, currency: Currency) -> AccountRef {
        AccountRef::head(self.number, TRANSIT * 10_000 + u32::from(peer), currency)
    }

    pub(super) fn between(&self, peer: u16, currency: Currency) -> AccountRef {
        AccountRef::head(self.number, POSITION * 10_000 + u32::from(peer), currency)
    }

    /// Whether `account` is the position with `peer`.
    pub(crate) fn is_between(&self, account: AccountRef, peer: u16) -> bool {
        self.accounts.get(&account).is_some_and(|found| account == self.between(peer, found.currency))
    }

    /// What waits in transit to `peer`, but for holds: over all currencies, for none may be there.
    pub(crate) fn on_the_way(&self, peer: u16) -> u128 {
        let transit = |account: &&Account| account.reference == self.transit(peer, account.currency);
        let heads = self.accounts.values().filter(transit);
        heads.map(|account| account.balance().unsigned_abs()).sum()
    }

    /// Payments of `account` that have not ended.
    pub(super) fn payments_open(&self, account: AccountRef) -> usize {
        let open = self.peers.values().flat_map(|peer| &peer.sent[peer.done..]);
        open.filter(|out| out.way.debit == account).count()
    }

    /// Takes in an event of a channel.
    pub(super) fn take_crossing(
        &mut self,
        stamp: Stamp,
        event: &Event,
        asked: &AllAsked,
    ) -> Result<(), Broken> {
        match event {
            Event::Sent(sent) => self.take_sent(stamp, sent, asked),
            Event::Received(received) => self.take_received(stamp, received),
            Event::Settled(settled) => self.take_settled(stamp, settled),
            Event::Returned(returned) => self.take_returned(stamp, returned),
            Event::ChannelOpened(opened) => {
                let peer = self.peers.entry(opened.peer).or_default();
                peer.incarnation = opened.incarnation;
                Ok(())
            }
            Event::ChannelStopped(stopped) => {
                let peer = self.peer(stopped.peer)?;
                peer.stopped[0] |= stopped.outgoing;
                peer.stopped[1] |= stopped.incoming;
                Ok(())
            }
            Event::ChannelResuming(resuming) => {
                self.peer(resuming.peer)?.resuming = true;
                Ok(())
            }
            Event::ChannelResumed(resumed) => {
                let peer = self.peer(resumed.peer)?;
                if !peer.resuming {
                    return Err("goes on without an order".to_owned());
                }
                (peer.resuming, peer.stopped) = (false, [false; 2]);
                peer.incarnation = resumed.incarnation;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn peer(&mut self, number: u16) -> Result<&mut Peer, Broken> {
        self.peers.get_mut(&number).ok_or_else(|| format!("has no channel to branch {number}"))
    }

    fn take_sent(&mut self, stamp: Stamp, sent: &Sent, asked: &AllAsked) -> Result<(), Broken> {
        if let Some(payer) = sent.payer {
            return self.take_back_sent(stamp, sent, payer);
        }
        let (moved, position) = (&sent.moved, self.position);
        self.check_asked(stamp, moved, asked)?;
        let number = moved.credit.branch();
        let transit = self.transit(number, moved.currency);
        let peer = self.peer(number)?;
        if peer.stopped[0] || sent.n != peer.sent.len() as u64 + 1 {
            return Err(format!(
                "sends number {} after {}, or after the channel stopped",
                sent.n,
                peer.sent.len()
            ));
        }
        peer.sent.push(Out { way: Way::of(moved), position, end: None });
        // A payment that goes back there ends the one that came from there.
        let ends =
            if moved.flags.has(Flags::REVERSAL) { received_id(moved.related, number) } else { moved.related };
        self.happen(moved, [moved.debit, transit], moved.id, ends);
        Ok(())
    }

    fn take_received(&mut self, stamp: Stamp, received: &Received) -> Result<(), Broken> {
        if let Some(payee) = received.payee {
            return self.take_back_received(stamp, received, payee);
        }
        let (moved, position) = (&received.moved, self.position);
        let number = moved.debit.branch();
        let verdict = self.judge_received(moved, number, stamp);
        if verdict != received.outcome {
            return Err(format!("gives {} to what should have come to {verdict}", received.outcome));
        }
        if (moved.time_us, moved.business_date) != (stamp.time_us, stamp.business_date) {
            return Err("receives with another stamp than the batch's".to_owned());
        }
        let peer = self.peer(number)?;
        if peer.stopped[1] || received.n != peer.came.len() as u64 + 1 {
            return Err(format!(
                "receives number {} after {}, or after the channel stopped",
                received.n,
                peer.came.len()
            ));
        }
        peer.came.push(Came { way: Way::of(moved), position, outcome: received.outcome });
        if received.outcome == 0 {
            let sides = [self.between(number, moved.currency), moved.credit];
            self.happen(moved, sides, received_id(moved.id, number), TransferId::NONE);
        }
        Ok(())
    }

    /// Whatever comes has an outcome: 0, or why it is refused.
    fn judge_received(&self, moved: &Moved, peer: u16, stamp: Stamp) -> u16 {
        let payee = self.accounts.get(&moved.credit).filter(|account| account.is_customer());
        let Some(payee) = payee else { return 1081 };
        let far = moved.value_date.0.abs_diff(stamp.business_date.0) > 400;
        let full = payee.limits(CREDIT) && payee.room(CREDIT) < i128::from(moved.amount);
        let rules = [
            (1082, payee.currency != moved.currency),
            (1040, far),
            (1085, payee.is_closed()),
            (1101, payee.frozen[CREDIT] != 0),
            (1112, full),
            (1080, !self.accounts.contains_key(&self.between(peer, moved.currency))),
        ];
        rules.into_iter().find(|(_, broken)| *broken).map_or(0, |(code, _)| code)
    }

    fn take_settled(&mut self, stamp: Stamp, settled: &Settled) -> Result<(), Broken> {
        let position = self.position;
        let sides =
            [self.transit(settled.peer, settled.currency), self.between(settled.peer, settled.currency)];
        let peer = self.peer(settled.peer)?;
        let (first, last) = (number(settled.first), number(settled.last));
        if first != peer.done + 1 || last < first || last > peer.sent.len() {
            return Err(format!("settles {first} to {last} when {} were done", peer.done));
        }
        let run = &mut peer.sent[first - 1..last];
        let same = run.iter().all(|out| out.way.currency == settled.currency);
        let sum: u128 = run.iter().map(|out| u128::from(out.way.amount)).sum();
        if !same || sum != u128::from(settled.amount) || settled.at != stamp {
            return Err(format!("settles {} for payments of {sum}", settled.amount));
        }
        run.iter_mut().for_each(|out| out.end = Some((0, position)));
        peer.done = last;
        self.happen_unseen(settled, sides);
        Ok(())
    }

    fn take_returned(&mut self, stamp: Stamp, returned: &Returned) -> Result<(), Broken> {
        let (moved, position) = (&returned.moved, self.position);
        let number = moved.debit.branch();
        let transit = self.transit(number, moved.currency);
        let way = self.end_returned(number, returned, position)?;
        let to = self.taker(way.debit, way.currency);
        let same = (moved.debit, moved.credit, moved.amount, moved.currency, moved.related)
            == (way.credit, to, way.amount, way.currency, way.id)
            && (moved.time_us, moved.value_date) == (stamp.time_us, stamp.business_date)
            && returned.outcome != 0;
        if !same {
            return Err(format!("gives back {moved:?} for {way:?}"));
        }
        self.happen(moved, [transit, to], moved.id, way.id);
        Ok(())
    }

    /// The payment that is given back: the next that is open, or the last sent.
    fn end_returned(&mut self, peer: u16, returned: &Returned, position: u64) -> Result<Way, Broken> {
        let peer = self.peer(peer)?;
        if returned.withdrawn {
            if !peer.takes_back() || peer.sent.len() == peer.done || returned.n != peer.sent.len() as u64 {
                return Err("withdraws what is not the last that is open".to_owned());
            }
            let last = peer.sent.pop().ok_or("withdraws what was not sent")?;
            peer.withdrawn.push((last.way, last.position, position));
            return Ok(last.way);
        }
        let next = peer.done;
        let out = peer.sent.get_mut(next).filter(|_| returned.n == next as u64 + 1);
        let out = out.ok_or("gives back what is not the next that is open")?;
        out.end = Some((returned.outcome, position));
        peer.done += 1;
        Ok(out.way)
    }

    /// Where something lost is booked: to its account, or where nobody takes it.
    fn taker(&self, account: AccountRef, currency: Currency) -> AccountRef {
        let takes = |found: &&Account| !found.is_closed() && found.currency == currency;
        let unapplied = AccountRef::head(self.number, UNAPPLIED, currency);
        self.accounts.get(&account).filter(takes).map_or(unapplied, |_| account)
    }

    /// A payment that had been lost, as the payee's branch tells it; whether it tells the truth is not known here.
    fn take_back_sent(&mut self, stamp: Stamp, sent: &Sent, payer: AccountRef) -> Result<(), Broken> {
        let (moved, position) = (&sent.moved, self.position);
        let number = moved.credit.branch();
        let transit = self.transit(number, moved.currency);
        let booked = self.taker(payer, moved.currency);
        let peer = self.peer(number)?;
        if !peer.takes_back() || sent.n != peer.sent.len() as u64 + 1 {
            return Err(format!("takes back number {} after {}", sent.n, peer.sent.len()));
        }
        let way = Way { debit: payer, ..Way::of(moved) };
        peer.sent.push(Out { way, position, end: None });
        if moved.debit != booked || (moved.time_us, moved.digest) != (stamp.time_us, 0) {
            return Err(format!("takes {way:?} back as {moved:?}"));
        }
        let back = moved.flags.has(Flags::REVERSAL);
        let ends = if back { received_id(moved.related, number) } else { TransferId::NONE };
        self.taken_back.push(moved.id);
        self.happen(moved, [booked, transit], moved.id, ends);
        Ok(())
    }

    fn take_back_received(
        &mut self,
        stamp: Stamp,
        received: &Received,
        payee: AccountRef,
    ) -> Result<(), Broken> {
        let (moved, outcome, position) = (&received.moved, received.outcome, self.position);
        let number = moved.debit.branch();
        let between = self.between(number, moved.currency);
        let booked = if outcome == 0 { self.taker(payee, moved.currency) } else { payee };
        let peer = self.peer(number)?;
        if !peer.takes_back() || received.n != peer.came.len() as u64 + 1 {
            return Err(format!("takes back number {} after {}", received.n, peer.came.len()));
        }
        let way = Way { credit: payee, ..Way::of(moved) };
        peer.came.push(Came { way, position, outcome });
        if moved.credit != booked || moved.time_us != stamp.time_us {
            return Err(format!("takes {way:?} back as {moved:?}"));
        }
        if outcome == 0 {
            self.happen(moved, [between, booked], received_id(moved.id, number), TransferId::NONE);
        }
        Ok(())
    }

    /// What a run that settled moved: no statement shows it.
    fn happen_unseen(&mut self, settled: &Settled, sides: [AccountRef; 2]) {
        let moved = Moved {
            kind: MovedKind::Posted,
            id: TransferId::NONE,
            debit: sides[DEBIT],
            credit: sides[CREDIT],
            amount: settled.amount,
            currency: settled.currency,
            code: 0,
            flags: Flags::BANK,
            reference: [0; 16],
            related: TransferId::NONE,
            expires_s: 0,
            time_us: settled.at.time_us,
            business_date: settled.at.business_date,
            value_date: settled.at.business_date,
            imported_us: 0,
            digest: 0,
        };
        self.happen(&moved, sides, TransferId::NONE, TransferId::NONE);
        if let Some(fact) = self.facts.last_mut() {
            fact.unseen = true;
        }
    }

    /// Sums of every channel by peer and currency, of what was recorded before `position`.
    pub(crate) fn channel_sums(&self, position: u64) -> BTreeMap<(u16, u16), Sums> {
        let mut all: BTreeMap<(u16, u16), Sums> = BTreeMap::new();
        for (number, peer) in &self.peers {
            for out in peer.sent.iter().filter(|out| out.position < position) {
                let sums = all.entry((*number, out.way.currency.number())).or_default();
                add(&mut sums.sent, &out.way);
                match out.end.filter(|(_, at)| *at < position) {
                    Some((0, _)) => add(&mut sums.settled, &out.way),
                    Some(_) => add(&mut sums.returned, &out.way),
                    None => {}
                }
            }
            for (way, from, until) in &peer.withdrawn {
                if position <= *from {
                    continue;
                }
                // What was withdrawn counts no more; that there was something of that currency stays.
                let sums = all.entry((*number, way.currency.number())).or_default();
                if position <= *until {
                    add(&mut sums.sent, way);
                }
            }
            for came in peer.came.iter().filter(|came| came.position < position) {
                let sums = all.entry((*number, came.way.currency.number())).or_default();
                add(if came.outcome == 0 { &mut sums.received } else { &mut sums.refused }, &came.way);
            }
        }
        all
    }
}

fn add(sum: &mut (u64, u128), way: &Way) {
    sum.0 += 1;
    sum.1 += u128::from(way.amount);
}

fn number(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
