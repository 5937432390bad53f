//! Packed transfers: fixed-size records on the wire, for those who send thousands at a time.
//!
//! A request is whole records of 96 bytes, its answer as many results of 32 bytes, in order. The media
//! type is [`MEDIA_TYPE`]. Reading is strict: what is not defined is refused, with the record's index and
//! the field, and then nothing of the request is tried.
//!
//! ```text
//! transfer   0 u128 id · 16 u64 debit · 24 u64 credit · 32 u64 amount · 40 u16 currency (0: the accounts' own)
//! (96)      42 u16 code · 44 u32 flags · 48 [16] reference · 64 u128 related · 80 u32 timeout, seconds
//!           84 i32 value date, days since 1970 (0: the business date) · 88 u64 zero
//!           With the flag IMPORTED: 80 i32 the old core's business date, 88 u64 its time in microseconds.
//! result     0 u16 code (0: accepted, 1: sent to another branch) · 2 u16 field · 4 u32 zero · 8 u64 position
//! (32)      16 i64 have, saturated · 24 u64 need, saturated
//! ```
//!
//! All numbers are little-endian. An account reference is that of [`AccountRef`].

use skerry_ledger::{AccountRef, Flags, Imported, Transfer, TransferId};
use skerry_money::{Currency, Date};

use crate::hash::Seed;
use crate::wire::{Filler, Reader, Short};

/// The media type of both directions.
pub const MEDIA_TYPE: &str = "application/vnd.skerry.transfers";

/// Bytes of a packed transfer.
pub const TRANSFER_LENGTH: usize = 96;

/// Bytes of a packed result.
pub const RESULT_LENGTH: usize = 32;

/// All flags a client may set.
const FLAGS_OF_CLIENTS: u32 = (1 << 10) - 1;

/// A request that is not packed transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackedError {
    /// Not whole records.
    #[error("a packed batch is whole records of 96 bytes; {length} bytes are not")]
    Length {
        /// Bytes received.
        length: usize,
    },
    /// A record breaks the layout.
    #[error("record {index}: {field} {problem}")]
    Field {
        /// The record, from 0.
        index: usize,
        /// The field.
        field: Field,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The fields of a transfer, as numbers of a result and names of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of a transfer that it names")]
pub enum Field {
    None,
    Id,
    Debit,
    Credit,
    Amount,
    Currency,
    Code,
    Flags,
    Reference,
    Related,
    Timeout,
    ValueDate,
    Imported,
    Reserved,
}

impl Field {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::None,
        Self::Id,
        Self::Debit,
        Self::Credit,
        Self::Amount,
        Self::Currency,
        Self::Code,
        Self::Flags,
        Self::Reference,
        Self::Related,
        Self::Timeout,
        Self::ValueDate,
        Self::Imported,
        Self::Reserved,
    ];

    /// The number in a result; never renumbered.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Id => 1,
            Self::Debit => 2,
            Self::Credit => 3,
            Self::Amount => 4,
            Self::Currency => 5,
            Self::Code => 6,
            Self::Flags => 7,
            Self::Reference => 8,
            Self::Related => 9,
            Self::Timeout => 10,
            Self::ValueDate => 11,
            Self::Imported => 12,
            Self::Reserved => 13,
        }
    }

    /// The name in a JSON request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Id => "id",
            Self::Debit => "debit",
            Self::Credit => "credit",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::Code => "code",
            Self::Flags => "flags",
            Self::Reference => "reference",
            Self::Related => "related",
            Self::Timeout => "timeout",
            Self::ValueDate => "value_date",
            Self::Imported => "imported",
            Self::Reserved => "reserved",
        }
    }

    /// The field with this name in a JSON request; [`Field::None`] for any other.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|field| field.name() == name).unwrap_or(Self::None)
    }
}

impl core::fmt::Display for Field {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The records of a request; their count is `slice.len()`.
///
/// # Errors
///
/// [`PackedError::Length`] unless they are whole.
pub fn records(bytes: &[u8]) -> Result<&[[u8; TRANSFER_LENGTH]], PackedError> {
    let (records, rest) = bytes.as_chunks::<TRANSFER_LENGTH>();
    if rest.is_empty() { Ok(records) } else { Err(PackedError::Length { length: bytes.len() }) }
}

/// Reads one record; `index` is for the error alone. The digest is that of the bytes under `seed`.
///
/// # Errors
///
/// [`PackedError::Field`] if a field is outside of its layout: an unknown currency or flag, a reference that is
/// not zero-padded UTF-8, anything in the reserved bytes. What the bank thinks of the values is the ledger's.
#[inline]
pub fn decode(index: usize, bytes: &[u8; TRANSFER_LENGTH], seed: &Seed) -> Result<Transfer, PackedError> {
    match read(bytes) {
        Ok(Ok(transfer)) => Ok(Transfer { digest: seed.digest(bytes), ..transfer }),
        Ok(Err((field, problem))) => Err(PackedError::Field { index, field, problem }),
        Err(Short) => unreachable!("the layout is as long as its record"),
    }
}

type Problem = (Field, &'static str);

#[inline]
fn read(bytes: &[u8; TRANSFER_LENGTH]) -> Result<Result<Transfer, Problem>, Short> {
    let mut reader = Reader::new(bytes);
    let id = TransferId(reader.u128()?);
    let debit = AccountRef(reader.u64()?);
    let credit = AccountRef(reader.u64()?);
    let amount = reader.u64()?;
    let currency = reader.u16()?;
    let code = reader.u16()?;
    let flags = Flags(reader.u32()?);
    let reference = reader.array()?;
    let related = TransferId(reader.u128()?);
    let timeout = reader.array()?;
    let value_date = reader.i32()?;
    let last = reader.u64()?;

    let currency = match Currency::from_number(currency) {
        None if currency != 0 => return Ok(Err((Field::Currency, "is not a known ISO 4217 number"))),
        currency => currency,
    };
    if flags.0 & !FLAGS_OF_CLIENTS != 0 {
        return Ok(Err((Field::Flags, "has a bit that clients may not set")));
    }
    if !is_padded_text(&reference) {
        return Ok(Err((Field::Reference, "is not zero-padded UTF-8")));
    }
    let (timeout_seconds, imported) = if flags.has(Flags::IMPORTED) {
        (0, Some(Imported { time_us: last, business_date: Date(i32::from_le_bytes(timeout)) }))
    } else if last != 0 {
        return Ok(Err((Field::Reserved, "is not zero")));
    } else {
        (u32::from_le_bytes(timeout), None)
    };
    let value_date = (value_date != 0).then_some(Date(value_date));
    Ok(Ok(Transfer {
        id,
        debit,
        credit,
        amount,
        currency,
        code,
        flags,
        reference,
        related,
        timeout_seconds,
        value_date,
        imported,
        digest: 0,
    }))
}

/// UTF-8, then zeros to the end.
#[inline]
fn is_padded_text(bytes: &[u8; 16]) -> bool {
    if *bytes == [0; 16] {
        return true;
    }
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let padding = bytes.get(text.len()..).unwrap_or_default();
    padding.iter().all(|byte| *byte == 0) && core::str::from_utf8(text).is_ok()
}

/// Writes a transfer as its record. A transfer that came as JSON gets its digest from these bytes too, so that a
/// retry may change its dress: see [`digest`].
///
/// A value date of 1970-01-01 has no packed form and is written as none.
#[inline]
pub fn encode(transfer: &Transfer, bytes: &mut [u8; TRANSFER_LENGTH]) {
    let (timeout, last) = match transfer.imported {
        Some(imported) => (imported.business_date.0.to_le_bytes(), imported.time_us),
        None => (transfer.timeout_seconds.to_le_bytes(), 0),
    };
    Filler::new(bytes)
        .put(transfer.id.0.to_le_bytes())
        .put(transfer.debit.0.to_le_bytes())
        .put(transfer.credit.0.to_le_bytes())
        .put(transfer.amount.to_le_bytes())
        .put(transfer.currency.map_or(0, Currency::number).to_le_bytes())
        .put(transfer.code.to_le_bytes())
        .put(transfer.flags.0.to_le_bytes())
        .put(transfer.reference)
        .put(transfer.related.0.to_le_bytes())
        .put(timeout)
        .put(transfer.value_date.unwrap_or_default().0.to_le_bytes())
        .put(last.to_le_bytes())
        .finish();
}

/// The digest of a transfer that did not come packed. A long reference is mixed in, and so is the tag of a note: the
/// note itself is ciphertext, another at every attempt. A tag of zeros is no note.
#[must_use]
pub fn digest(transfer: &Transfer, reference: &[u8], note_tag: &[u8; 16], seed: &Seed) -> u64 {
    let mut bytes = [0; TRANSFER_LENGTH];
    encode(transfer, &mut bytes);
    let digest = seed.digest(&bytes);
    match (reference.is_empty(), *note_tag == [0; 16]) {
        (true, true) => digest,
        (false, true) => digest.rotate_left(1) ^ seed.digest(reference),
        // A reference has no NUL, so the two parts cannot be taken for one.
        (_, false) => digest.rotate_left(1) ^ seed.digest(&[reference, &[0], note_tag].concat()),
    }
}

/// The code of a transfer that was debited and is on its way to another branch.
pub const SENT: u16 = 1;

/// One line of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// 0 if accepted, [`SENT`] if accepted and on its way to another branch, else the rejection's number.
    pub code: u16,
    /// The number of the [`Field`] at fault.
    pub field: u16,
    /// The position of its record in the journal; 0 if it has none.
    pub position: u64,
    /// The rejection's figure of what there is, saturated.
    pub have: i64,
    /// The rejection's figure of what was needed, saturated.
    pub need: u64,
}

impl Outcome {
    /// Accepted, and recorded at `position`.
    #[must_use]
    pub const fn accepted(position: u64) -> Self {
        Self { code: 0, field: 0, position, have: 0, need: 0 }
    }

    /// Debited, recorded at `position` and on its way to another branch.
    #[must_use]
    pub const fn sent(position: u64) -> Self {
        Self { code: SENT, ..Self::accepted(position) }
    }

    /// Refused; `position` if the refusal was recorded.
    #[must_use]
    pub fn refused(rejection: crate::Rejection, position: Option<u64>) -> Self {
        let (have, need) = rejection.figures().unwrap_or_default();
        Self {
            code: rejection.code(),
            field: Field::from_name(rejection.field()).number(),
            position: position.unwrap_or(0),
            have: saturated(have),
            need: u64::try_from(need).unwrap_or(u64::MAX),
        }
    }

    /// Its 32 bytes.
    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; RESULT_LENGTH] {
        let mut bytes = [0; RESULT_LENGTH];
        Filler::new(&mut bytes)
            .put(self.code.to_le_bytes())
            .put(self.field.to_le_bytes())
            .put([0; 4])
            .put(self.position.to_le_bytes())
            .put(self.have.to_le_bytes())
            .put(self.need.to_le_bytes())
            .finish();
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if the reserved bytes are not zero.
    #[must_use]
    pub fn decode(bytes: &[u8; RESULT_LENGTH]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (code, field) = (reader.u16().ok()?, reader.u16().ok()?);
        if reader.u32().ok()? != 0 {
            return None;
        }
        let (position, have, need) = (reader.u64().ok()?, reader.array().ok()?, reader.u64().ok()?);
        Some(Self { code, field, position, have: i64::from_le_bytes(have), need })
    }
}

fn saturated(figure: i128) -> i64 {
    let most = if figure < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(figure).unwrap_or(most)
}
