//! What is under way to other branches, as figures: how much, since when, and what has stopped.
//!
//! Payments carry no time of their sending that the book keeps, so the age of the oldest is watched from outside: since when
//! the first open number of a channel has been the first.

use std::collections::BTreeMap;

use skerry_book::channel::Channel;

/// Payments of a branch to other branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transit {
    /// Sent, and neither settled nor returned.
    pub open: u64,
    /// For how long the first of any channel has been its first, microseconds; at most the time since the process began.
    pub waiting_us: u64,
    /// Channels that have stopped in either direction.
    pub stopped: u64,
}

/// Remembers by peer which open number was the first, and since when.
#[derive(Debug, Default)]
pub(crate) struct TransitWatch(BTreeMap<u16, (u64, u64)>);

impl TransitWatch {
    /// Looks at all channels at `now_us` of a clock that only goes forward.
    pub(crate) fn look<'a>(
        &mut self,
        channels: impl Iterator<Item = (u16, &'a Channel)>,
        now_us: u64,
    ) -> Transit {
        let mut seen = Transit::default();
        for (peer, channel) in channels {
            seen.stopped += u64::from(channel.is_stopped());
            let open = channel.outgoing.sent.saturating_sub(channel.outgoing.done);
            if open == 0 {
                self.0.remove(&peer);
                continue;
            }
            seen.open += open;
            let first = channel.outgoing.done;
            let entry = self.0.entry(peer).or_insert((first, now_us));
            if entry.0 != first {
                *entry = (first, now_us);
            }
            seen.waiting_us = seen.waiting_us.max(now_us.saturating_sub(entry.1));
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use skerry_book::channel::Outgoing;

    use super::*;

    fn channel(done: u64, sent: u64) -> Channel {
        Channel { outgoing: Outgoing { sent, done, ..Outgoing::default() }, ..Channel::default() }
    }

    #[test]
    fn the_first_payment_ages_until_it_is_settled_and_then_the_next_does() {
        let mut watch = TransitWatch::default();
        let mut look = |channels: &[(u16, Channel)], now_us| {
            let seen = watch.look(channels.iter().map(|(peer, channel)| (*peer, channel)), now_us);
            (seen.open, seen.waiting_us, seen.stopped)
        };
        assert_eq!(look(&[(2, channel(4, 4))], 10), (0, 0, 0), "nothing is under way");
        assert_eq!(look(&[(2, channel(4, 7))], 20), (3, 0, 0));
        assert_eq!(look(&[(2, channel(4, 9)), (3, channel(0, 1))], 50), (6, 30, 0), "the oldest counts");
        assert_eq!(look(&[(2, channel(5, 9)), (3, channel(0, 1))], 60), (5, 10, 0), "that of 3 is older now");
        assert_eq!(look(&[(2, channel(9, 9)), (3, channel(1, 1))], 70), (0, 0, 0));
        assert_eq!(look(&[(2, channel(9, 10))], 90), (1, 0, 0), "what was before is forgotten");
    }
}
