//! The requests of the load, laid into buffers that are used again: nothing is allocated per transfer or batch.
//!
//! A share of pending transfers is held first and posted in full by a later transfer of the same lane, so a share
//! of 0.1 makes a tenth of all transfers holds and another tenth their posting.

use std::collections::VecDeque;
use std::sync::Arc;

use skerry_client::packed::TRANSFER_BYTES;

use super::picks::Picks;
use super::random::{Random, now_millis};

/// Flag of a transfer that holds.
const PENDING: u32 = 1 << 1;
/// Flag of a transfer that posts the hold `related`.
const POST: u32 = 1 << 2;
/// Holds of the load expire long after it has ended.
const HOLD_SECONDS: u32 = 24 * 3600;
/// Transfers carry this code, so that they are told from the funding.
pub(super) const CODE: u16 = 7;

/// The accounts of one branch and how they are drawn.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) branch: u16,
    /// References: branch · 2⁴⁸ + serial.
    pub(super) references: Vec<u64>,
    /// The 16 digits of each.
    pub(super) numbers: Vec<[u8; 16]>,
    pub(super) picks: Picks,
    /// Holds per 2³² transfers.
    pub(super) pending: u32,
    /// Payments to accounts of other branches per 2³² transfers.
    pub(super) crossing: u64,
    /// References and digits of those accounts.
    pub(super) abroad: Arc<Vec<(u64, [u8; 16])>>,
    /// Whether each transfer has a reference of its own, and one in sixteen a value date up to a year back.
    pub(super) dressed: bool,
}

/// One transfer in so many is remembered by its reference.
const REMEMBERED: u64 = 4_096;
/// The furthest value date back.
const DAYS_BACK: u32 = 399;

/// A hold that waits to be posted.
#[derive(Debug, Clone, Copy)]
struct Hold {
    id: u128,
    debit: u32,
    credit: u32,
    amount: u64,
}

/// Draws transfers for one lane.
#[derive(Debug)]
pub(super) struct Generator {
    field: Arc<Field>,
    random: Random,
    holds: VecDeque<Hold>,
    drawn: u64,
    /// References of some transfers, if they have any.
    pub(super) remembered: Vec<String>,
}

/// One drawn transfer; accounts are indexes into the field.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    id: u128,
    debit: u32,
    credit: u32,
    amount: u64,
    flags: u32,
    related: u128,
}

impl Generator {
    pub(super) fn new(field: Arc<Field>, seed: u64) -> Self {
        Self { field, random: Random::new(seed), holds: VecDeque::new(), drawn: 0, remembered: Vec::new() }
    }

    pub(super) fn branch(&self) -> u16 {
        self.field.branch
    }

    #[inline]
    fn draw(&mut self, millis: u64, postable: &mut usize) -> Drawn {
        let id = self.random.uuid7(millis);
        let (debit, credit) = self.field.picks.pair(&mut self.random);
        let amount = 1_000 + u64::from(self.random.below(9_000));
        let plain = Drawn { id, debit, credit, amount, flags: 0, related: 0 };
        if self.field.pending == 0 {
            return plain;
        }
        let lot = (self.random.next() >> 32) as u32;
        if lot < self.field.pending {
            self.holds.push_back(Hold { id, debit, credit, amount });
            return Drawn { flags: PENDING, ..plain };
        }
        if *postable == 0 || lot - self.field.pending >= self.field.pending {
            return plain;
        }
        *postable -= 1;
        let hold = self.holds.pop_front().expect("as many holds wait as are postable");
        Drawn {
            id,
            debit: hold.debit,
            credit: hold.credit,
            amount: hold.amount,
            flags: POST,
            related: hold.id,
        }
    }

    /// Lays `count` packed transfers into `out`, of ids of the millisecond `millis`. Posts only holds of earlier calls.
    pub(super) fn fill_packed(&mut self, count: usize, millis: u64, out: &mut Vec<u8>) {
        out.clear();
        out.resize(count * TRANSFER_BYTES, 0);
        let (records, _whole) = out.as_chunks_mut::<TRANSFER_BYTES>();
        let mut postable = self.holds.len();
        for record in records {
            let drawn = self.draw(millis, &mut postable);
            let debit = self.field.references[drawn.debit as usize];
            let credit = match self.abroad(&drawn) {
                Some((reference, _)) => reference,
                None => self.field.references[drawn.credit as usize],
            };
            lay(record, &drawn, debit, credit);
            if self.field.dressed {
                self.dress(record, millis);
            }
        }
    }

    /// The payee in another branch, if it is the turn of one.
    #[inline]
    fn abroad(&mut self, drawn: &Drawn) -> Option<(u64, [u8; 16])> {
        if self.field.crossing == 0 || drawn.flags != 0 || self.random.next() >> 32 >= self.field.crossing {
            return None;
        }
        let count = u32::try_from(self.field.abroad.len()).unwrap_or(u32::MAX);
        Some(self.field.abroad[self.random.below(count) as usize])
    }

    fn dress(&mut self, record: &mut [u8; TRANSFER_BYTES], millis: u64) {
        let bits = self.random.next();
        for (at, letter) in record[48..64].iter_mut().enumerate() {
            *letter = DIGITS[((bits >> (at * 4)) & 15) as usize];
        }
        if self.drawn.is_multiple_of(REMEMBERED) {
            self.remembered.push(String::from_utf8_lossy(&record[48..64]).into_owned());
        }
        self.drawn += 1;
        if bits.rotate_left(7) & 15 == 0 {
            let today = u32::try_from(millis / 86_400_000).unwrap_or(u32::MAX);
            record[84..88].copy_from_slice(&(today - self.random.below(DAYS_BACK)).to_le_bytes());
        }
    }

    /// Lays one transfer as JSON into `out`.
    pub(super) fn fill_json(&mut self, millis: u64, out: &mut Vec<u8>) {
        out.clear();
        let mut postable = self.holds.len();
        let drawn = self.draw(millis, &mut postable);
        let abroad = self.abroad(&drawn);
        out.extend_from_slice(b"{\"id\":\"");
        put_uuid(out, drawn.id);
        out.extend_from_slice(b"\",\"debit\":\"");
        out.extend_from_slice(&self.field.numbers[drawn.debit as usize]);
        out.extend_from_slice(b"\",\"credit\":\"");
        out.extend_from_slice(match &abroad {
            Some((_, digits)) => digits,
            None => &self.field.numbers[drawn.credit as usize],
        });
        out.extend_from_slice(b"\",\"amount\":{\"amount\":\"");
        put_amount(out, drawn.amount);
        out.extend_from_slice(b"\",\"currency\":\"CNY\"},\"code\":7");
        match drawn.flags {
            PENDING => out.extend_from_slice(b",\"pending\":true,\"timeout\":86400"),
            POST => {
                out.extend_from_slice(b",\"post\":\"");
                put_uuid(out, drawn.related);
                out.push(b'"');
            }
            _ => (),
        }
        out.push(b'}');
    }
}

/// Lays what is not zero of a packed transfer (docs/api.md). The record must be zero before.
#[inline]
fn lay(record: &mut [u8; TRANSFER_BYTES], drawn: &Drawn, debit: u64, credit: u64) {
    record[0..16].copy_from_slice(&drawn.id.to_le_bytes());
    record[16..24].copy_from_slice(&debit.to_le_bytes());
    record[24..32].copy_from_slice(&credit.to_le_bytes());
    record[32..40].copy_from_slice(&drawn.amount.to_le_bytes());
    record[42..44].copy_from_slice(&CODE.to_le_bytes());
    if drawn.flags != 0 {
        record[44..48].copy_from_slice(&drawn.flags.to_le_bytes());
        record[64..80].copy_from_slice(&drawn.related.to_le_bytes());
        let timeout = if drawn.flags == PENDING { HOLD_SECONDS } else { 0 };
        record[80..84].copy_from_slice(&timeout.to_le_bytes());
    }
}

/// Lays transfers of `amount` from the account `debit` to each of `credits` into `out`.
pub(super) fn fill_funding(random: &mut Random, debit: u64, credits: &[u64], amount: u64, out: &mut Vec<u8>) {
    out.clear();
    out.resize(credits.len() * TRANSFER_BYTES, 0);
    let millis = now_millis();
    let (records, _whole) = out.as_chunks_mut::<TRANSFER_BYTES>();
    for (record, credit) in records.iter_mut().zip(credits) {
        let id = random.uuid7(millis);
        lay(record, &Drawn { id, debit: 0, credit: 0, amount, flags: 0, related: 0 }, debit, *credit);
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The 36 characters of a UUID.
pub(super) fn put_uuid(out: &mut Vec<u8>, id: u128) {
    for (at, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Minor units of a currency with two decimals, from 10.00 to 99.99.
fn put_amount(out: &mut Vec<u8>, amount: u64) {
    assert!((1_000..10_000).contains(&amount), "the load moves 10.00 to 99.99");
    let digit = |power: u64| b'0' + u8::try_from(amount / power % 10).expect("a digit is below ten");
    out.extend_from_slice(&[digit(1_000), digit(100), b'.', digit(10), digit(1)]);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::bench::picks::Skew;

    fn field(pending: u32) -> Arc<Field> {
        let picks = Picks::new(10, Skew::Uniform, &mut Random::new(1)).unwrap();
        let numbers = (1..=10).map(|n| format!("{n:016}").into_bytes().try_into().unwrap());
        let numbers = numbers.collect();
        Arc::new(Field {
            branch: 1,
            references: (1..=10).map(|n| 1 << 48 | n).collect(),
            numbers,
            picks,
            pending,
            crossing: 0,
            abroad: Arc::default(),
            dressed: false,
        })
    }

    fn u128_at(record: &[u8], at: usize) -> u128 {
        u128::from_le_bytes(record[at..at + 16].try_into().unwrap())
    }

    fn flags_of(record: &[u8]) -> u32 {
        u32::from_le_bytes(record[44..48].try_into().unwrap())
    }

    #[test]
    fn a_batch_is_whole_records_of_different_ids() {
        let mut generator = Generator::new(field(0), 5);
        let mut out = Vec::new();
        generator.fill_packed(8_189, 1_700_000_000_000, &mut out);
        assert_eq!(out.len(), 8_189 * 96);
        let mut ids: Vec<_> = out.chunks(96).map(|record| u128_at(record, 0)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8_189);
        for record in out.chunks(96) {
            let debit = u64::from_le_bytes(record[16..24].try_into().unwrap());
            let credit = u64::from_le_bytes(record[24..32].try_into().unwrap());
            assert!(debit != credit && debit >> 48 == 1 && flags_of(record) == 0);
        }
    }

    #[test]
    fn holds_are_posted_once_and_only_by_a_later_batch() {
        let mut generator = Generator::new(field(u32::MAX / 10), 6);
        let mut held: HashMap<u128, usize> = HashMap::new();
        let (mut out, mut holds, mut posts) = (Vec::new(), 0_u32, 0_u32);
        for batch in 0..20 {
            generator.fill_packed(1_000, 1, &mut out);
            for record in out.chunks(96) {
                match flags_of(record) {
                    PENDING => {
                        holds += 1;
                        assert_eq!(held.insert(u128_at(record, 0), batch), None);
                    }
                    POST => {
                        posts += 1;
                        let related = u128_at(record, 64);
                        assert!(held.remove(&related).expect("posts what was held") < batch);
                    }
                    _ => (),
                }
            }
        }
        assert!((1_800..2_200).contains(&holds) && (1_600..2_200).contains(&posts), "{holds} {posts}");
    }

    #[test]
    fn the_book_reads_what_was_laid() {
        let mut dressed = Arc::into_inner(field(u32::MAX / 4)).unwrap();
        dressed.dressed = true;
        let mut generator = Generator::new(Arc::new(dressed), 8);
        let mut out = Vec::new();
        let millis = now_millis();
        for _ in 0..2 {
            generator.fill_packed(500, millis, &mut out);
        }
        let (records, _) = out.as_chunks::<TRANSFER_BYTES>();
        let seed = skerry_book::Seed::new([1; 32]);
        let read = |(index, bytes)| skerry_book::packed::decode(index, bytes, &seed).unwrap();
        let transfers: Vec<_> = records.iter().enumerate().map(read).collect();
        assert!(transfers.iter().all(|transfer| transfer.code == CODE && transfer.id.millis() == millis));
        assert!(transfers.iter().any(|transfer| transfer.flags.0 == POST && transfer.related.0 != 0));
        assert!(transfers.iter().any(|transfer| transfer.flags.0 == PENDING && transfer.timeout_seconds > 0));
        let today = i32::try_from(millis / 86_400_000).unwrap();
        let back: Vec<_> = transfers.iter().filter_map(|transfer| transfer.value_date).collect();
        assert!(back.len() > 10 && back.iter().all(|date| (today - 399..=today).contains(&date.0)));
        assert_eq!(generator.remembered.len(), 1);
    }

    #[test]
    fn json_is_what_the_api_reads() {
        let mut generator = Generator::new(field(0), 7);
        let mut out = Vec::new();
        generator.fill_json(1_700_000_000_000, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["amount"]["currency"], "CNY");
        assert_eq!(value["id"].as_str().map(str::len), Some(36));
        assert_eq!(&value["id"].as_str().unwrap()[14..15], "7");
        assert_eq!(value["amount"]["amount"].as_str().map(str::len), Some(5));
    }

    #[test]
    fn uuids_and_amounts_have_their_usual_dress() {
        let mut out = Vec::new();
        put_uuid(&mut out, 0x0123_4567_89ab_7def_8123_4567_89ab_cdef);
        put_amount(&mut out, 1_234);
        assert_eq!(out, b"01234567-89ab-7def-8123-456789abcdef12.34");
    }
}
