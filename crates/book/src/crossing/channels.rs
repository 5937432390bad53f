//! What becomes of a channel itself: it opens, stops, is to go on, and goes on.

use alloc::vec::Vec;

use skerry_ledger::Stamp;

use crate::book::Book;
use crate::channel::{CHANNEL_LEVEL, RECOVERY_LEVEL};
use crate::command::{OpenChannel, StopChannel};
use crate::event::{ChannelOpened, ChannelResumed, ChannelResuming, ChannelStopped, Event, StopReason};
use crate::rejection::Rejection;

impl Book {
    pub(crate) fn decide_open_channel(
        &self,
        wish: OpenChannel,
        at: Stamp,
    ) -> Result<Option<Event>, Rejection> {
        let OpenChannel { peer, incarnation } = wish;
        if self.life.format < CHANNEL_LEVEL {
            return Err(Rejection::FormatLevel { level: self.life.format, known: CHANNEL_LEVEL });
        }
        if peer == self.branch || !(1..10_000).contains(&peer) {
            return Err(Rejection::PeerUnknown { peer });
        }
        match self.channel(peer) {
            None => Ok(Some(Event::ChannelOpened(ChannelOpened { at, peer, incarnation }))),
            Some(known) if known.incarnation == incarnation => Ok(None),
            Some(known) => Err(Rejection::IncarnationNotNext { incarnation: known.incarnation }),
        }
    }

    pub(crate) fn decide_stop_channel(
        &self,
        wish: StopChannel,
        at: Stamp,
    ) -> Result<Option<Event>, Rejection> {
        let StopChannel { peer, reason, n, expected, found, .. } = wish;
        let channel = self.channel(peer).ok_or(Rejection::PeerUnknown { peer })?;
        let outgoing = wish.outgoing && channel.outgoing.stopped.is_none();
        let incoming = wish.incoming && channel.incoming.stopped.is_none();
        let stop = ChannelStopped { at, peer, reason, outgoing, incoming, n, expected, found };
        Ok((outgoing || incoming).then_some(Event::ChannelStopped(stop)))
    }

    /// A channel that has stopped is to go on. One that has not, goes on as it is.
    pub(crate) fn decide_resume_channel(&self, peer: u16, at: Stamp) -> Result<Option<Event>, Rejection> {
        if self.life.format < RECOVERY_LEVEL {
            return Err(Rejection::FormatLevel { level: self.life.format, known: RECOVERY_LEVEL });
        }
        let channel = self.channel(peer).ok_or(Rejection::PeerUnknown { peer })?;
        let resuming = Event::ChannelResuming(ChannelResuming { at, peer });
        Ok(channel.is_stopped().then_some(resuming))
    }

    /// Both branches know the same: the channel goes on.
    pub(crate) fn decide_go_on(&self, wish: OpenChannel, at: Stamp) -> Result<Option<Event>, Rejection> {
        let OpenChannel { peer, incarnation } = wish;
        let channel = self.channel(peer).ok_or(Rejection::PeerUnknown { peer })?;
        if incarnation < channel.incarnation {
            return Err(Rejection::IncarnationNotNext { incarnation: channel.incarnation });
        }
        let resumed = Event::ChannelResumed(ChannelResumed { at, peer, incarnation });
        Ok(channel.resuming.then_some(resumed))
    }

    /// What a new life does to the channels: they stop, until the other branches have told what they know.
    pub(crate) fn channels_of_a_new_life(&self, incarnation: u32, at: Stamp) -> Vec<Event> {
        let mut events = Vec::new();
        if self.life.format < RECOVERY_LEVEL {
            return events;
        }
        for (peer, channel) in self.channels() {
            let outgoing = channel.outgoing.stopped.is_none();
            let incoming = channel.incoming.stopped.is_none();
            if outgoing || incoming {
                events.push(Event::ChannelStopped(ChannelStopped {
                    at,
                    peer,
                    reason: StopReason::IncarnationDiffers,
                    outgoing,
                    incoming,
                    n: 0,
                    expected: u128::from(self.life.incarnation),
                    found: u128::from(incarnation),
                }));
            }
            events.push(Event::ChannelResuming(ChannelResuming { at, peer }));
        }
        events
    }
}
