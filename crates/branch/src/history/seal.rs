//! Sealing: rows in journal order become the side file of a span, sorted by account, code and reference.
//!
//! The sort is a radix sort of 8-byte keys that hold a dense account number and the row, so the cost a
//! row does not grow with the number of accounts; the rows themselves are fetched once, in that order.

use std::sync::Arc;

use super::asked::Side;
use super::blobs::{BlobExtent, BlobWriter};
use super::columns::{CHUNK_ROWS, Columns, Row, Zone};
use super::list::ListBuilder;
use super::side::{SideError, SideFolder, SideWriter};
use super::span::{Extent, Sections, Span, ZONE_ROWS, footer};
use super::table::{Slot, write_table};

/// What becomes a span.
pub(crate) struct Unsealed {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) head: [u8; 32],
    /// Full chunks and, last, one that may be shorter.
    pub(crate) chunks: Vec<Arc<Columns>>,
    /// First offset and accounting date, per change.
    pub(crate) days: Vec<(u32, i32)>,
    /// Customer accounts of this branch have these top bits; see [`table_key`].
    pub(crate) branch: u16,
}

const OTHER: u64 = 1 << 63;
const SERIAL: u64 = (1 << 40) - 1;

/// The number under which a span files an account: customers of the branch by serial, the others after them.
pub(crate) fn table_key(branch: u16, account: u64) -> u64 {
    if account >> 40 == u64::from(branch) << 8 { account & SERIAL } else { account | OTHER }
}

impl Unsealed {
    fn row(&self, row: u32) -> &Row {
        &self.chunks[row as usize / CHUNK_ROWS].rows[row as usize % CHUNK_ROWS]
    }

    fn accounts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let pairs = self.chunks.iter().flat_map(|chunk| chunk.debits.iter().zip(&chunk.credits));
        pairs.map(|(debit, credit)| (table_key(self.branch, *debit), table_key(self.branch, *credit)))
    }

    /// Writes the side file and opens it.
    pub(crate) fn seal(&self, folder: &SideFolder) -> Result<Span, SideError> {
        let mut zone = Zone::EMPTY;
        self.chunks.iter().flat_map(|chunk| &chunk.rows).for_each(|row| zone.add(row));
        let extent = Extent { first: self.first, end: self.end, head: self.head, zone };
        let mut writer = folder.create(&extent.name())?;
        let accounts = self.write_accounts(&mut writer)?;
        let codes = self.write_codes(&mut writer)?;
        let references = write_table(&mut writer, &self.references())?;
        let days = (writer.offset(), self.days.len() as u32);
        for (offset, date) in &self.days {
            writer.append(&offset.to_le_bytes())?;
            writer.append(&date.to_le_bytes())?;
        }
        let zones = self.write_zones(&mut writer)?;
        let sections = Sections { accounts, codes, references, days, zones };
        let file = writer.finish(&footer(&extent, &sections))?;
        Span::open(folder, file.name())
    }

    fn write_accounts(&self, writer: &mut SideWriter) -> Result<BlobExtent, SideError> {
        let numbers = Numbers::of(self);
        let mut keys = Vec::with_capacity(self.chunks.iter().map(|chunk| chunk.len()).sum::<usize>() * 2);
        for ((debit, credit), row) in self.accounts().zip(0_u32..) {
            keys.push(pack(numbers.of_key(debit), row, Side::Debit));
            keys.push(pack(numbers.of_key(credit), row, Side::Credit));
        }
        radix_sort(&mut keys, u64::from(numbers.count));
        self.write_lists(writer, &keys, |number| numbers.key_of(number), |row| *row)
    }

    fn write_codes(&self, writer: &mut SideWriter) -> Result<BlobExtent, SideError> {
        let codes = self.chunks.iter().flat_map(|chunk| &chunk.rows).map(|row| u32::from(row.code));
        let mut keys: Vec<u64> = codes.zip(0_u32..).map(|(code, row)| pack(code, row, Side::Debit)).collect();
        // One code, or codes that come in their order, need no sort.
        if !keys.is_sorted() {
            radix_sort(&mut keys, 1 << 16);
        }
        self.write_lists(writer, &keys, u64::from, |row| Row { posted: false, ..*row })
    }

    /// Writes a list for each number among the sorted keys.
    ///
    /// Rows lie far apart, so they are fetched a few dozen at once: the machine waits for all of them together
    /// instead of for each.
    fn write_lists(
        &self,
        writer: &mut SideWriter,
        keys: &[u64],
        key_of: impl Fn(u32) -> u64,
        listed: impl Fn(&Row) -> Row,
    ) -> Result<BlobExtent, SideError> {
        let mut blobs = BlobWriter::new(writer);
        let mut list = ListBuilder::default();
        let mut rows = [Row::default(); 64];
        let mut number = keys.first().map_or(0, |key| (key >> 32) as u32);
        for keys in keys.chunks(rows.len()) {
            for (row, key) in rows.iter_mut().zip(keys) {
                *row = *self.row((*key as u32) >> 1);
            }
            for (row, key) in rows.iter().zip(keys) {
                if number != (key >> 32) as u32 {
                    blobs.push(writer, key_of(number), list.finish())?;
                    number = (key >> 32) as u32;
                }
                list.push(&listed(row), if key & 1 == 1 { Side::Credit } else { Side::Debit });
            }
        }
        if !keys.is_empty() {
            blobs.push(writer, key_of(number), list.finish())?;
        }
        blobs.finish(writer)
    }

    fn write_zones(&self, writer: &mut SideWriter) -> Result<(u64, u32), SideError> {
        let start = writer.offset();
        let mut count = 0;
        for rows in self.chunks.iter().flat_map(|chunk| chunk.rows.chunks(ZONE_ROWS)) {
            let mut zone = Zone::EMPTY;
            rows.iter().for_each(|row| zone.add(row));
            writer.append(&rows[0].offset.to_le_bytes())?;
            writer.append(&zone.encode())?;
            count += 1;
        }
        Ok((start, count))
    }

    fn references(&self) -> Vec<Slot> {
        let chunks = self.chunks.iter();
        let pairs = chunks.flat_map(|chunk| chunk.references.iter().zip(&chunk.rows));
        let named = pairs.filter(|(hash, _)| **hash != 0);
        named.map(|(hash, row)| Slot { hash: hash >> 16 << 16, offset: row.offset }).collect()
    }
}

/// Dense numbers for the accounts of a span, in the order of their keys.
struct Numbers {
    /// The least serial of the branch's customers.
    least: u64,
    /// Numbers below are serials less the least.
    customers: u32,
    /// Keys of the others, sorted.
    others: Vec<u64>,
    places: hashbrown::HashMap<u64, u32, Spread>,
    count: u32,
}

type Spread = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

impl Numbers {
    fn of(unsealed: &Unsealed) -> Self {
        let (mut least, mut most) = (u64::MAX, 0);
        let mut others: hashbrown::HashMap<u64, u32, Spread> = hashbrown::HashMap::default();
        let mut last = [0; 4];
        for (debit, credit) in unsealed.accounts() {
            for key in [debit, credit] {
                // Far serials go with the others, so that the numbers stay dense.
                if key < 1 << 24 {
                    (least, most) = (least.min(key), most.max(key));
                } else if last[(key >> 16) as usize % 4] != key {
                    last[(key >> 16) as usize % 4] = key;
                    others.insert(key, 0);
                }
            }
        }
        let customers = if least > most { 0 } else { (most - least + 1) as u32 };
        let mut sorted: Vec<u64> = others.keys().copied().collect();
        sorted.sort_unstable();
        for (key, number) in sorted.iter().zip(customers..) {
            others.insert(*key, number);
        }
        let count = customers + sorted.len() as u32;
        Self {
            least: if customers == 0 { 0 } else { least },
            customers,
            others: sorted,
            places: others,
            count,
        }
    }

    #[inline]
    fn of_key(&self, key: u64) -> u32 {
        if key < 1 << 24 { (key - self.least) as u32 } else { self.places[&key] }
    }

    fn key_of(&self, number: u32) -> u64 {
        match number.checked_sub(self.customers) {
            None => self.least + u64::from(number),
            Some(other) => self.others[other as usize],
        }
    }
}

fn pack(number: u32, row: u32, side: Side) -> u64 {
    u64::from(number) << 32 | u64::from(row) << 1 | u64::from(side == Side::Credit)
}

/// Sorts by the upper half, which is less than `bound`; equals keep their order.
fn radix_sort(keys: &mut Vec<u64>, bound: u64) {
    const DIGIT: u32 = 11;
    let bits = 64 - bound.saturating_sub(1).leading_zeros();
    let passes = bits.div_ceil(DIGIT);
    let digit = bits.div_ceil(passes.max(1));
    let mut spare = vec![0; keys.len()];
    for pass in 0..passes {
        let of = |key: u64| (key >> (32 + pass * digit)) as usize & ((1 << digit) - 1);
        let mut starts = vec![0_u32; 1 << digit];
        keys.iter().for_each(|key| starts[of(*key)] += 1);
        let mut sum = 0;
        for start in &mut starts {
            (*start, sum) = (sum, sum + *start);
        }
        for key in keys.iter() {
            let start = &mut starts[of(*key)];
            spare[*start as usize] = *key;
            *start += 1;
        }
        std::mem::swap(keys, &mut spare);
    }
}
