//! What branches say to each other, as bytes that any bus can carry.
//!
//! ```text
//! magic "SKCM" 4 · version u16 · kind u8 · zero u8 · from u16 · to u16 · incarnation of from u32 · of to u32 (0: unknown)
//! hello (1), welcome (2): nothing
//! payments (3): first u64 · done u64 · hash before u128 · hash after u128 · count u32 · payments 84 each
//!               · for each that has a tail, in order: length u32, bytes
//! outcomes (4): first u64 · received u64 · hash to it u128 · again u8 · count u32 · outcomes u16 each
//! ask (5), standing (6), retold (7): see [`retell`](super::retell)
//! seal 16: keyed BLAKE3 of all before
//! ```
//!
//! All numbers are little-endian. A message that is cut short, has bytes left over or is not sealed by the institution's
//! key is no message; nothing in it is believed.

use bytes::Bytes;
use skerry_book::Payment;
use skerry_book::channel::PAYMENT_LENGTH;
use skerry_ledger::Flags;

use super::retell::{Ask, Retold, Stands};
use crate::api::GatewayKey;

const MAGIC: [u8; 4] = *b"SKCM";
/// The version that this release speaks.
pub const VERSION: u16 = 1;
const HEADER_LENGTH: usize = 20;
const SEAL_LENGTH: usize = 16;
/// The most payments of one message.
pub const RUN_MAX: usize = 4_096;
/// The most outcomes of one message: a whole window.
const OUTCOMES_MAX: usize = 1 << 16;
/// The longest tail, in bytes: see [`skerry_book::record::TransferTail`].
pub(super) const TAIL_MAX: usize = 8 + 140 + 4_096;

/// A message that is on its way, for whoever carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To which branch.
    pub to: u16,
    /// All of it.
    pub bytes: Bytes,
}

/// Who speaks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The branch that speaks.
    pub from: u16,
    /// The branch that is spoken to.
    pub to: u16,
    /// The speaker's incarnation.
    pub incarnation: u32,
    /// Which incarnation of the other it speaks to; 0 if it knows none.
    pub to_incarnation: u32,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Who are you?
    Hello,
    /// I am.
    Welcome,
    /// Payments, numbered without gaps.
    Payments(Run),
    /// What became of payments.
    Outcomes(Outcomes),
    /// Where do you stand, and what have you of what I have lost?
    Ask(Ask),
    /// Here.
    Standing(Stands),
    /// What the other has lost.
    Retold(Retold),
}

/// See [`Said::Payments`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// The number of the first payment.
    pub first: u64,
    /// With all up to here the sender is done.
    pub done: u64,
    /// The running hash to the number before the first.
    pub before: u128,
    /// The running hash to the last.
    pub after: u128,
    /// The payments.
    pub payments: Vec<Payment>,
    /// The tails of those that have one, in order.
    pub tails: Vec<Box<[u8]>>,
}

/// See [`Said::Outcomes`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// The number of the first outcome.
    pub first: u64,
    /// The last number that was received.
    pub received: u64,
    /// The running hash to it.
    pub hash: u128,
    /// Whether what follows that number is to be sent again.
    pub again: bool,
    /// 0 accepted, else the number of a rejection.
    pub outcomes: Vec<u16>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Cut short, left over, or a field out of its bounds.
    #[error("a message of a channel is malformed")]
    Malformed,
    /// Of a version that this release does not speak.
    #[error("a message of a channel has the unknown version {0}")]
    Version(u16),
    /// Not sealed by the institution's key.
    #[error("a message of a channel is not sealed by this institution")]
    Seal,
}

impl Header {
    /// Writes a message.
    ///
    /// # Panics
    ///
    /// If a run has other tails than its payments say.
    #[must_use]
    pub fn seal(&self, said: &Said, key: &GatewayKey) -> Bytes {
        let mut out = self.write(said);
        let seal = key.seal_message(&out);
        out.extend_from_slice(&seal);
        out.into()
    }

    /// The same without its seal.
    ///
    /// # Panics
    ///
    /// As [`seal`](Self::seal).
    #[must_use]
    pub fn write(&self, said: &Said) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LENGTH + body_length(said) + SEAL_LENGTH);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[kind(said), 0]);
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.to.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.to_incarnation.to_le_bytes());
        match said {
            Said::Hello | Said::Welcome => {}
            Said::Payments(run) => put_run(run, &mut out),
            Said::Outcomes(outcomes) => put_outcomes(outcomes, &mut out),
            Said::Ask(ask) => ask.put(&mut out),
            Said::Standing(stands) => stands.put(&mut out),
            Said::Retold(retold) => retold.put(&mut out),
        }
        out
    }
}

/// Reads a message and checks its seal.
///
/// # Errors
///
/// [`MessageError`].
pub fn open(bytes: &[u8], key: &GatewayKey) -> Result<(Header, Said), MessageError> {
    read(unsealed(bytes, key)?)
}

/// Who speaks to whom, of a message whose seal holds; not what is said. For whoever carries messages.
///
/// # Errors
///
/// [`MessageError`].
pub fn head(bytes: &[u8], key: &GatewayKey) -> Result<Header, MessageError> {
    Ok(begin(unsealed(bytes, key)?)?.1)
}

fn unsealed<'a>(bytes: &'a [u8], key: &GatewayKey) -> Result<&'a [u8], MessageError> {
    let (content, seal) = bytes.split_last_chunk::<SEAL_LENGTH>().ok_or(MessageError::Malformed)?;
    let expected = key.seal_message(content);
    if expected.iter().zip(seal).fold(0, |difference, (left, right)| difference | (left ^ right)) != 0 {
        return Err(MessageError::Seal);
    }
    Ok(content)
}

/// Reads a message without its seal: whoever relies on it has checked that.
///
/// # Errors
///
/// [`MessageError`].
pub fn read(content: &[u8]) -> Result<(Header, Said), MessageError> {
    let (kind, header, mut cursor) = begin(content)?;
    let said = read_body(kind, &mut cursor).ok_or(MessageError::Malformed)?;
    if cursor.0.is_empty() { Ok((header, said)) } else { Err(MessageError::Malformed) }
}

/// The kind, who speaks to whom, and the rest.
fn begin(content: &[u8]) -> Result<(u8, Header, Cursor<'_>), MessageError> {
    let mut cursor = Cursor(content);
    let head = cursor.take::<8>().ok_or(MessageError::Malformed)?;
    if head[..4] != MAGIC || head[7] != 0 {
        return Err(MessageError::Malformed);
    }
    let version = u16::from_le_bytes([head[4], head[5]]);
    if version != VERSION {
        return Err(MessageError::Version(version));
    }
    let header = read_header(&mut cursor).ok_or(MessageError::Malformed)?;
    Ok((head[6], header, cursor))
}

/// How many records a message may come to, for the queue; without checking it.
#[must_use]
pub fn weight(bytes: &[u8]) -> u32 {
    let at = |index: usize| bytes.get(index..index + 4).and_then(|field| field.try_into().ok());
    let count = match bytes.get(6) {
        Some(3) => at(HEADER_LENGTH + 48).map_or(1, u32::from_le_bytes).saturating_add(8),
        Some(4) => 64,
        Some(7) => RUN_MAX as u32,
        _ => 4,
    };
    count.min(RUN_MAX as u32 + 8)
}

fn kind(said: &Said) -> u8 {
    match said {
        Said::Hello => 1,
        Said::Welcome => 2,
        Said::Payments(_) => 3,
        Said::Outcomes(_) => 4,
        Said::Ask(_) => 5,
        Said::Standing(_) => 6,
        Said::Retold(_) => 7,
    }
}

fn body_length(said: &Said) -> usize {
    match said {
        Said::Hello | Said::Welcome => 0,
        Said::Payments(run) => {
            let tails: usize = run.tails.iter().map(|tail| 4 + tail.len()).sum();
            52 + run.payments.len() * PAYMENT_LENGTH + tails
        }
        Said::Outcomes(outcomes) => 37 + outcomes.outcomes.len() * 2,
        Said::Ask(_) | Said::Standing(_) => 128,
        Said::Retold(retold) => 32 + retold.facts.len() * (PAYMENT_LENGTH + 16),
    }
}

pub(super) fn put_count(count: usize, out: &mut Vec<u8>) {
    let count = u32::try_from(count).expect("a message is bounded");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_run(run: &Run, out: &mut Vec<u8>) {
    out.extend_from_slice(&run.first.to_le_bytes());
    out.extend_from_slice(&run.done.to_le_bytes());
    out.extend_from_slice(&run.before.to_le_bytes());
    out.extend_from_slice(&run.after.to_le_bytes());
    put_count(run.payments.len(), out);
    for payment in &run.payments {
        out.extend_from_slice(&payment.encode());
    }
    let tailed = run.payments.iter().filter(|payment| payment.flags.has(Flags::TAIL)).count();
    assert_eq!(tailed, run.tails.len(), "a tail for each payment that has one");
    for tail in &run.tails {
        put_count(tail.len(), out);
        out.extend_from_slice(tail);
    }
}

fn put_outcomes(outcomes: &Outcomes, out: &mut Vec<u8>) {
    out.extend_from_slice(&outcomes.first.to_le_bytes());
    out.extend_from_slice(&outcomes.received.to_le_bytes());
    out.extend_from_slice(&outcomes.hash.to_le_bytes());
    out.push(u8::from(outcomes.again));
    put_count(outcomes.outcomes.len(), out);
    for outcome in &outcomes.outcomes {
        out.extend_from_slice(&outcome.to_le_bytes());
    }
}

pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.take()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    pub(super) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    pub(super) fn count(&mut self, most: usize) -> Option<usize> {
        let count = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        (count <= most).then_some(count)
    }
}

fn read_header(cursor: &mut Cursor<'_>) -> Option<Header> {
    Some(Header {
        from: u16::from_le_bytes(cursor.take()?),
        to: u16::from_le_bytes(cursor.take()?),
        incarnation: u32::from_le_bytes(cursor.take()?),
        to_incarnation: u32::from_le_bytes(cursor.take()?),
    })
}

fn read_body(kind: u8, cursor: &mut Cursor<'_>) -> Option<Said> {
    Some(match kind {
        1 => Said::Hello,
        2 => Said::Welcome,
        3 => Said::Payments(read_run(cursor)?),
        4 => Said::Outcomes(read_outcomes(cursor)?),
        5 => Said::Ask(Ask::read(cursor)?),
        6 => Said::Standing(Stands::read(cursor)?),
        7 => Said::Retold(Retold::read(cursor)?),
        _ => return None,
    })
}

fn read_run(cursor: &mut Cursor<'_>) -> Option<Run> {
    let mut run = Run {
        first: u64::from_le_bytes(cursor.take()?),
        done: u64::from_le_bytes(cursor.take()?),
        before: u128::from_le_bytes(cursor.take()?),
        after: u128::from_le_bytes(cursor.take()?),
        ..Run::default()
    };
    let count = cursor.count(RUN_MAX)?;
    let (payments, _) = cursor.slice(count * PAYMENT_LENGTH)?.as_chunks::<PAYMENT_LENGTH>();
    run.payments = payments.iter().map(Payment::decode).collect::<Option<_>>()?;
    let tailed = run.payments.iter().filter(|payment| payment.flags.has(Flags::TAIL)).count();
    for _ in 0..tailed {
        let length = cursor.count(TAIL_MAX)?;
        run.tails.push(cursor.slice(length)?.into());
    }
    // Numbers lie between 1 and 2^48, and something is sent.
    let last = run.first.checked_add(u64::try_from(count).ok()?)?;
    (count > 0 && run.first > 0 && run.done < run.first && last < 1 << 48).then_some(run)
}

fn read_outcomes(cursor: &mut Cursor<'_>) -> Option<Outcomes> {
    let (first, received) = (u64::from_le_bytes(cursor.take()?), u64::from_le_bytes(cursor.take()?));
    let hash = u128::from_le_bytes(cursor.take()?);
    let again = match cursor.take()? {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    let count = cursor.count(OUTCOMES_MAX)?;
    let (outcomes, _) = cursor.slice(count * 2)?.as_chunks::<2>();
    let outcomes: Vec<u16> = outcomes.iter().map(|outcome| u16::from_le_bytes(*outcome)).collect();
    let last = first.checked_add(u64::try_from(count).ok()?)?;
    (first > 0 && last <= received.checked_add(1)?).then_some(Outcomes {
        first,
        received,
        hash,
        again,
        outcomes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::retell::tests::{asks, retold, stands};
    use super::*;
    use proptest::prelude::*;
    use skerry_ledger::{AccountRef, TransferId};
    use skerry_money::{Currency, Date};

    fn payment(number: u64, tail: bool) -> Payment {
        Payment {
            id: TransferId(u128::from(number)),
            debit: AccountRef::customer(1, number + 1),
            credit: AccountRef::customer(2, 1),
            amount: number,
            currency: Currency::CNY,
            code: 3,
            value_date: Date(20_000),
            flags: if tail { Flags::TAIL } else { Flags::default() },
            reference: [7; 16],
            related: TransferId::NONE,
        }
    }

    fn messages() -> Vec<Said> {
        let run = Run {
            first: 7,
            done: 3,
            before: 1,
            after: 2,
            payments: (0..5).map(|number| payment(number, number % 2 == 1)).collect(),
            tails: vec![Box::from([1, 2, 3].as_slice()), Box::from([4].as_slice())],
        };
        let outcomes = Outcomes { first: 4, received: 6, hash: 5, again: true, outcomes: vec![0, 1081] };
        vec![
            Said::Hello,
            Said::Welcome,
            Said::Payments(run),
            Said::Outcomes(outcomes),
            Said::Ask(asks()),
            Said::Standing(stands()),
            Said::Retold(retold(&payment(8, true), &payment(9, false))),
        ]
    }

    const HEADER: Header = Header { from: 1, to: 2, incarnation: 1, to_incarnation: 3 };

    #[test]
    fn messages_read_back_as_written_and_a_flipped_bit_is_no_message() {
        let key = GatewayKey::new([1; 32]);
        for said in messages() {
            let bytes = HEADER.seal(&said, &key);
            assert_eq!(open(&bytes, &key), Ok((HEADER, said)));
            assert_eq!(head(&bytes, &key), Ok(HEADER));
            assert_eq!(open(&bytes, &GatewayKey::new([2; 32])), Err(MessageError::Seal));
            assert_eq!(head(&bytes, &GatewayKey::new([2; 32])), Err(MessageError::Seal));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&flipped, &key).is_err() && head(&flipped, &key).is_err(), "bit {bit}");
            }
        }
    }

    proptest! {
        /// Under a good seal, so that the reader itself is met.
        #[test]
        fn any_sealed_bytes_are_a_message_in_its_one_form_or_an_error(
            kind in 0..9_u8, which in 0..7_usize, flips in proptest::collection::vec((0..200_usize, any::<u8>()), 0..4), cut in 0..400_usize,
        ) {
            let key = GatewayKey::new([1; 32]);
            let bytes = HEADER.seal(&messages()[which], &key);
            let mut content = bytes[..bytes.len() - SEAL_LENGTH].to_vec();
            content[6] = kind;
            for (index, byte) in flips {
                if let Some(at) = content.get_mut(index) {
                    *at = byte;
                }
            }
            content.truncate(cut);
            let seal = key.seal_message(&content);
            content.extend_from_slice(&seal);
            if let Ok((header, said)) = open(&content, &key) {
                prop_assert_eq!(head(&content, &key), Ok(header));
                prop_assert_eq!(header.seal(&said, &key).to_vec(), content);
            }
        }
    }
}
