//! Channels as bytes, in a book's image.
//!
//! ```text
//! channels: count u32, then each by peer: peer u16 · incarnation u32
//!   outgoing: sent u64 · done u64 · hash to it u128 · open: count u32, each payment 84, position u64 · stop
//!   incoming: received u64 · hash u128 · forgotten u64 · outcomes: count u32, each u16 · stop
//!   totals: count u32, each by currency: number u16 · sent, settled, returned, received, refused: count u64, amount u128
//! holds to be sent: count u32, each by id: id u128 · payee u64
//! stop: 0 u8, or 1 u8 (2 if the channel is to go on) · time u64 · business date i32 · n u64 · expected u128 · found u128 · reason u8 · sides u8
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use skerry_ledger::{AccountRef, Stamp, TransferId};
use skerry_money::Date;

use super::{Channel, Channels, Incoming, Open, Outgoing, Payment, Sum, Totals, WINDOW, running_hash};
use crate::event::{ChannelStopped, StopReason};
use crate::wire::{Reader, Short, put_count};

const PEERS_MAX: usize = 9_999;
const CURRENCIES_MAX: usize = 512;
const HELD_MAX: usize = 1 << 28;

impl Channels {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_count(out, self.peers.len());
        for (peer, channel) in &self.peers {
            out.extend_from_slice(&peer.to_le_bytes());
            out.extend_from_slice(&channel.incarnation.to_le_bytes());
            put_outgoing(channel, out);
            put_incoming(channel, out);
            put_count(out, channel.totals.len());
            for (currency, totals) in &channel.totals {
                out.extend_from_slice(&currency.to_le_bytes());
                put_totals(totals, out);
            }
        }
        put_count(out, self.held.len());
        for (id, payee) in &self.held {
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&payee.0.to_le_bytes());
        }
    }

    pub(crate) fn take(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let channels = take_channels(&mut reader).ok()?;
        (reader.is_empty() && !channels.is_empty()).then_some(channels)
    }
}

fn put_outgoing(channel: &Channel, out: &mut Vec<u8>) {
    let outgoing = &channel.outgoing;
    out.extend_from_slice(&outgoing.sent.to_le_bytes());
    out.extend_from_slice(&outgoing.done.to_le_bytes());
    out.extend_from_slice(&outgoing.done_hash.to_le_bytes());
    put_count(out, outgoing.open.len());
    for open in &outgoing.open {
        out.extend_from_slice(&open.payment.encode());
        out.extend_from_slice(&open.position.to_le_bytes());
    }
    put_stop(outgoing.stopped.as_ref(), channel.resuming, out);
}

fn put_incoming(channel: &Channel, out: &mut Vec<u8>) {
    let incoming = &channel.incoming;
    out.extend_from_slice(&incoming.received.to_le_bytes());
    out.extend_from_slice(&incoming.hash.to_le_bytes());
    out.extend_from_slice(&incoming.forgotten.to_le_bytes());
    put_count(out, incoming.outcomes.len());
    for outcome in &incoming.outcomes {
        out.extend_from_slice(&outcome.to_le_bytes());
    }
    put_stop(incoming.stopped.as_ref(), channel.resuming, out);
}

fn put_totals(totals: &Totals, out: &mut Vec<u8>) {
    for sum in [totals.sent, totals.settled, totals.returned, totals.received, totals.refused] {
        out.extend_from_slice(&sum.count.to_le_bytes());
        out.extend_from_slice(&sum.amount.to_le_bytes());
    }
}

fn put_stop(stopped: Option<&ChannelStopped>, resuming: bool, out: &mut Vec<u8>) {
    out.push(u8::from(stopped.is_some()).saturating_mul(if resuming { 2 } else { 1 }));
    let Some(stop) = stopped else { return };
    out.extend_from_slice(&stop.at.time_us.to_le_bytes());
    out.extend_from_slice(&stop.at.business_date.0.to_le_bytes());
    out.extend_from_slice(&stop.n.to_le_bytes());
    out.extend_from_slice(&stop.expected.to_le_bytes());
    out.extend_from_slice(&stop.found.to_le_bytes());
    out.push(stop.reason.number());
    out.push(stop.sides());
}

fn take_channels(reader: &mut Reader<'_>) -> Result<Channels, Short> {
    let mut channels = Channels::default();
    for _ in 0..reader.count(PEERS_MAX)? {
        let peer = reader.u16()?;
        if channels.peers.last_key_value().is_some_and(|(last, _)| *last >= peer) {
            return Err(Short);
        }
        let channel = take_channel(reader, peer)?;
        channels.peers.insert(peer, channel);
    }
    for _ in 0..reader.count(HELD_MAX)? {
        let (id, payee) = (TransferId(reader.u128()?), AccountRef(reader.u64()?));
        if channels.held.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(Short);
        }
        channels.held.insert(id, payee);
    }
    Ok(channels)
}

fn take_channel(reader: &mut Reader<'_>, peer: u16) -> Result<Channel, Short> {
    let mut channel = Channel { incarnation: reader.u32()?, ..Channel::default() };
    let mut resuming = false;
    channel.outgoing = take_outgoing(reader, peer, &mut resuming)?;
    channel.incoming = take_incoming(reader, peer, &mut resuming)?;
    channel.resuming = resuming;
    for _ in 0..reader.count(CURRENCIES_MAX)? {
        let currency = reader.u16()?;
        if channel.totals.last_key_value().is_some_and(|(last, _)| *last >= currency) {
            return Err(Short);
        }
        let totals = take_totals(reader)?;
        channel.totals.insert(currency, totals);
    }
    Ok(channel)
}

fn take_outgoing(reader: &mut Reader<'_>, peer: u16, resuming: &mut bool) -> Result<Outgoing, Short> {
    let (sent, done, done_hash) = (reader.u64()?, reader.u64()?, reader.u128()?);
    let count = reader.count(WINDOW)?;
    if sent.checked_sub(done).and_then(|open| usize::try_from(open).ok()) != Some(count) {
        return Err(Short);
    }
    let mut open = VecDeque::with_capacity(count);
    let mut hash = done_hash;
    for n in (done.saturating_add(1)..).take(count) {
        let payment = Payment::decode(&reader.array()?).ok_or(Short)?;
        hash = running_hash(hash, n, &payment);
        open.push_back(Open { payment, position: reader.u64()?, hash });
    }
    Ok(Outgoing { sent, hash, done, done_hash, open, stopped: take_stop(reader, peer, resuming)? })
}

fn take_incoming(reader: &mut Reader<'_>, peer: u16, resuming: &mut bool) -> Result<Incoming, Short> {
    let (received, hash, forgotten) = (reader.u64()?, reader.u128()?, reader.u64()?);
    let count = reader.count(usize::MAX)?;
    if received.checked_sub(forgotten).and_then(|kept| usize::try_from(kept).ok()) != Some(count) {
        return Err(Short);
    }
    let outcomes = (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?;
    Ok(Incoming { received, hash, forgotten, outcomes, stopped: take_stop(reader, peer, resuming)? })
}

fn take_totals(reader: &mut Reader<'_>) -> Result<Totals, Short> {
    let mut sum = || Ok(Sum { count: reader.u64()?, amount: reader.u128()? });
    Ok(Totals { sent: sum()?, settled: sum()?, returned: sum()?, received: sum()?, refused: sum()? })
}

fn take_stop(
    reader: &mut Reader<'_>,
    peer: u16,
    resuming: &mut bool,
) -> Result<Option<ChannelStopped>, Short> {
    match reader.u8()? {
        0 => return Ok(None),
        1 => (),
        2 => *resuming = true,
        _ => return Err(Short),
    }
    let at = Stamp { time_us: reader.u64()?, business_date: Date(reader.i32()?) };
    let (n, expected, found) = (reader.u64()?, reader.u128()?, reader.u128()?);
    let reason = StopReason::from_number(reader.u8()?).ok_or(Short)?;
    let sides = reader.u8()?;
    if !(1..=3).contains(&sides) {
        return Err(Short);
    }
    let (outgoing, incoming) = (sides & 1 != 0, sides & 2 != 0);
    Ok(Some(ChannelStopped { at, peer, reason, outgoing, incoming, n, expected, found }))
}
