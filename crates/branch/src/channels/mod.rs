//! What a branch remembers of its talk with other branches beyond its book: what is durable, what was handed out, and
//! when to say it again.
//!
//! Nothing here outlives an opening: a branch that opens sends again whatever is open, and the other side answers what
//! it has seen with the outcome that it kept.
//!
//! # Invariants
//!
//! - A number, an outcome or *done* is told only once it is durable.
//! - What waits to be carried is bounded; what finds no room is told later.

pub mod coverage;
pub mod message;
pub mod retell;
pub(crate) mod rewound;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use skerry_book::record::TransferTailRef;
use skerry_book::{Book, Payment};

pub use message::Outgoing;
use retell::Retold;

/// Takes a branch's messages away. It runs on the branch's own thread and must not wait.
pub type Courier = Arc<dyn Fn(Outgoing) + Send + Sync>;

/// Messages that wait to be carried, at most.
const OUTBOX_MAX: usize = 64;

/// The numbers of a channel at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    /// The last sent.
    pub(crate) sent: u64,
    /// The last settled or returned.
    pub(crate) done: u64,
    /// The last received.
    pub(crate) received: u64,
    /// The running hash to that.
    pub(crate) received_hash: u128,
    /// The peer's incarnation that both agreed on.
    pub(crate) incarnation: u32,
    /// Both directions have stopped.
    pub(crate) stopped: bool,
}

impl Numbers {
    fn of(book: &Book, peer: u16) -> Self {
        book.channel(peer).map_or_else(Self::default, |channel| Self {
            sent: channel.outgoing.sent,
            done: channel.outgoing.done,
            received: channel.incoming.received,
            received_hash: channel.incoming.hash,
            incarnation: channel.incarnation,
            stopped: channel.outgoing.stopped.is_some() && channel.incoming.stopped.is_some(),
        })
    }
}

/// The talk with one other branch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Line {
    /// What is durable.
    pub(crate) durable: Numbers,
    /// Up to here payments were handed out since they last had to be sent again.
    pub(crate) out: u64,
    /// Up to here outcomes were told.
    pub(crate) told: u64,
    /// When something was last handed out or heard, monotonic microseconds.
    pub(crate) moved_us: u64,
    /// Outcomes are to be told.
    pub(crate) tell: bool,
    /// They are to be told from the first that is kept.
    pub(crate) tell_all: bool,
    /// The other is to send again what follows what was received.
    pub(crate) again: bool,
    /// The other asked who this is.
    pub(crate) welcome: bool,
    /// When it was last asked who it is; 0 never.
    pub(crate) hello_us: u64,
    /// The latest life of this branch that it knows.
    pub(crate) heard: u32,
    /// It has said something since this branch opened.
    pub(crate) met: bool,
    /// It asked where this branch stands, in this incarnation.
    pub(crate) stands: Option<u32>,
    /// This branch asks it where it stands and what it has.
    pub(crate) asking: Asking,
}

/// What a branch remembers while it asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asking {
    /// When it last asked.
    pub(crate) asked_us: u64,
    /// It is to ask now.
    pub(crate) now: bool,
    /// It wants to be told payments.
    pub(crate) wants: bool,
    /// The whole journal of the other has been told.
    pub(crate) over: bool,
    /// The place in it from which it was not.
    pub(crate) from: u64,
}

/// Payments by their numbers, with the part of their tails that travels.
type Waiting = BTreeMap<u64, (Payment, Box<[u8]>)>;

/// The talk with all.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) lines: BTreeMap<u16, Line>,
    /// Those with something to say or to wait for.
    pub(crate) busy: BTreeSet<u16>,
    /// Peers whose numbers changed in the batch being filled.
    touched: Vec<u16>,
    /// What becomes durable with how many batches, in order.
    sealed: VecDeque<(u64, u16, Numbers)>,
    pub(crate) outbox: VecDeque<Outgoing>,
    /// Pages to be told; none while a job makes one.
    pub(crate) retold: BTreeMap<u16, Option<Retold>>,
    /// Payments that another branch sent, as it retells, until it says how they ended.
    pub(crate) waiting: BTreeMap<u16, Waiting>,
}

impl Talk {
    /// For a branch that opens: everything in its book is durable.
    pub(crate) fn new(book: &Book) -> Self {
        let mut talk = Self::default();
        for (peer, _) in book.channels() {
            let durable = Numbers::of(book, peer);
            let line = Line { durable, out: durable.done, ..Line::default() };
            talk.lines.insert(peer, line);
            talk.busy.insert(peer);
        }
        talk
    }

    /// Payments may go to and come from these branches.
    pub(crate) fn know(&mut self, peers: &[u16], own: u16) {
        for peer in peers.iter().filter(|peer| **peer != own) {
            self.lines.entry(*peer).or_default();
            self.busy.insert(*peer);
        }
    }

    /// Whether anybody carries its messages.
    pub(crate) fn is_connected(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The numbers of a channel have changed.
    #[inline]
    pub(crate) fn touch(&mut self, peer: u16) {
        if self.touched.last() != Some(&peer) && !self.touched.contains(&peer) {
            self.touched.push(peer);
        }
    }

    /// A batch was sealed, the `batches`-th.
    pub(crate) fn sealed(&mut self, batches: u64, book: &Book) {
        for peer in self.touched.drain(..) {
            self.sealed.push_back((batches, peer, Numbers::of(book, peer)));
        }
    }

    /// So many batches are durable.
    pub(crate) fn durable(&mut self, batches: u64) {
        while self.sealed.front().is_some_and(|(needs, ..)| *needs <= batches) {
            let Some((_, peer, numbers)) = self.sealed.pop_front() else { return };
            let line = self.lines.entry(peer).or_default();
            line.tell |= numbers.received > line.durable.received;
            line.durable = numbers;
            line.out = line.out.max(numbers.done);
            self.busy.insert(peer);
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_MAX
    }
}

/// The part of a tail that travels: the whole reference. A note is sealed with a key of the payer's branch.
pub(crate) fn travelling(tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(TransferTailRef { reference, .. }) = TransferTailRef::decode(tail) {
        TransferTailRef { reference, note: &[] }.encode(&mut out);
    }
    out
}
