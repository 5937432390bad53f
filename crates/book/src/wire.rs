//! Bytes laid by hand: little-endian fields in order, strings and lists with their length before them.
//!
//! Every stored and packed format of this crate is written and read through these two cursors. Reading
//! never panics on foreign bytes: it says [`Short`]. Writing into a fixed array asserts that the layout
//! fills it, which is a property of the code and not of the data.

use alloc::string::String;
use alloc::vec::Vec;

/// The bytes ended before the field did, or a length in them is beyond its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

/// Takes fields off the front of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        self.array().map(i32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u128(&mut self) -> Result<u128, Short> {
        self.array().map(u128::from_le_bytes)
    }

    /// A list's length, refused beyond `most`: a flipped bit must not ask for gigabytes.
    pub(crate) fn count(&mut self, most: usize) -> Result<usize, Short> {
        let count = usize::try_from(self.u32()?).map_err(|_| Short)?;
        if count > most { Err(Short) } else { Ok(count) }
    }

    /// Bytes with a u32 length before them.
    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], Short> {
        let length = usize::try_from(self.u32()?).map_err(|_| Short)?;
        self.slice(length)
    }

    /// UTF-8 with a u8 length before it.
    pub(crate) fn short_text(&mut self) -> Result<String, Short> {
        let length = usize::from(self.u8()?);
        core::str::from_utf8(self.slice(length)?).map(String::from).map_err(|_| Short)
    }
}

/// Fills a fixed array, field by field, from the front.
pub(crate) struct Filler<'a> {
    rest: &'a mut [u8],
}

impl<'a> Filler<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn put<const N: usize>(mut self, field: [u8; N]) -> Self {
        let (head, rest) =
            self.rest.split_first_chunk_mut::<N>().expect("the layout is longer than its record");
        *head = field;
        self.rest = rest;
        self
    }

    #[inline]
    pub(crate) fn finish(self) {
        assert!(self.rest.is_empty(), "the layout is shorter than its record");
    }
}

/// Appends a u32 length and the bytes.
///
/// # Panics
///
/// If they are longer than 4 GiB.
pub(crate) fn put_long_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a list's length as a u32.
///
/// # Panics
///
/// If it does not fit.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a stored list is shorter than 2^32");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Appends a u8 length and the text.
///
/// # Panics
///
/// If it is longer than 255 bytes; `decide` bounds every stored text.
pub(crate) fn put_short_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("a short text is at most 255 bytes"));
    out.extend_from_slice(text.as_bytes());
}
