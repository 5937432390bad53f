//! The tail of a transfer: what is too long for its record.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::wire::{Reader, Short, put_count, put_long_bytes};

/// The longest whole reference, in bytes of UTF-8.
const REFERENCE_MAX: usize = 140;
/// The longest sealed note, in bytes.
const NOTE_MAX: usize = 4_096;

/// A long reference and a sealed note; at least one is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransferTail {
    /// The whole reference, of which the record has the hash; empty if the record has it all.
    pub reference: Box<str>,
    /// Free text as ciphertext; empty if there is none.
    pub note: Box<[u8]>,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferTailRef<'a> {
    /// As in [`TransferTail`].
    pub reference: &'a str,
    /// As in [`TransferTail`].
    pub note: &'a [u8],
}

impl TransferTail {
    /// The longest whole reference, in bytes of UTF-8: what a payment message carries (ISO 20022, Max140Text).
    pub const REFERENCE_MAX: usize = REFERENCE_MAX;
    /// The longest sealed note, in bytes.
    pub const NOTE_MAX: usize = NOTE_MAX;

    /// Borrows it.
    #[must_use]
    pub fn as_ref(&self) -> TransferTailRef<'_> {
        TransferTailRef { reference: &self.reference, note: &self.note }
    }
}

impl<'a> TransferTailRef<'a> {
    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.reference.is_empty() && self.note.is_empty()
    }

    /// Whether both parts are within their bounds.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.reference.len() <= REFERENCE_MAX && self.note.len() <= NOTE_MAX
    }

    /// Appends it: a u32 length and the reference, a u32 length and the note. Writes nothing if it is empty.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        put_count(out, self.reference.len());
        out.extend_from_slice(self.reference.as_bytes());
        put_long_bytes(out, self.note);
    }

    /// Reads it; `None` unless `bytes` are exactly what [`encode`](Self::encode) writes.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let tail = Self::take(bytes).ok()?;
        (!tail.is_empty() && tail.is_bounded()).then_some(tail)
    }

    fn take(bytes: &'a [u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(bytes);
        let reference = core::str::from_utf8(reader.long_bytes()?).map_err(|_| Short)?;
        let note = reader.long_bytes()?;
        if reader.is_empty() { Ok(Self { reference, note }) } else { Err(Short) }
    }
}
