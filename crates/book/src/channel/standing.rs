//! Where a branch stands with another one: what it says when either has stopped, and what the other makes of it.
//!
//! A branch that has lost a part of its journal holds what its peer says against what it has: what it lacks it takes back,
//! and once both fit the channel goes on.

use super::Channel;

/// Numbers and running hashes of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last number sent.
    pub sent: u64,
    /// The running hash to it.
    pub sent_hash: u128,
    /// Up to here each was settled or returned.
    pub done: u64,
    /// The running hash to there.
    pub done_hash: u128,
    /// The last number received.
    pub received: u64,
    /// The running hash to it.
    pub received_hash: u128,
    /// Outcomes up to here are forgotten.
    pub forgotten: u64,
}

impl Channel {
    /// Where this branch stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        let (outgoing, incoming) = (&self.outgoing, &self.incoming);
        Standing {
            sent: outgoing.sent,
            sent_hash: outgoing.hash,
            done: outgoing.done,
            done_hash: outgoing.done_hash,
            received: incoming.received,
            received_hash: incoming.hash,
            forgotten: incoming.forgotten,
        }
    }

    /// Whether the peer, which says where it stands, has payments that this branch has not, or others under the same
    /// numbers: a part of this branch's journal is gone, for only a sender gives numbers.
    #[must_use]
    pub fn has_lost(&self, peer: &Standing) -> bool {
        let known = self.outgoing.known_hash(peer.received);
        peer.received > self.outgoing.sent
            || peer.done > self.incoming.received
            || known.is_some_and(|known| known != peer.received_hash)
    }

    /// Whether the peer, which says where it stands, may have lost a part of its journal: it says less than it once said, or
    /// something else. It may also have been said long ago.
    #[must_use]
    pub fn shows_loss_of(&self, peer: &Standing) -> bool {
        let (outgoing, incoming) = (&self.outgoing, &self.incoming);
        let other = |n: u64, hash: u128| n == incoming.received && hash != incoming.hash;
        peer.sent < incoming.received || peer.received < outgoing.done || other(peer.sent, peer.sent_hash)
    }

    /// Whether there is something to take back from the peer: what [was lost](Self::has_lost), or how payments ended that
    /// the peer has forgotten.
    #[must_use]
    pub fn lacks(&self, peer: &Standing) -> bool {
        self.has_lost(peer) || peer.forgotten > self.outgoing.done
    }

    /// Whether both can go on from here.
    #[must_use]
    pub fn fits(&self, peer: &Standing) -> bool {
        let (outgoing, incoming) = (&self.outgoing, &self.incoming);
        let same_at = |n: u64, hash: u128| n != incoming.received || hash == incoming.hash;
        !self.lacks(peer)
            && outgoing.known_hash(peer.received).is_some()
            && incoming.received <= peer.sent
            && incoming.forgotten <= peer.done
            && same_at(peer.done, peer.done_hash)
            && same_at(peer.sent, peer.sent_hash)
    }
}
